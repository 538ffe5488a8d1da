//! Bytes as hexadecimal digits, and back.

/// Returns two lower-case digits for each byte. Not for secrets: the text is not wiped.
pub fn text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]));
    digits.collect()
}

/// Parses exactly `BYTES` bytes in digits of either case; None for any other text.
pub fn array<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES || !is_digits(text) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (nth, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * nth..2 * nth + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Parses digits of either case, two for each byte; None for any other text.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !is_digits(text) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for at in (0..text.len()).step_by(2) {
        bytes.push(u8::from_str_radix(&text[at..at + 2], 16).ok()?);
    }
    Some(bytes)
}

/// Returns whether a text has digits only. A sign is not a digit.
fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_again_in_either_case(printed in any::<[u8; 9]>()) {
            for text in [text(&printed), text(&printed).to_uppercase()] {
                prop_assert_eq!(array(&text), Some(printed));
                prop_assert_eq!(bytes(&text), Some(printed.to_vec()));
            }
        }
    }

    #[test]
    fn whatever_is_not_so_many_digits_is_refused() {
        for wrong in [
            "", "0", "000", "00000", "+0+0", "0x00", "00 0", "zz00", "é00",
        ] {
            assert_eq!(array::<2>(wrong), None, "{wrong}");
        }
        for wrong in ["0", "000", "+0+0", "0x00", "00 0", "zz00", "é00"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
