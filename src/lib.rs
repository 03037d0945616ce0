//! haul: a download agent for large packages. See README.md for its use.
#![forbid(unsafe_code)]

mod agent;
mod api;
pub mod base;
pub mod cli;
mod dest;
mod model;
pub mod share;
mod store;
mod transfer;
mod upstream;
