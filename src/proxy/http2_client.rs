//! HTTP/2 to an upstream: one request over a shared connection, and whether the upstream processed
//! a request that failed. hyper implements the protocol.
//!
//! Interim responses (1xx) are not passed on, because h2 skips them (`Recv::poll_response`). The
//! connection limits their number (`pool::frame_check`).

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use h2::Reason;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;

use crate::http1::request_head::parse_length;
use crate::routing::snapshot::Route;
use crate::upstream::balance::InFlight;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::{Error, from_hyper, has_many_interim};
use crate::upstream::pool::Http2Conn;
use crate::upstream::replay_body::ReplayBody;
use crate::upstream::request_body::{BodyProgress, BodyStage, RequestBody};

use super::no_response::{Fate, NoResponse};
use super::response_body::{Body, UpstreamBody};
use super::{Proxy, header_map};

impl Proxy {
    /// Sends a request, and reads its response's head.
    ///
    /// # Errors
    ///
    /// Why there is no response, and whether the upstream processed the request.
    pub(super) async fn http2_exchange(
        &self,
        route: &Route,
        request: &request::Parts,
        body: RequestBody,
        in_flight: InFlight,
        mut connection: Http2Conn,
        reused: bool,
    ) -> Result<Response<Body>, Box<NoResponse>> {
        let upstream = in_flight.upstream();
        let asked = Instant::now();
        let counts = route.metrics.counts(self.worker);
        let progress = body.begin();
        let has_body = progress.is_some();
        let (body, loan) = ReplayBody::lend(body);
        let mut request = Request::from_parts(request.clone(), body);
        header_map::to_http2(&mut request, upstream, route.host_header);
        let result = {
            let mut response = pin!(connection.sender.try_send_request(request));
            let mut patience = pin!(patience(upstream, progress.as_deref()));
            poll_fn(|cx| match response.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => patience.as_mut().poll(cx).map(Err),
            })
            .await
        };
        let (fate, error, body) = match result {
            Ok(Ok(response)) => match check(&response, upstream) {
                Ok(()) => {
                    in_flight.answered();
                    let sent = progress.filter(|progress| progress.stage() == BodyStage::Done);
                    let is_early = has_body && sent.is_none();
                    if !is_early {
                        let since_last = sent.map(|progress| progress.since_last());
                        counts.first_byte(since_last.unwrap_or_else(|| asked.elapsed()));
                    }
                    return Ok(response.map(|body| {
                        let body = UpstreamBody::new(body, in_flight, counts.clone());
                        Body::from_http2(body).early(is_early)
                    }));
                }
                Err(error) => (Fate::Unknown, error, None),
            },
            Ok(Err(mut failed)) => {
                let was_sent = failed.take_message().is_none();
                let error = failed.into_error();
                if progress.is_some_and(|progress| progress.failed()) {
                    let error = Error::RequestBody(io::Error::other(error));
                    (Fate::Unknown, error, None)
                } else {
                    let fate = if was_sent { fate(&error) } else { Fate::Unsent };
                    let error = match fate {
                        Fate::Refused { .. } => refused(error, upstream),
                        _ => from_hyper(error, upstream),
                    };
                    (fate, error, loan.take_back())
                }
            }
            Err(error) => (Fate::Unknown, error, None),
        };
        Err(Box::new(NoResponse {
            fate,
            error,
            body,
            was_reused: reused,
            in_flight,
        }))
    }
}

fn fate(error: &hyper::Error) -> Fate {
    match said(error) {
        // The stream was refused, or a GOAWAY excludes it (RFC 9113 §8.7); with a GOAWAY, h2 fails
        // only the streams beyond the last one that it names.
        Some(said) if said.is_remote() && said.is_go_away() => Fate::Refused { ends: true },
        Some(said) if said.is_remote() && said.reason() == Some(Reason::REFUSED_STREAM) => {
            Fate::Refused { ends: false }
        }
        None if is_io(error) && !has_many_interim(error) => Fate::Cut,
        _ => Fate::Unknown,
    }
}

/// Whether the system closed it. An unanswered PING does not count, because it took its time.
fn is_io(error: &hyper::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<io::Error>())
}

/// An upstream that shuts down (NO_ERROR) or is overloaded is not at fault; one that closes the
/// connection with an error is.
fn refused(source: hyper::Error, upstream: &Upstream) -> Error {
    let ends = said(&source).is_some_and(h2::Error::is_go_away);
    let reason = said(&source).and_then(h2::Error::reason);
    if ends && reason != Some(Reason::NO_ERROR) {
        return from_hyper(source, upstream);
    }
    let upstream = upstream.to_string();
    Error::Refused { upstream, source }
}

fn said(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// Refuses a response that must not be passed on.
///
/// If a response gives its length twice, the client may use the other one ([RFC 9112 §6.3]). We
/// decode no transfer coding but `chunked`. Another protocol has to be asked for.
///
/// [RFC 9112 §6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
pub(super) fn check(response: &Response<Incoming>, upstream: &Upstream) -> Result<(), Error> {
    let fields = response.headers();
    let coding = fields.get(TRANSFER_ENCODING);
    let lengths = fields.get_all(CONTENT_LENGTH).iter().count();
    let is_chunked = coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let what = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        "101 to a request that did not ask for another protocol"
    } else if lengths + fields.get_all(TRANSFER_ENCODING).iter().count() > 1 {
        "a response with more than one Content-Length"
    } else if fields
        .get(CONTENT_LENGTH)
        .is_some_and(|length| parse_length(length.as_bytes()).is_none())
    {
        "an invalid Content-Length"
    } else if !is_chunked {
        "a response with a transfer coding other than chunked"
    } else {
        return Ok(());
    };
    Err(Error::Unacceptable {
        upstream: upstream.to_string(),
        what: what.into(),
    })
}

/// Completes when waiting for a response has become pointless, and returns why.
async fn patience(upstream: &Upstream, progress: Option<&BodyProgress>) -> Error {
    let timeouts = &upstream.settings.timeouts;
    let too_slow = || Error::ResponseHeadTimeout {
        upstream: upstream.to_string(),
    };
    let Some(progress) = progress else {
        tokio::time::sleep(timeouts.response_head).await;
        return too_slow();
    };
    loop {
        let stage = progress.stage();
        let limit = match stage {
            BodyStage::Done => timeouts.response_head,
            BodyStage::WaitsForClient | BodyStage::WaitsForUpstream => timeouts.body_idle,
        };
        let left = limit.saturating_sub(progress.since_last());
        if left.is_zero() {
            return match stage {
                BodyStage::WaitsForClient => Error::RequestBodyTimeout,
                BodyStage::WaitsForUpstream | BodyStage::Done => too_slow(),
            };
        }
        // The stage may change in the meantime, and with it the limit.
        tokio::time::sleep(left.min(timeouts.response_head)).await;
    }
}
