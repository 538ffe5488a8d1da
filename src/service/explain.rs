//! The explanation of a status: each active reason with guidance and source, and the cleared ones.

use super::answer::{ReasonDetail, ReasonSource, StatusExplanation};
use super::thread::Service;
use crate::clock::Now;
use crate::language::Language;
use crate::refusal::Refusal;
use crate::seal::Session;
use crate::status::ResidentStatus;
use crate::store::record;

impl Service {
    pub(super) async fn explain(
        &self,
        session: &Session,
        language: Language,
        now: Now,
    ) -> Result<StatusExplanation, Refusal> {
        let board = &self.app.board;
        let guidance = self.app.guidance.load_full();
        let names = self.app.names.load_full();
        let said_by = |status: &record::Assertion| ReasonSource {
            since: status.at,
            until: status.until,
            region: status.region,
            source: status.source.to_string(),
            source_name: names.of(&status.source, language).map(str::to_owned),
        };
        self.app.limit_desk_rate(session.identity)?;
        let freshness = board.freshness(now);
        let placed = self.app.store_client.record(session.identity).await?;
        let mut explained = StatusExplanation {
            status: ResidentStatus::Unknown,
            details: Vec::new(),
            released: Vec::new(),
            masked: session.masked,
            freshness,
        };
        if board.is_too_old(&freshness) {
            explained.status = ResidentStatus::TooOld;
        } else if let Some(placed) = placed {
            let record = &placed.record;
            let lost = board.retained(placed.id).without(record.reasons());
            explained.status = ResidentStatus::Known(record.reasons().union(lost));
            explained.details = record
                .active()
                .map(|status| ReasonDetail {
                    reason: status.reason,
                    guidance: guidance
                        .text(status.reason, status.region, language)
                        .to_owned(),
                    said: Some(said_by(status)),
                })
                .chain(lost.iter().map(|reason| ReasonDetail {
                    reason,
                    guidance: guidance.text(reason, None, language).to_owned(),
                    said: None,
                }))
                .collect();
            let cleared = record.assertions.iter().filter(|status| !status.active);
            let released = cleared.filter(|status| status.is_told());
            explained.released = released
                .map(|status| (status.reason, said_by(status)))
                .collect();
            explained
                .released
                .sort_by_key(|(_, said)| std::cmp::Reverse(said.since));
            explained
                .details
                .sort_by_key(|detail| (detail.reason, detail.said.as_ref().map(|said| said.since)));
        }
        Ok(explained)
    }
}
