//! The service as its callers meet it: real processes, real sockets, one file a behaviour.

mod fake_store;
mod harness;
mod process;
mod redis;

mod balancer;
mod bodies;
mod bulk;
mod clocks;
mod crash;
mod demo;
mod desk;
mod drain;
mod faults;
mod feed;
mod interface;
mod keys_and_settings;
mod misses;
mod nodes;
mod offline_codes;
mod offline_readers;
mod ops;
mod output;
mod overload;
mod pages;
mod protocol;
mod refusals;
mod rubbish;
mod scan;
mod secrets;
mod sessions;
mod show;
mod status_lists;
mod stores;
mod truth;
mod turns;
