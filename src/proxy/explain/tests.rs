use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::*;
use crate::cors::{CorsConfiguration, CorsRule, Options};
use crate::metrics::Metrics;
use crate::proxy::host::HostMap;
use crate::proxy::snapshot::{Buckets, ContentHash, Forwarding, HostHeader, Policies, Source};
use crate::proxy::upstream::{Address, Upstream, UpstreamSettings};

fn policy(file: &str, rules: Vec<CorsRule>) -> Arc<RoutePolicy> {
    let configuration = CorsConfiguration { rules };
    Arc::new(RoutePolicy {
        policy: Arc::new(Policy::compile(&configuration, Options::default()).unwrap()),
        allowed: Box::default(),
        source: Arc::new(Source {
            file: Some(Path::new(file).into()),
            content_hash: Some(ContentHash([0xab; 32])),
            loaded_at: Some(UNIX_EPOCH + Duration::from_secs(1)),
            last_error: None,
        }),
    })
}

fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> CorsRule {
    let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    CorsRule {
        allowed_origins: owned(origins),
        allowed_methods: owned(methods),
        allowed_headers: owned(headers),
        ..CorsRule::default()
    }
}

fn route(name: &str, hosts: &[&str], policies: Policies) -> Arc<Route> {
    let upstream = UpstreamSettings::plain(Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 9000,
    });
    Arc::new(Route {
        name: name.into(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        policies,
        upstreams: [Arc::new(Upstream::new(upstream).unwrap())].into(),
        host_header: HostHeader::default(),
        forwarding: Forwarding::default(),
        metrics: Metrics::new(1).route(name),
    })
}

fn snapshot() -> Snapshot {
    let app = "https://app.example";
    let photos = Policies {
        route: Some(policy(
            "photos.xml",
            vec![
                rule(&["https://*.cdn.example"], &["GET"], &[]),
                rule(&[app], &["GET", "PUT"], &["content-type", "x-amz-*"]),
            ],
        )),
        buckets: Some(Buckets {
            addressing: Addressing::Both,
            policies: [(
                "raw".into(),
                policy("raw.xml", vec![rule(&["*"], &["GET"], &[])]),
            )]
            .into(),
        }),
        not_enabled: None,
    };
    let managed = Policies {
        not_enabled: Some(Arc::new(RoutePolicy {
            policy: Arc::new(Policy::not_enabled(Options::default())),
            allowed: Box::default(),
            source: Arc::default(),
        })),
        ..Policies::default()
    };
    let routes = vec![
        route("photos", &["photos.example", "*.photos.example"], photos),
        route("static", &["static.example"], Policies::default()),
        route("managed", &["managed.example"], managed),
    ];
    let mut hosts = HostMap::default();
    for (index, route) in routes.iter().enumerate() {
        for host in &route.hosts {
            hosts.insert(host.clone(), index).unwrap();
        }
    }
    Snapshot {
        generation: 1,
        hosts,
        routes,
        trusted_proxies: Default::default(),
    }
}

fn explain(url: &str, origin: &str, method: &str, headers: &[&str]) -> Value {
    let request = Hypothetical {
        url: url.to_owned(),
        origin: origin.to_owned(),
        method: method.to_owned(),
        headers: headers.iter().map(ToString::to_string).collect(),
    };
    snapshot().explain(&request).unwrap().to_json()
}

