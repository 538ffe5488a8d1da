//! Admission: lets a connection in while there is room, and a query to the store while few are there. Pure counts and
//! times. In: what happens and `now`. Out: what to do. Never: sockets, stores, HTTP.

use std::time::{Duration, Instant};

/// The bounds of one door.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// Connections open at once; past them, newcomers wait in the kernel or are told that we are busy.
    pub connections_max: usize,
    /// Newcomers a second that are told so at the cap. Each costs what four answers cost, so the others wait unaccepted.
    pub busy_answers_per_second: u32,
}

/// What to do with the next newcomer of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomer {
    /// There is room.
    Admit,
    /// No room, and budget left to say so.
    TellBusy,
    /// No room: leave it in the kernel's queue, and look again after this long or when somebody leaves.
    Leave(Duration),
}

/// Who is inside one door, and the budget for busy answers.
pub struct Door {
    settings: DoorSettings,
    inside: usize,
    budget: Budget,
}

impl Door {
    pub fn new(settings: DoorSettings, now: Instant) -> Door {
        let budget = Budget::new(settings.busy_answers_per_second, now);
        Door {
            settings,
            inside: 0,
            budget,
        }
    }

    /// Decides about the next newcomer; [`Newcomer::Admit`] counts it in.
    pub fn next(&mut self, now: Instant) -> Newcomer {
        if self.inside < self.settings.connections_max {
            self.inside += 1;
            return Newcomer::Admit;
        }
        match self.budget.take(now) {
            Ok(()) => Newcomer::TellBusy,
            Err(wait) => Newcomer::Leave(wait),
        }
    }

    /// One who was admitted is gone.
    pub fn leave(&mut self) {
        debug_assert!(self.inside > 0, "everyone who leaves was admitted");
        self.inside = self.inside.saturating_sub(1);
    }

    pub fn inside(&self) -> usize {
        self.inside
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

    /// Takes one, or tells how long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.every == Duration::MAX {
            return Err(SAVED_MAX);
        }
        let from = now.checked_sub(SAVED_MAX).unwrap_or(now);
        let next = self.spent_to.max(from) + self.every;
        if next > now {
            return Err(next - now);
        }
        self.spent_to = next;
        Ok(())
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
                busy_answers_per_second: 0,
            },
            now,
        );
        assert_eq!(door.next(now), Newcomer::Admit);
        assert_eq!(door.next(now), Newcomer::Admit);
        assert!(matches!(door.next(now), Newcomer::Leave(_)));
        door.leave();
        assert_eq!(door.next(now), Newcomer::Admit);
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
                DoorSettings { connections_max: cap, busy_answers_per_second: per_second },
                start,
            );
            let (mut inside, mut told) = (0, 0u64);
            for (ms, arrives) in steps {
                now += Duration::from_millis(ms);
                if arrives {
                    match door.next(now) {
                        Newcomer::Admit => inside += 1,
                        Newcomer::TellBusy => told += 1,
                        Newcomer::Leave(wait) => prop_assert!(wait > Duration::ZERO && wait <= SAVED_MAX),
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
                while budget.take(start + Duration::from_millis(ms)).is_ok() {
                    taken += 1;
                }
            }
            prop_assert!(taken >= 3 * per_second - 1 && taken <= 3 * per_second + 1);
        }
    }
}
