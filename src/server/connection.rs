//! One client's connection: plain preflights at the edge, everything else by hyper, until it ends
//! or we drain.
//!
//! While a connection waits it holds no buffer: the worker's one scratch buffer is borrowed when
//! bytes are there. They are looked at once: HTTP/2 begins with its preface, a plain preflight is
//! answered there and then, and whatever else goes to hyper with the bytes that were read.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use crate::metrics::Metrics;
use crate::proxy::Client;
use crate::proxy::Edge;
use crate::proxy::Proxy;

use super::Limits;
use super::drain::{DrainSignal, GRACE};
use super::http2::Http2;
use super::listener::Socket;
use super::prefixed::Prefixed;

/// How a client that knows that we speak HTTP/2 begins ([RFC 9113 §3.4]).
///
/// [RFC 9113 §3.4]: https://www.rfc-editor.org/rfc/rfc9113#section-3.4
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As much as is read at once of what a client begins with.
const SCRATCH: usize = 16 * 1024;

/// Serves connections: one worker's protocol settings.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: Http2,
    limits: Limits,
    scratch: RefCell<Scratch>,
}

/// One worker's buffers, borrowed between two waits and never across one.
struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
}

/// What is to be done after bytes were looked at.
enum Next {
    /// There was nothing yet: sockets are said to be ready once too often.
    Nothing,
    /// All was answered: wait for more.
    Wait,
    /// Write the rest of the answer, which the socket did not take.
    Write(Vec<u8>),
    /// The connection ends.
    End,
    /// hyper goes on, with these bytes first.
    Http1(Bytes),
    Http2(Bytes),
    /// Too few bytes to tell.
    Unclear(Bytes),
}

impl Protocols {
    pub(super) fn new(limits: &Limits, metrics: &Arc<Metrics>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_read)
            .max_headers(limits.header_count)
            .max_header_size(limits.request_head_bytes);
        Self {
            http1,
            http2: Http2::new(limits, metrics),
            limits: limits.clone(),
            scratch: RefCell::new(Scratch {
                input: vec![0; SCRATCH].into(),
                output: Vec::new(),
            }),
        }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve<S: Socket>(
        &self,
        mut stream: S,
        client: Client,
        proxy: Rc<Proxy>,
        drain: DrainSignal,
    ) {
        let mut watch = Watch {
            drain: &drain,
            closing: pin!(drain.closing()),
            is_closing: false,
            is_hurried: false,
            is_fresh: true,
            silence: pin!(tokio::time::sleep(self.limits.head_read)),
            keep_alive_idle: self.limits.keep_alive_idle,
            asked: false,
            heard: false,
        };
        let (first, is_http2) = loop {
            if !poll_fn(|cx| watch.poll_readable(&stream, cx)).await {
                return;
            }
            match self.look(&stream, &proxy, &drain) {
                Next::Nothing => {}
                Next::Wait => watch.heard(),
                Next::Write(rest) => {
                    watch.heard();
                    if write(&mut stream, &rest, self.limits.head_read)
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                Next::End => return,
                Next::Http1(first) => break (first, false),
                Next::Http2(first) => break (first, true),
                Next::Unclear(first) => {
                    let sniffed = sniff(&mut stream, first);
                    match tokio::time::timeout(self.limits.head_read, sniffed).await {
                        Ok(Ok(sniffed)) => break sniffed,
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
            }
        };
        let stream = Prefixed::new(first, stream);
        self.serve_as(is_http2, stream, client, proxy, &drain).await;
    }

    /// Serves a connection to its end whose handshake told what is spoken.
    pub(super) async fn serve_as<S>(
        &self,
        is_http2: bool,
        stream: S,
        client: Client,
        proxy: Rc<Proxy>,
        drain: &DrainSignal,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if is_http2 {
            self.http2.serve(stream, client, proxy, drain).await;
        } else {
            self.http1(stream, client, proxy, drain).await;
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads what is there and answers what can be answered at once.
    fn look<S: Socket>(&self, stream: &S, proxy: &Proxy, drain: &DrainSignal) -> Next {
        let scratch = &mut *self.scratch.borrow_mut();
        let read = match stream.try_read(&mut scratch.input) {
            Ok(0) => return Next::End,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Nothing,
            Err(_) => return Next::End,
        };
        let mut bytes = scratch.input.get(..read).unwrap_or_default();
        if HTTP2_PREFACE.starts_with(bytes) {
            return Next::Unclear(Bytes::copy_from_slice(bytes));
        }
        if bytes.starts_with(HTTP2_PREFACE) {
            return Next::Http2(Bytes::copy_from_slice(bytes));
        }
        scratch.output.clear();
        // A connection that is to end is told so by hyper.
        let mut ends = false;
        let draining = drain.has_begun();
        while !bytes.is_empty() && !ends && !draining {
            let Edge::Answered { consumed, close } =
                proxy.answer_at_edge(bytes, &mut scratch.output)
            else {
                break;
            };
            bytes = bytes.get(consumed..).unwrap_or_default();
            ends = close;
        }
        let rest = Bytes::copy_from_slice(bytes);
        if scratch.output.is_empty() {
            return Next::Http1(rest);
        }
        match stream.try_write(&scratch.output) {
            Ok(written) if written == scratch.output.len() => {}
            Ok(written) if rest.is_empty() && !ends => {
                let unwritten = scratch.output.get(written..).unwrap_or_default();
                return Next::Write(unwritten.to_vec());
            }
            Ok(_) | Err(_) => return Next::End,
        }
        if ends {
            Next::End
        } else if rest.is_empty() {
            Next::Wait
        } else {
            Next::Http1(rest)
        }
    }

    async fn http1<S>(&self, stream: S, client: Client, proxy: Rc<Proxy>, drain: &DrainSignal)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let proxy = Rc::clone(&proxy);
            async move { Ok::<_, Infallible>(proxy.respond(request, client).await) }
        });
        let connection = self.http1.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection.with_upgrades());
        if until_closing(connection.as_mut(), drain).await {
            connection.as_mut().graceful_shutdown();
            log_end(connection.await);
        }
    }
}

/// Polls a connection to its end; true: the server stops before that.
///
/// The drain is asked once, which has it wake the task, and then only when it has begun.
async fn until_closing<C>(mut connection: Pin<&mut C>, drain: &DrainSignal) -> bool
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut closing = pin!(drain.closing());
    let mut asked = false;
    poll_fn(|cx| {
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            log_end(result);
            return Poll::Ready(false);
        }
        if (!asked || drain.has_begun()) && closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        asked = true;
        Poll::Pending
    })
    .await
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

