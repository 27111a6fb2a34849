//! Reads an upstream's response up to the head of the final one.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, ReadBuf};

use crate::http1::buffers::Scratch;
use crate::http1::client_head::write_interim;
use crate::http1::response_head::{InvalidResponse, ResponseHead, read_response};
use crate::net::deadline::Deadline;
use crate::net::write::write_all;

use super::balance::InFlight;
use super::endpoint::{Upstream, UpstreamLimits};
use super::error::{Error, MANY_INTERIM};
use super::http1_conn::Http1Conn;

/// What was received from the upstream and not yet passed on.
#[derive(Default)]
pub(crate) struct PartialResponse {
    /// Part of a head.
    pub(crate) bytes: Vec<u8>,
    /// Whether these bytes have not been parsed yet.
    pub(crate) is_new: bool,
    /// How many interim responses arrived.
    interim: usize,
    /// Which of them the client gets.
    passes: Interim,
    /// Those that are still to be sent to the client.
    pub(crate) passed_on: Vec<u8>,
    /// Whether `100 Continue` was among them, or was sent by the proxy.
    pub(crate) is_continued: bool,
}

/// Which interim responses (1xx) a client gets ([RFC 9110 §15.2]).
///
/// [RFC 9110 §15.2]: https://www.rfc-editor.org/rfc/rfc9110#section-15.2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Interim {
    /// None: HTTP/1.0 does not have them.
    #[default]
    None,
    /// All except `100 Continue`, which the client did not ask for.
    Unasked,
    /// All: the client waits for `100 Continue`.
    All,
}

/// What is known of a response before it arrives.
pub(crate) struct ExpectedResponse<'l> {
    pub(crate) limits: &'l UpstreamLimits,
    /// Whether the request was a `HEAD`.
    pub(crate) to_head: bool,
    /// How much is read at once, in bytes.
    pub(crate) piece: usize,
    /// Whether the request may be repeated on another connection.
    pub(crate) may_repeat: bool,
    /// Whether the request asks to switch protocols.
    pub(crate) may_switch: bool,
}

