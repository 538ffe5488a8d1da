//! The HTTP layer: doors, requests and responses. Only it reads the headers of a node's requests and sets those of its answers.
//! `exchange`, `traces/collector` and some commands send requests of their own, with headers.
//!
//! `doors` accepts connections and reads requests, `dispatch` answers one request, and the other modules serve both.

pub mod agent;
pub mod body;
pub mod bulk;
pub mod busy_page;
pub mod connection_state;
pub mod desk;
pub mod dispatch;
pub mod door;
pub mod door_settings;
pub mod door_state;
pub mod doors;
pub mod exchange;
pub mod foreign;
pub mod identified;
pub mod limits;
pub mod lists;
pub mod ops;
pub mod pages;
pub mod problem;
pub mod query;
pub mod read_ahead;
pub mod reply;
pub mod request_id;
pub mod whole_body;

pub use limits::Settings;
