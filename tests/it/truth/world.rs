//! What all threads of a run share: the lives, where the nodes are, what was seen of them, and the lies.

use super::checker::{Answer, Bounds, History, Known, Lie, Said};
use super::life::Life;
use crate::harness::Credentials;
use liangma::clock::Time;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const NODES: usize = 3;

/// After so many it is no use to look for more.
const LIES_MAX: usize = 6;

/// Answers on one resident by one node that are kept to be told beside a lie.
const RECENT_MAX: usize = 12;

/// Where a node is, by door, and which process of it that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub process: usize,
    pub doors: [SocketAddr; 4],
}

/// What feeders are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Feed = 0,
    /// Nothing is sent.
    Hold = 1,
    /// What is under way is sent until it is acknowledged, and nothing new.
    Finish = 2,
}

/// What one process has shown of one resident.
#[derive(Clone, Default)]
struct Seen {
    known: Known,
    /// The newest version up to which it said that it knew all, where the store had lost nothing.
    told: usize,
    as_of: u64,
    recent: VecDeque<(&'static str, Answer)>,
}

/// What was seen of one node.
#[derive(Default)]
struct Sight {
    process: usize,
    residents: Vec<Seen>,
}

impl Sight {
    /// Another process knows nothing of what was shown before.
    fn of(&mut self, process: usize, residents: usize) -> &mut Sight {
        if self.process != process {
            self.process = process;
            self.residents = vec![Seen::default(); residents];
        }
        self
    }
}

/// What was counted, to be told at the end.
#[derive(Default)]
pub struct Counts {
    pub shows: AtomicU64,
    pub scans: AtomicU64,
    pub bulk: AtomicU64,
    pub explained: AtomicU64,
    pub marked: AtomicU64,
    pub too_old: AtomicU64,
    pub refused: AtomicU64,
    pub cut: AtomicU64,
    pub acknowledged: AtomicU64,
    /// Feeds that were refused or cut.
    pub repeated: AtomicU64,
    /// From acknowledgement to the first answer that showed it, in milliseconds.
    pub delays: Mutex<Vec<u32>>,
}

pub struct World {
    pub lives: Vec<Mutex<Life>>,
    seals: Mutex<Credentials>,
    pub counts: Counts,
    /// Every line in the order in which it was first sent.
    fed: Mutex<Vec<String>>,
    bounds: Bounds,
    started: u64,
    places: [Mutex<Option<Place>>; NODES],
    sights: [Mutex<Sight>; NODES],
    phase: AtomicU8,
    /// Feeds on their way.
    pub feeding: AtomicU64,
    stopped: AtomicBool,
    /// From when to when the store last lost something; 0: it has not, or all nodes were started anew since.
    lost_from: AtomicU64,
    lost_until: AtomicU64,
    lies: Mutex<Vec<String>>,
    happened: Mutex<Vec<(u64, String)>>,
}

/// Poison is but another thread's failure, which is told already.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(lives: Vec<Life>, seals: Credentials, bounds: Bounds) -> World {
        World {
            lives: lives.into_iter().map(Mutex::new).collect(),
            seals: Mutex::new(seals),
            counts: Counts::default(),
            fed: Mutex::default(),
            bounds,
            started: Time::now().0,
            places: [const { Mutex::new(None) }; NODES],
            sights: Default::default(),
            phase: AtomicU8::new(Phase::Hold as u8),
            feeding: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            lost_from: AtomicU64::new(0),
            lost_until: AtomicU64::new(0),
            lies: Mutex::default(),
            happened: Mutex::default(),
        }
    }

    pub fn seals(&self) -> MutexGuard<'_, Credentials> {
        lock(&self.seals)
    }

    pub fn sends(&self, line: &str) {
        lock(&self.fed).push(line.to_owned());
    }

    pub fn fed(&self) -> Vec<String> {
        lock(&self.fed).clone()
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Feed,
            1 => Phase::Hold,
            _ => Phase::Finish,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
    }

    /// Whether nothing is on its way and nothing more will be.
    pub fn is_held(&self) -> bool {
        self.phase() == Phase::Hold && self.feeding.load(SeqCst) == 0
    }

    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    pub fn place(&self, node: usize) -> Option<Place> {
        *lock(&self.places[node])
    }

    pub fn moved(&self, node: usize, place: Option<Place>) {
        *lock(&self.places[node]) = place;
    }

    /// Between these two the store loses something.
    pub fn losing(&self) {
        self.lost_from.store(Time::now().0, SeqCst);
        self.lost_until.store(u64::MAX, SeqCst);
    }

    pub fn has_lost(&self) {
        self.lost_until.store(Time::now().0, SeqCst);
    }

    /// All that was lost was fed again, and no node is left that knew it.
    pub fn has_nothing_lost(&self) {
        self.lost_from.store(0, SeqCst);
    }

    pub fn is_lossy(&self) -> bool {
        self.lost_from.load(SeqCst) != 0
    }

    /// Milliseconds since the start.
    fn relative(&self, time: u64) -> i64 {
        time as i64 - self.started as i64
    }

    pub fn note(&self, what: impl Into<String>) {
        lock(&self.happened).push((Time::now().0, what.into()));
    }

    pub fn happened(&self) -> String {
        let mut text = String::new();
        for (at, what) in lock(&self.happened).iter() {
            let _ = writeln!(text, "  {:>6} {what}", self.relative(*at));
        }
        text
    }

    /// A lie, or anything that must not be.
    pub fn lie(&self, what: String) {
        self.note(format!("LIE: {}", what.lines().next().unwrap_or_default()));
        let mut lies = lock(&self.lies);
        if lies.len() < LIES_MAX {
            lies.push(what);
        }
        if lies.len() >= LIES_MAX {
            self.stop();
        }
    }

    pub fn lies(&self) -> Vec<String> {
        lock(&self.lies).clone()
    }

    pub fn has_lies(&self) -> bool {
        !lock(&self.lies).is_empty()
    }

    /// What this process had shown of each resident up to now; to be handed in with the answers to what is asked next.
    pub fn before(&self, node: usize, process: usize) -> Vec<Before> {
        let mut sight = lock(&self.sights[node]);
        let seen = &sight.of(process, self.lives.len()).residents;
        seen.iter().map(|seen| self.before_now(seen)).collect()
    }

    /// The same of one resident alone.
    pub fn before_of(&self, node: usize, process: usize, resident: usize) -> Before {
        let mut sight = lock(&self.sights[node]);
        self.before_now(&sight.of(process, self.lives.len()).residents[resident])
    }

    fn before_now(&self, seen: &Seen) -> Before {
        Before {
            lossy: self.is_lossy(),
            known: seen.known.clone(),
            told: seen.told,
        }
    }

    /// Holds an answer against what was fed and what was seen.
    pub fn judge(
        &self,
        (node, process, door): (usize, usize, &'static str),
        resident: usize,
        answer: Answer,
        before: Before,
    ) {
        if answer.stale {
            self.counts.marked.fetch_add(1, SeqCst);
        }
        let lossy = before.lossy || self.is_lossy();
        let life = lock(&self.lives[resident]);
        let history = &life.history;
        let checked = self.bounds.check(&answer).and_then(|()| {
            if !lossy {
                return history.check(&answer, &before.known).map(Some);
            }
            // Whatever came back with an older store, a board goes back for nobody. The desk asks the store itself.
            if self.is_fed_nothing_since_the_loss(&life) && door != "explain" {
                history.check_shown(&answer, &before.known)?;
            }
            let lost_until = self.lost_until.load(SeqCst);
            history.check_after_loss(&answer, before.told, lost_until)?;
            Ok(None)
        });
        let mut sight = lock(&self.sights[node]);
        if sight.process > process {
            return;
        }
        let seen = &mut sight.of(process, self.lives.len()).residents[resident];
        if seen.recent.len() == RECENT_MAX {
            seen.recent.pop_front();
        }
        seen.recent.push_back((door, answer.clone()));
        let known = match checked {
            Ok(known) => known,
            Err(lie) => {
                let why = self.describe(&lie, (node, process, door), resident, &life, seen);
                drop(sight);
                drop(life);
                return self.lie(why);
            }
        };
        seen.as_of = seen.as_of.max(answer.as_of);
        self.learn(seen, history, &answer, lossy);
        // The desk asks the store, and may know more than the board for a moment.
        if let Some(known) = known.filter(|_| answer.details.is_none()) {
            // Another thread may have learned more since it was asked.
            let known = history.kept_of(known.and(&seen.known));
            if seen.known != Known::default() {
                let mut delays = lock(&self.counts.delays);
                for version in history.between(&seen.known, &known) {
                    let at = version.acknowledged.unwrap_or(answer.answered);
                    delays.push(answer.answered.saturating_sub(at) as u32);
                }
            }
            seen.known = known;
        }
    }

    /// Of a resident.
    fn is_fed_nothing_since_the_loss(&self, life: &Life) -> bool {
        self.phase() == Phase::Feed && life.is_quiet_since(self.lost_from.load(SeqCst))
    }

    /// What this process has said that it knows.
    fn learn(&self, seen: &mut Seen, history: &History, answer: &Answer, lossy: bool) {
        let told = history.acknowledged_before(answer.as_of);
        let (from, until) = (self.lost_from.load(SeqCst), self.lost_until.load(SeqCst));
        // What was sent before the end of the loss may have been lost; after it nothing is.
        if !lossy
            || answer.as_of <= from
            || answer.as_of > until && seen.told >= history.sent_before(until.saturating_add(1))
        {
            seen.told = seen.told.max(told);
        }
    }

    fn describe(
        &self,
        lie: &Lie,
        (node, process, door): (usize, usize, &'static str),
        resident: usize,
        life: &Life,
        seen: &Seen,
    ) -> String {
        let home = self.seals().who(&life.person).0.home;
        let mut text = format!(
            "{lie}\n  node {node} (process {process}), {door}, resident {resident}, id {:016x}, partition {}{}; in ms since the start\n",
            home.0,
            liangma::board::partition(home),
            if life.is_red_for_good() {
                ", red for good"
            } else {
                ""
            }
        );
        let versions = life.history.versions();
        let first = versions.len().saturating_sub(16);
        for (nth, version) in versions.iter().enumerate().skip(first) {
            let reasons = version.reasons.map(Said::Reasons).unwrap_or(Said::Unknown);
            let _ = writeln!(
                text,
                "    version {nth:>4} {} sent {:>6} acknowledged {:>6}",
                written(reasons),
                self.relative(version.sent),
                version
                    .acknowledged
                    .map_or("no".to_owned(), |at| self.relative(at).to_string()),
            );
        }
        let _ = writeln!(
            text,
            "  what this node said, the lie last (all up to version {} it said it knew):",
            seen.told
        );
        for (door, answer) in &seen.recent {
            let _ = writeln!(
                text,
                "    {door:>7} asked {:>6} answered {:>6} as_of {:>6} {} {}{:?}",
                self.relative(answer.asked),
                self.relative(answer.answered),
                self.relative(answer.as_of),
                written(answer.said),
                if answer.stale { "stale " } else { "" },
                answer.details,
            );
        }
        text
    }

    /// A resident of whom a node has not answered yet as of a time.
    pub fn behind(&self, node: usize, time: u64) -> Option<usize> {
        let sight = lock(&self.sights[node]);
        let is_current = self
            .place(node)
            .is_some_and(|place| place.process == sight.process);
        let mut seen = sight.residents.iter();
        match is_current {
            true => seen.position(|seen| seen.as_of <= time),
            false => Some(0),
        }
    }
}

fn written(said: Said) -> String {
    match said {
        Said::Reasons(bits) => format!("{bits:06b}"),
        other => format!("{other:?}"),
    }
}

/// What one process had shown of a resident, and whether the store may have lost something.
pub struct Before {
    lossy: bool,
    known: Known,
    told: usize,
}
