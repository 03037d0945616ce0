//! Group commit: one sync of the data for all that was written in the last second or so, then one
//! mark in the journal. Data first, record second.
//!
//! A sync that fails is never made up for by a later one: the kernel tells each open descriptor of
//! lost data once, and takes the pages for clean from then on. What the download has written since
//! its last good sync is taken back instead, as if the power had gone, and the download fails.
//! Until it has come to rest more of that kind may be reported, which is taken back as well; then
//! the controller is told what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::agent::restore::{self, RestoredFiles};
use crate::base::exit_on_panic::exit_on_panic;
use crate::base::in_time::in_time;
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
    /// The sender is dropped once that shows.
    Damaged(u32, Problem, Box<RestoredFiles>, Sender<()>),
    /// What is left of it; None if the download is gone.
    Settled(u32, Option<Box<RestoredFiles>>),
}

/// Downloads whose loss was found and is not settled, by their keys.
pub type Lost = BTreeMap<u32, Problem>;

/// The disks under the destinations, behind a trait so that tests can let one fail.
pub trait Disks: Send + Sync {
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
    disks: Arc<dyn Disks>,
    requests: Receiver<SyncRequest>,
    losses: Sender<Loss>,
) -> std::io::Result<JoinHandle<Lost>> {
    let mut syncer = Syncer::new(store, disks, losses);
    thread::Builder::new()
        .name("syncer".into())
        .spawn(move || exit_on_panic(|| syncer.work(requests)))
}

struct Syncer {
    store: Arc<Store<Saved>>,
    disks: Arc<dyn Disks>,
    losses: Sender<Loss>,
    lost: Lost,
    /// Syncs for this thread, since one may take for ever. One that hangs is replaced.
    helper: Option<Helper>,
    /// Syncs that were begun and have not come back.
    hanging: Vec<Hanging>,
    /// Places on the disks of those, which are to be synced when they have.
    owed: Vec<(u32, Arc<Root>)>,
    /// Places that a killed process has written to, and that are not open yet.
    late: Vec<(u32, Receiver<Option<Root>>)>,
    /// What is not marked yet.
    unmarked: Option<Mark>,
    /// As [`SyncRequest::rested`].
    rested: BTreeSet<u32>,
}

/// A thread that syncs what it is given.
struct Helper {
    roots: Sender<Arc<Root>>,
    answers: Receiver<Result<(), DestError>>,
}

/// A sync that takes longer than [`PATIENCE`].
struct Hanging {
    key: u32,
    root: Arc<Root>,
    answer: Receiver<Result<(), DestError>>,
}

