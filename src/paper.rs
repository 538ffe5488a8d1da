//! Papers: what is kept of an owner beside the record, appended and never changed: its kind, key, time and sealed body. Pure.
//!
//! An owner is a person's [`Identity`], or one that was made for an organisation, a destination's day, a list of ours. The
//! first paper with a key is the one that stays, whatever comes after under the same key.

use crate::clock::Time;
use std::time::Duration;

/// What a paper is. The numbers are on the disk and in Redis; none is ever given to another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A health certificate.
    Certificate = 1,
    /// An electronic notice of release from medical observation.
    Notice = 2,
    Temperature = 3,
    /// The carriers' list of 14 days.
    Trip = 4,
    Declaration = 5,
    /// A declaration of entry, with who declared it.
    Entry = 6,
    /// A family member was added.
    Member = 7,
    /// A family member was removed, or withdrew.
    MemberGone = 8,
    Grant = 9,
    GrantGone = 10,
    /// A privileged look at the owner.
    Access = 11,
    /// A link of a chain of the audit log.
    Audit = 12,
    /// A person who was registered by staff.
    Registration = 13,
    Appeal = 14,
    /// What became of an appeal.
    AppealState = 15,
    /// A pass, a membership or sessions that are good no more; its time is when they would have ended by themselves.
    Revocation = 16,
    /// A grant of the owner was scanned on a day.
    GrantScan = 17,
    /// A hash of what a caller asked for under an idempotency key.
    Request = 18,
    /// A generation of the owner's offline codes was revoked.
    OfflineGeneration = 19,
    /// A node has the turn to publish the status list of a slot.
    ListTurn = 20,
    /// A part of a file of a status list.
    ListPart = 21,
    /// The status list of a slot: which files it is made of.
    ListHead = 22,
}

impl Kind {
    pub const ALL: [Kind; 22] = [
        Kind::Certificate,
        Kind::Notice,
        Kind::Temperature,
        Kind::Trip,
        Kind::Declaration,
        Kind::Entry,
        Kind::Member,
        Kind::MemberGone,
        Kind::Grant,
        Kind::GrantGone,
        Kind::Access,
        Kind::Audit,
        Kind::Registration,
        Kind::Appeal,
        Kind::AppealState,
        Kind::Revocation,
        Kind::GrantScan,
        Kind::Request,
        Kind::OfflineGeneration,
        Kind::ListTurn,
        Kind::ListPart,
        Kind::ListHead,
    ];

    /// What is made again by itself, and no export holds.
    pub const MADE_AGAIN: [Kind; 3] = [Kind::ListTurn, Kind::ListPart, Kind::ListHead];

    pub fn from_bits(bits: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(bits).checked_sub(1)?).copied()
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Certificate => "certificate",
            Kind::Notice => "notice",
            Kind::Temperature => "temperature",
            Kind::Trip => "trip",
            Kind::Declaration => "declaration",
            Kind::Entry => "entry",
            Kind::Member => "member",
            Kind::MemberGone => "member_gone",
            Kind::Grant => "grant",
            Kind::GrantGone => "grant_gone",
            Kind::Access => "access",
            Kind::Audit => "audit",
            Kind::Registration => "registration",
            Kind::Appeal => "appeal",
            Kind::AppealState => "appeal_state",
            Kind::Revocation => "revocation",
            Kind::GrantScan => "grant_scan",
            Kind::Request => "request",
            Kind::OfflineGeneration => "offline_generation",
            Kind::ListTurn => "list_turn",
            Kind::ListPart => "list_part",
            Kind::ListHead => "list_head",
        }
    }

    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What it is kept for, and so which key seals it.
    pub fn purpose(self) -> Purpose {
        match self {
            Kind::Certificate | Kind::Notice | Kind::Temperature => Purpose::Health,
            Kind::Trip => Purpose::Trips,
            Kind::Declaration | Kind::Entry => Purpose::Declarations,
            Kind::Member | Kind::MemberGone => Purpose::Family,
            Kind::Grant | Kind::GrantGone => Purpose::Grants,
            Kind::Access | Kind::Audit | Kind::GrantScan => Purpose::Audit,
            // Every service needs these, so their key must not be destroyed with one service.
            Kind::Revocation
            | Kind::Request
            | Kind::OfflineGeneration
            | Kind::ListTurn
            | Kind::ListPart
            | Kind::ListHead => Purpose::Revocations,
            Kind::Registration => Purpose::Registration,
            Kind::Appeal | Kind::AppealState => Purpose::Appeals,
        }
    }

    /// Returns how many papers of this kind an owner has at most, or [`UNBOUNDED`]. Past a bound the oldest paper is removed
    /// for a newer one, and a paper older than all is not filed.
    ///
    /// A kind that several persons file for one owner has no bound, because one person's paper would remove another's. A kind
    /// that ends something has none either, because what it ends would be in force again. The desk bounds what one person
    /// files in a day.
    pub fn most(self) -> u16 {
        match self {
            Kind::Declaration
            | Kind::Entry
            | Kind::Member
            | Kind::MemberGone
            | Kind::Grant
            | Kind::GrantGone
            | Kind::Access
            | Kind::Audit
            | Kind::Registration
            | Kind::GrantScan
            | Kind::Appeal
            | Kind::AppealState
            | Kind::Revocation
            | Kind::OfflineGeneration
            | Kind::ListTurn
            | Kind::ListPart
            | Kind::ListHead => UNBOUNDED,
            Kind::Certificate | Kind::Notice | Kind::Temperature | Kind::Trip | Kind::Request => {
                512
            }
        }
    }
}

