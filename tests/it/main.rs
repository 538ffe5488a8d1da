//! The service as its callers meet it: real processes, real sockets, one file a behaviour.

mod fake_store;
mod harness;

mod bulk;
mod crash;
mod drain;
mod feed;
mod keys_and_settings;
mod refusals;
mod rubbish;
mod scan;
mod secrets;
mod sessions;
mod show;
