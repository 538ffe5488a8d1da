//! Chance, by a seed: the same seed gives the same arrivals, residents and waits. Pure.

/// xoshiro256++, seeded by splitmix64. Not for secrets.
pub struct Rng([u64; 4]);

impl Rng {
    /// `stream` tells the dice of one seed apart.
    pub fn new(seed: u64, stream: u64) -> Rng {
        let mut state = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Rng(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub fn gap(&mut self) -> f64 {
        -(1.0 - self.fraction()).ln()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Picks one of N, the nth as often as n to the power of -s: a few ask often, most seldom. Walker's alias table.
pub struct Zipf {
    /// Of each column: the part of it that is its own, and whose the rest is.
    columns: Vec<(f64, u32)>,
}

impl Zipf {
    /// Exponent 0: all alike. Not for none.
    pub fn new(many: usize, exponent: f64) -> Zipf {
        let mut columns: Vec<(f64, u32)> = (0..many)
            .map(|n| (((n + 1) as f64).powf(-exponent), n as u32))
            .collect();
        let mean = columns.iter().map(|c| c.0).sum::<f64>() / many as f64;
        for column in &mut columns {
            column.0 /= mean;
        }
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..many).partition(|n| columns[*n].0 < 1.0);
        while let (Some(of), Some(from)) = (poor.pop(), rich.pop()) {
            columns[of].1 = from as u32;
            columns[from].0 -= 1.0 - columns[of].0;
            let back = if columns[from].0 < 1.0 {
                &mut poor
            } else {
                &mut rich
            };
            back.push(from);
        }
        // What is left over is 1, but for rounding.
        for left in poor.into_iter().chain(rich) {
            columns[left].0 = 1.0;
        }
        Zipf { columns }
    }

    pub fn pick(&self, rng: &mut Rng) -> usize {
        let column = rng.below(self.columns.len());
        let (own, other) = self.columns[column];
        if rng.fraction() < own {
            column
        } else {
            other as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_are_a_sequence() {
        let of = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.next(), rng.next(), rng.next()]
        };
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(2, 0));
        assert_ne!(of(1, 0), of(1, 1));
    }

    #[test]
    fn gaps_are_exponential() {
        let mut rng = Rng::new(7, 0);
        let gaps: Vec<f64> = (0..200_000).map(|_| rng.gap()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn zipf_picks_by_its_law() {
        for exponent in [0.0, 0.7, 1.0, 1.3] {
            let (zipf, mut rng) = (Zipf::new(100, exponent), Rng::new(3, 0));
            let mut counts = [0.0; 100];
            for _ in 0..400_000 {
                counts[zipf.pick(&mut rng)] += 1.0;
            }
            let all: f64 = (1..=100).map(|n| f64::from(n).powf(-exponent)).sum();
            for n in [1, 2, 10, 100] {
                let wanted = 400_000.0 * f64::from(n).powf(-exponent) / all;
                let got = counts[n as usize - 1];
                assert!(
                    (got - wanted).abs() < 6.0 * wanted.sqrt(),
                    "{exponent} {n}: {got} of {wanted}"
                );
            }
        }
    }

    #[test]
    fn zipf_of_one_is_that_one() {
        assert_eq!(Zipf::new(1, 1.0).pick(&mut Rng::new(1, 1)), 0);
    }
}
