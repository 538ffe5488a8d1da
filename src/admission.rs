//! Admission: lets a connection in while there is room, a query to the store while few are there, and everybody in their
//! turn. Pure counts and times. In: what happens and `now`. Out: what to do. Never: sockets, stores, HTTP.

pub mod cap;
pub mod crowd;
pub mod limit;
pub mod turns;

use cap::Cap;
use std::time::{Duration, Instant};

/// The bounds of one door.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// Connections open at once, at most; past the cap, newcomers wait in the kernel or are told that we are busy.
    pub connections_max: usize,
    /// How long requests may wait in the kernel before the cap falls.
    pub wait_max: Duration,
    /// Newcomers a second that are told so at the cap. Each costs what four answers cost, so the others wait unaccepted.
    pub busy_answers_per_second: u32,
}

/// What to do with a newcomer who was taken out of the kernel's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomer {
    /// There is room.
    Admit,
    /// No room, and budget left to say so.
    TellBusy,
}

/// Who is inside one door, and the budget for busy answers.
pub struct Door {
    cap: Cap,
    inside: usize,
    budget: Budget,
}

impl Door {
    pub fn new(settings: DoorSettings, now: Instant) -> Door {
        let budget = Budget::new(settings.busy_answers_per_second, now);
        let cap = Cap::new(cap::Settings {
            most: settings.connections_max,
            wait_max: settings.wait_max,
        });
        Door {
            cap,
            inside: 0,
            budget,
        }
    }

    /// Whether a newcomer should be taken out of the kernel's queue; if not, how long until there is budget to tell one
    /// that we are busy (or somebody leaves).
    pub fn may_accept(&self, now: Instant) -> Result<(), Duration> {
        if self.inside < self.cap.get() {
            return Ok(());
        }
        self.budget.wait(now).map_or(Ok(()), Err)
    }

    /// Decides about a newcomer; [`Newcomer::Admit`] counts it in.
    pub fn seat(&mut self, now: Instant) -> Newcomer {
        if self.inside < self.cap.get() {
            self.inside += 1;
            return Newcomer::Admit;
        }
        self.budget.take(now);
        Newcomer::TellBusy
    }

    /// One who was admitted is gone.
    pub fn leave(&mut self) {
        debug_assert!(self.inside > 0, "everyone who leaves was admitted");
        self.inside = self.inside.saturating_sub(1);
    }

    pub fn inside(&self) -> usize {
        self.inside
    }

    pub fn cap(&self) -> usize {
        self.cap.get()
    }

    /// Steers the cap by how long nine in ten of late waited in the kernel.
    pub fn steer(&mut self, wait: Option<Duration>, now: Instant) {
        self.cap.step(wait, self.inside, now);
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
            every: match per_second {
                0 => Duration::MAX,
                n => Duration::from_secs(1) / n,
            },
            spent_to: now,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sheds_at_the_limit_and_admits_after_a_release() {
        let now = Instant::now();
        let mut door = Door::new(
            DoorSettings {
                connections_max: 2,
                wait_max: Duration::from_millis(60),
                busy_answers_per_second: 0,
            },
            now,
        );
        for _ in 0..2 {
            assert_eq!(door.may_accept(now), Ok(()));
            assert_eq!(door.seat(now), Newcomer::Admit);
        }
        assert!(door.may_accept(now).is_err());
        door.leave();
        assert_eq!(door.may_accept(now), Ok(()));
        assert_eq!(door.seat(now), Newcomer::Admit);
    }

    proptest! {
        #[test]
        fn never_more_inside_than_the_cap_nor_more_busy_answers_than_the_budget(
            steps in proptest::collection::vec((0u64..50, any::<bool>()), 0..400),
            cap in 0usize..8,
            per_second in 0u32..100,
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut door = Door::new(
                DoorSettings {
                    connections_max: cap,
                    wait_max: Duration::from_millis(60),
                    busy_answers_per_second: per_second,
                },
                start,
            );
            let (mut inside, mut told) = (0, 0u64);
            for (ms, arrives) in steps {
                now += Duration::from_millis(ms);
                if arrives {
                    match door.may_accept(now).map(|()| door.seat(now)) {
                        Ok(Newcomer::Admit) => inside += 1,
                        Ok(Newcomer::TellBusy) => told += 1,
                        Err(wait) => prop_assert!(wait > Duration::ZERO && wait <= SAVED_MAX),
                    }
                } else if inside > 0 {
                    door.leave();
                    inside -= 1;
                }
                prop_assert!(inside <= cap && door.inside() == inside);
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
