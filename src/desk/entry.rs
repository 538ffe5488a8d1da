//! Entry declarations (入粤申报): destination, day, transport and nucleic test. The declarer reads them back, and staff of the
//! destination list them.

use super::context::Desk;
use super::filing::opened;
use super::persons::{MaskedPerson, partition, read_who, write_who};
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::{content_of, cut, id, object, purpose};
use crate::desk::audit::AuditedAct;
use crate::desk::roles::{Act, Role};
use crate::feed::health::happened;
use crate::feed::{Rejection, parse_day, parse_region};
use crate::paper::{Cursor, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{Identity, is_name};
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Seal, Session, base32};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

const TRANSPORTS: [&str; 6] = ["train", "plane", "coach", "ship", "car", "other"];

/// Largest page of entries for staff. Each entry is a look at a person, and is recorded.
const LIMIT_MAX: usize = 50;

/// Entries that one resident may declare in a day.
const ENTRIES_DAY_MAX: usize = 16;

/// Entries of one resident to one destination on one day. The newest counts.
const ENTRIES_ALIKE_MAX: u8 = 16;

#[derive(Deserialize)]
struct EntryRequest {
    destination: Option<String>,
    arrives: Option<String>,
    from: Option<String>,
    departs: Option<String>,
    transport: Option<String>,
    /// Number of the train, flight or ship.
    number: Option<String>,
    nucleic_test: Option<TestResult>,
}

#[derive(Clone, Serialize, Deserialize)]
struct TestResult {
    /// `negative` or `positive`.
    result: String,
    at: String,
}

/// An entry as stored and answered.
#[derive(Serialize, Deserialize)]
struct PlaceEntry {
    destination: String,
    arrives: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    departs: Option<String>,
    transport: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    nucleic_test: Option<TestResult>,
}

/// An entry on the destination's list, with the person.
#[derive(Serialize, Deserialize)]
struct ListedEntry {
    entry: PlaceEntry,
    /// Index among the person's entries to the destination for the day.
    nth: u8,
    who: String,
    person: MaskedPerson,
}

fn day(said: Option<String>, name: &'static str) -> Result<String, Rejection> {
    let said = said.ok_or(Rejection::MissingField(name))?;
    parse_day(&said).map(|_| said).ok_or(Rejection::BadUntil)
}

fn region(said: Option<String>, name: &'static str) -> Result<String, Rejection> {
    let said = said.ok_or(Rejection::MissingField(name))?;
    parse_region(&said)
        .map(|_| said)
        .ok_or(Rejection::BadRegion)
}

impl EntryRequest {
    fn check(self, today: u32) -> Result<PlaceEntry, Rejection> {
        let transport = self.transport.ok_or(Rejection::MissingField("transport"))?;
        if !TRANSPORTS.contains(&transport.as_str()) {
            return Err(Rejection::UnknownTransport);
        }
        if !self.number.iter().all(|number| is_name(number)) {
            return Err(Rejection::BadNumber);
        }
        if let Some(test) = &self.nucleic_test {
            happened(&test.at, today)?;
            if !["negative", "positive"].contains(&test.result.as_str()) {
                return Err(Rejection::UnknownResult);
            }
        }
        Ok(PlaceEntry {
            destination: region(self.destination, "destination")?,
            arrives: day(self.arrives, "arrives")?,
            from: self
                .from
                .map(|from| region(Some(from), "from"))
                .transpose()?,
            departs: self
                .departs
                .map(|departs| day(Some(departs), "departs"))
                .transpose()?,
            transport,
            number: self.number,
            nucleic_test: self.nucleic_test,
        })
    }
}

/// Returns the key of a person's nth entry on a destination's list of a day.
fn place_on_list(seal: &Seal, who: &Identity, destination: &str, day: &str, nth: u8) -> PaperKey {
    let parts = [destination.as_bytes(), day.as_bytes()];
    seal.paper_key(&[b"listed entry", &who.claim, parts[0], parts[1], &[nth]])
}

/// Returns the owner of one partition of a destination's list of a day.
fn list_of(seal: &Seal, destination: &str, day: &str, partition: u8) -> Identity {
    seal.owner("entries", &format!("{destination} {day}"), partition)
}

