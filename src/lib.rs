//! s3cors: a reverse proxy that adds S3-compliant CORS in front of any upstream, and says why a
//! browser was refused.
//!
//! This page is the architecture. What users need is in the README; what the proxy promises to
//! scripts and tools is there too.
//!
//! ```text
//!              ┌───────────────── control thread ───────────────────┐
//!  config/ ──▶ │ config: read, check, build ──▶ Snapshot ──▶ publish │──┐  ArcSwap
//!              │ admin: metrics, health, CORS console · signals      │  │
//!              └─────────────────────────────────────────────────────┘  │
//!              ┌──────── worker thread × N, nothing shared ─────────┐   │
//!  client ───▶ │ accept ─▶ proxy: route ─▶ cors ─▶ upstream ─▶ mark │◀──┘
//!              └──────────────────────────┬─────────────────────────┘
//!                                         ▼ upstream (S3, MinIO, anything)
//! ```
//!
//! Three sentences carry it. **The engine is pure**: [`cors`] turns a request's head into a
//! decision and touches nothing else. **A request sees one immutable snapshot**: whatever can be
//! known at load is computed at load. **A worker shares nothing that it writes to**: it has its
//! own runtime, listening sockets, upstream connections and counters, so the request path has no
//! lock.
//!
//! # Rooms
//!
//! In this order; a module uses only what stands before it, and `tests/architecture.rs` holds it
//! to that.
//!
//! | room | what it is | may use |
//! | --- | --- | --- |
//! | [`cors`] | the S3 CORS engine: documents, policies, decisions, explanations | nothing here |
//! | `import` | other systems' CORS settings in, S3's rules out, and what that loses | `cors` |
//! | `metrics` | every metric, one list; the handles that requests count with | `cors` |
//! | `telemetry` | the process log: its queue and its rate limits | `metrics` |
//! | `proxy` | one request: route, decide, forward, mark | `cors`, `metrics`, `telemetry` |
//! | `server` | threads and sockets | `metrics`, `proxy`, `telemetry` |
//! | `admin` | the operator's listener: health, metrics, status, CORS console | `cors`, `metrics`, `proxy`, `server` |
//! | `config` | files in, snapshot out; notices changes | all above |
//! | `cli` | the commands | all above |
//!
//! Each room owns the types that it wants filled, and `config` fills them: `cors::Policy`,
//! `proxy::snapshot::Snapshot`, `server::Settings`, `admin::Settings`. So `proxy` knows nothing
//! of files, and tests build a snapshot without one.
//!
//! The public library is [`cors`]. The other rooms need the feature `proxy`, which is on by default;
//! they are `pub` for the binary, the tests and the benches, and may change at any time. Without
//! default features this crate is the engine alone, with three dependencies.
//!
//! # A request
//!
//! `server::wait` reads every HTTP/1.1 head, by the one strict meaning that `proxy::wire` has
//! of it, and asks `Proxy::look` what is to be done. A head that is refused is answered by what can
//! be made out of it (`proxy::bad_request`), a plain preflight there and then (`proxy::edge`). A
//! plain request is carried out by `proxy::lane`: heads are copied line by line, bodies as they
//! come, inside the connection's own future. Any other HTTP/1.1 request is served by
//! `server::http1_server` as a map of fields and a body; HTTP/2 clients are served by hyper, in
//! `server::http2`.
//!
//! Both ask `proxy::Proxy::respond`, which is the whole way from a head to a response, top to
//! bottom: the snapshot, the route of its host, the policy of its bucket, the decision. What is
//! forwarded goes to `proxy::retry`, the one place that decides whether a request is sent again. It
//! takes a connection from `proxy::pool` and speaks HTTP/1.1 (`proxy::http1_client`, our own) or
//! HTTP/2 (`proxy::http2_client`, over hyper) on it. The response comes back through `Policy::mark`.
//! The lane comes to the same by `Policy::answer` and `Policy::vary`; `tests/integration/lane.rs`
//! holds the two equal.
//!
//! # A reload
//!
//! `config::watch` notices a change, `config::load` reads the config and the policy files that
//! changed and checks everything, and `Current::publish` swaps one pointer. Requests under way finish on the snapshot that they began
//! with. An invalid file changes nothing for its route or bucket. While the config itself is invalid or
//! unreadable, its last good text stands in, so that the files it names stay live; a failed read
//! is retried until it succeeds. `/status` and the metrics say what is not in force.
//!
//! # A stop
//!
//! `/readyz` says 503, the drain's delay passes, listeners accept whoever waits already and close,
//! each connection ends with the response that it is owed, and what is left at the deadline is
//! cut and counted.

#![forbid(unsafe_code)]

#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod admin;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod config;
pub mod cors;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod import;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod metrics;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod proxy;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod server;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod telemetry;
