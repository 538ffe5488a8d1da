//! Many durations in little room: buckets of one part in 64, and their percentiles. Pure.

/// Buckets of each doubling.
const FINE: u32 = 6;
/// Up to 2^38 ns, 275 s.
const DOUBLINGS: u32 = 32;

#[derive(Clone, Default)]
pub struct Histogram {
    /// Grown as needed: most never see a second.
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn add(&mut self, nanoseconds: u64) {
        let place = place(nanoseconds);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The time within which this part of them were, 0 to 1; up to 0.8 % off. None of none.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let rank = ((part * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(middle(found).min(self.max))
    }
}

fn place(nanoseconds: u64) -> usize {
    let doubling = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(FINE + 1);
    let fine = (nanoseconds >> doubling) as usize;
    let place = ((doubling as usize) << FINE) + fine;
    place.min((DOUBLINGS as usize + 1) << FINE)
}

fn middle(place: usize) -> u64 {
    let doubling = (place >> FINE).saturating_sub(1);
    let fine = (place - (doubling << FINE)) as u64;
    (fine << doubling) + ((1_u64 << doubling) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_hundredth() {
        let mut histogram = Histogram::default();
        for us in 1..=100_000_u64 {
            histogram.add(us * 1000);
        }
        for part in [0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (found, wanted) = (histogram.quantile(part).unwrap() as f64, part * 1e8);
            assert!((found / wanted - 1.0).abs() < 0.01, "{part}: {found}");
        }
        assert_eq!((histogram.total(), histogram.max()), (100_000, 100_000_000));
    }

    #[test]
    fn small_ones_are_exact_and_huge_ones_kept() {
        for nanoseconds in [0, 1, 63, 64, 100, 127] {
            let mut histogram = Histogram::default();
            histogram.add(nanoseconds);
            assert_eq!(histogram.quantile(0.5), Some(nanoseconds));
        }
        let mut histogram = Histogram::default();
        histogram.add(u64::MAX);
        assert!(histogram.quantile(0.5).unwrap() > 200_000_000_000);
    }

    #[test]
    fn none_have_no_percentile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
