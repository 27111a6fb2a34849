//! HTTP/1.1 as bytes: heads, fields and chunks, parsed with one strict meaning ([RFC 9112]).
//!
//! This is the only parser of HTTP/1.1 in the crate. It refuses anything that two parsers could
//! read differently, so that the upstream reads the same request that the policy decided on.
//! `tests/data/smuggling` lists what is refused and why.
//!
//! `request_head` and `response_head` parse heads, `body` and `chunked` parse bodies,
//! `connection_fields` and `claims` list fields that are not forwarded, `request_rules` holds what
//! a request asks for, `response_edit` changes a response, and `client_head` writes its head.
//! Changes to a request are in `proxy::request_edit`, because they tell the upstream who the client
//! is.
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
