//! A pass: what a genuine code of another issuer says, as far as an answer repeats it. It has no colour.

use super::ForeignFormat;
use super::bounds::shown;
use crate::answer::Refusal;
use crate::clock::{DAY_MS, Time};

/// Why a text is no pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassFault {
    /// Not of the form, or past a bound.
    Undecodable,
    /// Signed in a way that its format does not have, or that is not its key's.
    UnsupportedAlgorithm,
    /// The key is not in the trust list.
    UnknownKey,
    /// The signature is not the key's.
    BadSignature,
    /// Genuine, and the key may not say this.
    NotEntitled,
    /// Genuine, and it says nothing or more than one thing.
    NotOneStatement,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Its issuer revoked it, or this site's operator denies it.
    Revoked,
}

impl PassFault {
    /// Returns the refusal that the fault is answered with.
    pub fn refusal(self) -> Refusal {
        match self {
            PassFault::Undecodable | PassFault::NotOneStatement => Refusal::CodeInvalid,
            PassFault::UnsupportedAlgorithm | PassFault::BadSignature => Refusal::SignatureInvalid,
            PassFault::UnknownKey => Refusal::IssuerUnknown,
            PassFault::NotEntitled => Refusal::IssuerNotEntitled,
            PassFault::Expired | PassFault::NotYetValid => Refusal::CodeExpired,
            PassFault::Revoked => Refusal::CodeRevoked,
        }
    }
}

/// What a pass is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassKind {
    /// A vaccination.
    Vaccinated,
    /// A test.
    Tested,
    /// A recovery.
    Recovered,
    /// Anything else that an issuer signs.
    Statement,
}

impl PassKind {
    /// All kinds, in the order of their bits.
    pub const ALL: [PassKind; 4] = [
        PassKind::Vaccinated,
        PassKind::Tested,
        PassKind::Recovered,
        PassKind::Statement,
    ];

    /// Returns the word that answers and trust files use.
    pub fn word(self) -> &'static str {
        match self {
            PassKind::Vaccinated => "vaccinated",
            PassKind::Tested => "tested",
            PassKind::Recovered => "recovered",
            PassKind::Statement => "statement",
        }
    }

    /// Returns the kind of a word; None for one that no kind has.
    pub fn named(word: &str) -> Option<PassKind> {
        PassKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Several kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassKinds(u8);

impl PassKinds {
    /// Every kind.
    pub const ANY: PassKinds = PassKinds(0b1111);

    /// Returns the set of these kinds.
    pub fn of(kinds: &[PassKind]) -> PassKinds {
        PassKinds(kinds.iter().fold(0, |bits, kind| bits | 1 << *kind as u8))
    }

    /// Returns whether a kind is in the set.
    pub fn has(self, kind: PassKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Returns the kinds that are in both sets.
    pub fn both(self, other: PassKinds) -> PassKinds {
        PassKinds(self.0 & other.0)
    }

    /// Returns the words of the kinds in the set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let named = PassKind::ALL
            .into_iter()
            .filter(move |kind| self.has(*kind));
        named.map(PassKind::word)
    }
}

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestFinding {
    /// The test found the disease.
    Detected,
    /// The test did not find the disease.
    NotDetected,
    /// The code names a result that is not known here.
    Unknown,
}

impl TestFinding {
    /// Reads a SNOMED CT code.
    pub fn of_code(code: &str) -> TestFinding {
        match code {
            "260373001" | "10828004" => TestFinding::Detected,
            "260415000" | "260385009" => TestFinding::NotDetected,
            _ => TestFinding::Unknown,
        }
    }

    /// Returns the word that answers use.
    pub fn word(self) -> &'static str {
        match self {
            TestFinding::Detected => "detected",
            TestFinding::NotDetected => "not_detected",
            TestFinding::Unknown => "unknown",
        }
    }
}

/// What was said of whether a code was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationCheck {
    /// Its issuer's list is here, covers the key, and does not name it.
    Good,
    /// No list of its issuer is here, or none that covers the key.
    NotChecked,
}

/// What the site's policy says of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyVerdict {
    /// There is no policy: nothing was judged.
    None,
    /// The policy accepts it.
    Accepted,
    /// The policy does not accept it.
    NotAccepted(PolicyReason),
}

/// Why a policy does not accept a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyReason {
    /// Its kind is none that the site accepts.
    Kind,
    /// It is older than the site accepts.
    Age,
    /// Its issuer is none that the site accepts.
    Issuer,
    /// The doses of the series are not complete.
    Dose,
    /// The test did not end without a finding.
    Result,
    /// It is about another disease.
    Disease,
}

impl PolicyReason {
    /// All reasons, in the order of the enum.
    pub const ALL: [PolicyReason; 6] = [
        PolicyReason::Kind,
        PolicyReason::Age,
        PolicyReason::Issuer,
        PolicyReason::Dose,
        PolicyReason::Result,
        PolicyReason::Disease,
    ];

    /// Returns the word that answers use.
    pub fn word(self) -> &'static str {
        match self {
            PolicyReason::Kind => "kind",
            PolicyReason::Age => "age",
            PolicyReason::Issuer => "issuer",
            PolicyReason::Dose => "dose",
            PolicyReason::Result => "result",
            PolicyReason::Disease => "disease",
        }
    }
}

/// The disease that passes are about: SNOMED CT, COVID-19.
pub const COVID_19: &str = "840539006";

