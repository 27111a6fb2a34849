//! TLS to upstreams: trusted certificates, client certificates, and changed files.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use s3cors::config::reload::Outcome;
use s3cors::upstream::local_executor::LocalExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::{Authority, Pair, made_by_openssl, self_signed};
use crate::support::client::{RawClient, RawResponse, ask};
use crate::support::configured::Configured;
use crate::support::folder::Folder;

/// A TLS upstream that responds with the handshake's properties: the protocol, the requested
/// name, and the number of client certificates.
fn upstream(pair: &Pair, clients: Option<&Authority>, protocols: &[&[u8]]) -> SocketAddr {
    answering(pair, clients, protocols, "")
}

/// The same, but over HTTP/1.1 it responds with the bytes of `script`, unless that is empty.
fn answering(
    pair: &Pair,
    clients: Option<&Authority>,
    protocols: &[&[u8]],
    script: &'static str,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let authority = CertificateDer::from_pem_slice(authority.pem().as_bytes());
            roots.add(authority.unwrap()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder
        .with_single_cert(vec![pair.der()], pair.key())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let (told, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(serve(acceptor.clone(), stream, script));
            }
        });
    });
    address.recv().unwrap()
}

async fn serve(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, script: &str) {
    // Failed handshakes are checked by the test.
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    if !script.is_empty() {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(script.as_bytes()).await.unwrap();
        return stream.flush().await.unwrap();
    }
    let (_, tls) = stream.get_ref();
    let is_http2 = tls.alpn_protocol() == Some(b"h2");
    let shown = format!(
        "{} {} {}",
        String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default()),
        tls.server_name().unwrap_or("-"),
        tls.peer_certificates().map_or(0, <[_]>::len)
    );
    let service = service_fn(move |_| {
        let body = Full::new(Bytes::from(shown.clone()));
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let stream = TokioIo::new(stream);
    let _ = if is_http2 {
        let builder = http2::Builder::new(LocalExecutor);
        builder.serve_connection(stream, service).await
    } else {
        let builder = http1::Builder::new();
        builder.serve_connection(stream, service).await
    };
}

/// A proxy with one route to `upstream` and these additional keys.
fn proxy(folder: &Folder, upstream: &str, keys: &str) -> Configured {
    folder.write(
        "s3cors.toml",
        &format!(
            "workers = 1\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nname = \"r\"\nhost = \"*\"\nupstream = \"https://{upstream}\"\n{keys}\n"
        ),
    );
    Configured::start(&folder.path("s3cors.toml"))
}

fn get(proxy: &Configured) -> RawResponse {
    ask(proxy.address(), "GET", "/k", &[])
}

fn errors(proxy: &Configured, reason: &str) -> Option<String> {
    let text = proxy.metrics.encode();
    let series = format!("s3cors_upstream_errors_total{{route=\"r\",reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&*series))?;
    Some(count.to_owned())
}

#[test]
fn an_upstream_is_trusted_by_its_authority_and_its_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    folder.write("other.pem", &stranger.pem());
    let here = upstream(&authority.sign(&["127.0.0.1"]), None, &[]);
    let named = upstream(&authority.sign(&["minio.internal"]), None, &[b"http/1.1"]);
    let ca = "upstream_tls = { ca = \"ca.pem\" }";
    let other = "upstream_tls = { ca = \"other.pem\" }";
    let name = "upstream_tls = { ca = \"ca.pem\", server_name = \"minio.internal\" }";
    for (upstream, keys, expected) in [
        (here, ca, Some(" - 0")),
        (here, other, None),
        // The system's authorities do not include it.
        (here, "", None),
        (named, ca, None),
        (named, name, Some("http/1.1 minio.internal 0")),
        (here, name, None),
    ] {
        let proxy = proxy(&folder, &upstream.to_string(), keys);
        let answer = get(&proxy);
        match expected {
            Some(shown) => assert_eq!((answer.status, &*answer.text()), (200, shown), "{keys}"),
            None => {
                assert_eq!(answer.status, 502, "{keys}: {}", answer.text());
                assert_eq!(errors(&proxy, "tls").as_deref(), Some("1"), "{keys}");
            }
        }
    }
}

/// A separate process, which has its own log.
#[test]
fn an_expired_certificate_is_refused_readably_and_the_log_says_so() {
    let authority = Authority::new();
    let upstream = upstream(&authority.sign_expired(&["127.0.0.1"]), None, &[]);
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    folder.write(
        "cors.xml",
        "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>",
    );
    folder.write(
        "s3cors.toml",
        &format!(
            "workers = 1\n[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"off\"\n\
             [[route]]\nhost = \"*\"\nupstream = \"https://{upstream}\"\ncors = \"cors.xml\"\n\
             upstream_tls = {{ ca = \"ca.pem\" }}\n"
        ),
    );
    let mut process = Command::new(env!("CARGO_BIN_EXE_s3cors"))
        .args(["run", "--config"])
        .arg(folder.path("s3cors.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut line_with = |what| log.find_map(|line| line.ok().filter(|line| line.contains(what)));
    let listening = line_with("address=").unwrap();
    let (_, address) = listening.rsplit_once("address=").unwrap();
    let origin = [("Origin", "https://app.example")];
    let answer = ask(address.trim().parse().unwrap(), "GET", "/k", &origin);
    let failed = line_with("upstream failed");
    process.kill().unwrap();
    process.wait().unwrap();

    assert_eq!(answer.status, 502);
    let allowed = answer.values("access-control-allow-origin");
    assert_eq!(allowed, ["https://app.example"]);
    let id = answer.values("x-amz-request-id")[0];
    assert!(answer.text().contains("<Code>BadGateway</Code>"));
    // Its trust settings are not shown to clients.
    assert!(!answer.text().contains("certificate"));
    let failed = failed.unwrap();
    assert!(failed.contains(id), "{failed}");
    assert!(failed.contains("certificate expired"), "{failed}");
}

#[test]
fn an_upstream_that_requires_a_certificate_gets_one() {
    let authority = Authority::new();
    let own = authority.sign(&[]);
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    folder.write("own.crt", &own.certificate);
    folder.write("own.key", &own.key);
    let upstream = upstream(&authority.sign(&["127.0.0.1"]), Some(&authority), &[]);
    let upstream = upstream.to_string();
    let without = proxy(&folder, &upstream, "upstream_tls = { ca = \"ca.pem\" }");
    assert_eq!(get(&without).status, 502);
    let shown = "upstream_tls = { ca = \"ca.pem\", certificate = \"own.crt\", key = \"own.key\" }";
    let with = proxy(&folder, &upstream, shown);
    let answer = get(&with);
    assert_eq!((answer.status, &*answer.text()), (200, " - 1"));
}

#[test]
fn http2_is_used_if_both_sides_support_it() {
    let authority = Authority::new();
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    let pair = authority.sign(&["127.0.0.1"]);
    let both = upstream(&pair, None, &[b"h2", b"http/1.1"]);
    let old = upstream(&pair, None, &[b"http/1.1"]);
    for (upstream, http2, expected) in [
        (both, true, "h2 - 0"),
        (both, false, "http/1.1 - 0"),
        (old, true, "http/1.1 - 0"),
    ] {
        let keys = format!("upstream_http2 = {http2}\nupstream_tls = {{ ca = \"ca.pem\" }}");
        let proxy = proxy(&folder, &upstream.to_string(), &keys);
        let answer = get(&proxy);
        assert_eq!((answer.status, &*answer.text()), (200, expected), "{keys}");
    }
}

#[test]
fn an_upgrade_uses_http1_although_http2_is_negotiated_otherwise() {
    let authority = Authority::new();
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    let pair = authority.sign(&["127.0.0.1"]);
    let upstream = upstream(&pair, None, &[b"h2", b"http/1.1"]).to_string();
    let keys = "upstream_http2 = true\nupstream_tls = { ca = \"ca.pem\" }";
    let proxy = proxy(&folder, &upstream, keys);
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    for (fields, expected) in [(&upgrade[..], "http/1.1 - 0"), (&[], "h2 - 0")] {
        let answer = ask(proxy.address(), "GET", "/k", fields);
        assert_eq!((answer.status, &*answer.text()), (200, expected));
    }
}

#[test]
fn interim_responses_pass_if_http1_is_negotiated() {
    let authority = Authority::new();
    let pair = authority.sign(&["127.0.0.1"]);
    let script = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let address = answering(&pair, None, &[b"http/1.1"], script);
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    let keys = "upstream_http2 = true\nupstream_tls = { ca = \"ca.pem\" }";
    let proxy = proxy(&folder, &address.to_string(), keys);
    for (version, interim) in [("1.1", &[103, 102][..]), ("1.0", &[])] {
        let mut client = RawClient::connect(proxy.address());
        client.send(format!(
            "GET /k HTTP/{version}\r\nHost: photos.example\r\n\r\n"
        ));
        for expected in interim {
            let (status, fields) = client.head();
            assert_eq!(status, *expected);
            assert_eq!(fields.contains_key("link"), status == 103);
        }
        let response = client.receive("GET");
        assert_eq!(
            (response.status, &*response.text()),
            (200, "ok"),
            "{version}"
        );
    }
}

#[test]
fn changed_files_are_trusted_at_once_and_broken_ones_change_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    folder.write("ca.pem", &old.pem());
    let upstream = upstream(&old.sign(&["127.0.0.1"]), None, &[]).to_string();
    let mut proxy = proxy(&folder, &upstream, "upstream_tls = { ca = \"ca.pem\" }");
    assert_eq!(get(&proxy).status, 200);

    folder.replace("ca.pem", "no certificate");
    assert_eq!(proxy.reloader.reload(false), Outcome::Rejected);
    assert_eq!(get(&proxy).status, 200);

    folder.replace("ca.pem", &new.pem());
    assert_eq!(proxy.reloader.reload(false), Outcome::Applied);
    assert_eq!(get(&proxy).status, 502);

    folder.replace("ca.pem", &format!("{}{}", new.pem(), old.pem()));
    assert_eq!(proxy.reloader.reload(false), Outcome::Applied);
    assert_eq!(get(&proxy).status, 200);
}

#[test]
fn a_listed_leaf_certificate_is_trusted_for_its_names_and_validity() {
    let authority = Authority::new();
    let expired = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 12, 31);
    };
    let own = self_signed(&["127.0.0.1"], |_| {});
    for (pair, listed, name, status) in [
        (&made_by_openssl(), None, "127.0.0.1", 200),
        (&made_by_openssl(), None, "minio.internal", 200),
        (&made_by_openssl(), None, "other.internal", 502),
        (&own, None, "127.0.0.1", 200),
        (
            &self_signed(&["other.internal"], |_| {}),
            None,
            "127.0.0.1",
            502,
        ),
        (
            &self_signed(&["127.0.0.1"], expired),
            None,
            "127.0.0.1",
            502,
        ),
        // Another certificate for the same names.
        (
            &own,
            Some(self_signed(&["127.0.0.1"], |_| {})),
            "127.0.0.1",
            502,
        ),
        // Its issuer is not listed.
        (&authority.sign(&["127.0.0.1"]), None, "127.0.0.1", 200),
        (&authority.sign(&["other.internal"]), None, "127.0.0.1", 502),
        (
            &authority.sign_expired(&["127.0.0.1"]),
            None,
            "127.0.0.1",
            502,
        ),
    ] {
        let folder = Folder::new();
        let listed = listed.as_ref().unwrap_or(pair);
        // Next to an authority, as in most bundles.
        let stranger = Authority::new().pem();
        folder.write("ca.pem", &format!("{stranger}{}", listed.certificate));
        let upstream = upstream(pair, None, &[]).to_string();
        let keys = format!("upstream_tls = {{ ca = 'ca.pem', server_name = '{name}' }}");
        let answer = get(&proxy(&folder, &upstream, &keys));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
}

#[test]
fn a_pinned_key_is_trusted_alone_or_in_addition_to_authorities() {
    // openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin -outform DER |
    // openssl dgst -sha256 -binary | base64
    const PIN: &str = "sha256/lnEsCFqZDZgtK5dbdjpsiy0qeuinDTKgDz06p6UerFU=";
    const OTHER: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let pair = made_by_openssl();
    let folder = Folder::new();
    folder.write("ca.pem", &pair.certificate);
    folder.write("other.pem", &Authority::new().pem());
    let upstream = upstream(&pair, None, &[]).to_string();
    for (keys, status) in [
        (format!("pin = ['{PIN}']"), 200),
        (format!("pin = ['{OTHER}', '{PIN}']"), 200),
        // As curl writes it.
        (format!("pin = ['{}']", PIN.replacen('/', "//", 1)), 200),
        (format!("pin = ['{OTHER}']"), 502),
        // Whatever its name.
        (
            format!("pin = ['{PIN}'], server_name = 'other.internal'"),
            200,
        ),
        // With authorities, both must accept it.
        (format!("pin = ['{PIN}'], ca = 'ca.pem'"), 200),
        (format!("pin = ['{OTHER}'], ca = 'ca.pem'"), 502),
        (format!("pin = ['{PIN}'], ca = 'other.pem'"), 502),
        (
            format!("pin = ['{PIN}'], ca = 'ca.pem', server_name = 'other.internal'"),
            502,
        ),
    ] {
        let proxy = proxy(&folder, &upstream, &format!("upstream_tls = {{ {keys} }}"));
        assert_eq!(get(&proxy).status, status, "{keys}");
    }
}

#[test]
fn a_pin_is_a_hash_of_32_bytes() {
    let folder = Folder::new();
    for pin in [
        "",
        "sha256/",
        "sha256/AAAA",
        "sha1/lnEsCFqZDZgtK5dbdjpsiy0qeuinDTKgDz06p6UerFU=",
        "lnEsCFqZDZgtK5dbdjpsiy0qeuinDTKgDz06p6UerFU=",
        "sha256/lnEsCFqZDZgtK5dbdjpsiy0qeuinDTKgDz06p6UerFU==",
    ] {
        let config = format!(
            "[[route]]\nhost = '*'\nupstream = 'https://a.example'\nupstream_tls = {{ pin = ['{pin}'] }}\n"
        );
        folder.write("s3cors.toml", &config);
        let loaded = s3cors::config::load(&s3cors::config::Input::file(folder.path("s3cors.toml")));
        assert_eq!(loaded.report.errors(), 1, "{pin}");
    }
}
