//! What may be said of one resident, and when: the history of what was fed, and whether an answer fits it.
//! Pure: times are milliseconds of the one clock that all processes here share.
//!
//! What one source says of one reason is a voice. Each voice is heard in its order, and none waits for another: a node that
//! follows a server which was given up may have a later event of one voice and lack an earlier one of another. Only what was
//! acknowledged before the answer's `as_of`, and what the node has shown before, must be in it.

use std::fmt;

pub const REASONS: usize = 6;
pub const SOURCES: usize = 3;
const VOICES: usize = REASONS * SOURCES;

pub fn voice(reason: usize, source: usize) -> usize {
    reason * SOURCES + source
}

/// What an answer says of a resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// On record, with these reasons, a bit each.
    Reasons(u8),
    /// Not on record.
    Unknown,
    TooOld,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub asked: u64,
    pub answered: u64,
    pub said: Said,
    /// The voices that have their reason set, and by which version, where that is told too.
    pub details: Option<Vec<(usize, usize)>>,
    pub as_of: u64,
    pub stale: bool,
    pub age: Option<u64>,
}

/// Why an answer is a lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It lacks this version, which was acknowledged before its `as_of`.
    Behind(usize),
    /// It lacks this version, which the same node has shown.
    WentBack(usize),
    /// A colour without the mark, or older than may be told; or the mark or no colour without need.
    Age(&'static str),
    /// A store that forgot made a red person green, or one on record unknown, to whom this node knew better.
    Forgot(usize),
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lie::Behind(version) => write!(
                f,
                "BEHIND: it lacks version {version}, acknowledged before its as_of"
            ),
            Lie::WentBack(version) => write!(
                f,
                "WENT BACK: it lacks version {version}, which this node has shown"
            ),
            Lie::Age(what) => write!(f, "AGE: {what}"),
            Lie::Forgot(version) => write!(
                f,
                "FORGOT: this node knew version {version}, and since then it was never so"
            ),
        }
    }
}

/// The settings of the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub stale_after: u64,
    pub too_old_after: u64,
}

impl Bounds {
    /// Whether the mark and the missing colour fit the age; the node read its clock between question and answer.
    pub fn check(&self, answer: &Answer) -> Result<(), Lie> {
        let least = answer.asked.saturating_sub(answer.as_of);
        let most = answer.answered.saturating_sub(answer.as_of);
        let withheld = answer.said == Said::TooOld;
        let wrong = [
            (answer.as_of > answer.answered, "as_of is yet to come"),
            (!answer.stale && least > self.stale_after, "old, not marked"),
            (answer.stale && most <= self.stale_after, "marked, not old"),
            (!withheld && least > self.too_old_after, "a colour too old"),
            (withheld && most <= self.too_old_after, "withheld, not old"),
            (
                answer.age.is_some_and(|age| age < least || age > most),
                "age_ms is not the age of as_of",
            ),
        ];
        let wrong = wrong.into_iter().find(|(holds, _)| *holds);
        wrong.map_or(Ok(()), |(_, what)| Err(Lie::Age(what)))
    }
}

/// One event, and what is so from then on.
#[derive(Clone, Debug)]
pub struct Version {
    /// None: not on record.
    pub reasons: Option<u8>,
    /// For the first time.
    pub sent: u64,
    pub acknowledged: Option<u64>,
}

/// What of a resident is known to be on a node's board: that they are on record, and how many events of each voice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    recorded: bool,
    heard: [usize; VOICES],
}

impl Known {
    /// What either knows.
    pub fn and(&self, other: &Known) -> Known {
        Known {
            recorded: self.recorded || other.recorded,
            heard: std::array::from_fn(|voice| self.heard[voice].max(other.heard[voice])),
        }
    }
}

/// All events of one resident. One is under way at a time, so that all but the newest are acknowledged.
#[derive(Clone, Debug)]
pub struct History {
    versions: Vec<Version>,
    /// Of each voice which versions are its own, and whether they set its reason. It sets and clears in turn.
    voices: [Vec<(usize, bool)>; VOICES],
}

