//! The state of one connection: its time-outs and whether it makes room; and what the connections of one thread share. No bytes.

use super::door::Door;
use super::door_settings::Settings;
use super::door_state::DoorState;
use super::limits::Settings as Bounds;
use crate::kernel;
use crate::meters::{CloseReason, HandshakeOutcome};
use crate::service::Service;
use crate::tls::CertificateDigest;
use crate::tls::pinned::KeyDigest;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Phase of the drain of a thread's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainState {
    /// The door is open.
    No,
    /// Draining has begun. Requests that the kernel held then are still answered; two looks make sure that one lies in between.
    Told,
    /// One look has passed since then.
    Looked,
    /// Connections without a request are closed.
    Now,
}

/// Idle time after which a full door closes a connection.
const IDLE_LEAST: Duration = Duration::from_secs(5);

/// Time that a full door waits for bytes of a body.
const BODY_LEAST: Duration = Duration::from_millis(500);

/// State that the connections of one thread of a door share.
pub struct ThreadState {
    /// The service that answers the thread's requests.
    pub service: Rc<Service>,
    /// Index of the thread in its door.
    pub(super) nth: usize,
    /// The door of the thread.
    pub door: Door,
    /// The settings of the door.
    pub settings: Settings,
    /// Limits of requests.
    pub bounds: Rc<Bounds>,
    pub(super) shared: Arc<DoorState>,
    /// Phase of the drain.
    pub leaving: Cell<DrainState>,
    /// Time of the last look. A quarter of a second is precise enough for time-outs.
    pub(super) clock: Cell<Instant>,
    /// Position of the door within the last fifth before its limit: 0 to 1.
    pub(super) crowding: Cell<f64>,
    /// Number of frozen connections.
    pub(super) frozen: Cell<usize>,
    /// The frozen connections that asked and were neither served nor refused, in the order in which they asked.
    pub(super) asking: RefCell<VecDeque<Weak<ConnectionState>>>,
    /// Whether bytes came in or went out since the last look.
    pub(super) active: Cell<bool>,
    /// Whether all connections rest, so that steps and looks are put off.
    pub(super) quiet: Cell<bool>,
    /// Requests and answers since the last step, and the interval of requests whose wait is measured.
    pub(super) heard: Cell<u32>,
    pub(super) answered: Cell<u32>,
    pub(super) every: Cell<u32>,
}

impl ThreadState {
    pub(super) fn new(
        service: Service,
        door: Door,
        settings: Settings,
        bounds: Bounds,
        shared: Arc<DoorState>,
        nth: usize,
    ) -> ThreadState {
        ThreadState {
            service: Rc::new(service),
            nth,
            door,
            settings,
            bounds: Rc::new(bounds),
            shared,
            leaving: Cell::new(DrainState::No),
            clock: Cell::new(Instant::now()),
            crowding: Cell::new(0.0),
            frozen: Cell::new(0),
            asking: RefCell::default(),
            active: Cell::new(true),
            quiet: Cell::new(false),
            heard: Cell::new(0),
            answered: Cell::new(0),
            every: Cell::new(1),
        }
    }

    /// Counts a TLS handshake that ended.
    pub fn shook_hands(&self, outcome: HandshakeOutcome) {
        self.shared.metrics.shook_hands(outcome);
    }

    /// Reserves bytes of the door's budget for bodies. Returns false if too few are left.
    pub fn take_bytes(&self, bytes: usize) -> bool {
        let spent = &self.shared.body_bytes;
        let most = self.bounds.body_bytes_max;
        let taken = spent.try_update(Relaxed, Relaxed, |spent| {
            spent.checked_add(bytes).filter(|sum| *sum <= most)
        });
        taken.is_ok()
    }

    /// Reserves bytes from three quarters of the budget: reading ahead must leave some for whole bodies.
    pub fn take_bytes_ahead(&self, bytes: usize) -> bool {
        let spent = self.shared.body_bytes.load(Relaxed);
        spent + bytes <= self.bounds.body_bytes_max / 4 * 3 && self.take_bytes(bytes)
    }

    /// Reserves bytes even if the budget is exceeded.
    pub fn hold_bytes(&self, bytes: usize) {
        self.shared.body_bytes.fetch_add(bytes, Relaxed);
    }

