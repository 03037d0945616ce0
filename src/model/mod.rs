//! What a download is: its request, record, files, ranges and settings.
//!
//! Knows times and numbers, and decides; does no input or output, starts no thread and takes no
//! lock but short ones. The state machine of one download is [`record`]: every change of a state
//! begins there.

pub mod board;
pub mod download;
pub mod link;
pub mod listing;
pub mod location;
pub mod manifest;
pub mod outcome;
pub mod part_files;
pub mod problem;
pub mod ranges;
pub mod record;
pub mod request;
pub mod schedule;
pub mod selection;
pub mod settings;
pub mod shard;
pub mod state;
pub mod table;
pub mod verification;
