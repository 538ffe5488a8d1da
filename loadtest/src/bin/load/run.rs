//! The run: one thread, one loop: starts who is due, hears who is answered, gives up whose time is up.
//! In: classes, requests, rude ones. Out: their tallies, and how late we were ourselves. Times are nanoseconds from the start.

use crate::abuse::Abuse;
use crate::answer::Answer;
use crate::asking::{Asking, Kind};
use crate::class::{Ask, Class, Connecting};
use crate::slot::{Slot, Turn, of_token};
use crate::sys::{Poll, clock};
use crate::tally::{Outcome, add, durations};
use hdrhistogram::Histogram;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Events taken in one wait, and how many of them are handled before we look who is due.
const EVENTS_MAX: usize = 512;
const EVENTS_BETWEEN: usize = 16;
/// Starts in one go, so that answers are read between them also when we are late.
const STARTS_MAX: usize = 128;
/// Closed in one go, likewise.
const GIVEN_UP_MAX: usize = 64;
/// Longest wait, so that progress moves.
const WAIT_MAX: u64 = 50_000_000;
/// A wait shorter than this is none: going to sleep takes longer.
const WAIT_MIN: u64 = 3_000;

pub struct Run<'a> {
    pub classes: Vec<Class>,
    pub asking: &'a mut Asking,
    pub rude: Vec<Abuse>,
    /// Source addresses; a connection's place says which.
    pub sources: Vec<Ipv4Addr>,
    pub warm: u64,
    pub end: u64,
    /// How late tries were started, after the warm-up.
    pub lag: Histogram<u32>,
    pub poll: Poll,
    slots: Vec<Place>,
    room: Vec<u8>,
    started: u64,
}

#[derive(Default)]
struct Place {
    slot: Slot,
    class: usize,
    ask: Option<Ask>,
    /// How many asks it has had.
    asks: u32,
}

impl<'a> Run<'a> {
    pub fn new(
        classes: Vec<Class>,
        asking: &'a mut Asking,
        sources: Vec<Ipv4Addr>,
    ) -> io::Result<Self> {
        let many = classes.iter().map(|class| class.places.end).max();
        let mut slots: Vec<Place> = Vec::new();
        slots.resize_with(many.unwrap_or(0), Place::default);
        for (nth, class) in classes.iter().enumerate() {
            for place in class.places.clone() {
                slots[place].class = nth;
                slots[place].slot.is_long = class.manner.kind == Kind::Bulk;
            }
        }
        Ok(Run {
            classes,
            asking,
            rude: Vec::new(),
            sources,
            warm: 0,
            end: 0,
            lag: durations(),
            poll: Poll::new(EVENTS_MAX)?,
            slots,
            room: vec![0; 64 << 10],
            started: 0,
        })
    }

    pub fn now(&self) -> u64 {
        clock() - self.started
    }

    /// Opens the connections that are kept, so many at a time, for `most` at most. How many are open.
    pub fn fill(&mut self, batch: usize, most: Duration) -> io::Result<usize> {
        let kept = |run: &Self, nth: usize| {
            let manner = &run.classes[run.slots[nth].class].manner;
            (manner.connecting != Connecting::New).then_some(manner.target)
        };
        let until = clock() + most.as_nanos() as u64;
        let all: Vec<usize> = (0..self.slots.len()).collect();
        for places in all.chunks(batch) {
            let mut pending = 0;
            for &nth in places {
                if let Some(target) = kept(self, nth) {
                    let from = self.source(nth);
                    pending += usize::from(
                        self.slots[nth].slot.open(&self.poll, nth, from, target) == Turn::Later,
                    );
                }
            }
            let patience = (clock() + 200_000_000).min(until);
            while pending > 0 && clock() < patience {
                for event in 0..self.poll.wait(10_000_000)? {
                    let ready = self.poll.ready(event);
                    let (nth, life) = of_token(ready.token);
                    let turn = self.slots[nth].slot.turn(
                        life,
                        ready.readable,
                        ready.writable,
                        &mut self.room,
                    );
                    pending =
                        pending.saturating_sub(usize::from(ready.writable && turn == Turn::Later));
                }
            }
            let mut open = 0;
            for &nth in places {
                let place = &mut self.slots[nth];
                if place.slot.is_connected() {
                    open += 1;
                } else {
                    place.slot.close();
                }
            }
            // The rest would fare no better.
            if open == 0 || clock() >= until {
                break;
            }
        }
        for class in &mut self.classes {
            let slots = &self.slots;
            let is_open = |place: &u32| slots[*place as usize].slot.is_open();
            if class.manner.connecting == Connecting::Kept {
                let (open, shut) = class.free.iter().partition(|place| is_open(place));
                (class.free_open, class.free) = (open, shut);
            }
        }
        let open = self.slots.iter().filter(|place| place.slot.is_open());
        Ok(open.count())
    }

