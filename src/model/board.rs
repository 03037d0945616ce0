//! The board: every download as its readers see it.
//!
//! The controller is the only writer of a download's state; HTTP threads read it here without
//! asking the controller, so that a long answer never holds up a transfer and a busy
//! controller never holds up an answer.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use crate::base::change_notifier::ChangeNotifier;
use crate::base::clock::Timestamp;
use crate::dest::Owner;
use crate::model::link::Link;
use crate::model::selection::{Selection, SelectionSummary};
use crate::model::table::{Counts, FileTable};
use crate::store::saved::SavedFiles;

/// Where a download stands. There is no idle state: a download transfers from the moment of its POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Transferring,
    Paused,
    Complete,
    Error,
}

impl State {
    /// Every state, in the order in which the API page lists them.
    pub const ALL: [State; 4] = [
        State::Transferring,
        State::Paused,
        State::Complete,
        State::Error,
    ];

    /// The state's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            State::Transferring => "transferring",
            State::Paused => "paused",
            State::Complete => "complete",
            State::Error => "error",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What to do with a final name that is taken by a file that this download did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Save as `name (1).ext`.
    #[default]
    Rename,
    /// Replace the file that is there.
    Overwrite,
    /// Leave the file that is there, and do not download this one.
    Skip,
}

/// What went wrong with a download or one of its files; the names of the API page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    LinkNotFound,
    LinkExpired,
    LinkPasswordRequired,
    LinkPasswordWrong,
    InsufficientStorage,
    DestinationUnwritable,
    FileFailed,
    UpstreamUnavailable,
    ProtocolError,
    /// A flagged file was skipped.
    VirusDetected,
    /// A package with a flagged file, which is not to be downloaded then.
    PackageQuarantined,
    /// The selection chooses no file.
    NothingSelected,
    /// The listing lacks a file that was chosen by its identifier.
    FileNotFound,
    /// A fault in haul itself.
    InternalError,
}

/// Why a download is in `error`, or why a `transferring` one is not moving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    pub message: String,
    /// Whether `resume` can help.
    pub recoverable: bool,
    /// When the next attempt is made, while a transient fault is being retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// Why one file failed or was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    pub code: Code,
    pub message: String,
}

/// A string that must never be shown: a link's secret, a password, a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What was asked for at POST.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub link: Link,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Absolute, as the caller gave it.
    pub dst_folder: String,
    #[serde(default)]
    pub if_exists: IfExists,
    #[serde(default)]
    pub options: OrderOptions,
}

/// What else can be asked for at POST. None is what was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderOptions {
    #[serde(skip_serializing_if = "Selection::is_all")]
    pub selection: Selection,
    /// From -1000 to 1000; workers go to the highest first. As it was at POST or, in what is saved, as it is now.
    pub priority: i32,
    /// Whether files go into a folder named after the package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_package_folder: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Whether a package with a flagged file is downloaded without that file; true where it was not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_package_quarantine: Option<bool>,
    /// The size of a large file's ranges, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
}

impl OrderOptions {
    /// Whom what the download makes is given to.
    pub fn owner(&self) -> Owner {
        Owner {
            uid: self.uid,
            gid: self.gid,
        }
    }
}

impl Order {
    /// Whether both bring the same files of the same link into the same folder; one of them at a time may be on its way.
    pub fn same_target(&self, other: &Order) -> bool {
        (&self.link.api, &self.link.id) == (&other.link.api, &other.link.id)
            && self.dst_folder == other.dst_folder
            && self.options.selection == other.options.selection
    }

    /// Whether one's destination is the other's or lies in it, by their text: only then can both have the same file.
    pub fn overlaps(&self, other: &Order) -> bool {
        let (one, other) = (Path::new(&self.dst_folder), Path::new(&other.dst_folder));
        one.starts_with(other) || other.starts_with(one)
    }
}

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
    Resting(Counts, Arc<SavedFiles>),
}

