//! The controller: one thread that owns every record, and is the only one that changes their state.
//!
//! It never waits for the network or the disk. A change that a caller is told of is made in three steps: the
//! controller checks it, the caller's own thread commits it to the store, and the controller carries it out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use crate::agent::{Deleted, Refusal, Which};
use crate::begin::{Beginning, NoBeginning};
use crate::board::{Board, Code, Download, State};
use crate::clock;
use crate::dest::{Identity, Root};
use crate::hooks::{self, Ended};
use crate::rate::Rate;
use crate::record::{Effect, Event, FileEvent, Now, Pick, Record};
use crate::remember;
use crate::run::Run;
use crate::saved::{Change, Partial, Saved};
use crate::session::Session;
use crate::store::Store;
use crate::syncer::SyncRequest;
use crate::table::{Counts, FileState};
use crate::transfer::{Job, OpenFile, Outcome};
use crate::upstream::Package;
use crate::worker::{Errand, Report};

/// How often progress is journalled: a killed process loses at most this much.
const TICK: Duration = Duration::from_millis(200);

/// What can be asked of the controller. Each carries the channel for its answer.
pub enum Command {
    /// May the download be paused or resumed? Answers the changes to commit; none where nothing changes.
    PrepareState {
        id: String,
        state: State,
        reply: Sender<Result<Prepared, Refusal>>,
    },
    /// They are committed (or could not be): carry it out.
    ApplyState {
        key: u32,
        state: State,
        committed: bool,
        reply: Sender<Result<Arc<Download>, Refusal>>,
    },
    /// May this be downloaded? Answers a key.
    PrepareCreate {
        link: (String, String),
        dst_folder: String,
        reply: Sender<Result<(u32, String), Refusal>>,
    },
    ApplyCreate {
        key: u32,
        new: Option<Box<NewDownload>>,
        reply: Sender<()>,
    },
    PrepareDelete {
        which: Which,
        reply: Sender<Result<Vec<u32>, Refusal>>,
    },
    /// Answers once everything is gone.
    ApplyDelete {
        keys: Vec<u32>,
        remove_files: Option<bool>,
        reply: Sender<Deleted>,
    },
    /// From now on there are so many workers, 1 at least.
    Workers(usize),
    /// Stop everything; answers when no job is out.
    Shutdown { reply: Sender<()> },
}

/// The answer to [`Command::PrepareState`].
pub enum Prepared {
    /// It is in that state already.
    Already(Arc<Download>),
    /// Commit this, then apply.
    Commit(u32, Change),
}

/// A download that comes to the controller.
pub struct NewDownload {
    pub download: Arc<Download>,
    pub identity: Identity,
    pub made: Vec<PathBuf>,
    pub package: Option<Package>,
}

/// A download that is being removed, on its way to the cleaner.
pub struct Removal {
    pub download: Arc<Download>,
    pub identity: Identity,
    pub made: Vec<PathBuf>,
    pub begun: u32,
    pub remove_files: bool,
}

/// What the controller works with.
pub struct Channels {
    pub commands: Receiver<Command>,
    pub reports: Receiver<Report>,
    pub errands: Sender<Errand>,
    pub jobs: Sender<Job>,
    pub syncs: Sender<SyncRequest>,
    /// Downloads to be cleaned up, and what became of them: key and files removed.
    pub removals: Sender<Removal>,
    pub removed: Receiver<(u32, u64)>,
    /// Downloads that became complete or failed.
    pub ended: hooks::Queue,
}

/// The numbers the controller goes by.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub workers: usize,
    pub retry_for: Duration,
}

struct Active {
    record: Record,
    download: Arc<Download>,
    identity: Identity,
    made: Vec<PathBuf>,
    run: Option<Arc<Run>>,
    /// Read at POST, for the first run.
    package: Option<Package>,
    open: HashMap<u32, Arc<OpenFile>>,
    partial: BTreeMap<u32, Partial>,
    /// Files below this index may have a `.part` from before; what the journal says.
    begun: u32,
    /// Files below this index may have one from before this process.
    begun_before: u32,
    restarted: bool,
    unsettled: bool,
    rate: Rate,
    /// The counts when the rate was last measured.
    counted: Counts,
    /// A change is being committed: others wait.
    committing: bool,
    deferred: VecDeque<Command>,
    deleting: Option<Deletion>,
}

