//! haul: a download agent for large packages. See README.md for its use.
#![forbid(unsafe_code)]

pub mod agent;
pub mod alarm;
pub mod api;
pub mod backoff;
pub mod begin;
pub mod board;
pub mod cleaner;
pub mod cli;
pub mod client;
pub mod clock;
pub mod controller;
pub mod dest;
pub mod get;
pub mod governor;
pub mod handle;
pub mod hooks;
#[cfg(test)]
mod hostile;
pub mod human;
pub mod id;
pub mod intervals;
pub mod limit;
pub mod link;
pub mod paths;
pub mod plan;
pub mod ranges;
pub mod rate;
pub mod record;
pub mod remember;
pub mod run;
pub mod saved;
pub mod schedule;
pub mod seats;
pub mod serve;
pub mod session;
pub mod settings;
pub mod share;
pub mod store;
pub mod syncer;
pub mod table;
pub mod transfer;
pub mod upstream;
pub mod url;
pub mod vital;
pub mod worker;
