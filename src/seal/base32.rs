//! Sealed bytes as characters: RFC 4648 base32 without padding, capital letters and digits only.
//!
//! The QR alphanumeric set holds more characters, but its space, `$`, `*` and `%` are lost or changed by the shells, query
//! strings and trimming readers that a code travels through; these cost 5 of 88 characters and survive them all.

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut i = 0;
    while i < 32 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Characters that `bytes` bytes take.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Writes `bytes` into `out`, whose length is [`encoded_len`] of theirs.
pub fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), encoded_len(bytes.len()));
    for (five, eight) in bytes.chunks(5).zip(out.chunks_mut(8)) {
        let mut block = [0; 8];
        block[3..3 + five.len()].copy_from_slice(five);
        let value = u64::from_be_bytes(block);
        for (i, c) in eight.iter_mut().enumerate() {
            *c = ALPHABET[(value >> (35 - 5 * i)) as usize & 31];
        }
    }
}

/// Reads `text` into `out` and tells how many bytes it held; None for another alphabet, a length that no bytes have,
/// bits left over (so that one sealed thing has one spelling), or more bytes than `out` has.
pub fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let length = text.len() * 5 / 8;
    if encoded_len(length) != text.len() || length > out.len() {
        return None;
    }
    let mut bad = 0;
    for (eight, five) in text.chunks(8).zip(out[..length].chunks_mut(5)) {
        let mut value = 0u64;
        for (i, c) in eight.iter().enumerate() {
            let bits = VALUES[usize::from(*c)];
            bad |= bits & 0x80;
            value |= u64::from(bits & 31) << (35 - 5 * i);
        }
        let block = value.to_be_bytes();
        let (kept, left) = block[3..].split_at(five.len());
        five.copy_from_slice(kept);
        if left.iter().any(|b| *b != 0) {
            return None;
        }
    }
    (bad == 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(bytes: &[u8]) -> String {
        let mut out = vec![0; encoded_len(bytes.len())];
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_the_vectors_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(print(bytes.as_bytes()), text);
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_printed(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let text = print(&bytes);
            let mut out = [0; 100];
            let length = decode(text.as_bytes(), &mut out).unwrap();
            prop_assert_eq!(&out[..length], &bytes[..]);
        }

        #[test]
        fn what_it_reads_it_prints_the_same_way(text in "[A-Z2-7a-z01]{0,40}") {
            let mut out = [0; 100];
            if let Some(length) = decode(text.as_bytes(), &mut out) {
                prop_assert_eq!(print(&out[..length]), text);
            }
        }
    }
}
