//! The controller: one thread that owns every record, and is the only one that changes their state.
//!
//! It never waits for the network or the disk. A change that a caller is told of is made in three
//! steps: the controller checks it, the caller's own thread commits it to the store, and the
//! controller carries it out.

mod active;
mod commands;
mod deleting;
mod dispatch;
mod fairness;
mod losses;
mod pace;
mod progress;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use crate::agent::cleaner::Cleaners;
use crate::agent::hooks::{self, Ended};
use crate::agent::messages::{Cleaned, Command, NewDownload, Prepared, Removal};
use crate::agent::restore;
use crate::agent::restore::Restored;
use crate::agent::syncer::{Loss, SyncRequest};
use crate::agent::throughput::Throughput;
use crate::agent::{Deleted, Refusal, Which};
use crate::base::clock;
use crate::dest::{Identity, Root};
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::outcome::Outcome;
use crate::model::part_files::Parts;
use crate::model::record::{Effect, Event, Now, Pick, Record};
use crate::model::request::DownloadRequest;
use crate::model::state::State;
use crate::model::table::{Counts, FileState, FileTable};
use crate::store::saved::{Change, Partial, Saved};
use crate::store::{Store, StoreError};
use crate::transfer::disk_calls::DiskWatch;
use crate::transfer::run::Run;
use crate::transfer::start::{Start, StartError, StartRequest};
use crate::transfer::worker::{Batch, Done, Pools, Report, Task};
use crate::transfer::{self, Job, OpenFile};
use crate::upstream::session::Session;

use active::Active;
use pace::Pace;

/// Batches given out for each worker: one that it does, one whose addresses are being fetched, and
/// as many that wait, so that no thread waits for the controller where files are small. More, and
/// addresses might expire unused.
const AHEAD: usize = 4;
/// Files up to this size are given out several at a time, in bytes.
const SMALL: u64 = 256 << 10;
/// How often progress is journalled: a killed process loses at most this much.
const TICK: Duration = Duration::from_millis(200);

/// What the controller works with.
pub struct Channels {
    pub commands: Receiver<Command>,
    pub reports: Receiver<Report>,
    pub syncs: Sender<SyncRequest>,
    pub losses: Receiver<Loss>,
    /// Downloads to be cleaned up, and what became of the one of each key.
    pub removals: Cleaners,
    pub removed: Receiver<(u32, Cleaned)>,
    /// Downloads that became complete or failed.
    pub ended: hooks::Queue,
}

/// The numbers the controller goes by.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub workers: usize,
    pub retry_for: Duration,
}

/// A download that is being deleted, and by which DELETE.
struct Deletion {
    delete: u64,
    remove_files: bool,
}

/// One DELETE, which may be of many downloads.
struct Delete {
    /// Those that the cleaner has not been told of.
    keys: Vec<u32>,
    /// So many of them, from the first on, have no job out.
    idle: usize,
    deleted: Vec<String>,
    waiting: usize,
    cleaned: Cleaned,
    reply: Option<Sender<Deleted>>,
}

/// The thread that owns every download.
pub struct Controller {
    channels: Channels,
    pools: Arc<Pools>,
    policy: Policy,
    store: Arc<Store<Saved>>,
    board: Arc<Board>,
    active: BTreeMap<u32, Active>,
    /// Those that transfer or have jobs out: the only ones that need a look at each turn.
    busy: BTreeSet<u32>,
    /// Downloads that are new or resumed from `error`, while that is being committed: identifier
    /// and order.
    coming: BTreeMap<u32, (String, DownloadRequest)>,
    next_key: u32,
    ids: crate::base::id::Ids,
    deletes: BTreeMap<u64, Delete>,
    next_delete: u64,
    out: usize,
    turn: u32,
    /// Changes wait for room in the state directory.
    unsaved: bool,
    /// Where data went since the last request to sync, and which download's.
    dirty: Vec<(u32, Arc<Root>)>,
    /// Downloads whose data could not be synced: what is left of it is being found out.
    lost: BTreeSet<u32>,
    synced_at: Instant,
    ticked_at: Instant,
    stopping: Option<Sender<()>>,
    random: u64,
}

