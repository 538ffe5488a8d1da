//! The table of connections of one thread of a door: the phase of each, its deadline, and which are evicted.
//! Out: flags on a connection's state, which the task of the connection obeys. Never: bytes.

use super::connection::serve;
use super::reject::linger;
use super::transport::shake_hands;
use super::{ConnectionSlot, DoorState, Settings};
use crate::http::Settings as Bounds;
use crate::http::query::Door;
use crate::http::reply;
use crate::kernel;
use crate::meters::{CloseReason, HandshakeOutcome};
use crate::service::Service;
use crate::tls::CertificateDigest;
use crate::tls::pinned::KeyDigest;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How far the end of a thread's connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainState {
    No,
    /// Told; what the kernel held then is still read and answered. It takes two looks to be sure that one lay between.
    Told,
    Looked,
    /// Connections without a query end.
    Now,
}

/// A connection that was idle for so long rests. A phone asks twice a minute; whoever asks more often keeps the buffers.
const REST_AFTER: Duration = Duration::from_secs(2);

/// A connection that was idle for so long makes room for one who waits to come in. One whose request waits in the kernel
/// looks idle too; none waits for so long.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// To close a connection costs what two answers cost: one for so many answers, where nobody waits for its descriptor.
const ANSWERS_PER_CLOSE: usize = 40;

/// Frozen connections of a door with room are heard again so many in a step, of as many as it admits. Most are dead by then.
const THAW_PART: usize = 20;

/// Idle connections of a full door are closed after so long.
const IDLE_LEAST: Duration = Duration::from_secs(5);

/// What a full door waits for the bytes of a body.
const BODY_LEAST: Duration = Duration::from_millis(500);

/// Connections that are read to their end after a refusal have left the door: an eighth of what it admits, between these bounds.
const LINGERING: std::ops::RangeInclusive<usize> = 64..=1024;

/// Waits that a thread asks the kernel for in one step, about: each costs a microsecond.
const SAMPLES: u32 = 20;

/// The connections of one thread.
pub struct ConnectionTable {
    pub service: Rc<Service>,
    /// Which of the door's threads this is.
    nth: usize,
    pub door: Door,
    pub settings: Settings,
    pub bounds: Rc<Bounds>,
    shared: Arc<DoorState>,
    connections: RefCell<Vec<Rc<ConnectionState>>>,
    pub leaving: Cell<DrainState>,
    /// As of the last look; a quarter of a second is fine enough for time-outs.
    clock: Cell<Instant>,
    /// How full the door is, of its last fifth: 0 to 1.
    crowding: Cell<f64>,
    /// Connections that are read to their end after a refusal.
    lingering: Cell<usize>,
    /// Connections that are to end with their next answer.
    surplus: Cell<usize>,
    /// Connections that are not heard.
    frozen: Cell<usize>,
    /// Connections whose request waits unread, about, and where they were looked for last.
    pending: Cell<usize>,
    looked: Cell<usize>,
    /// Something came in or went out since the last look.
    active: Cell<bool>,
    /// All connections rest, and steps and looks are put off.
    quiet: Cell<bool>,
    /// Requests and answers since the last step, and of how many requests the wait of one is asked for.
    heard: Cell<u32>,
    answered: Cell<u32>,
    every: Cell<u32>,
}

