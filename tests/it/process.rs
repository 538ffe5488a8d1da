//! Processes that end with this one, and ports for them.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// A port that is free, and so is the one of a cluster's bus, ten thousand higher. Both are below those that the kernel gives out, so that nobody takes them while their server is down.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() * 257;
    loop {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (next % 10_000) as u16;
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// Starts a process that the kernel kills when this one ends, however it ends.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    // The kernel goes by the thread that started it, so that one must last.
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (starter, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, back) in orders {
                let _ = back.send(command.spawn());
            }
        });
        starter
    });
    // A group of its own: the children that save its data are stopped and killed with it.
    command.process_group(0);
    let follow_us = || {
        // SAFETY: a bare system call.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec there is but that system call.
    unsafe { command.pre_exec(follow_us) };
    let (back, child) = channel();
    starter.send((command, back)).expect("the thread lasts");
    child.recv().expect("the thread lasts")
}

/// To a child that was not waited for, and to its own children.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: a bare system call; the child leads its group and was not waited for, so the id is still its own.
    unsafe { libc::kill(-(pid as i32), signal) };
}

/// The states of a process's threads, as ps has them.
pub fn threads(pid: u32) -> Vec<char> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let stats = tasks.flatten().flatten().filter_map(|task| {
        // A thread may end before it is looked at.
        fs::read_to_string(task.path().join("stat")).ok()
    });
    let state = |stat: String| stat.rsplit(") ").next()?.chars().next();
    stats.filter_map(state).collect()
}
