//! The files of one package: an immutable list with atomic counters beside it.
//!
//! A package can have a million files, so the names lie in one string and a file costs about
//! a hundred bytes. Workers count bytes here, HTTP threads render from here; nobody waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::board::{Code, FileProblem, State};

/// The folder that everything else is under: `dst_folder` itself.
pub const ROOT: u32 = 0;

/// Where a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FileState {
    Pending,
    Transferring,
    Paused,
    Complete,
    Error,
    Skipped,
}

impl FileState {
    fn from_u8(value: u8) -> FileState {
        match value {
            1 => FileState::Transferring,
            2 => FileState::Paused,
            3 => FileState::Complete,
            4 => FileState::Error,
            5 => FileState::Skipped,
            _ => FileState::Pending,
        }
    }
}

/// Why a file is not downloaded at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skip {
    /// Upstream flagged it.
    Virus,
    /// Its name is taken and `if_exists` is `skip`.
    Exists,
}

impl Skip {
    fn problem(self) -> Option<FileProblem> {
        match self {
            Skip::Virus => Some(FileProblem {
                code: Code::VirusDetected,
                message: "skipped: the sender's service found a virus in this file".into(),
            }),
            Skip::Exists => None,
        }
    }
}

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
    /// Nanoseconds since 1970; None where upstream does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// The path as listed, where the saved one differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// The name until it is whole, where that is not `NAME.part`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<Skip>,
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
    problem: Option<FileProblem>,
    /// The modification time that the saved file was given, where upstream does not know one.
    saved_mtime: Option<i64>,
}

/// What became of files since they were listed.
#[derive(Debug, Default)]
pub struct Changed {
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

/// See the module's page.
pub struct FileTable {
    dirs: Vec<Dir>,
    entries: Vec<Entry>,
    text: String,
    states: Vec<AtomicU8>,
    done: Vec<AtomicU64>,
    extras: RwLock<HashMap<u32, Extra>>,
    sums: Sums,
}

/// Builds a [`FileTable`], folder by folder and file by file.
pub struct TableBuilder {
    table: FileTable,
}

impl Default for TableBuilder {
    fn default() -> TableBuilder {
        let root = Dir {
            parent: ROOT,
            name: String::new(),
            ours: false,
        };
        TableBuilder {
            table: FileTable {
                dirs: vec![root],
                entries: Vec::new(),
                text: String::new(),
                states: Vec::new(),
                done: Vec::new(),
                extras: RwLock::default(),
                sums: Sums::default(),
            },
        }
    }
}

impl TableBuilder {
    /// Adds a folder and returns its index. Folders come before what is in them; [`ROOT`] is there already.
    ///
    /// # Errors
    /// A parent that does not exist, or more than `u32::MAX` folders.
    pub fn dir(&mut self, dir: Dir) -> Result<u32, TableError> {
        let index = u32::try_from(self.table.dirs.len()).map_err(|_| TableError::TooMany)?;
        if dir.parent >= index {
            return Err(TableError::Inconsistent);
        }
        self.table.dirs.push(dir);
        Ok(index)
    }

    /// Adds a file; its index is the number of files before it.
    ///
    /// # Errors
    /// A folder that does not exist, an identifier or name over 65,535 bytes, more than `u32::MAX` files.
    pub fn file(&mut self, file: NewFile) -> Result<u32, TableError> {
        let table = &mut self.table;
        let index = u32::try_from(table.entries.len()).map_err(|_| TableError::TooMany)?;
        if file.dir as usize >= table.dirs.len() {
            return Err(TableError::Inconsistent);
        }
        table.entries.push(Entry {
            size: file.size,
            mtime: file.mtime.unwrap_or(i64::MIN),
            text: table.text.len() as u64,
            dir: file.dir,
            id_len: u16::try_from(file.id.len()).map_err(|_| TableError::TooLong)?,
            name_len: u16::try_from(file.name.len()).map_err(|_| TableError::TooLong)?,
        });
        table.text.push_str(&file.id);
        table.text.push_str(&file.name);
        let state = if file.skip.is_some() {
            FileState::Skipped
        } else {
            FileState::Pending
        };
        table.states.push(AtomicU8::new(state as u8));
        table.done.push(AtomicU64::new(0));
        match file.skip {
            Some(_) => *table.sums.skipped.get_mut() += 1,
            None => {
                let total = table.sums.bytes_total.get_mut();
                *total = total.checked_add(file.size).ok_or(TableError::TooMany)?;
            }
        }
        if file.original.is_some() || file.part.is_some() || file.skip.is_some() {
            let problem = file.skip.and_then(Skip::problem);
            let extra = Extra {
                original: file.original,
                part: file.part,
                skip: file.skip,
                problem,
                ..Extra::default()
            };
            table
                .extras
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(index, extra);
        }
        Ok(index)
    }

