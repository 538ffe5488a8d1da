//! Refuses connections of a full or overrun door, by a thread of low priority that answers `busy` without handling the request
//! and closes them.
//!
//! It takes new ones from the kernel's queue in batches, except those that find room within the allowed wait, and from the
//! door's threads those that were frozen when their request came.

use super::reject::{UNREAD_BYTES_MAX, UNREAD_WAIT, busy_answer, is_whole_request};
use crate::admission::busy::BusyShare;
use crate::clock::Moment;
use crate::critical::CriticalTask;
use crate::http::door_state::{DoorState, FrozenConnection, RESPONDER_SILENT_MAX, ShutdownPhase};
use crate::kernel;
use crate::meters::{CloseReason, HandshakeOutcome};
use rustls::ServerConnection;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// New connections that one look takes; without processor time for answers fewer, because to close one whose client has left costs
/// some too.
const BATCH_MAX: usize = 32;
const POOR_BATCH_MAX: usize = 8;

/// Connections that wait at once for their head or for the client's end.
const HELD_MAX: usize = 256;

/// Time for the beginning of a head, which has the language. Usually it arrives with the connection.
const HEAD_WAIT: Duration = Duration::from_millis(100);

/// Time for the whole refusal, and for the next bytes after the answer while places are left. Closing with unread bytes would reset the
/// connection and lose the answer.
const TURNED_WAIT: Duration = Duration::from_millis(400);

/// The same times with a TLS handshake before them, which takes one more round trip.
const HEAD_WAIT_TLS: Duration = Duration::from_millis(400);
const TURNED_WAIT_TLS: Duration = Duration::from_millis(1_000);

/// Bytes that one look discards after answers, those of all clients together: 20 MiB a second without processor time for answers, which
/// takes a hundredth of a core.
const LOOK_BYTES_MAX: usize = 1 << 20;

/// Interval of looks while connections are held or queued, and the longest wait for new ones.
const SHORT_LOOK: Duration = Duration::from_millis(5);
const LONG_LOOK: Duration = Duration::from_millis(100);

/// The same while no processor time is left for answers, or nothing is held or queued: a look costs some too.
const POOR_LOOK: Duration = Duration::from_millis(50);

/// Time for which the thread must refuse newcomers as fast as they come before the queue may be long: what it saved up, it uses
/// at once.
const KEEPS_UP_FOR: Duration = Duration::from_secs(1);

/// Bytes of a request that are looked at.
const HEAD_BYTES: usize = 2048;

/// Longest sleep while the door has room, in case no wake-up comes.
const PARKED_MAX: Duration = Duration::from_secs(10);

/// Refuses connections while its door is full or overrun and for a second after it, else sleeps, and ends with the door.
pub struct Responder {
    pub listener: TcpListener,
    pub(super) shared: Arc<DoorState>,
    pub stage: watch::Receiver<ShutdownPhase>,
    pub share: BusyShare,
    /// Niceness of the door's threads.
    pub niceness: i32,
    pub held: Vec<Turned>,
    pub pace: RefusalPace,
    /// Frozen connections for which no processor time was left, and since when they wait.
    pub(super) put_off: Vec<(Instant, FrozenConnection)>,
}

/// Tells whether newcomers are refused as fast as they come.
#[derive(Default)]
pub struct RefusalPace {
    /// Since when they were at each look, and the last such look.
    kept: Option<(Instant, Instant)>,
}

impl RefusalPace {
    /// Adds a look. Returns whether the pace was kept for long enough, without a time in which the thread stood still.
    fn step(&mut self, keeps_up: bool, now: Instant) -> bool {
        let went_on = |last: Instant| now.saturating_duration_since(last) < RESPONDER_SILENT_MAX;
        let since = match self.kept {
            Some((since, last)) if went_on(last) => since,
            _ => now,
        };
        self.kept = keeps_up.then_some((since, now));
        keeps_up && now.saturating_duration_since(since) >= KEEPS_UP_FOR
    }
}

/// What was taken from the accept queue.
enum Taken {
    /// A client to be told.
    ToTell(TcpStream),
    /// A client that has left; its connection is closed.
    Closed,
    /// Nothing: the queue is empty, or there is no descriptor.
    None,
}

