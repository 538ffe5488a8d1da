//! Reads a body ahead of the answers to it, for clients that send everything before they read anything.
//!
//! While the answers leave, nothing is read ahead: memory holds one piece. Where they do not leave, because the client does not
//! read yet, the body is read on into memory, within a bound of its own and what the door has for bodies. Past that the client
//! waits, as it would have from the beginning.

use super::connection_state::ConnectionState;
use crate::answer::Refusal;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

/// Answers that were not asked for within this time are not read by the client.
const UNREAD_AFTER: Duration = Duration::from_millis(5);

/// How often a body that is silent is looked after: whether its sender may still send, whether there is room again.
const LOOK: Duration = Duration::from_millis(500);

/// What is kept lies in segments of this size, so that it costs no more than it holds, however small the pieces were.
const SEGMENT_BYTES: usize = 64 << 10;

/// The next of a body.
pub enum Next {
    /// The next bytes of the body.
    Piece(Bytes),
    /// All has come.
    End,
    /// The body ended before its end.
    Broken(hyper::Error),
    /// The sender may send no more.
    Refused(Refusal),
}

/// A body that is being read. Concurrency: a task of the same thread reads; it ends with the body, or when this is dropped.
pub struct ReadAhead {
    queue: Rc<RefCell<Queue>>,
    reader: AbortHandle,
}

impl ReadAhead {
    /// Begins to read. `bytes_max` may be kept; `admits` tells whether the sender may still send.
    pub fn read(
        body: Incoming,
        bytes_max: usize,
        connection: Rc<ConnectionState>,
        admits: impl Fn() -> Result<(), Refusal> + 'static,
    ) -> ReadAhead {
        let queue = Rc::new(RefCell::new(Queue::new(connection)));
        let reader = BodyReader {
            body,
            bytes_max,
            queue: queue.clone(),
            paid: 0,
            unread_at: None,
        };
        let task = tokio::task::spawn_local(reader.run(admits));
        ReadAhead {
            queue,
            reader: task.abort_handle(),
        }
    }

    /// Returns what came first and was not given out yet.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = self.queue.borrow_mut().next();
        let mut queue = self.queue.borrow_mut();
        queue.asked += 1;
        queue.wake_reader();
        match next {
            Some(next) => {
                queue.connection.awaits_more(false);
                Poll::Ready(next)
            }
            None => {
                queue.connection.awaits_more(true);
                queue.answers = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Notes that the answers are asked for, without taking anything.
    pub fn asks(&self) {
        self.queue.borrow_mut().asked += 1;
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What lies between the reader and the answers.
struct Queue {
    connection: Rc<ConnectionState>,
    /// What came while the answers waited for it: not copied.
    first: Option<Bytes>,
    kept: VecDeque<BytesMut>,
    kept_bytes: usize,
    end: Option<Next>,
    /// How often something was asked for.
    asked: u64,
    answers: Option<Waker>,
    reader: Option<Waker>,
}

impl Queue {
    fn new(connection: Rc<ConnectionState>) -> Queue {
        Queue {
            connection,
            first: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            end: None,
            asked: 0,
            answers: None,
            reader: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.kept.is_empty()
    }

    fn next(&mut self) -> Option<Next> {
        if let Some(Next::Refused(refusal)) = self.end {
            return Some(Next::Refused(refusal));
        }
        if let Some(first) = self.first.take() {
            return Some(Next::Piece(first));
        }
        match self.kept.pop_front() {
            Some(piece) => {
                self.kept_bytes -= piece.len();
                self.connection.thread.give_bytes_back(piece.len());
                Some(Next::Piece(piece.freeze()))
            }
            None => self.end.take(),
        }
    }

    /// Takes in what came. What is kept is paid for already.
    fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.first = Some(piece);
        } else {
            self.keep(&piece);
        }
        self.wake_answers();
    }

    fn keep(&mut self, mut piece: &[u8]) {
        self.kept_bytes += piece.len();
        while !piece.is_empty() {
            let room = |last: &BytesMut| SEGMENT_BYTES.saturating_sub(last.len());
            if self.kept.back().is_none_or(|last| room(last) == 0) {
                self.kept.push_back(BytesMut::with_capacity(SEGMENT_BYTES));
            }
            let last = self.kept.back_mut().expect("one was just added");
            let fits = piece.len().min(room(last));
            last.extend_from_slice(&piece[..fits]);
            piece = &piece[fits..];
        }
    }

    fn end(&mut self, end: Next) {
        self.end = Some(end);
        self.wake_answers();
    }

    fn wake_answers(&mut self) {
        if let Some(waker) = self.answers.take() {
            waker.wake();
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.connection.thread.give_bytes_back(self.kept_bytes);
    }
}

/// The task that reads.
struct BodyReader {
    body: Incoming,
    bytes_max: usize,
    queue: Rc<RefCell<Queue>>,
    /// What is taken out of the door's bytes for the next piece that is kept.
    paid: usize,
    /// As often as this something was asked for when the answers were found unread.
    unread_at: Option<u64>,
}

impl BodyReader {
    async fn run(mut self, admits: impl Fn() -> Result<(), Refusal>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            let reads = tokio::select! {
                biased;
                _ = look.tick() => admits().err().map(Next::Refused),
                reads = self.read() => reads,
            };
            if let Some(end) = reads {
                break end;
            }
        };
        self.queue.borrow_mut().end(end);
    }

    /// Reads a piece, once there is room for it; Some at the end. Nothing is lost where this is dropped.
    async fn read(&mut self) -> Option<Next> {
        self.room().await;
        let piece = match self.body.frame().await {
            None => return Some(Next::End),
            Some(Err(error)) => return Some(Next::Broken(error)),
            Some(Ok(frame)) => frame.into_data().ok()?,
        };
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            let thread = &queue.connection.thread;
            thread.hold_bytes(piece.len().saturating_sub(self.paid));
            self.paid = self.paid.saturating_sub(piece.len());
        }
        queue.push(piece);
        None
    }

    /// Waits until the answers have taken everything, or are not read and there is room to keep a piece.
    async fn room(&mut self) {
        loop {
            let (empty, asked) = {
                let queue = self.queue.borrow();
                (queue.is_empty(), queue.asked)
            };
            if empty {
                return;
            }
            if self.unread_at == Some(asked) {
                if self.pay() {
                    return;
                }
                let _ = tokio::time::timeout(LOOK / 10, self.asked_again(asked)).await;
            } else if tokio::time::timeout(UNREAD_AFTER, self.asked_again(asked))
                .await
                .is_err()
            {
                let now = self.queue.borrow().asked;
                self.unread_at = (now == asked).then_some(now);
            }
        }
    }

    /// Takes what the next piece may cost out of the door's bytes; false where there is no room.
    fn pay(&mut self) -> bool {
        let queue = self.queue.borrow();
        let more = SEGMENT_BYTES - self.paid.min(SEGMENT_BYTES);
        let fits = queue.kept_bytes + SEGMENT_BYTES <= self.bytes_max;
        let paid = fits && queue.connection.thread.take_bytes_ahead(more);
        self.paid += if paid { more } else { 0 };
        paid
    }

    /// Waits until the answers took something.
    async fn asked_again(&self, asked: u64) {
        std::future::poll_fn(|cx| {
            let mut queue = self.queue.borrow_mut();
            if queue.asked != asked {
                return Poll::Ready(());
            }
            queue.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.queue
            .borrow()
            .connection
            .thread
            .give_bytes_back(self.paid);
    }
}
