//! What the agent remembers in its state directory, and the changes by which it gets there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::intervals::Intervals;
use crate::base::secret::Secret;
use crate::dest::Identity;
use crate::model::manifest::ManifestFile;
use crate::model::problem::{FileProblem, Problem};
use crate::model::request::DownloadRequest;
use crate::model::settings::SettingsOverrides;
use crate::model::state::State;
use crate::model::table::{Counts, Names};
use crate::model::verification::{Position, Progress, Verification};
use crate::store;

/// Everything that a start needs; the content of `downloads.json`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Saved {
    /// The next download's key. Keys are never used twice.
    pub next_key: u32,
    /// What was set through the API.
    #[serde(default)]
    pub settings: SettingsOverrides,
    pub downloads: BTreeMap<u32, SavedDownload>,
}

/// One download as it is remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedDownload {
    pub id: String,
    pub order: DownloadRequest,
    pub created_at: Timestamp,
    /// Which folder `dst_folder` was at POST.
    pub identity: Identity,
    /// `dst_folder` and those above it that POST had to make, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_id: Option<String>,
    /// The token that the package's server gave, for as long as it accepts it. Never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// The sums over the files of a complete download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Whether the file list lies beside, in a file of its own.
    #[serde(default)]
    pub listed: bool,
    /// Set once a DELETE was accepted; the value is `remove_files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<bool>,
    /// The list of checksums that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_file: Option<ManifestFile>,
    /// What reading its files back has found, or that it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Box<Verification>>,
    /// How far one is that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_to: Option<Box<Position>>,
    #[serde(default)]
    pub files: SavedFiles,
}

/// How far the files of a download are. Files are named by their index in the file table.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedFiles {
    /// Files from this index on have no `.part` of ours.
    pub begun: u32,
    /// Files that have one, or nearly.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub parts: BTreeSet<u32>,
    /// Files whose bytes are all in place: they have their final name, or get it at the next start.
    pub done: Intervals,
    /// The modification times of saved files where the listed ones are unknown.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mtimes: BTreeMap<u32, i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub partial: BTreeMap<u32, Partial>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<u32, Names>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<u32, FileProblem>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub skipped: BTreeSet<u32>,
    /// Files that were found to be damaged: what has their name is replaced.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub damaged: BTreeSet<u32>,
    /// The machine was started anew: a begun file may have its final name although its bytes are
    /// not all there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unsettled: bool,
}

/// The bytes of one unfinished file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    pub bytes: Intervals,
    /// The entity tag that the bytes belong to (RFC 9110, 8.8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

impl Partial {
    /// All `size` bytes of a file, with whatever entity tag.
    pub fn whole(size: u64) -> Partial {
        Partial {
            bytes: [(0, size)].into_iter().collect(),
            etag: None,
        }
    }
}

/// What a link's server calls a package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageName {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub package_id: String,
}

