//! A pass: the contents of a genuine foreign code that an answer repeats. It has no colour.

use super::bounds::shown;
use super::format::ForeignFormat;
use crate::clock::{DAY_MS, Time};
use crate::refusal::Refusal;

/// Why a text gives no pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassFault {
    /// The text does not have the format, or exceeds a bound.
    Undecodable,
    /// The signature algorithm is not one of the format, or not that of the key.
    UnsupportedAlgorithm,
    /// The key is not in the trust list.
    UnknownKey,
    /// The signature does not verify.
    BadSignature,
    /// The code is genuine, but its key may not sign this kind.
    NotEntitled,
    /// The code is genuine, but holds no statement or several.
    NotOneStatement,
    /// The code has expired.
    Expired,
    /// The validity of the code has not begun.
    NotYetValid,
    /// The issuer revoked the code, or this site's operator denies it.
    Revoked,
}

impl PassFault {
    /// Returns the refusal for the fault.
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

/// Kind of a pass.
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

    /// Returns the kind with this name; None for an unknown name.
    pub fn named(word: &str) -> Option<PassKind> {
        PassKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A set of kinds.
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

    /// Returns the names of the kinds in the set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let named = PassKind::ALL
            .into_iter()
            .filter(move |kind| self.has(*kind));
        named.map(PassKind::word)
    }
}

/// Result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestFinding {
    /// The test found the disease.
    Detected,
    /// The test did not find the disease.
    NotDetected,
    /// The code has a result that this version does not know.
    Unknown,
}

impl TestFinding {
    /// Returns the result of a SNOMED CT code.
    pub fn of_code(code: &str) -> TestFinding {
        match code {
            "260373001" | "10828004" => TestFinding::Detected,
            "260415000" | "260385009" => TestFinding::NotDetected,
            _ => TestFinding::Unknown,
        }
    }

    /// Returns the word in answers.
    pub fn word(self) -> &'static str {
        match self {
            TestFinding::Detected => "detected",
            TestFinding::NotDetected => "not_detected",
            TestFinding::Unknown => "unknown",
        }
    }
}

/// Result of the revocation check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationCheck {
    /// The issuer's revocation list covers the key and does not name the code.
    Good,
    /// There is no revocation list of the issuer, or it does not cover the key.
    NotChecked,
}

/// Decision of the site's policy about a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyVerdict {
    /// The site has no policy.
    None,
    /// The policy accepts the pass.
    Accepted,
    /// The policy does not accept the pass.
    NotAccepted(PolicyReason),
}

/// Why a policy does not accept a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyReason {
    /// The site does not accept this kind.
    Kind,
    /// The pass is older than the site accepts.
    Age,
    /// The site does not accept this issuer.
    Issuer,
    /// The series of doses is not complete.
    Dose,
    /// The test result is not `not detected`.
    Result,
    /// The pass is about another disease.
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

    /// Returns the word in answers.
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

/// SNOMED CT code of COVID-19.
pub const COVID_19: &str = "840539006";

/// Contents of a genuine code. Texts are cleaned for answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignPass {
    /// The format of the code.
    pub format: ForeignFormat,
    /// Kind of the pass.
    pub kind: PassKind,
    /// The issuer as the trust list names it, or else as the code does.
    pub issuer: String,
    /// Name of the issuer for people; None if it has none.
    pub issuer_name: Option<String>,
    /// Whether the pass is about COVID-19; None if it does not say.
    pub is_covid: Option<bool>,
    /// Result of a test; None for other kinds.
    pub finding: Option<TestFinding>,
    /// Doses received, and doses of the series.
    pub doses: Option<(u32, Option<u32>)>,
    /// Day or time as the issuer printed it: of the dose, the sample, or the first positive test.
    pub at: Option<String>,
    /// First day of validity as the issuer printed it; None if absent.
    pub valid_from: Option<String>,
    /// Last day of validity as the issuer printed it; None if absent.
    pub valid_until: Option<String>,
    /// When the code was signed; None if it does not say.
    pub issued_at: Option<Time>,
    /// When the code expires; None if it does not say.
    pub expires_at: Option<Time>,
    /// Result of the revocation check.
    pub revocation: RevocationCheck,
    /// Decision of the site's policy.
    pub policy: PolicyVerdict,
    /// Masked name of the holder.
    pub name: String,
    /// Birthday of the holder as `--MM-DD`; None if the code has no full date.
    pub birth: Option<String>,
}

/// Returns the first character of each name, followed by two stars.
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

/// Returns month and day of a full date of birth, as `--MM-DD`.
pub fn month_and_day(birth: &str) -> Option<String> {
    let day = day_of(birth)?;
    let day: Vec<&str> = day.split('-').collect();
    Some(format!("--{}-{}", day[1], day[2]))
}

/// Returns the first ten characters of a date or time; None if they are not a calendar day.
fn day_of(text: &str) -> Option<&str> {
    let day = text.get(..10)?;
    if text.len() > 10 && text.as_bytes()[10] != b'T' {
        return None;
    }
    days_of(day).map(|_| day)
}

/// Returns the days since 1970 of `YYYY-MM-DD`; None if there is no such day.
fn days_of(day: &str) -> Option<i64> {
    let date: jiff::civil::Date = day.parse().ok()?;
    let from = jiff::civil::date(1970, 1, 1);
    Some(i64::from(date.since(from).ok()?.get_days()))
}

/// Returns a day or time for an answer; None if the text is neither.
pub fn shown_date(text: &str) -> Option<String> {
    let text = text.trim();
    let is_time = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || b"-:.+TZ".contains(&b))
    };
    (text.len() <= 35 && is_time(text) && day_of(text).is_some()).then(|| text.to_owned())
}

/// Returns the time of a day (its beginning in UTC) or of a time; None if the text is neither.
pub fn time_of(text: &str) -> Option<Time> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond()).ok().map(Time);
    }
    let days = u64::try_from(days_of(day_of(text)?)?).ok()?;
    Some(Time(days.checked_mul(DAY_MS)?))
}

/// Returns the time of a claim in seconds since 1970, whole or fractional.
pub fn claimed_time(seconds: f64) -> Option<Time> {
    // 2^53 ms are exact, and reach past the year 200,000.
    let ms = seconds * 1_000.0;
    if !ms.is_finite() || ms >= 9.0e15 {
        return None;
    }
    // Times before 1970 are treated as 1970: both have passed.
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
