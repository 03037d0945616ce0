//! TODO room model

pub mod board;
pub mod glob;
pub mod link;
pub mod outcome;
pub mod parts;
pub mod ranges;
pub mod record;
pub mod schedule;
pub mod settings;
pub mod table;
