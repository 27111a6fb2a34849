//! One worker's connections to one upstream.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::upstream::balance::{ConnPermit, QueueTurn, UpstreamState};
use crate::upstream::error::Error;
use crate::upstream::http1_conn::{Http1Conn, IdleConns};
use crate::upstream::stream::UpstreamStream;

use super::http2_conn::{Http2Conn, Opening};

/// One worker's connections to one upstream.
pub(crate) struct UpstreamPool {
    pub(crate) state: Rc<UpstreamState>,
    pub(crate) idle: Rc<IdleConns>,
    pub(crate) http2: RefCell<Option<Http2Conn>>,
    pub(crate) http2_used: Cell<Instant>,
    /// How many HTTP/2 connections have been opened.
    pub(crate) http2_opened: Cell<u64>,
    pub(crate) http2_opening: Opening,
}

/// How a request gets its connection.
enum Checkout<T> {
    /// An open connection.
    Taken(T),
    /// A permit for a new one.
    Free(ConnPermit),
}

impl UpstreamPool {
    /// A connection that is ready for a request; with `fresh`, a new one.
    pub(crate) async fn ready(self: &Rc<Self>, fresh: bool) -> Result<Ready, Error> {
        if !fresh {
            self.http2_opened().await?;
        }
        let permit = match self.place(fresh, || self.take()).await? {
            Checkout::Taken(ready) => return Ok(ready),
            Checkout::Free(permit) => permit,
        };
        let _opening = self.http2_opening.begin();
        let stream = self
            .connect(UpstreamStream::connect(self.state.upstream()))
            .await?;
        let speaks_http2 = stream.speaks_http2(self.state.upstream());
        if self.http2_opening.learned(speaks_http2) {
            let connection = self.open_http2(stream, permit).await?;
            let reused = false;
            return Ok(Ready::Http2 { connection, reused });
        }
        let conn = Http1Conn::new(stream, Rc::downgrade(&self.idle), permit);
        Ok(Ready::Http1(conn))
    }

    /// Likewise, for HTTP/1.1 only.
    pub(crate) async fn http1(self: &Rc<Self>, fresh: bool) -> Result<Box<Http1Conn>, Error> {
        let take = async || self.idle.take();
        match self.place(fresh, take).await? {
            Checkout::Taken(conn) => Ok(conn),
            Checkout::Free(permit) => {
                let stream = self
                    .connect(UpstreamStream::connect(self.state.upstream()))
                    .await?;
                Ok(Http1Conn::new(stream, Rc::downgrade(&self.idle), permit))
            }
        }
    }

    /// A new, unused connection for HTTP/1.1.
    pub(crate) async fn stream(&self) -> Result<(UpstreamStream, ConnPermit), Error> {
        let take = async || None::<std::convert::Infallible>;
        match self.place(true, take).await? {
            Checkout::Taken(never) => match never {},
            Checkout::Free(permit) => {
                let stream = UpstreamStream::connect_for_http1(self.state.upstream());
                let stream = self.connect(stream).await?;
                Ok((stream, permit))
            }
        }
    }

    /// Opens a connection, and counts how long that takes.
    async fn connect(
        &self,
        opening: impl Future<Output = Result<UpstreamStream, Error>>,
    ) -> Result<UpstreamStream, Error> {
        let since = Instant::now();
        let stream = opening.await?;
        self.state.counts.connected(since.elapsed());
        Ok(stream)
    }

    /// What `take` finds, unless a `fresh` one is needed, or else a permit for a new connection,
    /// waiting for it if necessary.
    async fn place<T>(
        &self,
        fresh: bool,
        take: impl AsyncFn() -> Option<T>,
    ) -> Result<Checkout<T>, Error> {
        let mut turn = None;
        loop {
            if turn.is_some() || !self.state.has_queue() {
                if !fresh && let Some(taken) = take().await {
                    return Ok(Checkout::Taken(taken));
                }
                if let Some(permit) = self.connect_permit(fresh) {
                    return Ok(Checkout::Free(permit));
                }
            }
            self.wait(&mut turn).await?;
        }
    }

    /// Waits for a connection to become free. One limit applies to all waits of a request.
    async fn wait<'a>(&'a self, turn: &mut Option<QueueTurn<'a>>) -> Result<(), Error> {
        if turn.is_none() {
            *turn = Some(self.state.queue()?);
        }
        match turn {
            Some(turn) => turn.wait().await,
            None => Ok(()),
        }
    }

    /// A permit for a new connection. With `fresh`, an idle connection is closed to make room.
    fn connect_permit(&self, fresh: bool) -> Option<ConnPermit> {
        self.state.connect_permit().or_else(|| {
            let makes_room = fresh && self.idle.close_one();
            self.state.connect_permit().filter(|_| makes_room)
        })
    }

    /// Takes an open connection.
    async fn take(&self) -> Option<Ready> {
        if self.state.upstream().settings.http2
            && let Some(connection) = self.http2().await
        {
            let reused = true;
            return Some(Ready::Http2 { connection, reused });
        }
        self.idle.take().map(Ready::Http1)
    }
}

/// A connection that is ready for a request.
pub(crate) enum Ready {
    Http1(Box<Http1Conn>),
    Http2 { connection: Http2Conn, reused: bool },
}
