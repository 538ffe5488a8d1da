//! Requests to other issuers' services: verdicts about live codes, and status lists. Takes peers of the trust list; knows
//! neither the board nor the store.

pub mod asking;
pub mod breaker;
pub mod dialect;
pub mod link;
pub mod lists;
pub mod settings;

pub use settings::ExchangeSettings;
