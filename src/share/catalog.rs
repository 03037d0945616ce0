//! What a shared folder holds: a compact list in the order of the paths, made by walking it.
//!
//! An identifier is a hash of link and path, so it means the same file after a new walk and after
//! a restart. A million files cost about 50 bytes each and their names.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use ring::digest;
use rustix::fs::{AtFlags, Dir, FileType as Kind, statat};

use super::beneath;
use crate::base::digest::{hex, unhex};
use crate::base::in_parallel::{self, Work};

/// The first half of a SHA-256 over the link's identifier and the path.
type Id = [u8; 16];

/// One entry as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// 32 hexadecimal digits.
    pub id: String,
    /// An empty folder; one with something in it shows by its contents' paths.
    pub is_folder: bool,
    /// As the folder has it, UTF-8 or not.
    pub name: &'a [u8],
    /// The folder it is in, `/`-separated, empty at the top.
    pub path: &'a [u8],
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified: i64,
}

struct Entry {
    /// Index in `folders`.
    folder: u32,
    /// Where its name begins in `names`; a component has at most 255 bytes.
    name: u32,
    name_len: u8,
    is_folder: bool,
    size: u64,
    modified: i64,
}

/// What was left out, for the log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub links: u64,
    pub special: u64,
    pub unreadable: u64,
}

impl LeftOut {
    fn add(&mut self, other: &LeftOut) {
        self.links += other.links;
        self.special += other.special;
        self.unreadable += other.unreadable;
    }
}

/// The contents of a folder at one moment.
pub struct Catalog {
    folders: Vec<Vec<u8>>,
    names: Vec<u8>,
    entries: Vec<Entry>,
    ids: Vec<Id>,
    /// Indices of `entries`, sorted by identifier.
    by_id: Vec<u32>,
    /// The sum of all sizes.
    pub bytes: u64,
    pub left_out: LeftOut,
    began: Instant,
    took: Duration,
}

/// One folder's contents, as one thread read them.
#[derive(Default)]
struct Read {
    files: Vec<(Vec<u8>, u64, i64)>,
    folders: Vec<Vec<u8>>,
    modified: i64,
    left_out: LeftOut,
}

impl Catalog {
    /// Walks the folder, level by level, the folders of a level in parallel.
    ///
    /// # Errors
    /// The folder itself cannot be read, or holds more than four billion things.
    pub fn scan(root: &OwnedFd, link_id: &str) -> io::Result<Catalog> {
        let began = Instant::now();
        drop(read(root, b"")?);
        let mut walk = Walk::default();
        let mut level = vec![Vec::new()];
        while !level.is_empty() {
            let reads = in_parallel::filter_map(level.len() as u32, Work::Short, &|index| {
                Some(read(root, &level[index as usize]))
            });
            let mut next = Vec::new();
            for (path, read) in level.into_iter().zip(reads) {
                match read {
                    Ok(read) => walk.take(path, read, &mut next)?,
                    Err(error) => {
                        let path = String::from_utf8_lossy(&path);
                        log::debug!("left out folder {path:?}: {error}");
                        walk.left_out.unreadable += 1;
                    }
                }
            }
            level = next;
        }
        Ok(walk.finish(link_id, began))
    }

    /// Whether a new walk would be too early. Walking may take a tenth of the time, no more,
    /// however often a link is resolved.
    pub fn is_fresh(&self) -> bool {
        self.began.elapsed() < self.took * 10
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every entry, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = Shown<'_>> {
        (0..self.entries.len()).map(|index| self.show(index))
    }

    /// The entry with this identifier.
    pub fn find(&self, id: &str) -> Option<Shown<'_>> {
        let id = Id::try_from(unhex(id)?).ok()?;
        let at = self
            .by_id
            .binary_search_by(|&index| self.ids[index as usize].cmp(&id))
            .ok()?;
        Some(self.show(self.by_id[at] as usize))
    }

    fn show(&self, index: usize) -> Shown<'_> {
        let entry = &self.entries[index];
        Shown {
            id: hex(&self.ids[index]),
            is_folder: entry.is_folder,
            name: name_of(&self.names, entry),
            path: &self.folders[entry.folder as usize],
            size: entry.size,
            modified: entry.modified,
        }
    }
}

/// The walk so far.
#[derive(Default)]
struct Walk {
    folders: Vec<Vec<u8>>,
    /// Where each folder stands in `folders`; only for the parents of empty folders.
    index: HashMap<Vec<u8>, u32>,
    names: Vec<u8>,
    entries: Vec<Entry>,
    left_out: LeftOut,
}

