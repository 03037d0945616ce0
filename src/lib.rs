//! haul: a download agent for large packages. See README.md for its use.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod board;
pub mod clock;
pub mod link;
pub mod table;
