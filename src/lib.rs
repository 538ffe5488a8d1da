//! wip
pub mod answer;
pub mod board;
pub mod admission;
pub mod clock;
pub mod feed;
pub mod identity;
pub mod language;
pub mod person;
pub mod seal;
pub mod status;
pub mod store;
