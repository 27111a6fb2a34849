//! A bare hyper forwarder: HTTP/1.1 to the upstream, one runtime per core, a pool per thread. The
//! request's own task polls the upstream's connection. It has no time limits, no metrics, no config
//! and one rule.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use forwarders::{EXPOSED, METHODS, VARY_PREFLIGHT};
use http::header::*;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1 as client;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Failure = Box<dyn std::error::Error>;

struct Connection {
    send: client::SendRequest<Incoming>,
    driver: Pin<Box<client::Connection<TokioIo<TcpStream>, Incoming>>>,
}

struct Forwarder {
    upstream: SocketAddr,
    idle: RefCell<Vec<Connection>>,
}

impl Connection {
    /// Polls without registering a waker; true while it can take another request.
    fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.driver.as_mut().poll(&mut context).is_pending() && self.send.is_ready()
    }
}

impl Forwarder {
    async fn connection(&self) -> Result<Connection, Failure> {
        loop {
            let Some(mut idle) = self.idle.borrow_mut().pop() else {
                break;
            };
            if idle.is_usable() {
                return Ok(idle);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (send, driver) = client::handshake(TokioIo::new(stream)).await?;
        let driver = Box::pin(driver);
        let mut connection = Connection { send, driver };
        connection.is_usable();
        Ok(connection)
    }

    async fn respond(self: Rc<Self>, mut request: Request<Incoming>) -> Response<UpstreamBody> {
        let origin = request.headers().get(ORIGIN).cloned();
        let allowed = origin.filter(|origin| forwarders::is_allowed(origin.as_bytes()));
        if request.method() == Method::OPTIONS
            && request.headers().contains_key(ORIGIN)
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return preflight(&request, allowed);
        }
        to_upstream(&mut request);
        let Ok((mut response, connection)) = self.send(request).await else {
            return empty(StatusCode::BAD_GATEWAY);
        };
        remove_connection_fields(response.headers_mut());
        if let Some(origin) = allowed {
            let fields = response.headers_mut();
            fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            fields.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
            fields.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(EXPOSED),
            );
        }
        response
            .headers_mut()
            .append(VARY, HeaderValue::from_static("Origin"));
        response.map(|incoming| UpstreamBody::Live {
            incoming,
            connection,
            forwarder: self,
        })
    }

    /// The response, and its connection unless it ended.
    async fn send(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Response<Incoming>, Option<Connection>), Failure> {
        let mut connection = self.connection().await?;
        let mut has_ended = false;
        let response = {
            let mut response = pin!(connection.send.send_request(request));
            let driver = &mut connection.driver;
            poll_fn(|context| {
                has_ended = has_ended || driver.as_mut().poll(context).is_ready();
                response.as_mut().poll(context)
            })
            .await?
        };
        Ok((response, (!has_ended).then_some(connection)))
    }
}

fn preflight(request: &Request<Incoming>, allowed: Option<HeaderValue>) -> Response<UpstreamBody> {
    let Some(origin) = allowed else {
        return empty(StatusCode::FORBIDDEN);
    };
    let mut response = empty(StatusCode::NO_CONTENT);
    let fields = response.headers_mut();
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    fields.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    if let Some(names) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
        fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    fields.insert(
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3000"));
    fields.insert(VARY, HeaderValue::from_static(VARY_PREFLIGHT));
    response
}

/// Converts a request of either version to HTTP/1.1.
fn to_upstream(request: &mut Request<Incoming>) {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).expect("an authority is a value");
        let target = request.uri().path_and_query().cloned();
        request.headers_mut().entry(HOST).or_insert(host);
        *request.uri_mut() = target.map(Uri::from).unwrap_or_default();
    }
    *request.version_mut() = Version::HTTP_11;
    remove_connection_fields(request.headers_mut());
}

fn remove_connection_fields(fields: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, TE] {
        fields.remove(name);
    }
}

fn empty(status: StatusCode) -> Response<UpstreamBody> {
    let mut response = Response::new(UpstreamBody::Empty);
    *response.status_mut() = status;
    response
}

/// A body that drives its connection and returns it at the end.
enum UpstreamBody {
    Empty,
    Live {
        incoming: Incoming,
        connection: Option<Connection>,
        forwarder: Rc<Forwarder>,
    },
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Live {
            incoming,
            connection,
            ..
        } = &mut *self
        else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if let Some(live) = connection
            && live.driver.as_mut().poll(context).is_ready()
        {
            *connection = None;
        }
        Pin::new(incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Live { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Live { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Self::Live {
            incoming,
            connection,
            forwarder,
        } = self
            && incoming.is_end_stream()
            && let Some(mut connection) = connection.take()
            && connection.is_usable()
        {
            forwarder.idle.borrow_mut().push(connection);
        }
    }
}

#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

async fn worker() {
    let forwarder = Rc::new(Forwarder {
        upstream: forwarders::upstream(),
        idle: RefCell::default(),
    });
    let respond = |forwarder: &Rc<Forwarder>| {
        let forwarder = Rc::clone(forwarder);
        service_fn(move |request| {
            let response = Rc::clone(&forwarder).respond(request);
            async { Ok::<_, std::convert::Infallible>(response.await) }
        })
    };
    let plain = forwarders::accept_each("--listen", |stream| {
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), respond(&forwarder));
        tokio::task::spawn_local(connection);
    });
    let tls = async {
        let Some(config) = forwarders::tls(&[b"h2", b"http/1.1"]) else {
            return;
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let accept = |stream| {
            let (respond, handshake) = (respond(&forwarder), acceptor.accept(stream));
            tokio::task::spawn_local(async move {
                let Ok(stream) = handshake.await else {
                    return;
                };
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = TokioIo::new(stream);
                if is_http2 {
                    let _ = http2::Builder::new(OnThisThread)
                        .serve_connection(stream, respond)
                        .await;
                } else {
                    let _ = http1::Builder::new()
                        .serve_connection(stream, respond)
                        .await;
                }
            });
        };
        forwarders::accept_each("--tls-listen", accept).await;
    };
    tokio::join!(plain, tls);
}

fn main() {
    forwarders::on_each_core(worker);
}
