//! A synthetic province: residents with valid documents, some of them red, generated from a seed as feed lines. No real
//! persons.

use crate::person::{self, CertType};
use crate::status::Reason;
use std::io::{self, Write};

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Town {
    /// Number of residents, at most [`RESIDENTS_MAX`].
    pub residents: u64,
    /// Seed of all random choices.
    pub seed: u64,
}

/// Largest number of residents: far above a province's 127 million, below the number of possible documents.
pub const RESIDENTS_MAX: u64 = 1_000_000_000;

/// Divisions: the 21 prefectures of Guangdong, with four districts each.
const PREFECTURES: [u32; 21] = [
    4401, 4402, 4403, 4404, 4405, 4406, 4407, 4408, 4409, 4412, 4413, 4414, 4415, 4416, 4417, 4418,
    4419, 4420, 4451, 4452, 4453,
];
const DISTRICTS: u64 = 4;
/// Number of days of birth from 1930-01-01 on: ninety years of 365.
const DAYS: u64 = 90 * 365;
const NUMBERS: u64 = 1000;
const CARDS: u64 = PREFECTURES.len() as u64 * DISTRICTS * DAYS * NUMBERS;
const PERMITS: u64 = 100_000_000;

const SURNAMES: [&str; 40] = [
    "陈", "李", "黄", "张", "梁", "林", "刘", "吴", "罗", "杨", "何", "王", "郑", "谢", "邓", "钟",
    "曾", "周", "朱", "许", "苏", "叶", "欧阳", "蔡", "郭", "潘", "彭", "冯", "赖", "廖", "徐",
    "唐", "余", "温", "江", "麦", "邱", "卢", "甘", "莫",
];
const GIVEN: [&str; 40] = [
    "伟", "芳", "敏", "静", "丽", "强", "磊", "军", "洋", "勇", "艳", "杰", "娟", "涛", "明", "超",
    "秀英", "霞", "平", "刚", "桂英", "美玲", "志强", "建华", "嘉欣", "子轩", "梓涵", "浩然",
    "雨桐", "俊杰", "晓彤", "家豪", "淑贞", "国栋", "文静", "思敏", "永康", "颖怡", "海生", "惠珍",
];

/// Red residents in a thousand; as many were red before.
const RED: u64 = 5;

/// One resident.
pub struct Resident {
    /// The type of the document.
    pub cert_type: CertType,
    /// The number of the document.
    pub cert_no: String,
    /// The name.
    pub name: String,
    /// How well the person is known.
    pub assurance: person::Assurance,
    /// The reason that is or was active; None if there was none.
    pub reason: Option<Reason>,
    /// Whether the reason was cleared again.
    pub cleared: bool,
}

impl Town {
    /// Returns the `nth` resident, who depends on the seed only and has a unique document.
    pub fn resident(&self, nth: u64) -> Resident {
        let rng = mix(self.seed ^ mix(nth));
        let (cert_type, cert_no, born) = match nth % 50 {
            48 => {
                let number = scatter(nth / 50, self.seed, PERMITS);
                let first = if rng & 1 == 0 { 'H' } else { 'M' };
                (CertType::TravelPermit, format!("{first}{number:08}"), 1980)
            }
            49 => {
                let number = scatter(nth / 50, self.seed, PERMITS);
                (CertType::Passport, format!("E{number:08}"), 1980)
            }
            _ => identity_card(scatter(nth, self.seed, CARDS)),
        };
        let name = format!(
            "{}{}",
            SURNAMES[(rng >> 8) as usize % SURNAMES.len()],
            GIVEN[(rng >> 16) as usize % GIVEN.len()]
        );
        let assurance = match (cert_type, born) {
            // A child whose face check failed.
            (_, born) if born >= 2008 && rng >> 24 & 7 == 0 => person::Assurance::Unverified,
            (CertType::Passport, _) => person::Assurance::RealName,
            _ => person::Assurance::RealPerson,
        };
        let lot = (rng >> 32) % 1000;
        Resident {
            cert_type,
            cert_no,
            name,
            assurance,
            reason: (lot < 2 * RED).then(|| Reason::ALL[(rng >> 44) as usize % Reason::ALL.len()]),
            cleared: lot >= RED,
        }
    }

