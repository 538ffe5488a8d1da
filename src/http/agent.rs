//! The agent port, in HAProxy's agent protocol: tells balancers how much a door can take now, and whether the node drains.
//! A client sends a door's name in a line, and gets one line with a number of requests. With `connections` after the name it is
//! a number of connections. Threads that serve no door answer it.

use crate::clock::Moment;
use crate::critical::CriticalTask;
use crate::door_load::DoorLoad;
use crate::service::AppState;
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Clients at once. Further connections are closed without an answer.
const CALLERS_MAX: usize = 64;

/// Time for a whole exchange.
const EXCHANGE_WAIT: Duration = Duration::from_secs(1);

/// Length of a question with the end of its line.
const LINE_BYTES_MAX: usize = 32;

/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers clients until the task is aborted. `balancers` share each number.
pub async fn serve(listener: TcpListener, app: Arc<AppState>, balancers: u32) {
    let _critical = CriticalTask("the agent port");
    let places = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the agent port could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let app = app.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(EXCHANGE_WAIT, exchange(stream, &app, balancers)).await;
            drop(place);
        });
    }
}

async fn exchange(stream: TcpStream, app: &AppState, balancers: u32) -> io::Result<()> {
    let mut line = [0; LINE_BYTES_MAX];
    let mut length = 0;
    while length < line.len() && !line[..length].contains(&b'\n') {
        stream.readable().await?;
        match stream.try_read(&mut line[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let asker = stream.peer_addr()?.ip();
    let said = match told(app, question(&line[..length]), asker, balancers) {
        Some(share) => state(share, app.is_draining()),
        // HAProxy takes a word before a blank for a state: it would ignore `down#agent-send`.
        None => "down #agent-send names no open door\n".to_owned(),
    };
    // The empty send buffer of a new socket takes the whole line.
    stream.writable().await?;
    stream.try_write(said.as_bytes())?;
    SockRef::from(&stream).shutdown(Shutdown::Write)
}

/// Returns the first line without blanks; empty if its end did not arrive.
fn question(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).unwrap_or_default();
    bytes[..end].trim_ascii()
}

/// What one balancer may give to a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Requests in flight, or connections; at least 1.
    max: u64,
    /// Share of the door's usual traffic in percent.
    weight: u64,
}

/// Answers a balancer that asks from an address: in requests after a door's name, in connections if ` connections` follows it. None
/// if no open door has this name.
fn told(app: &AppState, question: &[u8], asker: IpAddr, balancers: u32) -> Option<Share> {
    let by_connections = question.strip_suffix(b" connections");
    let load = app.door_loads.find(by_connections.unwrap_or(question))?;
    let now = Moment::now();
    load.asked_at.store(now.0, Relaxed);
    let max = match by_connections {
        None => divided(requests(&load), balancers),
        // It is alone, whatever address its connections come from.
        Some(_) if balancers <= 1 => connections(&load),
        // What it has open, it may keep: others may have more, or fewer.
        Some(_) => {
            let own = load.balancers.ask(asker, now);
            let most = connections(&load);
            own.share(most, load.open_connections() as u64, balancers)
        }
    };
    Some(Share {
        max,
        weight: load.weight.load(Relaxed),
    })
}

fn requests(load: &DoorLoad) -> u64 {
    load.in_flight_max.load(Relaxed)
}

/// The connections that the door admits, and as many newcomers as it can take in within the wait: for these it ends connections that
/// have been idle for longest, or tells them that it is busy. A door that was overloaded admits those that are open and ask nothing:
/// most of its limit stands for phones that are idle, and all who ask at once, also those whom it has taken in, are to be no more
/// than it can answer in time. Newcomers are as many as the door lately took in, or can answer in time if that is more, and never
/// more than the accept queue holds safely.
fn connections(load: &DoorLoad) -> u64 {
    let limit = load.limit.load(Relaxed);
    let unread = load.unread_least.load(Relaxed);
    let open = load.open_connections();
    let admitted = match load.was_overloaded.load(Relaxed) {
        true => limit.min(open.saturating_sub(unread)),
        false => limit,
    };
    let newcomers = requests(load).max(load.newcomers_max.load(Relaxed) as u64);
    let newcomers = newcomers.min(load.safe_queue.load(Relaxed) as u64);
    let most = (admitted as u64 + requests(load)).min(open as u64 + newcomers);
    let newcomers = most.saturating_sub(open as u64) as usize;
    load.newcomers_told.fetch_max(newcomers, Relaxed);
    most
}

fn divided(number: u64, balancers: u32) -> u64 {
    (number / u64::from(balancers).max(1)).max(1)
}

/// Returns the line for HAProxy. `ready` also ends a `drain` of an earlier process at this address.
fn state(share: Share, is_draining: bool) -> String {
    let Share { max, weight } = share;
    match is_draining {
        true => format!("drain maxconn:{max}\n"),
        false => format!("ready up {weight}% maxconn:{max}\n"),
    }
}

/// Returns the header of `/ready` with the same advice: a dictionary (RFC 9651) of the resident and gate doors.
pub fn header(app: &AppState, balancers: u32) -> String {
    let told = ["resident", "gate"].into_iter().filter_map(|door| {
        let load = app.door_loads.find(door.as_bytes())?;
        Some(format!("{door}={}", divided(requests(&load), balancers)))
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_whole_line() {
        for (bytes, door) in [
            (&b"gate\n"[..], &b"gate"[..]),
            (b"gate\r\nresident\n", b"gate"),
            (b" gate \n", b"gate"),
            (b"gate connections\r\n", b"gate connections"),
            (b"gate", b""),
            (b"", b""),
            (b"\n", b""),
        ] {
            assert_eq!(question(bytes), door);
        }
    }

    #[test]
    fn a_node_that_leaves_says_drain_and_no_other_does() {
        let share = Share {
            max: 96,
            weight: 100,
        };
        assert_eq!(state(share, false), "ready up 100% maxconn:96\n");
        assert_eq!(state(share, true), "drain maxconn:96\n");
    }

    #[test]
    fn a_door_that_was_overloaded_admits_who_is_open_and_idle() {
        let load = DoorLoad::new(10_000, 2);
        load.in_flight_max.store(100, Relaxed);
        load.newcomers_max.store(20_000, Relaxed);
        load.safe_queue.store(20_000, Relaxed);
        load.open[0].store(400, Relaxed);
        load.open[1].store(50, Relaxed);
        assert_eq!(connections(&load), 10_100);
        load.was_overloaded.store(true, Relaxed);
        assert_eq!(connections(&load), 550);
        load.unread_least.store(430, Relaxed);
        assert_eq!(connections(&load), 120);
        // An estimate is no promise.
        load.unread_least.store(500, Relaxed);
        assert_eq!(connections(&load), 100);
        load.unread_least.store(0, Relaxed);
        load.limit.store(300, Relaxed);
        assert_eq!(connections(&load), 400);
    }

    #[test]
    fn newcomers_are_no_more_than_the_queue_holds_or_the_door_answers_in_time() {
        let load = DoorLoad::new(10_000, 1);
        load.in_flight_max.store(100, Relaxed);
        load.open[0].store(450, Relaxed);
        for (newcomers_max, safe_queue, newcomers) in [
            (512, 512, 512),
            (32, 512, 100),
            (512, 256, 256),
            (32, 48, 48),
        ] {
            load.newcomers_max.store(newcomers_max, Relaxed);
            load.safe_queue.store(safe_queue, Relaxed);
            assert_eq!(connections(&load), 450 + newcomers);
            assert_eq!(load.newcomers_told.swap(0, Relaxed) as u64, newcomers);
        }
    }

    #[test]
    fn balancers_share_what_there_is_and_each_has_some() {
        for (balancers, each) in [(0, 100), (1, 100), (3, 33), (1_000, 1)] {
            assert_eq!(divided(100, balancers), each);
        }
    }
}
