//! What the threads of one door share, and the settings of a door.

use crate::admission;
use crate::admission::connection_limit::WaitSamples;
use crate::meters::DoorMetrics;
use crate::tls::{ServerFiles, ServerTls};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// One door's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the door listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<ServerFiles>,
    /// Threads that serve the door's connections.
    pub threads: usize,
    /// Steps by which its threads let others go first.
    pub niceness: i32,
    /// How many connections the door admits, and how it refuses others.
    pub admission: admission::AdmissionSettings,
    /// Connections that the kernel keeps for us; a long queue is a queue of people who have left.
    pub backlog: u32,
    /// From the first byte of a head (or from the accept) to its end.
    pub head_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// No byte read or written while a request is being answered.
    pub stall_timeout: Duration,
    /// Bytes of a request's head at most.
    pub head_bytes_max: usize,
}

/// How far a node has come in its life, as its doors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// New connections are accepted.
    Open,
    /// No new connections; those that are open end after their query.
    Leaving,
    /// Whatever is still open is cut.
    Ended,
}

/// How often connections are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How often the connections of a thread are looked at while they all rest; their door is steered half as often. Both go on at
/// full pace as soon as anything comes in.
pub(super) const QUIET_LOOK: Duration = Duration::from_secs(2);

/// How often the cap is steered, and connections are let go for it.
pub(super) const STEP: Duration = Duration::from_millis(50);

/// What the threads of one door share.
pub(super) struct DoorState {
    pub(super) door: Mutex<admission::Admission>,
    /// Connections that there may be, as the settings in force say.
    pub(super) cap: Arc<AtomicUsize>,
    /// Somebody left a full door.
    pub(super) left: Notify,
    /// Steering was put off and is to go on at its pace.
    pub(super) steers: Notify,
    /// The same for the looks of each thread.
    pub(super) looks: Vec<Notify>,
    /// Steering is put off: nothing came in of late.
    pub(super) is_quiet: AtomicBool,
    /// Written only: what steers the door is in the fields beside it.
    pub(super) metrics: Arc<DoorMetrics>,
    /// Connections that are admitted now.
    pub(super) limit: AtomicUsize,
    /// Connections that are open and not heard.
    pub(super) frozen: AtomicUsize,
    /// Milliseconds after which those who are turned away are told to come back.
    pub(super) retry_after_ms: AtomicU64,
    /// Connections accepted, and newcomers told that the door is full, since the start.
    pub(super) accepted: AtomicU64,
    pub(super) told_busy: AtomicU64,
    /// Connections of each thread.
    pub(super) open: Vec<AtomicUsize>,
    pub(super) waits: WaitSamples,
    /// Answers so far.
    pub(super) answered: AtomicU64,
    /// Connections past the cap, or those that it leaves room for.
    pub(super) surplus: AtomicUsize,
    pub(super) spare: AtomicUsize,
    /// Whether the acceptor found the door full; who tells those who come then; how many it leaves in the queue.
    pub(super) is_shut: AtomicBool,
    pub(super) responder: OnceLock<std::thread::Thread>,
    pub(super) patient: AtomicUsize,
    /// Newcomers of a door without room: in the kernel's queue, or told so in this step.
    pub(super) waiting: AtomicUsize,
    /// As many are open as ever may be, frozen ones too.
    pub(super) is_full: AtomicBool,
    /// Requests wait for so long that it is worth to know how many do.
    pub(super) is_slow: AtomicBool,
    /// How many do, about, while that is so.
    pub(super) pending: AtomicUsize,
    /// Bytes of bodies that are being gathered, or wait to be answered.
    pub(super) body_bytes: AtomicUsize,
    /// None: plain HTTP.
    pub(super) tls: Option<Arc<ServerTls>>,
}

impl DoorState {
    pub(super) fn door(&self) -> std::sync::MutexGuard<'_, admission::Admission> {
        self.door
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets steering go on at its pace, if it was put off.
    pub(super) fn stir(&self) {
        if self.is_quiet.load(Relaxed) {
            self.steers.notify_one();
        }
    }

    /// Wakes the thread that tells newcomers that the door is full.
    pub(super) fn wake_responder(&self) {
        if let Some(responder) = self.responder.get() {
            responder.unpark();
        }
    }

    /// Admits so many connections from now on.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
        self.metrics.limit.store(limit as u64, Relaxed);
    }

    /// Says how many connections are open and not heard.
    pub(super) fn set_frozen(&self, frozen: usize) {
        self.frozen.store(frozen, Relaxed);
        self.metrics.frozen.store(frozen as u64, Relaxed);
    }

    /// Says after how long those who are turned away are told to come back.
    pub(super) fn set_retry_after(&self, wait: Duration) {
        let wait = wait.as_millis() as u64;
        self.retry_after_ms.store(wait, Relaxed);
        self.metrics.retry_after.store(wait, Relaxed);
    }

    /// Counts a newcomer that was told that the door is full.
    pub(super) fn count_busy(&self) {
        self.told_busy.fetch_add(1, Relaxed);
        self.metrics.busy.fetch_add(1, Relaxed);
    }

    /// Returns how many connections are open, frozen ones too.
    pub(super) fn open_connections(&self) -> usize {
        self.open.iter().map(|open| open.load(Relaxed)).sum()
    }

    pub(super) fn least_busy(&self) -> usize {
        let counts = self.open.iter().map(|open| open.load(Relaxed));
        let least = counts.enumerate().min_by_key(|(_, open)| *open);
        least.map_or(0, |(nth, _)| nth)
    }
}

/// A place among the door's connections; leaving frees it, however the connection ends.
pub(super) struct ConnectionSlot {
    pub(super) shared: Arc<DoorState>,
    pub(super) nth: usize,
}

impl ConnectionSlot {
    pub(super) fn take(shared: &Arc<DoorState>, nth: usize) -> ConnectionSlot {
        shared.open[nth].fetch_add(1, Relaxed);
        shared.metrics.open.fetch_add(1, Relaxed);
        shared.accepted.fetch_add(1, Relaxed);
        shared.metrics.accepted.fetch_add(1, Relaxed);
        ConnectionSlot {
            shared: shared.clone(),
            nth,
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.shared.open[self.nth].fetch_sub(1, Relaxed);
        self.shared.metrics.open.fetch_sub(1, Relaxed);
        self.shared.door().leave();
        self.shared.left.notify_one();
    }
}
