//! Where `dst_folder` is: its path, what has to be made of it, and how to know it again.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Stat, fstat, fstatfs, fstatvfs, statvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{DestError, own, roots};

/// Which directory `dst_folder` was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Device number; may change when the machine starts again.
    dev: u64,
    /// Inode number.
    ino: u64,
    /// What statvfs(3) calls the file system's identifier; 0 if it has none.
    fsid: u64,
    /// The file system's type, as statfs(2) numbers them.
    kind: i64,
}

impl Identity {
    // The type's width depends on the machine.
    #[allow(clippy::useless_conversion)]
    pub(super) fn of(dir: impl AsFd) -> Result<Identity, Errno> {
        let stat = fstat(&dir)?;
        Ok(Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            fsid: fstatvfs(&dir).map_or(0, |stat| stat.f_fsid),
            kind: fstatfs(&dir).map_or(0, |stat| i64::from(stat.f_type)),
        })
    }

    /// The number of the device that it is on.
    pub fn device(&self) -> u64 {
        self.dev
    }

    /// The very same directory, now.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        self.dev == stat.st_dev && self.ino == stat.st_ino
    }

    fn shares_file_system(&self, known: &Identity) -> bool {
        self.dev == known.dev || (self.fsid != 0 && self.fsid == known.fsid)
    }

    /// Whether this may be the folder known from before, perhaps before the machine started
    /// again: device numbers and some identifiers change then, an unmounted disk agrees in nothing.
    pub(super) fn may_be(&self, known: &Identity) -> bool {
        self.shares_file_system(known) || (self.ino == known.ino && self.kind == known.kind)
    }
}

/// See [`super::Root::validate`].
pub(super) fn validate(path: &str) -> Result<PathBuf, DestError> {
    let refuse = |why: &str| Err(DestError::Unwritable(why.into()));
    if path.is_empty() {
        return refuse("dst_folder is empty: give an absolute path, such as /volume1/in");
    }
    if path.contains('\0') {
        return refuse("dst_folder contains a NUL character: remove it");
    }
    if !path.starts_with('/') {
        return refuse("dst_folder is not absolute: give a path that begins with /");
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// Refuses a destination that would be made in a folder that the agent keeps for itself, or outside
/// of where downloads may go.
pub(super) fn refuse_by_ancestor(path: &Path) -> Result<(), DestError> {
    let existing = path
        .ancestors()
        .find_map(|at| Some((at, fs::File::open(at).ok()?)));
    match existing {
        Some((at, dir)) => {
            own::refuse_own(&dir, at)?;
            roots::refuse_outside(&dir, path)
        }
        None => Ok(()),
    }
}

/// Makes what is missing of `path`; what it made, outermost first. A failure removes it again.
pub(super) fn make_missing(path: &Path) -> Result<Vec<PathBuf>, DestError> {
    let mut missing = Vec::new();
    for at in path.ancestors() {
        match fs::metadata(at) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(DestError::of("use as a folder", at, Errno::NOTDIR)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(at),
            // A file further up; the loop comes to it.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(DestError::of_io("use", at, &error)),
        }
    }
    let mut made = Vec::new();
    for at in missing.into_iter().rev() {
        match fs::create_dir(at) {
            Ok(()) => made.push(at.to_owned()),
            // Made by somebody else since.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && at.is_dir() => {}
            Err(error) => {
                unmake(&made);
                return Err(failed_to_make(at, &error));
            }
        }
    }
    Ok(made)
}

/// Asks the disk that the folder is on, or would be made on, something that it has to answer
/// itself. Returns when it has.
pub fn ask_disk(path: &Path) {
    let answers = |at: &&Path| statvfs(*at).is_ok();
    let _ = path.ancestors().find(answers);
}

fn failed_to_make(at: &Path, error: &io::Error) -> DestError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return DestError::Unwritable(format!(
            "cannot make the folder {}: a symbolic link there leads nowhere; mend or remove it",
            at.display()
        ));
    }
    DestError::of_io("make the folder", at, error)
}

/// Removes directories that [`super::Root::make`] made, given outermost first, where they are
/// empty. What is not empty, or gone, stays as it is.
pub fn unmake(made: &[PathBuf]) {
    for at in made.iter().rev() {
        if let Err(error) = fs::remove_dir(at) {
            log::debug!("{} stays: {error}", at.display());
        }
    }
}

/// Whether nothing at all is there.
pub(super) fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether the nearest ancestor that exists is on the known file system.
pub(super) fn ancestor_is_on(path: &Path, known: &Identity) -> bool {
    let existing = path
        .ancestors()
        .skip(1)
        .find_map(|at| fs::File::open(at).ok().filter(is_dir));
    existing
        .and_then(|dir| Identity::of(&dir).ok())
        .is_some_and(|found| found.shares_file_system(known))
}

fn is_dir(file: &fs::File) -> bool {
    file.metadata()
        .is_ok_and(|found| found.mode() & 0o170_000 == 0o040_000)
}

pub(super) fn not_the_folder(path: &Path) -> DestError {
    DestError::Unwritable(format!(
        "{} is not the folder that the download began in: is its disk mounted? Mount it, then \
         resume",
        path.display()
    ))
}
