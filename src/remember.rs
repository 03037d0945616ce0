//! A start: from what was saved to downloads that go on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;

use crate::begin::side_name;
use crate::board::{Code, Download, Problem, State, View};
use crate::controller::{NewDownload, Remembered, failed_codes};
use crate::record::Record;
use crate::saved::{Saved, SavedDownload, SavedFiles};
use crate::store::Store;
use crate::table::{FileState, FileTable, Skip};

/// Takes up everything that was saved, and removes file lists that belong to no download.
pub fn remember(saved: Saved, store: &Store<Saved>, retry_for: Duration) -> Vec<Remembered> {
    let wanted: BTreeSet<String> = saved
        .downloads
        .values()
        .map(|download| side_name(&download.id))
        .collect();
    store
        .side_names()
        .into_iter()
        .filter(|name| !wanted.contains(name))
        .for_each(|name| store.remove_side(&name));
    let downloads: Vec<_> = saved.downloads.into_iter().collect();
    downloads
        .into_par_iter()
        .map(|(key, download)| take_up(key, download, store, retry_for))
        .collect()
}

fn take_up(
    key: u32,
    saved: SavedDownload,
    store: &Store<Saved>,
    retry_for: Duration,
) -> Remembered {
    let resting = saved.counts.filter(|_| saved.state == State::Complete);
    let wanted = saved.listed && resting.is_none();
    let table = wanted
        .then(|| load(&saved.id, &saved.files, store))
        .transpose();
    let (state, problem) = match &table {
        Err(problem) => (State::Error, Some(problem.clone())),
        Ok(_) => (saved.state, saved.problem),
    };
    let view = View {
        state,
        name: saved.name,
        package_id: saved.package_id,
        completed_at: saved.completed_at,
        problem: problem.clone(),
    };
    let failed = failed_codes(&saved.files);
    let download = Arc::new(Download::new(
        saved.id,
        key,
        saved.order,
        saved.created_at,
        view,
    ));
    let mut files = saved.files;
    if let Ok(Some(table)) = &table {
        // Whole, but without its name: no byte of it is needed again.
        for &file in files.failed.keys() {
            if file < table.len() && files.done.contains(file.into()) {
                let whole = [(0, table.size(file))].into_iter().collect();
                files.partial.entry(file).or_default().bytes = whole;
            }
        }
    }
    let (partial, begun) = (std::mem::take(&mut files.partial), files.begun);
    let unsettled = std::mem::take(&mut files.unsettled);
    match (table, resting) {
        (Ok(Some(table)), _) => download.set_table(Arc::new(table)),
        (_, Some(counts)) => download.rest(counts, files),
        _ => {}
    }
    Remembered {
        new: NewDownload {
            download,
            identity: saved.identity,
            made: saved.made.into_iter().map(PathBuf::from).collect(),
            package: None,
        },
        record: Record::new(state, problem, failed, retry_for),
        partial,
        begun,
        unsettled,
        deleting: saved.deleting,
    }
}

/// A download's files, read back from disk where they rest there.
pub fn files(download: &Download, store: &Store<Saved>) -> Option<Arc<FileTable>> {
    if let Some(table) = download.table() {
        return Some(table);
    }
    let resting = download.resting()?;
    load(&download.id, &resting, store).ok().map(Arc::new)
}

/// Lets go of the file table of a complete download.
pub fn rest(download: &Download) {
    let Some(table) = download.table() else {
        return;
    };
    let changed = table.changed();
    let done = (0..table.len()).filter(|&file| table.state(file) == FileState::Complete);
    let files = SavedFiles {
        done: done
            .map(|file| (u64::from(file), u64::from(file) + 1))
            .collect(),
        mtimes: changed.mtimes,
        renamed: changed.renamed,
        skipped: changed.skipped,
        ..SavedFiles::default()
    };
    download.rest(table.counts(), files);
}

/// The files of a download, each where it was.
///
/// # Errors
/// Its saved list of files cannot be used.
pub fn load(id: &str, files: &SavedFiles, store: &Store<Saved>) -> Result<FileTable, Problem> {
    let table = store
        .read_side(&side_name(id))
        .map_err(|error| error.to_string())
        .and_then(|mut file| FileTable::load(&mut file).map_err(|error| error.to_string()));
    let table = table.map_err(|why| {
        log::error!("download {id}: its list of files cannot be used: {why}");
        Problem {
            code: Code::InternalError,
            message: format!("the saved list of files cannot be used ({why}); delete this download and add it again"),
            recoverable: false,
            retry_at: None,
        }
    })?;
    restore(&table, files);
    Ok(table)
}

/// Brings a fresh table to where its files were.
fn restore(table: &FileTable, files: &SavedFiles) {
    let known = |file: &u32| *file < table.len();
    for (&file, names) in files.renamed.iter().filter(|(file, _)| known(file)) {
        table.rename(file, names.clone());
    }
    for (&file, &mtime) in files.mtimes.iter().filter(|(file, _)| known(file)) {
        table.set_saved_mtime(file, mtime);
    }
    for (start, end) in files.done.iter() {
        for file in (start..end.min(table.len().into())).filter_map(|file| u32::try_from(file).ok())
        {
            table.set_done(file, table.size(file));
            table.set_state(file, FileState::Complete);
        }
    }
    for (&file, partial) in files.partial.iter().filter(|(file, _)| known(file)) {
        let mut bytes = partial.bytes.clone();
        bytes.truncate(table.size(file));
        table.set_done(file, bytes.total());
    }
    for (&file, problem) in files.failed.iter().filter(|(file, _)| known(file)) {
        table.fail(file, problem.clone());
    }
    for &file in files.skipped.iter().filter(|file| known(file)) {
        table.skip(file, Skip::Exists);
    }
}
