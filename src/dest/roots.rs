//! The folders that destinations may lie in, where the user has named some.
//!
//! As with what the process keeps for itself there is one list, since whoever opens a destination
//! has to heed it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use super::DestError;
use super::locate::{locate, location};
use crate::base::locks;
use crate::base::system_words::words;

static ROOTS: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// From now on a destination lies in this folder or in another one that was named so.
///
/// # Errors
/// It cannot be opened; a text for the user.
pub fn allow_root(path: &Path) -> Result<(), String> {
    let failed = |error| format!("{} cannot be opened: {}", path.display(), words(&error));
    let dir = File::open(path).map_err(failed)?;
    if !dir.metadata().map_err(failed)?.is_dir() {
        return Err(format!("{} is no folder", path.display()));
    }
    locks::write(&ROOTS).push(path.to_owned());
    Ok(())
}

/// Refuses an open folder that lies in none of them, whatever name it was reached by.
///
/// # Errors
/// `Refused`, with what to do.
pub(super) fn refuse_outside(dir: impl AsFd, path: &Path) -> Result<(), DestError> {
    let roots = locks::read(&ROOTS);
    if roots.is_empty() {
        return Ok(());
    }
    // Looked up each time: a device number may be another disk's by now. Nor is a root kept open,
    // which would keep its disk from being unmounted.
    let here = locate(dir, path);
    if roots.iter().any(|root| here.is_in(&location(root))) {
        return Ok(());
    }
    let names: Vec<_> = roots.iter().map(|root| root.to_string_lossy()).collect();
    Err(DestError::Refused(format!(
        "{} is outside of where downloads may go: choose a folder in {}",
        path.display(),
        names.join(" or ")
    )))
}
