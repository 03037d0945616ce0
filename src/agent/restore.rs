//! A start: from what was saved to downloads that go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::agent::messages::NewDownload;
use crate::base::in_parallel::{self, Work};
use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::base::secret::Secret;
use crate::model::download::{Download, View};
use crate::model::part_files::Parts;
use crate::model::problem::{Code, Problem};
use crate::model::record::Record;
use crate::model::state::State;
use crate::model::table::{Changed, FileTable, Names, Skip};
use crate::store::Store;
use crate::store::saved::{Partial, Saved, SavedDownload, SavedFiles};
use crate::transfer;
use crate::transfer::seals::Seals;
use crate::transfer::start::side_name;
use crate::upstream::Package;

/// How a download that was remembered is taken up again.
pub struct Restored {
    pub new: NewDownload,
    pub record: Record,
    pub partial: BTreeMap<u32, Partial>,
    pub parts: Parts,
    pub unsettled: bool,
    pub deleting: Option<bool>,
}

/// Takes up everything that was saved, and removes file lists that belong to no download.
pub fn restore_all(saved: Saved, store: &Store<Saved>, retry_for: Duration) -> Vec<Restored> {
    let wanted: BTreeSet<String> = saved
        .downloads
        .values()
        .flat_map(|download| transfer::side_names(&download.id))
        .collect();
    store
        .side_names()
        .into_iter()
        .filter(|name| !wanted.contains(name))
        .for_each(|name| store.remove_side(&name));
    let downloads = saved.downloads.into_iter();
    let downloads: Vec<_> = downloads.map(|one| Mutex::new(Some(one))).collect();
    in_parallel::filter_map(downloads.len() as u32, Work::Long, &|index| {
        let (key, download) = locks::lock(&downloads[index as usize]).take()?;
        Some(take_up(key, download, store, retry_for))
    })
}

fn take_up(key: u32, saved: SavedDownload, store: &Store<Saved>, retry_for: Duration) -> Restored {
    let resting = saved.counts.filter(|_| saved.state == State::Complete);
    let wanted = saved.listed && resting.is_none();
    let found = restore_files(&saved.id, saved.files, wanted, store);
    let (state, problem) = match &found.table {
        Err(problem) => (State::Error, Some(problem.clone())),
        Ok(_) => (saved.state, saved.problem),
    };
    let package = kept_package(&saved.package_id, &saved.name, saved.token);
    let view = View {
        state,
        name: saved.name,
        package_id: saved.package_id,
        completed_at: saved.completed_at,
        problem: problem.clone(),
        priority: saved.order.options.priority,
    };
    let download = Arc::new(Download::new(
        saved.id,
        key,
        saved.order,
        saved.created_at,
        view,
    ));
    download.set_manifest_file(saved.manifest_file);
    download.set_verification(saved.verification.map(|found| *found));
    match (found.table, resting) {
        (Ok(Some(table)), _) => download.set_table(Arc::new(table)),
        (_, Some(counts)) => download.rest(counts, changed(found.files)),
        _ => {}
    }
    Restored {
        new: NewDownload {
            download,
            identity: saved.identity,
            made: saved.made.into_iter().map(PathBuf::from).collect(),
            package,
        },
        record: Record::new(state, problem, found.failed, retry_for),
        partial: found.partial,
        parts: found.parts,
        unsettled: found.unsettled,
        deleting: saved.deleting,
    }
}

/// What the link led to, where the token is known that the package's server gave.
fn kept_package(
    package_id: &Option<String>,
    name: &Option<String>,
    token: Option<Secret>,
) -> Option<Package> {
    Some(Package {
        package_id: package_id.clone()?,
        name: name.clone(),
        token: Some(token?),
        expires_at: None,
    })
}

/// How far the files of a download are by what was saved.
pub struct RestoredFiles {
    /// The files, each where it was; None if they are not listed, or not wanted.
    pub table: Result<Option<FileTable>, Problem>,
    pub failed: BTreeMap<u32, Code>,
    pub partial: BTreeMap<u32, Partial>,
    pub parts: Parts,
    /// See [`SavedFiles::unsettled`].
    pub unsettled: bool,
    /// The rest of what was saved.
    files: SavedFiles,
}

