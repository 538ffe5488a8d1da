//! Bytes as hexadecimal digits, and back.

/// Prints two lower-case digits a byte. Not for secrets: the text is not wiped.
pub fn text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]));
    digits.collect()
}

/// Reads exactly so many bytes, in digits of either case; None for anything else.
pub fn array<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    // A sign is a part of a number, and no digit.
    if text.len() != 2 * BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (nth, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * nth..2 * nth + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_again_in_either_case(bytes in any::<[u8; 9]>()) {
            prop_assert_eq!(array(&text(&bytes)), Some(bytes));
            prop_assert_eq!(array(&text(&bytes).to_uppercase()), Some(bytes));
        }
    }

    #[test]
    fn whatever_is_not_so_many_digits_is_refused() {
        for wrong in [
            "", "0", "000", "00000", "+0+0", "0x00", "00 0", "zz00", "é00",
        ] {
            assert_eq!(array::<2>(wrong), None, "{wrong}");
        }
    }
}
