//! The floor: the least an HTTP answer can cost here: one thread, one epoll loop, one read and one write a request.
//! In: `--port P --body-bytes N`. Out: the same 200, N bytes of JSON, whatever is asked. Never: routes, tokens, logs.
//! Not a server to use: `sidebyside` divides what liangma costs by what this costs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Most bytes of one request, head and body; a longer one is hung up on. Guess: several times what the generator sends.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Events taken in one wait. Guess: more than the 64 connections it is measured with.
const EVENTS_MAX: usize = 256;

fn main() -> io::Result<()> {
    let Some((port, body_bytes)) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: floor --port P --body-bytes N");
        std::process::exit(2);
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    println!("floor http://{}", listener.local_addr()?);
    let answer = answer(body_bytes);
    let poll = Poll::new()?;
    poll.watch(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN)?;
    // By descriptor: the kernel gives the lowest free one, so this is as long as the most connections at once.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
    loop {
        for event in poll.wait(&mut events)? {
            let descriptor = event.u64 as RawFd;
            if descriptor == listener.as_raw_fd() {
                accept(&listener, &poll, &mut connections);
            } else if let Some(place) = connections.get_mut(descriptor as usize)
                && let Some(connection) = place
                && connection.serve(&poll, &answer).is_err()
            {
                *place = None; // closing the descriptor also takes it out of epoll
            }
        }
    }
}

/// Takes every waiting connection. An error ends this turn only: epoll is level-triggered and tells us again.
fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Option<Connection>>) {
    while let Ok((stream, _)) = listener.accept() {
        let place = stream.as_raw_fd() as usize;
        let prepared = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| poll.watch(libc::EPOLL_CTL_ADD, stream.as_raw_fd(), libc::EPOLLIN));
        if prepared.is_ok() {
            connections.resize_with(connections.len().max(place + 1), || None);
            connections[place] = Some(Connection::new(stream));
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// What was read and not yet answered: `inbox[..filled]`.
    inbox: Box<[u8]>,
    filled: usize,
    /// Answers not yet written whole, and how much of the first of them has gone.
    owed: usize,
    sent: usize,
    /// Waiting for room to write. Nothing is read meanwhile: a client that never reads costs nothing more.
    blocked: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let inbox = vec![0; REQUEST_BYTES_MAX].into();
        Self {
            stream,
            inbox,
            filled: 0,
            owed: 0,
            sent: 0,
            blocked: false,
        }
    }

    /// One turn. An error is the end of this connection, whoever's fault it is.
    fn serve(&mut self, poll: &Poll, answer: &[u8]) -> io::Result<()> {
        if !self.blocked {
            // One read a turn: a second, to see it empty, would add a system call to each request. No room left in
            // the inbox (a request too long) reads as 0 bytes, and so ends as the end of the stream does.
            match self.stream.read(&mut self.inbox[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.filled += n,
                Err(e) => return if passes(&e) { Ok(()) } else { Err(e) },
            }
            self.take()?;
        }
        let blocked = !self.pay(answer)?;
        if blocked != self.blocked {
            let interest = if blocked {
                libc::EPOLLOUT
            } else {
                libc::EPOLLIN
            };
            poll.watch(libc::EPOLL_CTL_MOD, self.stream.as_raw_fd(), interest)?;
            self.blocked = blocked;
        }
        Ok(())
    }

    /// Counts the requests that are whole, and keeps the one that has only begun.
    fn take(&mut self) -> io::Result<()> {
        let mut start = 0;
        while let Some(length) = request_length(&self.inbox[start..self.filled])? {
            start += length;
            self.owed += 1;
        }
        self.inbox.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }

    /// Writes what is owed; false if the socket is full first.
    fn pay(&mut self, answer: &[u8]) -> io::Result<bool> {
        while self.owed > 0 {
            match self.stream.write(&answer[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) => return if passes(&e) { Ok(false) } else { Err(e) },
            }
            if self.sent == answer.len() {
                self.sent = 0;
                self.owed -= 1;
            }
        }
        Ok(true)
    }
}

/// Bytes of the first request, head and body; `None` while it is not whole. Chunked bodies are refused: nobody sends one.
fn request_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let (mut head, mut body) = (0, 0_usize);
    while let Some(length) = memchr::memchr(b'\n', &bytes[head..]) {
        let line = bytes[head..head + length].trim_ascii_end();
        head += length + 1;
        if line.is_empty() {
            return Ok(head.checked_add(body).filter(|whole| *whole <= bytes.len()));
        } else if let Some(value) = after(line, b"content-length:") {
            let number = str::from_utf8(value.trim_ascii())
                .ok()
                .and_then(|text| text.parse().ok());
            body = number.ok_or(ErrorKind::InvalidData)?;
        } else if after(line, b"transfer-encoding:").is_some() {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    Ok(None)
}

fn after<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

/// Worth another turn, when epoll says so.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The bytes of every answer, made once. The body is a JSON string, or a digit where that has no room.
fn answer(body_bytes: usize) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    let body = match body_bytes {
        0 | 1 => "0".repeat(body_bytes),
        _ => format!("\"{}\"", "x".repeat(body_bytes - 2)),
    };
    format!("{head} {body_bytes}\r\n\r\n{body}").into_bytes()
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<(u16, usize)> {
    let (mut port, mut body_bytes) = (None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--port" => port = Some(words.next()?.parse().ok()?),
            "--body-bytes" => body_bytes = Some(words.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some((port?, body_bytes?))
}

/// Epoll, which the standard library does not offer.
struct Poll(OwnedFd);

impl Poll {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointer goes in, and the descriptor that comes out is ours alone.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        checked(descriptor).map(|descriptor| Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    fn watch(&self, operation: i32, descriptor: RawFd, interest: i32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: descriptor as u64,
        };
        // SAFETY: `event` outlives the call, and the kernel copies it.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, descriptor, &mut event) })
            .map(drop)
    }

    fn wait<'a>(&self, events: &'a mut [libc::epoll_event]) -> io::Result<&'a [libc::epoll_event]> {
        let (first, room) = (events.as_mut_ptr(), events.len() as i32);
        // SAFETY: the kernel writes `room` events at most, which is how many there is room for.
        match checked(unsafe { libc::epoll_wait(self.0.as_raw_fd(), first, room, -1) }) {
            Err(e) if passes(&e) => Ok(&[]), // a signal
            ready => Ok(&events[..ready? as usize]),
        }
    }
}

fn checked(returned: i32) -> io::Result<i32> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}