/// Why there is no response.
pub(crate) enum NoReply {
    Closed(io::Error),
    /// The upstream sent something that cannot be passed on.
    Unacceptable(Cow<'static, str>),
    /// The upstream sent more than a limit allows.
    OverLimit(&'static str),
    Late,
}

impl From<InvalidResponse> for NoReply {
    fn from(error: InvalidResponse) -> Self {
        match error {
            InvalidResponse::TooManyFields => {
                Self::OverLimit("more fields than `response_header_count`")
            }
            InvalidResponse::Malformed(what) => Self::Unacceptable(what),
        }
    }
}

/// What kind of head was read.
enum Next<R> {
    /// An interim response of this length; whether it switches protocols without having been asked.
    Interim(usize, bool),
    TooLong,
    /// Not a response to this request: the upstream was about to close the connection.
    Unsolicited,
    Final(R),
}

/// Whether a response belongs to no request: an upstream may send it just before it closes an idle
/// connection, at the moment when that connection is used again ([RFC 9110 §15.5.9]).
///
/// [RFC 9110 §15.5.9]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9
fn is_unsolicited(head: &ResponseHead<'_, '_>) -> bool {
    head.status == StatusCode::REQUEST_TIMEOUT && head.closes
}

impl PartialResponse {
    /// An empty response; `passes` says which interim responses the client gets.
    pub(crate) fn nothing(passes: Interim) -> Self {
        Self {
            passes,
            ..Self::default()
        }
    }

    /// Takes the interim responses at the front; false: something else follows.
    pub(crate) fn take_interim(&mut self, limits: &UpstreamLimits) -> bool {
        loop {
            let most_fields = limits.response_header_count;
            let bytes = std::mem::take(&mut self.bytes);
            let read = read_response(&bytes, most_fields, false, |head| {
                let is_interim = head.status.is_informational()
                    && head.status != StatusCode::SWITCHING_PROTOCOLS
                    && head.bytes.len() <= limits.response_head_bytes
                    && self.interim < limits.interim_responses;
                if is_interim {
                    self.note_interim(head);
                }
                is_interim.then_some(head.bytes.len())
            });
            match read {
                Ok(Some(Some(head))) => self.bytes = bytes.get(head..).unwrap_or_default().to_vec(),
                Ok(None) if bytes.len() <= limits.response_head_bytes => {
                    self.bytes = bytes;
                    return true;
                }
                Ok(_) | Err(_) => {
                    self.bytes = bytes;
                    return false;
                }
            }
        }
    }

    /// Counts an interim response, and keeps it if the client gets it.
    fn note_interim(&mut self, head: &ResponseHead<'_, '_>) {
        self.interim += 1;
        let is_continue = head.status == StatusCode::CONTINUE;
        let is_passed = match self.passes {
            Interim::None => false,
            Interim::Unasked => !is_continue,
            // Only once: after the first, the client no longer waits.
            Interim::All => !is_continue || !self.is_continued,
        };
        self.is_continued |= is_continue;
        if is_passed {
            write_interim(head, &mut self.passed_on);
        }
    }
}

impl NoReply {
    /// The head is too long.
    pub(crate) const TOO_LONG: Self =
        Self::OverLimit("a head that is longer than `response_head_bytes`");

    /// Whether the failure only means that an idle connection was closed when it was used again.
    pub(crate) fn is_stale(&self, conn: &Http1Conn) -> bool {
        matches!(self, Self::Closed(_)) && conn.is_reused
    }

    /// Converts it to the error of a request to `in_flight`'s upstream.
    pub(crate) fn error(self, in_flight: &InFlight) -> Error {
        self.error_of(in_flight.upstream())
    }

    /// Likewise, for an upstream.
    pub(crate) fn error_of(self, upstream: &Upstream) -> Error {
        let upstream = upstream.to_string();
        match self {
            Self::Closed(source) => Error::Closed { upstream, source },
            Self::Unacceptable(what) => Error::Unacceptable { upstream, what },
            Self::OverLimit(what) => Error::OverLimit { upstream, what },
            Self::Late => Error::ResponseHeadTimeout { upstream },
        }
    }
}

impl Http1Conn {
    /// Sends what is available of a request, until `deadline`.
    pub(crate) async fn send(
        &mut self,
        bytes: &[u8],
        deadline: &mut Deadline,
    ) -> Result<(), NoReply> {
        match write_all(&mut self.stream, bytes, deadline, None).await {
            // The kernel's own timeout gives the same error.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && deadline.has_passed() => {
                Err(NoReply::Late)
            }
            sent => sent.map_err(NoReply::Closed),
        }
    }

    /// Reads from the first response how long the upstream keeps the connection open.
    fn read_keep_alive(&mut self, head: &ResponseHead<'_, '_>) {
        let is_keep_alive = |name: &str| name.eq_ignore_ascii_case("keep-alive");
        for field in head.fields.iter().filter(|field| is_keep_alive(field.name)) {
            self.stream.lifetime.read_keep_alive(field.value);
        }
    }

    /// Reads until the final response's head is complete, then calls `then` with it, the bytes
    /// after it, and a buffer that holds what the client gets before it.
    pub(crate) fn poll_head<R>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        received: &mut PartialResponse,
        expected: &ExpectedResponse<'_>,
        mut then: impl FnMut(&mut Context<'_>, &ResponseHead<'_, '_>, &[u8], &mut Vec<u8>) -> R,
    ) -> Poll<Result<R, NoReply>> {
        let limits = expected.limits;
        loop {
            let mut length = received.bytes.len();
            scratch.make_room(length);
            if let Some(front) = scratch.input.get_mut(..length) {
                front.copy_from_slice(&received.bytes);
            }
            if !std::mem::take(&mut received.is_new) {
                let free = scratch.input.get_mut(length..).unwrap_or_default();
                let most = expected.piece.min(free.len());
                let mut buffer = ReadBuf::new(free.get_mut(..most).unwrap_or_default());
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))
                    .map_err(NoReply::Closed)?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(NoReply::Closed(io::ErrorKind::UnexpectedEof.into())));
                }
                length += buffer.filled().len();
            }
            let bytes = scratch.input.get(..length).unwrap_or_default();
            let output = &mut scratch.output;
            let most_fields = limits.response_header_count;
            let read = read_response(bytes, most_fields, expected.to_head, |head| {
                if head.bytes.len() > limits.response_head_bytes {
                    return Next::TooLong;
                }
                let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
                if head.status.is_informational() && !(switches && expected.may_switch) {
                    if !switches {
                        received.note_interim(head);
                    }
                    return Next::Interim(head.bytes.len(), switches);
                }
                if expected.may_repeat && is_unsolicited(head) {
                    return Next::Unsolicited;
                }
                if !self.is_reused {
                    self.read_keep_alive(head);
                }
                output.clear();
                // Interim responses go first.
                output.append(&mut received.passed_on);
                let rest = bytes.get(head.bytes.len()..).unwrap_or_default();
                Next::Final(then(cx, head, rest, output))
            });
            match read.map_err(NoReply::from)? {
                Some(Next::TooLong) => {
                    return Poll::Ready(Err(NoReply::TOO_LONG));
                }
                Some(Next::Unsolicited) => {
                    let closed = io::ErrorKind::ConnectionAborted.into();
                    return Poll::Ready(Err(NoReply::Closed(closed)));
                }
                None if length > limits.response_head_bytes => {
                    return Poll::Ready(Err(NoReply::TOO_LONG));
                }
                None => received.bytes = bytes.to_vec(),
                Some(Next::Interim(head, switches)) => {
                    if switches {
                        let what = "101 to a request that did not ask for another protocol";
                        return Poll::Ready(Err(NoReply::Unacceptable(what.into())));
                    }
                    if received.interim > limits.interim_responses {
                        return Poll::Ready(Err(NoReply::OverLimit(MANY_INTERIM)));
                    }
                    let rest = bytes.get(head..).unwrap_or_default();
                    received.is_new = !rest.is_empty();
                    received.bytes = rest.to_vec();
                }
                Some(Next::Final(result)) => return Poll::Ready(Ok(result)),
            }
        }
    }
}