/// In the place of the most papers of a kind: the kind has no bound. `take.lua` knows the same number.
pub const UNBOUNDED: u16 = u16::MAX;

/// A service that keeps papers. Each has a key of its own, so that the end of a service is the end of its key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Health,
    Trips,
    Declarations,
    Family,
    Grants,
    Audit,
    Registration,
    Appeals,
    Revocations,
}

impl Purpose {
    pub const ALL: [Purpose; 9] = [
        Purpose::Health,
        Purpose::Trips,
        Purpose::Declarations,
        Purpose::Family,
        Purpose::Grants,
        Purpose::Audit,
        Purpose::Registration,
        Purpose::Appeals,
        Purpose::Revocations,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Purpose::Health => "health",
            Purpose::Trips => "trips",
            Purpose::Declarations => "declarations",
            Purpose::Family => "family",
            Purpose::Grants => "grants",
            Purpose::Audit => "audit",
            Purpose::Registration => "registration",
            Purpose::Appeals => "appeals",
            Purpose::Revocations => "revocations",
        }
    }

    pub fn parse(word: &str) -> Option<Purpose> {
        Purpose::ALL
            .into_iter()
            .find(|purpose| purpose.word() == word)
    }

    /// Whether the service may end: without its revocations whatever was revoked would be good again.
    pub fn may_end(self) -> bool {
        self != Purpose::Revocations
    }
}

/// Some kinds, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kinds(u32);

impl Kinds {
    pub const ALL: Kinds = Kinds(u32::MAX);

    pub const fn of(kinds: &[Kind]) -> Kinds {
        let mut bits = 0;
        let mut nth = 0;
        while nth < kinds.len() {
            bits |= 1 << kinds[nth] as u8;
            nth += 1;
        }
        Kinds(bits)
    }

    /// Returns these kinds but for some.
    pub const fn without(self, kinds: &[Kind]) -> Kinds {
        Kinds(self.0 & !Kinds::of(kinds).0)
    }

    pub fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Bytes of a sealed body at most: Redis keeps values of up to a kilobyte packed.
pub const BODY_BYTES_MAX: usize = 960;

/// Papers that are read at once at most: less than a millisecond of Redis at any length of a list.
pub const PAGE_MAX: usize = 200;

/// Tells a paper from every other of its owner.
pub type Key = [u8; 16];

/// One paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    pub kind: Kind,
    pub key: Key,
    /// Orders the papers of an owner; when what it tells of happened.
    pub at: Time,
    /// Sealed; see [`crate::seal::Seal::paper`]. At most [`BODY_BYTES_MAX`].
    pub body: Box<[u8]>,
}

/// Where a reader stopped: the time and key of the last paper that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub at: Time,
    pub key: Key,
}

