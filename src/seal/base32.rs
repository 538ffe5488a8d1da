//! RFC 4648 base32 without padding: sealed bytes as capital letters and digits.
//!
//! The QR alphanumeric set has more characters, but shells, query strings and trimming readers lose or change its space, `$`,
//! `*` and `%`. Base32 costs 5 of 88 characters and survives them all.

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

/// Two characters for each ten bits, which halves the lookups.
const PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut i = 0;
    while i < 1024 {
        pairs[i] = [ALPHABET[i >> 5], ALPHABET[i & 31]];
        i += 1;
    }
    pairs
};

/// Returns the number of characters for `bytes` bytes.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

// If the length is known at compile time, as for a code, the loop has no checks.
/// Writes `bytes` as text into `out`, whose length must be [`encoded_len`] of theirs.
#[inline(always)]
pub fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), encoded_len(bytes.len()));
    let (whole, rest) = bytes.as_chunks::<5>();
    let (whole_out, rest_out) = out.split_at_mut(whole.len() * 8);
    for (five, eight) in whole.iter().zip(whole_out.as_chunks_mut::<8>().0) {
        *eight = eight_of(value_of(five));
    }
    if !rest.is_empty() {
        rest_out.copy_from_slice(&eight_of(value_of(rest))[..rest_out.len()]);
    }
}

/// Returns `bytes` as text.
pub fn text(bytes: &[u8]) -> String {
    let mut out = vec![0; encoded_len(bytes.len())];
    encode(bytes, &mut out);
    String::from_utf8(out).expect("letters and digits")
}

/// Decodes `text`; None if it is invalid or holds more than `bytes_max` bytes.
pub fn bytes(text: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; bytes_max.min(text.len())];
    let length = decode(text.as_bytes(), &mut out)?;
    out.truncate(length);
    Some(out)
}

/// Returns forty bits, the first byte highest.
fn value_of(five: &[u8]) -> u64 {
    let mut block = [0; 8];
    block[3..3 + five.len()].copy_from_slice(five);
    u64::from_be_bytes(block)
}

fn eight_of(value: u64) -> [u8; 8] {
    let mut eight = [0; 8];
    for (i, pair) in eight.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *pair = PAIRS[(value >> (30 - 10 * i)) as usize & 1023];
    }
    eight
}

/// Decodes `text` into `out` and returns the number of bytes. None for another alphabet, an impossible length, leftover bits
/// (so that each text has one spelling), or too many bytes.
pub fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let length = text.len() * 5 / 8;
    if encoded_len(length) != text.len() || length > out.len() {
        return None;
    }
    let mut bad = 0;
    let mut bits_of = |eight: &[u8]| {
        let mut value = 0;
        for c in eight {
            let bits = VALUES[usize::from(*c)];
            bad |= bits & 0x80;
            value = value << 5 | u64::from(bits & 31);
        }
        value
    };
    let (whole, rest) = text.as_chunks::<8>();
    let (whole_out, rest_out) = out[..length].split_at_mut(whole.len() * 5);
    for (eight, five) in whole.iter().zip(whole_out.as_chunks_mut::<5>().0) {
        five.copy_from_slice(&bits_of(eight).to_be_bytes()[3..]);
    }
    let block = (bits_of(rest) << (5 * (8 - rest.len()))).to_be_bytes();
    let (kept, left) = block[3..].split_at(rest_out.len());
    rest_out.copy_from_slice(kept);
    // Unused bits must be zero.
    (bad == 0 && (rest.is_empty() || left.iter().all(|b| *b == 0))).then_some(length)
}

/// Decodes like [`decode`], and accepts lower case, which a hardware scanner with Caps Lock types. Upper case costs no more.
pub fn decode_any_case(text: &[u8], out: &mut [u8]) -> Option<usize> {
    decode(text, out).or_else(|| decode_upper(text, out))
}

#[cold]
fn decode_upper(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut upper = [0; 128];
    let upper = upper.get_mut(..text.len())?;
    upper.copy_from_slice(text);
    upper.make_ascii_uppercase();
    match upper == text {
        true => None,
        false => decode(upper, out),
    }
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
        fn reads_any_case_as_upper_case(bytes in proptest::collection::vec(any::<u8>(), 0..80), lower in any::<u128>()) {
            let text = print(&bytes);
            let typed: String = text.char_indices().map(|(nth, c)| match lower >> (nth % 128) & 1 {
                1 => c.to_ascii_lowercase(),
                _ => c,
            }).collect();
            let mut out = [0; 100];
            prop_assert_eq!(decode_any_case(typed.as_bytes(), &mut out), Some(bytes.len()));
            prop_assert_eq!(&out[..bytes.len()], &bytes[..]);
        }

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
