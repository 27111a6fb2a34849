//! What hyper does for a worker's [`pool`](super::pool): connections as an upstream's limits want
//! them, one request over one of them, and what its failures mean.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

use super::balance::Lease;
use super::body::UpstreamBody;
use super::error::{Error, MANY_INTERIM};
use super::interim::Interim;
use super::pool::Http1;
use super::request_body::{Progress, RequestBody, Stage};
use super::upstream::Upstream;
use super::wire::Fields as _;

/// How much of a body is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// How many fields hyper reads without memory of its own for them.
const HYPER_HEADER_COUNT: usize = 100;

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// HTTP/1.1 with an upstream, under its limits.
pub(super) fn http1_builder(upstream: &Upstream) -> http1::Builder {
    let limits = &upstream.settings.limits;
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(limits.response_head_bytes)
        .max_buf_size(limits.response_head_bytes.max(BUFFER));
    if limits.response_header_count != HYPER_HEADER_COUNT {
        builder.max_headers(limits.response_header_count);
    }
    builder
}

/// Why a request got no response on a connection.
pub(super) enum NoResponse {
    /// The connection had been closed; the request may be sent on another one.
    Stale(Box<Request<RequestBody>>),
    /// The upstream did nothing with the request, which may be sent once more.
    Refused {
        error: Error,
        again: Box<Request<RequestBody>>,
        /// Whether the connection takes no more requests.
        ends: bool,
    },
    /// It failed.
    Failed(Error),
}

pub(super) async fn http1_exchange(
    lease: Lease,
    connection: Http1,
    reused: bool,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, NoResponse> {
    // An upstream may close a kept-alive connection at the moment that it is used again. A
    // request of which nothing was sent, or one without a body that may be repeated, is then sent
    // once more, on another connection (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
    let replay = (reused && request.body().is_empty() && request.method().is_idempotent())
        .then(|| copy_of(&request));
    let error = match exchange(&lease, connection, request).await {
        Ok((response, connection)) => {
            let closes = || response.headers().lists(&CONNECTION, b"close");
            if let Some(request) = replay.filter(|_| is_goodbye(response.status(), closes)) {
                return Err(NoResponse::Stale(Box::new(request)));
            }
            lease.answered();
            return Ok(response.map(|body| UpstreamBody::new(body, connection, lease)));
        }
        Err(Failure::Unsent(_, request)) if reused => return Err(NoResponse::Stale(request)),
        Err(Failure::Sent(error)) => match replay {
            Some(request) => return Err(NoResponse::Stale(Box::new(request))),
            None => {
                let error = from_hyper(error, lease.upstream());
                if !reused {
                    lease.failed(&error);
                }
                // That the connection was old is no fault of the upstream's.
                return Err(NoResponse::Failed(error));
            }
        },
        Err(Failure::Unsent(error, _)) => from_hyper(error, lease.upstream()),
        Err(Failure::Final(error)) => error,
    };
    lease.failed(&error);
    Err(NoResponse::Failed(error))
}

/// Whether a response is one to no request: what an upstream says before it closes a connection on
/// which it waited for long enough, at the moment that it was used again ([RFC 9110 §15.5.9]).
///
/// [RFC 9110 §15.5.9]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9
pub(super) fn is_goodbye(status: StatusCode, closes: impl FnOnce() -> bool) -> bool {
    status == StatusCode::REQUEST_TIMEOUT && closes()
}

/// A request's head.
pub(super) fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::EMPTY);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Why an exchange brought no response.
enum Failure {
    /// Nothing of the request reached the upstream: here it is again.
    Unsent(hyper::Error, Box<Request<RequestBody>>),
    /// The connection failed after something was sent.
    Sent(hyper::Error),
    /// There is no use in another try.
    Final(Error),
}