    /// Returns bytes to the door's budget for bodies.
    pub fn give_bytes_back(&self, bytes: usize) {
        self.shared.body_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Ends a quiet time, because something came in.
    pub(super) fn stir(&self) {
        if self.quiet.replace(false) {
            self.active.set(true);
            self.clock.set(Instant::now());
            self.shared.stir();
        }
    }

    /// Returns 0 below four fifths of the limit of connections, rising to 1 at the limit.
    pub(super) fn crowding(&self) -> f64 {
        let frozen = self.shared.load.frozen.load(Relaxed);
        let limit = self.shared.load.limit.load(Relaxed);
        let inside = self.shared.load.open_connections().saturating_sub(frozen);
        let past = (inside as f64 / limit.max(1) as f64 - 0.8) / 0.2;
        past.clamp(0.0, 1.0)
    }

    /// Returns a time-out adapted to the crowd: `most` below four fifths of the limit, `least` at the limit.
    pub(super) fn fitting(&self, most: Duration, least: Duration) -> Duration {
        let least = least.min(most);
        most - (most - least).mul_f64(self.crowding.get())
    }

    /// Returns whether the wait of this request is measured.
    pub(super) fn samples(&self) -> bool {
        let heard = self.heard.get();
        self.heard.set(heard + 1);
        heard.is_multiple_of(self.every.get())
    }
}

/// Phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPhase {
    /// No byte has come yet, as on a connection that a browser opened ahead of its request.
    New,
    Idle,
    /// A head has begun and not ended, or a TLS handshake.
    Head,
    Answering,
}

/// What becomes of a frozen connection that was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is served again.
    Served,
    /// Its request must be refused.
    MustRefuse,
    /// Nothing now: it has no request, or there is no time for it.
    Later,
}

/// What an answer waits for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    Nothing,
    /// The rest of a body that is gathered as a whole.
    Whole,
    /// The next bytes of a streamed body.
    Stream,
}

/// The state of one connection for its time-outs.
pub struct ConnectionState {
    /// State shared with the other connections of the thread.
    pub thread: Rc<ThreadState>,
    /// The socket; open as long as the state is in the table.
    pub(super) socket: RawFd,
    pub(super) nth: Cell<usize>,
    phase: Cell<RequestPhase>,
    pub(super) since: Cell<Instant>,
    moved: Cell<Instant>,
    /// Time limit of the current answer.
    limit: Cell<Duration>,
    waker: RefCell<Option<Waker>>,
    /// Whether the connection must end without further reads or writes.
    pub closed: Cell<bool>,
    /// Whether the connection is neither read nor written, to make room.
    pub frozen: Cell<bool>,
    /// Whether the client of the frozen connection has closed its side.
    pub(super) has_left: Cell<bool>,
    /// Whether a request may have waited because the connection was frozen.
    was_late: Cell<bool>,
    /// Whether it is on the thread's stack of those to be asked again.
    pub(super) is_stacked: Cell<bool>,
    /// Whether it was taken from the stack to be served, however long its request waited.
    pub(super) is_called: Cell<bool>,
    /// Whether bytes of an answer are not sent yet.
    pub owes: Cell<bool>,
    pub(super) awaits: Cell<Awaits>,
    /// Whether bytes of a gathered body arrived after its head.
    later: Cell<bool>,
    /// Whether the last answer was a refusal that left bytes of its request unread.
    pub unread: Cell<bool>,
    /// Whether a request on the connection had a valid credential.
    pub known: Cell<bool>,
    /// Answers begun in this turn.
    answers: Cell<u32>,
    /// Whether the connection is asked to rest.
    pub rest: Cell<bool>,
    /// Whether the connection rests: hyper holds no buffers for it.
    pub resting: Cell<bool>,
    /// The client's certificate; None without one.
    pub certificate: Cell<Option<CertificateDigest>>,
    /// The client's public key, at a door that knows clients by it.
    pub key: Cell<Option<KeyDigest>>,
}

