//! The listeners: each door accepts on one thread, hands its connections to the least busy of its own, watches how long
//! each may take, and drains.
//!
//! A door's threads each run a runtime of their own and share nothing but a count of connections. hyper's own timers stay
//! off: one look at every connection four times a second does their work without costing a query anything.

use super::query::Door;
use super::reply;
use super::{Settings as Bounds, answer};
use crate::admission::{self, Newcomer};
use crate::answer::Refusal;
use crate::language::Language;
use crate::meters::{Closed, DoorTally};
use crate::service::{Rooms, Service};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

/// One door's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: SocketAddr,
    pub threads: usize,
    pub admission: admission::DoorSettings,
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
pub enum Stage {
    Open,
    /// No new connections; those that are open end after their query.
    Leaving,
    /// Whatever is still open is cut.
    Ended,
}

/// A door that is bound and not yet served.
pub struct Bound {
    pub door: Door,
    pub address: SocketAddr,
    listener: std::net::TcpListener,
    settings: Settings,
}

/// The kernel's read ahead for one connection: as much as a bulk scan is handed at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A connection that was idle for so long rests. A phone asks twice a minute; whoever asks more often keeps the buffers.
const REST_AFTER: Duration = Duration::from_secs(2);

/// After an accept that failed (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a door; port 0 takes a free one.
pub fn bind(door: Door, settings: Settings) -> io::Result<Bound> {
    let domain = socket2::Domain::for_address(settings.address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&settings.address.into())?;
    socket.listen(settings.backlog as i32)?;
    let listener: std::net::TcpListener = socket.into();
    Ok(Bound {
        door,
        address: listener.local_addr()?,
        listener,
        settings,
    })
}

