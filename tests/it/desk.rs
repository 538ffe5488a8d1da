//! The desk: what the notice promises beside the code.

mod audit;
mod family;
mod grants;
mod notice;
mod offices;
mod records;
mod revocations;
mod roles;
