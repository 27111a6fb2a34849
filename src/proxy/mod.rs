//! One request: its route, the decision, forwarding, and the response.
//!
//! Byte-level HTTP/1.1 requests: `dispatch` decides what to do (`action`), `preflight` and
//! `own_answer` answer directly, and `carry_out` forwards an `Http1Exchange` with `upload`, `download`
//! and `upgrade`. Requests with a header map (HTTP/2 clients, HTTP/2 upstreams): `respond` decides
//! and forwards, with `retry`, `http1_client` and `http2_client`. `counting`, `access_record` and
//! `log_guard` record both.
//!
//! This module does not depend on files or threads.

pub(crate) mod access_note;
pub(crate) mod access_record;
pub(crate) mod action;
pub(crate) mod bad_request;
pub(crate) mod body_error;
pub(crate) mod bucket_cors;
pub(crate) mod carry_out;
pub(crate) mod cors_question;
pub(crate) mod counted_stream;
pub(crate) mod counting;
pub(crate) mod date_line;
pub(crate) mod dispatch;
pub(crate) mod download;
pub(crate) mod exchange;
pub(crate) mod failure_answer;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod header_map;
pub(crate) mod header_map_tunnel;
pub(crate) mod http1_client;
pub mod http1_heads;
pub(crate) mod http2_client;
pub(crate) mod log_guard;
pub(crate) mod moved_bytes;
pub(crate) mod no_response;
pub(crate) mod own_answer;
pub(crate) mod own_response;
pub(crate) mod preflight;
pub(crate) mod read_ahead;
pub(crate) mod received;
pub(crate) mod request_edit;
pub(crate) mod request_id;
pub(crate) mod respond;
pub mod response_body;
pub(crate) mod retry;
pub(crate) mod running_exchange;
pub(crate) mod state;
pub(crate) mod tick;
pub(crate) mod tunnel;
pub(crate) mod untaken;
pub(crate) mod upgrade;
pub(crate) mod upload;
pub(crate) mod verdict;
pub(crate) mod verdict_basis;
pub(crate) mod websocket;

pub use action::{Action, HeaderMapRequest};
pub use exchange::Http1Exchange;
pub use running_exchange::ConnFate;
pub use state::Proxy;
