//! liangma: the status lookup behind a health code.
//!
//! A query comes in at its door, walks down, and leaves by the same door:
//!
//! `http::doors` hands a connection's requests to `http`, which reads the head (`http::query`) and asks the spine
//! (`service`). The spine opens what the caller holds (`seal`), looks at the board (`board`), and answers from the closed
//! set (`answer`), which `http::reply` prints. A code tells who somebody is; the board tells how they stand; neither waits.
//!
//! A change comes in at the back door (`http::back`), line by line (`lines`, `feed`), goes to the store (`store`), and is
//! acknowledged when it is durable and on the board.
//!
//! A node's life is in `node`; what it is told, in `config`; what a person types, in `commands`.

pub mod commands;
pub mod config;
pub mod node;

pub mod http;
pub mod service;

pub mod feed;
pub mod store;
pub mod admission;
pub mod board;
pub mod identity;
pub mod seal;
pub mod meters;
pub mod answer;

pub mod status;
pub mod person;
pub mod lines;
pub mod language;
pub mod clock;
pub mod drain;
pub mod synth;
