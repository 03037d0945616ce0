//! The `.part` of a file: made, opened, and believed only as far as it holds data.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::open_file::Part;
use super::publish::free_part;
use super::verdict::broken;
use super::{BLOCK, Job, WorkerContext};
use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::dest::{self, Root};
use crate::model::outcome::Outcome;
use crate::model::problem::{Code, FileProblem};
use crate::store::saved::Change;

impl Job {
    /// The file's `.part`, opened or made.
    pub(super) fn part(&self, context: &WorkerContext) -> Result<Arc<Part>, Outcome> {
        let _call = self.run.disk.enter();
        if let Some(part) = self.file.open_part() {
            return Ok(part);
        }
        let _opening = locks::lock(&self.file.opening_part);
        if let Some(part) = self.file.open_part() {
            return Ok(part);
        }
        // A job that comes late must not make a `.part` of a file that has its name.
        if self.file.given_up.load(Ordering::Acquire) {
            return Err(Outcome::Stopped);
        }
        let root = self.root()?;
        self.run
            .check_destination(root)
            .map_err(|error| broken(&error))?;
        let part = Arc::new(self.open_part(root, context)?);
        let kept = self.file.keep_part(&part);
        kept.then_some(part).ok_or(Outcome::Stopped)
    }

    pub(super) fn open_part(&self, root: &Root, context: &WorkerContext) -> Result<Part, Outcome> {
        let index = self.file.index;
        let size = self.table.size(index);
        let folder = self
            .run
            .folder(root, &self.table, self.table.dir_of(index))?;
        let mut names = self.table.names(index);
        if self.shard().is_some() {
            return self.open_shared_part(root.storage(), folder, names, context);
        }
        if self.run.parts.has(index)
            && let Some(file) = folder.open_part(&names.part)?
        {
            if !self.file.progress().ranges.done().is_empty() {
                self.verify_extents(&file, context)?;
            }
            let storage = root.storage();
            if storage.has_holes && file.metadata().map_or(0, |data| data.len()) != size {
                dest::reserve(&file, size, storage)?;
            }
            return Ok(Part {
                file,
                folder,
                names,
            });
        }
        self.keep_only(&Intervals::default(), context)?;
        self.note_part(context)?;
        let file = loop {
            if let Some(file) = folder.create_part(&names.part)? {
                self.run.parts.add(index);
                break file;
            }
            names.part = free_part(&folder, &names.last, root.traits());
            self.save(
                context,
                &[Change::Renamed(
                    self.run.download.key,
                    index,
                    Box::new(names.clone()),
                )],
            )?;
            self.table.rename(index, names.clone());
        };
        if let Err(error) = dest::reserve_new(&file, size, root.storage()) {
            // Nothing of it is worth keeping, and it may be what fills the disk.
            let _ = folder.remove_part(&names.part);
            return Err(error.into());
        }
        Ok(Part {
            file,
            folder,
            names,
        })
    }

    /// Puts into the journal that the file is about to have a `.part`.
    pub(super) fn note_part(&self, context: &WorkerContext) -> Result<(), Outcome> {
        let key = self.run.download.key;
        let note = |bound| context.store.commit(&[Change::Begun(key, bound)]);
        let noted = self.run.parts.raise_bound(self.file.index, note);
        noted.map_err(|error| Outcome::transient(error.to_string()))?;
        match self.announce_part() {
            Some(change) => self
                .save(context, &[change])
                .inspect_err(|_| self.part_is_unannounced()),
            None => Ok(()),
        }
    }

    /// What the journal must know before the file's `.part` is made. None if it was told.
    pub fn announce_part(&self) -> Option<Change> {
        let noted = self.file.part_noted.swap(true, Ordering::AcqRel);
        (!noted).then(|| Change::Part(self.run.download.key, self.file.index))
    }

    /// The journal could not be told after all.
    pub fn part_is_unannounced(&self) {
        self.file.part_noted.store(false, Ordering::Release);
    }

    /// Believes only what the `.part` holds: somebody may have cut it.
    pub(super) fn verify_extents(
        &self,
        file: &File,
        context: &WorkerContext,
    ) -> Result<(), Outcome> {
        let held: Intervals = dest::extents(file).into_iter().collect();
        let done = self.file.progress().ranges.done().clone();
        if done.intersection(&held) == done {
            return Ok(());
        }
        // An extent begins and ends with whole blocks, in which the cut may lie.
        let inner = held
            .iter()
            .map(|(start, end)| (start + BLOCK, end.saturating_sub(BLOCK)));
        self.keep_only(&inner.collect(), context)
    }

    /// The `.part` holds this much; what else was said to be in it is to be fetched again.
    pub(super) fn keep_only(
        &self,
        held: &Intervals,
        context: &WorkerContext,
    ) -> Result<(), Outcome> {
        let mut progress = self.file.progress();
        let before = progress.ranges.done().total();
        progress.ranges.keep(held);
        let bytes = progress.ranges.done().clone();
        if bytes.total() == before {
            return Ok(());
        }
        self.table.set_done(self.file.index, bytes.total());
        let etag = progress.etag.clone().filter(|_| !bytes.is_empty());
        progress.etag_reported = etag.is_some();
        // Held until the journal has it, so that no news of other bytes come between.
        let saved = self.save(context, &self.anew(etag, &bytes));
        if saved.is_err() {
            // The journal says too much; nothing of it is believed until that is mended.
            progress.ranges.keep(&Intervals::default());
            progress.owes_void = true;
        }
        drop(progress);
        saved.and(Err(self.removed()))
    }

    /// Another program has removed or cut the `.part`. What is missing is fetched again after a
    /// wait; the third time that is the file's error, since a virus scanner or a cleaner would do
    /// it for ever.
    pub(super) fn removed(&self) -> Outcome {
        let folder = self
            .table
            .dir_components(self.table.dir_of(self.file.index));
        let name = self.table.names(self.file.index).part;
        let part = folder
            .into_iter()
            .chain([name.as_str()])
            .collect::<Vec<_>>();
        let part = part.join("/");
        let too_often = self.file.progress().removals.add(Instant::now());
        let what = format!("{part} was removed or cut by another program");
        log::warn!("download {}: {what}", self.run.download.id);
        if !too_often {
            return Outcome::Again(format!("{what}; what is missing is fetched again"));
        }
        Outcome::Failed(FileProblem {
            code: Code::DestinationUnwritable,
            message: format!(
                "{what} three times; exclude the folder from virus scanners and cleaners, then \
                 resume"
            ),
        })
    }
}
