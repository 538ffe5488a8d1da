//! Feed events: a line is parsed, checked and sealed into a change for the store. Knows neither the store nor HTTP.

mod fields;
pub mod health;
mod rejection;
mod report;
mod values;

pub use fields::{LINE_BYTES_MAX, document};
pub use health::{Certificate, HealthEvent, Notice, Origin, Temperature, TripCard};
pub use rejection::Rejection;
pub use report::{IngestReport, REJECTED_LISTED_MAX};
pub use values::{is_source, parse_day, parse_region, parse_time};

use crate::paper::{Paper, PaperKey};
use crate::person::{self, Assurance, Document, Identity, Profile, ResidentId};
use crate::seal::{Seal, SealedAnew, base32};
use crate::status::Reason;
use crate::store::record::Assertion;
use crate::store::{Change, ChangeKind};
use fields::{EventFields, fields, must};

/// A checked event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Registers or renames a person.
    Resident(Profile),
    /// Sets or clears a reason, with the profile for a person who is not on record yet.
    Status(Assertion, Profile),
    /// Clears a reason, with the notice of release.
    Notice(Assertion, Profile, Notice),
    /// Adds health information, with its source and sequence number.
    Health(Document, Origin, HealthEvent),
    /// A sealed paper written by `export`.
    Paper(Identity, Paper),
    /// The last assertion of a source about an erased person, written by `export`: a cleared reason and its sequence number.
    Erased(Identity, Assertion, ErasedProof),
}

/// A keyed hash of an erased person's identity and an assertion. Only holders of the key ring can make it.
pub type ErasedProof = [u8; 16];

impl Event {
    /// Returns the source; None if the event has none.
    pub fn source(&self) -> Option<&str> {
        match self {
            Event::Status(assertion, _) | Event::Notice(assertion, ..) => Some(&assertion.source),
            Event::Health(_, origin, _) => Some(&origin.source),
            Event::Resident(_) | Event::Paper(..) | Event::Erased(..) => None,
        }
    }
}

/// Parses and checks one line. `today` is `yyyymmdd`.
///
/// # Errors
///
/// The first fault of the line.
pub fn parse(line: &[u8], today: u32) -> Result<Event, Rejection> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Rejection::LineTooLong);
    }
    let fields = fields(line)?;
    let event = must(&fields.event, "event")?;
    match event {
        "paper" => return fields.paper(),
        "erased" => return fields.erased(),
        _ => {}
    }
    if !matches!(
        event,
        "resident" | "status" | "notice" | "certificate" | "temperature" | "trip"
    ) {
        return Err(Rejection::UnknownEvent);
    }
    let document = fields.document(today)?;
    match event {
        "resident" => fields.resident(document),
        "status" => fields.status(document, today),
        "notice" => {
            let (assertion, profile, notice) = fields.notice(document, today)?;
            Ok(Event::Notice(assertion, profile, notice))
        }
        event => {
            let health = match event {
                "certificate" => HealthEvent::Certificate(fields.certificate()?),
                "temperature" => HealthEvent::Temperature(fields.temperature()?),
                _ => HealthEvent::Trip(fields.trip()?),
            };
            Ok(Event::Health(document, fields.origin(today)?, health))
        }
    }
}

impl EventFields<'_> {
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

    fn status(&self, document: Document, today: u32) -> Result<Event, Rejection> {
        let reason =
            Reason::parse(must(&self.reason, "reason")?).ok_or(Rejection::UnknownReason)?;
        let active = match must(&self.action, "action")? {
            "set" => true,
            "clear" => false,
            _ => return Err(Rejection::UnknownAction),
        };
        let (assertion, nameless) = self.assertion(document, reason, active, today)?;
        Ok(Event::Status(assertion, nameless))
    }
}