/// One change. All are kept in memory until they are synced, so the many are not to pay for the few
/// that are large: what is large is boxed. The first number is the download's key, the second a
/// file's index; the serialised names are short because there is one line of them for every
/// finished file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    #[serde(rename = "created")]
    Created(u32, Box<SavedDownload>),
    /// The link was read: name and package id.
    #[serde(rename = "named")]
    Named(u32, Box<PackageName>),
    /// The package's token from now on.
    #[serde(rename = "token")]
    Token(u32, Secret),
    /// The file list was written beside.
    #[serde(rename = "listed")]
    Listed(u32),
    #[serde(rename = "state")]
    State(u32, State, Option<Box<Problem>>),
    /// Many downloads get this state at once, all or none: one line of the journal.
    #[serde(rename = "states")]
    States(Vec<u32>, State),
    /// Every file is in place since then.
    #[serde(rename = "complete")]
    Complete(u32, Timestamp, Box<Counts>),
    /// It has this priority from now on.
    #[serde(rename = "priority")]
    Priority(u32, i32),
    /// Failed files are to be tried again.
    #[serde(rename = "again")]
    Again(u32),
    /// Files from this index on have no `.part`.
    #[serde(rename = "b")]
    Begun(u32, u32),
    /// A file's `.part` is made right after this.
    #[serde(rename = "p")]
    Part(u32, u32),
    /// Bytes `[start, end)` of a file were written.
    #[serde(rename = "w")]
    Wrote(u32, u32, u64, u64),
    /// The entity tag of a file's bytes.
    #[serde(rename = "e")]
    Etag(u32, u32, Box<str>),
    /// A file's bytes count no more.
    #[serde(rename = "o")]
    Reset(u32, u32),
    /// A file is whole.
    #[serde(rename = "d")]
    Done(u32, u32),
    /// A file is whole, and known again by this modification time.
    #[serde(rename = "m")]
    DoneAt(u32, u32, i64),
    #[serde(rename = "n")]
    Renamed(u32, u32, Box<Names>),
    #[serde(rename = "f")]
    Failed(u32, u32, Box<FileProblem>),
    #[serde(rename = "s")]
    Skipped(u32, u32),
    /// A file is not as it was saved: its bytes count no more, and what has its name is replaced.
    #[serde(rename = "x")]
    Damaged(u32, u32),
    /// The list of checksums was written.
    #[serde(rename = "manifest")]
    ManifestWritten(u32, Box<ManifestFile>),
    /// Reading the files back was begun, or has ended.
    #[serde(rename = "verification")]
    Verification(u32, Box<Verification>),
    /// It is so far now.
    #[serde(rename = "verified_to")]
    VerifiedTo(u32, Box<(Verification, Position)>),
    /// It is paused, or goes on.
    #[serde(rename = "verification_paused")]
    VerificationPaused(u32, bool),
    /// A DELETE was accepted for these; whether it removes files.
    #[serde(rename = "deleting")]
    Deleting(Vec<u32>, bool),
    #[serde(rename = "gone")]
    Gone(Vec<u32>),
    /// The first start in another boot.
    #[serde(rename = "rebooted")]
    Rebooted,
    /// The disk may hold less than was written: data could not be synced.
    #[serde(rename = "unsettled")]
    Unsettled(u32),
    /// What the disk holds was looked at since then.
    #[serde(rename = "settled")]
    Settled(u32),
    /// Everything that was ever set through the API.
    #[serde(rename = "settings")]
    Settings(Box<SettingsOverrides>),
}

impl Saved {
    fn files(&mut self, key: u32, change: impl FnOnce(&mut SavedFiles)) {
        self.with(key, |download| change(&mut download.files));
    }

    fn with(&mut self, key: u32, change: impl FnOnce(&mut SavedDownload)) {
        // A change may come after its download is gone: a worker's last line, a replayed one.
        if let Some(download) = self.downloads.get_mut(&key) {
            change(download);
        }
    }
}

