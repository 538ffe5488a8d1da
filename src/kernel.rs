//! Kernel interfaces that no safe library offers, for sockets, threads and processes. All unsafe code is here. None means that
//! the kernel does not tell; callers work without it.
#![allow(unsafe_code)]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Returns the time since the last bytes arrived, read or not, in the kernel's ticks (4 ms at 250 Hz). For a new connection
/// this includes its time in the accept queue.
pub fn since_heard(socket: &impl AsRawFd) -> Option<Duration> {
    let info = tcp_info(socket)?;
    Some(Duration::from_millis(info.tcpi_last_data_recv.into()))
}

/// Registers a listener, so that new connections can be awaited and taken as plain sockets.
///
/// # Errors
///
/// The descriptor cannot be registered.
pub fn watch(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a listener keeps the one descriptor that it owns until it is dropped.
    unsafe { AsyncFd::register(listener) }.map_err(io::Error::from)
}

/// Takes the next connection, as a socket that does not block. std would need one more system call.
///
/// # Errors
///
/// The kernel's error; `WouldBlock` if the queue is empty.
pub fn accept(listener: &impl AsRawFd) -> io::Result<TcpStream> {
    loop {
        // SAFETY: no address is asked for, and a descriptor that comes back belongs to nobody else.
        unsafe {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let nowhere = std::ptr::null_mut();
            let taken = libc::accept4(listener.as_raw_fd(), nowhere, std::ptr::null_mut(), flags);
            if taken >= 0 {
                return Ok(TcpStream::from_raw_fd(taken));
            }
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Returns the number of connections in the accept queue.
pub fn queued(listener: &impl AsRawFd) -> Option<usize> {
    Some(tcp_info(listener)?.tcpi_unacked as usize)
}

/// Returns whether a socket has unread bytes.
pub fn has_unread(socket: RawFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one integer, whatever the descriptor is.
    let asked = unsafe { libc::ioctl(socket, libc::FIONREAD, &raw mut bytes) };
    asked == 0 && bytes > 0
}

/// Discards up to `most` unread bytes without a copy. Returns their number; 0 at the end of the connection.
///
/// # Errors
///
/// The socket's error; `WouldBlock` if there are no bytes.
pub fn throw_away(socket: &impl AsRawFd, most: usize) -> io::Result<usize> {
    const PIECE: usize = 1 << 20;
    // SAFETY: with MSG_TRUNC the kernel counts what it takes off a TCP socket and writes nothing to the address.
    let thrown = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            std::ptr::null_mut(),
            most.min(PIECE),
            libc::MSG_TRUNC | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(thrown).map_err(|_| io::Error::last_os_error())
}

fn tcp_info(socket: &impl AsRawFd) -> Option<libc::tcp_info> {
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into a structure of that size; all fields are integers, for which zero
    // is valid.
    unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let got = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut length,
        );
        (got == 0).then_some(info)
    }
}

/// Returns nanoseconds since the machine started, on a clock that cannot be set and goes on during a suspend (`CLOCK_BOOTTIME`;
/// with `CLOCK_MONOTONIC`, old data would look fresh afterwards). Needs no system call on x86-64 and arm64.
pub fn since_boot_ns() -> u64 {
    // SAFETY: the kernel writes one timespec; zero is a value of it.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        if libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) != 0 {
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        }
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// Raises the niceness of this thread by `steps`. Returns false if that is not allowed.
pub fn step_back(steps: i32) -> bool {
    // SAFETY: only numbers go in and come out; 0 is the calling thread.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        steps == 0 || libc::setpriority(libc::PRIO_PROCESS, 0, now + steps) == 0
    }
}

/// Makes this a batch thread (`SCHED_BATCH`), which preempts no other when it wakes. Returns false if that is not allowed.
pub fn work_in_batches() -> bool {
    // SAFETY: numbers go in, and one structure that the kernel only reads, for which zero is a value; 0 is the calling thread.
    unsafe {
        let none: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) == 0
    }
}

/// Returns the processor time of this thread.
pub fn thread_time() -> Duration {
    processor_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the processor time of this process.
pub fn process_time() -> Duration {
    processor_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn processor_time(clock: libc::clockid_t) -> Duration {
    // SAFETY: the kernel writes one timespec; zero is a value of it.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(clock, &raw mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits at most `wait` until the socket has bytes or a new connection. Returns whether it has.
pub fn readable_within(socket: &impl AsRawFd, wait: Duration) -> bool {
    let ms = wait.as_millis().min(60_000) as libc::c_int;
    poll(socket.as_raw_fd(), libc::POLLIN, ms) != 0
}

/// What a socket has to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// No bytes.
    Nothing,
    /// Bytes of a client that may send more.
    Some,
    /// The end of the connection, perhaps after bytes.
    Last,
}

/// Returns what a socket has to read, without reading it.
pub fn unread(socket: RawFd) -> Unread {
    match poll(socket, libc::POLLIN | libc::POLLRDHUP, 0) {
        0 => Unread::Nothing,
        libc::POLLIN => Unread::Some,
        _ => Unread::Last,
    }
}

/// Returns whether a client has closed its side, perhaps after bytes that are unread.
pub fn has_ended(socket: RawFd) -> bool {
    unread(socket) == Unread::Last
}

/// Waits at most `ms` milliseconds for `events`. Returns those that came, or an error's.
fn poll(socket: RawFd, events: libc::c_short, ms: libc::c_int) -> libc::c_short {
    let mut watched = libc::pollfd {
        fd: socket,
        events,
        revents: 0,
    };
    // SAFETY: the kernel reads and writes the one structure that it is told of.
    unsafe { libc::poll(&raw mut watched, 1, ms) };
    watched.revents
}

/// Disables core dumps, which would hold keys, and access of other processes of the same user to this process's memory. Returns
/// false if the kernel refuses.
pub fn forbid_core_dumps() -> bool {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: numbers go in, and one structure that the kernel only reads.
    unsafe {
        let limited = libc::setrlimit(libc::RLIMIT_CORE, &raw const none) == 0;
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && limited
    }
}

/// Returns how many connections found a full accept queue since the machine started, at any listener of this network namespace.
pub fn overflows() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let nth = names
        .split(' ')
        .position(|name| name == "ListenOverflows")?;
    values.split(' ').nth(nth)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_connection_that_is_taken_does_not_block_and_delays_as_its_listener_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&listener)
            .set_tcp_nodelay(true)
            .unwrap();
        let blocks = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        assert!(blocks(accept(&listener).unwrap_err()));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(readable_within(&listener, Duration::from_secs(60)));
        let mut server = accept(&listener).unwrap();
        assert!(server.nodelay().unwrap());
        assert!(blocks(server.read(&mut [0]).unwrap_err()));
    }

    #[test]
    fn the_kernel_tells_who_waits_and_since_when() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(queued(&listener), Some(0));
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"x").unwrap();
        while queued(&listener) == Some(0) {
            std::thread::yield_now();
        }
        assert_eq!(queued(&listener), Some(1));
        let (server, _) = listener.accept().unwrap();
        std::thread::sleep(Duration::from_millis(40));
        let waited = since_heard(&server).unwrap();
        assert!(waited >= Duration::from_millis(30), "{waited:?}");
        assert!(overflows().is_some());
        assert!(!readable_within(&listener, Duration::ZERO));
        let _other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(readable_within(&listener, Duration::from_secs(60)));
        let (thread, process) = (thread_time(), process_time());
        while thread_time() == thread {
            std::hint::spin_loop();
        }
        assert!(thread > Duration::ZERO && process_time() > process);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(since_heard(&file), None);
    }
}
