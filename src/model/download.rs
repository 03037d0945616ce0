//! One download as its readers see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};

use serde::Serialize;

use crate::base::change_notifier::ChangeNotifier;
use crate::base::clock::Timestamp;
use crate::base::locks;
use crate::model::manifest::{Manifest, ManifestFile};
use crate::model::problem::Problem;
use crate::model::request::DownloadRequest;
use crate::model::selection::SelectionSummary;
use crate::model::state::State;
use crate::model::table::{Changed, Counts, FileTable};
use crate::model::verification::{Progress, Verification};

/// In place of a number of bytes that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The part of a download that changes as a whole, by the controller's hand only.
#[derive(Debug, Clone)]
pub struct View {
    pub state: State,
    pub name: Option<String>,
    pub package_id: Option<String>,
    pub completed_at: Option<Timestamp>,
    pub problem: Option<Problem>,
    /// From -1000 to 1000.
    pub priority: i32,
}

/// The package's files, as far as they are in memory.
enum Content {
    Unlisted,
    Open(Arc<FileTable>),
    /// Complete: the list lies on disk until somebody asks for it, and costs no memory.
    Resting(Counts, Arc<Changed>),
}

/// One download, shared by everyone who reads it.
pub struct Download {
    pub id: String,
    /// A small number that stands for the download in the journal; never used twice in one state
    /// directory.
    pub key: u32,
    pub order: DownloadRequest,
    pub created_at: Timestamp,
    view: RwLock<View>,
    content: RwLock<Content>,
    /// Bytes per second over the last few seconds.
    rate: AtomicU64,
    /// What is free at the destination, in bytes; [`UNKNOWN`] if that is not known.
    bytes_free: AtomicU64,
    /// How often the view was changed or the table published.
    changes: AtomicU64,
    /// The board's, once it is on one.
    verification: RwLock<Option<Verification>>,
    manifest_file: RwLock<Option<ManifestFile>>,
    /// It is being removed.
    gone: AtomicBool,
    /// Held by those who have one of its saved files open.
    files_open: RwLock<()>,
    notifier: OnceLock<Arc<ChangeNotifier>>,
}

/// What tells two looks at a download apart, without copying its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Differs where the state, the error or a name may differ, or the listing was read.
    pub changes: u64,
    pub counts: Counts,
    pub rate: u64,
}

/// The names of a [`Summary`]'s fields.
pub const SUMMARY_FIELDS: &[&str] = &[
    "download_id",
    "state",
    "name",
    "package_id",
    "link",
    "dst_folder",
    "created_at",
    "completed_at",
    "bytes_total",
    "bytes_done",
    "bytes_per_second",
    "eta_seconds",
    "bytes_free",
    "files_total",
    "files_complete",
    "files_skipped",
    "files_failed",
    "error",
    "priority",
    "selection",
    "create_package_folder",
    "uid",
    "gid",
    "bypass_package_quarantine",
    "chunk_size",
    "verify",
    "manifest",
    "windows_names",
    "manifest_file",
    "verification",
];

/// A download's summary, field for field as the API answers it.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    pub download_id: &'a str,
    pub state: State,
    pub name: Option<String>,
    pub package_id: Option<String>,
    pub link: &'a str,
    pub dst_folder: &'a str,
    pub created_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub bytes_total: Option<u64>,
    pub bytes_done: u64,
    pub bytes_per_second: u64,
    pub eta_seconds: Option<u64>,
    pub bytes_free: Option<u64>,
    pub files_total: Option<u64>,
    pub files_complete: u64,
    pub files_skipped: u64,
    pub files_failed: u64,
    pub error: Option<Problem>,
    pub priority: i32,
    pub selection: Option<SelectionSummary<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_package_folder: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_package_quarantine: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_names: Option<bool>,
    /// The name of the list of checksums in `dst_folder`, once it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

impl Download {
    pub fn new(
        id: String,
        key: u32,
        order: DownloadRequest,
        created_at: Timestamp,
        view: View,
    ) -> Download {
        Download {
            id,
            key,
            order,
            created_at,
            view: RwLock::new(view),
            content: RwLock::new(Content::Unlisted),
            rate: AtomicU64::new(0),
            bytes_free: AtomicU64::new(UNKNOWN),
            changes: AtomicU64::new(0),
            verification: RwLock::new(None),
            manifest_file: RwLock::new(None),
            gone: AtomicBool::new(false),
            files_open: RwLock::new(()),
            notifier: OnceLock::new(),
        }
    }