    pub fn finish(mut self) -> FileTable {
        self.table.text.shrink_to_fit();
        self.table.entries.shrink_to_fit();
        self.table.states.shrink_to_fit();
        self.table.done.shrink_to_fit();
        self.table
    }
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
        let extras = self.extras.read().unwrap_or_else(PoisonError::into_inner);
        let planned = self.planned_name(file);
        let extra = extras.get(&file);
        if let Some(names) = extra.and_then(|extra| extra.renamed.clone()) {
            return names;
        }
        let part = extra
            .and_then(|extra| extra.part.clone())
            .unwrap_or_else(|| format!("{planned}.part"));
        Names {
            last: planned.to_owned(),
            part,
        }
    }

    /// Gives a file other names from here on.
    pub fn rename(&self, file: u32, names: Names) {
        self.extra(file, |extra| extra.renamed = Some(names));
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
                .fetch_sub(self.size(file), Ordering::AcqRel);
        } else if before == FileState::Skipped {
            self.sums
                .bytes_total
                .fetch_add(self.size(file), Ordering::AcqRel);
        }
        if !matches!(state, FileState::Error | FileState::Skipped)
            && matches!(before, FileState::Error)
        {
            self.extra(file, |extra| extra.problem = None);
        }
    }

    fn sum_of(&self, state: FileState) -> Option<&AtomicU64> {
        match state {
            FileState::Complete => Some(&self.sums.complete),
            FileState::Skipped => Some(&self.sums.skipped),
            FileState::Error => Some(&self.sums.failed),
            FileState::Pending | FileState::Transferring | FileState::Paused => None,
        }
    }

    /// Bytes of a file are being fetched. One that has failed or is in place meanwhile stays what it is.
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
        self.extras
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&file)?
            .problem
            .clone()
    }

    /// The modification time by which the saved file is known again, nanoseconds since 1970.
    pub fn saved_mtime(&self, file: u32) -> Option<i64> {
        let extras = self.extras.read().unwrap_or_else(PoisonError::into_inner);
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
        let mut extras = self.extras.write().unwrap_or_else(PoisonError::into_inner);
        change(extras.entry(file).or_default());
    }

    /// Names that changed while transferring, modification times that were noted, and files that were skipped, by index.
    pub fn changed(&self) -> Changed {
        let mut changed = Changed::default();
        let extras = self.extras.read().unwrap_or_else(PoisonError::into_inner);
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
        self.done[file as usize].fetch_add(bytes, Ordering::Relaxed);
        self.sums.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sets the bytes that are in place, where a file starts over or goes on after a start.
    pub fn set_done(&self, file: u32, bytes: u64) {
        let before = self.done[file as usize].swap(bytes, Ordering::Relaxed);
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

    /// Renders up to `most` files from index `from` on as JSON objects separated by commas,
    /// a comma first where `from` is not 0. Returns the index to go on from; `len()` at the end.
    pub fn render(&self, from: u32, most: u32, state: State, out: &mut Vec<u8>) -> u32 {
        let to = self.len().min(from.saturating_add(most));
        let mut dir_path = (u32::MAX, String::new());
        for file in from..to {
            let dir = self.dir_of(file);
            if dir_path.0 != dir {
                let mut path = self.dir_components(dir).join("/");
                if dir != ROOT {
                    path.push('/');
                }
                dir_path = (dir, path);
            }
            if file > 0 {
                out.push(b',');
            }
            let row = self.row(file, &dir_path.1, state);
            serde_json::to_writer(&mut *out, &row)
                .expect("a row of strings and numbers can be written to memory");
        }
        to
    }

    fn row<'a>(&'a self, file: u32, dir_path: &str, download: State) -> Row<'a> {
        let planned = self.planned_name(file);
        let extras = self.extras.read().unwrap_or_else(PoisonError::into_inner);
        let extra = extras.get(&file);
        let renamed = extra
            .and_then(|extra| extra.renamed.as_ref())
            .filter(|names| names.last != planned);
        let name = renamed.map_or(planned, |names| names.last.as_str());
        let original = extra
            .and_then(|extra| extra.original.clone())
            .or_else(|| renamed.map(|_| format!("{dir_path}{planned}")));
        Row {
            file_id: self.id(file),
            path: format!("{dir_path}{name}"),
            size: self.size(file),
            bytes_done: self.done(file),
            state: self.shown_state(file, download),
            original_path: original,
            error: extra.and_then(|extra| extra.problem.clone()),
        }
    }

    /// What a reader calls the file's state: begun files of a paused download are paused.
    fn shown_state(&self, file: u32, download: State) -> FileState {
        match self.state(file) {
            FileState::Transferring | FileState::Paused if download == State::Paused => {
                FileState::Paused
            }
            FileState::Pending if download == State::Paused && self.done(file) > 0 => {
                FileState::Paused
            }
            FileState::Transferring | FileState::Paused if download != State::Transferring => {
                FileState::Pending
            }
            FileState::Paused => FileState::Pending,
            state => state,
        }
    }

    /// Writes folders and files as JSON lines, for [`FileTable::load`].
    ///
    /// # Errors
    /// What `out` reports.
    pub fn save(&self, out: &mut dyn Write) -> Result<(), TableError> {
        serde_json::to_writer(
            &mut *out,
            &Header {
                dirs: self.dirs.len() - 1,
                files: self.entries.len(),
            },
        )?;
        out.write_all(b"\n")?;
        for dir in &self.dirs[1..] {
            serde_json::to_writer(&mut *out, &(dir.parent, &dir.name, u8::from(dir.ours)))?;
            out.write_all(b"\n")?;
        }
        let extras = self.extras.read().unwrap_or_else(PoisonError::into_inner);
        for file in 0..self.len() {
            let extra = extras.get(&file);
            let rare = Rare {
                original: extra.and_then(|extra| extra.original.as_deref()),
                part: extra.and_then(|extra| extra.part.as_deref()),
                skip: extra.and_then(|extra| extra.skip),
            };
            let common = (
                self.dir_of(file),
                self.id(file),
                self.planned_name(file),
                self.size(file),
                self.mtime(file),
            );
            if rare.is_empty() {
                serde_json::to_writer(&mut *out, &common)?;
            } else {
                serde_json::to_writer(
                    &mut *out,
                    &(common.0, common.1, common.2, common.3, common.4, rare),
                )?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Reads what [`FileTable::save`] wrote. Every file is pending or skipped.
    ///
    /// # Errors
    /// What `input` reports, a line that does not parse, an index out of range, lines missing.
    pub fn load(input: &mut dyn BufRead) -> Result<FileTable, TableError> {
        let mut builder = TableBuilder::default();
        let mut line = String::new();
        let mut next = |line: &mut String| -> Result<(), TableError> {
            line.clear();
            if input.read_line(line)? == 0 || !line.ends_with('\n') {
                return Err(TableError::Inconsistent);
            }
            Ok(())
        };
        next(&mut line)?;
        let header: Header = serde_json::from_str(&line)?;
        for _ in 0..header.dirs {
            next(&mut line)?;
            let (parent, name, ours): (u32, String, u8) = serde_json::from_str(&line)?;
            builder.dir(Dir {
                parent,
                name,
                ours: ours != 0,
            })?;
        }
        for _ in 0..header.files {
            next(&mut line)?;
            builder.file(saved_file(&line)?)?;
        }
        Ok(builder.finish())
    }
}

fn saved_file(line: &str) -> Result<NewFile, TableError> {
    type Common = (u32, String, String, u64, Option<i64>);
    type Whole = (u32, String, String, u64, Option<i64>, SavedRare);
    let (common, rare) = match serde_json::from_str::<Common>(line) {
        Ok(common) => (common, SavedRare::default()),
        Err(_) => {
            let (dir, id, name, size, mtime, rare) = serde_json::from_str::<Whole>(line)?;
            ((dir, id, name, size, mtime), rare)
        }
    };
    let (dir, id, name, size, mtime) = common;
    Ok(NewFile {
        id,
        dir,
        name,
        size,
        mtime,
        original: rare.original,
        part: rare.part,
        skip: rare.skip,
    })
}

#[derive(Serialize, Deserialize)]
struct Header {
    dirs: usize,
    files: usize,
}

#[derive(Serialize)]
struct Rare<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip: Option<Skip>,
}

impl Rare<'_> {
    fn is_empty(&self) -> bool {
        self.original.is_none() && self.part.is_none() && self.skip.is_none()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SavedRare {
    original: Option<String>,
    part: Option<String>,
    skip: Option<Skip>,
}

#[derive(Serialize)]
struct Row<'a> {
    file_id: &'a str,
    path: String,
    size: u64,
    bytes_done: u64,
    state: FileState,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FileProblem>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: u32, name: &str, size: u64) -> NewFile {
        NewFile {
            id: format!("id-{name}"),
            dir,
            name: name.into(),
            size,
            mtime: None,
            original: None,
            part: None,
            skip: None,
        }
    }

    fn sample() -> FileTable {
        let mut builder = TableBuilder::default();
        let a = builder
            .dir(Dir {
                parent: ROOT,
                name: "a".into(),
                ours: true,
            })
            .unwrap();
        let b = builder
            .dir(Dir {
                parent: a,
                name: "b".into(),
                ours: false,
            })
            .unwrap();
        builder.file(file(ROOT, "top", 1)).unwrap();
        builder
            .file(NewFile {
                mtime: Some(5),
                original: Some("a/b\\c/x".into()),
                ..file(b, "x", 20)
            })
            .unwrap();
        builder
            .file(NewFile {
                skip: Some(Skip::Virus),
                ..file(a, "bad", 300)
            })
            .unwrap();
        builder.finish()
    }

    fn rows(table: &FileTable, state: State) -> serde_json::Value {
        let mut out = b"[".to_vec();
        let mut at = 0;
        while at < table.len() {
            at = table.render(at, 2, state, &mut out);
        }
        out.push(b']');
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_table_comes_back_from_its_lines() {
        let table = sample();
        let mut lines = Vec::new();
        table.save(&mut lines).unwrap();
        let again = FileTable::load(&mut lines.as_slice()).unwrap();
        assert_eq!(
            rows(&table, State::Transferring),
            rows(&again, State::Transferring)
        );
        assert_eq!(again.dirs(), table.dirs());
        assert_eq!(again.counts(), table.counts());
        assert_eq!(again.mtime(1), Some(5));
        assert_eq!(again.mtime(0), None);
    }

    #[test]
    fn torn_and_hostile_lines_are_errors() {
        let mut lines = Vec::new();
        sample().save(&mut lines).unwrap();
        for cut in 0..lines.len() {
            assert!(FileTable::load(&mut &lines[..cut]).is_err(), "cut at {cut}");
        }
        for text in [
            "{\"dirs\":1,\"files\":0}\n[1,\"loop\",0]\n",
            "{\"dirs\":0,\"files\":1}\n[7,\"i\",\"n\",1,null]\n",
        ] {
            assert!(
                matches!(
                    FileTable::load(&mut text.as_bytes()),
                    Err(TableError::Inconsistent)
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn skipped_files_are_listed_but_their_bytes_are_not_counted() {
        let table = sample();
        let counts = table.counts();
        assert_eq!(
            (counts.files_total, counts.files_skipped, counts.bytes_total),
            (3, 1, 21)
        );
        table.add_done(1, 5);
        table.skip(1, Skip::Exists);
        let counts = table.counts();
        assert_eq!(
            (counts.files_skipped, counts.bytes_total, counts.bytes_done),
            (2, 1, 0)
        );
    }

    #[test]
    fn a_failed_file_says_why_until_it_is_tried_again() {
        let table = sample();
        table.fail(
            0,
            FileProblem {
                code: Code::ProtocolError,
                message: "no".into(),
            },
        );
        assert_eq!(
            rows(&table, State::Error)[0]["error"]["code"],
            "protocol_error"
        );
        assert_eq!(table.counts().files_failed, 1);
        table.set_state(0, FileState::Pending);
        assert_eq!(table.counts().files_failed, 0);
        assert!(rows(&table, State::Transferring)[0].get("error").is_none());
    }

    #[test]
    fn begun_files_of_a_paused_download_are_paused() {
        let table = sample();
        table.set_state(0, FileState::Transferring);
        assert_eq!(
            rows(&table, State::Transferring)[0]["state"],
            "transferring"
        );
        assert_eq!(rows(&table, State::Paused)[0]["state"], "paused");
        assert_eq!(rows(&table, State::Paused)[1]["state"], "pending");
        assert_eq!(rows(&table, State::Paused)[2]["state"], "skipped");
    }

    #[test]
    fn a_renamed_file_shows_both_paths() {
        let table = sample();
        table.rename(
            0,
            Names {
                last: "top (1)".into(),
                part: "top.part".into(),
            },
        );
        let rows = rows(&table, State::Complete);
        assert_eq!(rows[0]["path"], "top (1)");
        assert_eq!(rows[0]["original_path"], "top");
        assert_eq!(rows[1]["path"], "a/b/x");
        assert_eq!(rows[1]["original_path"], "a/b\\c/x");
        assert_eq!(table.names(1).part, "x.part");
    }
}
