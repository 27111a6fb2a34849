//! What to do with an HTTP/1.1 request whose head was read.

use crate::http1::request_head::Framing;

use super::exchange::Exchange;

/// What to do with the bytes that a client sent.
pub enum Action {
    /// Wait for more: the request's head is not complete.
    More,
    /// Write what is in the output, then continue after the request, or close.
    Answered {
        /// How many bytes the request was.
        consumed: usize,
        /// Whether the connection ends with the answer.
        close: bool,
    },
    /// Carry out an exchange; the request's body follows the head.
    Exchange {
        /// How many bytes the head was.
        consumed: usize,
        /// What is to be carried out.
        exchange: Exchange,
    },
    /// Serve this one request as a header map and a body.
    HeaderMapRequest(HeaderMapRequest),
}

/// A request to serve as a header map and a body; its head is valid.
#[derive(Clone, Copy, Debug)]
pub struct HeaderMapRequest {
    /// How many bytes the head is.
    pub head: usize,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether it asks to leave HTTP.
    pub has_upgrade: bool,
    /// Whether the connection ends with it.
    pub closes: bool,
}
