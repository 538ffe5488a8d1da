//! Masked names and document numbers in ten bytes, as codes, sessions, grants and papers hold them.

use crate::person::{Assurance, CertType, MaskedIdentity, MaskedName, MaskedNumber};

/// Writes ten bytes: type and assurance in the low half of the first (the caller uses its high half), the ends of the number,
/// the name's first character, its stars.
pub(super) fn write_masked(masked: &MaskedIdentity, out: &mut [u8]) {
    out[0] |= masked.cert_no.cert_type.bits() | masked.assurance.bits() << 2;
    out[1..5].copy_from_slice(&masked.cert_no.ends);
    out[5..9].copy_from_slice(&masked.name.first);
    out[9] = masked.name.stars;
}

/// Returns a masked identity as papers hold it.
pub fn masked_bytes(masked: &MaskedIdentity) -> [u8; 10] {
    let mut bytes = [0; 10];
    write_masked(masked, &mut bytes);
    bytes
}

/// Parses ten bytes of [`masked_bytes`]; None for other bytes.
pub fn read_masked(bytes: &[u8]) -> Option<MaskedIdentity> {
    Some(MaskedIdentity {
        name: MaskedName {
            first: bytes[5..9].try_into().expect("4 bytes"),
            stars: bytes[9].min(crate::person::NAME_CHARS_MAX as u8),
        },
        cert_no: MaskedNumber {
            cert_type: CertType::from_bits(bytes[0] & 3)?,
            ends: bytes[1..5].try_into().expect("4 bytes"),
        },
        assurance: Assurance::from_bits(bytes[0] >> 2 & 3)?,
    })
}
