//! The admin listener: health, metrics, status and the CORS console.
//!
//! It is read-only: nothing on it changes state. Browsers cannot use it for other sites: it
//! refuses a `Host` that is not its own (`host`), sends no CORS fields and cannot be framed. It
//! runs on the control thread, next to reloads and signals, never on a worker.

pub(crate) mod answer;
mod connections;
pub(crate) mod console;
mod health;
pub(crate) mod host;
mod listener;
mod live;
mod other_site;
mod reloads;
mod state;
mod status;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::metrics::TEXT_FORMAT;
use crate::server::Bind;
use crate::server::socket::Claim;

use answer::AdminAnswer;
use connections::{AcceptWarning, Connections, HasAsked};
use host::Local;
use listener::{Bound, Stream};
use live::{Collector, Entry, Lease};

pub use health::{Health, Phase};
pub use listener::BindError;
pub use reloads::{OutOfDate, ReloadState, Reloads};
pub use state::State;

/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The time limit for a request's head.
const HEAD_READ: Duration = Duration::from_secs(1);

/// The pause before the next attempt after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait before an older connection is closed for a new one.
const ANSWER_PAUSE: Duration = Duration::from_millis(10);

/// The time limit of a connection; it serves one request.
const CONNECTION: Duration = Duration::from_secs(60);

/// The listener's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its address; `None` disables it.
    pub address: Option<Bind>,
    /// Accepted host names, besides its address and loopback names.
    pub hosts: Vec<String>,
}

/// The bound admin listener.
#[derive(Debug)]
pub struct Admin {
    bound: Bound,
    hosts: Arc<[Box<str>]>,
}

impl Admin {
    /// Binds the listener; `None` if the config disables it. `claim` says which addresses may be
    /// bound.
    ///
    /// # Errors
    ///
    /// [`BindError`], which names the address.
    pub fn bind(settings: &Settings, claim: Claim) -> Result<Option<Self>, BindError> {
        let Some(address) = &settings.address else {
            return Ok(None);
        };
        Ok(Some(Self {
            bound: Bound::new(address, claim)?,
            hosts: settings
                .hosts
                .iter()
                .map(|name| host::listed(name))
                .collect(),
        }))
    }

    /// Its address, with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn address(&self) -> io::Result<Bind> {
        self.bound.address()
    }

    /// Serves until dropped, on the runtime that polls it.
    ///
    /// # Errors
    ///
    /// The system's error if the socket cannot be polled. Failed connections are not errors.
    pub async fn serve(self, state: Arc<State>) -> io::Result<Infallible> {
        let (entry, joining) = Entry::new();
        let collector = Collector::new(state.live.clone(), Arc::clone(&state), joining);
        tokio::select! {
            never = collector.run() => match never {},
            served = self.accept(state, entry) => served,
        }
    }

    async fn accept(self, state: Arc<State>, entry: Entry) -> io::Result<Infallible> {
        let listener = self.bound.listen()?;
        let mut connections = Connections::default();
        let mut warning = AcceptWarning::default();
        loop {
            let (stream, local) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warning.failed(&error);
                    // Serves existing connections while waiting: after one has taken the last
                    // descriptor, the next attempt fails even if no client waits.
                    tokio::time::sleep(ANSWER_PAUSE).await;
                    // Without a descriptor, an older connection must make room.
                    if !connections.forget_ended() && !connections.close_one().await {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let is_in_reserve = stream.is_in_reserve();
            let serving = Serving {
                local,
                state: Arc::clone(&state),
                hosts: Arc::clone(&self.hosts),
                entry: entry.clone(),
                lease: Arc::default(),
            };
            let serve = |has_asked| async move {
                let lease = Arc::clone(&serving.lease);
                tokio::select! {
                    () = connection(stream, &serving, has_asked) => {}
                    // Cut at the end of its time; nothing to report.
                    () = lease.ended(CONNECTION) => {}
                }
            };
            connections.add(is_in_reserve, serve).await;
        }
    }
}

/// The shared context of connections.
struct Serving {
    local: Local,
    state: Arc<State>,
    hosts: Arc<[Box<str>]>,
    entry: Entry,
    lease: Arc<Lease>,
}

async fn connection(stream: Box<dyn Stream>, serving: &Serving, has_asked: HasAsked) {
    let service = service_fn(|request| {
        has_asked.set();
        let answer = serving.respond(&request);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin listener failed");
    }
}

impl Serving {
    fn respond<B>(&self, request: &Request<B>) -> AdminAnswer {
        let Self {
            local,
            state,
            hosts,
            ..
        } = self;
        if let Err(status) = host::check(request, *local, hosts) {
            return answer::text(
                status,
                "this is the s3cors admin listener, and the request's Host is not one of its names; use its IP address or localhost, or add the name to `admin.hosts` in the config",
            );
        }
        if *local == Local::Tcp && other_site::asks(request) {
            return answer::text(
                StatusCode::FORBIDDEN,
                "this is the s3cors admin listener, and the request is from a page of another site; open /cors here instead",
            );
        }
        if request.uri().path() == "/cors/live" && *request.method() == Method::GET {
            return self.entry.join(&self.lease);
        }
        let page: fn(&Request<B>, &State) -> AdminAnswer = match request.uri().path() {
            "/" => root,
            "/livez" => |_, state| live(state.heartbeats.stuck()),
            "/readyz" => |_, state| ready(state.health.phase()),
            "/metrics" => {
                |_, state| answer::with(StatusCode::OK, TEXT_FORMAT, state.metrics.encode())
            }
            "/status" => status_page,
            "/cors" => console::cors,
            "/cors/live" => |_, _| Entry::head(),
            "/console.js" => |_, _| console::script(),
            "/console.css" => |_, _| console::style(),
            path if path.starts_with("/console/") => |request, _| {
                let module = console::module(request.uri().path());
                module.unwrap_or_else(|| answer::text(StatusCode::NOT_FOUND, PATHS))
            },
            _ => return answer::text(StatusCode::NOT_FOUND, PATHS),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            page(request, state)
        } else {
            answer::method_not_allowed()
        }
    }
}

/// The paths that can be requested.
const PATHS: &str = "s3cors: /livez /readyz /metrics /status /cors /cors/live";

fn root<B>(request: &Request<B>, _: &State) -> AdminAnswer {
    if console::prefers_html(request.headers()) {
        answer::see("/cors")
    } else {
        answer::text(StatusCode::OK, PATHS)
    }
}

fn status_page<B>(request: &Request<B>, state: &State) -> AdminAnswer {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let route = pairs.find_map(|(name, value)| (name == "route").then_some(value));
    answer::json(StatusCode::OK, &status::status(state, route.as_deref()))
}

fn live(stuck: usize) -> AdminAnswer {
    match stuck {
        0 => answer::text(StatusCode::OK, "ok"),
        stuck => answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("{stuck} worker threads have not turned their loop for 5 seconds"),
        ),
    }
}

fn ready(phase: Phase) -> AdminAnswer {
    let status = match phase {
        Phase::Serving => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    answer::text(status, phase.as_str())
}
