//! Events in: a line of the feed, parsed, checked and sealed into a change for the store.
//! In: a line, the seal, today. Out: a change, or why the line was rejected. Never: the store, HTTP.

use crate::clock::{self, Time};
use crate::person::{self, Assurance, BadDocument, Document, Profile};
use crate::seal::{NAME_BYTES_MAX, Seal};
use crate::status::Reason;
use crate::store::record::Standing;
use crate::store::{Change, What};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Bytes of a line at most; the longest true event has some 400.
pub const LINE_BYTES_MAX: usize = 4096;

/// Rejected lines that an answer lists; the others are only counted.
pub const REJECTED_LISTED_MAX: usize = 10_000;

/// Why a line was rejected. Each has a code of its own; the detail never repeats what the line held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    LineTooLong,
    NotJson,
    NotAnObject,
    BadField,
    UnknownEvent,
    MissingField(&'static str),
    OfflineRegistration,
    BadDocument,
    BadBirthDate,
    BadCheckDigit,
    BadName,
    UnknownAssurance,
    UnknownReason,
    UnknownAction,
    BadTime,
    BadUntil,
    BadSource,
    BadRegion,
}

impl Rejection {
    pub const ALL: [Rejection; 18] = [
        Rejection::LineTooLong,
        Rejection::NotJson,
        Rejection::NotAnObject,
        Rejection::BadField,
        Rejection::UnknownEvent,
        Rejection::MissingField("a field"),
        Rejection::OfflineRegistration,
        Rejection::BadDocument,
        Rejection::BadBirthDate,
        Rejection::BadCheckDigit,
        Rejection::BadName,
        Rejection::UnknownAssurance,
        Rejection::UnknownReason,
        Rejection::UnknownAction,
        Rejection::BadTime,
        Rejection::BadUntil,
        Rejection::BadSource,
        Rejection::BadRegion,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Rejection::LineTooLong => "too_large",
            Rejection::NotJson => "not_json",
            Rejection::NotAnObject => "not_an_object",
            Rejection::BadField => "bad_field",
            Rejection::UnknownEvent => "unknown_event",
            Rejection::MissingField(_) => "missing_field",
            Rejection::OfflineRegistration => "offline_registration",
            Rejection::BadDocument => "bad_document",
            Rejection::BadBirthDate => "bad_birth_date",
            Rejection::BadCheckDigit => "bad_check_digit",
            Rejection::BadName => "bad_name",
            Rejection::UnknownAssurance => "unknown_assurance",
            Rejection::UnknownReason => "unknown_reason",
            Rejection::UnknownAction => "unknown_action",
            Rejection::BadTime => "bad_time",
            Rejection::BadUntil => "bad_until",
            Rejection::BadSource => "bad_source",
            Rejection::BadRegion => "bad_region",
        }
    }

    /// The rejection of a code, as another node answered it; the field that is missing is not part of the code.
    pub fn of_code(code: &str) -> Option<Rejection> {
        Rejection::ALL
            .into_iter()
            .find(|rejection| rejection.code() == code)
    }

    pub fn detail(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Rejection::LineTooLong => "a line has at most 4096 bytes",
            Rejection::NotJson => "the line is not JSON",
            Rejection::NotAnObject => "the line is JSON, but no object",
            Rejection::BadField => "a field has another type than it must have, or stands twice",
            Rejection::UnknownEvent => "event is resident or status",
            Rejection::MissingField(field) => {
                return Cow::Owned(format!("{field} is missing"));
            }
            Rejection::OfflineRegistration => {
                "documents of this type get no code; their holders are registered by staff"
            }
            Rejection::BadDocument => "cert_no has not the form of its cert_type",
            Rejection::BadBirthDate => "cert_no holds no day of birth",
            Rejection::BadCheckDigit => "cert_no fails its check digit (GB 11643)",
            Rejection::BadName => "name has 1 to 64 characters, none of them for machines",
            Rejection::UnknownAssurance => "assurance is real_person, real_name or unverified",
            Rejection::UnknownReason => {
                "reason is confirmed, suspected, close_contact, high_risk_area, central_isolation or home_isolation"
            }
            Rejection::UnknownAction => "action is set or clear",
            Rejection::BadTime => "at is a time of RFC 3339 with its offset, from 1970 on",
            Rejection::BadUntil => "until is a day, as 2020-05-04",
            Rejection::BadSource => {
                "source has 1 to 64 letters, digits, dots, hyphens or underscores"
            }
            Rejection::BadRegion => "region is a division of GB/T 2260, six digits",
        })
    }
}

