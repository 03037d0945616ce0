//! What the threads of the agent send to the controller, and what it sends to the cleaner.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::agent::{Deleted, FileLeft, Refusal, Which};
use crate::dest::Identity;
use crate::model::download::Download;
use crate::model::part_files::Parts;
use crate::model::record::Event;
use crate::model::request::DownloadRequest;
use crate::model::state::State;
use crate::store::saved::Change;
use crate::upstream::Package;

/// What can be asked of the controller. Each carries the channel for its answer.
pub enum Command {
    /// May the download be paused or resumed? Answers the changes to commit; none where nothing
    /// changes.
    PrepareState {
        id: String,
        state: State,
        reply: Sender<Result<Prepared, Refusal>>,
    },
    /// They are committed (or could not be): carry it out.
    ApplyState {
        key: u32,
        state: State,
        committed: bool,
        reply: Sender<Result<Arc<Download>, Refusal>>,
    },
    /// Which downloads in one of `from` may be paused or resumed? Answers their keys, oldest first.
    PrepareStates {
        from: Vec<State>,
        state: State,
        reply: Sender<Vec<u32>>,
    },
    /// That is committed (or could not be): carry it out. Answers the identifiers of those that
    /// changed.
    ApplyStates {
        keys: Vec<u32>,
        state: State,
        committed: bool,
        reply: Sender<Vec<String>>,
    },
    /// Is there such a download whose priority can be changed? Answers its key.
    PreparePriority {
        id: String,
        reply: Sender<Result<u32, Refusal>>,
    },
    /// The change is committed; None: it could not be.
    ApplyPriority {
        key: u32,
        priority: Option<i32>,
        reply: Sender<Result<Arc<Download>, Refusal>>,
    },
    /// May this be downloaded? Answers a key.
    PrepareCreate {
        order: Box<DownloadRequest>,
        reply: Sender<Result<(u32, String), Refusal>>,
    },
    ApplyCreate {
        key: u32,
        new: Option<Box<NewDownload>>,
        /// Why its link could not be read at POST, where it may be read later: the first attempt to
        /// begin was made there.
        fault: Option<Event>,
        reply: Sender<()>,
    },
    PrepareDelete {
        which: Which,
        reply: Sender<Result<Vec<u32>, Refusal>>,
    },
    /// Answers once everything is gone.
    ApplyDelete {
        keys: Vec<u32>,
        remove_files: Option<bool>,
        reply: Sender<Deleted>,
    },
    /// Sets the number of workers, at least 1.
    Workers(usize),
    /// Stop everything; answers when no job is out.
    Shutdown { reply: Sender<()> },
}

/// The answer to [`Command::PrepareState`].
pub enum Prepared {
    /// It is in that state already.
    Already(Arc<Download>),
    /// Commit this, then apply.
    Commit(u32, Change),
}

/// A download that comes to the controller.
pub struct NewDownload {
    pub download: Arc<Download>,
    pub identity: Identity,
    pub made: Vec<PathBuf>,
    pub package: Option<Package>,
}

/// What became of the files of a removed download.
#[derive(Debug, Default)]
pub struct Cleaned {
    pub files_removed: u64,
    pub files_left: Vec<FileLeft>,
}

/// A download that is being removed, on its way to the cleaner.
pub struct Removal {
    pub download: Arc<Download>,
    pub identity: Identity,
    pub made: Vec<PathBuf>,
    pub parts: Arc<Parts>,
    /// After a power cut, before anyone has looked which of the files below the bound have a
    /// `.part`.
    pub unsettled: bool,
    pub remove_files: bool,
}
