//! A dedicated connection for requests that the proxy makes itself: one after another on one
//! connection, as long as the server keeps it open.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use crate::net::abort_on_drop::AbortOnDrop;

use super::endpoint::Upstream;
use super::error::{Error, from_hyper};
use super::http1_once;
use super::http1_response::NoReply;
use super::local_executor::LocalExecutor;
use super::stream::UpstreamStream;

/// A connection to an upstream that is not shared.
pub(crate) struct DirectConn<'u> {
    upstream: &'u Upstream,
    protocol: DirectProtocol,
    patience: Duration,
}

enum DirectProtocol {
    /// `None`: the server closed it, or it failed.
    Http1(Option<UpstreamStream>),
    Http2 {
        sender: http2::SendRequest<Full<Bytes>>,
        /// Drives the connection.
        _driver: AbortOnDrop,
    },
}

impl<'u> DirectConn<'u> {
    /// Connects within the upstream's time limit. A response, including its body, may take
    /// `patience`.
    pub(crate) async fn open(upstream: &'u Upstream, patience: Duration) -> Result<Self, Error> {
        let stream = UpstreamStream::connect(upstream).await?;
        let protocol = if stream.speaks_http2(upstream) {
            let handshake = http2::Builder::new(LocalExecutor).handshake(TokioIo::new(stream));
            let handshake = tokio::time::timeout(patience, handshake).await;
            let handshake = handshake.map_err(|_| late(upstream))?;
            let (sender, connection) = handshake.map_err(|error| from_hyper(error, upstream))?;
            let driver = tokio::task::spawn_local(async move { drop(connection.await) });
            DirectProtocol::Http2 {
                sender,
                _driver: driver.into(),
            }
        } else {
            DirectProtocol::Http1(Some(stream))
        };
        Ok(Self {
            upstream,
            protocol,
            patience,
        })
    }

    /// Sends a request with a `Host` field and reads a response of at most `most` bytes.
    pub(crate) async fn send(
        &mut self,
        request: Request<Bytes>,
        most: usize,
    ) -> Result<Response<Bytes>, Error> {
        let upstream = self.upstream;
        let exchange = async {
            match &mut self.protocol {
                DirectProtocol::Http1(stream) => over_http1(stream, &request, upstream, most).await,
                DirectProtocol::Http2 { sender, .. } => {
                    over_http2(sender, request, upstream, most).await
                }
            }
        };
        let exchanged = tokio::time::timeout(self.patience, exchange).await;
        exchanged.unwrap_or_else(|_| Err(late(upstream)))
    }
}

fn late(upstream: &Upstream) -> Error {
    Error::ResponseHeadTimeout {
        upstream: upstream.to_string(),
    }
}

const TOO_LARGE: &str = "a larger response than expected";

async fn over_http1(
    kept: &mut Option<UpstreamStream>,
    request: &Request<Bytes>,
    upstream: &Upstream,
    most: usize,
) -> Result<Response<Bytes>, Error> {
    let bytes = as_bytes(request);
    let limits = &upstream.settings.limits;
    // Taken out, so that the connection is closed on an error or when the future is dropped.
    let mut answered = None;
    if let Some(mut stream) = kept.take() {
        match http1_once::send(&mut stream, &bytes, limits, most + 1).await {
            // The server closed it after the last response. All requests sent here are safe to
            // repeat.
            Err(NoReply::Closed(_)) => {}
            answer => answered = Some((stream, answer)),
        }
    }
    let (stream, answer) = match answered {
        Some(answered) => answered,
        None => {
            let mut stream = UpstreamStream::connect_for_http1(upstream).await?;
            let answer = http1_once::send(&mut stream, &bytes, limits, most + 1).await;
            (stream, answer)
        }
    };
    let answer = answer.map_err(|error| error.error_of(upstream))?;
    if answer.body.len() > most {
        return Err(NoReply::Unacceptable(TOO_LARGE.into()).error_of(upstream));
    }
    if answer.keeps_open {
        *kept = Some(stream);
    }
    let mut response = Response::new(Bytes::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.fields;
    Ok(response)
}

fn as_bytes(request: &Request<Bytes>) -> Vec<u8> {
    let target = request.uri().path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let mut bytes = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let length = format!("{CONTENT_LENGTH}: {}\r\n\r\n", request.body().len());
    bytes.extend_from_slice(length.as_bytes());
    bytes.extend_from_slice(request.body());
    bytes
}

async fn over_http2(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    request: Request<Bytes>,
    upstream: &Upstream,
    most: usize,
) -> Result<Response<Bytes>, Error> {
    let failed = |error| from_hyper(error, upstream);
    let mut request = request.map(Full::new);
    name_authority(&mut request, upstream.settings.tls.is_some());
    sender.ready().await.map_err(failed)?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, most).collect().await;
    let body = body.map_err(|_| Error::Unacceptable {
        upstream: upstream.to_string(),
        what: TOO_LARGE.into(),
    })?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// In HTTP/2, the target names the host.
fn name_authority(request: &mut Request<Full<Bytes>>, has_tls: bool) {
    let host = request.headers_mut().remove(HOST);
    let mut parts = request.uri().clone().into_parts();
    parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    parts.scheme = Some(if has_tls { Scheme::HTTPS } else { Scheme::HTTP });
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}