/// A refused connection.
pub struct Turned {
    stream: TcpStream,
    /// TLS of the connection; None for plain HTTP.
    tls: Option<Box<ServerConnection>>,
    since: Instant,
    /// Whether it made room for others; else it is new.
    was_frozen: bool,
    is_told: bool,
    /// Bytes that were discarded after the answer, and when the last ones were; `since` before the first.
    discarded: usize,
    moved: Instant,
    /// Whether nothing is left to read, or the connection has failed.
    may_close: bool,
}

impl Responder {
    pub fn run(mut self) {
        let _critical = CriticalTask("the busy responder");
        kernel::work_in_batches();
        kernel::step_back(self.niceness + self.share.niceness());
        let _ = self.shared.responder.set(std::thread::current());
        while *self.stage.borrow() == ShutdownPhase::Open {
            let refuses_newcomers = self.shared.refuses_newcomers();
            self.take_frozen();
            if !refuses_newcomers && self.held.is_empty() && self.put_off.is_empty() {
                self.invite_frozen();
                self.publish_pace(false);
                // The threads that find the door full, or close it, wake this thread.
                std::thread::park_timeout(PARKED_MAX);
                continue;
            }
            let (found, taken) = match refuses_newcomers {
                true => self.take_surplus(),
                false => (0, 0),
            };
            // After the newcomers: a frozen connection costs the door's thread too.
            self.invite_frozen();
            // A low-priority thread may have time by its share, and none by the scheduler. A queue that was long before this look
            // may have overflowed, however much is taken now.
            let is_short = found <= self.shared.load.safe_queue.load(Relaxed);
            self.publish_pace(refuses_newcomers && self.share.has_time() && is_short);
            self.look_at_held();
            if taken == BATCH_MAX {
                // The share of processor time ends this.
                continue;
            }
            match (self.held.is_empty(), found.saturating_sub(taken)) {
                (true, 0) if refuses_newcomers && self.shared.load.frozen.load(Relaxed) == 0 => {
                    kernel::readable_within(&self.listener, LONG_LOOK);
                }
                // Who hands a connection over wakes this thread.
                (true, 0) if self.put_off.is_empty() => std::thread::park_timeout(POOR_LOOK),
                _ if self.share.has_time() => std::thread::sleep(SHORT_LOOK),
                _ => std::thread::sleep(POOR_LOOK),
            }
        }
        let put_off = std::mem::take(&mut self.put_off);
        for (_, frozen) in put_off {
            self.hold_frozen(frozen);
        }
        // The acceptor still takes what it has room for.
        while !self.shared.accepts_no_more.load(Relaxed)
            && *self.stage.borrow() != ShutdownPhase::Ended
        {
            self.take_last();
            self.look_at_held();
            std::thread::park_timeout(SHORT_LOOK);
        }
        // Connections that arrived before the door closed and found no room.
        for _ in 0..kernel::queued(&self.listener).unwrap_or_default() {
            match self.take_one() {
                Taken::None => break,
                Taken::ToTell(stream) => self.hold_new(stream),
                Taken::Closed => {}
            }
        }
        loop {
            self.take_last();
            self.look_at_held();
            if self.held.is_empty() || *self.stage.borrow() == ShutdownPhase::Ended {
                return;
            }
            std::thread::sleep(SHORT_LOOK);
        }
    }

    /// Takes a batch of connections that would wait too long. Who has left takes no answer from others. Returns how many were in
    /// the queue, and how many were taken.
    fn take_surplus(&mut self) -> (usize, usize) {
        let queued = kernel::queued(&self.listener).unwrap_or_default();
        let surplus = queued.saturating_sub(self.shared.left_in_queue());
        let now = Instant::now();
        self.count_time(now);
        let most = match self.share.has_time() {
            true => BATCH_MAX,
            false => POOR_BATCH_MAX,
        };
        let mut taken = 0;
        while taken < surplus.min(most) && self.share.has_answer(now) {
            match self.take_one() {
                Taken::None => break,
                Taken::ToTell(stream) => {
                    let is_taken = self.share.take_answer(now);
                    debug_assert!(is_taken, "there was one a moment ago");
                    self.hold_new(stream);
                }
                Taken::Closed => {}
            }
            taken += 1;
        }
        (queued, taken)
    }

