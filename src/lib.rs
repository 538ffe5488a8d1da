//! liangma: the status lookup behind a health code.
//!
//! A query comes in at its door, walks down, and leaves by the same door:
//!
//! `http::doors` hands a connection's requests to `http::dispatch`, which reads the head (`http::query`) and asks the spine
//! (`service`). The spine opens what the caller holds (`seal`), looks at the board (`board`), and answers from the closed
//! set (`answer`), which `http::reply` prints. A code tells who somebody is; the board tells how they stand; neither waits.
//!
//! A change comes in at the operations door (`http::ops`), line by line (`lines`, `feed`), goes to the store (`store`), and is
//! acknowledged when it is durable and on the board.
//!
//! A node's life is in `node`; what it is told, in `config`; what a person types, in `commands`.

#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]
// They panic where nobody reads any more.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod commands;
pub mod config;
pub mod node;
pub mod publishing;

pub mod http;
pub mod service;

pub mod admission;
pub mod answer;
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

pub mod capacity;
pub mod clock;
pub mod critical;
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
pub mod sightings;
pub mod signals;
pub mod status;
pub mod synth;
pub mod tls;
pub mod toml_text;
pub mod version;
