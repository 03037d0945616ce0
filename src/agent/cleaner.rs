//! Removes what a deleted download leaves: its `.part` files and, if asked, everything that it
//! made.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use crate::agent::claims::Claims;
use crate::agent::messages::{Cleaned, Removal};
use crate::agent::restore;
use crate::agent::{FileLeft, MAX_FILES_LEFT};
use crate::base::in_parallel::{self, Work};
use crate::base::locks;
use crate::base::thread_pool::{Handler, ThreadPool};
use crate::dest::{DestError, Root};
use crate::model::board::Board;
use crate::model::state::State;
use crate::model::table::{FileState, FileTable, ROOT};
use crate::store::Store;
use crate::store::saved::{Change, Saved};
use crate::transfer;
use crate::transfer::ascmhl::{CHAIN as ASC_MHL_CHAIN, FOLDER as ASC_MHL_FOLDER};
use crate::transfer::seals::Seals;

/// What cleaning up needs to know of the other downloads.
pub struct Cleaner {
    pub store: Arc<Store<Saved>>,
    pub board: Arc<Board>,
    pub claims: Arc<Claims>,
}

/// Cleans up, on each disk one download after the other, on a thread for each that is there while
/// there is something to do. A disk that hangs holds up its own removals alone.
pub struct Cleaners {
    cleaner: Arc<Cleaner>,
    removed: Sender<(u32, Cleaned)>,
    /// By the disks' device numbers.
    disks: Mutex<BTreeMap<String, ThreadPool<Removal>>>,
}

impl Cleaners {
    /// What became of each download goes to `removed`.
    pub fn new(cleaner: Cleaner, removed: Sender<(u32, Cleaned)>) -> Cleaners {
        Cleaners {
            cleaner: Arc::new(cleaner),
            removed,
            disks: Mutex::default(),
        }
    }

    /// Has a download cleaned up, after those before it on its disk.
    pub fn send(&self, removal: Removal) {
        let disk = removal.download.order.location().device.clone();
        let mut disks = locks::lock(&self.disks);
        let make = || pool(self.cleaner.clone(), self.removed.clone());
        disks.entry(disk).or_insert_with(make).send(removal);
    }

    /// Tries again to start the threads that the system refused.
    pub fn retry_spawn(&self) {
        locks::lock(&self.disks)
            .values()
            .for_each(ThreadPool::retry_spawn);
    }
}

fn pool(cleaner: Arc<Cleaner>, removed: Sender<(u32, Cleaned)>) -> ThreadPool<Removal> {
    let make_handler = move || {
        let (cleaner, removed) = (cleaner.clone(), removed.clone());
        let handler: Handler<Removal> = Box::new(move |removal| {
            let key = removal.download.key;
            let cleaned = catch_unwind(AssertUnwindSafe(|| cleaner.clean(&removal)));
            let cleaned = cleaned.unwrap_or_else(|_| {
                let id = &removal.download.id;
                log::error!(
                    "download {id}: haul itself failed while removing its files; please report it"
                );
                Cleaned::default()
            });
            forget(&cleaner.store, &removal);
            // The controller is gone only when the process ends.
            let _ = removed.send((key, cleaned));
        });
        handler
    };
    ThreadPool::new("cleaner", 1, make_handler, || ())
}

