//! Requests for a bucket's CORS configuration on routes without `cors_api`: the response says
//! where it is, and they are never forwarded.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};

use crate::http2::{connect, on_one_thread};
use crate::support::client::{RawClient, RawResponse};
use crate::support::configured::Configured;
use crate::support::folder::Folder;
use crate::support::upstream::MockUpstream;

const APP: &str = "https://app.example";
const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedMethod>DELETE</AllowedMethod>\
     </CORSRule></CORSConfiguration>";

/// `buckets.example` has a policy per bucket, `whole.example` one policy, `plain.example` none.
fn proxy(upstream: &MockUpstream, folder: &Folder) -> Configured {
    folder.write("buckets/photos.xml", POLICY);
    folder.write("whole.xml", POLICY);
    folder.write(
        "s3cors.toml",
        &format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [admin]\naddress = \"off\"\n\
             [[route]]\nhost = [\"buckets.example\", \"*.buckets.example\"]\nupstream = \"http://{address}\"\n\
             buckets = {{ directory = \"buckets\", address = \"both\" }}\n\
             [[route]]\nhost = \"whole.example\"\nupstream = \"http://{address}\"\ncors = \"whole.xml\"\n\
             [[route]]\nhost = \"plain.example\"\nupstream = \"http://{address}\"\n",
            address = upstream.address
        ),
    );
    Configured::start(&folder.path("s3cors.toml"))
}

fn send(proxy: SocketAddr, line: &str, host: &str, fields: &str) -> RawResponse {
    let mut client = RawClient::connect(proxy);
    let method = line.split(' ').next().unwrap();
    let body = match method {
        "PUT" | "put" => "Content-Length: 4\r\n\r\nbody",
        _ => "\r\n",
    };
    client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}{body}"));
    client.receive(method)
}

#[test]
fn a_request_for_a_buckets_configuration_is_answered_with_its_place() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new();
    let proxy = proxy(&upstream, &folder);
    let cases = [
        ("PUT /photos?cors", "buckets.example", "photos.xml"),
        ("GET /photos?cors", "buckets.example", "photos.xml"),
        ("DELETE /photos?cors", "buckets.example", "photos.xml"),
        ("GET /photos/?cors=", "buckets.example", "photos.xml"),
        (
            "PUT /photos/?cors=&x-id=PutBucketCors",
            "buckets.example",
            "photos.xml",
        ),
        (
            "PUT /photos?X-Amz-Signature=0&cors=null",
            "buckets.example",
            "photos.xml",
        ),
        ("PUT /%70hotos/?%63ors", "buckets.example", "photos.xml"),
        ("DELETE /?cors", "photos.buckets.example", "photos.xml"),
        (
            "PUT http://photos.buckets.example?cors",
            "buckets.example",
            "photos.xml",
        ),
        (
            "GET /other?cors",
            "buckets.example",
            "&lt;bucket>.xml in the directory buckets",
        ),
        (
            "GET /?cors",
            "other.buckets.example",
            "the directory buckets",
        ),
        (
            "PUT //photos?cors",
            "buckets.example",
            "the directory buckets",
        ),
        ("GET /?cors", "whole.example", "whole.xml"),
        ("PUT /photos?cors", "whole.example", "whole.xml"),
        ("DELETE /photos/?cors", "whole.example", "whole.xml"),
        ("GET /photos?cors", "whole.example", "whole.xml"),
    ];
    for (line, host, place) in cases {
        let response = send(proxy.address(), line, host, "");
        assert_eq!(response.status, 405, "{line} {host}");
        assert_eq!(response.values("allow"), ["OPTIONS"]);
        assert_eq!(response.values("vary"), ["Origin"]);
        let document = response.text();
        let parts = ["<Code>MethodNotAllowed</Code>", "[route.cors_api]", place];
        for part in parts {
            assert!(document.contains(part), "{line} {host}: {document}");
        }
        // The file's path is not shown to clients.
        let folder = folder.path("").display().to_string();
        assert!(!document.contains(&folder), "{document}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_page_that_the_policy_allows_can_read_the_answer() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new();
    let proxy = proxy(&upstream, &folder);
    let fields = format!("Origin: {APP}\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n");
    for (line, host) in [
        ("GET /photos?cors", "buckets.example"),
        ("GET /photos?cors", "whole.example"),
    ] {
        let response = send(proxy.address(), line, host, &fields);
        assert_eq!(response.status, 405);
        assert_eq!(response.values("access-control-allow-origin"), [APP]);
    }
    let fields = format!("Origin: {APP}\r\nAccess-Control-Request-Method: PUT\r\n");
    let preflight = send(
        proxy.address(),
        "OPTIONS /photos?cors",
        "buckets.example",
        &fields,
    );
    assert_eq!(preflight.status, 200);
    assert!(upstream.requests().is_empty());
}

#[test]
fn over_http2_the_response_is_the_same() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new();
    let proxy = proxy(&upstream, &folder);
    on_one_thread(async {
        let mut client = connect(proxy.address()).await;
        for method in ["GET", "PUT", "DELETE"] {
            let request = Request::builder()
                .method(method)
                .uri("http://buckets.example/photos/?cors=")
                .body(Full::new(Bytes::from_static(b"")))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), 405);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let document = String::from_utf8(body.to_vec()).unwrap();
            assert!(document.contains("photos.xml"), "{document}");
        }
    });
    assert!(upstream.requests().is_empty());
}