    fn publish_pace(&mut self, keeps_up: bool) {
        let keeps_up = self.pace.step(keeps_up, Instant::now());
        self.shared.refusal_pace.publish(keeps_up, Moment::now());
    }

    fn count_time(&mut self, now: Instant) {
        let (own, process) = (kernel::thread_time(), kernel::process_time());
        self.share.spent(own, process, now);
    }

    /// Takes the frozen connections that the door's threads handed over, as far as there is processor time for their answers.
    fn take_frozen(&mut self) {
        let now = Instant::now();
        self.count_time(now);
        let news = self.shared.take_handed().into_iter();
        self.put_off.extend(news.map(|frozen| (now, frozen)));
        let metrics = &self.shared.metrics;
        self.put_off.retain(|(since, frozen)| {
            let has_left = kernel::has_ended(frozen.stream.as_raw_fd());
            let waits = !has_left && now.saturating_duration_since(*since) < TURNED_WAIT;
            if !waits {
                metrics.closed(CloseReason::Untold);
            }
            waits
        });
        while let Some((_, frozen)) = self.put_off.pop_if(|_| self.share.take_answer(now)) {
            self.hold_frozen(frozen);
        }
    }

    /// Publishes how many more frozen connections it takes.
    fn invite_frozen(&self) {
        let more = match self.put_off.is_empty() {
            true => self.share.affords(Instant::now()),
            false => 0,
        };
        let room = HELD_MAX.saturating_sub(self.held.len());
        self.shared.handed_max.store(more.min(room), Relaxed);
    }

    /// Takes what was handed over while the door closed; nothing more is taken after it.
    fn take_last(&mut self) {
        self.shared.handed_max.store(0, Relaxed);
        for frozen in self.shared.take_handed() {
            self.hold_frozen(frozen);
        }
    }

    fn hold_frozen(&mut self, frozen: FrozenConnection) {
        self.hold(frozen.stream, frozen.tls, true);
    }

    /// Takes the next connection from the queue.
    fn take_one(&self) -> Taken {
        match kernel::accept(&self.listener) {
            Ok(stream) => match self.shared.unless_left(stream) {
                Some(stream) => Taken::ToTell(stream),
                None => Taken::Closed,
            },
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => Taken::Closed,
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    self.shared.metrics.accept_errors.fetch_add(1, Relaxed);
                }
                Taken::None
            }
        }
    }

    fn hold_new(&mut self, stream: TcpStream) {
        let tls = match &self.shared.tls {
            None => None,
            Some(tls) => match ServerConnection::new(tls.config()) {
                Ok(tls) => Some(Box::new(tls)),
                Err(_) => return,
            },
        };
        self.hold(stream, tls, false);
    }

    fn hold(&mut self, stream: TcpStream, tls: Option<Box<ServerConnection>>, was_frozen: bool) {
        let mut turned = Turned::new(stream, tls, was_frozen);
        turned.read_and_tell(&self.shared);
        if turned.may_close {
            return;
        }
        if self.held.len() >= HELD_MAX {
            // The first one has had the most time.
            let mut first = self.held.remove(0);
            if !first.is_told {
                first.tell(&[], &self.shared);
            }
        }
        self.held.push(turned);
    }

    fn look_at_held(&mut self) {
        for turned in self.held.iter_mut().filter(|turned| !turned.is_told) {
            turned.read_and_tell(&self.shared);
        }
        discard_rests(&mut self.held, LOOK_BYTES_MAX);
        // Who goes on sending may stay where places are left.
        let is_crowded = self.held.len() > HELD_MAX / 2;
        self.held.retain(|turned| !turned.is_over(is_crowded));
    }
}

/// Discards up to `most` bytes that clients still send after their answers. Those with the fewest so far come first, so that a long
/// request of one keeps no others waiting.
fn discard_rests(held: &mut [Turned], most: usize) {
    let mut told: Vec<&mut Turned> = held.iter_mut().filter(|turned| turned.is_told).collect();
    told.sort_unstable_by_key(|turned| turned.discarded);
    let mut left = most;
    for turned in told {
        if left == 0 {
            break;
        }
        left -= turned.discard(left);
    }
}

