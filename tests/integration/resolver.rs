//! Upstreams with host names whose addresses change.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use s3cors::config::reload::Outcome;
use s3cors::upstream::local_executor::LocalExecutor;
use s3cors::upstream::resolver::{NameLookup, Resolver};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::Authority;
use crate::support::client::{RawResponse, ask};
use crate::support::configured::Configured;
use crate::support::folder::Folder;

const NAME: &str = "photos.internal";

/// An upper limit for every step.
const PATIENCE: Duration = Duration::from_secs(20);

const OLD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const NEW: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A name whose addresses and clock a test sets.
#[derive(Clone, Default)]
struct Name(Arc<NameState>);

#[derive(Default)]
struct NameState {
    /// `None`: the lookup fails.
    addresses: Mutex<Option<Vec<IpAddr>>>,
    /// How far its clock is ahead, in seconds.
    ahead: AtomicU64,
    told: Mutex<Option<Sender<()>>>,
}

impl Name {
    fn of(addresses: &[IpAddr]) -> Self {
        let name = Self::default();
        name.set(addresses);
        name
    }

    fn set(&self, addresses: &[IpAddr]) {
        *self.0.addresses.lock().unwrap() = Some(addresses.to_vec());
    }

    fn fail(&self) {
        *self.0.addresses.lock().unwrap() = None;
    }

    fn advance(&self, seconds: u64) {
        self.0.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Receives a message for each lookup from now on.
    fn lookups(&self) -> Receiver<()> {
        let (told, lookups) = mpsc::channel();
        *self.0.told.lock().unwrap() = Some(told);
        lookups
    }
}

impl NameLookup for Name {
    fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, NAME);
        let found = match &*self.0.addresses.lock().unwrap() {
            Some(addresses) => Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect()),
            None => Err(io::Error::other("no resolver")),
        };
        if let Some(told) = &*self.0.told.lock().unwrap() {
            // The test may be over.
            let _ = told.send(());
        }
        found
    }

    fn now(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.0.ahead.load(Ordering::SeqCst))
    }
}

