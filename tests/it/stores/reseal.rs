//! What rests is sealed anew with the key that seals now: walks that end early, changes that come meanwhile, and what opens with no key.

use super::*;
use liangma::paper::{PAGE_MAX, PaperKind, PaperKinds};
use liangma::person::{Assurance, Document, Profile};
use liangma::seal::ring::RingFile;
use liangma::seal::{self, Seal};
use liangma::store::reseal::{ResealOutcome, ResealReport, until_settled};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

const NOW: Time = Time(1_790_000_000_000);

/// More than several steps of either store hold, in all partitions.
const PEOPLE: usize = 1_700;

/// A ring, and what seals with it.
struct Rotated {
    ring: RingFile,
    seal: Seal,
}

impl Rotated {
    fn new() -> Rotated {
        let ring = RingFile::generate(NOW);
        let settings = seal::Settings {
            code_life: Duration::from_secs(60),
            clock_skew: Duration::from_secs(2),
            issuer: None,
        };
        let seal = Seal::new(&ring, settings);
        Rotated { ring, seal }
    }

    fn rotate(&mut self) {
        assert!(self.ring.rotate_rest(NOW).unwrap());
        self.seal.reload(&self.ring);
    }

    /// Lets the previous keys go, proved or not.
    fn drop_previous(&mut self) {
        assert!(self.ring.drop_previous_rest(true).unwrap() > 0);
        self.seal.reload(&self.ring);
    }

    async fn open(&self, place: &Place, board: &Arc<Board>) -> Box<dyn Store> {
        let (mark, tags) = (self.seal.mark(), self.seal.status_tags());
        match place {
            Place::Folder(folder) => {
                let settings = embedded::Settings {
                    cache_bytes: 16 << 20,
                    ..embedded::Settings::new(folder.path().to_owned())
                };
                let opened = embedded::OpenedEmbedded::open(settings, mark, tags);
                Box::new(opened.unwrap().start(board.clone(), Arc::default()))
            }
            Place::Server(server) => {
                let place = url::StoreUrl::parse(&server.url()).expect("an address");
                let settings = redis::Settings::new(place);
                let opened = redis::OpenedRedis::open(settings, mark, tags).await;
                Box::new(opened.unwrap().start(Some(board.clone()), Arc::default()))
            }
        }
    }

    fn who(&self, nth: usize) -> (Identity, Profile) {
        let person = crate::harness::person(nth);
        let profile = Profile {
            document: Document::parse("10", &person.cert_no, u32::MAX).unwrap(),
            name: Some(format!("陈{nth}")),
            assurance: Assurance::RealPerson,
        };
        (self.seal.identify(&profile.document), profile)
    }

    fn status(&self, nth: usize, seq: u64, active: bool) -> Change {
        let (who, profile) = self.who(nth);
        let assertion = Assertion {
            reason: Reason::CloseContact,
            source: "gd-cdc".into(),
            seq,
            active,
            at: NOW,
            until: None,
            region: None,
        };
        let profile = self.seal.profile(&who, &profile).into();
        let what = ChangeKind::Status(assertion, profile);
        Change { who, what }
    }

    fn paper(&self, nth: usize, number: u8) -> Change {
        let (who, _) = self.who(nth);
        let key = self.seal.paper_key(&[b"gd-cdc", &[number]]);
        let body = format!("{nth} {number}");
        let kind = PaperKind::Declaration;
        let paper = self.seal.paper(&who, kind, key, NOW, body.as_bytes());
        let what = ChangeKind::Paper(paper.unwrap());
        Change { who, what }
    }

    /// Residents, of whom each third is red, each with a paper; the first with a long pile.
    async fn fill(&self, store: &dyn Store) {
        for nth in (0..PEOPLE).step_by(500) {
            let some = nth..PEOPLE.min(nth + 500);
            let statuses = some.clone().map(|nth| self.status(nth, 1, nth % 3 == 0));
            store.apply(statuses.collect()).await.unwrap();
            let papers = some.map(|nth| self.paper(nth, 0)).collect();
            store.apply(papers).await.unwrap();
        }
        let pile = (1..=255).map(|number| self.paper(0, number)).collect();
        store.apply(pile).await.unwrap();
    }

