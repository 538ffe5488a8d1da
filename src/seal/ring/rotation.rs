//! Keys that are rotated: the current one, the next, and the previous ones.

use super::error::RingError;
use super::secret::RandomSecret;
use crate::clock::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// State of a key that seals tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Opens already, and seals after the next rotation: all nodes know it before any uses it.
    Next,
    /// Seals and opens.
    Current,
    /// Opens what it sealed, until the longest validity of that is over.
    Previous,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotatedKey<S> {
    pub(super) id: u8,
    pub(super) state: KeyState,
    pub(super) created: u64,
    /// When it became previous, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retired: Option<u64>,
    pub(super) secret: S,
}

impl<S: RandomSecret> RotatedKey<S> {
    /// Returns a new key.
    pub(super) fn new(id: u8, state: KeyState, now: Time) -> RotatedKey<S> {
        RotatedKey {
            id,
            state,
            created: now.0,
            retired: None,
            secret: S::random(),
        }
    }
}

/// Rotates: the next key becomes current, the current one previous. Drops keys that retired `keep` ago, and adds a next one.
pub(super) fn rotate<S: RandomSecret>(
    keys: &mut Vec<RotatedKey<S>>,
    now: Time,
    keep: Duration,
) -> Result<(), RingError> {
    keys.retain(|key| {
        key.retired
            .is_none_or(|retired| now.since(Time(retired)) < keep)
    });
    if keys.len() >= KEYS_MAX {
        return Err(RingError::Full(keys.len() - 2));
    }
    let mut newest = 0;
    for key in keys.iter_mut() {
        match key.state {
            KeyState::Next => {
                key.state = KeyState::Current;
                newest = key.id;
            }
            KeyState::Current => {
                key.state = KeyState::Previous;
                key.retired = Some(now.0);
            }
            KeyState::Previous => {}
        }
    }
    let id = free_ids(newest, keys).next().expect("fewer keys than ids");
    keys.push(RotatedKey::new(id, KeyState::Next, now));
    Ok(())
}

/// Replaces all keys by new ones. Ids are not reused, so that no old key is taken for a new one.
pub(super) fn replace<S: RandomSecret>(keys: &mut Vec<RotatedKey<S>>, now: Time) {
    let newest = keys.iter().map(|key| key.id).max().unwrap_or(0);
    let mut free = free_ids(newest, keys);
    let mut key = |state| RotatedKey::new(free.next().expect("fewer keys than ids"), state, now);
    *keys = vec![key(KeyState::Current), key(KeyState::Next)];
}

/// Returns unused ids, from the one after `newest` on.
pub(super) fn free_ids<S>(newest: u8, keys: &[RotatedKey<S>]) -> impl Iterator<Item = u8> + use<S> {
    let used: Vec<u8> = keys.iter().map(|key| key.id).collect();
    (1..=u8::MAX)
        .map(move |step| newest.wrapping_add(step))
        .filter(move |id| *id != 0 && !used.contains(id))
}

/// Removes all previous keys.
pub(super) fn drop_previous<S>(keys: &mut Vec<RotatedKey<S>>) {
    keys.retain(|key| key.state != KeyState::Previous);
}

/// Returns a line for each key.
pub(super) fn lines<S>(keys: &[RotatedKey<S>]) -> Vec<KeyLine> {
    let line = |key: &RotatedKey<S>| KeyLine {
        id: key.id,
        state: key.state,
        created: Time(key.created),
        retired: key.retired.map(Time),
    };
    keys.iter().map(line).collect()
}

/// A line of `keys list`, without secrets.
pub struct KeyLine {
    /// Id of the key.
    pub id: u8,
    /// State of the key.
    pub state: KeyState,
    /// When the key was created.
    pub created: Time,
    /// When the key retired; None while it seals.
    pub retired: Option<Time>,
}

/// Largest number of keys. Ids are a byte, and none may be reused while it still opens something.
const KEYS_MAX: usize = 64;
