//! Failed handshakes are counted by reason and logged, a few lines per second.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use s3cors::metrics::HandshakeFailure;
use s3cors::server::tls::{Tls, TlsCell};
use s3cors::server::{Limits, ListenerSettings};

use crate::support::binary::{Folder, Process, line_with, s3cors};
use crate::support::certificates::{Authority, Pair, ask_first, handshake};
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::refusing;

const PATIENCE: Duration = Duration::from_secs(20);

/// A ClientHello for TLS 1.0 or 1.1 only: its version, 32 random bytes, no session, the suite
/// TLS_RSA_WITH_AES_128_CBC_SHA, no compression, no extensions (RFC 4346 §7.4.1.2).
fn old_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    hello
}

/// The same for TLS 1.2 with extensions: its suite is not supported here.
fn weak_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 23, 0, 0, // extended_master_secret
    ];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    hello
}

fn proxy(tls: Option<Tls>, proxy_protocol: bool, trusted: &[&str]) -> TestProxy {
    let listener = ListenerSettings {
        tls: tls.map(|tls| TlsCell::new(tls).unwrap()),
        proxy_protocol,
        ..listener()
    };
    let limits = Limits {
        handshake: Duration::from_millis(500),
        ..Limits::default()
    };
    let route = TestRoute::transparent(refusing());
    TestProxy::trusting(trusted, listener, &[route], limits, None)
}

fn tls(pair: &Pair) -> Tls {
    Tls {
        certificates: vec![pair.read("site.crt")],
        clients: None,
    }
}

fn count(proxy: &TestProxy, reason: HandshakeFailure) -> u64 {
    let line = format!(
        "s3cors_handshake_failures_total{{listener=\"{}\",reason=\"{}\"}} ",
        proxy.address,
        reason.as_str()
    );
    let metrics = proxy.metrics.encode();
    let count = metrics.lines().find_map(|one| one.strip_prefix(&line));
    // The series appears with the worker's listener.
    count.map_or(0, |count| count.parse().unwrap())
}

/// Waits until this reason has been counted this often.
fn until(proxy: &TestProxy, reason: HandshakeFailure, expected: u64) {
    let start = Instant::now();
    while count(proxy, reason) != expected {
        assert!(start.elapsed() < PATIENCE, "{reason:?}");
        thread::yield_now();
    }
}

/// Waits until this reason has been counted, and checks that no other was.
fn counted_once(proxy: &TestProxy, reason: HandshakeFailure) {
    until(proxy, reason, 1);
    for one in HandshakeFailure::ALL {
        assert_eq!(
            count(proxy, one),
            u64::from(one == reason),
            "{one:?} for {reason:?}"
        );
    }
}

/// Sends these bytes, and reads to the end; a reset also counts as an end.
fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn bytes_other_than_a_handshake_are_counted_by_kind() {
    let pair = Authority::new().sign(&["photos.example"]);
    let record_of_nothing = [22, 3, 1, 0, 4, 9, 9, 9, 9];
    let cases: [(&[u8], HandshakeFailure); 14] = [
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            HandshakeFailure::PlainHttp,
        ),
        (b"OPTIONS /k HTTP/1.0\r\n\r\n", HandshakeFailure::PlainHttp),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            HandshakeFailure::PlainHttp,
        ),
        (
            b"PROPFIND /dav HTTP/1.1\r\n\r\n",
            HandshakeFailure::PlainHttp,
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", HandshakeFailure::NotTls),
        (
            b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01",
            HandshakeFailure::NotTls,
        ),
        (
            b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10",
            HandshakeFailure::NotTls,
        ),
        (b" GET / HTTP/1.1\r\n\r\n", HandshakeFailure::NotTls),
        (&old_hello(1), HandshakeFailure::TlsVersion),
        (&old_hello(2), HandshakeFailure::TlsVersion),
        (&weak_hello(), HandshakeFailure::Cipher),
        (&record_of_nothing, HandshakeFailure::Tls),
        (b"\x16\x03\x01", HandshakeFailure::Timeout),
        (b"GE", HandshakeFailure::Timeout),
    ];
    for (bytes, reason) in cases {
        let proxy = proxy(Some(tls(&pair)), false, &[]);
        let _stream = send(proxy.address, bytes);
        counted_once(&proxy, reason);
    }
    for bytes in [&b""[..], b"\x16\x03\x01", b"GE"] {
        let proxy = proxy(Some(tls(&pair)), false, &[]);
        send(proxy.address, bytes)
            .shutdown(Shutdown::Write)
            .unwrap();
        counted_once(&proxy, HandshakeFailure::Closed);
    }
}

#[test]
fn plain_http_to_a_tls_listener_is_answered_in_text() {
    let pair = Authority::new().sign(&["photos.example"]);
    let proxy = proxy(Some(tls(&pair)), false, &[]);
    for request in [
        "GET / HTTP/1.1\r\nHost: photos.example\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let mut client = RawClient::connect(proxy.address);
        let response = client.send(request).receive("GET");
        assert_eq!(response.status, 400);
        assert_eq!(response.values("connection"), ["close"]);
        assert!(response.whole);
        assert!(response.text().contains("use https"), "{}", response.text());
        assert!(client.is_closed());
    }
    until(&proxy, HandshakeFailure::PlainHttp, 2);
}

