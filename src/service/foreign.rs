//! Scans of codes of other issuers, tried only for texts that are not codes of this service.

use super::limits::turn;
use super::state::AppState;
use super::thread::Service;
use crate::clock::{Now, Time};
use crate::exchange::dialect::Said;
use crate::meters::{ForeignFacts, PeerFacts, PeerQuestions};
use crate::offline::code::{OFFLINE_CODE_CHARS, OfflineCode};
use crate::offline::gate::ListAges;
use crate::recognition::ForeignFormat;
use crate::recognition::pass::ForeignPass;
use crate::recognition::peer::{Peer, PeerVerdict};
use crate::recognition::recogniser::LIANGMA;
use crate::refusal::Refusal;
use crate::seal::CODE_CHARS;
use crate::seal::{AccessTokenId, Seal};
use crate::service::answer::Verdict;
use crate::tls::pinned::KeyDigest;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

/// Answer to a scan of another issuer's code.
pub enum ForeignVerdict {
    /// A pass.
    Pass {
        /// Contents of the code.
        pass: Box<ForeignPass>,
        /// Time of the trust list.
        trust_as_of: Option<Time>,
    },
    /// A live or offline code of a peer, with the colour that its issuer gives.
    Peer(Box<PeerVerdict>),
}

/// The range in which the numbers of divisions in GB/T 2260 are.
const DIVISIONS: RangeInclusive<u32> = 110_000..=829_999;

/// Scans that one signature check takes from the scanner's rate.
const SIGNATURE_TURNS: u64 = 20;

/// Lines that one signature check takes from the scanner's rate of bulk scans.
pub const FOREIGN_LINES: u64 = 100;

impl AppState {
    /// Returns the metrics of other issuers' codes; None if they are not recognised.
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
            peers: self.peer_facts(now),
            answered: recogniser.counted_answered(),
        })
    }

    fn peer_facts(&self, now: Time) -> Vec<PeerFacts> {
        let Some(recogniser) = &self.recogniser else {
            return Vec::new();
        };
        let mut asked: HashMap<u32, PeerQuestions> = HashMap::new();
        for (issuer, tally, is_open) in self.exchange.iter().flat_map(|exchange| exchange.tallies())
        {
            let questions = PeerQuestions {
                outcomes: tally.counted(),
                is_open,
                times: tally.times.clone(),
            };
            asked.insert(issuer, questions);
        }
        let list = recogniser.list();
        let peers = list.peers.values();
        peers
            .map(|peer| PeerFacts {
                issuer: peer.id,
                asked: asked.remove(&peer.id),
                list_age: (peer.list.as_ref()).map(|_| recogniser.list_age(peer.id, now)),
            })
            .collect()
    }
}

impl Service {
    /// Returns whether codes of other issuers are recognised.
    pub fn recognises(&self) -> bool {
        self.app.recogniser.is_some()
    }

    /// Opens a code that is not of this service. `CodeInvalid` if it is of no known format, `Busy` beyond this thread's rate of
    /// checks.
    pub(super) async fn scan_foreign(
        &self,
        scanner: AccessTokenId,
        code: &[u8],
        now: Now,
    ) -> Result<ForeignVerdict, Refusal> {
        if !self.is_foreign(code) {
            return Err(Refusal::CodeInvalid);
        }
        if code.len() == CODE_CHARS && ForeignFormat::told_apart(code).is_none() {
            return self.ask_issuer(code).await;
        }
        let started = Instant::now();
        // Charged as a debt: the scanner's next scan waits for it.
        let turns = SIGNATURE_TURNS - 1;
        self.app.scan_limiter.charge(scanner.0, turns, started);
        if !self.foreign_budget.borrow_mut().take(started) {
            return Err(Refusal::Busy);
        }
        // Tasks with finished answers run first.
        tokio::task::yield_now().await;
        self.scan_foreign_now(code, now)
    }

    /// Returns whether a code begins like one of another issuer.
    pub fn is_foreign(&self, code: &[u8]) -> bool {
        self.recognises()
            && (ForeignFormat::told_apart(code).is_some()
                || match code.len() {
                    OFFLINE_CODE_CHARS => self.is_of_other_issuer(code),
                    CODE_CHARS => self.other_issuer_of(code).is_some(),
                    _ => false,
                })
    }

    /// Returns the issuer of this node's codes: a division of GB/T 2260.
    pub fn own_issuer(&self) -> Option<u32> {
        self.app.offline.as_ref().map(|own| own.settings.issuer)
    }

    /// Returns the issuer that a live code names, if it is another one. Codes of a node without an issuer hold any number: it
    /// counts if the trust list has it or it is a possible division.
    fn other_issuer_of(&self, code: &[u8]) -> Option<u32> {
        let issuer =
            Seal::issuer_named(code).filter(|issuer| Some(*issuer) != self.own_issuer())?;
        (DIVISIONS.contains(&issuer) || self.peer(issuer).is_some()).then_some(issuer)
    }

    fn peer(&self, issuer: u32) -> Option<Arc<Peer>> {
        let recogniser = self.app.recogniser.as_ref()?;
        recogniser.list().peers.get(&issuer).cloned()
    }

    /// Returns the peer to ask about a live code; None for our own code, an unknown issuer, or one that cannot be asked.
    pub fn asked_of(&self, code: &[u8]) -> Option<Arc<Peer>> {
        let recogniser = self.app.recogniser.as_ref()?;
        self.app.exchange.as_ref()?;
        let peer = self.peer(self.other_issuer_of(code)?)?;
        (peer.exchange.is_some() && recogniser.is_on(LIANGMA)).then_some(peer)
    }

