//! Grants as they are stored: with the resident, and on the roster of the organisation.

use super::filing::{filed, opened};
use super::persons::{MaskedPerson, partition, read_who};
use crate::paper::{PAGE_MAX, Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::Seal;
use crate::store::Change;
use crate::store_client::StoreClient;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// A grant as stored with the resident and on the roster.
#[derive(Serialize, Deserialize)]
pub(super) struct GrantRecord {
    pub(super) organisation: String,
    pub(super) since: String,
    pub(super) until: String,
    pub(super) who: String,
    pub(super) steps: u8,
    /// Masked name and document number in the form of sealed codes.
    pub(super) masked: String,
    pub(super) person: MaskedPerson,
}

/// Returns the key of the paper that ends a grant. It begins like the grant's key, so that no paper has to be opened.
pub(super) fn gone_key(key: &PaperKey) -> PaperKey {
    let mut gone = *key;
    gone[15] ^= 0xff;
    gone
}

/// Returns the number of a grant, which its sealed code carries.
pub(super) fn number(key: &PaperKey) -> u64 {
    u64::from_be_bytes(key[..8].try_into().expect("8 of 16"))
}

/// Returns the key of the grant with a number. Sealed grants carry the number only, so the rest of the key follows from it. The
/// first four bits are the resident's partition.
pub(super) fn key_of_number(seal: &Seal, number: u64) -> PaperKey {
    let mut key = seal.paper_key(&[b"grant number", &number.to_be_bytes()]);
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

/// Returns the owner of one partition of an organisation's roster.
pub(super) fn roster(seal: &Seal, organisation: &str, partition: u8) -> Identity {
    seal.owner("roster", organisation, partition)
}

/// Returns the change that ends a person's grant, and its keys on the organisation's roster.
///
/// # Errors
///
/// `Internal` if the grant cannot be opened, `NotFound` if the key of grants was destroyed.
pub(super) fn ending(
    seal: &Seal,
    who: &Identity,
    grant: &Paper,
) -> Result<(Change, (Identity, Vec<PaperKey>)), Refusal> {
    let granted: GrantRecord = opened(seal, who, grant)?;
    let list = roster(seal, &granted.organisation, partition(who));
    let end = gone_key(&grant.key);
    let ended = filed(seal, list, PaperKind::GrantGone, end, grant.at, &json!({}))?;
    Ok((ended, (list, vec![grant.key])))
}

/// Returns all papers of an owner of these kinds.
pub(super) async fn all(
    store_client: &StoreClient,
    owner: Identity,
    kinds: PaperKinds,
) -> Result<Vec<Paper>, Refusal> {
    let mut papers: Vec<Paper> = Vec::new();
    loop {
        let after = papers.last().map(Paper::cursor);
        let page = store_client
            .papers_now(owner, kinds, after, PAGE_MAX)
            .await?;
        let more = page.len() == PAGE_MAX;
        papers.extend(page);
        if !more {
            return Ok(papers);
        }
    }
}

/// Returns the keys and residents of the grants with these numbers in one partition. A grant that is on no roster is left out.
pub(super) async fn givers(
    seal: &Seal,
    store_client: &StoreClient,
    organisation: &str,
    partition: u8,
    numbers: &HashSet<u64>,
) -> Result<HashMap<u64, (PaperKey, Identity)>, Refusal> {
    let owner = roster(seal, organisation, partition);
    let keys = numbers.iter().map(|number| key_of_number(seal, *number));
    let papers = store_client
        .some_now(owner, &keys.collect::<Vec<PaperKey>>())
        .await?;
    let mut givers = HashMap::new();
    for paper in papers.into_iter().flatten() {
        // A grant that cannot be opened does not hold up the others.
        if let Ok(granted) = opened::<GrantRecord>(seal, &owner, &paper) {
            givers.insert(number(&paper.key), (paper.key, read_who(&granted.who)?));
        }
    }
    Ok(givers)
}
