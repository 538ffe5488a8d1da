//! The embedded store alone: collisions, restarts, bulk loads against single ones.

use super::commit::commit;
use super::file::{FILE, META, RESIDENTS};
use super::slot::fill_part;
use super::*;
use crate::board::Found;
use crate::paper::{Paper, PaperKinds};
use crate::seal::tags::StatusTags;
use crate::status::{Reason, Reasons};
use crate::store::change::ChangeKind;
use crate::store::change::ChangeOutcome::{Applied, Unchanged};
use crate::store::record::Assertion;
use proptest::prelude::*;
use redb::ReadableTable;
use std::collections::HashMap;
use std::path::Path;

const MARK: [u8; 16] = [9; 16];

fn tags() -> StatusTags {
    StatusTags::of_secret(&[9; 32])
}

fn who(n: u64) -> Identity {
    // A well spread stand-in for a keyed hash.
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
    ChangeKind::Status(
        Assertion {
            reason,
            source: "gd-cdc".into(),
            seq,
            active,
            at: Time(seq),
            until: None,
            region: None,
        },
        n.to_be_bytes().into(),
    )
}

fn settings(folder: &Path, home_bits: u32) -> Settings {
    Settings {
        home_bits,
        cache_bytes: 16 << 20,
        ..Settings::new(folder.to_owned())
    }
}

fn board() -> Arc<Board> {
    let board = Board::new(
        0,
        crate::board::Settings {
            stale_after: Duration::from_secs(2),
            too_old_after: Duration::from_secs(30),
            shards: 16,
        },
    );
    board.confirm(crate::clock::Moment::now());
    Arc::new(board)
}

/// What the board says of a document whose id was made of it alone.
fn at_home(board: &Board, who: &Identity) -> Found {
    board.find(who.home, who.check())
}

fn change(n: u64, what: ChangeKind) -> Change {
    Change { who: who(n), what }
}

#[tokio::test]
async fn residents_who_share_a_home_never_share_an_id() {
    // 300 residents on 256 homes: every home is fought over.
    let folder = tempfile::tempdir().unwrap();
    let board = board();
    let store = OpenedEmbedded::open(settings(folder.path(), 8), MARK, tags())
        .unwrap()
        .start(board.clone(), Arc::default());
    for n in 0..200 {
        let what = if n % 3 == 0 {
            status(n, Reason::Confirmed, 1, true)
        } else {
            profile(n)
        };
        assert_eq!(store.apply(vec![change(n, what)]).await.unwrap(), [Applied]);
    }
    let mut ids = HashMap::new();
    for n in 0..200 {
        let placed = store.find(who(n)).await.unwrap().unwrap();
        assert_eq!(ids.insert(placed.id, n), None);
        assert_eq!(placed.record.profile[..], n.to_be_bytes());
        let red = !placed.record.reasons().colour().word().eq("green");
        assert_eq!(red, n % 3 == 0);
        // Whoever looks at the home with this resident's check bits finds this resident's word, or is told to ask.
        let home = shorten(who(n), 8).home;
        match board.find(home, who(n).check()) {
            Found::Word(word) => {
                assert_eq!(placed.steps, 0);
                assert_eq!(word.reasons(), placed.record.reasons());
            }
            found => assert_eq!(found, Found::Ask),
        }
    }
    assert!(ids.len() == 200 && board.residents() == 200);
    store.close().await;
}