/// Waits for bytes, for as long as a client may be silent and nobody stops the server.
///
/// Both limits are asked once, which has them wake the task, and then only when they may have
/// come: a request costs no timer and no lock.
struct Watch<'w, C> {
    drain: &'w DrainSignal,
    closing: Pin<&'w mut C>,
    silence: Pin<&'w mut Sleep>,
    keep_alive_idle: Duration,
    is_closing: bool,
    /// Whether the silence is limited by the grace.
    is_hurried: bool,
    /// Whether nothing came yet: who has just connected is about to ask something.
    is_fresh: bool,
    asked: bool,
    /// Whether something came since the silence began to be timed.
    heard: bool,
}

impl<C: Future<Output = ()>> Watch<'_, C> {
    /// Something was asked, and answered.
    fn heard(&mut self) {
        self.heard = true;
        self.is_fresh = false;
    }

    /// True: there may be bytes. False: none came in time, or the server stops.
    fn poll_readable<S: Socket>(&mut self, stream: &S, cx: &mut Context<'_>) -> Poll<bool> {
        if let Poll::Ready(ready) = stream.poll_read_ready(cx) {
            return Poll::Ready(ready.is_ok());
        }
        self.is_closing = self.is_closing
            || (!self.asked || self.drain.has_begun()) && self.closing.as_mut().poll(cx).is_ready();
        if self.is_closing && !self.is_fresh {
            return Poll::Ready(false);
        }
        if self.is_closing && !self.is_hurried {
            self.is_hurried = true;
            self.asked = false;
            self.silence.as_mut().reset(Instant::now() + GRACE);
        }
        if !self.asked || self.silence.is_elapsed() {
            while self.silence.as_mut().poll(cx).is_ready() {
                if !self.heard {
                    return Poll::Ready(false);
                }
                self.heard = false;
                self.silence
                    .as_mut()
                    .reset(Instant::now() + self.keep_alive_idle);
            }
        }
        self.asked = true;
        Poll::Pending
    }
}

async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
    limit: Duration,
) -> io::Result<()> {
    tokio::time::timeout(limit, stream.write_all(bytes)).await?
}

/// Reads on until it is clear whether the client begins with the preface.
async fn sniff<S: AsyncRead + Unpin>(stream: &mut S, first: Bytes) -> io::Result<(Bytes, bool)> {
    let mut first = first.to_vec();
    loop {
        if first.len() >= HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&first) {
            let is_http2 = first.starts_with(HTTP2_PREFACE);
            return Ok((first.into(), is_http2));
        }
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
