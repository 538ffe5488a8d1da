//! Estimates how many requests of one thread are unread, from samples of its connections, and decides when to take a sample.
//! Pure functions of counts.

/// Steps in which samples are taken after a thread came late to one: the next one shows whether requests still wait.
const COUNTED_AFTER_LATE: u32 = 3;

/// An estimated number of unread requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnreadEstimate {
    /// The most likely number.
    pub likely: usize,
    /// A number that is likely reached: a standard deviation less.
    pub least: usize,
}

impl UnreadEstimate {
    /// Returns the estimate for `all` connections of which `looked_at` were looked at, and `unread` of these have an unread
    /// request.
    pub fn of(unread: usize, looked_at: usize, all: usize) -> UnreadEstimate {
        if looked_at >= all {
            return UnreadEstimate {
                likely: unread,
                least: unread,
            };
        }
        let each = all as f64 / looked_at.max(1) as f64;
        let unread = unread as f64;
        UnreadEstimate {
            likely: (unread * each) as usize,
            least: ((unread - unread.sqrt()) * each) as usize,
        }
    }
}

/// The estimates of one thread, step by step.
#[derive(Debug, Default)]
pub struct UnreadWatch {
    /// Further steps that take a sample.
    steps: u32,
    /// What the last step found at least.
    least: usize,
}

impl UnreadWatch {
    /// Returns whether a step takes a sample: while requests wait, and from a late step on for a few.
    pub fn is_due(&mut self, is_late: bool, may_wait: bool) -> bool {
        if is_late {
            self.steps = COUNTED_AFTER_LATE;
        }
        let is_due = may_wait || self.steps > 0;
        self.steps = self.steps.saturating_sub(1);
        is_due
    }

    /// Adds the estimate of a step; nothing is unread in one without a sample. Returns it with the least number of this step and
    /// the one before: what a stop of the machine has piled up is read by then.
    pub fn step(&mut self, seen: UnreadEstimate) -> UnreadEstimate {
        let before = std::mem::replace(&mut self.least, seen.least);
        UnreadEstimate {
            least: seen.least.min(before),
            ..seen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_look_at_all_connections_is_exact_and_a_few_of_a_sample_say_little() {
        for (unread, looked_at, all, likely, least) in [
            (30, 40, 40, 30, 30),
            (0, 64, 6_400, 0, 0),
            (1, 64, 6_400, 100, 0),
            (4, 64, 6_400, 400, 200),
            (64, 64, 6_400, 6_400, 5_600),
            (0, 0, 100, 0, 0),
        ] {
            let estimate = UnreadEstimate::of(unread, looked_at, all);
            assert_eq!(estimate, UnreadEstimate { likely, least });
        }
    }

    #[test]
    fn what_is_read_within_a_step_was_no_crowd() {
        let exactly = |unread| UnreadEstimate::of(unread, 100, 100);
        let mut watch = UnreadWatch::default();
        let least = [90, 0, 80, 70, 10].map(|unread| watch.step(exactly(unread)).least);
        assert_eq!(least, [0, 0, 0, 70, 10]);
    }

    #[test]
    fn samples_are_taken_while_requests_wait_and_for_a_few_steps_from_a_late_one_on() {
        let mut watch = UnreadWatch::default();
        let steps = [
            (false, false, false),
            (false, true, true),
            (false, false, false),
            (true, false, true),
            (false, false, true),
            (false, false, true),
            (false, false, false),
        ];
        for (is_late, may_wait, is_due) in steps {
            assert_eq!(watch.is_due(is_late, may_wait), is_due);
        }
    }

    proptest! {
        #[test]
        fn the_least_is_no_more_than_is_likely_and_that_no_more_than_all(
            all in 0usize..100_000, looked_at in 0usize..200, unread in 0usize..200,
        ) {
            let looked_at = looked_at.min(all);
            let unread = unread.min(looked_at);
            let estimate = UnreadEstimate::of(unread, looked_at, all);
            prop_assert!(estimate.least <= estimate.likely && estimate.likely <= all);
        }
    }
}
