//! One worker's connections to its upstreams.
//!
//! A connection is polled by the request that uses it: while it waits for the response's head,
//! and then by the response's body. No task stands between a client and its upstream, so no
//! request is handed over or woken across tasks. An idle connection is polled by nobody; whether
//! the upstream closed it is seen when it is taken up again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::body::UpstreamBody;
use super::error::Error;
use super::request_body::{Progress, RequestBody, Stage};
use super::stream::Stream;
use super::upstream::Upstream;

/// How long a connection may stay idle before it is closed.
const MAX_IDLE_AGE: Duration = Duration::from_secs(60);

/// The most idle connections a worker keeps to one upstream.
const MAX_IDLE: usize = 1024;

/// One worker's connections, by upstream.
#[derive(Default)]
pub(super) struct Pool {
    upstreams: RefCell<HashMap<u64, Rc<UpstreamPool>>>,
}

/// One worker's connections to one upstream.
pub(super) struct UpstreamPool {
    upstream: Arc<Upstream>,
    /// Newest last: the newest is taken first, so that the rest can age out.
    idle: RefCell<Vec<Http1>>,
    http2: RefCell<Option<http2::SendRequest<RequestBody>>>,
    outstanding: Cell<usize>,
}

type Http1Connection = http1::Connection<TokioIo<Stream>, RequestBody>;

/// An HTTP/1.1 connection and what drives it.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    connection: Pin<Box<Http1Connection>>,
    idle_since: Instant,
}

/// A connection that is ready for a request.
enum Ready {
    Http1 { connection: Http1, reused: bool },
    Http2(http2::SendRequest<RequestBody>),
}

/// Counts a request as outstanding for as long as it lives.
pub(super) struct Lease(Rc<UpstreamPool>);

impl Lease {
    fn new(pool: Rc<UpstreamPool>) -> Self {
        pool.outstanding.set(pool.outstanding.get() + 1);
        Self(pool)
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.0.upstream
    }

    /// One more for the same request: a tunnel outlives its response.
    pub(super) fn share(&self) -> Self {
        Self::new(Rc::clone(&self.0))
    }

    /// Keeps a connection that has carried its response to the end.
    pub(super) fn give_back(&self, mut connection: Http1) {
        let mut idle = self.0.idle.borrow_mut();
        if idle.len() < MAX_IDLE && connection.is_usable() {
            connection.idle_since = Instant::now();
            idle.push(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.outstanding.set(self.0.outstanding.get() - 1);
    }
}

impl Http1 {
    async fn open(stream: Stream, upstream: &Upstream) -> Result<Self, Error> {
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| from_hyper(error, upstream))?;
        let mut opened = Self {
            sender,
            connection: Box::pin(connection),
            idle_since: Instant::now(),
        };
        opened.is_usable();
        Ok(opened)
    }

    /// Whether it can take another request. Asks the connection once, without waiting.
    fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.connection.as_mut().poll(&mut cx).is_pending() && self.sender.is_ready()
    }

    /// Moves bytes; true when the connection is at its end.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.connection.as_mut().poll(cx).is_ready()
    }
}