/// One download, shared by everyone who reads it.
pub struct Download {
    pub id: String,
    /// A small number that stands for the download in the journal; never used twice in one state directory.
    pub key: u32,
    pub order: Order,
    pub created_at: Timestamp,
    view: RwLock<View>,
    content: RwLock<Content>,
    /// Bytes per second over the last few seconds.
    rate: AtomicU64,
    /// How often the view was changed or the table published.
    changes: AtomicU64,
    /// The board's, once it is on one.
    notifier: OnceLock<Arc<ChangeNotifier>>,
}

/// What tells two looks at a download apart, without copying its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    /// Differs where the state, the error or a name may differ, or the listing was read.
    pub changes: u64,
    pub counts: Counts,
    pub rate: u64,
}

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
}

impl Download {
    pub fn new(id: String, key: u32, order: Order, created_at: Timestamp, view: View) -> Download {
        Download {
            id,
            key,
            order,
            created_at,
            view: RwLock::new(view),
            content: RwLock::new(Content::Unlisted),
            rate: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            notifier: OnceLock::new(),
        }
    }

    /// Something that the summary shows has changed; whoever listens looks at it.
    pub fn touch(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.notify();
        }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.touch();
    }

    /// The download's print as of now.
    pub fn print(&self) -> Print {
        // Read first: what changes while the rest is read makes the next print another one.
        let changes = self.changes.load(Ordering::Acquire);
        let moving = self.state() == State::Transferring;
        Print {
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
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn state(&self) -> State {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .state
    }

    /// From -1000 to 1000; workers go to the highest first.
    pub fn priority(&self) -> i32 {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .priority
    }

    /// Changes the view; the controller's privilege.
    pub fn update(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
        self.changed();
    }

    fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
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
        *self.content.write().unwrap_or_else(PoisonError::into_inner) = Content::Open(table);
        self.changed();
    }

    /// Lets go of the files of a complete download: `counts` are shown from here on, and `files` says what has
    /// become of them since they were listed.
    pub fn rest(&self, counts: Counts, files: SavedFiles) {
        *self.content.write().unwrap_or_else(PoisonError::into_inner) =
            Content::Resting(counts, Arc::new(files));
    }

    /// What has become of the files of a complete download since they were listed.
    pub fn resting(&self) -> Option<Arc<SavedFiles>> {
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
        }
    }
}

#[cfg(test)]
impl Download {
    /// One that transfers, for tests to which it does not matter what.
    pub fn sample() -> Download {
        let link = Link {
            public: "http://localhost:1/A".into(),
            api: "http://localhost:1".into(),
            id: "A".into(),
            secret: Secret::new("s"),
        };
        let order = Order {
            link,
            password: None,
            dst_folder: "/nowhere".into(),
            if_exists: IfExists::Rename,
            options: Default::default(),
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

/// All downloads, oldest first; replaced as a whole when one comes or goes.
#[derive(Default)]
pub struct Board {
    downloads: RwLock<Arc<Vec<Arc<Download>>>>,
    notifier: Arc<ChangeNotifier>,
}

impl Board {
    pub fn all(&self) -> Arc<Vec<Arc<Download>>> {
        self.downloads
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Beats when a download comes, changes or goes.
    pub fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    pub fn find(&self, id: &str) -> Option<Arc<Download>> {
        // Identifiers grow with time, and so does the list: it is sorted by both.
        let all = self.all();
        let at = all
            .binary_search_by(|download| download.id.as_str().cmp(id))
            .ok()?;
        Some(all[at].clone())
    }

    /// Replaces the list; the controller's privilege. `downloads` are sorted by identifier.
    pub fn publish(&self, downloads: Vec<Arc<Download>>) {
        debug_assert!(downloads.is_sorted_by(|a, b| a.id < b.id));
        for download in &downloads {
            download.notifier.get_or_init(|| self.notifier.clone());
        }
        *self
            .downloads
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(downloads);
        self.notifier.notify();
    }
}