impl Cursor {
    pub const BYTES: usize = 22;

    pub fn to_bytes(self) -> [u8; Cursor::BYTES] {
        let mut bytes = [0; Cursor::BYTES];
        bytes[..6].copy_from_slice(&self.at.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&self.key);
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Cursor::BYTES]) -> Cursor {
        let mut at = [0; 8];
        at[2..].copy_from_slice(&bytes[..6]);
        Cursor {
            at: Time(u64::from_be_bytes(at)),
            key: bytes[6..].try_into().expect("16 of 22"),
        }
    }
}

/// The latest time that fits into the six bytes it is kept in: the year 10895.
pub const AT_MAX: Time = Time((1 << 48) - 1);

impl Paper {
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.at,
            key: self.key,
        }
    }

    /// What is kept under the key: time (6 bytes), kind (1), body.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.at.min(AT_MAX).0.to_be_bytes()[2..]);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.body);
    }

    pub fn value(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(7 + self.body.len());
        self.write(&mut bytes);
        bytes
    }

    /// None if the bytes are not those of [`Paper::write`].
    pub fn read(key: Key, value: &[u8]) -> Option<Paper> {
        let (head, body) = value.split_first_chunk::<7>()?;
        let mut at = [0; 8];
        at[2..].copy_from_slice(&head[..6]);
        Some(Paper {
            kind: Kind::from_bits(head[6])?,
            key,
            at: Time(u64::from_be_bytes(at)),
            body: body.into(),
        })
    }
}

/// The newest `limit` of these kinds that come after the cursor, the newest first.
pub fn page(papers: &mut Vec<Paper>, kinds: Kinds, after: Option<Cursor>, limit: usize) {
    papers
        .retain(|paper| kinds.has(paper.kind) && after.is_none_or(|after| paper.cursor() < after));
    papers.sort_unstable_by_key(|paper| std::cmp::Reverse(paper.cursor()));
    papers.truncate(limit);
}

/// What makes room for one more of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    There,
    /// This one goes for it.
    Instead(Key),
    /// All that are there are newer.
    None,
}

/// Whether an owner who has `count` papers of a kind, the oldest of them at `oldest`, has room for one more.
pub fn room(kind: Kind, count: usize, oldest: Option<Cursor>, more: Cursor) -> Room {
    match oldest {
        Some(oldest) if kind.most() != UNBOUNDED && count >= usize::from(kind.most()) => {
            match oldest < more {
                true => Room::Instead(oldest.key),
                false => Room::None,
            }
        }
        _ => Room::There,
    }
}

/// A revocation is of no use once what it revokes is over; clocks may differ.
const REVOCATION_KEPT: Duration = Duration::from_secs(86_400);

/// A generation that were forgotten would be given again, and its revoked codes would be good.
const GENERATION_KEPT: Duration = Duration::from_secs(36_500 * 86_400);

/// Files of a status list: the longest time between two bases, twice, and what a list may be used for.
const LIST_KEPT: Duration = Duration::from_secs(3 * 86_400);

/// How long the content under an idempotency key is compared.
const REQUEST_KEPT: Duration = Duration::from_secs(86_400);

/// How long each kind of paper is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Certificates and notices.
    pub health: Duration,
    pub temperatures: Duration,
    pub trips: Duration,
    /// Declarations, those of entry too.
    pub declarations: Duration,
    /// Members, grants, registrations, appeals.
    pub arrangements: Duration,
    /// Privileged looks, the audit log, and scans of grants.
    pub accesses: Duration,
}

impl Keep {
    pub fn of(&self, kind: Kind) -> Duration {
        match kind {
            Kind::Certificate | Kind::Notice => self.health,
            Kind::Temperature => self.temperatures,
            Kind::Trip => self.trips,
            Kind::Declaration | Kind::Entry => self.declarations,
            Kind::Member
            | Kind::MemberGone
            | Kind::Grant
            | Kind::GrantGone
            | Kind::Registration
            | Kind::Appeal
            | Kind::AppealState => self.arrangements,
            Kind::Access | Kind::Audit | Kind::GrantScan => self.accesses,
            Kind::Revocation => REVOCATION_KEPT,
            Kind::Request => REQUEST_KEPT,
            Kind::OfflineGeneration => GENERATION_KEPT,
            Kind::ListTurn | Kind::ListPart | Kind::ListHead => LIST_KEPT,
        }
    }

