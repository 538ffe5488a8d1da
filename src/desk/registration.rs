//! Offline registration: staff register people without an eligible document, and look them up with a stated purpose.
//! Foreign nationals and residents of Taiwan are registered in the same way. Staff get the text of a slip. No place may make the
//! code the only accepted proof, and the slip says so.
//!
//! The number on the slip stands for the person as a document does: feeds name the person by it. The same document always gives
//! the same number, so a person does not become green by registering again.

use super::context::Desk;
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::{content_of, id, object, purpose};
use crate::clock::{Time, print_day};
use crate::desk::audit::AuditedAct;
use crate::desk::entry::is_within;
use crate::desk::roles::{Act, Role};
use crate::feed::{Rejection, is_source};
use crate::language::Language;
use crate::paper::{PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{
    Assurance, Document, Identity, Profile, REGISTRATION_CHARS, is_name, is_text,
    registration_check,
};
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Seal, base32};
use crate::status::Reason;
use crate::status::ResidentStatus;
use crate::store::{Change, ChangeKind, Error, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Document types without a code: Taiwan residents (15, 16), foreign nationals (34), others (99), and none.
const CERT_TYPES: [&str; 5] = ["15", "16", "34", "99", "none"];

const NUMBER_CHARS_MAX: usize = 32;

/// Newest registrations under one number that an answer has.
const REGISTRATIONS_MAX: usize = 20;

#[derive(Deserialize)]
struct RegistrationRequest {
    cert_type: Option<String>,
    cert_no: Option<String>,
    /// Number of a slip.
    number: Option<String>,
    name: Option<String>,
    nationality: Option<String>,
    phone: Option<String>,
    address: Option<String>,
    purpose: Option<String>,
}

/// A registration as stored and as staff see it.
#[derive(Serialize, Deserialize)]
struct Registration {
    number: String,
    cert_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_no: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nationality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    registered_by: String,
    region: String,
}

impl Registration {
    /// Returns the number of the slip as a document; None if it is not a number.
    fn person(&self) -> Option<Document> {
        Document::registration(&self.number).ok()
    }
}

/// Returns a number in its canonical spelling.
fn spelled(number: &str) -> Result<String, Rejection> {
    let good = (1..=NUMBER_CHARS_MAX).contains(&number.len())
        && number
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match good {
        true => Ok(number.to_ascii_uppercase()),
        false => Err(Rejection::BadDocument),
    }
}

impl RegistrationRequest {
    /// Returns the type and number of the document, if there is one.
    fn document(&self) -> Result<(String, Option<String>), Rejection> {
        let cert_type = self
            .cert_type
            .clone()
            .ok_or(Rejection::MissingField("cert_type"))?;
        if !CERT_TYPES.contains(&cert_type.as_str()) {
            // A person with another type of document applies for a code.
            return Err(Rejection::BadDocument);
        }
        let cert_no = match (cert_type.as_str(), &self.cert_no) {
            ("none", None) => None,
            ("none", Some(_)) => return Err(Rejection::BadDocument),
            (_, cert_no) => {
                let cert_no = cert_no
                    .as_deref()
                    .ok_or(Rejection::MissingField("cert_no"))?;
                Some(spelled(cert_no)?)
            }
        };
        Ok((cert_type, cert_no))
    }

    fn check(self, number: String, staff: &AccessToken) -> Result<Registration, Rejection> {
        let (cert_type, cert_no) = self.document()?;
        let name = self.name.ok_or(Rejection::MissingField("name"))?;
        if !is_name(&name) {
            return Err(Rejection::BadName);
        }
        if !self.nationality.iter().all(|code| is_source(code)) {
            return Err(Rejection::BadText);
        }
        if ![&self.phone, &self.address]
            .into_iter()
            .flatten()
            .all(|text| is_text(text))
        {
            return Err(Rejection::BadText);
        }
        Ok(Registration {
            number,
            cert_type,
            cert_no,
            name,
            nationality: self.nationality,
            phone: self.phone,
            address: self.address,
            registered_by: staff.holder().to_owned(),
            region: staff.bound().unwrap_or_default().to_owned(),
        })
    }
}

fn by_document(seal: &Seal, cert_type: &str, cert_no: &str) -> Identity {
    let name = format!("{cert_type}:{cert_no}");
    spread(seal, "registration by document", &name)
}

fn by_number(seal: &Seal, number: &str) -> Identity {
    spread(seal, "registration by number", number)
}

/// Returns an owner whose partition follows from its name.
fn spread(seal: &Seal, noun: &str, name: &str) -> Identity {
    let anywhere = seal.owner(noun, name, 0);
    seal.owner(noun, name, anywhere.claim[0] & 15)
}

/// Returns the owners and keys of the registrations under a number.
///
/// # Errors
///
/// The store fails, or a registration cannot be opened.
pub(super) async fn on_lists(
    store: &dyn Store,
    seal: &Seal,
    number: &str,
) -> Result<Vec<(Identity, Vec<PaperKey>)>, Error> {
    let owner = by_number(seal, number);
    let mut lists: Vec<(Identity, Vec<PaperKey>)> = Vec::new();
    let mut after = None;
    loop {
        let kinds = PaperKinds::of(&[PaperKind::Registration]);
        let page = store.papers(owner, kinds, after, PAGE_MAX).await?;
        let Some(last) = page.last() else {
            return Ok(lists);
        };
        after = Some(last.cursor());
        lists.push((owner, page.iter().map(|paper| paper.key).collect()));
        for paper in &page {
            let registration: Option<Registration> =
                super::filing::opened(seal, &owner, paper).ok();
            if let Some((cert_type, cert_no)) =
                registration.and_then(|one| Some((one.cert_type, one.cert_no?)))
            {
                let owner = by_document(seal, &cert_type, &cert_no);
                lists.push((owner, vec![paper.key]));
            }
        }
    }
}

impl Desk<'_> {
    /// Returns the number of a slip: 55 bits, which nobody guesses and anybody can read out, and a check character.
    fn number_of(&self, document: &(String, Option<String>), key: &PaperKey) -> String {
        let key = match document {
            (cert_type, Some(cert_no)) => {
                let parts = [cert_type.as_bytes(), cert_no.as_bytes()];
                self.seal
                    .paper_key(&[b"registration number", parts[0], parts[1]])
            }
            (_, None) => *key,
        };
        let mut number = base32::text(&key)[..REGISTRATION_CHARS - 1].to_owned();
        let check = registration_check(number.as_bytes()).expect("base32");
        number.push(check.into());
        number
    }

    /// Returns the change that puts a registered person on record.
    fn on_record(&self, registration: &Registration) -> Result<Change, Refusal> {
        let document = registration.person().ok_or(Refusal::Malformed)?;
        let who = self.seal.identify(&document);
        let profile = Profile {
            document,
            name: Some(registration.name.clone()),
            assurance: match registration.cert_no {
                Some(_) => Assurance::RealName,
                None => Assurance::Unverified,
            },
        };
        let what = ChangeKind::Profile(self.seal.profile(&who, &profile).into());
        Ok(Change { who, what })
    }

    /// Returns up to `most` wanted registrations under a number or document, the newest first. Others do not count against
    /// `most`.
    async fn registered(
        &self,
        owner: Identity,
        is_wanted: impl Fn(&Registration) -> bool,
        most: usize,
    ) -> Result<Vec<(Paper, Registration)>, Refusal> {
        let kinds = PaperKinds::of(&[PaperKind::Registration]);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .store_client
                .papers_now(owner, kinds, after, PAGE_MAX)
                .await?;
            after = page.last().map(Paper::cursor);
            let more = page.len() == PAGE_MAX;
            for paper in page {
                let registration = self.open(&owner, &paper)?;
                if is_wanted(&registration) {
                    found.push((paper, registration));
                }
            }
            if !more || found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
        }
    }

    /// Returns whether a registration belongs to the region of a member of staff.
    fn is_of(&self, registration: &Registration, staff: &AccessToken) -> bool {
        let own = staff.bound().unwrap_or_default();
        !own.is_empty() && is_within(&registration.region, own)
    }

    /// Registers a person. A repeated registration has the same number; the newest counts.
    ///
    /// # Errors
    ///
    /// `IdempotencyMismatch`, `LimitReached` beyond the registrations of a document in a day, a rejection of a field, and the
    /// refusals of the store and the audit log.
    pub(super) async fn register_offline(
        &self,
        staff: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let asking: RegistrationRequest = object(asked.body)?;
        let (word, content) = (asked.idempotency, content_of(asked.body)?);
        let key = self.key_of("registration", staff.name.as_bytes(), word, &content);
        let number = self.number_of(&asking.document()?, &key);
        let registration = asking.check(number, staff)?;
        let office = self.office(&staff.name, word);
        self.bind_to("registration", office, word, &content).await?;
        let by_number = by_number(self.seal, &registration.number);
        // Each registration of a document is on one list, which no office fills.
        self.take_place("registration", staff.holder(), by_number, key)
            .await?;
        let deed = AuditedAct::new(staff.holder(), Role::Staff, Act::Register.word());
        self.record_deeds(vec![deed.about(by_number)]).await?;
        let elsewhere = |known: &Registration| !self.is_of(known, staff);
        let known = self.registered(by_number, elsewhere, 1).await?;
        let mut changes =
            vec![self.filing(by_number, PaperKind::Registration, key, &registration)?];
        if let Some(cert_no) = &registration.cert_no {
            let by_document = by_document(self.seal, &registration.cert_type, cert_no);
            changes.push(self.filing(by_document, PaperKind::Registration, key, &registration)?);
        }
        // Staff of another region cannot rename a person on record.
        if known.is_empty() {
            changes.push(self.on_record(&registration)?);
        }
        self.store_client.apply(changes).await?;
        Ok(DeskResponse::Done(json!({
            "number": registration.number, "name": registration.name, "region": registration.region,
            "slip": slip(&registration, self.now, asked.language), "note": note(asked.language),
        })))
    }

    /// Finds a registered person. The look is recorded with its purpose before any data is shown.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no registration in the region of the staff, `LimitReached` beyond the purposes of a day, a
    /// rejection of a field, and the refusals of the store and the audit log.
    pub(super) async fn find_registered(
        &self,
        staff: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let asking: RegistrationRequest = object(asked.body)?;
        let purpose = purpose(asking.purpose.as_deref())?;
        let owner = match &asking.number {
            Some(number) => by_number(self.seal, &spelled(number)?),
            None => {
                let (cert_type, cert_no) = asking.document()?;
                let cert_no = cert_no.ok_or(Rejection::MissingField("number"))?;
                by_document(self.seal, &cert_type, &cert_no)
            }
        };
        let own = |registration: &Registration| self.is_of(registration, staff);
        let found = self.registered(owner, own, REGISTRATIONS_MAX).await?;
        // Staff get no registrations of another region, and the attempt is recorded.
        if found.is_empty() {
            let deed = AuditedAct::new(staff.holder(), Role::Staff, Act::FindRegistered.word());
            let deed = deed.purpose(purpose).about(owner);
            return Err(self.missed(deed, json!({})).await?.into());
        }
        self.record(staff, Role::Staff, Act::FindRegistered, purpose, &[owner])
            .await?;
        let mut registrations = Vec::with_capacity(found.len());
        for (paper, registration) in &found {
            let mut told: Value = json!(&registration);
            told["id"] = id(paper).into();
            told["at"] = paper.at.to_string().into();
            if let Some(document) = registration.person() {
                let who = self.seal.identify(&document);
                let (status, freshness) = self.store_client.standing_of(who).await?;
                told["state"] = status.state().into();
                told["as_of"] = freshness.as_of.to_string().into();
                if let ResidentStatus::Known(reasons) = status {
                    let words: Vec<&str> = reasons.iter().map(Reason::word).collect();
                    told["reasons"] = json!(words);
                }
            }
            registrations.push(told);
        }
        Ok(DeskResponse::Found(
            json!({ "registrations": registrations, "note": note(asked.language) }),
        ))
    }
}

