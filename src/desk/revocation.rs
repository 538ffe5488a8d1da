//! Revocations of genuine credentials. They are papers on lists that every node reads each second into memory, where a
//! credential is checked without a lookup.
//!
//! The time of a revocation is the latest time at which any credential it revokes would expire. Lists are read from the latest
//! time on, so that new revocations of sessions come first.

use super::context::Desk;
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::object;
use crate::clock::{Now, Time};
use crate::desk::audit::{self, AuditedAct, ChainEnd};
use crate::desk::roles::{Act, Role};
use crate::feed::{Rejection, is_source};
use crate::paper::{PAGE_MAX, PaperKey, PaperKind, PaperKinds};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::ring::TokenKind;
use crate::seal::{
    ACCESS_TOKEN_LIFE_MAX, AccessToken, Caller, NAME_BYTES_MAX, Revocation, RevocationSubject,
    SESSION_LIFE_MAX, Seal, Session,
};
use crate::store::{Change, Error, Store};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// Pause between two readings of the lists; far below `stale_after`.
pub const REFRESH_EVERY: Duration = Duration::from_secs(1);

const KINDS: PaperKinds = PaperKinds::of(&[PaperKind::Revocation]);

/// Times that a resident may end all sessions in a day.
const SESSION_ENDS_MAX: usize = 16;

const DAY: Duration = Duration::from_secs(86_400);

/// Of this many readings one reads every list whole; the others are as [`refresh`] says.
pub const WHOLE_EVERY: u32 = 60;

/// The lists of revocations. Separate lists keep residents' entries from displacing those of operators.
#[derive(Clone, Copy)]
pub(super) enum RevocationList {
    Passes,
    Members,
    Sessions,
}

impl RevocationList {
    const ALL: [RevocationList; 3] = [
        RevocationList::Passes,
        RevocationList::Members,
        RevocationList::Sessions,
    ];

    fn part(self, seal: &Seal, partition: u8) -> Identity {
        let name = match self {
            RevocationList::Passes => "passes",
            RevocationList::Members => "members",
            RevocationList::Sessions => "sessions",
        };
        seal.owner("revocations", name, partition)
    }
}

/// Returns the revocation of everything issued under a number.
pub(super) fn of_all(number: u64, until: Time) -> Revocation {
    Revocation {
        what: RevocationSubject::Number(number),
        end: Time(u64::MAX),
        until,
    }
}

/// Returns the revocation of sessions issued under a number before a time. Each may have the longest validity ever allowed,
/// whatever `session_life` is now.
fn of_earlier(number: u64, than: Time, now: Time) -> Revocation {
    Revocation {
        what: RevocationSubject::Number(number),
        end: Time(than.0.saturating_sub(1)),
        until: now.plus(SESSION_LIFE_MAX),
    }
}

/// A revocation as stored: number and end in milliseconds since 1970; or the role and name of a holder, and the end.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredRevocation {
    Number(u64, u64),
    Holder(String, String, u64),
}

impl StoredRevocation {
    fn of(revocation: &Revocation) -> StoredRevocation {
        let end = revocation.end.0;
        match &revocation.what {
            RevocationSubject::Number(number) => StoredRevocation::Number(*number, end),
            RevocationSubject::Holder(kind, holder) => {
                StoredRevocation::Holder(role_of(*kind).to_owned(), holder.clone(), end)
            }
        }
    }

    fn read(self, until: Time) -> Option<Revocation> {
        let (what, end) = match self {
            StoredRevocation::Number(number, end) => (RevocationSubject::Number(number), end),
            StoredRevocation::Holder(role, holder, end) => {
                (RevocationSubject::Holder(kind_of(&role)?, holder), end)
            }
        };
        let end = Time(end);
        Some(Revocation { what, end, until })
    }
}

/// Roles that have tokens, and the kind of each.
const PASSES: [(Role, TokenKind); 5] = [
    (Role::Scanner, TokenKind::Scanner),
    (Role::Authority, TokenKind::Authority),
    (Role::Organisation, TokenKind::Organisation),
    (Role::Staff, TokenKind::Staff),
    (Role::Operator, TokenKind::Operator),
];

/// Returns the role of credentials of this kind.
pub fn role_of(kind: TokenKind) -> &'static str {
    if kind == TokenKind::Session {
        return Role::Resident.word();
    }
    let found = PASSES.iter().find(|(_, one)| *one == kind);
    found.map_or("", |(role, _)| role.word())
}

/// Returns the kind of a role's tokens; None for a role without tokens.
pub fn kind_of(role: &str) -> Option<TokenKind> {
    let found = PASSES.iter().find(|(one, _)| one.word() == role);
    found.map(|(_, kind)| *kind)
}

