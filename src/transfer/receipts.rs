//! What each node has on disk of a file that several nodes bring: small files beside the `.part`,
//! one for each shard.
//!
//! A receipt is written after the bytes that it names are on the disk, and takes its name in one
//! step. It says which `.part` it is about, so that one which is made anew is not taken for the one
//! before. Nodes need no lock: each writes its own receipt and then reads all of them, so that of
//! two nodes that end at the same time at least one finds every byte told.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::dest::{self, DestError, FileIdentity, Folder, Published, paths};
use crate::model::shard::Shard;
use crate::upstream::differs;

/// What a receipt's name ends with.
pub(super) const SUFFIX: &str = ".receipt";
/// A longer one is not read, in bytes.
const MAX_LENGTH: u64 = 4 << 20;

/// What one node has on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Which `.part`: its inode, and when it was made in nanoseconds since 1970, 0 where that is
    /// not known.
    pub inode: u64,
    pub born: i64,
    /// The file's size, in bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    pub bytes: Intervals,
}

impl Receipt {
    fn is_about(&self, part: &FileIdentity, size: u64) -> bool {
        let (inode, born) = (self.inode, self.born);
        self.size == size && FileIdentity { inode, born }.may_be(part)
    }
}

/// The files of a run that may have receipts, and the names of those that were there when it began.
#[derive(Debug, Default)]
pub struct Noted(Mutex<BTreeMap<u32, Vec<String>>>);

impl Noted {
    /// The file may have some.
    pub fn note(&self, file: u32) {
        locks::lock(&self.0).entry(file).or_default();
    }

    /// The file had these when the run began.
    pub fn note_found(&self, file: u32, names: Vec<String>) {
        locks::lock(&self.0).insert(file, names);
    }

    /// Whether the file may have some.
    pub fn has(&self, file: u32) -> bool {
        locks::lock(&self.0).contains_key(&file)
    }

    /// The names of those that were there when the run began.
    pub fn found(&self, file: u32) -> Vec<String> {
        locks::lock(&self.0).get(&file).cloned().unwrap_or_default()
    }

    /// Whether the file may have some. From now on it has none.
    pub fn take(&self, file: u32) -> bool {
        locks::lock(&self.0).remove(&file).is_some()
    }
}

/// The receipts of one `.part`.
pub(super) struct Receipts<'a> {
    folder: &'a Folder,
    /// What all of their names begin with.
    stem: &'a str,
}

/// What they tell together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub bytes: Intervals,
    pub etag: Option<String>,
    /// The names of receipts of another content than that.
    pub contrary: Vec<String>,
}

/// What the names of the receipts and the `.part` of a file begin with, from the name of one of its
/// receipts. None: it is no receipt's.
pub(super) fn stem_of(name: &str) -> Option<&str> {
    let name = name.strip_suffix(SUFFIX)?;
    let (stem, numbers) = name.rsplit_once('.')?;
    let (index, count) = numbers.split_once('-')?;
    let are_numbers = [index, count]
        .iter()
        .all(|text| text.parse::<u32>().is_ok());
    are_numbers.then_some(stem)
}

/// The same from the name of the `.part`.
pub(super) fn stem_of_part(part: &str) -> &str {
    part.strip_suffix(paths::PART).unwrap_or(part)
}

