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
//! lock. Only limits on clients' connections and unfinished heads count over all workers.
//!
//! # Rooms
//!
//! In this order. A room uses only rooms above it, and no files use each other in a circle:
//! `tests/architecture.rs` checks both.
//!
//! | room | what it is |
//! | --- | --- |
//! | [`cors`] | the S3 CORS engine: documents, policies, decisions, explanations; the browser's side of CORS; pure |
//! | `import` | other systems' CORS settings in, S3's rules out, and what that loses |
//! | `text` | how bytes and times are written as text |
//! | `net` | sockets: deadlines, writes, splice, the reserve of descriptors, the check of HTTP/2 trailers |
//! | `tls` | the TLS provider, certificate checks, and what TLS errors mean |
//! | `metrics` | every metric, and the handles that requests count with |
//! | `http1` | HTTP/1.1 as bytes: heads, fields, framing, chunks, hop-by-hop fields, response edits |
//! | `upstream` | resolver, connections, TLS, pool, balance, health checks, request bodies, errors |
//! | `routing` | hosts, buckets, the snapshot, trusted proxies |
//! | `telemetry` | the log queue, the access log, traces, the log of refused requests, the console's events |
//! | `proxy` | one request: dispatch, preflight, forward, response |
//! | `bucket_api` | PutBucketCors, GetBucketCors, DeleteBucketCors: Signature V4, the store of policies |
//! | `explain` | a request that might be made: its route, its policy, the decision |
//! | `server` | threads and sockets: accept loop, handshake, HTTP/1.1, HTTP/2, TLS, drain |
//! | `admin` | the operator's listener: health, metrics, status, CORS console and its live feed |
//! | `config` | files in, snapshot out; notices changes |
//! | `cli` | the commands |
//!
//! Each room owns the types that it wants filled, and `config` fills them: `cors::Policy`,
//! `routing::snapshot::Snapshot`, `server::Settings`, `admin::Settings`. So `proxy` knows nothing
//! of files, and tests build a snapshot without one.
//!
//! The public library is [`cors`]. The other rooms need the feature `proxy`, which is on by default;
//! they are `pub` for the binary, the tests and the benches, and may change at any time. Without
//! default features this crate is the engine alone, with three dependencies.
//!
//! # A request
//!
//! `server::head_reader` reads each HTTP/1.1 head and passes its bytes to `Proxy::handle_head`
//! (`proxy::dispatch`). It parses the head with the one strict parser (`http1::request_head`), finds
//! the route and the policy, and decides. The outcomes (`proxy::action`):
//!
//! - The head is invalid or no route serves it: an error response (`proxy::bad_request`).
//! - It is a preflight (`proxy::preflight`), or another request that the proxy answers itself, such
//!   as `OPTIONS *` (`proxy::own_answer`): the response is written at once.
//! - It is for a bucket's CORS configuration (`?cors`): `proxy::bucket_cors` asks `bucket_api`, or
//!   answers 405.
//! - All upstreams of the route speak HTTP/1.1: `proxy::carry_out` forwards the request as an
//!   `Http1Exchange`. It works on bytes, copies heads line by line, streams bodies (`proxy::upload`,
//!   `proxy::download`), carries upgrades (`proxy::upgrade`), and runs inside the connection's own
//!   future.
//! - The route may use HTTP/2 upstreams (`upstream_http2`): `server::http1_server` reads the request
//!   as a header map and a body.
//!
//! h2, hyper's HTTP/2 engine, serves HTTP/2 clients, in `server::http2`, also with header maps. Both servers of header
//! maps call `Proxy::respond`, which finds the route and the policy, decides, and forwards.
//! `proxy::retry` takes a connection from `upstream::pool`, sends the request over HTTP/1.1
//! (`proxy::http1_client`) or HTTP/2 (`proxy::http2_client`, over hyper), and is the only place
//! on this path that decides whether to send it again. `Policy::mark` adds the CORS fields to the
//! response; on bytes, `Policy::answer` and `Policy::vary` do. `proxy::request_edit` and
//! `http1::response_edit` hold the rules for all other fields of both paths.
//!
//! hyper speaks HTTP/2 to upstreams, serves the admin listener and the demo's store and page, and
//! asks servers for `s3cors probe`. Its HTTP/2 engine, h2, serves clients without hyper's server,
//! which passes on no interim responses and has windows of a fixed size. The data plane's HTTP/1.1 is
//! our own, because of what the proxy needs of it: one strict meaning of each head, names and order
//! of fields as they came, idle connections without a buffer, splice, and the cost per request.
//!
//! # A reload
//!
//! `config::watch` notices a change, `config::load` reads the config and the policy files that
//! changed and checks everything, and `Current::publish` swaps one pointer. Requests under way
//! finish on the snapshot that they began with. An invalid file leaves its route or bucket
//! unchanged. While the config itself is invalid or unreadable, the last good one is used, so that
//! the files it names stay live; a failed read is retried until it succeeds. `/status` and the
//! metrics list what is not in force.
//!
//! # A stop
//!
//! `/readyz` answers 503, and each connection ends after its next response. The drain's delay passes,
//! listeners accept the connections in their backlogs and close, connections without a request end
//! after a grace, and those still open at the deadline are closed and counted.

#![forbid(unsafe_code)]

#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod admin;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod bucket_api;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod config;
pub mod cors;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod explain;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod http1;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod import;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod metrics;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod net;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod proxy;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod routing;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod server;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod telemetry;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod text;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod tls;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod upstream;
