//! Computes how many requests a door should have in flight: those that it answers within half of the allowed wait. Balancers
//! hold back the rest. Pure functions of waits, answers and times.
//!
//! Requests in flight are answers a second times the wait of each (Little's law). The capacity of a door is known while
//! requests wait, and is at least the recent rate while they do not. So the number leads the demand by a factor of two, and
//! falls to what is answered when requests wait.

use super::answers_reached::AnswersReached;
use super::observations::{CROWD_LEAST, Observations};
use std::time::Duration;

/// Settings of a door's window.
#[derive(Clone, Debug)]
pub struct WindowSettings {
    /// Largest number of requests in flight.
    pub most: usize,
    /// Lowest window of the door while it is overloaded: then its capacity is known.
    pub overloaded_least: usize,
    /// Allowed queue delay; the window aims at half of it.
    pub queue_delay_target: Duration,
}

/// Lowest window of a door that was not overloaded within the last minute: without traffic its capacity is not known.
pub const IN_FLIGHT_LEAST: usize = 64;

/// Lowest window of an overloaded door that has short requests only. [`IN_FLIGHT_LEAST`] would take it 0.2 s if it answers 300 a second.
/// A door with bulk scans, of which each takes a place for up to minutes, keeps that.
pub const SHORT_REQUESTS_LEAST: usize = 16;

/// A crowd is more than balancers may send at once and once again.
const _: () = assert!(CROWD_LEAST == 2 * IN_FLIGHT_LEAST);

/// Consecutive steps with too long waits before the window falls: a short stall of the machine is no overload.
const LONG_STEPS: u32 = 3;

/// The same for steps in which more wait than are answered within the allowed wait: a crowd is known sooner by them than by the
/// waits of those whose turn has come.
const CROWD_STEPS: u32 = 2;

/// Factor by which the window leads the answers while requests do not wait, and the share of it in one step.
const AHEAD_MAX: f64 = 2.0;
const AHEAD_RISE: f64 = 1.05;

/// Time for which a door whose requests waited too long takes no more connections than it is known to serve.
const OVERLOADED_FOR: Duration = Duration::from_secs(60);

/// Share of the distance to its goal that the window moves in a step.
const WINDOW_UP: f64 = 0.25;
const WINDOW_DOWN: f64 = 0.5;

/// Weight of a door whose requests wait ten times too long or more.
const WEIGHT_LEAST: f64 = 10.0;

/// The requests that balancers should have in flight at a door, learnt from its waits and answers.
#[derive(Debug)]
pub struct Window {
    settings: WindowSettings,
    reached: AnswersReached,
    ahead: f64,
    /// Consecutive steps with too long waits.
    long: u32,
    /// Consecutive steps with too many that wait.
    crowds: u32,
    /// Time for which the door still counts as overloaded.
    overloaded_for: Duration,
    size: f64,
    weight: f64,
}

/// Advice for balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Requests in flight, all balancers together.
    pub in_flight_max: u64,
    /// Share of the door's usual traffic in percent, 10 to 100.
    pub weight: u64,
    /// Whether requests waited too long, or too many waited, within the last minute: what the door can take is known then, and it
    /// is no more than `in_flight_max`.
    pub was_overloaded: bool,
}

impl Window {
    /// Returns the window of a door without answers so far.
    pub fn new(settings: WindowSettings) -> Window {
        let mut window = Window {
            settings,
            reached: AnswersReached::default(),
            ahead: AHEAD_MAX,
            long: 0,
            crowds: 0,
            overloaded_for: Duration::ZERO,
            size: 0.0,
            weight: 100.0,
        };
        window.size = window.clamped(0.0);
        window
    }

    /// Sets the largest number of connections of the door.
    pub fn set_most(&mut self, most: usize) {
        self.settings.most = most;
        self.size = self.clamped(self.size);
    }

    /// Adds a step that lasted `took`, at whose end `queued` connections are in the accept queue. Returns the new advice.
    pub fn step(&mut self, seen: Observations, queued: usize, took: Duration) -> Advice {
        let target = self.settings.queue_delay_target / 2;
        let wait = seen.wait.unwrap_or_default();
        let pace = seen.pace().max(self.reached.get());
        let fitting = pace * self.settings.queue_delay_target.as_secs_f64();
        let waiting = queued + seen.unread.least;
        let is_crowd = waiting as f64 > fitting.max(CROWD_LEAST as f64);
        self.long = if wait > target { self.long + 1 } else { 0 };
        self.crowds = if is_crowd { self.crowds + 1 } else { 0 };
        let mut weight = 100.0;
        self.overloaded_for = self.overloaded_for.saturating_sub(took);
        if self.long >= LONG_STEPS {
            self.reached.set(seen.answers);
            weight = 100.0 * target.as_secs_f64() / wait.as_secs_f64();
        } else {
            self.reached.step(seen.answers, took);
        }
        if self.long >= LONG_STEPS || self.crowds >= CROWD_STEPS {
            self.overloaded_for = OVERLOADED_FOR;
            self.ahead = 1.0;
        } else if wait < target * 3 / 4 {
            self.ahead = (self.ahead * AHEAD_RISE).min(AHEAD_MAX);
        }
        let goal = self.clamped(self.reached.get() * target.as_secs_f64() * self.ahead);
        let part = if goal < self.size {
            WINDOW_DOWN
        } else {
            WINDOW_UP
        };
        self.size += part * (goal - self.size);
        self.weight += part * (weight.clamp(WEIGHT_LEAST, 100.0) - self.weight);
        self.advice()
    }

