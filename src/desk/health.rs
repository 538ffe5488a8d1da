//! Health information: certificates, notices of release, declarations and temperatures, the newest first; and the trip card.
//! The trip card has a time of its own and never changes a colour.

use super::context::Desk;
use super::request::{DeskError, DeskRequest, DeskResponse};
use crate::language::Language;
use crate::paper::{PaperKind, PaperKinds};
use crate::person::Assurance;
use crate::refusal::Refusal;
use crate::seal::Session;
use serde_json::json;
use std::time::Duration;

const ALL: [PaperKind; 4] = [
    PaperKind::Certificate,
    PaperKind::Notice,
    PaperKind::Declaration,
    PaperKind::Temperature,
];

/// Time that a trip card covers.
const TRIP_LIFE: Duration = Duration::from_secs(14 * 86_400);

impl Desk<'_> {
    /// Returns the health information of the resident, the newest first.
    ///
    /// # Errors
    ///
    /// `Malformed` for invalid paging or an unknown kind, and the refusals of the store.
    pub(super) async fn health(
        &self,
        session: &Session,
        asked: &DeskRequest<'_>,
    ) -> Result<DeskResponse, DeskError> {
        // The code of a minor without a face check may be on any phone, so the history of temperatures is left out.
        let withheld = session.masked.assurance == Assurance::Unverified;
        let mut kinds: Vec<PaperKind> = match asked.params.kind {
            None => ALL.to_vec(),
            Some(word) => {
                let kind = PaperKind::parse(word).filter(|kind| ALL.contains(kind));
                vec![kind.ok_or(Refusal::Malformed)?]
            }
        };
        kinds.retain(|kind| !withheld || *kind != PaperKind::Temperature);
        let page = self.told_page(session.identity, PaperKinds::of(&kinds), &asked.params);
        let (records, next) = page.await?;
        let mut said = json!({ "records": records, "next": next });
        if withheld {
            said["withheld"] = json!(["temperature"]);
        }
        Ok(DeskResponse::Found(said))
    }

    /// Returns the trip card of the resident.
    ///
    /// # Errors
    ///
    /// The refusals of the store.
    pub(super) async fn trip_card(
        &self,
        session: &Session,
        language: Language,
    ) -> Result<DeskResponse, DeskError> {
        let owner = session.identity;
        let newest = self
            .store_client
            .papers(owner, PaperKinds::of(&[PaperKind::Trip]), None, 1)
            .await?;
        let Some(paper) = newest.first() else {
            return Ok(DeskResponse::Found(
                json!({ "state": "unknown", "places": [], "note": note(language) }),
            ));
        };
        let mut card = self.told(&owner, paper)?;
        card["state"] = match self.now.since(paper.at) > TRIP_LIFE {
            // The carriers say nothing of the time since.
            true => {
                card["places"] = json!([]);
                "too_old".into()
            }
            false => "known".into(),
        };
        // Carriers' data is about a day old; the card is as of its own time.
        card["as_of"] = card["at"].take();
        if let Some(card) = card.as_object_mut() {
            for name in ["id", "kind", "at"] {
                card.remove(name);
            }
        }
        card["days"] = 14.into();
        card["note"] = note(language).into();
        Ok(DeskResponse::Found(card))
    }
}

fn note(language: Language) -> &'static str {
    match language {
        Language::Hans => "行程信息由电信运营商提供，更新至前一日，仅供参考，与健康码颜色无关。",
        Language::Hant => "行程信息由電信運營商提供，更新至前一日，僅供參考，與健康碼顏色無關。",
        Language::En => {
            "Trip data comes from the carriers and is a day old; it never changes the colour of a code."
        }
    }
}
