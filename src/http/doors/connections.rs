//! The table of connections of one thread: chooses which are frozen, thawed or closed, and keeps their phases and deadlines.
//! It sets flags that the connection's task obeys, and holds no bytes.

use super::connection::{ServeEnd, serve};
use super::reject::linger;
use super::transport::{Transport, shake_hands};
use crate::admission::unread::{UnreadEstimate, UnreadWatch};
use crate::http::connection_state::{Awaits, ConnectionState, DrainState, ThreadState};
use crate::http::door_state::{ConnectionSlot, FrozenConnection, LOOK, QUIET_LOOK, STEP};
use crate::kernel;
use crate::meters::CloseReason;
use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Idle time after which a connection rests. Phones ask twice a minute; busier clients keep their buffers.
const REST_AFTER: Duration = Duration::from_secs(2);

/// Idle time after which a connection may make room for a new one. A connection whose request waits in the kernel looks idle
/// too, but never for this long. Where connections are above the limit, those between two requests make room without it.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Returns how many of a thread's connections one look closes for being idle: a part, at least a few, and a quarter of that while
/// requests wait. Closing thousands that were opened in the same moment would take a small machine all its time.
fn idle_closes_max(connections: usize, is_pressed: bool) -> usize {
    const PART: usize = 64;
    const LEAST: usize = 16;
    let most = (connections / PART).max(LEAST);
    if is_pressed { most / 4 } else { most }
}

/// Steps for which requests count as waiting after one was seen: a small sample may miss them.
const PRESSED_STEPS: u32 = 4;

/// Answers for each connection that makes room while requests wait, or without need of its descriptor. Closing costs as much as two
/// answers.
const ANSWERS_PER_CLOSE: usize = 40;

/// Divides the limit of connections into those that are thawed in one step when there is room. Most frozen clients have left by
/// then.
const THAW_PART: usize = 20;

/// Frozen connections that asked and are served in a step, beside those that recent answers leave time for.
const AGAIN_LEAST: usize = 8;

/// Connections among which some are chosen, at least.
const SEARCHED_LEAST: usize = 1024;

/// Bounds of connections that are read to their end after a refusal: an eighth of the limit, within these.
const LINGERING: std::ops::RangeInclusive<usize> = 64..=1024;

/// Waits that a thread measures in one step, roughly. Each costs a microsecond.
const SAMPLES: u32 = 20;

/// The connections of one thread.
pub struct ConnectionTable {
    /// State that connections share with the thread.
    thread: Rc<ThreadState>,
    connections: RefCell<Vec<Rc<ConnectionState>>>,
    /// Number of connections that are read to their end after a refusal.
    lingering: Cell<usize>,
    /// Estimates of unread requests, the last one that was published, and the index of the last sample.
    unread_watch: RefCell<UnreadWatch>,
    unread: Cell<UnreadEstimate>,
    looked: Cell<usize>,
    /// Steps for which requests still count as waiting.
    pressed: Cell<u32>,
    /// Time of the last step.
    stepped: Cell<Instant>,
    /// Where the next look begins, so that no connection is passed over for long.
    looks_from: Cell<usize>,
    /// Where the next choice of connections begins: of those to freeze, to thaw and to close.
    freezes_from: Cell<usize>,
    thaws_from: Cell<usize>,
    closes_from: Cell<usize>,
}