    /// What reading its files back has found so far. None: that was never asked for.
    pub fn verification(&self) -> Option<Verification> {
        locks::read(&self.verification).clone()
    }

    /// Shows this of the verification from now on.
    pub fn set_verification(&self, found: Option<Verification>) {
        *locks::write(&self.verification) = found;
        self.changed();
    }

    /// Whether it is being removed.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Leave to open its saved files, until what is returned is dropped. None: it is being removed.
    pub fn open_files(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let held = locks::read(&self.files_open);
        (!self.is_gone()).then_some(held)
    }

    /// It is being removed; on return nobody has a saved file of it open, whose space would not
    /// become free.
    pub fn let_go(&self) {
        self.gone.store(true, Ordering::Release);
        drop(locks::write(&self.files_open));
    }

    /// The list of checksums that was written.
    pub fn manifest_file(&self) -> Option<ManifestFile> {
        locks::read(&self.manifest_file).clone()
    }

    /// This list of checksums was written.
    pub fn set_manifest_file(&self, written: Option<ManifestFile>) {
        *locks::write(&self.manifest_file) = written;
        self.changed();
    }

    /// Whether its files are being read back.
    pub fn is_being_verified(&self) -> bool {
        let current = locks::read(&self.verification);
        current.as_ref().is_some_and(Verification::is_running)
    }

    /// Begins one, unless one is under way.
    pub fn begin_verification(&self, begun: Verification) -> bool {
        let mut current = locks::write(&self.verification);
        if current.as_ref().is_some_and(Verification::is_under_way) {
            return false;
        }
        *current = Some(begun);
        drop(current);
        self.changed();
        true
    }

    /// Lets the verification that is in the state `from` be in another. False: none is.
    pub fn turn_verification(&self, from: Progress, to: Progress) -> bool {
        let mut current = locks::write(&self.verification);
        match current.as_mut().filter(|current| current.state == from) {
            Some(current) => current.state = to,
            None => return false,
        }
        drop(current);
        self.changed();
        true
    }

    /// Shows how far a verification is; whether it runs or is paused stays what it is.
    pub fn show_verification(&self, mut so_far: Verification) {
        let mut current = locks::write(&self.verification);
        if let Some(current) = current.as_mut().filter(|current| current.is_same(&so_far)) {
            so_far.state = current.state;
            *current = so_far;
        }
        drop(current);
        self.changed();
    }

    /// From now on `notifier` is told of every change. The first call counts.
    pub fn notify_through(&self, notifier: &Arc<ChangeNotifier>) {
        self.notifier.get_or_init(|| notifier.clone());
    }