    /// Papers of this kind from before this are swept, and no longer told.
    pub fn horizon(&self, kind: Kind, now: Time) -> Time {
        Time(now.0.saturating_sub(self.of(kind).as_millis() as u64))
    }

    pub fn is_past(&self, kind: Kind, at: Time, now: Time) -> bool {
        at < self.horizon(kind, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paper(kind: Kind, key: u8, at: u64) -> Paper {
        Paper {
            kind,
            key: [key; 16],
            at: Time(at),
            body: [1, 2].into(),
        }
    }

    #[test]
    fn every_kind_has_its_number_and_its_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_bits(kind as u8), Some(kind));
            assert_eq!(Kind::parse(kind.word()), Some(kind));
            assert_eq!(Purpose::parse(kind.purpose().word()), Some(kind.purpose()));
            assert!(Kinds::ALL.has(kind) && Kinds::of(&[kind]).has(kind));
        }
        assert_eq!((Kind::from_bits(0), Kind::from_bits(23)), (None, None));
        assert!(!Kinds::of(&[Kind::Trip]).has(Kind::Notice));
    }

    #[test]
    fn what_ends_something_and_what_several_persons_file_makes_no_room() {
        for kind in [
            Kind::GrantGone,
            Kind::MemberGone,
            Kind::Revocation,
            Kind::Grant,
            Kind::Member,
            Kind::Declaration,
            Kind::Entry,
            Kind::Appeal,
            Kind::AppealState,
            Kind::Access,
            Kind::Audit,
            Kind::Registration,
            Kind::GrantScan,
        ] {
            for at in [50, 9_000] {
                let more = paper(kind, 255, at).cursor();
                let oldest = Some(paper(kind, 0, 100).cursor());
                assert_eq!(room(kind, 5_000, oldest, more), Room::There, "{kind:?}");
            }
        }
    }

    #[test]
    fn past_the_most_of_a_kind_the_oldest_goes_and_only_for_a_newer_one() {
        let most = usize::from(Kind::Trip.most());
        let oldest = Some(paper(Kind::Trip, 0, 100).cursor());
        let of = |count, at| {
            room(
                Kind::Trip,
                count,
                oldest,
                paper(Kind::Trip, 255, at).cursor(),
            )
        };
        assert_eq!(of(most, 50), Room::None);
        assert_eq!(of(most, 5_000), Room::Instead([0; 16]));
        assert_eq!(of(most - 1, 50), Room::There);
        let none = room(Kind::Trip, 0, None, paper(Kind::Trip, 1, 1).cursor());
        assert_eq!(none, Room::There);
    }

    proptest! {
        #[test]
        fn reads_back_as_it_was_written(kind in 1u8..=22, at in 0u64..1 << 48, body in prop::collection::vec(any::<u8>(), 0..99)) {
            let paper = Paper { body: body.into(), ..paper(Kind::from_bits(kind).unwrap(), 7, at) };
            prop_assert_eq!(Paper::read(paper.key, &paper.value()), Some(paper.clone()));
            let cursor = paper.cursor();
            prop_assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), cursor);
        }

        #[test]
        fn rubbish_is_no_paper_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Paper::read([0; 16], &bytes);
        }

        #[test]
        fn pages_hold_everything_once_and_the_newest_first(times in prop::collection::vec(0u64..20, 0..60), limit in 1usize..9) {
            let all: Vec<Paper> = times.iter().enumerate().map(|(nth, at)| paper(Kind::Trip, nth as u8, *at)).collect();
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let mut papers = all.clone();
                page(&mut papers, Kinds::ALL, after, limit);
                let Some(last) = papers.last() else { break };
                after = Some(last.cursor());
                seen.extend(papers.iter().map(Paper::cursor));
            }
            prop_assert_eq!(seen.len(), all.len());
            prop_assert!(seen.is_sorted_by(|a, b| a > b));
        }
    }
}
