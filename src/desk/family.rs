//! Family members (添加家庭成员): who is shown from whose phone, and how a membership begins and ends.
//! A member is added with a face-check assertion of the identity platform, or on a white background for minors without one. The
//! phone holds a session for each member, so showing costs nothing more.
//!
//! A membership is two papers, one with each person. It ends by a paper beside each, and by a revocation of its sessions in
//! every node's memory.

use super::context::Desk;
use super::grant_record::all;
use super::persons::{MaskedPerson, masked_of, read_who, write_who};
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::revocation::{RevocationList, of_all};
use super::values::{id, key_in, object};
use crate::clock::Time;
use crate::feed::Rejection;
use crate::identity::AssertionPurpose;
use crate::paper::{Paper, PaperKey, PaperKind, PaperKinds};
use crate::person::{Assurance, Identity, MaskedIdentity, Profile};
use crate::refusal::Refusal;
use crate::seal::{SESSION_LIFE_MAX, Seal, Session};
use crate::store::Change;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;

const KINDS: PaperKinds = PaperKinds::of(&[PaperKind::Member, PaperKind::MemberGone]);

/// Members that one resident may add in a day, removed ones included.
const MEMBERS_DAY_MAX: usize = 32;

#[derive(Deserialize)]
struct AddMemberRequest {
    assertion: String,
    student: Option<bool>,
}

/// A membership as stored.
#[derive(Serialize, Deserialize)]
struct Member {
    /// The other person of the membership: in the paper of the one who added, the member; in the member's paper, the one who added.
    other: String,
    /// Whether the owner added the other person; false if the other added the owner.
    added: bool,
    person: MaskedPerson,
    #[serde(skip_serializing_if = "Option::is_none")]
    student: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct RemovedMember {
    id: String,
}

/// Returns the number of a membership that its sessions carry.
pub(super) fn membership(key: &PaperKey) -> u64 {
    u64::from_be_bytes(key[..8].try_into().expect("8 of 16"))
}

/// Returns the change that ends a membership beside one of the two persons.
fn gone(seal: &Seal, owner: Identity, paper: &Paper, now: Time) -> Result<Change, Refusal> {
    let gone = RemovedMember { id: id(paper) };
    let end = seal.paper_key(&[b"member gone", &paper.key]);
    super::filing::filed(seal, owner, PaperKind::MemberGone, end, now, &gone)
}

/// Returns the change that ends a person's membership beside the other person, and its keys on the other's list.
///
/// # Errors
///
/// `Internal` if the paper cannot be opened, `NotFound` if the key of families was destroyed.
pub(super) fn ending(
    seal: &Seal,
    who: &Identity,
    paper: &Paper,
    now: Time,
) -> Result<(Change, (Identity, Vec<PaperKey>)), Refusal> {
    let member: Member = super::filing::opened(seal, who, paper)?;
    let other = read_who(&member.other)?;
    Ok((gone(seal, other, paper, now)?, (other, vec![paper.key])))
}

/// Returns whether the person is younger than 18 today.
fn is_minor(profile: &Profile, today: u32) -> bool {
    profile
        .document
        .born()
        .is_some_and(|born| born + 180_000 > today)
}

impl Desk<'_> {
    /// Adds a family member by an assertion, and issues a session for it. A known member keeps its membership.
    ///
    /// # Errors
    ///
    /// The refusals of the assertion, `LimitReached` beyond the number of members or of a day, `Malformed` for the resident
    /// itself, `IdempotencyMismatch`, `NotAMinor` as a rejection, and the refusals of the store.
    pub(super) async fn add_member(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let added: AddMemberRequest = object(asked.body)?;
        let (profile, number) =
            self.platform
                .person(&added.assertion, AssertionPurpose::Family, self.now)?;
        if profile.assurance == Assurance::Unverified
            && (!is_minor(&profile, self.now.day()) || added.student.is_none())
        {
            return Err(Rejection::NotAMinor.into());
        }
        let (owner, who) = (session.identity, self.seal.identify(&profile.document));
        if owner == who {
            return Err(Refusal::Malformed.into());
        }
        let members = self.live(owner).await?;
        // Another assertion of the same person counts as the same request.
        let content = [write_who(&who), format!("{:?}", added.student)].concat();
        let (word, content) = (asked.idempotency, content.as_bytes());
        self.bind("member", owner, word, content).await?;
        let mut key = match word {
            Some(_) => self.key_of("member", &owner.claim, word, content),
            None => self
                .seal
                .paper_key(&[b"member by assertion", &owner.claim, &number.0]),
        };
        let mut known = false;
        for (paper, member) in members.iter().filter(|(_, member)| member.added) {
            // The same member again: the assurance may have risen, the membership stays.
            if read_who(&member.other)? == who && !self.is_revoked(&paper.key) {
                (key, known) = (paper.key, true);
            }
        }
        let count = members.iter().filter(|(_, member)| member.added).count();
        if !known && count >= self.settings.family_members_max {
            return Err(Refusal::LimitReached.into());
        }
        if !known {
            self.bound_a_day(owner, "member", &key, MEMBERS_DAY_MAX)
                .await?;
        }
        // The assertion stands for this membership of this caller: the request may be repeated until the membership ends.
        self.use_assertion(number, Some(&key)).await?;
        let steps = self.register(who, &profile).await?;
        let masked = masked_of(&profile);
        if !known {
            let own = Member {
                other: write_who(&who),
                added: true,
                person: MaskedPerson::from(&masked),
                student: added.student,
            };
            let others = Member {
                other: write_who(&owner),
                added: false,
                person: MaskedPerson::from(&session.masked),
                student: None,
            };
            let changes = vec![
                self.filing(owner, PaperKind::Member, key, &own)?,
                self.filing(who, PaperKind::Member, key, &others)?,
            ];
            let filed = self.store_client.apply(changes).await?;
            let live = self.live(owner).await?;
            // Others were added at the same moment, here or on another node. Each of them sees this and takes itself back.
            let count = live.iter().filter(|(_, member)| member.added).count();
            if filed[0] && count > self.settings.family_members_max {
                let ended = live.iter().find(|(paper, _)| paper.key == key);
                if let Some((paper, _)) = ended {
                    self.store_client
                        .apply(self.gone(owner, who, paper)?)
                        .await?;
                }
                return Err(Refusal::LimitReached.into());
            }
            // The membership of this key has ended, so its sessions would be refused.
            let ended = match word {
                Some(_) => Refusal::IdempotencyMismatch,
                None => Refusal::Unauthorized,
            };
            if !filed[0] && live.iter().all(|(paper, _)| paper.key != key) {
                return Err(ended.into());
            }
        }
        Ok(DeskResponse::Done(self.opened(key, who, steps, masked)))
    }

