//! Whether grants of an organisation were revoked, as a node remembers it for a moment.

use super::grant_record::{gone_key, key_of_number, roster};
use crate::clock::Moment;
use crate::paper::{PAGE_MAX, PaperKey};
use crate::refusal::Refusal;
use crate::seal::Seal;
use crate::store_client::StoreClient;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Time for which a node remembers whether a grant was revoked.
const GONE_LIFE: Duration = Duration::from_secs(1);

/// Grants for which a node remembers it.
const GONE_KNOWN_MAX: u64 = 200_000;

/// An organisation that scans grants.
#[derive(Clone)]
pub struct Organisation {
    /// The name in the organisation's credential.
    pub name: Arc<str>,
    /// The number by which sealed grants name the organisation.
    pub id: u64,
}

impl Organisation {
    /// Returns the organisation of a name.
    pub fn new(seal: &Seal, name: &str) -> Organisation {
        let claim = roster(seal, name, 0).claim;
        Organisation {
            name: name.into(),
            id: u64::from_be_bytes(claim[..8].try_into().expect("8 of 16")),
        }
    }
}

/// Whether grants of an organisation were revoked, at the time of the lookup.
pub struct RevokedGrants {
    /// The organisation.
    pub organisation: Organisation,
    known: HashMap<u64, bool>,
    /// The moment of the oldest lookup.
    pub as_of: Moment,
}

impl RevokedGrants {
    /// Returns whether the grant with a number was revoked; None if it was not looked up.
    pub fn was_taken_back(&self, number: u64) -> Option<bool> {
        self.known.get(&number).copied()
    }
}

/// Cache of revoked grants.
pub struct RevokedGrantCache {
    pub(super) cache: moka::sync::Cache<(u64, u64), (bool, Moment)>,
    /// Grants that were read as revoked. An emptied or restored store brings none of them back.
    pub(super) ended: moka::sync::Cache<(u64, u64), ()>,
}

impl Default for RevokedGrantCache {
    fn default() -> RevokedGrantCache {
        RevokedGrantCache {
            cache: moka::sync::Cache::builder()
                .max_capacity(GONE_KNOWN_MAX)
                .time_to_live(GONE_LIFE)
                .build(),
            ended: moka::sync::Cache::new(GONE_KNOWN_MAX),
        }
    }
}

impl RevokedGrantCache {
    /// Looks up whether the grants with these numbers were revoked.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` if the store does not answer in time. Then no grant counts as good.
    pub async fn of(
        &self,
        organisation: &Organisation,
        numbers: &HashSet<u64>,
        seal: &Seal,
        store_client: &StoreClient,
    ) -> Result<RevokedGrants, Refusal> {
        let mut gone = RevokedGrants {
            organisation: organisation.clone(),
            known: HashMap::with_capacity(numbers.len()),
            as_of: Moment::now(),
        };
        let mut parts: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for number in numbers {
            if self.ended.contains_key(&(organisation.id, *number)) {
                gone.known.insert(*number, true);
                continue;
            }
            match self.cache.get(&(organisation.id, *number)) {
                Some((was, as_of)) => {
                    gone.known.insert(*number, was);
                    gone.as_of = gone.as_of.min(as_of);
                }
                None => parts.entry((number >> 60) as u8).or_default().push(*number),
            }
        }
        for (partition, numbers) in parts {
            let owner = roster(seal, &organisation.name, partition);
            for numbers in numbers.chunks(PAGE_MAX) {
                let as_of = store_client.as_of();
                let ends = numbers
                    .iter()
                    .map(|number| gone_key(&key_of_number(seal, *number)));
                let found = store_client
                    .some_now(owner, &ends.collect::<Vec<PaperKey>>())
                    .await?;
                gone.as_of = gone.as_of.min(as_of);
                for (number, found) in numbers.iter().zip(found) {
                    gone.known.insert(*number, found.is_some());
                    if found.is_some() {
                        self.ended.insert((organisation.id, *number), ());
                    }
                    let told = (found.is_some(), as_of);
                    self.cache.insert((organisation.id, *number), told);
                }
            }
        }
        Ok(gone)
    }
}