/// What a genuine code says. Texts are as answers may show them.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignPass {
    /// The format of the code.
    pub format: ForeignFormat,
    /// What the pass is about.
    pub kind: PassKind,
    /// As the trust list names the key's owner, or else as the code does.
    pub issuer: String,
    /// The name of the issuer for people; None where it has none.
    pub issuer_name: Option<String>,
    /// Whether it is about COVID-19; None where it does not say.
    pub is_covid: Option<bool>,
    /// The result of a test; None for other kinds.
    pub finding: Option<TestFinding>,
    /// Doses had, and doses of the series.
    pub doses: Option<(u32, Option<u32>)>,
    /// A day or a time, as printed by the issuer: of the dose, of the sample, of the first positive test.
    pub at: Option<String>,
    /// The first day, as printed by the issuer; None where it says none.
    pub valid_from: Option<String>,
    /// The last day, as printed by the issuer; None where it says none.
    pub valid_until: Option<String>,
    /// When the code was signed; None where it does not say.
    pub issued_at: Option<Time>,
    /// When the code ends; None where it does not say.
    pub expires_at: Option<Time>,
    /// Whether it was revoked, as far as is known.
    pub revocation: RevocationCheck,
    /// What the site's policy says of it.
    pub policy: PolicyVerdict,
    /// The name of the holder.
    pub name: String,
    /// `--MM-DD`
    pub birth: Option<String>,
}

/// Returns the first characters of a given and a family name, each with two stars.
pub fn masked_name(given: &str, family: &str) -> String {
    let first = |name: &str| {
        let name = shown(name);
        let first = name.chars().find(|c| c.is_alphanumeric())?;
        Some(format!("{first}**"))
    };
    let parts: Vec<String> = [first(given), first(family)]
        .into_iter()
        .flatten()
        .collect();
    match parts.is_empty() {
        true => "**".to_owned(),
        false => parts.join(" "),
    }
}

/// Returns month and day of a birthday that says both.
pub fn month_and_day(birth: &str) -> Option<String> {
    let day = day_of(birth)?;
    let day: Vec<&str> = day.split('-').collect();
    Some(format!("--{}-{}", day[1], day[2]))
}

/// Returns the first ten characters of a date or a time, where they are a day of a calendar.
fn day_of(text: &str) -> Option<&str> {
    let day = text.get(..10)?;
    if text.len() > 10 && text.as_bytes()[10] != b'T' {
        return None;
    }
    days_of(day).map(|_| day)
}

/// Returns the days from 1970 to `YYYY-MM-DD`; None where there is no such day.
fn days_of(day: &str) -> Option<i64> {
    let date: jiff::civil::Date = day.parse().ok()?;
    let from = jiff::civil::date(1970, 1, 1);
    Some(i64::from(date.since(from).ok()?.get_days()))
}

/// Returns a day or a time as an answer shows it; None where it is neither.
pub fn shown_date(text: &str) -> Option<String> {
    let text = text.trim();
    let is_time = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || b"-:.+TZ".contains(&b))
    };
    (text.len() <= 35 && is_time(text) && day_of(text).is_some()).then(|| text.to_owned())
}

/// Returns the moment that a day (its beginning in UTC) or a time names.
pub fn time_of(text: &str) -> Option<Time> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond()).ok().map(Time);
    }
    let days = u64::try_from(days_of(day_of(text)?)?).ok()?;
    Some(Time(days.checked_mul(DAY_MS)?))
}

/// A time claim: seconds since 1970, whole or not.
pub fn claimed_time(seconds: f64) -> Option<Time> {
    // 2^53 ms are exact, and reach past the year 200,000.
    let ms = seconds * 1_000.0;
    if !ms.is_finite() || ms >= 9.0e15 {
        return None;
    }
    // A time before 1970 is as over as 1970 is.
    Some(Time(if ms <= 0.0 { 0 } else { ms.floor() as u64 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_masked_to_their_first_characters() {
        for (given, family, masked) in [
            ("Cheng Cheng", "Tan", "C** T**"),
            ("", "'t Achternaam", "t**"),
            ("😀😃", "λ", "λ**"),
            ("\u{202e}Bob", "", "B**"),
            ("", "", "**"),
        ] {
            assert_eq!(masked_name(given, family), masked);
        }
    }

    #[test]
    fn dates_are_shown_where_they_are_dates() {
        assert_eq!(shown_date("2021-02-18").as_deref(), Some("2021-02-18"));
        let time = "2021-05-24T20:10:00+02:00";
        assert_eq!(shown_date(time).as_deref(), Some(time));
        for other in ["", "2021", "2021-02-30", "2021-02-18<b>", "2021-02-18 x"] {
            assert_eq!(shown_date(other), None, "{other}");
        }
        assert_eq!(month_and_day("1990-01-15").as_deref(), Some("--01-15"));
        assert_eq!(month_and_day("1990-01"), None);
        assert_eq!(time_of("1970-01-02"), Some(Time(DAY_MS)));
        assert_eq!(time_of("1970-01-01T01:00:00+01:00"), Some(Time(0)));
    }

    #[test]
    fn a_time_claim_is_a_number_that_has_an_order() {
        assert_eq!(claimed_time(f64::NAN), None);
        assert_eq!(claimed_time(f64::INFINITY), None);
        assert_eq!(claimed_time(f64::NEG_INFINITY), None);
        assert_eq!(claimed_time(-5.0), Some(Time(0)));
        assert_eq!(claimed_time(1.5), Some(Time(1_500)));
        assert_eq!(claimed_time(1e300), None);
    }
}
