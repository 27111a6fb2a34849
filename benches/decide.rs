//! Decides one scenario as often as it is told: `decide SCENARIO COUNT`.
//!
//! `benches/instructions` runs it under callgrind with two counts; the difference is what the
//! decisions take, whatever else the process does. Without arguments, as `cargo bench` runs it,
//! it prints wall-clock times, which are ratios at best.

use std::hint::black_box;
use std::time::Instant;

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method};
use s3cors::cors::{CorsConfiguration, Options, Policy};

/// Three rules; what is allowed here is allowed by the last of them.
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

/// Name, method, fields besides those that every browser sends.
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
        // Hostile: as many names as are looked at, none of which any rule allows.
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
        // A shared buffer, as hyper's are: a clone counts a reference.
        let value: &'static str = Box::leak(value.clone().into_boxed_str());
        fields.append(name.clone(), HeaderValue::from_static(value));
    }
    fields
}

fn run(policy: &Policy, method: &Method, fields: &HeaderMap, count: u64) {
    for _ in 0..count {
        let decision = black_box(policy).decide(black_box(method), black_box(fields));
        drop(black_box(decision));
    }
}

fn main() {
    let configuration =
        CorsConfiguration::from_xml(POLICY.as_bytes()).expect("the policy above is valid");
    let policy =
        Policy::compile(&configuration, Options::default()).expect("the policy above is valid");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = arguments.as_slice()
        && let Ok(count) = count.parse()
    {
        let all = scenarios();
        let Some((_, method, extra)) = all.iter().find(|scenario| scenario.0 == name) else {
            eprintln!("no scenario {name}");
            std::process::exit(2);
        };
        run(&policy, method, &fields(extra), count);
        return;
    }
    for (name, method, extra) in scenarios() {
        let fields = fields(&extra);
        let count = 100_000;
        run(&policy, &method, &fields, count / 10);
        let start = Instant::now();
        run(&policy, &method, &fields, count);
        let nanoseconds = start.elapsed().as_nanos() / u128::from(count);
        println!("{name:24} {nanoseconds:>8} ns");
    }
}
