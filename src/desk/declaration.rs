//! Health declarations: of oneself, of another person, and of an organisation's members, one or thousands. The newest counts;
//! all are kept.

use super::context::Desk;
use super::persons::{MaskedPerson, NamedPerson};
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::{content_of, id, key_in, object};
use crate::feed::health::celsius;
use crate::feed::{IngestReport, LINE_BYTES_MAX, Rejection, parse_region};
use crate::lines::LineSplitter;
use crate::paper::{PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Caller, Session};
use crate::store::Change;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Symptoms, each at the index of its national code minus one.
const SYMPTOMS: [&str; 6] = [
    "none",
    "cold_like",
    "short_breath",
    "nausea",
    "palpitation",
    "conjunctivitis",
];

/// Answers about contact with a patient, in the order of the national codes.
const CONTACTS: [&str; 3] = ["yes", "no", "unsure"];

/// Largest number of places in a declaration.
const PLACES_MAX: usize = 20;

/// Declarations of one resident in a day, also refused ones.
const DECLARATIONS_DAY_MAX: usize = 128;

/// Declarations that are stored in one call.
const BATCH: usize = 1_000;

/// A declaration as sent.
#[derive(Deserialize)]
struct DeclarationRequest {
    celsius: Option<f64>,
    #[serde(default)]
    symptoms: Vec<String>,
    contact: Option<String>,
    high_risk_area: Option<bool>,
    #[serde(default)]
    places: Vec<String>,
    residence: Option<String>,
    /// The person concerned, if it is another one.
    #[serde(rename = "for")]
    about: Option<NamedPerson>,
    /// The id of the member on the organisation's roster.
    member: Option<String>,
    /// The idempotency key of a line of many.
    key: Option<String>,
}

/// A declaration as stored and answered.
#[derive(Serialize)]
struct Declaration {
    #[serde(skip_serializing_if = "Option::is_none")]
    celsius: Option<f64>,
    symptoms: Vec<String>,
    /// The symptoms and contact in the national codes.
    symptom: String,
    contact: String,
    high_risk_area: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    places: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    residence: Option<String>,
    /// `self`, `other` or `organisation`.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    declarer: Option<Value>,
}

/// The part of a stored declaration that says who made it.
#[derive(Deserialize)]
struct DeclaredBy {
    by: String,
}

impl DeclarationRequest {
    /// Checks an organisation's declaration. Returns the roster id of the member and the declaration.
    fn for_member(self, organisation: &str) -> Result<(PaperKey, Declaration), Rejection> {
        let missing = Rejection::MissingField("member");
        let member = self.member.clone().ok_or(missing)?;
        if self.about.is_some() {
            return Err(Rejection::BadField);
        }
        let declarer = json!({ "organisation": organisation });
        let body = self.check("organisation", Some(declarer))?;
        // A text that is not an id is on no roster.
        let member = key_in(Some(&member)).map_err(|_| Rejection::NotOnRoster)?;
        Ok((member, body))
    }

    fn check(self, by: &'static str, declarer: Option<Value>) -> Result<Declaration, Rejection> {
        let contact = self.contact.ok_or(Rejection::MissingField("contact"))?;
        if !CONTACTS.contains(&contact.as_str()) {
            return Err(Rejection::UnknownContact);
        }
        if self.symptoms.is_empty() {
            return Err(Rejection::MissingField("symptoms"));
        }
        let code = |symptom: &String| SYMPTOMS.iter().position(|known| known == symptom);
        let mut codes: Vec<usize> = (self.symptoms.iter())
            .map(|symptom| code(symptom).ok_or(Rejection::UnknownSymptom))
            .collect::<Result<_, _>>()?;
        codes.sort_unstable();
        codes.dedup();
        // `none` excludes all other symptoms.
        if codes.len() > 1 && codes[0] == 0 {
            return Err(Rejection::UnknownSymptom);
        }
        let is_place = |place: &String| parse_region(place).is_some();
        if self.places.len() > PLACES_MAX || !self.places.iter().all(is_place) {
            return Err(Rejection::BadPlaces);
        }
        if !self.residence.iter().all(is_place) {
            return Err(Rejection::BadRegion);
        }
        let high_risk = Rejection::MissingField("high_risk_area");
        let codes_said: Vec<String> = codes.iter().map(|code| (code + 1).to_string()).collect();
        Ok(Declaration {
            celsius: self.celsius.map(celsius).transpose()?,
            symptoms: codes
                .iter()
                .map(|code| SYMPTOMS[*code].to_owned())
                .collect(),
            symptom: codes_said.join("^"),
            contact,
            high_risk_area: self.high_risk_area.ok_or(high_risk)?,
            places: self.places,
            residence: self.residence,
            by: by.to_owned(),
            declarer,
        })
    }
}

