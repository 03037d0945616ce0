//! Reads the files of a complete download back from the disk, and compares them with what was
//! saved.
//!
//! What is not as it was saved counts as not downloaded from then on: the download is in error, and
//! a resume fetches these files again and puts them in the place of what is there.

mod look;
mod reading;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Sender, bounded};

use crate::agent::restore;
use crate::agent::syncer::Loss;
use crate::base::clock;
use crate::base::keyed_locks::KeyedLocks;
use crate::base::locks;
use crate::base::thread_pool::{Handler, ThreadPool};
use crate::model::download::Download;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::model::state::State;
use crate::model::verification::{Progress, Verification};
use crate::store::Store;
use crate::store::saved::{Change, Saved};
use crate::transfer::rate_limiter::RateLimiter;

use reading::Reading;

/// So many downloads are verified at the same time, each on another disk: one of these may hang.
const MOST_AT_ONCE: usize = 8;

/// What verifying needs.
pub struct Verifier {
    pub store: Arc<Store<Saved>>,
    pub losses: Sender<Loss>,
    /// On all that is read.
    pub limit: Arc<RateLimiter>,
    /// Set when the agent stops. What was begun goes on at the next start.
    pub stopping: Arc<AtomicBool>,
    /// Leave to read a disk, by its device number: several readings of one at once only get in each
    /// other's way.
    pub disks: KeyedLocks<String>,
}

/// Verifies downloads, one after the other on each disk, on threads that are there while there is
/// something to do.
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
    ThreadPool::new("verifier", MOST_AT_ONCE, make_handler, || ())
}

impl Verifier {
    fn verify(&self, download: &Arc<Download>) {
        let Some(begun) = download.verification().filter(Verification::is_running) else {
            // It was paused, or another task for it has ended it.
            return;
        };
        if download.state() != State::Complete {
            return download.set_verification(None);
        }
        let Some(table) = restore::files(download, &self.store) else {
            let id = &download.id;
            log::error!("download {id}: not verified: its list of files cannot be read");
            return download.set_verification(None);
        };
        let disk = self.disks.of(download.order.location().device.clone());
        let _one_at_a_time = locks::lock(&disk);
        let reading = Reading::go_on(self, download, &table, &begun);
        // On threads of its own: others' short work is not to wait behind terabytes.
        match rayon::ThreadPoolBuilder::new().build() {
            Ok(threads) => drop(threads.broadcast(|_| reading.read())),
            Err(_) => reading.read(),
        }
        if let Some((found, bad)) = reading.end() {
            // Before the end is told: who hears of it finds the download as it is then.
            self.take_back(download, &bad);
            self.end(download, found);
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
        let (shown_out, shown) = bounded(0);
        let loss = Loss::Damaged(key, problem, Box::new(recalled), shown_out);
        let _ = self.losses.send(loss);
        // It only ends: nothing is sent.
        let _ = shown.recv();
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