/// A DELETE under way: which of those it waits for this download belongs to.
struct Deletion {
    batch: u64,
    remove_files: bool,
    handed_over: bool,
}

struct Batch {
    deleted: Vec<String>,
    waiting: usize,
    files_removed: u64,
    reply: Option<Sender<Deleted>>,
}

/// See the module's page.
pub struct Controller {
    channels: Channels,
    policy: Policy,
    store: Arc<Store<Saved>>,
    board: Arc<Board>,
    active: BTreeMap<u32, Active>,
    /// Those that transfer or have jobs out: the only ones that need a look at each turn.
    busy: BTreeSet<u32>,
    /// Downloads that are being committed: identifier, link, destination.
    creating: BTreeMap<u32, (String, (String, String), String)>,
    next_key: u32,
    ids: crate::id::Ids,
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    out: usize,
    turn: u32,
    /// Changes wait for room in the state directory.
    unsaved: bool,
    dirty: Vec<Arc<Root>>,
    synced_at: Instant,
    ticked_at: Instant,
    stopping: Option<Sender<()>>,
    random: u64,
}

/// How a download that was remembered is taken up again.
pub struct Remembered {
    pub new: NewDownload,
    pub record: Record,
    pub partial: BTreeMap<u32, Partial>,
    pub begun: u32,
    pub unsettled: bool,
    pub deleting: Option<bool>,
}

impl Controller {
    /// Takes up what was remembered. `next_key` is the first unused key.
    pub fn new(
        channels: Channels,
        policy: Policy,
        store: Arc<Store<Saved>>,
        board: Arc<Board>,
        remembered: Vec<Remembered>,
        next_key: u32,
    ) -> Controller {
        let now = Instant::now();
        let mut controller = Controller {
            channels,
            policy,
            store,
            board,
            active: BTreeMap::new(),
            busy: BTreeSet::new(),
            creating: BTreeMap::new(),
            next_key,
            ids: crate::id::Ids::default(),
            batches: BTreeMap::new(),
            next_batch: 0,
            out: 0,
            turn: 0,
            unsaved: false,
            dirty: Vec::new(),
            synced_at: now,
            ticked_at: now,
            stopping: None,
            random: u64::from_le_bytes(crate::id::random()),
        };
        let mut deleting = Vec::new();
        for one in remembered {
            let key = one.new.download.key;
            controller.ids.seen(&one.new.download.id);
            deleting.extend(one.deleting.map(|remove_files| (key, remove_files)));
            let mut active = Active::new(one.new, one.record);
            active.partial = one.partial;
            active.begun = one.begun;
            active.begun_before = one.begun;
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
                if self.busy().all(|(_, active)| active.record.is_idle()) {
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
                recv(self.channels.removed) -> removed => if let Ok((key, files)) = removed { self.removed(key, files) },
                recv(timeout) -> _ => {}
            }
            while let Ok(report) = self.channels.reports.try_recv() {
                self.report(report);
            }
            self.tick();
        }
    }

    /// Wakes for the next tick while anything moves, for the next attempt, and otherwise not at all.
    fn timeout(&self) -> Receiver<Instant> {
        let now = Instant::now();
        let moving = self.out > 0 || !self.dirty.is_empty() || self.unsaved;
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
            .map(|active| active.download.clone())
            .collect();
        downloads.sort_by(|a, b| a.id.cmp(&b.id));
        self.board.publish(downloads);
    }

    // --- progress ---------------------------------------------------------------------------------------------

