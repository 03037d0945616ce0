//! Group commit: one sync of the data for all that was written in the last second or so, then one
//! mark in the journal. Data first, record second.
//!
//! A sync that fails is never made up for by a later one: the kernel tells each open descriptor of
//! lost data once, and takes the pages for clean from then on. What the download has written since
//! its last good sync is taken back instead, as if the power had gone, and the download fails.
//! Until it has come to rest more of that kind may be reported, which is taken back as well; then
//! the controller is told what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};

use crate::agent::restore::{self, RestoredFiles};
use crate::base::exit_on_panic::exit_on_panic;
use crate::dest::{DestError, Root};
use crate::model::download::Download;
use crate::model::problem::Problem;
use crate::model::state::State;
use crate::store::saved::{Change, Saved};
use crate::store::{Mark, Store, StoreError};

/// The data behind every change up to `mark` lies in these places, or was synced before.
pub struct SyncRequest {
    pub mark: Mark,
    /// Each with the key of the download that writes there.
    pub roots: Vec<(u32, Arc<Root>)>,
    /// Downloads of which a loss was found and that write nothing more. To be named until their
    /// loss is settled.
    pub rested: Vec<u32>,
}

/// What the controller is told of a download whose data could not be synced.
pub enum Loss {
    /// It is to stop, and to come to rest.
    Found(u32, Problem),
    /// Files of a complete download were found not to be as they were saved. That is saved, and
    /// this is what is left.
    Damaged(u32, Problem, Box<RestoredFiles>),
    /// What is left of it; None if the download is gone.
    Settled(u32, Option<Box<RestoredFiles>>),
}

/// Downloads whose loss was found and is not settled, by their keys.
pub type Lost = BTreeMap<u32, Problem>;

/// The disks under the destinations, behind a trait so that tests can let one fail.
pub trait Disks: Send {
    /// See [`Root::sync`].
    ///
    /// # Errors
    /// As there.
    fn sync(&self, root: &Root) -> Result<(), DestError>;
}

/// The operating system's.
pub struct SystemDisks;

impl Disks for SystemDisks {
    fn sync(&self, root: &Root) -> Result<(), DestError> {
        root.sync()
    }
}

/// Starts the thread that syncs. It ends when the channel of its requests is closed, and returns
/// what is not settled.
///
/// # Errors
/// The system refuses a thread.
pub fn start(
    store: Arc<Store<Saved>>,
    disks: Box<dyn Disks>,
    requests: Receiver<SyncRequest>,
    losses: Sender<Loss>,
) -> std::io::Result<JoinHandle<Lost>> {
    let mut syncer = Syncer {
        store,
        disks,
        losses,
        lost: Lost::new(),
    };
    thread::Builder::new()
        .name("syncer".into())
        .spawn(move || exit_on_panic(|| syncer.work(requests)))
}

struct Syncer {
    store: Arc<Store<Saved>>,
    disks: Box<dyn Disks>,
    losses: Sender<Loss>,
    lost: Lost,
}

impl Syncer {
    fn work(&mut self, requests: Receiver<SyncRequest>) -> Lost {
        self.sync_left();
        for request in requests {
            self.serve(&request);
            if let Err(error) = self.store.compact_if_needed() {
                log::error!("the state could not be written anew: {error}");
            }
        }
        if let Err(error) = self.take_back() {
            log::error!("that data was lost could not be saved: {error}");
        }
        std::mem::take(&mut self.lost)
    }

    /// Syncs what a killed process left. Its destinations may not be there now.
    fn sync_left(&mut self) {
        let left = self.store.unsynced();
        let left: BTreeSet<u32> = left.iter().filter_map(Change::data_of).collect();
        if left.is_empty() {
            return;
        }
        let downloads = self.store.current().downloads;
        let open = |key| {
            let dst_folder = &downloads.get(&key)?.order.dst_folder;
            Some((key, Root::existing(dst_folder.as_ref()).ok()?))
        };
        // All are open before the first one is synced: of an old loss the system tells those, and
        // nobody later.
        let roots: Vec<(u32, Root)> = left.into_iter().filter_map(open).collect();
        rustix::fs::sync();
        for (key, root) in &roots {
            if let Err(error) = self.disks.sync(root) {
                self.lose(*key, &error);
            }
        }
    }