/// What to revoke: a token, the number of one, or all tokens of a role that a holder has.
#[derive(Deserialize)]
struct RevocationRequest {
    token: Option<String>,
    /// The number of the token, as in the audit log and the register of tokens.
    number: Option<String>,
    role: Option<String>,
    name: Option<String>,
}

fn revocation_key(seal: &Seal, revocation: &Revocation) -> PaperKey {
    let end = revocation.end.0.to_be_bytes();
    match &revocation.what {
        RevocationSubject::Number(number) => {
            let number = number.to_be_bytes();
            seal.paper_key(&[b"revocation", &number, &end])
        }
        RevocationSubject::Holder(kind, holder) => {
            let kind = [*kind as u8];
            let parts = [b"holder revoked", &kind[..], holder.as_bytes(), &end];
            seal.paper_key(&parts)
        }
    }
}

fn filed_with(seal: &Seal, owner: Identity, revocation: &Revocation) -> Result<Change, Refusal> {
    let key = revocation_key(seal, revocation);
    let resting = StoredRevocation::of(revocation);
    let kind = PaperKind::Revocation;
    super::filing::filed(seal, owner, kind, key, revocation.until, &resting)
}

fn listed(seal: &Seal, list: RevocationList, revocation: &Revocation) -> Result<Change, Refusal> {
    let key = revocation_key(seal, revocation);
    filed_with(seal, list.part(seal, key[0] >> 4), revocation)
}

/// Returns the change that revokes the sessions by which a family member is shown: all that were issued under the number of this
/// membership. For callers that have the seal and no [`Desk`].
///
/// # Errors
///
/// `NotFound` if the key of revocations was destroyed.
pub(super) fn ending_membership(seal: &Seal, number: u64, now: Time) -> Result<Change, Refusal> {
    let revocation = of_all(number, now.plus(SESSION_LIFE_MAX));
    listed(seal, RevocationList::Members, &revocation)
}

/// Returns the change that revokes all sessions of a resident issued until now. For callers that have the seal and no [`Desk`].
///
/// # Errors
///
/// `NotFound` if the key of revocations was destroyed.
pub fn ending_sessions(seal: &Seal, who: &Identity, now: Time) -> Result<Change, Refusal> {
    let revocation = of_earlier(who.number(), Time(now.0 + 1), now);
    listed(seal, RevocationList::Sessions, &revocation)
}

/// What a command revokes: everything issued so far.
#[derive(Clone, Debug)]
pub enum RevokedByCommand {
    /// One token by its number.
    Number(u64),
    /// All tokens of a role and holder.
    Holder(String, String),
}

/// Returns the changes by which a command revokes tokens, and the end of their chain in the audit log.
///
/// # Errors
///
/// `Malformed` if the role or name is invalid.
pub fn of_command(
    seal: &Seal,
    what: &RevokedByCommand,
    now: Time,
) -> Result<(Vec<Change>, Option<ChainEnd>), Refusal> {
    let (revocation, detail) = match what {
        RevokedByCommand::Number(number) => (
            of_number(*number, now),
            json!({ "number": format!("{number:016x}") }),
        ),
        RevokedByCommand::Holder(role, name) => (
            of_holder(role, name, now)?,
            json!({ "role": role, "name": name }),
        ),
    };
    let mut changes = vec![listed(seal, RevocationList::Passes, &revocation)?];
    let recorded = audit::of_command(seal, Act::Revoke.word(), None, Some(detail));
    let end = recorded.map(|(deed, end)| {
        changes.extend(deed);
        end
    });
    Ok((changes, end))
}

/// Returns the revocation of a token by its number. If the number is a resident's, later sessions stay valid.
fn of_number(number: u64, now: Time) -> Revocation {
    Revocation {
        what: RevocationSubject::Number(number),
        end: now,
        until: now.plus(ACCESS_TOKEN_LIFE_MAX),
    }
}

/// Returns the revocation of all tokens of a role that a holder has. Whether the holder exists is unknown: tokens are made from
/// the ring alone.
fn of_holder(role: &str, name: &str, now: Time) -> Result<Revocation, Refusal> {
    let kind = kind_of(role).ok_or(Refusal::Malformed)?;
    // Sites may have any name; others follow the rules of sources.
    let is_site =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if !(is_source(name) || kind == TokenKind::Scanner && is_site) {
        return Err(Refusal::Malformed);
    }
    Ok(Revocation {
        what: RevocationSubject::Holder(kind, name.to_owned()),
        end: now,
        until: now.plus(ACCESS_TOKEN_LIFE_MAX),
    })
}