/// A disk that takes longer for a sync does not hold up the others'.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one that has not come back is looked at while nothing else is to be synced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Syncer {
    fn new(store: Arc<Store<Saved>>, disks: Arc<dyn Disks>, losses: Sender<Loss>) -> Syncer {
        Syncer {
            store,
            disks,
            losses,
            lost: Lost::new(),
            helper: None,
            hanging: Vec::new(),
            owed: Vec::new(),
            late: Vec::new(),
            unmarked: None,
            rested: BTreeSet::new(),
        }
    }

    fn work(&mut self, requests: Receiver<SyncRequest>) -> Lost {
        self.sync_left();
        loop {
            let request = match self.all_answer() {
                true => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => requests.recv_timeout(LOOK_AGAIN),
            };
            match request {
                Ok(request) => self.serve(request),
                Err(RecvTimeoutError::Timeout) => self.look_again(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
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
        let mut downloads = self.store.current().downloads;
        // All are open before the first one is synced: of an old loss the system tells those, and
        // nobody later.
        for key in left {
            if let Some(download) = downloads.remove(&key) {
                self.open(key, PathBuf::from(download.order.dst_folder));
            }
        }
        // Where one disk hangs this does; each is synced by itself below.
        let _ = in_time(PATIENCE, rustix::fs::sync);
        for (key, root) in std::mem::take(&mut self.owed) {
            self.sync(key, root);
        }
    }

    /// Opens a destination, if it answers; else it is looked for later.
    fn open(&mut self, key: u32, path: PathBuf) {
        let (opened_out, opened) = bounded(1);
        let started = thread::Builder::new()
            .name("sync".into())
            .stack_size(128 << 10)
            .spawn(move || drop(opened_out.send(Root::existing(&path).ok())));
        match started.map(|_| opened.recv_timeout(PATIENCE)) {
            Ok(Ok(Some(root))) => self.owed.push((key, Arc::new(root))),
            // It is not there now, as where its disk is not mounted.
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(_)) => self.late.push((key, opened)),
        }
    }

    /// Whether nothing is waited for.
    fn all_answer(&self) -> bool {
        self.hanging.is_empty() && self.late.is_empty()
    }

    /// Syncs the destinations, each for itself, then says so in the journal. What was lost is taken
    /// back before.
    fn serve(&mut self, request: SyncRequest) {
        for (key, root) in request.roots {
            let is_known = self.owed.iter().any(|(_, known)| Arc::ptr_eq(known, &root));
            if !is_known {
                self.owed.push((key, root));
            }
        }
        self.unmarked = Some(request.mark);
        self.rested.extend(request.rested);
        self.look_again();
    }

    /// Syncs what is owed on the disks that answer. Where all of them do, the journal is told.
    fn look_again(&mut self) {
        for hanging in std::mem::take(&mut self.hanging) {
            match hanging.answer.try_recv() {
                Ok(result) => self.synced(hanging.key, result),
                // Its thread panicked: nobody knows whether it was synced.
                Err(TryRecvError::Disconnected) => self.owed.push((hanging.key, hanging.root)),
                Err(TryRecvError::Empty) => self.hanging.push(hanging),
            }
        }
        for (key, opened) in std::mem::take(&mut self.late) {
            match opened.try_recv() {
                Ok(Some(root)) => self.owed.push((key, Arc::new(root))),
                Err(TryRecvError::Empty) => self.late.push((key, opened)),
                Ok(None) | Err(TryRecvError::Disconnected) => {}
            }
        }
        for (key, root) in std::mem::take(&mut self.owed) {
            let is_on =
                |hanging: &Hanging| hanging.root.identity().device() == root.identity().device();
            match self.hanging.iter().any(is_on) {
                true => self.owed.push((key, root)),
                false => self.sync(key, root),
            }
        }
        self.mark();
    }

    fn sync(&mut self, key: u32, root: Arc<Root>) {
        let helper = self.helper.take().map_or_else(|| self.hire(), Ok);
        // Where the system refuses a thread, this one has to do.
        let Ok(helper) = helper else {
            let result = self.disks.sync(&root);
            return self.synced(key, result);
        };
        let sent = helper.roots.send(root.clone());
        match sent.map(|()| helper.answers.recv_timeout(PATIENCE)) {
            Ok(Ok(result)) => {
                self.helper = Some(helper);
                self.synced(key, result);
            }
            _ => {
                let path = root.path().display();
                log::warn!("{path}: what was written is not synced yet: its disk does not answer");
                let answer = helper.answers;
                self.hanging.push(Hanging { key, root, answer });
            }
        }
    }

    fn hire(&self) -> std::io::Result<Helper> {
        let (roots_out, roots) = bounded::<Arc<Root>>(1);
        let (answers, answers_in) = bounded(1);
        let disks = self.disks.clone();
        thread::Builder::new()
            .name("sync".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let synced = |root: Arc<Root>| answers.send(disks.sync(&root)).is_ok();
                // It ends when nobody asks or listens any more.
                let _ = roots.into_iter().all(synced);
            })?;
        Ok(Helper {
            roots: roots_out,
            answers: answers_in,
        })
    }

    fn synced(&mut self, key: u32, result: Result<(), DestError>) {
        if let Err(error) = result {
            self.lose(key, &error);
        }
    }

    /// Takes back what was lost. Then, where every disk has answered, says in the journal that all
    /// is synced that was to be.
    fn mark(&mut self) {
        if let Err(error) = self.take_back() {
            // The mark would vouch for what is lost. The next request's says all that this one
            // does.
            log::error!("that data was lost could not be saved, which is tried again: {error}");
            return;
        }
        for key in std::mem::take(&mut self.rested) {
            self.settle(key);
        }
        if !self.all_answer() {
            return;
        }
        if let Some(Err(error)) = self.unmarked.take().map(|mark| self.store.synced(mark)) {
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
