//! Durable state: `downloads.json`, the last whole state, and `downloads.journal`, what changed
//! since.
//!
//! The store does not know what the state means, except that some changes say that file data is in
//! place. Those count after a power cut only once the data was synced (`Store::synced`). After a
//! kill within the same boot they all count, since the page cache outlives the process.
//!
//! Every change has a number, and the state is that of all changes applied in the order of their
//! numbers. After a power cut the data changes beyond the last synced mark are left out of that
//! sequence; all others stay, in their order. To keep the order, the JSON file only ever holds a
//! run of changes from the first on: it ends before the first data change that is not synced yet.
//! What comes after waits in the journal, and in memory for the next generation's journal.
//!
//! Locks, in the order in which they are taken:
//!
//! 1. a file's `progress`, which belongs to the caller: transfers hold it while they call `append`
//!    or `queue`, so that two threads' changes of one file are journalled in the order in which
//!    they were made. These two calls take `backlog` and `journal` only, and never wait for the
//!    disk.
//! 2. `backlog`: changes that wait for room on the disk
//! 3. `base`: held while the snapshot is written anew
//! 4. `sync`: held while a sync runs
//! 5. `journal`: held for one write
//!
//! No thread but the controller's holds the `progress` of more than one file.

mod backlog;
mod boot;
mod compact;
mod disk;
mod error;
mod folder;
mod journal;
mod line;
mod replay;
pub mod saved;
mod side;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::StoreError;

use disk::{Disk, SystemDisk};
use folder::Folder;
use journal::{Encoded, Journal, Ticket};
use replay::Found;

use crate::base::locks;

const JSON: &str = "downloads.json";
const JOURNAL: &str = "downloads.journal";
const LOCK: &str = "lock";
const SIDE: &str = "side";

/// What the store keeps.
pub trait State: Default + Clone + Serialize + DeserializeOwned + Send + 'static {
    /// One step from a state to the next. Its JSON must not be `null`, and at most about 1 MiB
    /// long.
    type Change: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// Makes the change. Total: a change that makes no sense here (an earlier one was lost in a
    /// power cut, or is repeated, or the file was tampered with) is passed over.
    fn apply(&mut self, change: Self::Change);

    /// Whether the change says that file data is in place, so that after a power cut it counts only
    /// once the data was synced.
    fn is_data(change: &Self::Change) -> bool;

    /// The change to be made at the first start in another boot, after those that count: the disk
    /// may hold more, or less, than they say.
    fn rebooted() -> Option<Self::Change> {
        None
    }
}

/// A point in the sequence of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// See [`Store::journal_health`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalHealth {
    /// Its length.
    pub bytes: u64,
    /// Whether the last write succeeded.
    pub writable: bool,
}

/// The state directory, held by this process alone. Every method can be called from any thread.
pub struct Store<S: State> {
    folder: Folder,
    side: Folder,
    disk: Box<dyn Disk>,
    boot: String,
    /// Changes that are yet to be written, oldest first: see `queue`.
    backlog: Mutex<VecDeque<S::Change>>,
    base: Mutex<Base<S>>,
    sync: Mutex<Syncs>,
    journal: Mutex<Journal<S::Change>>,
    /// Whether the last write or sync of the journal succeeded.
    writable: AtomicBool,
    /// Locked for as long as it is open.
    _lock: File,
}

/// What the JSON file holds, or will hold when it is next written.
struct Base<S> {
    generation: u64,
    /// Every change up to this one is in `state`, and none after it.
    seq: u64,
    state: S,
}

/// How far the journal is on disk.
struct Syncs {
    /// Every line up to this number is, those apart that were taken back.
    durable: u64,
    /// Those whose lines were taken back by another's sync, by the last number of each.
    failed: BTreeMap<u64, StoreError>,
}

impl<S: State> Store<S> {
    /// Takes the state directory, making it where it is missing, reads the state back and begins a
    /// new generation of both files (on a full disk it goes on with the old one). Returns the state
    /// as it is to be continued: with all changes if they were made in this boot, else with data
    /// changes only up to the last synced mark.
    ///
    /// # Errors
    /// `Locked`, `Damaged`, or a fault of the disk; every file is then as it was.
    pub fn open(dir: &Path) -> Result<(Store<S>, S), StoreError> {
        let boot = boot::boot_id()
            .map_err(|error| StoreError::io("name the boot for", dir, dir, error))?;
        Store::open_in_boot(dir, &boot)
    }