#[tokio::test]
async fn two_with_one_home_and_one_check_are_told_apart_by_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let board = board();
    let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags())
        .unwrap()
        .start(board.clone(), Arc::default());
    let one = Identity {
        home: ResidentId(7),
        claim: [5; 16],
    };
    let mut other = one;
    other.claim[15] = 6;
    assert_eq!(one.check(), other.check());
    let green = |who| Change {
        who,
        what: profile(0),
    };
    store.apply(vec![green(one)]).await.unwrap();
    assert!(matches!(at_home(&board, &one), Found::Word(_)));
    store.apply(vec![green(other)]).await.unwrap();
    assert_eq!(at_home(&board, &one), Found::Ask);
    assert_eq!(at_home(&board, &other), Found::Ask);
    assert_eq!(store.find(other).await.unwrap().unwrap().id, ResidentId(8));
    // A later status keeps the mark.
    let red = Change {
        who: one,
        what: status(0, Reason::Suspected, 1, true),
    };
    store.apply(vec![red]).await.unwrap();
    assert_eq!(at_home(&board, &one), Found::Ask);
    assert!(
        board
            .word(ResidentId(7))
            .unwrap()
            .reasons()
            .has(Reason::Suspected)
    );
    store.close().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags())
            .unwrap()
            .start(board(), Arc::default());
        let batch = (0..1000).map(|n| change(n, profile(n))).collect();
        store.apply(batch).await.unwrap();
        let red = vec![change(5, status(5, Reason::CloseContact, 9, true))];
        assert_eq!(store.apply(red.clone()).await.unwrap(), [Applied]);
        assert_eq!(store.apply(red).await.unwrap(), [Unchanged]);
        store.close().await;
        assert!(matches!(store.apply(vec![]).await, Err(Error::Closed)));
    }
    let again = board();
    let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags())
        .unwrap()
        .start(again.clone(), Arc::default());
    store.fill(Arc::new(|_| ())).await.unwrap();
    assert_eq!(again.residents(), 1000);
    let Found::Word(word) = at_home(&again, &who(5)) else {
        panic!("on the board");
    };
    assert_eq!(word.reasons(), Reasons::NONE.with(Reason::CloseContact));
    store.close().await;
}

#[tokio::test]
async fn what_reached_the_disk_by_a_commit_that_failed_is_on_the_board_once_the_store_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let opened = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()).unwrap();
    let board = board();
    let writer = CommitWriter {
        slot: Arc::new(DatabaseSlot {
            db: RwLock::new(Some(opened.db)),
            settings: opened.settings,
            tags: tags(),
            metrics: Arc::default(),
            reopenings: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }),
        board: board.clone(),
        metrics: Arc::default(),
        home_bits: 64,
        note: RefCell::new(CommitNote::new(folder.path())),
        is_believed: true,
    };
    let say = |what| {
        let (done, outcome) = oneshot::channel();
        writer.commit(vec![(vec![change(5, what)], done)]).unwrap();
        outcome
    };
    assert_eq!(say(profile(5)).await.unwrap().unwrap(), [Applied]);
    // The disk took this one, and the error came after: nobody posted it.
    let red = status(5, Reason::Confirmed, 1, true);
    let unposted = vec![(who(5), red.clone())];
    writer
        .slot
        .with(|db| commit(db, &tags(), unposted))
        .unwrap();
    assert!(
        matches!(at_home(&board, &who(5)), Found::Word(word) if word.reasons() == Reasons::NONE)
    );
    writer.recover().unwrap();
    assert_eq!(say(red).await.unwrap().unwrap(), [Unchanged]);
    let confirmed = Reasons::NONE.with(Reason::Confirmed);
    assert!(matches!(at_home(&board, &who(5)), Found::Word(word) if word.reasons() == confirmed));
}

#[test]
fn a_store_belongs_to_one_process_and_one_ring() {
    let folder = tempfile::tempdir().unwrap();
    let first = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()).unwrap();
    assert!(matches!(
        OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()),
        Err(Error::InUse(_))
    ));
    drop(first);
    assert!(matches!(
        OpenedEmbedded::open(settings(folder.path(), 64), [1; 16], tags()),
        Err(Error::ForeignRing(_))
    ));
}

