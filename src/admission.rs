//! Admission: limits of connections, of concurrent queries to the store, and of rates. Pure functions of counts and times; no
//! sockets, stores or HTTP.

pub mod answers_reached;
pub mod budget;
pub mod busy;
pub mod bytes;
pub mod concurrency;
pub mod concurrency_limit;
pub mod connection_limit;
pub mod descriptors;
pub mod observations;
pub mod rate_limit;
pub mod retry_after;
pub mod unread;
pub mod window;

use busy::BusySettings;
use connection_limit::ConnectionLimit;
use observations::Observations;
use std::time::{Duration, Instant};

/// Limits of one door.
#[derive(Clone, Debug)]
pub struct AdmissionSettings {
    /// Largest number of open connections. Beyond the current limit, new ones wait in the kernel or get the answer `busy`.
    pub connections_max: usize,
    /// Queue delay above which the limit of connections falls.
    pub queue_delay_target: Duration,
    /// How many new connections get the answer `busy` at the limit. The others wait in the kernel.
    pub busy: BusySettings,
}

/// The connections of one door, and their limit.
pub struct Admission {
    limit: ConnectionLimit,
    most: usize,
    inside: usize,
    frozen: usize,
}

impl Admission {
    /// Returns the admission of a door without connections.
    pub fn new(settings: AdmissionSettings) -> Admission {
        let limit = ConnectionLimit::new(connection_limit::Settings {
            most: settings.connections_max,
            queue_delay_target: settings.queue_delay_target,
        });
        Admission {
            limit,
            most: settings.connections_max,
            inside: 0,
            frozen: 0,
        }
    }

    /// Counts a new connection, after [`Admission::has_room`] was true.
    pub fn enter(&mut self) {
        self.inside += 1;
    }

    /// Counts a connection that ended.
    pub fn leave(&mut self) {
        debug_assert!(self.inside > 0, "everyone who leaves was admitted");
        self.inside = self.inside.saturating_sub(1);
    }

    /// Counts a connection as frozen: it makes room, but stays open.
    pub fn freeze(&mut self) {
        self.inside = self.inside.saturating_sub(1);
        self.frozen += 1;
    }

    /// Counts a frozen connection as active again, whether there is room or not.
    pub fn thaw(&mut self) {
        debug_assert!(self.frozen > 0, "everyone who is thawed was frozen");
        self.frozen = self.frozen.saturating_sub(1);
        self.inside += 1;
    }

    /// Returns whether one more connection may be accepted now.
    pub fn has_room(&self) -> bool {
        self.inside < self.limit.get() && !self.all_places_taken()
    }

    /// Returns whether the largest number of connections is open, frozen ones included.
    pub fn all_places_taken(&self) -> bool {
        self.inside + self.frozen >= self.most
    }

    /// Sets the largest number of open connections. Surplus ones make room.
    pub fn set_most(&mut self, most: usize) {
        if most != self.most {
            self.limit.set_most(most);
            self.most = most;
        }
    }

    /// Returns the number of connections that are not frozen.
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// Returns the number of frozen connections.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    /// Returns the number of connections that are admitted now.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Adjusts the limit by what was observed since the last step.
    pub fn adjust(&mut self, seen: Observations, now: Instant) {
        self.limit.step(self.inside, self.frozen, seen, now);
    }
}

#[cfg(test)]
mod tests {
    use super::budget::Budget;
    use super::*;
    use proptest::prelude::*;

    fn door(connections_max: usize) -> Admission {
        Admission::new(AdmissionSettings {
            connections_max,
            queue_delay_target: Duration::from_millis(60),
            busy: BusySettings {
                per_second: 200,
                share: 0.05,
            },
        })
    }

    #[test]
    fn sheds_at_the_limit_and_admits_after_a_release() {
        let mut door = door(2);
        for _ in 0..2 {
            assert!(door.has_room());
            door.enter();
        }
        assert!(!door.has_room());
        door.leave();
        assert!(door.has_room());
    }

    #[test]
    fn a_door_that_is_widened_admits_more_and_one_that_is_narrowed_fewer() {
        let mut door = door(2);
        door.enter();
        door.enter();
        assert!(!door.has_room());
        door.set_most(3);
        assert!(door.has_room() && door.limit() == 3);
        door.set_most(1);
        assert!(!door.has_room() && door.all_places_taken() && door.limit() == 1);
        door.leave();
        door.leave();
        assert!(door.has_room());
    }

    proptest! {
        #[test]
        fn never_more_inside_than_the_cap(
            steps in proptest::collection::vec(0u8..4, 0..400),
            limit in 0usize..8,
        ) {
            let mut door = door(limit);
            let (mut inside, mut frozen) = (0, 0);
            for what in steps {
                match what {
                    0 if door.has_room() => {
                        door.enter();
                        inside += 1;
                    }
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
            }
        }

        #[test]
        fn as_many_events_are_taken_as_are_left(per_second in 0u32..1000, ms in 0u64..3000, before in 0usize..100) {
            let start = Instant::now();
            let mut budget = Budget::new(per_second, start);
            let now = start + Duration::from_millis(ms);
            for _ in 0..before {
                budget.take(now);
            }
            let left = budget.left(now);
            let taken = (0..).take_while(|_| budget.take(now)).count();
            prop_assert_eq!(left, taken);
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
