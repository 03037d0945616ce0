//! One stretch of transferring of one download: from its start or resume to its pause, error or
//! end.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crate::base::locks;
use crate::base::system_words::words;
use crate::dest::{DestError, Folder, Owner, Root};
use crate::model::download::Download;
use crate::model::part_files::Parts;
use crate::model::table::FileTable;
use crate::store::Store;
use crate::store::saved::Saved;
use crate::transfer::check::ServerHabits;
use crate::transfer::disk_calls::DiskCalls;
use crate::transfer::receipts::Noted;
use crate::transfer::seals::Seals;
use crate::transfer::slowness::Speeds;
use crate::transfer::sums::Sums;
use crate::upstream::Watch;
use crate::upstream::session::Session;

/// Folder descriptors that a run keeps open: the workers are seldom in more folders at once.
const OPEN_FOLDERS: usize = 24;
/// How often the destination is looked at, to notice that it was unmounted or replaced.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What all jobs of one stretch share.
pub struct Run {
    pub download: Arc<Download>,
    pub session: Arc<Session>,
    pub parts: Arc<Parts>,
    /// What was found out about its servers' entity tags.
    pub habits: ServerHabits,
    seals: OnceLock<Option<Seals>>,
    sums: OnceLock<Option<Sums>>,
    /// Files of which nodes that share the folder were told.
    pub receipts: Noted,
    /// Held while the list of checksums is written.
    manifest: Mutex<()>,
    /// Calls to its destination.
    pub disk: DiskCalls,
    /// How fast its connections are.
    pub speeds: Speeds,
    stop: Arc<AtomicBool>,
    /// Workers that are at its jobs.
    working: AtomicUsize,
    /// One of them is wanted elsewhere.
    wanted: Arc<AtomicBool>,
    root: OnceLock<Arc<Root>>,
    looked: Mutex<Option<Instant>>,
    folders: Mutex<Vec<(u32, Arc<Folder>)>>,
}

impl Run {
    pub fn new(download: Arc<Download>, session: Arc<Session>, parts: Arc<Parts>) -> Run {
        Run {
            download,
            session,
            parts,
            habits: ServerHabits::default(),
            seals: OnceLock::new(),
            sums: OnceLock::new(),
            receipts: Noted::default(),
            manifest: Mutex::default(),
            disk: DiskCalls::default(),
            speeds: Speeds::default(),
            stop: Arc::default(),
            working: AtomicUsize::new(0),
            wanted: Arc::default(),
            root: OnceLock::new(),
            looked: Mutex::default(),
            folders: Mutex::default(),
        }
    }

    /// Tells every job of this run to give up, within about a quarter of a second.
    pub fn halt(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub fn is_halted(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A worker is at its jobs until what is returned is dropped.
    pub fn at_work(&self) -> AtWork<'_> {
        self.working.fetch_add(1, Ordering::Relaxed);
        AtWork(self)
    }

    /// How many workers are.
    pub fn working(&self) -> usize {
        self.working.load(Ordering::Relaxed)
    }

    /// Asks for one of its workers, for another download.
    pub fn request_worker(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether a worker was asked for and has not left yet.
    pub fn is_worker_requested(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// For a worker that can leave: whether it is the one to do so.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// What blocking calls on behalf of this run look at.
    pub fn watch(&self) -> Watch {
        Watch {
            stop: self.stop.clone(),
            deadline: None,
            wanted: Some(self.wanted.clone()),
        }
    }

    /// Opens the destination, once for the run.
    ///
    /// # Errors
    /// The folder is not there, or not the one that the download began in.
    pub fn open_root(&self, known: &crate::dest::Identity) -> Result<&Arc<Root>, DestError> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let order = &self.download.order;
        let mut root =
            Root::open(order.dst_folder.as_ref(), known)?.for_owner(Owner::of(&order.options));
        if order.options.windows_names == Some(true) {
            root = root.for_windows();
        }
        Ok(self.root.get_or_init(|| Arc::new(root)))
    }

    /// The open destination.
    pub fn root(&self) -> Option<&Arc<Root>> {
        self.root.get()
    }

    /// Opens a file under its final name, for reading. None: there is none.
    ///
    /// # Errors
    /// It cannot be opened, or its folder cannot.
    pub(super) fn open_saved(
        &self,
        root: &Root,
        table: &FileTable,
        file: u32,
    ) -> Result<Option<File>, DestError> {
        let folder = self.folder(root, table, table.dir_of(file))?;
        folder.open_saved(&table.names(file).last)
    }

    /// Until what is returned is dropped, nobody else writes the list of checksums.
    pub(super) fn begin_manifest(&self) -> MutexGuard<'_, ()> {
        locks::lock(&self.manifest)
    }

    /// The digests for its list of checksums. None where no list is wanted, or they cannot be kept:
    /// then the files are read again for it.
    pub(super) fn sums(&self, store: &Store<Saved>) -> Option<&Sums> {
        let manifest = self.download.order.options.manifest?;
        let id = &self.download.id;
        let open = || Sums::open(store, id, manifest).ok();
        self.sums.get_or_init(open).as_ref()
    }

    /// What is known of its whole files. None where that cannot be kept.
    pub fn seals(&self, store: &Store<Saved>) -> Option<&Seals> {
        let open = || {
            let id = &self.download.id;
            Seals::open(store, id)
                .inspect_err(|error| {
                    log::warn!("download {id}: checksums cannot be kept: {}", words(error));
                })
                .ok()
        };
        self.seals.get_or_init(open).as_ref()
    }

    /// Looks, at most once a second, whether the destination's path still leads to the folder that
    /// is open.
    ///
    /// # Errors
    /// It was unmounted, removed or replaced.
    pub fn check_destination(&self, root: &Root) -> Result<(), DestError> {
        let now = Instant::now();
        let mut looked = locks::lock(&self.looked);
        if looked.is_some_and(|last| now.duration_since(last) < LOOK_EVERY) {
            return Ok(());
        }
        root.check(self.download.order.dst_folder.as_ref())?;
        self.download.set_bytes_free(root.bytes_free());
        *looked = Some(now);
        Ok(())
    }

    /// Has the download show what is free at its destination now.
    pub fn look_at_free_space(&self) {
        if let Some(root) = self.root.get() {
            self.download.set_bytes_free(root.bytes_free());
        }
    }

    /// The folder of that index, opened or taken from those that are open.
    ///
    /// # Errors
    /// It cannot be opened or made, or a symlink stands in its way.
    pub fn folder(
        &self,
        root: &Root,
        table: &FileTable,
        dir: u32,
    ) -> Result<Arc<Folder>, DestError> {
        let cached = {
            let folders = locks::lock(&self.folders);
            folders
                .iter()
                .find(|(index, _)| *index == dir)
                .map(|(_, folder)| folder.clone())
        };
        if let Some(folder) = cached {
            return Ok(folder);
        }
        let folder = Arc::new(root.folder(&table.dir_components(dir), true)?);
        let mut folders = locks::lock(&self.folders);
        if folders.len() >= OPEN_FOLDERS {
            folders.remove(0);
        }
        folders.push((dir, folder.clone()));
        Ok(folder)
    }
}

/// See [`Run::at_work`].
pub struct AtWork<'a>(&'a Run);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}
