//! The files of one package: an immutable list with atomic counters beside it.
//!
//! A package can have a million files, so the names lie in one string and a file costs about
//! a hundred bytes. Workers count bytes here, HTTP threads render from here; nobody waits.

mod build;
mod divide;
mod file_state;
mod lines;
mod render;

pub use render::Shown;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::base::digest::Algorithm;
use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::model::problem::FileProblem;
use crate::model::state::State;

pub use build::TableBuilder;
pub use file_state::{FileState, Skip};

/// The folder that everything else is under: `dst_folder` itself.
pub const ROOT: u32 = 0;

/// The two names that a file has beside each other in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The name once it is whole.
    pub last: String,
    /// The name until then.
    pub part: String,
}

/// A folder under `dst_folder`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    /// Index of the folder it is in; always smaller than its own.
    pub parent: u32,
    /// One path component, as saved.
    pub name: String,
    /// Whether this download makes it, so that DELETE may remove it.
    pub ours: bool,
}

/// A file as the planner hands it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// The identifier upstream.
    pub id: String,
    /// Index of the folder it is in.
    pub dir: u32,
    /// One path component, as saved.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970; None if upstream does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// The path as listed, where the saved one differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// The name until it is whole, if that is not `NAME.part`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<Skip>,
    /// The only bytes of it that this download brings, from the first number up to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<(u64, u64)>,
}

struct Entry {
    size: u64,
    /// i64::MIN stands for unknown.
    mtime: i64,
    /// Where the identifier begins in the text; the name follows it.
    text: u64,
    dir: u32,
    id_len: u16,
    name_len: u16,
}

/// The rare things that only few files have.
#[derive(Default, Clone)]
struct Extra {
    original: Option<String>,
    part: Option<String>,
    /// Set when a name had to change while transferring.
    renamed: Option<Names>,
    skip: Option<Skip>,
    slice: Option<(u64, u64)>,
    problem: Option<FileProblem>,
    /// The modification time that the saved file was given, where upstream does not know one.
    saved_mtime: Option<i64>,
    /// What has its name is replaced: it was found to be damaged.
    damaged: bool,
}

/// What became of files since they were listed.
#[derive(Debug, Default)]
pub struct Changed {
    /// Files that are complete, by index.
    pub done: Intervals,
    pub renamed: BTreeMap<u32, Names>,
    pub mtimes: BTreeMap<u32, i64>,
    pub skipped: BTreeSet<u32>,
}

/// Sums over a table, as of now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub files_total: u64,
    pub files_complete: u64,
    pub files_skipped: u64,
    pub files_failed: u64,
}

#[derive(Default)]
struct Sums {
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    complete: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
}

/// The files of one download: what was listed never changes, how far they are is in atomic
/// counters.
pub struct FileTable {
    dirs: Vec<Dir>,
    entries: Vec<Entry>,
    text: String,
    states: Vec<AtomicU8>,
    done: Vec<AtomicU64>,
    /// By which algorithm each file was verified; 0 for none.
    verified: Vec<AtomicU8>,
    extras: RwLock<HashMap<u32, Extra>>,
    sums: Sums,
}

/// What is wrong with a table, built or read.
#[derive(Debug)]
pub enum TableError {
    TooMany,
    TooLong,
    Inconsistent,
    Io(io::Error),
    Json(serde_json::Error),
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TableError::TooMany => {
                f.write_str("the package has more files or bytes than can be counted")
            }
            TableError::TooLong => f.write_str("a file's identifier or name is too long"),
            TableError::Inconsistent => f.write_str("the list of files contradicts itself"),
            TableError::Io(error) => {
                write!(f, "the list of files could not be read or written: {error}")
            }
            TableError::Json(error) => write!(f, "the list of files does not parse: {error}"),
        }
    }
}

impl std::error::Error for TableError {}

impl From<io::Error> for TableError {
    fn from(error: io::Error) -> TableError {
        TableError::Io(error)
    }
}

impl From<serde_json::Error> for TableError {
    fn from(error: serde_json::Error) -> TableError {
        TableError::Json(error)
    }
}

impl FileTable {
    /// Number of files, the skipped ones too.
    pub fn len(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("the builder refuses more than u32::MAX files")
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every folder; the first is [`ROOT`], a parent comes before its children.
    pub fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// A folder's components from `dst_folder` down; none for [`ROOT`].
    pub fn dir_components(&self, dir: u32) -> Vec<&str> {
        let mut names = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let entry = &self.dirs[at as usize];
            names.push(entry.name.as_str());
            at = entry.parent;
        }
        names.reverse();
        names
    }

