//! A part of a key ring for nodes with some doors only: keys derived from the ring's secrets.
//! Neither those secrets nor keys of other doors follow from it.

use super::error::RingError;
use super::expanded::{KeyRing, PAPER_NAMES, RestCiphers};
use super::files::write_new;
use super::offline::{OfflineSecrets, OfflineSource, SignKeyPair};
use super::rotation::KeyState;
use super::secret::{Secret, SignSecret, derive};
use super::token_kind::TokenKind;
use super::whole::RingFile;
use crate::clock::Time;
use crate::paper::PaperPurpose;
use crate::seal::tags::{TagRing, TagSecrets};
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A door for which a ring has a part. The desk needs the whole ring, because it makes sessions and opens and seals data at
/// rest. So does an operations door that takes feeds; with a part it answers `/ready` and `/metrics`, and refuses every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorPart {
    /// The resident door.
    Resident,
    /// The gate door.
    Gate,
}

impl DoorPart {
    /// All doors with a part.
    pub const ALL: [DoorPart; 2] = [DoorPart::Resident, DoorPart::Gate];

    /// Returns the name of the door.
    pub fn name(self) -> &'static str {
        match self {
            DoorPart::Resident => "resident",
            DoorPart::Gate => "gate",
        }
    }

    /// Returns the kinds of tokens that the door makes or opens.
    fn tokens(self) -> &'static [TokenKind] {
        match self {
            DoorPart::Resident => &[TokenKind::Code, TokenKind::Session],
            DoorPart::Gate => &[TokenKind::Code, TokenKind::Scanner, TokenKind::Grant],
        }
    }

    /// Returns the services whose papers the door reads or writes: all nodes read revocations, and gates read revoked grants.
    fn papers(self) -> &'static [PaperPurpose] {
        match self {
            DoorPart::Resident => &[PaperPurpose::Revocations],
            DoorPart::Gate => &[PaperPurpose::Revocations, PaperPurpose::Grants],
        }
    }

    /// Returns whether the door signs offline codes, or only verifies them.
    fn signs(self) -> bool {
        self == DoorPart::Resident
    }
}

const HEADER: &str = "# A part of a key ring of liangma, for nodes with these doors alone. Keep it at mode 0600.\n\
# After each change of the ring make it again: `liangma keys export --for DOORS --out FILE`.\n\n";

/// A part as in its file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingPart {
    doors: Vec<DoorPart>,
    /// The mark by which a store recognises its ring.
    mark: Secret<16>,
    paper_names: Secret,
    token: Vec<TokenPart>,
    rest: Vec<RestPart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offline: Option<OfflinePart>,
}

