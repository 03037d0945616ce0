//! A file on its way: its ranges, its address and its `.part`, shared by the workers that fetch it.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::changes::Changes;
use crate::base::locks;
use crate::dest::Folder;
use crate::model::ranges::{Range, Ranges};
use crate::model::table::Names;
use crate::store::saved::{Change, Partial};
use crate::upstream::{Address, Expected};

/// So many faults in a row that may pass, and the next request goes to a fresh address.
const ADDRESS_FAULTS: u32 = 4;

/// A file on its way, shared by the workers that fetch its ranges.
pub struct OpenFile {
    pub index: u32,
    /// Held while the store takes a change that says, or takes back, what is in place: see the
    /// store's page.
    pub(super) progress: Mutex<Progress>,
    address: Mutex<Option<Address>>,
    /// Held while a first address is fetched, so that one worker does it for all. Never taken by
    /// the controller.
    pub(super) fetching_address: Mutex<()>,
    part: Mutex<Option<Arc<Part>>>,
    /// Held while the `.part` is made or opened, for the same reason and with the same rule.
    pub(super) opening_part: Mutex<()>,
    /// The journal knows that it is about to be there.
    pub(super) part_noted: AtomicBool,
    /// The file has failed or is in place: jobs for it that are still out are to end.
    pub(super) given_up: AtomicBool,
    /// When other nodes were last told what is on disk of it. Held while they are told.
    pub(super) receipt: Mutex<Option<Instant>>,
    /// This node's bytes are there, and those of others are not.
    pub(super) awaits_others: AtomicBool,
}

pub(super) struct Progress {
    pub(super) ranges: Ranges,
    pub(super) etag: Option<String>,
    pub(super) etag_reported: bool,
    pub(super) refusals: u32,
    /// Requests in a row that failed in a way that may pass, with no byte between them, at the
    /// address that is known.
    pub(super) faults: u32,
    pub(super) changes: Changes,
    /// How often another program has removed or cut the `.part`.
    pub(super) removals: Changes,
    /// What the server says of the whole file's content.
    pub(super) expected: Option<Expected>,
    /// How often the whole file had another checksum than the server told.
    pub(super) mismatches: u32,
    pub(super) finishing: bool,
    /// The journal still says what is no longer true of the file.
    pub(super) owes_void: bool,
    /// Whether the whole file was looked through for holes.
    pub(super) looked: bool,
}

/// The open `.part` of a file.
pub struct Part {
    pub file: File,
    pub(super) folder: Arc<Folder>,
    pub(super) names: Names,
}

impl OpenFile {
    /// A file of `size` bytes of which `partial` are in place; `has_part` tells whether the journal
    /// knows of a `.part`. `chunk`: see [`Ranges::new`].
    pub fn new(
        index: u32,
        size: u64,
        partial: Partial,
        has_part: bool,
        chunk: Option<u64>,
    ) -> OpenFile {
        let progress = Progress {
            ranges: Ranges::new(size, partial.bytes, chunk),
            etag_reported: partial.etag.is_some(),
            etag: partial.etag,
            refusals: 0,
            faults: 0,
            changes: Changes::default(),
            removals: Changes::default(),
            expected: None,
            mismatches: 0,
            finishing: false,
            owes_void: false,
            looked: false,
        };
        OpenFile {
            index,
            progress: Mutex::new(progress),
            address: Mutex::default(),
            fetching_address: Mutex::default(),
            part: Mutex::default(),
            opening_part: Mutex::default(),
            part_noted: AtomicBool::new(has_part),
            given_up: AtomicBool::new(false),
            receipt: Mutex::default(),
            awaits_others: AtomicBool::new(false),
        }
    }

    /// Has only these bytes brought, from the first number up to the second.
    pub fn keep_to(&self, (start, end): (u64, u64)) {
        self.progress().ranges.keep_to(start, end);
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        locks::lock(&self.progress)
    }

    /// Has the file written from its beginning on, as where it cannot have holes.
    pub fn keep_order(&self) {
        self.progress().ranges.keep_order();
    }

    /// Takes the next free range for one of `workers` workers.
    pub fn take(&self, workers: u64) -> Option<Arc<Range>> {
        self.progress().ranges.take(workers)
    }

    /// Takes the tail of the slowest range.
    pub fn take_tail(&self, now: Instant) -> Option<Arc<Range>> {
        self.progress().ranges.take_tail(now)
    }

