//! The listeners: each door accepts on one thread, hands connections to the least busy of its threads, and drains.
//!
//! Each thread of a door runs its own runtime. A request touches nothing that threads share, except for the counters that steer
//! the door; one on a frozen connection takes the door's lock. hyper's timers are off: one look at all connections four times a
//! second replaces them at no cost for a request.

mod connection;
mod connections;
mod controller;
mod listener;
mod reject;
mod responder;
mod transport;
pub mod waiting;

pub use super::door_settings::Settings;
pub use super::door_state::ShutdownPhase;
pub use listener::{BoundListener, bind};

use super::connection_state::ThreadState;
use super::door::Door;
use super::door_state::{ConnectionSlot, DoorState, LOOK, PaceReport, STEP};
use super::limits::Settings as Bounds;
use crate::admission;
use crate::admission::busy::BusyShare;
use crate::admission::connection_limit::WaitSamples;
use crate::admission::retry_after::ReturnSchedule;
use crate::critical::CriticalTask;
use crate::door_load::DoorLoad;
use crate::kernel;
use crate::service::{AppState, Service};

use connections::ConnectionTable;
use listener::Listener;
use responder::{RefusalPace, Responder};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// Accepts in a row before existing connections are served.
const ACCEPTS_MAX: usize = 16;

