//! Requests to peers: one at a time for each code, within a deadline and a limit, and not to a peer that failed recently. A
//! verdict is reused for two seconds, with its own time.

use super::breaker::{Admission, Breaker};
use super::dialect::{Dialect, DialectFault, LiangmaDialect, Said, VerdictAges};
use super::link::{LinkAddress, LinkFault};
use super::settings::ExchangeSettings;
use crate::clock::{Moment, Time};
use crate::meters::QueryTimes;
use crate::recognition::peer::{Peer, PeerVerdict};
use crate::recognition::recogniser::Recogniser;
use crate::refusal::Refusal;
use crate::tls::TlsError;
use crate::tls::pinned;
use aws_lc_rs::digest::{SHA256, digest};
use hyper::Uri;
use rustls::ClientConfig;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Time for which a verdict is reused: a turnstile reads a code twice. Any longer would hide a red fed at the issuer.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Largest number of verdicts that are kept.
const KEPT_MAX: u64 = 20_000;

/// Counts of one peer.
#[derive(Default)]
pub struct AskedTally {
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// Durations of requests.
    pub times: Arc<QueryTimes>,
}

impl AskedTally {
    fn count(&self, outcome: &'static str) {
        *held(&self.outcomes).entry(outcome).or_default() += 1;
    }

    /// Returns the count of each outcome.
    pub fn counted(&self) -> Vec<(&'static str, u64)> {
        let outcomes = held(&self.outcomes);
        let each = outcomes.iter().map(|(outcome, count)| (*outcome, *count));
        // Every outcome is listed from the start, so that a rate can be computed.
        let first = (!outcomes.contains_key("answered")).then_some(("answered", 0));
        each.chain(first).collect()
    }
}

/// A peer that can be asked.
struct AskedPeer {
    peer: Arc<Peer>,
    dialect: Box<dyn Dialect>,
    in_flight: AtomicUsize,
    breaker: Mutex<Breaker>,
    tally: Arc<AskedTally>,
}

/// Requests to peers for all threads of a node.
pub struct Exchange {
    settings: ExchangeSettings,
    recogniser: Arc<Recogniser>,
    /// The runtime of requests, so that a gate's thread that ends takes none with it.
    runtime: tokio::runtime::Handle,
    peers: Mutex<HashMap<u32, Arc<AskedPeer>>>,
    tallies: Mutex<BTreeMap<u32, Arc<AskedTally>>>,
    kept: moka::future::Cache<[u8; 32], Said>,
    /// Random state that spreads trial requests.
    dice: AtomicU64,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A request in progress. It counts until it is dropped.
struct QuestionUnderWay {
    peer: Arc<AskedPeer>,
    admitted: Admission,
    is_noted: bool,
}

impl Drop for QuestionUnderWay {
    fn drop(&mut self) {
        self.peer.in_flight.fetch_sub(1, Relaxed);
        if !self.is_noted {
            held(&self.peer.breaker).release(self.admitted);
        }
    }
}

impl Exchange {
    /// Returns the exchange. `runtime` is that of the node.
    pub fn new(
        settings: ExchangeSettings,
        recogniser: Arc<Recogniser>,
        runtime: tokio::runtime::Handle,
    ) -> Exchange {
        Exchange {
            settings,
            recogniser,
            runtime,
            peers: Mutex::default(),
            tallies: Mutex::default(),
            kept: moka::future::Cache::builder()
                .max_capacity(KEPT_MAX)
                .time_to_live(KEPT_FOR)
                .build(),
            dice: AtomicU64::new(Time::now().0),
        }
    }

    /// Returns the TLS settings for a peer's exchange: our certificate, and the peer's pinned keys. None without a certificate.
    pub fn tls(&self, peer: &Peer) -> Option<Result<Arc<ClientConfig>, TlsError>> {
        let (cert, key) = self.settings.cert.as_ref()?;
        Some(pinned::client(cert, key, &peer.pins))
    }

