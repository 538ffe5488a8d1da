//! The state that the threads of one door share.

use crate::admission;
use crate::admission::connection_limit::WaitSamples;
use crate::admission::retry_after::ReturnSchedule;
use crate::clock::Moment;
use crate::door_load::{BalancerConnection, DoorLoad};
use crate::kernel;
use crate::meters::{DoorMetrics, LeftWith};
use crate::tls::ServerTls;
use rustls::ServerConnection;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Phase of a node's end, as its doors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// New connections are accepted.
    Open,
    /// No new connections are accepted; open ones end after their request.
    Leaving,
    /// Connections that are still open are cut.
    Ended,
}

/// Interval of looks at connections.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Intervals of looks while all connections of a thread rest, and of the controller then. Both return to the usual pace as soon as
/// anything comes in.
pub(super) const QUIET_LOOK: Duration = Duration::from_secs(2);
pub(super) const QUIET_STEP: Duration = Duration::from_secs(4);

/// Interval at which the controller runs, and connections are evicted for it.
pub(super) const STEP: Duration = Duration::from_millis(50);

/// Time after which a responder that was not heard of gets no processor time: while it refuses newcomers, it looks ten times a
/// second at least.
pub(super) const RESPONDER_SILENT_MAX: Duration = Duration::from_millis(300);

/// The state that the threads of one door share.
pub(super) struct DoorState {
    pub(super) door: Mutex<admission::Admission>,
    /// What the door carries now, which reloads, balancers and metrics use too.
    pub(super) load: Arc<DoorLoad>,
    /// Signalled when a connection of a full door ends, or its limit rises.
    pub(super) has_room_again: Notify,
    /// Signalled when a paused controller must go on.
    pub(super) steers: Notify,
    /// The same for the looks of each thread.
    pub(super) looks: Vec<Notify>,
    /// Whether the controller is paused because nothing came in recently.
    pub(super) is_quiet: AtomicBool,
    /// Counts for metrics. The door only writes them.
    pub(super) metrics: Arc<DoorMetrics>,
    /// Queue delays that threads measured.
    pub(super) waits: WaitSamples,
    /// Answers so far.
    pub(super) answered: AtomicU64,
    /// Recent answers a second, and what was handed to the responder in the time of answers.
    pub(super) answers_per_second: AtomicUsize,
    /// When refused clients return.
    pub(super) returns: ReturnSchedule,
    /// Connections above the limit.
    pub(super) surplus: AtomicUsize,
    /// Connections that the limit leaves room for.
    pub(super) spare: AtomicUsize,
    /// Whether the acceptor found the door full.
    pub(super) has_no_room: AtomicBool,
    /// Whether the acceptor has ended, because the door closes.
    pub(super) accepts_no_more: AtomicBool,
    /// Whether newcomers found no room, or came faster than the door takes them in, within the last second: those beyond what is
    /// left in the queue are surplus.
    pub(super) was_overrun: AtomicBool,
    /// The thread that refuses connections of a full door.
    pub(super) responder: OnceLock<std::thread::Thread>,
    /// Frozen connections with an unread request, for the responder.
    pub(super) handed: Mutex<Vec<FrozenConnection>>,
    /// How many of them the responder takes now.
    pub(super) handed_max: AtomicUsize,
    /// How many of them were refused so far.
    pub(super) refused_frozen: AtomicU64,
    /// Whether the responder refuses new connections as fast as they come.
    pub(super) refusal_pace: PaceReport,
    /// New connections that the responder leaves in the kernel's queue at least.
    pub(super) queue_keep_min: AtomicUsize,
    /// The most that the responder leaves there: no limit, but for a second after the queue was about to overflow.
    pub(super) queue_keep_max: AtomicUsize,
    /// New connections of a full door: in the kernel's queue, or refused in this step.
    pub(super) waiting: AtomicUsize,
    /// Whether the largest number of connections is open, frozen ones included.
    pub(super) all_places_taken: AtomicBool,
    /// Whether requests waited for more than half of the target in the last step with samples.
    pub(super) waits_are_long: AtomicBool,
    /// Bytes of bodies that are gathered, or read ahead of their answers.
    pub(super) body_bytes: AtomicUsize,
    /// Wait after which a request is late.
    pub(super) queue_delay_target: Duration,
    /// TLS of the door; None for plain HTTP.
    pub(super) tls: Option<Arc<ServerTls>>,
}

