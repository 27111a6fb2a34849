//! Shared by the reference proxies: their command line, the CORS rule, and a thread per core.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub const METHODS: &str = "GET, PUT, POST, DELETE, HEAD";
pub const EXPOSED: &str = "ETag, x-amz-request-id";
pub const VARY_PREFLIGHT: &str =
    "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// The value after an argument.
pub fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

pub fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

pub fn upstream() -> SocketAddr {
    let address = argument("--upstream").expect("--upstream ADDRESS:PORT");
    address.parse().expect("an address and a port")
}

/// Whether an origin is `https://*.example.com`.
pub fn is_allowed(origin: &[u8]) -> bool {
    let below = origin.strip_prefix(b"https://");
    let below = below.and_then(|host| host.strip_suffix(b".example.com"));
    below.is_some_and(|label| !label.is_empty())
}

/// Runs `worker` on each of `--threads` threads, each with its own runtime.
pub fn on_each_core<F: Future>(worker: fn() -> F) {
    let threads = argument("--threads").map_or(2, |count| count.parse().expect("a number"));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().expect("a runtime");
                tokio::task::LocalSet::new().block_on(&runtime, worker());
            });
        }
    });
}

/// Accepts connections on the address after `argument`, forever; does nothing if the argument is
/// missing.
pub async fn accept_each(name: &str, serve: impl Fn(TcpStream)) {
    let Some(address) = argument(name) else {
        return;
    };
    let listener = listen(address.parse().expect("an address and a port"));
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            serve(stream);
        }
    }
}

/// This thread's own socket on an address that all threads share.
fn listen(address: SocketAddr) -> TcpListener {
    use socket2::{Domain, Socket, Type};
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        TcpListener::from_std(socket.into())
    };
    bound().expect("the address can be bound")
}

/// TLS with `--cert` and `--key`; `None` without them.
pub fn tls(protocols: &[&[u8]]) -> Option<Arc<ServerConfig>> {
    let (certificate, key) = (argument("--cert")?, argument("--key")?);
    let chain = CertificateDer::pem_file_iter(certificate).expect("a file of certificates");
    let chain = chain.map(|one| one.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let builder = ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    Some(Arc::new(config))
}