    fn tick(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.ticked_at) < TICK {
            return;
        }
        self.ticked_at = now;
        self.journal_all();
        let mut gained: Vec<(u32, u32)> = Vec::new();
        for &key in &self.busy {
            if let Some(active) = self.active.get_mut(&key) {
                active.measure(now);
                gained.extend(active.gained().into_iter().map(|file| (key, file)));
            }
        }
        for (key, file) in gained {
            self.event(key, Event::Gained(file));
        }
        self.sync(now);
    }

    fn busy(&self) -> impl Iterator<Item = (u32, &Active)> {
        self.busy
            .iter()
            .filter_map(|&key| Some((key, self.active.get(&key)?)))
    }

    fn note_busy(&mut self, key: u32) {
        let busy = self.active.get(&key).is_some_and(|active| {
            active.record.state() == State::Transferring || !active.record.is_idle()
        });
        if busy {
            self.busy.insert(key);
        } else {
            self.busy.remove(&key);
        }
    }

    fn journal_all(&mut self) {
        let mut news = Vec::new();
        for (key, active) in self.busy() {
            let files = active.open.values();
            files.for_each(|file| news.extend(file.news(key)));
        }
        self.save(news);
    }

    /// Appends to the journal; what does not fit waits for room, and is tried again at each tick.
    fn save(&mut self, changes: Vec<Change>) {
        match self.store.queue(changes) {
            Ok(()) => self.unsaved = false,
            Err(error) => {
                if !std::mem::replace(&mut self.unsaved, true) {
                    log::error!("progress cannot be saved, which is tried again: {error}");
                }
            }
        }
    }

    fn sync(&mut self, now: Instant) {
        if self.dirty.is_empty() || now.duration_since(self.synced_at) < Duration::from_secs(1) {
            return;
        }
        // Data that is written from here on may go to other places: it is the next request's.
        let request = SyncRequest {
            mark: self.store.mark(),
            roots: self.dirty.clone(),
        };
        if self.channels.syncs.try_send(request).is_ok() {
            self.synced_at = now;
            self.dirty.clear();
            let running: Vec<Arc<Root>> = self
                .busy()
                .filter(|(_, active)| !active.record.is_idle())
                .filter_map(|(_, active)| active.run.as_ref()?.root().cloned())
                .collect();
            running.into_iter().for_each(|root| self.soil(&root));
        }
    }

    /// Data goes to this destination: it is to be synced.
    fn soil(&mut self, root: &Arc<Root>) {
        if !self.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, root)) {
            self.dirty.push(root.clone());
        }
    }

    // --- work -------------------------------------------------------------------------------------------------

    /// Hands out work as long as the threads can take it, one job a download in turn.
    fn dispatch(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let now = Instant::now();
        if self.out >= 2 * self.policy.workers {
            return;
        }
        let mut keys: Vec<u32> = self
            .busy()
            .filter(|(_, active)| active.wants_work())
            .map(|(key, _)| key)
            .collect();
        let first = keys.partition_point(|&key| key <= self.turn);
        keys.rotate_left(first);
        while !keys.is_empty() {
            keys.retain(|&key| {
                if self.out >= 2 * self.policy.workers {
                    return false;
                }
                let given = self.give(key, now);
                if given {
                    self.turn = key;
                }
                given
            });
        }
    }

    /// Gives out one job of a download. False where it has none now.
    fn give(&mut self, key: u32, now: Instant) -> bool {
        let crowded = self.out > self.policy.workers + 2;
        let idle = self.out < self.policy.workers;
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        match active.record.pick(now, crowded) {
            Some(Pick::Begin) => {
                let run = active.new_run();
                let beginning = Beginning {
                    run,
                    identity: active.identity,
                    restarted: std::mem::take(&mut active.restarted),
                    unsettled: std::mem::take(&mut active.unsettled),
                    begun: active.begun_before,
                };
                self.out += 1;
                let _ = self
                    .channels
                    .errands
                    .send(Errand::Begin(Box::new(beginning)));
                true
            }
            Some(Pick::New(file)) => {
                self.note_begun(key, file);
                self.give_file(key, file)
            }
            Some(Pick::Open(file)) => self.give_file(key, file),
            None => idle && self.give_tail(key, now),
        }
    }

    /// The journal knows of a `.part` before it is made, for many files at a time.
    fn note_begun(&mut self, key: u32, file: u32) {
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        if file >= active.begun {
            active.begun = file.saturating_add(64);
            let change = Change::Begun(key, active.begun);
            self.save(vec![change]);
        }
    }

    fn give_file(&mut self, key: u32, file: u32) -> bool {
        let workers = self.policy.workers as u64;
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        let (Some(run), Some(table)) = (active.run.clone(), active.download.table()) else {
            active.record.void(file);
            return false;
        };
        let open = active.open_file(file, table.size(file));
        let range = open.take(workers);
        if range.is_none() && !open.is_whole() {
            active.record.void(file);
            return true;
        }
        let more = range.is_some() && open.has_free();
        active.record.given(file, more);
        let known = range.is_none() || open.known_address().is_some();
        self.send(
            Job {
                run,
                table,
                file: open,
                range,
                address: None,
            },
            known,
        );
        true
    }

    fn give_tail(&mut self, key: u32, now: Instant) -> bool {
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        if !active.record.may_help() {
            return false;
        }
        let (Some(run), Some(table)) = (active.run.clone(), active.download.table()) else {
            return false;
        };
        let Some((file, range)) = active
            .open
            .values()
            .find_map(|file| file.take_tail(now).map(|range| (file.clone(), range)))
        else {
            return false;
        };
        active.record.gave_tail();
        self.send(
            Job {
                run,
                table,
                file,
                range: Some(range),
                address: None,
            },
            true,
        );
        true
    }

    fn send(&mut self, job: Job, has_address: bool) {
        self.out += 1;
        if let Some(root) = job.run.root().cloned() {
            self.soil(&root);
        }
        let _ = if has_address {
            self.channels.jobs.send(job).is_ok()
        } else {
            self.channels.errands.send(Errand::Address(job)).is_ok()
        };
    }

    fn report(&mut self, report: Report) {
        self.out -= 1;
        match report {
            Report::Begun {
                key,
                beginning,
                result,
            } => {
                let event = match result {
                    Ok(table) => Event::Begun(table),
                    Err(no_beginning) => {
                        if let Some(active) = self.active.get_mut(&key) {
                            active.restarted |= beginning.restarted;
                            active.unsettled |= beginning.unsettled;
                            active.run = None;
                        }
                        match no_beginning {
                            NoBeginning::Stopped => Event::BeginningStopped,
                            NoBeginning::Fault {
                                message,
                                retry_after,
                                malformed,
                            } => Event::NotBegun {
                                message,
                                retry_after,
                                malformed,
                            },
                            NoBeginning::Broken(problem) => Event::Broken(problem),
                        }
                    }
                };
                self.event(key, event);
            }
            Report::Job { key, job, outcome } => {
                let file = job.file.index;
                if !matches!(outcome, Outcome::Complete | Outcome::Skipped) {
                    let news = job.file.news(key);
                    self.save(news);
                }
                self.event(key, Event::File(file, file_event(outcome)));
            }
        }
    }

    fn event(&mut self, key: u32, event: Event) {
        let now = self.now();
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        let effects = active.record.on(event, now);
        let ended = Ended::is_among(&effects);
        let mut changes = Vec::new();
        for effect in effects {
            active.carry_out(key, effect, &mut changes);
        }
        active.download.touch();
        active.rest();
        let idle = active.record.is_idle();
        let ended = ended.then(|| Ended::new(&active.download));
        self.note_busy(key);
        self.save(changes);
        // After it was saved: a killed process does not say it again.
        if let Some(ended) = ended {
            self.channels.ended.push(ended);
        }
        if idle {
            self.hand_over(key);
        }
    }

    // --- commands ---------------------------------------------------------------------------------------------

    fn command(&mut self, command: Command) {
        match command {
            Command::PrepareState { id, state, reply } => self.prepare_state(id, state, reply),
            Command::ApplyState {
                key,
                state,
                committed,
                reply,
            } => {
                let result = self.apply_state(key, state, committed);
                let _ = reply.send(result);
                self.undefer(key);
            }
            Command::PrepareCreate {
                link,
                dst_folder,
                reply,
            } => {
                let _ = reply.send(self.prepare_create(link, dst_folder));
            }
            Command::ApplyCreate { key, new, reply } => {
                self.creating.remove(&key);
                if let Some(new) = new {
                    let record = Record::new(
                        State::Transferring,
                        None,
                        BTreeMap::new(),
                        self.policy.retry_for,
                    );
                    self.active.insert(key, Active::new(*new, record));
                    self.note_busy(key);
                    self.publish();
                }
                let _ = reply.send(());
            }
            Command::PrepareDelete { which, reply } => self.prepare_delete(which, reply),
            Command::ApplyDelete {
                keys,
                remove_files,
                reply,
            } => match remove_files {
                Some(remove_files) => self.begin_delete(keys, remove_files, Some(reply)),
                None => keys.into_iter().for_each(|key| {
                    if let Some(active) = self.active.get_mut(&key) {
                        active.committing = false;
                    }
                    self.undefer(key);
                }),
            },
            Command::Workers(workers) => self.policy.workers = workers,
            Command::Shutdown { reply } => {
                for (_, active) in self.busy() {
                    active.run.iter().for_each(|run| run.halt());
                }
                self.stopping = Some(reply);
            }
        }
    }

    fn key_of(&self, id: &str) -> Option<u32> {
        self.board.find(id).map(|download| download.key)
    }

    fn prepare_state(
        &mut self,
        id: String,
        state: State,
        reply: Sender<Result<Prepared, Refusal>>,
    ) {
        let key = self.key_of(&id);
        let Some(active) = key.and_then(|key| self.active.get_mut(&key)) else {
            let _ = reply.send(Err(Refusal::DownloadNotFound));
            return;
        };
        if active.committing {
            active
                .deferred
                .push_back(Command::PrepareState { id, state, reply });
            return;
        }
        let key = active.download.key;
        let answer = match (active.record.state(), state) {
            _ if active.deleting.is_some() => Err(Refusal::DownloadNotFound),
            (now, wanted) if now == wanted => Ok(Prepared::Already(active.download.clone())),
            (State::Transferring, State::Paused)
            | (State::Paused | State::Error, State::Transferring) => {
                active.committing = true;
                Ok(Prepared::Commit(key, Change::State(key, state, None)))
            }
            (now, _) => Err(Refusal::InvalidTransition {
                state: now,
                action: action(state),
            }),
        };
        let _ = reply.send(answer);
    }

    fn apply_state(
        &mut self,
        key: u32,
        state: State,
        committed: bool,
    ) -> Result<Arc<Download>, Refusal> {
        let active = self.active.get_mut(&key).ok_or(Refusal::DownloadNotFound)?;
        active.committing = false;
        let download = active.download.clone();
        if !committed {
            return Ok(download);
        }
        let now = active.record.state();
        let event = match (now, state) {
            (State::Transferring, State::Paused) => Event::Paused,
            (State::Paused | State::Error, State::Transferring) => Event::Resumed,
            _ => {
                // It ended while the change was being committed: the journal's last word must be the truth.
                let problem = active.record.problem().cloned();
                let truth = match (now, download.view().completed_at) {
                    (State::Complete, Some(at)) => {
                        Change::Complete(key, at, download.counts().unwrap_or_default())
                    }
                    _ => Change::State(key, now, problem),
                };
                self.save(vec![truth]);
                return Err(Refusal::InvalidTransition {
                    state: now,
                    action: action(state),
                });
            }
        };
        self.event(key, event);
        Ok(download)
    }

    fn undefer(&mut self, key: u32) {
        while let Some(active) = self.active.get_mut(&key)
            && !active.committing
            && let Some(command) = active.deferred.pop_front()
        {
            self.command(command);
        }
    }

    fn prepare_create(
        &mut self,
        link: (String, String),
        dst_folder: String,
    ) -> Result<(u32, String), Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let duplicate = self.active.values().find(|active| {
            let order = &active.download.order;
            matches!(active.record.state(), State::Transferring | State::Paused)
                && active.deleting.is_none()
                && (&order.link.api, &order.link.id) == (&link.0, &link.1)
                && order.dst_folder == dst_folder
        });
        if let Some(active) = duplicate {
            return Err(Refusal::Duplicate {
                download_id: active.download.id.clone(),
            });
        }
        let coming = self
            .creating
            .values()
            .find(|(_, other, folder)| *other == link && *folder == dst_folder);
        if let Some((id, ..)) = coming {
            return Err(Refusal::Duplicate {
                download_id: id.clone(),
            });
        }
        let key = self.next_key;
        let id = self.ids.next();
        self.next_key = self.next_key.checked_add(1).ok_or_else(|| {
            Refusal::StateUnwritable(
                "this state directory has had more downloads than can be counted".into(),
            )
        })?;
        self.creating.insert(key, (id.clone(), link, dst_folder));
        Ok((key, id))
    }

    fn prepare_delete(&mut self, which: Which, reply: Sender<Result<Vec<u32>, Refusal>>) {
        let keys: Vec<u32> = match &which {
            Which::One(id) => self.key_of(id).into_iter().collect(),
            Which::States(states) => self
                .board
                .all()
                .iter()
                .map(|download| download.key)
                .filter(|key| {
                    self.active
                        .get(key)
                        .is_some_and(|active| states.contains(&active.record.state()))
                })
                .collect(),
        };
        let busy = keys
            .iter()
            .find(|key| self.active.get(key).is_some_and(|active| active.committing))
            .copied();
        if let Some(active) = busy.and_then(|key| self.active.get_mut(&key)) {
            active
                .deferred
                .push_back(Command::PrepareDelete { which, reply });
            return;
        }
        let keys: Vec<u32> = keys
            .into_iter()
            .filter(|key| {
                self.active
                    .get(key)
                    .is_some_and(|active| active.deleting.is_none())
            })
            .collect();
        if keys.is_empty() && matches!(which, Which::One(_)) {
            let _ = reply.send(Err(Refusal::DownloadNotFound));
            return;
        }
        for key in &keys {
            if let Some(active) = self.active.get_mut(key) {
                active.committing = true;
            }
        }
        let _ = reply.send(Ok(keys));
    }

    // --- deleting ---------------------------------------------------------------------------------------------

    fn begin_delete(&mut self, keys: Vec<u32>, remove_files: bool, reply: Option<Sender<Deleted>>) {
        let batch = self.next_batch;
        self.next_batch += 1;
        let deleted = keys
            .iter()
            .filter_map(|key| {
                self.active
                    .get(key)
                    .map(|active| active.download.id.clone())
            })
            .collect::<Vec<_>>();
        let waiting = deleted.len();
        self.batches.insert(
            batch,
            Batch {
                deleted,
                waiting,
                files_removed: 0,
                reply,
            },
        );
        if waiting == 0 {
            self.close_batch(batch);
        }
        for key in keys {
            let Some(active) = self.active.get_mut(&key) else {
                continue;
            };
            active.deleting = Some(Deletion {
                batch,
                remove_files,
                handed_over: false,
            });
            active.committing = false;
            if active.record.state() == State::Transferring {
                self.event(key, Event::Paused);
            }
            self.hand_over(key);
            self.undefer(key);
        }
    }

    /// Gives a deleted download to the cleaner, once none of its jobs is out.
    fn hand_over(&mut self, key: u32) {
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        let Some(deletion) = active
            .deleting
            .as_mut()
            .filter(|deletion| !deletion.handed_over)
        else {
            return;
        };
        if !active.record.is_idle() {
            return;
        }
        deletion.handed_over = true;
        let removal = Removal {
            download: active.download.clone(),
            identity: active.identity,
            made: active.made.clone(),
            begun: active.begun,
            remove_files: deletion.remove_files,
        };
        active.open.clear();
        active.run = None;
        let _ = self.channels.removals.send(removal);
    }

    fn removed(&mut self, key: u32, files: u64) {
        let Some(active) = self.active.remove(&key) else {
            return;
        };
        self.busy.remove(&key);
        self.publish();
        for command in active.deferred {
            self.command(command);
        }
        let Some(deletion) = active.deleting else {
            return;
        };
        let Some(batch) = self.batches.get_mut(&deletion.batch) else {
            return;
        };
        batch.waiting -= 1;
        batch.files_removed += files;
        if batch.waiting == 0 {
            self.close_batch(deletion.batch);
        }
    }

    fn close_batch(&mut self, batch: u64) {
        if let Some(batch) = self.batches.remove(&batch)
            && let Some(reply) = batch.reply
        {
            let _ = reply.send(Deleted {
                deleted: batch.deleted,
                files_removed: batch.files_removed,
            });
        }
    }
}