    /// Returns the answer with a session by which a member is shown.
    fn opened(&self, key: PaperKey, who: Identity, steps: u8, masked: MaskedIdentity) -> Value {
        let expires_at = self.now.plus(self.settings.session_life);
        let session = Session {
            identity: who,
            steps,
            member: Some(membership(&key)),
            masked,
            issued_at: self.now,
            expires_at,
        };
        let mut said = json!(MaskedPerson::from(&masked));
        said["id"] = crate::seal::base32::text(&key).into();
        said["session"] = self.seal.session(self.nonces, &session).into();
        said["expires_at"] = expires_at.to_string().into();
        said["background"] = background(masked.assurance).into();
        said
    }

    /// Returns the memberships of an owner that have not ended.
    async fn live(&self, owner: Identity) -> Result<Vec<(Paper, Member)>, Refusal> {
        let papers = all(self.store_client, owner, KINDS).await?;
        let mut gone = HashSet::new();
        for paper in papers
            .iter()
            .filter(|paper| paper.kind == PaperKind::MemberGone)
        {
            gone.insert(self.open::<RemovedMember>(&owner, paper)?.id);
        }
        let live = papers
            .into_iter()
            .filter(|paper| paper.kind == PaperKind::Member);
        let live = live.filter(|paper| !gone.contains(&id(paper)));
        live.map(|paper| {
            let member = self.open(&owner, &paper)?;
            Ok((paper, member))
        })
        .collect()
    }

    /// Returns the numbers of the memberships by which an owner shows others.
    pub(super) async fn memberships(&self, owner: Identity) -> Result<Vec<u64>, Refusal> {
        let live = self.live(owner).await?;
        let own = live.iter().filter(|(_, member)| member.added);
        Ok(own.map(|(paper, _)| membership(&paper.key)).collect())
    }

    /// Returns whether a resident shows a person as a family member.
    pub(super) async fn shows(&self, owner: Identity, who: Identity) -> Result<bool, Refusal> {
        let live = self.live(owner).await?;
        let mut added = live.iter().filter(|(_, member)| member.added);
        let other = write_who(&who);
        Ok(added.any(|(_, member)| member.other == other))
    }

