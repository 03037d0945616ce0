//! TODO room model

pub mod board;
pub mod link;
pub mod outcome;
pub mod parts;
pub mod ranges;
pub mod record;
pub mod schedule;
pub mod selection;
pub mod settings;
pub mod table;