impl ConnectionState {
    /// Returns the state of a new connection. `nth` is its index in the table.
    pub(super) fn new(thread: Rc<ThreadState>, socket: RawFd, nth: usize) -> ConnectionState {
        let phase = match thread.shared.tls {
            Some(_) => RequestPhase::Head,
            None => RequestPhase::New,
        };
        let (now, limit) = (thread.clock.get(), thread.settings.head_timeout);
        ConnectionState {
            thread,
            socket,
            nth: Cell::new(nth),
            phase: Cell::new(phase),
            since: Cell::new(now),
            moved: Cell::new(now),
            limit: Cell::new(limit),
            waker: RefCell::new(None),
            closed: Cell::new(false),
            frozen: Cell::new(false),
            has_left: Cell::new(false),
            was_late: Cell::new(false),
            is_stacked: Cell::new(false),
            is_called: Cell::new(false),
            owes: Cell::new(false),
            awaits: Cell::new(Awaits::Nothing),
            later: Cell::new(false),
            unread: Cell::new(false),
            known: Cell::new(false),
            answers: Cell::new(0),
            rest: Cell::new(false),
            resting: Cell::new(false),
            certificate: Cell::new(None),
            key: Cell::new(None),
        }
    }

    /// Ends the TLS handshake: the connection waits for its first request.
    pub(super) fn handshake_done(&self) {
        self.enter(RequestPhase::New);
    }

    /// Begins an answer, which may take `limit` from the end of the head.
    pub fn begin(&self, limit: Duration) {
        self.enter(RequestPhase::Answering);
        self.limit.set(limit);
    }

    /// Begins to wait for a whole body for at most `limit`. [`ConnectionState::begin`] ends the wait.
    pub fn gathers(&self, limit: Duration) {
        self.begin(limit);
        self.awaits.set(Awaits::Whole);
        self.later.set(false);
    }

    /// Returns whether bytes of the gathered body arrived after its head, so that time has passed.
    pub fn came_later(&self) -> bool {
        self.later.get()
    }

    /// Sets whether the answer waits for a streamed body. The time limit of the whole answer goes on.
    pub fn awaits_more(&self, more: bool) {
        self.awaits.set(match more {
            true => Awaits::Stream,
            false => Awaits::Nothing,
        });
    }

    /// Records that the answer's body is gone: the connection is idle.
    pub fn answered(&self) {
        self.enter(RequestPhase::Idle);
        self.thread.answered.set(self.thread.answered.get() + 1);
    }

    /// Waits for this connection's turn: one answer a turn, so that a client with many pipelined requests does not delay
    /// others.
    pub async fn turn(&self) {
        let before = self.answers.replace(self.answers.get() + 1);
        if before > 0 {
            // hyper has read the request: nothing would wake a connection that is frozen meanwhile.
            self.enter(RequestPhase::Answering);
            tokio::task::yield_now().await;
        }
    }

    /// Begins a turn, in which one request is answered without a pause.
    pub fn begin_turn(&self) {
        self.answers.set(0);
    }

    fn enter(&self, phase: RequestPhase) {
        let now = self.thread.clock.get();
        self.phase.set(phase);
        self.awaits.set(Awaits::Nothing);
        self.since.set(now);
        self.moved.set(now);
    }

    /// Records that bytes came in. Returns whether to report how long they waited.
    pub fn heard(&self) -> bool {
        if self.asks_nothing() {
            self.enter(RequestPhase::Head);
        }
        self.moved.set(self.thread.clock.get());
        self.later.set(true);
        // A request that was put off waited for that, not for its turn.
        let was_late = self.was_late.replace(false);
        self.phase.get() == RequestPhase::Head && !was_late && self.samples()
    }

    /// Returns whether the wait of these bytes is measured. After a quiet time the first one always is.
    fn samples(&self) -> bool {
        let samples = self.thread.samples();
        if samples && self.thread.quiet.get() {
            self.thread.stir();
            self.thread.shared.looks[self.thread.nth].notify_one();
            // The exact clock, not the one of the last look.
            self.enter(RequestPhase::Head);
        }
        samples
    }

    /// Records how long bytes waited in the kernel.
    pub fn waited(&self, wait: Duration) {
        self.thread.shared.waits.count(wait);
    }

    /// Records that bytes went out.
    pub fn moved(&self) {
        self.moved.set(self.thread.clock.get());
    }

    pub(super) fn overdue(&self, now: Instant) -> Option<CloseReason> {
        let settings = &self.thread.settings;
        let phase = now.saturating_duration_since(self.since.get());
        let still = now.saturating_duration_since(self.moved.get());
        match self.phase.get() {
            RequestPhase::New | RequestPhase::Idle
                if phase > self.thread.fitting(settings.idle_timeout, IDLE_LEAST) =>
            {
                Some(CloseReason::Idle)
            }
            RequestPhase::Head if phase > settings.head_timeout => Some(CloseReason::Head),
            RequestPhase::Answering if still > settings.stall_timeout => Some(CloseReason::Stalled),
            RequestPhase::Answering if self.awaits.get() == Awaits::Whole => {
                let limit = self.thread.fitting(self.limit.get(), BODY_LEAST);
                (phase > limit).then_some(CloseReason::Body)
            }
            RequestPhase::Answering if phase > self.limit.get() => Some(CloseReason::Late),
            _ => None,
        }
    }

