//! A store in memory that does as it is told: works, stalls or errs, each call by itself.

use liangma::board::Board;
use liangma::clock::{Moment, Time};
use liangma::paper::{self, Cursor, Paper, PaperKey, PaperKinds, Retention};
use liangma::person::{Identity, ResidentId};
use liangma::status::{Reasons, Word};
use liangma::store::record::Record;
use liangma::store::{Change, ChangeKind, ChangeOutcome, Error, LocatedRecord, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FakeFault {
    #[default]
    Works,
    /// Never answers, until the mood changes.
    Stalls,
    Errs,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct FakeFaults {
    pub fill: FakeFault,
    pub find: FakeFault,
    pub apply: FakeFault,
    pub papers: FakeFault,
}

pub struct FakeStore {
    board: Arc<Board>,
    faults: watch::Sender<FakeFaults>,
    records: Mutex<HashMap<u64, (u64, Record)>>,
    papers: Mutex<HashMap<Identity, Vec<Paper>>>,
}

impl FakeStore {
    pub fn new(board: Arc<Board>, faults: FakeFaults) -> FakeStore {
        FakeStore {
            board,
            faults: watch::Sender::new(faults),
            records: Mutex::default(),
            papers: Mutex::default(),
        }
    }

    pub fn set(&self, faults: FakeFaults) {
        self.faults.send_replace(faults);
    }

    /// Gives a resident's home to a stranger and moves the resident on by one slot: on record, and not on the board yet.
    pub fn displace(&self, who: Identity) {
        let mut records = self.records.lock().unwrap();
        let record = Record::first(who.claim, ChangeKind::Profile([0].into())).unwrap();
        records.insert(who.home.0, (1, record));
        self.board
            .post(who.home, Word::new(1, who.check() ^ 1, Reasons::NONE));
    }

    /// The displaced resident's word reaches the board.
    pub fn post_displaced(&self, who: Identity, reasons: Reasons) {
        self.board
            .post(who.slot(1), Word::new(2, who.check(), reasons));
        self.confirm();
    }

    /// Says that the board has all that the store has, as a store that is followed does again and again.
    pub fn confirm(&self) {
        self.board.confirm(Moment::now());
    }

    /// A word reaches the board from a reading that is not at its end: it may be discarded again.
    pub fn post_unconfirmed(&self, who: Identity) {
        let red = Reasons::from_bits(1).expect("one reason");
        self.board.post(who.home, Word::new(99, who.check(), red));
    }

    /// On record, and not on the board yet.
    pub fn put_unposted(&self, who: Identity) {
        let record = Record::first(who.claim, ChangeKind::Profile([0].into())).unwrap();
        self.records.lock().unwrap().insert(who.home.0, (1, record));
    }

    async fn obey(&self, of: impl Fn(&FakeFaults) -> FakeFault) -> Result<(), Error> {
        let mut faults = self.faults.subscribe();
        let faults = faults
            .wait_for(|faults| of(faults) != FakeFault::Stalls)
            .await;
        match of(&faults.expect("the sender is ours")) {
            FakeFault::Errs => Err(Error::Damaged("as it was told to be")),
            FakeFault::Works | FakeFault::Stalls => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Store for FakeStore {
    async fn residents(&self) -> Result<u64, Error> {
        Ok(self.records.lock().unwrap().len() as u64)
    }

    async fn fill(&self, _: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        self.obey(|faults| faults.fill).await
    }

    async fn ingest(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, Error> {
        self.obey(|faults| faults.apply).await?;
        let mut records = self.records.lock().unwrap();
        let mut papers = self.papers.lock().unwrap();
        let outcomes = changes.into_iter().map(|Change { who, what }| {
            let id = who.home;
            if let ChangeKind::Paper(paper) = what {
                let all = papers.entry(who).or_default();
                let new = all.iter().all(|known| known.key != paper.key);
                all.extend(new.then_some(paper));
                return new.into();
            }
            let outcome = match records.get_mut(&id.0) {
                Some((_, record)) => record.take(what),
                None => match Record::first(who.claim, what) {
                    Some(record) => {
                        records.insert(id.0, (0, record));
                        ChangeOutcome::Applied
                    }
                    None => return ChangeOutcome::Unchanged,
                },
            };
            let (version, record) = records.get_mut(&id.0).expect("just there");
            *version = Word::version_after(Some(*version), Time::now());
            self.board
                .post(id, Word::new(*version, who.check(), record.reasons()));
            outcome
        });
        Ok(outcomes.collect())
    }

    async fn find(&self, who: Identity) -> Result<Option<LocatedRecord>, Error> {
        self.obey(|faults| faults.find).await?;
        let records = self.records.lock().unwrap();
        let strangers = |word: Word| word.check() != who.check();
        let steps = u64::from(self.board.word(who.home).is_some_and(strangers));
        Ok(records
            .get(&who.home.0)
            .map(|(version, record)| LocatedRecord {
                id: who.slot(steps),
                steps,
                word: Word::new(*version, who.check(), record.reasons()),
                record: record.clone(),
            }))
    }

    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error> {
        self.obey(|faults| faults.find).await?;
        let records = self.records.lock().unwrap();
        // The check is the board's business; a record has it from its claim.
        Ok(records.get(&id.0).map(|(version, record)| {
            let who = Identity {
                home: id,
                claim: record.claim,
            };
            Word::new(*version, who.check(), record.reasons())
        }))
    }

    async fn papers(
        &self,
        owner: Identity,
        kinds: PaperKinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        self.obey(|faults| faults.papers).await?;
        let papers = self.papers.lock().unwrap();
        let mut found = papers.get(&owner).cloned().unwrap_or_default();
        paper::page(&mut found, kinds, after, limit);
        Ok(found)
    }

    async fn some(&self, owner: Identity, keys: &[PaperKey]) -> Result<Vec<Option<Paper>>, Error> {
        self.obey(|faults| faults.papers).await?;
        let papers = self.papers.lock().unwrap();
        let all = papers.get(&owner);
        let find = |key: &PaperKey| all?.iter().find(|paper| paper.key == *key).cloned();
        Ok(keys.iter().map(find).collect())
    }

    async fn remove(&self, _: Identity, _: &[PaperKey]) -> Result<u64, Error> {
        Err(Error::Closed)
    }

    async fn sweep(&self, _: &Retention, _: Time, _: Duration) -> Result<u64, Error> {
        self.obey(|faults| faults.apply).await?;
        Ok(0)
    }

    async fn close(&self) {}
}
