//! The same command again: what an earlier `haul get` left in the state directory, brought up to
//! date before the engine takes it up.

use std::path::Path;

use crate::agent::restore;
use crate::base::in_parallel::{self, Work};
use crate::dest::{Folder, Root};
use crate::model::request::{DownloadRequest, IfExists};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};
use crate::store::saved::{Change, Saved, SavedDownload};
use crate::store::{self, Store};

/// A download that is remembered.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    pub id: String,
    /// What it is in once the engine has started; `Complete` only where every file is in place.
    pub state: State,
}

/// Looks for the download in what was saved, gives it what the command line says now, and finds out
/// whether its files are still there: those that are not are to be downloaded again.
///
/// # Errors
/// The destination or what was saved about it cannot be used.
pub fn take_up(
    store: &Store<Saved>,
    saved: &mut Saved,
    order: &DownloadRequest,
) -> Result<Option<Known>, String> {
    let found = saved
        .downloads
        .iter_mut()
        .find(|(_, download)| download.deleting.is_none());
    let Some((&key, download)) = found else {
        return Ok(None);
    };
    if wants_more(store, download, order) {
        // What was left out then is wanted now: as a new one, which replaces what is there.
        let gone = Change::Gone(vec![key]);
        let committed = store.commit(std::slice::from_ref(&gone));
        committed.map_err(|error| error.to_string())?;
        store::State::apply(saved, gone);
        return Ok(None);
    }
    renew(download, order);
    let missing = missing(store, download)?;
    if !missing.is_empty() {
        let mut changes: Vec<Change> = missing
            .into_iter()
            .map(|file| Change::Reset(key, file))
            .collect();
        if download.state == State::Complete {
            download.completed_at = None;
            changes.push(Change::State(key, State::Transferring, None));
        }
        store.commit(&changes).map_err(|error| error.to_string())?;
        for change in changes {
            store::State::apply(saved, change);
        }
    }
    Ok(saved.downloads.get(&key).map(|download| Known {
        id: download.id.clone(),
        state: download.state,
    }))
}

/// Whether files were left out because their names were taken, and those are to be replaced now.
fn wants_more(store: &Store<Saved>, download: &SavedDownload, order: &DownloadRequest) -> bool {
    if order.if_exists != IfExists::Overwrite || !download.listed {
        return false;
    }
    let table = restore::load(&download.id, &download.files, store);
    table.is_ok_and(|table| !table.changed().skipped.is_empty())
}

/// The link's secret and the password may have been mended since; this command line brings them
/// along, so they need not be saved again.
fn renew(download: &mut SavedDownload, order: &DownloadRequest) {
    let password = download.order.password.take();
    download.order = order.clone();
    if download.order.password.is_none() {
        download.order.password = password;
    }
}

/// Files that are recorded as whole and are not in place any more.
fn missing(store: &Store<Saved>, download: &SavedDownload) -> Result<Vec<u32>, String> {
    if !download.listed || download.files.done.is_empty() {
        return Ok(Vec::new());
    }
    let table =
        restore::load(&download.id, &download.files, store).map_err(|problem| problem.message)?;
    let path = Path::new(&download.order.dst_folder);
    let root = Root::open(path, &download.identity).map_err(|error| error.to_string())?;
    let is_shared = download.order.options.shard.is_some();
    let is_missing = |file| {
        table.state(file) == FileState::Complete && !in_place(&root, &table, file, is_shared)
    };
    Ok(in_parallel::filter_map(table.len(), Work::Short, &|file| {
        is_missing(file).then_some(file)
    }))
}

/// Whether a file has its name or, where a kill came in between, is about to get it. Its length
/// tells; its time of modification may have been changed by a copy or by touch(1).
fn in_place(root: &Root, table: &FileTable, file: u32, is_shared: bool) -> bool {
    let is_there = |folder: Folder| {
        let names = table.names(file);
        // In a folder that nodes share a `.part` does not tell what is in it.
        let part = (!is_shared).then_some(names.part);
        [Some(names.last), part]
            .iter()
            .flatten()
            .any(|name| folder.file_len(name) == Some(table.size(file)))
    };
    root.folder(&table.dir_components(table.dir_of(file)), false)
        .is_ok_and(is_there)
}
