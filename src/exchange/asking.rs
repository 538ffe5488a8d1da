//! Questions to peers: each live code once at a time, within a deadline, so many at once, and not where a peer failed of late. What
//! a peer said is kept for two seconds with the time as of which it is true.

use super::ExchangeSettings;
use super::breaker::{Admission, Breaker};
use super::dialect::{Dialect, DialectFault, LiangmaDialect, Said, VerdictAges};
use super::link::{LinkAddress, LinkFault};
use crate::answer::Refusal;
use crate::clock::{Moment, Time};
use crate::meters::QueryTimes;
use crate::recognition::peer::{Peer, PeerVerdict};
use crate::recognition::recogniser::Recogniser;
use crate::tls::TlsError;
use crate::tls::pinned;
use aws_lc_rs::digest::{SHA256, digest};
use hyper::Uri;
use rustls::ClientConfig;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A turnstile reads a code twice. Nothing is kept longer: a red fed at home must be seen here.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Verdicts that are kept at most.
const KEPT_MAX: u64 = 20_000;

/// What is counted of one peer.
#[derive(Default)]
pub struct AskedTally {
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// How long questions took.
    pub times: Arc<QueryTimes>,
}

impl AskedTally {
    fn count(&self, outcome: &'static str) {
        *held(&self.outcomes).entry(outcome).or_default() += 1;
    }

    /// Returns the count of each outcome by its name.
    pub fn counted(&self) -> Vec<(&'static str, u64)> {
        let outcomes = held(&self.outcomes);
        let each = outcomes.iter().map(|(outcome, count)| (*outcome, *count));
        // A rate needs a beginning.
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

/// Asks peers, for all threads of a node.
pub struct Exchange {
    settings: ExchangeSettings,
    recogniser: Arc<Recogniser>,
    /// Where questions run: a gate's thread that leaves takes none with it.
    runtime: tokio::runtime::Handle,
    peers: Mutex<HashMap<u32, Arc<AskedPeer>>>,
    tallies: Mutex<BTreeMap<u32, Arc<AskedTally>>>,
    kept: moka::future::Cache<[u8; 32], Said>,
    /// Spreads trials.
    dice: AtomicU64,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One question under way; counts as such until it is dropped.
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
    /// `runtime` is that of the node. Errors where our certificate cannot be used.
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

    /// Returns the TLS of a connection to a peer's exchange: our certificate, and its public key and no other.
    pub fn tls(&self, peer: &Peer) -> Option<Result<Arc<ClientConfig>, TlsError>> {
        let (cert, key) = self.settings.cert.as_ref()?;
        Some(pinned::client(cert, key, &peer.pins))
    }

    /// Asks a peer for a verdict on a code. `IssuerUnreachable` where it does not answer in time, failed too often, or has too many
    /// questions already.
    ///
    /// # Errors
    ///
    /// `IssuerUnreachable` where the peer does not answer in time, failed too often, or has too many questions already.
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
        // On the node's runtime: whoever asked first may leave, and the others still hear.
        let asking = self.runtime.spawn(async move {
            let init = async {
                let mut said = exchange.question(&peer, vec![code]).await?;
                match said.pop() {
                    // It could not tell: whoever asks next asks again.
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

    /// Asks a peer for verdicts on many codes at once; each line gets its own.
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

    /// How long a gate waits: whatever holds the node's runtime up holds no gate up.
    fn patience(&self) -> Duration {
        self.settings.wait + self.settings.wait / 4
    }

    /// A verdict that was kept is as old as it is.
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
            // It is there, and has no time for us.
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
                    tracing::warn!(issuer, outcome, "an issuer is not asked for a while")
                }
                (true, false) => tracing::info!(issuer, "an issuer answers again"),
                _ => {}
            }
        }
        if let Err(why) = &answer {
            tracing::debug!(issuer, %why, "an issuer gave no verdict");
        }
        answer.map_err(|_| Refusal::IssuerUnreachable)
    }

    /// Returns the peer as it is asked now; one whose section changed is asked anew.
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
            let config = self.tls(peer).ok_or("no certificate of ours is set")?;
            config.map_err(|error| error.to_string())
        };
        let issuer = peer.id;
        let place = LinkAddress::read(&address, tls).map_err(|why| {
            tracing::warn!(issuer, %why, "an issuer cannot be asked");
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

    /// Reads our certificate anew with the next question to each peer.
    pub fn forget(&self) {
        held(&self.peers).clear();
    }

    /// Returns what is counted of each peer, and whether its breaker is open. Peers that the trust list does not name any more are left out.
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