/// What follows from one key of data at rest: keys of tags, and of papers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestPart {
    id: u8,
    state: KeyState,
    words: Secret<16>,
    records: Secret,
    changes: Secret,
    papers: BTreeMap<PaperPurpose, Secret<16>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenPart {
    id: u8,
    state: KeyState,
    created: u64,
    keys: BTreeMap<TokenKind, Secret<16>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfflinePart {
    permutation: Secret<16>,
    days: Secret,
    sign: Vec<SignPart>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignPart {
    id: u8,
    state: KeyState,
    /// An uncompressed P-256 point.
    public: Secret<65>,
    /// Only for doors that sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SignSecret>,
}

impl RingPart {
    pub(super) fn of(ring: &RingFile, doors: &[DoorPart]) -> RingPart {
        let mut doors = doors.to_vec();
        doors.sort_unstable();
        doors.dedup();
        let kinds = |door: &DoorPart| door.tokens().iter().copied();
        let token = ring.token.iter().map(|key| TokenPart {
            id: key.id,
            state: key.state,
            created: key.created,
            keys: (doors.iter().flat_map(kinds))
                .map(|kind| (kind, derive(&key.secret, kind.purpose())))
                .collect(),
        });
        let read =
            |purpose: &PaperPurpose| doors.iter().any(|door| door.papers().contains(purpose));
        let rest = ring.rest.0.iter().map(|key| {
            let tags = TagSecrets::of(&key.secret.0);
            RestPart {
                id: key.id,
                state: key.state,
                words: Secret(*tags.words),
                records: Secret(*tags.records),
                changes: Secret(*tags.changes),
                papers: (PaperPurpose::ALL.into_iter().filter(read))
                    .filter_map(|purpose| Some((purpose, ring.papers_key(key, purpose)?)))
                    .collect(),
            }
        });
        let signs = doors.iter().any(|door| door.signs());
        RingPart {
            mark: Secret(ring.mark()),
            paper_names: derive(&ring.identity, PAPER_NAMES),
            token: token.collect(),
            rest: rest.collect(),
            offline: ring.offline().map(|offline| OfflinePart {
                permutation: Secret(offline.permutation),
                days: Secret(*offline.days),
                sign: (ring.sign.iter().zip(offline.signing))
                    .map(|(key, pair)| SignPart {
                        id: pair.id,
                        state: pair.state,
                        public: Secret((*pair.public).try_into().expect("a point of P-256")),
                        secret: signs.then(|| key.secret.clone()),
                    })
                    .collect(),
            }),
            doors,
        }
    }

    /// Returns whether a node with this part can open the door with this name. The exchange door opens the same codes as gates;
    /// an operations door refuses every token.
    fn serves(&self, door: &str) -> bool {
        let name = match door {
            "ops" => return true,
            "exchange" => DoorPart::Gate.name(),
            name => name,
        };
        self.doors.iter().any(|own| own.name() == name)
    }

    /// Returns a text with the doors that this part cannot serve; None if it serves all.
    pub fn refused<'d>(&self, doors: impl Iterator<Item = &'d str>) -> Option<String> {
        let refused: Vec<&str> = doors.filter(|door| !self.serves(door)).collect();
        let names = self.door_names();
        let told = || {
            format!(
                "the part of a key ring for {names} does not serve {}",
                refused.join(", ")
            )
        };
        (!refused.is_empty()).then(told)
    }

    /// Returns the doors as a text: "the doors resident and gate".
    pub fn door_names(&self) -> String {
        let names: Vec<&str> = self.doors.iter().map(|door| door.name()).collect();
        match names[..] {
            [one] => format!("the door {one}"),
            _ => format!("the doors {}", names.join(" and ")),
        }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.doors.is_empty() {
            return Err("a part of a key ring is for at least one door");
        }
        let with = |state| self.token.iter().filter(|key| key.state == state).count();
        if with(KeyState::Current) != 1 {
            return Err("exactly one token key must be current");
        }
        let with = |state| self.rest.iter().filter(|key| key.state == state).count();
        if with(KeyState::Current) != 1 {
            return Err("exactly one key of data at rest must be current");
        }
        let needed = |door: &DoorPart| door.tokens().iter();
        for kind in self.doors.iter().flat_map(needed) {
            if self.token.iter().any(|key| !key.keys.contains_key(kind)) {
                return Err("a key that these doors need is missing");
            }
        }
        Ok(())
    }

    /// Writes a part to a new file.
    ///
    /// # Errors
    ///
    /// `Exists` if there is a file, `Io` if it cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), RingError> {
        write_new(self, HEADER, path)
    }
}

impl OfflineSource for RingPart {
    fn offline(&self) -> Option<OfflineSecrets<'_>> {
        let offline = self.offline.as_ref()?;
        Some(OfflineSecrets {
            permutation: offline.permutation.0,
            days: Zeroizing::new(offline.days.0),
            signing: (offline.sign.iter())
                .map(|key| SignKeyPair {
                    id: key.id,
                    state: key.state,
                    public: key.public.0.into(),
                    private: key.secret.as_ref().map(|secret| &secret.0[..]),
                })
                .collect(),
        })
    }
}

