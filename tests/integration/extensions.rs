//! Elements of the namespace `urn:s3cors`: their response fields, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;

use crate::http2::{connect, on_one_thread};
use crate::support::binary::run;
use crate::support::client::RawClient;
use crate::support::folder::Folder;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration xmlns:s='urn:s3cors'>\
     <CORSRule><AllowedOrigin>https://app.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
     <s:TimingAllowOrigin/></CORSRule>\
     <CORSRule><AllowedOrigin>https://*.rum.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
     <s:TimingAllowOrigin>https://a.rum.example</s:TimingAllowOrigin><s:TimingAllowOrigin>https://b.rum.example</s:TimingAllowOrigin>\
     <s:CrossOriginResourcePolicy>same-site</s:CrossOriginResourcePolicy></CORSRule>\
     <CORSRule><AllowedOrigin>https://app.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod></CORSRule>\
     </CORSConfiguration>";

/// An upstream whose own fields are wider, in another letter case.
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ntiming-allow-origin: *\r\n\
     Timing-Allow-Origin: https://upstream.example\r\nCROSS-ORIGIN-RESOURCE-POLICY: cross-origin\r\n\r\nok";

const LIST: &str = "https://a.rum.example, https://b.rum.example";
const UPSTREAM_TIMING: [&str; 2] = ["*", "https://upstream.example"];

/// Method, `Origin`, and the values of both fields.
type Case = (
    &'static str,
    Option<&'static str>,
    &'static [&'static str],
    &'static [&'static str],
);

const CASES: [Case; 6] = [
    (
        "GET",
        Some("https://app.example"),
        &["https://app.example"],
        &["cross-origin"],
    ),
    (
        "GET",
        Some("https://x.rum.example"),
        &[LIST],
        &["same-site"],
    ),
    // The rule for PUT has neither: the upstream's fields stay.
    (
        "PUT",
        Some("https://app.example"),
        &UPSTREAM_TIMING,
        &["cross-origin"],
    ),
    // No rule matches: an image on a page sends no Origin.
    ("GET", None, &[LIST], &["same-site"]),
    ("HEAD", None, &[LIST], &["same-site"]),
    ("GET", Some("https://evil.example"), &[LIST], &["same-site"]),
];

fn assert_fields(fields: &HeaderMap, case: &Case) {
    let values = |name: &str| -> Vec<String> {
        let values = fields.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(values("timing-allow-origin"), case.2, "{case:?}");
    assert_eq!(values("cross-origin-resource-policy"), case.3, "{case:?}");
}

#[test]
fn the_fields_of_extension_elements_replace_the_upstreams_over_http1() {
    let upstream = MockUpstream::answering(RESPONSE);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let mut client = RawClient::connect(proxy.address);
    for case in &CASES {
        let origin = case.1.map(|origin| format!("Origin: {origin}\r\n"));
        let origin = origin.unwrap_or_default();
        client.send(format!(
            "{} /k HTTP/1.1\r\nHost: photos.example\r\n{origin}\r\n",
            case.0
        ));
        assert_fields(&client.receive(case.0).headers, case);
    }
    // Two equal Origins: such a request, which no browser sends, is decided as a header map.
    client.send(
        "GET /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a\r\nOrigin: https://a\r\n\r\n",
    );
    let case = ("GET", Some("twice"), &[LIST][..], &["same-site"][..]);
    assert_fields(&client.receive("GET").headers, &case);
}

#[test]
fn the_fields_of_extension_elements_replace_the_upstreams_over_http2() {
    let upstream = MockUpstream::answering(RESPONSE);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for case in &CASES {
            let mut request = Request::builder()
                .method(case.0)
                .uri("http://photos.example/k");
            if let Some(origin) = case.1 {
                request = request.header("origin", origin);
            }
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_fields(response.headers(), case);
        }
    });
}

#[test]
fn the_proxys_own_responses_have_the_fields_but_not_preflights() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let proxy = TestProxy::start(&[TestRoute::new(nobody, POLICY)]);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
    let response = client.receive("GET");
    assert_eq!(response.status, 502);
    assert_eq!(
        response.values("cross-origin-resource-policy"),
        ["same-site"]
    );
    assert_eq!(response.values("timing-allow-origin"), [LIST]);

    client.send(
        "OPTIONS /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://x.rum.example\r\n\
         Access-Control-Request-Method: GET\r\n\r\n",
    );
    let response = client.receive("OPTIONS");
    assert_eq!(response.status, 200);
    for name in ["timing-allow-origin", "cross-origin-resource-policy"] {
        assert!(response.values(name).is_empty(), "{name}");
    }
}

#[test]
fn explain_shows_the_fields() {
    let folder = Folder::new();
    folder.write("cors.xml", POLICY);
    let (code, output, _) = run(&[
        "explain",
        "--cors",
        &folder.path("cors.xml").display().to_string(),
        "--origin",
        "https://x.rum.example",
        "--method",
        "GET",
    ]);
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains(&format!("Timing-Allow-Origin: {LIST}")),
        "{output}"
    );
    assert!(
        output.contains("Cross-Origin-Resource-Policy: same-site"),
        "{output}"
    );
}
