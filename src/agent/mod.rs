//! The agent: what the API may ask of it, what it may refuse, and the threads that do the work.
//!
//! Knows downloads, the store and the transfers. Knows nothing of HTTP on our own side: it is the
//! same agent behind the API and behind `haul get`.

pub mod alarm;
pub mod claims;
pub mod cleaner;
pub mod controller;
pub mod free_space;
pub mod hooks;
pub mod live_settings;
pub mod local;
pub mod messages;
pub mod restore;
pub mod syncer;
pub mod throughput;
pub mod verifications;
pub mod verifier;

use std::sync::Arc;
use std::time::Duration;

use crate::base::secret::Secret;
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::link::Link;
use crate::model::listing::Listed;
use crate::model::request::DownloadRequest;
use crate::model::settings::{Settings, SettingsOverrides};
use crate::model::state::State;
use crate::model::table::FileTable;
use crate::upstream::Package;

/// The downloads a DELETE means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one with this identifier; refused if there is none.
    One(String),
    /// All in any of these states. All four states mean all downloads.
    States(Vec<State>),
}

/// So many files that stayed are told of, at most.
pub const MAX_FILES_LEFT: usize = 100;

/// A file that a DELETE was to remove and left where it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileLeft {
    /// Relative to the download's `dst_folder`.
    pub path: String,
    /// For a user.
    pub reason: String,
}

/// What a DELETE did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Deleted {
    /// Identifiers, oldest first.
    pub deleted: Vec<String>,
    /// Completed files that were removed from the disk.
    pub files_removed: u64,
    /// The first [`MAX_FILES_LEFT`] that were to be removed and stayed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files_left: Vec<FileLeft>,
}

/// What a look into a package tells, one after the other.
pub enum Inspected {
    /// First, before the listing is asked for.
    Package(Package),
    Entry(Listed),
}

/// Why the agent did not do what was asked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `dst_folder` cannot be used; the text says why.
    InvalidDestination(String),
    LinkPasswordRequired,
    LinkPasswordWrong,
    /// For a reason that the server tells, fit to be shown.
    LinkRefused(String),
    LinkNotFound,
    LinkExpired,
    DownloadNotFound,
    /// `action` ("paused", "resumed") cannot be done to a download in this state.
    InvalidTransition {
        state: State,
        action: &'static str,
    },
    /// The same link goes into the same folder already.
    Duplicate {
        download_id: String,
    },
    /// What is asked for can be told to be impossible before the link is read; the text says why.
    Impossible(String),
    /// The link's server cannot be asked now, or says nothing that makes sense; the text says why.
    UpstreamUnavailable {
        message: String,
        retry_after: Option<Duration>,
    },
    ShuttingDown,
    /// The change could not be saved in the state directory; the text says why.
    StateUnwritable(String),
}

/// How the agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentStats {
    /// Threads that transfer bytes, and those of them that have a job now.
    pub workers: usize,
    pub workers_busy: usize,
    /// Bytes of files since the start, those that were fetched twice too.
    pub bytes_received: u64,
    /// Length of the journal in the state directory.
    pub journal_bytes: u64,
    /// Whether the last write to the state directory succeeded.
    pub state_writable: bool,
}

/// The agent as the API sees it. Every call blocks until what it answers is on disk.
pub trait Agent: Send + Sync {
    /// Every download, for reading.
    fn board(&self) -> &Board;

    /// How it is doing, as of now; asks nobody and waits for nothing.
    fn stats(&self) -> AgentStats;

    /// The package's files, for reading; read back from disk for a complete download. None if
    /// they are not listed yet.
    fn files(&self, download: &Download) -> Option<Arc<FileTable>> {
        download.table()
    }

    /// Checks the link upstream (10 s at the most) and the destination, then adds a download.
    ///
    /// # Errors
    /// A definite refusal; a transient fault upstream is none.
    fn create(&self, order: DownloadRequest) -> Result<Arc<Download>, Refusal>;

    /// Pauses the transfer, or the verification of a complete download.
    ///
    /// # Errors
    /// `DownloadNotFound`, `InvalidTransition` from `complete` and `error`.
    fn pause(&self, id: &str) -> Result<Arc<Download>, Refusal>;

    /// Lets the transfer go on, or the verification of a complete download.
    ///
    /// # Errors
    /// `DownloadNotFound`, `InvalidTransition` from `complete`, `Duplicate` from `error` while its
    /// link goes into its folder again.
    fn resume(&self, id: &str) -> Result<Arc<Download>, Refusal>;

    /// Pauses (`to` is `Paused`) or resumes (`Transferring`) the downloads in one of these states,
    /// all or none, and answers the identifiers of those that changed, oldest first.
    ///
    /// # Errors
    /// `StateUnwritable`, `ShuttingDown`.
    fn change_all(&self, from: &[State], to: State) -> Result<Vec<String>, Refusal>;

    /// Begins to read the files of a complete download back, and answers at once; what is found is
    /// in its summary. One that is being read already goes on, also where that was paused.
    ///
    /// # Errors
    /// `DownloadNotFound`, `InvalidTransition` from any other state, `StateUnwritable`.
    fn verify(&self, id: &str) -> Result<Arc<Download>, Refusal>;

    /// Gives a download another priority, whatever state it is in.
    ///
    /// # Errors
    /// `DownloadNotFound`, `StateUnwritable`.
    fn set_priority(&self, id: &str, priority: i32) -> Result<Arc<Download>, Refusal>;

    /// Reads what a link leads to, and nothing is recorded: `entry` gets the package, then each
    /// entry of its listing, until it answers false or all was told.
    ///
    /// # Errors
    /// A refusal, or a fault that may pass: at any time, also after some entries.
    fn inspect(
        &self,
        link: &Link,
        password: Option<&Secret>,
        entry: &mut dyn FnMut(Inspected) -> bool,
    ) -> Result<(), Refusal>;

    /// Stops the transfers, removes `.part` files and, if asked, what the downloads made.
    ///
    /// # Errors
    /// `DownloadNotFound` for an unknown `Which::One`.
    fn delete(&self, which: Which, remove_files: bool) -> Result<Deleted, Refusal>;

    /// The settings in force.
    fn settings(&self) -> Settings;

    /// Changes the settings that are said, and answers all of them.
    ///
    /// # Errors
    /// `StateUnwritable`.
    fn change_settings(&self, said: SettingsOverrides) -> Result<Settings, Refusal>;
}
