//! liangma: the status lookup behind a health code.
//!
//! A query enters at a door, passes the layers, and leaves by the same door:
//!
//! `http::doors` reads requests, and `http::dispatch` parses the head (`http::query`) and calls the service (`service`). The
//! service opens the credential (`seal`), reads the board (`board`), and returns an answer or a refusal, which `http::reply`
//! prints. A code says who the holder is, the board says the status; neither waits.
//!
//! A change enters at the operations door (`http::ops`) line by line (`lines`, `feed`), goes to the store (`store`), and is
//! acknowledged once it is durable and on the board.
//!
//! A node's life is in `node`, its settings in `config`, the command line in `commands`.

#![deny(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::missing_errors_doc)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]
// They panic if their reader is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod commands;
pub mod config;
pub mod node;
pub mod publishing;

pub mod http;
pub mod service;

pub mod admission;
pub mod board;
pub mod desk;
pub mod exchange;
pub mod feed;
pub mod identity;
pub mod lists;
pub mod meters;
pub mod offline;
pub mod recognition;
pub mod seal;
pub mod store;
pub mod store_client;
pub mod traces;

pub mod capacity;
pub mod clock;
pub mod critical;
pub mod door_load;
#[cfg(test)]
mod generated_docs;
pub mod hex;
pub mod kernel;
pub mod language;
pub mod lines;
pub mod logging;
pub mod paper;
pub mod person;
pub mod private_file;
pub mod process;
pub mod refusal;
pub mod service_manager;
pub mod sightings;
pub mod signals;
pub mod spelling;
pub mod status;
pub mod synth;
pub mod tls;
pub mod toml_text;
pub mod version;
