//! Papers in both kinds of store: filed once, read newest first, swept, erased.

use super::{Opened, Place, board, change, over_both, profile, runner, runtime, status, who};
use crate::harness::folder;
use liangma::clock::Time;
use liangma::paper::{Cursor, Paper, PaperKind, PaperKinds, Retention};
use liangma::person::Identity;
use liangma::status::Reason;
use liangma::store::ChangeOutcome::{Applied, Conflict, Unchanged};
use liangma::store::{Change, ChangeKind, Error, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn paper(kind: PaperKind, key: u64, at: u64) -> Paper {
    let mut whole = [0; 16];
    whole[8..].copy_from_slice(&key.to_be_bytes());
    Paper {
        kind,
        key: whole,
        at: Time(at),
        body: key.to_be_bytes().into(),
    }
}

fn filed(n: u64, paper: &Paper) -> Change {
    change(n, ChangeKind::Paper(paper.clone()))
}

const DAY: Duration = Duration::from_secs(86_400);

async fn read(store: &dyn Store, n: u64) -> Vec<Paper> {
    let found = store.papers(who(n), PaperKinds::ALL, None, 10_000).await;
    found.expect("it can be read")
}

fn keep(days: u64) -> Retention {
    let same = DAY * days as u32;
    Retention {
        health: same,
        temperatures: same / 2,
        trips: same,
        declarations: same,
        arrangements: same,
        accesses: same,
    }
}

/// Every paper of every owner.
async fn all_papers(place: &Place, bits: u32) -> BTreeMap<(Identity, Cursor), Paper> {
    let mut all = BTreeMap::new();
    let each = |owner, paper: Paper| {
        let before = all.insert((owner, paper.cursor()), paper);
        assert_eq!(before, None, "each is told once");
        Ok(())
    };
    let left_out: Result<u64, Error> =
        match place.try_open(super::MARK, bits).await.expect("it opens") {
            Opened::Embedded(opened) => opened.each_paper(PaperKinds::ALL, each),
            Opened::Redis(opened) => opened.each_paper(PaperKinds::ALL, each).await,
        };
    assert_eq!(left_out.expect("it can be read"), 0);
    all
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn papers_are_there_after_closing_and_opening_again_the_newest_first() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        // Also of people who are not on record, and who are not made residents by it.
        let papers: Vec<Paper> = [30, 10, 50, 20, 40]
            .into_iter()
            .map(|at| paper(PaperKind::Temperature, at, at))
            .collect();
        let mut batch: Vec<Change> = papers.iter().map(|paper| filed(1, paper)).collect();
        batch.push(change(2, profile(2)));
        batch.push(filed(2, &papers[0]));
        assert_eq!(store.apply(batch).await.unwrap(), [Applied; 7]);
        store.close().await;
        drop(store);

        let (store, board, told) = place.filled().await;
        assert_eq!((board.residents(), told), (1, 1));
        let times: Vec<u64> = read(&*store, 1)
            .await
            .iter()
            .map(|paper| paper.at.0)
            .collect();
        assert_eq!(times, [50, 40, 30, 20, 10]);
        assert_eq!(read(&*store, 2).await, [papers[0].clone()]);
        assert_eq!(read(&*store, 3).await, []);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_first_paper_with_a_key_stays_whatever_comes_after_it() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let first = paper(PaperKind::Certificate, 7, 100);
        let later = Paper {
            at: Time(999),
            body: [1, 2, 3].into(),
            ..first.clone()
        };
        let both = vec![filed(1, &first), filed(1, &later), filed(2, &later)];
        assert_eq!(
            store.apply(both).await.unwrap(),
            [Applied, Conflict, Applied]
        );
        assert_eq!(
            store.apply(vec![filed(1, &later)]).await.unwrap(),
            [Conflict]
        );
        assert_eq!(read(&*store, 1).await, [first]);
        assert_eq!(read(&*store, 2).await, [later]);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_reader_pages_through_everything_once_and_of_some_kinds_alone() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        // Several at the same time: the key decides between them.
        let papers: Vec<Paper> = (0..100)
            .map(|n| match n % 3 {
                0 => paper(PaperKind::Trip, n, 1_000 + n / 10),
                _ => paper(PaperKind::Temperature, n << 40, 1_000 + n / 10),
            })
            .collect();
        let batch = papers.iter().map(|paper| filed(1, paper)).collect();
        store.apply(batch).await.unwrap();
        for (kinds, count) in [
            (PaperKinds::ALL, 100),
            (PaperKinds::of(&[PaperKind::Trip]), 34),
            (
                PaperKinds::of(&[PaperKind::Temperature, PaperKind::Notice]),
                66,
            ),
            (PaperKinds::of(&[PaperKind::Audit]), 0),
        ] {
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let page = store.papers(who(1), kinds, after, 7).await.unwrap();
                assert!(page.len() <= 7);
                let Some(last) = page.last() else { break };
                after = Some(last.cursor());
                seen.extend(page);
            }
            assert_eq!(seen.len(), count);
            assert!(seen.is_sorted_by(|a, b| a.cursor() > b.cursor()));
            assert!(seen.iter().all(|paper| kinds.has(paper.kind)));
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn past_the_most_of_a_kind_the_oldest_goes_whatever_order_they_come_in() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let most = u64::from(PaperKind::Trip.most());
        store
            .apply(vec![filed(1, &paper(PaperKind::Notice, 1 << 50, 1))])
            .await
            .unwrap();
        // Every other one first, then those between.
        for half in 0..2 {
            let filed = |n| filed(1, &paper(PaperKind::Trip, n * 2 + half, 100 + n * 2 + half));
            store.apply((0..most).map(filed).collect()).await.unwrap();
        }
        let papers = read(&*store, 1).await;
        assert_eq!(papers.len() as u64, most + 1);
        let trips: Vec<u64> = papers
            .iter()
            .rev()
            .skip(1)
            .map(|paper| paper.at.0)
            .collect();
        assert!(trips.into_iter().eq(100 + most..100 + 2 * most));
        // Older than all that are there: nothing happens, however often.
        let old = filed(1, &paper(PaperKind::Trip, 5, 50));
        assert_eq!(store.apply(vec![old]).await.unwrap(), [Unchanged]);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn no_paper_of_a_kind_that_ends_something_is_removed_for_another() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let kinds = [PaperKind::GrantGone, PaperKind::Entry];
        for (nth, kind) in (0u64..).zip(kinds) {
            let filed = |n| filed(1, &paper(kind, nth * 10_000 + n, 100 + n));
            for part in 0..5 {
                let some = (part * 900..(part + 1) * 900).map(filed).collect();
                store.apply(some).await.unwrap();
            }
        }
        assert_eq!(read(&*store, 1).await.len(), 9_000);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_owner_of_many_papers_is_the_same_in_both_stores_and_swept_in_steps() {
    let place = Place::redis();
    let runtime = runtime();
    // Two owners, so that each passes the size from which Redis keeps an index, and comes back below it.
    let one = (0u64..2, 0usize..5, 0u64..900, 0u64..3_000);
    let strategy = prop::collection::vec(prop::collection::vec(one, 1..400), 1..8);
    let run = runner().run(&strategy, |batches| {
        assert_eq!(place.server().ask(&["FLUSHALL"]), "OK");
        let twin = Place::Folder(folder());
        runtime.block_on(async {
            let stores = [
                place.open(64, &board()).await,
                twin.open(64, &board()).await,
            ];
            for (nth, batch) in (1u64..).zip(&batches) {
                let kinds = [
                    PaperKind::Trip,
                    PaperKind::Temperature,
                    PaperKind::Entry,
                    PaperKind::GrantGone,
                    PaperKind::Audit,
                ];
                let mut changes: Vec<Change> = batch
                    .iter()
                    .map(|(n, kind, key, at)| filed(*n, &paper(kinds[*kind], *key, *at)))
                    .collect();
                if nth % 5 == 0 {
                    changes.insert(batch.len() / 2, change(0, ChangeKind::Erase));
                }
                let (mut changed, mut swept) = (Vec::new(), Vec::new());
                for store in &stores {
                    changed.push(store.apply(changes.clone()).await.unwrap());
                    let keep = keep(0);
                    let now = Time(nth * 200);
                    swept.push(store.sweep(&keep, now, Duration::ZERO).await.unwrap());
                }
                prop_assert_eq!(&changed[0], &changed[1]);
                prop_assert_eq!(swept[0], swept[1]);
                for n in 0..2 {
                    let mut all = Vec::new();
                    for store in &stores {
                        let mut after = None;
                        let mut seen = Vec::new();
                        loop {
                            let kinds = PaperKinds::of(&kinds[..4]);
                            let page = store.papers(who(n), kinds, after, 37).await.unwrap();
                            let Some(last) = page.last() else { break };
                            after = Some(last.cursor());
                            seen.extend(page);
                        }
                        let keys: Vec<_> =
                            (0..900).map(|key| paper(kinds[0], key, 0).key).collect();
                        let some = store.some(who(n), &keys).await.unwrap();
                        all.push((seen, some));
                    }
                    prop_assert_eq!(&all[0], &all[1]);
                }
            }
            for store in stores {
                store.close().await;
            }
            prop_assert_eq!(all_papers(&place, 64).await, all_papers(&twin, 64).await);
            Ok(())
        })
    });
    run.unwrap();
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_index_that_lost_a_member_hides_no_paper_and_is_made_anew() {
    let place = Place::redis();
    runtime().block_on(async {
        let store = place.open(64, &board()).await;
        let filed_at = |at| filed(1, &paper(PaperKind::Entry, at, at));
        store.apply((0..200).map(filed_at).collect()).await.unwrap();
        let lose = "local key = redis.call('KEYS', 'lm:*:i*')[1] return redis.call('ZREMRANGEBYRANK', key, 5, 9)";
        let size = "local key = redis.call('KEYS', 'lm:*:i*')[1] return redis.call('ZCARD', key)";
        let eval = |script| place.server().ask(&["EVAL", script, "0"]);
        assert_eq!((eval(size), eval(lose), eval(size)), ("200".into(), "5".into(), "195".into()));
        assert_eq!(read(&*store, 1).await.len(), 200);
        store.apply(vec![filed_at(200)]).await.unwrap();
        assert_eq!(eval(size), "201");
        assert_eq!(read(&*store, 1).await.len(), 201);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn papers_are_found_by_their_keys_in_the_order_asked() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let papers: Vec<Paper> = (0..1_200).map(|n| paper(PaperKind::Entry, n, n)).collect();
        let batch = papers.iter().map(|paper| filed(1, paper)).collect();
        store.apply(batch).await.unwrap();
        let unknown = paper(PaperKind::Entry, 5_000, 1);
        let asked = papers.iter().rev().chain([&unknown]);
        let keys: Vec<_> = asked.map(|paper| paper.key).collect();
        let found = store.some(who(1), &keys).await.unwrap();
        let expected = papers.iter().rev().cloned().map(Some).chain([None]);
        assert!(found.into_iter().eq(expected));
        assert_eq!(store.some(who(2), &keys[..1]).await.unwrap(), [None]);
        assert_eq!(store.some(who(1), &[]).await.unwrap(), []);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_is_past_its_time_is_swept_and_nothing_else() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let now = Time::now();
        let ago = |days: u64| now.0 - days * 86_400_000 - 1_000;
        let owners = 0..3_000;
        for some in owners.clone().collect::<Vec<_>>().chunks(1_000) {
            let each = some.iter().flat_map(|n| {
                [
                    filed(*n, &paper(PaperKind::Temperature, 1, ago(11))),
                    filed(*n, &paper(PaperKind::Temperature, 2, ago(9))),
                    filed(*n, &paper(PaperKind::Trip, 3, ago(11))),
                    filed(*n, &paper(PaperKind::Trip, 4, ago(21))),
                ]
            });
            store.apply(each.collect()).await.unwrap();
        }
        for swept in [2 * 3_000, 0] {
            assert_eq!(store.sweep(&keep(20), now, DAY).await.unwrap(), swept);
        }
        for n in owners {
            let keys: Vec<u8> = read(&*store, n)
                .await
                .iter()
                .map(|paper| paper.key[15])
                .collect();
            assert_eq!(keys, [2, 3]);
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn of_two_nodes_over_one_redis_one_sweeps() {
    let place = Place::redis();
    runtime().block_on(async {
        let (one, other) = (
            place.open(64, &board()).await,
            place.open(64, &board()).await,
        );
        let now = Time::now();
        let old = |key: u64| -> Vec<Change> {
            let at = now.0 - 30 * 86_400_000;
            let each = (0..500).map(|n| filed(n, &paper(PaperKind::Trip, key, at)));
            each.collect()
        };
        one.apply(old(1)).await.unwrap();
        let sweep = async |store: &dyn Store, every| store.sweep(&keep(20), now, every).await;
        assert_eq!(sweep(&*one, DAY).await.unwrap(), 500);
        one.apply(old(2)).await.unwrap();
        assert_eq!(sweep(&*other, DAY).await.unwrap(), 0);
        // Whoever has the turn may use it again, and leaves it to the other in time.
        assert_eq!(sweep(&*one, Duration::ZERO).await.unwrap(), 500);
        one.apply(old(3)).await.unwrap();
        assert_eq!(sweep(&*other, DAY).await.unwrap(), 500);
        one.close().await;
        other.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn an_owner_who_is_erased_leaves_the_numbers_of_sources_and_nothing_of_the_person() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let batch = vec![
            change(1, profile(1)),
            change(1, status(1, Reason::Suspected, 3, true)),
            change(1, status(1, Reason::Suspected, 4, false)),
            filed(1, &paper(PaperKind::Trip, 1, 1)),
            filed(2, &paper(PaperKind::Trip, 1, 1)),
        ];
        store.apply(batch).await.unwrap();
        let erase = |n| vec![change(n, ChangeKind::Erase)];
        assert_eq!(store.apply(erase(1)).await.unwrap(), [Applied]);
        assert_eq!(store.apply(erase(1)).await.unwrap(), [Unchanged]);
        assert_eq!(store.apply(erase(3)).await.unwrap(), [Unchanged]);
        assert_eq!(read(&*store, 1).await, []);
        assert_eq!(read(&*store, 2).await.len(), 1);
        let record = store.find(who(1)).await.unwrap().unwrap().record;
        assert!(record.profile.is_empty());
        // An older message brings nothing back.
        let old = change(1, status(1, Reason::Suspected, 3, true));
        assert_eq!(store.apply(vec![old]).await.unwrap(), [Unchanged]);
        assert!(store.find(who(3)).await.unwrap().is_none());
        // In one batch, in its order.
        let batch = vec![
            filed(1, &paper(PaperKind::Trip, 1, 1)),
            change(1, ChangeKind::Erase),
            filed(1, &paper(PaperKind::Trip, 2, 2)),
        ];
        assert_eq!(store.apply(batch).await.unwrap(), [Applied; 3]);
        let keys: Vec<u8> = read(&*store, 1)
            .await
            .iter()
            .map(|paper| paper.key[15])
            .collect();
        assert_eq!(keys, [2]);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn the_same_papers_end_the_same_in_both_stores_whatever_is_filed_erased_and_said() {
    let place = Place::redis();
    let runtime = runtime();
    let one = (
        0u64..12,
        0u8..22,
        0u64..30,
        0u64..1 << 48,
        prop::bool::weighted(0.2),
    );
    let strategy = prop::collection::vec(one, 1..200);
    let run = runner().run(&strategy, |sayings| {
        assert_eq!(place.server().ask(&["FLUSHALL"]), "OK");
        let twin = Place::Folder(folder());
        runtime.block_on(async {
            let stores = [
                place.open(64, &board()).await,
                twin.open(64, &board()).await,
            ];
            for batch in sayings.chunk_by(|_, next| !next.4) {
                let batch: Vec<Change> = batch
                    .iter()
                    .map(|(n, kind, key, at, _)| match PaperKind::from_bits(*kind) {
                        Some(kind) => filed(*n, &paper(kind, *key, *at)),
                        None if kind % 3 == 0 => change(*n, ChangeKind::Erase),
                        None => change(*n, profile(*key)),
                    })
                    .collect();
                let mut changed = Vec::new();
                for store in &stores {
                    changed.push(store.apply(batch.clone()).await.unwrap());
                }
                prop_assert_eq!(&changed[0], &changed[1]);
            }
            for n in 0..12 {
                let after = Some(Cursor {
                    at: Time(1 << 47),
                    key: [7; 16],
                });
                let mut pages = Vec::new();
                for store in &stores {
                    pages.push(
                        store
                            .papers(who(n), PaperKinds::ALL, after, 3)
                            .await
                            .unwrap(),
                    );
                }
                prop_assert_eq!(&pages[0], &pages[1]);
            }
            for store in stores {
                store.close().await;
            }
            prop_assert_eq!(all_papers(&place, 64).await, all_papers(&twin, 64).await);
            let (in_redis, embedded) = (place.records(64).await, twin.records(64).await);
            prop_assert_eq!(in_redis.len(), embedded.len());
            Ok(())
        })
    });
    run.unwrap();
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_partition_of_papers_alone_belongs_to_its_ring() {
    over_both(async |place| {
        let store = place.open(64, &board()).await;
        let papers = (0..64)
            .map(|n| filed(n, &paper(PaperKind::Trip, 1, 1)))
            .collect();
        store.apply(papers).await.unwrap();
        store.close().await;
        drop(store);
        let foreign = place.try_open([1; 16], 64).await;
        assert!(matches!(foreign, Err(Error::ForeignRing(_))));
        // And whoever comes first to it as a resident is one.
        let (store, board, told) = place.filled().await;
        assert_eq!((board.residents(), told), (0, 0));
        store.apply(vec![change(1, profile(1))]).await.unwrap();
        assert_eq!(store.residents().await.unwrap(), 1);
        store.close().await;
    });
}
