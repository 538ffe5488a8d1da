//! A node's part in publishing status lists: it takes up published lists, and publishes when it has the turn.
//!
//! In each slot one node publishes. A turn is a paper that only one node can store, and so is the head of a slot. A delayed
//! node with an older list finds the slot taken, or stores a head that no node takes up.

use crate::board::Board;
use crate::clock::{Now, Time};
use crate::critical::CriticalTask;
use crate::kernel;
use crate::lists::{Lists, Published};
use crate::offline::issue::OfflineIssuer;
use crate::offline::publisher::{Edition, ListSource, OnRecord, PublishFault, publish};
use crate::person::ResidentId;
use crate::service::AppState;
use crate::status::Word;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Reads of the store in one slot, and the bounds of the pause between them. The pause is also the delay until other nodes
/// serve a new list.
const LOOKS_A_SLOT: u32 = 200;
const LOOK_LEAST: Duration = Duration::from_millis(50);
const LOOK_MOST: Duration = Duration::from_secs(2);

/// Turns in one slot: if a turn produces no list, the next begins after this part of the slot.
const TURNS_A_SLOT: u32 = 4;

/// Attempts to build a list. A failed proof may come from a change that was rolled back meanwhile, so one repeat is allowed.
const TRIES: u32 = 2;

/// Niceness of the thread that builds lists.
const NICENESS: i32 = 19;

impl OnRecord for Board {
    fn each(&self, each: &mut dyn FnMut(ResidentId, Word)) {
        self.walk(each);
    }

    fn has(&self, resident: ResidentId) -> bool {
        self.word(resident).is_some()
    }
}

/// Why a node does not publish in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The node is draining.
    Draining,
    /// The board does not hold every resident on record.
    Warming,
    /// The board is stale.
    Stale,
    /// The clock of the node and that of the store differ by too much.
    Clock,
    /// The revocations could not be read, or the node knows nothing newer than the last list.
    Behind,
}

impl Withheld {
    /// Returns the word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Withheld::Draining => "draining",
            Withheld::Warming => "warming",
            Withheld::Stale => "stale",
            Withheld::Clock => "clock",
            Withheld::Behind => "behind",
        }
    }
}

/// Checks whether this node may publish what it knows.
fn may_publish(app: &AppState, now: Now) -> Result<(), Withheld> {
    if app.is_draining() {
        return Err(Withheld::Draining);
    }
    if !app.board.is_filled() {
        return Err(Withheld::Warming);
    }
    if app.board.freshness(now).stale {
        return Err(Withheld::Stale);
    }
    if app.clock_offset_is_too_large() {
        return Err(Withheld::Clock);
    }
    Ok(())
}

/// Takes up published lists, and publishes when it has the turn, until the task is aborted.
pub async fn run(app: Arc<AppState>) {
    let _critical = CriticalTask("the publisher of status lists");
    let (Some(lists), Some(offline)) = (app.lists.clone(), app.offline.clone()) else {
        return std::future::pending().await;
    };
    let pause = (lists.settings.every / LOOKS_A_SLOT).clamp(LOOK_LEAST, LOOK_MOST);
    let mut publisher = Publisher {
        app,
        lists,
        offline,
        tried: None,
        withheld: None,
    };
    loop {
        publisher.look().await;
        tokio::time::sleep(pause).await;
    }
}

struct Publisher {
    app: Arc<AppState>,
    lists: Arc<Lists>,
    offline: Arc<OfflineIssuer>,
    /// The slot and turn that this node asked for last.
    tried: Option<(Time, u64)>,
    /// The slot and the reason of the last log line about a withheld list.
    withheld: Option<(Time, Withheld)>,
}