/// Finds out how far the files of the download of this identifier are; its table only where it is
/// `wanted`.
pub fn restore_files(
    id: &str,
    mut files: SavedFiles,
    wanted: bool,
    store: &Store<Saved>,
) -> RestoredFiles {
    let table = wanted.then(|| load(id, &files, store)).transpose();
    let failed = failed_codes(&files);
    if let Ok(Some(table)) = &table {
        // Whole, but without its name: no byte of it is needed again.
        for &file in files.failed.keys() {
            if file < table.len() && files.done.contains(file.into()) {
                let whole = [table.own_range(file)].into_iter().collect();
                files.partial.entry(file).or_default().bytes = whole;
                files.parts.insert(file);
            }
        }
    }
    RestoredFiles {
        table,
        failed,
        partial: std::mem::take(&mut files.partial),
        parts: Parts::new(std::mem::take(&mut files.parts), files.begun),
        unsettled: std::mem::take(&mut files.unsettled),
        files,
    }
}

/// How far the files of the download of this key are by all that was saved until now. None: it is
/// gone.
pub fn recall(key: u32, store: &Store<Saved>) -> Option<RestoredFiles> {
    let saved = store.current().downloads.remove(&key)?;
    Some(restore_files(&saved.id, saved.files, saved.listed, store))
}

/// A download's files, read back from disk where they rest there.
pub fn files(download: &Download, store: &Store<Saved>) -> Option<Arc<FileTable>> {
    if let Some(table) = download.table() {
        return Some(table);
    }
    let resting = download.resting()?;
    let table = read_table(&download.id, store).ok()?;
    apply(&table, &resting);
    show_seals(&table, &download.id, store);
    Some(Arc::new(table))
}

/// Lets go of the file table of a complete download.
pub fn rest(download: &Download) {
    let Some(table) = download.table() else {
        return;
    };
    download.rest(table.counts(), table.changed());
}

/// The files of a download, each where it was.
///
/// # Errors
/// Its saved list of files cannot be used.
pub fn load(id: &str, files: &SavedFiles, store: &Store<Saved>) -> Result<FileTable, Problem> {
    let table = read_table(id, store)?;
    restore(&table, files);
    show_seals(&table, id, store);
    Ok(table)
}

fn show_seals(table: &FileTable, id: &str, store: &Store<Saved>) {
    if let Some(seals) = Seals::existing(store, id) {
        seals.show(table);
    }
}

/// The list of a download's files, as it was when the package was listed.
///
/// # Errors
/// Its saved list of files cannot be used.
fn read_table(id: &str, store: &Store<Saved>) -> Result<FileTable, Problem> {
    store
        .read_side(&side_name(id))
        .map_err(|error| error.to_string())
        .and_then(|mut file| FileTable::load(&mut file).map_err(|error| error.to_string()))
        .map_err(|why| {
        log::error!("download {id}: its list of files cannot be used: {why}");
        Problem {
            code: Code::InternalError,
            message: format!("the saved list of files cannot be used ({why}); delete this download and add it again"),
            recoverable: false,
            retry_at: None,
        }
    })
}

/// What of the files of a complete download is not in their list.
fn changed(files: SavedFiles) -> Changed {
    Changed {
        done: files.done,
        renamed: files.renamed,
        mtimes: files.mtimes,
        skipped: files.skipped,
    }
}

/// Brings a fresh table to where its files were.
fn restore(table: &FileTable, files: &SavedFiles) {
    let known = |file: &u32| *file < table.len();
    set_names(table, &files.renamed, &files.mtimes);
    set_complete(table, &files.done);
    for (&file, partial) in files.partial.iter().filter(|(file, _)| known(file)) {
        let mut bytes = partial.bytes.clone();
        bytes.truncate(table.size(file));
        table.set_done(file, bytes.total());
    }
    for (&file, problem) in files.failed.iter().filter(|(file, _)| known(file)) {
        table.fail(file, problem.clone());
    }
    set_skipped(table, &files.skipped);
    let damaged = files.damaged.iter().filter(|file| known(file));
    damaged.for_each(|&file| table.set_damaged(file));
}

/// Brings the fresh table of a complete download to where its files were.
fn apply(table: &FileTable, changed: &Changed) {
    set_names(table, &changed.renamed, &changed.mtimes);
    set_complete(table, &changed.done);
    set_skipped(table, &changed.skipped);
}

fn set_names(table: &FileTable, renamed: &BTreeMap<u32, Names>, mtimes: &BTreeMap<u32, i64>) {
    let known = |file: &u32| *file < table.len();
    for (&file, names) in renamed.iter().filter(|(file, _)| known(file)) {
        table.rename(file, names.clone());
    }
    for (&file, &mtime) in mtimes.iter().filter(|(file, _)| known(file)) {
        table.set_saved_mtime(file, mtime);
    }
}

fn set_complete(table: &FileTable, done: &Intervals) {
    for (start, end) in done.iter() {
        for file in (start..end.min(table.len().into())).filter_map(|file| u32::try_from(file).ok())
        {
            table.complete(file);
        }
    }
}

