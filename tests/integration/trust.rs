//! Forwarding fields of a request are trusted from listed proxies only.

use s3cors::routing::snapshot::Forwarding;
use s3cors::server::Limits;
use serde_json::Value;

use crate::http2;
use crate::support::client::ask;
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::{MockUpstream, Recorded};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A client's forwarding fields.
const CLAIMS: &[(&str, &str)] = &[
    ("X-Forwarded-For", "203.0.113.9, 192.0.2.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("Forwarded", "for=192.0.2.1"),
    ("X-S3cors-Anything", "1"),
];

/// What the upstream receives, and the line in the access log.
fn forwarded(proxies: &[&str], forwarding: Forwarding) -> (Recorded, Value) {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::transparent(upstream.address);
    route.forwarding = forwarding;
    let log = std::env::temp_dir().join(format!("s3cors-trust-{}", upstream.address.port()));
    let limits = Limits::default();
    let proxy = TestProxy::trusting(proxies, listener(), &[route], limits, Some(&log));
    assert_eq!(ask(proxy.address, "GET", "/k", CLAIMS).status, 200);
    proxy.finish_log();
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    (upstream.request(), serde_json::from_str(&lines).unwrap())
}

const NOTHING: Forwarding = Forwarding {
    via: false,
    x_forwarded: false,
    forwarded: false,
    x_real_ip: false,
};

const BOTH: Forwarding = Forwarding {
    x_forwarded: true,
    forwarded: true,
    ..NOTHING
};

#[test]
fn from_other_clients_they_are_removed_even_if_nothing_is_added() {
    let (request, line) = forwarded(&["192.0.2.0/24", "unix"], NOTHING);
    for (name, _) in CLAIMS {
        assert!(request.values(name).is_empty(), "{name}");
    }
    assert_eq!(line["client"], "127.0.0.1");
}

#[test]
fn from_a_listed_proxy_they_are_kept_even_if_nothing_is_added() {
    let (request, line) = forwarded(&["127.0.0.0/8"], NOTHING);
    for (name, value) in CLAIMS {
        assert_eq!(request.values(name), [*value], "{name}");
    }
    assert_eq!(line["client"], "192.0.2.1");
}

#[test]
fn from_a_listed_proxy_they_are_extended() {
    let (request, line) = forwarded(&["127.0.0.1", "192.0.2.1"], BOTH);
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9, 192.0.2.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-host", "photos.example"),
        (
            "forwarded",
            "for=192.0.2.1, for=127.0.0.1;proto=http;host=\"photos.example\"",
        ),
        ("x-s3cors-anything", "1"),
    ] {
        assert_eq!(request.values(name), [value], "{name}");
    }
    assert_eq!(line["client"], "203.0.113.9");
}

/// Names that a listed proxy may send, one of each kind.
const TRUSTED_ONLY: &[&str] = &[
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-S3cors-Anything",
    "Forwarded",
    "X-Real-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "Fastly-Client-IP",
    "X-Original-URL",
    "X-Original-Forwarded-For",
    "X-Rewrite-URL",
    "Client-Cert",
];

/// A name in several letter cases, with the separators that other programs treat like `-`.
fn spellings(name: &str) -> Vec<String> {
    let mut spelled = Vec::new();
    for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
        for separator in ["-", "_", ".", "~"] {
            spelled.push(name.replace('-', separator));
            spelled.push(name.replacen('-', separator, 1));
        }
    }
    spelled.sort();
    spelled.dedup();
    spelled
}

/// The variables that a program gets for a request's fields: WSGI's, where servers replace only
/// `-`, and CGI's, where they replace everything but letters and digits.
fn variables(request: &Recorded) -> Vec<String> {
    let names = request.head.lines().skip(1);
    let names = names.filter_map(|line| Some(line.split_once(':')?.0));
    let upper = names.map(str::to_uppercase);
    upper
        .flat_map(|name| {
            let wsgi = name.replace('-', "_");
            [
                wsgi,
                name.replace(|byte: char| !byte.is_ascii_alphanumeric(), "_"),
            ]
        })
        .collect()
}

#[test]
fn no_spelling_of_a_forwarding_field_reaches_a_program_from_an_unlisted_client() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let claimed: Vec<String> = TRUSTED_ONLY
        .iter()
        .map(|name| name.to_uppercase().replace('-', "_"))
        .collect();
    let assert_clean = |spelling: &str| {
        let requests = upstream.requests();
        let request = requests.last().unwrap();
        assert_eq!(request.target(), format!("/{spelling}"));
        let variables = variables(request);
        assert!(variables.contains(&"X_KEPT".to_owned()), "{variables:?}");
        let arrived: Vec<_> = variables
            .iter()
            .filter(|variable| claimed.contains(variable))
            .collect();
        assert!(arrived.is_empty(), "{spelling}: {arrived:?}");
    };
    let spellings: Vec<String> = TRUSTED_ONLY
        .iter()
        .flat_map(|name| spellings(name))
        .collect();
    assert!(spellings.len() >= 200, "{}", spellings.len());
    for spelling in &spellings {
        let fields = [(spelling.as_str(), "192.0.2.1"), ("X-Kept", "1")];
        ask(proxy.address, "GET", &format!("/{spelling}"), &fields);
        assert_clean(spelling);
        // Without and with a field that `Connection` lists.
        let fields = [&fields[..], &[("Connection", "x-none")]].concat();
        ask(proxy.address, "GET", &format!("/{spelling}"), &fields);
        assert_clean(spelling);
    }
    http2::on_one_thread(async {
        let mut client = http2::connect(proxy.address).await;
        // HTTP/2 has names in lower case only.
        for spelling in spellings
            .iter()
            .filter(|name| **name == name.to_lowercase())
        {
            let request = http2::request("GET", &format!("http://photos.example/{spelling}"))
                .header(spelling, "192.0.2.1")
                .header("x-kept", "1");
            let request = request.body(Default::default()).unwrap();
            assert_eq!(client.send_request(request).await.unwrap().status(), 200);
            assert_clean(spelling);
        }
    });
}

#[test]
fn fields_that_some_programs_read_as_framing_are_refused() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let imitations: Vec<String> = ["Content-Length", "Transfer-Encoding"]
        .iter()
        .flat_map(|name| spellings(name))
        .filter(|name| !name.contains('-'))
        .collect();
    for name in &imitations {
        let refused = ask(proxy.address, "GET", "/k", &[(name, "5")]);
        assert_eq!(refused.status, 400, "{name}");
    }
    http2::on_one_thread(async {
        let mut client = http2::connect(proxy.address).await;
        for name in imitations
            .iter()
            .filter(|name| **name == name.to_lowercase())
        {
            let request = http2::request("GET", "http://photos.example/k").header(name, "5");
            let request = request.body(Default::default()).unwrap();
            let status = client.send_request(request).await.unwrap().status();
            assert_eq!(status, 400, "{name}");
        }
    });
    assert!(upstream.requests().is_empty());
}

#[test]
fn x_real_ip_is_sent_if_the_route_sets_it() {
    let forwarding = Forwarding {
        x_real_ip: true,
        ..NOTHING
    };
    let (request, _) = forwarded(&[], forwarding);
    assert_eq!(request.values("x-real-ip"), ["127.0.0.1"]);
    assert!(request.values("x-forwarded-for").is_empty());
    let (request, _) = forwarded(&["127.0.0.1", "192.0.2.1"], forwarding);
    assert_eq!(request.values("x-real-ip"), ["203.0.113.9"]);
}
