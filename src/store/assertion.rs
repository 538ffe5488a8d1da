//! The last message of one source about one reason, and its stored form. Pure.

use crate::clock::Time;
use crate::status::Reason;

/// The last message of one source about one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// The reason.
    pub reason: Reason,
    /// The source; at most [`crate::seal::NAME_BYTES_MAX`] bytes.
    pub source: Box<str>,
    /// Sequence number of the source. The highest is the newest, in whatever order messages arrive.
    pub seq: u64,
    /// True if the reason is set, false if it is cleared.
    pub active: bool,
    /// When the source said it.
    pub at: Time,
    /// Last day, `yyyymmdd`.
    pub until: Option<u32>,
    /// Division of GB/T 2260 of six digits.
    pub region: Option<u32>,
}

impl Assertion {
    /// Removes dates and region, and keeps what orders messages. Returns whether anything was removed.
    pub(super) fn strip(&mut self) -> bool {
        let had_some = (self.at, self.until, self.region) != (Time(0), None, None);
        (self.at, self.until, self.region) = (Time(0), None, None);
        had_some
    }

    /// Returns whether the person may see it. Stripped assertions are not shown.
    pub fn is_told(&self) -> bool {
        self.at != Time(0)
    }
}

impl Assertion {
    /// Returns whether the known message is a later clear. A source that repeats a reason which an operator has cleared changes
    /// nothing.
    pub(super) fn has_cleared(&self, said: &Assertion) -> bool {
        !self.active && said.active && said.at < self.at
    }

    /// Appends reason and action (1 byte), seq (8), at (8), until (4), region (4), length of the source (1), source.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.reason as u8 | u8::from(self.active) << 7);
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.at.0.to_be_bytes());
        bytes.extend_from_slice(&self.until.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&self.region.unwrap_or(0).to_be_bytes());
        bytes.push(self.source.len() as u8);
        bytes.extend_from_slice(self.source.as_bytes());
    }

    /// Parses an assertion. Returns it with the bytes that follow.
    pub fn read(bytes: &[u8]) -> Option<(Assertion, &[u8])> {
        let (first, rest) = bytes.split_first()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (until, rest) = rest.split_first_chunk::<4>()?;
        let (region, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first()?;
        let (source, rest) = rest.split_at_checked(usize::from(*length))?;
        let some = |bytes: &[u8; 4]| Some(u32::from_be_bytes(*bytes)).filter(|value| *value != 0);
        let assertion = Assertion {
            reason: Reason::from_bits(first & 0x7f)?,
            source: std::str::from_utf8(source).ok()?.into(),
            seq: u64::from_be_bytes(*seq),
            active: first & 0x80 != 0,
            at: Time(u64::from_be_bytes(*at)),
            until: some(until),
            region: some(region),
        };
        Some((assertion, rest))
    }
}