impl Pool {
    /// Sends a request to the upstream with the fewest requests outstanding. Where none can be
    /// connected to, the error is the last one's.
    pub(super) async fn send(
        &self,
        upstreams: &[Arc<Upstream>],
        request: impl FnOnce(&Upstream, Version) -> Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, Error> {
        let (lease, ready) = match self.idle(upstreams) {
            Some(ready) => ready,
            // Boxed, as all that is rare here: a request's future is moved about and kept for
            // each connection, so what it seldom needs should not be part of it.
            None => Box::pin(self.checkout(upstreams)).await?,
        };
        let version = match ready {
            Ready::Http1 { .. } => Version::HTTP_11,
            Ready::Http2(_) => Version::HTTP_2,
        };
        let request = request(lease.upstream(), version);
        match ready {
            Ready::Http1 { connection, reused } => {
                http1_exchange(lease, connection, reused, request).await
            }
            Ready::Http2(sender) => Box::pin(http2_exchange(lease, sender, request)).await,
        }
    }

    /// The usual case: one upstream, and a connection that waits for a request.
    fn idle(&self, upstreams: &[Arc<Upstream>]) -> Option<(Lease, Ready)> {
        let [upstream] = upstreams else {
            return None;
        };
        let pool = self.of(upstream);
        let connection = pool.take_idle()?;
        let reused = true;
        Some((Lease::new(pool), Ready::Http1 { connection, reused }))
    }

    /// A connection of its own for a request that may leave HTTP (an upgrade).
    pub(super) async fn open(&self, upstreams: &[Arc<Upstream>]) -> Result<(Lease, Stream), Error> {
        let mut failure = None;
        for pool in self.by_load(upstreams) {
            match Stream::connect(&pool.upstream).await {
                Ok(stream) => return Ok((Lease::new(pool), stream)),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or(Error::UnknownHost))
    }

    async fn checkout(&self, upstreams: &[Arc<Upstream>]) -> Result<(Lease, Ready), Error> {
        if let [upstream] = upstreams {
            let pool = self.of(upstream);
            let ready = pool.ready().await?;
            return Ok((Lease::new(pool), ready));
        }
        let mut failure = None;
        for pool in self.by_load(upstreams) {
            let lease = Lease::new(Rc::clone(&pool));
            match pool.ready().await {
                Ok(ready) => return Ok((lease, ready)),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or(Error::UnknownHost))
    }

    fn by_load(&self, upstreams: &[Arc<Upstream>]) -> Vec<Rc<UpstreamPool>> {
        let mut pools: Vec<_> = upstreams.iter().map(|upstream| self.of(upstream)).collect();
        pools.sort_by_key(|pool| pool.outstanding.get());
        pools
    }

    fn of(&self, upstream: &Arc<Upstream>) -> Rc<UpstreamPool> {
        let mut upstreams = self.upstreams.borrow_mut();
        let pool = upstreams.entry(upstream.id).or_insert_with(|| {
            Rc::new(UpstreamPool {
                upstream: Arc::clone(upstream),
                idle: RefCell::default(),
                http2: RefCell::default(),
                outstanding: Cell::new(0),
            })
        });
        Rc::clone(pool)
    }

    /// Closes connections that were idle for too long, and forgets upstreams that no snapshot
    /// knows any more.
    pub(super) fn evict(&self) {
        self.upstreams.borrow_mut().retain(|_, pool| {
            pool.idle
                .borrow_mut()
                .retain(|one| one.idle_since.elapsed() < MAX_IDLE_AGE);
            let gone = Arc::strong_count(&pool.upstream) == 1 && pool.outstanding.get() == 0;
            !gone
        });
    }
}

impl UpstreamPool {
    async fn ready(&self) -> Result<Ready, Error> {
        if self.upstream.settings.http2
            && let Some(sender) = self.http2().await
        {
            return Ok(Ready::Http2(sender));
        }
        if let Some(connection) = self.take_idle() {
            return Ok(Ready::Http1 {
                connection,
                reused: true,
            });
        }
        let stream = Stream::connect(&self.upstream).await?;
        if self.upstream.settings.http2
            && (!self.upstream.settings.tls || stream.negotiated_http2())
        {
            return self.open_http2(stream).await.map(Ready::Http2);
        }
        let connection = Http1::open(stream, &self.upstream).await?;
        Ok(Ready::Http1 {
            connection,
            reused: false,
        })
    }

    fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    async fn http2(&self) -> Option<http2::SendRequest<RequestBody>> {
        let mut sender = self.http2.borrow().clone()?;
        if sender.ready().await.is_ok() {
            return Some(sender);
        }
        self.http2.replace(None);
        None
    }

    async fn open_http2(&self, stream: Stream) -> Result<http2::SendRequest<RequestBody>, Error> {
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| from_hyper(error, &self.upstream))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
        });
        self.http2.replace(Some(sender.clone()));
        Ok(sender)
    }
}

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

