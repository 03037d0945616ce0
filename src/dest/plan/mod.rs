//! From a listing to a [`FileTable`]: every file gets a folder and a name of its own.
//!
//! The listing arrives entry by entry ([`Planner::add`]), up to a million of them. Names are mended
//! and folders joined as they come; what meets what is settled at the end ([`Planner::finish`]),
//! when all names are known: folders first, then files by their listed name, then those that have
//! to give way, then the `.part` names. Names taken are kept as 64-bit hashes with a random
//! key; should two ever agree by chance, one file bears a needless ` (1)`.
//!
//! Decisions: two folders that are one after mending are one folder. Folders deeper than
//! [`DEPTH_MAX`] are left out of the path, the files in them arrive in the last one that is not. An
//! identifier that is listed twice is two files. A flagged file never displaces another.

mod batch;
mod disk;
mod folders;
mod naming;

pub use disk::{Disk, EmptyDisk, RootDisk};

use std::collections::HashMap;
use std::fmt;

use crate::dest::Traits;
use crate::dest::paths;
use crate::model::listing::Listed;
use crate::model::request::IfExists;
use crate::model::table::{Dir, FileTable, NewFile, ROOT, Skip, TableBuilder, TableError};

use batch::{Batches, Row};
use folders::Folders;

/// Folders in folders, at most.
pub const DEPTH_MAX: usize = 255;

/// Files and folders that a package may have, at most: four times the largest that is expected.
pub const ENTRIES_MAX: u32 = 4_000_000;

/// Bytes of a listed path that are kept to be shown.
const ORIGINAL_MAX: usize = 4096;

/// Bytes of identifiers, names and paths that are kept of one package, at most: what a million
/// files need, twice. With [`ENTRIES_MAX`] this bounds the memory that a listing can take, however
/// long its names are.
const TEXT_MAX: usize = 256 << 20;

/// Why a listing cannot be planned.
#[derive(Debug)]
pub enum PlanError {
    /// More than [`ENTRIES_MAX`] files, or as many folders.
    TooMany,
    /// More than 256 MiB of identifiers, names and paths.
    TooLong,
    /// The patterns that choose its files cannot be read.
    Selection,
    Table(TableError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::TooMany => write!(
                f,
                "the package has more than {ENTRIES_MAX} files or folders; ask the sender to split \
                 it"
            ),
            PlanError::TooLong => write!(
                f,
                "the package's names and paths are longer than {} MiB in all; ask the sender to \
                 split it",
                TEXT_MAX >> 20
            ),
            PlanError::Selection => f.write_str(
                "the patterns that choose its files cannot be read; delete this download",
            ),
            PlanError::Table(error) => {
                write!(f, "the package's list of files is unusable: {error}")
            }
        }
    }
}

impl std::error::Error for PlanError {}

impl From<TableError> for PlanError {
    fn from(error: TableError) -> PlanError {
        PlanError::Table(error)
    }
}

/// Takes a listing in, entry by entry, and makes the file table of it.
pub struct Planner {
    traits: Traits,
    folders: Folders,
    files: Batches,
    /// Listed paths of files whose path or name was mended.
    mended: HashMap<u32, Box<str>>,
    /// The folder of the entry before, by its listed path: neighbours mostly share it.
    last: Option<(String, Place)>,
    /// Bytes of text that may still come; see [`TEXT_MAX`].
    text_left: usize,
}

/// A folder that a listed path leads to.
#[derive(Clone, Copy)]
struct Place {
    folder: u32,
    /// The folder's path is the listed one, slashes at its end aside.
    exact: bool,
}

impl Planner {
    pub fn new(traits: Traits) -> Planner {
        Planner {
            traits,
            folders: Folders::new(traits),
            files: Batches::default(),
            mended: HashMap::new(),
            last: None,
            text_left: TEXT_MAX,
        }
    }

    /// The same, for files that go into a folder named after their package, below `dst_folder`.
    pub fn into_package_folder(traits: Traits, package: &str) -> Result<Planner, PlanError> {
        let mut planner = Planner::new(traits);
        let name = paths::mend_file(package, traits);
        let base = planner.enter(ROOT, &name)?;
        planner.folders.set_base(base);
        Ok(planner)
    }

    /// Takes the listing's next entry.
    ///
    /// # Errors
    /// Too many entries, too much text, an identifier over 65,535 bytes.
    pub fn add(&mut self, listed: Listed) -> Result<(), PlanError> {
        match listed.kind.as_str() {
            "file" => self.add_file(&listed),
            "directory" => self.add_folder(&listed),
            _ => Ok(()),
        }
    }

