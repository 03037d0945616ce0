//! What can go wrong under `dst_folder`, said so that a user knows what to do.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::base::permission;
use crate::base::system_words::words;
use crate::model::problem::Code;

/// Why something under `dst_folder` could not be done. Each text is a whole message for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestError {
    /// No space, or no quota, is left.
    Full(String),
    /// Read-only, not permitted, not a directory, unmounted, replaced, something in the way.
    Unwritable(String),
    /// The file system, or a limit of the process, does not allow a file so large.
    TooLarge(String),
    /// It is not there.
    Missing(String),
    /// The agent keeps its own state there, or it is outside of where downloads may go.
    Refused(String),
    /// The agent itself is short of descriptors or memory, which passes.
    Short(String),
    /// The agent asked for nonsense.
    Other(String),
}

impl DestError {
    /// Whether it says that a folder is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, DestError::Missing(_))
    }

    /// The code that the API shows for this.
    pub fn code(&self) -> Code {
        match self {
            DestError::Full(_) => Code::InsufficientStorage,
            DestError::Unwritable(_) | DestError::Missing(_) | DestError::Refused(_) => {
                Code::DestinationUnwritable
            }
            DestError::TooLarge(_) => Code::FileTooLarge,
            DestError::Short(_) | DestError::Other(_) => Code::InternalError,
        }
    }

    /// The message for what `error` did to `action` ("create", "write to") at `path`.
    pub(crate) fn of(action: &str, path: &Path, error: Errno) -> DestError {
        let whose = path;
        let path = path.display();
        let advice = match error {
            Errno::NOSPC => {
                return DestError::Full(format!(
                    "cannot {action} {path}: the disk is full; free some space, then resume"
                ));
            }
            Errno::DQUOT => {
                return DestError::Full(format!(
                    "cannot {action} {path}: the disk quota is used up; free some space or raise \
                     it, then resume"
                ));
            }
            Errno::FBIG => {
                return DestError::TooLarge(format!(
                    "cannot {action} {path}: the file is larger than this system allows; choose a \
                     folder on another disk, or raise the \
                     limit on file sizes (ulimit -f)"
                ));
            }
            Errno::NOENT if action.starts_with("make") => {
                return DestError::Missing(format!(
                    "cannot {action} {path} ({}): nothing can be made there; choose another folder",
                    text(error)
                ));
            }
            Errno::NOENT => {
                return DestError::Missing(format!(
                    "cannot {action} {path} ({}): it was removed, or its disk is not mounted",
                    text(error)
                ));
            }
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                return DestError::Short(format!(
                    "cannot {action} {path}: {}; the agent is short of it, raise its limits",
                    text(error)
                ));
            }
            Errno::ACCESS | Errno::PERM => {
                return DestError::Unwritable(format!(
                    "cannot {action} {path} ({}): {}; give haul's user write permission there",
                    text(error),
                    permission::who(whose)
                ));
            }
            Errno::ROFS => {
                "mount it writable, or name the folder in the ReadWritePaths of the service"
            }
            Errno::NOTDIR => "something that is not a folder is in the way; move it",
            Errno::LOOP => "a symbolic link is in the way; move it",
            Errno::EXIST => "the name is taken; move what is there",
            Errno::ILSEQ => "the disk does not take this name; choose a folder on another",
            Errno::NAMETOOLONG => "the path is too long; choose a shorter one",
            Errno::IO | Errno::NXIO | Errno::NODEV => "check the disk and its connection",
            Errno::STALE => "the network share went away; mount it again",
            _ => "check the folder and its disk",
        };
        DestError::Unwritable(format!(
            "cannot {action} {path} ({}): {advice}",
            text(error)
        ))
    }

    /// The same for an error of the standard library.
    pub(crate) fn of_io(action: &str, path: &Path, error: &io::Error) -> DestError {
        match Errno::from_io_error(error) {
            Some(errno) => DestError::of(action, path, errno),
            None => DestError::Unwritable(format!(
                "cannot {action} {}: {}",
                path.display(),
                words(error)
            )),
        }
    }
}

fn text(error: Errno) -> String {
    words(&error.into())
}

impl fmt::Display for DestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DestError::Full(text)
            | DestError::Unwritable(text)
            | DestError::Missing(text)
            | DestError::Refused(text)
            | DestError::TooLarge(text)
            | DestError::Short(text)
            | DestError::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for DestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_insufficient_storage() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = DestError::of("write to", Path::new("/in/a"), errno);
            assert_eq!(error.code(), Code::InsufficientStorage);
            assert!(error.to_string().contains("/in/a"));
        }
    }

    #[test]
    fn what_the_user_must_mend_is_unwritable() {
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::IO, Errno::LOOP] {
            let error = DestError::of("write to", Path::new("/in/a"), errno);
            assert_eq!(error.code(), Code::DestinationUnwritable);
        }
    }

    #[test]
    fn messages_carry_no_error_numbers() {
        let error = DestError::of("create", Path::new("/in/a"), Errno::ROFS).to_string();
        assert!(!error.contains("os error"), "{error}");
    }
}
