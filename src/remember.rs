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
    let table = saved.listed.then(|| load(&saved, store));
    let damaged = matches!(table, Some(Err(_)));
    let (state, problem) = match &table {
        Some(Err(problem)) if saved.state != State::Complete => {
            (State::Error, Some(problem.clone()))
        }
        _ => (saved.state, saved.problem.clone()),
    };
    let view = View {
        state,
        name: saved.name,
        package_id: saved.package_id,
        completed_at: saved.completed_at,
        problem: problem.clone(),
    };
    let failed = failed_codes(&saved.files);
    let mut partial = saved.files.partial;
    if let Some(Ok(table)) = &table {
        // Whole, but without its name: no byte of it is needed again.
        for &file in saved.files.failed.keys() {
            if file < table.len() && saved.files.done.contains(file.into()) {
                partial.entry(file).or_default().bytes =
                    [(0, table.size(file))].into_iter().collect();
            }
        }
    }
    let download = Arc::new(Download::new(
        saved.id,
        key,
        saved.order,
        saved.created_at,
        view,
    ));
    if let Some(Ok(table)) = table {
        download.set_table(Arc::new(table));
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
        begun: saved.files.begun,
        doubtful: if damaged {
            Vec::new()
        } else {
            saved.files.doubtful.into_iter().collect()
        },
        deleting: saved.deleting,
    }
}

fn load(saved: &SavedDownload, store: &Store<Saved>) -> Result<FileTable, Problem> {
    let table = store
        .read_side(&side_name(&saved.id))
        .map_err(|error| error.to_string())
        .and_then(|mut file| FileTable::load(&mut file).map_err(|error| error.to_string()));
    let table = table.map_err(|why| {
        log::error!("download {}: its list of files cannot be used: {why}", saved.id);
        Problem {
            code: Code::InternalError,
            message: format!("the saved list of files cannot be used ({why}); delete this download and add it again"),
            recoverable: false,
            retry_at: None,
        }
    })?;
    restore(&table, &saved.files);
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
