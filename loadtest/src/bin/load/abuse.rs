//! Connections that are no honest load: silent, dripping a head, never reading, asking without pause.
//! In: how many, when, what they would ask. Out: how often they were closed, and what the greedy took.

use crate::answer::{Progress, Reader};
use crate::shape::{self, Manner};
use crate::sys::{Poll, Ready, Socket};
use std::net::{Ipv4Addr, SocketAddrV4};

/// How often the group is looked at.
const TICK: u64 = 20_000_000;
/// Opened at one look at most: 10,000 a second would be an attack of its own kind.
const OPENED_MAX: usize = 40;
/// A deaf one's room for what it does not read.
const DEAF_BYTES: i32 = 2048;
/// Tokens of these, so that they are not taken for a place of the honest.
const MARK: u64 = 1 << 63;

/// A group of the same kind. Times are nanoseconds.
pub struct Abuse {
    which: usize,
    pub kind: Manner,
    pub many: usize,
    target: SocketAddrV4,
    source: Ipv4Addr,
    from: u64,
    to: u64,
    every: u64,
    /// What is sent in one go, or what is dripped.
    request: Vec<u8>,
    depth: usize,
    connections: Vec<Connection>,
    next: u64,
    /// How often the other end closed one.
    pub closed: u64,
    /// Most open, or knocking, at once.
    pub open_max: usize,
    /// Good answers, to the greedy.
    pub taken: u64,
    pub busy: u64,
}

#[derive(Default)]
struct Connection {
    socket: Option<Socket>,
    reader: Reader,
    sent: usize,
    owed: usize,
    /// Not before.
    due: u64,
}

impl Abuse {
    /// `request`: what an honest one would ask here. `warm`: nanoseconds of warm-up before the shape's second 0.
    pub fn new(
        which: usize,
        spec: &shape::Rude,
        to: (Ipv4Addr, SocketAddrV4),
        request: &[u8],
        warm: u64,
    ) -> Abuse {
        let at = |seconds: f64| warm + (seconds * 1e9) as u64;
        let request = match spec.kind {
            Manner::Idle => Vec::new(),
            // All but the empty line that would end it, and then more of the same, without end.
            Manner::Drip => request[..request.len() - 2].to_vec(),
            Manner::Deaf => request.repeat(64),
            Manner::Greedy => request.repeat(spec.depth),
        };
        Abuse {
            which,
            kind: spec.kind,
            many: spec.many,
            source: to.0,
            target: to.1,
            from: at(spec.from),
            to: at(spec.to),
            every: spec.every_ms * 1_000_000,
            request,
            depth: spec.depth,
            connections: (0..spec.many).map(|_| Connection::default()).collect(),
            next: at(spec.from),
            closed: 0,
            open_max: 0,
            taken: 0,
            busy: 0,
        }
    }

    /// Which group a token belongs to, if it is one of ours.
    pub fn of_token(token: u64) -> Option<usize> {
        (token & MARK != 0).then_some((token >> 32 & 0xffff) as usize)
    }

    pub fn due(&self) -> u64 {
        self.next
    }

    /// Opens who is missing, drips what is due; after its time, closes all.
    pub fn tick(&mut self, poll: &Poll, now: u64) {
        if now < self.next {
            return;
        }
        self.next = now + TICK;
        if now >= self.to {
            self.connections.clear();
            self.next = u64::MAX;
            return;
        }
        if now < self.from {
            return;
        }
        let mut opened = 0;
        for nth in 0..self.connections.len() {
            let connection = &mut self.connections[nth];
            if connection.due > now {
                continue;
            }
            if connection.socket.is_some() {
                if self.kind == Manner::Drip {
                    connection.due = now + self.every;
                    self.drip(nth, now);
                }
            } else if opened < OPENED_MAX {
                opened += 1;
                self.open(poll, nth, now);
            }
        }
        let open = self.connections.iter().filter(|one| one.socket.is_some());
        self.open_max = self.open_max.max(open.count());
    }

