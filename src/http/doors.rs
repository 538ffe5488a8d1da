//! The listeners: each door accepts on one thread, hands its connections to the least busy of its own, and drains.
//!
//! A door's threads each run a runtime of their own and share nothing that a query touches: the counts by which the door is
//! steered. hyper's own timers stay off: one look at every connection four times a second does their work without costing
//! a query anything.

mod connection;
mod connections;
mod controller;
mod reject;
mod responder;
mod transport;
pub mod waiting;

pub use connections::ConnectionState;

use super::Settings as Bounds;
use super::query::Door;
use crate::admission;
use crate::admission::busy::BusyShare;
use crate::admission::connection_limit::WaitSamples;
use crate::critical::CriticalTask;
use crate::kernel;
use crate::meters::DoorMetrics;
use crate::service::{AppState, Service};
use crate::tls::{ServerFiles, ServerTls};
use connections::ConnectionTable;
use responder::Responder;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, watch};

/// One door's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<ServerFiles>,
    pub threads: usize,
    /// Steps by which its threads let others go first.
    pub niceness: i32,
    pub admission: admission::AdmissionSettings,
    /// Connections that the kernel keeps for us; a long queue is a queue of people who have left.
    pub backlog: u32,
    /// From the first byte of a head (or from the accept) to its end.
    pub head_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// No byte read or written while a request is being answered.
    pub stall_timeout: Duration,
    pub head_bytes_max: usize,
}

/// How far a node has come in its life, as its doors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    Open,
    /// No new connections; those that are open end after their query.
    Leaving,
    /// Whatever is still open is cut.
    Ended,
}

/// A door that is bound and not yet served.
pub struct BoundListener {
    pub door: Door,
    pub address: SocketAddr,
    /// None: plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    listener: std::net::TcpListener,
    settings: Settings,
}

/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How often the connections of a thread are looked at while they all rest; their door is steered half as often. Both go on at
/// full pace as soon as anything comes in.
const QUIET_LOOK: Duration = Duration::from_secs(2);

/// How often the cap is steered, and connections are let go for it.
const STEP: Duration = Duration::from_millis(50);

/// Accepts in a row, before those who are in have their turn.
const ACCEPTS_MAX: usize = 16;

/// After an accept that failed (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a door, and reads its certificate; port 0 takes a free one.
pub fn bind(door: Door, settings: Settings) -> io::Result<BoundListener> {
    let tls = settings.tls.clone().map(ServerTls::load);
    let tls = tls.transpose().map_err(io::Error::other)?;
    let domain = socket2::Domain::for_address(settings.address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&settings.address.into())?;
    socket.listen(settings.backlog as i32)?;
    let listener: std::net::TcpListener = socket.into();
    Ok(BoundListener {
        door,
        address: listener.local_addr()?,
        tls: tls.map(Arc::new),
        listener,
        settings,
    })
}

impl BoundListener {
    /// Starts the door's threads; each ends once `stage` is past open and its last connection is gone.
    pub fn open(
        self,
        app: &Arc<AppState>,
        bounds: &Bounds,
        stage: &watch::Receiver<ShutdownPhase>,
    ) -> io::Result<Vec<std::thread::JoinHandle<()>>> {
        let threads = self.settings.threads.max(1);
        let limit = self.settings.admission.connections_max;
        let metrics = app.meters.door(self.door.name(), limit);
        // Until the first second has told what to say.
        let soon = admission::retry_after::LEAST.as_millis() as u64;
        metrics.limit.store(limit as u64, Relaxed);
        let window = controller::window(&self.settings).advice();
        metrics.in_flight_max.store(window.in_flight_max, Relaxed);
        metrics.weight.store(window.weight, Relaxed);
        metrics.retry_after.store(soon, Relaxed);
        metrics.has_tls.store(self.tls.is_some(), Relaxed);
        let shared = Arc::new(DoorState {
            door: Mutex::new(admission::Admission::new(self.settings.admission.clone())),
            cap: app.connection_caps.add(self.door.name(), limit),
            is_shut: AtomicBool::new(false),
            responder: OnceLock::new(),
            patient: AtomicUsize::new(0),
            left: Notify::new(),
            steers: Notify::new(),
            looks: (0..threads).map(|_| Notify::new()).collect(),
            is_quiet: AtomicBool::new(false),
            metrics,
            open: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            waits: WaitSamples::default(),
            answered: AtomicU64::new(0),
            surplus: AtomicUsize::new(0),
            spare: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
            tls: self.tls,
        });
        let (hands, receivers): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::unbounded_channel()).unzip();
        let mut handles = Vec::new();
        let busy = &self.settings.admission.busy;
        if busy.per_second > 0 {
            let responder = Responder {
                listener: self.listener.try_clone()?,
                shared: shared.clone(),
                stage: stage.clone(),
                share: BusyShare::new(busy, Instant::now()),
                niceness: self.settings.niceness,
                held: Vec::new(),
            };
            let thread = std::thread::Builder::new().name(format!("busy-{}", self.door.name()));
            handles.push(thread.spawn(move || responder.run())?);
        }
        let mut acceptor = Some((self.listener, hands));
        for (nth, arrivals) in receivers.into_iter().enumerate() {
            let work = Worker {
                nth,
                door: self.door,
                settings: self.settings.clone(),
                bounds: bounds.clone(),
                shared: shared.clone(),
                app: app.clone(),
                stage: stage.clone(),
                arrivals,
                acceptor: acceptor.take(),
            };
            let thread = std::thread::Builder::new().name(format!("{}-{nth}", self.door.name()));
            handles.push(thread.spawn(move || work.run())?);
        }
        Ok(handles)
    }
}