/// Pause after a failed accept, for example without descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl BoundListener {
    /// Starts the door's threads, and returns once each can serve. Each ends once `stage` is past `Open` and its last connection
    /// is closed.
    ///
    /// # Errors
    ///
    /// A runtime, a thread or a duplicate of the listener cannot be created.
    pub fn open(
        self,
        app: &Arc<AppState>,
        bounds: &Bounds,
        stage: &watch::Receiver<ShutdownPhase>,
    ) -> io::Result<Vec<std::thread::JoinHandle<()>>> {
        let threads = self.settings.threads.max(1);
        let limit = self.settings.admission.connections_max;
        let load = Arc::new(DoorLoad::new(limit, threads));
        let metrics = app.meters.door(self.door.name(), load.clone());
        // Until the first second has ended.
        let soon = admission::retry_after::LEAST;
        let window = controller::window(&self.settings).advice();
        load.in_flight_max.store(window.in_flight_max, Relaxed);
        load.weight.store(window.weight, Relaxed);
        load.retry_after_ms.store(soon.as_millis() as u64, Relaxed);
        let safe = controller::safe_queue(self.settings.backlog as usize, 0);
        load.safe_queue.store(safe, Relaxed);
        load.newcomers_max
            .store(controller::newcomers_max(0, safe), Relaxed);
        app.door_loads.add(self.door.name(), load.clone());
        metrics.has_tls.store(self.tls.is_some(), Relaxed);
        let shared = Arc::new(DoorState {
            door: Mutex::new(admission::Admission::new(self.settings.admission.clone())),
            load,
            has_no_room: AtomicBool::new(false),
            accepts_no_more: AtomicBool::new(false),
            was_overrun: AtomicBool::new(false),
            responder: OnceLock::new(),
            handed: Mutex::default(),
            handed_max: AtomicUsize::new(0),
            refused_frozen: AtomicU64::new(0),
            refusal_pace: PaceReport::default(),
            queue_keep_min: AtomicUsize::new(0),
            queue_keep_max: AtomicUsize::new(usize::MAX),
            has_room_again: Notify::new(),
            steers: Notify::new(),
            looks: (0..threads).map(|_| Notify::new()).collect(),
            is_quiet: AtomicBool::new(false),
            metrics,
            waits: WaitSamples::default(),
            answered: AtomicU64::new(0),
            answers_per_second: AtomicUsize::new(0),
            returns: ReturnSchedule::default(),
            surplus: AtomicUsize::new(0),
            spare: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            all_places_taken: AtomicBool::new(false),
            waits_are_long: AtomicBool::new(false),
            body_bytes: AtomicUsize::new(0),
            queue_delay_target: self.settings.admission.queue_delay_target,
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
                pace: RefusalPace::default(),
                held: Vec::new(),
                put_off: Vec::new(),
            };
            let thread = std::thread::Builder::new().name(format!("busy-{}", self.door.name()));
            handles.push(thread.spawn(move || responder.run())?);
        }
        let (starting, started) = std::sync::mpsc::channel();
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
            let starting = starting.clone();
            handles.push(thread.spawn(move || work.run(starting))?);
        }
        drop(starting);
        started.into_iter().collect::<io::Result<()>>()?;
        Ok(handles)
    }
}

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
    /// Serves until the door has ended; `starting` learns whether it can.
    fn run(self, starting: std::sync::mpsc::Sender<io::Result<()>>) {
        let _critical = CriticalTask("a door");
        if !kernel::step_back(self.settings.niceness) {
            tracing::debug!(
                door = self.door.name(),
                "the thread's priority cannot be set"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // A few events at a time: under load, answers of one poll leave before the next poll brings more requests.
            .max_io_events_per_tick(128)
            .build_local(tokio::runtime::LocalOptions::default());
        let (runtime, outcome) = match runtime {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Whoever starts the door waits until each thread has told, or is gone.
        let _ = starting.send(outcome);
        drop(starting);
        if let Some(runtime) = runtime {
            runtime.block_on(self.serve());
        }
    }

    async fn serve(mut self) {
        let table = Rc::new(ConnectionTable::new(ThreadState::new(
            Service::new(self.app.clone()),
            self.door,
            self.settings.clone(),
            self.bounds.clone(),
            self.shared.clone(),
            self.nth,
        )));
        if let Some((listener, hands)) = self.acceptor.take() {
            let (shared, stage) = (self.shared.clone(), self.stage.clone());
            let settings = self.settings.clone();
            // A node must not run without one of its doors, so this ends the process.
            let listener = kernel::watch(listener)
                .unwrap_or_else(|error| panic!("a listener cannot be watched: {error}"));
            let listener = Rc::new(listener);
            let (accepted, controlled) = (listener.clone(), shared.clone());
            let accepting = tokio::task::spawn_local(async move {
                let _critical = CriticalTask("an acceptor");
                accept(&accepted, &shared, &hands, stage).await;
            });
            // Not a task of its own: that would wait behind all connections that have something to do.
            let controlling = async move {
                tokio::select! {
                    _ = accepting => {} // the listener closes with it
                    () = controller::control(&listener, &controlled, &settings) => {}
                }
            };
            tokio::join!(self.look_after(&table), controlling);
        } else {
            self.look_after(&table).await;
        }
    }

    /// Receives connections and looks at them, until the door has ended.
    async fn look_after(&mut self, table: &Rc<ConnectionTable>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stage = *self.stage.borrow();
            if stage == ShutdownPhase::Leaving {
                table.leave();
            }
            // The channel closes when the acceptor has stopped.
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

/// Accepts connections until the door closes; there is one such task a door. A connection that died in the queue is skipped.
/// Any other failed accept is counted, followed by a pause and a retry. No error ends the loop.
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
        shared.has_no_room.store(!has_room, Relaxed);
        if !has_room {
            // The controller of a full door must run.
            shared.stir();
            shared.wake_responder();
            tokio::select! {
                () = shared.has_room_again.notified() => {}
                _ = stage.changed() => {}
            }
            continue;
        }
        let accepted = tokio::select! {
            accepted = next(listener, shared) => accepted,
            _ = stage.changed() => continue,
        };
        match accepted {
            Ok(Some(stream)) => dispatch(stream, shared, hands),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shared.metrics.accept_errors.fetch_add(1, Relaxed);
                tracing::debug!(%error, "the door could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections in the queue arrived before the door was closed; more may come while it is emptied.
    let mut queued = kernel::queued(listener.get_ref()).unwrap_or_default();
    while queued > 0
        && *stage.borrow() != ShutdownPhase::Ended
        && shared.door().has_room()
        && let Ok(Ok(accepted)) =
            tokio::time::timeout(Duration::from_millis(1), next(listener, shared)).await
    {
        queued -= 1;
        if let Some(stream) = accepted {
            dispatch(stream, shared, hands);
        }
    }
    shared.accepts_no_more.store(true, Relaxed);
    shared.wake_responder();
}

/// Returns the next connection as a plain socket: the thread that serves it registers it. None if its client has left.
async fn next(listener: &Listener, shared: &DoorState) -> io::Result<Option<std::net::TcpStream>> {
    loop {
        let mut ready = listener.readable().await?;
        let Ok(accepted) = ready.try_io(|listener| kernel::accept(listener.get_ref())) else {
            continue;
        };
        return Ok(shared.unless_left(accepted?));
    }
}

fn dispatch(
    stream: std::net::TcpStream,
    shared: &Arc<DoorState>,
    hands: &[mpsc::UnboundedSender<AcceptedConnection>],
) {
    shared.door().enter();
    let nth = shared.load.least_busy();
    let place = ConnectionSlot::take(shared, nth, &stream);
    let _ = hands[nth].send((stream, place));
}
