//! Appeals: a resident asks that a reason be looked at again; it is on record with a state, and the authority answers.

use super::{
    Asked, Desk, Masked, No, Said, content_of, cut, id, key_in, object, purpose, read_who,
    sixteenth, write_who,
};
use crate::answer::Refusal;
use crate::desk::grant::all;
use crate::desk::roles::{Act, Role};
use crate::feed::Rejection;
use crate::paper::{Key, Kind, Kinds};
use crate::person::{Identity, is_text};
use crate::seal::{Pass, Session, base32};
use crate::status::{self, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

const KINDS: Kinds = Kinds::of(&[Kind::Appeal, Kind::AppealState]);

const STATES: [&str; 3] = ["in_review", "upheld", "rejected"];

/// Appeals of a page for an authority; each is a look at a person, and recorded.
const LIMIT_MAX: usize = 50;

/// Appeals of one resident in a day.
const APPEALS_DAY_MAX: usize = 16;

#[derive(Deserialize)]
struct Asking {
    reason: Option<String>,
    text: Option<String>,
}

/// An appeal, as it rests.
#[derive(Serialize, Deserialize)]
struct Appeal {
    reason: String,
    text: String,
    who: String,
    person: Masked,
}

#[derive(Deserialize)]
struct Answering {
    state: Option<String>,
    note: Option<String>,
}

/// What became of it, as it rests.
#[derive(Serialize, Deserialize)]
struct State {
    id: String,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    by: String,
}

impl Desk<'_> {
    fn appeals_list(&self, sixteenth: u8) -> Identity {
        self.seal.owner("appeals", "", sixteenth)
    }

    pub(super) async fn appeal(&self, session: &Session, asked: &Asked<'_>) -> Result<Said, No> {
        let asking: Asking = object(asked.body)?;
        let reason = asking.reason.ok_or(Rejection::MissingField("reason"))?;
        let reason = Reason::parse(&reason).ok_or(Rejection::UnknownReason)?;
        let text = asking.text.ok_or(Rejection::MissingField("text"))?;
        if !is_text(&text) {
            return Err(Rejection::BadText.into());
        }
        let who = session.identity;
        let (word, content) = (asked.idempotency, content_of(asked.body)?);
        self.bind("appeal", who, word, &content).await?;
        let key = self.key_of("appeal", &who.claim, word, &content);
        let own = self.appeals_of(who).await?;
        let is_open = |(known, appeal, told): &(Key, Appeal, Value)| {
            *known != key
                && appeal.reason == reason.word()
                && (told["state"] == "received" || told["state"] == "in_review")
        };
        if own.iter().all(|(known, ..)| *known != key) && own.iter().any(is_open) {
            return Err(Refusal::TooMany.into());
        }
        self.bound_a_day(who, Kind::Appeal, &key, APPEALS_DAY_MAX)
            .await?;
        let appeal = Appeal {
            reason: reason.word().to_owned(),
            text,
            who: write_who(&who),
            person: Masked::from(&session.face),
        };
        let changes = vec![
            self.filing(who, Kind::Appeal, key, &appeal)?,
            self.filing(
                self.appeals_list(sixteenth(&who)),
                Kind::Appeal,
                key,
                &appeal,
            )?,
        ];
        self.cold.apply(changes).await?;
        Ok(Said::Done(json!({
            "id": base32::text(&key), "state": "received", "call": "12345", "note": status::appeal(asked.language),
        })))
    }

    /// Appeals of an owner with what became of each, the newest first.
    async fn appeals_of(&self, owner: Identity) -> Result<Vec<(Key, Appeal, Value)>, Refusal> {
        let papers = all(self.cold, owner, KINDS).await?;
        // The newest state comes first.
        let mut states: HashMap<String, Value> = HashMap::new();
        for paper in papers
            .iter()
            .filter(|paper| paper.kind == Kind::AppealState)
        {
            let state: State = self.open(&owner, paper)?;
            let told = json!({
                "state": state.state, "note": state.note, "by": state.by, "answered_at": paper.at.to_string(),
            });
            states.entry(state.id).or_insert(told);
        }
        let mut appeals = Vec::new();
        for paper in papers.iter().filter(|paper| paper.kind == Kind::Appeal) {
            let appeal: Appeal = self.open(&owner, paper)?;
            let mut told = states
                .remove(&id(paper))
                .unwrap_or(json!({ "state": "received" }));
            told["id"] = id(paper).into();
            told["at"] = paper.at.to_string().into();
            told["reason"] = appeal.reason.clone().into();
            told["text"] = appeal.text.clone().into();
            appeals.push((paper.key, appeal, told));
        }
        Ok(appeals)
    }

    pub(super) async fn own_appeals(&self, session: &Session) -> Result<Said, No> {
        let appeals = self.appeals_of(session.identity).await?;
        let appeals: Vec<Value> = appeals.into_iter().map(|(.., told)| told).collect();
        Ok(Said::Found(json!({ "appeals": appeals, "call": "12345" })))
    }

    /// The appeals of all, for an authority that says why; those who appealed are told who read it.
    pub(super) async fn all_appeals(&self, pass: &Pass, asked: &Asked<'_>) -> Result<Said, No> {
        let purpose = purpose(asked.params.purpose)?;
        let mut all = Vec::new();
        for sixteenth in 0..16 {
            all.extend(self.appeals_of(self.appeals_list(sixteenth)).await?);
        }
        all.sort_by(|(a, _, one), (b, _, other)| {
            let at = |told: &Value| told["at"].as_str().map(str::to_owned);
            (at(other), b).cmp(&(at(one), a))
        });
        if let Some(after) = asked.params.after {
            let after = key_in(Some(after)).map_err(|_| Refusal::Malformed)?;
            let read = all
                .iter()
                .position(|(key, ..)| *key == after)
                .ok_or(Refusal::Malformed)?;
            all.drain(..=read);
        }
        let next = cut(&mut all, LIMIT_MAX).map(|(key, ..)| base32::text(key));
        let (mut persons, mut appeals) = (Vec::new(), Vec::new());
        for (_, appeal, mut told) in all {
            persons.push(read_who(&appeal.who)?);
            told["person"] = json!(appeal.person);
            appeals.push(told);
        }
        self.record(pass, Role::Authority, Act::ReadAppeals, purpose, &persons)
            .await?;
        Ok(Said::Found(json!({ "appeals": appeals, "next": next })))
    }

    pub(super) async fn answer_appeal(&self, pass: &Pass, asked: &Asked<'_>) -> Result<Said, No> {
        let answering: Answering = object(asked.body)?;
        let state = answering.state.ok_or(Rejection::MissingField("state"))?;
        if !STATES.contains(&state.as_str()) {
            return Err(Rejection::UnknownState.into());
        }
        if !answering.note.iter().all(|note| is_text(note)) {
            return Err(Rejection::BadText.into());
        }
        let key = key_in(asked.id)?;
        for sixteenth in 0..16 {
            let list = self.appeals_list(sixteenth);
            let appeals = self.appeals_of(list).await?;
            let Some((_, appeal, _)) = appeals.into_iter().find(|(known, ..)| *known == key) else {
                continue;
            };
            let who = read_who(&appeal.who)?;
            let said = State {
                id: base32::text(&key),
                state,
                note: answering.note,
                by: pass.holder().to_owned(),
            };
            let word = asked.idempotency;
            // The path names what is answered, so it is content as well.
            let mut content = content_of(asked.body)?;
            content.extend_from_slice(&key);
            let office = self.office(&pass.name, word);
            self.bind("appeal state", office, word, &content).await?;
            let own = self.key_of("appeal state", pass.name.as_bytes(), word, &content);
            let changes = vec![
                self.filing(who, Kind::AppealState, own, &said)?,
                self.filing(list, Kind::AppealState, own, &said)?,
            ];
            self.cold.apply(changes).await?;
            return Ok(Said::Done(json!({ "id": said.id, "state": said.state })));
        }
        Err(Refusal::NotFound.into())
    }
}
