//! Papers: what is kept of an owner beside the record, appended and never changed: its kind, key, time and sealed body. Pure.
//!
//! An owner is a person's [`Identity`](crate::person::Identity), or one that was made for an organisation, a destination's day, a list of ours. The
//! first paper with a key is the one that stays, whatever comes after under the same key.

use crate::clock::Time;
use std::time::Duration;

/// What a paper is. The numbers are on the disk and in Redis; none is ever given to another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PaperKind {
    /// A health certificate.
    Certificate = 1,
    /// An electronic notice of release from medical observation.
    Notice = 2,
    /// A temperature that was taken.
    Temperature = 3,
    /// The carriers' list of 14 days.
    Trip = 4,
    /// A declaration of health.
    Declaration = 5,
    /// A declaration of entry, with who declared it.
    Entry = 6,
    /// A family member was added.
    Member = 7,
    /// A family member was removed, or withdrew.
    MemberGone = 8,
    /// A grant to an organisation.
    Grant = 9,
    /// A grant was revoked, or has ended.
    GrantGone = 10,
    /// A privileged look at the owner.
    Access = 11,
    /// A link of a chain of the audit log.
    Audit = 12,
    /// A person who was registered by staff.
    Registration = 13,
    /// An appeal against a reason.
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

impl PaperKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [PaperKind; 22] = [
        PaperKind::Certificate,
        PaperKind::Notice,
        PaperKind::Temperature,
        PaperKind::Trip,
        PaperKind::Declaration,
        PaperKind::Entry,
        PaperKind::Member,
        PaperKind::MemberGone,
        PaperKind::Grant,
        PaperKind::GrantGone,
        PaperKind::Access,
        PaperKind::Audit,
        PaperKind::Registration,
        PaperKind::Appeal,
        PaperKind::AppealState,
        PaperKind::Revocation,
        PaperKind::GrantScan,
        PaperKind::Request,
        PaperKind::OfflineGeneration,
        PaperKind::ListTurn,
        PaperKind::ListPart,
        PaperKind::ListHead,
    ];

    /// What is made again by itself, and no export holds.
    pub const MADE_AGAIN: [PaperKind; 3] = [
        PaperKind::ListTurn,
        PaperKind::ListPart,
        PaperKind::ListHead,
    ];

    /// Returns the kind of a number; None for one that no kind has.
    pub fn from_bits(bits: u8) -> Option<PaperKind> {
        PaperKind::ALL
            .get(usize::from(bits).checked_sub(1)?)
            .copied()
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            PaperKind::Certificate => "certificate",
            PaperKind::Notice => "notice",
            PaperKind::Temperature => "temperature",
            PaperKind::Trip => "trip",
            PaperKind::Declaration => "declaration",
            PaperKind::Entry => "entry",
            PaperKind::Member => "member",
            PaperKind::MemberGone => "member_gone",
            PaperKind::Grant => "grant",
            PaperKind::GrantGone => "grant_gone",
            PaperKind::Access => "access",
            PaperKind::Audit => "audit",
            PaperKind::Registration => "registration",
            PaperKind::Appeal => "appeal",
            PaperKind::AppealState => "appeal_state",
            PaperKind::Revocation => "revocation",
            PaperKind::GrantScan => "grant_scan",
            PaperKind::Request => "request",
            PaperKind::OfflineGeneration => "offline_generation",
            PaperKind::ListTurn => "list_turn",
            PaperKind::ListPart => "list_part",
            PaperKind::ListHead => "list_head",
        }
    }

    /// Returns the kind of a word; None for one that no kind has.
    pub fn parse(word: &str) -> Option<PaperKind> {
        PaperKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What it is kept for, and so which key seals it.
    pub fn purpose(self) -> PaperPurpose {
        match self {
            PaperKind::Certificate | PaperKind::Notice | PaperKind::Temperature => {
                PaperPurpose::Health
            }
            PaperKind::Trip => PaperPurpose::Trips,
            PaperKind::Declaration | PaperKind::Entry => PaperPurpose::Declarations,
            PaperKind::Member | PaperKind::MemberGone => PaperPurpose::Family,
            // Gates file scans of grants, and have no key of the audit log.
            PaperKind::Grant | PaperKind::GrantGone | PaperKind::GrantScan => PaperPurpose::Grants,
            PaperKind::Access | PaperKind::Audit => PaperPurpose::Audit,
            // Every service needs these, so their key must not be destroyed with one service.
            PaperKind::Revocation
            | PaperKind::Request
            | PaperKind::OfflineGeneration
            | PaperKind::ListTurn
            | PaperKind::ListPart
            | PaperKind::ListHead => PaperPurpose::Revocations,
            PaperKind::Registration => PaperPurpose::Registration,
            PaperKind::Appeal | PaperKind::AppealState => PaperPurpose::Appeals,
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
            PaperKind::Declaration
            | PaperKind::Entry
            | PaperKind::Member
            | PaperKind::MemberGone
            | PaperKind::Grant
            | PaperKind::GrantGone
            | PaperKind::Access
            | PaperKind::Audit
            | PaperKind::Registration
            | PaperKind::GrantScan
            | PaperKind::Appeal
            | PaperKind::AppealState
            | PaperKind::Revocation
            | PaperKind::OfflineGeneration
            | PaperKind::ListTurn
            | PaperKind::ListPart
            | PaperKind::ListHead => UNBOUNDED,
            PaperKind::Certificate
            | PaperKind::Notice
            | PaperKind::Temperature
            | PaperKind::Trip
            | PaperKind::Request => 512,
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
pub enum PaperPurpose {
    /// Certificates, notices and temperatures.
    Health,
    /// Trip cards.
    Trips,
    /// Declarations of health and of entry.
    Declarations,
    /// Family members.
    Family,
    /// Grants to organisations.
    Grants,
    /// Looks of offices, and the audit log.
    Audit,
    /// Persons who were registered by staff.
    Registration,
    /// Appeals and their answers.
    Appeals,
    /// Revoked credentials.
    Revocations,
}

impl PaperPurpose {
    /// All services, in the order of the enum.
    pub const ALL: [PaperPurpose; 9] = [
        PaperPurpose::Health,
        PaperPurpose::Trips,
        PaperPurpose::Declarations,
        PaperPurpose::Family,
        PaperPurpose::Grants,
        PaperPurpose::Audit,
        PaperPurpose::Registration,
        PaperPurpose::Appeals,
        PaperPurpose::Revocations,
    ];

    /// Returns the word that settings and commands use.
    pub fn word(self) -> &'static str {
        match self {
            PaperPurpose::Health => "health",
            PaperPurpose::Trips => "trips",
            PaperPurpose::Declarations => "declarations",
            PaperPurpose::Family => "family",
            PaperPurpose::Grants => "grants",
            PaperPurpose::Audit => "audit",
            PaperPurpose::Registration => "registration",
            PaperPurpose::Appeals => "appeals",
            PaperPurpose::Revocations => "revocations",
        }
    }

    /// Returns the service of a word; None for one that no service has.
    pub fn parse(word: &str) -> Option<PaperPurpose> {
        PaperPurpose::ALL
            .into_iter()
            .find(|purpose| purpose.word() == word)
    }

    /// Whether the service may end: without its revocations whatever was revoked would be good again.
    pub fn may_end(self) -> bool {
        self != PaperPurpose::Revocations
    }
}

/// Some kinds, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PaperKinds(u32);

impl PaperKinds {
    /// Every kind.
    pub const ALL: PaperKinds = PaperKinds(u32::MAX);

    /// Returns the set of these kinds.
    pub const fn of(kinds: &[PaperKind]) -> PaperKinds {
        let mut bits = 0;
        let mut nth = 0;
        while nth < kinds.len() {
            bits |= 1 << kinds[nth] as u8;
            nth += 1;
        }
        PaperKinds(bits)
    }

    /// Returns these kinds but for some.
    pub const fn without(self, kinds: &[PaperKind]) -> PaperKinds {
        PaperKinds(self.0 & !PaperKinds::of(kinds).0)
    }

    /// Returns whether a kind is in the set.
    pub fn has(self, kind: PaperKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Returns the set as a number: a bit for each kind, by its number.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Bytes of a sealed body at most: Redis keeps values of up to a kilobyte packed.
pub const BODY_BYTES_MAX: usize = 960;

/// Papers that are read at once at most: less than a millisecond of Redis at any length of a list.
pub const PAGE_MAX: usize = 200;

/// Tells a paper from every other of its owner.
pub type PaperKey = [u8; 16];

/// One paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// What the paper is.
    pub kind: PaperKind,
    /// Tells the paper from the others of its owner.
    pub key: PaperKey,
    /// Orders the papers of an owner; when what it tells of happened.
    pub at: Time,
    /// Sealed; see [`crate::seal::Seal::paper`]. At most [`BODY_BYTES_MAX`].
    pub body: Box<[u8]>,
}

/// Where a reader stopped: the time and key of the last paper that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The time of the paper.
    pub at: Time,
    /// The key of the paper.
    pub key: PaperKey,
}

impl Cursor {
    /// Bytes of a cursor: six of the time, sixteen of the key.
    pub const BYTES: usize = 22;

    /// Returns the cursor as bytes, which sort as cursors do.
    pub fn to_bytes(self) -> [u8; Cursor::BYTES] {
        let mut bytes = [0; Cursor::BYTES];
        bytes[..6].copy_from_slice(&self.at.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&self.key);
        bytes
    }

    /// Returns the cursor of such bytes.
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
    /// Returns the cursor behind this paper.
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

    /// Returns what is kept under the key.
    pub fn value(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(7 + self.body.len());
        self.write(&mut bytes);
        bytes
    }

    /// None if the bytes are not those of [`Paper::write`].
    pub fn read(key: PaperKey, value: &[u8]) -> Option<Paper> {
        let (head, body) = value.split_first_chunk::<7>()?;
        let mut at = [0; 8];
        at[2..].copy_from_slice(&head[..6]);
        Some(Paper {
            kind: PaperKind::from_bits(head[6])?,
            key,
            at: Time(u64::from_be_bytes(at)),
            body: body.into(),
        })
    }
}

/// The newest `limit` of these kinds that come after the cursor, the newest first.
pub fn page(papers: &mut Vec<Paper>, kinds: PaperKinds, after: Option<Cursor>, limit: usize) {
    papers
        .retain(|paper| kinds.has(paper.kind) && after.is_none_or(|after| paper.cursor() < after));
    papers.sort_unstable_by_key(|paper| std::cmp::Reverse(paper.cursor()));
    papers.truncate(limit);
}

/// What makes room for one more of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displacement {
    /// There is room.
    There,
    /// This one goes for it.
    Instead(PaperKey),
    /// All that are there are newer.
    None,
}

/// Whether an owner who has `count` papers of a kind, the oldest of them at `oldest`, has room for one more.
pub fn room(kind: PaperKind, count: usize, oldest: Option<Cursor>, more: Cursor) -> Displacement {
    match oldest {
        Some(oldest) if kind.most() != UNBOUNDED && count >= usize::from(kind.most()) => {
            match oldest < more {
                true => Displacement::Instead(oldest.key),
                false => Displacement::None,
            }
        }
        _ => Displacement::There,
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
pub struct Retention {
    /// Certificates and notices.
    pub health: Duration,
    /// Temperatures.
    pub temperatures: Duration,
    /// Trip cards.
    pub trips: Duration,
    /// Declarations, those of entry too.
    pub declarations: Duration,
    /// Members, grants, registrations, appeals.
    pub arrangements: Duration,
    /// Privileged looks, the audit log, and scans of grants.
    pub accesses: Duration,
}

impl Retention {
    /// Returns how long papers of a kind are kept.
    pub fn of(&self, kind: PaperKind) -> Duration {
        match kind {
            PaperKind::Certificate | PaperKind::Notice => self.health,
            PaperKind::Temperature => self.temperatures,
            PaperKind::Trip => self.trips,
            PaperKind::Declaration | PaperKind::Entry => self.declarations,
            PaperKind::Member
            | PaperKind::MemberGone
            | PaperKind::Grant
            | PaperKind::GrantGone
            | PaperKind::Registration
            | PaperKind::Appeal
            | PaperKind::AppealState => self.arrangements,
            PaperKind::Access | PaperKind::Audit | PaperKind::GrantScan => self.accesses,
            PaperKind::Revocation => REVOCATION_KEPT,
            PaperKind::Request => REQUEST_KEPT,
            PaperKind::OfflineGeneration => GENERATION_KEPT,
            PaperKind::ListTurn | PaperKind::ListPart | PaperKind::ListHead => LIST_KEPT,
        }
    }

    /// Papers of this kind from before this are swept, and no longer told.
    pub fn horizon(&self, kind: PaperKind, now: Time) -> Time {
        Time(now.0.saturating_sub(self.of(kind).as_millis() as u64))
    }

    /// Returns whether a paper of this kind and time is kept no longer.
    pub fn is_past(&self, kind: PaperKind, at: Time, now: Time) -> bool {
        at < self.horizon(kind, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paper(kind: PaperKind, key: u8, at: u64) -> Paper {
        Paper {
            kind,
            key: [key; 16],
            at: Time(at),
            body: [1, 2].into(),
        }
    }

    #[test]
    fn every_kind_has_its_number_and_its_word() {
        for kind in PaperKind::ALL {
            assert_eq!(PaperKind::from_bits(kind as u8), Some(kind));
            assert_eq!(PaperKind::parse(kind.word()), Some(kind));
            assert_eq!(
                PaperPurpose::parse(kind.purpose().word()),
                Some(kind.purpose())
            );
            assert!(PaperKinds::ALL.has(kind) && PaperKinds::of(&[kind]).has(kind));
        }
        assert_eq!(
            (PaperKind::from_bits(0), PaperKind::from_bits(23)),
            (None, None)
        );
        assert!(!PaperKinds::of(&[PaperKind::Trip]).has(PaperKind::Notice));
    }

    #[test]
    fn what_ends_something_and_what_several_persons_file_makes_no_room() {
        for kind in [
            PaperKind::GrantGone,
            PaperKind::MemberGone,
            PaperKind::Revocation,
            PaperKind::Grant,
            PaperKind::Member,
            PaperKind::Declaration,
            PaperKind::Entry,
            PaperKind::Appeal,
            PaperKind::AppealState,
            PaperKind::Access,
            PaperKind::Audit,
            PaperKind::Registration,
            PaperKind::GrantScan,
        ] {
            for at in [50, 9_000] {
                let more = paper(kind, 255, at).cursor();
                let oldest = Some(paper(kind, 0, 100).cursor());
                assert_eq!(
                    room(kind, 5_000, oldest, more),
                    Displacement::There,
                    "{kind:?}"
                );
            }
        }
    }

    #[test]
    fn past_the_most_of_a_kind_the_oldest_goes_and_only_for_a_newer_one() {
        let most = usize::from(PaperKind::Trip.most());
        let oldest = Some(paper(PaperKind::Trip, 0, 100).cursor());
        let of = |count, at| {
            room(
                PaperKind::Trip,
                count,
                oldest,
                paper(PaperKind::Trip, 255, at).cursor(),
            )
        };
        assert_eq!(of(most, 50), Displacement::None);
        assert_eq!(of(most, 5_000), Displacement::Instead([0; 16]));
        assert_eq!(of(most - 1, 50), Displacement::There);
        let none = room(
            PaperKind::Trip,
            0,
            None,
            paper(PaperKind::Trip, 1, 1).cursor(),
        );
        assert_eq!(none, Displacement::There);
    }

    proptest! {
        #[test]
        fn reads_back_as_it_was_written(kind in 1u8..=22, at in 0u64..1 << 48, body in prop::collection::vec(any::<u8>(), 0..99)) {
            let paper = Paper { body: body.into(), ..paper(PaperKind::from_bits(kind).unwrap(), 7, at) };
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
            let all: Vec<Paper> = times.iter().enumerate().map(|(nth, at)| paper(PaperKind::Trip, nth as u8, *at)).collect();
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let mut papers = all.clone();
                page(&mut papers, PaperKinds::ALL, after, limit);
                let Some(last) = papers.last() else { break };
                after = Some(last.cursor());
                seen.extend(papers.iter().map(Paper::cursor));
            }
            prop_assert_eq!(seen.len(), all.len());
            prop_assert!(seen.is_sorted_by(|a, b| a > b));
        }
    }
}