/// Returns the changes of an event, with the resident's id and the sealed profile, so that names go no further. A notice
/// follows the clear it belongs to; every other event is one change.
///
/// # Errors
///
/// `ForeignPaper` if our keys did not seal the paper for its owner, `ServiceEnded` if the key of its service was destroyed.
pub fn seal_event(event: Event, seal: &Seal) -> Result<Vec<Change>, Rejection> {
    let (profile, assertion, notice) = match event {
        Event::Resident(profile) => (profile, None, None),
        Event::Status(assertion, profile) => (profile, Some(assertion), None),
        Event::Notice(assertion, profile, notice) => (profile, Some(assertion), Some(notice)),
        Event::Health(document, origin, health) => {
            let who = seal.identify(&document);
            return Ok(vec![health.change(who, &origin, seal)?]);
        }
        Event::Paper(who, paper) => {
            // Under the key that seals now, whichever had sealed it when it was exported.
            let paper = match seal.rest_seal().paper_anew(&who, &paper) {
                SealedAnew::Current => paper,
                SealedAnew::Anew(body) => Paper {
                    body: body.into(),
                    ..paper
                },
                SealedAnew::Ended | SealedAnew::Unopened => return Err(Rejection::ForeignPaper),
            };
            let what = ChangeKind::Paper(paper);
            return Ok(vec![Change { who, what }]);
        }
        Event::Erased(who, assertion, proof) => {
            if assertion.active || erased_proof(seal, &who, &assertion) != proof {
                return Err(Rejection::ForeignPaper);
            }
            let what = ChangeKind::Status(assertion, Box::default());
            return Ok(vec![Change { who, what }]);
        }
    };
    let who = seal.identify(&profile.document);
    let sealed = seal.profile(&who, &profile).into_boxed_slice();
    let Some(assertion) = assertion else {
        let what = ChangeKind::Profile(sealed);
        return Ok(vec![Change { who, what }]);
    };
    let notice = notice.map(|notice| {
        let origin = Origin {
            source: assertion.source.clone(),
            seq: assertion.seq,
            at: assertion.at,
        };
        HealthEvent::Notice(notice).change(who, &origin, seal)
    });
    let what = ChangeKind::Status(assertion, sealed);
    let mut changes = vec![Change { who, what }];
    changes.extend(notice.transpose()?);
    Ok(changes)
}

/// Returns a paper as a line for `import`: owner and paper in letters and digits, sealed as in the store.
pub fn paper_line(owner: &Identity, paper: &Paper) -> String {
    let mut bytes = Vec::with_capacity(32 + paper.body.len());
    bytes.extend_from_slice(&paper.key);
    paper.write(&mut bytes);
    owned_line("paper", owner, &bytes)
}

/// Returns the last assertion of a source about an erased person as a line for `import`. Without it a new store would accept an older
/// message.
pub fn erased_line(seal: &Seal, who: &Identity, assertion: &Assertion) -> String {
    let mut bytes = erased_proof(seal, who, assertion).to_vec();
    assertion.write(&mut bytes);
    owned_line("erased", who, &bytes)
}

fn owned_line(event: &str, owner: &Identity, bytes: &[u8]) -> String {
    let (owner, paper) = (base32::text(&owner_bytes(owner)), base32::text(bytes));
    serde_json::json!({ "event": event, "owner": owner, "paper": paper }).to_string()
}

fn owner_bytes(owner: &Identity) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&owner.home.0.to_be_bytes());
    bytes[8..].copy_from_slice(&owner.claim);
    bytes
}

fn erased_proof(seal: &Seal, who: &Identity, assertion: &Assertion) -> ErasedProof {
    let mut bytes = [&b"erased"[..], &owner_bytes(who)].concat();
    assertion.write(&mut bytes);
    let mut proof = [0; 16];
    proof.copy_from_slice(&seal.link(&bytes)[..16]);
    proof
}

