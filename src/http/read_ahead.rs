//! Reads a body ahead of its answers, for clients that send everything before they read anything.
//!
//! While answers leave, nothing is read ahead: memory holds one piece. If they do not leave, because the client does not read,
//! the body is read into memory within its own bound and the door's budget for bodies. Beyond that the client waits.

use super::connection_state::ConnectionState;
use crate::refusal::Refusal;
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

/// Time after which answers that were not pulled count as unread.
const UNREAD_AFTER: Duration = Duration::from_millis(5);

/// Interval of checks while the body is silent: whether the sender is still admitted, and whether there is room.
const LOOK: Duration = Duration::from_millis(500);

/// Size of a segment. Kept bytes are packed into segments, so small pieces cost no extra memory.
const SEGMENT_BYTES: usize = 64 << 10;

/// Next event of a body.
pub enum Next {
    /// The next bytes of the body.
    Piece(Bytes),
    /// The body is complete.
    End,
    /// The body broke off.
    Broken(hyper::Error),
    /// The sender is no longer admitted.
    Refused(Refusal),
}

/// A body being read. A task of the same thread reads it; it ends with the body, or when this is dropped.
pub struct ReadAhead {
    queue: Rc<RefCell<Queue>>,
    reader: AbortHandle,
}

impl ReadAhead {
    /// Starts to read. Keeps up to `bytes_max`; `admits` checks whether the sender is still admitted.
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

    /// Returns the oldest event that was not taken yet.
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

    /// Records that answers are pulled, without taking anything.
    pub fn asks(&self) {
        self.queue.borrow_mut().asked += 1;
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The queue between the reader and the answers.
struct Queue {
    connection: Rc<ConnectionState>,
    /// A piece that arrived while the answers waited for it; it is not copied.
    first: Option<Bytes>,
    kept: VecDeque<BytesMut>,
    kept_bytes: usize,
    end: Option<Next>,
    /// Number of pulls.
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

    /// Adds a piece. Its bytes are reserved already.
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
    /// Bytes reserved for the next kept piece.
    paid: usize,
    /// The number of pulls at which the answers were found unread.
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

    /// Reads a piece once there is room. Returns Some at the end. It may be dropped without loss.
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

    /// Waits until the answers have taken everything, or are unread and there is room for a piece.
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

    /// Reserves bytes for the next piece. Returns false if there is no room.
    fn pay(&mut self) -> bool {
        let queue = self.queue.borrow();
        let more = SEGMENT_BYTES - self.paid.min(SEGMENT_BYTES);
        let fits = queue.kept_bytes + SEGMENT_BYTES <= self.bytes_max;
        let paid = fits && queue.connection.thread.take_bytes_ahead(more);
        self.paid += if paid { more } else { 0 };
        paid
    }

    /// Waits until the answers were pulled again.
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
