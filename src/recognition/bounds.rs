//! Bounds of foreign codes and of other issuers' key files: sizes, depths, counts, validity. A value beyond a bound is refused
//! before it is kept.

use std::time::Duration;

/// Length of a foreign code in characters. A QR code holds at most 4,296.
pub const TEXT_CHARS_MAX: usize = 4_096;

/// Size of an HC1 after inflation, in bytes.
pub const HC1_INFLATED_MAX: usize = 16 << 10;

/// Size of a SMART Health Card after inflation, in bytes.
pub const SHC_INFLATED_MAX: usize = 64 << 10;

/// Nesting depth of arrays, maps and tags in CBOR.
pub const CBOR_DEPTH_MAX: usize = 8;

/// Number of CBOR items: values, keys and tags.
pub const CBOR_ITEMS_MAX: usize = 512;

/// Size of a protected header in bytes.
pub const PROTECTED_BYTES_MAX: usize = 64;

/// Size of a key id in an HC1, in bytes.
pub const KID_BYTES_MAX: usize = 32;

/// Nesting depth of objects and arrays in JSON.
pub const JSON_DEPTH_MAX: usize = 16;

/// Length of a text that an answer repeats, in characters.
pub const SHOWN_CHARS_MAX: usize = 80;

/// Longest validity of a code.
pub const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Allowed sizes of an RSA modulus in bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// Size of an ES256 signature in bytes.
pub const ES256_BYTES: usize = 64;

/// Allowed sizes of a PS256 signature in bytes.
pub const PS256_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Number of keys with one id. In some countries a renewed key keeps its id.
pub const KEYS_OF_ONE_ID_MAX: usize = 4;

/// Number of keys in a trust list.
pub const KEYS_MAX: usize = 20_000;

/// Size of a key file in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 20;

/// Checks the structure of a CBOR text without storing it. Returns false if it exceeds a bound, is cut, names a length beyond
/// its end, or has trailing bytes.
pub fn cbor_is_bounded(bytes: &[u8]) -> bool {
    let mut walk = CborWalk {
        rest: bytes,
        items: 0,
    };
    walk.item(0) == Some(false) && walk.rest.is_empty()
}

struct CborWalk<'b> {
    rest: &'b [u8],
    items: usize,
}

impl CborWalk<'_> {
    fn take(&mut self, bytes: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    /// Walks over one item. Returns `Some(true)` at the end of an item of indefinite length, None for an invalid one.
    fn item(&mut self, depth: usize) -> Option<bool> {
        let first = self.take(1)?[0];
        let (major, low) = (first >> 5, first & 31);
        if first == 0xff {
            return Some(true);
        }
        self.items += 1;
        if self.items > CBOR_ITEMS_MAX {
            return None;
        }
        let length = match low {
            0..=23 => Some(u64::from(low)),
            24 => Some(u64::from(self.take(1)?[0])),
            25..=27 => {
                let bytes = self.take(1 << (low - 24))?;
                let number = bytes.iter().fold(0, |all, b| all << 8 | u64::from(*b));
                Some(number)
            }
            31 if (2..=5).contains(&major) => None,
            _ => return None,
        };
        let holds_items = (4..7).contains(&major) || length.is_none();
        if holds_items && depth == CBOR_DEPTH_MAX {
            return None;
        }
        match (major, length) {
            (0 | 1 | 7, _) => {}
            (2 | 3, Some(length)) => {
                self.take(usize::try_from(length).ok()?)?;
            }
            (6, _) => self.inner(depth)?,
            (4 | 5, Some(length)) => {
                let items = length.checked_mul(u64::from(major - 3))?;
                for _ in 0..items {
                    self.inner(depth)?;
                }
            }
            // Chunks or items up to a break.
            _ => while !self.item(depth + 1)? {},
        }
        Some(false)
    }

    fn inner(&mut self, depth: usize) -> Option<()> {
        (!self.item(depth + 1)?).then_some(())
    }
}

/// Returns whether the nesting of a JSON text is within the bound. The syntax is not checked.
pub fn json_is_bounded(bytes: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Returns a text without control, format and direction characters, cut to [`SHOWN_CHARS_MAX`].
pub fn shown(text: &str) -> String {
    let is_mark = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let seen = text.chars().filter(|c| !is_mark(*c));
    let text: String = seen.take(SHOWN_CHARS_MAX).collect();
    text.trim().to_owned()
}

/// Reads a key file.
///
/// # Errors
///
/// A message: the file cannot be read, or is larger than [`KEY_FILE_BYTES_MAX`].
pub fn read_bounded(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(KEY_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    match bytes.len() as u64 > KEY_FILE_BYTES_MAX {
        true => Err(format!("the file has more than {KEY_FILE_BYTES_MAX} bytes")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cbor_is_walked_up_to_each_bound() {
        let nested = |first: u8, deep: usize| [vec![first; deep], vec![0]].concat();
        for first in [0x81, 0xc1] {
            assert!(cbor_is_bounded(&nested(first, CBOR_DEPTH_MAX)));
            assert!(!cbor_is_bounded(&nested(first, CBOR_DEPTH_MAX + 1)));
            assert!(!cbor_is_bounded(&nested(first, 100_000)));
        }
        assert!(!cbor_is_bounded(&vec![0x5f; 100_000]));
        let many = |items: usize| {
            let mut bytes = vec![0x99, (items >> 8) as u8, items as u8];
            bytes.resize(3 + items, 0);
            bytes
        };
        assert!(cbor_is_bounded(&many(CBOR_ITEMS_MAX - 1)));
        assert!(!cbor_is_bounded(&many(CBOR_ITEMS_MAX)));
        for (bytes, expected) in [
            (&b"\x43abc"[..], true),
            (b"\x43ab", false),
            (b"\x5f\x41a\x41b\xff", true),
            (b"\x9f\x01\x02\xff", true),
            (b"\x9f\x01\x02", false),
            (b"\xbf\x01\x02\xff", true),
            (b"\xa1\x01\x02", true),
            (b"\x82\x01\xff", false),
            (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", false),
            (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", false),
            (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x00", false),
            (b"\x00\x00", false),
            (b"\x1c", false),
            (b"\xff", false),
            (b"", false),
            (b"\xf9\x7e\x00", true),
            (b"\x3f", false),
        ] {
            assert_eq!(cbor_is_bounded(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn json_is_walked_up_to_its_depth() {
        let nested = |deep: usize| ["[".repeat(deep), "]".repeat(deep)].concat();
        assert!(json_is_bounded(nested(JSON_DEPTH_MAX).as_bytes()));
        assert!(!json_is_bounded(nested(JSON_DEPTH_MAX + 1).as_bytes()));
        let in_text = format!("\"\\\"{}\"", "[".repeat(100));
        assert!(json_is_bounded(in_text.as_bytes()));
    }

    #[test]
    fn a_shown_text_has_no_marks_and_an_end() {
        assert_eq!(shown("A\u{202e}B\u{0}\u{200b}C\n"), "ABC");
        assert_eq!(shown(&"ö".repeat(1_000)).chars().count(), SHOWN_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn what_is_bounded_is_read_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            // Nothing that the walk lets through makes the reader panic or recurse further.
            if cbor_is_bounded(&bytes) {
                let read: Result<ciborium::Value, _> = ciborium::from_reader(&bytes[..]);
                drop(read);
            }
        }
    }
}
