//! The request path allocates nothing that a policy could have prepared: runs decisions under a
//! counting allocator.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use allocation_counter::measure;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method};
use s3cors::cors::{CorsConfiguration, Decision, Options, Policy};

fn policy() -> Policy {
    let xml = "<CORSConfiguration>
        <CORSRule>
          <AllowedOrigin>https://admin.example</AllowedOrigin>
          <AllowedMethod>PUT</AllowedMethod>
          <AllowedHeader>*</AllowedHeader>
        </CORSRule>
        <CORSRule>
          <AllowedOrigin>https://*.app.example</AllowedOrigin>
          <AllowedMethod>GET</AllowedMethod>
          <AllowedMethod>PUT</AllowedMethod>
          <AllowedHeader>content-type</AllowedHeader>
          <AllowedHeader>x-amz-*</AllowedHeader>
          <ExposeHeader>ETag</ExposeHeader>
          <MaxAgeSeconds>600</MaxAgeSeconds>
        </CORSRule>
        <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>
      </CORSConfiguration>";
    let configuration = CorsConfiguration::from_xml(xml.as_bytes()).unwrap();
    Policy::compile(&configuration, Options::default()).unwrap()
}

/// Fields like hyper's: each value is a part of the one buffer that holds the head.
fn fields(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let texts: Vec<&str> = fields.iter().map(|(_, value)| *value).collect();
    let head = Bytes::from(texts.concat());
    // A second handle, like the one in hyper's connection.
    let _connection = head.clone();
    let mut map = HeaderMap::new();
    let mut at = 0;
    for (name, value) in fields {
        let part = head.slice(at..at + value.len());
        at += value.len();
        map.append(name.clone(), HeaderValue::from_maybe_shared(part).unwrap());
    }
    map
}

/// How many allocations a decision makes, and whether it allows the request.
fn allocations(method: &Method, fields: &HeaderMap) -> (u64, bool) {
    let policy = policy();
    let mut allowed = false;
    let info = measure(|| {
        let decision = policy.decide(method, fields);
        allowed = matches!(
            decision,
            Decision::Preflight(Ok(_)) | Decision::Actual(Ok(_))
        );
    });
    (info.count_total, allowed)
}

#[test]
fn deciding_an_actual_request_allocates_nothing() {
    let plain = fields(&[(HeaderName::from_static("host"), "photos.example")]);
    assert_eq!(allocations(&Method::GET, &plain), (0, false));
    for (origin, method, allowed) in [
        ("https://a.app.example", Method::PUT, true),
        ("https://elsewhere.example", Method::GET, true),
        ("https://elsewhere.example", Method::PUT, false),
    ] {
        let fields = fields(&[(ORIGIN, origin)]);
        assert_eq!(allocations(&method, &fields), (0, allowed), "{origin}");
    }
}

#[test]
fn deciding_a_preflight_allocates_only_the_list_of_headers() {
    let origin = (ORIGIN, "https://a.app.example");
    let method = (ACCESS_CONTROL_REQUEST_METHOD, "PUT");
    let none = fields(&[origin.clone(), method.clone()]);
    assert_eq!(allocations(&Method::OPTIONS, &none), (0, true));
    let headers = "content-type, X-Amz-Date,x-amz-acl";
    let three = fields(&[
        origin.clone(),
        method.clone(),
        (ACCESS_CONTROL_REQUEST_HEADERS, headers),
    ]);
    assert_eq!(allocations(&Method::OPTIONS, &three), (1, true));
    let refused = fields(&[origin, method, (ACCESS_CONTROL_REQUEST_HEADERS, "range")]);
    assert_eq!(allocations(&Method::OPTIONS, &refused), (0, false));
}
