//! haul: a download agent for large packages. See README.md for its use.
#![forbid(unsafe_code)]

pub mod agent;
pub mod board;
pub mod clock;
pub mod dest;
pub mod link;
pub mod paths;
pub mod plan;
pub mod store;
pub mod table;
pub mod upstream;
pub mod url;
