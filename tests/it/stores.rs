//! Both kinds of store by the same tests, in this process.

mod long_lists;
mod papers;
mod reseal;
mod single_store;

use crate::harness::folder;
use crate::redis::Server;
use liangma::board::{self, Board, Found};
use liangma::clock::Time;
use liangma::person::{Identity, ResidentId};
use liangma::seal::tags::StatusTags;
use liangma::status::{Reason, Reasons};
use liangma::store::ChangeOutcome::{self, Applied, Unchanged};
use liangma::store::record::{Assertion, Record};
use liangma::store::redis::{self, url};
use liangma::store::{Change, ChangeKind, Error, Store, embedded};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const MARK: [u8; 16] = [9; 16];

/// Where a store's data are while it is closed.
enum Place {
    Folder(TempDir),
    Server(Server),
}

impl Place {
    fn redis() -> Place {
        Place::Server(Server::start(&[]))
    }

    fn server(&self) -> &Server {
        match self {
            Place::Server(server) => server,
            Place::Folder(_) => panic!("a folder is no server"),
        }
    }

    async fn try_open(&self, mark: [u8; 16], bits: u32) -> Result<Opened, Error> {
        match self {
            Place::Folder(folder) => {
                let settings = embedded::Settings {
                    home_bits: bits,
                    cache_bytes: 16 << 20,
                    ..embedded::Settings::new(folder.path().to_owned())
                };
                let opened = embedded::OpenedEmbedded::open(
                    settings,
                    mark,
                    StatusTags::of_secret(&[9; 32]),
                )?;
                Ok(Opened::Embedded(Box::new(opened)))
            }
            Place::Server(server) => {
                let place = url::StoreUrl::parse(&server.url()).expect("an address");
                let settings = redis::Settings {
                    home_bits: bits,
                    ..redis::Settings::new(place)
                };
                let opened =
                    redis::OpenedRedis::open(settings, mark, StatusTags::of_secret(&[9; 32]))
                        .await?;
                Ok(Opened::Redis(Box::new(opened)))
            }
        }
    }

    /// A store at work, with so many bits of a home id.
    async fn open(&self, bits: u32, board: &Arc<Board>) -> Box<dyn Store> {
        let opened = self.try_open(MARK, bits).await.expect("it can be opened");
        opened.start(board)
    }

    /// A store at work, and a board that it has filled.
    async fn filled(&self) -> (Box<dyn Store>, Arc<Board>, u64) {
        let board = board();
        let store = self.open(64, &board).await;
        let told = Arc::new(AtomicU64::new(0));
        let progress = {
            let told = told.clone();
            Arc::new(move |more| {
                told.fetch_add(more, Relaxed);
            })
        };
        store.fill(progress).await.expect("it can be read");
        let told = told.load(Relaxed);
        (store, board, told)
    }

    /// Every record, by its claim.
    async fn records(&self, bits: u32) -> HashMap<[u8; 16], (ResidentId, Record)> {
        let mut records = HashMap::new();
        let each = |id, record: Record| {
            let before = records.insert(record.claim, (id, record));
            assert_eq!(before, None, "each is told once");
            Ok(())
        };
        match self.try_open(MARK, bits).await.expect("it can be opened") {
            Opened::Embedded(opened) => opened.each(each),
            Opened::Redis(opened) => opened.each(each).await,
        }
        .expect("it can be read");
        records
    }
}

enum Opened {
    Embedded(Box<embedded::OpenedEmbedded>),
    Redis(Box<redis::OpenedRedis>),
}

