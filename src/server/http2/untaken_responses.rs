//! Responses that h2 has in full, but has not sent in full: their client has no room for the rest.
//!
//! A stream's task ends when it has passed on the last piece. From then on, the connection's task
//! watches the response: its stream counts as open until the client has taken everything, and is
//! reset if the client takes nothing for too long.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use h2::{Reason, SendStream};
use tokio::time::Instant;

use crate::net::deadline::Deadline;

use super::streams::{Piece, StreamExchange, WaitingBytes};

/// The untaken responses of one connection.
#[derive(Default)]
pub(super) struct UntakenResponses(RefCell<List>);

#[derive(Default)]
struct List {
    responses: Vec<UntakenResponse>,
    /// Created when a response is left for longer than a turn of the connection.
    timer: Option<Deadline>,
    /// Wakes the connection's task.
    waker: Option<Waker>,
}

/// A response that was passed on to its end.
pub(super) struct UntakenResponse {
    stream: SendStream<Piece>,
    /// Counts the stream as open.
    _exchange: StreamExchange,
    waiting: Rc<WaitingBytes>,
    /// How many bytes the client had taken when it last took some, and until when it may take
    /// nothing; `None` before the first look.
    progress: Option<(usize, Instant)>,
    /// How long the client may take nothing of it.
    patience: Duration,
}

impl UntakenResponse {
    pub(super) fn new(
        stream: SendStream<Piece>,
        exchange: StreamExchange,
        waiting: Rc<WaitingBytes>,
        patience: Duration,
    ) -> Self {
        Self {
            stream,
            _exchange: exchange,
            waiting,
            progress: None,
            patience,
        }
    }

    /// Until when the client may take nothing; later if it has taken something.
    fn until(&mut self, now: Instant) -> Instant {
        let taken = self.waiting.taken();
        match self.progress {
            Some((before, until)) if before == taken => until,
            _ => {
                let until = now + self.patience;
                self.progress = Some((taken, until));
                until
            }
        }
    }
}

impl UntakenResponses {
    /// Adds a response. Most are gone after the connection's next turn.
    pub(super) fn add(&self, response: UntakenResponse) {
        let list = &mut *self.0.borrow_mut();
        list.responses.push(response);
        // Without room, h2 has nothing to send and doesn't wake the connection.
        if let Some(waker) = &list.waker {
            waker.wake_by_ref();
        }
    }

    /// Forgets the responses that were sent, and resets the streams whose client took nothing for
    /// too long. To be called after each turn of the connection, by its task.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) {
        let List {
            responses,
            timer,
            waker,
        } = &mut *self.0.borrow_mut();
        match waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        responses.retain(|response| response.waiting.are_some());
        if responses.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut due: Option<Instant> = None;
        responses.retain_mut(|response| {
            let until = response.until(now);
            if until > now {
                due = Some(due.map_or(until, |due| due.min(until)));
                return true;
            }
            response.stream.send_reset(Reason::CANCEL);
            // The reset goes out in the next turn.
            cx.waker().wake_by_ref();
            false
        });
        let Some(due) = due else {
            return;
        };
        let timer = timer.get_or_insert_with(|| Deadline::after(due - now));
        timer.set(due);
        if timer.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