    /// As `open`, in the boot of that name.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_in_boot(dir: &Path, boot: &str) -> Result<(Store<S>, S), StoreError> {
        Store::open_on(Box::new(SystemDisk), dir, boot)
    }

    fn open_on(disk: Box<dyn Disk>, dir: &Path, boot: &str) -> Result<(Store<S>, S), StoreError> {
        let at = |doing| move |error| StoreError::io(doing, dir, dir, error);
        let folder = Folder::open(dir).map_err(at("open"))?;
        let lock = take_lock(&folder)?;
        let recovered = replay::recover::<S>(&folder, boot)?;
        folder
            .remove_drafts(|name| [JSON, JOURNAL].contains(&name))
            .map_err(at("tidy up"))?;
        let side = folder
            .inner(SIDE)
            .map_err(at("make the folder of lists in"))?;
        side.remove_drafts(|_| true).map_err(at("tidy up"))?;
        folder.close_files().map_err(at("tidy up"))?;
        side.close_files().map_err(at("tidy up"))?;

        let placeholder = Arc::new(lock.try_clone().map_err(at("open a file in"))?);
        let found = recovered.journal;
        let (last, synced) = (recovered.last, recovered.synced);
        let store = Store {
            folder,
            side,
            disk,
            boot: boot.to_owned(),
            backlog: Mutex::default(),
            base: Mutex::new(Base {
                generation: recovered.whole.generation,
                seq: recovered.whole.seq,
                state: recovered.whole.state,
            }),
            sync: Mutex::new(Syncs {
                durable: last,
                failed: BTreeMap::new(),
            }),
            // Its file is set before anyone can write: the new generation puts its own there.
            journal: Mutex::new(Journal::new(placeholder, last, synced, recovered.tail)),
            writable: AtomicBool::new(true),
            _lock: lock,
        };
        store.begin(found)?;
        let state = store.current();
        Ok((store, state))
    }

    /// Begins a new generation or, on a full disk, goes on with the one that was found.
    fn begin(&self, found: Found) -> Result<(), StoreError> {
        let result = self.renew(&mut locks::lock(&self.base));
        let swapped = locks::lock(&self.journal).len > 0;
        match result {
            Err(full @ StoreError::Full { .. }) if found.end > 0 && !swapped => {
                log::warn!("{full}. Going on with the journal that is there");
                self.keep_journal(found).map_err(|_| full)
            }
            other => other,
        }
    }

    /// The state as of now: a copy. What waits for room in the journal is not in it.
    pub fn current(&self) -> S {
        let base = locks::lock(&self.base);
        let tail = locks::lock(&self.journal).tail.clone();
        let mut state = base.state.clone();
        for entry in tail {
            state.apply(entry.change);
        }
        state
    }

    /// The data changes that are not known to be synced, in their order. After `open` these are
    /// what an earlier process of this boot left: the files behind them must be synced, too, before
    /// the first mark is handed to `synced`.
    pub fn unsynced(&self) -> Vec<S::Change> {
        let journal = locks::lock(&self.journal);
        let waits = |entry: &&journal::Entry<_>| entry.data && entry.seq > journal.synced;
        let waiting = journal.tail.iter().filter(waits);
        waiting.map(|entry| entry.change.clone()).collect()
    }

    /// Appends without waiting for the disk: the changes outlive this process at once, and a power
    /// cut after the next `commit` or `synced`. One write for all of them.
    ///
    /// # Errors
    /// A full disk or any other fault; none of the changes counts then. Later appends work again
    /// once the cause is gone.
    pub fn append(&self, changes: &[S::Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let encoded = self.encode(changes)?;
        self.flush(&mut locks::lock(&self.backlog))?;
        let pushed = locks::lock(&self.journal).push(&*self.disk, encoded);
        pushed.map_err(|error| self.fault("write", JOURNAL, error))?;
        self.writable.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// How the journal is doing.
    pub fn journal_health(&self) -> JournalHealth {
        JournalHealth {
            bytes: locks::lock(&self.journal).len,
            writable: self.writable.load(Ordering::Relaxed),
        }
    }

    /// Appends, and returns once the changes are on disk. Callers at the same time share one sync.
    ///
    /// # Errors
    /// As `append`, and a sync that failed; none of the changes counts then.
    pub fn commit(&self, changes: &[S::Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let encoded = self.encode(changes)?;
        self.mend()?;
        self.flush(&mut locks::lock(&self.backlog))?;
        let pushed = {
            let mut journal = locks::lock(&self.journal);
            let pushed = journal.push(&*self.disk, encoded);
            journal.waiting.extend(pushed.as_ref().ok());
            pushed
        };
        let ticket = pushed.map_err(|error| self.fault("write", JOURNAL, error))?;
        self.settle(ticket)
    }

    /// The point after everything that has been appended until now.
    pub fn mark(&self) -> Mark {
        Mark(locks::lock(&self.journal).appended)
    }

    /// Says that the file data behind every data change up to `mark` has been synced. Returns once
    /// that is on disk; costs nothing if it was before.
    ///
    /// # Errors
    /// As `append`. The mark may count nevertheless, since what it says is true.
    pub fn synced(&self, mark: Mark) -> Result<(), StoreError> {
        self.mend()?;
        let pushed = {
            let mut journal = locks::lock(&self.journal);
            journal.synced = journal.synced.max(mark.0.min(journal.last));
            if journal.marked >= mark.0.min(journal.last) {
                return Ok(());
            }
            let pushed = journal.push_mark(&*self.disk);
            journal.waiting.extend(pushed.as_ref().ok());
            pushed.map(|ticket| (ticket, journal.synced))
        };
        let (ticket, upto) = pushed.map_err(|error| self.fault("write", JOURNAL, error))?;
        self.settle(ticket)?;
        let mut journal = locks::lock(&self.journal);
        journal.marked = journal.marked.max(upto);
        drop(journal);
        // Keeps the tail short. If the base is being written just now, that does it as well.
        match self.base.try_lock() {
            Ok(mut base) => self.absorb(&mut base),
            Err(TryLockError::Poisoned(base)) => self.absorb(&mut base.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        Ok(())
    }

    /// Takes back the data changes that are not known to be synced and that `lost` picks, those
    /// that wait for room too: the disk may not hold what they say, and no later sync can tell.
    /// Returns once that is on disk, so that a later mark does not vouch for them.
    ///
    /// # Errors
    /// As `append`. They may or may not count then: `synced` must not be called before this has
    /// succeeded.
    pub fn take_back(&self, lost: impl Fn(&S::Change) -> bool) -> Result<(), StoreError> {
        self.mend()?;
        locks::lock(&self.backlog).retain(|change| !(S::is_data(change) && lost(change)));
        let pushed = {
            // While the journal is written anew there are copies of them.
            let _not_copied = locks::lock(&self.sync);
            let mut journal = locks::lock(&self.journal);
            let pushed = journal.take_back_unsynced(&*self.disk, lost);
            journal.waiting.extend(pushed.as_ref().ok());
            pushed
        };
        let ticket = pushed.map_err(|error| self.fault("write", JOURNAL, error))?;
        self.settle(ticket)
    }

    /// Writes both files anew if the journal has grown by more than the JSON file's length, so that
    /// the cost of that, spread over the changes, is constant for each; or if a sync of the journal
    /// failed. Returns whether it did. Meant for a background thread; others go on meanwhile.
    ///
    /// # Errors
    /// As `append`; the old files still hold everything then.
    pub fn compact_if_needed(&self) -> Result<bool, StoreError> {
        let mut base = locks::lock(&self.base);
        self.absorb(&mut base);
        let due = {
            let mut journal = locks::lock(&self.journal);
            journal.reserve(&*self.disk);
            journal.is_due()
        };
        if due {
            self.renew(&mut base).inspect_err(|_| {
                // Not at each call anew while, say, the disk is full.
                let mut journal = locks::lock(&self.journal);
                journal.full_at = journal.len + compact::SMALL / 4;
            })?;
        }
        Ok(due)
    }

    /// Writes both files a last time, so that the next start has little to read. To be called when
    /// nothing is appended any more.
    ///
    /// # Errors
    /// As `append`; the old files still hold everything then.
    pub fn close(&self) -> Result<(), StoreError> {
        if let Err(error) = self.flush(&mut locks::lock(&self.backlog)) {
            log::error!("what waited to be saved is lost: {error}");
        }
        self.renew(&mut locks::lock(&self.base))
    }

    fn encode(&self, changes: &[S::Change]) -> Result<Encoded<S::Change>, StoreError> {
        Encoded::new::<S>(changes, &self.folder.path)
    }

    fn fault(&self, doing: &'static str, name: &str, error: io::Error) -> StoreError {
        self.writable.store(false, Ordering::Relaxed);
        StoreError::io(
            doing,
            &self.folder.path.join(name),
            &self.folder.path,
            error,
        )
    }

    /// Replaces a journal that can no longer be trusted.
    fn mend(&self) -> Result<(), StoreError> {
        if !locks::lock(&self.journal).suspect {
            return Ok(());
        }
        let mut base = locks::lock(&self.base);
        // It may have been replaced while we waited.
        if locks::lock(&self.journal).suspect {
            self.renew(&mut base)?;
        }
        Ok(())
    }

    /// Waits until a ticket's lines are on disk. The first to come syncs for all who have written
    /// by then.
    fn settle(&self, ticket: Ticket) -> Result<(), StoreError> {
        let mut sync = locks::lock(&self.sync);
        if let Some(error) = sync.failed.remove(&ticket.last) {
            return Err(error);
        }
        if sync.durable >= ticket.last {
            return Ok(());
        }
        let (file, upto, suspect) = {
            let journal = locks::lock(&self.journal);
            (journal.file.clone(), journal.last, journal.suspect)
        };
        let result = if suspect {
            Err(io::Error::other("an earlier sync of it failed"))
        } else {
            self.disk.sync_data(&file)
        };
        let mut journal = locks::lock(&self.journal);
        match result {
            Ok(()) => {
                journal.waiting.retain(|other| other.last > upto);
                sync.durable = upto;
                self.writable.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let error = self.fault("sync", JOURNAL, error);
                let refused = journal.refuse(&*self.disk, upto);
                for other in refused.into_iter().filter(|other| *other != ticket) {
                    sync.failed.insert(other.last, error.clone());
                }
                Err(error)
            }
        }
    }
}

fn take_lock(folder: &Folder) -> Result<File, StoreError> {
    let path = folder.path.join(LOCK);
    let fault = |error| StoreError::io("lock", &path, &folder.path, error);
    let file = folder.open_or_make(LOCK).map_err(fault)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(folder.path.clone())),
        Err(error) => Err(fault(error.into())),
    }
}

#[cfg(test)]
mod tests;