impl Desk<'_> {
    /// Stores a declaration: of the resident, of a family member, or of a member on the organisation's roster.
    ///
    /// # Errors
    ///
    /// `NoConsent` if the person is not a family member with that name, `NotOnRoster`, `LimitReached` beyond the daily number,
    /// `IdempotencyMismatch`, a rejection of a field, and the refusals of the store.
    pub(super) async fn declare(
        &self,
        caller: &Caller,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let declared: DeclarationRequest = object(asked.body)?;
        let word = asked.idempotency;
        let content = content_of(asked.body)?;
        let change = match caller {
            Caller::Session(session) => self.declared_by(session, declared, word, &content).await?,
            Caller::Token(_, pass, _) => {
                let (member, body) = declared.for_member(pass.holder())?;
                let ids = HashSet::from([member]);
                let members = self.members_of(pass.holder(), &ids).await?;
                let who = members.get(&member).ok_or(Refusal::NotOnRoster)?;
                let (key, change) = self.declared_for(pass, *who, &body, word, &content)?;
                let office = self.office(pass.holder(), word);
                self.bind_to("declaration", office, word, &content).await?;
                self.take_place("declaration", pass.holder(), *who, key)
                    .await?;
                change
            }
        };
        let told = self.told_of(&change);
        let new = self.store_client.apply(vec![change]).await?;
        Ok(DeskResponse::Done(
            json!({ "id": told, "new": new == [true] }),
        ))
    }

    async fn declared_by(
        &self,
        session: &Session,
        mut declared: DeclarationRequest,
        word: Option<&str>,
        content: &[u8],
    ) -> Result<Change, DeskError> {
        if declared.member.is_some() {
            return Err(Rejection::BadField.into());
        }
        let own = session.identity;
        let about = declared.about.take();
        let other = match &about {
            None => None,
            Some(about) => {
                let who = self.seal.identify(&about.check(self.now)?);
                Some(who).filter(|who| *who != own)
            }
        };
        let key = self.key_of("declaration", &own.claim, word, content);
        let Some(who) = other else {
            let body = declared.check("self", None)?;
            self.request_declaration(session, &key, word, content)
                .await?;
            return Ok(self.filing(own, PaperKind::Declaration, key, &body)?);
        };
        let declarer = json!(MaskedPerson::from(&session.masked));
        let body = declared.check("other", Some(declarer))?;
        // The contents are checked first, so that a refusal tells nothing about the person. Refused names count as well, so that
        // the name of a member is not found by trying.
        self.request_declaration(session, &key, word, content)
            .await?;
        let name = about.map(|about| about.name).unwrap_or_default();
        if !self.consents(session, who, &name).await? {
            return Err(Refusal::NoConsent.into());
        }
        Ok(self.filing(who, PaperKind::Declaration, key, &body)?)
    }

    /// Counts a declaration for the declarer, whoever it is about, and binds its idempotency key.
    async fn request_declaration(
        &self,
        session: &Session,
        key: &PaperKey,
        word: Option<&str>,
        content: &[u8],
    ) -> Result<(), Refusal> {
        let filer = self.filer(session);
        self.bound_a_day(filer, "declaration", key, DECLARATIONS_DAY_MAX)
            .await?;
        self.bind("declaration", filer, word, content).await
    }

    /// Returns whether a resident may declare for a person: the person is a family member, and the name is right. All other
    /// cases give the same answer.
    async fn consents(
        &self,
        session: &Session,
        who: Identity,
        name: &str,
    ) -> Result<bool, Refusal> {
        if session.member.is_some() || !self.shows(session.identity, who).await? {
            return Ok(false);
        }
        self.is_named(who, name).await
    }

    fn declared_for(
        &self,
        pass: &AccessToken,
        who: Identity,
        body: &Declaration,
        word: Option<&str>,
        content: &[u8],
    ) -> Result<(PaperKey, Change), Refusal> {
        let key = self.key_of("declaration", pass.holder().as_bytes(), word, content);
        let change = self.filing(who, PaperKind::Declaration, key, body)?;
        Ok((key, change))
    }

    fn told_of(&self, change: &Change) -> Option<String> {
        match &change.what {
            crate::store::ChangeKind::Paper(paper) => Some(id(paper)),
            _ => None,
        }
    }

    /// Stores declarations of members of the organisation's roster, one a line. A bad line is rejected alone. Roster ids cannot
    /// be guessed, so lines tell nothing about other people.
    ///
    /// # Errors
    ///
    /// The refusals of the store. Earlier lines may then be stored.
    pub(super) async fn declare_bulk(
        &self,
        pass: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let mut outcome = IngestReport::default();
        let mut declarations = Vec::new();
        let mut lines = LineSplitter::new(LINE_BYTES_MAX);
        let mut each = |nth, line: Option<&[u8]>| {
            let line = match line.map(<[u8]>::trim_ascii) {
                Some([]) => return,
                line => line,
            };
            let declaration = line.ok_or(Rejection::LineTooLong).and_then(|line| {
                let declared: DeclarationRequest = object(line).map_err(|_| Rejection::NotJson)?;
                let word = match (&declared.key, asked.idempotency) {
                    (Some(key), _) => Some(key.clone()),
                    (None, Some(all)) => Some(format!("{all}:{nth}")),
                    (None, None) => None,
                };
                let content = content_of(line).map_err(|_| Rejection::NotJson)?;
                let (member, body) = declared.for_member(pass.holder())?;
                Ok((member, body, word, content))
            });
            match declaration {
                Ok(declaration) => declarations.push((nth, declaration)),
                Err(why) => outcome.reject(nth, why),
            }
        };
        lines.push(asked.body, &mut each);
        lines.finish(&mut each);
        let ids = declarations.iter().map(|(_, (member, ..))| *member);
        let members = self.members_of(pass.holder(), &ids.collect()).await?;
        let (mut filed, mut changes) = (Vec::new(), Vec::new());
        let (mut keyed, mut requests) = (Vec::new(), Vec::new());
        for (nth, (_, _, word, content)) in &declarations {
            if let Some(word) = word {
                let office = self.office(pass.holder(), Some(word));
                keyed.push(*nth);
                requests.push((office, word.as_str(), &content[..]));
            }
        }
        let bound = self.bind_all("declaration", &requests).await?;
        let others = keyed.iter().zip(bound).filter(|(_, bound)| !bound);
        let others: HashSet<u64> = others.map(|(nth, _)| *nth).collect();
        for (nth, (member, body, word, content)) in &declarations {
            if others.contains(nth) {
                outcome.reject(*nth, Rejection::KeyReused);
                continue;
            }
            let Some(who) = members.get(member) else {
                outcome.reject(*nth, Rejection::NotOnRoster);
                continue;
            };
            match self.declared_for(pass, *who, body, word.as_deref(), content) {
                Ok((key, change)) => {
                    filed.push((*who, key));
                    changes.push((*nth, change));
                }
                Err(Refusal::TooLarge) => outcome.reject(*nth, Rejection::LineTooLong),
                // The key of declarations was destroyed.
                Err(Refusal::NotFound) => outcome.reject(*nth, Rejection::ServiceEnded),
                Err(why) => return Err(why.into()),
            }
        }
        let has_place = self.take_places("declaration", pass.holder(), &filed);
        let mut within = Vec::with_capacity(changes.len());
        for ((nth, change), has_place) in changes.into_iter().zip(has_place.await?) {
            match has_place {
                true => within.push(change),
                false => outcome.reject(nth, Rejection::FiledToday),
            }
        }
        for batch in within.chunks(BATCH) {
            outcome.count(&self.store_client.apply(batch.to_vec()).await?);
        }
        let said = serde_json::from_str(&outcome.to_json());
        Ok(DeskResponse::Found(said.expect("just printed")))
    }

    /// Returns a person's declarations, the newest first. Of the person's own the newest counts.
    ///
    /// # Errors
    ///
    /// `Malformed` for invalid paging, and the refusals of the store.
    pub(super) async fn declarations(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let kinds = PaperKinds::of(&[PaperKind::Declaration]);
        let page = self.told_page(session.identity, kinds, &asked.params);
        let (mut declarations, next) = page.await?;
        let counts = self.declaration_that_counts(session.identity).await?;
        let counts = counts.map(Value::from);
        for told in &mut declarations {
            told["current"] = (Some(&told["id"]) == counts.as_ref()).into();
        }
        Ok(DeskResponse::Found(
            json!({ "declarations": declarations, "next": next }),
        ))
    }

    /// Returns the id of the newest declaration that the person made.
    async fn declaration_that_counts(&self, owner: Identity) -> Result<Option<String>, Refusal> {
        let kinds = PaperKinds::of(&[PaperKind::Declaration]);
        let mut after = None;
        loop {
            let page = self
                .store_client
                .papers(owner, kinds, after, PAGE_MAX)
                .await?;
            for paper in &page {
                let DeclaredBy { by } = self.open(&owner, paper)?;
                if by == "self" {
                    return Ok(Some(id(paper)));
                }
            }
            after = page.last().map(Paper::cursor);
            if page.len() < PAGE_MAX {
                return Ok(None);
            }
        }
    }
}