impl Controller {
    /// Takes up what was remembered. `next_key` is the first unused key.
    pub fn new(
        channels: Channels,
        pools: Arc<Pools>,
        policy: Policy,
        store: Arc<Store<Saved>>,
        board: Arc<Board>,
        remembered: Vec<Restored>,
        next_key: u32,
    ) -> Controller {
        let now = Instant::now();
        let mut controller = Controller {
            channels,
            pools,
            policy,
            store,
            board,
            active: BTreeMap::new(),
            busy: BTreeSet::new(),
            coming: BTreeMap::new(),
            next_key,
            ids: crate::base::id::Ids::default(),
            deletes: BTreeMap::new(),
            next_delete: 0,
            out: 0,
            turn: 0,
            unsaved: false,
            dirty: Vec::new(),
            lost: BTreeSet::new(),
            synced_at: now,
            ticked_at: now,
            stopping: None,
            random: u64::from_le_bytes(crate::base::id::random()),
        };
        let mut deleting = Vec::new();
        for one in remembered {
            let key = one.new.download.key;
            controller.ids.seen(&one.new.download.id);
            deleting.extend(one.deleting.map(|remove_files| (key, remove_files)));
            let mut active = Active::new(one.new, one.record);
            active.partial = one.partial;
            active.parts = Arc::new(one.parts);
            active.restarted = true;
            active.unsettled = one.unsettled;
            controller.active.insert(key, active);
            controller.note_busy(key);
        }
        controller.publish();
        for (key, remove_files) in deleting {
            controller.begin_delete(vec![key], remove_files, None);
        }
        controller
    }

    /// Works until it is told to shut down.
    pub fn run(mut self) {
        loop {
            self.dispatch();
            if let Some(done) = self.stopping.take() {
                if self.is_at_rest() {
                    self.journal_all();
                    let _ = done.send(());
                    return;
                }
                self.stopping = Some(done);
            }
            let timeout = self.timeout();
            select! {
                recv(self.channels.commands) -> command => match command {
                    Ok(command) => self.command(command),
                    Err(_) => return,
                },
                recv(self.channels.reports) -> report => if let Ok(report) = report { self.report(report) },
                recv(self.channels.removed) -> removed => if let Ok((key, cleaned)) = removed { self.removed(key, cleaned) },
                recv(self.channels.losses) -> loss => if let Ok(loss) = loss { self.loss(loss) },
                recv(timeout) -> _ => {}
            }
            while let Ok(report) = self.channels.reports.try_recv() {
                self.report(report);
            }
            self.tick();
        }
    }

    /// Whether nothing is out and no caller has a change on its way to the disk, which would then
    /// be carried out without the caller being told.
    fn is_at_rest(&self) -> bool {
        self.coming.is_empty()
            && self.busy().all(|(_, active)| active.record.is_idle())
            && !self.active.values().any(|active| active.committing)
    }

    /// Wakes for the next tick while anything moves, for the next attempt, and otherwise not at
    /// all.
    fn timeout(&self) -> Receiver<Instant> {
        let now = Instant::now();
        let syncing = !self.dirty.is_empty() || !self.lost.is_empty();
        let moving = self.out > 0 || syncing || self.unsaved;
        let tick = moving.then(|| self.ticked_at + TICK);
        let due = self
            .busy()
            .filter_map(|(_, active)| active.record.next_due(now))
            .min();
        match tick.into_iter().chain(due).min() {
            Some(at) => crossbeam_channel::at(at),
            None => crossbeam_channel::never(),
        }
    }

    fn now(&mut self) -> Now {
        // xorshift64: spreads retries, nothing more.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let jitter = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        Now {
            instant: Instant::now(),
            wall: clock::now(),
            jitter,
        }
    }

    fn publish(&self) {
        let mut downloads: Vec<Arc<Download>> = self
            .active
            .values()
            // Once a DELETE is on disk the download is gone, also where cleaning up takes long or
            // goes on after a start.
            .filter(|active| active.deleting.is_none())
            .map(|active| active.download.clone())
            .collect();
        downloads.sort_by(|a, b| a.id.cmp(&b.id));
        self.board.publish(downloads);
    }
}
