//! TLS from clients: certificates by name, protocols, resumption, client certificates,
//! certificate changes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup};
use s3cors::routing::snapshot::Forwarding;
use s3cors::server::tls::{Tls, TlsCell};
use s3cors::server::{Limits, ListenerSettings};
use s3cors::upstream::local_executor::LocalExecutor;

use crate::support::certificates::{Authority, Pair, ask_first, handshake};
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::MockUpstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";

/// A proxy with TLS and these certificates.
fn proxy(certificates: &[&Pair], upstream: &MockUpstream) -> (TestProxy, TlsCell) {
    proxy_with(tls(certificates), upstream, Limits::default())
}

fn proxy_with(tls: Tls, upstream: &MockUpstream, limits: Limits) -> (TestProxy, TlsCell) {
    let cell = TlsCell::new(tls).unwrap();
    let listener = ListenerSettings {
        tls: Some(cell.clone()),
        ..listener()
    };
    let mut route = TestRoute::transparent(upstream.address);
    route.forwarding = Forwarding {
        x_forwarded: true,
        ..Forwarding::default()
    };
    (TestProxy::on(listener, &[route], limits), cell)
}

fn tls(pairs: &[&Pair]) -> Tls {
    let names = ["first.crt", "second.crt", "third.crt"];
    let certificates = pairs.iter().zip(names);
    Tls {
        certificates: certificates.map(|(pair, name)| pair.read(name)).collect(),
        clients: None,
    }
}

/// The first certificate that a server shows.
fn shown(client: &mut RawClient<crate::support::certificates::TlsStream>) -> Vec<u8> {
    let certificates = client.stream().conn.peer_certificates().unwrap();
    certificates[0].to_vec()
}

/// A client that waits for a handshake could not read a response.
#[test]
fn beyond_a_clients_connection_limit_connections_are_closed_and_counted() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let limits = Limits {
        connections_per_client: 1,
        ..Limits::default()
    };
    let (proxy, _) = proxy_with(tls(&[&pair]), &upstream, limits);
    let config = Arc::new(authority.client(&[&TLS13], None));
    let connect = || handshake(proxy.address, "photos.example", &config);
    let mut first = connect().unwrap();
    assert!(connect().is_err());
    let refused = "reason=\"connections_per_client\"} 1";
    let metrics = proxy.metrics.encode();
    assert!(metrics.contains(refused), "{metrics}");
    assert_eq!(ask_first(&mut first).unwrap(), "HTTP/1.1 200");
}

