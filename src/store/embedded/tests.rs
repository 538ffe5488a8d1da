//! The embedded store alone: collisions, restarts, bulk loads against single ones.

use super::*;
use crate::board::Found;
use crate::paper::{Kinds, Paper};
use crate::status::{Reason, Reasons};
use crate::store::record::Standing;
use proptest::prelude::*;
use std::collections::HashMap;

const MARK: [u8; 16] = [9; 16];

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

fn profile(n: u64) -> What {
    What::Profile(n.to_be_bytes().into())
}

fn status(n: u64, reason: Reason, seq: u64, active: bool) -> What {
    What::Status(
        Standing {
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

fn change(n: u64, what: What) -> Change {
    Change { who: who(n), what }
}

#[tokio::test]
async fn residents_who_share_a_home_never_share_an_id() {
    // 300 residents on 256 homes: every home is fought over.
    let folder = tempfile::tempdir().unwrap();
    let board = board();
    let store = Opened::open(settings(folder.path(), 8), MARK)
        .unwrap()
        .start(board.clone(), Arc::default());
    for n in 0..200 {
        let what = if n % 3 == 0 {
            status(n, Reason::Confirmed, 1, true)
        } else {
            profile(n)
        };
        assert_eq!(store.apply(vec![change(n, what)]).await.unwrap(), [true]);
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
    let store = Opened::open(settings(folder.path(), 64), MARK)
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
        let store = Opened::open(settings(folder.path(), 64), MARK)
            .unwrap()
            .start(board(), Arc::default());
        let batch = (0..1000).map(|n| change(n, profile(n))).collect();
        store.apply(batch).await.unwrap();
        let red = vec![change(5, status(5, Reason::CloseContact, 9, true))];
        assert_eq!(store.apply(red.clone()).await.unwrap(), [true]);
        assert_eq!(store.apply(red).await.unwrap(), [false]);
        store.close().await;
        assert!(matches!(store.apply(vec![]).await, Err(Error::Closed)));
    }
    let again = board();
    let store = Opened::open(settings(folder.path(), 64), MARK)
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
    let opened = Opened::open(settings(folder.path(), 64), MARK).unwrap();
    let board = board();
    let writer = Writer {
        shelf: Arc::new(Shelf {
            db: RwLock::new(Some(opened.db)),
            settings: opened.settings,
        }),
        board: board.clone(),
        tally: Arc::default(),
        home_bits: 64,
    };
    let say = |what| {
        let (done, outcome) = oneshot::channel();
        writer.commit(vec![(vec![change(5, what)], done)]).unwrap();
        outcome
    };
    assert_eq!(say(profile(5)).await.unwrap().unwrap(), [true]);
    // The disk took this one, and the error came after: nobody posted it.
    let red = status(5, Reason::Confirmed, 1, true);
    let unposted = vec![(who(5), red.clone())];
    writer.shelf.with(|db| commit(db, unposted)).unwrap();
    assert!(
        matches!(at_home(&board, &who(5)), Found::Word(word) if word.reasons() == Reasons::NONE)
    );
    writer.recover().unwrap();
    assert_eq!(say(red).await.unwrap().unwrap(), [false]);
    let confirmed = Reasons::NONE.with(Reason::Confirmed);
    assert!(matches!(at_home(&board, &who(5)), Found::Word(word) if word.reasons() == confirmed));
}

#[test]
fn a_store_belongs_to_one_process_and_one_ring() {
    let folder = tempfile::tempdir().unwrap();
    let first = Opened::open(settings(folder.path(), 64), MARK).unwrap();
    assert!(matches!(
        Opened::open(settings(folder.path(), 64), MARK),
        Err(Error::InUse(_))
    ));
    drop(first);
    assert!(matches!(
        Opened::open(settings(folder.path(), 64), [1; 16]),
        Err(Error::ForeignRing(_))
    ));
}

#[tokio::test]
async fn a_file_of_before_there_were_papers_is_opened_and_gets_their_table() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = Opened::open(settings(folder.path(), 64), MARK).unwrap();
        commit(&store.db, vec![(who(1), profile(1))]).unwrap();
        let txn = store.db.begin_write().unwrap();
        assert!(txn.delete_table(papers::PAPERS).unwrap());
        txn.commit().unwrap();
    }
    let store = Opened::open(settings(folder.path(), 64), MARK).unwrap();
    assert_eq!(store.residents().unwrap(), 1);
    let store = store.start(board(), Arc::default());
    let paper = paper(3, 5);
    let filed = change(1, What::Paper(paper.clone()));
    assert_eq!(store.apply(vec![filed]).await.unwrap(), [true]);
    let found = store.papers(who(1), Kinds::ALL, None, 9).await.unwrap();
    assert_eq!(found, [paper]);
    store.close().await;
}

fn paper(key: u8, at: u64) -> Paper {
    Paper {
        kind: crate::paper::Kind::Temperature,
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
                None => change(*n, What::Paper(paper(*seq as u8, *reason as u64))),
            })
            .collect();
        let cut = cut.min(changes.len());
        let (singly, bulk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let singly = Opened::open(settings(singly.path(), home_bits), MARK).unwrap();
        let single: Vec<bool> = changes
            .iter()
            .flat_map(|change| commit(&singly.db, vec![(shorten(change.who, home_bits), change.what.clone())]).unwrap().changed)
            .collect();
        let bulk = Opened::open(settings(bulk.path(), home_bits), MARK).unwrap();
        let mut applied = 0;
        for part in [&changes[..cut], &changes[cut..]] {
            // Runs of a few changes, so that they are merged.
            let mut load = bulk.bulk(600).unwrap();
            for change in part {
                load.push(change.clone()).unwrap();
            }
            applied += load.finish(|_| ()).unwrap().applied;
        }
        prop_assert_eq!(applied, single.iter().filter(|changed| **changed).count() as u64);
        let all = |store: &Opened| {
            let mut all = Vec::new();
            store.each(|id, mut record| {
                record.standings.sort_by_key(|standing| (standing.reason, standing.seq));
                let txn = store.db.begin_read().unwrap();
                let word = txn.open_table(WORDS).unwrap().get(id.0).unwrap().unwrap().value();
                all.push((record.claim, record.profile, record.standings, Word::from_bits(word).unwrap().reasons()));
                Ok(())
            }).unwrap();
            all.sort_by_key(|row| row.0);
            all
        };
        prop_assert_eq!(all(&singly), all(&bulk));
        let all_papers = |store: &Opened| {
            let mut all = Vec::new();
            store.each_paper(|owner, paper| { all.push((owner, paper)); Ok(()) }).unwrap();
            all
        };
        prop_assert_eq!(all_papers(&singly), all_papers(&bulk));
    }
}
