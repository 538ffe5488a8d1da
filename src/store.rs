//! The store, which keeps every resident and reason across restarts, behind one trait. Takes changes; acknowledges them once
//! they are durable and on the board. It sees no names in clear, and no HTTP.

mod assertion;
mod change;
mod contract;
pub mod embedded;
mod error;
pub mod record;
pub mod redis;
pub mod reseal;
mod reseal_report;

pub use change::{BulkLoadReport, Change, ChangeKind, ChangeOutcome};
pub use contract::{LocatedRecord, Store, StoreStream};
pub use error::Error;
pub(crate) use error::tell_damaged;