    /// Asks a peer for a verdict about a code.
    ///
    /// # Errors
    ///
    /// `IssuerUnreachable` if the peer does not answer in time, failed too often, or has too many requests.
    pub async fn ask(
        self: &Arc<Exchange>,
        peer: &Arc<Peer>,
        code: &[u8],
    ) -> Result<PeerVerdict, Refusal> {
        let key = kept_key(peer, code);
        if let Some(said) = self.kept.get(&key).await {
            return self.aged(said);
        }
        let code = String::from_utf8_lossy(code).to_ascii_uppercase();
        let (exchange, peer) = (self.clone(), peer.clone());
        // On the node's runtime: the first caller may leave, and the others still get the answer.
        let asking = self.runtime.spawn(async move {
            let init = async {
                let mut said = exchange.question(&peer, vec![code]).await?;
                match said.pop() {
                    // No answer: the next caller asks again.
                    None | Some(Err(Refusal::IssuerUnreachable)) => Err(Refusal::IssuerUnreachable),
                    Some(said) => Ok(said),
                }
            };
            let said = exchange.kept.try_get_with(key, init).await;
            said.map_err(|refusal| *refusal)
        });
        match tokio::time::timeout(self.patience(), asking).await {
            Ok(Ok(Ok(said))) => self.aged(said),
            Ok(Ok(Err(refusal))) => Err(refusal),
            Ok(Err(_)) => Err(Refusal::Internal),
            Err(_) => Err(Refusal::IssuerUnreachable),
        }
    }

    /// Asks a peer for verdicts about many codes at once. Each code has its own result.
    pub async fn ask_many(self: &Arc<Exchange>, peer: &Arc<Peer>, codes: Vec<String>) -> Vec<Said> {
        let count = codes.len();
        let (exchange, peer) = (self.clone(), peer.clone());
        let asking = self
            .runtime
            .spawn(async move { exchange.question(&peer, codes).await });
        match tokio::time::timeout(self.patience(), asking).await {
            Ok(Ok(Ok(said))) if said.len() == count => said,
            Ok(Ok(Err(refusal))) => vec![Err(refusal); count],
            _ => vec![Err(Refusal::IssuerUnreachable); count],
        }
    }

    /// Returns the longest time that a gate waits for a peer: the deadline of the request and a quarter more, in case the node's
    /// runtime is delayed.
    fn patience(&self) -> Duration {
        self.settings.wait + self.settings.wait / 4
    }

    /// Returns a kept verdict with its present age.
    fn aged(&self, said: Said) -> Said {
        let mut told = said?;
        if let Some(as_of) = told.as_of {
            told.age = told.age.max(Time::now().since(as_of));
        }
        if told.status.is_some() {
            if told.age > self.settings.too_old_after {
                (told.state, told.status, told.stale) = ("too_old", None, false);
                told.reasons.clear();
            } else {
                told.stale = told.age > self.settings.stale_after;
            }
        }
        Ok(told)
    }

    async fn question(&self, peer: &Arc<Peer>, codes: Vec<String>) -> Result<Vec<Said>, Refusal> {
        let asked = self.asked_peer(peer)?;
        let tally = asked.tally.clone();
        let under_way = asked.in_flight.fetch_add(1, Relaxed);
        let mut question = QuestionUnderWay {
            peer: asked,
            admitted: Admission::No,
            is_noted: false,
        };
        if under_way >= self.settings.in_flight {
            tally.count("full");
            return Err(Refusal::IssuerUnreachable);
        }
        question.admitted = held(&question.peer.breaker).admit(Moment::now());
        if question.admitted == Admission::No {
            tally.count("open");
            return Err(Refusal::IssuerUnreachable);
        }
        let began = Instant::now();
        let answer = question.peer.dialect.ask(&codes);
        let answer = tokio::time::timeout(self.settings.wait, answer).await;
        tally.times.count(began.elapsed());
        let answer = answer.unwrap_or(Err(DialectFault::Link(LinkFault::Late)));
        let (outcome, failed) = match &answer {
            Ok(_) => ("answered", false),
            Err(DialectFault::Link(LinkFault::Late)) => ("late", true),
            Err(DialectFault::Link(_)) => ("failed", true),
            // The peer is alive and has no capacity.
            Err(DialectFault::Status(status)) if status.as_u16() == 429 => ("turned_away", false),
            Err(DialectFault::Status(_)) => ("turned_away", true),
            Err(DialectFault::Rubbish) => ("rubbish", true),
            Err(DialectFault::Lie(_)) => ("lie", true),
        };
        tally.count(outcome);
        let spread = (self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed) >> 56) as u8;
        let (now, issuer) = (Moment::now(), question.peer.peer.id);
        {
            let mut breaker = held(&question.peer.breaker);
            let was_open = breaker.is_open();
            match &answer {
                Err(DialectFault::Lie(_)) => breaker.trip(now, spread),
                _ => breaker.note(question.admitted, failed, now, spread),
            }
            question.is_noted = true;
            match (was_open, breaker.is_open()) {
                (false, true) => {
                    tracing::warn!(
                        issuer,
                        outcome,
                        "the circuit breaker of an issuer is open: it failed too often, or one answer named another issuer or a time to come"
                    )
                }
                (true, false) => tracing::info!(
                    issuer,
                    "the circuit breaker of an issuer is closed: it answers again"
                ),
                _ => {}
            }
        }
        if let Err(why) = &answer {
            tracing::debug!(issuer, %why, "an issuer gave no verdict");
        }
        answer.map_err(|_| Refusal::IssuerUnreachable)
    }

