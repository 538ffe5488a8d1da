//! Reasons why a feed line or a desk request is rejected, each with a code for programs and a sentence.

use crate::person::BadDocument;
use std::borrow::Cow;

/// Why a line or field was rejected. The sentence never repeats its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The line is too long.
    LineTooLong,
    /// The line is not JSON.
    NotJson,
    /// The line is JSON, but not an object.
    NotAnObject,
    /// A field has a wrong type, or occurs twice.
    BadField,
    /// The value of `event` is unknown.
    UnknownEvent,
    /// The named field is missing.
    MissingField(&'static str),
    /// Persons with this type of document are registered by staff.
    OfflineRegistration,
    /// The document number does not have the form of its type, or the type or number cannot be used here.
    BadDocument,
    /// The date of birth in the document number does not exist, or is in the future.
    BadBirthDate,
    /// The check digit of the document number is wrong.
    BadCheckDigit,
    /// The name is too long, or has invalid characters.
    BadName,
    /// The level of assurance is unknown.
    UnknownAssurance,
    /// The reason is unknown.
    UnknownReason,
    /// The action is neither `set` nor `clear`.
    UnknownAction,
    /// A time is invalid or out of bounds.
    BadTime,
    /// A day is invalid or out of bounds.
    BadUntil,
    /// The name of the source or organisation is invalid.
    BadSource,
    /// The region is not a division of six digits.
    BadRegion,
    /// The temperature is not one of a living person.
    BadTemperature,
    /// The kind of certificate is unknown.
    UnknownCertificate,
    /// The result of the test is unknown.
    UnknownResult,
    /// The number of a certificate or notice is invalid.
    BadNumber,
    /// There are too many places, or one is not a division.
    BadPlaces,
    /// The paper was sealed with another key ring or for another owner, or was changed.
    ForeignPaper,
    /// The event can be imported, but not fed.
    Imported,
    /// The token may not feed events of this source.
    SourceNotPermitted,
    /// The sequence number is above the time at the end of the day after tomorrow, in nanoseconds since 1970, or, where an operator
    /// clears a reason, above the one on record.
    SeqTooHigh,
    /// The source used the sequence number before, for the opposite or another record.
    SeqReused,
    /// The idempotency key was used before, for another line.
    KeyReused,
    /// The organisation has declared for this member as often as it may in a day.
    FiledToday,
    /// A symptom is unknown.
    UnknownSymptom,
    /// The kind of contact is unknown.
    UnknownContact,
    /// The means of transport is unknown.
    UnknownTransport,
    /// The purpose is empty or too long, or has other characters than letters, digits, dots, hyphens and underscores.
    BadPurpose,
    /// The person is not a minor, or is not said to be a student.
    NotAMinor,
    /// A text is empty, too long, or has unprintable characters.
    BadText,
    /// The member is not on the organisation's roster.
    NotOnRoster,
    /// The state of an appeal is unknown.
    UnknownState,
    /// The service has ended, and the key of its papers was destroyed.
    ServiceEnded,
    /// The store's record of the person is damaged.
    RecordDamaged,
}

impl Rejection {
    /// All rejections, in the order of the enum.
    pub const ALL: [Rejection; 40] = [
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
        Rejection::BadTemperature,
        Rejection::UnknownCertificate,
        Rejection::UnknownResult,
        Rejection::BadNumber,
        Rejection::BadPlaces,
        Rejection::ForeignPaper,
        Rejection::Imported,
        Rejection::SourceNotPermitted,
        Rejection::SeqTooHigh,
        Rejection::SeqReused,
        Rejection::KeyReused,
        Rejection::FiledToday,
        Rejection::UnknownSymptom,
        Rejection::UnknownContact,
        Rejection::UnknownTransport,
        Rejection::BadPurpose,
        Rejection::NotAMinor,
        Rejection::BadText,
        Rejection::NotOnRoster,
        Rejection::UnknownState,
        Rejection::ServiceEnded,
        Rejection::RecordDamaged,
    ];

