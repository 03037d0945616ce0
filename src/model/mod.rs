//! TODO room model

pub mod board;
pub mod download;
pub mod link;
pub mod listing;
pub mod outcome;
pub mod parts;
pub mod problem;
pub mod ranges;
pub mod record;
pub mod request;
pub mod schedule;
pub mod settings;
pub mod state;
pub mod table;