    fn open(&mut self, poll: &Poll, nth: usize, now: u64) {
        let connection = &mut self.connections[nth];
        let token = MARK | (self.which as u64) << 32 | nth as u64;
        let opened = Socket::connect(self.source, self.target).and_then(|socket| {
            if self.kind == Manner::Deaf {
                socket.small_inbox(DEAF_BYTES)?;
            }
            poll.watch(&socket, token)?;
            Ok(socket)
        });
        *connection = Connection {
            socket: opened.ok(),
            due: now + self.every,
            ..Connection::default()
        };
    }

    /// One byte.
    fn drip(&mut self, nth: usize, now: u64) {
        let connection = &mut self.connections[nth];
        let byte = *self.request.get(connection.sent).unwrap_or(&b'x');
        match connection
            .socket
            .as_ref()
            .map(|socket| socket.send(&[byte]))
        {
            Some(Ok(Some(_))) => connection.sent += 1,
            Some(Ok(None)) | None => {}
            Some(Err(_)) => self.lose(nth, now),
        }
    }

    pub fn event(&mut self, poll: &Poll, ready: Ready, room: &mut [u8], now: u64) {
        let nth = (ready.token & u64::from(u32::MAX)) as usize;
        if nth >= self.connections.len() || self.connections[nth].socket.is_none() {
            return;
        }
        let lost = match self.kind {
            Manner::Deaf => ready.writable && !self.send(nth),
            Manner::Greedy => !self.greedy(nth, ready, room),
            Manner::Idle | Manner::Drip => ready.readable && self.is_gone(nth, room),
        };
        if lost {
            self.lose(nth, now);
            if self.kind == Manner::Greedy {
                self.open(poll, nth, now);
            }
        }
    }

    /// Sends as much as goes; a deaf one without end. False: the connection is gone.
    fn send(&mut self, nth: usize) -> bool {
        let connection = &mut self.connections[nth];
        let Some(socket) = &connection.socket else {
            return false;
        };
        loop {
            if connection.sent == self.request.len() {
                if self.kind != Manner::Deaf {
                    return true;
                }
                connection.sent = 0;
            }
            match socket.send(&self.request[connection.sent..]) {
                Ok(Some(n)) => connection.sent += n,
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Asks `depth` at once, hears all of them, asks again.
    fn greedy(&mut self, nth: usize, ready: Ready, room: &mut [u8]) -> bool {
        loop {
            let connection = &mut self.connections[nth];
            if connection.owed == 0 {
                connection.owed = self.depth;
                connection.sent = 0;
            }
            if !self.send(nth) {
                return false;
            }
            if !ready.readable {
                return true;
            }
            let connection = &mut self.connections[nth];
            let n = match connection
                .socket
                .as_ref()
                .map(|socket| socket.receive(room))
            {
                Some(Ok(Some(n))) if n > 0 => n,
                Some(Ok(None)) => return true,
                _ => return false,
            };
            let mut rest = &room[..n];
            while !rest.is_empty() {
                let Progress::Whole(answer, left) = connection.reader.read(rest) else {
                    break;
                };
                rest = &rest[rest.len() - left..];
                connection.owed = connection.owed.saturating_sub(1);
                self.taken += u64::from(answer.status == 200);
                self.busy += u64::from(answer.status == 503);
                if !answer.keeps {
                    return false;
                }
            }
        }
    }

    fn is_gone(&mut self, nth: usize, room: &mut [u8]) -> bool {
        let socket = self.connections[nth].socket.as_ref();
        !matches!(socket.map(|socket| socket.receive(room)), Some(Ok(None)))
    }

    fn lose(&mut self, nth: usize, now: u64) {
        self.closed += 1;
        self.connections[nth] = Connection {
            due: now + self.every,
            ..Connection::default()
        };
    }
}