fn set_skipped(table: &FileTable, skipped: &BTreeSet<u32>) {
    for &file in skipped.iter().filter(|&&file| file < table.len()) {
        table.skip(file, Skip::Exists);
    }
}

/// Files that failed, as the record wants them.
fn failed_codes(saved: &SavedFiles) -> BTreeMap<u32, Code> {
    saved
        .failed
        .iter()
        .map(|(&file, problem)| (file, problem.code))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::base::test_strategies;

    const CREATED: &str = r#"{"n":1,"c":{"created":[1,{"id":"01M84KQ5TV97SDPX23N95RP0H1","order":{"link":{"public":"http://h/A","api":"http://h","id":"A","secret":"s"},"dst_folder":"/in"},"created_at":"2026-11-23T10:00:00Z","identity":{"dev":1,"ino":2,"fsid":3,"kind":4},"state":"transferring"}]}}"#;
    const JOURNALS: &[&str] = &[
        r#"{"generation":0,"boot":"one","synced":0}
{"n":2,"c":{"named":[1,"n","P"]}}
{"n":3,"c":{"listed":1}}
{"n":4,"c":{"b":[1,64]}}
{"n":5,"c":{"w":[1,0,0,10]}}
{"n":6,"c":{"e":[1,0,"\"tag\""]}}
{"n":7,"c":{"d":[1,1]}}
{"s":7}
{"n":8,"c":{"f":[1,2,{"code":"protocol_error","message":"no"}]}}
{"n":9,"c":{"n":[1,0,{"last":"a (1)","part":"a (1).part"}]}}
{"v":[9,9]}
{"n":10,"c":{"again":1}}
{"n":11,"c":{"state":[1,"paused",null]}}
{"n":12,"c":{"unsettled":1}}
"#,
        r#"{"generation":0,"boot":"two","synced":3}
{"n":2,"c":{"listed":1}}
{"n":3,"c":{"m":[1,2,99]}}
{"n":4,"c":{"o":[1,2]}}
{"n":5,"c":{"s":[1,1]}}
{"n":6,"c":{"complete":[1,"2026-11-23T10:00:00Z"]}}
{"n":7,"c":{"deleting":[[1],true]}}
{"n":8,"c":{"gone":[1]}}
"#,
    ];

    /// A list of three files of 10 bytes.
    fn list() -> Vec<u8> {
        let mut builder = crate::model::table::TableBuilder::default();
        for name in ["a", "b", "c"] {
            let file = crate::model::table::NewFile {
                id: name.into(),
                dir: crate::model::table::ROOT,
                name: name.into(),
                size: 10,
                mtime: None,
                original: None,
                part: None,
                skip: None,
                slice: None,
            };
            builder.file(file).unwrap();
        }
        let mut out = Vec::new();
        builder.finish().save(&mut out).unwrap();
        out
    }

    #[test]
    fn the_journals_below_make_sense() {
        let dir = tempfile::tempdir().unwrap();
        for journal in JOURNALS {
            let text = journal.replacen('\n', &format!("\n{CREATED}\n"), 1);
            fs::write(dir.path().join("downloads.journal"), text).unwrap();
            let (store, saved) = Store::<Saved>::open_in_boot(dir.path(), "one").unwrap();
            assert_eq!(saved.next_key, 2, "the creation was understood");
            drop(store);
            fs::remove_file(dir.path().join("downloads.json")).unwrap();
        }
    }

    proptest! {
        #[test]
        fn hostile_journals_are_replayed_or_passed_over(
            journal in test_strategies::near(JOURNALS),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::<Saved>::open_in_boot(dir.path(), "one").unwrap();
            let mut side = list();
            if let Some(cut) = cut {
                side.truncate(cut.index(side.len()));
            }
            let name = side_name("01M84KQ5TV97SDPX23N95RP0H1");
            store.write_side(&name, &mut |out| out.write_all(&side)).unwrap();
            drop(store);
            fs::remove_file(dir.path().join("downloads.json")).unwrap();
            let journal = String::from_utf8_lossy(&journal).replacen('\n', &format!("\n{CREATED}\n"), 1);
            fs::write(dir.path().join("downloads.journal"), journal).unwrap();
            if let Ok((store, saved)) = Store::<Saved>::open_in_boot(dir.path(), "one") {
                for one in restore_all(saved, &store, Duration::from_secs(1)) {
                    let Some(table) = one.new.download.table() else { continue };
                    let counts = table.counts();
                    prop_assert!(counts.bytes_done <= counts.bytes_total, "{counts:?}");
                }
            }
        }
    }
}