    /// Asks the issuer of a live code. `IssuerUnknown` if the trust list does not have it, `IssuerUnreachable` if it does not
    /// answer or cannot be asked.
    async fn ask_issuer(&self, code: &[u8]) -> Result<ForeignVerdict, Refusal> {
        let told = match (self.asked_of(code), &self.app.exchange) {
            (Some(peer), Some(exchange)) => exchange.ask(&peer, code).await,
            _ => Err(self.unasked(code)),
        };
        self.count_told(&told);
        told.map(|told| ForeignVerdict::Peer(Box::new(told)))
    }

    /// Returns the refusal of a live code of another issuer that is not asked.
    pub fn unasked(&self, code: &[u8]) -> Refusal {
        let recogniser = self.app.recogniser.as_ref();
        let is_on = recogniser.is_some_and(|recogniser| recogniser.is_on(LIANGMA));
        match self
            .other_issuer_of(code)
            .and_then(|issuer| self.peer(issuer))
        {
            Some(_) if is_on => Refusal::IssuerUnreachable,
            _ => Refusal::IssuerUnknown,
        }
    }

    /// Asks issuers about live codes, one request for all codes of each. Returns their answers by code.
    pub async fn ask_issuers(
        &self,
        codes: HashMap<u32, (Arc<Peer>, HashSet<String>)>,
    ) -> HashMap<String, Said> {
        let Some(exchange) = &self.app.exchange else {
            return HashMap::new();
        };
        let asked = codes.into_values().map(|(peer, codes)| async move {
            let codes: Vec<String> = codes.into_iter().collect();
            let said = exchange.ask_many(&peer, codes.clone()).await;
            codes.into_iter().zip(said)
        });
        let said = futures_util::future::join_all(asked).await;
        said.into_iter().flatten().collect()
    }

    /// Counts the outcome of a peer's code.
    pub fn count_told(&self, told: &Said) {
        if let Some(recogniser) = &self.app.recogniser {
            let outcome = told
                .as_ref()
                .map_or_else(|refusal| refusal.code(), |told| told.state);
            recogniser.count(LIANGMA, outcome);
        }
    }

    /// Returns the peer with this public key.
    ///
    /// # Errors
    ///
    /// `NotPermitted` if the trust list does not have the key.
    pub fn admit_peer(&self, key: Option<KeyDigest>) -> Result<Arc<Peer>, Refusal> {
        let recogniser = self.app.recogniser.as_ref();
        let found = key.zip(recogniser).and_then(|(key, recogniser)| {
            let list = recogniser.list();
            list.peer_of_pin(&key).cloned()
        });
        found.ok_or(Refusal::NotPermitted)
    }

    /// Charges a peer for the codes in its request.
    ///
    /// # Errors
    ///
    /// `RateLimited` beyond the peer's rate.
    pub fn charge_peer(&self, peer: &Peer, codes: u64, now: Instant) -> Result<(), Refusal> {
        // Numbers of divisions are close together; their slots must not be.
        let who = u64::from(peer.id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let limiter = &self.app.exchange_limiter;
        turn(limiter, who, now)?;
        // A request with many codes is served, and owed for.
        if codes > 1 {
            limiter.charge(who, codes - 1, now);
        }
        Ok(())
    }

    /// Opens one of our live codes for a peer, and asks the store while the board is filled.
    ///
    /// # Errors
    ///
    /// `CodeInvalid`, `CodeExpired`, or `UpstreamBusy`.
    pub async fn exchange_scan(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        match self.exchange_scan_now(code, now) {
            Err(Refusal::Warming) => Box::pin(self.scan_by_lookup(code, now)).await,
            told => told,
        }
    }

    /// Opens one of our live codes for a peer from memory. Other codes are not opened.
    ///
    /// # Errors
    ///
    /// `CodeInvalid`, `CodeExpired`, or `Warming` if the board cannot answer yet.
    pub fn exchange_scan_now(&self, code: &[u8], now: Now) -> Result<Verdict, Refusal> {
        self.scan_now(code, now)
    }

    /// Counts an answer to a peer.
    pub fn count_exchanged(&self, peer: &Peer, told: &Result<Verdict, Refusal>) {
        if let Some(recogniser) = &self.app.recogniser {
            let outcome = match told {
                Ok(verdict) => verdict.status.state(),
                Err(refusal) => refusal.code(),
            };
            recogniser.count_answered(peer.id, outcome);
        }
    }

    /// Returns whether an offline code names another issuer.
    fn is_of_other_issuer(&self, code: &[u8]) -> bool {
        let own = self.own_issuer();
        OfflineCode::issuer_named(code).is_some_and(|issuer| Some(issuer) != own)
    }

    /// Opens a code of another issuer by the trust list.
    ///
    /// # Errors
    ///
    /// `CodeInvalid` for a text of no known format, else the refusal of the code.
    pub fn scan_foreign_now(&self, code: &[u8], now: Now) -> Result<ForeignVerdict, Refusal> {
        let recogniser = self.app.recogniser.as_ref().ok_or(Refusal::CodeInvalid)?;
        if code.len() == OFFLINE_CODE_CHARS && ForeignFormat::told_apart(code).is_none() {
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
