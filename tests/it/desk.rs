//! The desk: what the notice promises beside the code.

mod family;
mod grants;
mod records;