    /// Syncs the destinations, each for itself, then says so in the journal. What was lost is taken
    /// back before.
    fn serve(&mut self, request: &SyncRequest) {
        for (key, root) in &request.roots {
            if let Err(error) = self.disks.sync(root) {
                self.lose(*key, &error);
            }
        }
        if let Err(error) = self.take_back() {
            // The mark would vouch for what is lost. The next request's says all that this one
            // does.
            log::error!("that data was lost could not be saved, which is tried again: {error}");
            return;
        }
        request.rested.iter().for_each(|key| self.settle(*key));
        if let Err(error) = self.store.synced(request.mark) {
            log::error!("that data was synced could not be saved: {error}");
        }
    }

    fn lose(&mut self, key: u32, error: &DestError) {
        log::error!("{error}; what was written there since it was last synced counts as lost");
        let problem = problem(error);
        // One that is stopping knows already.
        if self.lost.insert(key, problem.clone()).is_none() {
            // The controller is gone only when the process ends.
            let _ = self.losses.send(Loss::Found(key, problem));
        }
    }

    fn take_back(&self) -> Result<(), StoreError> {
        if self.lost.is_empty() {
            return Ok(());
        }
        take_back(&self.store, &self.lost)
    }

    /// Tells what is left of a download that writes nothing more. Where its list cannot be read
    /// that is tried again.
    fn settle(&mut self, key: u32) {
        if !self.lost.contains_key(&key) {
            return;
        }
        let recalled = restore::recall(key, &self.store).map(Box::new);
        if recalled
            .as_ref()
            .is_none_or(|recalled| recalled.table.is_ok())
        {
            self.lost.remove(&key);
            let _ = self.losses.send(Loss::Settled(key, recalled));
        }
    }
}

/// Lets nothing count of these downloads' data that is not known to be synced. On return that is on
/// disk.
fn take_back(store: &Store<Saved>, lost: &Lost) -> Result<(), StoreError> {
    let unsettled: Vec<Change> = lost.keys().copied().map(Change::Unsettled).collect();
    store.append(&unsettled)?;
    store.take_back(|change| change.data_of().is_some_and(|key| lost.contains_key(&key)))
}

fn problem(error: &DestError) -> Problem {
    Problem {
        code: error.code(),
        message: format!("{error}; a resume fetches again what may be lost"),
        recoverable: true,
        retry_at: None,
    }
}

/// Syncs a complete download, at a time when nobody writes and no syncer runs, and says so in the
/// journal.
///
/// # Errors
/// The disk does not hold it; see [`fail`].
pub fn sync_and_record(store: &Store<Saved>, download: &Download) -> Result<(), Problem> {
    let mark = store.mark();
    let root = Root::existing(download.order.dst_folder.as_ref());
    let synced = root.and_then(|root| root.sync());
    synced.map_err(|error| problem(&error))?;
    if let Err(error) = store.synced(mark) {
        log::warn!("{error}");
    }
    Ok(())
}

/// The data of a download that is not known to be synced is lost: what was complete is in error.
pub fn fail(store: &Store<Saved>, key: u32, problem: &Problem) {
    let state = Change::State(key, State::Error, Some(Box::new(problem.clone())));
    let lost = Lost::from([(key, problem.clone())]);
    let saved = store
        .append(&[state])
        .and_then(|()| take_back(store, &lost));
    if let Err(error) = saved {
        log::error!("that data was lost could not be saved: {error}");
    }
}

#[cfg(test)]
mod tests;
