//! What to do with an HTTP/1.1 request after reading its head.

use crate::http1::request_head::Framing;

use super::exchange::Http1Exchange;

/// What to do with the bytes that a client sent.
pub enum Action {
    /// Wait for more bytes: the request's head is incomplete.
    More,
    /// Write what is in the output, then continue after the request, or close.
    Answered {
        /// The length of the request in bytes.
        consumed: usize,
        /// Whether the connection closes after the response.
        close: bool,
    },
    /// Carry out an exchange; the request's body follows the head.
    Exchange {
        /// The length of the head in bytes.
        consumed: usize,
        /// The exchange.
        exchange: Http1Exchange,
    },
    /// Serve this one request as a header map and a body.
    HeaderMapRequest(HeaderMapRequest),
}

/// A request to serve as a header map and a body; its head is valid.
#[derive(Clone, Copy, Debug)]
pub struct HeaderMapRequest {
    /// The length of the head in bytes.
    pub head: usize,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether it asks to switch protocols.
    pub has_upgrade: bool,
    /// Whether the connection closes after it.
    pub closes: bool,
}