fn action(state: State) -> &'static str {
    if state == State::Paused {
        "paused"
    } else {
        "resumed"
    }
}

fn file_event(outcome: Outcome) -> FileEvent {
    match outcome {
        Outcome::Stopped | Outcome::Yielded => FileEvent::Stopped,
        Outcome::Range => FileEvent::Range,
        Outcome::Complete => FileEvent::Complete,
        Outcome::Skipped => FileEvent::Skipped,
        Outcome::Over => FileEvent::Over,
        Outcome::Fault {
            message,
            retry_after,
            gained,
        } => FileEvent::Fault {
            message,
            retry_after,
            gained,
        },
        Outcome::Failed(problem) => FileEvent::Failed(problem),
        Outcome::Broken(problem) => FileEvent::Broken(problem),
    }
}

impl Active {
    fn new(new: NewDownload, record: Record) -> Active {
        Active {
            record,
            download: new.download,
            identity: new.identity,
            made: new.made,
            run: None,
            package: new.package,
            open: HashMap::new(),
            partial: BTreeMap::new(),
            begun: 0,
            begun_before: 0,
            restarted: false,
            unsettled: false,
            rate: Rate::default(),
            counted: Counts::default(),
            committing: false,
            deferred: VecDeque::new(),
            deleting: None,
        }
    }