    fn add_file(&mut self, listed: &Listed) -> Result<(), PlanError> {
        let raw_path = listed.path.as_deref().unwrap_or("");
        let place = self.place(raw_path)?;
        let name = paths::mend_file(&listed.name, self.traits);
        let exact = place.exact && *name == *listed.name;
        self.keep(listed.id.len() + name.len())?;
        let file = self.files.push(
            &listed.id,
            &name,
            Row {
                size: listed.size,
                mtime: listed.mtime,
                folder: place.folder,
                withheld: withheld(listed),
                ..Row::default()
            },
        )?;
        if !exact {
            let original = original(raw_path, &listed.name);
            self.keep(original.len())?;
            self.mended.insert(file, original);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: usize) -> Result<(), PlanError> {
        self.text_left = self
            .text_left
            .checked_sub(bytes)
            .ok_or(PlanError::TooLong)?;
        Ok(())
    }

    /// A (mended) name in a folder; see [`Folders::enter`].
    fn enter(&mut self, parent: u32, name: &str) -> Result<u32, PlanError> {
        let before = self.folders.len();
        let entered = self.folders.enter(parent, name)?;
        let added = self.folders.len() > before;
        self.keep(if added { name.len() } else { 0 })?;
        Ok(entered)
    }

    fn add_folder(&mut self, listed: &Listed) -> Result<(), PlanError> {
        let parent = self.place(listed.path.as_deref().unwrap_or(""))?;
        if let Some(name) = paths::mend_folder(&listed.name, self.traits) {
            self.enter(parent.folder, &name)?;
        }
        Ok(())
    }

    fn place(&mut self, path: &str) -> Result<Place, PlanError> {
        if let Some((known, place)) = &self.last
            && known == path
        {
            return Ok(*place);
        }
        let relative = path.trim_matches('/');
        let mut place = Place {
            folder: self.folders.base(),
            // Of slashes alone, it is the package's own folder.
            exact: relative.is_empty() || !path.starts_with('/'),
        };
        for component in relative.split('/').filter(|_| !relative.is_empty()) {
            let entered = match paths::mend_folder(component, self.traits) {
                Some(name) => self.enter(place.folder, &name)?,
                None => place.folder,
            };
            let kept = entered != place.folder && self.folders.name(entered) == component;
            place.exact &= kept;
            place.folder = entered;
        }
        self.last = Some((path.to_owned(), place));
        Ok(place)
    }

    /// Settles every name against the others and against what is on the disk.
    ///
    /// # Errors
    /// More bytes than can be counted, too much text.
    pub fn finish(mut self, disk: &dyn Disk, if_exists: IfExists) -> Result<FileTable, PlanError> {
        self.last = None;
        let mut names = naming::Names::new(self.traits, disk, if_exists);
        names.settle_folders(&mut self.folders);
        let changes = names.settle_files(&self.folders, &mut self.files);
        drop(names);
        self.build(changes)
    }

    fn build(mut self, mut changes: naming::Changes) -> Result<FileTable, PlanError> {
        let mut builder = TableBuilder::default();
        for folder in 1..self.folders.len() {
            builder.dir(Dir {
                parent: self.folders.parent(folder),
                name: self.folders.saved_name(folder).to_owned(),
                ours: self.folders.is_ours(folder),
            })?;
        }
        let mut index = 0;
        // Batch by batch, each dropped when it is done: the table grows while the plan shrinks.
        while let Some(batch) = self.files.pop_front() {
            for row in &batch.rows {
                let listed_name = batch.name(row);
                let change = changes.names.remove(&index).unwrap_or_default();
                let moved = change.last.is_some() || self.folders.is_moved(row.folder);
                let original = match self.mended.remove(&index) {
                    Some(original) => Some(original.into_string()),
                    None if moved => {
                        let path = self.folders.listed_path(row.folder, listed_name);
                        let original = paths::cut(&path, ORIGINAL_MAX).to_owned();
                        self.keep(original.len())?;
                        Some(original)
                    }
                    None => None,
                };
                builder.file(NewFile {
                    id: batch.id(row).to_owned(),
                    dir: row.folder,
                    name: change
                        .last
                        .map_or_else(|| listed_name.to_owned(), String::from),
                    size: row.size,
                    mtime: row.mtime,
                    original,
                    part: change.part.map(String::from),
                    skip: skip(row),
                    slice: None,
                })?;
                index += 1;
            }
        }
        Ok(builder.finish())
    }
}

fn skip(row: &Row) -> Option<Skip> {
    row.withheld.or(row.exists.then_some(Skip::Exists))
}

fn withheld(listed: &Listed) -> Option<Skip> {
    match (listed.virus, listed.incomplete) {
        (true, _) => Some(Skip::Virus),
        (false, true) => Some(Skip::Incomplete),
        (false, false) => None,
    }
}

/// The path as listed, to be shown beside the saved one.
fn original(path: &str, name: &str) -> Box<str> {
    let joined = match path {
        "" => name.to_owned(),
        path if path.ends_with('/') => format!("{path}{name}"),
        path => format!("{path}/{name}"),
    };
    paths::cut(&joined, ORIGINAL_MAX).into()
}

#[cfg(test)]
mod tests;
