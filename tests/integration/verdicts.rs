//! The browsers' verdict on each response: `s3cors_cors_verdicts_total` and the access log's
//! `cors.verdict`.

use std::collections::BTreeMap;

use serde_json::json;

use crate::access_log::{line, logged};
use crate::support::client::ask;
use crate::support::http2::{END_STREAM, head, scripted};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration>
    <CORSRule><AllowedOrigin>https://app.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
      <AllowedMethod>GET</AllowedMethod><AllowedHeader>x-a</AllowedHeader></CORSRule>
    <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>
  </CORSConfiguration>";

const APP: (&str, &str) = ("Origin", "https://app.example");
const OTHER: (&str, &str) = ("Origin", "https://other.example");
const HOST: (&str, &str) = ("Host", "photos.example");
const ASKS_PUT: (&str, &str) = ("Access-Control-Request-Method", "PUT");

/// The counts above zero, by verdict and reason.
fn counts(proxy: &TestProxy, route: &str) -> BTreeMap<String, u64> {
    let text = proxy.metrics.encode();
    let start = format!("s3cors_cors_verdicts_total{{route=\"{route}\",verdict=\"");
    let series = text.lines().filter_map(|line| line.strip_prefix(&start));
    series
        .map(|line| {
            let (labels, count) = line.rsplit_once(' ').unwrap();
            let name = labels.replace("\",reason=\"", " ").replace("\"}", "");
            (name, count.parse().unwrap())
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

type Case<'c> = (&'c str, &'c str, &'c [(&'c str, &'c str)], &'c str);

/// Sends each request, and checks which verdict was counted.
fn assert_counted(proxy: &TestProxy, route: &str, cases: &[Case<'_>]) {
    let mut before = counts(proxy, route);
    for (method, target, fields, expected) in cases {
        let fields = [&[HOST][..], fields].concat();
        ask(proxy.address, method, target, &fields);
        let after = counts(proxy, route);
        let counted: Vec<_> = after
            .iter()
            .filter(|(name, count)| before.get(*name) != Some(*count))
            .map(|(name, _)| name.as_str())
            .collect();
        let expected: &[&str] = match *expected {
            "" => &[],
            _ => &[expected],
        };
        assert_eq!(counted, expected, "{method} {target} {fields:?}");
        before = after;
    }
}

/// Responses by path, with the CORS fields in it: `/200/Access-Control-Allow-Origin: */…`.
fn by_path() -> MockUpstream {
    MockUpstream::scripted(true, |exchange| {
        let target = exchange.request.target().to_owned();
        let mut parts = target.trim_start_matches('/').split('/');
        let status = parts.next().unwrap_or("200");
        let fields: String = parts
            .map(|field| field.replace("%20", " ").replace("%2F", "/") + "\r\n")
            .collect();
        let length = if status == "304" {
            ""
        } else {
            "Content-Length: 0\r\n"
        };
        exchange.send(format!("HTTP/1.1 {status} x\r\n{fields}{length}\r\n"));
        true
    })
}

#[test]
fn under_a_policy_the_verdict_follows_from_the_decision() {
    let upstream = by_path();
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let cookie = ("Cookie", "a=b");
    let own = ("Origin", "https://photos.example");
    let cases: &[Case<'_>] = &[
        ("GET", "/200", &[APP], "readable none"),
        ("GET", "/404", &[APP], "readable none"),
        ("GET", "/200", &[APP, cookie], "readable none"),
        ("GET", "/200", &[OTHER], "readable none"),
        // `*` with credentials, as cookies show.
        (
            "GET",
            "/200",
            &[OTHER, cookie],
            "blocked WildcardOriginNotAllowed",
        ),
        ("PUT", "/200", &[OTHER], "blocked MissingAllowOriginHeader"),
        // The upstream's own fields are replaced.
        (
            "PUT",
            "/200/Access-Control-Allow-Origin:%20*",
            &[OTHER],
            "blocked MissingAllowOriginHeader",
        ),
        ("GET", "/302/Location:%20%2Fx", &[APP], "passed none"),
        ("GET", "/302", &[APP], "readable none"),
        ("GET", "/304", &[APP], "readable none"),
        // The browser's cache has the fields for a 304.
        ("PUT", "/304", &[OTHER], ""),
        ("OPTIONS", "/200", &[APP, ASKS_PUT], "passed none"),
        (
            "OPTIONS",
            "/200",
            &[OTHER, ASKS_PUT],
            "blocked PreflightMissingAllowOriginHeader",
        ),
        (
            "OPTIONS",
            "/200",
            &[APP, ASKS_PUT, ("Access-Control-Request-Headers", "x-b")],
            "blocked PreflightMissingAllowOriginHeader",
        ),
        // Not CORS: no origin, the host's own pages, a form, a WebSocket.
        ("GET", "/200", &[], ""),
        ("PUT", "/200", &[own], ""),
        ("POST", "/200", &[OTHER, ("Sec-Fetch-Mode", "navigate")], ""),
        (
            "POST",
            "/200",
            &[
                OTHER,
                ("Sec-Fetch-Mode", "no-cors"),
                ("Sec-Fetch-Site", "cross-site"),
            ],
            "",
        ),
        (
            "PUT",
            "/200",
            &[
                own,
                ("Sec-Fetch-Mode", "cors"),
                ("Sec-Fetch-Site", "same-site"),
            ],
            "blocked MissingAllowOriginHeader",
        ),
        // No browser sends two.
        ("GET", "/200", &[APP, OTHER], ""),
    ];
    assert_counted(&proxy, "photos.example", cases);
}

const TRANSPARENT: &[Case<'static>] = &[
    ("GET", "/200", &[APP], "blocked MissingAllowOriginHeader"),
    (
        "GET",
        "/200/Access-Control-Allow-Origin:%20*",
        &[APP],
        "readable none",
    ),
    (
        "GET",
        "/500/access-control-allow-origin:https:%2F%2Fapp.example",
        &[APP],
        "readable none",
    ),
    (
        "GET",
        "/200/Access-Control-Allow-Origin:%20*",
        &[APP, ("Cookie", "a=b")],
        "blocked WildcardOriginNotAllowed",
    ),
    (
        "GET",
        "/200/Access-Control-Allow-Origin:%20https:%2F%2Fapp.example",
        &[APP, ("Cookie", "a=b")],
        "blocked InvalidAllowCredentials",
    ),
    (
        "GET",
        "/200/Access-Control-Allow-Origin:%20https:%2F%2Fapp.example",
        &[OTHER],
        "blocked AllowOriginMismatch",
    ),
    (
        "GET",
        "/200/Access-Control-Allow-Origin:%20app.example",
        &[OTHER],
        "blocked InvalidAllowOriginValue",
    ),
    (
        "GET",
        "/200/Access-Control-Allow-Origin:%20*/Access-Control-Allow-Origin:%20*",
        &[APP],
        "blocked MultipleAllowOriginValues",
    ),
    (
        "GET",
        "/307/Access-Control-Allow-Origin:%20*/Location:%20%2Fx",
        &[APP],
        "passed none",
    ),
    ("GET", "/304", &[APP], ""),
    (
        "OPTIONS",
        "/200",
        &[APP, ASKS_PUT],
        "blocked PreflightMissingAllowOriginHeader",
    ),
    (
        "OPTIONS",
        "/404/Access-Control-Allow-Origin:%20*",
        &[APP, ASKS_PUT],
        "blocked PreflightInvalidStatus",
    ),
    (
        "OPTIONS",
        "/301/Access-Control-Allow-Origin:%20*/Location:%20%2Fx",
        &[APP, ASKS_PUT],
        "blocked PreflightDisallowedRedirect",
    ),
    (
        "OPTIONS",
        "/204/Access-Control-Allow-Origin:%20*",
        &[APP, ASKS_PUT],
        "blocked MethodDisallowedByPreflightResponse",
    ),
    (
        "OPTIONS",
        "/204/Access-Control-Allow-Origin:%20*/Access-Control-Allow-Methods:%20GET,PUT",
        &[APP, ASKS_PUT],
        "passed none",
    ),
    (
        "OPTIONS",
        "/204/Access-Control-Allow-Origin:%20*/Access-Control-Allow-Methods:%20*",
        &[APP, ASKS_PUT, ("Access-Control-Request-Headers", "x-a")],
        "blocked HeaderDisallowedByPreflightResponse",
    ),
    // An OPTIONS that is not a preflight.
    (
        "OPTIONS",
        "/200",
        &[APP],
        "blocked MissingAllowOriginHeader",
    ),
    ("GET", "/200", &[], ""),
    ("POST", "/200", &[("Origin", "http://photos.example")], ""),
];

#[test]
fn on_a_transparent_route_the_upstreams_own_fields_are_judged() {
    let upstream = by_path();
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    assert_counted(&proxy, "photos.example", TRANSPARENT);
}

#[test]
fn an_upstream_that_does_not_answer_is_a_response_without_cors_fields() {
    let nobody = crate::support::upstream::refusing();
    let proxy = TestProxy::start(&[TestRoute::transparent(nobody)]);
    let cases: &[Case<'_>] = &[
        ("GET", "/", &[APP], "blocked MissingAllowOriginHeader"),
        (
            "OPTIONS",
            "/",
            &[APP, ASKS_PUT],
            "blocked PreflightMissingAllowOriginHeader",
        ),
        ("GET", "/", &[], ""),
    ];
    assert_counted(&proxy, "photos.example", cases);
    // Under a policy, a script may read the 502.
    let proxy = TestProxy::start(&[TestRoute::new(nobody, POLICY)]);
    assert_counted(
        &proxy,
        "photos.example",
        &[("GET", "/", &[APP], "readable none")],
    );
}

#[test]
fn requests_without_a_route_have_verdicts_too() {
    let upstream = by_path();
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    for (method, fields) in [("GET", &[APP][..]), ("OPTIONS", &[APP, ASKS_PUT])] {
        let fields = [&[("Host", "nobody.example")][..], fields].concat();
        ask(proxy.address, method, "/", &fields);
    }
    let expected = [
        ("blocked MissingAllowOriginHeader".to_owned(), 1),
        ("blocked PreflightMissingAllowOriginHeader".to_owned(), 1),
    ];
    assert_eq!(counts(&proxy, "-"), BTreeMap::from(expected));
}

/// Requests with heads as header maps use another path.
#[test]
fn over_http2_the_verdicts_are_the_same() {
    let upstream = scripted(|frame| {
        let fields = [("access-control-allow-origin", "https://app.example")];
        Some(head(END_STREAM, frame.stream, "200", &fields))
    });
    let mut route = TestRoute::transparent(upstream);
    route.http2 = true;
    let proxy = TestProxy::start(&[route]);
    let cases: &[Case<'_>] = &[
        ("GET", "/", &[APP], "readable none"),
        ("GET", "/", &[OTHER], "blocked AllowOriginMismatch"),
        (
            "GET",
            "/",
            &[APP, ("Cookie", "a=b")],
            "blocked InvalidAllowCredentials",
        ),
        (
            "OPTIONS",
            "/",
            &[APP, ASKS_PUT],
            "blocked MethodDisallowedByPreflightResponse",
        ),
        (
            "POST",
            "/",
            &[("Origin", "http://photos.example"), ("Content-Length", "0")],
            "",
        ),
    ];
    assert_counted(&proxy, "photos.example", cases);
    let mut route = TestRoute::new(upstream, POLICY);
    route.http2 = true;
    let proxy = TestProxy::start(&[route]);
    let cases: &[Case<'_>] = &[
        ("GET", "/", &[APP], "readable none"),
        (
            "GET",
            "/",
            &[OTHER, ("Cookie", "a=b")],
            "blocked WildcardOriginNotAllowed",
        ),
        (
            "PUT",
            "/",
            &[OTHER, ("Content-Length", "0")],
            "blocked MissingAllowOriginHeader",
        ),
        (
            "OPTIONS",
            "/",
            &[OTHER, ASKS_PUT],
            "blocked PreflightMissingAllowOriginHeader",
        ),
    ];
    assert_counted(&proxy, "photos.example", cases);
}

#[test]
fn the_log_has_the_verdict_and_a_preflights_requested_method_and_headers() {
    let upstream = by_path();
    let (proxy, mut log) = logged("verdicts", TestRoute::transparent(upstream.address));
    let asks = [
        HOST,
        APP,
        ASKS_PUT,
        ("Access-Control-Request-Headers", "x-a, x-b"),
    ];
    ask(proxy.address, "OPTIONS", "/200", &asks);
    assert_eq!(
        line(&mut log)["cors"],
        json!({"request": "preflight", "verdict": "blocked", "error": "PreflightMissingAllowOriginHeader",
               "method": "PUT", "headers": "x-a, x-b"})
    );
    ask(
        proxy.address,
        "GET",
        "/200/Access-Control-Allow-Origin:%20*",
        &[HOST, APP],
    );
    assert_eq!(
        line(&mut log)["cors"],
        json!({"request": "actual", "verdict": "readable"})
    );
    ask(proxy.address, "GET", "/200", &[HOST]);
    assert!(line(&mut log).get("cors").is_none());
}
