//! A file in a folder that several nodes bring a package into: its `.part` is written to by others
//! as well, and the node that finds all bytes there gives it its name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::open_file::Part;
use super::publish::done;
use super::receipts::{Receipt, Receipts};
use super::verdict::{failed, taken};
use super::{Job, WorkerContext};
use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::dest::{self, FileIdentity, Folder, Found, Storage};
use crate::model::outcome::Outcome;
use crate::model::request::IfExists;
use crate::model::shard::Shard;
use crate::model::table::Names;

/// How often the others are told what is on disk: so much is fetched again where this node is
/// killed and its share falls to another.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Of files from this size on, in bytes, the others are told although none of them brings any of
/// it: with another number of shards they will.
const TOLD: u64 = 1 << 20;

impl Job {
    /// This node's share of the package, where other nodes bring the rest into the same folder.
    pub(super) fn shard(&self) -> Option<Shard> {
        self.run.download.order.options.shard
    }

    /// The only bytes of the file that this node brings.
    pub(super) fn slice(&self) -> Option<(u64, u64)> {
        self.table.slice(self.file.index)
    }

    /// The shard, where the others are told of this file.
    fn tells(&self) -> Option<Shard> {
        let shard = self.shard()?;
        (self.size() >= TOLD || self.slice().is_some()).then_some(shard)
    }

    /// The file under its name, where it is there: it is as listed, or it is the very `.part` that
    /// this node has open, whose time its last writes may have changed.
    fn named(&self, folder: &Folder) -> Result<Option<Found>, Outcome> {
        let (table, index) = (&self.table, self.file.index);
        let name = table.names(index).last;
        let _call = self.run.disk.enter();
        let Some(found) = folder.file(&name)? else {
            return Ok(None);
        };
        if found.may_be(table.size(index), table.mtime(index)) {
            return Ok(Some(found));
        }
        let Some(part) = self.file.open_part() else {
            return Ok(None);
        };
        let own = FileIdentity::by_inode(&part.file);
        if folder.identity(&name) != Some(own) || found.length != table.size(index) {
            return Ok(None);
        }
        let mtime = match table.mtime(index) {
            Some(listed) => dest::set_mtime(&part.file, listed),
            None => found.mtime,
        };
        Ok(Some(Found { mtime, ..found }))
    }

    /// Another node was faster: the file has its name, and nothing is left to be done.
    fn adopt(&self, found: Found, context: &WorkerContext) -> Outcome {
        let (key, index) = (self.run.download.key, self.file.index);
        let change = done(&self.table, index, key, found.mtime);
        if let Err(outcome) = self.save(context, &[change]) {
            return outcome;
        }
        if self.file.given_up.swap(true, Ordering::AcqRel) {
            // Another worker has said so.
            return Outcome::Stopped;
        }
        self.file.give_up();
        self.run.parts.remove(index);
        self.table.complete(index);
        Outcome::Complete
    }

    /// Before a byte is asked for that has no place, or that another node has brought.
    pub(super) fn refuse_taken(&self, context: &WorkerContext) -> Result<(), Outcome> {
        if self.shard().is_none() {
            return Ok(());
        }
        let (table, index) = (&self.table, self.file.index);
        let folder = self.run.folder(self.root()?, table, table.dir_of(index))?;
        if let Some(found) = self.named(&folder)? {
            return Err(self.adopt(found, context));
        }
        let is_free = folder.kind(&table.names(index).last).is_none();
        match self.run.download.order.if_exists {
            IfExists::Rename if !is_free => Err(taken()),
            _ => Ok(()),
        }
    }

    /// Opens or makes the `.part`. What is in it is believed as far as receipts tell of it, whoever
    /// has made it.
    pub(super) fn open_shared_part(
        &self,
        storage: Storage,
        folder: Arc<Folder>,
        names: Names,
        context: &WorkerContext,
    ) -> Result<Part, Outcome> {
        let index = self.file.index;
        let size = self.table.size(index);
        self.note_part(context)?;
        let (file, is_new) = folder.open_shared(&names.part)?;
        self.run.parts.add(index);
        if is_new {
            // It may have got its name since that was looked at.
            if let Some(found) = self.named(&folder)? {
                folder.remove_part(&names.part)?;
                return Err(self.adopt(found, context));
            }
            // They are about an earlier one.
            Receipts::new(&folder, &names.part).remove(&self.run.receipts.found(index));
            self.keep_only(&Intervals::default(), context)?;
        } else if file.metadata().map_or(0, |found| found.len()) > size {
            folder.remove_part(&names.part)?;
            return Err(self.removed());
        } else if !self.file.progress().ranges.done().is_empty() {
            self.verify_extents(&file, context)?;
        }
        let own = self.table.own_range(index);
        dest::reserve_own(&file, own, size, storage, is_new)?;
        Ok(Part {
            file,
            folder,
            names,
        })
    }

    /// Whether the `.part` still has the name that it was opened by.
    fn is_in_place(&self, part: &Part) -> bool {
        let found = part.folder.identity(&part.names.part);
        found.is_some_and(|found| found.may_be(&FileIdentity::by_inode(&part.file)))
    }

