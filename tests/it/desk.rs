//! The desk: what the notice promises beside the code.

mod audit;
mod erasure;
mod family;
mod grants;
mod notice;
mod records;
mod revocations;
mod roles;
mod staff;
