//! HTTP/1.1 on both sides, forwarded on bytes: heads are copied line by line and bodies as they
//! come, without a header map and without a task besides the connection's.
//!
//! Every HTTP/1.1 request begins here. Requests that are forwarded on a route with `upstream_http2`
//! continue in `server::http1_server`.
//!
//! Top to bottom: [`look`] reads a request's head and decides; [`exchange`] takes a connection to
//! the upstream, sends and receives; [`upload`] sends a request that can be sent only once;
//! [`reply`] reads the upstream's response head; [`response`] writes the head for the client; [`body`]
//! moves the body; [`tunnel`] carries upgraded connections.

mod body;
mod connection;
mod exchange;
mod look;
mod question;
mod reply;
mod response;
mod splice;
mod told;
mod tunnel;
mod upload;

pub(super) use body::{Body as BodyReader, write_at_once};
pub use connection::Raw;
pub(super) use exchange::due;
pub use exchange::{ClientStream, Exchange, Went};
pub use look::{Look, Single};
pub(super) use look::{Received, ends};
pub(super) use reply::{Expected, Interim, NoReply, Received as ReceivedReply};
pub(super) use response::write_line;
pub(super) use splice::Pipes;
pub(super) use told::Answered;
