//! What writes one partition: takes the changes that wait, sends them as one script, waits for replicas, posts what came of
//! it, and acknowledges.

use super::partition;
use super::primaries::{Link, Primaries, Purpose, REPLICA_WAIT};
use super::scripts::{self, FORMAT, TAKE};
use crate::board::Board;
use crate::meters::StoreTally;
use crate::store::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Changes that one script takes in: some milliseconds of Redis's time, and entries of some kilobytes.
const CHANGES_MAX: usize = 512;

/// Batches that wait for a writer; one more waits outside.
const BATCHES_MAX: usize = 256;

/// After a failure, changes are refused at once for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a batch is acknowledged: a byte for each change, as `take.lua` answers.
pub type Outcome = oneshot::Receiver<Result<Vec<u8>, Error>>;

/// Packed changes of one caller, and where [`Outcome`] waits.
pub struct Batch {
    pub changes: Vec<Vec<u8>>,
    pub done: oneshot::Sender<Result<Vec<u8>, Error>>,
}

#[derive(Clone)]
pub struct Settings {
    /// Of the key ring.
    pub mark: [u8; 16],
    /// Replicas that must have a change before it is acknowledged.
    pub replicas: u32,
    /// Changes that the stream keeps.
    pub changes_kept: u64,
}

pub struct Writer {
    partition: usize,
    link: Link,
    /// None where nobody is served from this process.
    board: Option<Arc<Board>>,
    tally: Arc<StoreTally>,
    settings: Settings,
    failed: Option<(Instant, String)>,
}

impl Writer {
    /// Begins; it ends when the sender is dropped and what waits is done.
    pub fn start(
        partition: usize,
        primaries: Arc<Primaries>,
        board: Option<Arc<Board>>,
        tally: Arc<StoreTally>,
        settings: Settings,
    ) -> (mpsc::Sender<Batch>, tokio::task::JoinHandle<()>) {
        let (send, waiting) = mpsc::channel(BATCHES_MAX);
        let writer = Writer {
            partition,
            link: Link::new(primaries, partition, Purpose::Write),
            board,
            tally,
            settings,
            failed: None,
        };
        (send, tokio::spawn(writer.run(waiting)))
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Batch>) {
        while let Some(first) = waiting.recv().await {
            let mut count = first.changes.len();
            let mut group = vec![first];
            while count < CHANGES_MAX
                && let Ok(next) = waiting.try_recv()
            {
                count += next.changes.len();
                group.push(next);
            }
            // Whoever gave up waiting sends again; nothing is lost by not doing it twice.
            group.retain(|batch| !batch.done.is_closed());
            self.take(group).await;
        }
    }

    async fn take(&mut self, group: Vec<Batch>) {
        let (changes, replies): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|batch| {
                let count = batch.changes.len();
                (batch.changes, (count, batch.done))
            })
            .unzip();
        let changes: Vec<Vec<u8>> = changes.into_iter().flatten().collect();
        let mut flags = Vec::with_capacity(changes.len());
        let mut outcome = Ok(());
        for part in changes.chunks(CHANGES_MAX) {
            match self.send(part).await {
                Ok(more) => flags.extend(more),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let mut first = 0;
        for (count, done) in replies {
            let own = flags.get(first..first + count);
            first += count;
            let _ = done.send(match (own, &outcome) {
                (Some(own), _) => Ok(own.to_vec()),
                (None, Err(error)) => Err(again(error)),
                (None, Ok(())) => Err(Error::Damaged("a reply")),
            });
        }
    }

    /// One script, and the wait for replicas behind it on the same connection.
    async fn send(&mut self, changes: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
        let started = Instant::now();
        if let Some((at, why)) = &self.failed
            && at.elapsed() < PAUSE
        {
            return Err(Error::Away(why.clone()));
        }
        let sent = self.try_send(changes).await;
        self.failed = match &sent {
            Err(error) => Some((Instant::now(), error.to_string())),
            Ok(_) => None,
        };
        if sent.is_ok() {
            self.tally.commit_times.count(started.elapsed());
            self.tally.changes.fetch_add(changes.len() as u64, Relaxed);
        } else {
            self.tally.failures.fetch_add(1, Relaxed);
        }
        sent
    }

    async fn try_send(&mut self, changes: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
        let mut link = self.link.get().await?;
        let mut epoch = [0; 8];
        aws_lc_rs::rand::fill(&mut epoch).expect("the system gives random bytes");
        let mut pipe = redis::pipe();
        pipe.cmd("EVALSHA")
            .arg(TAKE.get_hash())
            .arg(1)
            .arg(partition::meta(self.partition))
            .arg(&self.settings.mark)
            .arg(FORMAT)
            .arg(&epoch)
            .arg(self.settings.changes_kept)
            .arg(u8::from(self.settings.replicas > 0));
        for change in changes {
            pipe.arg(change);
        }
        pipe.cmd("WAIT")
            .arg(self.settings.replicas)
            .arg(REPLICA_WAIT.as_millis() as u64);
        let ((flags, told), replicas): ((Vec<u8>, Vec<u8>), u32) = pipe
            .query_async(&mut link)
            .await
            .map_err(|error| self.link.failed(&error))?;
        if flags.len() != changes.len() {
            return Err(Error::Damaged("a reply"));
        }
        // A primary that was replaced takes changes too, and versions them above what was acknowledged meanwhile elsewhere.
        if replicas < self.settings.replicas {
            return Err(Error::NotReplicated(replicas, self.settings.replicas));
        }
        if let Some(board) = &self.board {
            for told in scripts::told(&told)? {
                // What came between is in the stream, and may be what a store that forgot made of this resident.
                let known = board.word(told.id).map_or(0, |word| word.version());
                if known == told.ground.before {
                    board.follow(told.id, told.word, told.ground);
                }
            }
        }
        Ok(flags)
    }
}

/// The same for one more of those who asked together.
fn again(error: &Error) -> Error {
    match error {
        Error::NotReplicated(got, wanted) => Error::NotReplicated(*got, *wanted),
        Error::ForeignRing(place) => Error::ForeignRing(place.clone()),
        other => Error::Away(other.to_string()),
    }
}