impl store::State for Saved {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        match change {
            Change::Created(key, download) => {
                self.next_key = self.next_key.max(key.saturating_add(1));
                self.downloads.insert(key, *download);
            }
            Change::Named(key, package) => self.with(key, |download| {
                download.name = package.name;
                download.package_id = Some(package.package_id);
            }),
            Change::Token(key, token) => self.with(key, |download| download.token = Some(token)),
            Change::Listed(key) => self.with(key, |download| download.listed = true),
            Change::State(key, state, problem) => self.with(key, |download| {
                download.state = state;
                download.problem = problem.map(|problem| *problem);
                // Where it was complete, its data was lost since.
                download.completed_at = None;
                download.counts = None;
            }),
            Change::States(keys, state) => {
                for key in keys {
                    self.apply(Change::State(key, state, None));
                }
            }
            Change::Complete(key, at, counts) => self.with(key, |download| {
                download.state = State::Complete;
                download.counts = Some(*counts);
                download.completed_at = Some(at);
                download.problem = None;
            }),
            Change::Priority(key, priority) => {
                self.with(key, |download| download.order.options.priority = priority);
            }
            Change::Again(key) => self.files(key, |files| files.failed.clear()),
            Change::Begun(key, upto) => {
                self.files(key, |files| files.begun = files.begun.max(upto));
            }
            Change::Part(key, file) => self.files(key, |files| {
                if !files.done.contains(file.into()) {
                    files.parts.insert(file);
                }
            }),
            Change::Wrote(key, file, start, end) => self.files(key, |files| {
                if !files.done.contains(file.into()) {
                    files
                        .partial
                        .entry(file)
                        .or_default()
                        .bytes
                        .insert(start, end);
                }
            }),
            Change::Etag(key, file, etag) => self.files(key, |files| {
                if !files.done.contains(file.into()) {
                    files.partial.entry(file).or_default().etag = Some(etag.into());
                }
            }),
            Change::Reset(key, file) => self.files(key, |files| {
                files.partial.remove(&file);
                files.done.remove(file.into());
            }),
            Change::Damaged(key, file) => self.files(key, |files| {
                files.partial.remove(&file);
                files.done.remove(file.into());
                files.damaged.insert(file);
            }),
            Change::ManifestWritten(key, written) => {
                self.with(key, |download| download.manifest_file = Some(*written));
            }
            Change::Verification(key, found) => self.with(key, |download| {
                download.verification = Some(found);
                download.verified_to = None;
            }),
            Change::VerifiedTo(key, so_far) => self.with(key, |download| {
                let (mut found, position) = *so_far;
                // It may have been paused meanwhile, or have ended.
                if let Some(now) = &mut download.verification
                    && now.is_under_way()
                    && now.is_same(&found)
                {
                    found.state = now.state;
                    **now = found;
                    download.verified_to = Some(Box::new(position));
                }
            }),
            Change::VerificationPaused(key, paused) => self.with(key, |download| {
                if let Some(now) = &mut download.verification
                    && now.is_under_way()
                {
                    now.state = match paused {
                        true => Progress::Paused,
                        false => Progress::Running,
                    };
                }
            }),
            Change::Done(key, file) => self.files(key, |files| files.finish(file)),
            Change::DoneAt(key, file, mtime) => self.files(key, |files| {
                files.finish(file);
                files.mtimes.insert(file, mtime);
            }),
            Change::Renamed(key, file, names) => {
                self.files(key, |files| drop(files.renamed.insert(file, *names)));
            }
            Change::Failed(key, file, problem) => {
                self.files(key, |files| drop(files.failed.insert(file, *problem)));
            }
            Change::Skipped(key, file) => self.files(key, |files| {
                files.partial.remove(&file);
                files.parts.remove(&file);
                files.done.remove(file.into());
                files.skipped.insert(file);
            }),
            Change::Deleting(keys, remove_files) => {
                for key in keys {
                    self.with(key, |download| download.deleting = Some(remove_files));
                }
            }
            Change::Rebooted => {
                let downloads = self.downloads.values_mut();
                downloads.for_each(|download| download.files.unsettled = true);
            }
            Change::Unsettled(key) => self.files(key, |files| files.unsettled = true),
            Change::Settled(key) => self.files(key, |files| files.unsettled = false),
            Change::Gone(keys) => {
                for key in keys {
                    self.downloads.remove(&key);
                }
            }
            Change::Settings(said) => self.settings = *said,
        }
    }

    fn rebooted() -> Option<Change> {
        Some(Change::Rebooted)
    }

    fn is_data(change: &Change) -> bool {
        change.data_of().is_some()
    }
}

impl Change {
    /// The download whose file data this change vouches for, by its key, if there is one.
    pub fn data_of(&self) -> Option<u32> {
        match self {
            Change::Wrote(key, ..)
            | Change::Etag(key, ..)
            | Change::Done(key, _)
            | Change::DoneAt(key, ..)
            | Change::Complete(key, ..) => Some(*key),
            _ => None,
        }
    }
}

impl SavedFiles {
    fn finish(&mut self, file: u32) {
        self.partial.remove(&file);
        self.parts.remove(&file);
        self.failed.remove(&file);
        self.damaged.remove(&file);
        self.done.insert(file.into(), u64::from(file) + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_of_a_small_file_takes_little_memory_until_it_is_synced() {
        assert!(size_of::<Change>() <= 32, "{}", size_of::<Change>());
    }
}
