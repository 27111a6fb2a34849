//! HTTP/1.1 as bytes: heads, fields and chunks, read with one strict meaning ([RFC 9112]).
//!
//! The only parser of HTTP/1.1 in this crate. It refuses what two parsers could read differently, so
//! that no upstream reads another request than the one that was decided on. `tests/data/smuggling`
//! lists what is refused and why.
//!
//! `request_head` and `response_head` parse heads, `body` and `chunked` read bodies,
//! `connection_fields` and `claims` say which fields are not passed on, `request_rules` what a request
//! asks for, `response_edit` changes a response, and `client_head` writes its head. What changes in a
//! request is in `proxy::request_edit`: it says who the client is.
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112

pub(crate) mod body;
pub mod body_writer;
pub(crate) mod buffers;
pub mod chunked;
pub(crate) mod claims;
pub(crate) mod client_head;
pub(crate) mod connection_fields;
pub mod fields;
pub(crate) mod partial_head;
pub mod request_head;
pub(crate) mod request_rules;
pub(crate) mod response_edit;
pub(crate) mod response_head;
pub(crate) mod target;
pub(crate) mod trailers;