#[test]
fn other_requests_are_forwarded() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new();
    let proxy = proxy(&upstream, &folder);
    let cases = [
        // A key, and a name that only looks similar.
        ("GET /photos/cat.jpg?cors", "buckets.example", ""),
        ("PUT /photos/cat.jpg?cors", "buckets.example", ""),
        ("GET /cat.jpg?cors", "photos.buckets.example", ""),
        ("GET /photos?CORS", "buckets.example", ""),
        ("GET /photos?acl&prefix=cors", "buckets.example", ""),
        // Methods that S3 does not have for it.
        ("HEAD /photos?cors", "buckets.example", ""),
        (
            "POST /photos?cors",
            "buckets.example",
            "Content-Length: 0\r\n",
        ),
        // An image that a page reads past its cache.
        (
            "GET /logo.png?cors",
            "whole.example",
            "Origin: https://app.example\r\n",
        ),
        (
            "GET /logo.png?cors",
            "whole.example",
            "Sec-Fetch-Mode: no-cors\r\n",
        ),
        ("GET /img/logo.png?cors", "whole.example", ""),
        // A route without a policy.
        ("PUT /photos?cors", "plain.example", ""),
        ("GET /photos/?cors=", "plain.example", ""),
        ("DELETE /?cors", "plain.example", ""),
    ];
    for (line, host, fields) in cases {
        let response = send(proxy.address(), line, host, fields);
        assert_eq!(response.status, 200, "{line} {host}");
        let request = upstream.requests().pop().unwrap();
        assert!(request.line().starts_with(line), "{}", request.line());
    }
    assert_eq!(upstream.requests().len(), cases.len());
}

/// Each of these is a bucket's configuration to some storage server, and something else to
/// another.
#[test]
fn an_ambiguous_request_is_never_forwarded() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new();
    let proxy = proxy(&upstream, &folder);
    let paths = [
        "/photos//?cors",
        "//photos?cors",
        "//photos/?cors",
        "/%2fphotos?cors",
        "/photos%2f?cors",
        "/./photos?cors",
        "/x/../photos?cors",
        "/photos/x/..?cors",
        "/photos/.?cors",
        "/photos/%2e/?cors",
        "/photos/%2f?cors",
        "/photos/%5c?cors",
        "/photos/;a?cors",
        "/photos;a?cors",
        "/photos/%00k?cors",
        "/photos?%63ors",
        "/photos?cors=&x",
        "/photos?x&cors",
        "/photos?cors%3dx",
        "/photos??cors",
        "/photos?x;cors",
    ];
    for host in ["buckets.example", "whole.example"] {
        for path in paths {
            for method in ["GET", "PUT", "DELETE", "put"] {
                let response = send(proxy.address(), &format!("{method} {path}"), host, "");
                assert_eq!(response.status, 405, "{method} {host}{path}");
            }
        }
    }
    // The host names the bucket, but not in a form that every server reads.
    for host in ["Photos.buckets.example", "photos.buckets.example."] {
        let response = send(proxy.address(), "DELETE /photos?cors", host, "");
        assert_eq!(response.status, 405, "{host}");
    }
    assert!(upstream.requests().is_empty());
}