    /// Notifies the listeners that something in the summary has changed.
    pub fn touch(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.notify();
        }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.touch();
    }

    /// The download's fingerprint as of now.
    pub fn fingerprint(&self) -> Fingerprint {
        // Read first: what changes while the rest is read makes the next fingerprint another one.
        let changes = self.changes.load(Ordering::Acquire);
        let moving = self.state() == State::Transferring;
        Fingerprint {
            changes,
            counts: self.counts().unwrap_or_default(),
            rate: if moving {
                self.rate.load(Ordering::Relaxed)
            } else {
                0
            },
        }
    }

    /// A copy of what changes as a whole.
    pub fn view(&self) -> View {
        locks::read(&self.view).clone()
    }

    pub fn state(&self) -> State {
        locks::read(&self.view).state
    }

    /// From -1000 to 1000; workers go to the highest first.
    pub fn priority(&self) -> i32 {
        locks::read(&self.view).priority
    }

    /// Changes the view; the controller's privilege.
    pub fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut locks::write(&self.view));
        self.changed();
    }

    fn content(&self) -> RwLockReadGuard<'_, Content> {
        locks::read(&self.content)
    }

    /// The package's files, once the listing has been read and until the download is complete.
    pub fn table(&self) -> Option<Arc<FileTable>> {
        match &*self.content() {
            Content::Open(table) => Some(table.clone()),
            Content::Unlisted | Content::Resting(..) => None,
        }
    }

    /// Publishes the package's files.
    pub fn set_table(&self, table: Arc<FileTable>) {
        *locks::write(&self.content) = Content::Open(table);
        self.changed();
    }

    /// Lets go of the files of a complete download: `counts` are shown from here on, and `files`
    /// says what has become of them since they were listed.
    pub fn rest(&self, counts: Counts, files: Changed) {
        *locks::write(&self.content) = Content::Resting(counts, Arc::new(files));
    }

    /// What has become of the files of a complete download since they were listed.
    pub fn resting(&self) -> Option<Arc<Changed>> {
        match &*self.content() {
            Content::Resting(_, files) => Some(files.clone()),
            Content::Unlisted | Content::Open(_) => None,
        }
    }

    /// The sums over the package's files, once they are listed.
    pub fn counts(&self) -> Option<Counts> {
        match &*self.content() {
            Content::Unlisted => None,
            Content::Open(table) => Some(table.counts()),
            Content::Resting(counts, _) => Some(*counts),
        }
    }

    /// What is free at the destination, as it was last looked at.
    pub fn set_bytes_free(&self, bytes: Option<u64>) {
        self.bytes_free
            .store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    fn bytes_free(&self) -> Option<u64> {
        let bytes = self.bytes_free.load(Ordering::Relaxed);
        (bytes != UNKNOWN).then_some(bytes)
    }

    /// Returns the rate until now.
    pub fn set_rate(&self, bytes_per_second: u64) -> u64 {
        self.rate.swap(bytes_per_second, Ordering::Relaxed)
    }

    /// The summary as of now.
    pub fn summary(&self) -> Summary<'_> {
        let view = self.view();
        let counts = self.counts();
        let listed = counts.is_some();
        let counts = counts.unwrap_or_default();
        let moving = view.state == State::Transferring;
        let rate = if moving {
            self.rate.load(Ordering::Relaxed)
        } else {
            0
        };
        let left = counts.bytes_total.saturating_sub(counts.bytes_done);
        let options = &self.order.options;
        Summary {
            download_id: &self.id,
            state: view.state,
            name: view.name,
            package_id: view.package_id,
            link: &self.order.link.public,
            dst_folder: &self.order.dst_folder,
            created_at: self.created_at,
            completed_at: view.completed_at,
            bytes_total: listed.then_some(counts.bytes_total),
            bytes_done: counts.bytes_done,
            bytes_per_second: rate,
            eta_seconds: (listed && rate > 0).then(|| left.div_ceil(rate)),
            bytes_free: self.bytes_free(),
            files_total: listed.then_some(counts.files_total),
            files_complete: counts.files_complete,
            files_skipped: counts.files_skipped,
            files_failed: counts.files_failed,
            error: view.problem,
            priority: view.priority,
            selection: (!options.selection.is_all()).then(|| (&options.selection).into()),
            create_package_folder: options.create_package_folder,
            uid: options.uid,
            gid: options.gid,
            bypass_package_quarantine: options.bypass_package_quarantine,
            chunk_size: options.chunk_size,
            verify: options.verify,
            manifest: options.manifest,
            windows_names: options.windows_names,
            manifest_file: self.manifest_file().map(|written| written.name),
            verification: self.verification(),
        }
    }
}

#[cfg(test)]
impl Download {
    /// One that transfers, for tests to which it does not matter what.
    pub fn sample() -> Download {
        use crate::base::secret::Secret;
        use crate::model::link::Link;
        use crate::model::request::IfExists;

        let link = Link {
            public: "http://localhost:1/A".into(),
            api: "http://localhost:1".into(),
            id: "A".into(),
            secret: Secret::new("s"),
        };
        let order = DownloadRequest {
            link,
            password: None,
            dst_folder: "/nowhere".into(),
            if_exists: IfExists::Rename,
            options: Default::default(),
            location: None,
        };
        let view = View {
            state: State::Transferring,
            name: None,
            package_id: None,
            completed_at: None,
            problem: None,
            priority: 0,
        };
        Download::new("D".into(), 1, order, Timestamp(0), view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_summarys_fields_are_all_there() {
        let mut download = Download::sample();
        // What is shown only where it was said.
        download.order.options = crate::model::request::RequestOptions {
            create_package_folder: Some(true),
            uid: Some(1),
            gid: Some(1),
            bypass_package_quarantine: Some(true),
            chunk_size: Some(1),
            verify: Some(true),
            manifest: Some(Manifest::Sha256),
            windows_names: Some(true),
            ..Default::default()
        };
        download.set_manifest_file(Some(ManifestFile {
            name: "SHA256SUMS".into(),
            size: 1,
        }));
        download.set_verification(Some(Verification::new(Timestamp(0), 1, 1)));
        let summary = serde_json::to_value(download.summary()).unwrap();
        let names = summary.as_object().unwrap().keys();
        let mut known = SUMMARY_FIELDS.to_vec();
        known.sort_unstable();
        assert!(names.eq(known));
    }
}
