//! Appeals: a resident asks for a reason to be checked again; the authority reads the appeal and answers it.

use super::bindings::Binding;
use super::context::Desk;
use super::persons::{MaskedPerson, partition, partition_in, read_who, write_who};
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::{content_of, cut, id, key_in, object, purpose};
use crate::desk::audit::AuditedAct;
use crate::desk::roles::{Act, Role};
use crate::feed::Rejection;
use crate::paper::{Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{Identity, is_text};
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Seal, Session, base32};
use crate::status::{self, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

const KINDS: PaperKinds = PaperKinds::of(&[PaperKind::Appeal]);

const STATES: [&str; 3] = ["in_review", "upheld", "rejected"];

/// Largest page of appeals for an authority. Each entry is a look at a person, and is recorded.
const LIMIT_MAX: usize = 50;

/// Appeals that one resident may make in a day.
const APPEALS_DAY_MAX: usize = 16;

/// Newest appeals of a resident that are searched for an open one.
const OPEN_LOOKED_AT: usize = 100;

/// Answers that one appeal may have.
const STATES_MAX: u8 = 64;

/// Answers that one authority may give to one appeal.
const STATES_EACH_MAX: usize = 8;

#[derive(Deserialize)]
struct AppealRequest {
    reason: Option<String>,
    text: Option<String>,
}

/// An appeal as stored.
#[derive(Serialize, Deserialize)]
struct Appeal {
    reason: String,
    text: String,
    who: String,
    person: MaskedPerson,
}

#[derive(Deserialize)]
struct AppealAnswer {
    state: Option<String>,
    note: Option<String>,
}

/// An answer to an appeal as stored.
#[derive(Serialize, Deserialize)]
struct AppealState {
    id: String,
    /// A random text that makes two answers different.
    request: String,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    by: String,
}

/// Returns the owner of one partition of the list of all appeals.
fn list(seal: &Seal, partition: u8) -> Identity {
    seal.owner("appeals", "", partition)
}

/// Returns the key of the nth answer to an appeal. The highest existing one is the current answer.
fn state_key(seal: &Seal, appeal: &PaperKey, nth: u8) -> PaperKey {
    seal.paper_key(&[b"appeal state", appeal, &[nth]])
}

/// Returns the owner and keys of an appeal on the authorities' list.
pub(super) fn on_list(seal: &Seal, who: &Identity, appeal: &Paper) -> (Identity, Vec<PaperKey>) {
    let states = (0..STATES_MAX).map(|nth| state_key(seal, &appeal.key, nth));
    let keys = std::iter::once(appeal.key).chain(states).collect();
    (list(seal, partition(who)), keys)
}

impl Desk<'_> {
    /// Stores an appeal against a reason. A repeated request returns the same appeal.
    ///
    /// # Errors
    ///
    /// `LimitReached` if an appeal against the reason is open, or beyond the daily number; `IdempotencyMismatch`; a rejection
    /// of a field; and the refusals of the store.
    pub(super) async fn appeal(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let asking: AppealRequest = object(asked.body)?;
        let reason = asking.reason.ok_or(Rejection::MissingField("reason"))?;
        let reason = Reason::parse(&reason).ok_or(Rejection::UnknownReason)?;
        let text = asking.text.ok_or(Rejection::MissingField("text"))?;
        if !is_text(&text) {
            return Err(Rejection::BadText.into());
        }
        let who = session.identity;
        let (word, content) = (asked.idempotency, content_of(asked.body)?);
        let filer = self.filer(session);
        self.bind("appeal", filer, word, &content).await?;
        let key = partition_in(self.key_of("appeal", &who.claim, word, &content), &who);
        let own = self
            .store_client
            .papers_now(who, KINDS, None, OPEN_LOOKED_AT)
            .await?;
        if own.iter().all(|paper| paper.key != key) {
            let newest = own.first().map(|paper| paper.key);
            let is_open = |(appeal, told): &(Appeal, Value)| {
                appeal.reason == reason.word()
                    && (told["state"] == "received" || told["state"] == "in_review")
            };
            if self.with_states(who, own).await?.iter().any(is_open) {
                return Err(Refusal::LimitReached.into());
            }
            // Of two at one moment, both after the same appeal, one is stored. If it fails, another may come a minute later.
            let before = newest.unwrap_or_default();
            let minute = (self.now.0 / 60_000).to_be_bytes();
            let parts = [reason.word().as_bytes(), &before, &minute];
            let next = self
                .seal
                .paper_key(&[b"appeal after", parts[0], parts[1], parts[2]]);
            let binding = Binding {
                owner: who,
                key: next,
                content: key,
            };
            if self.are_bound(&[binding]).await?[..] != [Some(true)] {
                return Err(Refusal::LimitReached.into());
            }
        }
        self.bound_a_day(filer, "appeal", &key, APPEALS_DAY_MAX)
            .await?;
        let appeal = Appeal {
            reason: reason.word().to_owned(),
            text,
            who: write_who(&who),
            person: MaskedPerson::from(&session.masked),
        };
        let changes = vec![
            self.filing(who, PaperKind::Appeal, key, &appeal)?,
            self.filing(
                list(self.seal, partition(&who)),
                PaperKind::Appeal,
                key,
                &appeal,
            )?,
        ];
        self.store_client.apply(changes).await?;
        Ok(DeskResponse::Done(json!({
            "id": base32::text(&key), "state": "received", "call": "12345", "note": status::appeal(asked.language),
        })))
    }

    /// Returns all answers to appeals of an owner, the newest last.
    async fn states_of(
        &self,
        owner: Identity,
        appeals: &[PaperKey],
    ) -> Result<HashMap<PaperKey, Vec<(Paper, AppealState)>>, Refusal> {
        let mut states: HashMap<PaperKey, Vec<(Paper, AppealState)>> = HashMap::new();
        let mut open = appeals.to_vec();
        for nth in 0..STATES_MAX {
            if open.is_empty() {
                break;
            }
            let keys: Vec<PaperKey> = open
                .iter()
                .map(|key| state_key(self.seal, key, nth))
                .collect();
            let found = self.store_client.some_now(owner, &keys).await?;
            let answered = open.into_iter().zip(found);
            let mut still = Vec::new();
            for (key, paper) in answered.filter_map(|(key, paper)| Some((key, paper?))) {
                let state = self.open(&owner, &paper)?;
                states.entry(key).or_default().push((paper, state));
                still.push(key);
            }
            open = still;
        }
        Ok(states)
    }

    /// Returns appeals of an owner, each with its JSON for answers.
    async fn with_states(
        &self,
        owner: Identity,
        papers: Vec<Paper>,
    ) -> Result<Vec<(Appeal, Value)>, Refusal> {
        let keys: Vec<PaperKey> = papers.iter().map(|paper| paper.key).collect();
        let states = self.states_of(owner, &keys).await?;
        let mut appeals = Vec::with_capacity(papers.len());
        for paper in &papers {
            let appeal: Appeal = self.open(&owner, paper)?;
            let newest = states.get(&paper.key).and_then(|states| states.last());
            let mut told = match newest {
                None => json!({ "state": "received" }),
                Some((answer, state)) => json!({
                    "state": state.state, "note": state.note, "by": state.by,
                    "answered_at": answer.at.to_string(),
                }),
            };
            told["id"] = id(paper).into();
            told["at"] = paper.at.to_string().into();
            told["reason"] = appeal.reason.clone().into();
            told["text"] = appeal.text.clone().into();
            appeals.push((appeal, told));
        }
        Ok(appeals)
    }

    /// Returns the appeals of the resident with their states, the newest first.
    ///
    /// # Errors
    ///
    /// `Malformed` for invalid paging, and the refusals of the store.
    pub(super) async fn own_appeals(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let owner = session.identity;
        let limit = asked
            .params
            .limit(super::values::LIMIT, super::values::LIMIT_MAX)?;
        let after = asked.params.after.map(super::values::cursor).transpose()?;
        let papers = self.store_client.papers_now(owner, KINDS, after, limit + 1);
        let mut papers = papers.await?;
        let next = cut(&mut papers, limit).map(super::values::next);
        let appeals = self.with_states(owner, papers).await?;
        let appeals: Vec<Value> = appeals.into_iter().map(|(_, told)| told).collect();
        Ok(DeskResponse::Found(
            json!({ "appeals": appeals, "next": next, "call": "12345" }),
        ))
    }

    /// Returns whether an appeal concerns an authority: it speaks for a source of the reason, or the reason has no source on
    /// record.
    async fn is_concerned(
        &self,
        pass: &AccessToken,
        who: Identity,
        appeal: &Appeal,
    ) -> Result<bool, Refusal> {
        let Some(placed) = self.store_client.record(who).await? else {
            return Ok(true);
        };
        let assertions = placed.record.assertions.iter();
        let mut sources = assertions
            .filter(|said| said.reason.word() == appeal.reason)
            .map(|said| &said.source)
            .peekable();
        Ok(sources.peek().is_none() || sources.any(|source| pass.speaks_for(source)))
    }

    /// Returns the appeals that concern an authority, the newest first. The authority states a purpose, and the residents can
    /// read who looked. A page may be short or empty and still have `next`.
    ///
    /// # Errors
    ///
    /// `BadPurpose` without a valid purpose, `LimitReached` beyond the purposes of a day, `Malformed` for invalid paging, and
    /// the refusals of the store and the audit log.
    pub(super) async fn all_appeals(
        &self,
        pass: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let purpose = purpose(asked.params.purpose)?;
        let limit = asked.params.limit(LIMIT_MAX, LIMIT_MAX)?;
        let after = asked.params.after.map(super::values::cursor).transpose()?;
        let list = |partition| list(self.seal, partition);
        let mut papers = self.merged(after, limit + 1, KINDS, list).await?;
        let next = cut(&mut papers, limit).map(|(_, last)| super::values::next(last));
        let order: Vec<String> = papers.iter().map(|(_, paper)| id(paper)).collect();
        let mut parts: BTreeMap<Identity, Vec<Paper>> = BTreeMap::new();
        for (owner, paper) in papers {
            parts.entry(owner).or_default().push(paper);
        }
        let (mut persons, mut appeals) = (Vec::new(), HashMap::new());
        for (owner, papers) in parts {
            for (appeal, mut told) in self.with_states(owner, papers).await? {
                let who = read_who(&appeal.who)?;
                if !self.is_concerned(pass, who, &appeal).await? {
                    continue;
                }
                persons.push(who);
                told["person"] = json!(appeal.person);
                let id = told["id"].as_str().unwrap_or_default().to_owned();
                appeals.insert(id, told);
            }
        }
        self.record(pass, Role::Authority, Act::ReadAppeals, purpose, &persons)
            .await?;
        let appeals: Vec<Value> = order.iter().filter_map(|id| appeals.remove(id)).collect();
        Ok(DeskResponse::Found(
            json!({ "appeals": appeals, "next": next }),
        ))
    }

    /// Stores an answer of an authority to an appeal. The answer is in the audit log first.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such appeal or it concerns another authority, `LimitReached` beyond the number of answers,
    /// `IdempotencyMismatch`, a rejection of a field, and the refusals of the store.
    pub(super) async fn answer_appeal(
        &self,
        pass: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let answering: AppealAnswer = object(asked.body)?;
        let state = answering.state.ok_or(Rejection::MissingField("state"))?;
        if !STATES.contains(&state.as_str()) {
            return Err(Rejection::UnknownState.into());
        }
        if !answering.note.iter().all(|note| is_text(note)) {
            return Err(Rejection::BadText.into());
        }
        let key = key_in(asked.id)?;
        let list = list(self.seal, key[0] >> 4);
        let found = self.store_client.some_now(list, &[key]).await?;
        let found = found.into_iter().flatten().next();
        let paper = found.filter(|paper| paper.kind == PaperKind::Appeal);
        let appeal: Appeal = self.open(&list, &paper.ok_or(Refusal::NotFound)?)?;
        let who = read_who(&appeal.who)?;
        // An authority that the appeal does not concern gets the same answer as for a missing appeal.
        if !self.is_concerned(pass, who, &appeal).await? {
            return Err(Refusal::NotFound.into());
        }
        let word = asked.idempotency;
        // The path names the appeal, so it is part of the content.
        let mut content = content_of(asked.body)?;
        content.extend_from_slice(&key);
        let office = self.office(&pass.name, word);
        self.bind_to("appeal state", office, word, &content).await?;
        let request = self.key_of("appeal state", pass.name.as_bytes(), word, &content);
        let said = AppealState {
            id: base32::text(&key),
            request: base32::text(&request),
            state,
            note: answering.note,
            by: pass.holder().to_owned(),
        };
        let done = Ok(DeskResponse::Done(
            json!({ "id": said.id, "state": said.state }),
        ));
        let mut states = self.states_of(list, &[key]).await?;
        let states = states.remove(&key).unwrap_or_default();
        if states
            .iter()
            .any(|(_, known)| known.request == said.request)
        {
            return done;
        }
        // No authority takes the last answer from another.
        let given = states.iter().filter(|(_, known)| known.by == said.by);
        if given.count() >= STATES_EACH_MAX {
            return Err(Refusal::LimitReached.into());
        }
        let filer = self.seal.owner("answers", pass.holder(), partition(&who));
        let noun = format!("answer {}", said.id);
        self.bound_a_day(filer, &noun, &request, STATES_EACH_MAX)
            .await?;
        let deed = AuditedAct::new(pass.holder(), Role::Authority, Act::AnswerAppeal.word());
        let detail = json!({ "appeal": said.id, "state": said.state });
        // The answer itself shows the person who gave it.
        let deed = deed.purpose("appeal").about(who).detail(detail);
        self.record_deeds(vec![deed]).await?;
        // Of two simultaneous answers one becomes the later one.
        for nth in states.len() as u8..STATES_MAX {
            let own = state_key(self.seal, &key, nth);
            let changes = vec![
                self.filing(who, PaperKind::AppealState, own, &said)?,
                self.filing(list, PaperKind::AppealState, own, &said)?,
            ];
            if self.store_client.apply(changes).await?[1] {
                return done;
            }
        }
        Err(Refusal::LimitReached.into())
    }
}