impl DoorState {
    pub(super) fn door(&self) -> MutexGuard<'_, admission::Admission> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many new connections to leave in the kernel's queue for the door's threads: those that find room, or soon
    /// will, but no more than keep the queue from overflowing.
    pub(super) fn left_in_queue(&self) -> usize {
        let open = self.load.open_connections();
        let active = open.saturating_sub(self.load.frozen.load(Relaxed));
        let room = self.load.limit.load(Relaxed).saturating_sub(active);
        let places = self.load.connections_max.load(Relaxed).saturating_sub(open);
        let left = self.queue_keep_min.load(Relaxed).max(room.min(places));
        left.min(self.queue_keep_max.load(Relaxed))
    }

    /// Returns whether newcomers find no room, or found none or too little a moment ago.
    pub(super) fn refuses_newcomers(&self) -> bool {
        self.has_no_room.load(Relaxed) || self.was_overrun.load(Relaxed)
    }

    /// Returns a new connection, or None if its client has left: it closed its side before any request, or, at an overloaded door,
    /// its request is late already. Counts those who have. For a client that is there it is one system call.
    pub(super) fn unless_left(&self, stream: TcpStream) -> Option<TcpStream> {
        let is_overloaded = self.waits_are_long.load(Relaxed) || self.refuses_newcomers();
        let late_after = is_overloaded.then_some(self.queue_delay_target);
        match has_left(&stream, late_after) {
            None => Some(stream),
            Some(with) => {
                self.metrics.left(with);
                None
            }
        }
    }

    /// Returns whether the responder has time to refuse a frozen connection.
    pub(super) fn may_hand(&self) -> bool {
        self.handed_max.load(Relaxed) > 0
    }

    /// Hands a frozen connection to the responder.
    pub(super) fn hand(&self, connection: FrozenConnection) {
        let fewer = |max: usize| max.checked_sub(1);
        let _ = self.handed_max.try_update(Relaxed, Relaxed, fewer);
        self.lock_handed().push(connection);
        self.wake_responder();
    }

    /// Takes the connections that were handed to the responder.
    pub(super) fn take_handed(&self) -> Vec<FrozenConnection> {
        std::mem::take(&mut *self.lock_handed())
    }

    fn lock_handed(&self) -> MutexGuard<'_, Vec<FrozenConnection>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the controller if it is paused.
    pub(super) fn stir(&self) {
        if self.is_quiet.load(Relaxed) {
            self.steers.notify_one();
        }
    }

    /// Wakes the thread that refuses connections.
    pub(super) fn wake_responder(&self) {
        if let Some(responder) = self.responder.get() {
            responder.unpark();
        }
    }
}

/// Returns with what a client has left that closed its side; None if it is there, or if it closed only the side that sends: its
/// request has not waited for more than `late_after`.
fn has_left(stream: &TcpStream, late_after: Option<Duration>) -> Option<LeftWith> {
    let socket = stream.as_raw_fd();
    if !kernel::has_ended(socket) {
        return None;
    }
    if !kernel::has_unread(socket) {
        return Some(LeftWith::NoRequest);
    }
    let is_late = |after| kernel::since_heard(stream).is_none_or(|wait| wait > after);
    late_after
        .is_some_and(is_late)
        .then_some(LeftWith::LateRequest)
}

/// What the responder last reported: when it found that it refuses new connections as fast as they come, by the monotonic clock
/// in milliseconds; 0 if it does not.
#[derive(Default)]
pub(super) struct PaceReport(AtomicU64);

