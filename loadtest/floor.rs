//! The floor: the least CPU an HTTP answer can cost here: one thread, one epoll loop, one read and one write a request.
//! In: `--port P --body-bytes N`. Out: the same `200 OK`, N bytes of JSON, to whatever is asked. Never: routes, tokens, logs.
//! Not a server to use: `sidebyside` divides what liangma costs by what this costs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Most bytes of one request head; a longer one is hung up on. Guess: several times what a phone sends.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes asked of the kernel in one read. Guess: holds 64 small pipelined requests.
const READ_BYTES: usize = 32 * 1024;
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
    serve(&listener, &answer(body_bytes))
}

fn serve(listener: &TcpListener, answer: &[u8]) -> io::Result<()> {
    let poll = Poll::new()?;
    poll.watch(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN)?;
    // By descriptor: the kernel hands out the lowest free one, so this stays as long as the most connections at once.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
    let mut read_into = vec![0; READ_BYTES];
    loop {
        for event in poll.wait(&mut events)? {
            let descriptor = event.u64 as RawFd;
            if descriptor == listener.as_raw_fd() {
                accept(listener, &poll, &mut connections);
            } else if let Some(place) = connections.get_mut(descriptor as usize)
                && let Some(connection) = place
                && connection.serve(&poll, answer, &mut read_into).is_err()
            {
                *place = None; // closing the descriptor also takes it out of epoll
            }
        }
    }
}

/// Takes every waiting connection. An error ends this turn only: epoll is level-triggered and will tell us again.
fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Option<Connection>>) {
    while let Ok((stream, _)) = listener.accept() {
        let descriptor = stream.as_raw_fd();
        let prepared = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| poll.watch(libc::EPOLL_CTL_ADD, descriptor, libc::EPOLLIN));
        if prepared.is_err() {
            continue;
        }
        let place = descriptor as usize;
        if connections.len() <= place {
            connections.resize_with(place + 1, || None);
        }
        connections[place] = Some(Connection::new(stream));
    }
}

struct Connection {
    stream: TcpStream,
    /// A head that has begun and not ended; empty in the usual case that one read brings it whole.
    head_begun: Vec<u8>,
    /// Bytes still to come of a body whose head is done.
    body_left: Option<u64>,
    /// Requests read whole and not yet answered, and how much of the first of their answers has gone.
    owed: usize,
    sent: usize,
    /// Waiting for room to write; nothing is read meanwhile, so that a client that never reads costs nothing.
    blocked: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, head_begun: Vec::new(), body_left: None, owed: 0, sent: 0, blocked: false }
    }

    /// One turn. An error is the end of this connection, whoever's fault it is.
    fn serve(&mut self, poll: &Poll, answer: &[u8], read_into: &mut [u8]) -> io::Result<()> {
        if !self.blocked {
            // One read a turn: a second one, to see it empty, would add a system call to each request.
            match self.stream.read(read_into) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.take(&read_into[..n])?,
                Err(e) if passing(&e) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        let blocked = !self.pay(answer)?;
        if blocked != self.blocked {
            let interest = if blocked { libc::EPOLLOUT } else { libc::EPOLLIN };
            poll.watch(libc::EPOLL_CTL_MOD, self.stream.as_raw_fd(), interest)?;
            self.blocked = blocked;
        }
        Ok(())
    }

    /// Counts the requests that end in `bytes` and keeps what has only begun.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            if let Some(left) = self.body_left {
                let here = left.min(bytes.len() as u64);
                bytes = &bytes[here as usize..];
                if here < left {
                    self.body_left = Some(left - here);
                    return Ok(());
                }
                self.body_left = None;
                self.owed += 1;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let before = self.head_begun.len();
            let head = if before == 0 {
                Head::find(bytes)?
            } else {
                self.head_begun.extend_from_slice(bytes);
                Head::find(&self.head_begun)?
            };
            let Some(head) = head else {
                if before == 0 {
                    self.head_begun.extend_from_slice(bytes);
                }
                let room = self.head_begun.len() <= HEAD_BYTES_MAX;
                return if room { Ok(()) } else { Err(ErrorKind::InvalidData.into()) };
            };
            self.head_begun.clear();
            bytes = &bytes[head.bytes - before..]; // it cannot end in what came before, or it had been found then
            self.body_left = Some(head.body_bytes);
        }
    }

    /// Writes what is owed; false if the socket is full first.
    fn pay(&mut self, answer: &[u8]) -> io::Result<bool> {
        while self.owed > 0 {
            match self.stream.write(&answer[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if passing(&e) => return Ok(false),
                Err(e) => return Err(e),
            }
            if self.sent == answer.len() {
                self.sent = 0;
                self.owed -= 1;
            }
        }
        Ok(true)
    }
}

/// Where a request head ends, and how long a body it promises.
struct Head {
    bytes: usize,
    body_bytes: u64,
}

impl Head {
    /// `None` while the empty line is not there yet. Chunked bodies are refused: the generator sends none.
    fn find(bytes: &[u8]) -> io::Result<Option<Head>> {
        let (mut start, mut body_bytes) = (0, 0);
        while let Some(length) = memchr::memchr(b'\n', &bytes[start..]) {
            let line = bytes[start..start + length].trim_ascii_end();
            start += length + 1;
            if line.is_empty() {
                return Ok(Some(Head { bytes: start, body_bytes }));
            }
            if let Some(value) = after(line, b"content-length:") {
                let number = std::str::from_utf8(value.trim_ascii()).ok().and_then(|text| text.parse().ok());
                body_bytes = number.ok_or(ErrorKind::InvalidData)?;
            } else if after(line, b"transfer-encoding:").is_some() {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        Ok(None)
    }
}

fn after<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

fn passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The bytes of every answer, made once. The body is a JSON string, but for sizes too small to hold one.
fn answer(body_bytes: usize) -> Vec<u8> {
    let body = match body_bytes {
        0 | 1 => "0".repeat(body_bytes),
        _ => format!("\"{}\"", "x".repeat(body_bytes - 2)),
    };
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {body_bytes}\r\n\r\n{body}").into_bytes()
}

/// `--port P --body-bytes N`, in either order; anything else is `None`.
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

/// The one place that speaks to the kernel without the standard library.
struct Poll(OwnedFd);

impl Poll {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointers go in; the descriptor that comes out is ours alone.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) })),
        }
    }

    fn watch(&self, operation: i32, descriptor: RawFd, interest: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: descriptor as u64 };
        // SAFETY: `event` outlives the call, and the kernel copies it.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, descriptor, &mut event) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// What became ready; none if a signal broke the wait.
    fn wait<'a>(&self, events: &'a mut [libc::epoll_event]) -> io::Result<&'a [libc::epoll_event]> {
        let room = events.len() as i32;
        // SAFETY: the kernel writes at most `room` events, which is how many there is room for.
        match unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, -1) } {
            -1 if io::Error::last_os_error().kind() == ErrorKind::Interrupted => Ok(&[]),
            -1 => Err(io::Error::last_os_error()),
            ready => Ok(&events[..ready as usize]),
        }
    }
}
