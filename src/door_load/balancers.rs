//! The balancers that ask about a door, told apart by their addresses, and how many of the door's connections each has open.

use crate::clock::Moment;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Balancers that are told apart. The connections of others count for none of them.
const BALANCERS_MAX: usize = 16;

/// Time after which a balancer that does not ask any more counts as gone. It asks a few times a second.
pub const ASKS_WITHIN: Duration = Duration::from_secs(5);

/// The balancers that have asked about a door's connections.
#[derive(Default)]
pub struct Balancers {
    known: Mutex<Vec<Balancer>>,
    /// Whether there is any: else an acceptor need not ask the kernel for addresses.
    are_known: AtomicBool,
}

struct Balancer {
    address: IpAddr,
    /// Open connections that came from this address, frozen ones included.
    open: Arc<AtomicUsize>,
    /// When it last asked.
    asked_at: Moment,
}

/// One open connection of a balancer, counted until it is dropped.
pub struct BalancerConnection(Arc<AtomicUsize>);

impl Drop for BalancerConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Open connections of a door, as far as their balancer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenByBalancer {
    /// Those of the balancer that asks.
    pub own: u64,
    /// Those of all balancers that are known.
    pub all: u64,
}

impl Balancers {
    /// Notes that a balancer asks. Returns what it and all others have open; for one too many nothing, as if no connection had the
    /// address of a balancer: it must not be told of the places of others alone.
    pub fn ask(&self, address: IpAddr, now: Moment) -> OpenByBalancer {
        let address = address.to_canonical();
        let mut known = self.known();
        let own = match known.iter_mut().find(|one| one.address == address) {
            Some(one) => {
                one.asked_at = now;
                one.open()
            }
            None => {
                if known.len() >= BALANCERS_MAX {
                    known.retain(|one| !one.is_gone(now));
                }
                if known.len() >= BALANCERS_MAX {
                    return OpenByBalancer::default();
                }
                known.push(Balancer {
                    address,
                    open: Arc::default(),
                    asked_at: now,
                });
                self.are_known.store(true, Relaxed);
                0
            }
        };
        OpenByBalancer {
            own,
            all: known.iter().map(Balancer::open).sum(),
        }
    }

    /// Returns whether any balancer has asked.
    pub fn are_known(&self) -> bool {
        self.are_known.load(Relaxed)
    }

    /// Counts a connection from this address; None if no balancer asks from there.
    pub fn connection_from(&self, address: IpAddr) -> Option<BalancerConnection> {
        let address = address.to_canonical();
        let known = self.known();
        let balancer = known.iter().find(|one| one.address == address)?;
        balancer.open.fetch_add(1, Relaxed);
        Some(BalancerConnection(balancer.open.clone()))
    }

    fn known(&self) -> MutexGuard<'_, Vec<Balancer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Balancer {
    fn open(&self) -> u64 {
        self.open.load(Relaxed) as u64
    }

    fn is_gone(&self, now: Moment) -> bool {
        let asks = now.since(self.asked_at) < ASKS_WITHIN;
        !asks && self.open() == 0
    }
}

impl OpenByBalancer {
    /// Returns how many connections the balancer that asks may have, of the `most` that a door with `open` connections may have: what it
    /// has, and an equal part of the places that are left; less by the same part for each where there are too many. Where no
    /// connection has the address of a balancer, an equal part of all. At least 1.
    pub fn share(self, most: u64, open: u64, balancers: u32) -> u64 {
        let balancers = u64::from(balancers).max(1);
        let share = match (self.all, most.checked_sub(open)) {
            (0, _) => most / balancers,
            (_, Some(left)) => self.own + left / balancers,
            (_, None) => self.own * most / open.max(1),
        };
        share.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Moment = Moment(10_000);

    fn address(nth: u8) -> IpAddr {
        [10, 0, 0, nth].into()
    }

    #[test]
    fn a_connection_counts_for_the_balancer_at_its_address_until_it_ends() {
        let balancers = Balancers::default();
        assert!(!balancers.are_known() && balancers.connection_from(address(1)).is_none());
        balancers.ask(address(1), NOW);
        balancers.ask(address(2), NOW);
        assert!(balancers.are_known() && balancers.connection_from(address(3)).is_none());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        let three = [address(1), mapped, address(2)].map(|one| balancers.connection_from(one));
        let seen = |nth| balancers.ask(address(nth), NOW);
        assert_eq!(seen(1), OpenByBalancer { own: 2, all: 3 });
        assert_eq!(seen(2), OpenByBalancer { own: 1, all: 3 });
        drop(three);
        assert_eq!(seen(1), OpenByBalancer::default());
    }

    #[test]
    fn one_too_many_is_not_known_until_another_is_gone_with_its_connections() {
        let balancers = Balancers::default();
        for nth in 0..BALANCERS_MAX as u8 {
            balancers.ask(address(nth), Moment(1));
        }
        let held = balancers.connection_from(address(0));
        (1..BALANCERS_MAX as u8 - 1).for_each(|nth| {
            balancers.ask(address(nth), NOW);
        });
        let newcomer = address(100);
        let is_known = || balancers.connection_from(newcomer).is_some();
        let seen = balancers.ask(newcomer, Moment(2));
        assert!(!is_known(), "all of them ask");
        // It gets an equal part: it may have most of the connections.
        assert_eq!(seen.share(170, 1, 17), 10);
        balancers.ask(newcomer, NOW);
        assert!(is_known(), "the last one asks no more and has nothing open");
        assert!(held.is_some() && balancers.connection_from(address(0)).is_some());
    }

    #[test]
    fn a_balancer_keeps_what_it_has_and_shares_what_is_left() {
        for (own, all, open, most, balancers, share) in [
            (0, 0, 0, 100, 1, 100),
            (0, 0, 0, 100, 4, 25),
            // Their connections have other addresses.
            (0, 0, 80, 100, 4, 25),
            // One that was started anew beside one that has all of them.
            (4_000, 4_000, 4_000, 4_300, 2, 4_150),
            (0, 4_000, 4_000, 4_300, 2, 150),
            // What others than balancers have is not left.
            (40, 60, 80, 208, 2, 104),
            // Too many: each ends the same part.
            (3_000, 4_000, 4_000, 2_000, 2, 1_500),
            (1_000, 4_000, 4_000, 2_000, 2, 500),
            (0, 4_000, 4_000, 2_000, 2, 1),
        ] {
            let seen = OpenByBalancer { own, all };
            assert_eq!(seen.share(most, open, balancers), share, "{seen:?} {open}");
        }
    }

    proptest! {
        #[test]
        fn together_they_are_told_no_more_than_there_is(
            of_each in proptest::collection::vec(0u64..20_000, 1..8),
            of_nobody in 0u64..1_000,
            most in 0u64..100_000,
        ) {
            let all: u64 = of_each.iter().sum();
            let balancers = of_each.len() as u32;
            let share = |own: &u64| OpenByBalancer { own: *own, all }.share(most, all + of_nobody, balancers);
            let told = of_each.iter().map(share);
            // Each may have one, whatever there is.
            prop_assert!(told.sum::<u64>() <= most + u64::from(balancers));
        }
    }
}