/// Returns what a start with this file says of each resident: the reasons; None if it is not known who the resident is.
fn told_of(folder: &Path, residents: u64) -> Result<Vec<Result<Option<Reasons>, Error>>, Error> {
    let store = OpenedEmbedded::open(settings(folder, 64), MARK, tags())?;
    let board = board();
    fill_part(&store.db, &tags(), &board, 0..=u64::MAX, &|_| ())?;
    board.fill_done();
    let told = |n| {
        let found = find(&store.db, &tags(), &who(n));
        match at_home(&board, &who(n)) {
            // The desk reads the record where gates read the word: both must be right.
            Found::Word(word) => match found {
                Ok(Some(placed)) if placed.record.reasons() != word.reasons() => {
                    Ok(Some(Reasons::NONE))
                }
                _ => Ok(Some(word.reasons())),
            },
            Found::Absent => {
                // Who logs in and is not known is on record from then on, and green.
                let logged_in = commit(&store.db, &tags(), vec![(who(n), profile(n))])?;
                match logged_in.outcomes[..] {
                    [ChangeOutcome::Unreadable] => Ok(None),
                    _ => Ok(find(&store.db, &tags(), &who(n))?.map(|it| it.record.reasons())),
                }
            }
            _ => found.map(|placed| placed.map(|placed| placed.record.reasons())),
        }
    };
    Ok((0..residents).map(told).collect())
}

#[test]
fn a_bit_that_flips_in_the_file_is_noticed_or_changes_nothing() {
    const RESIDENTS: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let confirmed = Reasons::NONE.with(Reason::Confirmed);
    let rows: Vec<Vec<u8>> = {
        let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()).unwrap();
        let said = (0..RESIDENTS).map(|n| (who(n), status(n, Reason::Confirmed, 1, true)));
        commit(&store.db, &tags(), said.collect()).unwrap();
        let txn = store.db.begin_read().unwrap();
        let words = txn.open_table(WORDS).unwrap();
        let residents = txn.open_table(file::RESIDENTS).unwrap();
        let words = words.iter().unwrap().flat_map(|row| {
            let (id, word) = row.unwrap();
            [
                id.value().to_le_bytes().to_vec(),
                word.value().to_le_bytes().to_vec(),
            ]
        });
        let residents = residents
            .iter()
            .unwrap()
            .map(|row| row.unwrap().1.value().to_vec());
        words.chain(residents).collect()
    };
    let path = folder.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    // Every byte of every row, wherever the file has it.
    let bytes: Vec<usize> = rows
        .iter()
        .flat_map(|row| {
            let found = whole.windows(row.len()).enumerate();
            let found = found.filter(move |(_, bytes)| bytes == row);
            found.flat_map(|(at, row)| at..at + row.len())
        })
        .collect();
    assert!(
        bytes.len() > 40 * (8 + 16 + 60),
        "rows are found in the file"
    );
    let (mut noticed, mut seed) = (0, 7u64);
    for _ in 0..400 {
        seed = seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let (at, bit) = (bytes[(seed >> 33) as usize % bytes.len()], seed >> 20 & 7);
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1 << bit;
        std::fs::write(&path, &spoilt).unwrap();
        // redb panics at some of what it cannot read; that is a refusal too.
        let told = std::panic::catch_unwind(|| told_of(folder.path(), RESIDENTS));
        let Ok(Ok(told)) = told else {
            noticed += 1;
            continue;
        };
        for (n, told) in told.into_iter().enumerate() {
            match told {
                Ok(Some(reasons)) => assert_eq!(reasons, confirmed, "{n}, bit {bit} of {at}"),
                Ok(None) | Err(_) => noticed += 1,
            }
        }
    }
    assert!(noticed > 0, "no flip met a row that is read");
}

#[test]
fn a_store_of_another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()).unwrap();
    let txn = store.db.begin_write().unwrap();
    let before = (FORMAT - 1).to_be_bytes();
    txn.open_table(META)
        .unwrap()
        .insert("format", &before[..])
        .unwrap();
    txn.commit().unwrap();
    drop(store);
    assert!(matches!(
        OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()),
        Err(Error::Format(_, older, FORMAT)) if older == FORMAT - 1
    ));
}

