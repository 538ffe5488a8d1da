//! Controls one door: how many connections it admits, how many may queue before it, when those who are turned away should
//! come back, and how many requests balancers should give it. Twenty times a second, beside the accept loop.

use super::listener::Listener;
use crate::admission::retry_after::RetryAfterEstimator;
use crate::admission::window::{Window, WindowSettings};
use crate::http::door_state::{DoorState, QUIET_LOOK, STEP, Settings};
use crate::kernel;
use socket2::SockRef;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Between two looks at the crowd.
const CROWD_LOOK: Duration = Duration::from_secs(1);

/// Steps in a row in which nothing came in, after which steering is put off until something does.
const QUIET_STEPS: u32 = 20;

/// What it costs to accept a connection and answer its first query.
const ANSWERS_PER_NEWCOMER: f64 = 5.0;

/// Of an overloaded door: fewer would turn away a crowd that could be served within a moment.
const BACKLOG_LEAST: u32 = 32;

/// The window of a door that has answered nothing yet.
pub fn window(settings: &Settings) -> Window {
    Window::new(WindowSettings {
        most: settings.admission.connections_max,
        queue_delay_target: settings.admission.queue_delay_target,
    })
}

pub async fn control(listener: &Listener, shared: &DoorState, settings: &Settings) {
    let mut second = SecondCounts::begin();
    let mut backlog = settings.backlog;
    let mut pace = Pace::begin();
    let mut admissions = Pace::begin();
    let mut told_before = 0;
    let mut window = window(settings);
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut quiet_steps = 0;
    loop {
        if quiet_steps < QUIET_STEPS {
            step.tick().await;
        } else {
            shared.is_quiet.store(true, Relaxed);
            let stirred = tokio::time::timeout(QUIET_LOOK * 2, shared.steers.notified()).await;
            shared.is_quiet.store(false, Relaxed);
            if stirred.is_ok() {
                quiet_steps = 0;
                continue;
            }
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(pace.since);
        let answered = shared.answered.load(Relaxed);
        let came = answered != pace.count;
        let answers = pace.step(answered, now);
        let seen = shared.waits.take();
        window.set_most(shared.cap.load(Relaxed));
        let advice = window.step(seen.map(|seen| seen.p90), answers, took);
        let metrics = &shared.metrics;
        metrics.in_flight_max.store(advice.in_flight_max, Relaxed);
        metrics.weight.store(advice.weight, Relaxed);
        let has_room = look(shared, settings, seen.map(|seen| seen.p90), answers, now);
        if has_room {
            // The cap may have risen.
            shared.left.notify_one();
        }
        let queued = kernel::queued(listener).unwrap_or_default();
        let admitted = admissions.step(shared.accepted.load(Relaxed), now);
        // Whoever is let in within half of the wait is left in the queue: the other half is for the door.
        let patient = admitted * settings.admission.queue_delay_target.as_secs_f64() / 2.0;
        shared.patient.store(patient as usize, Relaxed);
        let busy = shared.told_busy.load(Relaxed);
        let told = (busy - std::mem::replace(&mut told_before, busy)) as usize;
        let waiting = if has_room { 0 } else { queued + told };
        shared.waiting.store(waiting, Relaxed);
        if !has_room {
            shared.wake_responder();
        }
        shared.metrics.queued.store(queued as u64, Relaxed);
        let put_off = shared.surplus.load(Relaxed) > 0 || shared.waiting.load(Relaxed) > 0;
        if put_off {
            shared.looks.iter().for_each(Notify::notify_one);
        }
        let is_calm = !came && seen.is_none() && queued == 0 && has_room && !put_off;
        let frozen = shared.frozen.load(Relaxed) > 0;
        quiet_steps = match is_calm && !frozen {
            true => (quiet_steps + 1).min(QUIET_STEPS),
            false => 0,
        };
        if let Some(seen) = seen {
            for (meter, wait) in shared
                .metrics
                .waits
                .iter()
                .zip([seen.p50, seen.p90, seen.p99])
            {
                meter.store(wait.as_millis() as u64, Relaxed);
            }
        }
        let queue_delay_target = settings.admission.queue_delay_target;
        let is_slow = seen.is_some_and(|seen| seen.p90 > queue_delay_target);
        if queued + told > 0 && (is_slow || !has_room) {
            second.full = true;
            let fitting = fitting_backlog(answers, settings);
            if fitting >= backlog * 2 || fitting * 2 <= backlog {
                queue_up_to(listener, &mut backlog, fitting);
            }
        }
        if now.saturating_duration_since(second.since) >= CROWD_LOOK
            && !second.end(shared, now)
            && backlog != settings.backlog
        {
            queue_up_to(listener, &mut backlog, settings.backlog);
        }
    }
}

/// Steers the cap, and tells the threads what follows for them; whether there is room for newcomers.
fn look(
    shared: &DoorState,
    settings: &Settings,
    wait: Option<Duration>,
    answers: f64,
    now: Instant,
) -> bool {
    let mut door = shared.door();
    let cap = shared.cap.load(Relaxed);
    door.set_most(cap);
    shared.metrics.limit_max.store(cap as u64, Relaxed);
    if let Some(wait) = wait {
        shared
            .is_slow
            .store(wait > settings.admission.queue_delay_target / 2, Relaxed);
        door.adjust(wait, shared.pending.load(Relaxed), answers, now);
    }
    let (limit, inside) = (door.limit(), door.inside());
    shared.surplus.store(inside.saturating_sub(limit), Relaxed);
    // Newcomers need some of what is left.
    shared
        .spare
        .store((limit * 4 / 5).saturating_sub(inside), Relaxed);
    shared.is_full.store(door.is_full(), Relaxed);
    shared.set_limit(limit);
    shared.set_frozen(door.frozen());
    door.has_room()
}

/// Whoever queues for longer than answers may wait has left when their turn comes.
fn fitting_backlog(answers: f64, settings: &Settings) -> u32 {
    let newcomers = answers / ANSWERS_PER_NEWCOMER;
    let within = (newcomers * settings.admission.queue_delay_target.as_secs_f64()) as u32;
    within.max(BACKLOG_LEAST).min(settings.backlog)
}

fn queue_up_to(listener: &Listener, backlog: &mut u32, most: u32) {
    if SockRef::from(listener).listen(most as i32).is_ok() {
        *backlog = most;
    }
}

/// How fast something is counted of late.
struct Pace {
    since: Instant,
    count: u64,
    per_second: f64,
}

impl Pace {
    fn begin() -> Pace {
        Pace {
            since: Instant::now(),
            count: 0,
            per_second: 0.0,
        }
    }

    /// `count` so far. How much a second: the mean of some five steps, of which a machine that is granted its cores by turns
    /// works in a few.
    fn step(&mut self, count: u64, now: Instant) -> f64 {
        const NEWEST: f64 = 0.2;
        let took = now.saturating_duration_since(self.since).as_secs_f64();
        let news = (count - self.count) as f64 / took.max(1e-3);
        (self.since, self.count) = (now, count);
        self.per_second += NEWEST * (news - self.per_second);
        self.per_second
    }
}

/// A second of a door: what has come of it, by what had come of all before.
struct SecondCounts {
    estimator: RetryAfterEstimator,
    since: Instant,
    /// At some time in it there was no room for somebody who waited.
    full: bool,
    answered: u64,
    busy: u64,
    overflows: Option<u64>,
}

impl SecondCounts {
    fn begin() -> SecondCounts {
        SecondCounts {
            estimator: RetryAfterEstimator::default(),
            since: Instant::now(),
            full: false,
            answered: 0,
            busy: 0,
            overflows: None,
        }
    }

    /// Whether the door was full in it.
    fn end(&mut self, shared: &DoorState, now: Instant) -> bool {
        let took = now.saturating_duration_since(self.since);
        self.since = now;
        let full = std::mem::take(&mut self.full);
        let news = |last: &mut u64, now: u64| now - std::mem::replace(last, now);
        let metrics = &shared.metrics;
        let answered = news(&mut self.answered, shared.answered.load(Relaxed));
        let mut turned = news(&mut self.busy, shared.told_busy.load(Relaxed));
        // Only a full door asks: it reads a file of the kernel's.
        let overflows = full.then(kernel::overflows).flatten();
        if let (Some(now), Some(last)) = (overflows, self.overflows) {
            turned += now.saturating_sub(last);
            metrics
                .overflowed
                .fetch_add(now.saturating_sub(last), Relaxed);
        }
        self.overflows = overflows;
        let wait = self.estimator.step(turned, answered, full, took);
        shared.set_retry_after(wait);
        full
    }
}
