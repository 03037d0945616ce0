//! haul: a download agent for large packages. See README.md for its use.
#![forbid(unsafe_code)]

pub mod agent;
pub mod board;
pub mod cli;
pub mod clock;
pub mod dest;
pub mod link;
pub mod paths;
pub mod plan;
pub mod store;
pub mod share;
pub mod table;
pub mod upstream;
pub mod url;
