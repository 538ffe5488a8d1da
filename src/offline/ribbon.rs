//! Ribbon filters: linear systems over bits whose solution answers membership queries without being decoded.
//!
//! All arithmetic of an equation uses 32 bits, so that browsers and microcontrollers compute the same numbers.

use super::ids::ListId;

/// Number of bits that one equation spans.
pub const WIDTH: u32 = 128;

/// Largest size of a column in bits. A file that claims more is refused before memory is allocated.
pub const COLUMN_BITS_MAX: u32 = 1 << 26;

/// The finaliser of MurmurHash3 for 32 bits.
fn fmix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

fn word(id: ListId, seed: u32, nth: u32) -> u32 {
    let (high, low) = ((id.0 >> 32) as u32, id.0 as u32);
    let salt = seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9));
    fmix(fmix(high ^ salt) ^ low)
}

/// One row of the system: the coefficients of the 128 unknowns from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equation {
    /// Index of the first unknown of the equation.
    pub start: u32,
    /// The coefficients. Bit 0 belongs to `start` and is always set.
    pub coefficients: u128,
}

impl Equation {
    /// Returns the equation of an id. `span` is the number of possible values of `start`, above 0.
    pub fn of(id: ListId, seed: u32, span: u32) -> Equation {
        let start = ((u64::from(word(id, seed, 4)) * u64::from(span)) >> 32) as u32;
        let coefficients = (0..4).fold(0, |bits, nth| {
            bits | u128::from(word(id, seed, nth)) << (32 * nth)
        });
        Equation {
            start,
            coefficients: coefficients | 1,
        }
    }

    /// Returns the parity of the coefficients and the column's bits from `start` on.
    pub fn dot(&self, column: &[u8]) -> bool {
        (window(column, self.start) & self.coefficients).count_ones() % 2 == 1
    }
}

/// Returns 128 bits of a column from bit `start` on. Bits past its end are 0.
fn window(column: &[u8], start: u32) -> u128 {
    let (byte, shift) = ((start / 8) as usize, start % 8);
    let mut bytes = [0; 17];
    let rest = column.get(byte..).unwrap_or_default();
    let length = rest.len().min(17);
    bytes[..length].copy_from_slice(&rest[..length]);
    let low = u128::from_le_bytes(bytes[..16].try_into().expect("16 of 17"));
    match shift {
        0 => low,
        _ => low >> shift | u128::from(bytes[16]) << (128 - shift),
    }
}

/// Returns the length in bytes of a column whose equations start at `span` places.
pub fn column_bytes(span: u32) -> usize {
    (span as usize + WIDTH as usize).div_ceil(8)
}

/// A system under elimination: at each place, the equation whose first unknown is there.
pub struct System {
    span: u32,
    seed: u32,
    /// Coefficients at each place: 0 if there is no equation, else bit 0 is the place itself.
    rows: Vec<u128>,
    /// The right-hand side of each row.
    sides: Vec<bool>,
}

/// Two equations contradict each other. Another seed gives other equations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

impl System {
    /// Returns an empty system. `span` is above 0 and at most [`COLUMN_BITS_MAX`].
    pub fn new(span: u32, seed: u32) -> System {
        let places = (span + WIDTH) as usize;
        System {
            span,
            seed,
            rows: vec![0; places],
            sides: vec![false; places],
        }
    }

    /// Adds the equation of an id with the right-hand side `side`.
    ///
    /// # Errors
    ///
    /// The equations so far give this id the other side.
    pub fn add(&mut self, id: ListId, side: bool) -> Result<(), Contradiction> {
        let equation = Equation::of(id, self.seed, self.span);
        let (mut place, mut row) = (equation.start as usize, equation.coefficients);
        let mut side = side;
        loop {
            match self.rows[place] {
                0 => {
                    self.rows[place] = row;
                    self.sides[place] = side;
                    return Ok(());
                }
                known => {
                    row ^= known;
                    side ^= self.sides[place];
                }
            }
            if row == 0 {
                return if side { Err(Contradiction) } else { Ok(()) };
            }
            let zeros = row.trailing_zeros();
            row >>= zeros;
            place += zeros as usize;
        }
    }

    /// Returns a column that solves all equations; `random` fills the free unknowns. If every side is false there are many
    /// solutions, and columns of different random bits are independent.
    pub fn solve(&self, mut random: impl FnMut() -> bool) -> Vec<u8> {
        let mut column = vec![0; column_bytes(self.span)];
        // The known bits from the place on; places are solved from the highest down.
        let mut above = 0u128;
        for place in (0..self.rows.len()).rev() {
            let bit = match self.rows[place] {
                0 => random(),
                row => {
                    let rest = row >> 1 & above;
                    (rest.count_ones() % 2 == 1) ^ self.sides[place]
                }
            };
            column[place / 8] |= u8::from(bit) << (place % 8);
            above = above << 1 | u128::from(bit);
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(count: usize, from: u64) -> Vec<ListId> {
        let mut state = from;
        (0..count)
            .map(|_| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                ListId((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_solution_gives_every_equation_its_side(count in 1usize..400, from: u64, seed: u32) {
            let ids = ids(count, from);
            let span = count as u32 + count as u32 / 4 + 128;
            let mut system = System::new(span, seed);
            let sides: Vec<bool> = ids.iter().map(|id| id.0 % 3 == 0).collect();
            let added = ids.iter().zip(&sides).try_for_each(|(id, side)| system.add(*id, *side));
            prop_assume!(added.is_ok());
            let mut state = from;
            let column = system.solve(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 63 == 1
            });
            for (id, side) in ids.iter().zip(&sides) {
                prop_assert_eq!(Equation::of(*id, seed, span).dot(&column), *side);
            }
        }

        #[test]
        fn equations_stay_within_the_column(id: u64, seed: u32, span in 1u32..=COLUMN_BITS_MAX) {
            let equation = Equation::of(ListId(id), seed, span);
            prop_assert!(equation.start < span && equation.coefficients & 1 == 1);
        }

        #[test]
        fn a_window_is_the_bits_one_by_one(column in prop::collection::vec(any::<u8>(), 0..60), start in 0u32..500) {
            let bit = |at: usize| column.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            let expected = (0..128).fold(0u128, |bits, nth| bits | u128::from(bit(start as usize + nth)) << nth);
            prop_assert_eq!(window(&column, start), expected);
        }
    }

    #[test]
    fn the_same_equation_with_two_sides_is_a_contradiction() {
        let mut system = System::new(10, 1);
        assert_eq!(system.add(ListId(7), false), Ok(()));
        assert_eq!(system.add(ListId(7), false), Ok(()));
        assert_eq!(system.add(ListId(7), true), Err(Contradiction));
    }
}
