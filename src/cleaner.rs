//! Removes what a deleted download leaves: its `.part` files and, if asked, everything that it made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use rayon::prelude::*;

use crate::begin::side_name;
use crate::claims::Claims;
use crate::controller::Removal;
use crate::dest::Root;
use crate::remember;
use crate::saved::{Change, Saved};
use crate::store::Store;
use crate::table::{FileState, FileTable, ROOT};

/// Starts the thread that cleans up, one download after the other. It ends when its channel is closed.
///
/// # Errors
/// The system refuses a thread.
pub fn start(
    store: Arc<Store<Saved>>,
    claims: Arc<Claims>,
    removals: Receiver<Removal>,
    removed: Sender<(u32, u64)>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("cleaner".into())
        .spawn(move || {
            for removal in removals {
                let key = removal.download.key;
                let files = catch_unwind(AssertUnwindSafe(|| clean(&removal, &store, &claims))).unwrap_or_else(|_| {
                    log::error!("download {}: haul itself failed while removing its files; please report it", removal.download.id);
                    0
                });
                forget(&store, &removal);
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

/// Removes files and folders; returns how many completed files it removed.
fn clean(removal: &Removal, store: &Store<Saved>, claims: &Claims) -> u64 {
    let order = &removal.download.order;
    let Some(root) = open(removal) else { return 0 };
    let Some(table) = remember::files(&removal.download, store) else {
        if removal.remove_files {
            claims.unmake(&removal.made);
        }
        return 0;
    };
    let files = remove_files(&root, &table, removal);
    if removal.remove_files {
        remove_folders(&root, &table, claims);
        drop(root);
        claims.unmake(&removal.made);
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
