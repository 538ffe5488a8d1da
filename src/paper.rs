//! Papers: entries of an owner beside the record, appended and never changed. Kind, key, time and sealed body. Pure.
//!
//! An owner is a person's [`Identity`](crate::person::Identity), or one made for an organisation, a destination's day, or a
//! list. The first paper with a key stays; later ones with the same key are ignored.

use crate::clock::Time;
use std::time::Duration;

/// Kind of a paper. The numbers are stored and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PaperKind {
    /// A health certificate.
    Certificate = 1,
    /// An electronic notice of release from medical observation.
    Notice = 2,
    /// A temperature.
    Temperature = 3,
    /// A trip card of the carriers.
    Trip = 4,
    /// A declaration of health.
    Declaration = 5,
    /// A declaration of entry, with the declarer.
    Entry = 6,
    /// A family member was added.
    Member = 7,
    /// A family member was removed or withdrew.
    MemberGone = 8,
    /// A grant to an organisation.
    Grant = 9,
    /// A grant was revoked or has ended.
    GrantGone = 10,
    /// A privileged look at the owner.
    Access = 11,
    /// A link of the audit log.
    Audit = 12,
    /// A person registered by staff.
    Registration = 13,
    /// An appeal against a reason.
    Appeal = 14,
    /// An answer to an appeal.
    AppealState = 15,
    /// A revocation of tokens, a membership or sessions; its time is when they would have expired.
    Revocation = 16,
    /// A grant was scanned on a day.
    GrantScan = 17,
    /// A hash of a request under an idempotency key.
    Request = 18,
    /// A generation of the owner's offline codes was revoked.
    OfflineGeneration = 19,
    /// A node's turn to publish the status list of a slot.
    ListTurn = 20,
    /// A part of a status list file.
    ListPart = 21,
    /// The head of a status list: the names of its files.
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

    /// Kinds that are created again by themselves and are not exported.
    pub const MADE_AGAIN: [PaperKind; 3] = [
        PaperKind::ListTurn,
        PaperKind::ListPart,
        PaperKind::ListHead,
    ];

    /// Returns the kind with a number; None for an unknown number.
    pub fn from_bits(bits: u8) -> Option<PaperKind> {
        PaperKind::ALL
            .get(usize::from(bits).checked_sub(1)?)
            .copied()
    }

    /// Returns the name of the kind.
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

    /// Returns the kind with a name; None for an unknown name.
    pub fn parse(word: &str) -> Option<PaperKind> {
        PaperKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Returns the service that keeps the paper, whose key seals it.
    pub fn purpose(self) -> PaperPurpose {
        match self {
            PaperKind::Certificate | PaperKind::Notice | PaperKind::Temperature => {
                PaperPurpose::Health
            }
            PaperKind::Trip => PaperPurpose::Trips,
            PaperKind::Declaration | PaperKind::Entry => PaperPurpose::Declarations,
            PaperKind::Member | PaperKind::MemberGone => PaperPurpose::Family,
            // Gates write notices of scanned grants, and have no key of the audit log.
            PaperKind::Grant | PaperKind::GrantGone | PaperKind::GrantScan => PaperPurpose::Grants,
            PaperKind::Access | PaperKind::Audit => PaperPurpose::Audit,
            // Every service needs these, so their key must not end with one service.
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

    /// Returns the largest number of papers of this kind for an owner, or [`UNBOUNDED`]. Beyond it, a newer paper replaces the
    /// oldest, and a paper older than all is not stored.
    ///
    /// Kinds that several persons write for one owner are unbounded, because one person's paper would remove another's. Kinds
    /// that end something are unbounded, because what they end would be in force again. So are requests: a key whose request was
    /// removed would stand for other content. The desk limits each person's papers a day.
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
            | PaperKind::Request
            | PaperKind::OfflineGeneration
            | PaperKind::ListTurn
            | PaperKind::ListPart
            | PaperKind::ListHead
            | PaperKind::Certificate
            | PaperKind::Notice
            | PaperKind::Temperature => UNBOUNDED,
            // Only the newest is shown.
            PaperKind::Trip => 512,
        }
    }
}

/// Value of [`PaperKind::most`] for a kind without a limit. `take.lua` uses the same number.
pub const UNBOUNDED: u16 = u16::MAX;

/// A service that keeps papers. Each has its own key: destroying it ends the service.
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
    /// Looks by offices, and the audit log.
    Audit,
    /// Persons registered by staff.
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

    /// Returns the name in settings and commands.
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

    /// Returns the service with a name; None for an unknown name.
    pub fn parse(word: &str) -> Option<PaperPurpose> {
        PaperPurpose::ALL
            .into_iter()
            .find(|purpose| purpose.word() == word)
    }

    /// Returns whether the service may end. Without revocations, everything revoked would be valid again.
    pub fn may_end(self) -> bool {
        self != PaperPurpose::Revocations
    }
}