/// Parses the number of a token: 16 hexadecimal digits.
pub fn parse_number(text: &str) -> Option<u64> {
    let is_number = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_number
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

/// The changes of a revocation, the revocation, and the holder's name.
type RevocationPaper = (Vec<Change>, Revocation, String);

impl Desk<'_> {
    /// Returns the change that stores a revocation. It is in force in this node's memory at once.
    ///
    /// # Errors
    ///
    /// `NotFound` if the key of revocations was destroyed.
    pub(super) fn revocation(
        &self,
        list: RevocationList,
        revocation: &Revocation,
    ) -> Result<Change, Refusal> {
        self.seal.revoked.add(revocation, Now::read());
        listed(self.seal, list, revocation)
    }

    fn filed_with(&self, owner: Identity, revocation: &Revocation) -> Result<Change, Refusal> {
        filed_with(self.seal, owner, revocation)
    }

    /// Revokes a token, or all tokens of a role and holder. They are refused with `unauthorized` here at once, and on all nodes
    /// within two seconds.
    ///
    /// # Errors
    ///
    /// `CodeInvalid` for a token that is invalid, revoked or expired, `Malformed` for an invalid number, role or combination of
    /// fields, a rejection of a missing field, and the refusals of the store.
    pub(super) async fn revoke(
        &self,
        by: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let (changes, revocation, of) = match object(asked.body)? {
            RevocationRequest {
                token: Some(token),
                number: None,
                role: None,
                name: None,
            } => self.revoke_token(&token).await?,
            RevocationRequest {
                token: None,
                number: Some(number),
                role: None,
                name: None,
            } => self.revoke_number(&number)?,
            RevocationRequest {
                token: None,
                number: None,
                role: Some(role),
                name: Some(name),
            } => self.revoke_holder(&role, &name)?,
            RevocationRequest { token: Some(_), .. }
            | RevocationRequest {
                number: Some(_), ..
            } => {
                return Err(Refusal::Malformed.into());
            }
            RevocationRequest { role: Some(_), .. } => {
                return Err(Rejection::MissingField("name").into());
            }
            RevocationRequest { name: Some(_), .. } => {
                return Err(Rejection::MissingField("role").into());
            }
            RevocationRequest { .. } => return Err(Rejection::MissingField("token").into()),
        };
        self.store_client.apply(changes).await?;
        let what = match &revocation.what {
            RevocationSubject::Number(number) => {
                json!({ "of": of, "number": format!("{number:016x}") })
            }
            RevocationSubject::Holder(kind, holder) => {
                json!({ "role": role_of(*kind), "name": holder })
            }
        };
        let deed = AuditedAct::new(by.holder(), Role::Operator, Act::Revoke.word()).detail(what);
        // Credentials are revoked first; the record is durable before the answer.
        self.record_deeds(vec![deed]).await?;
        let until = revocation.until.to_string();
        Ok(DeskResponse::Done(json!({ "revoked": of, "until": until })))
    }

    async fn revoke_token(&self, token: &str) -> Result<RevocationPaper, DeskError> {
        let caller = self.seal.open_caller(token.as_bytes(), self.now);
        let (list, revocation, of) = match caller {
            Ok(Caller::Token(_, pass, id)) => {
                let of = pass.holder().to_owned();
                (RevocationList::Passes, of_all(id.0, pass.expires_at), of)
            }
            Ok(Caller::Session(session)) => match session.member {
                Some(member) => {
                    let until = self.now.plus(SESSION_LIFE_MAX);
                    let revocation = of_all(member, until);
                    let mut changes = vec![self.revocation(RevocationList::Members, &revocation)?];
                    // The membership ends with its sessions, so that no new session is issued.
                    changes.extend(self.ending_of(session.identity, member).await?);
                    return Ok((changes, revocation, "a member".to_owned()));
                }
                // Sessions of a resident's own log-in differ by their time only.
                None => {
                    let after = Time(session.issued_at.0 + 1);
                    let number = session.identity.number();
                    let revocation = of_earlier(number, after, self.now);
                    (
                        RevocationList::Sessions,
                        revocation,
                        "a resident".to_owned(),
                    )
                }
            },
            // Already revoked or expired: nothing to do.
            Err(_) => return Err(Refusal::CodeInvalid.into()),
        };
        let change = self.revocation(list, &revocation)?;
        Ok((vec![change], revocation, of))
    }

    fn revoke_holder(&self, role: &str, name: &str) -> Result<RevocationPaper, DeskError> {
        let revocation = of_holder(role, name, self.now)?;
        let change = self.revocation(RevocationList::Passes, &revocation)?;
        Ok((vec![change], revocation, name.to_owned()))
    }

    fn revoke_number(&self, number: &str) -> Result<RevocationPaper, DeskError> {
        let number = parse_number(number).ok_or(Refusal::Malformed)?;
        let revocation = of_number(number, self.now);
        let change = self.revocation(RevocationList::Passes, &revocation)?;
        Ok((vec![change], revocation, format!("{number:016x}")))
    }

    /// Ends every earlier session of the resident, and those by which family members were shown. For residents who lost a phone
    /// and logged in on another: an older session cannot end a newer one.
    ///
    /// # Errors
    ///
    /// `LimitReached` beyond the daily number, and the refusals of the store.
    pub(super) async fn end_sessions(&self, session: &Session) -> Result<DeskResponse, DeskError> {
        let who = session.identity;
        let earlier = |number| of_earlier(number, session.issued_at, self.now);
        let own = earlier(who.number());
        // The resident's own list gives the number of times.
        let known = self
            .store_client
            .papers_now(who, KINDS, None, PAGE_MAX)
            .await?;
        let day_ago = Time(self.now.0.saturating_sub(DAY.as_millis() as u64));
        let today = day_ago.plus(SESSION_LIFE_MAX);
        if known.iter().filter(|paper| paper.at > today).count() >= SESSION_ENDS_MAX {
            return Err(Refusal::LimitReached.into());
        }
        let mut changes = vec![
            self.filed_with(who, &own)?,
            self.revocation(RevocationList::Sessions, &own)?,
        ];
        let members = self.memberships(who).await?;
        for number in &members {
            changes.push(self.revocation(RevocationList::Members, &earlier(*number))?);
        }
        self.store_client.apply(changes).await?;
        Ok(DeskResponse::Done(json!({
            "revoked": "sessions", "before": session.issued_at.to_string(), "members": members.len(),
        })))
    }
}

