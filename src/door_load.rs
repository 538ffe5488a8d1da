//! The load of each open door: numbers that the door keeps, and that reloads, balancers and scrapes of the metrics use.

mod balancers;

pub use balancers::{BalancerConnection, Balancers};

use crate::clock::Moment;
use balancers::ASKS_WITHIN;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The load of one door. The door's threads, its controller and the agent port write it; nothing here is touched by a request.
pub struct DoorLoad {
    /// Largest number of open connections. A reload may change it; the controller reads it twenty times a second.
    pub connections_max: AtomicUsize,
    /// Connections that the door admits now.
    pub limit: AtomicUsize,
    /// Open connections of each thread, frozen ones included.
    pub open: Vec<AtomicUsize>,
    /// Open connections that are not read, to make room for others.
    pub frozen: AtomicUsize,
    /// Estimated number of active connections whose request is unread. Zero where nobody counts: it is counted while requests
    /// wait, for a minute after it, and after a late step.
    pub unread: AtomicUsize,
    /// A number that was surely unread for two steps.
    pub unread_least: AtomicUsize,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections that got the answer `busy` since the start.
    pub rejected: AtomicU64,
    /// Retry-After of the answer `busy`, in milliseconds.
    pub retry_after_ms: AtomicU64,
    /// Requests in flight that the door can answer in time, all balancers together.
    pub in_flight_max: AtomicU64,
    /// The most connections in the kernel's queue with which it is far from an overflow.
    pub safe_queue: AtomicUsize,
    /// The most newcomers that a balancer may send at once: as many as the door lately took in, so that they become more step by step.
    pub newcomers_max: AtomicUsize,
    /// The most newcomers that a balancer was told to send at once, since the controller's last step.
    pub newcomers_told: AtomicUsize,
    /// Share of the door's usual traffic that it asks balancers for, in percent.
    pub weight: AtomicU64,
    /// Whether requests waited too long, or too many waited, within the last minute.
    pub was_overloaded: AtomicBool,
    /// The balancers that ask about connections, where there are several.
    pub balancers: Balancers,
    /// When a balancer last asked how much it may send, by the monotonic clock in milliseconds; 0 if none has.
    pub asked_at: AtomicU64,
}

impl DoorLoad {
    /// Returns the load of a door without connections, which admits `connections_max`.
    pub fn new(connections_max: usize, threads: usize) -> DoorLoad {
        DoorLoad {
            connections_max: AtomicUsize::new(connections_max),
            limit: AtomicUsize::new(connections_max),
            open: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
            frozen: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            unread_least: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            retry_after_ms: AtomicU64::new(0),
            in_flight_max: AtomicU64::new(0),
            safe_queue: AtomicUsize::new(0),
            newcomers_max: AtomicUsize::new(0),
            newcomers_told: AtomicUsize::new(0),
            weight: AtomicU64::new(0),
            was_overloaded: AtomicBool::new(false),
            balancers: Balancers::default(),
            asked_at: AtomicU64::new(0),
        }
    }

    /// Returns the number of open connections, frozen ones included.
    pub fn open_connections(&self) -> usize {
        self.open.iter().map(|open| open.load(Relaxed)).sum()
    }

    /// Returns whether a balancer has asked within the last seconds how much it may send.
    pub fn has_balancer(&self, now: Moment) -> bool {
        let asked_at = self.asked_at.load(Relaxed);
        asked_at > 0 && now.since(Moment(asked_at)) < ASKS_WITHIN
    }

    /// Returns the index of the thread with the fewest open connections.
    pub fn least_busy(&self) -> usize {
        let counts = self.open.iter().map(|open| open.load(Relaxed));
        let least = counts.enumerate().min_by_key(|(_, open)| *open);
        least.map_or(0, |(nth, _)| nth)
    }
}

/// The loads of the open doors, by name.
#[derive(Default)]
pub struct DoorLoads(Mutex<Vec<(&'static str, Arc<DoorLoad>)>>);

impl DoorLoads {
    /// Adds the load of a door that opens.
    pub fn add(&self, door: &'static str, load: Arc<DoorLoad>) {
        self.loads().push((door, load));
    }

    /// Returns the load of a door; None if it is not open.
    pub fn find(&self, door: &[u8]) -> Option<Arc<DoorLoad>> {
        let loads = self.loads();
        let load = loads.iter().find(|(name, _)| name.as_bytes() == door);
        load.map(|(_, load)| load.clone())
    }

    /// Sets the largest number of connections of a door. Returns false if it is not open.
    pub fn set_connections_max(&self, door: &str, most: usize) -> bool {
        let load = self.find(door.as_bytes());
        load.map(|load| load.connections_max.store(most, Relaxed))
            .is_some()
    }

    fn loads(&self) -> MutexGuard<'_, Vec<(&'static str, Arc<DoorLoad>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_found_by_its_name_and_no_other_changes() {
        let loads = DoorLoads::default();
        let [gate, desk] = [10, 20].map(|most| Arc::new(DoorLoad::new(most, 2)));
        loads.add("gate", gate.clone());
        loads.add("desk", desk.clone());
        assert!(loads.set_connections_max("gate", 5));
        assert!(!loads.set_connections_max("resident", 5));
        assert!(loads.find(b"resident").is_none());
        let most = |load: &DoorLoad| load.connections_max.load(Relaxed);
        assert_eq!((most(&gate), most(&desk)), (5, 20));
        assert!(Arc::ptr_eq(&loads.find(b"desk").expect("open"), &desk));
    }

    #[test]
    fn a_balancer_that_asks_no_more_is_gone() {
        let load = DoorLoad::new(10, 1);
        assert!(!load.has_balancer(Moment(1)));
        load.asked_at.store(1_000, Relaxed);
        assert!(load.has_balancer(Moment(1_000)) && load.has_balancer(Moment(5_999)));
        assert!(!load.has_balancer(Moment(6_000)));
    }

    #[test]
    fn a_connection_goes_to_the_thread_with_the_fewest() {
        let load = DoorLoad::new(10, 3);
        for (nth, open) in [4, 1, 2].into_iter().enumerate() {
            load.open[nth].store(open, Relaxed);
        }
        assert_eq!((load.least_busy(), load.open_connections()), (1, 7));
    }
}
