//! A circuit breaker: limits requests to a peer that failed too often, or gave one answer that cannot be true.
//! Such a peer gets only a trial request now and then.

use crate::clock::Moment;
use std::time::Duration;

/// Recent answers that count.
const LOOKED_AT: u32 = 20;

/// Failures among them that open the breaker.
const FAILURES: u32 = 10;

const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MOST: Duration = Duration::from_secs(30);

/// The breaker of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    /// The recent answers, one bit each, the newest lowest; 1 is a failure.
    late: u32,
    open: Option<OpenBreaker>,
}

#[derive(Clone, Copy, Debug)]
struct OpenBreaker {
    /// When the next trial may start.
    trial_at: Moment,
    /// The current pause before a trial.
    wait: Duration,
    is_trying: bool,
    since: Moment,
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The peer may be asked.
    Ask,
    /// The request is the one trial.
    Try,
    /// The peer is not asked.
    No,
}

impl Breaker {
    /// Returns whether a request may be sent now.
    pub fn admit(&mut self, now: Moment) -> Admission {
        match &mut self.open {
            None => Admission::Ask,
            Some(open) if !open.is_trying && now >= open.trial_at => {
                open.is_trying = true;
                Admission::Try
            }
            Some(_) => Admission::No,
        }
    }

    /// Records the result of an admitted request. `spread`, below 256, keeps nodes from trying together.
    pub fn note(&mut self, admitted: Admission, failed: bool, now: Moment, spread: u8) {
        let wait = |wait: Duration| wait + wait * u32::from(spread) / 1_024;
        match (&mut self.open, admitted, failed) {
            // A request from before the breaker opened adds nothing.
            (Some(_), Admission::Ask | Admission::No, _) => {}
            (Some(_), Admission::Try, false) => *self = Breaker::default(),
            (Some(open), Admission::Try, true) => {
                open.wait = (open.wait * 2).min(WAIT_MOST);
                open.trial_at = now.plus(wait(open.wait));
                open.is_trying = false;
            }
            (None, _, failed) => {
                self.late = (self.late << 1 | u32::from(failed)) & ((1 << LOOKED_AT) - 1);
                if self.late.count_ones() >= FAILURES {
                    self.trip(now, spread);
                }
            }
        }
    }

    /// Gives back a trial without a result, because its caller left.
    pub fn release(&mut self, admitted: Admission) {
        if let (Some(open), Admission::Try) = (&mut self.open, admitted) {
            open.is_trying = false;
        }
    }

    /// Opens the breaker at once: the peer's answers cannot be trusted.
    pub fn trip(&mut self, now: Moment, spread: u8) {
        let since = self.open.map_or(now, |open| open.since);
        let wait = self
            .open
            .map_or(WAIT_FIRST, |open| (open.wait * 2).min(WAIT_MOST));
        self.open = Some(OpenBreaker {
            trial_at: now.plus(wait + wait * u32::from(spread) / 1_024),
            wait,
            is_trying: false,
            since,
        });
    }

    /// Returns whether the breaker is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(1_000_000 + ms)
    }

    #[test]
    fn ten_of_twenty_open_it_and_one_trial_closes_it() {
        let mut breaker = Breaker::default();
        for nth in 0..19 {
            assert_eq!(breaker.admit(at(0)), Admission::Ask);
            breaker.note(Admission::Ask, nth % 2 == 0 && nth < 18, at(0), 0);
        }
        assert!(!breaker.is_open(), "nine of nineteen");
        breaker.note(Admission::Ask, true, at(0), 0);
        assert!(breaker.is_open());
        assert_eq!(breaker.admit(at(999)), Admission::No);
        assert_eq!(breaker.admit(at(1_000)), Admission::Try);
        assert_eq!(breaker.admit(at(1_000)), Admission::No, "one at a time");
        // Answers to questions from before do not close it.
        breaker.note(Admission::Ask, false, at(1_000), 0);
        assert!(breaker.is_open());
        breaker.note(Admission::Try, false, at(1_001), 0);
        assert_eq!(breaker.admit(at(1_002)), Admission::Ask);
    }

    #[test]
    fn trials_are_put_off_twice_as_long_up_to_half_a_minute() {
        let mut breaker = Breaker::default();
        breaker.trip(at(0), 0);
        let mut now = 0;
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(
                breaker.admit(at(now + wait * 1_000 - 1)),
                Admission::No,
                "{wait}"
            );
            now += wait * 1_000;
            assert_eq!(breaker.admit(at(now)), Admission::Try, "{wait}");
            breaker.note(Admission::Try, true, at(now), 0);
        }
        // A trial whose asker left is another's.
        now += 30_000;
        assert_eq!(breaker.admit(at(now)), Admission::Try);
        breaker.release(Admission::Try);
        assert_eq!(breaker.admit(at(now)), Admission::Try);
    }
}