impl Turned {
    fn new(stream: TcpStream, tls: Option<Box<ServerConnection>>, was_frozen: bool) -> Turned {
        let since = Instant::now();
        Turned {
            stream,
            tls,
            since,
            was_frozen,
            is_told: false,
            discarded: 0,
            moved: since,
            may_close: false,
        }
    }

    /// Reads the beginning of the request, and answers when it is time.
    fn read_and_tell(&mut self, shared: &DoorState) {
        let head_wait = match self.tls {
            None => HEAD_WAIT,
            Some(_) => HEAD_WAIT_TLS,
        };
        let mut head = [0; HEAD_BYTES];
        match self.read(&mut head, shared) {
            Ok(0) => self.may_close = true,
            Ok(length) => self.tell(&head[..length], shared),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.since.elapsed() >= head_wait {
                    self.tell(&[], shared);
                }
            }
            Err(_) => self.may_close = true,
        }
    }

    /// Discards up to `most` bytes after the answer, within TLS as they came. Returns their number.
    fn discard(&mut self, most: usize) -> usize {
        match kernel::throw_away(&self.stream, most) {
            Ok(0) => self.may_close = true,
            Ok(discarded) => {
                self.discarded += discarded;
                self.moved = Instant::now();
                return discarded;
            }
            Err(error) => self.may_close |= error.kind() != ErrorKind::WouldBlock,
        }
        0
    }

    /// Returns whether the connection is finished, or has had its bytes or its time: for more bytes only if nobody needs its place.
    fn is_over(&self, is_crowded: bool) -> bool {
        let turned_wait = match self.tls {
            None => TURNED_WAIT,
            Some(_) => TURNED_WAIT_TLS,
        };
        let since = match is_crowded {
            true => self.since,
            false => self.moved,
        };
        self.may_close
            || since.elapsed() >= turned_wait
            || self.since.elapsed() >= UNREAD_WAIT
            || self.discarded >= UNREAD_BYTES_MAX
    }

    fn read(&mut self, head: &mut [u8], shared: &DoorState) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.read(head);
        };
        let was_shaking = tls.is_handshaking();
        let read = read_tls(tls, &mut self.stream, head);
        let outcome = match &read {
            _ if !was_shaking => None,
            _ if !tls.is_handshaking() => Some(HandshakeOutcome::Done),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            _ => Some(HandshakeOutcome::Failed),
        };
        if let Some(outcome) = outcome {
            shared.metrics.shook_hands(outcome);
        }
        read
    }

    fn tell(&mut self, head: &[u8], shared: &DoorState) {
        let wait = shared.returns.plan();
        let answer = busy_answer(head, wait);
        self.is_told = true;
        // The send buffer of a new socket is empty, and that of a client that reads its answers nearly so.
        match &mut self.tls {
            None if is_read_whole(head) => {
                // The end of the connection, which follows at once, travels with the answer.
                let _ = SockRef::from(&self.stream).send_with_flags(&answer, libc::MSG_MORE);
                self.may_close = true;
            }
            None => {
                let _ = self.stream.write(&answer);
            }
            Some(tls) if tls.is_handshaking() => {
                shared.metrics.shook_hands(HandshakeOutcome::Closed);
            }
            Some(tls) => {
                let _ = tls.writer().write_all(&answer);
                tls.send_close_notify();
                let _ = write_tls(tls, &mut self.stream);
            }
        }
        if !self.may_close {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        shared.load.rejected.fetch_add(1, Relaxed);
        if self.was_frozen {
            shared.refused_frozen.fetch_add(1, Relaxed);
        }
    }
}

/// Returns whether one read took a whole request, so that nothing of it is left. More may follow what fills the buffer.
fn is_read_whole(read: &[u8]) -> bool {
    read.len() < HEAD_BYTES && is_whole_request(read)
}

/// Continues a handshake, and reads what follows it.
fn read_tls(
    tls: &mut ServerConnection,
    stream: &mut TcpStream,
    head: &mut [u8],
) -> io::Result<usize> {
    let came = tls.read_tls(stream);
    let taken = tls.process_new_packets().map_err(io::Error::other);
    // Handshake records for the client, alerts included.
    write_tls(tls, stream)?;
    taken?;
    match tls.reader().read(head) {
        // No byte of the request yet: the socket tells whether one may follow.
        Err(error) if error.kind() == ErrorKind::WouldBlock => match came {
            Ok(0) => Ok(0),
            Ok(_) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        },
        read => read,
    }
}

