//! Who was not served asks again, or not: when, and how often. Pure: in: the policy, what came of it, dice; out: a wait.

use rand::RngExt;
use rand::rngs::SmallRng;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    None,
    Immediate,
    Fixed(Duration),
    /// From nothing to this long, all alike.
    Jitter(Duration),
    /// As the server says; who heard nothing waits by jitter, of a second at first, doubled each time.
    RetryAfter,
}

#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pub policy: Policy,
    /// Tries at most, the first among them.
    pub tries: u32,
}

/// Of those who heard nothing, under [`Policy::RetryAfter`].
const FIRST_WAIT: Duration = Duration::from_secs(1);

impl Policy {
    /// `none`, `immediate`, `fixed:1s`, `jitter:500ms`, `retry-after`.
    pub fn parse(text: &str) -> Option<Policy> {
        let (word, wait) = match text.split_once(':') {
            Some((word, wait)) => (word, Some(liangma::config::parse_duration(wait)?)),
            None => (text, None),
        };
        Some(match (word, wait) {
            ("none", None) => Policy::None,
            ("immediate", None) => Policy::Immediate,
            ("fixed", Some(wait)) => Policy::Fixed(wait),
            ("jitter", Some(wait)) => Policy::Jitter(wait),
            ("retry-after", None) => Policy::RetryAfter,
            _ => return None,
        })
    }
}

impl Retry {
    /// Nanoseconds until the next try, after `tries` that failed; None: it is given up. `told`: what the server said.
    pub fn wait(&self, tries: u32, told: Option<Duration>, rng: &mut SmallRng) -> Option<u64> {
        if tries >= self.tries {
            return None;
        }
        let jitter = |most: Duration, rng: &mut SmallRng| most.mul_f64(rng.random());
        let wait = match self.policy {
            Policy::None => return None,
            Policy::Immediate => Duration::ZERO,
            Policy::Fixed(wait) => wait,
            Policy::Jitter(most) => jitter(most, rng),
            Policy::RetryAfter => match told {
                Some(told) => told,
                None => jitter(FIRST_WAIT * (1 << (tries - 1).min(6)), rng),
            },
        };
        Some(wait.as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const MS: u64 = 1_000_000;

    fn waits(text: &str, told: Option<Duration>) -> Vec<Option<u64>> {
        let retry = Retry {
            policy: Policy::parse(text).unwrap(),
            tries: 4,
        };
        let mut rng = SmallRng::seed_from_u64(1);
        (1..=5)
            .map(|tries| retry.wait(tries, told, &mut rng))
            .collect()
    }

    #[test]
    fn asks_as_often_as_it_may_and_as_late_as_it_should() {
        assert_eq!(waits("none", None), [None; 5]);
        assert_eq!(
            waits("immediate", None),
            [Some(0), Some(0), Some(0), None, None]
        );
        assert_eq!(
            waits("fixed:1s", None)[..4],
            [Some(1000 * MS), Some(1000 * MS), Some(1000 * MS), None]
        );
    }

    #[test]
    fn jitter_is_spread_over_all_of_its_time() {
        let retry = Retry {
            policy: Policy::parse("jitter:500ms").unwrap(),
            tries: 4,
        };
        let mut rng = SmallRng::seed_from_u64(1);
        let waits: Vec<u64> = (0..10_000)
            .map(|_| retry.wait(1, None, &mut rng).unwrap())
            .collect();
        let mean = waits.iter().sum::<u64>() / 10_000;
        assert!((245 * MS..255 * MS).contains(&mean), "{mean}");
        assert!(waits.iter().all(|wait| *wait < 500 * MS));
        assert!(
            waits.iter().any(|wait| *wait < 5 * MS) && waits.iter().any(|wait| *wait > 495 * MS)
        );
    }

    #[test]
    fn obeys_what_it_was_told() {
        let told = Duration::from_millis(7300);
        assert_eq!(waits("retry-after", Some(told))[..3], [Some(7300 * MS); 3]);
        for (nth, wait) in waits("retry-after", None)[..3].iter().enumerate() {
            assert!(wait.unwrap() < (1000 * MS) << nth, "{nth}");
        }
    }

    #[test]
    fn knows_its_words() {
        for text in ["", "fixed", "fixed:", "jitter:x", "none:1s", "Immediate"] {
            assert_eq!(Policy::parse(text), None, "{text}");
        }
    }
}
