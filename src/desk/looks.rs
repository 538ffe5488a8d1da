//! Records looks and acts before they are answered, and tells a person who looked at that person's data.
//! They are those of offices at the desk, and of an operator's work on the whole store.

use super::audit::AuditedAct;
use super::audit::{Access, GrantScanNotice};
use super::context::Desk;
use super::request::{DeskError, DeskRequest, DeskResponse};
use crate::desk::roles::{Act, Role};
use crate::paper::{PaperKind, PaperKinds};
use crate::person::Identity;
use crate::refusal::Refusal;
use crate::seal::{AccessToken, Session};
use serde_json::{Value, json};

/// Different purposes that one office may state in a day. Each purpose is listed for the person, so invented ones must not fill
/// that list.
const PURPOSES_DAY_MAX: usize = 200;

impl Desk<'_> {
    /// Records looks at persons. Their data may be shown only after it returns. `LimitReached` if the office stated too many
    /// purposes in a day.
    ///
    /// # Errors
    ///
    /// `LimitReached` beyond the purposes of a day, `NotFound` if the key of the audit log was destroyed, and the refusals of
    /// the store.
    pub(super) async fn record(
        &self,
        by: &AccessToken,
        role: Role,
        act: Act,
        purpose: &str,
        persons: &[Identity],
    ) -> Result<(), Refusal> {
        let deed = AuditedAct::new(by.holder(), role, act.word()).purpose(purpose);
        let deeds = persons.iter().map(|person| deed.clone().person(*person));
        self.count_purpose(by, purpose).await?;
        self.record_deeds(deeds.collect()).await
    }

    /// Records that a search found nothing; `detail` is a JSON object. Returns the refusal.
    ///
    /// # Errors
    ///
    /// The refusals of the audit log and the store.
    pub(super) async fn missed(
        &self,
        deed: AuditedAct,
        mut detail: Value,
    ) -> Result<Refusal, Refusal> {
        detail["found"] = false.into();
        self.record_deeds(vec![deed.detail(detail)]).await?;
        Ok(Refusal::NotFound)
    }

    /// Records an operation on the whole store by an operator, before it begins.
    ///
    /// # Errors
    ///
    /// The refusals of [`crate::store_client::StoreClient`].
    pub async fn record_operation(&self, by: &AccessToken, act: Act) -> Result<(), Refusal> {
        let deed = AuditedAct::new(by.holder(), Role::Operator, act.word());
        self.record_deeds(vec![deed]).await
    }

    /// Records acts and looks. If the key of the audit log was destroyed, acts are allowed and looks are `NotFound`.
    ///
    /// # Errors
    ///
    /// `NotFound` for looks if the key of the audit log was destroyed, and the refusals of the store.
    pub(super) async fn record_deeds(&self, deeds: Vec<AuditedAct>) -> Result<(), Refusal> {
        let looks = deeds.iter().any(|deed| deed.told);
        let filed = self
            .audit
            .file(self.seal, self.store_client, self.now, deeds)
            .await;
        match filed {
            Err(Refusal::NotFound) if !looks => Ok(()),
            filed => filed,
        }
    }

    async fn count_purpose(&self, by: &AccessToken, purpose: &str) -> Result<(), Refusal> {
        let day = self.now.day();
        let owner = self.seal.owner("purposes", by.holder(), 0);
        let parts = [by.holder().as_bytes(), purpose.as_bytes()];
        let key = self
            .seal
            .paper_key(&[b"purpose", parts[0], parts[1], &day.to_be_bytes()]);
        if self.audit.remembered.contains_key(&key) {
            return Ok(());
        }
        self.bound_a_day(owner, "purpose", &key, PURPOSES_DAY_MAX)
            .await?;
        self.audit.remembered.insert(key, ());
        Ok(())
    }

    /// Returns who looked at the person, when first on a day, and why; and for each grant the days on which it was scanned.
    ///
    /// # Errors
    ///
    /// `Malformed` for invalid paging, and the refusals of the store.
    pub(super) async fn accesses(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        let owner = session.identity;
        let kinds = PaperKinds::of(&[PaperKind::Access, PaperKind::GrantScan]);
        let (papers, next) = self.page(owner, kinds, &asked.params).await?;
        let mut accesses = Vec::with_capacity(papers.len());
        for paper in &papers {
            let at = paper.at.to_string();
            accesses.push(match paper.kind {
                PaperKind::GrantScan => {
                    let GrantScanNotice { by, grant } = self.open(&owner, paper)?;
                    let (role, act) = (Role::Scanner.word(), Act::Scan.word());
                    json!({ "at": at, "by": by, "role": role, "act": act, "purpose": "grant", "grant": grant })
                }
                _ => {
                    let access: Access = self.open(&owner, paper)?;
                    json!({
                        "at": at, "by": access.by, "role": access.role, "act": access.act, "purpose": access.purpose,
                    })
                }
            });
        }
        Ok(DeskResponse::Found(
            json!({ "accesses": accesses, "next": next }),
        ))
    }
}