/// A set of kinds.
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

    /// Returns the set without some kinds.
    pub const fn without(self, kinds: &[PaperKind]) -> PaperKinds {
        PaperKinds(self.0 & !PaperKinds::of(kinds).0)
    }

    /// Returns whether a kind is in the set.
    pub fn has(self, kind: PaperKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Returns the set as a number, with one bit for each kind.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Largest sealed body in bytes: Redis keeps values of up to a kilobyte packed.
pub const BODY_BYTES_MAX: usize = 1_017;

/// Largest number of papers in one read: less than a millisecond of Redis's time, however long the list.
pub const PAGE_MAX: usize = 200;

/// Key of a paper, unique for its owner.
pub type PaperKey = [u8; 16];

/// One paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// The kind.
    pub kind: PaperKind,
    /// The key, unique for the owner.
    pub key: PaperKey,
    /// When the event happened. It orders the papers of an owner.
    pub at: Time,
    /// The sealed body; see [`crate::seal::Seal::paper`]. At most [`BODY_BYTES_MAX`] bytes.
    pub body: Box<[u8]>,
}

/// Position of a reader: time and key of the last paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The time of the paper.
    pub at: Time,
    /// The key of the paper.
    pub key: PaperKey,
}

impl Cursor {
    /// Length of a cursor in bytes: six for the time, sixteen for the key.
    pub const BYTES: usize = 22;

    /// Returns the cursor as bytes, which sort like cursors.
    pub fn to_bytes(self) -> [u8; Cursor::BYTES] {
        let mut bytes = [0; Cursor::BYTES];
        bytes[..6].copy_from_slice(&self.at.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&self.key);
        bytes
    }

    /// Returns the cursor of these bytes.
    pub fn from_bytes(bytes: &[u8; Cursor::BYTES]) -> Cursor {
        let mut at = [0; 8];
        at[2..].copy_from_slice(&bytes[..6]);
        Cursor {
            at: Time(u64::from_be_bytes(at)),
            key: bytes[6..].try_into().expect("16 of 22"),
        }
    }
}

/// Latest time that fits into six bytes: in the year 10895.
pub const AT_MAX: Time = Time((1 << 48) - 1);

impl Paper {
    /// Returns the cursor after this paper.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.at,
            key: self.key,
        }
    }

    /// Appends the stored value: time (6 bytes), kind (1), body.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.at.min(AT_MAX).0.to_be_bytes()[2..]);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.body);
    }

    /// Returns the stored value.
    pub fn value(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(7 + self.body.len());
        self.write(&mut bytes);
        bytes
    }

    /// Parses a stored value; None for other bytes.
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

/// Keeps the newest `limit` papers of these kinds after the cursor, the newest first.
pub fn page(papers: &mut Vec<Paper>, kinds: PaperKinds, after: Option<Cursor>, limit: usize) {
    papers
        .retain(|paper| kinds.has(paper.kind) && after.is_none_or(|after| paper.cursor() < after));
    papers.sort_unstable_by_key(|paper| std::cmp::Reverse(paper.cursor()));
    papers.truncate(limit);
}

/// What happens to a new paper of a bounded kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displacement {
    /// There is room.
    There,
    /// The paper with this key is removed for it.
    Instead(PaperKey),
    /// It is not stored, because all others are newer.
    None,
}

/// Returns whether an owner with `count` papers of a kind, the oldest at `oldest`, has room for one more.
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

/// Retention of revocations beyond their time, because clocks differ.
const REVOCATION_KEPT: Duration = Duration::from_secs(86_400);

/// Retention of revoked generations: a forgotten one would be reused, and its revoked codes would be valid.
const GENERATION_KEPT: Duration = Duration::from_secs(36_500 * 86_400);

/// Retention of list files: twice the longest time between two bases, and the validity of a list.
const LIST_KEPT: Duration = Duration::from_secs(3 * 86_400);

/// Retention of requests under an idempotency key.
const REQUEST_KEPT: Duration = Duration::from_secs(86_400);

/// Retention of each kind of paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Certificates and notices.
    pub health: Duration,
    /// Temperatures.
    pub temperatures: Duration,
    /// Trip cards.
    pub trips: Duration,
    /// Declarations of health and of entry.
    pub declarations: Duration,
    /// Members, grants, registrations, appeals.
    pub arrangements: Duration,
    /// Looks by offices, the audit log, and notices of scanned grants.
    pub accesses: Duration,
}

impl Retention {
    /// Returns the retention of a kind.
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

    /// Returns the time before which papers of this kind are swept and no longer shown.
    pub fn horizon(&self, kind: PaperKind, now: Time) -> Time {
        Time(now.0.saturating_sub(self.of(kind).as_millis() as u64))
    }

    /// Returns whether a paper is past its retention.
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
