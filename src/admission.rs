//! Admission: lets a connection in while there is room, a query to the store while few are there, and everybody in their
//! turn. Pure counts and times. In: what happens and `now`. Out: what to do. Never: sockets, stores, HTTP.

pub mod bytes;
pub mod concurrency;
pub mod concurrency_limit;
pub mod connection_limit;
pub mod descriptors;
pub mod rate_limit;
pub mod retry_after;
pub mod window;

use connection_limit::ConnectionLimit;
use std::time::{Duration, Instant};

/// The bounds of one door.
#[derive(Clone, Debug)]
pub struct AdmissionSettings {
    /// Connections open at once, at most; past the cap, newcomers wait in the kernel or are told that we are busy.
    pub connections_max: usize,
    /// How long requests may wait in the kernel before the cap falls.
    pub queue_delay_target: Duration,
    /// Newcomers a second that are told so at the cap, at most; see [`Admission::can_answer`]. The others wait unaccepted.
    pub busy_answers_per_second: u32,
}

/// To tell somebody that we are busy costs what four answers cost, and a twentieth of the door's work may go into that.
const ANSWERS_PER_BUSY_ANSWER: f64 = 80.0;

/// Told so whatever the door can do: a door that has just opened does not know it yet.
const BUSY_ANSWERS_LEAST: u32 = 20;

/// What to do with a newcomer who was taken out of the kernel's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionDecision {
    /// There is room.
    Admit,
    /// No room, and budget left to say so.
    TellBusy,
}

/// Who is inside one door, and the budget for busy answers.
pub struct Admission {
    limit: ConnectionLimit,
    most: usize,
    inside: usize,
    frozen: usize,
    budget: Budget,
    busy_answers_per_second: u32,
}

impl Admission {
    pub fn new(settings: AdmissionSettings, now: Instant) -> Admission {
        let busy_answers_per_second = settings.busy_answers_per_second;
        let budget = Budget::new(busy_answers_per_second.min(BUSY_ANSWERS_LEAST), now);
        let limit = ConnectionLimit::new(connection_limit::Settings {
            most: settings.connections_max,
            queue_delay_target: settings.queue_delay_target,
        });
        Admission {
            limit,
            most: settings.connections_max,
            inside: 0,
            frozen: 0,
            budget,
            busy_answers_per_second,
        }
    }

    /// How many answers a second the door has shown that it can give: busy answers are to be few beside them.
    pub fn can_answer(&mut self, per_second: f64) {
        let fitting = (per_second / ANSWERS_PER_BUSY_ANSWER) as u32;
        let most = self.busy_answers_per_second;
        self.budget
            .refill(fitting.max(BUSY_ANSWERS_LEAST).min(most));
    }

    /// Whether a newcomer should be taken out of the kernel's queue; if not, how long until there is budget to tell one
    /// that we are busy (or somebody leaves).
    pub fn may_accept(&self, now: Instant) -> Result<(), Duration> {
        if self.has_room() {
            return Ok(());
        }
        self.budget.wait(now).map_or(Ok(()), Err)
    }

    /// Decides about a newcomer; [`AdmissionDecision::Admit`] counts it in.
    pub fn admit(&mut self, now: Instant) -> AdmissionDecision {
        if self.has_room() {
            self.inside += 1;
            return AdmissionDecision::Admit;
        }
        self.budget.take(now);
        AdmissionDecision::TellBusy
    }

    /// One who was admitted is gone.
    pub fn leave(&mut self) {
        debug_assert!(self.inside > 0, "everyone who leaves was admitted");
        self.inside = self.inside.saturating_sub(1);
    }

    /// One who was admitted waits unread from now on and makes room, but for what is open at once.
    pub fn freeze(&mut self) {
        self.inside = self.inside.saturating_sub(1);
        self.frozen += 1;
    }

    /// One who was frozen is among the others again, whether there is room or not.
    pub fn thaw(&mut self) {
        debug_assert!(self.frozen > 0, "everyone who is thawed was frozen");
        self.frozen = self.frozen.saturating_sub(1);
        self.inside += 1;
    }

    pub fn has_room(&self) -> bool {
        self.inside < self.limit.get() && !self.is_full()
    }

    /// As many are open as ever may be.
    pub fn is_full(&self) -> bool {
        self.inside + self.frozen >= self.most
    }

    /// Connections but the frozen ones.
    pub fn inside(&self) -> usize {
        self.inside
    }

    pub fn frozen(&self) -> usize {
        self.frozen
    }

    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Steers the cap: nine in ten waited no longer than that in the kernel, so many requests wait there now, and so many are
    /// answered a second.
    pub fn adjust(&mut self, wait: Duration, pending: usize, answers: f64, now: Instant) {
        let inside = self.inside;
        let sample = connection_limit::LimitSample {
            wait,
            inside,
            pending,
            answers,
        };
        self.limit.step(sample, now);
    }
}

/// A number a second, with a second's worth saved up at most.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    every: Duration,
    /// The time up to which the budget is spent; as far as a second behind `now`.
    spent_to: Instant,
}

const SAVED_MAX: Duration = Duration::from_secs(1);

impl Budget {
    /// `per_second` 0 is a budget of nothing.
    pub fn new(per_second: u32, now: Instant) -> Budget {
        Budget {
            every: every(per_second),
            spent_to: now,
        }
    }

