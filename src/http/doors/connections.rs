//! The table of connections of one thread of a door: the phase of each, its deadline, and which are evicted.
//! Out: flags on a connection's state, which the task of the connection obeys. Never: bytes.

use super::connection::serve;
use super::reject::linger;
use super::transport::shake_hands;
use crate::http::connection_state::{Awaits, ConnectionState, DrainState, ThreadState};
use crate::http::door_state::{ConnectionSlot, LOOK, QUIET_LOOK};
use crate::kernel;
use crate::meters::CloseReason;
use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A connection that was idle for so long rests. A phone asks twice a minute; whoever asks more often keeps the buffers.
const REST_AFTER: Duration = Duration::from_secs(2);

/// A connection that was idle for so long makes room for one who waits to come in. One whose request waits in the kernel
/// looks idle too; none waits for so long.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// To close a connection costs what two answers cost: one for so many answers, where nobody waits for its descriptor.
const ANSWERS_PER_CLOSE: usize = 40;

/// Frozen connections of a door with room are heard again so many in a step, of as many as it admits. Most are dead by then.
const THAW_PART: usize = 20;

/// Connections that are read to their end after a refusal have left the door: an eighth of what it admits, between these bounds.
const LINGERING: std::ops::RangeInclusive<usize> = 64..=1024;

/// Waits that a thread asks the kernel for in one step, about: each costs a microsecond.
const SAMPLES: u32 = 20;

/// The connections of one thread.
pub struct ConnectionTable {
    /// What the connections see of their thread.
    thread: Rc<ThreadState>,
    connections: RefCell<Vec<Rc<ConnectionState>>>,
    /// Connections that are read to their end after a refusal.
    lingering: Cell<usize>,
    /// Connections that are not heard.
    frozen: Cell<usize>,
    /// Connections whose request waits unread, about, and where they were looked for last.
    pending: Cell<usize>,
    looked: Cell<usize>,
}

