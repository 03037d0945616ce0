//! How a job ended: the one word that workers and the record share.

use std::time::Duration;

use crate::model::problem::{FileProblem, Problem};

/// How a job ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was told to stop.
    Stopped,
    /// It gave up its slot: there are to be fewer workers.
    Yielded,
    /// The range is in place, the file is not whole.
    RangeDone,
    Complete,
    /// The name was taken and `if_exists` is `skip`.
    Skipped,
    /// The file has started over since the job began, for a reason that another job has told.
    StartedOver,
    /// To be tried again. `gained` tells whether bytes came before.
    Transient {
        message: String,
        retry_after: Option<Duration>,
        gained: bool,
    },
    /// A definite answer about this one file, which may be another the next time: to be tried
    /// again. No byte came, but the server can be reached.
    Again(String),
    /// The file has failed.
    Failed(FileProblem),
    /// Nothing of the download can go on.
    DownloadFailed(Problem),
}

impl Outcome {
    /// What will do when it is tried again; no byte came.
    pub fn transient(message: impl Into<String>) -> Outcome {
        Outcome::Transient {
            message: message.into(),
            retry_after: None,
            gained: false,
        }
    }

    /// Whether it says nothing about the next file.
    pub fn is_the_files_own(&self) -> bool {
        matches!(
            self,
            Outcome::RangeDone
                | Outcome::Complete
                | Outcome::Skipped
                | Outcome::StartedOver
                | Outcome::Again(_)
                | Outcome::Failed(_)
        )
    }
}