    /// All that was filled opens, and the board knows every status.
    async fn holds(&self, store: &dyn Store, board: &Arc<Board>) {
        store.fill(Arc::new(|_| ())).await.unwrap();
        for nth in 0..PEOPLE {
            let (who, profile) = self.who(nth);
            let placed = store.find(who).await.unwrap().unwrap();
            let opened = self.seal.open_profile(&who, &placed.record.profile);
            assert_eq!(opened, Some(profile), "{nth}");
            let Found::Word(word) = board.find(who.home, who.check()) else {
                panic!("{nth} is on the board");
            };
            assert_eq!(word, placed.word, "{nth}");
            let red = Reasons::NONE.with(Reason::CloseContact);
            let expected = if nth % 3 == 0 { red } else { Reasons::NONE };
            assert_eq!(word.reasons(), expected, "{nth}");
            let papers = store.papers(who, PaperKinds::ALL, None, PAGE_MAX).await;
            let papers = papers.unwrap();
            assert!(!papers.is_empty(), "{nth}");
            for paper in papers {
                let body = self.seal.open_paper(&who, &paper).expect("it opens");
                let told = String::from_utf8(body).unwrap();
                assert!(told.starts_with(&format!("{nth} ")), "{nth}: {told}");
            }
        }
    }

    async fn reseal(&self, store: &dyn Store) -> Result<ResealOutcome, Error> {
        until_settled(store, &|| self.seal.rest_seal(), &|_| true).await
    }
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_walk_that_ends_at_any_step_goes_on_and_afterwards_nothing_needs_the_old_keys() {
    over_both(async |place| {
        let mut rotated = Rotated::new();
        let store = rotated.open(place, &board()).await;
        rotated.fill(&*store).await;
        let rows = (2 * PEOPLE + 255) as u64;
        let mut sealed = 0;
        for steps in [1, 2, 7] {
            rotated.rotate();
            let told = AtomicU64::new(0);
            let last = std::sync::Mutex::new(ResealReport::default());
            let tell = |report: &ResealReport| {
                *last.lock().unwrap() = report.clone();
                // Steps that find nothing to do are not what an end is tried at.
                report.sealed_anew == 0 || told.fetch_add(1, Relaxed) + 1 < steps
            };
            let keys = || rotated.seal.rest_seal();
            let ended = until_settled(&*store, &keys, &tell).await;
            assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
            sealed = last.lock().unwrap().sealed_anew;
            assert!(sealed > 0 && sealed < rows, "{sealed}");
        }
        let outcome = rotated.reseal(&*store).await.unwrap();
        assert!(outcome.is_whole(), "{outcome:?}");
        assert_eq!(outcome.report.sealed_anew, rows - sealed, "{outcome:?}");
        assert_eq!(outcome.report.records, PEOPLE as u64);
        assert_eq!(outcome.key, rotated.ring.rest_current());
        assert_eq!(outcome.walks, 2);
        store.close().await;
        drop(store);
        rotated.drop_previous();
        let board = board();
        let store = rotated.open(place, &board).await;
        rotated.holds(&*store, &board).await;
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn without_sealing_anew_nothing_of_before_opens_once_the_old_key_is_gone() {
    over_both(async |place| {
        let mut rotated = Rotated::new();
        let store = rotated.open(place, &board()).await;
        let lines = vec![rotated.status(0, 1, true), rotated.paper(1, 0)];
        store.apply(lines).await.unwrap();
        rotated.rotate();
        let outcome = rotated.reseal(&*store).await.unwrap();
        assert!(outcome.is_whole());
        // One rotation later its key goes, and nothing was sealed anew since.
        rotated.rotate();
        rotated.drop_previous();
        let (red, owner) = (rotated.who(0).0, rotated.who(1).0);
        let found = store.find(red).await;
        assert!(matches!(found, Err(Error::Damaged(_))), "{found:?}");
        let papers = store.papers(owner, PaperKinds::ALL, None, 9).await.unwrap();
        assert_eq!(rotated.seal.open_paper(&owner, &papers[0]), None);
        let outcome = rotated.reseal(&*store).await.unwrap();
        let unopened = [("declaration", 1), ("status", 1)];
        let unopened = unopened.map(|(what, count)| (what.to_owned(), count));
        assert_eq!(outcome.report.unopened, BTreeMap::from(unopened));
        assert!(outcome.is_settled && !outcome.is_whole());
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_comes_meanwhile_is_never_written_over() {
    over_both(async |place| {
        let mut rotated = Rotated::new();
        let store = rotated.open(place, &board()).await;
        rotated.fill(&*store).await;
        rotated.rotate();
        let (ended, newest) = (AtomicBool::new(false), AtomicU64::new(1));
        let feed = async {
            while !ended.load(Relaxed) {
                let seq = newest.load(Relaxed) + 1;
                let some = (0..PEOPLE).step_by(17);
                let changes = some.map(|nth| rotated.status(nth, seq, seq % 2 == 0));
                store.apply(changes.collect()).await.unwrap();
                newest.store(seq, Relaxed);
                // An owner's papers go while they are sealed anew, and do not come back.
                let (who, _) = rotated.who(0);
                let page = store.papers(who, PaperKinds::ALL, None, 3).await.unwrap();
                let keys: Vec<_> = page.iter().map(|paper| paper.key).collect();
                store.remove(who, &keys[..keys.len().min(2)]).await.unwrap();
                let left = store.some(who, &keys[..keys.len().min(2)]).await.unwrap();
                assert!(left.iter().all(Option::is_none));
            }
        };
        let walk = async {
            let mut outcome = rotated.reseal(&*store).await.unwrap();
            while newest.load(Relaxed) < 4 || !outcome.is_settled {
                outcome = rotated.reseal(&*store).await.unwrap();
            }
            ended.store(true, Relaxed);
            outcome
        };
        let (outcome, ()) = tokio::join!(walk, feed);
        assert!(outcome.is_whole(), "{outcome:?}");
        rotated.drop_previous();
        let newest = newest.load(Relaxed);
        for nth in (0..PEOPLE).step_by(17) {
            let (who, profile) = rotated.who(nth);
            let placed = store.find(who).await.unwrap().unwrap();
            let known = &placed.record.assertions[0];
            assert_eq!((known.seq, known.active), (newest, newest % 2 == 0));
            let opened = rotated.seal.open_profile(&who, &placed.record.profile);
            assert_eq!(opened, Some(profile));
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn what_opens_with_no_key_is_counted_by_its_kind_and_stops_nothing() {
    over_both(async |place| {
        let mut rotated = Rotated::new();
        let store = rotated.open(place, &board()).await;
        rotated.fill(&*store).await;
        // A profile and a paper whose bytes are no longer what was sealed.
        let (spoilt, _) = rotated.who(7);
        let what = ChangeKind::Profile([1; 40].into());
        let mut changes = vec![Change { who: spoilt, what }];
        let mut paper = rotated.paper(8, 9);
        if let ChangeKind::Paper(paper) = &mut paper.what {
            paper.body[5] ^= 1;
        }
        changes.push(paper);
        store.apply(changes).await.unwrap();
        rotated.rotate();
        let outcome = rotated.reseal(&*store).await.unwrap();
        let unopened = [("declaration", 1), ("profile", 1)];
        let unopened = unopened.map(|(what, count)| (what.to_owned(), count));
        assert_eq!(outcome.report.unopened, BTreeMap::from(unopened));
        // The status of whose profile does not open is tagged anew all the same.
        let rows = (2 * PEOPLE + 255) as u64;
        assert_eq!(outcome.report.sealed_anew, rows);
        rotated.drop_previous();
        assert!(store.find(spoilt).await.unwrap().is_some());
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn papers_of_a_service_that_ended_are_told_apart_and_hold_no_key_back() {
    over_both(async |place| {
        let mut rotated = Rotated::new();
        let store = rotated.open(place, &board()).await;
        store.apply(vec![rotated.paper(0, 0)]).await.unwrap();
        let purpose = PaperKind::Declaration.purpose();
        assert!(rotated.ring.destroy(purpose, NOW));
        rotated.rotate();
        let outcome = rotated.reseal(&*store).await.unwrap();
        assert!(outcome.is_whole(), "{outcome:?}");
        assert_eq!((outcome.report.papers, outcome.report.ended), (1, 1));
        store.close().await;
    });
}