#[test]
fn an_upload_that_a_rule_allows_is_asked_for_and_made() {
    let answer = explain(
        "http://photos.example/album/a b.jpg#top",
        "https://app.example",
        "put",
        &[
            "Content-Type: image/jpeg",
            "X-Amz-Date",
            "Accept: */*",
            "Cookie",
        ],
    );
    assert_eq!(answer["verdict"], "allowed");
    assert_eq!(
        answer["summary"],
        "rule 2 allows it: AllowedOrigin https://app.example matches"
    );
    assert_eq!(
        answer["request"]["url"],
        "http://photos.example/album/a%20b.jpg"
    );
    assert_eq!(answer["same_origin"], false);
    assert_eq!(answer["route"]["name"], "photos");
    assert_eq!(answer["route"]["host_pattern"], "photos.example");
    assert_eq!(answer["bucket"]["name"], "album");
    assert_eq!(answer["bucket"]["has_policy"], false);
    assert_eq!(answer["policy"]["scope"], "route");
    assert_eq!(answer["policy"]["file"], "photos.xml");
    assert_eq!(answer["policy"]["semantics"], "safe");
    assert_eq!(answer["policy"]["loaded_at"], "1970-01-01T00:00:01.000Z");
    let preflight = &answer["preflight"];
    assert_eq!(preflight["needed"], true);
    assert_eq!(preflight["reasons"][0], "PUT is none of GET, HEAD and POST");
    assert_eq!(
        preflight["requested_headers"],
        serde_json::json!(["content-type", "x-amz-date"])
    );
    assert_eq!(
        preflight["safelisted_headers"],
        serde_json::json!(["accept"])
    );
    assert_eq!(
        preflight["forbidden_headers"],
        serde_json::json!(["cookie"])
    );
    assert_eq!(preflight["status"], 200);
    assert_eq!(preflight["rules"][0]["matches"], false);
    assert_eq!(preflight["rules"][1]["matches"], true);
    assert_eq!(preflight["matched"]["rule"], 2);
    assert_eq!(
        preflight["curl"],
        "curl -s -i -X OPTIONS -H 'Origin: https://app.example' \
         -H 'Access-Control-Request-Method: PUT' \
         -H 'Access-Control-Request-Headers: content-type,x-amz-date' \
         'http://photos.example/album/a%20b.jpg'"
    );
    let fields = preflight["fields"].as_array().unwrap();
    let origin = fields
        .iter()
        .find(|field| field["name"] == "access-control-allow-origin");
    assert_eq!(origin.unwrap()["value"], "https://app.example");
    assert_eq!(answer["actual"]["outcome"], "allowed");
    assert_eq!(answer["actual"]["method"], "PUT");
    assert!(
        answer["actual"]["curl"].is_null(),
        "nobody is told to overwrite an object"
    );
}

#[test]
fn a_refusal_names_the_nearest_rule_and_what_it_misses() {
    let answer = explain(
        "http://photos.example/album/a",
        "https://app.example",
        "DELETE",
        &["x-amz-date"],
    );
    assert_eq!(answer["verdict"], "refused");
    assert_eq!(
        answer["summary"],
        "the preflight is refused: rule 2 comes nearest, but AllowedMethod does not list DELETE"
    );
    let preflight = &answer["preflight"];
    assert_eq!(
        (&preflight["status"], &preflight["reason"]),
        (&403.into(), &"method".into())
    );
    assert_eq!(preflight["nearest_rule"], 2);
    assert_eq!(preflight["error"]["code"], "AccessForbidden");
    let failure = &preflight["rules"][1]["failures"][0];
    assert_eq!(failure["element"], "AllowedMethod");
    assert_eq!(failure["expected"], serde_json::json!(["GET", "PUT"]));
    assert_eq!(failure["actual"], serde_json::json!(["DELETE"]));
    assert_eq!(preflight["advice"]["kind"], "change");
    let xml = preflight["advice"]["xml"].as_str().unwrap();
    assert!(
        xml.contains("<AllowedMethod>DELETE</AllowedMethod>"),
        "{xml}"
    );
}

#[test]
fn a_request_that_needs_no_preflight_is_judged_by_itself() {
    let url = "http://photos.example/album/a";
    let answer = explain(url, "http://app.example", "GET", &["Accept: text/html"]);
    assert_eq!(answer["verdict"], "refused");
    assert_eq!(answer["preflight"]["needed"], false);
    let summary = answer["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("the script does not get to see the response"),
        "{summary}"
    );
    assert!(summary.contains("the schemes differ"), "{summary}");
    let line =
        "curl -s -o /dev/null -D - -H 'Origin: http://app.example' 'http://photos.example/album/a'";
    assert_eq!(answer["actual"]["curl"], line);
}

