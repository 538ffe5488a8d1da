//! The limit of concurrent queries to the store, controlled by its latency. Pure functions of queries that begin and end, and
//! of the time.
//!
//! As in TCP Vegas, the queries in flight are split: in flight × floor / round trip is what the store works on, the rest is a
//! queue. A queue of three to six is right; below it the limit grows, above it falls to what the store works on. The floor is a
//! round trip without a queue. Learnt under load it would be too high, so it falls at once, and rises only by round trips with
//! hardly any other query in flight.

use std::time::{Duration, Instant};

/// Limit at the start. This and the next four values come from the overload study behind the design: those of Netflix's and
/// Envoy's limits, without the probes that made those shed.
const START: f64 = 32.0;

/// Lowest limit. With fewer queries, a recovered store could not be recognised.
const LEAST: f64 = 4.0;

/// A shorter queue counts as none.
const ALPHA: f64 = 3.0;

/// A longer queue is too long.
const BETA: f64 = 6.0;

/// Round trips that are judged together, or as many as are in flight: by the mean of their middle half, so that one slow query
/// is no queue.
const WINDOW_MIN: usize = 16;

/// Time after which fewer round trips are judged.
const WINDOW_LIFE: Duration = Duration::from_millis(500);

/// Lowest floor: below a millisecond a queue cannot be told from thread scheduling.
const FLOOR_MIN: Duration = Duration::from_millis(1);

/// Highest floor while no undisturbed round trip was seen; until then it is the shortest of the others. A nearby store answers
/// faster.
const FLOOR_UNLEARNT_MAX: Duration = Duration::from_millis(10);

/// Highest floor. A store that takes longer without load is slow, which must not be learnt.
const FLOOR_MAX: Duration = Duration::from_millis(50);

/// Shortest time between rises of the floor, each to the shortest undisturbed round trip since.
const FLOOR_LIFE: Duration = Duration::from_secs(10);

/// Undisturbed round trips that a rise needs.
const FLOOR_TRIPS: u32 = 8;

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundTrip {
    /// It was answered in time.
    Answered,
    /// The deadline passed. The time so far counts as its round trip.
    Late,
    /// It failed, or its caller left. It counts only if it took longer than answers do.
    Left,
}

/// The limit, and what it was learnt from.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    most: f64,
    limit: f64,
    in_flight: usize,
    floor: Duration,
    learnt_at: Option<Instant>,
    smoothed: Duration,
    /// When more than a few queries were last in flight.
    crowded_at: Option<Instant>,
    undisturbed: Option<(Duration, u32)>,
    /// When the limit fell. Earlier queries say nothing about the store's present state.
    fell_at: Option<Instant>,
    window: Window,
}

#[derive(Clone, Debug, Default)]
struct Window {
    trips: Vec<Duration>,
    first_at: Option<Instant>,
    /// Largest number of queries in flight when one of them ended.
    in_flight: usize,
}

impl ConcurrencyLimit {
    /// Returns a limit of at most `most`, 1 or more.
    pub fn new(most: usize) -> ConcurrencyLimit {
        let most = most.max(1) as f64;
        ConcurrencyLimit {
            most,
            limit: START.min(most),
            in_flight: 0,
            floor: FLOOR_UNLEARNT_MAX,
            learnt_at: None,
            smoothed: Duration::ZERO,
            crowded_at: None,
            undisturbed: None,
            fell_at: None,
            window: Window::default(),
        }
    }

    /// Returns the number of queries that may be in flight.
    pub fn most_now(&self) -> usize {
        self.limit as usize
    }

    /// Returns the number of queries in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns the floor, 1 to 50 ms.
    pub fn floor(&self) -> Duration {
        self.floor
    }

    /// Returns the smoothed recent round trip.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// Counts a query that goes to the store. The caller checks whether it may.
    pub fn begin(&mut self, now: Instant) {
        self.in_flight += 1;
        self.note_backlog(now);
    }

    /// Counts the end of a query that began at `began`.
    pub fn end(&mut self, began: Instant, trip: RoundTrip, now: Instant) {
        debug_assert!(self.in_flight > 0, "what ends has begun");
        let in_flight = self.in_flight;
        self.note_backlog(now);
        self.in_flight = in_flight.saturating_sub(1);
        let took = now.saturating_duration_since(began);
        if trip == RoundTrip::Left && took <= self.smoothed {
            return;
        }
        self.smoothed = match self.smoothed {
            Duration::ZERO => took,
            smoothed => smoothed * 7 / 8 + took / 8,
        };
        if trip == RoundTrip::Answered {
            self.learn(began, took, now);
        }
        if self.fell_at.is_some_and(|fell_at| began < fell_at) {
            return;
        }
        let window = &mut self.window;
        let first_at = *window.first_at.get_or_insert(now);
        window.trips.push(took);
        window.in_flight = window.in_flight.max(in_flight);
        let whole = window.trips.len() >= WINDOW_MIN.max(self.limit as usize);
        if whole || now.saturating_duration_since(first_at) >= WINDOW_LIFE {
            self.adjust(now);
        }
    }