/// Sends a request and moves the connection's bytes until the response's head is there.
async fn exchange(
    lease: &Lease,
    mut connection: Http1,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Option<Http1>), Failure> {
    let upstream = lease.upstream();
    let interim = Interim::watch(&mut request);
    let progress = request.body().begin();
    let mut response = pin!(connection.sender.try_send_request(request));
    let mut connection = Some(connection);
    let answered = poll_fn(|cx| {
        if let Some(driver) = &mut connection
            && driver.poll_ended(cx)
        {
            // Dropped, so that a response that cannot come any more is an error now.
            connection = None;
        }
        response.as_mut().poll(cx)
    });
    let result = await_head(answered, &interim, progress.as_deref(), upstream).await;
    match result {
        Ok(Ok(response)) => match check(&response, upstream, false) {
            Ok(()) => Ok((response, connection)),
            Err(error) => Err(Failure::Final(error)),
        },
        Ok(Err(error)) => Err(failure(error, progress.as_deref(), upstream)),
        Err(error) => Err(Failure::Final(error)),
    }
}

/// Waits for a response's head, for as long as there is use in it.
pub(super) async fn await_head<T>(
    response: impl Future<Output = T>,
    interim: &Interim,
    progress: Option<&Progress>,
    upstream: &Upstream,
) -> Result<T, Error> {
    let mut response = pin!(response);
    let mut patience = pin!(patience(upstream, progress));
    poll_fn(|cx| {
        let answered = response.as_mut().poll(cx);
        if interim.count() > upstream.settings.limits.interim_responses {
            return Poll::Ready(Err(Error::OverLimit {
                upstream: upstream.to_string(),
                what: MANY_INTERIM,
            }));
        }
        match answered {
            Poll::Ready(answered) => Poll::Ready(Ok(answered)),
            Poll::Pending => patience.as_mut().poll(cx).map(Err),
        }
    })
    .await
}

/// Refuses a response that cannot be passed on as what it is.
///
/// Where it says its length twice, whoever stands behind us may take the other one ([RFC 9112
/// §6.3]). We decode no transfer coding but `chunked`. Another protocol has to be asked for.
///
/// [RFC 9112 §6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
pub(super) fn check(
    response: &Response<Incoming>,
    upstream: &Upstream,
    wants_upgrade: bool,
) -> Result<(), Error> {
    let fields = response.headers();
    let coding = fields.get(TRANSFER_ENCODING);
    let lengths = fields.get_all(CONTENT_LENGTH).iter().count();
    let is_chunked = coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let what = if switches && wants_upgrade {
        return Ok(());
    } else if switches {
        "101 to a request that asked for no other protocol"
    } else if lengths + fields.get_all(TRANSFER_ENCODING).iter().count() > 1 {
        "a response that says its length twice"
    } else if !is_chunked {
        "a response in a transfer coding that is not chunked"
    } else {
        return Ok(());
    };
    Err(Error::Unacceptable {
        upstream: upstream.to_string(),
        what: what.into(),
    })
}

/// Ends when there is no use in waiting for a response any longer, and says why.
pub(super) async fn patience(upstream: &Upstream, progress: Option<&Progress>) -> Error {
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
            Stage::Done => timeouts.response_head,
            Stage::WaitsForClient | Stage::WaitsForUpstream => timeouts.body_idle,
        };
        let left = limit.saturating_sub(progress.since_last());
        if left.is_zero() {
            return match stage {
                Stage::WaitsForClient => Error::RequestBodyTimeout,
                Stage::WaitsForUpstream | Stage::Done => too_slow(),
            };
        }
        // The stage may change meanwhile, and the limit with it.
        tokio::time::sleep(left.min(timeouts.response_head)).await;
    }
}

fn failure(
    mut error: TrySendError<Request<RequestBody>>,
    progress: Option<&Progress>,
    upstream: &Upstream,
) -> Failure {
    let message = error.take_message();
    let error = error.into_error();
    if progress.is_some_and(Progress::failed) {
        return Failure::Final(Error::RequestBody(std::io::Error::other(error)));
    }
    match message {
        Some(request) => Failure::Unsent(error, Box::new(request)),
        None if error.is_parse() => Failure::Final(from_hyper(error, upstream)),
        None => Failure::Sent(error),
    }
}

pub(super) fn from_hyper(source: hyper::Error, upstream: &Upstream) -> Error {
    let upstream = upstream.to_string();
    if source.is_parse_too_large() {
        let what = "more than `response_head_bytes` or `response_header_count`";
        Error::OverLimit { upstream, what }
    } else if source.is_parse() {
        Error::InvalidResponse { upstream, source }
    } else {
        let source = std::io::Error::other(source);
        Error::Closed { upstream, source }
    }
}
