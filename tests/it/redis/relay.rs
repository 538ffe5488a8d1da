//! A connection that fails.

use crate::harness::until;
use crate::process::free_port;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// A TCP relay in front of a server that does as it is told; it passes at the start.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    door: Option<TcpListener>,
    silent: bool,
    /// How many more bytes of replies there are before the cut.
    left: Option<usize>,
    /// By how much replies are late on connections that are, and how many more of those there will be.
    lag: Duration,
    late: usize,
    /// Each with its client first and the server second.
    open: Vec<Weak<[TcpStream; 2]>>,
    ended: bool,
}

/// Pieces that were read and not yet passed.
const READ_MAX: usize = 64;

impl Relay {
    #[track_caller]
    pub fn start(to: SocketAddr) -> Relay {
        let relay = Relay {
            address: ([127, 0, 0, 1], free_port()).into(),
            shared: Arc::new(Shared {
                orders: Mutex::default(),
                changed: Condvar::new(),
            }),
        };
        relay.pass();
        let shared = relay.shared.clone();
        thread::spawn(move || {
            while shared.admit(to) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        relay
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// On so many connections from now on replies are late, and on later ones not: what was asked first may be answered last.
    pub fn straggle(&self, lag: Duration, connections: usize) {
        self.shared
            .order(|orders| (orders.lag, orders.late) = (lag, connections));
    }

    /// Passes everything at once, also what came in while it was silent.
    #[track_caller]
    pub fn pass(&self) {
        until("the relay's port is free", || {
            let mut orders = self.shared.orders.lock().unwrap();
            if orders.door.is_none() {
                let door = TcpListener::bind(self.address).ok();
                orders.door = door.filter(|door| door.set_nonblocking(true).is_ok());
            }
            orders.door.is_some()
        });
        self.shared.order(|orders| {
            (orders.silent, orders.left) = (false, None);
            (orders.lag, orders.late) = (Duration::ZERO, 0);
        });
    }

    /// Passes so many more bytes of replies, on whatever connections, then cuts all connections; new ones are passed.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.order(|orders| {
            orders.left = Some(bytes);
            if bytes == 0 {
                orders.cut();
            }
            orders.silent = false;
        });
    }

    /// Keeps its connections, takes new ones, and passes nothing.
    pub fn silence(&self) {
        self.shared.order(|orders| orders.silent = true);
    }

    /// Refuses new connections; those that it has go on.
    #[track_caller]
    pub fn refuse(&self) {
        self.shared.order(|orders| orders.door = None);
        // A process that is being started holds on to our sockets for a moment.
        until("the relay refuses", || {
            TcpStream::connect(self.address).is_err()
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.order(|orders| {
            orders.cut();
            orders.door = None;
            orders.ended = true;
        });
    }
}

impl Orders {
    fn cut(&mut self) {
        for pair in self.open.drain(..).filter_map(|pair| pair.upgrade()) {
            shut(&pair);
        }
        self.left = None;
    }
}

/// What one side sends, and when it came: read at once, however late it is passed.
fn read(pair: Arc<[TcpStream; 2]>, from: usize) -> Receiver<(Instant, Vec<u8>)> {
    let (read, all) = sync_channel(READ_MAX);
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = (&pair[from]).read(&mut buffer) {
            if read
                .send((Instant::now(), buffer[..length].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    all
}

fn shut(pair: &[TcpStream; 2]) {
    for stream in pair {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut self.orders.lock().unwrap());
        self.changed.notify_all();
    }

    /// Takes in who is at the door; false at the end.
    fn admit(self: &Arc<Shared>, to: SocketAddr) -> bool {
        let mut orders = self.orders.lock().unwrap();
        while let Some(Ok((client, _))) = orders.door.as_ref().map(TcpListener::accept) {
            // If the server is not there, the client's connection ends.
            let Ok(server) = TcpStream::connect(to) else {
                continue;
            };
            let pair = Arc::new([client, server]);
            orders.open.push(Arc::downgrade(&pair));
            let late = orders.late > 0;
            orders.late -= usize::from(late);
            for from in [0, 1] {
                let (shared, pair) = (self.clone(), pair.clone());
                thread::spawn(move || shared.pump(&pair, from, late));
            }
        }
        !orders.ended
    }

    fn pump(&self, pair: &Arc<[TcpStream; 2]>, from: usize, late: bool) {
        let _ = pair[from].set_nodelay(true);
        for (came, bytes) in read(pair.clone(), from) {
            let mut length = bytes.len();
            let mut orders = self.orders.lock().unwrap();
            if from == 1 && late {
                orders = self.linger(orders, came);
            }
            let silent = |orders: &mut Orders| orders.silent && !orders.ended;
            let mut orders = self.changed.wait_while(orders, silent).unwrap();
            let mut last = false;
            if from == 1
                && let Some(left) = &mut orders.left
            {
                length = length.min(*left);
                *left -= length;
                last = *left == 0;
            }
            drop(orders);
            if (&pair[1 - from]).write_all(&bytes[..length]).is_err() {
                break;
            }
            if last {
                self.order(Orders::cut);
            }
        }
        shut(pair);
    }

    /// Holds back what came then for as long as replies are late.
    fn linger<'s>(
        &'s self,
        mut orders: MutexGuard<'s, Orders>,
        came: Instant,
    ) -> MutexGuard<'s, Orders> {
        while let left = orders.lag.saturating_sub(came.elapsed())
            && !left.is_zero()
        {
            orders = self.changed.wait_timeout(orders, left).unwrap().0;
        }
        orders
    }
}