    /// Writes feed lines: each resident, then the statuses. `progress` gets the number of residents so far.
    ///
    /// # Errors
    ///
    /// The error of `out`.
    pub fn write(&self, out: &mut impl Write, mut progress: impl FnMut(u64)) -> io::Result<()> {
        let mut seq = 0u64;
        for nth in 0..self.residents {
            let resident = self.resident(nth);
            let (cert_type, cert_no) = (resident.cert_type.code(), &resident.cert_no);
            writeln!(
                out,
                r#"{{"event":"resident","cert_type":"{cert_type}","cert_no":"{cert_no}","name":"{}","assurance":"{}"}}"#,
                resident.name,
                resident.assurance.word(),
            )?;
            if let Some(reason) = resident.reason {
                let actions: &[&str] = if resident.cleared {
                    &["set", "clear"]
                } else {
                    &["set"]
                };
                for action in actions {
                    seq += 1;
                    let (hour, minute) = (seq / 60 % 24, seq % 60);
                    writeln!(
                        out,
                        r#"{{"event":"status","cert_type":"{cert_type}","cert_no":"{cert_no}","reason":"{}","action":"{action}","at":"2020-04-20T{hour:02}:{minute:02}:00+08:00","source":"gd-cdc","seq":{seq},"until":"2020-05-04"}}"#,
                        reason.word(),
                    )?;
                }
            }
            if nth % 16_384 == 0 {
                progress(nth);
            }
        }
        progress(self.residents);
        out.flush()
    }
}

/// Returns the identity card with a number below [`CARDS`] (division, day of birth, sequence, check character), and the year of
/// birth.
fn identity_card(number: u64) -> (CertType, String, u32) {
    let (number, sequence) = (number / NUMBERS, number % NUMBERS);
    let (number, day) = (number / DAYS, number % DAYS);
    let district = number % DISTRICTS + 2;
    let prefecture = PREFECTURES[(number / DISTRICTS) as usize];
    let (year, of_year) = (1930 + day / 365, day % 365);
    const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (mut month, mut left) = (0, of_year);
    while left >= MONTHS[month] {
        left -= MONTHS[month];
        month += 1;
    }
    let body = format!(
        "{prefecture}{district:02}{year}{:02}{:02}{sequence:03}",
        month + 1,
        left + 1
    );
    let digits: [u8; 17] = body.as_bytes().try_into().expect("seventeen digits");
    let check = char::from(person::check_digit(&digits));
    (
        CertType::IdentityCard,
        format!("{body}{check}"),
        year as u32,
    )
}

/// Maps numbers to a range without collisions: a multiplication by a coprime number.
fn scatter(nth: u64, seed: u64, range: u64) -> u64 {
    // A prime above every range here.
    const FACTOR: u128 = 6_700_417_000_000_000_033;
    let offset = mix(seed) % range;
    ((u128::from(nth % range) * FACTOR + u128::from(offset)) % u128::from(range)) as u64
}

/// splitmix64.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed;
    use std::collections::HashSet;

    #[test]
    fn every_line_is_accepted_and_every_document_is_one_persons() {
        let town = Town {
            residents: 20_000,
            seed: 7,
        };
        let mut out = Vec::new();
        town.write(&mut out, |_| ()).unwrap();
        let mut documents = HashSet::new();
        let mut red = 0;
        for line in out.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match feed::parse(line, 20_261_123).unwrap() {
                feed::Event::Resident(profile) => {
                    assert!(documents.insert(profile.document.number().to_owned()));
                }
                feed::Event::Status(..) => red += 1,
                event => panic!("{event:?} is not of a town"),
            }
        }
        assert_eq!(documents.len(), 20_000);
        assert!((150..450).contains(&red), "{red}");
    }

    #[test]
    fn a_seed_is_a_town() {
        let of = |seed| {
            let mut out = Vec::new();
            let residents = 500;
            Town { residents, seed }.write(&mut out, |_| ()).unwrap();
            out
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn the_factor_meets_no_range() {
        let gcd = |mut a: u128, mut b: u128| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        for range in [CARDS, PERMITS] {
            assert_eq!(gcd(6_700_417_000_000_000_033, u128::from(range)), 1);
        }
        const { assert!(RESIDENTS_MAX <= CARDS && RESIDENTS_MAX / 50 <= PERMITS) };
    }
}
