//! A request without a body that came as a map of fields (HTTP/2), over one of the lane's
//! connections: its head is written once, and the response's fields are cut out of what was read.

use std::future::poll_fn;
use std::task::Poll;

use bytes::BytesMut;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version, request};

use crate::metrics::UpstreamFailures;
use crate::proxy::Proxy;
use crate::proxy::balance::Lease;
use crate::proxy::body;
use crate::proxy::deadline::Deadline;
use crate::proxy::error::Error;
use crate::proxy::pool::Tries;
use crate::proxy::snapshot::{HostHeader, Route};
use crate::proxy::upstream::Upstream;
use crate::proxy::wire::{ResponseHead, TrailerPolicy, offset};

use super::body::{Body, write_at_once};
use super::connection::Raw;
use super::fetched::{FetchedBody, LARGEST_PIECE, Unread};
use super::reply::{Expected, NoReply, Received};
use super::response::write_line;

/// How many fields a response is given besides the upstream's, about: `Via`, `Date`, CORS.
const OUR_FIELDS: usize = 9;

/// A response's head, and what came with it.
struct Fetched {
    head: Response<()>,
    body: Unread,
}

/// Whether a request can be fetched: nothing is to be sent but its head, and of the response
/// nothing comes that a map of fields and a body do not have.
pub(in crate::proxy) fn can_fetch(route: &Route, request: &request::Parts) -> bool {
    let fields = &request.headers;
    request.version == Version::HTTP_2
        && matches!(request.method, Method::GET | Method::HEAD | Method::DELETE)
        && !fields
            .keys()
            .any(|name| matches!(name.as_str(), "content-length" | "expect" | "te"))
        && !route
            .upstreams
            .iter()
            .any(|upstream| upstream.settings.http2)
}

impl Proxy {
    /// Sends a request that has no body, and gives the response as it came.
    ///
    /// # Errors
    ///
    /// Why there is no response.
    pub(in crate::proxy) async fn fetch(
        &self,
        route: &Route,
        request: &request::Parts,
        failures: UpstreamFailures,
    ) -> Result<Response<body::Body>, Error> {
        let (pool, upstreams) = (&self.pool, &route.upstreams);
        let mut tries = Tries::default();
        let (mut lease, mut raw) = match pool.idle_raw(upstreams) {
            Some(ready) => ready,
            // Boxed, as all that is rare.
            None => Box::pin(pool.checkout_raw(upstreams, &mut tries)).await?,
        };
        loop {
            let limit = lease.upstream().settings.timeouts.response_head;
            let mut deadline = Deadline::after(limit);
            let host_header = route.host_header;
            match self
                .ask(request, host_header, &lease, &mut raw, &mut deadline)
                .await
            {
                Ok(fetched) => {
                    lease.answered();
                    let Fetched { head, body } = fetched;
                    let body = FetchedBody::new(body, raw, lease, deadline, failures);
                    return Ok(head.map(|()| body::Body::fetched(body)));
                }
                // As in an exchange (RFC 9112 §9.3.1): all that is fetched is idempotent.
                Err(no_reply) if no_reply.is_stale(&raw) => {
                    tries.stale.push(lease.upstream().id);
                    drop(raw);
                    let again = Box::pin(pool.checkout_raw(upstreams, &mut tries));
                    (lease, raw) = again.await?;
                }
                Err(no_reply) => {
                    let error = no_reply.error(&lease);
                    lease.failed(&error);
                    return Err(error);
                }
            }
        }
    }

    async fn ask(
        &self,
        request: &request::Parts,
        host_header: HostHeader,
        lease: &Lease,
        raw: &mut Raw,
        deadline: &mut Deadline,
    ) -> Result<Fetched, NoReply> {
        let unwritten = poll_fn(|cx| {
            let head = &mut self.scratch.borrow_mut().output;
            head.clear();
            write_request(request, host_header, lease.upstream(), head);
            Poll::Ready(write_at_once(cx, &mut raw.stream, head))
        });
        let unwritten = unwritten.await.map_err(NoReply::Closed)?;
        raw.send(&unwritten, deadline).await?;
        let expected = Expected {
            limits: &lease.upstream().settings.limits,
            to_head: request.method == Method::HEAD,
            piece: LARGEST_PIECE,
            may_repeat: raw.is_reused,
            may_switch: false,
        };
        let mut received = Received::default();
        poll_fn(|cx| {
            let scratch = &mut *self.scratch.borrow_mut();
            let read = raw.poll_head(cx, scratch, &mut received, &expected, |_, head, rest, _| {
                Fetched::cut_out(head, rest)
            });
            match read {
                Poll::Ready(fetched) => Poll::Ready(fetched?),
                Poll::Pending => deadline.poll(cx).map(|()| Err(NoReply::Late)),
            }
        })
        .await
    }
}

/// Writes the head that the upstream gets.
fn write_request(
    request: &request::Parts,
    host_header: HostHeader,
    upstream: &Upstream,
    out: &mut Vec<u8>,
) {
    let target = request.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    for part in [request.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let replaced = host_header == HostHeader::Upstream;
    if replaced {
        write_line(HOST.as_str().as_bytes(), upstream.authority.as_bytes(), out);
    }
    for (name, value) in &request.headers {
        if !(replaced && *name == HOST) {
            write_line(name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

impl Fetched {
    /// The response whose head was read, `rest` behind it.
    fn cut_out(head: &ResponseHead<'_, '_>, rest: &[u8]) -> Result<Self, NoReply> {
        // One piece of memory for all values and what came of the body.
        let mut bytes = BytesMut::with_capacity(head.bytes.len() + rest.len());
        bytes.extend_from_slice(head.bytes);
        bytes.extend_from_slice(rest);
        let bytes = bytes.freeze();
        let mut fields = HeaderMap::with_capacity(head.fields.len() + OUR_FIELDS);
        for field in head.fields {
            let start = offset(head.bytes, field.value);
            let value = bytes.slice(start..start + field.value.len());
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(NoReply::Unacceptable("a field that is none".into()));
            };
            fields.append(name, value);
        }
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = fields;
        *response.version_mut() = match head.bytes.starts_with(b"HTTP/1.0") {
            true => Version::HTTP_10,
            false => Version::HTTP_11,
        };
        Ok(Self {
            head: response,
            body: Unread {
                left: Body::of(head.body, TrailerPolicy::Drop),
                bytes: bytes.slice(head.bytes.len()..),
                closes: head.closes,
            },
        })
    }
}