    fn note_backlog(&mut self, now: Instant) {
        if self.in_flight as f64 > (self.limit / 4.0).max(1.0) {
            self.crowded_at = Some(now);
        }
    }

    fn learn(&mut self, began: Instant, took: Duration, now: Instant) {
        self.floor = self.floor.min(took.max(FLOOR_MIN));
        if self.crowded_at.is_some_and(|at| began <= at) {
            return;
        }
        let (least, trips) = self.undisturbed.unwrap_or((took, 0));
        let (least, trips) = (least.min(took), trips + 1);
        self.undisturbed = Some((least, trips));
        let old = self
            .learnt_at
            .is_none_or(|at| now.saturating_duration_since(at) >= FLOOR_LIFE);
        if trips >= FLOOR_TRIPS && old {
            self.floor = least.clamp(FLOOR_MIN, FLOOR_MAX);
            self.learnt_at = Some(now);
            self.undisturbed = None;
        }
    }

    fn adjust(&mut self, now: Instant) {
        let Window {
            mut trips,
            in_flight,
            ..
        } = std::mem::take(&mut self.window);
        trips.sort_unstable();
        let (from, to) = (trips.len() / 4, trips.len() - trips.len() / 4);
        let middle = trips[from..to].iter().sum::<Duration>() / (to - from) as u32;
        let took = middle.max(self.floor);
        // Queries in flight from before the limit fell are not its result.
        let in_flight = (in_flight as f64).min(self.limit);
        let worked_on = in_flight * self.floor.as_secs_f64() / took.as_secs_f64();
        let queue = in_flight - worked_on;
        let least = LEAST.min(self.most);
        if queue > BETA {
            let right = worked_on + (ALPHA + BETA) / 2.0;
            self.limit = right.max(self.limit / 2.0).max(least);
            self.fell_at = Some(now);
        } else if queue < ALPHA && in_flight * 2.0 >= self.limit {
            self.limit = (self.limit + 1.0).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A store that works on `servers` queries at once, each for `service`, the others in a queue; and askers who are
    /// always there, up to `demand`, and wait no longer than `deadline`.
    struct SimulatedStore {
        limit: ConcurrencyLimit,
        now: Instant,
        servers: Vec<Instant>,
        /// When each ends for the asker, when it began, how.
        under_way: Vec<(Instant, Instant, RoundTrip)>,
        deadline: Duration,
    }

    impl SimulatedStore {
        fn new(servers: usize, most: usize) -> SimulatedStore {
            let now = Instant::now();
            SimulatedStore {
                limit: ConcurrencyLimit::new(most),
                now,
                servers: vec![now; servers],
                under_way: Vec::new(),
                deadline: ms(250),
            }
        }

        /// So many queries end; the round trips of the last half of them.
        fn run(&mut self, queries: usize, demand: usize, service: Duration) -> Vec<Duration> {
            let mut took = Vec::new();
            for _ in 0..queries {
                while self.under_way.len() < demand.min(self.limit.most_now()) {
                    let free = self.servers.iter_mut().min().expect("a server");
                    let done = (*free).max(self.now) + service;
                    *free = done;
                    let given_up = self.now + self.deadline;
                    let end = match done <= given_up {
                        true => (done, self.now, RoundTrip::Answered),
                        false => (given_up, self.now, RoundTrip::Late),
                    };
                    self.limit.begin(self.now);
                    self.under_way.push(end);
                }
                let next = (0..self.under_way.len()).min_by_key(|nth| self.under_way[*nth]);
                let (end, began, trip) = self.under_way.swap_remove(next.expect("somebody asks"));
                self.now = self.now.max(end);
                self.limit.end(began, trip, self.now);
                took.push(self.now - began);
            }
            took.split_off(queries / 2)
        }
    }

    impl PartialOrd for RoundTrip {
        fn partial_cmp(&self, other: &RoundTrip) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for RoundTrip {
        fn cmp(&self, other: &RoundTrip) -> std::cmp::Ordering {
            (*self as u8).cmp(&(*other as u8))
        }
    }

    #[test]
    fn a_store_that_keeps_up_is_given_more() {
        let mut town = SimulatedStore::new(300, 256);
        town.run(40_000, 1000, ms(2));
        assert_eq!(town.limit.most_now(), 256);
    }

    #[test]
    fn nobody_asks_and_nothing_changes() {
        let mut town = SimulatedStore::new(1000, 256);
        town.run(10_000, 3, ms(2));
        assert_eq!(town.limit.most_now(), 32, "three at once need no more");
    }

    #[test]
    fn one_slow_round_trip_in_ten_is_no_queue() {
        let mut town = SimulatedStore::new(1000, 256);
        for _ in 0..1000 {
            town.run(9, 64, ms(2));
            town.run(1, 64, ms(200));
        }
        assert!(town.limit.most_now() >= 32, "{:?}", town.limit);
    }

    #[test]
    fn an_error_that_comes_at_once_is_no_sign_of_speed() {
        let mut limit = ConcurrencyLimit::new(256);
        let now = Instant::now();
        for nth in 0..100 {
            let now = now + ms(nth * 20);
            limit.begin(now);
            limit.end(now, RoundTrip::Answered, now + ms(5));
            limit.begin(now + ms(6));
            limit.end(now + ms(6), RoundTrip::Left, now + ms(6));
        }
        assert_eq!(limit.floor(), ms(5));
    }

    #[test]
    fn a_store_that_has_moved_away_is_learnt_in_a_quiet_hour() {
        let mut town = SimulatedStore::new(1000, 256);
        town.run(100, 2, ms(2));
        assert_eq!(town.limit.floor(), ms(2));
        town.run(5000, 2, ms(12));
        assert_eq!(town.limit.floor(), ms(12));
        town.run(2000, 2, ms(200));
        assert_eq!(town.limit.floor(), FLOOR_MAX, "and no more than that");
        town.run(100, 2, ms(3));
        assert_eq!(town.limit.floor(), ms(3), "it falls at once");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_stays_within_its_bounds_whatever_happens(
            most in 1usize..300,
            steps in proptest::collection::vec((0u64..400, 0usize..64, 0u8..3), 0..600),
        ) {
            let mut limit = ConcurrencyLimit::new(most);
            let mut now = Instant::now();
            let mut under_way = Vec::new();
            for (later, which, trip) in steps {
                now += ms(later);
                if which % 2 == 0 || under_way.is_empty() {
                    limit.begin(now);
                    under_way.push(now);
                } else {
                    let began = under_way.swap_remove(which % under_way.len());
                    limit.end(began, [RoundTrip::Answered, RoundTrip::Late, RoundTrip::Left][trip as usize], now);
                }
                prop_assert!((4.min(most)..=most).contains(&limit.most_now()));
                prop_assert_eq!(limit.in_flight(), under_way.len());
                prop_assert!((FLOOR_MIN..=FLOOR_MAX).contains(&limit.floor()));
            }
        }

        #[test]
        fn a_full_store_is_kept_busy_and_its_queue_short(
            servers in 1usize..64,
            service in 1u64..20,
            known in any::<bool>(),
        ) {
            let mut town = SimulatedStore::new(servers, 256);
            if known {
                town.run(20, 1, ms(service));
            }
            let mut took = town.run(6_000, 1000, ms(service));
            took.sort_unstable();
            let median = took[took.len() / 2];
            // Up to six wait, and a step of the limit or two: beside as many at work.
            let queued = ms(service) * (servers + 9) as u32 / servers as u32;
            prop_assert!(median <= queued, "{median:?} of {queued:?}, {:?}", town.limit);
            if known {
                prop_assert!(town.limit.most_now() >= servers * 3 / 4, "{:?}", town.limit);
            }
        }

        #[test]
        fn it_recovers_after_the_store_was_slow(servers in 8usize..64, service in 1u64..10, slow in 50u64..2000) {
            let mut town = SimulatedStore::new(servers, 256);
            town.run(20, 1, ms(service));
            town.run(2_000, 1000, ms(service));
            town.run(1_000, 1000, ms(slow));
            let slowed = town.limit.most_now();
            prop_assert!(slowed <= 16 + servers / 2, "{:?}", town.limit);
            // What the store had taken on is worked off meanwhile.
            town.now += ms(slow) * 1000;
            town.run(4_000, 1000, ms(service));
            prop_assert!(town.limit.most_now() >= servers * 3 / 4, "{slowed} and then {:?}", town.limit);
        }

        #[test]
        fn under_full_load_slow_is_never_learnt_as_normal(servers in 1usize..64, service in 1u64..10, slow in 20u64..240) {
            let mut town = SimulatedStore::new(servers, 256);
            town.run(20, 1, ms(service));
            let floor = town.limit.floor();
            prop_assert_eq!(floor, ms(service));
            // Some end last and alone: they were not alone when they began.
            town.run(5_000, 1000, ms(slow));
            prop_assert_eq!(town.limit.floor(), floor);
        }

        #[test]
        fn an_overload_from_the_first_moment_is_not_the_norm(servers in 1usize..8, slow in 20u64..2000) {
            let mut town = SimulatedStore::new(servers, 256);
            town.run(2_000, 1000, ms(slow));
            prop_assert!(town.limit.floor() <= FLOOR_UNLEARNT_MAX);
            prop_assert!(town.limit.most_now() <= 2 * servers + 8, "{:?}", town.limit);
        }
    }
}
