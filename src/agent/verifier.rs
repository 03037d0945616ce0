//! Reads the files of a complete download back from the disk, and compares them with what was
//! saved.
//!
//! What is not as it was saved counts as not downloaded from then on: the download is in error, and
//! a resume fetches these files again and puts them in the place of what is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rayon::prelude::*;

use crate::agent::restore;
use crate::agent::syncer::Loss;
use crate::base::clock;
use crate::base::locks;
use crate::base::system_words::words;
use crate::base::thread_pool::{Handler, ThreadPool};
use crate::dest::{self, DestError, Root};
use crate::model::download::Download;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};
use crate::model::verification::{BadFile, Damage, Progress, Verification};
use crate::store::Store;
use crate::store::saved::{Change, Saved};
use crate::transfer::seals::{Seal, Seals};
use crate::transfer::{ReadBack, hash_of};

/// How often progress is shown, at most.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What verifying needs.
pub struct Verifier {
    pub store: Arc<Store<Saved>>,
    pub losses: Sender<Loss>,
    /// Set when the agent stops. What was begun begins anew at the next start.
    pub stopping: Arc<AtomicBool>,
}

/// Verifies one download after the other, on a thread that is there while there is something to
/// do.
pub fn pool(verifier: Verifier) -> ThreadPool<Arc<Download>> {
    let verifier = Arc::new(verifier);
    let make_handler = move || {
        let verifier = verifier.clone();
        let handler: Handler<Arc<Download>> = Box::new(move |download| {
            let verified = catch_unwind(AssertUnwindSafe(|| verifier.verify(&download)));
            if verified.is_err() {
                let id = &download.id;
                log::error!("download {id}: haul itself failed while verifying; please report it");
                download.set_verification(None);
            }
        });
        handler
    };
    ThreadPool::new("verifier", 1, make_handler, || ())
}

/// What became of one file.
enum Found {
    AsSaved,
    /// Nothing was known of it; now its seal is.
    Recorded(Seal),
    Bad(Damage, String),
}

impl Verifier {
    fn verify(&self, download: &Arc<Download>) {
        let begun = download.verification();
        let (Some(mut begun), State::Complete) = (begun, download.state()) else {
            // It was taken back meanwhile.
            return download.set_verification(None);
        };
        let Some(table) = restore::files(download, &self.store) else {
            return self.end(download, begun);
        };
        let counts = table.counts();
        begun = Verification::new(begun.started_at, counts.files_complete, counts.bytes_done);
        download.set_verification(Some(begun.clone()));
        let root = self.open(download);
        let seals = Seals::open(&self.store, &download.id);
        let so_far = Mutex::new((begun, Vec::new(), Instant::now()));
        let is_complete = |&file: &u32| table.state(file) == FileState::Complete;
        let each = |file: u32| {
            let stops = || self.stopping.load(Ordering::Relaxed) || download.is_gone();
            let Some(_open) = download.open_files().filter(|_| !stops()) else {
                return;
            };
            let found = match (&root, &seals) {
                (Ok(root), Ok(seals)) => {
                    Verifier::look(root, &table, file, &seals.get(file), stops)
                }
                (Ok(root), Err(_)) => Verifier::look(root, &table, file, &Seal::default(), stops),
                (Err(error), _) => Found::Bad(Damage::Unreadable, error.to_string()),
            };
            let mut so_far = locks::lock(&so_far);
            let (progress, bad, shown) = &mut *so_far;
            progress.files_done += 1;
            progress.bytes_done += table.size(file);
            match found {
                Found::AsSaved => {}
                Found::Recorded(seal) => {
                    progress.files_recorded += 1;
                    if let Ok(seals) = &seals
                        && let Err(error) = seals.put(&[(file, seal)])
                    {
                        let id = &download.id;
                        log::warn!("download {id}: a checksum is not kept: {}", words(&error));
                    }
                }
                Found::Bad(damage, reason) => {
                    let path = table.path(file);
                    log::warn!("download {}: {path}: {reason}", download.id);
                    if root.is_ok() {
                        bad.push((file, reason.clone()));
                    }
                    let named = BadFile {
                        path,
                        damage,
                        reason,
                    };
                    progress.note_bad(named);
                }
            }
            if shown.elapsed() >= SHOW_EVERY {
                *shown = Instant::now();
                download.set_verification(Some(progress.clone()));
            }
        };
        // On threads of its own: others' short work is not to wait behind terabytes.
        match rayon::ThreadPoolBuilder::new().build() {
            Ok(threads) => threads.install(|| {
                let files = (0..table.len()).into_par_iter();
                files.filter(is_complete).for_each(each);
            }),
            Err(_) => (0..table.len()).filter(is_complete).for_each(each),
        }
        if self.stopping.load(Ordering::Relaxed) || download.is_gone() {
            return;
        }
        let (progress, bad, _) = so_far.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Before the end is told: who hears of it finds the download as it is then.
        self.take_back(download, &bad);
        self.end(download, progress);
    }