    /// Puts a range back that no worker got.
    pub fn put_back(&self, range: &Arc<Range>) {
        self.progress().ranges.put_back(range);
    }

    /// Puts a range back whose request failed: others come first until [`OpenFile::end_rest`].
    pub(super) fn defer(&self, range: &Arc<Range>) {
        self.progress().ranges.defer(range);
    }

    /// The file's next attempt is due: what failed may be taken again.
    pub fn end_rest(&self) {
        self.progress().ranges.end_rest();
    }

    /// How many of its ranges that are on their way have brought bytes.
    pub fn flowing(&self) -> u32 {
        u32::try_from(self.progress().ranges.flowing()).unwrap_or(u32::MAX)
    }

    /// Whether every byte is in place.
    pub fn is_whole(&self) -> bool {
        self.progress().ranges.is_complete()
    }

    /// Whether another range could be taken.
    pub fn has_free(&self) -> bool {
        self.progress().ranges.has_free()
    }

    /// The address that later ranges use.
    pub fn known_address(&self) -> Option<Address> {
        locks::lock(&self.address).clone()
    }

    /// Adds what the journal does not know yet to `changes`. Until what is returned is dropped,
    /// nobody can take it back; None if there is nothing.
    fn news(&self, key: u32, changes: &mut Vec<Change>) -> Option<MutexGuard<'_, Progress>> {
        let mut progress = self.progress();
        let news = progress.ranges.news();
        if news.is_empty() {
            return None;
        }
        if !progress.etag_reported
            && let Some(etag) = progress.etag.clone()
        {
            progress.etag_reported = true;
            changes.push(Change::Etag(key, self.index, etag.into()));
        }
        let wrote = |(start, end)| Change::Wrote(key, self.index, start, end);
        changes.extend(news.into_iter().map(wrote));
        Some(progress)
    }

    /// How far the file is, for an [`OpenFile`] that takes its place.
    pub fn partial(&self) -> Partial {
        let progress = self.progress();
        Partial {
            bytes: progress.ranges.done().clone(),
            etag: progress.etag.clone(),
        }
    }

    /// The `.part`, where it is open.
    pub(super) fn open_part(&self) -> Option<Arc<Part>> {
        locks::lock(&self.part).clone()
    }

    /// Keeps a `.part` open for the jobs to come. False if the file was given up meanwhile.
    pub(super) fn keep_part(&self, part: &Arc<Part>) -> bool {
        let mut slot = locks::lock(&self.part);
        let wanted = !self.given_up.load(Ordering::Acquire);
        if wanted {
            *slot = Some(part.clone());
        }
        wanted
    }

    /// Closes the `.part`; it is opened again when needed.
    pub fn close(&self) {
        *locks::lock(&self.part) = None;
        self.forget_address();
    }

    /// Closes it for good.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.close();
    }

    pub(super) fn forget_address(&self) {
        *locks::lock(&self.address) = None;
    }

    pub(super) fn keep_address(&self, address: &Address) {
        *locks::lock(&self.address) = Some(address.clone());
    }

    /// Keeps an address behind which a request failed in a way that may pass, unless that went on
    /// for long: its host may be gone.
    pub(super) fn keep_after_fault(&self, address: &Address) {
        let mut progress = self.progress();
        progress.faults += 1;
        if progress.faults < ADDRESS_FAULTS {
            self.leave_address(address.clone());
        } else {
            progress.faults = 0;
            self.forget_address();
        }
    }

    /// A byte came: what went wrong before is over.
    pub(super) fn note_byte(&self) {
        let mut progress = self.progress();
        (progress.refusals, progress.faults) = (0, 0);
    }

    /// Keeps an address where there is no other, which may be fresher.
    pub(super) fn leave_address(&self, address: Address) {
        let mut slot = locks::lock(&self.address);
        if !self.given_up.load(Ordering::Acquire) {
            slot.get_or_insert(address);
        }
    }
}

/// Passes the unsaved progress of these files to `save`, which must not wait for the disk. Each
/// file is given with its download's key, and no more than once. The file's lock is held until
/// `save` returns, so that a later `Reset` of the file is journalled after its progress.
pub fn report<'a, T>(
    files: impl Iterator<Item = (u32, &'a OpenFile)>,
    save: impl FnOnce(Vec<Change>) -> T,
) -> T {
    let mut changes = Vec::new();
    let held: Vec<_> = files
        .filter_map(|(key, file)| file.news(key, &mut changes))
        .collect();
    let saved = save(changes);
    drop(held);
    saved
}
