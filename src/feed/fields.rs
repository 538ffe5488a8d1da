//! The fields of a feed line: cut from JSON once, and read by each kind of event.

use super::rejection::Rejection;
use super::values::{SEQ_ALWAYS, is_source, parse_day, parse_region, parse_time, seq_max};
use crate::person::{Assurance, Document, Profile};
use crate::status::Reason;
use crate::store::record::Assertion;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;

/// Longest line in bytes. The longest real event has about 400.
pub const LINE_BYTES_MAX: usize = 4096;

/// A string that borrows from the line if possible; `Option<Cow>` alone would always copy.
#[derive(Deserialize)]
pub(super) struct BorrowedText<'l>(#[serde(borrow)] pub(super) Cow<'l, str>);

/// All fields of all events; which ones are required depends on the event. Unknown fields are ignored, so that an authority may
/// send more to newer nodes.
#[derive(Deserialize)]
pub(super) struct EventFields<'l> {
    #[serde(borrow)]
    pub(super) event: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    cert_type: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    cert_no: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    registration: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) name: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) assurance: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) reason: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) action: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) at: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) source: Option<BorrowedText<'l>>,
    pub(super) seq: Option<u64>,
    #[serde(borrow)]
    pub(super) until: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) region: Option<BorrowedText<'l>>,
    pub(super) celsius: Option<f64>,
    #[serde(borrow)]
    pub(super) certificate: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) result: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) number: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) from: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) places: Option<Vec<BorrowedText<'l>>>,
    #[serde(borrow)]
    pub(super) owner: Option<BorrowedText<'l>>,
    #[serde(borrow)]
    pub(super) paper: Option<BorrowedText<'l>>,
}

/// Returns the text of a field that must be there; `name` is for the rejection.
pub(super) fn must<'f>(
    field: &'f Option<BorrowedText<'_>>,
    name: &'static str,
) -> Result<&'f str, Rejection> {
    match field {
        Some(text) => Ok(&text.0),
        None => Err(Rejection::MissingField(name)),
    }
}

/// Cuts a line into its fields.
pub(super) fn fields(line: &[u8]) -> Result<EventFields<'_>, Rejection> {
    let object = line.trim_ascii_start().first() == Some(&b'{');
    if object && let Ok(fields) = serde_json::from_slice(line) {
        return Ok(fields);
    }
    // Only a faulty line is parsed again: for the reason, or because the fault is in a field of another event.
    match serde_json::from_slice::<IgnoredAny>(line) {
        Err(_) => Err(Rejection::NotJson),
        Ok(_) if !object => Err(Rejection::NotAnObject),
        Ok(_) => own_fields(line),
    }
}

/// Parses the fields of this line's event; fields of other events are ignored, whatever they hold.
fn own_fields(line: &[u8]) -> Result<EventFields<'static>, Rejection> {
    let read = |own: &[&str]| {
        let mut line = serde_json::Deserializer::from_slice(line);
        let read = OnlyFields(own).deserialize(&mut line).ok();
        read.and_then(|read| EventFields::deserialize(read).ok())
            .ok_or(Rejection::BadField)
    };
    let head = read(&["event"])?;
    let of_event = match must(&head.event, "event")? {
        "paper" | "erased" => return read(&["event", "owner", "paper"]),
        "resident" => &["name", "assurance"][..],
        "status" => &["reason", "action", "at", "source", "seq", "until", "region"],
        "notice" => &[
            "reason", "at", "source", "seq", "number", "from", "until", "region",
        ],
        "certificate" => &[
            "certificate",
            "result",
            "number",
            "at",
            "source",
            "seq",
            "until",
            "region",
        ],
        "temperature" => &["celsius", "at", "source", "seq", "region"],
        "trip" => &["places", "at", "source", "seq"],
        _ => return Ok(head),
    };
    let whose = ["event", "cert_type", "cert_no", "registration"];
    read(&[&whose[..], of_event].concat())
}

/// Reads the fields with these names, each at most once, and ignores the others.
struct OnlyFields<'o>(&'o [&'o str]);

impl<'de> DeserializeSeed<'de> for OnlyFields<'_> {
    type Value = serde_json::Value;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Self::Value, D::Error> {
        object.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OnlyFields<'_> {
    type Value = serde_json::Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut own = serde_json::Map::new();
        while let Some(name) = all.next_key::<String>()? {
            if !self.0.contains(&&*name) {
                all.next_value::<IgnoredAny>()?;
            } else if own.insert(name, all.next_value()?).is_some() {
                return Err(serde::de::Error::custom("a field stands twice"));
            }
        }
        Ok(own.into())
    }
}

/// Returns the document of an event or override, or the number of a registration by staff.
///
/// # Errors
///
/// The fault of the document.
pub fn document(
    registration: Option<&str>,
    cert_type: Option<&str>,
    cert_no: Option<&str>,
    today: u32,
) -> Result<Document, Rejection> {
    let missing = Rejection::MissingField;
    match registration {
        Some(number) if cert_type.is_none() && cert_no.is_none() => {
            Ok(Document::registration(number)?)
        }
        Some(_) => Err(Rejection::BadDocument),
        None => Ok(Document::parse(
            cert_type.ok_or(missing("cert_type"))?,
            cert_no.ok_or(missing("cert_no"))?,
            today,
        )?),
    }
}

impl EventFields<'_> {
    /// Returns the document that the line names.
    pub(super) fn document(&self, today: u32) -> Result<Document, Rejection> {
        fn text<'f>(field: &'f Option<BorrowedText<'_>>) -> Option<&'f str> {
            field.as_ref().map(|text| &*text.0)
        }
        let registration = text(&self.registration);
        document(
            registration,
            text(&self.cert_type),
            text(&self.cert_no),
            today,
        )
    }

    /// Returns what the source says of the reason, and the person, whose name is unknown.
    pub(super) fn assertion(
        &self,
        document: Document,
        reason: Reason,
        active: bool,
        today: u32,
    ) -> Result<(Assertion, Profile), Rejection> {
        let at = parse_time(must(&self.at, "at")?).ok_or(Rejection::BadTime)?;
        let source = must(&self.source, "source")?;
        if !is_source(source) {
            return Err(Rejection::BadSource);
        }
        let assertion = Assertion {
            reason,
            source: source.into(),
            seq: self.seq(today)?,
            active,
            at,
            until: self.until()?,
            region: self.region()?,
        };
        let nameless = Profile {
            document,
            name: None,
            assurance: Assurance::Unverified,
        };
        Ok((assertion, nameless))
    }

    /// Returns the sequence number, if it is one that a source may have reached today.
    pub(super) fn seq(&self, today: u32) -> Result<u64, Rejection> {
        let seq = self.seq.ok_or(Rejection::MissingField("seq"))?;
        match seq <= SEQ_ALWAYS || seq <= seq_max(today) {
            true => Ok(seq),
            false => Err(Rejection::SeqTooHigh),
        }
    }

    /// Returns the last day, if there is one.
    pub(super) fn until(&self) -> Result<Option<u32>, Rejection> {
        let day = |text: &BorrowedText<'_>| parse_day(&text.0).ok_or(Rejection::BadUntil);
        self.until.as_ref().map(day).transpose()
    }

    /// Returns the division, if there is one.
    pub(super) fn region(&self) -> Result<Option<u32>, Rejection> {
        let region = |text: &BorrowedText<'_>| parse_region(&text.0).ok_or(Rejection::BadRegion);
        self.region.as_ref().map(region).transpose()
    }
}
