//! When the next one comes: a Poisson process whose rate follows a shape. Seeded, and lazy: nothing is kept.
//! In: a class's rate, a shape, dice. Out: intended instants, in nanoseconds from the start of the warm-up. Pure.

use crate::shape::Shape;
use rand::RngExt;
use rand::rngs::SmallRng;
use std::rc::Rc;

pub struct Arrivals {
    shape: Rc<Shape>,
    class: &'static str,
    /// A second, at factor 1.
    rate: f64,
    /// Nanoseconds between two, at the top of the shape, in the mean.
    gap: f64,
    warm: f64,
    now: f64,
    rng: SmallRng,
}

impl Arrivals {
    /// `warm`: seconds of warm-up, before the shape's second 0.
    pub fn new(
        shape: &Rc<Shape>,
        class: &'static str,
        rate: f64,
        warm: f64,
        rng: SmallRng,
    ) -> Self {
        Arrivals {
            gap: 1e9 / (rate * shape.top()),
            shape: shape.clone(),
            class,
            rate,
            warm,
            now: 0.0,
            rng,
        }
    }

    /// As many a second, at this second of the shape.
    fn rate_at(&self, t: f64) -> f64 {
        self.rate * self.shape.factor(self.class, t)
    }

    /// By thinning: comes as at the top, and of these only the part that the shape has at the time.
    pub fn next(&mut self) -> Option<u64> {
        if self.rate <= 0.0 {
            return None;
        }
        loop {
            // Exponential with mean 1.
            let gap = -(1.0 - self.rng.random::<f64>()).ln();
            self.now += gap * self.gap;
            let t = self.now / 1e9 - self.warm;
            if t >= self.shape.seconds {
                return None;
            }
            if self.rng.random::<f64>() * self.rate * self.shape.top() < self.rate_at(t) {
                return Some(self.now as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// How many came in each tenth of a second.
    fn tenths(shape: &str, rate: f64, seed: u64) -> Vec<f64> {
        let shape =
            Rc::new(Shape::parse(&format!("about = 'a test'\nseconds = 100\n{shape}")).unwrap());
        let mut arrivals = Arrivals::new(&shape, "show", rate, 0.0, SmallRng::seed_from_u64(seed));
        let mut counts = vec![0.0; 1000];
        let mut last = 0;
        while let Some(at) = arrivals.next() {
            assert!(at >= last, "time does not go back");
            last = at;
            counts[(at / 100_000_000) as usize] += 1.0;
        }
        counts
    }

    fn mean(of: &[f64]) -> f64 {
        of.iter().sum::<f64>() / of.len() as f64
    }

    fn variance(of: &[f64]) -> f64 {
        let mean = mean(of);
        of.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / (of.len() - 1) as f64
    }

    #[test]
    fn mean_and_variance_are_a_poissons() {
        let counts = tenths("points = [[0, 1]]", 2000.0, 42);
        // 200 in a tenth. Of a thousand tenths the mean strays by 0.45, the variance by 9.
        assert!((mean(&counts) - 200.0).abs() < 2.0, "{}", mean(&counts));
        assert!(
            (variance(&counts) - 200.0).abs() < 36.0,
            "{}",
            variance(&counts)
        );
    }

    #[test]
    fn follows_its_shape() {
        let counts = tenths("points = [[0, 0.5], [50, 10], [60, 0.5]]", 1000.0, 1);
        assert!((mean(&counts[..500]) - 50.0).abs() < 2.0);
        assert!((mean(&counts[500..600]) - 1000.0).abs() < 15.0);
        assert!((mean(&counts[600..]) - 50.0).abs() < 2.0);
        let rising = tenths("curve = 'lines'\npoints = [[0, 0], [100, 2]]", 1000.0, 1);
        assert!((mean(&rising[..100]) - 10.0).abs() < 2.0);
        assert!((mean(&rising[900..]) - 190.0).abs() < 6.0);
    }

    #[test]
    fn a_seed_is_a_process() {
        let of = |seed| tenths("points = [[0, 1]]", 100.0, seed);
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
    }

    #[test]
    fn nobody_comes_at_no_rate() {
        let shape = Rc::new(Shape::steady(1.0).unwrap());
        assert_eq!(
            Arrivals::new(&shape, "show", 0.0, 1.0, SmallRng::seed_from_u64(1)).next(),
            None
        );
    }
}
