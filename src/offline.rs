//! Offline verification: codes that can be saved or printed, and the status list with which a gate judges them without a network.
//! Pure: bytes, keys and times in; bytes, or what may be said, out. Never: the board, stores, HTTP.

#![warn(clippy::missing_errors_doc)]

pub mod code;
pub mod daily;
pub mod gate;
pub mod issue;
pub mod list;
pub mod permutation;
pub mod publisher;
pub mod ribbon;
pub mod sign;

/// A resident as codes and lists name one: a permutation of the resident id under a generation, see [`permutation`].
/// Ids of two generations of one resident cannot be linked without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub u64);

/// What a list says of one id. The numbers are those of the changes file's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListState {
    /// The resident is green.
    Green,
    /// The resident is red.
    Red,
    /// The resident is yellow.
    Yellow,
    /// The code was revoked, or the person erased: no colour belongs to it any more.
    Void,
}

impl ListState {
    /// All states, in the order of a changes file.
    pub const ALL: [ListState; 4] = [
        ListState::Green,
        ListState::Red,
        ListState::Yellow,
        ListState::Void,
    ];

    /// Returns the word that answers use for the state.
    pub fn word(self) -> &'static str {
        match self {
            ListState::Green => "green",
            ListState::Red => "red",
            ListState::Yellow => "yellow",
            ListState::Void => "void",
        }
    }
}