    /// Returns the current advice.
    pub fn advice(&self) -> Advice {
        Advice {
            in_flight_max: self.size.round() as u64,
            weight: self.weight.round() as u64,
            was_overloaded: !self.overloaded_for.is_zero(),
        }
    }

    fn clamped(&self, size: f64) -> f64 {
        let most = self.settings.most as f64;
        let least = match self.overloaded_for.is_zero() {
            true => IN_FLIGHT_LEAST,
            false => self.settings.overloaded_least,
        };
        size.clamp(most.min(least as f64), most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::unread::UnreadEstimate;
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_millis(60);
    const STEP: Duration = Duration::from_millis(50);

    fn window(most: usize) -> Window {
        Window::new(WindowSettings {
            most,
            overloaded_least: SHORT_REQUESTS_LEAST,
            queue_delay_target: MAX,
        })
    }

    fn seen(wait: Option<Duration>, answers: f64) -> Observations {
        Observations {
            wait,
            unread: UnreadEstimate::default(),
            answers,
            answers_last: answers,
        }
    }

    /// A server of some capacity before which a balancer holds what the window does not let in.
    fn simulate(window: &mut Window, capacity: f64, wanting: f64, steps: u32) -> Duration {
        const EMPTY_TRIP: f64 = 0.000_5;
        let mut wait = Duration::ZERO;
        for _ in 0..steps {
            let inside = (window.advice().in_flight_max as f64).min(wanting);
            let answers = capacity.min(inside / EMPTY_TRIP);
            wait = Duration::from_secs_f64(inside / answers.max(1.0) - EMPTY_TRIP.min(inside));
            window.step(seen(Some(wait), answers), 0, STEP);
        }
        wait
    }

    #[test]
    fn a_door_without_traffic_advises_the_least_at_full_weight() {
        let mut window = window(10_000);
        for _ in 0..10_000 {
            window.step(seen(None, 0.0), 0, STEP);
        }
        let least = Advice {
            in_flight_max: IN_FLIGHT_LEAST as u64,
            weight: 100,
            was_overloaded: false,
        };
        assert_eq!(window.advice(), least);
        assert_eq!(super::tests::window(7).advice().in_flight_max, 7);
    }

    #[test]
    fn a_door_that_slows_down_advises_what_it_still_answers_in_time() {
        let mut window = window(10_000);
        simulate(&mut window, 100_000.0, 1e9, 200);
        assert!(window.advice().in_flight_max >= 3_000, "{window:?}");
        // A twentieth of the machine is left.
        let wait = simulate(&mut window, 5_000.0, 1e9, 60);
        assert!(wait <= MAX + MAX / 4, "{wait:?}");
        // And all of it again.
        simulate(&mut window, 100_000.0, 1e9, 200);
        assert!(window.advice().in_flight_max >= 3_000, "{window:?}");
        assert_eq!(window.advice().weight, 100);
    }

    #[test]
    fn a_slow_door_advises_no_more_than_it_answers_in_time_and_for_bulk_scans_the_least() {
        let mut slow = window(10_000);
        let wait = simulate(&mut slow, 600.0, 1e9, 200);
        assert!(wait <= MAX + MAX / 4, "{wait:?}");
        assert!(slow.advice().in_flight_max < IN_FLIGHT_LEAST as u64);
        let mut with_bulk_scans = Window::new(WindowSettings {
            overloaded_least: IN_FLIGHT_LEAST,
            ..slow.settings.clone()
        });
        simulate(&mut with_bulk_scans, 600.0, 1e9, 200);
        assert_eq!(
            with_bulk_scans.advice().in_flight_max,
            IN_FLIGHT_LEAST as u64
        );
        // A minute later nothing is known of it any more.
        let idle = seen(None, 0.0);
        (0..40).for_each(|_| {
            slow.step(idle, 0, OVERLOADED_FOR);
        });
        assert_eq!(slow.advice().in_flight_max, IN_FLIGHT_LEAST as u64);
    }

    #[test]
    fn another_largest_number_holds_at_once() {
        let mut window = window(1_000);
        let advised = |window: &Window| window.advice().in_flight_max;
        window.set_most(4);
        assert_eq!(advised(&window), 4);
        window.set_most(1_000);
        assert_eq!(advised(&window), IN_FLIGHT_LEAST as u64);
    }

    #[test]
    fn a_machine_that_stops_for_a_moment_is_not_slow() {
        let mut window = window(10_000);
        simulate(&mut window, 20_000.0, 10.0, 100);
        let before = window.advice();
        for wait in [MAX * 5, MAX * 3, Duration::ZERO].repeat(10) {
            window.step(seen(Some(wait), 20_000.0), 0, STEP);
        }
        assert!(window.advice().in_flight_max >= before.in_flight_max * 9 / 10);
        assert_eq!(window.advice().weight, 100);
    }

    #[test]
    fn a_door_whose_requests_wait_gets_less_of_the_traffic() {
        let mut window = window(10_000);
        for _ in 0..40 {
            window.step(seen(Some(MAX), 1_000.0), 0, STEP);
        }
        assert_eq!(window.advice().weight, 50);
        for _ in 0..40 {
            window.step(seen(Some(MAX * 100), 1_000.0), 0, STEP);
        }
        assert_eq!(window.advice().weight, WEIGHT_LEAST as u64);
    }

    #[test]
    fn a_door_was_overloaded_for_a_minute_after_its_requests_waited_too_long() {
        let mut window = window(10_000);
        for _ in 0..LONG_STEPS - 1 {
            assert!(
                !window
                    .step(seen(Some(MAX), 1_000.0), 0, STEP)
                    .was_overloaded,
                "a stall"
            );
        }
        assert!(
            window
                .step(seen(Some(MAX), 1_000.0), 0, STEP)
                .was_overloaded
        );
        let steps = OVERLOADED_FOR.as_millis() / STEP.as_millis();
        for _ in 1..steps {
            assert!(window.step(seen(None, 1_000.0), 0, STEP).was_overloaded);
        }
        assert!(!window.step(seen(None, 1_000.0), 0, STEP).was_overloaded);
        // A door that sleeps takes long steps.
        (0..LONG_STEPS).for_each(|_| {
            window.step(seen(Some(MAX), 1_000.0), 0, STEP);
        });
        assert!(
            !window
                .step(seen(None, 0.0), 0, OVERLOADED_FOR)
                .was_overloaded
        );
    }

    #[test]
    fn a_crowd_is_known_by_who_waits_before_they_have_waited() {
        let mut window = window(10_000);
        let quick = seen(Some(MAX / 4), 10_000.0);
        assert!(!window.step(quick, 601, STEP).was_overloaded, "a stall");
        assert!(window.step(quick, 601, STEP).was_overloaded);
        assert_eq!(window.advice().weight, 100);
        // Those who wait at the door and those who are inside count alike.
        let unread = Observations {
            unread: UnreadEstimate::of(301, 301, 301),
            ..quick
        };
        let mut inside = super::tests::window(10_000);
        inside.step(unread, 300, STEP);
        assert!(inside.step(unread, 300, STEP).was_overloaded);
        // Those who are answered within the wait are no crowd, nor are a few before a door that has answered nothing, nor many
        // before one that has shown, or shows now, that it can answer them.
        let rising = Observations {
            answers_last: 10_000.0,
            ..seen(None, 100.0)
        };
        for (before, now, queued) in [
            (0.0, seen(None, 0.0), CROWD_LEAST),
            (0.0, seen(None, 10_000.0), 600),
            (0.0, rising, 600),
            (11_000.0, seen(None, 100.0), 600),
        ] {
            let mut other = super::tests::window(10_000);
            other.step(seen(None, before), 0, STEP);
            for _ in 0..10 {
                assert!(!other.step(now, queued, STEP).was_overloaded, "{now:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds_whatever_is_seen(
            most in 1usize..20_000,
            steps in proptest::collection::vec((0u64..2_000, 0usize..20_000, 0.0f64..1e7, 0.0f64..1e7, 0u64..5_000), 0..200),
        ) {
            let mut window = window(most);
            for (wait, queued, answers, answers_last, took) in steps {
                let seen = Observations {
                    wait: (wait % 3 > 0).then(|| Duration::from_millis(wait)),
                    unread: UnreadEstimate::of(queued / 2, queued, queued),
                    answers,
                    answers_last,
                };
                let advice = window.step(seen, queued, Duration::from_millis(took));
                prop_assert!(advice.in_flight_max <= most as u64);
                prop_assert!(advice.in_flight_max >= SHORT_REQUESTS_LEAST.min(most) as u64);
                prop_assert!((10..=100).contains(&advice.weight));
            }
        }

        #[test]
        fn any_capacity_is_used_whole_and_nobody_waits_too_long(capacity in 500.0f64..200_000.0) {
            let mut window = window(100_000);
            let wait = simulate(&mut window, capacity, 1e9, 300);
            prop_assert!(wait <= MAX + MAX / 4, "{wait:?}");
            prop_assert!(window.advice().in_flight_max as f64 >= capacity * 0.001);
        }
    }
}
