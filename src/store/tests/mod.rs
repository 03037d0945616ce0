//! The store as a whole, over a state that records what was applied to it, in order.

mod faults;
mod files;
mod model;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{State, Store, StoreError};

/// A change that bears a number, so that the log shows what was lost, repeated or out of place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    #[serde(rename = "d")]
    Data(u32),
    #[serde(rename = "o")]
    Other(u32),
}

impl Note {
    pub(super) fn is_data(&self) -> bool {
        matches!(self, Note::Data(_))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log(pub Vec<Note>);

impl State for Log {
    type Change = Note;

    fn apply(&mut self, change: Note) {
        self.0.push(change);
    }

    fn is_data(change: &Note) -> bool {
        change.is_data()
    }
}

pub(super) const BOOT: &str = "boot-1";
pub(super) const OTHER_BOOT: &str = "boot-2";

/// What the next start finds.
pub(super) fn reopened(dir: &Path, boot: &str) -> Vec<Note> {
    open(dir, boot).unwrap().1.0
}

pub(super) fn open(dir: &Path, boot: &str) -> Result<(Store<Log>, Log), StoreError> {
    Store::open_in_boot(dir, boot)
}

pub(super) fn data(numbers: impl IntoIterator<Item = u32>) -> Vec<Note> {
    numbers.into_iter().map(Note::Data).collect()
}

pub(super) fn other(numbers: impl IntoIterator<Item = u32>) -> Vec<Note> {
    numbers.into_iter().map(Note::Other).collect()
}
