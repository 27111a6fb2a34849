//! One request over an HTTP/2 connection to an upstream, and what its failures mean: whether the
//! upstream did anything with it.
//!
//! Interim responses (1xx) are not passed on and need no limit: h2 skips them when the response is
//! next asked for (`Recv::poll_response`), and the wait for it goes on no longer for them.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use h2::Reason;
use http::{Request, Response};

use super::balance::Lease;
use super::body::UpstreamBody;
use super::error::Error;
use super::hyper_client::{NoResponse, check, from_hyper, patience};
use super::lent_body::LentBody;
use super::pool::Http2;
use super::request_body::RequestBody;
use super::upstream::Upstream;

/// What became of a request that got no response.
enum Fate {
    /// Nothing of it left us.
    Unsent,
    /// The upstream did nothing with it: its stream was refused, or is one of those that a GOAWAY
    /// leaves out (RFC 9113 §8.7).
    Refused,
    /// The connection ended.
    Cut,
    Unknown,
}

/// Sends a request. `copy` is its head as it was before it was made one for this connection;
/// `was_repeated` says that it was sent before, on a connection that was cut.
pub(super) async fn exchange(
    lease: Lease,
    mut connection: Http2,
    reused: bool,
    was_repeated: bool,
    request: Request<RequestBody>,
    mut copy: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, NoResponse> {
    let may_repeat = request.body().is_empty() && request.method().is_idempotent();
    let progress = request.body().begin();
    let (head, body) = request.into_parts();
    let (body, loan) = LentBody::lend(body);
    let request = Request::from_parts(head, body);
    let result = {
        let mut response = pin!(connection.sender.try_send_request(request));
        let mut patience = pin!(patience(lease.upstream(), progress.as_deref()));
        poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => patience.as_mut().poll(cx).map(Err),
        })
        .await
    };
    let upstream = lease.upstream();
    let error = match result {
        Ok(Ok(response)) => match check(&response, upstream, false) {
            Ok(()) => {
                lease.answered();
                return Ok(response.map(|body| UpstreamBody::http2(body, lease)));
            }
            Err(error) => error,
        },
        Ok(Err(mut failed)) => {
            let was_sent = failed.take_message().is_none();
            let error = failed.into_error();
            let fate = if was_sent { fate(&error) } else { Fate::Unsent };
            let may_go_again = match fate {
                _ if progress.is_some_and(|progress| progress.failed()) => {
                    return Err(NoResponse::Failed(Error::RequestBody(io::Error::other(
                        error,
                    ))));
                }
                Fate::Unsent => reused,
                // As over HTTP/1.1, and once only (RFC 9110 §9.2.2): it may be what ends them.
                Fate::Cut => reused && may_repeat && !was_repeated,
                Fate::Refused => true,
                Fate::Unknown => false,
            };
            let body = may_go_again.then(|| loan.take_back()).flatten();
            let again = body.map(|body| {
                *copy.body_mut() = body;
                Box::new(copy)
            });
            match (fate, again) {
                (Fate::Refused, Some(again)) => {
                    let ends = said(&error).is_some_and(h2::Error::is_go_away);
                    let error = refused(error, upstream);
                    lease.failed(&error);
                    return Err(NoResponse::Refused { error, again, ends });
                }
                (Fate::Refused, None) => refused(error, upstream),
                (_, Some(again)) => return Err(NoResponse::Stale(again)),
                // That the connection was old is no fault of the upstream's.
                (Fate::Cut, None) if reused => {
                    return Err(NoResponse::Failed(from_hyper(error, upstream)));
                }
                (_, None) => from_hyper(error, upstream),
            }
        }
        Err(error) => error,
    };
    lease.failed(&error);
    Err(NoResponse::Failed(error))
}

fn fate(error: &hyper::Error) -> Fate {
    match said(error) {
        // h2 fails with a GOAWAY those streams alone that are beyond the last that it names.
        Some(said) if said.is_remote() && said.is_go_away() => Fate::Refused,
        Some(said) if said.is_remote() && said.reason() == Some(Reason::REFUSED_STREAM) => {
            Fate::Refused
        }
        None if is_io(error) => Fate::Cut,
        _ => Fate::Unknown,
    }
}

/// Whether the system ended it. That nobody answered a PING is another thing: that took its time.
fn is_io(error: &hyper::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<io::Error>())
}

/// That it is about to end (NO_ERROR), or has enough to do, is no fault of an upstream's. That it
/// ends for an error is.
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
