//! Removes what a deleted download leaves: its `.part` files and, if asked, everything that it made.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use rayon::prelude::*;

use crate::agent::claims::Claims;
use crate::agent::messages::Removal;
use crate::agent::restore;
use crate::dest::Root;
use crate::model::board::Board;
use crate::model::state::State;
use crate::model::table::{FileState, FileTable, ROOT};
use crate::store::Store;
use crate::store::saved::{Change, Saved};
use crate::transfer::start::side_name;

/// What cleaning up needs to know of the other downloads.
pub struct Cleaner {
    pub store: Arc<Store<Saved>>,
    pub board: Arc<Board>,
    pub claims: Arc<Claims>,
}

/// Starts the thread that cleans up, one download after the other. It ends when its channel is closed.
///
/// # Errors
/// The system refuses a thread.
pub fn start(
    cleaner: Cleaner,
    removals: Receiver<Removal>,
    removed: Sender<(u32, u64)>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("cleaner".into())
        .spawn(move || {
            for removal in removals {
                let key = removal.download.key;
                let files = catch_unwind(AssertUnwindSafe(|| cleaner.clean(&removal))).unwrap_or_else(|_| {
                    log::error!("download {}: haul itself failed while removing its files; please report it", removal.download.id);
                    0
                });
                forget(&cleaner.store, &removal);
                if removed.send((key, files)).is_err() {
                    return;
                }
            }
        })
}

/// The download is gone. Where that cannot be saved now, it is known to be deleted at least: the next start
/// would only find nothing left to remove. Nobody waits for room.
fn forget(store: &Store<Saved>, removal: &Removal) {
    let gone = Change::Gone(vec![removal.download.key]);
    match store.commit(std::slice::from_ref(&gone)) {
        Ok(()) => store.remove_side(&side_name(&removal.download.id)),
        Err(error) => {
            log::error!(
                "download {}: its removal cannot be saved yet: {error}",
                removal.download.id
            );
            // It is kept, and the error is the one that was just logged.
            let _ = store.queue(vec![gone]);
        }
    }
}

impl Cleaner {
    /// Removes files and folders; returns how many completed files it removed.
    fn clean(&self, removal: &Removal) -> u64 {
        let order = &removal.download.order;
        let Some(root) = open(removal) else { return 0 };
        let Some(table) = restore::files(&removal.download, &self.store) else {
            if removal.remove_files {
                self.claims.unmake(&removal.made);
            }
            return 0;
        };
        let others = if removal.remove_files {
            self.files_of_others(removal)
        } else {
            HashSet::new()
        };
        let files = remove_files(&root, &table, removal, &others);
        if removal.remove_files {
            remove_folders(&root, &table, &self.claims);
            drop(root);
            self.claims.unmake(&removal.made);
        }
        log::info!(
            "download {}: removed {files} files from {}",
            removal.download.id,
            order.dst_folder
        );
        files
    }

    /// Where, below this download's destination, other downloads have put files that are complete: one that was told to
    /// overwrite may have put its file in the place of this one's, and nothing tells the two apart.
    fn files_of_others(&self, removal: &Removal) -> HashSet<PathBuf> {
        let here = &removal.download.order;
        let mut paths = HashSet::new();
        for other in self.board.all().iter() {
            let overlaps = other.order.overlaps(here);
            if !overlaps || other.id == removal.download.id {
                continue;
            }
            let Some(table) = restore::files(other, &self.store) else {
                continue;
            };
            let complete =
                (0..table.len()).filter(|&file| table.state(file) == FileState::Complete);
            paths
                .extend(complete.filter_map(|file| {
                    other.order.relative_to(here, Path::new(&table.path(file)))
                }));
        }
        paths
    }
}

fn open(removal: &Removal) -> Option<Root> {
    let path = PathBuf::from(&removal.download.order.dst_folder);
    if !path.is_dir() {
        // Opening would make it again; what is not there needs no cleaning.
        return None;
    }
    Root::open(&path, &removal.identity)
        .inspect_err(|error| {
            log::warn!(
                "download {}: nothing was removed: {error}",
                removal.download.id
            )
        })
        .ok()
}

fn remove_files(
    root: &Root,
    table: &FileTable,
    removal: &Removal,
    others: &HashSet<PathBuf>,
) -> u64 {
    let removed = AtomicU64::new(0);
    (0..table.len()).into_par_iter().for_each(|file| {
        let Some(which) = which_to_remove(table, file, removal) else {
            return;
        };
        let is_kept = !others.is_empty() && others.contains(Path::new(&table.path(file)));
        if which == Which::Saved && is_kept {
            return;
        }
        let Ok(folder) = root.folder(&table.dir_components(table.dir_of(file)), false) else {
            return;
        };
        let names = table.names(file);
        let saved =
            |name: &str| folder.remove_saved(name, table.size(file), table.saved_mtime(file));
        let result = match which {
            Which::Saved => saved(&names.last),
            Which::Unnamed => saved(&names.part),
            Which::Part => folder.remove_part(&names.part),
        };
        match result {
            Ok(true) if which == Which::Saved => drop(removed.fetch_add(1, Ordering::Relaxed)),
            Ok(_) => {}
            Err(error) => log::warn!("download {}: {error}", removal.download.id),
        }
    });
    removed.into_inner()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The file under its final name.
    Saved,
    /// A whole file that may not have its name yet.
    Unnamed,
    Part,
}

/// What there is to remove of a file. None where there is nothing of ours, or it is to stay.
fn which_to_remove(table: &FileTable, file: u32, removal: &Removal) -> Option<Which> {
    if table.state(file) == FileState::Complete {
        let all_have_names = removal.download.state() == State::Complete;
        return match removal.remove_files {
            true => Some(Which::Saved),
            false => (!all_have_names).then_some(Which::Unnamed),
        };
    }
    let parts = &removal.parts;
    let skipped = table.state(file) == FileState::Skipped;
    let after_power_cut = removal.unsettled && file < parts.bound() && !skipped;
    (parts.has(file) || after_power_cut).then_some(Which::Part)
}

/// Innermost first; a folder that is not empty, or that another download goes into, stays.
fn remove_folders(root: &Root, table: &FileTable, claims: &Claims) {
    for (index, dir) in (ROOT..)
        .zip(table.dirs())
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        if dir.ours {
            let components = table.dir_components(index);
            let path = root.path().join(components.iter().collect::<PathBuf>());
            claims.unless_used(&path, || root.remove_folder(&components));
        }
    }
}
