//! What this process keeps for itself: no download may write there.
//!
//! A package whose tree reaches into the state directory could replace the record of all downloads,
//! and one that is told to overwrite could replace the file of the token or a program that is run
//! at the end of a download. Folders and files are told by device and inode, so that no other name
//! of theirs helps. There is one list for the process, since whoever opens a destination has to
//! heed it.

use std::fs::{File, metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::RwLock;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use super::DestError;
use super::locate::locate;
use crate::base::locks;
use crate::model::location::Location;

/// Device and inode.
type FileId = (u64, u64);

#[derive(Default)]
struct Own {
    folders: Vec<(FileId, Location)>,
    files: Vec<FileId>,
}

static OWN: RwLock<Own> = RwLock::new(Own {
    folders: Vec::new(),
    files: Vec::new(),
});

/// From now on no destination is this folder or lies in it, and no package reaches into it.
/// One that cannot be opened is passed over: nothing can be written to it either.
pub fn keep_folder(path: &Path) {
    let Ok(dir) = File::open(path) else { return };
    let Ok(stat) = fstat(&dir) else { return };
    let location = locate(&dir, path);
    let mut own = locks::write(&OWN);
    let id = id(&stat);
    own.folders.retain(|(known, _)| *known != id);
    own.folders.push((id, location));
}

/// From now on no file of a package replaces this one. One that is not there is passed over.
pub fn keep_file(path: &Path) {
    let Ok(found) = metadata(path) else { return };
    let mut own = locks::write(&OWN);
    own.files.push((found.dev(), found.ino()));
}

/// Whether the entry is a file that the agent keeps for itself.
pub(super) fn is_own_file(stat: &Stat) -> bool {
    let own = locks::read(&OWN);
    own.files.contains(&id(stat))
}

/// Whether an open folder is one that the agent keeps for itself.
pub(super) fn is_own_folder(dir: impl AsFd) -> Result<bool, Errno> {
    let own = locks::read(&OWN);
    if own.folders.is_empty() {
        return Ok(false);
    }
    let id = id(&fstat(dir)?);
    Ok(own.folders.iter().any(|(known, _)| *known == id))
}

/// Refuses a destination that is a folder of the agent's own or lies in one.
///
/// # Errors
/// `Refused`, with what to do.
pub(super) fn refuse_own(dir: impl AsFd, path: &Path) -> Result<(), DestError> {
    let is_own = is_own_folder(&dir).map_err(|errno| DestError::of("open", path, errno))?;
    let location = locate(&dir, path);
    let own = locks::read(&OWN);
    match is_own || own.folders.iter().any(|(_, kept)| location.is_in(kept)) {
        true => Err(refusal(path)),
        false => Ok(()),
    }
}

/// What to say of a folder of the agent's own.
pub(super) fn refusal(path: &Path) -> DestError {
    DestError::Refused(format!(
        "{} is or lies in the folder where haul keeps its own state: choose another folder",
        path.display()
    ))
}

fn id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}