#[tokio::test]
async fn who_is_not_as_written_is_not_told_and_nobody_else_suffers() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags()).unwrap();
        let said = (0..3).map(|n| (who(n), status(n, Reason::Confirmed, 1, true)));
        commit(&store.db, &tags(), said.collect()).unwrap();
        let txn = store.db.begin_write().unwrap();
        {
            let mut words = txn.open_table(WORDS).unwrap();
            let id = who(1).home.0;
            let word = words.get(id).unwrap().unwrap().value();
            // The reason is taken out.
            words.insert(id, word ^ 1 << 64).unwrap();
        }
        txn.commit().unwrap();
    }
    let (board, metrics) = (board(), Arc::<StoreMetrics>::default());
    let store = OpenedEmbedded::open(settings(folder.path(), 64), MARK, tags())
        .unwrap()
        .start(board.clone(), metrics.clone());
    store.fill(Arc::new(|_| ())).await.unwrap();
    board.fill_done();
    assert_eq!(metrics.damaged.load(Relaxed), 1);
    assert_eq!(at_home(&board, &who(1)), Found::Ask);
    assert!(matches!(store.find(who(1)).await, Err(Error::Damaged(_))));
    assert!(matches!(
        store.word(who(1).home).await,
        Err(Error::Damaged(_))
    ));
    // A new session or a later message cannot make it good unseen.
    for what in [profile(1), status(1, Reason::Confirmed, 2, false)] {
        assert!(store.apply(vec![change(1, what.clone())]).await.is_err());
        let beside = change(3, profile(3));
        let outcomes = store.ingest(vec![change(1, what), beside]).await.unwrap();
        assert_eq!(outcomes[0], ChangeOutcome::Unreadable);
        assert_ne!(outcomes[1], ChangeOutcome::Unreadable);
    }
    assert_eq!(at_home(&board, &who(1)), Found::Ask);
    assert_eq!(metrics.damaged.load(Relaxed), 7);
    for n in [0, 2] {
        assert!(matches!(at_home(&board, &who(n)), Found::Word(_)));
        let clear = change(n, status(n, Reason::Confirmed, 2, false));
        assert_eq!(store.apply(vec![clear]).await.unwrap(), [Applied]);
    }
    store.close().await;
}

