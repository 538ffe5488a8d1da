//! Decides when the offset from the monotonic clock to the time of day follows the system's clock.
//! Tells whether that clock, the store's and ours agree.
//!
//! A time service slews the system's clock, and anybody may step it. Small differences are followed. A step is counted and
//! logged, and becomes our time only if the store's clock agrees. So a node whose clock is set wrong keeps its time, and a node
//! that starts with a wrong clock takes the store's.

use super::time::{Moment, Time, own, set_own, system_offset};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Largest difference that counts as slewing and not as a step.
pub const FOLLOWED_MAX: Duration = Duration::from_millis(500);

/// Time after which a step forward is followed if no store can confirm it.
pub const STEP_HOLD: Duration = Duration::from_secs(60);

/// Largest difference from reading two clocks one after the other. Both run at one rate, so it does not grow without a step.
const READING: Duration = Duration::from_millis(2);

/// Steps of the system's clock so far.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Moment of the last leap of our time forward by more than [`LEAP`], in milliseconds; 0 if there was none.
static LEAPT: AtomicU64 = AtomicU64::new(0);

/// Size of a move of our time that makes recent data look old.
pub const LEAP: Duration = Duration::from_secs(3_600);

/// Returns the number of steps of the system's clock so far.
pub fn steps() -> u64 {
    STEPS.load(Relaxed)
}

/// Result of a look at the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockCheck {
    /// The system's clock and ours agree, or ours followed.
    Agreed,
    /// The system's clock stepped by this many milliseconds, and is not followed.
    Stepped(i64),
    /// The system's clock still differs by this many milliseconds.
    Apart(i64),
    /// Our time moved by this many milliseconds, confirmed by the store's clock or by the duration of the step.
    Moved(i64),
}

/// Decides about the offset. Pure.
#[derive(Clone, Debug, Default)]
pub struct OffsetJudge {
    /// The offset after a step of the system's clock, and since when.
    stepped: Option<(i64, Moment)>,
    /// Whether the store's clock, or an announcement in its place, was ever a witness.
    had_witness: bool,
}

impl OffsetJudge {
    /// Returns whether the store's clock, or an announcement in its place, was ever a witness.
    pub fn had_witness(&self) -> bool {
        self.had_witness
    }

    /// Judges one reading: `own` is our offset, `system` that of the system's clock, `store` a recent one of the store's clock,
    /// `bound` the allowed difference. Returns the new offset and the result.
    pub fn look(
        &mut self,
        own: i64,
        system: i64,
        store: Option<i64>,
        bound: Duration,
        now: Moment,
    ) -> (i64, ClockCheck) {
        let first = !self.had_witness;
        self.had_witness |= store.is_some();
        let near = |one: i64, other: i64| one.abs_diff(other) <= bound.as_millis() as u64;
        // At a start the store's clock decides: all nodes must agree with each other.
        if let Some(store) = store
            && first
            && !near(store, system)
        {
            self.stepped = Some((system, now));
            return (store, ClockCheck::Moved(store - own));
        }
        let apart = system - own;
        if apart.unsigned_abs() <= READING.as_millis() as u64 {
            self.stepped = None;
            return (own, ClockCheck::Agreed);
        }
        // Not even in small steps away from a store that agrees with us.
        let leads_away = store.is_some_and(|store| near(store, own) && !near(store, system));
        if apart.unsigned_abs() <= FOLLOWED_MAX.as_millis() as u64 && !leads_away {
            self.stepped = None;
            return (system, ClockCheck::Agreed);
        }
        let is_new = self
            .stepped
            .is_none_or(|(to, _)| to.abs_diff(system) > FOLLOWED_MAX.as_millis() as u64);
        if is_new {
            self.stepped = Some((system, now));
        }
        let lasted = self
            .stepped
            .map_or(Duration::ZERO, |(_, since)| now.since(since));
        let follow = match store {
            Some(store) => near(store, system) && !near(store, own),
            // A step back would make expired codes valid again.
            None => apart > 0 && lasted >= STEP_HOLD,
        };
        match (follow, is_new) {
            (true, _) => {
                self.stepped = None;
                (system, ClockCheck::Moved(apart))
            }
            (false, true) => (own, ClockCheck::Stepped(apart)),
            (false, false) => (own, ClockCheck::Apart(apart)),
        }
    }
}

/// Looks at the system's clock and moves our time if that is right. Called a few times a second by one task of the process.
pub fn look(judge: &mut OffsetJudge, store_offset: Option<i64>, bound: Duration) -> ClockCheck {
    let now = Moment::now();
    let (offset, seen) = judge.look(own(), system_offset(), store_offset, bound, now);
    set_own(offset);
    match seen {
        ClockCheck::Stepped(_) => {
            STEPS.fetch_add(1, Relaxed);
        }
        ClockCheck::Moved(by) if by > LEAP.as_millis() as i64 => note_leap(),
        _ => {}
    }
    seen
}

/// Records that our time leapt forward, or may have done so while the process was not running.
pub fn note_leap() {
    LEAPT.store(Moment::now().0.max(1), Relaxed);
}

/// Returns whether our time leapt forward by more than [`LEAP`] within `length`.
pub fn leapt_within(length: Duration) -> bool {
    let leapt = LEAPT.load(Relaxed);
    leapt != 0 && Moment::now().since(Moment(leapt)) < length
}

/// Difference of the system's clock to the store's at the node's last look.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// Milliseconds; 0 while the store's clock is unknown.
    apart: AtomicI64,
}

impl ClockWatch {
    /// Records a reading of the store's clock; None if it was not read.
    pub fn note(&self, store_offset: Option<i64>) {
        let apart = store_offset.map_or(0, |store| system_offset() - store);
        self.apart.store(apart, Relaxed);
    }