/// What the threads of one door share.
struct DoorState {
    door: Mutex<admission::Admission>,
    /// Connections that there may be, as the settings in force say.
    cap: Arc<AtomicUsize>,
    /// Somebody left a full door.
    left: Notify,
    /// Steering was put off and is to go on at its pace.
    steers: Notify,
    /// The same for the looks of each thread.
    looks: Vec<Notify>,
    /// Steering is put off: nothing came in of late.
    is_quiet: AtomicBool,
    metrics: Arc<DoorMetrics>,
    /// Connections of each thread.
    open: Vec<AtomicUsize>,
    waits: WaitSamples,
    /// Answers so far.
    answered: AtomicU64,
    /// Connections past the cap, or those that it leaves room for.
    surplus: AtomicUsize,
    spare: AtomicUsize,
    /// Whether the acceptor found the door full; who tells those who come then; how many it leaves in the queue.
    is_shut: AtomicBool,
    responder: OnceLock<std::thread::Thread>,
    patient: AtomicUsize,
    /// Newcomers of a door without room: in the kernel's queue, or told so in this step.
    waiting: AtomicUsize,
    /// As many are open as ever may be, frozen ones too.
    is_full: AtomicBool,
    /// Requests wait for so long that it is worth to know how many do.
    is_slow: AtomicBool,
    /// How many do, about, while that is so.
    pending: AtomicUsize,
    /// Bytes of bodies that are being gathered, or wait to be answered.
    body_bytes: AtomicUsize,
    /// None: plain HTTP.
    tls: Option<Arc<ServerTls>>,
}

impl DoorState {
    fn door(&self) -> std::sync::MutexGuard<'_, admission::Admission> {
        self.door
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets steering go on at its pace, if it was put off.
    fn stir(&self) {
        if self.is_quiet.load(Relaxed) {
            self.steers.notify_one();
        }
    }

    /// Wakes the thread that tells newcomers that the door is full.
    fn wake_responder(&self) {
        if let Some(responder) = self.responder.get() {
            responder.unpark();
        }
    }

    fn least_busy(&self) -> usize {
        let counts = self.open.iter().map(|open| open.load(Relaxed));
        let least = counts.enumerate().min_by_key(|(_, open)| *open);
        least.map_or(0, |(nth, _)| nth)
    }
}

/// A place among the door's connections; leaving frees it, however the connection ends.
struct ConnectionSlot {
    shared: Arc<DoorState>,
    nth: usize,
}

