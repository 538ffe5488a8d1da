//! The controller of one door: sets the number of admitted connections, the accept queue, Retry-After and advice for balancers.
//! It runs twenty times a second, beside the accept loop.

use super::listener::Listener;
use crate::admission::answers_reached::AnswersReached;
use crate::admission::observations::{CROWD_LEAST, Observations};
use crate::admission::unread::UnreadEstimate;
use crate::admission::window::{Window, WindowSettings};
use crate::clock::Moment;
use crate::http::door_settings::Settings;
use crate::http::door_state::{DoorState, QUIET_STEP, STEP};
use crate::kernel;
use socket2::SockRef;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Interval at which what the kernel dropped is counted, and time for which newcomers are refused after there was no room for them.
const CROWD_LOOK: Duration = Duration::from_secs(1);

/// Time for which a metric shows the waits of the last requests: less than an alert waits, so that one request that waited long does
/// not ring until the next one comes.
const WAITS_SHOWN_FOR: Duration = Duration::from_secs(30);

/// Steps without any traffic after which the controller pauses until there is some.
const QUIET_STEPS: u32 = 20;

/// Steps whose newcomers show how many a door takes in: a fifth of a second, in which a balancer at L4 asks twice.
const NEWCOMERS_STEPS: usize = 4;

/// Answers that accepting a connection and answering its first request cost.
const ANSWERS_PER_NEWCOMER: f64 = 5.0;

/// Frozen connections that a door hands to the responder in the time of one answer: 6 against 25 µs, with thousands of
/// connections and a small part of a core.
const HANDED_PER_ANSWER: u64 = 4;

/// Shortest accept queue of an overloaded door, unless balancers were told more. A shorter one would refuse clients that could be
/// served at once.
const BACKLOG_LEAST: u32 = 32;

/// Growth of a cut accept queue in a second without overload: what a queue that is too long takes in waits for seconds.
const BACKLOG_GROWTH: u32 = 4;

/// Returns the window of a door without answers so far.
pub fn window(settings: &Settings) -> Window {
    Window::new(WindowSettings {
        most: settings.admission.connections_max,
        overloaded_least: settings.in_flight_least,
        queue_delay_target: settings.admission.queue_delay_target,
    })
}