impl From<BadDocument> for Rejection {
    fn from(bad: BadDocument) -> Rejection {
        match bad {
            BadDocument::OfflineRegistration => Rejection::OfflineRegistration,
            BadDocument::Form => Rejection::BadDocument,
            BadDocument::BirthDate => Rejection::BadBirthDate,
            BadDocument::CheckDigit => Rejection::BadCheckDigit,
        }
    }
}

/// A string that borrows from the line where it can; `Option<Cow>` alone would always copy.
#[derive(Deserialize)]
struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

/// Every field of every event; which must be there depends on the event. Fields that this version does not know are passed
/// over, so that an authority may send more to newer nodes.
#[derive(Deserialize)]
struct Fields<'l> {
    #[serde(borrow)]
    event: Option<Text<'l>>,
    #[serde(borrow)]
    cert_type: Option<Text<'l>>,
    #[serde(borrow)]
    cert_no: Option<Text<'l>>,
    #[serde(borrow)]
    name: Option<Text<'l>>,
    #[serde(borrow)]
    assurance: Option<Text<'l>>,
    #[serde(borrow)]
    reason: Option<Text<'l>>,
    #[serde(borrow)]
    action: Option<Text<'l>>,
    #[serde(borrow)]
    at: Option<Text<'l>>,
    #[serde(borrow)]
    source: Option<Text<'l>>,
    seq: Option<u64>,
    #[serde(borrow)]
    until: Option<Text<'l>>,
    #[serde(borrow)]
    region: Option<Text<'l>>,
}

fn must<'f>(field: &'f Option<Text<'_>>, name: &'static str) -> Result<&'f str, Rejection> {
    match field {
        Some(text) => Ok(&text.0),
        None => Err(Rejection::MissingField(name)),
    }
}

/// An event, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Resident(Profile),
    /// What a source says, and the profile that registers the person who is not on record.
    Status(Standing, Profile),
}

/// Checks one line. `today` is `yyyymmdd`.
pub fn parse(line: &[u8], today: u32) -> Result<Event, Rejection> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Rejection::LineTooLong);
    }
    let fields = fields(line)?;
    let event = must(&fields.event, "event")?;
    if !matches!(event, "resident" | "status") {
        return Err(Rejection::UnknownEvent);
    }
    let cert_type = must(&fields.cert_type, "cert_type")?;
    let document = Document::parse(cert_type, must(&fields.cert_no, "cert_no")?, today)?;
    match event {
        "resident" => fields.resident(document),
        _ => fields.status(document),
    }
}

fn fields(line: &[u8]) -> Result<Fields<'_>, Rejection> {
    let object = line.trim_ascii_start().first() == Some(&b'{');
    if object && let Ok(fields) = serde_json::from_slice(line) {
        return Ok(fields);
    }
    // Only a line that failed is read again to say why.
    match serde_json::from_slice::<serde::de::IgnoredAny>(line) {
        Err(_) => Err(Rejection::NotJson),
        Ok(_) if !object => Err(Rejection::NotAnObject),
        Ok(_) => Err(Rejection::BadField),
    }
}

