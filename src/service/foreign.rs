//! Scans of codes of other issuers: what is tried when a code is none of ours. Cold: an own code never comes here.

use super::{AppState, Service, turn};
use crate::admission::rate_limit::RateLimiter;
use crate::answer::Refusal;
use crate::clock::{Now, Time};
use crate::meters::ForeignFacts;
use crate::offline::code::{OFFLINE_CODE_CHARS, OfflineCode};
use crate::offline::gate::ListAges;
use crate::recognition::ForeignFormat;
use crate::recognition::pass::ForeignPass;
use crate::recognition::peer::PeerVerdict;
use crate::seal::AccessTokenId;
use std::time::{Duration, Instant};

/// What a gate is told of a code of another issuer.
pub enum ForeignVerdict {
    Pass {
        pass: Box<ForeignPass>,
        /// Of when the trust list is.
        trust_as_of: Option<Time>,
    },
    /// A code of another health code: its colour is what its issuer says.
    Peer(Box<PeerVerdict>),
}

/// A signature check costs a scanner as many turns as so many scans.
const SIGNATURE_TURNS: u64 = 20;

/// And as many lines of a bulk scan.
pub const FOREIGN_LINES: u64 = 100;

/// Signatures of others that each thread of a door checks in a second for single scans; each takes some tenth of a millisecond.
pub(super) const FOREIGN_PER_SECOND: u32 = 500;

impl AppState {
    /// Returns what the meters tell of codes of other issuers; None where they are not recognised.
    pub fn foreign_facts(&self, now: Time) -> Option<ForeignFacts> {
        let recogniser = self.recogniser.as_ref()?;
        let list = recogniser.list();
        let keys = [ForeignFormat::Hc1, ForeignFormat::Shc];
        Some(ForeignFacts {
            codes: recogniser.counted(),
            keys: keys
                .map(|format| (format.word(), list.keys(format) as u64))
                .into(),
            trust_age: list.as_of.map(|at| now.since(at)),
        })
    }
}

impl Service {
    /// Whether codes of other issuers are read at all.
    pub fn recognises(&self) -> bool {
        self.app.recogniser.is_some()
    }

    /// Reads a code that is none of ours. `CodeInvalid` where it is of no issuer at all; `RateLimited` past the scanner's turns, `Busy`
    /// past what this thread checks in a second.
    pub(super) async fn scan_foreign(
        &self,
        scanner: AccessTokenId,
        code: &[u8],
        now: Now,
    ) -> Result<ForeignVerdict, Refusal> {
        if !self.is_foreign(code) {
            return Err(Refusal::CodeInvalid);
        }
        let started = Instant::now();
        more_turns(&self.app.scan_limiter, scanner, started)?;
        if !self.foreign_budget.borrow_mut().take(started) {
            return Err(Refusal::Busy);
        }
        // Those whose answers are ready go first.
        tokio::task::yield_now().await;
        self.scan_foreign_now(code, now)
    }

    /// Whether a code begins as those of other issuers do.
    pub fn is_foreign(&self, code: &[u8]) -> bool {
        self.recognises()
            && match code.len() {
                OFFLINE_CODE_CHARS => self.is_of_other_issuer(code),
                _ => ForeignFormat::told_apart(code).is_some(),
            }
    }

    /// Whether an offline code names an issuer that is not this one.
    fn is_of_other_issuer(&self, code: &[u8]) -> bool {
        let own = self.app.offline.as_ref().map(|own| own.settings.issuer);
        OfflineCode::issuer_named(code).is_some_and(|issuer| Some(issuer) != own)
    }

    /// Reads a code of another issuer by the trust list.
    pub fn scan_foreign_now(&self, code: &[u8], now: Now) -> Result<ForeignVerdict, Refusal> {
        let recogniser = self.app.recogniser.as_ref().ok_or(Refusal::CodeInvalid)?;
        if code.len() == OFFLINE_CODE_CHARS {
            let lists = &self.app.settings.lists;
            let ages = ListAges {
                stale_after: lists.stale_after,
                too_old_after: lists.too_old_after,
            };
            let told = recogniser.open_offline(code, now.time, &ages)?;
            return Ok(ForeignVerdict::Peer(Box::new(told)));
        }
        let skew = self.app.seal.clock_skew();
        let (_, opened) = recogniser
            .open(code, now.time, skew)
            .ok_or(Refusal::CodeInvalid)?;
        Ok(ForeignVerdict::Pass {
            pass: Box::new(opened?),
            trust_as_of: recogniser.list().as_of,
        })
    }
}

/// Takes the turns beyond the one that every scan costs.
fn more_turns(limiter: &RateLimiter, who: AccessTokenId, now: Instant) -> Result<(), Refusal> {
    turn(limiter, who.0, now)?;
    match limiter.charge(who.0, SIGNATURE_TURNS - 2, now) {
        Duration::ZERO => Ok(()),
        _ => Err(Refusal::RateLimited),
    }
}
