//! Offline verification: codes that can be saved or printed, and status lists, by which a gate without a network judges them.
//! Pure functions of bytes, keys and times; no board, store or HTTP.

pub mod code;
pub mod daily;
pub mod gate;
pub mod ids;
pub mod issue;
pub mod list;
pub mod permutation;
pub mod publisher;
pub mod ribbon;
pub mod sign;

pub use ids::{ListId, ListState};