#[test]
fn a_client_gets_the_certificate_of_the_requested_name() {
    let authority = Authority::new();
    let first = authority.sign(&["first.example", "photos.example"]);
    let wild = authority.sign(&["*.a.example"]);
    let exact = authority.sign(&["exact.a.example"]);
    let upstream = MockUpstream::answering(OK);
    let (proxy, _) = proxy(&[&first, &wild, &exact], &upstream);
    for versions in [[&TLS12], [&TLS13]] {
        let config = Arc::new(authority.client(&versions, None));
        for (name, expected) in [
            ("first.example", &first),
            ("x.a.example", &wild),
            ("exact.a.example", &exact),
        ] {
            let mut client = handshake(proxy.address, name, &config).unwrap();
            assert_eq!(shown(&mut client), expected.der().to_vec(), "{name}");
            let response = client.send(GET).receive("GET");
            assert_eq!((response.status, response.text()), (200, "ok".into()));
        }
        // No certificate has that name: the first is presented, and the client rejects it.
        let error = handshake(proxy.address, "other.example", &config);
        let error = error.err().unwrap().to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
    for request in upstream.requests() {
        assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    }
}

#[test]
fn a_completed_upload_is_distinguished_from_a_cut_one() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::scripted(false, |exchange| {
        // Cut, one way or the other.
        let _ = exchange.stream.read_to_end(&mut Vec::new());
        false
    });
    let listener = ListenerSettings {
        tls: Some(TlsCell::new(tls(&[&pair])).unwrap()),
        ..listener()
    };
    let route = TestRoute::transparent(upstream.address);
    let proxy = TestProxy::on(listener, &[route], Limits::default());
    for versions in [[&TLS12], [&TLS13]] {
        let config = Arc::new(authority.client(&versions, None));
        for has_ended in [true, false] {
            let mut client = handshake(proxy.address, "photos.example", &config).unwrap();
            let length = "Content-Length: 9\r\n\r\nbody";
            client.send(format!(
                "PUT /k HTTP/1.1\r\nHost: photos.example\r\n{length}"
            ));
            upstream.wait_for_request();
            let stream = client.stream();
            if has_ended {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
            stream.sock.shutdown(Shutdown::Write).unwrap();
            let mut told = Vec::new();
            // However its connection ends, it ends.
            let end = stream.read_to_end(&mut told).map_err(|error| error.kind());
            assert_ne!(end, Err(ErrorKind::WouldBlock));
            let told = String::from_utf8(told).unwrap();
            let expected = if has_ended { "HTTP/1.1 400 " } else { "" };
            assert_eq!(told.get(..13).unwrap_or(&told), expected, "{told}");
        }
    }
}

#[test]
fn http2_is_negotiated_in_the_handshake() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let (proxy, _) = proxy(&[&pair], &upstream);
    for (offered, expected) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1", b"h2"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let mut config = authority.client(&[&TLS13], None);
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let mut client = handshake(proxy.address, "photos.example", &Arc::new(config)).unwrap();
        assert_eq!(client.stream().conn.alpn_protocol(), expected);
        if expected != Some(b"h2") {
            assert_eq!(client.send(GET).receive("GET").status, 200);
        }
    }
    let mut config = authority.client(&[&TLS13], None);
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    let refused = handshake(proxy.address, "photos.example", &Arc::new(config));
    assert!(refused.err().unwrap().to_string().contains("alert"));

    let seen = upstream.requests().len();
    let mut config = authority.client(&[&TLS13], None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    runtime.unwrap().block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("photos.example").unwrap();
        let stream = connector.connect(name, tcp).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(LocalExecutor, io)
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::get("https://photos.example/k").body(Full::<Bytes>::default());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "ok");
    });
    let request = upstream.requests()[seen].clone();
    assert_eq!(request.values("via"), ["2.0 s3cors"]);
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);
}

/// Performs a handshake, sends one request, and reports the kind of handshake. In TLS 1.3,
/// tickets come only then.
fn kind(proxy: &TestProxy, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = handshake(proxy.address, "photos.example", config).unwrap();
    assert_eq!(client.send(GET).receive("GET").status, 200);
    client.stream().conn.handshake_kind().unwrap()
}

#[test]
fn sessions_are_resumed_even_after_a_change_but_not_with_client_certificates() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let own = authority.sign(&[]);
    let upstream = MockUpstream::answering(OK);
    for versions in [[&TLS12], [&TLS13]] {
        let (proxy, cell) = proxy(&[&pair], &upstream);
        let config = Arc::new(authority.client(&versions, Some(&own)));
        assert_eq!(kind(&proxy, &config), HandshakeKind::Full);
        assert_eq!(kind(&proxy, &config), HandshakeKind::Resumed);
        cell.publish(tls(&[&pair])).unwrap();
        assert_eq!(kind(&proxy, &config), HandshakeKind::Resumed);
        let asked = Tls {
            clients: Some(authority.of_clients()),
            ..tls(&[&pair])
        };
        cell.publish(asked.clone()).unwrap();
        for _ in 0..3 {
            assert_eq!(kind(&proxy, &config), HandshakeKind::Full);
        }
        cell.publish(asked).unwrap();
        assert_eq!(kind(&proxy, &config), HandshakeKind::Full);
        // No saved session admits a client without a certificate.
        cell.publish(tls(&[&pair])).unwrap();
        assert_eq!(kind(&proxy, &config), HandshakeKind::Full);
        assert_eq!(kind(&proxy, &config), HandshakeKind::Resumed);
    }
}

