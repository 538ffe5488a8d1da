//! A resident's life: what is said of them next, by whom, and what is so from then on.

use super::checker::{History, REASONS, SOURCES, voice};
use super::rng::Rng;
use crate::harness::{Person, person};
use liangma::clock::Time;
use liangma::status::Reason;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NAMES: [&str; SOURCES] = ["gd-cdc", "gz-cdc", "sz.customs"];

/// A feed that was given up comes in no later than this: nodes wait for the store no longer than two seconds.
const GIVEN_UP_LIFE: u64 = 3_000;

pub struct Life {
    pub person: Person,
    pub history: History,
    /// What each voice said last, as `export` prints it.
    assertions: BTreeMap<usize, Value>,
    /// Changes of the set of reasons so far.
    changes: u32,
    /// The first reason is set for good, and never among those that change.
    red: bool,
    /// Each reason has one source: of two whose events are lost, a board cannot tell the one from the other.
    alone: bool,
    /// Sent and not acknowledged.
    under_way: Option<String>,
    /// When something was sent again, the last time: what was given up may come in after what was acknowledged.
    repeated: u64,
}

impl Life {
    pub fn new(nth: usize, red: bool, alone: bool) -> Life {
        Life {
            person: person(nth),
            history: History::new(),
            assertions: BTreeMap::new(),
            changes: 0,
            red,
            alone,
            under_way: None,
            repeated: 0,
        }
    }

    pub fn is_red_for_good(&self) -> bool {
        self.red
    }

    /// The line to be sent: that which is under way, else a new one; None if there is to be no new one.
    pub fn line(&mut self, rng: Option<&mut Rng>) -> Option<String> {
        match self.under_way {
            Some(_) => self.repeated = Time::now().0,
            None => self.under_way = Some(self.next(rng?)),
        }
        self.under_way.clone()
    }

    pub fn acknowledge(&mut self, now: u64) {
        self.under_way = None;
        self.history.acknowledge(now);
    }

    /// Whether all that was sent had come in by then, and nothing was sent since.
    pub fn is_quiet_since(&self, time: u64) -> bool {
        let last = &self.history.versions()[self.history.newest()];
        self.repeated + GIVEN_UP_LIFE < time && last.acknowledged.is_some_and(|at| at < time)
    }

    fn next(&mut self, rng: &mut Rng) -> String {
        let said = match rng.below(20) {
            _ if self.red && self.history.newest() == 0 => Some((0, 0)),
            0 | 1 => None,
            // One more source says what is so already.
            2..5 if !self.alone => self.seconded(rng).or_else(|| Some(self.flip(rng))),
            _ => Some(self.flip(rng)),
        };
        let (seq, now) = (self.history.newest() + 1, Time::now().0);
        let Some((reason, source)) = said else {
            self.history.send(None, now);
            let name = ["陈美玲", "陈小明", "陈美"][rng.below(3)];
            let line = json!({
                "event": "resident", "cert_type": "10", "cert_no": self.person.cert_no,
                "name": name, "assurance": "real_person",
            });
            return line.to_string();
        };
        let voice = voice(reason, source);
        let (active, before) = (!self.history.is_active(voice), self.reasons());
        self.history.send(Some((voice, active)), now);
        self.changes += u32::from(self.reasons() != before);
        let action = if active { "set" } else { "clear" };
        let word = Reason::ALL[reason].word();
        let mut line = self.person.said(word, action, seq as u64);
        line["source"] = NAMES[source].into();
        line["at"] = at(seq).into();
        self.assertions.insert(voice, line.clone());
        line.to_string()
    }

    /// The reason that is to change next, and a source that changes it. The sets of reasons follow each other as a Gray code:
    /// all 64 (or 32) before one comes again, so that what is old looks like nothing that is new.
    fn flip(&self, rng: &mut Rng) -> (usize, usize) {
        let kept = usize::from(self.red);
        let nth = (self.changes + 1).trailing_zeros() as usize;
        let reason = kept + nth.min(REASONS - 1 - kept);
        let active: Vec<usize> = (0..SOURCES)
            .filter(|source| self.history.is_active(voice(reason, *source)))
            .collect();
        let source = rng.pick(&active);
        let source = source.unwrap_or_else(|| match self.alone {
            true => reason % SOURCES,
            false => rng.below(SOURCES),
        });
        (reason, source)
    }

    fn seconded(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let all = (0..REASONS).flat_map(|reason| (0..SOURCES).map(move |source| (reason, source)));
        let open: Vec<(usize, usize)> = all
            .filter(|(reason, source)| {
                let silent = !self.history.is_active(voice(*reason, *source));
                silent && self.reasons() & 1 << reason != 0
            })
            .collect();
        rng.pick(&open)
    }

    fn reasons(&self) -> u8 {
        self.history.versions()[self.history.newest()]
            .reasons
            .unwrap_or(0)
    }

    /// Every status as `export` prints it.
    pub fn exported(&self) -> impl Iterator<Item = &Value> {
        self.assertions.values()
    }
}

const FIRST: u64 = 1_577_836_800_000;

/// A time that tells the number of a version.
fn at(version: usize) -> String {
    Time(FIRST + 1000 * version as u64).to_string()
}

/// The version that set a reason, as an explanation tells it: the voice, and the version.
pub fn set_by(reason: &str, source: &str, since: &str) -> Option<(usize, usize)> {
    let reason = Reason::ALL
        .iter()
        .position(|known| known.word() == reason)?;
    let source = NAMES.iter().position(|known| *known == source)?;
    let since: jiff::Timestamp = since.parse().ok()?;
    let since = u64::try_from(since.as_millisecond()).ok()?;
    Some((
        voice(reason, source),
        (since.checked_sub(FIRST)? / 1000) as usize,
    ))
}

/// The bits of reasons by their words; None where one is not known.
pub fn bits<'w>(mut words: impl Iterator<Item = &'w str>) -> Option<u8> {
    words.try_fold(0, |bits, word| {
        let reason = Reason::ALL
            .iter()
            .position(|reason| reason.word() == word)?;
        Some(bits | 1 << reason)
    })
}

mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_set_of_reasons_comes_again_before_all_others() {
        for (red, sets) in [(false, 64), (true, 32)] {
            let mut life = Life::new(1, red, false);
            let mut rng = Rng::new(7);
            let mut last = None;
            let mut seen = Vec::new();
            while seen.len() < 4 * sets {
                life.line(Some(&mut rng));
                life.acknowledge(0);
                if last.replace(life.reasons()) != Some(life.reasons()) {
                    seen.push(life.reasons());
                }
            }
            for window in seen.windows(sets) {
                assert_eq!(window.iter().collect::<HashSet<_>>().len(), sets);
            }
            assert!(!red || seen.iter().all(|set| set & 1 != 0));
        }
    }
}
