//! Limits how many long operations each caller runs at once on a node. Uses a lock that no show and no scan takes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// Numbers of running operations by the caller's number.
pub struct ConcurrencyCounter {
    most: AtomicU32,
    counts: Mutex<HashMap<u64, u32>>,
}

impl ConcurrencyCounter {
    /// Returns a counter that allows `most` for each caller.
    pub fn new(most: u32) -> Arc<ConcurrencyCounter> {
        Arc::new(ConcurrencyCounter {
            most: most.into(),
            counts: Mutex::default(),
        })
    }

    /// Sets the number that each caller may run. Running operations go on.
    pub fn allow(&self, most: u32) {
        self.most.store(most, Relaxed);
    }

    /// Starts an operation, which ends when the guard is dropped. None if the caller runs as many as allowed.
    pub fn enter(self: &Arc<ConcurrencyCounter>, caller: u64) -> Option<ConcurrencyGuard> {
        let mut counts = self.counts();
        let count = counts.entry(caller).or_insert(0);
        if *count >= self.most.load(Relaxed) {
            return None;
        }
        *count += 1;
        Some(ConcurrencyGuard {
            all: self.clone(),
            caller,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.counts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A running operation.
pub struct ConcurrencyGuard {
    all: Arc<ConcurrencyCounter>,
    caller: u64,
}

impl Drop for ConcurrencyGuard {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_so_many_and_again_when_one_ended() {
        let all = ConcurrencyCounter::new(2);
        let (first, second) = (all.enter(7), all.enter(7));
        assert!(first.is_some() && second.is_some());
        assert!(all.enter(7).is_none());
        assert!(all.enter(8).is_some());
        drop(first);
        let third = all.enter(7);
        assert!(third.is_some() && all.enter(7).is_none());
        all.allow(3);
        let fourth = all.enter(7);
        assert!(fourth.is_some() && all.enter(7).is_none());
        drop(fourth);
        drop((second, third));
        assert!(all.counts().is_empty());
    }
}