#[test]
fn a_bucket_is_found_in_the_path_and_in_the_host() {
    for url in ["http://photos.example/raw/a", "http://raw.photos.example/a"] {
        let answer = explain(url, "https://any.example", "GET", &[]);
        assert_eq!(answer["verdict"], "allowed", "{url}");
        assert_eq!(answer["bucket"]["name"], "raw");
        assert_eq!(answer["bucket"]["address"], "both");
        assert_eq!(answer["policy"]["scope"], "bucket");
        assert_eq!(answer["policy"]["file"], "raw.xml");
        assert_eq!(answer["actual"]["matched"]["any_origin"], true);
    }
    let answer = explain(
        "http://raw.photos.example/a",
        "https://a.example",
        "GET",
        &[],
    );
    assert_eq!(answer["route"]["host_pattern"], "*.photos.example");
}

#[test]
fn where_no_policy_decides_it_is_said_who_does() {
    let origin = "https://app.example";
    let answer = explain("https://static.example/a", origin, "GET", &[]);
    assert_eq!(answer["verdict"], "transparent");
    assert!(answer["policy"].is_null() && answer["preflight"].is_null());

    let answer = explain("https://unknown.example/a", origin, "GET", &[]);
    assert_eq!(answer["verdict"], "unknown_host");
    assert!(answer["route"].is_null());
    assert_eq!(answer["known_hosts"][1], "*.photos.example");

    let answer = explain("https://managed.example/a", origin, "GET", &[]);
    assert_eq!(answer["verdict"], "refused");
    assert_eq!(answer["policy"]["scope"], "none");
    assert_eq!(answer["actual"]["reason"], "no_cors");
    let configuration = answer["actual"]["advice"]["configuration"]
        .as_str()
        .unwrap();
    assert!(
        configuration.contains("<CORSConfiguration"),
        "{configuration}"
    );
}

#[test]
fn a_page_that_asks_its_own_server_needs_no_cors() {
    let url = "https://Photos.example:443/a";
    assert_eq!(
        explain(url, "https://photos.example", "GET", &[])["same_origin"],
        true
    );
    assert_eq!(
        explain(url, "http://photos.example", "GET", &[])["same_origin"],
        false
    );
}

#[test]
fn what_no_browser_could_send_is_not_explained() {
    let good = Hypothetical {
        url: "http://photos.example/".to_owned(),
        origin: "https://app.example".to_owned(),
        method: "GET".to_owned(),
        headers: vec![],
    };
    let text = |value: &str| value.to_owned();
    let bad = [
        (
            Hypothetical {
                url: text("/a"),
                ..good.clone()
            },
            InvalidHypothetical::Url(text("/a")),
        ),
        (
            Hypothetical {
                url: text("ftp://a/"),
                ..good.clone()
            },
            InvalidHypothetical::Url(text("ftp://a/")),
        ),
        (
            Hypothetical {
                url: text("http://u@a/"),
                ..good.clone()
            },
            InvalidHypothetical::Url(text("http://u@a/")),
        ),
        (
            Hypothetical {
                origin: text(" "),
                ..good.clone()
            },
            InvalidHypothetical::Origin(text(" ")),
        ),
        (
            Hypothetical {
                origin: text("a\r\nb"),
                ..good.clone()
            },
            InvalidHypothetical::Origin(text("a\r\nb")),
        ),
        (
            Hypothetical {
                method: text("G T"),
                ..good.clone()
            },
            InvalidHypothetical::Method(text("G T")),
        ),
        (
            Hypothetical {
                headers: vec![text("a b")],
                ..good.clone()
            },
            InvalidHypothetical::Header(text("a b")),
        ),
    ];
    for (request, error) in bad {
        assert_eq!(snapshot().explain(&request).unwrap_err(), error);
    }
    assert!(snapshot().explain(&good).is_ok());
}
