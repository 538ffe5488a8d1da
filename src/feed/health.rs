//! Health information from feeds: certificates, notices of release, temperatures, trips. Parsed, checked and made into papers,
//! which the desk reads.

use super::fields::{BorrowedText, EventFields, must};
use super::rejection::Rejection;
use super::values::{is_source, parse_day, parse_region, parse_time};
use crate::clock::{self, Time};
use crate::paper::PaperKind;
use crate::person::{self, Document, Identity, Profile};
use crate::seal::Seal;
use crate::status::Reason;
use crate::store::record::Assertion;
use crate::store::{Change, ChangeKind};
use serde::{Deserialize, Serialize};

/// Largest number of places of a trip.
const PLACES_MAX: usize = 50;

/// A health certificate as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `health`, `nucleic_test`, `antibody_test` or `vaccination`.
    pub certificate: String,
    /// Result of a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Number given by the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Last day of validity, `yyyy-mm-dd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Division of GB/T 2260, six digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The source.
    pub source: String,
}

/// An electronic notice of release from medical observation, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The reason.
    pub reason: String,
    /// Number of the notice, given by the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// First day of the observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Last day of the observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Division of GB/T 2260, six digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The source.
    pub source: String,
}

/// A temperature as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Degrees Celsius.
    pub celsius: f64,
    /// Division of GB/T 2260, six digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The source.
    pub source: String,
}

/// A trip card as stored: where a phone was in 14 days, by its carrier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TripCard {
    /// Divisions of GB/T 2260, in the order of the visits.
    pub places: Vec<String>,
    /// The source.
    pub source: String,
}

/// Identifies a health event, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source.
    pub source: Box<str>,
    /// Sequence number of the source: a higher one replaces a lower one.
    pub seq: u64,
    /// When the source made the change.
    pub at: Time,
}

/// A health event.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthEvent {
    /// A certificate of a test or a vaccination.
    Certificate(Certificate),
    /// A notice of release.
    Notice(Notice),
    /// A temperature that was taken.
    Temperature(Temperature),
    /// A trip card.
    Trip(TripCard),
}

impl HealthEvent {
    /// Returns the kind of the event's paper.
    pub fn kind(&self) -> PaperKind {
        match self {
            HealthEvent::Certificate(_) => PaperKind::Certificate,
            HealthEvent::Notice(_) => PaperKind::Notice,
            HealthEvent::Temperature(_) => PaperKind::Temperature,
            HealthEvent::Trip(_) => PaperKind::Trip,
        }
    }

    fn body(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            HealthEvent::Certificate(body) => serde_json::to_vec(body),
            HealthEvent::Notice(body) => serde_json::to_vec(body),
            HealthEvent::Temperature(body) => serde_json::to_vec(body),
            HealthEvent::Trip(body) => serde_json::to_vec(body),
        }
    }

    /// Returns the change that writes the paper. Its key follows from kind, source and sequence number, so that a repeated
    /// event changes nothing.
    ///
    /// # Errors
    ///
    /// `ServiceEnded` if the key of its service was destroyed.
    pub fn change(&self, who: Identity, origin: &Origin, seal: &Seal) -> Result<Change, Rejection> {
        let kind = self.kind();
        let key = seal.paper_key(&[
            kind.word().as_bytes(),
            origin.source.as_bytes(),
            &origin.seq.to_be_bytes(),
        ]);
        let body = self.body().expect("numbers and text");
        let paper = seal.paper(&who, kind, key, origin.at, &body);
        let paper = paper.ok_or(Rejection::ServiceEnded)?;
        Ok(Change {
            who,
            what: ChangeKind::Paper(paper),
        })
    }
}

/// Returns the next day, `yyyymmdd`.
fn tomorrow(today: u32) -> u32 {
    let next = today + 1;
    match clock::is_day(next) {
        true => next,
        false if clock::is_day((today / 100 + 1) * 100 + 1) => (today / 100 + 1) * 100 + 1,
        false => (today / 10_000 + 1) * 10_000 + 101,
    }
}

/// Parses the time of an event. A future time would stay the newest forever.
///
/// # Errors
///
/// `BadTime` if it is not a time, or later than tomorrow.
pub fn happened(text: &str, today: u32) -> Result<Time, Rejection> {
    let at = parse_time(text).ok_or(Rejection::BadTime)?;
    match at.day() <= tomorrow(today) {
        true => Ok(at),
        false => Err(Rejection::BadTime),
    }
}

