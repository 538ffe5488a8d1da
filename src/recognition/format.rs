//! Formats of foreign codes, detected by their first characters.

/// Prefix of an HC1.
pub const HC1_PREFIX: &[u8] = b"HC1:";

/// Prefix of a SMART Health Card.
pub const SHC_PREFIX: &[u8] = b"shc:/";

/// Format of a foreign code, detected by its first characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForeignFormat {
    /// An EU Digital COVID Certificate.
    Hc1,
    /// A SMART Health Card.
    Shc,
    /// A known format that this service does not read.
    Unread,
}

impl ForeignFormat {
    /// Returns the format of a text by its first characters; None if they match no format.
    pub fn told_apart(text: &[u8]) -> Option<ForeignFormat> {
        const BEGINNINGS: [(&[u8], ForeignFormat); 5] = [
            (HC1_PREFIX, ForeignFormat::Hc1),
            (SHC_PREFIX, ForeignFormat::Shc),
            // A compact JWS, whose header is an object.
            (b"eyJ", ForeignFormat::Shc),
            (b"NZCP:/", ForeignFormat::Unread),
            (b"{\"data\"", ForeignFormat::Unread),
        ];
        let mut known = BEGINNINGS.iter();
        let found = known.find(|(beginning, _)| text.starts_with(beginning))?;
        Some(found.1)
    }

    /// Returns the name in settings, trust files and metrics.
    pub fn word(self) -> &'static str {
        match self {
            ForeignFormat::Hc1 => "hc1",
            ForeignFormat::Shc => "shc",
            ForeignFormat::Unread => "other",
        }
    }
}
