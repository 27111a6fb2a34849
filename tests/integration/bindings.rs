//! A route that names listeners is reachable only over them.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use s3cors::config::reload::Outcome;
use s3cors::config::{Input, load};

use crate::http2;
use crate::support::client::{RawClient, ask};
use crate::support::configured::Configured;
use crate::support::folder::Folder;
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

fn config(upstream: SocketAddr, internal_first: bool) -> String {
    let mut listeners = [
        "[[listen]]\nname = 'public'\naddress = '127.0.0.1:0'\n",
        "[[listen]]\nname = 'internal'\naddress = '127.0.0.1:0'\n",
        "[[listen]]\naddress = '127.0.0.1:0'\n",
    ];
    if internal_first {
        listeners.swap(0, 1);
    }
    let route = |host: &str, listen: &str| {
        format!(
            "[[route]]\nhost = '{host}'\nupstream = 'http://{upstream}'\ncors = 'cors.xml'\n{listen}\n"
        )
    };
    [
        "workers = 1\n",
        &listeners.concat(),
        &route("internal.example", "listen = 'internal'"),
        &route("both.example", "listen = ['internal', 'public']"),
        &route("*", ""),
    ]
    .concat()
}

/// Which of the three listeners serve it.
fn served(addresses: &[SocketAddr], host: &str) -> Vec<u16> {
    let status = |address: &SocketAddr| ask(*address, "GET", "/k", &[("Host", host)]).status;
    addresses.iter().map(status).collect()
}

#[test]
fn a_route_is_reachable_over_the_listeners_that_it_names() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new();
    folder.write("cors.xml", POLICY);
    folder.write("s3cors.toml", &config(upstream.address, false));
    let mut proxy = Configured::start(&folder.path("s3cors.toml"));
    let addresses: Vec<SocketAddr> = proxy.addresses();
    let assert_bound = || {
        assert_eq!(served(&addresses, "internal.example"), [421, 200, 421]);
        assert_eq!(served(&addresses, "both.example"), [200, 200, 421]);
        assert_eq!(served(&addresses, "other.example"), [200, 200, 200]);
    };
    assert_bound();

    let public = addresses[0];
    let fields = [
        ("Host", "internal.example"),
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "GET"),
    ];
    let preflight = ask(public, "OPTIONS", "/k", &fields);
    assert_eq!(preflight.status, 403);
    assert!(
        preflight.text().contains("Bucket not found"),
        "{}",
        preflight.text()
    );
    assert!(preflight.values("access-control-allow-origin").is_empty());
    // A refused head has no policy either.
    let malformed = "GET /k HTTP/1.1\r\nHost: internal.example\r\nOrigin: https://app.example\r\n\
                     Content-Length: x\r\n\r\n";
    let refused = RawClient::connect(public).send(malformed).receive("GET");
    assert_eq!(refused.status, 400);
    assert!(refused.values("access-control-allow-origin").is_empty());
    http2::on_one_thread(async {
        let mut client = http2::connect(public).await;
        let request = Request::get("http://internal.example/k").body(Full::<Bytes>::default());
        let response = client.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 421);
    });

    // Listeners keep their initial settings, whatever their order in the config now.
    folder.replace("s3cors.toml", &config(upstream.address, true));
    assert_eq!(proxy.reloader.reload(false), Outcome::Applied);
    assert_bound();
}

#[test]
fn a_flag_that_replaces_the_listeners_is_refused_if_a_route_names_one() {
    let folder = Folder::new();
    folder.write("cors.xml", POLICY);
    folder.write(
        "s3cors.toml",
        &config("127.0.0.1:9".parse().unwrap(), false),
    );
    let mut input = Input::file(folder.path("s3cors.toml"));
    assert!(!load(&input).has_errors());
    input.overrides.listen = Some("127.0.0.1:0".to_owned());
    let loaded = load(&input);
    let said = loaded.report.render(false);
    assert!(
        loaded.has_errors() && said.contains("which --listen replaces"),
        "{said}"
    );
}

#[test]
fn a_flag_that_replaces_a_guarded_listener_is_refused() {
    let certificate = "tls = [{ certificate = 'site.pem', key = 'site.key' }]";
    for (guard, said) in [
        (certificate.to_owned(), "has `tls`"),
        (
            format!("{certificate}\nclient_ca = 'ca.pem'"),
            "has `tls` and `client_ca`",
        ),
        ("proxy_protocol = true".to_owned(), "has `proxy_protocol`"),
        (String::new(), ""),
    ] {
        let folder = Folder::new();
        let config = format!(
            "trusted_proxies = ['192.0.2.0/24']\n[[listen]]\naddress = '127.0.0.1:1'\n\
             [[listen]]\naddress = '127.0.0.1:2'\n{guard}\n\
             [[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:9'\n"
        );
        folder.write("s3cors.toml", &config);
        let mut input = Input::file(folder.path("s3cors.toml"));
        input.overrides.listen = Some("127.0.0.1:0".to_owned());
        let text = load(&input).report.render(false);
        let is_refused = text.contains("listener-replaced");
        assert_eq!(is_refused, !guard.is_empty(), "{text}");
        assert!(
            !is_refused || text.contains(&format!("127.0.0.1:2 {said}")),
            "{text}"
        );
    }
}
