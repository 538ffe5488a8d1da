//! What offline codes and lists name: ids of residents, and their states.

/// A resident's id in offline codes and status lists: a permutation of the resident id under a generation, see [`super::permutation`].
/// Ids of one resident in two generations cannot be linked without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub u64);

/// State of one id in a list. The numbers give the order in a changes file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListState {
    /// The resident is green.
    Green,
    /// The resident is red.
    Red,
    /// The resident is yellow.
    Yellow,
    /// The code was revoked or the person was erased. The id has no colour.
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

    /// Returns the value of `state` in answers.
    pub fn word(self) -> &'static str {
        match self {
            ListState::Green => "green",
            ListState::Red => "red",
            ListState::Yellow => "yellow",
            ListState::Void => "void",
        }
    }
}
