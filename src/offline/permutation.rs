//! Maps resident ids to list ids and back: a keyed Feistel network, with one permutation for each generation.

use super::ids::ListId;
use crate::person::ResidentId;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// Rounds of the network. Four give a strong pseudo-random permutation; eight leave a margin, at 145 ns.
const ROUNDS: u8 = 8;

/// The permutation of all 64-bit ids in every generation. The key is secret: it leads from list ids back to residents.
pub struct Permutation {
    key: [u8; 16],
}

impl Permutation {
    /// Returns the permutation of a key.
    pub fn new(key: [u8; 16]) -> Permutation {
        Permutation { key }
    }

    /// Returns the list id of a resident in a generation. Two residents never have the same one.
    pub fn list_id(&self, resident: ResidentId, generation: u8) -> ListId {
        let (mut left, mut right) = halves(resident.0);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, generation, right));
        }
        ListId(whole(left, right))
    }

    /// Returns the resident with this list id in this generation. Every number belongs to some id; only the board knows whether
    /// that resident is on record.
    pub fn resident(&self, id: ListId, generation: u8) -> ResidentId {
        let (mut left, mut right) = halves(id.0);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mix(round, generation, left), left);
        }
        ResidentId(whole(left, right))
    }

    fn mix(&self, round: u8, generation: u8, half: u32) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        let mut message = [round, generation, 0, 0, 0, 0];
        message[2..].copy_from_slice(&half.to_be_bytes());
        hasher.write(&message);
        hasher.finish() as u32
    }
}

fn halves(id: u64) -> (u32, u32) {
    ((id >> 32) as u32, id as u32)
}

fn whole(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_id_leads_back_to_its_resident(id: u64, generation: u8, key: [u8; 16]) {
            let permutation = Permutation::new(key);
            let listed = permutation.list_id(ResidentId(id), generation);
            prop_assert_eq!(permutation.resident(listed, generation), ResidentId(id));
        }

        #[test]
        fn generations_and_keys_give_other_ids(id: u64, key: [u8; 16]) {
            let one = Permutation::new(key);
            let other = Permutation::new(key.map(|byte| byte ^ 1));
            let first = one.list_id(ResidentId(id), 0);
            prop_assert_ne!(first, one.list_id(ResidentId(id), 1));
            prop_assert_ne!(first, other.list_id(ResidentId(id), 0));
        }
    }
}
