//! A whole file gets its time and its name.

use std::fs::File;
use std::sync::atomic::Ordering;

use super::verdict::{broken, taken};
use super::{Job, LARGE, WorkerContext};
use crate::dest::paths;
use crate::dest::{self, Folder, Published, Traits};
use crate::model::outcome::Outcome;
use crate::model::request::IfExists;
use crate::model::table::{FileState, FileTable, Names, Skip};
use crate::store::Store;
use crate::store::saved::{Change, Saved};

impl Job {
    /// Looks at the whole file a last time and sets its time. Returns what the journal must know
    /// before [`Job::name`], so that a start in between finds out which of the two names the file
    /// has.
    ///
    /// # Errors
    /// The outcome with which the job ends.
    pub fn finalize(&self, context: &WorkerContext) -> Result<Change, Outcome> {
        if self.run.is_halted() {
            return Err(Outcome::Stopped);
        }
        let index = self.file.index;
        let part = self.part(context)?;
        self.run
            .check_destination(self.root()?)
            .map_err(|error| broken(&error))?;
        let size = self.table.size(index);
        let short = part.file.metadata().map_or(0, |data| data.len()) < size;
        if short || (size >= LARGE && self.claim_look()) {
            self.verify_extents(&part.file, context)
                .inspect_err(|_| self.file.close())?;
        }
        if !self.join_others(&part, context)? {
            return Ok(Change::Done(self.run.download.key, index));
        }
        Ok(stamp(&self.table, index, self.run.download.key, &part.file))
    }

    /// Gives the sealed file its name. Once it has it, a worker that comes late does not give it
    /// again.
    pub fn name(&mut self, context: &WorkerContext) -> Outcome {
        match self.try_name(context) {
            Ok(outcome) => {
                self.names_file = false;
                outcome
            }
            Err(outcome) => outcome,
        }
    }

    fn try_name(&self, context: &WorkerContext) -> Result<Outcome, Outcome> {
        let index = self.file.index;
        if self.file.awaits_others.load(Ordering::Acquire) {
            self.file.give_up();
            self.table.complete(index);
            return Ok(Outcome::Complete);
        }
        let part = self.part(context)?;
        self.sync_for_others(&part, context)?;
        let place = Place {
            key: self.run.download.key,
            table: &self.table,
            index,
            if_exists: self.run.download.order.if_exists,
            traits: self.root()?.traits(),
            is_shared: self.shard().is_some(),
        };
        let published = publish(&place, &part.folder, part.names.clone(), &context.store)?;
        match published {
            Some(state) => {
                if state == FileState::Complete && !self.root()?.storage().keeps_times {
                    self.remember_time(&part.folder, context)?;
                }
                self.forget_receipts(&part);
                self.file.give_up();
                self.run.parts.remove(index);
                Ok(if state == FileState::Skipped {
                    self.table.set_state(index, state);
                    Outcome::Skipped
                } else {
                    self.table.complete(index);
                    Outcome::Complete
                })
            }
            None => {
                self.file.close();
                self.start_over(&mut self.file.progress());
                self.journal_reset(context)?;
                Err(self.removed())
            }
        }
    }
}

impl Job {
    /// Some file systems forget a file's time when it gets another name: remembers the one that it
    /// has now.
    fn remember_time(&self, folder: &Folder, context: &WorkerContext) -> Result<(), Outcome> {
        let index = self.file.index;
        let name = self.table.names(index).last;
        let Some(found) = folder.file(&name)?.and_then(|found| found.mtime) else {
            return Ok(());
        };
        let known = self.table.saved_mtime(index);
        if known == Some(found) {
            return Ok(());
        }
        self.table.set_saved_mtime(index, found);
        let key = self.run.download.key;
        self.save(context, &[Change::DoneAt(key, index, found)])
    }
}

/// Sets the file's time, and says with which one it is whole.
fn stamp(table: &FileTable, index: u32, key: u32, file: &File) -> Change {
    let listed = table.mtime(index);
    let on_disk = match listed {
        Some(listed) => dest::set_mtime(file, listed),
        None => dest::mtime(file),
    };
    done(table, index, key, on_disk)
}

/// Says that the file is whole, with the time that it has on the disk.
pub(super) fn done(table: &FileTable, index: u32, key: u32, on_disk: Option<i64>) -> Change {
    match on_disk.filter(|&mtime| table.mtime(index) != Some(mtime)) {
        Some(mtime) => {
            table.set_saved_mtime(index, mtime);
            Change::DoneAt(key, index, mtime)
        }
        None => Change::Done(key, index),
    }
}

/// Which file is to be given its name.
pub struct Place<'a> {
    pub key: u32,
    pub table: &'a FileTable,
    pub index: u32,
    pub if_exists: IfExists,
    pub traits: Traits,
    /// Other nodes bring files into the same folder, and know each file by its listed name.
    pub is_shared: bool,
}

impl Place<'_> {
    /// Whether the file is there under its final name already.
    fn is_there(&self, folder: &Folder, name: &str) -> Result<bool, Outcome> {
        let found = folder.file(name)?;
        let (size, mtime) = (self.table.size(self.index), self.table.mtime(self.index));
        Ok(self.is_shared && found.is_some_and(|found| found.may_be(size, mtime)))
    }
}

/// Renames a whole `.part` to its final name. None if there is no `.part`.
///
/// # Errors
/// The outcome with which the file's job ends.
pub fn publish(
    place: &Place<'_>,
    folder: &Folder,
    mut names: Names,
    store: &Store<Saved>,
) -> Result<Option<FileState>, Outcome> {
    let save = |change: Change| {
        let saved = store.append(&[change]);
        saved.map_err(|error| Outcome::transient(error.to_string()))
    };
    loop {
        match folder.publish(
            &names.part,
            &names.last,
            place.if_exists == IfExists::Overwrite || place.table.is_damaged(place.index),
        )? {
            Published::Done => return Ok(Some(FileState::Complete)),
            // Another node was faster.
            Published::PartMissing | Published::Taken if place.is_there(folder, &names.last)? => {
                folder.remove_part(&names.part)?;
                return Ok(Some(FileState::Complete));
            }
            Published::PartMissing => return Ok(None),
            Published::Taken if place.if_exists == IfExists::Skip => {
                folder.remove_part(&names.part)?;
                save(Change::Skipped(place.key, place.index))?;
                place.table.skip(place.index, Skip::Exists);
                return Ok(Some(FileState::Skipped));
            }
            Published::Taken if place.is_shared => return Err(taken()),
            Published::Taken => {
                names.last = free_name(folder, &names.last, place.traits);
                save(Change::Renamed(
                    place.key,
                    place.index,
                    Box::new(names.clone()),
                ))?;
                place.table.rename(place.index, names.clone());
            }
        }
    }
}

/// The first of `name (1).ext`, `name (2).ext`, … that is free in the folder.
fn free_name(folder: &Folder, name: &str, traits: Traits) -> String {
    let mut candidates = (1..).map(|number| paths::numbered(name, number, traits));
    candidates
        .find(|candidate| folder.kind(candidate).is_none())
        .unwrap_or_else(|| name.to_owned())
}

/// The first of `name (1).part`, `name (2).part`, … that is free in the folder.
pub(super) fn free_part(folder: &Folder, name: &str, traits: Traits) -> String {
    let mut candidates = (1..).map(|number| paths::part_name(name, number, traits));
    candidates
        .find(|candidate| folder.kind(candidate).is_none())
        .unwrap_or_else(|| name.to_owned())
}