    /// Index of the folder that a file is in.
    pub fn dir_of(&self, file: u32) -> u32 {
        self.entries[file as usize].dir
    }

    pub fn id(&self, file: u32) -> &str {
        let entry = &self.entries[file as usize];
        let start = entry.text as usize;
        &self.text[start..start + usize::from(entry.id_len)]
    }

    /// Bytes.
    pub fn size(&self, file: u32) -> u64 {
        self.entries[file as usize].size
    }

    /// The only bytes of the file that this download brings, where others bring the rest: from the
    /// first number up to, and without, the second.
    pub fn slice(&self, file: u32) -> Option<(u64, u64)> {
        locks::read(&self.extras).get(&file)?.slice
    }

    /// Where the bytes of the file that this download brings begin and end.
    pub fn own_range(&self, file: u32) -> (u64, u64) {
        self.slice(file).unwrap_or((0, self.size(file)))
    }

    /// How many those are.
    pub fn own_size(&self, file: u32) -> u64 {
        let (start, end) = self.own_range(file);
        end - start
    }

    /// Nanoseconds since 1970, where upstream knows.
    pub fn mtime(&self, file: u32) -> Option<i64> {
        Some(self.entries[file as usize].mtime).filter(|&mtime| mtime != i64::MIN)
    }

    fn planned_name(&self, file: u32) -> &str {
        let entry = &self.entries[file as usize];
        let start = entry.text as usize + usize::from(entry.id_len);
        &self.text[start..start + usize::from(entry.name_len)]
    }

    /// The names that the file has on disk.
    pub fn names(&self, file: u32) -> Names {
        let extras = locks::read(&self.extras);
        let planned = self.planned_name(file);
        let extra = extras.get(&file);
        if let Some(names) = extra.and_then(|extra| extra.renamed.clone()) {
            return names;
        }
        let part = extra
            .and_then(|extra| extra.part.clone())
            .unwrap_or_else(|| [planned, ".part"].concat());
        Names {
            last: planned.to_owned(),
            part,
        }
    }

    /// Gives a file other names from here on.
    pub fn rename(&self, file: u32, names: Names) {
        self.extra(file, |extra| extra.renamed = Some(names));
    }

    /// Whether what has the file's name was found to be damaged, and is to be replaced.
    pub fn is_damaged(&self, file: u32) -> bool {
        let extras = locks::read(&self.extras);
        extras.get(&file).is_some_and(|extra| extra.damaged)
    }

    /// What has the file's name is damaged.
    pub fn set_damaged(&self, file: u32) {
        self.extra(file, |extra| extra.damaged = true);
    }

    /// The path relative to `dst_folder`, as saved.
    pub fn path(&self, file: u32) -> String {
        let mut path = String::new();
        for component in self.dir_components(self.dir_of(file)) {
            path.push_str(component);
            path.push('/');
        }
        path.push_str(&self.names(file).last);
        path
    }

    pub fn state(&self, file: u32) -> FileState {
        FileState::from_u8(self.states[file as usize].load(Ordering::Acquire))
    }

    /// Moves a file to another state and keeps the sums right.
    pub fn set_state(&self, file: u32, state: FileState) {
        let before =
            FileState::from_u8(self.states[file as usize].swap(state as u8, Ordering::AcqRel));
        if before == state {
            return;
        }
        if let Some(sum) = self.sum_of(before) {
            sum.fetch_sub(1, Ordering::AcqRel);
        }
        if let Some(sum) = self.sum_of(state) {
            sum.fetch_add(1, Ordering::AcqRel);
        }
        if state == FileState::Skipped {
            self.set_done(file, 0);
            self.sums
                .bytes_total
                .fetch_sub(self.own_size(file), Ordering::AcqRel);
        } else if before == FileState::Skipped {
            self.sums
                .bytes_total
                .fetch_add(self.own_size(file), Ordering::AcqRel);
        }
        if !matches!(state, FileState::Error | FileState::Skipped)
            && matches!(before, FileState::Error)
        {
            self.extra(file, |extra| extra.problem = None);
        }
    }

    /// Marks a file as complete, with all of its bytes in place.
    pub fn complete(&self, file: u32) {
        self.set_done(file, self.own_size(file));
        self.set_state(file, FileState::Complete);
    }

    fn sum_of(&self, state: FileState) -> Option<&AtomicU64> {
        match state {
            FileState::Complete => Some(&self.sums.complete),
            FileState::Skipped => Some(&self.sums.skipped),
            FileState::Error => Some(&self.sums.failed),
            FileState::Pending | FileState::Transferring | FileState::Paused => None,
        }
    }