impl Bound {
    /// Starts the door's threads; each ends once `stage` is past open and its last connection is gone.
    pub fn open(
        self,
        rooms: &Arc<Rooms>,
        bounds: &Bounds,
        stage: &watch::Receiver<Stage>,
    ) -> io::Result<Vec<std::thread::JoinHandle<()>>> {
        let threads = self.settings.threads.max(1);
        let cap = self.settings.admission.connections_max;
        let shared = Arc::new(Shared {
            door: Mutex::new(admission::Door::new(
                self.settings.admission.clone(),
                Instant::now(),
            )),
            left: Notify::new(),
            tally: rooms.meters.door(self.door.name(), cap),
            open: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
        });
        let (hands, receivers): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| mpsc::unbounded_channel()).unzip();
        let mut acceptor = Some((self.listener, hands));
        let mut handles = Vec::new();
        for (nth, arrivals) in receivers.into_iter().enumerate() {
            let work = Work {
                door: self.door,
                settings: self.settings.clone(),
                bounds: bounds.clone(),
                shared: shared.clone(),
                rooms: rooms.clone(),
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
struct Shared {
    door: Mutex<admission::Door>,
    /// Somebody left a full door.
    left: Notify,
    tally: Arc<DoorTally>,
    /// Connections of each thread.
    open: Vec<AtomicUsize>,
}

impl Shared {
    fn door(&self) -> std::sync::MutexGuard<'_, admission::Door> {
        self.door
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn least_busy(&self) -> usize {
        let counts = self.open.iter().map(|open| open.load(Relaxed));
        let least = counts.enumerate().min_by_key(|(_, open)| *open);
        least.map_or(0, |(nth, _)| nth)
    }
}

/// A place among the door's connections; leaving frees it, however the connection ends.
struct Place {
    shared: Arc<Shared>,
    nth: usize,
}

impl Place {
    fn take(shared: &Arc<Shared>, nth: usize) -> Place {
        shared.open[nth].fetch_add(1, Relaxed);
        shared.tally.open.fetch_add(1, Relaxed);
        shared.tally.accepted.fetch_add(1, Relaxed);
        Place {
            shared: shared.clone(),
            nth,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open[self.nth].fetch_sub(1, Relaxed);
        self.shared.tally.open.fetch_sub(1, Relaxed);
        self.shared.door().leave();
        self.shared.left.notify_one();
    }
}

type Arrival = (std::net::TcpStream, Place);

/// One thread of a door.
struct Work {
    door: Door,
    settings: Settings,
    bounds: Bounds,
    shared: Arc<Shared>,
    rooms: Arc<Rooms>,
    stage: watch::Receiver<Stage>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    /// The first thread accepts for all.
    acceptor: Option<(std::net::TcpListener, Vec<mpsc::UnboundedSender<Arrival>>)>,
}

impl Work {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Few at a time: under load the answers of one look go out before the next look takes in more.
            .max_io_events_per_tick(128)
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => tracing::error!(%error, door = self.door.name(), "no runtime for a door"),
        }
    }

    async fn serve(mut self) {
        let hall = Rc::new(Hall {
            service: Rc::new(Service::new(self.rooms.clone())),
            door: self.door,
            settings: self.settings.clone(),
            bounds: Rc::new(self.bounds.clone()),
            tally: self.shared.tally.clone(),
            seats: RefCell::default(),
            leaving: Cell::new(Leaving::No),
            clock: Cell::new(Instant::now()),
        });
        if let Some((listener, hands)) = self.acceptor.take() {
            let (shared, stage) = (self.shared.clone(), self.stage.clone());
            tokio::task::spawn_local(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => accept(listener, &shared, &hands, stage).await,
                    Err(error) => tracing::error!(%error, "a listener is lost"),
                }
            });
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stage = *self.stage.borrow();
            if stage == Stage::Leaving {
                hall.leave();
            }
            // The channel ends when the acceptor has stopped.
            let done = hall.is_empty() && self.arrivals.is_closed() && self.arrivals.is_empty();
            if stage == Stage::Ended || stage == Stage::Leaving && done {
                return;
            }
            tokio::select! {
                Some((stream, place)) = self.arrivals.recv() => hall.receive(stream, place),
                _ = look.tick() => hall.look(),
                changed = self.stage.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Concurrency: one of these a door. Accept errors are of three kinds: a connection that died in the queue (passed over),
/// descriptors or memory that ran out (counted, waited on, tried again), anything else (the same). None ends the loop.
async fn accept(
    listener: TcpListener,
    shared: &Arc<Shared>,
    hands: &[mpsc::UnboundedSender<Arrival>],
    mut stage: watch::Receiver<Stage>,
) {
    while *stage.borrow_and_update() == Stage::Open {
        let room = shared.door().may_accept(Instant::now());
        if let Err(wait) = room {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shared.left.notified() => {}
                _ = stage.changed() => {}
            }
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stage.changed() => continue,
        };
        match accepted {
            Ok((stream, _)) => usher(stream, shared, hands),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shared.tally.accept_errors.fetch_add(1, Relaxed);
                tracing::debug!(%error, "an accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Whoever is in the queue already came before the door was closed.
    while let Ok(Ok((stream, _))) =
        tokio::time::timeout(Duration::from_millis(1), listener.accept()).await
    {
        usher(stream, shared, hands);
    }
}

fn usher(stream: TcpStream, shared: &Arc<Shared>, hands: &[mpsc::UnboundedSender<Arrival>]) {
    let newcomer = shared.door().seat(Instant::now());
    match newcomer {
        Newcomer::Admit => {
            let nth = shared.least_busy();
            let place = Place::take(shared, nth);
            // An error here is a connection that is gone already; the place is freed as it drops.
            if let Ok(stream) = stream.into_std() {
                let _ = hands[nth].send((stream, place));
            }
        }
        Newcomer::TellBusy => {
            shared.tally.busy.fetch_add(1, Relaxed);
            tokio::task::spawn_local(tell_busy(stream));
        }
    }
}

/// Says that we are busy to a connection that is not served. What it sent is read first and its end is waited for a
/// moment: closing on unread bytes would reset the connection, and the answer would be lost with it.
async fn tell_busy(stream: TcpStream) {
    const HEAD_WAIT: Duration = Duration::from_millis(200);
    const END_WAIT: Duration = Duration::from_millis(500);
    let mut head = [0; 2048];
    let read = tokio::time::timeout(HEAD_WAIT, read_some(&stream, &mut head)).await;
    let length = read.map_or(0, Result::unwrap_or_default);
    let bytes = reply::ready_made(Refusal::Busy, language_of(&head[..length]));
    // A fresh socket's buffer takes it whole.
    let _ = stream.try_write(bytes);
    let _ = SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
    let _ = tokio::time::timeout(END_WAIT, async {
        while read_some(&stream, &mut head).await.is_ok_and(|n| n > 0) {}
    })
    .await;
}

/// What there is to read, once there is something; a fresh socket claims to be readable before it is.
async fn read_some(stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// The language that an unread head asks for.
fn language_of(head: &[u8]) -> Language {
    const NAME: &[u8] = b"accept-language:";
    head.split(|b| *b == b'\n')
        .skip(1)
        .find_map(|line| {
            let (name, value) = line.split_at_checked(NAME.len())?;
            name.eq_ignore_ascii_case(NAME)
                .then(|| std::str::from_utf8(value).ok())?
        })
        .map_or(Language::Hans, |value| Language::accepted(value.trim()))
}

/// How far the end of a thread's connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Told; what the kernel held then is still read and answered. It takes two looks to be sure that one lay between.
    Told,
    Looked,
    /// Connections without a query end.
    Now,
}

/// The connections of one thread.
struct Hall {
    service: Rc<Service>,
    door: Door,
    settings: Settings,
    bounds: Rc<Bounds>,
    tally: Arc<DoorTally>,
    seats: RefCell<Vec<Rc<Seat>>>,
    leaving: Cell<Leaving>,
    /// As of the last look; a quarter of a second is fine enough for time-outs.
    clock: Cell<Instant>,
}

impl Hall {
    fn is_empty(&self) -> bool {
        self.seats.borrow().is_empty()
    }

    fn receive(self: &Rc<Hall>, stream: std::net::TcpStream, place: Place) {
        let Ok(stream) = TcpStream::from_std(stream) else {
            return;
        };
        let _ = stream.set_nodelay(true);
        let seat = Rc::new(Seat {
            hall: self.clone(),
            nth: Cell::new(self.seats.borrow().len()),
            phase: Cell::new(Phase::Head),
            since: Cell::new(self.clock.get()),
            moved: Cell::new(self.clock.get()),
            limit: Cell::new(self.settings.head_timeout),
            waker: RefCell::new(None),
            closed: Cell::new(false),
            owes: Cell::new(false),
            rest: Cell::new(false),
            resting: Cell::new(false),
        });
        self.seats.borrow_mut().push(seat.clone());
        tokio::task::spawn_local(async move {
            serve(stream, &seat).await;
            seat.hall.forget(&seat);
            drop(place);
        });
    }

    fn forget(&self, seat: &Seat) {
        let mut seats = self.seats.borrow_mut();
        seats.swap_remove(seat.nth.get());
        if let Some(moved) = seats.get(seat.nth.get()) {
            moved.nth.set(seat.nth.get());
        }
    }

    /// Every connection ends after the query that it has begun; those without one end a moment later.
    fn leave(&self) {
        if self.leaving.get() == Leaving::No {
            self.leaving.set(Leaving::Told);
        }
    }

    fn look(&self) {
        let now = Instant::now();
        self.clock.set(now);
        match self.leaving.get() {
            Leaving::No => {}
            Leaving::Told => self.leaving.set(Leaving::Looked),
            Leaving::Looked | Leaving::Now => {
                self.leaving.set(Leaving::Now);
                for seat in self.seats.borrow().iter() {
                    seat.wake();
                }
            }
        }
        for seat in self.seats.borrow().iter() {
            if let Some(why) = seat.overdue(now) {
                self.tally.closed(why);
                seat.closed.set(true);
                seat.wake();
            } else if seat.may_rest() && now > seat.since.get() + REST_AFTER {
                seat.rest.set(true);
                seat.wake();
            }
        }
    }
}

/// Where a connection is between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A head has begun and not ended, or the connection is new.
    Head,
    Answering,
}

/// One connection, as its time-outs see it.
pub struct Seat {
    hall: Rc<Hall>,
    nth: Cell<usize>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    moved: Cell<Instant>,
    /// How long the answer under way may take.
    limit: Cell<Duration>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    /// Bytes of an answer are not on their way yet.
    owes: Cell<bool>,
    /// The connection is asked to rest / rests.
    rest: Cell<bool>,
    resting: Cell<bool>,
}

impl Seat {
    /// A head is read; its answer may take this long.
    pub fn begin(&self, limit: Duration) {
        self.enter(Phase::Answering);
        self.limit.set(limit);
    }

    /// Marks a response as this connection's; when its body is gone, the connection is idle.
    pub fn answering(
        self: &Rc<Seat>,
        response: hyper::Response<reply::Body>,
    ) -> hyper::Response<reply::Body> {
        response.map(|body| body.seated(self.clone()))
    }

    pub fn answered(&self) {
        self.enter(Phase::Idle);
    }

    fn enter(&self, phase: Phase) {
        let now = self.hall.clock.get();
        self.phase.set(phase);
        self.since.set(now);
        self.moved.set(now);
    }

    /// Bytes came in.
    fn heard(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
        self.moved.set(self.hall.clock.get());
    }

    fn overdue(&self, now: Instant) -> Option<Closed> {
        let settings = &self.hall.settings;
        let phase = now.saturating_duration_since(self.since.get());
        let still = now.saturating_duration_since(self.moved.get());
        match self.phase.get() {
            Phase::Idle if phase > settings.idle_timeout => Some(Closed::Idle),
            Phase::Head if phase > settings.head_timeout => Some(Closed::Head),
            Phase::Answering if still > settings.stall_timeout => Some(Closed::Stalled),
            Phase::Answering if phase > self.limit.get() => Some(Closed::Late),
            _ => None,
        }
    }

    /// Whether nothing of a query or an answer is in hyper's hands.
    fn may_rest(&self) -> bool {
        self.phase.get() == Phase::Idle && !self.owes.get() && !self.resting.get()
    }

    fn park(&self, waker: &Waker) {
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

/// Concurrency: one of these a connection, one query after the other. A connection that has been idle for a while rests:
/// hyper's buffers, 16 KiB of them, are given back until it speaks again.
async fn serve(mut stream: TcpStream, seat: &Rc<Seat>) {
    let mut ahead = Bytes::new();
    // On the heap, so that a resting connection does not hold the room of a speaking one.
    while let Some(resting) = Box::pin(converse(stream, ahead, seat)).await {
        (stream, ahead) = resting;
        if ahead.is_empty() && !speaks_again(&stream, seat).await {
            return;
        }
    }
}

/// Waits until a resting connection speaks; false if it is to end instead.
async fn speaks_again(stream: &TcpStream, seat: &Seat) -> bool {
    seat.resting.set(true);
    let speaks = std::future::poll_fn(|cx| {
        if seat.closed.get() || seat.hall.leaving.get() == Leaving::Now {
            return Poll::Ready(false);
        }
        seat.park(cx.waker());
        stream.poll_read_ready(cx).map(|_| true)
    })
    .await;
    seat.resting.set(false);
    speaks
}

/// Speaks HTTP until the connection ends (None) or rests; what was read and not yet understood goes with it.
async fn converse(stream: TcpStream, ahead: Bytes, seat: &Rc<Seat>) -> Option<(TcpStream, Bytes)> {
    let hall = &seat.hall;
    let watched = Watched {
        stream,
        ahead,
        seat: seat.clone(),
        refused: None,
    };
    let asked = service_fn(|request| async {
        let response = answer(&hall.service, hall.door, &hall.bounds, seat, request).await;
        Ok::<_, std::convert::Infallible>(response)
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(READ_BYTES_MAX)
        .max_header_size(hall.settings.head_bytes_max)
        // A half-closed client has asked all that it will, and still gets its answers.
        .half_close(true)
        // Answers are small: copied behind their head they cost less than a second piece to write.
        .writev(false)
        .serve_connection(TokioIo::new(watched), asked);
    let mut told = false;
    let rests = std::future::poll_fn(|cx| {
        if seat.closed.get() {
            return Poll::Ready(false);
        }
        let mut connection = Pin::new(&mut connection);
        if hall.leaving.get() == Leaving::Now && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        if seat.rest.take() && seat.may_rest() && !told {
            return Poll::Ready(true);
        }
        seat.park(cx.waker());
        // Whatever ended the connection, the visit of its query has counted it.
        connection.poll(cx).map(|_| false)
    })
    .await;
    rests.then(|| {
        let parts = connection.into_parts();
        // An empty piece would still hold the whole buffer.
        let ahead = Some(parts.read_buf).filter(|ahead| !ahead.is_empty());
        (parts.io.into_inner().stream, ahead.unwrap_or_default())
    })
}

/// A socket whose bytes move the connection's clock, and whose bare refusals get our words.
struct Watched {
    stream: TcpStream,
    /// Read before the connection rested.
    ahead: Bytes,
    seat: Rc<Seat>,
    /// A refusal of hyper's own, replaced: what is left to write of ours.
    refused: Option<&'static [u8]>,
}

/// hyper refuses a head that it cannot read by itself, with a status and nothing else.
fn bare_refusal(bytes: &[u8]) -> Option<&'static [u8]> {
    if bytes.len() < 12
        || !bytes.starts_with(b"HTTP/1.1 4")
        || memchr::memmem::find(bytes, b"content-type").is_some()
    {
        return None;
    }
    let refusal = match &bytes[9..12] {
        b"431" | b"413" | b"414" => Refusal::TooLarge,
        _ => Refusal::Malformed,
    };
    Some(reply::ready_made(refusal, Language::Hans))
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.seat.heard();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        me.refused = me.refused.or_else(|| bare_refusal(bytes));
        while let Some(ours) = me.refused {
            match std::task::ready!(Pin::new(&mut me.stream).poll_write(cx, ours))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n if n == ours.len() => {
                    me.refused = None;
                    return Poll::Ready(Ok(bytes.len()));
                }
                n => me.refused = Some(&ours[n..]),
            }
        }
        let written = Pin::new(&mut me.stream).poll_write(cx, bytes);
        // hyper flushes once it owes nothing any more.
        me.seat.owes.set(true);
        if written.is_ready() {
            me.seat.moved.set(me.seat.hall.clock.get());
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seat.owes.set(false);
        Poll::Ready(Ok(())) // a socket has nothing to flush
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_head_still_says_its_language() {
        let head = b"GET /v1/code HTTP/1.1\r\nHost: x\r\nACCEPT-Language: en-GB\r\n\r\n";
        assert_eq!(language_of(head), Language::En);
        assert_eq!(language_of(b""), Language::Hans);
        assert_eq!(
            language_of(b"GET / HTTP/1.1\r\naccept-language"),
            Language::Hans
        );
    }

    #[test]
    fn only_refusals_without_words_are_given_ours() {
        assert!(bare_refusal(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").is_some());
        assert!(
            bare_refusal(b"HTTP/1.1 431 x\r\n\r\n").is_some_and(|ours| {
                std::str::from_utf8(ours).unwrap().contains("\"too_large\"")
            })
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\r\n",
            b"HTTP/1.1 4",
        ] {
            assert!(bare_refusal(other).is_none());
        }
    }
}
