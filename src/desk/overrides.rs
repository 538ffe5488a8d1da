//! Overrides: an operator clears a reason in place of its source, with a recorded purpose that the person can read. For what
//! the source cannot clear: a wrong number, a source that no longer exists.

use super::context::Desk;
use super::request::{DeskError, DeskRequest, DeskResponse};
use super::values::{object, purpose};
use crate::desk::audit::AuditedAct;
use crate::desk::roles::{Act, Role};
use crate::feed::{Rejection, document, is_source};
use crate::seal::AccessToken;
use crate::status::Reason;
use crate::store::record::Assertion;
use crate::store::{Change, ChangeKind};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct OverrideRequest {
    cert_type: Option<String>,
    cert_no: Option<String>,
    /// Number of a registration, in place of a document.
    registration: Option<String>,
    reason: Option<String>,
    source: Option<String>,
    /// The sequence number that the source keeps: its messages with a higher number count. Default: its current one.
    seq: Option<u64>,
    purpose: Option<String>,
}

impl Desk<'_> {
    /// Clears a reason of a source.
    ///
    /// # Errors
    ///
    /// `NotFound` if the source has nothing on record for this reason, `SeqTooHigh` as a rejection if `seq` is above the known
    /// one, a rejection of a field, and the refusals of the store.
    pub(super) async fn override_status(
        &self,
        by: &AccessToken,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let said: OverrideRequest = object(asked.body)?;
        let missing = Rejection::MissingField;
        let document = document(
            said.registration.as_deref(),
            said.cert_type.as_deref(),
            said.cert_no.as_deref(),
            self.now.day(),
        )?;
        let reason = said.reason.as_deref().ok_or(missing("reason"))?;
        let reason = Reason::parse(reason).ok_or(Rejection::UnknownReason)?;
        let source = said.source.as_deref().ok_or(missing("source"))?;
        if !is_source(source) {
            return Err(Rejection::BadSource.into());
        }
        let purpose = purpose(said.purpose.as_deref())?;
        let who = self.seal.identify(&document);
        let placed = self.store_client.record_now(who).await?;
        let known = placed.as_ref().and_then(|placed| {
            let mut assertions = placed.record.assertions.iter();
            assertions.find(|known| known.reason == reason && *known.source == *source)
        });
        let deed =
            AuditedAct::new(by.holder(), Role::Operator, Act::Override.word()).purpose(purpose);
        let Some(known) = known else {
            let detail = json!({ "reason": reason.word(), "source": source });
            return Err(self.missed(deed.about(who), detail).await?.into());
        };
        let seq = said.seq.unwrap_or(known.seq);
        if seq > known.seq {
            return Err(Rejection::SeqTooHigh.into());
        }
        let cleared = Assertion {
            active: false,
            seq,
            // A repeated request changes nothing.
            at: if known.active { self.now } else { known.at },
            until: None,
            ..known.clone()
        };
        let deed = deed.person(who).detail(json!({
            "reason": reason.word(), "source": source, "was_set": known.active, "seq": [known.seq, seq],
        }));
        self.record_deeds(vec![deed]).await?;
        let what = ChangeKind::Override(cleared);
        let new = self.store_client.apply(vec![Change { who, what }]).await?;
        Ok(DeskResponse::Done(json!({
            "reason": reason.word(), "source": source, "seq": seq, "state": "cleared", "new": new == [true],
        })))
    }
}
