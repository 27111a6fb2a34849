//! Upstreams: where requests are forwarded to.
//!
//! `endpoint` is one upstream and its settings. `resolver` resolves its name, `stream` connects,
//! `pool` keeps one worker's connections and chooses by `balance`, and `health`, `health_check` and
//! `reinstate` decide which upstreams get requests. `request_body` is the body that requests send,
//! `http1_response` reads responses, and `error` lists every reason why a request fails, with the
//! status that the client gets.

pub(crate) mod balance;
pub mod body_error;
pub mod check_settings;
pub mod client_body;
pub(crate) mod direct;
pub mod endpoint;
pub mod error;
pub mod health;
pub mod health_check;
pub(crate) mod http1_conn;
pub(crate) mod http1_once;
pub(crate) mod http1_response;
pub(crate) mod http2_body;
pub(crate) mod lifetime;
pub mod local_executor;
pub(crate) mod pool;
pub(crate) mod reinstate;
pub(crate) mod replay_body;
pub mod request_body;
pub mod request_stream;
pub mod resolver;
pub mod start_check;
pub(crate) mod stream;
pub mod tls;
pub mod unread_bodies;