impl From<&RingPart> for KeyRing {
    fn from(part: &RingPart) -> KeyRing {
        let mut keys = [const { None }; 256];
        let (mut current, mut current_since) = (0, Time(0));
        for key in &part.token {
            keys[usize::from(key.id)] = Some(Box::new(
                TokenKind::ALL.map(|kind| Some(key.keys.get(&kind)?.cipher())),
            ));
            match key.state {
                KeyState::Current => current = key.id,
                KeyState::Next => current_since = Time(key.created),
                KeyState::Previous => {}
            }
        }
        let is_current = |key: &&RestPart| key.state == KeyState::Current;
        KeyRing {
            current_since,
            identity: None,
            rest: (part.rest.iter())
                .map(|key| RestCiphers {
                    id: key.id,
                    profiles: None,
                    papers: PaperPurpose::ALL
                        .map(|purpose| Some(key.papers.get(&purpose)?.cipher())),
                })
                .collect(),
            rest_current: (part.rest.iter().find(is_current)).map_or(0, |key| key.id),
            mark: part.mark.0,
            paper_names: hmac::Key::new(hmac::HMAC_SHA256, &part.paper_names.0),
            current,
            keys,
            tags: Arc::new(TagRing::new(part.rest.iter().map(|key| {
                let secrets = TagSecrets {
                    words: Zeroizing::new(key.words.0),
                    records: Zeroizing::new(key.records.0),
                    changes: Zeroizing::new(key.changes.0),
                };
                (key.state == KeyState::Current, secrets)
            }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::ring::KeyFile;
    use std::time::Duration;

    fn ring() -> RingFile {
        let mut ring = RingFile::generate(Time(1));
        ring.rotate(Time(2), Duration::from_secs(60)).unwrap();
        ring
    }

    /// Which keys of a part are those of its ring, by kind of token.
    fn kinds(part: &RingPart) -> Vec<TokenKind> {
        let keys = KeyRing::from(part);
        let has = |kind: &TokenKind| {
            let has: Vec<bool> = (1..=3).map(|id| keys.key(id, *kind).is_some()).collect();
            assert!(
                has.iter().all(|one| *one == has[0]),
                "previous, current and next alike"
            );
            has[0]
        };
        TokenKind::ALL.into_iter().filter(has).collect()
    }

    #[test]
    fn a_part_has_the_keys_of_its_doors_and_no_other() {
        use TokenKind::*;
        let ring = ring();
        let all = [DoorPart::Resident, DoorPart::Gate];
        for (doors, expected) in [
            (&all[..1], &[Code, Session][..]),
            (&all[1..], &[Code, Scanner, Grant]),
            (&all[..], &[Code, Session, Scanner, Grant]),
        ] {
            let part = ring.part(doors);
            assert_eq!(kinds(&part), expected);
            let keys = KeyRing::from(&part);
            assert!(keys.identity.is_none());
            assert!(keys.rest.iter().all(|key| key.profiles.is_none()));
            assert_eq!(keys.mark, KeyRing::from(&ring).mark);
            for purpose in PaperPurpose::ALL {
                let read = match purpose {
                    PaperPurpose::Revocations => true,
                    PaperPurpose::Grants => doors.contains(&DoorPart::Gate),
                    _ => false,
                };
                for key in &keys.rest {
                    assert_eq!(key.papers[purpose as usize].is_some(), read, "{purpose:?}");
                }
            }
            let signs = part
                .offline()
                .unwrap()
                .signing
                .iter()
                .all(|key| key.private.is_some());
            assert_eq!(signs, doors.contains(&DoorPart::Resident));
        }
    }

    #[test]
    fn no_secret_of_the_ring_is_in_the_file_of_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, part) = (folder.path().join("keys"), folder.path().join("part"));
        let ring = ring();
        ring.write_new(&whole).unwrap();
        ring.part(&[DoorPart::Gate]).write_new(&part).unwrap();
        let text = std::fs::read_to_string(&part).unwrap();
        let secrets = std::fs::read_to_string(&whole).unwrap();
        let secrets: Vec<&str> = secrets.split('"').filter(|word| word.len() >= 64).collect();
        assert!(secrets.len() > 10, "the secrets of a ring are found");
        for secret in secrets {
            assert!(!text.contains(&secret[..32]) && !text.contains(&secret[32..64]));
        }
    }

    #[test]
    fn a_part_reads_back_and_is_no_ring() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let part = ring().part(&[DoorPart::Gate, DoorPart::Resident, DoorPart::Gate]);
        part.write_new(&path).unwrap();
        assert!(matches!(part.write_new(&path), Err(RingError::Exists(_))));
        let Ok(KeyFile::Part(read)) = KeyFile::read(&path) else {
            panic!("it is a part");
        };
        assert_eq!(read.doors, DoorPart::ALL);
        let refused = |part: &RingPart, doors: &[&str]| part.refused(doors.iter().copied());
        let all = ["resident", "gate", "ops", "exchange"];
        assert_eq!(refused(&read, &all), None);
        let told = refused(&read, &["gate", "desk"]).unwrap();
        assert!(told.ends_with("does not serve desk"), "{told}");
        assert!(refused(&ring().part(&[DoorPart::Resident]), &["exchange"]).is_some());
        assert_eq!(kinds(&read), kinds(&part));
        let error = RingFile::read(&path).err().unwrap();
        assert!(
            error.to_string().contains("the doors resident and gate"),
            "{error}"
        );
    }

    #[test]
    fn a_part_without_a_key_that_its_door_needs_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut part = ring().part(&[DoorPart::Gate]);
        part.token[1].keys.remove(&TokenKind::Grant);
        part.write_new(&path).unwrap();
        let error = KeyFile::read(&path).err().unwrap().to_string();
        assert!(
            error.contains("a key that these doors need is missing"),
            "{error}"
        );
    }
}