    /// From the warm-up to the last answer. `told` hears of it all along.
    pub fn go(&mut self, mut told: impl FnMut(&Self, u64)) -> io::Result<()> {
        self.started = clock();
        // Nobody is waited for longer than the most patient, and some for what is late in our own loop.
        let patience = self.classes.iter().map(|class| class.manner.patience).max();
        let last = self.end + patience.unwrap_or(0) + 500_000_000;
        loop {
            self.start_due();
            let now = self.now();
            self.give_up(now);
            self.pump(now);
            for rude in &mut self.rude {
                rude.tick(&self.poll, now);
            }
            told(self, now);
            let done = now >= self.end && self.classes.iter().all(Class::is_done);
            if done || now >= last {
                return Ok(());
            }
            let wait = self.next_due().saturating_sub(self.now()).min(WAIT_MAX);
            let ready = self.poll.wait(if wait < WAIT_MIN { 0 } else { wait })?;
            for nth in 0..ready {
                self.event(nth);
                if nth % EVENTS_BETWEEN == EVENTS_BETWEEN - 1 {
                    self.start_due();
                }
            }
        }
    }

    fn source(&self, nth: usize) -> Ipv4Addr {
        self.sources[nth % self.sources.len()]
    }

    fn next_due(&self) -> u64 {
        let classes = self.classes.iter().flat_map(|class| {
            let given_up = class.deadlines.front().map(|deadline| deadline.0);
            let waited = class
                .waiting
                .front()
                .map(|ask| ask.one.intended + class.manner.patience);
            [class.due(), given_up, waited]
        });
        let rude = self.rude.iter().map(|rude| Some(rude.due()));
        classes.chain(rude).flatten().min().unwrap_or(u64::MAX)
    }

    fn start_due(&mut self) {
        for _ in 0..STARTS_MAX {
            let now = self.now();
            let due = self
                .classes
                .iter()
                .map(|class| class.due().unwrap_or(u64::MAX));
            let Some((nth, _)) = due.enumerate().min_by_key(|(_, due)| *due) else {
                return;
            };
            let Some(ask) = self.classes[nth].take(now) else {
                return;
            };
            if ask.one.intended >= self.warm {
                add(&mut self.lag, now - ask.one.intended);
            }
            let class = &mut self.classes[nth];
            // In turn: who waits already goes first.
            let place = match class.waiting.is_empty() {
                true => self.free_place(nth),
                false => None,
            };
            match place {
                Some(place) => self.ask(place, ask, now),
                None => self.classes[nth].waiting.push_back(ask),
            }
        }
    }

    /// Gives free places to those who wait for one; in a closed loop, to the next.
    fn pump(&mut self, now: u64) {
        for nth in 0..self.classes.len() {
            // Each place once: one that fails at once is not asked again in this round.
            for _ in 0..self.classes[nth].free_places() {
                let class = &mut self.classes[nth];
                let ask = match class.waiting.pop_front() {
                    Some(ask) => ask,
                    None if class.manner.closed_loop && now < self.end => class.first(now),
                    None => break,
                };
                match self.free_place(nth) {
                    Some(place) => self.ask(place, ask, now),
                    None => self.classes[nth].waiting.push_front(ask),
                }
            }
        }
    }

    /// Takes a place that asks nothing.
    fn free_place(&mut self, class: usize) -> Option<usize> {
        let class = &mut self.classes[class];
        while let Some(place) = class.free_open.pop_front() {
            if self.slots[place as usize].slot.is_open() {
                return Some(place as usize);
            }
            class.free.push_back(place);
        }
        class.free.pop_front().map(|place| place as usize)
    }

