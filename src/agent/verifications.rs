//! Begins, pauses and resumes the verification of downloads: as they are asked for, and by the days
//! that the settings name.

use std::sync::Arc;

use crate::agent::Refusal;
use crate::base::clock::{self, Timestamp};
use crate::base::thread_pool::ThreadPool;
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::settings::Days;
use crate::model::state::State;
use crate::model::verification::{Progress, Verification};
use crate::store::Store;
use crate::store::saved::{Change, Saved};
use crate::transfer::rate_limiter::RateLimiter;

/// What is to be read back, and how fast.
pub struct Verifications {
    pub store: Arc<Store<Saved>>,
    pub board: Arc<Board>,
    pub limit: Arc<RateLimiter>,
    /// Reads one download after the other.
    pub pool: ThreadPool<Arc<Download>>,
}

impl Verifications {
    /// Goes on with those that were under way when the agent stopped.
    pub fn go_on(&self) {
        let all = self.board.all();
        let running = all.iter().filter(|download| download.is_being_verified());
        running.for_each(|download| self.pool.send(download.clone()));
    }

    /// Begins to read a complete download back. One that is under way stays so, and goes on where
    /// it was paused.
    ///
    /// # Errors
    /// `InvalidTransition` from any other state, `StateUnwritable`.
    pub fn begin(&self, download: &Arc<Download>) -> Result<(), Refusal> {
        let state = download.state();
        if state != State::Complete {
            let action = "verified";
            return Err(Refusal::InvalidTransition { state, action });
        }
        if self.resume(download)? {
            return Ok(());
        }
        let counts = download.counts().unwrap_or_default();
        let begun = Verification::new(clock::now(), counts.files_complete, counts.bytes_done);
        let before = download.verification();
        if !download.begin_verification(begun.clone()) {
            return Ok(());
        }
        let change = Change::Verification(download.key, Box::new(begun));
        self.store.commit(&[change]).map_err(|error| {
            download.set_verification(before);
            Refusal::StateUnwritable(error.to_string())
        })?;
        self.pool.send(download.clone());
        Ok(())
    }

    /// Pauses the one that is running. False: none is.
    ///
    /// # Errors
    /// `StateUnwritable`.
    pub fn pause(&self, download: &Arc<Download>) -> Result<bool, Refusal> {
        if !download.turn_verification(Progress::Running, Progress::Paused) {
            return Ok(false);
        }
        self.save(download, true).inspect_err(|_| {
            download.turn_verification(Progress::Paused, Progress::Running);
            self.pool.send(download.clone());
        })?;
        Ok(true)
    }

    /// Lets the one go on that is paused. False: none is.
    ///
    /// # Errors
    /// `StateUnwritable`.
    pub fn resume(&self, download: &Arc<Download>) -> Result<bool, Refusal> {
        if !download.turn_verification(Progress::Paused, Progress::Running) {
            return Ok(false);
        }
        self.save(download, false).inspect_err(|_| {
            download.turn_verification(Progress::Running, Progress::Paused);
        })?;
        self.pool.send(download.clone());
        Ok(true)
    }

    fn save(&self, download: &Download, paused: bool) -> Result<(), Refusal> {
        let change = Change::VerificationPaused(download.key, paused);
        let saved = self.store.commit(&[change]);
        saved.map_err(|error| Refusal::StateUnwritable(error.to_string()))
    }

    /// Begins those of which so many days have passed since they were complete, or were verified.
    /// Returns when the next one is due among those that are complete now.
    pub fn begin_due(&self, now: Timestamp, every: Days) -> Option<Timestamp> {
        let every = every.duration();
        let mut next: Option<Timestamp> = None;
        for download in self.board.all().iter() {
            let Some(due) = last_known_good(download).map(|at| at.after(every)) else {
                continue;
            };
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            match self.begin(download) {
                Ok(()) => log::info!("download {}: verified, as it is due", download.id),
                Err(refusal) => {
                    log::warn!(
                        "download {}: not verified though due: {refusal:?}",
                        download.id
                    );
                }
            }
        }
        next
    }
}

/// When the files of a complete download were last known to be whole. None while it is being
/// verified.
fn last_known_good(download: &Download) -> Option<Timestamp> {
    let view = download.view();
    let completed = view
        .completed_at
        .filter(|_| view.state == State::Complete)?;
    match download.verification() {
        Some(last) if last.is_under_way() => None,
        Some(last) => Some(
            last.ended_at
                .map_or(completed, |ended| ended.max(completed)),
        ),
        None => Some(completed),
    }
}