impl Publisher {
    async fn look(&mut self) {
        let app = &self.app;
        let keys = self.offline.keys();
        let read = self.lists.refresh(&*app.store, &app.seal, &keys).await;
        if let Err(error) = read {
            // A node that does not know the last list must not publish.
            tracing::debug!(%error, "the status lists in the store cannot be read");
            return;
        }
        if keys.signing.is_none() {
            // Nodes with the whole ring, or with the part of the resident door, can sign.
            return;
        }
        let now = Now::read();
        let slot = self.lists.slot_of(now.time);
        let served = self.lists.served();
        if served.is_some_and(|served| served.head.slot >= slot.0) {
            return;
        }
        if let Err(why) = may_publish(app, now) {
            self.withhold(slot, why);
            return;
        }
        let turn_ms = (self.lists.settings.every / TURNS_A_SLOT)
            .as_millis()
            .max(1);
        let turn = now.time.since(slot).as_millis() / turn_ms;
        let turn = (slot, turn as u64);
        if self.tried == Some(turn) {
            return;
        }
        let shelf = self.lists.shelf(&*app.store, &app.seal);
        match shelf.take_turn(turn.0, turn.1, now.time).await {
            Ok(true) => {}
            Ok(false) => {
                self.tried = Some(turn);
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "the store did not take this node's turn to publish a status list: the node tries again");
                return;
            }
        }
        self.tried = Some(turn);
        let outcome = self.publish(slot).await;
        if let Some(outcome) = outcome {
            self.lists.metrics.count(outcome);
        }
    }

    fn withhold(&mut self, slot: Time, why: Withheld) {
        if self.withheld != Some((slot, why)) {
            self.withheld = Some((slot, why));
            self.lists.metrics.count(Published::Withheld);
            tracing::warn!(
                why = why.word(),
                "this node publishes no status list in this slot"
            );
        }
    }

    /// Publishes in a slot whose turn this node has. Returns None if the list was withheld, which is counted already.
    async fn publish(&mut self, slot: Time) -> Option<Published> {
        let started = Instant::now();
        let mut edition = None;
        for nth in 1..=TRIES {
            match self.build(slot).await {
                Ok(built) => {
                    edition = Some(built);
                    break;
                }
                Err(Unbuilt::Withheld(why)) => {
                    self.withhold(slot, why);
                    return None;
                }
                Err(Unbuilt::Fault(PublishFault::Wrong { asked, wrong })) => {
                    tracing::error!(
                        asked,
                        wrong,
                        attempt = nth,
                        "a new status list would give wrong answers: it is not published"
                    );
                    if nth == TRIES {
                        self.lists.metrics.wrong.fetch_add(wrong, Relaxed);
                        return Some(Published::Wrong);
                    }
                }
                Err(Unbuilt::Fault(error)) => {
                    tracing::error!(%error, "the status list cannot be built");
                    return Some(Published::Failed);
                }
                Err(Unbuilt::Ended) => return Some(Published::Failed),
            }
        }
        let edition = edition?;
        let app = &self.app;
        let now = Now::read();
        // During the build the clock may have been found wrong, and the slot may have ended.
        if let Err(why @ (Withheld::Draining | Withheld::Clock)) = may_publish(app, now) {
            self.withhold(slot, why);
            return None;
        }
        if now.time.since(slot) >= self.lists.settings.every * 2 {
            tracing::warn!("a status list was built too slowly for its slot: it is not published");
            return Some(Published::Late);
        }
        let shelf = self.lists.shelf(&*app.store, &app.seal);
        let residents = app.board.residents();
        let put = self.lists.put(&shelf, slot, &edition, residents, now.time);
        match put.await {
            Ok(true) => {
                let ms = started.elapsed().as_millis() as u64;
                self.lists.metrics.build_ms.store(ms, Relaxed);
                let [red, yellow, void] = edition.listed;
                tracing::info!(
                    number = edition.pairs[0].number, rebased = edition.is_rebased, as_of = %edition.as_of, residents, red, yellow, void,
                    clashes = edition.clashes, asked = edition.asked, ms, "a status list is published"
                );
                Some(Published::Done)
            }
            Ok(false) => Some(Published::Late),
            Err(error) => {
                tracing::warn!(%error, "the store did not take a status list");
                Some(Published::Failed)
            }
        }
    }

    /// Builds and proves an edition on its own thread.
    async fn build(&self, slot: Time) -> Result<Edition, Unbuilt> {
        let app = self.app.clone();
        // All revocations must be read, beyond those that this node knows by chance.
        if app.refresh_generations(0).await.is_err() {
            return Err(Unbuilt::Withheld(Withheld::Behind));
        }
        let revoked_to = self.offline.generations.read_to().unwrap_or_default();
        let now = Now::read();
        // The freshness is read before the first word, so that `as_of` is never too late.
        may_publish(&app, now).map_err(Unbuilt::Withheld)?;
        let as_of = app.board.freshness(now).as_of.min(revoked_to);
        let served = self.lists.served();
        if served
            .as_ref()
            .is_some_and(|served| as_of <= served.as_of())
        {
            return Err(Unbuilt::Withheld(Withheld::Behind));
        }
        let keys = self.offline.keys();
        let so_far = served
            .as_ref()
            .map_or(Vec::new(), |served| served.bases(&keys));
        let settings = &self.lists.settings;
        let base_every = settings.base_every.as_millis() as u64;
        let based = served.as_ref().map_or(0, |served| served.head.based);
        // Compared by slots, so that a base is made in the slot in which it is due.
        let rebase = slot.0.saturating_sub(self.lists.slot_of(Time(based)).0) >= base_every;
        let revoked: HashMap<u64, u8> = self
            .offline
            .generations
            .all()
            .into_iter()
            .map(|(resident, generation)| (resident.0, generation))
            .collect();
        let (issuer, life) = (self.offline.settings.issuer, settings.too_old_after);
        // Versions are times of the store's clock, which may be behind this node's clock by this much.
        let apart = app.clock_offset_max().as_millis() as u64 * 2;
        let recent = as_of.0.saturating_sub(apart);
        let (done, built) = oneshot::channel();
        let work = move || {
            kernel::step_back(NICENESS);
            let source = ListSource {
                keys: &keys,
                issuer,
                residents: &*app.board,
                revoked: &revoked,
                as_of,
                life,
                recent,
            };
            let _ = done.send(publish(&source, &so_far, rebase));
        };
        let thread = std::thread::Builder::new().name("list-publisher".into());
        if thread.spawn(work).is_err() {
            return Err(Unbuilt::Ended);
        }
        match built.await {
            Ok(edition) => edition.map_err(Unbuilt::Fault),
            Err(_) => Err(Unbuilt::Ended),
        }
    }
}

/// Why no edition was built.
enum Unbuilt {
    Withheld(Withheld),
    Fault(PublishFault),
    /// The builder thread panicked or could not be started.
    Ended,
}
