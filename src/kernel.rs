//! What the kernel knows of a socket and a thread, and no safe library asks. All unsafe code is here.
//! In: a socket, a number. Out: times and counts. What it does not tell is None: whoever asks goes on without.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// How long ago the last bytes came in, read or not; to the kernel's tick, 4 ms at 250 Hz. Of a connection that has just
/// been accepted: how long they waited for that too.
pub fn since_heard(socket: &impl AsRawFd) -> Option<Duration> {
    let info = tcp_info(socket)?;
    Some(Duration::from_millis(info.tcpi_last_data_recv.into()))
}

/// A listener whose newcomers are waited for, and given out as the system gives them.
pub fn watch(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a listener keeps the one descriptor that it owns until it is dropped.
    unsafe { AsyncFd::register(listener) }.map_err(io::Error::from)
}

/// Connections that wait to be accepted.
pub fn queued(listener: &impl AsRawFd) -> Option<usize> {
    Some(tcp_info(listener)?.tcpi_unacked as usize)
}

/// Whether bytes came in that were not read.
pub fn has_unread(socket: RawFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one integer, whatever the descriptor is.
    let asked = unsafe { libc::ioctl(socket, libc::FIONREAD, &raw mut bytes) };
    asked == 0 && bytes > 0
}

/// Throws away up to `most` bytes that came in, without copying them: how many there were, 0 at the end of the connection.
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
    // SAFETY: the kernel writes at most `length` bytes into what is that long; all of it are integers, for which zero is a value.
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

/// Nanoseconds since the machine started, on a clock that nobody sets and that goes on while the machine is suspended
/// (`CLOCK_BOOTTIME`; `CLOCK_MONOTONIC` stands still then, and what was known before would look fresh after). On x86-64 and
/// arm64 it is read without a system call, as the monotonic clock is.
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

/// Lets other threads go before this one by so many steps of niceness more than before. False if it may not.
pub fn step_back(steps: i32) -> bool {
    // SAFETY: only numbers go in and come out; 0 is the calling thread.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        steps == 0 || libc::setpriority(libc::PRIO_PROCESS, 0, now + steps) == 0
    }
}

/// Makes this thread one that works in batches and takes no core from another when it wakes (`SCHED_BATCH`). False if it may not.
pub fn work_in_batches() -> bool {
    // SAFETY: numbers go in, and one structure that the kernel only reads, for which zero is a value; 0 is the calling thread.
    unsafe {
        let none: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) == 0
    }
}

/// Processor time that this thread has had.
pub fn thread_time() -> Duration {
    processor_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time that all threads of this process have had.
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

/// Waits until there is something to read, or a newcomer to accept, for so long at most. Whether there is.
pub fn readable_within(socket: &impl AsRawFd, wait: Duration) -> bool {
    let mut watched = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let ms = wait.as_millis().min(60_000) as libc::c_int;
    // SAFETY: the kernel reads and writes the one structure that it is told of.
    unsafe { libc::poll(&raw mut watched, 1, ms) == 1 }
}

/// Forbids core dumps of this process, which would hold keys; also keeps other processes of the same user from reading its memory.
/// False where the kernel refuses.
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

/// Connections that found an accept queue full since the machine started, at any listener of this network.
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
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

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