    /// Returns the difference in milliseconds; positive if the system's clock is ahead.
    pub fn apart_ms(&self) -> i64 {
        self.apart.load(Relaxed)
    }

    /// Returns whether the difference exceeds `bound`. Then the node cannot know which clock is wrong.
    pub fn is_apart(&self, bound: Duration) -> bool {
        u128::from(self.apart_ms().unsigned_abs()) > bound.as_millis()
    }
}

/// Returns the offset of a clock that showed `time` between two moments.
pub fn offset_of(time: Time, asked: Moment, answered: Moment) -> i64 {
    let middle = asked.0 / 2 + answered.0 / 2;
    time.0 as i64 - middle as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUND: Duration = Duration::from_secs(5);
    const HOUR: i64 = 3_600_000;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000)
    }

    #[test]
    fn what_a_time_service_slews_is_followed() {
        let mut judge = OffsetJudge::default();
        assert_eq!(
            judge.look(1_000, 1_300, None, BOUND, at(1)),
            (1_300, ClockCheck::Agreed)
        );
        assert_eq!(
            judge.look(1_300, 900, Some(0), BOUND, at(2)),
            (900, ClockCheck::Agreed)
        );
    }

    #[test]
    fn a_step_that_the_store_contradicts_is_never_followed() {
        for step in [-HOUR, HOUR, -300_000, 300_000, 24 * HOUR, 40 * 24 * HOUR] {
            let mut judge = OffsetJudge::default();
            judge.look(0, 0, Some(0), BOUND, at(0));
            assert_eq!(
                judge.look(0, step, Some(0), BOUND, at(1)),
                (0, ClockCheck::Stepped(step))
            );
            for later in 2..1_000 {
                assert_eq!(
                    judge.look(0, step, Some(0), BOUND, at(later)),
                    (0, ClockCheck::Apart(step))
                );
            }
            assert_eq!(
                judge.look(0, 0, Some(0), BOUND, at(1_000)),
                (0, ClockCheck::Agreed)
            );
        }
    }

    #[test]
    fn a_store_whose_clock_steps_moves_nobody() {
        let mut judge = OffsetJudge::default();
        judge.look(0, 0, Some(0), BOUND, at(0));
        for store in [-HOUR, HOUR] {
            assert_eq!(
                judge.look(0, 10, Some(store), BOUND, at(1)),
                (10, ClockCheck::Agreed)
            );
        }
    }

    #[test]
    fn a_step_that_the_store_confirms_is_followed_at_once() {
        let mut judge = OffsetJudge::default();
        judge.look(0, 0, Some(0), BOUND, at(0));
        let moved = judge.look(0, HOUR, Some(HOUR + 100), BOUND, at(1));
        assert_eq!(moved, (HOUR, ClockCheck::Moved(HOUR)));
    }

    #[test]
    fn a_start_with_a_wrong_clock_takes_the_store_s() {
        let mut judge = OffsetJudge::default();
        // Nothing is known of the store yet.
        assert_eq!(
            judge.look(HOUR, HOUR, None, BOUND, at(0)),
            (HOUR, ClockCheck::Agreed)
        );
        let moved = judge.look(HOUR, HOUR, Some(0), BOUND, at(1));
        assert_eq!(moved, (0, ClockCheck::Moved(-HOUR)));
        assert_eq!(judge.look(0, HOUR, Some(0), BOUND, at(2)).0, 0);
    }

    #[test]
    fn alone_a_step_forward_is_followed_once_it_has_lasted_and_a_step_back_never() {
        let mut judge = OffsetJudge::default();
        assert_eq!(
            judge.look(0, HOUR, None, BOUND, at(0)),
            (0, ClockCheck::Stepped(HOUR))
        );
        assert_eq!(
            judge.look(0, HOUR, None, BOUND, at(59)),
            (0, ClockCheck::Apart(HOUR))
        );
        assert_eq!(
            judge.look(0, HOUR, None, BOUND, at(60)),
            (HOUR, ClockCheck::Moved(HOUR))
        );
        let mut judge = OffsetJudge::default();
        judge.look(0, -HOUR, None, BOUND, at(0));
        assert_eq!(
            judge.look(0, -HOUR, None, BOUND, at(100_000)),
            (0, ClockCheck::Apart(-HOUR))
        );
    }

    #[test]
    fn a_leap_that_is_put_right_leaves_nothing_behind() {
        let mut judge = OffsetJudge::default();
        judge.look(0, HOUR, None, BOUND, at(0));
        assert_eq!(
            judge.look(0, 0, None, BOUND, at(1)),
            (0, ClockCheck::Agreed)
        );
        // The next leap is a new one.
        assert_eq!(
            judge.look(0, HOUR, None, BOUND, at(70)),
            (0, ClockCheck::Stepped(HOUR))
        );
    }

    proptest! {
        #[test]
        fn our_time_is_never_far_from_what_two_of_three_clocks_say(
            steps in prop::collection::vec((-10_000_000i64..10_000_000, prop::bool::weighted(0.7)), 1..60),
        ) {
            // The store is right all the time, the system's clock some of the time.
            let mut judge = OffsetJudge::default();
            let mut own = 0;
            judge.look(own, 0, Some(0), BOUND, at(0));
            for (nth, (step, is_right)) in steps.into_iter().enumerate() {
                let system = if is_right { 0 } else { step };
                own = judge.look(own, system, Some(0), BOUND, at(nth as u64 + 1)).0;
                prop_assert!(own.unsigned_abs() <= BOUND.as_millis() as u64 + 500, "{own}");
            }
        }
    }

    #[test]
    fn time_does_not_go_back() {
        let mut last = Time(0);
        for _ in 0..10_000 {
            let now = Time::now();
            assert!(now >= last);
            last = now;
        }
    }
}
