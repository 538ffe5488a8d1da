//! A place for one connection: opens it, asks on it, hears the answer. Whoever uses a place keeps the time.
//! In: a request, readiness. Out: how that turn went. Never: deadlines, retries, figures.

use crate::answer::{Answer, Progress, Reader};
use crate::sys::{Poll, Socket};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

#[derive(Default)]
pub struct Slot {
    socket: Option<Socket>,
    connected: bool,
    /// Its requests take many segments, and the last must not wait for the others.
    pub is_long: bool,
    /// Which connection of this place it is: an event of an earlier one is no longer ours.
    life: u32,
    reader: Reader,
    /// The request under way, and how much of it has gone.
    pub request: Vec<u8>,
    sent: usize,
    asking: bool,
    /// It was open before this request: the other end may have closed it at the same moment.
    reused: bool,
}

/// How a turn went.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to tell yet.
    Later,
    Answered(Answer),
    /// The connection is gone, before any of the request had left.
    Refused,
    /// The connection is gone, after that.
    Cut,
    /// It was kept open, and the other end closed it without a word: a sensible client asks again on a new one.
    Stale,
    /// It was open and idle, and the other end closed it.
    ClosedIdle,
    /// No descriptor or port of our own.
    Short,
}

impl Slot {
    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the other end let us connect, as far as we know.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether any byte of the request has left.
    pub fn has_asked(&self) -> bool {
        self.sent > 0
    }

    /// Drops the connection, by a reset.
    pub fn close(&mut self) {
        self.socket = None;
        self.connected = false;
        self.life = self.life.wrapping_add(1);
        self.asking = false;
        self.reader.reset();
    }

    /// Opens it; idle until something is asked.
    pub fn open(&mut self, poll: &Poll, nth: usize, from: Ipv4Addr, to: SocketAddrV4) -> Turn {
        let opened = Socket::connect(from, to).and_then(|socket| {
            if self.is_long {
                socket.no_delay()?;
            }
            self.close();
            poll.watch(&socket, token(nth, self.life))?;
            self.socket = Some(socket);
            Ok(())
        });
        match opened {
            Ok(()) => Turn::Later,
            Err(e) => match e.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOMEM) => {
                    Turn::Short
                }
                _ => Turn::Refused,
            },
        }
    }

    /// Sends `request`, on the open connection or on a new one.
    pub fn ask(&mut self, poll: &Poll, nth: usize, from: Ipv4Addr, to: SocketAddrV4) -> Turn {
        self.sent = 0;
        self.reused = self.is_open();
        if !self.reused {
            let opened = self.open(poll, nth, from, to);
            if opened != Turn::Later {
                return opened;
            }
        }
        self.asking = true;
        self.reader.reset();
        // A loopback connection is often open already: this saves a round of events.
        self.send()
    }

    /// After an event of this token's connection.
    pub fn turn(&mut self, life: u32, readable: bool, writable: bool, room: &mut [u8]) -> Turn {
        if life != self.life || self.socket.is_none() {
            return Turn::Later;
        }
        self.connected |= writable;
        if writable && self.asking && self.sent < self.request.len() {
            let sent = self.send();
            if sent != Turn::Later {
                return sent;
            }
        }
        if readable {
            return self.hear(room);
        }
        Turn::Later
    }

    fn send(&mut self) -> Turn {
        let Some(socket) = &self.socket else {
            return Turn::Later;
        };
        while self.sent < self.request.len() {
            match socket.send(&self.request[self.sent..]) {
                Ok(Some(n)) => {
                    self.connected = true;
                    self.sent += n;
                }
                Ok(None) => return Turn::Later,
                // It may have answered before it closed.
                Err(_) => return self.hear(&mut [0; 4096]),
            }
        }
        Turn::Later
    }

    fn hear(&mut self, room: &mut [u8]) -> Turn {
        loop {
            let Some(socket) = &self.socket else {
                return Turn::Later;
            };
            match socket.receive(room) {
                Ok(None) => return Turn::Later,
                Ok(Some(0)) => return self.ended(Ok(())),
                Err(e) => return self.ended(Err(e)),
                Ok(Some(n)) => match self.reader.read(&room[..n]) {
                    Progress::Whole(answer, _) => {
                        let asked = std::mem::take(&mut self.asking);
                        if !answer.keeps || !asked {
                            self.close();
                        }
                        return if asked {
                            Turn::Answered(answer)
                        } else {
                            // Told so before it asked, as at a door that is full.
                            Turn::ClosedIdle
                        };
                    }
                    Progress::More if n < room.len() => return Turn::Later,
                    Progress::More => {}
                    Progress::Nonsense => {
                        return self.ended(Err(io::ErrorKind::InvalidData.into()));
                    }
                },
            }
        }
    }

    fn ended(&mut self, how: io::Result<()>) -> Turn {
        let (asking, sent, begun) = (self.asking, self.sent > 0, self.reader.has_begun());
        let whole = self.reader.end().filter(|_| how.is_ok());
        self.close();
        match (asking, whole) {
            (true, Some(answer)) => Turn::Answered(answer),
            (true, None) if self.reused && !begun => Turn::Stale,
            (true, None) if sent => Turn::Cut,
            (true, None) => Turn::Refused,
            (false, _) => Turn::ClosedIdle,
        }
    }
}

/// What a place's connection is watched under.
fn token(nth: usize, life: u32) -> u64 {
    nth as u64 | u64::from(life) << 32
}

/// A token's place and connection.
pub fn of_token(token: u64) -> (usize, u32) {
    ((token & u64::from(u32::MAX)) as usize, (token >> 32) as u32)
}