impl Opened {
    fn start(self, board: &Arc<Board>) -> Box<dyn Store> {
        match self {
            Opened::Embedded(opened) => Box::new(opened.start(board.clone(), Arc::default())),
            Opened::Redis(opened) => Box::new(opened.start(Some(board.clone()), Arc::default())),
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(1).enable_all();
    builder.build().expect("a runtime")
}

fn over_both(test: impl AsyncFn(&Place)) {
    eprintln!("over the embedded store");
    runtime().block_on(test(&Place::Folder(folder())));
    over_redis(test);
}

fn over_redis(test: impl AsyncFn(&Place)) {
    eprintln!("over Redis");
    runtime().block_on(test(&Place::redis()));
}

fn board() -> Arc<Board> {
    let settings = board::Settings {
        stale_after: Duration::from_secs(2),
        too_old_after: Duration::from_secs(30),
        shards: 16,
    };
    let board = Board::new(0, settings);
    // Both stores say by themselves that they live; what is asked here is what they know.
    board.confirm(liangma::clock::Moment::now());
    Arc::new(board)
}

/// A well spread stand-in for a keyed hash.
fn who(n: u64) -> Identity {
    let mut hash = [0; 32];
    for (i, part) in hash.chunks_mut(8).enumerate() {
        let mixed = (n + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(17 * i as u32 + 5)
            ^ (n.wrapping_mul(0xff51_afd7_ed55_8ccd));
        part.copy_from_slice(&mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53).to_be_bytes());
    }
    Identity::of_hash(&hash)
}

fn profile(n: u64) -> ChangeKind {
    ChangeKind::Profile(n.to_be_bytes().into())
}

fn status(n: u64, reason: Reason, seq: u64, active: bool) -> ChangeKind {
    said(n, reason, "gd-cdc", seq, active)
}

fn said(n: u64, reason: Reason, source: &str, seq: u64, active: bool) -> ChangeKind {
    let assertion = Assertion {
        reason,
        source: source.into(),
        seq,
        active,
        at: Time(seq >> 8),
        until: None,
        region: None,
    };
    ChangeKind::Status(assertion, n.to_be_bytes().into())
}

fn change(n: u64, what: ChangeKind) -> Change {
    Change { who: who(n), what }
}

async fn reasons(store: &dyn Store, n: u64) -> Reasons {
    let found = store.find(who(n)).await.expect("it can be read");
    found.expect("on record").record.reasons()
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_was_acknowledged_is_there_after_closing_and_opening_again() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let batch = (0..1000).map(|n| change(n, profile(n))).collect();
        assert_eq!(store.apply(batch).await.unwrap(), [Applied; 1000]);
        let red = change(5, status(5, Reason::CloseContact, 9, true));
        assert_eq!(store.apply(vec![red]).await.unwrap(), [Applied]);
        store.close().await;
        let closed = store.apply(vec![change(6, profile(7))]).await;
        assert!(matches!(closed, Err(Error::Closed)));
        drop(store);

        let (store, board, told) = place.filled().await;
        assert_eq!((board.residents(), told), (1000, 1000));
        assert_eq!(store.residents().await.unwrap(), 1000);
        for n in 0..1000 {
            let Found::Word(word) = board.find(who(n).home, who(n).check()) else {
                panic!("{n} is on the board");
            };
            let red = Reasons::NONE.with(Reason::CloseContact);
            let expected = if n == 5 { red } else { Reasons::NONE };
            assert_eq!(word.reasons(), expected);
            // Find, the word alone and the board are of one mind.
            let placed = store.find(who(n)).await.unwrap().unwrap();
            assert_eq!((placed.id, placed.steps), (who(n).home, 0));
            assert_eq!(placed.record.profile[..], n.to_be_bytes());
            assert_eq!(placed.word, word);
            assert_eq!(store.word(placed.id).await.unwrap(), Some(word));
        }
        assert!(store.find(who(1000)).await.unwrap().is_none());
        assert_eq!(store.word(who(1000).home).await.unwrap(), None);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn residents_who_share_a_home_never_share_an_id() {
    over_both(async |place| {
        let board = board();
        // 200 residents on 256 homes: nearly every home is fought over.
        let store = place.open(8, &board).await;
        for n in 0..200 {
            let what = match n % 3 {
                0 => status(n, Reason::Confirmed, 1, true),
                _ => profile(n),
            };
            assert_eq!(store.apply(vec![change(n, what)]).await.unwrap(), [Applied]);
        }
        let mut ids = HashSet::new();
        for n in 0..200 {
            let placed = store.find(who(n)).await.unwrap().unwrap();
            assert!(ids.insert(placed.id), "{n} has an id of their own");
            assert_eq!(placed.record.profile[..], n.to_be_bytes());
            assert_eq!(placed.record.reasons() != Reasons::NONE, n % 3 == 0);
            assert_eq!(store.word(placed.id).await.unwrap(), Some(placed.word));
            assert_eq!(board.word(placed.id), Some(placed.word));
            // Whoever looks at the home with this resident's check bits finds this resident, or is told to ask.
            match board.find(ResidentId(who(n).home.0 & 0xff), who(n).check()) {
                Found::Word(word) => assert_eq!((placed.steps, placed.word), (0, word)),
                found => assert_eq!(found, Found::Ask),
            }
        }
        assert_eq!(board.residents(), 200);
        store.close().await;
        drop(store);
        assert_eq!(place.records(8).await.len(), 200);
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn two_with_one_home_and_one_check_are_told_apart_by_the_store() {
    over_both(async |place| {
        let board = board();
        let store = place.open(64, &board).await;
        let one = Identity {
            home: ResidentId(7),
            claim: [5; 16],
        };
        let mut other = one;
        other.claim[15] = 6;
        assert_eq!(one.check(), other.check());
        let at_home = |who: Identity| board.find(who.home, who.check());
        let say = async |who, what| store.apply(vec![Change { who, what }]).await.unwrap();
        say(one, profile(0)).await;
        assert!(matches!(at_home(one), Found::Word(_)));
        say(other, profile(1)).await;
        assert_eq!((at_home(one), at_home(other)), (Found::Ask, Found::Ask));
        assert_eq!(store.find(other).await.unwrap().unwrap().id, ResidentId(8));
        // A later status keeps the mark.
        say(one, status(0, Reason::Suspected, 1, true)).await;
        assert_eq!(at_home(one), Found::Ask);
        let red = Reasons::NONE.with(Reason::Suspected);
        assert_eq!(board.word(one.home).unwrap().reasons(), red);
        let other = store.find(other).await.unwrap().unwrap();
        assert_eq!(other.record.reasons(), Reasons::NONE);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_highest_number_of_a_source_wins_in_any_order_and_once() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let orders = [
            [1, 2, 3],
            [1, 3, 2],
            [2, 1, 3],
            [2, 3, 1],
            [3, 1, 2],
            [3, 2, 1],
        ];
        let suspected = |n, seq| change(n, status(n, Reason::Suspected, seq, seq == 3));
        for (n, order) in orders.into_iter().enumerate() {
            let n = n as u64;
            let mut newest = 0;
            for seq in order {
                let changed = store.apply(vec![suspected(n, seq)]).await.unwrap();
                assert_eq!(
                    changed,
                    [ChangeOutcome::from(seq > newest)],
                    "{seq} of {order:?}"
                );
                newest = newest.max(seq);
            }
            assert!(reasons(&*store, n).await.has(Reason::Suspected));
        }
        // All at once, and all of it again.
        let batch = || {
            let orders = orders.into_iter().enumerate();
            let each =
                orders.flat_map(|(n, order)| order.map(|seq| suspected(n as u64 + 100, seq)));
            each.collect::<Vec<_>>()
        };
        let rising = [[true, true, true], [true, true, false], [true, false, true]];
        let falling = [
            [true, true, false],
            [true, false, false],
            [true, false, false],
        ];
        let expected = [rising, falling].concat().concat();
        let expected: Vec<ChangeOutcome> = expected.into_iter().map(Into::into).collect();
        assert_eq!(store.apply(batch()).await.unwrap(), expected);
        assert_eq!(store.apply(batch()).await.unwrap(), [Unchanged; 18]);
        for n in 100..106 {
            assert!(reasons(&*store, n).await.has(Reason::Suspected));
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_reason_stays_while_any_source_has_it_set() {
    over_both(async |place| {
        let board = board();
        let store = place.open(64, &board).await;
        let by =
            |source, seq, active| change(1, said(1, Reason::CloseContact, source, seq, active));
        let at_home = || board.find(who(1).home, who(1).check());
        let both = vec![by("gd-cdc", 9, true), by("gz-cdc", 1, true)];
        assert_eq!(store.apply(both).await.unwrap(), [Applied; 2]);
        for (source, seq, red) in [("gd-cdc", 10, true), ("gz-cdc", 2, false)] {
            store.apply(vec![by(source, seq, false)]).await.unwrap();
            assert_eq!(reasons(&*store, 1).await != Reasons::NONE, red);
            assert!(
                matches!(at_home(), Found::Word(word) if (word.reasons() != Reasons::NONE) == red)
            );
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_changes_nothing_makes_no_new_version() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let changes = || {
            let red = change(1, status(1, Reason::Confirmed, 1, true));
            vec![change(1, profile(1)), red, change(2, profile(2))]
        };
        assert_eq!(store.apply(changes()).await.unwrap(), [Applied; 3]);
        let before = store.find(who(1)).await.unwrap().unwrap();
        assert_eq!(store.apply(changes()).await.unwrap(), [Unchanged; 3]);
        assert_eq!(store.find(who(1)).await.unwrap().unwrap().word, before.word);
        // A new profile does, and leaves the reasons.
        store.apply(vec![change(1, profile(7))]).await.unwrap();
        let after = store.find(who(1)).await.unwrap().unwrap();
        assert!(after.word.version() > before.word.version());
        assert_eq!(after.word.reasons(), before.word.reasons());
        assert_eq!(after.record.profile[..], 7u64.to_be_bytes());
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn thousands_at_once_are_all_found_and_each_fills_the_board_once() {
    const EACH: u64 = 5_000;
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        // In Redis each time several splits a partition, and then some more by the few.
        for batch in [0..EACH, EACH..2 * EACH] {
            let batch = batch.map(|n| change(n, profile(n))).collect();
            assert_eq!(store.apply(batch).await.unwrap(), [Applied; EACH as usize]);
        }
        for few in (2 * EACH..2 * EACH + 500).collect::<Vec<_>>().chunks(5) {
            let few = few.iter().map(|n| change(*n, profile(*n))).collect();
            assert_eq!(store.apply(few).await.unwrap(), [Applied; 5]);
        }
        let reds = (0..2 * EACH).step_by(100);
        let reds = reds.map(|n| change(n, status(n, Reason::Confirmed, 1, true)));
        store.apply(reds.collect()).await.unwrap();
        store.close().await;
        drop(store);

        let all = 2 * EACH + 500;
        let (store, board, told) = place.filled().await;
        assert_eq!((board.residents(), told), (all, all));
        assert_eq!(store.residents().await.unwrap(), all);
        for n in 0..all {
            let placed = store.find(who(n)).await.unwrap().expect("on record");
            assert_eq!(placed.record.profile[..], n.to_be_bytes());
            assert_eq!(board.word(placed.id), Some(placed.word));
            let red = n % 100 == 0 && n < 2 * EACH;
            assert_eq!(placed.word.reasons() != Reasons::NONE, red);
        }
        store.close().await;
        drop(store);
        assert_eq!(place.records(64).await.len() as u64, all);
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_store_belongs_to_one_ring() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        store.apply(vec![change(1, profile(1))]).await.unwrap();
        store.close().await;
        drop(store);
        let foreign = place.try_open([1; 16], 64).await;
        assert!(matches!(foreign, Err(Error::ForeignRing(_))));
    });
}

/// What a test may say: of whom, what, and whether a new batch begins with it.
type Saying = (u64, u8, u8, u64, bool, (u64, u32, u32), bool);

fn sayings() -> impl Strategy<Value = Vec<Saying>> {
    let seq = prop_oneof![
        1u64..6,
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| (1u64 << bit) - 1),
        Just(u64::MAX),
    ];
    let rest = (any::<u64>(), 0u32..=u32::MAX, 0u32..=u32::MAX);
    let saying = (
        0u64..40,
        0u8..8,
        0u8..4,
        seq,
        any::<bool>(),
        rest,
        prop::bool::weighted(0.2),
    );
    prop::collection::vec(saying, 1..250)
}

fn change_of(saying: &Saying) -> Change {
    let (n, reason, source, seq, active, (at, until, region), _) = saying;
    let Some(reason) = Reason::from_bits(*reason) else {
        // Of any length, none included.
        let length = (seq % 300) as usize;
        return change(*n, ChangeKind::Profile(vec![*source; length].into()));
    };
    let long = "s".repeat(64);
    let assertion = Assertion {
        reason,
        source: ["gd-cdc", "gz-cdc", "g", &long][usize::from(*source)].into(),
        seq: *seq,
        active: *active,
        at: Time(*at),
        until: Some(*until).filter(|until| *until != 0),
        region: Some(*region).filter(|region| *region != 0),
    };
    change(*n, ChangeKind::Status(assertion, n.to_be_bytes().into()))
}

/// A dozen cases: each empties a Redis and makes a folder.
fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_same_batches_end_in_the_same_records_in_both_stores() {
    let place = Place::redis();
    let runtime = runtime();
    let bits = prop_oneof![Just(64u32), Just(6u32)];
    let run = runner().run(&(sayings(), bits), |(sayings, bits)| {
        assert_eq!(place.server().ask(&["FLUSHALL"]), "OK");
        let twin = Place::Folder(folder());
        runtime.block_on(async {
            let stores = [
                place.open(bits, &board()).await,
                twin.open(bits, &board()).await,
            ];
            for batch in sayings.chunk_by(|_, next| !next.6) {
                let batch: Vec<Change> = batch.iter().map(change_of).collect();
                let mut changed = Vec::new();
                for store in &stores {
                    changed.push(store.apply(batch.clone()).await.unwrap());
                }
                prop_assert_eq!(&changed[0], &changed[1]);
            }
            for store in stores {
                store.close().await;
            }
            let (in_redis, embedded) = (place.records(bits).await, twin.records(bits).await);
            prop_assert_eq!(in_redis.len(), embedded.len());
            for (claim, (_, record)) in &embedded {
                // Who of two came first to a home is the order of the batch there, and that of the ids here.
                prop_assert_eq!(&in_redis[claim].1, record);
            }
            Ok(())
        })
    });
    run.unwrap();
}