/// Reads the lists of revocations and adds their entries to memory. The list of tokens is always read whole. Unless `whole`, the
/// others are read up to the first page of known entries: new revocations of sessions have the latest times.
///
/// # Errors
///
/// `Damaged` if an entry cannot be opened. The other entries are added only if a reading succeeded before; until one has, no
/// credential is admitted. After any other error of the store nothing is added.
pub async fn refresh(store: &dyn Store, seal: &Seal, whole: bool) -> Result<(), Error> {
    let parts = RevocationList::ALL.into_iter();
    let parts = parts.flat_map(|list| (0..16).map(move |partition| (list, partition)));
    let parts = parts.map(|(list, partition)| async move {
        // Times of tokens were chosen by their makers.
        let whole = whole || matches!(list, RevocationList::Passes);
        match read_part(store, seal, list.part(seal, partition), whole).await {
            Err(Error::Damaged(what)) => Ok((Vec::new(), Some(what))),
            read => read,
        }
    });
    let (mut read, mut damaged) = (Vec::new(), None);
    for (some, fault) in try_join_all(parts).await? {
        read.extend(some);
        damaged = damaged.or(fault);
    }
    match damaged {
        // An entry that cannot be read may revoke anything.
        Some(what) if !seal.revoked.is_read() => Err(Error::Damaged(what)),
        Some(what) => {
            seal.revoked.learn(&read, Now::read());
            Err(Error::Damaged(what))
        }
        None => {
            seal.revoked.learn(&read, Now::read());
            Ok(())
        }
    }
}

/// Reads one partition of a list. Everything in the store counts, whatever this node's clock says about its time. Returns the
/// entries that can be opened, and what the others are if there are others.
async fn read_part(
    store: &dyn Store,
    seal: &Seal,
    owner: Identity,
    whole: bool,
) -> Result<(Vec<Revocation>, Option<&'static str>), Error> {
    let (mut all, mut damaged) = (Vec::new(), None);
    let mut after = None;
    loop {
        // The list has no other kinds. A kind that was edited must not hide a revocation: what is of another kind is damaged.
        let page = store
            .papers(owner, PaperKinds::ALL, after, PAGE_MAX)
            .await?;
        let known_before = all.len();
        for paper in &page {
            let body = seal.open_paper(&owner, paper);
            let read = body.and_then(|body| serde_json::from_slice::<StoredRevocation>(&body).ok());
            let read = read.and_then(|resting| resting.read(paper.at));
            match read {
                Some(revocation) => all.push(revocation),
                None => damaged = Some("a revocation"),
            }
        }
        let now = Now::read();
        let is_new = |one: &Revocation| !seal.revoked.knows(one, now);
        match page.last() {
            Some(last)
                if page.len() == PAGE_MAX && (whole || all[known_before..].iter().any(is_new)) =>
            {
                after = Some(last.cursor())
            }
            _ => return Ok((all, damaged)),
        }
    }
}