    fn wants_work(&self) -> bool {
        self.record.state() == State::Transferring && self.deleting.is_none()
    }

    fn new_run(&mut self) -> Arc<Run> {
        let session = Session::new(self.package.take());
        let run = Arc::new(Run::new(self.download.clone(), session));
        self.run = Some(run.clone());
        run
    }

    fn open_file(&mut self, file: u32, size: u64) -> Arc<OpenFile> {
        let (partial, before) = (&mut self.partial, self.begun_before);
        let open = || {
            let known = partial.remove(&file);
            let begun = known.is_some() || file < before;
            Arc::new(OpenFile::new(file, size, known.unwrap_or_default(), begun))
        };
        self.open.entry(file).or_insert_with(open).clone()
    }

    fn measure(&mut self, now: Instant) {
        if self.record.state() == State::Transferring
            && let Some(table) = self.download.table()
        {
            let counts = table.counts();
            let rate = self.rate.measure(now, counts.bytes_done);
            let before = std::mem::replace(&mut self.counted, counts);
            if self.download.set_rate(rate) != rate || before != counts {
                self.download.touch();
            }
        }
    }

    /// Files whose job goes on and has brought bytes since the last tick, where that ends a wait.
    fn gained(&self) -> Vec<u32> {
        let Some(table) = self.download.table() else {
            return Vec::new();
        };
        self.record
            .waiting()
            .filter(|&(file, at_fault)| table.done(file) > at_fault)
            .map(|(file, _)| file)
            .collect()
    }

