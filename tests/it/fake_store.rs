//! A store in memory that does as it is told: works, stalls or errs, each call by itself.

use liangma::board::Board;
use liangma::clock::{Moment, Time};
use liangma::paper::{self, Cursor, Keep, Key, Kinds, Paper};
use liangma::person::{Identity, ResidentId};
use liangma::status::{Reasons, Word};
use liangma::store::record::Record;
use liangma::store::{Change, Error, Placed, Store, What};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Works,
    /// Never answers, until the mood changes.
    Stalls,
    Errs,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Moods {
    pub fill: Mood,
    pub find: Mood,
    pub apply: Mood,
    pub papers: Mood,
}

pub struct FakeStore {
    board: Arc<Board>,
    moods: watch::Sender<Moods>,
    records: Mutex<HashMap<u64, (u64, Record)>>,
    papers: Mutex<HashMap<Identity, Vec<Paper>>>,
}

impl FakeStore {
    pub fn new(board: Arc<Board>, moods: Moods) -> FakeStore {
        FakeStore {
            board,
            moods: watch::Sender::new(moods),
            records: Mutex::default(),
            papers: Mutex::default(),
        }
    }

    pub fn set(&self, moods: Moods) {
        self.moods.send_replace(moods);
    }

    /// Gives a resident's home to a stranger and moves the resident on by one slot: on record, and not on the board yet.
    pub fn displace(&self, who: Identity) {
        let mut records = self.records.lock().unwrap();
        let record = Record::first(who.claim, What::Profile([0].into())).unwrap();
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

    /// On record, and not on the board yet.
    pub fn put_unposted(&self, who: Identity) {
        let record = Record::first(who.claim, What::Profile([0].into())).unwrap();
        self.records.lock().unwrap().insert(who.home.0, (1, record));
    }

    async fn obey(&self, of: impl Fn(&Moods) -> Mood) -> Result<(), Error> {
        let mut moods = self.moods.subscribe();
        let moods = moods.wait_for(|moods| of(moods) != Mood::Stalls).await;
        match of(&moods.expect("the sender is ours")) {
            Mood::Errs => Err(Error::Damaged("as it was told to be")),
            Mood::Works | Mood::Stalls => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Store for FakeStore {
    async fn residents(&self) -> Result<u64, Error> {
        Ok(self.records.lock().unwrap().len() as u64)
    }

    async fn fill(&self, _: Arc<dyn Fn(u64) + Send + Sync>) -> Result<(), Error> {
        self.obey(|moods| moods.fill).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<bool>, Error> {
        self.obey(|moods| moods.apply).await?;
        let mut records = self.records.lock().unwrap();
        let mut papers = self.papers.lock().unwrap();
        let changed = changes.into_iter().map(|Change { who, what }| {
            let id = who.home;
            if let What::Paper(paper) = what {
                let all = papers.entry(who).or_default();
                let new = all.iter().all(|known| known.key != paper.key);
                all.extend(new.then_some(paper));
                return new;
            }
            let changed = match records.get_mut(&id.0) {
                Some((_, record)) => record.take(what),
                None => match Record::first(who.claim, what) {
                    Some(record) => {
                        records.insert(id.0, (0, record));
                        true
                    }
                    None => return false,
                },
            };
            let (version, record) = records.get_mut(&id.0).expect("just there");
            *version = Word::version_after(Some(*version), Time::now());
            self.board
                .post(id, Word::new(*version, who.check(), record.reasons()));
            changed
        });
        Ok(changed.collect())
    }

    async fn find(&self, who: Identity) -> Result<Option<Placed>, Error> {
        self.obey(|moods| moods.find).await?;
        let records = self.records.lock().unwrap();
        let strangers = |word: Word| word.check() != who.check();
        let steps = u64::from(self.board.word(who.home).is_some_and(strangers));
        Ok(records.get(&who.home.0).map(|(version, record)| Placed {
            id: who.slot(steps),
            steps,
            word: Word::new(*version, who.check(), record.reasons()),
            record: record.clone(),
        }))
    }

    async fn word(&self, id: ResidentId) -> Result<Option<Word>, Error> {
        self.obey(|moods| moods.find).await?;
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
        kinds: Kinds,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Paper>, Error> {
        self.obey(|moods| moods.papers).await?;
        let papers = self.papers.lock().unwrap();
        let mut found = papers.get(&owner).cloned().unwrap_or_default();
        paper::page(&mut found, kinds, after, limit);
        Ok(found)
    }

    async fn some(&self, owner: Identity, keys: &[Key]) -> Result<Vec<Option<Paper>>, Error> {
        self.obey(|moods| moods.papers).await?;
        let papers = self.papers.lock().unwrap();
        let all = papers.get(&owner);
        let find = |key: &Key| all?.iter().find(|paper| paper.key == *key).cloned();
        Ok(keys.iter().map(find).collect())
    }

    async fn sweep(&self, _: &Keep, _: Time, _: Duration) -> Result<u64, Error> {
        self.obey(|moods| moods.apply).await?;
        Ok(0)
    }

    async fn close(&self) {}
}