/// Returns the slip as plain lines for any printer.
fn slip(registration: &Registration, at: Time, language: Language) -> String {
    let Registration {
        number,
        name,
        region,
        ..
    } = registration;
    let day = print_day(at.day());
    let [title, of, by, on] = match language {
        Language::Hans => ["粤康码线下登记凭条", "姓名", "登记地区", "登记日期"],
        Language::Hant => ["粵康碼線下登記憑條", "姓名", "登記地區", "登記日期"],
        Language::En => ["Offline registration slip", "Name", "Region", "Date"],
    };
    format!(
        "{title}\nNo. {number}\n{of}: {name}\n{by}: {region}\n{on}: {day}\n{}\n",
        note(language)
    )
}

fn note(language: Language) -> &'static str {
    match language {
        Language::Hans => {
            "凭本登记可由工作人员查验。健康码不是通行的唯一凭证，任何场所不得以无码为由拒绝通行。"
        }
        Language::Hant => {
            "憑本登記可由工作人員查驗。健康碼不是通行的唯一憑證，任何場所不得以無碼為由拒絕通行。"
        }
        Language::En => {
            "Staff can look this registration up. A health code is not the only accepted proof: no place may turn anybody away for having none."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_has_the_day_in_china() {
        let registration = Registration {
            number: "CTWZV6ZRDGWW".to_owned(),
            cert_type: "none".to_owned(),
            cert_no: None,
            name: "无名氏".to_owned(),
            nationality: None,
            phone: None,
            address: None,
            registered_by: "wang-01".to_owned(),
            region: "440100".to_owned(),
        };
        for (at, day) in [
            ("2026-11-28T15:59:59Z", "2026-11-28"),
            ("2026-11-28T16:00:00Z", "2026-11-29"),
            ("2026-12-31T23:00:00Z", "2027-01-01"),
        ] {
            let at = crate::feed::parse_time(at).unwrap();
            let slip = slip(&registration, at, Language::En);
            assert!(slip.contains(&format!("\nDate: {day}\n")), "{slip}");
        }
    }
}
