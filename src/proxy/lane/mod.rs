//! The lane for plain exchanges: HTTP/1.1 on both sides and nothing in the request that asks more
//! of a proxy than to be passed on. Heads are copied line by line, bodies as they come; no map of
//! fields is made and no task is woken for another.
//!
//! It is as strict as hyper's path and comes to the same: `wire` reads every head first, what is
//! not plain goes to hyper, and `tests/integration/lane.rs` holds the two equal.
//!
//! Top to bottom: [`look`] reads a request's head and decides; [`exchange`] takes a connection to
//! the upstream, sends and receives; [`upload`] sends what may be sent but once; [`response`] writes
//! the head for the client; [`body`] moves what comes after. [`reply`] reads what
//! an upstream answers.

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