    /// Returns since when the connection has sent nothing, or not the rest of its request.
    pub(super) fn idle_since(&self) -> Instant {
        match self.awaits.get() {
            Awaits::Stream => self.moved.get(),
            Awaits::Nothing | Awaits::Whole => self.since.get(),
        }
    }

    /// Returns the order in which frozen connections are closed: first those whose client has left, last those with a request.
    pub(super) fn worth_frozen(&self) -> (bool, bool, (bool, Instant)) {
        (!self.has_left.get(), self.is_stacked.get(), self.worth())
    }

    /// Returns the order of eviction: connections without a valid credential first, then those idle for longest.
    pub(super) fn worth(&self) -> (bool, Instant) {
        (self.known.get(), self.idle_since())
    }

    /// Returns whether the door was above four fifths of its connection limit at the last check.
    pub fn is_crowded(&self) -> bool {
        self.thread.crowding.get() > 0.0
    }

    /// Returns whether the connection has no completely read request, so that it may be frozen.
    pub(super) fn may_freeze(&self) -> bool {
        let asks =
            self.phase.get() == RequestPhase::Answering && self.awaits.get() == Awaits::Nothing;
        !asks && !self.owes.get() && !self.closed.get() && !self.frozen.get()
    }

    /// Returns whether no request has begun since the last answer.
    pub(super) fn is_between_requests(&self) -> bool {
        self.phase.get() == RequestPhase::Idle
    }

    /// Decides what becomes of this frozen connection, which was woken: perhaps by a request. A request that has not waited for
    /// long is served, since a door whose requests wait reaches it late.
    pub(super) fn ask(self: &Rc<ConnectionState>) -> Asked {
        let is_called = self.is_called.replace(false);
        if self.phase.get() == RequestPhase::Answering || self.owes.get() {
            return Asked::Later;
        }
        let unread = kernel::unread(self.socket);
        if unread == kernel::Unread::Nothing {
            return Asked::Later;
        }
        // Whoever has closed its side has usually left: it keeps its place until that is needed, which costs least.
        if unread == kernel::Unread::Last {
            self.has_left.set(true);
            return Asked::Later;
        }
        let wait_max = self.thread.shared.queue_delay_target;
        let is_fresh = || kernel::since_heard(&self.socket).is_some_and(|wait| wait <= wait_max);
        if is_called || is_fresh() {
            self.unfreeze();
            return Asked::Served;
        }
        if self.thread.shared.may_hand() {
            return Asked::MustRefuse;
        }
        self.ask_later();
        Asked::Later
    }

    /// Notes that the connection is to be asked again once there is time.
    fn ask_later(self: &Rc<ConnectionState>) {
        self.was_late.set(true);
        if !self.is_stacked.replace(true) {
            let mut asking = self.thread.asking.borrow_mut();
            asking.push_back(Rc::downgrade(self));
        }
    }

    /// Serves the connection again if it was frozen. A request on it may have waited for that.
    pub(super) fn thaw(&self) {
        if self.frozen.get() {
            self.was_late.set(true);
            self.unfreeze();
            self.wake();
        }
    }

    fn unfreeze(&self) {
        self.frozen.set(false);
        self.is_called.set(false);
        self.has_left.set(false);
        self.thread.frozen.set(self.thread.frozen.get() - 1);
        let mut door = self.thread.shared.door();
        door.thaw();
        let frozen = &self.thread.shared.load.frozen;
        frozen.store(door.frozen(), Relaxed);
    }

    /// Returns whether hyper holds nothing of a request or an answer.
    pub fn may_rest(&self) -> bool {
        self.asks_nothing() && !self.owes.get() && !self.resting.get()
    }

    fn asks_nothing(&self) -> bool {
        matches!(self.phase.get(), RequestPhase::New | RequestPhase::Idle)
    }

    /// Stores the waker of the connection's task.
    pub fn park(&self, waker: &Waker) {
        let mut parked = self.waker.borrow_mut();
        if !parked.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *parked = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
