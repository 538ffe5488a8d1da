//! The sixteen partitions: which one a resident belongs to, and the names of its keys. Pure.
//!
//! All keys of a partition share a hash tag, so that Redis Cluster keeps them in one slot, and one script can write a record
//! and its stream entry. The slots are evenly spread: three primaries hold five, five and six partitions.

use crate::board;
pub use crate::board::PARTITIONS;
use crate::person::ResidentId;

/// Hash tags of the partitions. Partition `n` has a slot near the middle of the `n`th sixteenth of all slots.
const TAGS: [&str; PARTITIONS] = [
    "18", "455", "333", "223", "553", "443", "95", "663", "265", "375", "908", "155", "985", "895",
    "405", "515",
];

/// Returns the partition of a resident. Residents with another id than the home stay in the home's partition.
pub fn of(id: ResidentId) -> usize {
    board::partition(id)
}

/// Returns the key of the hash that describes the partition. Scripts get this key and derive the others.
pub fn meta(partition: usize) -> String {
    format!("lm:{{{}}}:m", TAGS[partition])
}

/// Returns the key of its stream of changes.
pub fn stream(partition: usize) -> String {
    format!("lm:{{{}}}:s", TAGS[partition])
}

/// Returns the prefix of the keys of papers; home (8 bytes) and claim (16) follow.
pub fn papers(partition: usize) -> String {
    format!("lm:{{{}}}:p", TAGS[partition])
}

/// Returns the Redis Cluster slot of its keys.
pub fn slot(partition: usize) -> u16 {
    crc16(TAGS[partition].as_bytes()) % 16_384
}

/// CRC-16/XMODEM, as Redis Cluster computes it.
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
