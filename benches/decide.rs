//! The engine: decisions, including hostile requests, with few and many rules; and marking
//! responses. Built without the proxy. See `counted/mod.rs` for how it is run.

mod counted;

use std::hint::black_box;

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method};
use s3cors::cors::{CorsConfiguration, Options, Policy};

use counted::Work;

/// Three rules; the last one allows the requests below.
const POLICY: &str = "<CORSConfiguration>
  <CORSRule>
    <AllowedOrigin>https://admin.example</AllowedOrigin>
    <AllowedMethod>GET</AllowedMethod>
    <AllowedMethod>PUT</AllowedMethod>
    <AllowedMethod>DELETE</AllowedMethod>
    <AllowedHeader>*</AllowedHeader>
  </CORSRule>
  <CORSRule>
    <AllowedOrigin>https://*.partner.example</AllowedOrigin>
    <AllowedOrigin>http://localhost:3000</AllowedOrigin>
    <AllowedMethod>GET</AllowedMethod>
    <AllowedMethod>HEAD</AllowedMethod>
    <AllowedHeader>range</AllowedHeader>
  </CORSRule>
  <CORSRule>
    <AllowedOrigin>https://app.example</AllowedOrigin>
    <AllowedOrigin>https://*.app.example</AllowedOrigin>
    <AllowedMethod>GET</AllowedMethod>
    <AllowedMethod>PUT</AllowedMethod>
    <AllowedHeader>authorization</AllowedHeader>
    <AllowedHeader>content-type</AllowedHeader>
    <AllowedHeader>x-amz-*</AllowedHeader>
    <ExposeHeader>ETag</ExposeHeader>
    <MaxAgeSeconds>3000</MaxAgeSeconds>
  </CORSRule>
</CORSConfiguration>";

/// Name, method, and fields in addition to those that every browser sends.
type Scenario = (&'static str, Method, Vec<(HeaderName, String)>);

fn scenarios() -> Vec<Scenario> {
    let origin = |text: &str| (ORIGIN, text.to_owned());
    let method = || (ACCESS_CONTROL_REQUEST_METHOD, "PUT".to_owned());
    let headers = |names: &str| (ACCESS_CONTROL_REQUEST_HEADERS, names.to_owned());
    let app = || origin("https://beta.app.example");
    vec![
        ("not-cors", Method::GET, vec![]),
        ("actual", Method::PUT, vec![app()]),
        (
            "actual-refused",
            Method::GET,
            vec![origin("https://elsewhere.example")],
        ),
        ("preflight", Method::OPTIONS, vec![app(), method()]),
        (
            "preflight-3-headers",
            Method::OPTIONS,
            vec![
                app(),
                method(),
                headers("authorization,content-type,x-amz-date"),
            ],
        ),
        (
            "preflight-refused",
            Method::OPTIONS,
            vec![app(), method(), headers("authorization,x-other")],
        ),
        // Hostile: the maximum number of names, none of which any rule allows.
        (
            "hostile-headers",
            Method::OPTIONS,
            vec![app(), method(), headers(&vec!["x-amx-"; 512].join(","))],
        ),
        (
            "hostile-origin",
            Method::GET,
            vec![origin(&format!(
                "https://{}.app.example.",
                "a".repeat(2000)
            ))],
        ),
    ]
}

fn fields(extra: &[(HeaderName, String)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in [
        ("host", "photos.example"),
        ("user-agent", "Mozilla/5.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate, br"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "cross-site"),
        ("referer", "https://beta.app.example/"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in extra {
        // A shared buffer, like hyper's: a clone only counts a reference.
        let value: &'static str = Box::leak(value.clone().into_boxed_str());
        fields.append(name.clone(), HeaderValue::from_static(value));
    }
    fields
}

/// A rule for each of `rules` other sites, each with `origins` origins, before the rule for this
/// site.
fn policy_of(rules: usize, origins: usize) -> Policy {
    let rule = |rule: usize| {
        let origins = (0..origins).map(|origin| {
            format!("<AllowedOrigin>https://a{origin}.site{rule}.example</AllowedOrigin>")
        });
        let origins: String = origins.collect();
        format!("<CORSRule>{origins}<AllowedMethod>GET</AllowedMethod></CORSRule>")
    };
    let others: String = (1..rules).map(rule).collect();
    let ours = POLICY.rsplit_once("<CORSRule>").expect("a rule").1;
    compile(&format!("<CORSConfiguration>{others}<CORSRule>{ours}"))
}

fn compile(document: &str) -> Policy {
    let configuration = CorsConfiguration::from_xml(document.as_bytes()).expect("well-formed");
    Policy::compile(&configuration, Options::default()).expect("a valid policy")
}

fn decide(policy: Policy, method: Method, extra: &[(HeaderName, String)]) -> Work {
    let fields = fields(extra);
    Box::new(move |count| {
        for _ in 0..count {
            let decision = black_box(&policy).decide(black_box(&method), black_box(&fields));
            drop(black_box(decision));
        }
    })
}

/// An S3 server's response to a GET.
fn response() -> HeaderMap {
    let fields = [
        ("server", "MinIO"),
        ("date", "Tue, 24 Nov 2026 12:00:00 GMT"),
        ("content-type", "application/octet-stream"),
        ("content-length", "1024"),
        ("last-modified", "Tue, 24 Nov 2026 11:00:00 GMT"),
        ("etag", "\"9bb58f26192e4ba00f01e2e7b136bbd8\""),
        ("vary", "Accept-Encoding"),
        ("x-amz-request-id", "17D1F2A0B3C4D5E6"),
    ];
    let fields = fields.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    fields.into_iter().collect()
}

/// Copies a response and marks it for a request from `origin`; without `origin`, only copies it.
fn mark(origin: Option<&str>) -> Work {
    let (policy, response) = (compile(POLICY), response());
    let request = origin.map(|origin| fields(&[(ORIGIN, origin.to_owned())]));
    Box::new(move |count| {
        for _ in 0..count {
            let mut response = black_box(&response).clone();
            if let Some(request) = &request {
                let decision = policy.decide(&Method::GET, request);
                policy.mark(decision, &mut response);
            }
            drop(black_box(response));
        }
    })
}

fn main() {
    let three_rules = scenarios().into_iter().map(|(name, method, extra)| {
        let work = move || decide(compile(POLICY), method, &extra);
        (name, Box::new(work) as counted::Prepare)
    });
    let origin = (ORIGIN, "https://beta.app.example".to_owned());
    let ours = [origin, (ACCESS_CONTROL_REQUEST_METHOD, "PUT".to_owned())];
    let scaled = [
        ("rules-1", 1, 1),
        ("rules-10", 10, 1),
        ("rules-100", 100, 1),
        ("rules-10-origins-100", 10, 100),
    ];
    let scaled = scaled.map(|(name, rules, origins)| {
        let ours = ours.clone();
        let work = move || decide(policy_of(rules, origins), Method::OPTIONS, &ours);
        (name, Box::new(work) as counted::Prepare)
    });
    let marked: [(_, counted::Prepare); 3] = [
        ("response-copy", Box::new(|| mark(None))),
        (
            "response-mark",
            Box::new(|| mark(Some("https://beta.app.example"))),
        ),
        (
            "response-mark-refused",
            Box::new(|| mark(Some("https://elsewhere.example"))),
        ),
    ];
    counted::main(three_rules.chain(scaled).chain(marked).collect());
}
