//! One connection as its time-outs see it, and what the connections of one thread of a door share. Never: bytes.

use super::door::Door;
use super::door_state::{DoorState, Settings};
use super::limits::Settings as Bounds;
use crate::meters::{CloseReason, HandshakeOutcome};
use crate::service::Service;
use crate::tls::CertificateDigest;
use crate::tls::pinned::KeyDigest;
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How far the end of a thread's connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainState {
    /// The door is open.
    No,
    /// Told; what the kernel held then is still read and answered. It takes two looks to be sure that one lay between.
    Told,
    /// One look has passed since.
    Looked,
    /// Connections without a query end.
    Now,
}

/// Idle connections of a full door are closed after so long.
const IDLE_LEAST: Duration = Duration::from_secs(5);

/// What a full door waits for the bytes of a body.
const BODY_LEAST: Duration = Duration::from_millis(500);

/// What the connections of one thread of a door share.
pub struct ThreadState {
    /// Answers the thread's queries.
    pub service: Rc<Service>,
    /// Which of the door's threads this is.
    pub(super) nth: usize,
    /// The door of the thread.
    pub door: Door,
    /// The settings of the door.
    pub settings: Settings,
    /// The limits of its requests.
    pub bounds: Rc<Bounds>,
    pub(super) shared: Arc<DoorState>,
    /// How far the end of its connections is.
    pub leaving: Cell<DrainState>,
    /// As of the last look; a quarter of a second is fine enough for time-outs.
    pub(super) clock: Cell<Instant>,
    /// How full the door is, of its last fifth: 0 to 1.
    pub(super) crowding: Cell<f64>,
    /// Connections that are to end with their next answer.
    pub(super) surplus: Cell<usize>,
    /// Something came in or went out since the last look.
    pub(super) active: Cell<bool>,
    /// All connections rest, and steps and looks are put off.
    pub(super) quiet: Cell<bool>,
    /// Requests and answers since the last step, and of how many requests the wait of one is asked for.
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
            surplus: Cell::new(0),
            active: Cell::new(true),
            quiet: Cell::new(false),
            heard: Cell::new(0),
            answered: Cell::new(0),
            every: Cell::new(1),
        }
    }

    /// Counts a handshake that has ended.
    pub fn shook_hands(&self, outcome: HandshakeOutcome) {
        self.shared.metrics.shook_hands(outcome);
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

    /// As [`ThreadState::take_bytes`], of three quarters: what is read ahead leaves some for bodies that must be whole.
    pub fn take_bytes_ahead(&self, bytes: usize) -> bool {
        let spent = self.shared.body_bytes.load(Relaxed);
        spent + bytes <= self.bounds.body_bytes_max / 4 * 3 && self.take_bytes(bytes)
    }

    /// Takes so many bytes whether they are left or not.
    pub fn hold_bytes(&self, bytes: usize) {
        self.shared.body_bytes.fetch_add(bytes, Relaxed);
    }

    /// Gives bytes back to what the door has for bodies.
    pub fn give_bytes_back(&self, bytes: usize) {
        self.shared.body_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Ends the quiet, if it is quiet: something came in.
    pub(super) fn stir(&self) {
        if self.quiet.replace(false) {
            self.active.set(true);
            self.clock.set(Instant::now());
            self.shared.stir();
        }
    }

    /// Returns 0 below four fifths of the cap, and 1 at it.
    pub(super) fn crowding(&self) -> f64 {
        let frozen = self.shared.frozen.load(Relaxed);
        let limit = self.shared.limit.load(Relaxed);
        let inside = self.shared.open_connections().saturating_sub(frozen);
        let past = (inside as f64 / limit.max(1) as f64 - 0.8) / 0.2;
        past.clamp(0.0, 1.0)
    }

    /// A time-out in a crowd: whole below four fifths of the cap, and the least at it.
    pub(super) fn fitting(&self, most: Duration, least: Duration) -> Duration {
        let least = least.min(most);
        most - (most - least).mul_f64(self.crowding.get())
    }

    /// Whether the wait of the request that was just heard is asked for.
    pub(super) fn samples(&self) -> bool {
        let heard = self.heard.get();
        self.heard.set(heard + 1);
        heard.is_multiple_of(self.every.get())
    }
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
pub(super) enum Awaits {
    Nothing,
    /// The rest of a body that is gathered.
    Whole,
    /// The next bytes of a body that is read as it comes.
    Stream,
}

/// One connection, as its time-outs see it.
pub struct ConnectionState {
    /// What the connection shares with the others of its thread.
    pub thread: Rc<ThreadState>,
    /// Open for as long as the state is in the table.
    pub(super) socket: RawFd,
    pub(super) nth: Cell<usize>,
    phase: Cell<RequestPhase>,
    pub(super) since: Cell<Instant>,
    moved: Cell<Instant>,
    /// How long the answer under way may take.
    limit: Cell<Duration>,
    waker: RefCell<Option<Waker>>,
    /// Whether the connection is to end without reading or writing any more.
    pub closed: Cell<bool>,
    /// Neither read nor written.
    pub frozen: Cell<bool>,
    /// Bytes of an answer are not on their way yet.
    pub owes: Cell<bool>,
    pub(super) awaits: Cell<Awaits>,
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
    /// Whether the connection rests: hyper holds no buffers for it.
    pub resting: Cell<bool>,
    /// The certificate that the client showed, where the door asks for one.
    pub certificate: Cell<Option<CertificateDigest>>,
    /// The public key in it, where the door knows clients by that.
    pub key: Cell<Option<KeyDigest>>,
}

impl ConnectionState {
    /// Returns the state of a connection just accepted: its first head is awaited. `nth` is its place in the table.
    pub(super) fn new(thread: Rc<ThreadState>, socket: RawFd, nth: usize) -> ConnectionState {
        let (now, limit) = (thread.clock.get(), thread.settings.head_timeout);
        ConnectionState {
            thread,
            socket,
            nth: Cell::new(nth),
            phase: Cell::new(RequestPhase::Head),
            since: Cell::new(now),
            moved: Cell::new(now),
            limit: Cell::new(limit),
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
        }
    }

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

    /// Notes that an answer's body is gone: the connection is idle.
    pub fn answered(&self) {
        self.enter(RequestPhase::Idle);
        self.served.set(true);
        self.thread.answered.set(self.thread.answered.get() + 1);
    }

    /// Whether the connection is to end with this answer: there are too many.
    pub fn is_last(&self) -> bool {
        let surplus = self.thread.surplus.get();
        self.thread.surplus.set(surplus.saturating_sub(1));
        surplus > 0
    }

    /// One turn, one answer: who sends many requests at once waits behind everybody else between two of them.
    pub async fn turn(&self) {
        let before = self.answers.replace(self.answers.get() + 1);
        if before > 0 {
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

    /// Bytes came in. True if it is to be told how long they waited.
    pub fn heard(&self) -> bool {
        if self.phase.get() == RequestPhase::Idle {
            self.enter(RequestPhase::Head);
        }
        self.moved.set(self.thread.clock.get());
        self.later.set(true);
        self.phase.get() == RequestPhase::Head && self.samples()
    }

    /// Whether the wait of these bytes is asked for; that of the first after a quiet time always is.
    fn samples(&self) -> bool {
        let samples = self.thread.samples();
        if samples && self.thread.quiet.get() {
            self.thread.stir();
            self.thread.shared.looks[self.thread.nth].notify_one();
            // By the clock of now.
            self.enter(RequestPhase::Head);
        }
        samples
    }

    /// Counts how long bytes waited in the kernel.
    pub fn waited(&self, wait: Duration) {
        self.thread.shared.waits.count(wait);
    }

    /// Bytes went out.
    pub fn moved(&self) {
        self.moved.set(self.thread.clock.get());
    }

    pub(super) fn overdue(&self, now: Instant) -> Option<CloseReason> {
        let settings = &self.thread.settings;
        let phase = now.saturating_duration_since(self.since.get());
        let still = now.saturating_duration_since(self.moved.get());
        match self.phase.get() {
            RequestPhase::Idle
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

    /// Since when it has asked nothing, or the rest of what it asks has not come.
    pub(super) fn idle_since(&self) -> Instant {
        match self.awaits.get() {
            Awaits::Stream => self.moved.get(),
            Awaits::Nothing | Awaits::Whole => self.since.get(),
        }
    }

    /// Who goes first: whoever never asked anything, then who was idle for longest.
    pub(super) fn worth(&self) -> (bool, Instant) {
        (self.served.get(), self.idle_since())
    }

    /// Whether it asks nothing that was read as a whole.
    pub(super) fn may_freeze(&self) -> bool {
        let asks =
            self.phase.get() == RequestPhase::Answering && self.awaits.get() == Awaits::Nothing;
        !asks && !self.owes.get() && !self.closed.get() && !self.frozen.get()
    }

    /// Whether nothing of a query or an answer is in hyper's hands.
    pub fn may_rest(&self) -> bool {
        self.phase.get() == RequestPhase::Idle && !self.owes.get() && !self.resting.get()
    }

    /// Keeps the waker of the connection's task.
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