    fn ask(&mut self, nth: usize, mut ask: Ask, now: u64) {
        let source = nth % self.sources.len();
        let from = self.sources[source];
        let place = &mut self.slots[nth];
        let class = &mut self.classes[place.class];
        ask.one.client = source as u32;
        place.ask = Some(ask);
        place.asks = place.asks.wrapping_add(1);
        let until = ask.one.intended + class.manner.patience;
        class.deadlines.push_back((until, nth as u32, place.asks));
        let kind = class.manner.kind;
        self.asking
            .write(kind, ask.resident as usize, &mut place.slot.request);
        let turn = place.slot.ask(&self.poll, nth, from, class.manner.target);
        self.after(nth, turn, now);
    }

    fn event(&mut self, event: usize) {
        let ready = self.poll.ready(event);
        if let Some(which) = Abuse::of_token(ready.token) {
            let now = self.now();
            self.rude[which].event(&self.poll, ready, &mut self.room, now);
            return;
        }
        let (nth, life) = of_token(ready.token);
        let turn = self.slots[nth]
            .slot
            .turn(life, ready.readable, ready.writable, &mut self.room);
        if turn != Turn::Later {
            self.after(nth, turn, self.now());
        }
    }

    fn after(&mut self, nth: usize, turn: Turn, now: u64) {
        let class = &mut self.classes[self.slots[nth].class];
        match turn {
            Turn::Later => {}
            Turn::ClosedIdle => class.closed_idle += 1,
            Turn::Answered(answer) => {
                let outcome = self.judge(nth, answer, now);
                self.finish(nth, outcome, answer.retry_after, now);
            }
            Turn::Refused => self.finish(nth, Outcome::Refused, None, now),
            Turn::Cut => self.finish(nth, Outcome::Cut, None, now),
            Turn::Short => {
                class.short += 1;
                self.finish(nth, Outcome::Starved, None, now);
            }
            Turn::Stale => {
                class.stale += 1;
                let target = class.manner.target;
                let from = self.source(nth);
                let again = self.slots[nth].slot.ask(&self.poll, nth, from, target);
                // A new connection is not stale: this ends.
                self.after(nth, again, now);
            }
        }
    }

    fn judge(&self, nth: usize, answer: Answer, now: u64) -> Outcome {
        let place = &self.slots[nth];
        let manner = &self.classes[place.class].manner;
        let took = place.ask.map_or(0, |ask| now - ask.one.intended);
        match answer.status {
            200..300 if took <= manner.deadline => Outcome::Good,
            200..300 => Outcome::Late,
            503 => Outcome::Busy,
            status => Outcome::Other(status),
        }
    }

    fn finish(&mut self, nth: usize, outcome: Outcome, told: Option<Duration>, now: u64) {
        let place = &mut self.slots[nth];
        let Some(ask) = place.ask.take() else {
            return;
        };
        let class = &mut self.classes[place.class];
        if class.manner.connecting == Connecting::New {
            place.slot.close();
        }
        if class.manner.connecting == Connecting::Kept && place.slot.is_open() {
            class.free_open.push_back(nth as u32);
        } else {
            class.free.push_back(nth as u32);
        }
        settle(class, ask, outcome, told, now, self.end);
    }

    fn give_up(&mut self, now: u64) {
        for nth in 0..self.classes.len() {
            for _ in 0..GIVEN_UP_MAX {
                let front = self.classes[nth].deadlines.front();
                let Some(&(_, place, asks)) = front.filter(|front| front.0 <= now) else {
                    break;
                };
                self.classes[nth].deadlines.pop_front();
                let one = &mut self.slots[place as usize];
                if one.ask.is_none() || one.asks != asks {
                    continue;
                }
                let outcome = if one.slot.has_asked() {
                    Outcome::Silent
                } else {
                    Outcome::SilentConnect
                };
                one.slot.close();
                self.finish(place as usize, outcome, None, now);
            }
            let class = &mut self.classes[nth];
            while let Some(&ask) = class.waiting.front()
                && ask.one.intended + class.manner.patience <= now
            {
                class.waiting.pop_front();
                settle(class, ask, Outcome::Starved, None, now, self.end);
            }
        }
    }
}

/// Counts a try that has ended, and lets whoever was not served come again.
fn settle(
    class: &mut Class,
    ask: Ask,
    outcome: Outcome,
    told: Option<Duration>,
    now: u64,
    end: u64,
) {
    class
        .metrics
        .add(ask.one, outcome, now.saturating_sub(ask.one.intended));
    match outcome {
        Outcome::Good | Outcome::Late | Outcome::Other(_) => {}
        _ => class.again(ask, told, now, end),
    }
}
