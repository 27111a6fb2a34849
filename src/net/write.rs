//! Writes to a socket: as much as it accepts at once, or everything before a deadline.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::deadline::{Deadline, due};

/// Writes as much as the socket accepts at once and returns the rest.
pub(crate) fn write_at_once<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut W,
    bytes: &[u8],
) -> io::Result<Vec<u8>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, rest) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    flush(cx, stream)?;
    Ok(rest.to_vec())
}

/// Like [`write_at_once`], for a head and its body.
pub(crate) fn write_both_at_once<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut W,
    head: &[u8],
    body: &[u8],
) -> io::Result<Vec<u8>> {
    let slices = [IoSlice::new(head), IoSlice::new(body)];
    let written = match Pin::new(&mut *stream).poll_write_vectored(cx, &slices) {
        Poll::Ready(Ok(written)) => written,
        Poll::Ready(Err(error)) => return Err(error),
        Poll::Pending => 0,
    };
    let mut rest = head.get(written..).unwrap_or_default().to_vec();
    let body = body
        .get(written.saturating_sub(head.len())..)
        .unwrap_or_default();
    if rest.is_empty() {
        return write_at_once(cx, stream, body);
    }
    rest.extend_from_slice(body);
    Ok(rest)
}

/// Flushes what TLS holds back above the socket, as far as possible now. The rest goes out when
/// this is called again, or with [`write_all`].
pub(crate) fn flush<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, stream: &mut W) -> io::Result<()> {
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
    }
}

/// Writes all bytes before the deadline. With `renewed`, each write that makes progress moves the
/// deadline to that long from now.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    bytes: &[u8],
    deadline: &mut Deadline,
    renewed: Option<Duration>,
) -> io::Result<()> {
    let mut rest = bytes;
    poll_fn(|cx| {
        while !rest.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    rest = rest.get(written..).unwrap_or_default();
                    if let Some(limit) = renewed {
                        deadline.set(due(limit));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let late = || Err(io::ErrorKind::TimedOut.into());
                    return deadline.poll(cx).map(|()| late());
                }
            }
        }
        match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Pending => deadline
                .poll(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready => ready,
        }
    })
    .await
}