impl ConnectionTable {
    pub(super) fn new(thread: ThreadState) -> ConnectionTable {
        ConnectionTable {
            thread: Rc::new(thread),
            connections: RefCell::default(),
            lingering: Cell::new(0),
            unread_watch: RefCell::default(),
            unread: Cell::default(),
            looked: Cell::new(0),
            pressed: Cell::new(0),
            stepped: Cell::new(Instant::now()),
            looks_from: Cell::new(0),
            freezes_from: Cell::new(0),
            thaws_from: Cell::new(0),
            closes_from: Cell::new(0),
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
        let nth = self.connections.borrow().len();
        let state = ConnectionState::new(self.thread.clone(), stream.as_raw_fd(), nth);
        let connection = Rc::new(state);
        let tls = self.thread.shared.tls.as_ref().map(|tls| tls.config());
        self.connections.borrow_mut().push(connection.clone());
        let table = self.clone();
        tokio::task::spawn_local(async move {
            let refused = match tls {
                None => table.ended(serve(stream, &connection).await),
                // Boxed, so that a connection without TLS does not take the memory of one with it.
                Some(config) => {
                    Box::pin(async {
                        let stream = shake_hands(stream, config, &connection).await?;
                        table.ended(serve(stream, &connection).await)
                    })
                    .await
                }
            };
            connection.thaw();
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

    /// Hands a connection whose request must be refused to the responder. Returns the socket of one that must be read to its end.
    fn ended<T: Transport>(&self, end: ServeEnd<T>) -> Option<TcpStream> {
        match end {
            ServeEnd::Done => None,
            ServeEnd::Refused(socket) => Some(socket),
            ServeEnd::MustRefuse(stream) => {
                let (socket, tls) = stream.into_parts();
                if let Ok(stream) = socket.into_std() {
                    self.thread.shared.hand(FrozenConnection { stream, tls });
                }
                None
            }
        }
    }

    /// Returns this thread's share of connections that may be read to their end.
    fn lingering_max(&self) -> usize {
        let all = self.thread.settings.admission.connections_max / 8;
        let all = all.clamp(*LINGERING.start(), *LINGERING.end());
        all.div_ceil(self.thread.shared.load.open.len())
    }

    fn forget(&self, connection: &ConnectionState) {
        let mut connections = self.connections.borrow_mut();
        connections.swap_remove(connection.nth.get());
        if let Some(moved) = connections.get(connection.nth.get()) {
            moved.nth.set(connection.nth.get());
        }
    }

    /// Ends each connection after its current request; idle ones a moment later.
    pub fn leave(&self) {
        if self.thread.leaving.get() == DrainState::No {
            self.thread.stir();
            self.thread.leaving.set(DrainState::Told);
            for connection in self.connections.borrow().iter() {
                connection.thaw();
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
        let connections = self.connections.borrow();
        let mut idle_closes = idle_closes_max(connections.len(), self.is_pressed());
        let from = self.looks_from.get() % connections.len().max(1);
        let (before, behind) = connections.split_at(from);
        for connection in behind.iter().chain(before) {
            let is_frozen = connection.frozen.get() && connection.awaits.get() == Awaits::Nothing;
            if is_frozen || connection.closed.get() {
                continue;
            }
            match connection.overdue(now) {
                Some(CloseReason::Idle) if idle_closes == 0 => {}
                Some(CloseReason::Idle) => {
                    idle_closes -= 1;
                    self.looks_from.set(connection.nth.get());
                    self.close(connection, CloseReason::Idle);
                }
                Some(why) => self.close(connection, why),
                None if connection.may_rest() && now > connection.since.get() + REST_AFTER => {
                    connection.rest.set(true);
                    connection.wake();
                }
                None => {}
            }
        }
        drop(connections);
        let came = self.thread.active.replace(false)
            || self.thread.heard.get() > 0
            || self.thread.answered.get() > 0;
        let waited_for =
            self.thread.shared.waiting.load(Relaxed) + self.thread.shared.surplus.load(Relaxed) > 0;
        let quiet = !came
            && !waited_for
            && idle_closes > 0
            && self.thread.leaving.get() == DrainState::No
            && self.all_rest();
        if quiet {
            self.forget_unread();
        }
        self.thread.quiet.set(quiet);
    }

    /// Returns whether every connection rests, and none is frozen or about to end.
    fn all_rest(&self) -> bool {
        let rests =
            |connection: &Rc<ConnectionState>| connection.resting.get() && !connection.closed.get();
        self.thread.frozen.get() == 0 && self.connections.borrow().iter().all(rests)
    }

    /// Returns whether looks and steps are put off.
    pub fn is_quiet(&self) -> bool {
        self.thread.quiet.get()
    }

    /// Waits for the next look at resting connections, or for a request for one.
    pub async fn slow_look(&self) {
        let every = (self.thread.settings.idle_timeout / 8).clamp(LOOK, QUIET_LOOK);
        let asked = self.thread.shared.looks[self.thread.nth].notified();
        if tokio::time::timeout(every, asked).await.is_ok() {
            self.thread.stir();
        }
    }

    /// Adjusts the connections: frozen ones that asked are asked again; if there are too many, or new ones wait, the longest idle
    /// ones make room; with room to spare, frozen ones are thawed.
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
            self.forget_unread();
            return;
        }
        let shared = &self.thread.shared;
        let threads = shared.load.open.len();
        let part = |all: usize| all.div_ceil(threads);
        let limit = part(shared.load.limit.load(Relaxed));
        let surplus = part(shared.surplus.load(Relaxed));
        let waiting = part(shared.waiting.load(Relaxed));
        let pace = part(shared.answers_per_second.load(Relaxed));
        let pace = (pace as f64 * STEP.as_secs_f64()) as usize;
        // Surplus requests would make all others wait.
        let gone = self.freeze(surplus, Duration::ZERO);
        let unread = self.estimate_unread();
        // The few who were answered may have waited long for another reason.
        let is_idle = unread.likely == 0 && answered <= pace / 2;
        match !shared.waits_are_long.load(Relaxed) || is_idle {
            true => self.ask_again(pace / 2 + AGAIN_LEAST, true),
            false => self.ask_again(shared.handed_max.load(Relaxed), false),
        }
        let closes = (answered / ANSWERS_PER_CLOSE).max(1);
        // Room for a few newcomers in a step, and for hardly any while requests wait: each costs five answers.
        let is_pressed = self.is_pressed();
        let most = match is_pressed {
            true => closes,
            false => limit / THAW_PART + 1,
        };
        let waiting_now = waiting.min(most).saturating_sub(gone);
        let full = shared.all_places_taken.load(Relaxed);
        if full {
            // Frozen ones would keep their places.
            self.close_idle(waiting_now);
        } else {
            self.freeze(waiting_now, IDLE_AFTER);
        }
        if self.thread.frozen.get() > 0 {
            let spare = part(shared.spare.load(Relaxed));
            if waiting > 0 || spare == 0 {
                self.close_frozen(match full && !is_pressed {
                    true => waiting.max(closes),
                    false => closes,
                });
            } else {
                self.thaw_some(spare.min(limit / THAW_PART + 1));
            }
        }
    }

    /// Estimates how many active connections have an unread request, if requests may wait, and publishes it.
    fn estimate_unread(&self) -> UnreadEstimate {
        let shared = &self.thread.shared;
        let now = Instant::now();
        let took = now.saturating_duration_since(self.stepped.replace(now));
        let may_wait =
            shared.waits_are_long.load(Relaxed) || shared.load.was_overloaded.load(Relaxed);
        let mut watch = self.unread_watch.borrow_mut();
        let seen = match watch.is_due(took >= STEP * 3 / 2, may_wait) {
            true => self.sample_unread(),
            false => UnreadEstimate::default(),
        };
        let unread = watch.step(seen);
        let waits = unread.likely > 0 || !self.thread.asking.borrow().is_empty();
        self.pressed.set(match waits {
            true => PRESSED_STEPS,
            false => self.pressed.get().saturating_sub(1),
        });
        self.publish_unread(unread);
        unread
    }

    /// Returns whether requests of open connections, frozen ones included, wait for long. What newcomers waited in the queue of a
    /// full door, which has nothing else to do, is no such wait.
    fn is_pressed(&self) -> bool {
        self.pressed.get() > 0 && self.thread.shared.waits_are_long.load(Relaxed)
    }

    /// Forgets the estimates: nobody will look again soon, and an old one must not count as the step before the next.
    fn forget_unread(&self) {
        self.unread_watch.take();
        self.pressed.set(0);
        self.publish_unread(UnreadEstimate::default());
    }

    /// Publishes this thread's part of the unread requests of its door.
    fn publish_unread(&self, unread: UnreadEstimate) {
        let before = self.unread.replace(unread);
        let load = &self.thread.shared.load;
        let likely = unread.likely.wrapping_sub(before.likely);
        load.unread.fetch_add(likely, Relaxed);
        let least = unread.least.wrapping_sub(before.least);
        load.unread_least.fetch_add(least, Relaxed);
    }

    /// Looks at some active connections, others with each call.
    fn sample_unread(&self) -> UnreadEstimate {
        const LOOKED_AT: usize = 128;
        let connections = self.connections.borrow();
        let from = self.looked.get() % connections.len().max(1);
        self.looked.set(from + LOOKED_AT);
        // Neighbours arrived together and may be alike.
        let stride = (connections.len() / LOOKED_AT).max(1);
        let some = (0..connections.len().min(LOOKED_AT))
            .map(|nth| &connections[(from + nth * stride) % connections.len()]);
        let (mut active, mut unread) = (0, 0);
        for connection in some.filter(|connection| !connection.frozen.get()) {
            active += 1;
            unread += usize::from(connection.may_freeze() && kernel::has_unread(connection.socket));
        }
        let all = connections.len() - self.thread.frozen.get();
        UnreadEstimate::of(unread, active, all)
    }

    /// Returns up to `most` connections that were idle for `idle_for`, in the order of eviction.
    fn idle<'c>(
        &self,
        connections: &'c [Rc<ConnectionState>],
        most: usize,
        idle_for: Duration,
    ) -> Vec<&'c Rc<ConnectionState>> {
        if most == 0 {
            return Vec::new();
        }
        let now = Instant::now();
        let idle = next_of(connections, &self.freezes_from, most).filter(|connection| {
            // A client that is about to send the rest of a head or body is not idle yet.
            let idle_for = match connection.is_between_requests() {
                true => idle_for,
                false => idle_for.max(IDLE_AFTER),
            };
            connection.may_freeze()
                && now.saturating_duration_since(connection.idle_since()) >= idle_for
        });
        chosen(idle.collect(), most, ConnectionState::worth)
    }

    /// Freezes up to `most` connections that were idle for `idle_for`; their requests may wait in the kernel. Closing them
    /// would cost more than a crowd leaves time for, and they can be thawed. Returns their number.
    fn freeze(&self, most: usize, idle_for: Duration) -> usize {
        let connections = self.connections.borrow();
        let idle = self.idle(&connections, most, idle_for);
        if idle.is_empty() {
            return 0;
        }
        let mut door = self.thread.shared.door();
        for connection in &idle {
            connection.frozen.set(true);
            door.freeze();
        }
        // Known at once: the controller publishes them only with its next step.
        let shared = &self.thread.shared;
        shared.load.frozen.store(door.frozen(), Relaxed);
        let fewer = |surplus: usize| surplus.checked_sub(idle.len()).or(Some(0));
        let _ = shared.surplus.try_update(Relaxed, Relaxed, fewer);
        let frozen = &self.thread.frozen;
        frozen.set(frozen.get() + idle.len());
        idle.len()
    }

    /// Closes up to `most` connections that are idle.
    fn close_idle(&self, most: usize) {
        let connections = self.connections.borrow();
        for connection in self.idle(&connections, most, IDLE_AFTER) {
            self.close(connection, CloseReason::Evicted);
        }
    }

    /// Wakes up to `most` frozen connections that asked, to be served or else refused; the last ones first, because their clients
    /// will wait for longest.
    fn ask_again(&self, mut most: usize, serve: bool) {
        let mut asking = self.thread.asking.borrow_mut();
        while most > 0
            && let Some(connection) = asking.pop_back()
        {
            let Some(connection) = connection.upgrade() else {
                continue;
            };
            connection.is_stacked.set(false);
            if connection.frozen.get() {
                connection.is_called.set(serve);
                connection.wake();
                most -= 1;
            }
        }
        if asking.len() > self.thread.frozen.get() * 2 {
            asking.retain(|connection| {
                let Some(connection) = connection.upgrade() else {
                    return false;
                };
                connection.is_stacked.set(connection.frozen.get());
                connection.frozen.get()
            });
        }
    }

    /// Thaws up to `most` connections, the most recently active first.
    fn thaw_some(&self, most: usize) {
        let connections = self.connections.borrow();
        let frozen = next_of(&connections, &self.thaws_from, most)
            .filter(|connection| connection.frozen.get());
        let since = |connection: &ConnectionState| std::cmp::Reverse(connection.since.get());
        for connection in chosen(frozen.collect(), most, since) {
            connection.thaw();
        }
    }

    /// Closes up to `most` frozen connections: first of those who asked and have left since, who wake nobody any more.
    fn close_frozen(&self, mut most: usize) {
        let mut asking = self.thread.asking.borrow_mut();
        while most > 0
            && let Some(first) = asking.front()
        {
            if let Some(connection) = first.upgrade() {
                if connection.frozen.get() && !connection.closed.get() {
                    if !kernel::has_ended(connection.socket) {
                        // Those who asked after it have waited for less time.
                        break;
                    }
                    most -= 1;
                    self.close(&connection, CloseReason::Evicted);
                }
                connection.is_stacked.set(false);
            }
            asking.pop_front();
        }
        drop(asking);
        let connections = self.connections.borrow();
        let frozen = next_of(&connections, &self.closes_from, most)
            .filter(|connection| connection.frozen.get() && !connection.closed.get());
        for connection in chosen(frozen.collect(), most, ConnectionState::worth_frozen) {
            self.close(connection, CloseReason::Evicted);
        }
    }

    fn close(&self, connection: &ConnectionState, why: CloseReason) {
        self.thread.shared.metrics.closed(why);
        connection.closed.set(true);
        connection.wake();
    }
}

/// Returns some connections, of which `most` are to be chosen, from the index `from` on, which moves past them: to look at all
/// would cost more than the best choice is worth.
fn next_of<'c>(
    connections: &'c [Rc<ConnectionState>],
    from: &Cell<usize>,
    most: usize,
) -> impl Iterator<Item = &'c Rc<ConnectionState>> {
    let all = connections.len();
    let count = SEARCHED_LEAST.max(most * 4).min(all);
    let first = from.get() % all.max(1);
    from.set(first + count);
    (first..first + count).map(move |nth| &connections[nth % all])
}

/// Returns the `most` connections with the smallest keys.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_closes_a_part_of_the_idle_and_fewer_while_requests_wait() {
        for (connections, is_pressed, most) in [
            (0, false, 16),
            (1_000, false, 16),
            (10_000, false, 156),
            (1_000, true, 4),
            (10_000, true, 39),
        ] {
            assert_eq!(idle_closes_max(connections, is_pressed), most);
        }
    }
}
