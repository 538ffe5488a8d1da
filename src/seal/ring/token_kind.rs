//! Kinds of sealed texts, each with keys of its own.

use serde::{Deserialize, Serialize};

/// Purpose of a sealed text. Each has its own keys, so that none is accepted as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A code that a gate scans.
    Code = 1,
    /// A session of a resident.
    Session = 2,
    /// A token of a gate's device.
    Scanner = 3,
    /// A token of an authority that feeds.
    Authority = 4,
    /// A token of an organisation.
    Organisation = 5,
    /// A token of an office's staff.
    Staff = 6,
    /// A token of an operator.
    Operator = 7,
    /// A grant to an organisation.
    Grant = 8,
}

impl TokenKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [TokenKind; 8] = [
        TokenKind::Code,
        TokenKind::Session,
        TokenKind::Scanner,
        TokenKind::Authority,
        TokenKind::Organisation,
        TokenKind::Staff,
        TokenKind::Operator,
        TokenKind::Grant,
    ];

    /// Returns the derivation name of the keys of this kind.
    pub(super) fn purpose(self) -> &'static [u8] {
        match self {
            TokenKind::Code => b"liangma code 1",
            TokenKind::Session => b"liangma session 1",
            TokenKind::Scanner => b"liangma scanner 1",
            TokenKind::Authority => b"liangma authority 1",
            TokenKind::Organisation => b"liangma organisation 1",
            TokenKind::Staff => b"liangma staff 1",
            TokenKind::Operator => b"liangma operator 1",
            TokenKind::Grant => b"liangma grant 1",
        }
    }
}