impl EventFields<'_> {
    fn paper(&self) -> Result<Event, Rejection> {
        let (who, bytes) = self.owned()?;
        let read = || {
            let (key, value) = bytes.split_first_chunk::<16>()?;
            let key: PaperKey = *key;
            Some(Event::Paper(who, Paper::read(key, value)?))
        };
        read().ok_or(Rejection::ForeignPaper)
    }

    fn erased(&self) -> Result<Event, Rejection> {
        let (who, bytes) = self.owned()?;
        let read = || {
            let (proof, said) = bytes.split_first_chunk()?;
            let (assertion, rest) = Assertion::read(said)?;
            (rest.is_empty() && is_source(&assertion.source))
                .then_some(Event::Erased(who, assertion, *proof))
        };
        read().ok_or(Rejection::ForeignPaper)
    }

    /// Returns the owner and the bytes of a sealed line.
    fn owned(&self) -> Result<(Identity, Vec<u8>), Rejection> {
        let (owner, paper) = (must(&self.owner, "owner")?, must(&self.paper, "paper")?);
        let read = || {
            let owner = base32::bytes(owner, 24)?;
            let (home, claim) = owner.split_first_chunk::<8>()?;
            let who = Identity {
                home: ResidentId(u64::from_be_bytes(*home)),
                claim: claim.try_into().ok()?,
            };
            Some((who, base32::bytes(paper, LINE_BYTES_MAX)?))
        };
        read().ok_or(Rejection::ForeignPaper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use proptest::prelude::*;

    const TODAY: u32 = 20_261_123;
    const RESIDENT: &str = r#"{"event":"resident","cert_type":"10","cert_no":"440106199003077211","name":"陈美玲","assurance":"real_person"}"#;
    const STATUS: &str = r#"{"event":"status","cert_type":"10","cert_no":"440106199003077211","reason":"close_contact","action":"set","at":"2020-04-20T08:00:00+08:00","source":"gd-cdc","seq":123,"until":"2020-05-04","region":"440106"}"#;

    const TEMPERATURE: &str = r#"{"event":"temperature","cert_type":"10","cert_no":"440106199003077211","celsius":36.5,"at":"2020-04-20T08:00:00+08:00","source":"east-gate","seq":9,"region":"440106"}"#;
    const CERTIFICATE: &str = r#"{"event":"certificate","cert_type":"10","cert_no":"440106199003077211","certificate":"nucleic_test","result":"negative","number":"粤-7","at":"2020-04-20T08:00:00+08:00","source":"gz-lab","seq":4,"until":"2020-04-27"}"#;
    const TRIP: &str = r#"{"event":"trip","cert_type":"10","cert_no":"440106199003077211","places":["440100","420100"],"at":"2020-04-19T16:00:00Z","source":"carriers","seq":20200420}"#;
    const NOTICE: &str = r#"{"event":"notice","cert_type":"10","cert_no":"440106199003077211","reason":"close_contact","at":"2020-04-20T08:00:00+08:00","source":"gd-cdc","seq":124,"number":"粤卫-12","from":"2020-04-06","until":"2020-04-20","region":"440106"}"#;

    fn ring() -> Seal {
        let settings = crate::seal::Settings {
            code_life: std::time::Duration::from_secs(60),
            clock_skew: std::time::Duration::ZERO,
            issuer: None,
        };
        Seal::new(&crate::seal::ring::RingFile::generate(Time(0)), settings)
    }

    fn changes(line: &str, seal: &Seal) -> Vec<Change> {
        seal_event(parse(line.as_bytes(), TODAY).unwrap(), seal).unwrap()
    }

    #[test]
    fn what_is_said_of_health_is_a_paper_with_the_key_of_its_source_and_number() {
        let seal = ring();
        let paper = |line: &str| match changes(line, &seal).remove(0).what {
            ChangeKind::Paper(paper) => paper,
            what => panic!("{what:?}"),
        };
        for line in [TEMPERATURE, CERTIFICATE, TRIP] {
            let (first, again) = (paper(line), paper(line));
            assert_eq!(first, again);
            let later = line.replace("2020-04", "2020-03");
            assert_eq!(paper(&later).key, first.key, "the time is not part of it");
            let next = line.replace(r#""seq":"#, r#""seq":1"#);
            assert_ne!(paper(&next).key, first.key);
        }
        let who = changes(TEMPERATURE, &seal)[0].who;
        let body = seal.open_paper(&who, &paper(TEMPERATURE)).unwrap();
        let body: Temperature = serde_json::from_slice(&body).unwrap();
        assert_eq!((body.celsius, body.source.as_str()), (36.5, "east-gate"));
    }

    #[test]
    fn a_notice_clears_and_comes_with_its_clear_alone() {
        let changes = changes(NOTICE, &ring());
        let [clear, notice] = &changes[..] else {
            panic!("two changes");
        };
        assert!(
            matches!(&clear.what, ChangeKind::Status(assertion, _) if !assertion.active && assertion.seq == 124)
        );
        assert!(clear.what.is_counted() && !notice.what.is_counted());
        assert_eq!(clear.who, notice.who);
    }

    #[test]
    fn a_paper_that_was_exported_comes_back_and_no_other() {
        let seal = ring();
        let change = changes(TEMPERATURE, &seal).remove(0);
        let ChangeKind::Paper(paper) = &change.what else {
            panic!("a paper");
        };
        let line = paper_line(&change.who, paper);
        assert!(!line.contains("36.5"));
        let event = parse(line.as_bytes(), TODAY).unwrap();
        assert_eq!(event, Event::Paper(change.who, paper.clone()));
        assert_eq!(seal_event(event, &seal).unwrap().len(), 1);
        let event = parse(line.as_bytes(), TODAY).unwrap();
        assert_eq!(
            seal_event(event, &ring()).unwrap_err(),
            Rejection::ForeignPaper
        );
        let other = Identity::of_hash(&[1; 32]);
        let event = parse(paper_line(&other, paper).as_bytes(), TODAY).unwrap();
        assert_eq!(
            seal_event(event, &seal).unwrap_err(),
            Rejection::ForeignPaper
        );
    }

    #[test]
    fn reads_both_events_of_the_contract() {
        let Event::Resident(profile) = parse(RESIDENT.as_bytes(), TODAY).unwrap() else {
            panic!("a resident");
        };
        assert_eq!(profile.name.as_deref(), Some("陈美玲"));
        let Event::Status(assertion, profile) = parse(STATUS.as_bytes(), TODAY).unwrap() else {
            panic!("a status");
        };
        assert_eq!(assertion.at.to_string(), "2020-04-20T00:00:00.000Z");
        assert_eq!(
            (assertion.until, assertion.region, assertion.seq),
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
            (
                RESIDENT.replace(r#","assurance":"real_person""#, ""),
                MissingField("assurance"),
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
            (TEMPERATURE.replace("36.5", "29.9"), BadTemperature),
            (TEMPERATURE.replace("36.5", "1e999"), BadField),
            (TEMPERATURE.replace("36.5", "\"36.5\""), BadField),
            (
                TEMPERATURE.replace(r#""celsius":36.5,"#, ""),
                MissingField("celsius"),
            ),
            (TEMPERATURE.replace("2020-", "2027-"), BadTime),
            (
                CERTIFICATE.replace("nucleic_test", "beauty"),
                UnknownCertificate,
            ),
            (CERTIFICATE.replace("negative", "fine"), UnknownResult),
            (CERTIFICATE.replace("粤-7", r"\u0000"), BadNumber),
            (TRIP.replace(r#""440100","420100""#, ""), BadPlaces),
            (TRIP.replace("440100", "Canton"), BadPlaces),
            (
                TRIP.replace(r#""440100""#, &[r#""440100""#; 50].join(",")),
                BadPlaces,
            ),
            (NOTICE.replace("2020-04-06", "2020-04-31"), BadUntil),
            (
                r#"{"event":"paper","owner":"AA","paper":"AA"}"#.into(),
                ForeignPaper,
            ),
        ];
        for (line, why) in cases {
            assert_eq!(parse(line.as_bytes(), TODAY), Err(why), "{line}");
            assert!(!why.detail().is_empty());
            let answered = Rejection::of_answer(why.code(), &why.detail());
            assert_eq!(answered, Some(why), "as `import --to` says it");
        }
    }

    #[test]
    fn times_are_those_of_rfc_3339_and_no_others() {
        let at = |text: &str| parse_time(text).map(|time| time.to_string());
        for (text, same) in [
            ("2020-04-20T08:00:00+08:00", "2020-04-20T00:00:00.000Z"),
            ("2020-04-20t08:00:00z", "2020-04-20T08:00:00.000Z"),
            ("2020-04-20T08:00:00-00:00", "2020-04-20T08:00:00.000Z"),
            ("2020-04-20T23:59:59.9+23:59", "2020-04-20T00:00:59.900Z"),
            (
                "2020-02-29T00:00:00.1234567890123Z",
                "2020-02-29T00:00:00.123Z",
            ),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
            ("2017-01-01T07:59:60.5+08:00", "2016-12-31T23:59:59.999Z"),
            ("1970-01-01T08:00:00+08:00", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(same), "{text}");
        }
        for text in [
            "",
            "2020-04-20",
            "2020-04-20 08:00:00Z",
            "2020-04-20T08:00:00",
            "2020-04-20T08:00Z",
            "2020-04-20T08:00:00+08",
            "2020-04-20T08:00:00+0800",
            "2020-04-20T08:00:00+24:00",
            "2020-04-20T08:00:00+08:60",
            "2020-04-20T08:00:00.Z",
            "2020-04-20T08:00:00,5Z",
            "2020-04-20T24:00:00Z",
            "2020-04-20T08:60:00Z",
            "2020-04-20T08:00:61Z",
            "2020-04-20T08:00:60Z",
            "2020-04-20T23:59:60Z",
            "2019-02-29T08:00:00Z",
            "2020-04-20T08:00:00Z ",
            "2020-04-20T08:00:00Z[UTC]",
            "2020-04-20T08:00:00+08:00[Asia/Shanghai]",
            "20200420T080000Z",
            "+002020-04-20T08:00:00Z",
            "1969-12-31T23:59:59Z",
            "２020-04-20T08:00:00Z",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_seq_is_no_higher_than_the_time_in_nanoseconds() {
        let now: u64 = 1_795_400_000_000_000_000; // on TODAY
        for (seq, taken) in [
            (0, true),
            (20_261_123_080_000_001, true),
            (now / 1_000_000, true),
            (now, true),
            (now + 86_400_000_000_000, true),
            (now + 4 * 86_400_000_000_000, false),
            (i64::MAX as u64, false),
            (u64::MAX, false),
        ] {
            for line in [STATUS, NOTICE, TEMPERATURE, CERTIFICATE, TRIP] {
                let (head, tail) = line.split_once(r#""seq":"#).unwrap();
                let tail = tail.trim_start_matches(|c: char| c.is_ascii_digit());
                let read = parse(format!(r#"{head}"seq":{seq}{tail}"#).as_bytes(), TODAY);
                match taken {
                    true => assert!(read.is_ok(), "{seq}: {read:?}"),
                    false => assert_eq!(read, Err(Rejection::SeqTooHigh), "{seq}"),
                }
            }
        }
    }

    #[test]
    fn an_end_that_is_open_is_a_far_day() {
        for (text, day) in [
            ("9999-12-31", Some(99_991_231)),
            ("2101-02-28", Some(21_010_228)),
            ("9999-12-32", None),
            ("2100-02-29", None),
        ] {
            assert_eq!(parse_day(text), day, "{text}");
        }
    }

    #[test]
    fn an_event_reads_its_own_fields_alone() {
        // Each field, in a type that no event takes, and twice.
        let fields: &[(&str, &[&str])] = &[
            ("name", &["resident"]),
            ("assurance", &["resident"]),
            ("reason", &["status", "notice"]),
            ("action", &["status"]),
            (
                "at",
                &["status", "notice", "temperature", "certificate", "trip"],
            ),
            (
                "source",
                &["status", "notice", "temperature", "certificate", "trip"],
            ),
            (
                "seq",
                &["status", "notice", "temperature", "certificate", "trip"],
            ),
            ("until", &["status", "notice", "certificate"]),
            (
                "region",
                &["status", "notice", "certificate", "temperature"],
            ),
            ("celsius", &["temperature"]),
            ("certificate", &["certificate"]),
            ("result", &["certificate"]),
            ("number", &["certificate", "notice"]),
            ("from", &["notice"]),
            ("places", &["trip"]),
            ("owner", &[]),
            ("paper", &[]),
        ];
        let lines = [RESIDENT, STATUS, NOTICE, TEMPERATURE, CERTIFICATE, TRIP];
        for line in lines {
            let plain = parse(line.as_bytes(), TODAY).unwrap();
            let event = line.split('"').nth(3).unwrap();
            for (field, of) in fields {
                for value in [r#"{"x":[1e999]}"#, r#""\ud800""#, "-1.5", "[[],7]", "true"] {
                    let held = format!(r#"{{"{field}":{value},"{field}":{value},"#);
                    let read = parse(line.replacen('{', &held, 1).as_bytes(), TODAY);
                    match of.contains(&event) {
                        true => assert_eq!(read, Err(Rejection::BadField), "{event} {field}"),
                        false => assert_eq!(read.as_ref(), Ok(&plain), "{event} {field}"),
                    }
                }
            }
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