impl ConnectionSlot {
    fn take(shared: &Arc<DoorState>, nth: usize) -> ConnectionSlot {
        shared.open[nth].fetch_add(1, Relaxed);
        shared.metrics.open.fetch_add(1, Relaxed);
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

type Listener = AsyncFd<std::net::TcpListener>;

type AcceptedConnection = (std::net::TcpStream, ConnectionSlot);

/// One thread of a door.
struct Worker {
    nth: usize,
    door: Door,
    settings: Settings,
    bounds: Bounds,
    shared: Arc<DoorState>,
    app: Arc<AppState>,
    stage: watch::Receiver<ShutdownPhase>,
    arrivals: mpsc::UnboundedReceiver<AcceptedConnection>,
    /// The first thread accepts for all.
    acceptor: Option<(
        std::net::TcpListener,
        Vec<mpsc::UnboundedSender<AcceptedConnection>>,
    )>,
}

impl Worker {
    fn run(self) {
        let _critical = CriticalTask("a door");
        if !kernel::step_back(self.settings.niceness) {
            tracing::debug!(door = self.door.name(), "no say in who goes first");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Few at a time: under load the answers of one look go out before the next look takes in more.
            .max_io_events_per_tick(128)
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            // A node without one of its doors is none: this ends it.
            Err(error) => panic!("no runtime for the {} door: {error}", self.door.name()),
        }
    }

    async fn serve(mut self) {
        let table = Rc::new(ConnectionTable::new(
            Service::new(self.app.clone()),
            self.door,
            self.settings.clone(),
            self.bounds.clone(),
            self.shared.clone(),
            self.nth,
        ));
        if let Some((listener, hands)) = self.acceptor.take() {
            let (shared, stage) = (self.shared.clone(), self.stage.clone());
            let settings = self.settings.clone();
            tokio::task::spawn_local(async move {
                let _critical = CriticalTask("an acceptor");
                match kernel::watch(listener) {
                    Ok(listener) => tokio::select! {
                        () = accept(&listener, &shared, &hands, stage) => {}
                        () = controller::control(&listener, &shared, &settings) => {}
                    },
                    Err(error) => panic!("a listener cannot be watched: {error}"),
                }
            });
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stage = *self.stage.borrow();
            if stage == ShutdownPhase::Leaving {
                table.leave();
            }
            // The channel ends when the acceptor has stopped.
            let done = table.is_empty() && self.arrivals.is_closed() && self.arrivals.is_empty();
            if stage == ShutdownPhase::Ended || stage == ShutdownPhase::Leaving && done {
                return;
            }
            let quiet = table.is_quiet();
            tokio::select! {
                Some((stream, place)) = self.arrivals.recv() => table.receive(stream, place),
                _ = look.tick(), if !quiet => table.look(),
                _ = step.tick(), if !quiet => table.step(),
                () = table.slow_look(), if quiet => table.look(),
                changed = self.stage.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Concurrency: one of these a door. Accept errors are of three kinds: a connection that died in the queue (passed over),
/// descriptors or memory that ran out (counted, waited on, tried again), anything else (the same). None ends the loop.
async fn accept(
    listener: &Listener,
    shared: &Arc<DoorState>,
    hands: &[mpsc::UnboundedSender<AcceptedConnection>],
    mut stage: watch::Receiver<ShutdownPhase>,
) {
    let mut in_a_row = 0usize;
    while *stage.borrow_and_update() == ShutdownPhase::Open {
        in_a_row += 1;
        if in_a_row.is_multiple_of(ACCEPTS_MAX) {
            tokio::task::yield_now().await;
        }
        let has_room = shared.door().has_room();
        shared.is_shut.store(!has_room, Relaxed);
        if !has_room {
            // A door that is full is steered.
            shared.stir();
            shared.wake_responder();
            tokio::select! {
                () = shared.left.notified() => {}
                _ = stage.changed() => {}
            }
            continue;
        }
        let accepted = tokio::select! {
            accepted = next(listener) => accepted,
            _ = stage.changed() => continue,
        };
        match accepted {
            Ok(stream) => dispatch(stream, shared, hands),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shared.metrics.accept_errors.fetch_add(1, Relaxed);
                tracing::debug!(%error, "an accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Whoever is in the queue already came before the door was closed.
    while shared.door().has_room()
        && let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(1), next(listener)).await
    {
        dispatch(stream, shared, hands);
    }
    shared.wake_responder();
}

/// The next who is not gone again. As the system gives it: the thread that serves it is the one to watch it.
async fn next(listener: &Listener) -> io::Result<std::net::TcpStream> {
    loop {
        let mut ready = listener.readable().await?;
        let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) else {
            continue;
        };
        let (stream, _) = accepted?;
        stream.set_nonblocking(true)?;
        if !is_gone(&stream) {
            return Ok(stream);
        }
    }
}

/// Whether a connection ended in the queue; to find out costs a hundredth of what it costs to serve it.
fn is_gone(stream: &std::net::TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn dispatch(
    stream: std::net::TcpStream,
    shared: &Arc<DoorState>,
    hands: &[mpsc::UnboundedSender<AcceptedConnection>],
) {
    shared.door().enter();
    let nth = shared.least_busy();
    let place = ConnectionSlot::take(shared, nth);
    let _ = hands[nth].send((stream, place));
}
