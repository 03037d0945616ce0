//! What can go wrong with the state directory, told so that a user knows what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::permission;
use crate::base::system_words::words;

/// Why the state could not be read or saved. What the failed call asked for was not done.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// Another process holds the state directory.
    Locked(PathBuf),
    /// The state directory is not fit for use, or the file cannot be understood; nothing was
    /// changed.
    Damaged { path: PathBuf, reason: String },
    /// No space (or quota) left for the state directory.
    Full {
        dir: PathBuf,
        source: Arc<io::Error>,
    },
    /// A change is longer than a journal line may be.
    TooLarge { bytes: usize, limit: usize },
    /// Any other fault of the system; `doing` completes "cannot …".
    Io {
        doing: &'static str,
        path: PathBuf,
        source: Arc<io::Error>,
    },
}

impl StoreError {
    /// Sorts a fault: a full disk has a remedy of its own. `dir` is the state directory.
    pub(super) fn io(doing: &'static str, path: &Path, dir: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => StoreError::Full {
                dir: dir.to_owned(),
                source: Arc::new(source),
            },
            _ => StoreError::Io {
                doing,
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Locked(dir) => write!(
                f,
                "another haul is running on this state directory: {}; stop it, or give this one \
                 a directory of its own with --state-dir",
                dir.display()
            ),
            StoreError::Damaged { path, reason } => write!(
                f,
                "{} cannot be used: {reason}. It was left as it is; mend it, put a backup in its \
                 place, or move it away to start afresh",
                path.display()
            ),
            StoreError::Full { dir, source } => write!(
                f,
                "no space left to save the state in {}: {}; free some space there and try \
                 again",
                dir.display(),
                words(source)
            ),
            StoreError::TooLarge { bytes, limit } => write!(
                f,
                "a change of {bytes} bytes is too large to be saved; the limit is {limit} bytes"
            ),
            StoreError::Io {
                doing,
                path,
                source,
            } if source.kind() == io::ErrorKind::PermissionDenied && !path.exists() => write!(
                f,
                "cannot make {}: {}; name another state directory with --state-dir",
                path.display(),
                permission::explained(source, path)
            ),
            StoreError::Io { path, source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
                ) =>
            {
                write!(
                    f,
                    "{} cannot be the state directory: it is, or lies in, something that is not a \
                     folder; name another with --state-dir",
                    path.display()
                )
            }
            StoreError::Io {
                doing: "open",
                path,
                source,
            } if source.kind() == io::ErrorKind::NotFound => write!(
                f,
                "{} cannot be made: {}; name another state directory with --state-dir",
                path.display(),
                words(source)
            ),
            StoreError::Io {
                doing,
                path,
                source,
            } if source.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot {doing} {}: {}; give the state directory and what is in it to haul's user \
                 (chown -R {}), or run haul as who it belongs to",
                path.display(),
                permission::explained(source, path),
                permission::own_ids()
            ),
            StoreError::Io {
                doing,
                path,
                source,
            } => write!(
                f,
                "cannot {doing} {}: {}; check that the disk is sound and that haul's user \
                 may write there",
                path.display(),
                words(source)
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Full { source, .. } | StoreError::Io { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