impl History {
    pub fn new() -> History {
        History {
            versions: vec![Version {
                reasons: None,
                sent: 0,
                acknowledged: Some(0),
            }],
            voices: Default::default(),
        }
    }

    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub fn newest(&self) -> usize {
        self.versions.len() - 1
    }

    /// `said`: a voice, and whether it sets its reason; None: an event that changes no reason.
    pub fn send(&mut self, said: Option<(usize, bool)>, now: u64) {
        assert!(self.is_acknowledged(), "one at a time");
        let version = self.versions.len();
        if let Some((voice, active)) = said {
            assert_ne!(self.is_active(voice), active, "in turn");
            self.voices[voice].push((version, active));
        }
        let reasons = (0..VOICES)
            .filter(|voice| self.is_active(*voice))
            .fold(0, |bits, voice| bits | 1 << (voice / SOURCES));
        self.versions.push(Version {
            reasons: Some(reasons),
            sent: now,
            acknowledged: None,
        });
    }

    pub fn is_active(&self, voice: usize) -> bool {
        self.after(voice, self.voices[voice].len())
    }

    /// What a voice says after so many of its events.
    fn after(&self, voice: usize, heard: usize) -> bool {
        heard > 0 && self.voices[voice][heard - 1].1
    }

    /// How many of its events must be heard, of which at least so many are, for a voice to say this; None if it never does.
    fn until(&self, voice: usize, heard: usize, active: bool) -> Option<usize> {
        let all = self.voices[voice].len();
        (heard..=all).find(|heard| self.after(voice, *heard) == active)
    }

    pub fn acknowledge(&mut self, now: u64) {
        let newest = self.newest();
        self.versions[newest].acknowledged.get_or_insert(now);
    }

    pub fn is_acknowledged(&self) -> bool {
        self.versions[self.newest()].acknowledged.is_some()
    }

    /// The newest version that was acknowledged before a time. Both are whole milliseconds of one clock, so that of two
    /// in the same it is not known which came first.
    pub fn acknowledged_before(&self, time: u64) -> usize {
        let before = |version: &Version| version.acknowledged.is_some_and(|at| at < time);
        self.versions.partition_point(before).saturating_sub(1)
    }

    /// The newest version that was sent before a time.
    pub fn sent_before(&self, time: u64) -> usize {
        let before = |version: &Version| version.sent < time;
        self.versions.partition_point(before).saturating_sub(1)
    }

    /// What a node that showed so much may not go back behind. A clear that nobody was told is kept may be lost with the server
    /// that took it, and then the red stands again.
    pub fn kept_of(&self, mut known: Known) -> Known {
        for (voice, own) in self.voices.iter().enumerate() {
            let under_way = |(version, active): &(usize, bool)| {
                !active && self.versions[*version].acknowledged.is_none()
            };
            if known.heard[voice] == own.len() && own.last().is_some_and(under_way) {
                known.heard[voice] -= 1;
            }
        }
        known
    }

    /// What must be known by whoever knows all up to a version.
    fn known_at(&self, version: usize) -> Known {
        Known {
            recorded: version > 0,
            heard: std::array::from_fn(|voice| {
                self.voices[voice].partition_point(|(other, _)| *other <= version)
            }),
        }
    }

    /// What is known to be on the board after an answer; `shown` is what was when it was asked.
    pub fn check(&self, answer: &Answer, shown: &Known) -> Result<Known, Lie> {
        self.check_shown(answer, shown)?;
        let told = self.known_at(self.acknowledged_before(answer.as_of));
        self.fit(answer, &shown.and(&told)).map_err(Lie::Behind)
    }

    /// That it lacks nothing of what was shown when it was asked.
    pub fn check_shown(&self, answer: &Answer, shown: &Known) -> Result<(), Lie> {
        self.fit(answer, shown).map(|_| ()).map_err(Lie::WentBack)
    }

