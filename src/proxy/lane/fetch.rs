//! A request without a body that came as a map of fields (HTTP/2), over one of the lane's
//! connections: its head is written once, and the response's fields are cut out of what was read.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version, request};

use crate::metrics::UpstreamFailures;
use crate::proxy::Proxy;
use crate::proxy::balance::Lease;
use crate::proxy::body;
use crate::proxy::deadline::Deadline;
use crate::proxy::error::Error;
use crate::proxy::forward;
use crate::proxy::pool::Tries;
use crate::proxy::snapshot::{HostHeader, Route};
use crate::proxy::upstream::Upstream;
use crate::proxy::wire::{ResponseHead, offset};

use super::body::{Body, write_all};
use super::connection::Raw;
use super::fetched::FetchedBody;
use super::reply::{INVALID, Received, Step};
use super::response::is_listed;

/// How many fields a response is given besides the upstream's, about: `Via`, `Date`, CORS.
const OUR_FIELDS: usize = 9;

/// A response's head, and what came with it.
struct Fetched {
    head: Response<()>,
    body: Body,
    /// What came of the body.
    first: Bytes,
    /// Whether the upstream's connection ends with it.
    closes: bool,
}

/// Whether a request can be fetched: nothing is to be sent but its head, and of the response
/// nothing comes that a map of fields and a body do not have.
pub(in crate::proxy) fn is_fetched(route: &Route, request: &request::Parts) -> bool {
    let fields = &request.headers;
    request.version == Version::HTTP_2
        && matches!(request.method, Method::GET | Method::HEAD | Method::DELETE)
        && ![CONTENT_LENGTH, EXPECT, TE]
            .iter()
            .any(|name| fields.contains_key(name))
        && !route
            .upstreams
            .iter()
            .any(|upstream| upstream.settings.http2)
}

impl Proxy {
    /// Sends a request that has no body, and gives the response as it came but for the fields that
    /// are about one connection.
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
        let mut slip = self.slips.take();
        let fetched = self.fetch_with(&mut slip, route, request, failures).await;
        self.slips.give_back(slip);
        fetched
    }

    async fn fetch_with(
        &self,
        slip: &mut Vec<u8>,
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
            slip.clear();
            write_request(request, route.host_header, lease.upstream(), slip);
            let head_limit = lease.upstream().settings.timeouts.response_head;
            let mut deadline = Deadline::after(head_limit);
            let asked = self.ask(slip, &request.method, &lease, &mut raw, &mut deadline);
            match asked.await {
                Ok(fetched) => {
                    lease.answered();
                    let Fetched {
                        head,
                        body,
                        first,
                        closes,
                    } = fetched;
                    let is_kept = !closes;
                    let body =
                        FetchedBody::new(raw, is_kept, body, first, lease, deadline, failures);
                    return Ok(head.map(|()| body::Body::fetched(body)));
                }
                // As in an exchange (RFC 9112 §9.3.1): all that is fetched is idempotent.
                Err(step) if step.is_stale(&raw) => {
                    tries.stale.push(lease.upstream().id);
                    let again = Box::pin(pool.checkout_raw(upstreams, &mut tries));
                    (lease, raw) = again.await?;
                }
                Err(step) => {
                    let error = step.error(&lease);
                    lease.failed(&error);
                    return Err(error);
                }
            }
        }
    }

    async fn ask(
        &self,
        head: &[u8],
        method: &Method,
        lease: &Lease,
        raw: &mut Raw,
        deadline: &mut Deadline,
    ) -> Result<Fetched, Step> {
        let sent = write_all(&mut raw.stream, head, deadline).await;
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Step::Late,
            _ => Step::Closed(error),
        })?;
        let limits = &lease.upstream().settings.limits;
        let to_head = *method == Method::HEAD;
        let mut received = Received::default();
        poll_fn(|cx| {
            let scratch = &mut *self.scratch.borrow_mut();
            let received = &mut received;
            let read = raw.poll_head(
                cx,
                scratch,
                received,
                limits,
                to_head,
                |_, head, rest, _| Fetched::cut_out(head, rest),
            );
            match read {
                Poll::Ready(fetched) => Poll::Ready(fetched?),
                Poll::Pending => deadline.poll(cx).map(|()| Err(Step::Late)),
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
        write_field(&HOST, upstream.authority.as_bytes(), out);
    }
    for (name, value) in &request.headers {
        if !(replaced && *name == HOST) {
            write_field(name, value.as_bytes(), out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

impl Fetched {
    /// The response whose head was read, `rest` behind it.
    fn cut_out(head: &ResponseHead<'_, '_>, rest: &[u8]) -> Result<Self, Step> {
        // One piece of memory for all values and what came of the body.
        let mut bytes = BytesMut::with_capacity(head.bytes.len() + rest.len());
        bytes.extend_from_slice(head.bytes);
        bytes.extend_from_slice(rest);
        let bytes = bytes.freeze();
        let lists = head.lists.unwrap_or_default();
        let mut fields = HeaderMap::with_capacity(head.fields.len() + OUR_FIELDS);
        for field in head.fields {
            let is_left_out = forward::is_connection_field(field.name)
                || !lists.is_empty() && is_listed(lists, field.name);
            if is_left_out {
                continue;
            }
            let start = offset(head.bytes, field.value);
            let value = bytes.slice(start..start + field.value.len());
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Step::Unacceptable(INVALID));
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
            body: Body::of(head.body),
            first: bytes.slice(head.bytes.len()..),
            closes: head.closes,
        })
    }
}