    /// The destination, if it is the folder that the download went into: where its disk is not
    /// mounted, nothing is known of the files.
    fn open(&self, download: &Download) -> Result<Root, DestError> {
        let saved = self.store.current().downloads.remove(&download.key);
        let path = Path::new(&download.order.dst_folder);
        match saved {
            Some(saved) => Root::open(path, &saved.identity),
            None => Root::existing(path),
        }
    }

    fn look(
        root: &Root,
        table: &FileTable,
        file: u32,
        seal: &Seal,
        stops: impl Fn() -> bool,
    ) -> Found {
        let names = table.names(file);
        let folder = match root.folder(&table.dir_components(table.dir_of(file)), false) {
            Ok(folder) => folder,
            Err(error) if error.is_missing() => return missing(),
            Err(error) => return Found::Bad(Damage::Unreadable, error.to_string()),
        };
        let opened = match folder.open_saved(&names.last) {
            Ok(Some(opened)) => opened,
            Ok(None) => return missing(),
            Err(error) => return Found::Bad(Damage::Unreadable, error.to_string()),
        };
        let size = table.size(file);
        let length = opened.metadata().map_or(0, |data| data.len());
        if length != size {
            let reason = format!("it has {length} bytes and had {size}");
            return Found::Bad(Damage::Changed, reason);
        }
        dest::forget_cached(&opened);
        match (hash_of(&opened, size, stops), seal.hash) {
            (Ok(found), Some(known)) if found == known => Found::AsSaved,
            (Ok(_), Some(_)) => {
                let reason = "its content is not what was saved".into();
                Found::Bad(Damage::Changed, reason)
            }
            (Ok(found), None) => Found::Recorded(Seal {
                hash: Some(found),
                ..*seal
            }),
            (Err(ReadBack::Halted), _) => Found::AsSaved,
            (Err(ReadBack::Failed(error)), _) => {
                let reason = format!("it cannot be read: {}", words(&error));
                Found::Bad(Damage::Unreadable, reason)
            }
        }
    }

    /// Lets these files count as not downloaded.
    fn take_back(&self, download: &Download, bad: &[(u32, String)]) {
        if bad.is_empty() || download.state() != State::Complete {
            return;
        }
        let key = download.key;
        let files = match bad.len() {
            1 => "1 file is".to_owned(),
            count => format!("{count} files are"),
        };
        let problem = Problem {
            code: Code::ChecksumMismatch,
            message: format!(
                "{files} not as saved: each file says why; a resume fetches them again and \
                 replaces what is there"
            ),
            recoverable: true,
            retry_at: None,
        };
        let failed = |(file, reason): &(u32, String)| {
            let why = FileProblem {
                code: Code::ChecksumMismatch,
                message: reason.clone(),
            };
            [
                Change::Damaged(key, *file),
                Change::Failed(key, *file, Box::new(why)),
            ]
        };
        let mut changes: Vec<Change> = bad.iter().flat_map(failed).collect();
        let state = Change::State(key, State::Error, Some(Box::new(problem.clone())));
        changes.push(state);
        if let Err(error) = self.store.commit(&changes) {
            log::error!(
                "download {}: what was found is not saved: {error}",
                download.id
            );
            return;
        }
        let Some(recalled) = restore::recall(key, &self.store) else {
            return;
        };
        // The controller is gone only when the process ends.
        let loss = Loss::Damaged(key, problem, Box::new(recalled));
        let _ = self.losses.send(loss);
    }

    fn end(&self, download: &Download, mut found: Verification) {
        found.state = Progress::Done;
        found.ended_at = Some(clock::now());
        let change = Change::Verification(download.key, Box::new(found.clone()));
        if let Err(error) = self.store.commit(&[change]) {
            log::error!(
                "download {}: what was found is not saved: {error}",
                download.id
            );
        }
        log::info!(
            "download {}: verified {} files, {} of them not as saved",
            download.id,
            found.files_done,
            found.bad()
        );
        download.set_verification(Some(found));
    }
}

fn missing() -> Found {
    Found::Bad(Damage::Missing, "it is not there any more".into())
}
