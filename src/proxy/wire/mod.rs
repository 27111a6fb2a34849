//! HTTP/1.1 as bytes: heads and chunks, read by one strict meaning ([RFC 9112]).
//!
//! The only parser of HTTP/1.1 in this crate. It refuses what two parsers could read differently, so
//! that no upstream reads another request than the one that was decided on. `tests/data/smuggling`
//! lists what is refused and why.
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112

mod chunked;
mod fields;
mod glimpse;
mod request;
mod response;
mod trailers;

pub(super) use chunked::TrailerPolicy;
pub use chunked::{Chunked, InvalidChunk};
pub use fields::Field;
pub(super) use fields::{CLOSE, Fields, authenticates_connection, copy_runs, offset};
pub(super) use glimpse::Glimpse;
pub(super) use request::parse_length;
pub use request::{Connection, Framing, HeadError, RequestHead, read_request};
pub(super) use response::{InvalidResponse, ResponseBody, ResponseHead, read_response};
pub(super) use trailers::without_head_fields;