/// A client that saves its sessions is served only with its certificate.
#[test]
fn no_session_outlives_the_client_certificate_or_its_authority() {
    let authority = Authority::new();
    let (clients, others) = (Authority::new(), Authority::new());
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let asking = |clients: &Authority| Tls {
        clients: Some(clients.of_clients()),
        ..tls(&[&pair])
    };
    for versions in [[&TLS12], [&TLS13]] {
        let (proxy, cell) = proxy_with(asking(&clients), &upstream, Limits::default());
        let answer = |config: &Arc<ClientConfig>| {
            handshake(proxy.address, "photos.example", config)
                .and_then(|mut client| ask_first(&mut client))
        };
        let own = clients.sign(&[]);
        let config = Arc::new(authority.client(&versions, Some(&own)));
        assert_eq!(kind(&proxy, &config), HandshakeKind::Full);
        cell.publish(asking(&others)).unwrap();
        assert!(answer(&config).is_err(), "past its authority");
        cell.publish(asking(&clients)).unwrap();
        assert_eq!(kind(&proxy, &config), HandshakeKind::Full);

        // Certificates expire at full seconds.
        let end = SystemTime::now() + Duration::from_secs(2);
        let own = clients.sign_until(end);
        let config = Arc::new(authority.client(&versions, Some(&own)));
        assert_eq!(kind(&proxy, &config), HandshakeKind::Full);
        while SystemTime::now() < end + Duration::from_secs(1) {
            // Each handshake would offer the session of the previous one.
            let _ = answer(&config);
        }
        assert!(answer(&config).is_err(), "expired");
    }
}

/// The client prefers AES-256, like OpenSSL.
#[test]
fn the_cheapest_suite_and_the_post_quantum_exchange_are_agreed_on_with_one_ticket() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let (proxy, _) = proxy(&[&pair], &upstream);
    for (versions, suite) in [
        (
            [&TLS12],
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        ([&TLS13], CipherSuite::TLS13_AES_128_GCM_SHA256),
    ] {
        let config = Arc::new(authority.client(&versions, None));
        let first = config.crypto_provider().cipher_suites[0].suite();
        assert_eq!(first, CipherSuite::TLS13_AES_256_GCM_SHA384);
        let mut client = handshake(proxy.address, "photos.example", &config).unwrap();
        assert_eq!(client.send(GET).receive("GET").status, 200);
        let connection = &client.stream().conn;
        let agreed = connection.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(agreed, suite);
        if versions == [&TLS13] {
            let group = connection.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, NamedGroup::X25519MLKEM768);
            assert_eq!(connection.tls13_tickets_received(), 1);
        }
    }
}

#[test]
fn clients_need_a_certificate_of_the_listed_authorities() {
    let authority = Authority::new();
    let (clients, strangers) = (Authority::new(), Authority::new());
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let tls = Tls {
        clients: Some(clients.of_clients()),
        ..tls(&[&pair])
    };
    let (proxy, _) = proxy_with(tls, &upstream, Limits::default());
    for versions in [[&TLS12], [&TLS13]] {
        let known = clients.sign(&[]);
        let config = Arc::new(authority.client(&versions, Some(&known)));
        let mut client = handshake(proxy.address, "photos.example", &config).unwrap();
        assert_eq!(client.send(GET).receive("GET").status, 200);
        let before = upstream.requests().len();
        let stranger = strangers.sign(&[]);
        for own in [None, Some(&stranger)] {
            let config = Arc::new(authority.client(&versions, own));
            let answer = handshake(proxy.address, "photos.example", &config)
                .and_then(|mut client| ask_first(&mut client));
            assert!(answer.is_err(), "{answer:?}");
        }
        assert_eq!(upstream.requests().len(), before);
    }
}