    /// Tells the others what is on disk, where that is due and nobody else is about to.
    pub(super) fn renew_receipt(
        &self,
        part: &Part,
        context: &WorkerContext,
    ) -> Result<(), Outcome> {
        let Some(shard) = self.tells() else {
            return Ok(());
        };
        let Ok(mut told) = self.file.receipt.try_lock() else {
            return Ok(());
        };
        let now = Instant::now();
        let since = *told.get_or_insert(now);
        if now.duration_since(since) < TELL_EVERY {
            return Ok(());
        }
        let _call = self.run.disk.enter();
        if !self.is_in_place(part) {
            if let Some(found) = self.named(&part.folder)? {
                return Err(self.adopt(found, context));
            }
            // It is gone: the next job makes another.
            self.file.close();
            return Err(Outcome::Stopped);
        }
        self.write_receipt(shard, part)?;
        *told = Some(Instant::now());
        Ok(())
    }

    /// Tells the others what is on disk.
    pub(super) fn leave_receipt(&self, part: &Part) -> Result<(), Outcome> {
        let Some(shard) = self.tells() else {
            return Ok(());
        };
        let mut told = locks::lock(&self.file.receipt);
        self.write_receipt(shard, part)?;
        *told = Some(Instant::now());
        Ok(())
    }

    fn write_receipt(&self, shard: Shard, part: &Part) -> Result<(), Outcome> {
        let (bytes, etag) = {
            let progress = self.file.progress();
            (progress.ranges.written(), progress.etag.clone())
        };
        let _call = self.run.disk.enter();
        let synced = part.file.sync_data();
        synced.map_err(|error| dest::write_failed(&part.file, &error))?;
        let identity = FileIdentity::by_inode(&part.file);
        let receipt = Receipt {
            inode: identity.inode,
            born: identity.born,
            size: self.size(),
            etag,
            bytes,
        };
        self.run.receipts.note(self.file.index);
        receipts(part).write(shard, &receipt)?;
        Ok(())
    }

    /// This node's bytes are there. Tells the others so, and finds out whether theirs are, too:
    /// then the file is to get its name.
    ///
    /// # Errors
    /// The outcome with which the job ends.
    pub(super) fn join_others(
        &self,
        part: &Part,
        context: &WorkerContext,
    ) -> Result<bool, Outcome> {
        if self.slice().is_none() {
            return Ok(true);
        }
        self.leave_receipt(part)?;
        let etag = self.file.progress().etag.clone();
        let identity = FileIdentity::by_inode(&part.file);
        let told = receipts(part).read(&identity, self.size(), etag.as_deref())?;
        if !told.contrary.is_empty() {
            receipts(part).remove(&told.contrary);
            // Another worker that ended with this one would find nothing against it.
            self.file.give_up();
            return Err(failed(
                "the file changed on the server while several nodes downloaded it; start every \
                 shard again",
            ));
        }
        let is_whole = told.bytes.total() == self.size();
        if !is_whole && let Some(found) = self.named(&part.folder)? {
            receipts(part).remove_all();
            return Err(self.adopt(found, context));
        }
        self.file.awaits_others.store(!is_whole, Ordering::Release);
        Ok(is_whole)
    }

    /// Before the file gets its name: a file that has it is taken for whole by the other nodes,
    /// also after a power cut. The name goes to the very file that was looked at, and to none that
    /// is there already.
    ///
    /// # Errors
    /// The outcome with which the job ends.
    pub(super) fn sync_for_others(
        &self,
        part: &Part,
        context: &WorkerContext,
    ) -> Result<(), Outcome> {
        if self.shard().is_none() {
            return Ok(());
        }
        let synced = part.file.sync_all();
        synced.map_err(|error| dest::write_failed(&part.file, &error))?;
        if let Some(found) = self.named(&part.folder)? {
            if self.is_in_place(part) {
                part.folder.remove_part(&part.names.part)?;
            }
            self.forget_receipts(part);
            return Err(self.adopt(found, context));
        }
        if !self.is_in_place(part) {
            self.file.close();
            return Err(self.removed());
        }
        Ok(())
    }

    /// The bytes that this node brings are to be brought anew: no receipt may tell of them.
    pub(super) fn void_receipts(&self) -> Result<(), Outcome> {
        let (table, index) = (&self.table, self.file.index);
        if self.shard().is_none() || !self.run.receipts.has(index) {
            return Ok(());
        }
        let folder = self.run.folder(self.root()?, table, table.dir_of(index))?;
        let own = [table.own_range(index)].into_iter().collect();
        let _call = self.run.disk.enter();
        let part = table.names(index).part;
        Receipts::new(&folder, &part).remove_about(&own)?;
        Ok(())
    }

    /// The file has its name, or its content is not to be believed: what was told of it counts no
    /// more. A folder is not listed for a file of which nothing was told.
    pub(super) fn forget_receipts(&self, part: &Part) {
        if self.run.receipts.take(self.file.index) {
            receipts(part).remove_all();
        }
    }
}

fn receipts(part: &Part) -> Receipts<'_> {
    Receipts::new(&part.folder, &part.names.part)
}