impl Fields<'_> {
    fn resident(&self, document: Document) -> Result<Event, Rejection> {
        let name = must(&self.name, "name")?;
        if !person::is_name(name) {
            return Err(Rejection::BadName);
        }
        let assurance = Assurance::parse(must(&self.assurance, "assurance")?)
            .ok_or(Rejection::UnknownAssurance)?;
        Ok(Event::Resident(Profile {
            document,
            name: Some(name.to_owned()),
            assurance,
        }))
    }

    fn status(&self, document: Document) -> Result<Event, Rejection> {
        let reason =
            Reason::parse(must(&self.reason, "reason")?).ok_or(Rejection::UnknownReason)?;
        let active = match must(&self.action, "action")? {
            "set" => true,
            "clear" => false,
            _ => return Err(Rejection::UnknownAction),
        };
        let at = parse_time(must(&self.at, "at")?).ok_or(Rejection::BadTime)?;
        let source = must(&self.source, "source")?;
        if !is_source(source) {
            return Err(Rejection::BadSource);
        }
        let standing = Standing {
            reason,
            source: source.into(),
            seq: self.seq.ok_or(Rejection::MissingField("seq"))?,
            active,
            at,
            until: match &self.until {
                Some(text) => Some(parse_day(&text.0).ok_or(Rejection::BadUntil)?),
                None => None,
            },
            region: match &self.region {
                Some(text) => Some(parse_region(&text.0).ok_or(Rejection::BadRegion)?),
                None => None,
            },
        };
        let nameless = Profile {
            document,
            name: None,
            assurance: Assurance::Unverified,
        };
        Ok(Event::Status(standing, nameless))
    }
}

/// Whether this can name a source or a site in a token.
pub fn is_source(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn parse_time(text: &str) -> Option<Time> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Time)
}

fn parse_day(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let day = digits(&bytes[..4])? * 10_000 + digits(&bytes[5..7])? * 100 + digits(&bytes[8..])?;
    clock::is_day(day).then_some(day)
}

fn parse_region(text: &str) -> Option<u32> {
    (text.len() == 6 && !text.starts_with('0'))
        .then(|| digits(text.as_bytes()))
        .flatten()
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0u32, |value, b| {
        b.is_ascii_digit().then(|| value * 10 + u32::from(b - b'0'))
    })
}

/// Makes a change of an event: the resident's id, and the profile sealed, so that no name goes further than this.
pub fn seal_event(event: Event, seal: &Seal) -> Change {
    let (profile, standing) = match event {
        Event::Resident(profile) => (profile, None),
        Event::Status(standing, profile) => (profile, Some(standing)),
    };
    let who = seal.identify(&profile.document);
    let sealed = seal.profile(&who, &profile).into_boxed_slice();
    let what = match standing {
        None => What::Profile(sealed),
        Some(standing) => What::Status(standing, sealed),
    };
    Change { who, what }
}

/// What became of a feed, as the contract prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub applied: u64,
    pub unchanged: u64,
    /// Line number and reason, the first [`REJECTED_LISTED_MAX`] of them.
    pub rejected: Vec<(u64, Rejection)>,
    pub rejected_unlisted: u64,
}

impl Outcome {
    pub fn reject(&mut self, line: u64, rejection: Rejection) {
        if self.rejected.len() < REJECTED_LISTED_MAX {
            self.rejected.push((line, rejection));
        } else {
            self.rejected_unlisted += 1;
        }
    }

    pub fn count(&mut self, changed: &[bool]) {
        let applied = changed.iter().filter(|changed| **changed).count() as u64;
        self.applied += applied;
        self.unchanged += changed.len() as u64 - applied;
    }

    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Line {
            line: u64,
            code: &'static str,
            detail: Cow<'static, str>,
        }
        #[derive(Serialize)]
        struct Printed {
            applied: u64,
            unchanged: u64,
            rejected: Vec<Line>,
            #[serde(skip_serializing_if = "is_none")]
            rejected_unlisted: u64,
        }
        let rejected = self.rejected.iter().map(|(line, why)| Line {
            line: *line,
            code: why.code(),
            detail: why.detail(),
        });
        let printed = Printed {
            applied: self.applied,
            unchanged: self.unchanged,
            rejected: rejected.collect(),
            rejected_unlisted: self.rejected_unlisted,
        };
        serde_json::to_string(&printed).expect("numbers and text")
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TODAY: u32 = 20_261_123;
    const RESIDENT: &str = r#"{"event":"resident","cert_type":"10","cert_no":"440106199003077211","name":"陈美玲","assurance":"real_person"}"#;
    const STATUS: &str = r#"{"event":"status","cert_type":"10","cert_no":"440106199003077211","reason":"close_contact","action":"set","at":"2020-04-20T08:00:00+08:00","source":"gd-cdc","seq":123,"until":"2020-05-04","region":"440106"}"#;

