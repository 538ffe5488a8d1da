//! The sixteen partitions: which of them a resident belongs to, and what its keys are called. Pure.
//!
//! All keys of a partition carry one hash tag, so that Redis Cluster keeps them in one slot and one script may write a
//! record and the entry that tells of it. The slots lie evenly, so that three primaries hold five, five and six partitions.

use crate::board;
pub use crate::board::PARTITIONS;
use crate::person::ResidentId;

/// The hash tag of each partition, chosen so that partition `n` has a slot near the middle of the `n`th sixteenth of all slots.
const TAGS: [&str; PARTITIONS] = [
    "18", "455", "333", "223", "553", "443", "95", "663", "265", "375", "908", "155", "985", "895",
    "405", "515",
];

/// The partition of a resident. Whoever is displaced stays in the one of the home.
pub fn of(id: ResidentId) -> usize {
    board::partition(id)
}

/// The hash that says what the partition is, and the key that scripts are given: the others are made of it.
pub fn meta(partition: usize) -> String {
    format!("lm:{{{}}}:m", TAGS[partition])
}

/// The stream of its changes.
pub fn stream(partition: usize) -> String {
    format!("lm:{{{}}}:s", TAGS[partition])
}

/// The hash of an owner's papers: this, home (8 bytes), claim (16).
pub fn papers(partition: usize) -> String {
    format!("lm:{{{}}}:p", TAGS[partition])
}

/// The slot of Redis Cluster that all its keys are in.
pub fn slot(partition: usize) -> u16 {
    crc16(TAGS[partition].as_bytes()) % 16_384
}

/// CRC-16/XMODEM, as Redis Cluster takes it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_are_those_of_redis_and_lie_evenly() {
        // The check value of the specification.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for partition in 0..PARTITIONS {
            assert_eq!(usize::from(slot(partition)) / 1024, partition);
        }
    }

    #[test]
    fn neighbours_share_a_partition() {
        let edge = crate::person::Identity {
            home: ResidentId(0x1fff_ffff_ffff_ffff),
            claim: [0; 16],
        };
        assert_eq!(of(edge.home), 1);
        assert_eq!(of(edge.slot(1)), 1);
    }
}