/// Controls the door until the task is aborted.
pub async fn control(listener: &Listener, shared: &DoorState, settings: &Settings) {
    let mut second = SecondCounts::begin();
    let mut backlog = settings.backlog;
    let mut pace = Pace::begin();
    let mut admissions = Pace::begin();
    let mut refusals = Pace::begin();
    let mut reached = AnswersReached::default();
    let mut told_before = 0;
    let mut window = window(settings);
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut quiet_steps = 0;
    let load = &*shared.load;
    let mut overrun_at: Option<Instant> = None;
    let mut sampled_at = Instant::now();
    let mut queue = QueueWatch::default();
    let mut newcomers_told = NewcomersTold::default();
    let mut overflowed_at: Option<Instant> = None;
    loop {
        if quiet_steps < QUIET_STEPS {
            step.tick().await;
        } else {
            shared.is_quiet.store(true, Relaxed);
            let stirred = tokio::time::timeout(QUIET_STEP, shared.steers.notified()).await;
            shared.is_quiet.store(false, Relaxed);
            if stirred.is_ok() {
                quiet_steps = 0;
                continue;
            }
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(pace.since);
        // In this order: who is told in between is no newcomer.
        let busy = load.rejected.load(Relaxed);
        let refused_frozen = shared.refused_frozen.load(Relaxed);
        // Without those whom it hands over, the door could answer more.
        let answered = shared.answered.load(Relaxed) + refused_frozen / HANDED_PER_ANSWER;
        let came = answered != pace.count;
        let answers = pace.step(answered, now);
        shared.answers_per_second.store(answers as usize, Relaxed);
        shared.returns.pass(took, reached.step(answers, took));
        let seen = shared.waits.take();
        window.set_most(load.connections_max.load(Relaxed));
        let queued = kernel::queued(listener).unwrap_or_default();
        let observed = Observations {
            wait: seen.map(|seen| seen.p90),
            unread: UnreadEstimate {
                likely: load.unread.load(Relaxed),
                least: load.unread_least.load(Relaxed),
            },
            answers,
            answers_last: pace.last(),
        };
        let advice = window.step(observed, queued, took);
        load.in_flight_max.store(advice.in_flight_max, Relaxed);
        load.weight.store(advice.weight, Relaxed);
        load.was_overloaded.store(advice.was_overloaded, Relaxed);
        let has_room = look(shared, settings, observed, queued, now);
        if has_room {
            // The limit may have risen.
            shared.has_room_again.notify_one();
        }
        let lately = |at: Instant| now.saturating_duration_since(at) < CROWD_LOOK;
        // A balancer sends as many at once as it was told.
        let told_max = match load.has_balancer(Moment::now()) {
            true => advice.in_flight_max as usize,
            false => 0,
        };
        let on_their_way = newcomers_told.step(load.newcomers_told.swap(0, Relaxed));
        let safe = safe_queue(backlog as usize, told_max);
        let overflows = queue.step(queued, safe, shared.waits_are_long.load(Relaxed));
        if overflows {
            overflowed_at = Some(now);
        }
        if !has_room || overflows {
            overrun_at = Some(now);
        }
        let was_overrun = overrun_at.is_some_and(lately);
        let admitted = admissions.step(load.accepted.load(Relaxed), now);
        // Connections that can be admitted within half of the wait stay in the queue; the other half is for the door.
        let patient = admitted * settings.admission.queue_delay_target.as_secs_f64() / 2.0;
        shared.queue_keep_min.store(patient as usize, Relaxed);
        // Those who had to make room are no newcomers.
        let newcomers = busy - refused_frozen.min(busy);
        let refused = refusals.step(newcomers, now);
        let told =
            newcomers.saturating_sub(std::mem::replace(&mut told_before, newcomers)) as usize;
        let waiting = if has_room { 0 } else { queued + told };
        shared.waiting.store(waiting, Relaxed);
        let frozen = load.frozen.load(Relaxed) > 0;
        shared.metrics.queued.store(queued as u64, Relaxed);
        let must_make_room = shared.surplus.load(Relaxed) > 0 || shared.waiting.load(Relaxed) > 0;
        if must_make_room {
            shared.looks.iter().for_each(Notify::notify_one);
        }
        let is_calm = !came
            && seen.is_none()
            && queued == 0
            && load.unread.load(Relaxed) == 0
            && !was_overrun
            && !must_make_room
            && backlog == settings.backlog;
        quiet_steps = match is_calm && !frozen {
            true => (quiet_steps + 1).min(QUIET_STEPS),
            false => 0,
        };
        let waits = seen.map(|seen| [seen.p50, seen.p90, seen.p99]);
        if waits.is_some() {
            sampled_at = now;
        }
        let is_old = now.saturating_duration_since(sampled_at) > WAITS_SHOWN_FOR;
        if let Some(waits) = waits.or(is_old.then_some([Duration::ZERO; 3])) {
            for (meter, wait) in shared.metrics.waits.iter().zip(waits) {
                meter.store(wait.as_millis() as u64, Relaxed);
            }
        }
        let queue_delay_target = settings.admission.queue_delay_target;
        let are_late = seen.is_some_and(|seen| seen.p90 > queue_delay_target);
        if is_filling(queued, backlog) {
            second.drops.watch(kernel::overflows);
        }
        // Who has left is no sample, and a queue of such clients only is not late by any.
        if queued + told > 0 && (are_late || !has_room || overflows) {
            second.full = true;
            let least = (told_max.max(on_their_way) as u32).max(BACKLOG_LEAST);
            let taken_in = admitted.max(answers / ANSWERS_PER_NEWCOMER) + refused;
            let fitting = match was_overrun && shared.refusal_pace.keeps_up(Moment::now()) {
                true => settings.backlog,
                false => fitting_backlog(taken_in, settings.admission.queue_delay_target, least),
            };
            if let Some(changed) = next_backlog(backlog, fitting, least, settings.backlog) {
                queue_up_to(listener, &mut backlog, changed);
            }
        }
        if now.saturating_duration_since(second.since) >= CROWD_LOOK {
            let was_full = second.end(shared, now);
            newcomers_told.end_second();
            if !was_full && backlog != settings.backlog {
                let longer = grown_backlog(backlog, settings.backlog);
                queue_up_to(listener, &mut backlog, longer);
            }
        }
        let safe = safe_queue(backlog as usize, told_max);
        load.safe_queue.store(safe, Relaxed);
        let newcomers_max = newcomers_max(admissions.counted(NEWCOMERS_STEPS), safe);
        load.newcomers_max.store(newcomers_max, Relaxed);
        let keep_max = match overflowed_at.is_some_and(lately) {
            true => safe,
            false => usize::MAX,
        };
        shared.queue_keep_max.store(keep_max, Relaxed);
        shared.was_overrun.store(was_overrun, Relaxed);
        if was_overrun || frozen {
            shared.wake_responder();
        }
    }
}

/// Adjusts the limit of a door with `queued` connections in its accept queue, and publishes what follows for the threads. Returns
/// whether there is room for new connections.
fn look(
    shared: &DoorState,
    settings: &Settings,
    observed: Observations,
    queued: usize,
    now: Instant,
) -> bool {
    let mut door = shared.door();
    door.set_most(shared.load.connections_max.load(Relaxed));
    // An idle door has no samples that could say so.
    let is_idle = queued == 0 && observed.unread.likely == 0 && observed.answers_last == 0.0;
    let waits_are_long = match observed.wait {
        Some(wait) => wait > settings.admission.queue_delay_target / 2,
        None => shared.waits_are_long.load(Relaxed) && !is_idle,
    };
    shared.waits_are_long.store(waits_are_long, Relaxed);
    door.adjust(observed, now);
    let (limit, inside) = (door.limit(), door.inside());
    shared.surplus.store(inside.saturating_sub(limit), Relaxed);
    // New connections need some of the room.
    shared
        .spare
        .store((limit * 4 / 5).saturating_sub(inside), Relaxed);
    shared
        .all_places_taken
        .store(door.all_places_taken(), Relaxed);
    shared.load.limit.store(limit, Relaxed);
    shared.load.frozen.store(door.frozen(), Relaxed);
    door.has_room()
}

/// Tells when the accept queue is about to overflow: who is not in it hears nothing.
#[derive(Default)]
struct QueueWatch {
    was_long: bool,
}

impl QueueWatch {
    /// Returns whether newcomers arrive faster than the door takes them in: more are queued than is `safe`, and were so a step ago or
    /// requests wait. A burst that finds an idle door is no such queue.
    fn step(&mut self, queued: usize, safe: usize, waits_are_long: bool) -> bool {
        let is_long = queued > safe;
        let was_long = std::mem::replace(&mut self.was_long, is_long);
        is_long && (was_long || waits_are_long)
    }
}

/// The most newcomers that balancers were told to send at once, in this second and the one before: as many may be on their way. A
/// balancer counts those that a queue drops as connections of the node until it gives up on them.
#[derive(Default)]
struct NewcomersTold {
    now: usize,
    before: usize,
}

impl NewcomersTold {
    /// Adds what was told since the last step. Returns the most of both seconds.
    fn step(&mut self, told: usize) -> usize {
        self.now = self.now.max(told);
        self.now.max(self.before)
    }

    fn end_second(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

/// Returns how many newcomers a balancer may send at once: as many as the door took in in the time of two questions, so that a crowd
/// shows within some tenths of a second how many that are; however few came before, as many as are no crowd; and never more than the
/// queue holds safely. What it drops hears nothing, and if a slow door is sent as many as it holds at once, most are answered too
/// late.
pub fn newcomers_max(taken_in: u64, safe_queue: usize) -> usize {
    safe_queue.min(CROWD_LEAST.max(taken_in as usize))
}

/// Returns how many newcomers a queue of some length holds without being about to overflow, which are left in it: half of it, or
/// what a balancer may send at once, but never so many that nothing more fits in.
pub fn safe_queue(backlog: usize, told_max: usize) -> usize {
    backlog.div_ceil(2).max(told_max.min(backlog * 3 / 4))
}

/// Returns the accept queue that can be served or refused within the allowed wait, at least `least`: clients that queue longer have
/// often left. What the queue does not take, nobody can tell, and a balancer tries it again only after its time-out. `taken_in` is
/// the number of connections a second that were admitted or refused.
fn fitting_backlog(taken_in: f64, wait: Duration, least: u32) -> u32 {
    let within = (taken_in * wait.as_secs_f64()) as u32;
    within.max(least)
}

/// Returns the new length of an accept queue that is `now` long; None if it stays. Changes by less than a factor of two are not
/// worth a call, but a queue is never shorter than `least`, and goes back to `most` where that is fitting.
fn next_backlog(now: u32, fitting: u32, least: u32, most: u32) -> Option<u32> {
    let (fitting, least) = (fitting.min(most), least.min(most));
    let is_far = fitting >= now.saturating_mul(2) || fitting.saturating_mul(2) <= now;
    let is_short = now < least || fitting == most;
    (fitting != now && (is_far || is_short)).then_some(fitting)
}

/// Returns the length of a cut queue after a second without overload.
fn grown_backlog(now: u32, most: u32) -> u32 {
    now.saturating_mul(BACKLOG_GROWTH).min(most)
}

fn queue_up_to(listener: &Listener, backlog: &mut u32, most: u32) {
    if SockRef::from(listener).listen(most as i32).is_ok() {
        *backlog = most;
    }
}

/// The recent rate of a count.
struct Pace {
    since: Instant,
    count: u64,
    /// The last steps, the newest last: how long each took, in seconds, and by how much the count rose.
    steps: VecDeque<(f64, u64)>,
}

impl Pace {
    /// Steps over which the rate is averaged, because a machine with shared cores works in some of them only.
    const STEPS: usize = 8;

    fn begin() -> Pace {
        Pace {
            since: Instant::now(),
            count: 0,
            steps: VecDeque::with_capacity(Pace::STEPS),
        }
    }

    /// Returns the rate a second of the last few steps: one alone may be the moment that a quota gives.
    fn last(&self) -> f64 {
        const FEW: usize = 3;
        let few = self.steps.iter().rev().take(FEW);
        let (took, news) = few.fold((0.0, 0), Pace::add);
        news as f64 / f64::max(took, STEP.as_secs_f64() * FEW as f64)
    }

    /// Returns by how much the count rose in the last `few` steps.
    fn counted(&self, few: usize) -> u64 {
        let steps = self.steps.iter().rev().take(few);
        steps.map(|(_, news)| news).sum()
    }

    fn add(sum: (f64, u64), step: &(f64, u64)) -> (f64, u64) {
        (sum.0 + step.0, sum.1 + step.1)
    }

    /// Adds the count so far. Returns the rate a second, of the last steps from the first one with a count.
    fn step(&mut self, count: u64, now: Instant) -> f64 {
        let mut took = now.saturating_duration_since(self.since).as_secs_f64();
        if self.steps.iter().all(|(_, news)| *news == 0) {
            self.steps.clear();
            // What came, came at the end of a pause.
            took = took.min(STEP.as_secs_f64());
        } else if self.steps.len() == Pace::STEPS {
            self.steps.pop_front();
        }
        self.steps
            .push_back((took, count.saturating_sub(self.count)));
        (self.since, self.count) = (now, count);
        let (took, news) = self.steps.iter().fold((0.0, 0), Pace::add);
        news as f64 / took.max(1e-3)
    }
}

/// Returns whether an accept queue is a quarter full: what the kernel drops is counted from then on.
fn is_filling(queued: usize, backlog: u32) -> bool {
    queued >= (backlog as usize).div_ceil(4)
}

/// What the kernel dropped while the door's queue was filling or the door was full. Its own count is in a file that is parsed.
#[derive(Default)]
struct DropsWatch {
    /// The kernel's count at the last look; None if it is not followed.
    last: Option<u64>,
}

impl DropsWatch {
    /// Follows the kernel's count from now on.
    fn watch(&mut self, count: impl FnOnce() -> Option<u64>) {
        if self.last.is_none() {
            self.last = count();
        }
    }

    /// Returns what was dropped since the last look. Follows it further if the door `is_full`.
    fn look(&mut self, is_full: bool, count: impl FnOnce() -> Option<u64>) -> u64 {
        if self.last.is_none() && !is_full {
            return 0;
        }
        let now = count();
        let dropped = match (now, self.last) {
            (Some(now), Some(last)) => now.saturating_sub(last),
            _ => 0,
        };
        self.last = now.filter(|_| is_full);
        dropped
    }
}

/// The current second of a door.
struct SecondCounts {
    since: Instant,
    /// Whether connections found no room in this second, requests were late, or the queue was about to overflow.
    full: bool,
    drops: DropsWatch,
}

impl SecondCounts {
    fn begin() -> SecondCounts {
        SecondCounts {
            since: Instant::now(),
            full: false,
            drops: DropsWatch::default(),
        }
    }

    /// Ends the second, and publishes the wait of refused clients. Returns whether it was full.
    fn end(&mut self, shared: &DoorState, now: Instant) -> bool {
        self.since = now;
        let full = std::mem::take(&mut self.full);
        let dropped = self.drops.look(full, kernel::overflows);
        shared.metrics.overflowed.fetch_add(dropped, Relaxed);
        let wait_ms = shared.returns.wait().as_millis() as u64;
        shared.load.retry_after_ms.store(wait_ms, Relaxed);
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_steps_and_not_of_the_idle_time_before() {
        let start = Instant::now();
        let mut pace = Pace::begin();
        pace.since = start;
        let mut rate = |step: u32, count| pace.step(count, start + STEP * step).round() as u64;
        assert_eq!(rate(20, 0), 0);
        // A thread that works in every other step.
        assert_eq!(
            [rate(21, 100), rate(22, 100), rate(23, 200)],
            [2_000, 1_000, 1_333]
        );
        for step in 24..60 {
            rate(step, 200 + 100 * u64::from((step - 23) / 2));
        }
        assert_eq!(rate(60, 2_000), 1_000);
        // Idle, and at once at work again.
        let idle: Vec<u64> = (61..69).map(|step| rate(step, 2_000)).collect();
        assert_eq!(idle[7], 0);
        assert_eq!(rate(149, 2_050), 1_000);
        assert_eq!(pace.last().round() as u64, 333);
        assert_eq!([0, 1, 2].map(|few| pace.counted(few)), [0, 50, 50]);
        for step in 150..153 {
            pace.step(2_050 + 100 * (step - 149), start + STEP * step as u32);
        }
        assert_eq!(pace.last().round() as u64, 2_000);
    }

    #[test]
    fn what_is_dropped_in_the_first_second_of_a_crowd_is_counted() {
        let mut drops = DropsWatch::default();
        let unread = || -> Option<u64> { panic!("the file is not read by a door with time") };
        assert_eq!(drops.look(false, unread), 0);
        assert!(!is_filling(255, 1_024) && is_filling(256, 1_024) && is_filling(1, 1));
        drops.watch(|| Some(1_000));
        drops.watch(|| Some(1_200));
        assert_eq!(drops.look(true, || Some(1_300)), 300);
        assert_eq!(drops.look(true, || Some(1_350)), 50);
        assert_eq!(
            drops.look(false, || Some(1_351)),
            1,
            "the last second of it"
        );
        // What others lose on this machine later is not ours.
        assert_eq!(drops.look(false, unread), 0);
        drops.watch(|| Some(9_000));
        assert_eq!(drops.look(false, || None), 0);
        assert_eq!(drops.look(true, || Some(9_999)), 0);
    }

    #[test]
    fn a_queue_that_stays_half_full_is_about_to_overflow_and_a_burst_is_not() {
        let mut queue = QueueWatch::default();
        let half = safe_queue(256, 0);
        assert!(!queue.step(200, half, false), "a burst");
        assert!(queue.step(129, half, false));
        assert!(!queue.step(128, half, true), "half");
        assert!(queue.step(129, half, true), "requests wait");
        assert!(!queue.step(0, half, true));
        assert!(!queue.step(256, half, false), "another burst");
        assert!(!queue.step(1, safe_queue(1, 0), true), "the only place");
        let told = safe_queue(256, 160);
        assert!(!queue.step(160, told, true), "what a balancer was told");
        assert!(queue.step(161, told, true));
    }

    #[test]
    fn of_a_queue_that_overflowed_half_is_left_or_what_a_balancer_may_send() {
        for (backlog, told_max, left) in [
            (1, 0, 1),
            (33, 0, 17),
            (33, 64, 24),
            (256, 0, 128),
            (256, 160, 160),
            (256, 256, 192),
            (1_024, 160, 512),
        ] {
            let safe = safe_queue(backlog, told_max);
            assert_eq!(safe, left, "{backlog} {told_max}");
        }
    }

    #[test]
    fn a_door_is_soon_sent_a_whole_crowd_and_a_slow_one_no_more_than_it_takes_in() {
        let safe = safe_queue(1_024, 0);
        let mut pace = Pace::begin();
        let mut told = |taken_in_most: usize| {
            let (mut all, mut newcomers) = (pace.count, CROWD_LEAST);
            (0..16).for_each(|step| {
                // A balancer asks at every other step.
                if step % 2 == 0 {
                    all += newcomers.min(taken_in_most) as u64;
                }
                pace.step(all, pace.since + STEP);
                newcomers = newcomers_max(pace.counted(NEWCOMERS_STEPS), safe);
            });
            newcomers
        };
        assert_eq!(told(1_000), safe);
        assert_eq!(told(100), 200);
        assert_eq!(told(0), CROWD_LEAST);
        assert_eq!(newcomers_max(1_000, safe_queue(64, 0)), 32);
    }

    #[test]
    fn whom_a_balancer_was_told_to_send_may_come_for_a_second_after_it_is_told_less() {
        let mut told = NewcomersTold::default();
        assert_eq!([512, 0, 64].map(|now| told.step(now)), [512; 3]);
        told.end_second();
        assert_eq!([64, 96].map(|now| told.step(now)), [512; 2]);
        told.end_second();
        assert_eq!(told.step(64), 96);
        told.end_second();
        told.end_second();
        assert_eq!(told.step(0), 0);
    }

    #[test]
    fn the_queue_holds_what_is_served_or_refused_within_the_wait() {
        const WAIT: Duration = Duration::from_millis(100);
        for (newcomers, least, backlog) in [
            (0.0, BACKLOG_LEAST, BACKLOG_LEAST),
            (1_000.0, BACKLOG_LEAST, 100),
            (1_000.0, 160, 160),
        ] {
            assert_eq!(fitting_backlog(newcomers, WAIT, least), backlog);
        }
    }

    #[test]
    fn a_cut_queue_grows_back_within_seconds_and_no_further() {
        let lengths = std::iter::successors(Some(33), |now| Some(grown_backlog(*now, 1_024)));
        let lengths: Vec<u32> = lengths.take(5).collect();
        assert_eq!(lengths, [33, 132, 528, 1_024, 1_024]);
        assert_eq!(grown_backlog(u32::MAX, u32::MAX), u32::MAX);
    }

    #[test]
    fn a_queue_changes_by_factors_of_two_and_holds_what_balancers_were_told() {
        for (now, fitting, least, next) in [
            (256, 200, 32, None),
            (256, 128, 32, Some(128)),
            (128, 200, 32, None),
            (128, 300, 32, Some(256)),
            (130, 256, 32, Some(256)),
            (64, 120, 120, Some(120)),
            (120, 120, 120, None),
            (256, 256, 500, None),
            (256, 500, 32, None),
        ] {
            assert_eq!(
                next_backlog(now, fitting, least, 256),
                next,
                "{now} {fitting}"
            );
        }
    }
}
