//! Divides file descriptors among doors if the system allows fewer than they want. Pure.

/// Descriptors for everything except admitted connections: runtimes, listeners, the store, connections that get the answer
/// `busy`, and those that are read to their end after a refusal.
const OTHERS: usize = 1024;

/// The request of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorRequest {
    /// Connections that the door's settings ask for.
    pub connections: usize,
    /// Whether the door has priority: gates and operations.
    pub first: bool,
}

/// Returns the number of descriptors that all requests need.
pub fn wanted(wishes: &[DescriptorRequest]) -> usize {
    total(wishes, |_| true) + OTHERS
}

/// Returns the connections for each request. Half of the descriptors are reserved for requests with priority, as far as they
/// need them; the others share the rest. Each gets at least one.
pub fn share(wishes: &[DescriptorRequest], descriptors: usize) -> Vec<usize> {
    let have = descriptors - OTHERS.min(descriptors / 2);
    let first = total(wishes, |wish| wish.first);
    let others = total(wishes, |wish| !wish.first);
    if first + others <= have {
        return wishes.iter().map(|wish| wish.connections).collect();
    }
    let for_first = first.min((have / 2).max(have.saturating_sub(others)));
    let part = |wish: &DescriptorRequest| {
        let (have, wanted) = match wish.first {
            true => (for_first, first),
            false => (have - for_first, others),
        };
        (wish.connections * have / wanted.max(1)).max(1)
    };
    wishes.iter().map(part).collect()
}

fn total(wishes: &[DescriptorRequest], of: impl Fn(&DescriptorRequest) -> bool) -> usize {
    let chosen = wishes.iter().filter(|wish| of(wish));
    chosen.map(|wish| wish.connections).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wishes() -> Vec<DescriptorRequest> {
        [(10_000, false), (4_000, true), (2_000, false), (256, true)]
            .map(|(connections, first)| DescriptorRequest { connections, first })
            .into()
    }

    #[test]
    fn whoever_must_go_on_has_half_of_what_is_short() {
        let wishes = wishes();
        assert_eq!(share(&wishes, wanted(&wishes)), [10_000, 4_000, 2_000, 256]);
        assert_eq!(share(&wishes, 9_024), [3_333, 3_759, 666, 240]);
        // They do not need half of this.
        assert_eq!(share(&wishes, 16_768), [9_573, 4_000, 1_914, 256]);
    }

    proptest! {
        #[test]
        fn all_have_some_and_nobody_more_than_the_wish(descriptors in 16usize..100_000) {
            let wishes = wishes();
            let shares = share(&wishes, descriptors);
            for (wish, share) in wishes.iter().zip(&shares) {
                prop_assert!((1..=wish.connections).contains(share));
            }
            let own = descriptors - OTHERS.min(descriptors / 2);
            prop_assert!(shares.iter().sum::<usize>() <= own + shares.len());
        }
    }
}