impl ConnectionTable {
    pub(super) fn new(
        service: Service,
        door: Door,
        settings: Settings,
        bounds: Bounds,
        shared: Arc<DoorState>,
        nth: usize,
    ) -> ConnectionTable {
        ConnectionTable {
            nth,
            active: Cell::new(true),
            quiet: Cell::new(false),
            service: Rc::new(service),
            door,
            bounds: Rc::new(bounds),
            shared,
            connections: RefCell::default(),
            leaving: Cell::new(DrainState::No),
            clock: Cell::new(Instant::now()),
            crowding: Cell::new(0.0),
            lingering: Cell::new(0),
            settings,
            surplus: Cell::new(0),
            frozen: Cell::new(0),
            pending: Cell::new(0),
            looked: Cell::new(0),
            heard: Cell::new(0),
            answered: Cell::new(0),
            every: Cell::new(1),
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
        self.stir();
        let _ = stream.set_nodelay(true);
        let connection = Rc::new(ConnectionState {
            table: self.clone(),
            socket: stream.as_raw_fd(),
            nth: Cell::new(self.connections.borrow().len()),
            phase: Cell::new(RequestPhase::Head),
            since: Cell::new(self.clock.get()),
            moved: Cell::new(self.clock.get()),
            limit: Cell::new(self.settings.head_timeout),
            waker: RefCell::new(None),
            closed: Cell::new(false),
            frozen: Cell::new(false),
            owes: Cell::new(false),
            awaits: Cell::new(Awaits::Nothing),
            later: Cell::new(false),
            unread: Cell::new(false),
            served: Cell::new(false),
            answers: Cell::new(0),
            rest: Cell::new(false),
            resting: Cell::new(false),
            certificate: Cell::new(None),
            key: Cell::new(None),
        });
        let tls = self.shared.tls.as_ref().map(|tls| tls.config());
        self.connections.borrow_mut().push(connection.clone());
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
            let table = connection.table.clone();
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

    /// Counts a handshake that has ended.
    pub fn shook_hands(&self, outcome: HandshakeOutcome) {
        self.shared.metrics.shook_hands(outcome);
    }

    /// This thread's part of the connections that are read to their end after a refusal.
    fn lingering_max(&self) -> usize {
        let all = self.settings.admission.connections_max / 8;
        let all = all.clamp(*LINGERING.start(), *LINGERING.end());
        all.div_ceil(self.shared.open.len())
    }

    /// Takes so many bytes out of what the door has for bodies; false if they are not left.
    pub fn take_bytes(&self, bytes: usize) -> bool {
        let spent = &self.shared.body_bytes;
        let most = self.bounds.body_bytes_max;
        let taken = spent.try_update(Relaxed, Relaxed, |spent| {
            spent.checked_add(bytes).filter(|sum| *sum <= most)
        });
        taken.is_ok()
    }

    /// As [`ConnectionTable::take_bytes`], of three quarters: what is read ahead leaves some for bodies that must be whole.
    pub fn take_bytes_ahead(&self, bytes: usize) -> bool {
        let spent = self.shared.body_bytes.load(Relaxed);
        spent + bytes <= self.bounds.body_bytes_max / 4 * 3 && self.take_bytes(bytes)
    }

    /// Takes so many bytes whether they are left or not.
    pub fn hold_bytes(&self, bytes: usize) {
        self.shared.body_bytes.fetch_add(bytes, Relaxed);
    }

    pub fn give_bytes_back(&self, bytes: usize) {
        self.shared.body_bytes.fetch_sub(bytes, Relaxed);
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
        if self.leaving.get() == DrainState::No {
            self.stir();
            self.leaving.set(DrainState::Told);
            for connection in self.connections.borrow().iter() {
                self.thaw(connection);
            }
        }
    }

    pub fn look(&self) {
        let now = Instant::now();
        self.clock.set(now);
        self.crowding.set(self.crowding());
        match self.leaving.get() {
            DrainState::No => {}
            DrainState::Told => self.leaving.set(DrainState::Looked),
            DrainState::Looked | DrainState::Now => {
                self.leaving.set(DrainState::Now);
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
        let came = self.active.replace(false) || self.heard.get() > 0 || self.answered.get() > 0;
        let waited_for = self.shared.waiting.load(Relaxed) + self.shared.surplus.load(Relaxed) > 0;
        let quiet = !came && !waited_for && self.leaving.get() == DrainState::No && self.all_rest();
        self.quiet.set(quiet);
    }

    /// Whether every connection rests, and none is to end or is not heard.
    fn all_rest(&self) -> bool {
        let rests =
            |connection: &Rc<ConnectionState>| connection.resting.get() && !connection.closed.get();
        self.frozen.get() == 0
            && self.surplus.get() == 0
            && self.connections.borrow().iter().all(rests)
    }

    /// Whether looks and steps are put off.
    pub fn is_quiet(&self) -> bool {
        self.quiet.get()
    }

    /// Waits until it is time for a look at connections that all rest, or somebody asks for one.
    pub async fn slow_look(&self) {
        let every = (self.settings.idle_timeout / 8).clamp(super::LOOK, super::QUIET_LOOK);
        let asked = self.shared.looks[self.nth].notified();
        if tokio::time::timeout(every, asked).await.is_ok() {
            self.stir();
        }
    }

    /// Ends the quiet, if it is quiet: something came in.
    fn stir(&self) {
        if self.quiet.replace(false) {
            self.active.set(true);
            self.clock.set(Instant::now());
            self.shared.stir();
        }
    }

    /// Returns 0 below four fifths of the cap, and 1 at it.
    fn crowding(&self) -> f64 {
        let metrics = &self.shared.metrics;
        let frozen = metrics.frozen.load(Relaxed);
        let (open, limit) = (metrics.open.load(Relaxed), metrics.limit.load(Relaxed));
        let inside = open.saturating_sub(frozen);
        let past = (inside as f64 / limit.max(1) as f64 - 0.8) / 0.2;
        past.clamp(0.0, 1.0)
    }

    /// A time-out in a crowd: whole below four fifths of the cap, and the least at it.
    fn fitting(&self, most: Duration, least: Duration) -> Duration {
        let least = least.min(most);
        most - (most - least).mul_f64(self.crowding.get())
    }

    /// Makes room where there are too many, or newcomers wait, by those first that were idle for longest; or where there is
    /// room, hears those again who had to make it.
    pub fn step(&self) {
        let heard = self.heard.take();
        self.every.set((heard / SAMPLES).max(1));
        let answered = self.answered.take() as usize;
        if heard > 0 || answered > 0 {
            self.active.set(true);
            self.shared.stir();
        }
        self.shared.answered.fetch_add(answered as u64, Relaxed);
        if self.leaving.get() != DrainState::No {
            return;
        }
        let pending = match self.shared.is_slow.load(Relaxed) {
            true => self.count_pending(),
            false => 0,
        };
        let before = self.pending.replace(pending);
        self.shared
            .pending
            .fetch_add(pending.wrapping_sub(before), Relaxed);
        let threads = self.shared.open.len();
        let part = |all: usize| all.div_ceil(threads);
        let limit = part(self.shared.metrics.limit.load(Relaxed) as usize);
        let surplus = part(self.shared.surplus.load(Relaxed));
        let waiting = part(self.shared.waiting.load(Relaxed));
        let gone = self.freeze(surplus.max(waiting), IDLE_AFTER);
        let surplus = surplus.saturating_sub(gone);
        // More than twice too many would wait for longer than they stay: to answer them all first helps nobody.
        let gone = self.freeze(surplus.saturating_sub(limit), Duration::ZERO);
        self.surplus.set(surplus - gone);
        if self.frozen.get() > 0 {
            let spare = part(self.shared.spare.load(Relaxed));
            if waiting > 0 || spare == 0 {
                let closes = (answered / ANSWERS_PER_CLOSE).max(1);
                let full = self.shared.is_full.load(Relaxed);
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
            self.shared.door().freeze();
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
            self.shared.door().thaw();
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
        self.shared.metrics.closed(why);
        connection.closed.set(true);
        connection.wake();
    }

    /// Whether the wait of the request that was just heard is asked for.
    fn samples(&self) -> bool {
        let heard = self.heard.get();
        self.heard.set(heard + 1);
        heard.is_multiple_of(self.every.get())
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

/// Where a connection is between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPhase {
    Idle,
    /// A head has begun and not ended, or the connection is new.
    Head,
    Answering,
}

/// What a request that is being answered waits for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Nothing,
    /// The rest of a body that is gathered.
    Whole,
    /// The next bytes of a body that is read as it comes.
    Stream,
}

/// One connection, as its time-outs see it.
pub struct ConnectionState {
    pub table: Rc<ConnectionTable>,
    /// Open for as long as the state is in the table.
    socket: RawFd,
    nth: Cell<usize>,
    phase: Cell<RequestPhase>,
    since: Cell<Instant>,
    moved: Cell<Instant>,
    /// How long the answer under way may take.
    limit: Cell<Duration>,
    waker: RefCell<Option<Waker>>,
    pub closed: Cell<bool>,
    /// Neither read nor written.
    pub frozen: Cell<bool>,
    /// Bytes of an answer are not on their way yet.
    pub owes: Cell<bool>,
    awaits: Cell<Awaits>,
    /// Bytes of the body that is gathered came after its head.
    later: Cell<bool>,
    /// The last answer was a refusal that left bytes of its request unread.
    pub unread: Cell<bool>,
    /// It was answered once.
    served: Cell<bool>,
    /// Answers begun in this turn.
    answers: Cell<u32>,
    /// The connection is asked to rest / rests.
    pub rest: Cell<bool>,
    pub resting: Cell<bool>,
    /// The certificate that the client showed, where the door asks for one.
    pub certificate: Cell<Option<CertificateDigest>>,
    /// The public key in it, where the door knows clients by that.
    pub key: Cell<Option<KeyDigest>>,
}

impl ConnectionState {
    /// A head is read; its answer may take this long.
    pub fn begin(&self, limit: Duration) {
        self.enter(RequestPhase::Answering);
        self.limit.set(limit);
    }

    /// Begins to wait for a whole body, which may take so long. [`ConnectionState::begin`] ends it.
    pub fn gathers(&self, limit: Duration) {
        self.begin(limit);
        self.awaits.set(Awaits::Whole);
        self.later.set(false);
    }

    /// Returns whether bytes of the body that was gathered came after its head, and time has passed.
    pub fn came_later(&self) -> bool {
        self.later.get()
    }

    /// Says whether a body that is read as it comes is waited for. The time of the whole answer goes on.
    pub fn awaits_more(&self, more: bool) {
        self.awaits.set(match more {
            true => Awaits::Stream,
            false => Awaits::Nothing,
        });
    }

    /// Marks a response as this connection's; when its body is gone, the connection is idle.
    pub fn answering(
        self: &Rc<ConnectionState>,
        response: hyper::Response<reply::Body>,
    ) -> hyper::Response<reply::Body> {
        response.map(|body| body.with_connection(self.clone()))
    }

    pub fn answered(&self) {
        self.enter(RequestPhase::Idle);
        self.served.set(true);
        self.table.answered.set(self.table.answered.get() + 1);
    }

    /// Whether the connection is to end with this answer: there are too many.
    pub fn is_last(&self) -> bool {
        let surplus = self.table.surplus.get();
        self.table.surplus.set(surplus.saturating_sub(1));
        surplus > 0
    }

    /// One turn, one answer: who sends many requests at once waits behind everybody else between two of them.
    pub async fn turn(&self) {
        let before = self.answers.replace(self.answers.get() + 1);
        if before > 0 {
            tokio::task::yield_now().await;
        }
    }

    pub fn begin_turn(&self) {
        self.answers.set(0);
    }

    fn enter(&self, phase: RequestPhase) {
        let now = self.table.clock.get();
        self.phase.set(phase);
        self.awaits.set(Awaits::Nothing);
        self.since.set(now);
        self.moved.set(now);
    }

    /// Bytes came in. True if it is to be told how long they waited.
    pub fn heard(&self) -> bool {
        if self.phase.get() == RequestPhase::Idle {
            self.enter(RequestPhase::Head);
        }
        self.moved.set(self.table.clock.get());
        self.later.set(true);
        self.phase.get() == RequestPhase::Head && self.samples()
    }

    /// Whether the wait of these bytes is asked for; that of the first after a quiet time always is.
    fn samples(&self) -> bool {
        let samples = self.table.samples();
        if samples && self.table.quiet.get() {
            self.table.stir();
            self.table.shared.looks[self.table.nth].notify_one();
            // By the clock of now.
            self.enter(RequestPhase::Head);
        }
        samples
    }

    pub fn waited(&self, wait: Duration) {
        self.table.shared.waits.count(wait);
    }

    /// Bytes went out.
    pub fn moved(&self) {
        self.moved.set(self.table.clock.get());
    }

    fn overdue(&self, now: Instant) -> Option<CloseReason> {
        let settings = &self.table.settings;
        let phase = now.saturating_duration_since(self.since.get());
        let still = now.saturating_duration_since(self.moved.get());
        match self.phase.get() {
            RequestPhase::Idle if phase > self.table.fitting(settings.idle_timeout, IDLE_LEAST) => {
                Some(CloseReason::Idle)
            }
            RequestPhase::Head if phase > settings.head_timeout => Some(CloseReason::Head),
            RequestPhase::Answering if still > settings.stall_timeout => Some(CloseReason::Stalled),
            RequestPhase::Answering if self.awaits.get() == Awaits::Whole => {
                let limit = self.table.fitting(self.limit.get(), BODY_LEAST);
                (phase > limit).then_some(CloseReason::Body)
            }
            RequestPhase::Answering if phase > self.limit.get() => Some(CloseReason::Late),
            _ => None,
        }
    }

    /// Since when it has asked nothing, or the rest of what it asks has not come.
    fn idle_since(&self) -> Instant {
        match self.awaits.get() {
            Awaits::Stream => self.moved.get(),
            Awaits::Nothing | Awaits::Whole => self.since.get(),
        }
    }

    /// Who goes first: whoever never asked anything, then who was idle for longest.
    fn worth(&self) -> (bool, Instant) {
        (self.served.get(), self.idle_since())
    }

    /// Whether it asks nothing that was read as a whole.
    fn may_freeze(&self) -> bool {
        let asks =
            self.phase.get() == RequestPhase::Answering && self.awaits.get() == Awaits::Nothing;
        !asks && !self.owes.get() && !self.closed.get() && !self.frozen.get()
    }

    /// Whether nothing of a query or an answer is in hyper's hands.
    pub fn may_rest(&self) -> bool {
        self.phase.get() == RequestPhase::Idle && !self.owes.get() && !self.resting.get()
    }

    pub fn park(&self, waker: &Waker) {
        let mut parked = self.waker.borrow_mut();
        if !parked.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *parked = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
