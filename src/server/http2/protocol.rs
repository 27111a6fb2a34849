//! h2's connection: its handshake, its requests, and its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::RecvStream;
use h2::server::{Connection, Handshake, SendResponse};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::receive_window::ReceiveWindow;
use super::streams::Piece;

/// A connection that calls `begin` with each request; resolves when the connection ends.
pub(super) struct Protocol<S, F> {
    stage: Stage<S>,
    window: ReceiveWindow,
    /// The size of the streams' windows in the last SETTINGS frame, in bytes.
    announced: u32,
    begin: F,
    is_shutting_down: bool,
}

enum Stage<S> {
    Handshake(Handshake<S, Piece>),
    Open(Connection<S, Piece>),
}

impl<S, F> Protocol<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Request<RecvStream>, SendResponse<Piece>) + Unpin,
{
    pub(super) fn new(handshake: Handshake<S, Piece>, window: ReceiveWindow, begin: F) -> Self {
        Self {
            stage: Stage::Handshake(handshake),
            announced: window.bytes(),
            window,
            begin,
            is_shutting_down: false,
        }
    }

    /// Ends it after the responses to current requests ([RFC 9113 §6.8]).
    ///
    /// [RFC 9113 §6.8]: https://www.rfc-editor.org/rfc/rfc9113#section-6.8
    pub(super) fn shut_down(&mut self) {
        self.is_shutting_down = true;
        if let Stage::Open(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }

    /// Grows the window according to the total `received` bytes.
    pub(super) fn grow_window(&mut self, received: u64) {
        let Stage::Open(connection) = &mut self.stage else {
            return;
        };
        let has_grown = self.window.grow(received);
        let bytes = self.window.bytes();
        if has_grown {
            connection.set_target_window_size(bytes);
        }
        // Fails while the client has not acknowledged an earlier change; tried again in each turn.
        if bytes != self.announced && connection.set_initial_window_size(bytes).is_ok() {
            self.announced = bytes;
        }
    }
}

impl<S, F> Future for Protocol<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Request<RecvStream>, SendResponse<Piece>) + Unpin,
{
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &mut this.stage {
                Stage::Handshake(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if this.is_shutting_down {
                        connection.graceful_shutdown();
                    }
                    this.stage = Stage::Open(connection);
                }
                Stage::Open(connection) => match ready!(connection.poll_accept(cx)) {
                    Some(request) => {
                        let (request, respond) = request?;
                        (this.begin)(request, respond);
                    }
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}
