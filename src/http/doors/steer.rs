//! Steers one door: how many connections it admits, how many may queue before it, when those who are turned away should
//! come back. Twenty times a second, beside the accept loop.

use super::{STEP, Settings, Shared};
use crate::admission::crowd::Crowd;
use crate::kernel;
use socket2::SockRef;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Steps between two looks at the crowd.
const CROWD_STEPS: u32 = 20;

/// Of an overloaded door: fewer would turn away a crowd that could be served within a moment.
const BACKLOG_LEAST: u32 = 32;

pub async fn steer(listener: &TcpListener, shared: &Shared, settings: &Settings) {
    let mut second = Second::begin(settings.backlog);
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for nth in 1u32.. {
        step.tick().await;
        let now = Instant::now();
        let seen = shared.waits.take();
        let (cap, inside) = {
            let mut door = shared.door();
            door.steer(seen.map(|seen| seen.p90), now);
            (door.cap(), door.inside())
        };
        if inside < cap {
            // It may have risen.
            shared.left.notify_one();
        }
        let full = inside >= cap;
        let queued = match full {
            true => kernel::queued(listener).unwrap_or_default(),
            false => 0,
        };
        shared.surplus.store(inside.saturating_sub(cap), Relaxed);
        shared.waiting.store(queued, Relaxed);
        let tally = &shared.tally;
        tally.cap.store(cap as u64, Relaxed);
        tally.queued.store(queued as u64, Relaxed);
        if let Some(seen) = seen {
            for (meter, wait) in tally.waits.iter().zip([seen.p50, seen.p90, seen.p99]) {
                meter.store(wait.as_millis() as u64, Relaxed);
            }
        }
        second.full |= full && queued > 0;
        if nth.is_multiple_of(CROWD_STEPS) {
            second.end(listener, shared, settings, now);
        }
    }
}

/// A second of a door: what has come of it, by what had come of all before.
struct Second {
    crowd: Crowd,
    since: Instant,
    /// At some time in it there was no room for somebody who waited.
    full: bool,
    accepted: u64,
    answered: u64,
    busy: u64,
    overflows: Option<u64>,
    backlog: u32,
}

impl Second {
    fn begin(backlog: u32) -> Second {
        Second {
            crowd: Crowd::default(),
            since: Instant::now(),
            full: false,
            accepted: 0,
            answered: 0,
            busy: 0,
            overflows: None,
            backlog,
        }
    }

    fn end(&mut self, listener: &TcpListener, shared: &Shared, settings: &Settings, now: Instant) {
        let took = now.saturating_duration_since(self.since);
        self.since = now;
        let full = std::mem::take(&mut self.full);
        let news = |last: &mut u64, now: u64| now - std::mem::replace(last, now);
        let tally = &shared.tally;
        let accepted = news(&mut self.accepted, tally.accepted.load(Relaxed));
        let answered = news(&mut self.answered, shared.answered.load(Relaxed));
        let mut turned = news(&mut self.busy, tally.busy.load(Relaxed));
        // Only a full door asks: it reads a file of the kernel's.
        let overflows = full.then(kernel::overflows).flatten();
        if let (Some(now), Some(last)) = (overflows, self.overflows) {
            turned += now.saturating_sub(last);
            tally
                .overflowed
                .fetch_add(now.saturating_sub(last), Relaxed);
        }
        self.overflows = overflows;
        let wait = self.crowd.step(turned, answered, full, took);
        tally.retry_after.store(wait.as_millis() as u64, Relaxed);
        self.fit_backlog(listener, settings, full.then_some(accepted), took);
    }

    /// Whoever queues for longer than answers may wait has left when their turn comes. Changed when it is off by twice.
    fn fit_backlog(
        &mut self,
        listener: &TcpListener,
        settings: &Settings,
        accepted: Option<u64>,
        took: Duration,
    ) {
        let wanted = accepted.map_or(settings.backlog, |accepted| {
            let rate = accepted as f64 / took.as_secs_f64().max(1e-3);
            let within = (rate * settings.admission.wait_max.as_secs_f64()) as u32;
            within.max(BACKLOG_LEAST).min(settings.backlog)
        });
        let off = wanted >= self.backlog * 2 || wanted * 2 <= self.backlog || accepted.is_none();
        if off && wanted != self.backlog && SockRef::from(listener).listen(wanted as i32).is_ok() {
            self.backlog = wanted;
        }
    }
}