/// Returns the owner and the keys that a person's entry may have on the destination's list.
///
/// # Errors
///
/// `Internal` if the entry cannot be opened.
pub(super) fn on_list(
    seal: &Seal,
    who: &Identity,
    entry: &Paper,
) -> Result<(Identity, Vec<PaperKey>), Refusal> {
    let PlaceEntry {
        destination,
        arrives,
        ..
    } = opened(seal, who, entry)?;
    let place = |nth| place_on_list(seal, who, &destination, &arrives, nth);
    let list = list_of(seal, &destination, &arrives, partition(who));
    Ok((list, (0..ENTRIES_ALIKE_MAX).map(place).collect()))
}

impl Desk<'_> {
    /// Stores an entry declaration, also on the list of its destination.
    ///
    /// # Errors
    ///
    /// `LimitReached` beyond the daily number or that of equal destinations and days, `IdempotencyMismatch`, a rejection of a
    /// field, and the refusals of the store.
    pub(super) async fn declare_entry(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let declared: EntryRequest = object(asked.body)?;
        let entry = declared.check(self.now.day())?;
        let who = session.identity;
        let (word, content) = (asked.idempotency, content_of(asked.body)?);
        let filer = self.filer(session);
        self.bind("entry", filer, word, &content).await?;
        let key = self.key_of("entry", &who.claim, word, &content);
        self.bound_a_day(filer, "entry", &key, ENTRIES_DAY_MAX)
            .await?;
        let (destination, arrives) = (entry.destination.clone(), entry.arrives.clone());
        let list = list_of(self.seal, &destination, &arrives, partition(&who));
        let own = self.filing(who, PaperKind::Entry, key, &entry)?;
        let known = self.store_client.some_now(who, &[key]).await?;
        let mut new = known.iter().all(Option::is_none);
        if new {
            let place = |nth| place_on_list(self.seal, &who, &destination, &arrives, nth);
            let places: Vec<PaperKey> = (0..ENTRIES_ALIKE_MAX).map(place).collect();
            let taken = self.store_client.some_now(list, &places).await?;
            let free = taken.iter().take_while(|paper| paper.is_some()).count() as u8;
            let mut listed = ListedEntry {
                entry,
                nth: free,
                who: write_who(&who),
                person: MaskedPerson::from(&session.masked),
            };
            loop {
                let place = places
                    .get(usize::from(listed.nth))
                    .ok_or(Refusal::LimitReached)?;
                let change = self.filing(list, PaperKind::Entry, *place, &listed)?;
                let filed = self.store_client.apply(vec![change]).await?;
                // The same person declared another entry meanwhile, which has this key.
                if filed[0] {
                    break;
                }
                listed.nth += 1;
            }
            // The entry is the person's once it is on the list, so that none is missing there.
            new = self.store_client.apply(vec![own]).await?[0];
        }
        Ok(DeskResponse::Done(
            json!({ "id": base32::text(&key), "new": new }),
        ))
    }

    /// Returns the entry declarations of the resident, the newest first.
    ///
    /// # Errors
    ///
    /// `Malformed` for invalid paging, and the refusals of the store.
    pub(super) async fn own_entries(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let kinds = PaperKinds::of(&[PaperKind::Entry]);
        let page = self.told_page(session.identity, kinds, &asked.params);
        let (entries, next) = page.await?;
        Ok(DeskResponse::Found(
            json!({ "entries": entries, "next": next }),
        ))
    }

    /// Returns who arrives at a division on a day, for its staff: the last entry of each person. Each person can read that
    /// staff looked. A page may be short and still have a next one.
    ///
    /// # Errors
    ///
    /// `NotPermitted` for a destination outside the region of the staff, `LimitReached` beyond the purposes of a day, a
    /// rejection of a field, and the refusals of the store and the audit log.
    pub(super) async fn entries_for(
        &self,
        staff: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let params = &asked.params;
        let purpose = purpose(params.purpose)?;
        let destination = region(params.destination.map(str::to_owned), "destination")?;
        let day = day(params.day.map(str::to_owned), "day")?;
        if !staff
            .bound()
            .is_some_and(|own| is_within(&destination, own))
        {
            let deed = AuditedAct::new(staff.holder(), Role::Staff, Act::ReadEntries.word());
            let detail = json!({ "destination": destination, "permitted": false });
            self.record_deeds(vec![deed.purpose(purpose).detail(detail)])
                .await?;
            return Err(Refusal::NotPermitted.into());
        }
        let limit = params.limit(LIMIT_MAX, LIMIT_MAX)?;
        let after = params.after.map(super::values::cursor).transpose()?;
        let papers = self.merged(
            after,
            limit + 1,
            PaperKinds::of(&[PaperKind::Entry]),
            |partition| list_of(self.seal, &destination, &day, partition),
        );
        let mut papers = papers.await?;
        let next = cut(&mut papers, limit).map(|(_, last)| super::values::next(last));
        let mut parts: BTreeMap<Identity, Vec<(Paper, ListedEntry, PaperKey)>> = BTreeMap::new();
        for (owner, paper) in papers {
            let listed: ListedEntry = self.open(&owner, &paper)?;
            let who = read_who(&listed.who)?;
            let later = place_on_list(self.seal, &who, &destination, &day, listed.nth + 1);
            parts.entry(owner).or_default().push((paper, listed, later));
        }
        let mut listed = Vec::new();
        for (owner, part) in parts {
            let later: Vec<PaperKey> = part.iter().map(|(.., later)| *later).collect();
            let later = self.store_client.some_now(owner, &later).await?;
            let part = part
                .into_iter()
                .zip(later)
                .filter(|(_, later)| later.is_none());
            listed.extend(part.map(|((paper, entry, _), _)| (paper, entry)));
        }
        listed.sort_by_key(|(paper, _)| std::cmp::Reverse(paper.cursor()));
        let mut persons = Vec::new();
        let mut entries = Vec::new();
        for (paper, listed) in &listed {
            persons.push(read_who(&listed.who)?);
            let mut told = json!(listed.entry);
            told["id"] = id(paper).into();
            told["at"] = paper.at.to_string().into();
            told["person"] = json!(listed.person);
            entries.push(told);
        }
        self.record(staff, Role::Staff, Act::ReadEntries, purpose, &persons)
            .await?;
        Ok(DeskResponse::Found(
            json!({ "entries": entries, "next": next }),
        ))
    }

    /// Returns the newest papers of a list that is split into partitions. A few of each partition are read, and more only where
    /// the page may need them.
    pub(super) async fn merged(
        &self,
        after: Option<Cursor>,
        limit: usize,
        kinds: PaperKinds,
        owner: impl Fn(u8) -> Identity,
    ) -> Result<Vec<(Identity, Paper)>, Refusal> {
        let step = limit / 8 + 2;
        let mut all: Vec<(Identity, Paper)> = Vec::new();
        // The cursor of each partition that may have more.
        let mut parts: Vec<(Identity, Option<Cursor>)> =
            (0..16).map(|partition| (owner(partition), after)).collect();
        while !parts.is_empty() {
            let mut behind = Vec::new();
            for (owner, after) in parts {
                let some = self
                    .store_client
                    .papers_now(owner, kinds, after, step)
                    .await?;
                if some.len() == step {
                    behind.push((owner, some.last().map(Paper::cursor)));
                }
                all.extend(some.into_iter().map(|paper| (owner, paper)));
            }
            all.sort_by_key(|(_, paper)| std::cmp::Reverse(paper.cursor()));
            all.truncate(limit);
            let last = all.last().map(|(_, paper)| paper.cursor());
            let last = last.filter(|_| all.len() == limit);
            behind.retain(|(_, read)| last.is_none_or(|last| *read > Some(last)));
            parts = behind;
        }
        Ok(all)
    }
}

/// Returns whether a division of GB/T 2260 lies within another: 440106 in 440100 in 440000.
pub(super) fn is_within(region: &str, outer: &str) -> bool {
    let outer = outer
        .strip_suffix("0000")
        .or(outer.strip_suffix("00"))
        .unwrap_or(outer);
    region.starts_with(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_district_lies_within_its_city_and_province_and_not_the_other_way_round() {
        for (region, outer, within) in [
            ("440106", "440106", true),
            ("440106", "440100", true),
            ("440106", "440000", true),
            ("440100", "440106", false),
            ("450106", "440000", false),
            ("440306", "440100", false),
        ] {
            assert_eq!(is_within(region, outer), within, "{region} in {outer}");
        }
    }
}