    /// Returns the members whom the resident shows, and the residents who show the caller.
    pub(super) async fn members(&self, session: &Session) -> Result<DeskResponse, DeskError> {
        let (mut members, mut shown_by) = (Vec::new(), Vec::new());
        for (paper, member) in self.live(session.identity).await? {
            let mut told = json!(member.person);
            told["id"] = id(&paper).into();
            told["since"] = paper.at.to_string().into();
            if let Some(student) = member.student {
                told["student"] = student.into();
            }
            match member.added {
                true => {
                    let assurance = Assurance::parse(&member.person.assurance);
                    told["background"] = assurance.map(background).into();
                    members.push(told);
                }
                false => shown_by.push(told),
            }
        }
        let most = self.settings.family_members_max;
        let mut told = json!({ "members": members, "shown_by": shown_by, "members_max": most });
        if let Some(address) = &self.settings.member_url {
            told["add_at"] = address.clone().into();
        }
        Ok(DeskResponse::Found(told))
    }

    /// Ends a membership, for either of the two persons.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such membership, and the refusals of the store.
    pub(super) async fn remove_member(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let owner = session.identity;
        let key = key_in(asked.id)?;
        let live = self.live(owner).await?;
        let found = live.iter().find(|(paper, _)| paper.key == key);
        let (paper, member) = found.ok_or(Refusal::NotFound)?;
        let other = read_who(&member.other)?;
        let mut changes = self.gone(owner, other, paper)?;
        // Sessions may have been issued with the longest validity, whatever it is now.
        let until = self.now.plus(SESSION_LIFE_MAX);
        let revocation = of_all(membership(&key), until);
        changes.push(self.revocation(RevocationList::Members, &revocation)?);
        let id = id(paper);
        self.store_client.apply(changes).await?;
        Ok(DeskResponse::Found(json!({ "id": id, "state": "ended" })))
    }

    /// Returns the changes that end a membership beside both persons.
    fn gone(&self, one: Identity, other: Identity, paper: &Paper) -> Result<Vec<Change>, Refusal> {
        Ok(vec![
            gone(self.seal, one, paper, self.now)?,
            gone(self.seal, other, paper, self.now)?,
        ])
    }

    /// Returns the changes that end the membership with a number by which a person is shown; none if it has ended.
    pub(super) async fn ending_of(
        &self,
        who: Identity,
        number: u64,
    ) -> Result<Vec<Change>, Refusal> {
        let live = self.live(who).await?;
        let mut shown_by = live.iter().filter(|(_, member)| !member.added);
        match shown_by.find(|(paper, _)| membership(&paper.key) == number) {
            Some((paper, member)) => self.gone(who, read_who(&member.other)?, paper),
            None => Ok(Vec::new()),
        }
    }

    /// Returns whether new sessions of a membership are refused.
    fn is_revoked(&self, key: &PaperKey) -> bool {
        let issued = self.seal.revoked.admits(membership(key), self.now);
        issued.is_err()
    }

    /// Issues another session for a member, with the current assurance.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such member or the person was erased, `NotPermitted` if the membership was revoked, and the
    /// refusals of the store.
    pub(super) async fn renew_member(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let key = key_in(asked.id)?;
        let live = self.live(session.identity).await?;
        let found = live
            .iter()
            .find(|(paper, member)| paper.key == key && member.added);
        let (_, member) = found.ok_or(Refusal::NotFound)?;
        // A restored store may have lost the end of the membership.
        if self.is_revoked(&key) {
            return Err(Refusal::NotPermitted.into());
        }
        let who = read_who(&member.other)?;
        let placed = self
            .store_client
            .record_now(who)
            .await?
            .ok_or(Refusal::NotFound)?;
        let profile = self.seal.open_profile(&who, &placed.record.profile);
        // An erased person is not shown.
        let masked = masked_of(&profile.ok_or(Refusal::NotFound)?);
        Ok(DeskResponse::Done(self.opened(
            key,
            who,
            placed.steps as u8,
            masked,
        )))
    }
}

/// Returns the background of a code.
fn background(assurance: Assurance) -> &'static str {
    match assurance {
        Assurance::Unverified => "white",
        Assurance::RealName | Assurance::RealPerson => "coloured",
    }
}
