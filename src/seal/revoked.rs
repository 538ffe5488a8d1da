//! What is good no more although it is genuine: a few passes and memberships, in memory, put there again and again by the desk.
//! While there are none, whoever opens a credential looks at one flag.

use arc_swap::ArcSwap;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Default)]
pub struct Revoked {
    any: AtomicBool,
    ids: ArcSwap<HashSet<u64>>,
}

impl Revoked {
    #[inline]
    pub fn has(&self, id: u64) -> bool {
        self.any.load(Relaxed) && self.ids.load().contains(&id)
    }

    pub fn put(&self, ids: HashSet<u64>) {
        let any = !ids.is_empty();
        self.ids.store(ids.into());
        self.any.store(any, Relaxed);
    }

    /// One more, until the next time that all are put.
    pub fn add(&self, id: u64) {
        let mut ids = HashSet::clone(&self.ids.load());
        ids.insert(id);
        self.put(ids);
    }

    pub fn count(&self) -> usize {
        self.ids.load().len()
    }
}
