//! haul: a download agent for large packages. See README.md for its use.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod backoff;
pub mod begin;
pub mod board;
pub mod cleaner;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod dest;
pub mod handle;
pub mod hold;
pub mod id;
pub mod intervals;
pub mod link;
pub mod paths;
pub mod plan;
pub mod ranges;
pub mod rate;
pub mod record;
pub mod remember;
pub mod run;
pub mod saved;
pub mod serve;
pub mod session;
pub mod share;
pub mod store;
pub mod syncer;
pub mod table;
pub mod transfer;
pub mod upstream;
pub mod url;
pub mod worker;
