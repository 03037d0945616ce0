//! What went wrong, as the API says it.

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;

/// What went wrong with a download or one of its files; the names of the API page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    LinkNotFound,
    LinkExpired,
    LinkPasswordRequired,
    LinkPasswordWrong,
    /// The server refuses the link for a reason of its own.
    LinkRefused,
    InsufficientStorage,
    DestinationUnwritable,
    /// A file that the system cannot hold: shown as `destination_unwritable`, but resuming does not
    /// help.
    #[serde(rename(serialize = "destination_unwritable"), skip_deserializing)]
    FileTooLarge,
    /// Calls to the disk do not return.
    DestinationNotResponding,
    FileFailed,
    UpstreamUnavailable,
    ProtocolError,
    /// A flagged file was skipped.
    VirusDetected,
    /// A package with a flagged file, which is not to be downloaded then.
    PackageQuarantined,
    /// The selection chooses no file.
    NothingSelected,
    /// The listing lacks a file that was chosen by its identifier.
    FileNotFound,
    /// What arrived, or what the disk holds, has another checksum than it must have.
    ChecksumMismatch,
    /// A fault in haul itself.
    InternalError,
}

/// Why a download is in `error`, or why a `transferring` one is not moving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    pub message: String,
    /// Whether `resume` can help.
    pub recoverable: bool,
    /// When the next attempt is made, while a transient fault is being retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// Why one file failed or was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    pub code: Code,
    pub message: String,
}
