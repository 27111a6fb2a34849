//! One client's connection: HTTP/1.1 or HTTP/2 by its first bytes, until it ends or we drain.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::proxy::Client;
use crate::proxy::LocalExecutor;
use crate::proxy::Proxy;

use super::Limits;
use super::drain::DrainSignal;
use super::prefixed::Prefixed;

/// How a client that knows that we speak HTTP/2 begins ([RFC 9113 §3.4]).
///
/// [RFC 9113 §3.4]: https://www.rfc-editor.org/rfc/rfc9113#section-3.4
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves connections: one worker's protocol settings.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
    limits: Limits,
}

impl Protocols {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_read)
            .max_headers(limits.header_count)
            .max_header_size(limits.request_head_bytes);
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(u32::try_from(limits.request_head_bytes).unwrap_or(u32::MAX));
        Self {
            http1,
            http2,
            limits: limits.clone(),
        }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve<S>(
        &self,
        mut stream: S,
        client: Client,
        proxy: Rc<Proxy>,
        drain: DrainSignal,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sniffed = tokio::time::timeout(self.limits.head_read, sniff(&mut stream));
        let (first, is_http2) = tokio::select! {
            biased;
            sniffed = sniffed => match sniffed {
                Ok(Ok(Some(sniffed))) => sniffed,
                // Nothing was asked, so nothing is answered.
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            },
            () = drain.closing() => return,
        };
        let io = TokioIo::new(Prefixed::new(first, stream));
        let service = service_fn(move |request| {
            let proxy = Rc::clone(&proxy);
            async move { Ok::<_, Infallible>(proxy.respond(request, client).await) }
        });
        let result = if is_http2 {
            let mut connection = pin!(self.http2.serve_connection(io, service));
            tokio::select! {
                biased;
                result = connection.as_mut() => result,
                () = drain.closing() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let mut connection = pin!(self.http1.serve_connection(io, service).with_upgrades());
            tokio::select! {
                biased;
                result = connection.as_mut() => result,
                () = drain.closing() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a client's connection ended early");
        }
    }
}

/// Reads until it is clear what the client speaks. `None`: it left without a word.
async fn sniff<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<(Bytes, bool)>> {
    let mut first = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Ok(None);
        }
        if first.len() >= HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&first) {
            let is_http2 = first.starts_with(HTTP2_PREFACE);
            return Ok(Some((first.freeze(), is_http2)));
        }
    }
}