    /// Bytes of a file are being fetched. One that has failed or is in place meanwhile stays what
    /// it is.
    pub fn begin(&self, file: u32) {
        for waiting in [FileState::Pending, FileState::Paused] {
            // Where it is neither, there is nothing to do.
            let _ = self.states[file as usize].compare_exchange(
                waiting as u8,
                FileState::Transferring as u8,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    /// Marks a file as failed and says why.
    pub fn fail(&self, file: u32, problem: FileProblem) {
        self.extra(file, |extra| extra.problem = Some(problem));
        self.set_state(file, FileState::Error);
    }

    /// Marks a file as not to be downloaded.
    pub fn skip(&self, file: u32, skip: Skip) {
        self.extra(file, |extra| {
            extra.skip = Some(skip);
            extra.problem = skip.problem();
        });
        self.set_state(file, FileState::Skipped);
    }

    /// Why a file failed or was skipped.
    pub fn problem(&self, file: u32) -> Option<FileProblem> {
        locks::read(&self.extras).get(&file)?.problem.clone()
    }

    /// The modification time by which the saved file is known again, nanoseconds since 1970.
    pub fn saved_mtime(&self, file: u32) -> Option<i64> {
        let extras = locks::read(&self.extras);
        extras
            .get(&file)
            .and_then(|extra| extra.saved_mtime)
            .or_else(|| self.mtime(file))
    }

    /// Notes the modification time of a saved file whose listed one is unknown or could not be set.
    pub fn set_saved_mtime(&self, file: u32, mtime: i64) {
        self.extra(file, |extra| extra.saved_mtime = Some(mtime));
    }

    fn extra(&self, file: u32, change: impl FnOnce(&mut Extra)) {
        let mut extras = locks::write(&self.extras);
        change(extras.entry(file).or_default());
    }

    /// Files that are complete, names that changed while transferring, modification times that were
    /// noted, and files that were skipped, by index.
    pub fn changed(&self) -> Changed {
        let complete = |file: &u32| self.state(*file) == FileState::Complete;
        let mut changed = Changed {
            done: (0..self.len())
                .filter(complete)
                .map(|file| (u64::from(file), u64::from(file) + 1))
                .collect(),
            ..Changed::default()
        };
        let extras = locks::read(&self.extras);
        for (&file, extra) in extras.iter() {
            changed
                .renamed
                .extend(extra.renamed.clone().map(|names| (file, names)));
            changed
                .mtimes
                .extend(extra.saved_mtime.map(|mtime| (file, mtime)));
            changed
                .skipped
                .extend((extra.skip == Some(Skip::Exists)).then_some(file));
        }
        changed
    }

    /// Bytes of a file that are in place.
    pub fn done(&self, file: u32) -> u64 {
        self.done[file as usize].load(Ordering::Relaxed)
    }

    /// Counts bytes that were written.
    pub fn add_done(&self, file: u32, bytes: u64) {
        // The sum first: `set_done` takes off the sum what it finds at the file.
        self.sums.bytes_done.fetch_add(bytes, Ordering::AcqRel);
        self.done[file as usize].fetch_add(bytes, Ordering::AcqRel);
    }

    /// By what kind of digest the file was found to be what the server has.
    pub fn verified(&self, file: u32) -> Option<Algorithm> {
        Algorithm::from_number(self.verified[file as usize].load(Ordering::Relaxed))
    }

    /// Says how the file was verified, if it was.
    pub fn set_verified(&self, file: u32, by: Option<Algorithm>) {
        let number = by.map_or(0, |algorithm| algorithm as u8);
        self.verified[file as usize].store(number, Ordering::Relaxed);
    }

    /// Sets the bytes that are in place, where a file starts over or goes on after a start.
    pub fn set_done(&self, file: u32, bytes: u64) {
        let before = self.done[file as usize].swap(bytes, Ordering::AcqRel);
        if bytes >= before {
            self.sums
                .bytes_done
                .fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.sums
                .bytes_done
                .fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// The sums as of now.
    pub fn counts(&self) -> Counts {
        Counts {
            bytes_total: self.sums.bytes_total.load(Ordering::Acquire),
            bytes_done: self.sums.bytes_done.load(Ordering::Acquire),
            files_total: self.entries.len() as u64,
            files_complete: self.sums.complete.load(Ordering::Acquire),
            files_skipped: self.sums.skipped.load(Ordering::Acquire),
            files_failed: self.sums.failed.load(Ordering::Acquire),
        }
    }
}

#[cfg(test)]
mod tests;