    /// Returns the state of a peer; a new one if its section of the trust file changed.
    fn asked_peer(&self, peer: &Arc<Peer>) -> Result<Arc<AskedPeer>, Refusal> {
        let unreachable = Refusal::IssuerUnreachable;
        let mut peers = held(&self.peers);
        if let Some(known) = peers.get(&peer.id)
            && (Arc::ptr_eq(&known.peer, peer) || is_same(&known.peer, peer))
        {
            return Ok(known.clone());
        }
        let address: Uri = peer
            .exchange
            .as_deref()
            .ok_or(unreachable)?
            .parse()
            .map_err(|_| unreachable)?;
        let tls = || {
            let config = self
                .tls(peer)
                .ok_or("`exchange_cert` and `exchange_cert_key` are not set")?;
            config.map_err(|error| error.to_string())
        };
        let issuer = peer.id;
        let place = LinkAddress::read(&address, tls).map_err(|why| {
            tracing::warn!(issuer, %why, "no verdicts can be requested from an issuer");
            unreachable
        })?;
        let ages = VerdictAges {
            stale_after: self.settings.stale_after,
            too_old_after: self.settings.too_old_after,
            clock_ahead_max: self.settings.clock_ahead_max,
        };
        let dialect = LiangmaDialect::new(place, peer.id, peer.name.clone(), ages);
        let asked = Arc::new(AskedPeer {
            peer: peer.clone(),
            dialect: Box::new(dialect),
            in_flight: AtomicUsize::new(0),
            breaker: Mutex::default(),
            tally: held(&self.tallies).entry(peer.id).or_default().clone(),
        });
        peers.insert(peer.id, asked.clone());
        Ok(asked)
    }

    /// Drops the loaded certificate, so that the next request to each peer reads it again.
    pub fn forget(&self) {
        held(&self.peers).clear();
    }

    /// Returns the counts of each peer and whether its breaker is open. Peers that are no longer in the trust list are left
    /// out.
    pub fn tallies(&self) -> Vec<(u32, Arc<AskedTally>, bool)> {
        let list = self.recogniser.list();
        let peers = held(&self.peers);
        let asked = |peer: &&Arc<Peer>| peer.exchange.is_some();
        list.peers
            .values()
            .filter(asked)
            .map(|peer| {
                let tally = held(&self.tallies).entry(peer.id).or_default().clone();
                let known = peers.get(&peer.id);
                let is_open = known.is_some_and(|known| held(&known.breaker).is_open());
                (peer.id, tally, is_open)
            })
            .collect()
    }
}

fn is_same(one: &Peer, other: &Peer) -> bool {
    (&one.exchange, &one.pins, &one.name) == (&other.exchange, &other.pins, &other.name)
}

fn kept_key(peer: &Peer, code: &[u8]) -> [u8; 32] {
    let mut text = peer.id.to_be_bytes().to_vec();
    text.extend(code.to_ascii_uppercase());
    let hash = digest(&SHA256, &text);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
