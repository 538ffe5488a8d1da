//! One class of load, as it runs: when its next one comes, its places, who waits for one, whose time is up next.

use crate::arrivals::Arrivals;
use crate::asking::Kind;
use crate::retry::Retry;
use crate::tally::{Tally, Try};
use crate::zipf::Zipf;
use rand::rngs::SmallRng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddrV4;
use std::ops::Range;
use std::rc::Rc;

/// How a class asks. Times in nanoseconds.
#[derive(Clone)]
pub struct Manner {
    pub kind: Kind,
    pub target: SocketAddrV4,
    pub connecting: Connecting,
    /// Asks again as soon as it is answered, in place of arrivals.
    pub closed_loop: bool,
    pub connections: usize,
    /// Until when an answer is good.
    pub deadline: u64,
    /// Until when it is waited for.
    pub patience: u64,
    pub retry: Retry,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connecting {
    /// Anybody's, and kept open, as a balancer keeps them: whoever comes takes one that is open before opening another.
    Kept,
    /// One person's, and kept open, as a phone keeps it: whoever comes is the one who rested longest, connected or not.
    Own,
    /// One request's.
    New,
}

impl Connecting {
    /// `kept`, `own`, `new`.
    pub fn parse(text: &str) -> Option<Connecting> {
        Some(match text {
            "kept" => Connecting::Kept,
            "own" => Connecting::Own,
            "new" => Connecting::New,
            _ => return None,
        })
    }

    pub fn word(self) -> &'static str {
        match self {
            Connecting::Kept => "kept",
            Connecting::Own => "own",
            Connecting::New => "new",
        }
    }
}

/// Somebody's wish, and the try that it is at.
#[derive(Clone, Copy)]
pub struct Ask {
    pub resident: u32,
    pub one: Try,
}

pub struct Class {
    pub manner: Manner,
    pub metrics: Tally,
    /// Its places, among those of all.
    pub places: Range<usize>,
    /// Those that ask nothing: with an open connection that is anybody's (or that was, and has been closed meanwhile).
    pub free_open: VecDeque<u32>,
    /// And all others, the one that rested longest in front.
    pub free: VecDeque<u32>,
    pub waiting: VecDeque<Ask>,
    /// Instant, place, and the how manieth ask of that place, by rising instant.
    pub deadlines: VecDeque<(u64, u32, u32)>,
    pub stale: u64,
    pub closed_idle: u64,
    pub short: u64,
    arrivals: Arrivals,
    next: Option<u64>,
    retries: BinaryHeap<Reverse<(u64, u32, u32)>>,
    zipf: Rc<Zipf>,
    rng: SmallRng,
}

impl Class {
    pub fn new(
        manner: Manner,
        mut arrivals: Arrivals,
        places: Range<usize>,
        zipf: &Rc<Zipf>,
        rng: SmallRng,
        metrics: Tally,
    ) -> Class {
        Class {
            next: arrivals.next().filter(|_| !manner.closed_loop),
            arrivals,
            free: places.clone().map(|nth| nth as u32).collect(),
            free_open: VecDeque::new(),
            places,
            manner,
            metrics,
            waiting: VecDeque::new(),
            deadlines: VecDeque::new(),
            stale: 0,
            closed_idle: 0,
            short: 0,
            retries: BinaryHeap::new(),
            zipf: zipf.clone(),
            rng,
        }
    }

    /// When the next one is due, first try or later one.
    pub fn due(&self) -> Option<u64> {
        let retry = self.retries.peek().map(|Reverse(retry)| retry.0);
        match (self.next, retry) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The next one, if it is due.
    pub fn take(&mut self, now: u64) -> Option<Ask> {
        let due = self.due().filter(|due| *due <= now)?;
        if self.next == Some(due) {
            self.next = self.arrivals.next();
            return Some(self.first(due));
        }
        let Reverse((intended, resident, nth)) = self.retries.pop()?;
        Some(Ask {
            resident,
            one: Try {
                intended,
                nth,
                client: 0,
            },
        })
    }

    /// A first try.
    pub fn first(&mut self, intended: u64) -> Ask {
        Ask {
            resident: self.zipf.pick(&mut self.rng) as u32,
            one: Try {
                intended,
                nth: 1,
                client: 0,
            },
        }
    }

    /// Comes again later, or never; what is due after `end` counts as put off.
    pub fn again(&mut self, ask: Ask, told: Option<std::time::Duration>, now: u64, end: u64) {
        let nth = ask.one.nth;
        let Some(wait) = self.manner.retry.wait(nth, told, &mut self.rng) else {
            return;
        };
        match now + wait {
            at if at < end => self.retries.push(Reverse((at, ask.resident, nth + 1))),
            _ => self.metrics.put_off += 1,
        }
    }

    pub fn free_places(&self) -> usize {
        self.free_open.len() + self.free.len()
    }

    /// Whether nobody is under way and nobody will come.
    pub fn is_done(&self) -> bool {
        let idle = self.free_places() == self.places.len();
        idle && self.waiting.is_empty() && self.due().is_none()
    }
}
