//! Requests to other issuers' services, for verdicts about their live codes and for their status lists. `http/exchange` is the other
//! half, which answers them. Takes peers of the trust list; knows neither the board nor the store.

pub mod asking;
pub mod breaker;
pub mod dialect;
pub mod link;
pub mod lists;
pub mod settings;

pub use settings::ExchangeSettings;
