//! Splits bytes that arrive in pieces into lines, with bounded memory. Pure.

/// The UTF-8 byte order mark, which some programs write before the first line.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits lines that end in LF or CRLF, numbered from 1. A byte order mark before the first line of a body or file is skipped.
pub struct LineSplitter {
    bytes_max: usize,
    carry: Vec<u8>,
    line: u64,
    /// Number of the first line of the body or of the current file.
    first: u64,
    /// Whether the current line is too long and its rest is skipped.
    skipping: bool,
}

impl LineSplitter {
    /// Returns a splitter for lines of at most `bytes_max` bytes without their end.
    pub fn new(bytes_max: usize) -> LineSplitter {
        LineSplitter {
            bytes_max,
            carry: Vec::new(),
            line: 0,
            first: 1,
            skipping: false,
        }
    }

    /// Passes each complete line to `each`, with its number and without its end; None for a line that is too long.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(u64, Option<&[u8]>)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let piece = &rest[..end];
            rest = &rest[end + 1..];
            if self.carry.is_empty() && !self.skipping {
                self.line += 1;
                let line = self.strip(piece);
                each(self.line, (line.len() <= self.bytes_max).then_some(line));
            } else {
                self.keep(piece);
                self.end(&mut each);
            }
        }
        self.keep(rest);
    }

    /// Passes on a last line without an end. Later bytes belong to another file, whose line numbers go on.
    pub fn finish(&mut self, mut each: impl FnMut(u64, Option<&[u8]>)) {
        // A file that holds a mark and nothing else has no lines.
        if self.line + 1 == self.first && self.carry == BYTE_ORDER_MARK {
            self.carry.clear();
        }
        if !self.carry.is_empty() || self.skipping {
            self.end(&mut each);
        }
        self.first = self.line + 1;
    }

    fn keep(&mut self, piece: &[u8]) {
        // One more byte for the CR, and a mark before the first line.
        let beside = 1 + if self.line + 1 == self.first {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        if self.carry.len() + piece.len() > self.bytes_max + beside {
            self.skipping = true;
            self.carry.clear();
        } else if !self.skipping {
            self.carry.extend_from_slice(piece);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(u64, Option<&[u8]>)) {
        self.line += 1;
        let line = self.strip(&self.carry);
        let fits = !std::mem::take(&mut self.skipping) && line.len() <= self.bytes_max;
        each(self.line, fits.then_some(line));
        self.carry.clear();
    }

    /// Returns the line without its end, the first one also without a mark.
    fn strip<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        let line = match self.line == self.first {
            true => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
            false => line,
        };
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(pieces: &[&[u8]]) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = LineSplitter::new(20);
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece, |nth, line| all.push((nth, line.map(<[u8]>::to_vec))));
        }
        lines.finish(|nth, line| all.push((nth, line.map(<[u8]>::to_vec))));
        all
    }

    #[test]
    fn each_file_may_begin_with_a_byte_order_mark() {
        let mut lines = LineSplitter::new(20);
        let mut all = Vec::new();
        for file in [
            &b"\xef\xbb\xbfa\nb"[..],
            b"\xef\xbb\xbfc\n\xef\xbb\xbfd\n",
            b"\xef\xbb\xbf",
            b"e",
        ] {
            let mut each = |nth, line: Option<&[u8]>| all.push((nth, line.map(<[u8]>::to_vec)));
            // Byte by byte, as it may come.
            for byte in file {
                lines.push(&[*byte], &mut each);
            }
            lines.finish(&mut each);
        }
        let of = |nth, text: &[u8]| (nth, Some(text.to_vec()));
        let expected = [
            of(1, b"a"),
            of(2, b"b"),
            of(3, b"c"),
            of(4, b"\xef\xbb\xbfd"),
            of(5, b"e"),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn numbers_lines_as_the_body_does() {
        let of = |nth, text: &str| (nth, Some(text.as_bytes().to_vec()));
        assert_eq!(
            cut(&[b"a\r\n\nb", b"b\r", b"\nc"]),
            [of(1, "a"), of(2, ""), of(3, "bb"), of(4, "c")]
        );
        assert_eq!(cut(&[b"a\n"]), [of(1, "a")]);
        assert_eq!(cut(&[b""]), []);
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_spoils_itself_alone() {
        let mut lines = LineSplitter::new(512);
        let mut got = Vec::new();
        for _ in 0..1000 {
            lines.push(&[b'x'; 400], |nth, line| got.push((nth, line.is_some())));
            assert!(lines.carry.capacity() <= 2048);
        }
        lines.push(b"\n{}\n", |nth, line| got.push((nth, line.is_some())));
        assert_eq!(got, [(1, false), (2, true)]);
    }

    #[test]
    fn the_longest_line_is_a_line_and_one_more_byte_is_not() {
        for end in ["\n", "\r\n"] {
            for (length, fits) in [(20, true), (21, false)] {
                let body = format!("{}{end}", "x".repeat(length));
                let halves = body.as_bytes().split_at(7);
                assert_eq!(cut(&[body.as_bytes()])[0].1.is_some(), fits);
                assert_eq!(cut(&[halves.0, halves.1])[0].1.is_some(), fits);
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[a-z\r\n ]{0,200}", cuts in proptest::collection::vec(0usize..200, 0..5)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for at in cuts {
                pieces.push(&bytes[from..at]);
                from = at;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(cut(&pieces), cut(&[bytes]));
        }
    }
}
