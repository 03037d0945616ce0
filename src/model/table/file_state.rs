//! Where a file stands, and why one may be left out.

use serde::{Deserialize, Serialize};

use crate::model::problem::{Code, FileProblem};

/// Where a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FileState {
    Pending,
    Transferring,
    Paused,
    Complete,
    Error,
    Skipped,
}

impl FileState {
    /// The names of the states, in the order of their numbers.
    pub const NAMES: [&'static str; 6] = [
        "pending",
        "transferring",
        "paused",
        "complete",
        "error",
        "skipped",
    ];

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<FileState> {
        let number = FileState::NAMES.iter().position(|&known| known == name)?;
        u8::try_from(number).ok().map(FileState::from_u8)
    }

    pub(super) fn from_u8(value: u8) -> FileState {
        match value {
            1 => FileState::Transferring,
            2 => FileState::Paused,
            3 => FileState::Complete,
            4 => FileState::Error,
            5 => FileState::Skipped,
            _ => FileState::Pending,
        }
    }
}

/// Why a file is not downloaded at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skip {
    /// Upstream flagged it.
    Virus,
    /// Upstream does not have all of it yet.
    Incomplete,
    /// Its name is taken and `if_exists` is `skip`.
    Exists,
}

impl Skip {
    pub(super) fn problem(self) -> Option<FileProblem> {
        match self {
            Skip::Virus => Some(FileProblem {
                code: Code::VirusDetected,
                message: "skipped: the sender's service found a virus in this file".into(),
            }),
            Skip::Incomplete => Some(FileProblem {
                code: Code::FileNotFound,
                message:
                    "skipped: the sender has not uploaded all of this file yet; when it is there, \
                          download it once more"
                        .into(),
            }),
            Skip::Exists => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_api() {
        for name in FileState::NAMES {
            let state = FileState::from_name(name).unwrap();
            assert_eq!(serde_json::to_value(state).unwrap(), name);
        }
        assert_eq!(FileState::from_name("done"), None);
    }
}
