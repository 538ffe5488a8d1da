//! The desk: every service beside show and scan. It writes papers and reads them back, and may wait for the store. Takes a
//! caller, an act and a body from the service layer; returns JSON or a refusal. Knows no HTTP.

mod appeal;
pub mod audit;
mod bindings;
mod context;
mod declaration;
pub mod display_names;
mod entry;
pub mod erasure;
mod family;
mod filing;
pub mod grant;
mod grant_record;
pub mod grant_scan_notices;
pub mod guidance;
mod health;
mod looks;
pub mod offline_code;
mod overrides;
mod persons;
mod registration;
mod request;
pub mod revocation;
mod revoked_grants;
pub mod roles;
mod values;

pub use context::{Desk, Settings};
pub use request::{DeskError, DeskRequest, DeskResponse, Params};
pub use values::id;

use crate::person::{Identity, Profile};
use crate::refusal::Refusal;
use crate::seal::Caller;
use crate::store::{Change, ChangeKind};
use roles::Act;

impl Desk<'_> {
    /// Carries out an act for a caller whose credential permits it. The act must end within `store_timeout`; after a timeout it
    /// may be on record or not.
    ///
    /// # Errors
    ///
    /// The refusals of the act, and `UpstreamBusy` if the store does not answer in time. A wrong field is not an error: it is a
    /// [`DeskResponse::Rejected`].
    pub async fn answer(
        &self,
        asked: &DeskRequest<'_>,
        caller: &Caller,
    ) -> Result<DeskResponse, Refusal> {
        let answer = self.walk(asked, caller);
        let answer = match asked.act {
            // Thousands of lines are written in batches, each with its own timeout.
            Act::DeclareBulk => answer.await,
            _ => tokio::time::timeout(self.store_client.store_timeout(), answer)
                .await
                .unwrap_or(Err(DeskError::Refused(Refusal::UpstreamBusy))),
        };
        match answer {
            Ok(said) => Ok(said),
            Err(DeskError::Refused(refusal)) => Err(refusal),
            Err(DeskError::Rejected(rejection)) => Ok(DeskResponse::Rejected(rejection)),
        }
    }

    /// Dispatches the act: one line each.
    async fn walk(
        &self,
        asked: &DeskRequest<'_>,
        caller: &Caller,
    ) -> Result<DeskResponse, DeskError> {
        match (asked.act, caller) {
            (Act::ReadHealth, Caller::Session(session)) => self.health(session, asked).await,
            (Act::ReadTrip, Caller::Session(session)) => {
                self.trip_card(session, asked.language).await
            }
            (Act::ChangeRecord, _) => Err(Refusal::RecordUnchangeable.into()),
            (Act::Declare, caller) => self.declare(caller, asked).await,
            (Act::DeclareBulk, Caller::Token(_, pass, _)) => self.declare_bulk(pass, asked).await,
            (Act::ReadDeclarations, Caller::Session(session)) => {
                self.declarations(session, asked).await
            }
            (Act::DeclareEntry, Caller::Session(session)) => {
                self.declare_entry(session, asked).await
            }
            (Act::ReadEntries, Caller::Session(session)) => self.own_entries(session, asked).await,
            (Act::ReadEntries, Caller::Token(_, staff, _)) => self.entries_for(staff, asked).await,
            (Act::AddMember, Caller::Session(session)) => self.add_member(session, asked).await,
            (Act::ListMembers, Caller::Session(session)) => self.members(session).await,
            (Act::RemoveMember, Caller::Session(session)) => {
                self.remove_member(session, asked).await
            }
            (Act::RenewMember, Caller::Session(session)) => self.renew_member(session, asked).await,
            (Act::ReadAccesses, Caller::Session(session)) => self.accesses(session, asked).await,
            (Act::Grant, Caller::Session(session)) => self.grant(session, asked).await,
            (Act::ListGrants, Caller::Session(session)) => self.grants(session).await,
            (Act::RevokeGrant, Caller::Session(session)) => self.revoke_grant(session, asked).await,
            (Act::ReadOrganisation, Caller::Session(_)) => grant::organisation(asked),
            (Act::ReadRoster, Caller::Token(_, pass, _)) => self.roster(pass, asked).await,
            (Act::Register, Caller::Token(_, pass, _)) => self.register_offline(pass, asked).await,
            (Act::FindRegistered, Caller::Token(_, pass, _)) => {
                self.find_registered(pass, asked).await
            }
            (Act::Appeal, Caller::Session(session)) => self.appeal(session, asked).await,
            (Act::ReadAppeals, Caller::Session(session)) => self.own_appeals(session, asked).await,
            (Act::ReadAppeals, Caller::Token(_, pass, _)) => self.all_appeals(pass, asked).await,
            (Act::AnswerAppeal, Caller::Token(_, pass, _)) => self.answer_appeal(pass, asked).await,
            (Act::Revoke, Caller::Token(_, pass, _)) => self.revoke(pass, asked).await,
            (Act::Override, Caller::Token(_, pass, _)) => self.override_status(pass, asked).await,
            (Act::EndSessions, Caller::Session(session)) => self.end_sessions(session).await,
            (Act::RevokeOffline, caller) => self.revoke_offline(caller, asked).await,
            // The table of acts lets no other caller through.
            _ => Err(Refusal::NotPermitted.into()),
        }
    }

    /// Registers a person, or updates the record: a log-in adds a missing name and raises the assurance, and never lowers what
    /// a feed said. Returns the number of slots from the home to the resident's id.
    ///
    /// # Errors
    ///
    /// `UpstreamBusy` and the other refusals of [`crate::store_client::StoreClient`].
    pub async fn register(&self, who: Identity, profile: &Profile) -> Result<u8, Refusal> {
        let placed = self.store_client.record_now(who).await?;
        let known = self.profile_in(who, placed.as_deref());
        let news =
            known.is_none_or(|known| known.name.is_none() || known.assurance < profile.assurance);
        let placed = match placed {
            Some(placed) if !news => placed,
            _ => {
                let what = ChangeKind::Profile(self.seal.profile(&who, profile).into());
                self.store_client.apply(vec![Change { who, what }]).await?;
                let placed = self.store_client.record_now(who).await?;
                placed.ok_or(Refusal::UpstreamBusy)?
            }
        };
        Ok(placed.steps as u8)
    }
}