/// A server that responds to each request with its address; stopped when dropped.
struct Server {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(listener: TcpListener, tls: Option<Arc<ServerConfig>>, http2: bool) -> Self {
        let address = listener.local_addr().unwrap().ip().to_string();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let accepts = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let (address, tls) = (address.clone(), tls.clone());
                        tokio::task::spawn_local(async move {
                            match tls {
                                None => serve(stream, address, http2).await,
                                Some(tls) => {
                                    // Checks and probes may leave early.
                                    let accepted = TlsAcceptor::from(tls).accept(stream).await;
                                    if let Ok(stream) = accepted {
                                        serve(stream, address, http2).await;
                                    }
                                }
                            }
                        });
                    }
                };
                tokio::select! {
                    () = accepts => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        // From here on, its address refuses.
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    address: String,
    http2: bool,
) {
    let service = service_fn(move |_| {
        let body = Full::new(Bytes::from(address.clone()));
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let stream = TokioIo::new(stream);
    let _ = if http2 {
        let builder = http2::Builder::new(LocalExecutor);
        builder.serve_connection(stream, service).await
    } else {
        let builder = http1::Builder::new();
        builder.serve_connection(stream, service).await
    };
}

/// Listeners on the same port of the old and the new address.
fn listeners() -> (TcpListener, TcpListener) {
    loop {
        let old = TcpListener::bind((OLD, 0)).unwrap();
        // Another test may use the port.
        if let Ok(new) = TcpListener::bind((NEW, old.local_addr().unwrap().port())) {
            return (old, new);
        }
    }
}

/// The protocol of an upstream.
#[derive(Clone, Copy, Debug)]
struct Kind {
    tls: bool,
    http2: bool,
    checks: bool,
}

/// An upstream with a host name, with a server at its old and at its new address, and a proxy.
struct Moving {
    name: Name,
    old: Option<Server>,
    _new: Server,
    proxy: Configured,
    folder: Folder,
}

impl Moving {
    fn start(kind: Kind) -> Self {
        let Kind { tls, http2, checks } = kind;
        let folder = Folder::new();
        let authority = Authority::new();
        folder.write("ca.pem", &authority.pem());
        let (old, new) = listeners();
        let port = old.local_addr().unwrap().port();
        let config = tls.then(|| {
            let pair = authority.sign(&[NAME]);
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![pair.der()], pair.key())
                .unwrap();
            if http2 {
                config.alpn_protocols = vec![b"h2".to_vec()];
            }
            Arc::new(config)
        });
        let scheme = if tls { "https" } else { "http" };
        let trust = if tls {
            "upstream_tls = { ca = 'ca.pem' }\n"
        } else {
            ""
        };
        let health = if checks {
            "health = { check_path = '/health', check_seconds = 1 }\n"
        } else {
            ""
        };
        folder.write(
            "s3cors.toml",
            &format!(
                "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n[[route]]\nname = 'r'\n\
                 host = '*'\nupstream = '{scheme}://{NAME}:{port}'\nupstream_http2 = {http2}\n\
                 {trust}{health}"
            ),
        );
        let name = Name::of(&[OLD]);
        let resolver = Resolver::new(NAME, name.clone());
        let proxy = Configured::resolved_by(&folder.path("s3cors.toml"), &resolver);
        Self {
            old: Some(Server::start(old, config.clone(), http2)),
            _new: Server::start(new, config, http2),
            name,
            proxy,
            folder,
        }
    }

    fn get(&self) -> RawResponse {
        ask(self.proxy.address(), "GET", "/k", &[])
    }

    /// The address that responds to a request.
    fn answered_by(&self) -> IpAddr {
        let answer = self.get();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().parse().unwrap()
    }

    fn assert_moves(&self) {
        let begin = Instant::now();
        while self.answered_by() == OLD {
            assert!(begin.elapsed() < PATIENCE);
        }
        for _ in 0..20 {
            assert_eq!(self.answered_by(), NEW);
        }
    }
}

fn kinds() -> impl Iterator<Item = Kind> {
    (0..8).map(|bits| Kind {
        tls: bits & 1 != 0,
        http2: bits & 2 != 0,
        checks: bits & 4 != 0,
    })
}

fn for_each_kind(test: impl Fn(Kind) + Sync) {
    thread::scope(|scope| {
        for kind in kinds() {
            let test = &test;
            scope.spawn(move || {
                println!("{kind:?}");
                test(kind);
            });
        }
    });
}

#[test]
fn requests_follow_a_name_whose_old_address_refuses() {
    for_each_kind(|kind| {
        let mut moving = Moving::start(kind);
        assert_eq!(moving.answered_by(), OLD);
        moving.name.set(&[NEW]);
        moving.name.advance(10);
        drop(moving.old.take());
        // No request fails.
        assert_eq!(moving.answered_by(), NEW, "{kind:?}");
        moving.assert_moves();
    });
}

#[test]
fn requests_follow_a_name_whose_old_address_still_answers() {
    for_each_kind(|kind| {
        let moving = Moving::start(kind);
        assert_eq!(moving.answered_by(), OLD);
        moving.name.set(&[NEW]);
        moving.name.advance(5);
        moving.assert_moves();
    });
}

#[test]
fn a_name_is_looked_up_again_when_its_young_address_refuses() {
    for_each_kind(|kind| {
        let mut moving = Moving::start(kind);
        assert_eq!(moving.answered_by(), OLD);
        moving.name.set(&[NEW]);
        // No more than needed for another lookup.
        moving.name.advance(1);
        drop(moving.old.take());
        assert_eq!(moving.answered_by(), NEW, "{kind:?}");
    });
}

/// The idle connection would have carried the request to the address that still responds.
#[test]
fn an_idle_connection_to_a_removed_address_is_closed() {
    for http2 in [false, true] {
        let listener = TcpListener::bind((OLD, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = Folder::new();
        folder.write(
            "s3cors.toml",
            &format!(
                "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n[[route]]\nhost = '*'\n\
                 upstream = 'http://{NAME}:{port}'\nupstream_http2 = {http2}\n"
            ),
        );
        let name = Name::of(&[OLD]);
        let resolver = Resolver::new(NAME, name.clone());
        let proxy = Configured::resolved_by(&folder.path("s3cors.toml"), &resolver);
        // A relay that reports when the proxy has closed its connection.
        let (behind, _) = listeners();
        let target = behind.local_addr().unwrap();
        let _server = Server::start(behind, None, http2);
        let relay = thread::spawn(move || {
            let (from, _) = listener.accept().unwrap();
            let to = std::net::TcpStream::connect(target).unwrap();
            let (mut back, mut forth) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut back, &mut forth));
            let (mut from, mut to) = (from, to);
            from.set_read_timeout(Some(PATIENCE)).unwrap();
            io::copy(&mut from, &mut to)
        });
        assert_eq!(ask(proxy.address(), "GET", "/k", &[]).status, 200);
        name.set(&[NEW]);
        name.advance(5);
        // It ends with the connection, without another request.
        relay.join().unwrap().unwrap();
    }
}

#[test]
fn a_failed_lookup_keeps_the_last_addresses() {
    let kind = Kind {
        tls: false,
        http2: false,
        checks: false,
    };
    let mut moving = Moving::start(kind);
    assert_eq!(moving.answered_by(), OLD);
    moving.name.fail();
    for _ in 0..3 {
        moving.name.advance(60);
        assert_eq!(moving.answered_by(), OLD);
    }
    moving.name.set(&[NEW]);
    moving.name.advance(60);
    drop(moving.old.take());
    moving.assert_moves();
}

#[test]
fn one_address_of_several_is_enough() {
    let kind = Kind {
        tls: false,
        http2: true,
        checks: true,
    };
    let mut moving = Moving::start(kind);
    moving.name.set(&[OLD, NEW]);
    moving.name.advance(10);
    drop(moving.old.take());
    for _ in 0..20 {
        assert_eq!(moving.answered_by(), NEW);
    }
}

#[test]
fn a_reload_looks_up_all_names() {
    let kind = Kind {
        tls: false,
        http2: false,
        checks: false,
    };
    let mut moving = Moving::start(kind);
    assert_eq!(moving.answered_by(), OLD);
    let lookups = moving.name.lookups();
    moving.name.set(&[NEW]);
    assert_eq!(moving.proxy.reloader.reload(true), Outcome::Applied);
    lookups.recv_timeout(PATIENCE).unwrap();
    moving.assert_moves();
    // Even a rejected one: the operator asked for the current addresses.
    moving.folder.replace("s3cors.toml", "no config");
    assert_eq!(moving.proxy.reloader.reload(true), Outcome::Rejected);
    lookups.recv_timeout(PATIENCE).unwrap();
}

/// An address that drops packets does not refuse connections: a full backlog acts the same.
#[test]
fn an_unresponsive_address_does_not_delay_a_request_if_there_is_another() {
    let (old, new) = listeners();
    let port = old.local_addr().unwrap().port();
    drop(old);
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::new(OLD, port).into()).unwrap();
    silent.listen(0).unwrap();
    let filler = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // On its way, or already there.
        let _ = socket.connect(&SocketAddr::new(OLD, port).into());
        socket
    };
    let _fill: Vec<_> = (0..4).map(|_| filler()).collect();
    let folder = Folder::new();
    folder.write(
        "s3cors.toml",
        &format!(
            "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n[[route]]\nhost = '*'\n\
             upstream = 'http://{NAME}:{port}'\n"
        ),
    );
    let name = Name::of(&[OLD]);
    let resolver = Resolver::new(NAME, name.clone());
    let proxy = Configured::resolved_by(&folder.path("s3cors.toml"), &resolver);
    let _new = Server::start(new, None, false);
    let lookups = name.lookups();
    let address = proxy.address();
    let asking = thread::spawn(move || ask(address, "GET", "/k", &[]));
    lookups.recv_timeout(PATIENCE).unwrap();
    name.set(&[NEW]);
    name.advance(1);
    let answer = asking.join().unwrap();
    assert_eq!((answer.status, answer.text()), (200, NEW.to_string()));
}