impl Walk {
    fn take(&mut self, path: Vec<u8>, read: Read, next: &mut Vec<Vec<u8>>) -> io::Result<()> {
        self.left_out.add(&read.left_out);
        let empty = read.files.is_empty() && read.folders.is_empty();
        if let Some((parent, name)) = split(&path).filter(|_| empty) {
            let parent = self.index[parent];
            return self.push(parent, name, true, 0, read.modified);
        }
        let folder = u32::try_from(self.folders.len()).map_err(|_| too_many())?;
        for name in &read.folders {
            next.push(join(&path, name));
        }
        if !read.folders.is_empty() {
            self.index.insert(path.clone(), folder);
        }
        self.folders.push(path);
        for (name, size, modified) in read.files {
            self.push(folder, &name, false, size, modified)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        folder: u32,
        name: &[u8],
        is_folder: bool,
        size: u64,
        modified: i64,
    ) -> io::Result<()> {
        self.entries.push(Entry {
            folder,
            name: u32::try_from(self.names.len()).map_err(|_| too_many())?,
            name_len: u8::try_from(name.len()).map_err(|_| too_many())?,
            is_folder,
            size,
            modified,
        });
        self.names.extend_from_slice(name);
        Ok(())
    }

    fn finish(self, link_id: &str, began: Instant) -> Catalog {
        let Walk {
            folders,
            names,
            mut entries,
            left_out,
            ..
        } = self;
        let key = |entry: &Entry| (&*folders[entry.folder as usize], name_of(&names, entry));
        entries.par_sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let ids: Vec<Id> = in_parallel::filter_map(entries.len() as u32, Work::Short, &|index| {
            Some(id_of(link_id, key(&entries[index as usize])))
        });
        let mut by_id: Vec<u32> = (0..entries.len() as u32).collect();
        by_id.par_sort_unstable_by_key(|&index| ids[index as usize]);
        let bytes = entries.iter().map(|entry| entry.size).sum();
        Catalog {
            folders,
            names,
            entries,
            ids,
            by_id,
            bytes,
            left_out,
            began,
            took: began.elapsed(),
        }
    }
}

fn name_of<'a>(names: &'a [u8], entry: &Entry) -> &'a [u8] {
    let start = entry.name as usize;
    &names[start..start + usize::from(entry.name_len)]
}

fn id_of(link_id: &str, (path, name): (&[u8], &[u8])) -> Id {
    let mut hash = digest::Context::new(&digest::SHA256);
    // None of the parts can hold a NUL, so no two files hash the same text.
    for part in [link_id.as_bytes(), b"\0", path, b"\0", name] {
        hash.update(part);
    }
    let mut id = Id::default();
    id.copy_from_slice(&hash.finish().as_ref()[..16]);
    id
}

/// Reads one folder.
fn read(root: &OwnedFd, path: &[u8]) -> io::Result<Read> {
    let folder = beneath::folder(root, path)?;
    let modified = milliseconds(&rustix::fs::fstat(&folder)?);
    let mut read = Read {
        modified,
        ..Read::default()
    };
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match entry.file_type() {
            Kind::Directory => read.folders.push(name.to_owned()),
            Kind::Symlink => read.left_out.links += 1,
            // Some file systems tell the kind in stat only.
            Kind::RegularFile | Kind::Unknown => sort_in(&mut read, &folder, name),
            _ => read.left_out.special += 1,
        }
    }
    Ok(read)
}

/// Puts one thing where it belongs, by what stat says that it is.
fn sort_in(read: &mut Read, folder: &OwnedFd, name: &[u8]) {
    let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
        read.left_out.unreadable += 1;
        return;
    };
    match Kind::from_raw_mode(stat.st_mode) {
        Kind::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            read.files
                .push((name.to_owned(), size, milliseconds(&stat)));
        }
        Kind::Directory => read.folders.push(name.to_owned()),
        Kind::Symlink => read.left_out.links += 1,
        _ => read.left_out.special += 1,
    }
}

fn milliseconds(stat: &rustix::fs::Stat) -> i64 {
    let nanoseconds = stat.st_mtime_nsec as i64;
    stat.st_mtime
        .saturating_mul(1000)
        .saturating_add(nanoseconds / 1_000_000)
}

fn too_many() -> io::Error {
    io::Error::other("the folder holds more than can be listed")
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        b"" => name.to_owned(),
        path => [path, name].join(&b'/'),
    }
}

/// A folder's parent and name; None for the shared folder itself.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}
