//! The agent port, in HAProxy's agent protocol: tells balancers how many requests a door can take now, and whether the node
//! drains. A client sends a door's name in a line and gets one line. Threads that serve no door answer it.

use crate::admission::window::Advice;
use crate::critical::CriticalTask;
use crate::service::AppState;
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Clients at once. Further connections are closed without an answer.
const CALLERS_MAX: usize = 64;

/// Time for a whole exchange.
const EXCHANGE_WAIT: Duration = Duration::from_secs(1);

/// Length of a door's name with the end of the line.
const LINE_BYTES_MAX: usize = 32;

/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers clients until the task is aborted. Each number is divided among `balancers`.
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
    let said = match advice(app, door_of(&line[..length]), balancers) {
        Some(advice) => state(advice, app.is_draining()),
        None => "failed#agent-send names no open door\n".to_owned(),
    };
    // The empty send buffer of a new socket takes the whole line.
    stream.writable().await?;
    stream.try_write(said.as_bytes())?;
    SockRef::from(&stream).shutdown(Shutdown::Write)
}

/// Returns the first line without blanks; empty if its end did not arrive.
fn door_of(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', bytes).unwrap_or_default();
    bytes[..end].trim_ascii()
}

/// Returns the advice for one of `balancers`; None if no open door has this name.
fn advice(app: &AppState, door: &[u8], balancers: u32) -> Option<Advice> {
    let load = app.door_loads.find(door)?;
    let advice = Advice {
        in_flight_max: load.in_flight_max.load(Relaxed),
        weight: load.weight.load(Relaxed),
    };
    Some(advice.shared(balancers.into()))
}

/// Returns the line for HAProxy. `ready` also ends a `drain` of an earlier process at this address.
fn state(advice: Advice, is_draining: bool) -> String {
    let Advice {
        in_flight_max,
        weight,
    } = advice;
    match is_draining {
        true => format!("drain maxconn:{in_flight_max}\n"),
        false => format!("ready up {weight}% maxconn:{in_flight_max}\n"),
    }
}

/// Returns the header of `/ready` with the same advice: a dictionary (RFC 9651) of the resident and gate doors.
pub fn header(app: &AppState, balancers: u32) -> String {
    let told = ["resident", "gate"].into_iter().filter_map(|door| {
        let advice = advice(app, door.as_bytes(), balancers)?;
        Some(format!("{door}={}", advice.in_flight_max))
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_named_by_a_whole_line() {
        for (bytes, door) in [
            (&b"gate\n"[..], &b"gate"[..]),
            (b"gate\r\nresident\n", b"gate"),
            (b" gate \n", b"gate"),
            (b"gate", b""),
            (b"", b""),
            (b"\n", b""),
        ] {
            assert_eq!(door_of(bytes), door);
        }
    }

    #[test]
    fn a_node_that_leaves_says_drain_and_no_other_does() {
        let advice = Advice {
            in_flight_max: 96,
            weight: 100,
        };
        assert_eq!(state(advice, false), "ready up 100% maxconn:96\n");
        assert_eq!(state(advice, true), "drain maxconn:96\n");
    }
}