#[test]
fn client_hellos_in_pieces_are_served() {
    let authority = Authority::new();
    let proxy = proxy(Some(tls(&authority.sign(&["photos.example"]))), false, &[]);
    let config = Arc::new(authority.client(&[&TLS13], None));
    for _ in 0..3 {
        let mut client = handshake(proxy.address, "photos.example", &config).unwrap();
        assert_eq!(ask_first(&mut client).unwrap(), "HTTP/1.1 502");
    }
    // A record's header, then the rest; and byte by byte.
    let hello = weak_hello();
    for pieces in [vec![&hello[..1], &hello[1..]], hello.chunks(1).collect()] {
        let before = count(&proxy, HandshakeFailure::Cipher);
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut alert = [0; 7];
        stream.read_exact(&mut alert).unwrap();
        // Fatal, handshake_failure (RFC 8446 §6).
        assert_eq!(alert, [21, 3, 3, 0, 2, 2, 40]);
        until(&proxy, HandshakeFailure::Cipher, before + 1);
    }
}

#[test]
fn mismatches_of_client_and_server_are_counted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.sign(&["photos.example"]);
    let with_clients = || Tls {
        clients: Some(authority.of_clients()),
        ..tls(&pair)
    };
    let expired = authority.sign_expired(&["client"]);
    let strange = other.sign(&["client"]);
    let client = |own| authority.client(&[&TLS13], own);
    let of_alpn = |name: &[u8]| {
        let mut config = client(None);
        config.alpn_protocols = vec![name.to_vec()];
        config
    };
    let cases = [
        (
            with_clients(),
            client(None),
            HandshakeFailure::NoClientCertificate,
        ),
        (
            with_clients(),
            client(Some(&expired)),
            HandshakeFailure::ClientCertificate,
        ),
        (
            with_clients(),
            client(Some(&strange)),
            HandshakeFailure::ClientCertificate,
        ),
        (tls(&pair), of_alpn(b"spdy/3"), HandshakeFailure::Alpn),
        (
            tls(&pair),
            other.client(&[&TLS13], None),
            HandshakeFailure::ClientAlert,
        ),
    ];
    for (tls, config, reason) in cases {
        let proxy = proxy(Some(tls), false, &[]);
        if let Ok(mut client) = handshake(proxy.address, "photos.example", &Arc::new(config)) {
            assert!(ask_first(&mut client).is_err(), "{reason:?}");
        }
        counted_once(&proxy, reason);
    }
}

#[test]
fn a_missing_proxy_header_and_an_unlisted_proxy_are_counted() {
    let get = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
    let cases = [
        (&["127.0.0.1"][..], get, HandshakeFailure::ProxyHeader),
        (
            &["127.0.0.1"],
            "PROXY TCP4 nonsense\r\n",
            HandshakeFailure::ProxyHeader,
        ),
        (&["127.0.0.1"], "PROXY ", HandshakeFailure::Timeout),
        (
            &["192.0.2.1"],
            "PROXY UNKNOWN\r\n",
            HandshakeFailure::UnlistedProxy,
        ),
        (&[], get, HandshakeFailure::UnlistedProxy),
    ];
    for (trusted, bytes, reason) in cases {
        let proxy = proxy(None, true, trusted);
        let _stream = send(proxy.address, bytes.as_bytes());
        counted_once(&proxy, reason);
    }
}

#[test]
fn another_protocol_on_a_plain_listener_is_logged_with_a_hint() {
    let folder = Folder::new("handshakes-plain");
    let cors = folder.write("cors.xml", include_str!("../../config/cors/spa-upload.xml"));
    let upstream = format!("http://{}", refusing());
    let mut proxy = Process::start(&["run", "--upstream", &upstream, "--cors", &cors]);
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    version_2.extend([127, 0, 0, 1, 127, 0, 0, 1, 0, 80, 0, 80]);
    let cases: [(&[u8], &str); 4] = [
        (&weak_hello(), "uses TLS"),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n\r\n",
            "proxy_protocol = true",
        ),
        (&version_2, "client=127.0.0.1"),
        (b"GE\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", "client=127.0.0.1"),
    ];
    for (bytes, expected) in cases {
        let mut stream = send(proxy.address, bytes);
        let mut answer = Vec::new();
        // A reset also counts as an end.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
        let line = proxy.logged("request head refused");
        assert!(line.contains(expected), "{expected} in {line}");
    }
}

/// The binary with a TLS listener.
struct Served {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_failed_handshake_is_logged_with_client_and_hint_and_a_flood_is_summarized() {
    let folder = Folder::new("handshakes");
    let pair = Authority::new().sign(&["photos.example"]);
    folder.write("site.crt", &pair.certificate);
    folder.write("site.key", &pair.key);
    let config = folder.write(
        "s3cors.toml",
        "workers = 1\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         tls = [{ certificate = \"site.crt\", key = \"site.key\" }]\n[admin]\naddress = \"off\"\n\
         [[route]]\nhost = [\"*\"]\nupstream = [\"http://127.0.0.1:1\"]\n",
    );
    let mut child = s3cors(&["run", "--config", &config])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let line = line_with(&mut log, "listening");
    let address = line
        .rsplit_once("address=")
        .unwrap()
        .1
        .trim()
        .parse()
        .unwrap();
    let mut served = Served {
        child,
        log,
        address,
    };

    drop(send(served.address, &old_hello(1)));
    let line = line_with(&mut served.log, "a handshake failed");
    for part in [
        format!("listener=\"{address}\""),
        "client=127.0.0.1".to_owned(),
        "reason=\"tls_version\"".to_owned(),
        "hint=\"the client needs TLS 1.2 or 1.3\"".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    for _ in 0..100 {
        drop(send(served.address, b"SSH-2.0-x\r\n"));
    }
    let line = line_with(&mut served.log, "more handshakes failed");
    assert!(line.contains("reason=\"not_tls\""), "{line}");
}