    /// The least that is known of a board which knows so much and says this; or a version that is not in what it says.
    fn fit(&self, answer: &Answer, known: &Known) -> Result<Known, usize> {
        let mut known = known.clone();
        let bits = match answer.said {
            Said::TooOld => return Ok(known),
            Said::Unknown if known.recorded => return Err(1),
            Said::Unknown => return Ok(known),
            Said::Reasons(bits) => bits,
        };
        known.recorded = true;
        for reason in 0..REASONS {
            let voices = reason * SOURCES..(reason + 1) * SOURCES;
            // The version that says otherwise, if one does.
            let lacks = |heard: &[usize; VOICES]| {
                let last = voices.clone().filter_map(|voice| {
                    Some(self.voices[voice].get(heard[voice].checked_sub(1)?)?.0)
                });
                last.max().unwrap_or(0)
            };
            if let Some(details) = &answer.details {
                for voice in voices.clone() {
                    let set_by = details.iter().find(|(other, _)| *other == voice);
                    let heard = known.heard[voice];
                    let until = match set_by {
                        None => self.until(voice, heard, false),
                        Some((_, version)) => {
                            let own = &self.voices[voice];
                            let nth = own.iter().position(|said| *said == (*version, true));
                            nth.map(|nth| nth + 1).filter(|nth| *nth >= heard)
                        }
                    };
                    known.heard[voice] = until.ok_or_else(|| lacks(&known.heard))?;
                }
            } else if bits & 1 << reason == 0 {
                for voice in voices.clone() {
                    let until = self.until(voice, known.heard[voice], false);
                    known.heard[voice] = until.ok_or_else(|| lacks(&known.heard))?;
                }
            } else {
                let mut may = voices.clone().filter_map(|voice| {
                    Some((voice, self.until(voice, known.heard[voice], true)?))
                });
                let (voice, until) = may.next().ok_or_else(|| lacks(&known.heard))?;
                // Of several it is not known which.
                if may.next().is_none() {
                    known.heard[voice] = until;
                }
            }
        }
        Ok(known)
    }

    /// The versions that are in the later, and were not in the earlier.
    pub fn between(&self, earlier: &Known, later: &Known) -> impl Iterator<Item = &Version> {
        let heard = earlier.heard.iter().zip(&later.heard).zip(&self.voices);
        heard
            .flat_map(|((from, until), own)| own.get(*from..*until).unwrap_or_default())
            .map(|(version, _)| &self.versions[*version])
    }

    /// The same where the store may have lost what was sent up to `lost_until`: a node that knew a version never shows green,
    /// nor unknown, unless that is so then or later. It may show a red that is gone, and lack what it never knew.
    pub fn check_after_loss(
        &self,
        answer: &Answer,
        known: usize,
        lost_until: u64,
    ) -> Result<(), Lie> {
        let fine = match answer.said {
            Said::TooOld => true,
            Said::Unknown => known == 0,
            Said::Reasons(0) => (known..=self.newest()).any(|now| {
                (0..VOICES).all(|voice| self.may_be_clear(voice, known, now, lost_until))
            }),
            Said::Reasons(_) => true,
        };
        fine.then_some(()).ok_or(Lie::Forgot(known))
    }

    /// Whether a voice may say that its reason is not, at a version, to whom knew an earlier one and lacks of what came
    /// between whatever was sent up to `lost_until`.
    fn may_be_clear(&self, voice: usize, known: usize, now: usize, lost_until: u64) -> bool {
        let own = self.voices[voice].iter();
        for (version, active) in own.rev().filter(|(version, _)| *version <= now) {
            let may_be_lost = *version > known && self.versions[*version].sent <= lost_until;
            if !active || !may_be_lost {
                return !active;
            }
        }
        true
    }
}

mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        stale_after: 1_000,
        too_old_after: 3_000,
    };

    fn answer(said: Said, as_of: u64, asked: u64) -> Answer {
        Answer {
            asked,
            answered: asked + 10,
            said,
            details: None,
            as_of,
            stale: asked > as_of + 1_000,
            age: Some(asked.saturating_sub(as_of)),
        }
    }

    /// Reasons 1, 3, 2, 6, acknowledged at 100, 200, 300; the fourth was sent at 390.
    fn history() -> History {
        let mut history = History::new();
        let said = [(0, true), (1, true), (0, false), (2, true)];
        for (nth, (reason, active)) in said.into_iter().enumerate() {
            let at = 100 * (nth as u64 + 1);
            history.send(Some((voice(reason, 0), active)), at - 10);
            if nth < 3 {
                history.acknowledge(at);
            }
        }
        history
    }

    /// After an answer that says `shown`, of when nothing was acknowledged.
    fn check(shown: u8, said: u8, as_of: u64) -> Result<(), Lie> {
        let history = history();
        let before = history.check(&answer(Said::Reasons(shown), 0, 1_000), &Known::default());
        let answer = answer(Said::Reasons(said), as_of, 1_000);
        history.check(&answer, &before?).map(drop)
    }

    #[test]
    fn what_is_acknowledged_before_as_of_must_show() {
        assert_eq!(check(0, 3, 250), Ok(()));
        assert_eq!(check(0, 2, 250), Ok(()));
        assert_eq!(check(0, 6, 250), Ok(()));
        assert_eq!(check(0, 1, 250), Err(Lie::Behind(2)));
        assert_eq!(check(0, 3, 301), Err(Lie::Behind(3)));
        // In the same millisecond it may have come before or after.
        assert_eq!(check(0, 1, 200), Ok(()));
        assert_eq!(check(0, 1, 201), Err(Lie::Behind(2)));
        let unknown = |as_of| {
            let unknown = answer(Said::Unknown, as_of, 1_000);
            history().check(&unknown, &Known::default()).map(drop)
        };
        assert_eq!(unknown(100), Ok(()));
        assert_eq!(unknown(101), Err(Lie::Behind(1)));
    }

    #[test]
    fn what_is_not_acknowledged_may_show_and_then_stays() {
        assert_eq!(check(2, 6, 500), Ok(()));
        assert_eq!(check(6, 2, 500), Err(Lie::WentBack(4)));
        assert_eq!(check(6, 2, 0), Err(Lie::WentBack(4)));
        assert_eq!(check(3, 1, 0), Err(Lie::WentBack(2)));
        let unknown = answer(Said::Unknown, 0, 1_000);
        let shown = history().check(&answer(Said::Reasons(0), 0, 1_000), &Known::default());
        assert_eq!(
            history().check(&unknown, &shown.unwrap()),
            Err(Lie::WentBack(1))
        );
    }

    #[test]
    fn an_event_may_show_without_an_earlier_one_of_another_voice() {
        assert_eq!(check(0, 4, 0), Ok(()));
        assert_eq!(check(4, 7, 0), Ok(()));
        assert_eq!(check(4, 4, 250), Err(Lie::Behind(2)));
    }

    #[test]
    fn what_was_never_fed_never_shows() {
        assert!(check(0, 8, 0).is_err());
    }

    #[test]
    fn a_reason_shows_while_one_of_its_voices_may_say_so() {
        let mut history = History::new();
        for (at, (source, active)) in [(0, true), (1, true), (0, false)].into_iter().enumerate() {
            history.send(Some((voice(0, source), active)), at as u64);
            history.acknowledge(at as u64);
        }
        let check =
            |said, as_of| history.check(&answer(Said::Reasons(said), as_of, 9), &Known::default());
        // The second may not have come yet; once it has, it stays.
        assert!(check(0, 0).is_ok() && check(1, 0).is_ok() && check(1, 9).is_ok());
        assert_eq!(check(0, 9), Err(Lie::Behind(3)));
    }

    #[test]
    fn details_must_be_those_of_the_voices() {
        let check = |details: &[(usize, usize)], as_of| {
            let mut told = answer(Said::Reasons(2), as_of, 1_000);
            told.details = Some(details.to_vec());
            history().check(&told, &Known::default()).map(drop)
        };
        let second = voice(1, 0);
        assert_eq!(check(&[(second, 2)], 350), Ok(()));
        assert!(check(&[(second, 3)], 350).is_err());
        assert!(check(&[(second + 1, 2)], 350).is_err());
        assert!(check(&[], 350).is_err());
        assert_eq!(
            check(&[(voice(0, 0), 1), (second, 2)], 350),
            Err(Lie::Behind(3))
        );
    }

    #[test]
    fn what_newly_shows_is_told_once() {
        let history = history();
        let check = |said, known: &Known| {
            history
                .check(&answer(Said::Reasons(said), 0, 1_000), known)
                .unwrap()
        };
        let first = check(3, &Known::default());
        let second = check(2, &first);
        let sent = |from: &Known, until: &Known| -> Vec<u64> {
            history
                .between(from, until)
                .map(|version| version.sent)
                .collect()
        };
        assert_eq!(sent(&Known::default(), &first), [90, 190]);
        assert_eq!(sent(&first, &second), [290]);
        assert_eq!(sent(&second, &check(2, &second)), [0; 0]);
    }

    #[test]
    fn the_mark_follows_from_the_age() {
        let red = Said::Reasons(1);
        let marked = |stale, said, as_of, asked| {
            let answer = Answer {
                stale,
                ..answer(said, as_of, asked)
            };
            BOUNDS.check(&answer).is_err()
        };
        assert!(!marked(false, red, 0, 1_000) && marked(false, red, 0, 1_001));
        assert!(marked(true, red, 0, 990) && !marked(true, red, 0, 991));
        assert!(!marked(true, red, 0, 3_000) && marked(true, red, 0, 3_001));
        assert!(marked(true, Said::TooOld, 0, 2_990) && !marked(true, Said::TooOld, 0, 2_991));
        assert!(marked(false, red, 1_011, 1_000));
    }

    #[test]
    fn a_clear_that_was_not_acknowledged_may_be_taken_back_and_a_red_may_not() {
        let mut history = history();
        let all = history.known_at(4);
        assert_eq!(history.kept_of(all.clone()), all);
        history.acknowledge(400);
        history.send(Some((voice(1, 0), false)), 490);
        let all = history.known_at(5);
        assert_eq!(history.kept_of(all.clone()), history.known_at(4));
        history.acknowledge(500);
        assert_eq!(history.kept_of(all.clone()), all);
    }

    #[test]
    fn after_a_loss_red_may_stay_and_green_must_have_been() {
        let mut history = history();
        let green = answer(Said::Reasons(0), 0, 1_000);
        let red = answer(Said::Reasons(63), 0, 1_000);
        for known in 1..=4 {
            let forgot = Err(Lie::Forgot(known));
            assert_eq!(history.check_after_loss(&green, known, 0), forgot);
        }
        assert_eq!(history.check_after_loss(&green, 0, 0), Ok(()));
        assert_eq!(history.check_after_loss(&red, 4, 0), Ok(()));
        for reason in [1, 2] {
            history.acknowledge(400);
            history.send(Some((voice(reason, 0), false)), 500);
        }
        assert_eq!(history.check_after_loss(&green, 4, 0), Ok(()));
        assert_eq!((history.sent_before(390), history.sent_before(391)), (3, 4));
    }

    /// Green after a loss of what was sent up to `lost_until`, from a node that knew a version.
    fn green_after_loss(known: usize, lost_until: u64) -> Result<(), Lie> {
        let green = answer(Said::Reasons(0), 0, 1_000);
        history().check_after_loss(&green, known, lost_until)
    }

    #[test]
    fn a_red_that_a_node_knew_outlives_its_store() {
        // The second reason of version 2 was never cleared.
        assert_eq!(green_after_loss(2, 1_000), Err(Lie::Forgot(2)));
        assert_eq!(green_after_loss(3, 1_000), Err(Lie::Forgot(3)));
        let unknown = answer(Said::Unknown, 0, 1_000);
        assert_eq!(
            history().check_after_loss(&unknown, 1, 1_000),
            Err(Lie::Forgot(1))
        );
        assert_eq!(history().check_after_loss(&unknown, 0, 1_000), Ok(()));
    }

    #[test]
    fn what_a_node_never_knew_may_be_lost_with_the_store() {
        // Version 2 set the second reason, and is lost; version 3 cleared the first.
        assert_eq!(green_after_loss(1, 200), Ok(()));
        // It was sent after the loss: whoever has version 3 has it.
        assert_eq!(green_after_loss(1, 150), Err(Lie::Forgot(1)));
        assert_eq!(green_after_loss(0, 0), Ok(()));
    }
}