impl<'a> Receipts<'a> {
    pub fn new(folder: &'a Folder, part: &'a str) -> Receipts<'a> {
        let stem = stem_of_part(part);
        Receipts { folder, stem }
    }

    pub fn name(&self, shard: Shard) -> String {
        format!("{}.{}-{}{SUFFIX}", self.stem, shard.index, shard.count)
    }

    /// The names of all that are there, in order.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, DestError> {
        let mut names = Vec::new();
        let listed = self.folder.each_name(|name| {
            if let Ok(name) = str::from_utf8(name)
                && stem_of(name) == Some(self.stem)
            {
                names.push(name.to_owned());
            }
        });
        listed.map_err(|error| DestError::of_io("list", self.folder.path(), &error))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Writes the receipt of a shard in the place of an earlier one.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn write(&self, shard: Shard, receipt: &Receipt) -> Result<(), DestError> {
        let text = serde_json::to_string(receipt)
            .map_err(|error| DestError::Other(format!("a receipt cannot be written: {error}")))?;
        self.write_text(shard, &text)
    }

    /// The same of any text.
    ///
    /// # Errors
    /// As [`Receipts::write`].
    pub fn write_text(&self, shard: Shard, text: &str) -> Result<(), DestError> {
        let name = self.name(shard);
        let part = [&name, paths::PART].concat();
        let in_the_way = |name: &str| {
            let path = self.folder.path().join(name);
            DestError::Unwritable(format!("{} is in the way: remove it", path.display()))
        };
        let file = loop {
            if let Some(file) = self.folder.create_part(&part)? {
                break file;
            }
            // Left by a process of this shard that was killed; a folder or a link is no such file.
            if !self.folder.remove_part(&part)? && self.folder.kind(&part).is_some() {
                return Err(in_the_way(&part));
            }
        };
        let written = file.write_all_at(text.as_bytes(), 0);
        if let Err(error) = written.and_then(|()| file.sync_all()) {
            let error = dest::write_failed(&file, &error);
            // What hinders the writing is what matters.
            let _ = self.folder.remove_part(&part);
            return Err(error);
        }
        if self.folder.publish(&part, &name, true)? != Published::Done {
            // Nobody needs it any more.
            let _ = self.folder.remove_part(&part);
            return Err(in_the_way(&name));
        }
        self.folder.sync();
        Ok(())
    }

    /// What the receipts tell of the `.part` of a file of `size` bytes. Where they are of different
    /// contents, those with the `etag` count or, if that is not known, those of the first one.
    ///
    /// # Errors
    /// The folder cannot be listed. A receipt that cannot be read tells nothing.
    pub fn read(
        &self,
        part: &FileIdentity,
        size: u64,
        etag: Option<&str>,
    ) -> Result<Told, DestError> {
        let mut told = Told {
            etag: etag.map(str::to_owned),
            ..Told::default()
        };
        for name in self.names()? {
            let receipt = self.read_one(&name);
            let Some(receipt) = receipt.filter(|receipt| receipt.is_about(part, size)) else {
                continue;
            };
            match (&told.etag, &receipt.etag) {
                (Some(known), Some(other)) if differs(known, other) => {
                    told.contrary.push(name);
                    continue;
                }
                (None, Some(_)) => told.etag = receipt.etag,
                _ => {}
            }
            for (start, end) in receipt.bytes.iter() {
                told.bytes.insert(start, end.min(size));
            }
        }
        Ok(told)
    }

    fn read_one(&self, name: &str) -> Option<Receipt> {
        let text = self.read_text(name, MAX_LENGTH)?;
        serde_json::from_str(&text).ok()
    }

    /// What is in one of that name, as far as `most` bytes. None: it cannot be read.
    pub fn read_text(&self, name: &str, most: u64) -> Option<String> {
        let file = self.folder.open_saved(name).ok()??;
        let mut text = String::new();
        file.take(most).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Removes the receipts that tell of any of these bytes, which are to be brought anew.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn remove_about(&self, bytes: &Intervals) -> Result<(), DestError> {
        for name in self.names()? {
            let receipt = self.read_one(&name);
            if receipt.is_none_or(|receipt| !receipt.bytes.intersection(bytes).is_empty()) {
                self.folder.remove_part(&name)?;
            }
        }
        Ok(())
    }

    /// Removes receipts. Those that stay are removed by the next node that finds them.
    pub fn remove(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.folder.remove_part(name) {
                log::debug!("{error}");
            }
        }
    }

    /// Removes all of them.
    pub fn remove_all(&self) {
        match self.names() {
            Ok(names) => self.remove(&names),
            Err(error) => log::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dest::Root;

    const PART: &str = "big.0a1b2c3d.part";
    const SIZE: u64 = 100;
    const FILE: FileIdentity = FileIdentity { inode: 5, born: 77 };

    fn receipt(start: u64, end: u64, etag: Option<&str>) -> Receipt {
        Receipt {
            inode: FILE.inode,
            born: FILE.born,
            size: SIZE,
            etag: etag.map(str::to_owned),
            bytes: [(start, end)].into_iter().collect(),
        }
    }

    fn shard(index: u32) -> Shard {
        Shard { index, count: 3 }
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Root::make(dir.path())
            .unwrap()
            .0
            .folder(&[], false)
            .unwrap();
        (dir, folder)
    }

    #[test]
    fn receipts_add_up_and_each_replaces_its_own() {
        let (dir, folder) = folder();
        let receipts = Receipts::new(&folder, PART);
        receipts
            .write(shard(0), &receipt(0, 10, Some("a")))
            .unwrap();
        // What a killed process left is not in the way.
        fs::write(dir.path().join("big.0a1b2c3d.1-3.receipt.part"), "half").unwrap();
        receipts.write(shard(1), &receipt(40, 50, None)).unwrap();
        receipts.write(shard(1), &receipt(40, 60, None)).unwrap();
        let told = receipts.read(&FILE, SIZE, None).unwrap();
        let bytes: Vec<_> = told.bytes.iter().collect();
        assert_eq!(bytes, [(0, 10), (40, 60)]);
        assert_eq!(told.etag.as_deref(), Some("a"));
        receipts.remove_all();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_about_another_part_or_content_does_not_count() {
        let (dir, folder) = folder();
        let receipts = Receipts::new(&folder, PART);
        let other = |change: fn(&mut Receipt)| {
            let mut receipt = receipt(0, SIZE, None);
            change(&mut receipt);
            receipts.write(shard(0), &receipt).unwrap();
            receipts.read(&FILE, SIZE, Some("a")).unwrap()
        };
        let empty = Intervals::default();
        assert_eq!(other(|receipt| receipt.inode = 6).bytes, empty);
        assert_eq!(other(|receipt| receipt.born = 78).bytes, empty);
        assert_eq!(other(|receipt| receipt.size = 101).bytes, empty);
        assert_eq!(other(|receipt| receipt.born = 0).bytes.total(), SIZE);
        let told = other(|receipt| receipt.etag = Some("b".into()));
        assert_eq!(told.bytes, empty);
        assert_eq!(told.contrary, ["big.0a1b2c3d.0-3.receipt"]);
        for (name, text) in [
            ("big.0a1b2c3d.1-3.receipt", "{}"),
            ("big.0a1b2c3d.x-3.receipt", "no"),
            ("another.0a1b2c3d.1-3.receipt", "no"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(receipts.names().unwrap().len(), 2);
        assert_eq!(
            receipts.read(&FILE, SIZE, None).unwrap().bytes.total(),
            SIZE
        );
    }
}