async fn http1_exchange(
    lease: Lease,
    connection: Http1,
    reused: bool,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Error> {
    // An upstream may close a kept-alive connection at the moment that it is used again. A
    // request without a body that may be repeated is then sent once more, on a new connection
    // (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
    let replay = (reused && request.body().is_empty() && request.method().is_idempotent())
        .then(|| copy_of(&request));
    match exchange(&lease, connection, request).await {
        Ok(response) => Ok(finish(response, lease)),
        Err(Failure::Final(error)) => Err(error),
        Err(Failure::Sent(error)) if !reused => Err(from_hyper(error, lease.upstream())),
        Err(Failure::Sent(error)) => match replay {
            Some(request) => Box::pin(fresh_exchange(lease, request)).await,
            None => Err(from_hyper(error, lease.upstream())),
        },
        Err(Failure::Unsent(_, request)) if reused => {
            Box::pin(fresh_exchange(lease, *request)).await
        }
        Err(Failure::Unsent(error, _)) => Err(from_hyper(error, lease.upstream())),
    }
}

async fn fresh_exchange(
    lease: Lease,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Error> {
    let stream = Stream::connect(lease.upstream()).await?;
    let connection = Http1::open(stream, lease.upstream()).await?;
    match exchange(&lease, connection, request).await {
        Ok(response) => Ok(finish(response, lease)),
        Err(Failure::Final(error)) => Err(error),
        Err(Failure::Sent(error) | Failure::Unsent(error, _)) => {
            Err(from_hyper(error, lease.upstream()))
        }
    }
}

fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::EMPTY);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn finish(
    (response, connection): (Response<Incoming>, Option<Http1>),
    lease: Lease,
) -> Response<UpstreamBody> {
    response.map(|body| UpstreamBody::new(body, connection, lease))
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
    connection: Http1,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Option<Http1>), Failure> {
    let Http1 {
        mut sender,
        connection,
        ..
    } = connection;
    let progress = request.body().progress();
    let mut connection = Some(connection);
    let mut response = pin!(sender.try_send_request(request));
    let mut patience = pin!(patience(lease.upstream(), progress.as_deref()));
    let result = poll_fn(|cx| {
        if let Some(driver) = &mut connection
            && driver.as_mut().poll(cx).is_ready()
        {
            // Dropped, so that a response that cannot come any more is an error now.
            connection = None;
        }
        if let Poll::Ready(result) = response.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        patience.as_mut().poll(cx).map(Err)
    })
    .await;
    match result {
        Ok(Ok(response)) => {
            let connection = connection.map(|connection| Http1 {
                sender,
                connection,
                idle_since: Instant::now(),
            });
            Ok((response, connection))
        }
        Ok(Err(error)) => Err(failure(error, progress.as_deref(), lease.upstream())),
        Err(error) => Err(Failure::Final(error)),
    }
}

async fn http2_exchange(
    lease: Lease,
    mut sender: http2::SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Error> {
    let progress = request.body().progress();
    let result = {
        let mut response = pin!(sender.try_send_request(request));
        let mut patience = pin!(patience(lease.upstream(), progress.as_deref()));
        poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => patience.as_mut().poll(cx).map(Err),
        })
        .await?
    };
    match result {
        Ok(response) => Ok(response.map(|body| UpstreamBody::new(body, None, lease))),
        Err(error) => Err(
            match failure(error, progress.as_deref(), lease.upstream()) {
                Failure::Final(error) => error,
                Failure::Sent(error) | Failure::Unsent(error, _) => {
                    from_hyper(error, lease.upstream())
                }
            },
        ),
    }
}

/// Ends when there is no use in waiting for a response any longer, and says why.
async fn patience(upstream: &Upstream, progress: Option<&Progress>) -> Error {
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
        return Failure::Final(Error::RequestBody(error));
    }
    match message {
        Some(request) => Failure::Unsent(error, Box::new(request)),
        None if error.is_parse() => Failure::Final(from_hyper(error, upstream)),
        None => Failure::Sent(error),
    }
}

pub(super) fn from_hyper(source: hyper::Error, upstream: &Upstream) -> Error {
    let upstream = upstream.to_string();
    if source.is_parse() {
        Error::InvalidResponse { upstream, source }
    } else {
        Error::Closed { upstream, source }
    }
}