impl PaceReport {
    pub(super) fn publish(&self, keeps_up: bool, now: Moment) {
        let at = if keeps_up { now.0.max(1) } else { 0 };
        self.0.store(at, Relaxed);
    }

    /// Returns whether the responder keeps up. One that was not heard of lately does not: it gets no processor time.
    pub(super) fn keeps_up(&self, now: Moment) -> bool {
        let at = self.0.load(Relaxed);
        at > 0 && now.since(Moment(at)) < RESPONDER_SILENT_MAX
    }
}

/// A connection that made room for others, with a request that nobody reads.
pub(super) struct FrozenConnection {
    pub(super) stream: TcpStream,
    /// TLS of the connection; None for plain HTTP.
    pub(super) tls: Option<Box<ServerConnection>>,
}

/// A place among the door's connections. Dropping it frees the place, however the connection ended.
pub(super) struct ConnectionSlot {
    pub(super) shared: Arc<DoorState>,
    pub(super) nth: usize,
    /// Among the connections of the balancer that it came from, if that is known.
    _balancer: Option<BalancerConnection>,
}

impl ConnectionSlot {
    /// Takes a place at the thread `nth` for a connection.
    pub(super) fn take(shared: &Arc<DoorState>, nth: usize, stream: &TcpStream) -> ConnectionSlot {
        let balancers = &shared.load.balancers;
        let peer = balancers.are_known().then(|| stream.peer_addr().ok());
        let from = |peer: SocketAddr| balancers.connection_from(peer.ip());
        shared.load.open[nth].fetch_add(1, Relaxed);
        shared.load.accepted.fetch_add(1, Relaxed);
        ConnectionSlot {
            shared: shared.clone(),
            nth,
            _balancer: peer.flatten().and_then(from),
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.shared.load.open[self.nth].fetch_sub(1, Relaxed);
        self.shared.door().leave();
        self.shared.has_room_again.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    #[test]
    fn the_page_on_overload_has_the_intervals_of_an_idle_door() {
        let page = include_str!("../../docs/design/overload.md");
        let [look, step] = [QUIET_LOOK, QUIET_STEP].map(|interval| interval.as_secs());
        let line = format!("it looks once in {look} s, and the controller runs once in {step} s");
        assert!(page.contains(&line), "{line}");
    }

    #[test]
    fn a_responder_that_is_silent_does_not_keep_up() {
        let pace = PaceReport::default();
        assert!(!pace.keeps_up(Moment(1)));
        pace.publish(true, Moment(1_000));
        assert!(pace.keeps_up(Moment(1_000)) && pace.keeps_up(Moment(1_299)));
        assert!(!pace.keeps_up(Moment(1_300)));
        pace.publish(false, Moment(1_400));
        assert!(!pace.keeps_up(Moment(1_400)));
    }

    #[test]
    fn a_client_has_left_if_it_closed_without_a_request_or_long_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let comes = |request: &[u8]| {
            let mut client = TcpStream::connect(address).expect("connected");
            client.write_all(request).expect("sent");
            (client, listener.accept().expect("accepted").0)
        };
        let settle = || std::thread::sleep(Duration::from_millis(30));
        let (at_once, later) = (Some(Duration::ZERO), Some(Duration::from_secs(60)));
        for request in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
            let (client, stream) = comes(request);
            settle();
            assert_eq!(has_left(&stream, at_once), None, "it is there");
            client.shutdown(Shutdown::Write).expect("ended");
            settle();
            let (now, not_yet) = match request {
                b"" => (LeftWith::NoRequest, Some(LeftWith::NoRequest)),
                // The side that is still open waits for an answer.
                _ => (LeftWith::LateRequest, None),
            };
            assert_eq!(has_left(&stream, at_once), Some(now));
            assert_eq!(has_left(&stream, later), not_yet);
            assert_eq!(has_left(&stream, None), not_yet);
        }
    }
}