impl ConnectionTable {
    pub(super) fn new(thread: ThreadState) -> ConnectionTable {
        ConnectionTable {
            thread: Rc::new(thread),
            connections: RefCell::default(),
            lingering: Cell::new(0),
            frozen: Cell::new(0),
            pending: Cell::new(0),
            looked: Cell::new(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty() && self.lingering.get() == 0
    }

    pub(super) fn receive(
        self: &Rc<ConnectionTable>,
        stream: std::net::TcpStream,
        place: ConnectionSlot,
    ) {
        let Ok(stream) = TcpStream::from_std(stream) else {
            return;
        };
        self.thread.stir();
        let _ = stream.set_nodelay(true);
        let nth = self.connections.borrow().len();
        let state = ConnectionState::new(self.thread.clone(), stream.as_raw_fd(), nth);
        let connection = Rc::new(state);
        let tls = self.thread.shared.tls.as_ref().map(|tls| tls.config());
        self.connections.borrow_mut().push(connection.clone());
        let table = self.clone();
        tokio::task::spawn_local(async move {
            let refused = match tls {
                None => serve(stream, &connection).await,
                // On the heap, so that a connection without TLS does not hold the room of one with it.
                Some(config) => {
                    Box::pin(async {
                        let stream = shake_hands(stream, config, &connection).await?;
                        serve(stream, &connection).await
                    })
                    .await
                }
            };
            table.thaw(&connection);
            table.forget(&connection);
            drop(place);
            if let Some(stream) = refused
                && table.lingering.get() < table.lingering_max()
            {
                table.lingering.set(table.lingering.get() + 1);
                linger(stream).await;
                table.lingering.set(table.lingering.get() - 1);
            }
        });
    }

    /// This thread's part of the connections that are read to their end after a refusal.
    fn lingering_max(&self) -> usize {
        let all = self.thread.settings.admission.connections_max / 8;
        let all = all.clamp(*LINGERING.start(), *LINGERING.end());
        all.div_ceil(self.thread.shared.open.len())
    }

    fn forget(&self, connection: &ConnectionState) {
        let mut connections = self.connections.borrow_mut();
        connections.swap_remove(connection.nth.get());
        if let Some(moved) = connections.get(connection.nth.get()) {
            moved.nth.set(connection.nth.get());
        }
    }

    /// Every connection ends after the query that it has begun; those without one end a moment later.
    pub fn leave(&self) {
        if self.thread.leaving.get() == DrainState::No {
            self.thread.stir();
            self.thread.leaving.set(DrainState::Told);
            for connection in self.connections.borrow().iter() {
                self.thaw(connection);
            }
        }
    }

    pub fn look(&self) {
        let now = Instant::now();
        self.thread.clock.set(now);
        self.thread.crowding.set(self.thread.crowding());
        match self.thread.leaving.get() {
            DrainState::No => {}
            DrainState::Told => self.thread.leaving.set(DrainState::Looked),
            DrainState::Looked | DrainState::Now => {
                self.thread.leaving.set(DrainState::Now);
                for connection in self.connections.borrow().iter() {
                    connection.wake();
                }
            }
        }
        for connection in self.connections.borrow().iter() {
            if connection.frozen.get() && connection.awaits.get() == Awaits::Nothing {
                continue;
            }
            if let Some(why) = connection.overdue(now) {
                self.close(connection, why);
            } else if connection.may_rest() && now > connection.since.get() + REST_AFTER {
                connection.rest.set(true);
                connection.wake();
            }
        }
        let came = self.thread.active.replace(false)
            || self.thread.heard.get() > 0
            || self.thread.answered.get() > 0;
        let waited_for =
            self.thread.shared.waiting.load(Relaxed) + self.thread.shared.surplus.load(Relaxed) > 0;
        let quiet =
            !came && !waited_for && self.thread.leaving.get() == DrainState::No && self.all_rest();
        self.thread.quiet.set(quiet);
    }

    /// Whether every connection rests, and none is to end or is not heard.
    fn all_rest(&self) -> bool {
        let rests =
            |connection: &Rc<ConnectionState>| connection.resting.get() && !connection.closed.get();
        self.frozen.get() == 0
            && self.thread.surplus.get() == 0
            && self.connections.borrow().iter().all(rests)
    }

    /// Whether looks and steps are put off.
    pub fn is_quiet(&self) -> bool {
        self.thread.quiet.get()
    }

    /// Waits until it is time for a look at connections that all rest, or somebody asks for one.
    pub async fn slow_look(&self) {
        let every = (self.thread.settings.idle_timeout / 8).clamp(LOOK, QUIET_LOOK);
        let asked = self.thread.shared.looks[self.thread.nth].notified();
        if tokio::time::timeout(every, asked).await.is_ok() {
            self.thread.stir();
        }
    }

    /// Makes room where there are too many, or newcomers wait, by those first that were idle for longest; or where there is
    /// room, hears those again who had to make it.
    pub fn step(&self) {
        let heard = self.thread.heard.take();
        self.thread.every.set((heard / SAMPLES).max(1));
        let answered = self.thread.answered.take() as usize;
        if heard > 0 || answered > 0 {
            self.thread.active.set(true);
            self.thread.shared.stir();
        }
        self.thread
            .shared
            .answered
            .fetch_add(answered as u64, Relaxed);
        if self.thread.leaving.get() != DrainState::No {
            return;
        }
        let pending = match self.thread.shared.is_slow.load(Relaxed) {
            true => self.count_pending(),
            false => 0,
        };
        let before = self.pending.replace(pending);
        self.thread
            .shared
            .pending
            .fetch_add(pending.wrapping_sub(before), Relaxed);
        let threads = self.thread.shared.open.len();
        let part = |all: usize| all.div_ceil(threads);
        let limit = part(self.thread.shared.limit.load(Relaxed));
        let surplus = part(self.thread.shared.surplus.load(Relaxed));
        let waiting = part(self.thread.shared.waiting.load(Relaxed));
        let gone = self.freeze(surplus.max(waiting), IDLE_AFTER);
        let surplus = surplus.saturating_sub(gone);
        // More than twice too many would wait for longer than they stay: to answer them all first helps nobody.
        let gone = self.freeze(surplus.saturating_sub(limit), Duration::ZERO);
        self.thread.surplus.set(surplus - gone);
        if self.frozen.get() > 0 {
            let spare = part(self.thread.shared.spare.load(Relaxed));
            if waiting > 0 || spare == 0 {
                let closes = (answered / ANSWERS_PER_CLOSE).max(1);
                let full = self.thread.shared.is_full.load(Relaxed);
                self.close_frozen(if full { waiting.max(closes) } else { closes });
            } else {
                self.thaw_some(spare.min(limit / THAW_PART + 1));
            }
        }
    }

    /// How many of the connections that are heard have a request waiting, from some of them, others each time.
    fn count_pending(&self) -> usize {
        const LOOKED_AT: usize = 64;
        let connections = self.connections.borrow();
        let from = self.looked.get() % connections.len().max(1);
        self.looked.set(from + LOOKED_AT);
        // Neighbours came at the same time, and may be of one kind.
        let stride = (connections.len() / LOOKED_AT).max(1);
        let some = (0..connections.len().min(LOOKED_AT))
            .map(|nth| &connections[(from + nth * stride) % connections.len()]);
        let heard = some.filter(|connection| !connection.frozen.get());
        let (mut all, mut waiting) = (0, 0);
        for connection in heard {
            all += 1;
            waiting +=
                usize::from(connection.may_freeze() && kernel::has_unread(connection.socket));
        }
        (connections.len() - self.frozen.get()) * waiting / all.max(1)
    }

    /// Stops hearing up to `most`, of those who have been idle for so long; their requests may wait in the kernel. To close
    /// them would cost more than a crowd leaves time for, and they may be heard again.
    fn freeze(&self, most: usize, idle_for: Duration) -> usize {
        if most == 0 {
            return 0;
        }
        let now = Instant::now();
        let connections = self.connections.borrow();
        let idle = connections.iter().filter(|connection| {
            connection.may_freeze()
                && now.saturating_duration_since(connection.idle_since()) >= idle_for
        });
        let chosen = chosen(idle.collect(), most, ConnectionState::worth);
        for connection in &chosen {
            connection.frozen.set(true);
            self.thread.shared.door().freeze();
        }
        self.frozen.set(self.frozen.get() + chosen.len());
        chosen.len()
    }

    /// Hears some again: those first who spoke last.
    fn thaw_some(&self, most: usize) {
        let connections = self.connections.borrow();
        let frozen = connections
            .iter()
            .filter(|connection| connection.frozen.get());
        let since = |connection: &ConnectionState| std::cmp::Reverse(connection.since.get());
        for connection in chosen(frozen.collect(), most, since) {
            self.thaw(connection);
        }
    }

    fn thaw(&self, connection: &ConnectionState) {
        if connection.frozen.replace(false) {
            self.frozen.set(self.frozen.get() - 1);
            self.thread.shared.door().thaw();
            connection.wake();
        }
    }

    fn close_frozen(&self, most: usize) {
        let connections = self.connections.borrow();
        let frozen = connections
            .iter()
            .filter(|connection| connection.frozen.get() && !connection.closed.get());
        for connection in chosen(frozen.collect(), most, ConnectionState::worth) {
            self.close(connection, CloseReason::Evicted);
        }
    }

    fn close(&self, connection: &ConnectionState, why: CloseReason) {
        self.thread.shared.metrics.closed(why);
        connection.closed.set(true);
        connection.wake();
    }
}

/// The `most` with the least of something.
fn chosen<K: Ord>(
    mut connections: Vec<&Rc<ConnectionState>>,
    most: usize,
    key: impl Fn(&ConnectionState) -> K,
) -> Vec<&Rc<ConnectionState>> {
    if most < connections.len() {
        connections.select_nth_unstable_by_key(most, |connection| key(connection));
        connections.truncate(most);
    }
    connections
}