#[test]
fn a_changed_certificate_is_served_at_once_and_no_request_fails() {
    let authority = Authority::new();
    let (old, new) = (
        authority.sign(&["photos.example"]),
        authority.sign(&["photos.example"]),
    );
    let upstream = MockUpstream::answering(OK);
    let (proxy, cell) = proxy(&[&old], &upstream);
    let config = Arc::new(authority.client(&[&TLS13], None));
    let stop = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (stop, asked, config) = (&stop, &asked, &config);
        let address = proxy.address;
        for kept_alive in [true, false] {
            scope.spawn(move || {
                let mut client = handshake(address, "photos.example", config).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let response = client.send(GET).receive("GET");
                    assert_eq!((response.status, response.text()), (200, "ok".into()));
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !kept_alive {
                        client = handshake(address, "photos.example", config).unwrap();
                    }
                }
            });
        }
        for turn in 0..20 {
            let pair = if turn % 2 == 0 { &new } else { &old };
            cell.publish(tls(&[pair])).unwrap();
            // Without tickets: a resumed session presents no certificate.
            let fresh = Arc::new(authority.client(&[&TLS13], None));
            let mut client = handshake(address, "photos.example", &fresh).unwrap();
            assert_eq!(shown(&mut client), pair.der().to_vec(), "{turn}");
            let before = asked.load(Ordering::Relaxed);
            while asked.load(Ordering::Relaxed) < before + 4 {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.into_inner() >= 80);
}

#[test]
fn anything_but_a_handshake_ends_the_connection_without_a_request() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let limits = Limits {
        handshake: Duration::from_millis(200),
        ..Limits::default()
    };
    let (proxy, _) = proxy_with(tls(&[&pair]), &upstream, limits);
    // SSL 3.0, and TLS 1.0 and 1.1, whose ClientHello names no later version.
    let old = |minor: u8| {
        let hello = [&[3, minor][..], &[7; 32], &[0, 0, 2, 0x00, 0x2f, 1, 0][..]].concat();
        let length = u8::try_from(hello.len()).unwrap();
        let handshake = [&[1, 0, 0, length][..], &hello].concat();
        [&[0x16, 3, minor, 0, length + 4][..], &handshake].concat()
    };
    for start in [
        GET.as_bytes().to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        old(0),
        old(1),
        old(2),
        // Half a record, and nothing: both end by the time limit.
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        Vec::new(),
    ] {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(&start).unwrap();
        let mut answer = Vec::new();
        // A reset also counts as an end.
        let _ = stream.read_to_end(&mut answer);
        // At most an alert (21), or the response to plain HTTP.
        let is_told = answer.starts_with(b"HTTP/1.1 400 ") && start[0].is_ascii_uppercase();
        assert!(
            answer.is_empty() || answer[0] == 21 || is_told,
            "{answer:?}"
        );
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn certificates_expiry_times_are_metrics_and_follow_a_change() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    let (proxy, cell) = proxy(&[&pair, &pair], &upstream);
    let line = |certificate: &str| {
        let address = proxy.address;
        format!(
            "s3cors_tls_certificate_expiry_timestamp_seconds\
             {{listener=\"{address}\",certificate=\"{certificate}\"}} "
        )
    };
    let text = proxy.metrics.encode();
    let end = |text: &str, certificate: &str| {
        let line = line(certificate);
        let found = text.lines().find_map(|there| there.strip_prefix(&line));
        found.map(|value| value.parse::<f64>().unwrap())
    };
    // rcgen's default: the first of January 4096.
    assert_eq!(end(&text, "first.crt"), Some(67_090_118_400.0));
    assert!(end(&text, "second.crt").is_some());
    cell.publish(tls(&[&pair])).unwrap();
    assert_eq!(end(&proxy.metrics.encode(), "second.crt"), None);
}
