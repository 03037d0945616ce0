//! Removes what a deleted download leaves: its `.part` files and, if asked, everything that it made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rayon::prelude::*;

use crate::begin::side_name;
use crate::controller::Removal;
use crate::dest::{self, Root};
use crate::remember;
use crate::saved::{Change, Saved};
use crate::store::Store;
use crate::table::{FileState, FileTable, ROOT};

/// How long to wait before a change is tried again that a full state directory refused.
const AGAIN: Duration = Duration::from_secs(5);

/// Starts the thread that cleans up, one download after the other. It ends when its channel is closed.
///
/// # Errors
/// The system refuses a thread.
pub fn start(
    store: Arc<Store<Saved>>,
    removals: Receiver<Removal>,
    removed: Sender<(u32, u64)>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("cleaner".into())
        .spawn(move || {
            for removal in removals {
                let key = removal.download.key;
                let files = catch_unwind(AssertUnwindSafe(|| clean(&removal, &store))).unwrap_or_else(|_| {
                    log::error!("download {}: haul itself failed while removing its files; please report it", removal.download.id);
                    0
                });
                while let Err(error) = store.commit(&[Change::Gone(vec![key])]) {
                    log::error!(
                        "download {}: its removal could not be saved: {error}",
                        removal.download.id
                    );
                    thread::sleep(AGAIN);
                }
                store.remove_side(&side_name(&removal.download.id));
                if removed.send((key, files)).is_err() {
                    return;
                }
            }
        })
}

/// Removes files and folders; returns how many completed files it removed.
fn clean(removal: &Removal, store: &Store<Saved>) -> u64 {
    let order = &removal.download.order;
    let Some(root) = open(removal) else { return 0 };
    let Some(table) = remember::files(&removal.download, store) else {
        if removal.remove_files {
            dest::unmake(&removal.made);
        }
        return 0;
    };
    let files = remove_files(&root, &table, removal);
    if removal.remove_files {
        remove_folders(&root, &table);
        drop(root);
        dest::unmake(&removal.made);
    }
    log::info!(
        "download {}: removed {files} files from {}",
        removal.download.id,
        order.dst_folder
    );
    files
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

fn remove_files(root: &Root, table: &FileTable, removal: &Removal) -> u64 {
    let removed = AtomicU64::new(0);
    (0..table.len()).into_par_iter().for_each(|file| {
        let whole = table.state(file) == FileState::Complete;
        let wanted = if whole {
            removal.remove_files
        } else {
            file < removal.begun
        };
        if !wanted {
            return;
        }
        let Ok(folder) = root.folder(&table.dir_components(table.dir_of(file)), false) else {
            return;
        };
        let names = table.names(file);
        let result = if whole {
            folder.remove_saved(&names.last, table.size(file), table.saved_mtime(file))
        } else {
            folder.remove_part(&names.part)
        };
        match result {
            Ok(true) if whole => drop(removed.fetch_add(1, Ordering::Relaxed)),
            Ok(_) => {}
            Err(error) => log::warn!("download {}: {error}", removal.download.id),
        }
    });
    removed.into_inner()
}

/// Innermost first; a folder that is not empty stays.
fn remove_folders(root: &Root, table: &FileTable) {
    for (index, dir) in (ROOT..)
        .zip(table.dirs())
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        if dir.ours {
            root.remove_folder(&table.dir_components(index));
        }
    }
}
