//! What reading a complete download's files back has found.

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::intervals::Intervals;

/// So many files that are not as they were saved are named, at most.
pub const MAX_BAD_FILES: usize = 100;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    #[default]
    Running,
    Paused,
    Done,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Damage {
    /// Its content or its length is another.
    Changed,
    Missing,
    /// The disk does not give it.
    Unreadable,
    /// Its content is as it was saved and its time was another: that was set back.
    Retimed,
}

/// A file that is not as it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFile {
    /// Relative to the download's `dst_folder`.
    pub path: String,
    pub damage: Damage,
    /// For a user.
    pub reason: String,
}

/// One reading of all files, field for field as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub state: Progress,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub files_total: u64,
    pub files_done: u64,
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub files_changed: u64,
    pub files_missing: u64,
    pub files_unreadable: u64,
    /// Files whose modification time was another than the saved one, and was set back.
    #[serde(default)]
    pub files_retimed: u64,
    /// Files whose checksum was not known: it was computed now, to verify them by the next time.
    pub files_recorded: u64,
    /// The first [`MAX_BAD_FILES`] that are not as they were saved.
    pub files_bad: Vec<BadFile>,
}

impl Verification {
    /// One that begins.
    pub fn new(started_at: Timestamp, files_total: u64, bytes_total: u64) -> Verification {
        Verification {
            state: Progress::Running,
            started_at,
            ended_at: None,
            files_total,
            files_done: 0,
            bytes_total,
            bytes_done: 0,
            files_changed: 0,
            files_missing: 0,
            files_unreadable: 0,
            files_retimed: 0,
            files_recorded: 0,
            files_bad: Vec::new(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == Progress::Running
    }

    /// Whether it has not ended.
    pub fn is_under_way(&self) -> bool {
        self.state != Progress::Done
    }

    /// Whether both are the same reading, at whatever time.
    pub fn is_same(&self, other: &Verification) -> bool {
        self.started_at == other.started_at
    }

    /// How many files are not as they were saved.
    pub fn bad(&self) -> u64 {
        self.files_changed + self.files_missing + self.files_unreadable
    }

    /// Takes note of a file that is not as it was saved.
    pub fn note_bad(&mut self, bad: BadFile) {
        *match bad.damage {
            Damage::Changed => &mut self.files_changed,
            Damage::Missing => &mut self.files_missing,
            Damage::Unreadable => &mut self.files_unreadable,
            Damage::Retimed => &mut self.files_retimed,
        } += 1;
        if self.files_bad.len() < MAX_BAD_FILES {
            self.files_bad.push(bad);
        }
    }
}

/// How far a verification is, for one that goes on after a pause or a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The files that were looked at, by their indexes.
    #[serde(default)]
    pub looked: Intervals,
    /// Those of them that are not as they were saved, each with the place that it has in
    /// `files_bad`.
    pub bad: Vec<(u32, u32)>,
}