/// The download is gone. Where that cannot be saved now, it is known to be deleted at least: the
/// next start would only find nothing left to remove. Nobody waits for room.
fn forget(store: &Store<Saved>, removal: &Removal) {
    let gone = Change::Gone(vec![removal.download.key]);
    match store.commit(std::slice::from_ref(&gone)) {
        Ok(()) => {
            let names = transfer::side_names(&removal.download.id);
            names.iter().for_each(|name| store.remove_side(name));
        }
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
    /// Removes files and folders; returns what became of the completed files.
    fn clean(&self, removal: &Removal) -> Cleaned {
        removal.download.let_go();
        let order = &removal.download.order;
        let root = match open(removal) {
            Ok(Some(root)) => root,
            Ok(None) => return Cleaned::default(),
            Err(error) => return self.all_left(removal, &error),
        };
        let Some(table) = restore::files(&removal.download, &self.store) else {
            if removal.remove_files {
                self.claims.unmake(&removal.made);
            }
            return Cleaned::default();
        };
        let others = if removal.remove_files {
            self.files_of_others(removal)
        } else {
            HashSet::new()
        };
        let seals = Seals::existing(&self.store, &removal.download.id);
        let cleaned = remove_files(&root, &table, removal, seals.as_ref(), &others);
        if removal.remove_files {
            remove_manifest(&root, removal);
            remove_folders(&root, &table, &self.claims);
            drop(root);
            self.claims.unmake(&removal.made);
        }
        log::info!(
            "download {}: removed {} files from {}",
            removal.download.id,
            cleaned.files_removed,
            order.dst_folder
        );
        cleaned
    }

    /// The destination cannot be opened: every completed file that was to be removed stays.
    fn all_left(&self, removal: &Removal, error: &DestError) -> Cleaned {
        let table = match removal.remove_files {
            true => restore::files(&removal.download, &self.store),
            false => None,
        };
        let paths = table.iter().flat_map(|table| {
            let complete = |file: &u32| table.state(*file) == FileState::Complete;
            (0..table.len())
                .filter(complete)
                .map(|file| table.path(file))
        });
        let left = paths.take(MAX_FILES_LEFT).map(|path| FileLeft {
            path,
            reason: error.to_string(),
        });
        Cleaned {
            files_removed: 0,
            files_left: left.collect(),
        }
    }

    /// Where, below this download's destination, other downloads have put files that are complete:
    /// one that was told to overwrite may have put its file in the place of this one's, and nothing
    /// tells the two apart.
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

/// The destination; None if there is none any more.
fn open(removal: &Removal) -> Result<Option<Root>, DestError> {
    let path = PathBuf::from(&removal.download.order.dst_folder);
    if !path.is_dir() {
        // Opening would make it again; what is not there needs no cleaning.
        return Ok(None);
    }
    let root = Root::open(&path, &removal.identity).inspect_err(|error| {
        log::warn!(
            "download {}: nothing was removed: {error}",
            removal.download.id
        );
    })?;
    Ok(Some(root))
}

fn remove_files(
    root: &Root,
    table: &FileTable,
    removal: &Removal,
    seals: Option<&Seals>,
    others: &HashSet<PathBuf>,
) -> Cleaned {
    let removed = AtomicU64::new(0);
    let left = Mutex::new(Vec::new());
    let each = |file: u32| {
        let Some(which) = which_to_remove(table, file, removal) else {
            return;
        };
        match remove_file(root, table, file, which, seals, others) {
            Ok(true) if which == Which::Saved => drop(removed.fetch_add(1, Ordering::Relaxed)),
            Ok(_) => {}
            Err(reason) => {
                let path = table.path(file);
                log::warn!("download {}: {path} stays: {reason}", removal.download.id);
                let mut left = locks::lock(&left);
                if which == Which::Saved && left.len() < MAX_FILES_LEFT {
                    left.push(FileLeft { path, reason });
                }
            }
        }
    };
    in_parallel::each(table.len(), Work::Short, &each);
    Cleaned {
        files_removed: removed.into_inner(),
        files_left: left.into_inner().unwrap_or_else(PoisonError::into_inner),
    }
}

/// Removes one file. False: there is none.
///
/// # Errors
/// Why it stays, for a user.
fn remove_file(
    root: &Root,
    table: &FileTable,
    file: u32,
    which: Which,
    seals: Option<&Seals>,
    others: &HashSet<PathBuf>,
) -> Result<bool, String> {
    let is_kept = !others.is_empty() && others.contains(Path::new(&table.path(file)));
    if which == Which::Saved && is_kept {
        return Err("another download has put its own file there".into());
    }
    let folder = match root.folder(&table.dir_components(table.dir_of(file)), false) {
        Ok(folder) => folder,
        Err(error) if error.is_missing() => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let names = table.names(file);
    let saved = |name: &str| {
        let identity = seals.and_then(|seals| seals.get(file).identity);
        folder.remove_saved(name, table.size(file), table.saved_mtime(file), identity)
    };
    let result = match which {
        Which::Saved => saved(&names.last),
        Which::Unnamed => saved(&names.part),
        Which::Part => folder.remove_part(&names.part),
    };
    let removed = result.map_err(|error| error.to_string())?;
    if !removed && which == Which::Saved && folder.kind(&names.last).is_some() {
        return Err("it was changed or replaced since it was downloaded".into());
    }
    Ok(removed)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The file under its final name.
    Saved,
    /// A whole file that may not have its name yet.
    Unnamed,
    Part,
}

/// What there is to remove of a file. None if there is nothing of ours, or it is to stay.
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

/// Removes a history of ASC MHL that has no list left.
fn remove_history(root: &Root, components: &[&str]) {
    let Ok(folder) = root.folder(components, false) else {
        return;
    };
    let mut is_alone = true;
    let listed = folder.each_name(|name| is_alone &= name == ASC_MHL_CHAIN.as_bytes());
    if listed.is_ok() && is_alone && folder.remove_part(ASC_MHL_CHAIN).is_ok() {
        root.remove_folder(components);
    }
}

/// Removes the list of checksums, unless it was changed.
fn remove_manifest(root: &Root, removal: &Removal) {
    let Some(written) = removal.download.manifest_file() else {
        return;
    };
    let mut folders: Vec<&str> = written.name.split('/').collect();
    let Some(name) = folders.pop() else { return };
    let removed = root
        .folder(&folders, false)
        .and_then(|folder| folder.remove_saved(name, written.size, None, None));
    match removed {
        Ok(true) if folders.last() == Some(&ASC_MHL_FOLDER) => remove_history(root, &folders),
        Ok(_) => {}
        Err(error) => log::warn!("download {}: {error}", removal.download.id),
    }
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
