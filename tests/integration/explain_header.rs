//! `route.explain_header`: responses to refused requests carry the reason, for the network panel
//! of DevTools.

use crate::support::binary::{Folder, Process};
use crate::support::client::{RawResponse, ask};
use crate::support::http2::{END_STREAM, head, scripted};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedHeader>x-a</AllowedHeader></CORSRule></CORSConfiguration>";
/// The upstream may be an s3cors, too.
const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-S3cors-Reason: of the upstream\r\n\r\nok";

const HOSTS: [&str; 4] = [
    "explains.example",
    "silent.example",
    "plain.example",
    "http2.example",
];

fn serve(name: &str) -> (Folder, Process) {
    let folder = Folder::new(name);
    let upstream = MockUpstream::answering(OK).address;
    let http2 = scripted(|frame| {
        let fields = [("x-s3cors-reason", "of the upstream")];
        Some(head(END_STREAM, frame.stream, "200", &fields))
    });
    folder.write("photos.xml", POLICY);
    let [explains, silent, plain, over_http2] = HOSTS;
    let config = format!(
        "[[route]]\nhost = '{explains}'\nupstream = 'http://{upstream}'\ncors = 'photos.xml'\nexplain_header = true\n\
         [[route]]\nhost = '{silent}'\nupstream = 'http://{upstream}'\ncors = 'photos.xml'\n\
         [[route]]\nhost = '{plain}'\nupstream = 'http://{upstream}'\nexplain_header = true\n\
         [[route]]\nhost = '{over_http2}'\nupstream = 'http://{http2}'\nupstream_http2 = true\ncors = 'photos.xml'\n\
         explain_header = true\n"
    );
    let config = folder.write("s3cors.toml", &config);
    let process = Process::start(&["run", "--config", &config]);
    (folder, process)
}

fn reasons(answer: &RawResponse) -> Vec<&str> {
    answer.values("x-s3cors-reason")
}

#[test]
fn a_refused_request_gets_the_reason() {
    let (_folder, process) = serve("explain-header");
    let evil = ("Origin", "https://evil.example");
    let app = ("Origin", "https://app.example");
    let asks = |method| ("Access-Control-Request-Method", method);
    let origin = "origin; origin https://evil.example is not in any AllowedOrigin of photos.xml; \
                  closest: https://app.example of rule 1 (the hosts differ)";
    for host in ["explains.example", "http2.example"] {
        let host = ("Host", host);
        let refused = ask(process.address, "GET", "/a", &[host, evil]);
        assert_eq!(refused.status, 200);
        assert_eq!(reasons(&refused), [origin]);
        let refused = ask(process.address, "OPTIONS", "/a", &[host, evil, asks("GET")]);
        assert_eq!(refused.status, 403);
        assert_eq!(reasons(&refused), [origin]);
        let refused = ask(process.address, "OPTIONS", "/a", &[host, app, asks("PUT")]);
        assert_eq!(
            reasons(&refused),
            ["method; method PUT is not in AllowedMethod (GET) of rule 1, photos.xml"]
        );
        let headers = ("Access-Control-Request-Headers", "x-a,x-b");
        let refused = ask(
            process.address,
            "OPTIONS",
            "/a",
            &[host, app, asks("GET"), headers],
        );
        assert_eq!(
            reasons(&refused),
            ["header; header x-b is not in AllowedHeader (x-a) of rule 1, photos.xml"]
        );
        // Several origins, which browsers never send.
        let refused = ask(process.address, "GET", "/a", &[host, app, evil]);
        assert_eq!(
            reasons(&refused),
            ["malformed; the Origin is not in the form that browsers send"]
        );
        let refused = ask(
            process.address,
            "OPTIONS",
            "/a",
            &[host, app, evil, asks("GET")],
        );
        assert_eq!(
            reasons(&refused),
            ["malformed; the Origin is not in the form that browsers send"]
        );
        // Allowed requests and requests without CORS get no reason; the upstream's is about its
        // own CORS fields, which are replaced.
        for fields in [&[host, app][..], &[host], &[host, app, asks("GET")]] {
            assert!(reasons(&ask(process.address, "GET", "/a", fields)).is_empty());
        }
        let allowed = ask(process.address, "OPTIONS", "/a", &[host, app, asks("GET")]);
        assert!(reasons(&allowed).is_empty());
    }
}

#[test]
fn the_reason_is_off_by_default_and_a_transparent_route_passes_the_upstreams_on() {
    let (_folder, process) = serve("explain-header-off");
    let evil = ("Origin", "https://evil.example");
    let asks = ("Access-Control-Request-Method", "GET");
    let silent = ("Host", "silent.example");
    for (method, fields) in [
        ("GET", &[silent, evil][..]),
        ("GET", &[silent]),
        ("OPTIONS", &[silent, evil, asks]),
    ] {
        assert!(
            reasons(&ask(process.address, method, "/a", fields)).is_empty(),
            "{method} {fields:?}"
        );
    }
    let plain = ("Host", "plain.example");
    for fields in [&[plain, evil][..], &[plain]] {
        assert_eq!(
            reasons(&ask(process.address, "GET", "/a", fields)),
            ["of the upstream"]
        );
    }
}

#[test]
fn a_reason_is_one_line_for_any_request() {
    let (_folder, process) = serve("explain-header-hostile");
    let long = format!("https://{}", "a".repeat(3000));
    for origin in [&*long, "https://a\tb\"\\", "https://b\u{e9}c"] {
        let fields = [("Host", "explains.example"), ("Origin", origin)];
        let refused = ask(process.address, "GET", "/a", &fields);
        let reasons = reasons(&refused);
        assert_eq!(reasons.len(), 1, "{origin}");
        assert!(reasons[0].len() <= 510, "{}", reasons[0].len());
        assert!(reasons[0].bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
}
