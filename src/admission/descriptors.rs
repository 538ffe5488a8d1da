//! How many connections each door may have where the system lets us have fewer descriptors than they would like. Pure.

/// Descriptors for everything but connections that are admitted: runtimes, listeners, the store, connections that are told that a
/// door is full, and those that are read to their end after a refusal.
const OTHERS: usize = 1024;

/// What a door would like, and whether it is one of those that must go on: gates, and the operations door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorRequest {
    /// Connections that the door's settings ask for.
    pub connections: usize,
    /// Whether the door gets its descriptors before others: gates and operations.
    pub first: bool,
}

/// Descriptors that all wishes take.
pub fn wanted(wishes: &[DescriptorRequest]) -> usize {
    total(wishes, |_| true) + OTHERS
}

/// Half of what there is goes to those who must go on, if they wish for so much; the others share the rest. One at least for
/// each.
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