fn write_tls(tls: &mut ServerConnection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_overload_has_the_times_of_a_refusal() {
        let page = include_str!("../../../docs/design/overload.md");
        let (plain, tls) = (TURNED_WAIT.as_millis(), TURNED_WAIT_TLS.as_secs());
        let line = format!("it ends {plain} ms ({tls} s with TLS) after the last bytes");
        assert!(page.contains(&line), "{line}");
    }

    #[test]
    fn a_pace_counts_once_it_was_kept_for_a_second() {
        let start = Instant::now();
        let mut pace = RefusalPace::default();
        let mut step = |ms, keeps_up| pace.step(keeps_up, start + Duration::from_millis(ms));
        for ms in (0..1_000).step_by(100) {
            assert!(!step(ms, true));
        }
        assert!(step(1_000, true));
        assert!(!step(1_001, false));
        for ms in (1_002..2_002).step_by(100) {
            assert!(!step(ms, true));
        }
        assert!(step(2_002, true));
        // The thread stood still: what came meanwhile, nobody refused.
        assert!(!step(2_302, true));
        assert!(!step(2_402, true));
    }

    #[test]
    fn a_look_discards_no_more_than_its_bytes_and_first_where_the_fewest_were() {
        const SENT: usize = 10_000;
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let (mut clients, mut held) = (Vec::new(), Vec::new());
        for (is_told, discarded) in [(true, 70), (false, 0), (true, 9), (true, 8)] {
            let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it");
            client.write_all(&[b'x'; SENT]).expect("sent");
            clients.push(client);
            let stream = listener.accept().expect("it waits").0;
            // All have come.
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .expect("a socket");
            while stream.peek(&mut [0; SENT]).expect("bytes") < SENT {}
            let mut turned = Turned::new(stream, None, false);
            (turned.is_told, turned.discarded) = (is_told, discarded);
            held.push(turned);
        }
        let mut look = |most| {
            let before: Vec<usize> = held.iter().map(|turned| turned.discarded).collect();
            discard_rests(&mut held, most);
            let now = held.iter().zip(before);
            now.map(|(turned, before)| turned.discarded - before)
                .collect::<Vec<_>>()
        };
        assert_eq!(look(SENT + 1), [0, 0, 1, SENT]);
        assert_eq!(look(SENT), [1, 0, SENT - 1, 0]);
        assert_eq!(look(SENT), [SENT - 1, 0, 0, 0]);
        assert_eq!(look(SENT), [0; 4]);
        assert!(held.iter().all(|turned| !turned.may_close));
        clients.clear();
        discard_rests(&mut held, SENT);
        let closed: Vec<bool> = held.iter().map(|turned| turned.may_close).collect();
        assert_eq!(closed, [true, false, true, true]);
    }

    #[test]
    fn who_goes_on_sending_may_stay_for_longer_where_there_are_places() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it");
        let mut turned = Turned::new(stream, None, false);
        let ago = |ms| {
            Instant::now()
                .checked_sub(Duration::from_millis(ms))
                .expect("it runs")
        };
        for (since, moved, if_crowded, else_over) in [
            (0, 0, false, false),
            (500, 500, true, true),
            (500, 0, true, false),
            (2_100, 0, true, true),
        ] {
            (turned.since, turned.moved) = (ago(since), ago(moved));
            let over = [true, false].map(|is_crowded| turned.is_over(is_crowded));
            assert_eq!(over, [if_crowded, else_over], "{since} {moved}");
        }
        (turned.since, turned.moved) = (ago(0), ago(0));
        turned.discarded = UNREAD_BYTES_MAX;
        assert!(turned.is_over(false));
    }

    #[test]
    fn a_request_that_fills_the_buffer_may_go_on() {
        let request = |length: usize| {
            let head = "GET / HTTP/1.1\r\na: ";
            let end = "\r\n\r\n";
            let value = "a".repeat(length - head.len() - end.len());
            format!("{head}{value}{end}")
        };
        assert!(is_read_whole(request(HEAD_BYTES - 1).as_bytes()));
        assert!(!is_read_whole(request(HEAD_BYTES).as_bytes()));
    }
}