    #[test]
    fn reads_both_events_of_the_contract() {
        let Event::Resident(profile) = parse(RESIDENT.as_bytes(), TODAY).unwrap() else {
            panic!("a resident");
        };
        assert_eq!(profile.name.as_deref(), Some("陈美玲"));
        let Event::Status(standing, profile) = parse(STATUS.as_bytes(), TODAY).unwrap() else {
            panic!("a status");
        };
        assert_eq!(standing.at.to_string(), "2020-04-20T00:00:00.000Z");
        assert_eq!(
            (standing.until, standing.region, standing.seq),
            (Some(20_200_504), Some(440_106), 123)
        );
        assert_eq!(
            (profile.name, profile.assurance),
            (None, Assurance::Unverified)
        );
    }

    #[test]
    fn every_rejection_has_a_line_that_earns_it() {
        use Rejection::*;
        let cases = [
            ("\u{feff}not json".to_owned(), NotJson),
            (
                r#"{"event":"status","cert_type":"10","cert_no":""#.into(),
                NotJson,
            ),
            ("[]".into(), NotAnObject),
            ("7".into(), NotAnObject),
            ("null".into(), NotAnObject),
            (r#"["status"]"#.into(), NotAnObject),
            (STATUS.replace("123", "\"123\""), BadField),
            (STATUS.replace("123", "-1"), BadField),
            (STATUS.replace("{", r#"{"event":"status","#), BadField),
            (r#"{"event":"dance"}"#.into(), UnknownEvent),
            ("{}".into(), MissingField("event")),
            (
                STATUS.replace(r#""source":"gd-cdc","#, ""),
                MissingField("source"),
            ),
            (STATUS.replace(r#""seq":123,"#, ""), MissingField("seq")),
            (
                RESIDENT.replace(r#","name":"陈美玲""#, ""),
                MissingField("name"),
            ),
            (RESIDENT.replace(r#""10""#, r#""15""#), OfflineRegistration),
            (RESIDENT.replace("77211", "7721"), BadDocument),
            (RESIDENT.replace("77211", "77210"), BadCheckDigit),
            (RESIDENT.replace("19900307", "19901307"), BadBirthDate),
            (RESIDENT.replace("陈美玲", ""), BadName),
            (RESIDENT.replace("陈美玲", r"\u0000"), BadName),
            (RESIDENT.replace("real_person", "sure"), UnknownAssurance),
            (STATUS.replace("close_contact", "hungry"), UnknownReason),
            (STATUS.replace(r#""set""#, r#""unset""#), UnknownAction),
            (
                STATUS.replace("2020-04-20T08:00:00+08:00", "yesterday"),
                BadTime,
            ),
            (STATUS.replace("T08:00:00+08:00", ""), BadTime),
            (STATUS.replace("2020-04-20T", "1960-04-20T"), BadTime),
            (STATUS.replace("2020-05-04", "2020-05-32"), BadUntil),
            (STATUS.replace("gd-cdc", "gd cdc"), BadSource),
            (STATUS.replace(r#""440106""#, r#""44010""#), BadRegion),
            (format!("{RESIDENT}{}", " ".repeat(5000)), LineTooLong),
        ];
        for (line, why) in cases {
            assert_eq!(parse(line.as_bytes(), TODAY), Err(why), "{line}");
            assert!(!why.detail().is_empty());
        }
    }

    #[test]
    fn passes_over_fields_that_it_does_not_know() {
        let line = RESIDENT.replace("{", r#"{"future":[1,{"x":null}],"#);
        assert!(parse(line.as_bytes(), TODAY).is_ok());
    }

    proptest! {
        #[test]
        fn rubbish_is_rejected_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&line, TODAY).is_err());
        }

        #[test]
        fn a_changed_byte_is_rejected_or_read(place in 0usize..200, to in any::<u8>()) {
            let mut line = STATUS.as_bytes().to_vec();
            let place = place % line.len();
            line[place] = to;
            let _ = parse(&line, TODAY);
        }
    }
}
