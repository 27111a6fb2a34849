//! A connection of its own for requests that are not a client's exchange: one after another on one
//! connection, so that the same server answers all of them.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::endpoint::Upstream;
use super::error::{Error, from_hyper};
use super::local_executor::LocalExecutor;
use super::stream::Stream;

/// A connection to an upstream that nobody else uses.
#[derive(Debug)]
pub(crate) struct DirectConn {
    sender: Sender,
    driver: AbortHandle,
    /// As errors name the upstream.
    upstream: String,
    has_tls: bool,
    patience: Duration,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Drop for DirectConn {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl DirectConn {
    /// Connects within the upstream's time. A response may take `patience`, its body included.
    pub(crate) async fn open(upstream: &Upstream, patience: Duration) -> Result<Self, Error> {
        let failed = |error| from_hyper(error, upstream);
        let limits = &upstream.settings.limits;
        let stream = Stream::connect(upstream).await?;
        let (sender, driver) = if stream.speaks_http2(upstream) {
            let handshake = http2::Builder::new(LocalExecutor).handshake(TokioIo::new(stream));
            let (sender, connection) = handshake.await.map_err(failed)?;
            let driver = tokio::task::spawn_local(async move { drop(connection.await) });
            (Sender::Http2(sender), driver)
        } else {
            let mut builder = http1::Builder::new();
            builder
                .max_headers(limits.response_header_count)
                .max_buf_size(limits.response_head_bytes.max(8 * 1024));
            let handshake = builder.handshake(TokioIo::new(stream));
            let (sender, connection) = handshake.await.map_err(failed)?;
            let driver = tokio::task::spawn_local(async move { drop(connection.await) });
            (Sender::Http1(sender), driver)
        };
        Ok(Self {
            sender,
            driver: driver.abort_handle(),
            upstream: upstream.to_string(),
            has_tls: upstream.settings.tls.is_some(),
            patience,
        })
    }

    /// Sends a request with a `Host` field and reads a response of at most `most` bytes.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Response<Bytes>, Error> {
        match tokio::time::timeout(self.patience, self.exchange(request, most)).await {
            Ok(result) => result,
            Err(_) => Err(Error::ResponseHeadTimeout {
                upstream: self.upstream.clone(),
            }),
        }
    }

    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Response<Bytes>, Error> {
        let failed = |error| from_hyper(error, &self.upstream);
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(failed)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(failed)?;
                name_authority(&mut request, self.has_tls);
                sender.send_request(request).await
            }
        };
        let (parts, body) = response.map_err(failed)?.into_parts();
        let body = Limited::new(body, most).collect().await;
        let body = body.map_err(|error| Error::Unacceptable {
            upstream: self.upstream.clone(),
            what: format!("a response whose body cannot be read: {error}").into(),
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

/// HTTP/2 names the host in the target.
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
