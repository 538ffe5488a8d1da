//! The kernel, bare: epoll with nanoseconds, sockets that do not wait, the clock, descriptors. All unsafe code is here.
//! Errors are the kernel's own. Never: HTTP, requests, figures.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Nanoseconds of the monotonic clock.
pub fn clock() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which is there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps end when they should, not up to 50 µs later; on `core` alone, if one is named; before or after others.
pub fn settle(core: Option<usize>, nice: i32) -> io::Result<()> {
    // SAFETY: numbers go in, and a set of cores that lives here.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0, 0, 0);
        if nice != 0 {
            checked(libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
        }
        // Short turns come soon: others do not finish theirs of some milliseconds first. Older kernels do not know it.
        let turns = Turns {
            size: size_of::<Turns>() as u32,
            nice,
            runtime: TURN,
            ..Turns::default()
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const turns, 0);
        if let Some(core) = core {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if core >= libc::CPU_SETSIZE as usize {
                return Err(ErrorKind::InvalidInput.into());
            }
            libc::CPU_SET(core, &mut set);
            checked(libc::sched_setaffinity(0, size_of_val(&set), &set))?;
        }
    }
    Ok(())
}

/// Nanoseconds of a turn on the core: the least that the kernel takes.
const TURN: u64 = 100_000;

/// `struct sched_attr`, as far as ordinary scheduling goes.
#[repr(C)]
#[derive(Default)]
struct Turns {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Raises the limit of descriptors to `wanted` or as far as it goes; how many there may be.
pub fn descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel reads and writes one rlimit, which is there.
    unsafe {
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        if limit.rlim_cur < wanted {
            let higher = libc::rlimit {
                rlim_cur: wanted,
                rlim_max: wanted.max(limit.rlim_max),
            };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &higher) == 0 {
                return Ok(wanted);
            }
            limit.rlim_cur = limit.rlim_max.min(wanted);
            checked(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
        }
    }
    Ok(limit.rlim_cur)
}

/// User and kernel time of this process, in nanoseconds.
pub fn own_cpu() -> u64 {
    // SAFETY: zeroes are a good rusage, and the kernel writes one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Clock ticks in a second, the unit of `/proc/PID/stat`.
pub fn ticks_per_second() -> u64 {
    // SAFETY: a number goes in, a number comes out.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// One end of a connection. Dropping it resets the connection: no farewell, no port that waits, unread bytes are lost.
pub struct Socket(OwnedFd);

impl Socket {
    /// Begins to connect, from `source`, a port of the kernel's choice.
    pub fn connect(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<Socket> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointer goes in, and the descriptor that comes out is ours alone.
        let socket = unsafe {
            let descriptor = checked(libc::socket(libc::AF_INET, kind, 0))?;
            Socket(OwnedFd::from_raw_fd(descriptor))
        };
        // The port is taken at the connect: so it is free for each target and source, not for each source.
        socket.set(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32)?;
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        socket.set(libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
        let (from, to) = (address(SocketAddrV4::new(source, 0)), address(target));
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        // SAFETY: both addresses are of the size said and outlive the calls.
        unsafe {
            let descriptor = socket.0.as_raw_fd();
            checked(libc::bind(descriptor, (&raw const from).cast(), size))?;
            match checked(libc::connect(descriptor, (&raw const to).cast(), size)) {
                Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
                _ => Ok(socket),
            }
        }
    }

    /// Writes leave at once.
    pub fn no_delay(&self) -> io::Result<()> {
        self.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1_i32)
    }

    /// Room for so few bytes that a long answer stands still.
    pub fn small_inbox(&self, bytes: i32) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes)
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let size = size_of::<T>() as libc::socklen_t;
        let value = (&raw const *value).cast();
        // SAFETY: `value` has the size said, and the kernel copies it.
        checked(unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, value, size) }).map(drop)
    }

    /// None: not now.
    pub fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let flags = libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads `bytes` only.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                flags,
            )
        };
        now_or_later(sent)
    }

    /// None: not now. 0: the other end said that it is done.
    pub fn receive(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: the kernel writes into `room` only.
        let read =
            unsafe { libc::recv(self.0.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
        now_or_later(read)
    }
}

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

fn now_or_later(returned: isize) -> io::Result<Option<usize>> {
    if returned >= 0 {
        return Ok(Some(returned as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
        // A socket that is still connecting says this where it has no peer yet.
        ErrorKind::NotConnected => Ok(None),
        _ => Err(error),
    }
}

/// What is ready, as edges: it is told once, when it begins.
#[derive(Clone, Copy)]
pub struct Ready {
    /// What the socket was watched under.
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
}

pub struct Poll {
    descriptor: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new(events_max: usize) -> io::Result<Poll> {
        // SAFETY: no pointer goes in, and the descriptor that comes out is ours alone.
        let descriptor =
            unsafe { OwnedFd::from_raw_fd(checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Poll {
            descriptor,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; events_max],
        })
    }

    /// Closing the socket ends it.
    pub fn watch(&self, socket: &Socket, token: u64) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: token,
        };
        let (poll, socket) = (self.descriptor.as_raw_fd(), socket.0.as_raw_fd());
        // SAFETY: `event` outlives the call, and the kernel copies it.
        checked(unsafe { libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, socket, &mut event) }).map(drop)
    }

    /// Waits for so many nanoseconds at most, 0 for not at all; how many are ready.
    pub fn wait(&mut self, nanoseconds: u64) -> io::Result<usize> {
        let (poll, room) = (
            self.descriptor.as_raw_fd() as RawFd,
            self.events.len() as i32,
        );
        let timeout = libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: the kernel writes `room` events at most, which is how many there is room for; no mask of signals goes in.
        let found = unsafe {
            let (events, mask) = (self.events.as_mut_ptr(), std::ptr::null::<libc::sigset_t>());
            // No wait needs no timer: the plain call is cheaper.
            checked(match nanoseconds {
                0 => libc::epoll_wait(poll, events, room, 0),
                _ => libc::syscall(
                    libc::SYS_epoll_pwait2,
                    poll,
                    events,
                    room,
                    &raw const timeout,
                    mask,
                    0_usize,
                ) as i32,
            })
        };
        match found {
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(0),
            found => found.map(|found| found as usize),
        }
    }

    pub fn ready(&self, nth: usize) -> Ready {
        let event = self.events[nth];
        let ends = libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP;
        let told = event.events as i32;
        Ready {
            token: event.u64,
            readable: told & (libc::EPOLLIN | ends) != 0,
            writable: told & (libc::EPOLLOUT | ends) != 0,
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