    fn carry_out(&mut self, key: u32, effect: Effect, changes: &mut Vec<Change>) {
        match effect {
            Effect::Show => {
                let (state, problem) = (self.record.state(), self.record.problem().cloned());
                self.download.update(|view| {
                    view.state = state;
                    view.problem = problem;
                });
            }
            Effect::Halt => self.run.iter().for_each(|run| run.halt()),
            Effect::Fail(file, problem) => {
                if let Some(table) = self.download.table() {
                    table.fail(file, problem.clone());
                }
                changes.push(Change::Failed(key, file, problem));
            }
            Effect::Close(file) => {
                let Some(open) = self.open.remove(&file) else {
                    return;
                };
                open.give_up();
                // A whole file without its name needs no byte again, only the name.
                let in_place = self.download.table().is_some_and(|table| {
                    matches!(table.state(file), FileState::Complete | FileState::Skipped)
                });
                if !in_place {
                    self.partial.insert(file, open.partial());
                }
            }
            Effect::Complete => {
                let at = clock::now();
                self.download.update(|view| view.completed_at = Some(at));
                let counts = self.download.counts().unwrap_or_default();
                changes.push(Change::Complete(key, at, counts));
            }
            Effect::Error => {
                changes.push(Change::State(
                    key,
                    State::Error,
                    self.record.problem().cloned(),
                ));
            }
            Effect::Again(file) => {
                if let Some(table) = self.download.table() {
                    table.set_state(file, FileState::Pending);
                }
                if !changes
                    .iter()
                    .any(|change| matches!(change, Change::Again(_)))
                {
                    changes.push(Change::Again(key));
                }
            }
        }
    }

    /// Nothing is under way and nothing will be: give back descriptors and memory.
    fn rest(&mut self) {
        if !self.record.is_idle() || self.record.state() == State::Transferring {
            return;
        }
        self.run = None;
        if self.record.state() == State::Complete {
            self.record.forget_files();
            self.partial.clear();
            remember::rest(&self.download);
        }
        for (file, open) in self.open.drain() {
            open.close();
            self.partial.insert(file, open.partial());
        }
    }
}

/// Files that failed, as the record wants them.
pub fn failed_codes(saved: &crate::saved::SavedFiles) -> BTreeMap<u32, Code> {
    saved
        .failed
        .iter()
        .map(|(&file, problem)| (file, problem.code))
        .collect()
}