/// Returns a body temperature, rounded to a tenth of a degree.
///
/// # Errors
///
/// `BadTemperature` if no living person has it.
pub fn celsius(celsius: f64) -> Result<f64, Rejection> {
    match (30.0..=45.0).contains(&celsius) {
        true => Ok((celsius * 10.0).round() / 10.0),
        false => Err(Rejection::BadTemperature),
    }
}

fn word(text: &str, words: &[&str]) -> Option<String> {
    words.contains(&text).then(|| text.to_owned())
}

impl EventFields<'_> {
    pub(super) fn origin(&self, today: u32) -> Result<Origin, Rejection> {
        let source = must(&self.source, "source")?;
        if !is_source(source) {
            return Err(Rejection::BadSource);
        }
        Ok(Origin {
            source: source.into(),
            seq: self.seq(today)?,
            at: happened(must(&self.at, "at")?, today)?,
        })
    }

    fn number(&self) -> Result<Option<String>, Rejection> {
        let number = |text: &BorrowedText<'_>| match person::is_name(&text.0) {
            true => Ok(text.0.to_string()),
            false => Err(Rejection::BadNumber),
        };
        self.number.as_ref().map(number).transpose()
    }

    /// Returns the last day if it is valid.
    fn until_said(&self) -> Result<Option<String>, Rejection> {
        let day = self.until()?;
        Ok(day.and(self.until.as_ref().map(|text| text.0.to_string())))
    }

    fn region_said(&self) -> Result<Option<String>, Rejection> {
        let region = self.region()?;
        Ok(region.and(self.region.as_ref().map(|text| text.0.to_string())))
    }

    fn source(&self) -> Result<String, Rejection> {
        must(&self.source, "source").map(str::to_owned)
    }

    pub(super) fn certificate(&self) -> Result<Certificate, Rejection> {
        let words = ["health", "nucleic_test", "antibody_test", "vaccination"];
        let certificate = word(must(&self.certificate, "certificate")?, &words);
        let result = |text: &BorrowedText<'_>| {
            word(&text.0, &["negative", "positive"]).ok_or(Rejection::UnknownResult)
        };
        Ok(Certificate {
            certificate: certificate.ok_or(Rejection::UnknownCertificate)?,
            result: self.result.as_ref().map(result).transpose()?,
            number: self.number()?,
            until: self.until_said()?,
            region: self.region_said()?,
            source: self.source()?,
        })
    }

    /// Returns the clear of the reason, the person who may be unknown, and the notice.
    pub(super) fn notice(
        &self,
        document: Document,
        today: u32,
    ) -> Result<(Assertion, Profile, Notice), Rejection> {
        let reason =
            Reason::parse(must(&self.reason, "reason")?).ok_or(Rejection::UnknownReason)?;
        happened(must(&self.at, "at")?, today)?;
        let (assertion, nameless) = self.assertion(document, reason, false, today)?;
        let from = |text: &BorrowedText<'_>| match parse_day(&text.0) {
            Some(_) => Ok(text.0.to_string()),
            None => Err(Rejection::BadUntil),
        };
        let notice = Notice {
            reason: reason.word().to_owned(),
            number: self.number()?,
            from: self.from.as_ref().map(from).transpose()?,
            until: self.until_said()?,
            region: self.region_said()?,
            source: self.source()?,
        };
        Ok((assertion, nameless, notice))
    }

    pub(super) fn temperature(&self) -> Result<Temperature, Rejection> {
        let celsius = self.celsius.ok_or(Rejection::MissingField("celsius"))?;
        Ok(Temperature {
            celsius: self::celsius(celsius)?,
            region: self.region_said()?,
            source: self.source()?,
        })
    }

    pub(super) fn trip(&self) -> Result<TripCard, Rejection> {
        let places = self
            .places
            .as_ref()
            .ok_or(Rejection::MissingField("places"))?;
        if places.is_empty() || places.len() > PLACES_MAX {
            return Err(Rejection::BadPlaces);
        }
        let place = |text: &BorrowedText<'_>| match parse_region(&text.0) {
            Some(_) => Ok(text.0.to_string()),
            None => Err(Rejection::BadPlaces),
        };
        Ok(TripCard {
            places: places.iter().map(place).collect::<Result<_, _>>()?,
            source: self.source()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tomorrow_is_a_day_of_the_calendar() {
        for (today, next) in [
            (20_261_123, 20_261_124),
            (20_261_130, 20_261_201),
            (20_261_231, 20_270_101),
            (20_240_228, 20_240_229),
            (20_230_228, 20_230_301),
        ] {
            assert_eq!(tomorrow(today), next);
        }
    }
}