    /// From now on at this rate.
    pub fn refill(&mut self, per_second: u32) {
        self.every = every(per_second);
    }

    /// How long until there is one to take; None if there is one now.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        if self.every == Duration::MAX {
            return Some(SAVED_MAX);
        }
        let next = self.next(now);
        (next > now).then(|| next - now)
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let there = self.wait(now).is_none();
        if there {
            self.spent_to = self.next(now);
        }
        there
    }

    fn next(&self, now: Instant) -> Instant {
        let from = now.checked_sub(SAVED_MAX).unwrap_or(now);
        self.spent_to.max(from) + self.every
    }
}

fn every(per_second: u32) -> Duration {
    match per_second {
        0 => Duration::MAX,
        n => Duration::from_secs(1) / n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sheds_at_the_limit_and_admits_after_a_release() {
        let now = Instant::now();
        let mut door = Admission::new(
            AdmissionSettings {
                connections_max: 2,
                queue_delay_target: Duration::from_millis(60),
                busy_answers_per_second: 0,
            },
            now,
        );
        for _ in 0..2 {
            assert_eq!(door.may_accept(now), Ok(()));
            assert_eq!(door.admit(now), AdmissionDecision::Admit);
        }
        assert!(door.may_accept(now).is_err());
        door.leave();
        assert_eq!(door.may_accept(now), Ok(()));
        assert_eq!(door.admit(now), AdmissionDecision::Admit);
    }

    #[test]
    fn busy_answers_are_few_beside_the_answers_that_a_door_can_give() {
        let start = Instant::now();
        for (answers, told) in [(0.0, 20), (8_000.0, 100), (1e6, 200)] {
            let mut door = Admission::new(
                AdmissionSettings {
                    connections_max: 0,
                    queue_delay_target: Duration::from_millis(60),
                    busy_answers_per_second: 200,
                },
                start,
            );
            door.can_answer(answers);
            let mut count = 0;
            for ms in 0..1_000 {
                let now = start + Duration::from_millis(ms);
                while door.may_accept(now).is_ok() {
                    assert_eq!(door.admit(now), AdmissionDecision::TellBusy);
                    count += 1;
                }
            }
            assert!(count == told || count + 1 == told, "{count} of {told}");
        }
    }

    #[test]
    fn a_million_who_are_turned_away_change_nothing_for_those_inside() {
        let mut now = Instant::now();
        let mut door = Admission::new(
            AdmissionSettings {
                connections_max: 1,
                queue_delay_target: Duration::from_millis(60),
                busy_answers_per_second: 100_000,
            },
            now,
        );
        assert_eq!(door.admit(now), AdmissionDecision::Admit);
        door.can_answer(8e6);
        let mut told = 0;
        while told < 1_000_000 {
            match door.may_accept(now) {
                Ok(()) => {
                    assert_eq!(door.admit(now), AdmissionDecision::TellBusy);
                    told += 1;
                }
                Err(wait) => now += wait,
            }
            assert_eq!((door.inside(), door.frozen()), (1, 0));
        }
        door.leave();
        assert_eq!(door.admit(now), AdmissionDecision::Admit);
    }

    proptest! {
        #[test]
        fn never_more_inside_than_the_cap_nor_more_busy_answers_than_the_budget(
            steps in proptest::collection::vec((0u64..50, 0u8..4), 0..400),
            limit in 0usize..8,
            per_second in 0u32..100,
            answers in 0.0f64..100_000.0,
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut door = Admission::new(
                AdmissionSettings {
                    connections_max: limit,
                    queue_delay_target: Duration::from_millis(60),
                    busy_answers_per_second: per_second,
                },
                start,
            );
            door.can_answer(answers);
            let (mut inside, mut frozen, mut told) = (0, 0, 0u64);
            for (ms, what) in steps {
                now += Duration::from_millis(ms);
                match what {
                    0 => match door.may_accept(now).map(|()| door.admit(now)) {
                        Ok(AdmissionDecision::Admit) => inside += 1,
                        Ok(AdmissionDecision::TellBusy) => told += 1,
                        Err(wait) => prop_assert!(wait > Duration::ZERO && wait <= SAVED_MAX),
                    },
                    1 if inside > 0 => {
                        door.leave();
                        inside -= 1;
                    }
                    2 if inside > 0 => {
                        door.freeze();
                        (inside, frozen) = (inside - 1, frozen + 1);
                    }
                    3 if frozen > 0 => {
                        door.thaw();
                        (inside, frozen) = (inside + 1, frozen - 1);
                    }
                    _ => {}
                }
                prop_assert!(inside + frozen <= limit);
                prop_assert_eq!((door.inside(), door.frozen()), (inside, frozen));
                let budget = u64::from(per_second) * ((now - start).as_millis() as u64 + 1000) / 1000;
                prop_assert!(told <= budget + 1);
            }
        }

        #[test]
        fn a_budget_refills_at_its_rate(per_second in 1u32..1000) {
            let start = Instant::now();
            let mut budget = Budget::new(per_second, start);
            let mut taken = 0;
            for ms in 0..=3000 {
                while budget.take(start + Duration::from_millis(ms)) {
                    taken += 1;
                }
            }
            prop_assert!(taken >= 3 * per_second - 1 && taken <= 3 * per_second + 1);
        }
    }
}