    /// Returns the code for programs.
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
            Rejection::BadTemperature => "bad_temperature",
            Rejection::UnknownCertificate => "unknown_certificate",
            Rejection::UnknownResult => "unknown_result",
            Rejection::BadNumber => "bad_number",
            Rejection::BadPlaces => "bad_places",
            Rejection::ForeignPaper => "foreign_paper",
            Rejection::Imported => "only_imported",
            Rejection::SeqTooHigh => "seq_too_high",
            Rejection::SeqReused => "seq_reused",
            Rejection::KeyReused => "idempotency_mismatch",
            Rejection::FiledToday => "limit_reached",
            Rejection::SourceNotPermitted => "source_not_permitted",
            Rejection::UnknownSymptom => "unknown_symptom",
            Rejection::UnknownContact => "unknown_contact",
            Rejection::UnknownTransport => "unknown_transport",
            Rejection::BadPurpose => "bad_purpose",
            Rejection::NotAMinor => "not_a_minor",
            Rejection::BadText => "bad_text",
            Rejection::NotOnRoster => "not_on_roster",
            Rejection::UnknownState => "unknown_state",
            Rejection::ServiceEnded => "service_ended",
            Rejection::RecordDamaged => "record_damaged",
        }
    }

    /// Fields without which an event is rejected.
    const EVENT_FIELDS: [&str; 15] = [
        "event",
        "cert_type",
        "cert_no",
        "name",
        "assurance",
        "reason",
        "action",
        "at",
        "source",
        "seq",
        "certificate",
        "celsius",
        "places",
        "owner",
        "paper",
    ];

    /// Returns the rejection of a line by another node, which answers with its code and its sentence; None for an unknown code. The
    /// sentence alone names a missing field.
    pub fn of_answer(code: &str, detail: &str) -> Option<Rejection> {
        let mut missing = Rejection::EVENT_FIELDS
            .map(Rejection::MissingField)
            .into_iter();
        let named =
            missing.find(|rejection| rejection.code() == code && rejection.detail() == detail);
        let by_code = || {
            let mut all = Rejection::ALL.into_iter();
            all.find(|rejection| rejection.code() == code)
        };
        named.or_else(by_code)
    }

    /// Returns a sentence for the sender.
    pub fn detail(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Rejection::LineTooLong => "a line must have at most 4096 bytes",
            Rejection::NotJson => "the line is not JSON",
            Rejection::NotAnObject => "the line must be a JSON object",
            Rejection::BadField => "a field has a wrong type, or occurs twice",
            Rejection::UnknownEvent => {
                "event must be resident, status, notice, certificate, temperature or trip"
            }
            Rejection::MissingField(field) => {
                return Cow::Owned(format!("{field} is missing"));
            }
            Rejection::OfflineRegistration => {
                "documents of this type get no code: staff register their holders"
            }
            Rejection::BadDocument => {
                "cert_no does not have the form of its cert_type, or the two cannot be used here"
            }
            Rejection::BadBirthDate => "cert_no has no valid date of birth, or one in the future",
            Rejection::BadCheckDigit => {
                "the check digit of cert_no is wrong (GB 11643; ISO 7064 for registration numbers)"
            }
            Rejection::BadName => {
                "name must have 1 to 64 characters, one of them a letter or digit, no quotation marks, backslashes or control characters, and no spaces at its ends"
            }
            Rejection::UnknownAssurance => "assurance must be real_person, real_name or unverified",
            Rejection::UnknownReason => {
                "reason must be confirmed, suspected, close_contact, high_risk_area, central_isolation or home_isolation"
            }
            Rejection::UnknownAction => "action must be set or clear",
            Rejection::BadTime => {
                "at must be an RFC 3339 time with offset, from 1970 on; except for status not later than tomorrow"
            }
            Rejection::BadUntil => {
                "until, from, arrives and departs must be days such as 2020-05-04; a grant ends today or later"
            }
            Rejection::BadSource => {
                "source and organisation must have 1 to 64 letters, digits, dots, hyphens or underscores"
            }
            Rejection::BadRegion => {
                "region, destination, from and residence must be divisions of GB/T 2260, six digits"
            }
            Rejection::BadTemperature => "celsius must be a temperature between 30 and 45",
            Rejection::UnknownCertificate => {
                "certificate must be health, nucleic_test, antibody_test or vaccination"
            }
            Rejection::UnknownResult => "result must be negative or positive",
            Rejection::BadNumber => {
                "number must have 1 to 64 characters, one of them a letter or digit, no quotation marks, backslashes or control characters, and no spaces at its ends"
            }
            Rejection::BadPlaces => {
                "places must list at most 50 divisions of GB/T 2260, six digits each, and at least one in a trip"
            }
            Rejection::ForeignPaper => {
                "the paper was sealed with another key ring or for another owner, or was changed"
            }
            Rejection::UnknownSymptom => {
                "symptoms must be none alone, or any of cold_like, short_breath, nausea, palpitation and conjunctivitis"
            }
            Rejection::UnknownContact => "contact must be yes, no or unsure",
            Rejection::UnknownTransport => {
                "transport must be train, plane, coach, ship, car or other"
            }
            Rejection::BadPurpose => {
                "purpose must say why this is done: 1 to 64 letters, digits, dots, hyphens or underscores"
            }
            Rejection::NotAMinor => {
                "only minors get a code without a face check, and student must be true or false"
            }
            Rejection::BadText => {
                "text, note, phone and address must have 1 to 200 characters, one of them visible, no control characters; nationality must have 1 to 64 letters, digits, dots, hyphens or underscores"
            }
            Rejection::NotOnRoster => "this person has given the organisation no grant",
            Rejection::ServiceEnded => {
                "the service that kept this has ended, and its key was destroyed"
            }
            Rejection::RecordDamaged => {
                "the store's record of this person is damaged; send the line again when the operator has repaired the store"
            }
            Rejection::UnknownState => "state must be in_review, upheld or rejected",
            Rejection::SeqTooHigh => {
                "seq must not be above the time at the end of the day after tomorrow, in nanoseconds since 1970; when an operator clears a reason, not above the seq on record"
            }
            Rejection::KeyReused => "this idempotency key was used before for another line",
            Rejection::FiledToday => "no further declaration for this member is accepted today",
            Rejection::SeqReused => {
                "the source used this seq before for the opposite or for another record; use a higher one"
            }
            Rejection::SourceNotPermitted => "the token may not feed events of this source",
            Rejection::Imported => {
                "sealed lines of an export can be imported into a store (`liangma import`), and not fed"
            }
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