fn paper(key: u8, at: u64) -> Paper {
    Paper {
        kind: crate::paper::PaperKind::Temperature,
        key: [key; 16],
        at: Time(at),
        body: [key, 1, 2].into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_bulk_load_ends_where_single_changes_end(
        events in proptest::collection::vec((0u64..60, 0u8..9, 1u64..5, any::<bool>()), 1..300),
        cut in 0usize..300,
        home_bits in prop_oneof![Just(64u32), Just(6u32)],
    ) {
        let changes: Vec<Change> = events
            .iter()
            .map(|(n, reason, seq, active)| match Reason::from_bits(*reason) {
                // One number of a source is one event.
                Some(reason) => change(*n, status(*n, reason, *seq * 2 + u64::from(*active), *active)),
                None if *reason == 6 => change(*n, profile(*n + seq)),
                None => change(*n, ChangeKind::Paper(paper(*seq as u8, *reason as u64))),
            })
            .collect();
        let cut = cut.min(changes.len());
        let (singly, bulk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let singly = OpenedEmbedded::open(settings(singly.path(), home_bits), MARK, tags()).unwrap();
        let single: Vec<ChangeOutcome> = changes
            .iter()
            .flat_map(|change| commit(&singly.db, &tags(), vec![(shorten(change.who, home_bits), change.what.clone())]).unwrap().outcomes)
            .collect();
        let bulk = OpenedEmbedded::open(settings(bulk.path(), home_bits), MARK, tags()).unwrap();
        let mut applied = 0;
        for part in [&changes[..cut], &changes[cut..]] {
            // Runs of a few changes, so that they are merged.
            let mut load = bulk.bulk(600).unwrap();
            for change in part {
                load.push(change.clone()).unwrap();
            }
            applied += load.finish(|_| ()).unwrap().applied;
        }
        prop_assert_eq!(applied, single.iter().filter(|outcome| outcome.is_applied()).count() as u64);
        let all = |store: &OpenedEmbedded| {
            let mut all = Vec::new();
            store.each(|id, mut record| {
                record.assertions.sort_by_key(|assertion| (assertion.reason, assertion.seq));
                let txn = store.db.begin_read().unwrap();
                let word = word_at(&txn.open_table(WORDS).unwrap(), &tags(), id).unwrap().unwrap();
                all.push((record.claim, record.profile, record.assertions, word.reasons()));
                Ok(())
            }).unwrap();
            all.sort_by_key(|row| row.0);
            all
        };
        prop_assert_eq!(all(&singly), all(&bulk));
        let all_papers = |store: &OpenedEmbedded| {
            let mut all = Vec::new();
            store.each_paper(PaperKinds::ALL, |owner, paper| { all.push((owner, paper)); Ok(()) }).unwrap();
            all
        };
        prop_assert_eq!(all_papers(&singly), all_papers(&bulk));
    }
}

#[test]
fn the_page_about_upgrades_names_this_format() {
    let page = include_str!("../../../docs/operate/upgrade.md");
    assert!(page.contains(&format!("\n| embedded store | {FORMAT} |")));
}

#[tokio::test]
async fn damaged_rows_are_counted_when_all_is_sealed_anew_and_stay_as_they_are() {
    use crate::seal::ring::RingFile;
    use crate::store::reseal::until_settled;
    let folder = tempfile::tempdir().unwrap();
    let mut ring = RingFile::generate(Time(1));
    let seal = crate::seal::Seal::new(
        &ring,
        crate::seal::Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        },
    );
    let open = || {
        let opened = settings(folder.path(), 64);
        OpenedEmbedded::open(opened, seal.mark(), seal.status_tags()).unwrap()
    };
    let start = || open().start(board(), Arc::default());
    let store = start();
    // Profiles that were erased need no key.
    let changes = (0..600).map(|n| change(n, ChangeKind::Profile([].into())));
    store.apply(changes.collect()).await.unwrap();
    store.close().await;
    drop(store);
    let damaged = [3, 5, 9].map(|n| who(n).home.0);
    {
        let db = open().db;
        let txn = db.begin_write().unwrap();
        let mut words = txn.open_table(WORDS).unwrap();
        let mut residents = txn.open_table(RESIDENTS).unwrap();
        let word = words.get(damaged[0]).unwrap().unwrap().value();
        words.insert(damaged[0], word ^ 1 << 70).unwrap();
        let mut record = residents.get(damaged[1]).unwrap().unwrap().value().to_vec();
        record[0] ^= 1;
        residents.insert(damaged[1], &record[..]).unwrap();
        residents.insert(damaged[2], &b"short"[..]).unwrap();
        drop((words, residents));
        txn.commit().unwrap();
    }
    ring.rotate_rest(Time(2)).unwrap();
    seal.reload(&ring);
    let store = start();
    for is_first in [true, false] {
        let outcome = until_settled(&store, &|| seal.rest_seal(), &|_| true)
            .await
            .unwrap();
        assert!(outcome.is_settled && !outcome.is_whole(), "{outcome:?}");
        let unopened = [("record", 2), ("status", 1)];
        let unopened = unopened.map(|(what, count)| (what.to_owned(), count));
        assert_eq!(outcome.report.unopened, unopened.into());
        assert_eq!(outcome.report.records, 600);
        assert_eq!(outcome.report.sealed_anew, if is_first { 597 } else { 0 });
    }
    ring.drop_previous_rest(true).unwrap();
    seal.reload(&ring);
    for n in 0..600 {
        let found = store.find(who(n)).await;
        assert_eq!(found.is_err(), damaged.contains(&who(n).home.0), "{n}");
    }
    store.close().await;
}
