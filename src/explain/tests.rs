use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::cors::{CorsConfiguration, CorsRule, Options};
use crate::metrics::Metrics;
use crate::routing::host::HostMap;
use crate::routing::snapshot::{Buckets, Forwarding, HostHeader, Policies, PolicySource};
use crate::tls::digest::ContentHash;
use crate::upstream::endpoint::{Address, Upstream, UpstreamSettings};

use super::*;

fn policy(file: &str, rules: Vec<CorsRule>) -> Arc<RoutePolicy> {
    let configuration = CorsConfiguration { rules };
    Arc::new(RoutePolicy {
        policy: Arc::new(Policy::compile(&configuration, Options::default()).unwrap()),
        allowed: Box::default(),
        source: Arc::new(PolicySource {
            file: Some(Path::new(file).into()),
            content_hash: Some(ContentHash([0xab; 32])),
            loaded_at: Some(UNIX_EPOCH + Duration::from_secs(1)),
            last_error: None,
            from_state: false,
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
        listeners: None,
        host_header: HostHeader::default(),
        forwarding: Forwarding::default(),
        explain_header: false,
        cors_api: None,
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
            directory: Some(Path::new("cors").into()),
            policies: [(
                "raw".into(),
                policy("raw.xml", vec![rule(&["*"], &["GET"], &[])]),
            )]
            .into_iter()
            .collect(),
            ambiguous: without_cors(None),
        }),
        not_enabled: None,
    };
    let managed = Policies {
        not_enabled: Some(without_cors(None)),
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
        ..Hypothetical::default()
    };
    snapshot().explain(&request).unwrap().to_json()
}

#[test]
fn an_allowed_upload_has_a_preflight_and_a_request() {
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
    assert_eq!(preflight["reasons"][0], "PUT is not GET, HEAD or POST");
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
        "no command overwrites an object"
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
        summary.starts_with("the script cannot read the response"),
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
fn without_a_policy_the_explanation_says_what_decides() {
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

fn without_cors(last_error: Option<&str>) -> Arc<RoutePolicy> {
    let source = PolicySource {
        file: last_error.map(|_| Path::new("broken.xml").into()),
        last_error: last_error.map(str::to_owned),
        from_state: false,
        ..PolicySource::default()
    };
    Arc::new(RoutePolicy::not_enabled(Options::default(), source))
}

#[test]
fn without_a_configuration_the_advice_names_the_file_to_create() {
    let advice = |broken: Option<&str>, url: &str| {
        let policies = Policies {
            route: broken.map(|error| without_cors(Some(error))),
            buckets: Some(Buckets {
                addressing: Addressing::Path,
                directory: Some(Path::new("cors/buckets").into()),
                policies: Default::default(),
                ambiguous: without_cors(None),
            }),
            not_enabled: Some(without_cors(None)),
        };
        let mut snapshot = Snapshot {
            routes: vec![route("store", &["store.example"], policies)],
            ..Snapshot::default()
        };
        let host = "store.example".parse().unwrap();
        snapshot.hosts.insert(host, 0).unwrap();
        let request = Hypothetical {
            url: url.to_owned(),
            origin: "https://app.example".to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            ..Hypothetical::default()
        };
        let mut answer = snapshot.explain(&request).unwrap().to_json();
        answer["actual"]["advice"].take()
    };

    let of_bucket = advice(None, "http://store.example/raw/a");
    let text = "bucket raw has no CORS configuration; create cors/buckets/raw.xml";
    assert_eq!(of_bucket["text"], text);
    assert_eq!(of_bucket["file"], "cors/buckets/raw.xml");
    assert!(of_bucket["configuration"].is_string());

    // The service root has no file there, and neither has a path that leads out of the folder.
    let of_service = advice(None, "http://store.example/");
    let text = "the service root of route store has no CORS configuration; create a file, and set `root` of the route's `buckets` to it";
    assert_eq!(of_service["text"], text);
    assert!(of_service["file"].is_null());
    let applies_to = of_service["applies_to"][0]["text"].as_str();
    assert_eq!(applies_to, Some("the service root of route store"));
    let of_route = advice(None, "http://store.example/.hidden/a");
    let text =
        "route store has no CORS configuration; create a file, and set the route's `cors` to it";
    assert_eq!(of_route["text"], text);
    assert!(of_route["file"].is_null());
    let ambiguous = advice(None, "http://store.example/..%2Fa/b");
    assert_eq!(ambiguous["kind"], "request");
    assert!(ambiguous["file"].is_null());

    let broken = advice(Some("line 3: no rule"), "http://store.example/raw/a");
    let text = "fix broken.xml, which is not in force (line 3: no rule)";
    assert_eq!(
        (&broken["kind"], &broken["text"]),
        (&"file".into(), &text.into())
    );
    assert!(broken["configuration"].is_null());
}

#[test]
fn a_change_lists_every_route_and_bucket_that_its_file_decides_for() {
    let shared = || {
        policy(
            "shared.xml",
            vec![rule(&["https://a.example"], &["GET"], &[])],
        )
    };
    let buckets = |own: &[(&str, &str)], directory: &str| {
        let own = own.iter().map(|(name, file)| {
            let rules = vec![rule(&["https://a.example"], &["GET"], &[])];
            ((*name).into(), policy(file, rules))
        });
        Some(Buckets {
            addressing: Addressing::Path,
            directory: Some(Path::new(directory).into()),
            policies: own.collect(),
            ambiguous: without_cors(None),
        })
    };
    let managed = |route, buckets| Policies {
        route,
        buckets,
        not_enabled: Some(without_cors(None)),
    };
    let routes = vec![
        route(
            "s3",
            &["s3.example"],
            managed(None, buckets(&[("raw", "raw.xml")], "one")),
        ),
        route("one", &["one.example"], managed(Some(shared()), None)),
        route(
            "two",
            &["two.example"],
            managed(Some(shared()), buckets(&[("raw", "shared.xml")], "two")),
        ),
        route(
            "three",
            &["three.example"],
            managed(Some(shared()), buckets(&[], "one")),
        ),
    ];
    let mut snapshot = Snapshot {
        routes,
        ..Snapshot::default()
    };
    for (index, host) in ["s3", "one", "two", "three"].iter().enumerate() {
        let host = format!("{host}.example").parse().unwrap();
        snapshot.hosts.insert(host, index).unwrap();
    }
    let advice = |url: &str| {
        let request = Hypothetical {
            url: url.to_owned(),
            origin: "https://b.example".to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            ..Hypothetical::default()
        };
        let mut answer = snapshot.explain(&request).unwrap().to_json();
        let advice = answer["actual"]["advice"].take();
        let places = advice["applies_to"].as_array().unwrap();
        let places: Vec<String> = places
            .iter()
            .map(|place| place["text"].as_str().unwrap().to_owned())
            .collect();
        (places, advice["lets_in"][0].as_str().unwrap().to_owned())
    };
    let (places, lets_in) = advice("http://s3.example/");
    assert_eq!(places, ["the service root of route s3"]);
    let only = "nothing but this: https://b.example, with credentials, for GET";
    assert_eq!(lets_in, only);

    let (places, lets_in) = advice("http://s3.example/.hidden/a");
    assert_eq!(
        places,
        ["route s3 (s3.example): the service root and every bucket except raw"]
    );
    assert_eq!(lets_in, "https://b.example, with credentials, for GET");

    let (places, _) = advice("http://one.example/payroll/x");
    assert_eq!(
        places,
        [
            "route one (one.example)",
            "route two (two.example): the service root and every bucket except raw",
            "bucket raw of route two",
            "route three (three.example): the service root and every bucket",
        ]
    );

    let (places, lets_in) = advice("http://s3.example/payroll/x");
    assert_eq!(
        places,
        [
            "bucket payroll of route s3",
            "bucket payroll of route three, where shared.xml decides today: requests that only it allows would be refused",
        ]
    );

    assert_eq!(lets_in, "https://b.example, with credentials, for GET");

    let (places, lets_in) = advice("http://s3.example/raw/x");
    assert_eq!(places, ["bucket raw of route s3"]);
    assert_eq!(lets_in, "one more origin, with credentials, for GET");
}

#[test]
fn advice_to_add_a_rule_has_no_whole_configuration() {
    let url = "http://photos.example/album/a";
    let answer = explain(url, "https://stranger.example", "DELETE", &[]);
    let advice = &answer["preflight"]["advice"];
    assert_eq!(advice["text"], "change the CORS configuration");
    assert_eq!(advice["edits"][0]["text"], "add a rule, after all others");
    assert!(advice["configuration"].is_null(), "its rules would be lost");
}

#[test]
fn a_same_origin_request_does_not_use_cors() {
    let url = "https://Photos.example:443/a";
    assert_eq!(
        explain(url, "https://photos.example", "GET", &[])["same_origin"],
        true
    );
    assert_eq!(
        explain(url, "http://photos.example", "GET", &[])["same_origin"],
        false
    );
    for url in ["https://photos.example/a", "https://static.example/a"] {
        let answer = explain(url, url.trim_end_matches("/a"), "DELETE", &["x-a"]);
        assert_eq!(answer["verdict"], "allowed", "{url}");
        let summary = answer["summary"].as_str().unwrap();
        assert!(summary.contains("does not use CORS"), "{summary}");
        assert_ne!(answer["preflight"]["needed"], true, "{url}");
    }
    let answer = explain(
        "https://photos.example/a",
        "https://photos.example",
        "DELETE",
        &[],
    );
    for asked in ["preflight", "actual"] {
        let answer = &answer[asked];
        assert_eq!(answer["outcome"], "refused");
        assert!(answer["advice"].is_null(), "{answer}");
        assert_eq!(answer["notes"], serde_json::json!([]));
    }
    let nobody = explain(
        "https://unknown.example/",
        "https://unknown.example",
        "GET",
        &[],
    );
    assert_eq!(nobody["verdict"], "unknown_host");
}

#[test]
fn an_origin_is_normalized_as_browsers_do() {
    for (origin, sent) in [
        ("app.example", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("https://App.example/page?a", "https://app.example"),
        ("localhost:3000", "http://localhost:3000"),
    ] {
        // The verdict is about the origin that a browser sends, whatever the rule says.
        for url in [
            "http://photos.example/album/a",
            "http://photos.example/raw/a",
        ] {
            let answer = explain(url, origin, "GET", &[]);
            let expected = explain(url, sent, "GET", &[]);
            assert_eq!(answer["verdict"], expected["verdict"], "{origin}");
            assert_eq!(answer["actual"], expected["actual"], "{origin}");
            let summary = format!(
                "{} (a browser sends the origin {origin} as {sent})",
                expected["summary"].as_str().unwrap()
            );
            assert_eq!(answer["summary"], summary, "{origin}");
        }
    }
    // The intended site is unknown, so the note only says that the origin is invalid.
    let refused = explain("http://photos.example/album/a", "app", "GET", &[]);
    let code = &refused["actual"]["notes"][0]["code"];
    assert_eq!(code, "origin-not-as-sent");
    for sent in ["null", "https://app.example", "capacitor://localhost"] {
        let answer = explain("http://photos.example/raw/a", sent, "GET", &[]);
        let notes = answer["actual"]["notes"].to_string();
        assert!(!notes.contains("not-as-sent"), "{sent}: {notes}");
    }
}

#[test]
fn names_may_be_a_list_and_a_missing_value_is_reported() {
    let url = "http://photos.example/album/a";
    let origin = "https://app.example";
    let listed = explain(url, origin, "PUT", &["content-type,x-amz-acl, Range"]);
    let preflight = &listed["preflight"];
    assert_eq!(
        preflight["requested_headers"],
        serde_json::json!(["content-type", "range", "x-amz-acl"])
    );
    let reasons = preflight["reasons"].to_string();
    for name in ["content-type", "range"] {
        let said = format!("{name} is CORS-safelisted for some values only");
        assert!(reasons.contains(&said), "{reasons}");
    }
    // A value may contain commas.
    let valued = explain(
        url,
        origin,
        "GET",
        &["accept: text/html, text/plain", "range: bytes=0-9"],
    );
    assert_eq!(valued["preflight"]["needed"], false);
}

#[test]
fn a_value_with_line_breaks_does_not_break_the_summary() {
    let mut policies = Policies {
        route: Some(policy(
            "lines.xml",
            vec![rule(
                &["https://a.example\nhttps://b.example"],
                &["GET"],
                &[],
            )],
        )),
        ..Policies::default()
    };
    policies.not_enabled = None;
    let mut snapshot = Snapshot {
        routes: vec![route("lines", &["lines.example"], policies)],
        ..Snapshot::default()
    };
    snapshot
        .hosts
        .insert("lines.example".parse().unwrap(), 0)
        .unwrap();
    let request = Hypothetical {
        url: "http://lines.example/".to_owned(),
        origin: "https://a.example".to_owned(),
        method: "GET".to_owned(),
        headers: vec![],
        ..Hypothetical::default()
    };
    let answer = snapshot.explain(&request).unwrap().to_json();
    let summary = answer["summary"].as_str().unwrap();
    assert!(!summary.contains('\n'), "{summary}");
    assert!(
        summary.contains(r"https://a.example\nhttps://b.example"),
        "{summary}"
    );
    let error = InvalidHypothetical::Origin("a\nb".to_owned()).to_string();
    assert!(error.starts_with(r"`a\nb` is not an origin"), "{error}");
}

#[test]
fn a_request_that_no_browser_could_send_is_not_explained() {
    let good = Hypothetical {
        url: "http://photos.example/".to_owned(),
        origin: "https://app.example".to_owned(),
        method: "GET".to_owned(),
        headers: vec![],
        ..Hypothetical::default()
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

#[test]
fn an_ambiguous_bucket_is_refused_with_the_reason() {
    for (url, why, advice) in [
        (
            "http://photos.example/raw/..%2fsecret/a",
            "the path has a `..` segment",
            "write the path without `.` and `..` segments, encoded or not",
        ),
        (
            "http://photos.example/raw%2fa",
            "the path's first segment has a character that no bucket name has, such as an \
             encoded slash",
            "begin the path with the bucket's name as it is, followed by a slash that is not encoded",
        ),
        (
            "http://photos.example//raw/a",
            "the path begins with an empty segment (`//`)",
            "begin the path with one slash only",
        ),
        (
            "http://photos.example./raw/a",
            "the host is not in lower case, ends with a dot, has an empty label, or has a port \
             in an unusual form",
            "write the host in lower case, without a trailing dot, and its port, if any, without \
             leading zeros",
        ),
    ] {
        let answer = explain(url, "https://app.example", "PUT", &["x-amz-acl"]);
        assert_eq!(answer["verdict"], "refused", "{url}");
        let message = format!(
            "no policy applies, because storage servers can read different buckets from this request: {why}"
        );
        let summary = format!("the preflight is refused: {message}");
        assert_eq!(answer["summary"], summary, "{url}");
        assert_eq!(answer["bucket"]["ambiguous"], why, "{url}");
        assert_eq!(answer["bucket"]["name"], Value::Null, "{url}");
        assert_eq!(answer["policy"]["scope"], "none", "{url}");
        assert_eq!(answer["preflight"]["status"], 403, "{url}");
        for asked in ["preflight", "actual"] {
            assert_eq!(answer[asked]["message"], message, "{url}");
            assert_eq!(answer[asked]["advice"]["kind"], "request", "{url}");
            assert_eq!(answer[asked]["advice"]["text"], advice, "{url}");
        }
    }
}
