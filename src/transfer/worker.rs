//! What the thread pools do: one moves bytes, the others do the tasks that go before them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::base::copy_buffer::CopyBuffer;
use crate::base::thread_pool::{Handler, ThreadPool};
use crate::model::board::Board;
use crate::model::outcome::Outcome;
use crate::model::problem::{Code, FileProblem};
use crate::model::table::FileTable;
use crate::store::saved::Change;
use crate::transfer::run::Run;
use crate::transfer::seals::Seal;
use crate::transfer::start::{self, Start, StartError, StartRequest};
use crate::transfer::waiting::{Ticket, Waiting};
use crate::transfer::{Job, WorkerContext, check, manifest};

/// Files that wait to be hashed, at most.
const MAX_HASHES_WAITING: usize = 64;

/// What has to be done before bytes can come.
pub enum Task {
    /// Start a run of a download.
    Start(Box<StartRequest>),
    /// Fetch the addresses, then pass the batch on to the workers.
    Addresses(Batch),
}

/// Jobs of one download that are given out together, and reported together: handing a job over
/// costs more than fetching a small file.
pub struct Batch {
    pub key: u32,
    pub jobs: Vec<Job>,
    /// Those that have ended already.
    pub done: Vec<Done>,
    /// Held while it waits for a worker.
    pub ticket: Option<Ticket>,
}

/// A job that has ended.
pub struct Done {
    pub job: Job,
    pub outcome: Outcome,
}

/// What the threads tell the controller.
pub enum Report {
    Begun {
        key: u32,
        request: Box<StartRequest>,
        result: Result<Start, StartError>,
    },
    Batch {
        key: u32,
        done: Vec<Done>,
        /// How long the worker took for it.
        took: Duration,
    },
}

impl Batch {
    /// Does the jobs in turn. After one that ended for a reason beyond its file, the others are
    /// given back undone.
    fn run_jobs(&mut self, mut work: impl FnMut(&mut Job) -> Option<Outcome>) {
        let mut kept = Vec::with_capacity(self.jobs.len());
        let mut broken_off = false;
        for mut job in self.jobs.drain(..) {
            let outcome = if broken_off {
                Some(Outcome::Stopped)
            } else {
                catch_panic(|| work(&mut job))
            };
            let Some(outcome) = outcome else {
                kept.push(job);
                continue;
            };
            broken_off |= !outcome.is_the_files_own();
            job.give_back();
            self.done.push(Done { job, outcome });
        }
        self.jobs = kept;
    }

    /// Its download's priority, as of now.
    fn priority(&self) -> i32 {
        let run = self.jobs.first().map(|job| &job.run);
        run.map_or(i32::MAX, |run| run.download.priority())
    }

    /// Puts the batch into the queue of the workers.
    fn queue(mut self, waiting: &Arc<Waiting>, workers: &ThreadPool<Batch>) {
        self.ticket = Some(waiting.enter(self.priority()));
        workers.send(self);
    }

    /// Gives all jobs back undone.
    fn give_back(mut self, reports: &Sender<Report>) {
        self.run_jobs(|_| Some(Outcome::Stopped));
        self.report(reports, Duration::ZERO);
    }

    fn report(self, reports: &Sender<Report>, took: Duration) {
        // The controller is gone only when the process ends.
        let _ = reports.send(Report::Batch {
            key: self.key,
            done: self.done,
            took,
        });
    }
}

/// A panic becomes its file's error; the thread lives on.
fn catch_panic(work: impl FnOnce() -> Option<Outcome>) -> Option<Outcome> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Some(Outcome::Failed(FileProblem {
            code: Code::InternalError,
            message: "haul itself failed on this file; resume to try again, and please report it"
                .into(),
        }))
    })
}

/// What is done on a thread that computes digests.
enum Check {
    /// One whole file is held against what the server says, and gets its name.
    Batch(Batch, Instant),
    /// A file has its name; its hash is to be kept.
    Hash(Hashing),
}

/// A file that is whole and whose hash is not known.
struct Hashing {
    run: Arc<Run>,
    table: Arc<FileTable>,
    file: u32,
    seal: Seal,
}

impl Hashing {
    fn work(self, context: &WorkerContext) {
        // Not for as long as the run lasts, which ends with its last file.
        let download = &self.run.download;
        let Some(_open) = download.open_files() else {
            return;
        };
        // Under its name, so that one which waits keeps no space of a removed file.
        let root = self.run.root();
        let file = root.and_then(|root| self.run.open_saved(root, &self.table, self.file).ok()?);
        let (Some(file), Some(seals)) = (file, self.run.seals(&context.store)) else {
            return;
        };
        let size = self.table.size(self.file);
        let call = self.run.disk.enter();
        let may_go_on = |_| {
            call.goes_on();
            !download.is_gone()
        };
        let hash = check::hash_of(&file, size, may_go_on).ok();
        drop(call);
        if hash.is_none() {
            return;
        }
        let seal = Seal { hash, ..self.seal };
        if let Err(error) = seals.put(&[(self.file, seal)]) {
            log::warn!(
                "download {}: a checksum is not kept: {error}",
                self.run.download.id
            );
        }
    }
}

/// The thread pools.
pub struct Pools {
    pub workers: ThreadPool<Batch>,
    /// For tasks that fetch addresses.
    pub addresses: ThreadPool<Task>,
    /// For tasks that start a download, which are not to wait behind another's addresses.
    pub starts: ThreadPool<Task>,
    checks: ThreadPool<Check>,
    slots: Arc<super::WorkerSlots>,
    waiting: Arc<Waiting>,
}

impl Pools {
    /// Pools of at most `most` threads each.
    pub fn new(
        most: usize,
        context: &Arc<WorkerContext>,
        board: &Arc<Board>,
        reports: &Sender<Report>,
    ) -> Pools {
        let checks = checks(context, reports);
        let workers = workers(most, context, reports, checks.clone());
        let tasks = |name| tasks(name, most, context, board, &workers, reports);
        Pools {
            addresses: tasks("addresses"),
            starts: tasks("start"),
            checks,
            slots: context.slots.clone(),
            waiting: context.waiting.clone(),
            workers,
        }
    }

    /// So many threads hang in calls to disks, `workers` being what is wanted at work: as many more
    /// may take their places meanwhile.
    pub fn replace_hanging(&self, hanging: usize, workers: usize) {
        self.slots.lend(hanging);
        if hanging > 0 {
            self.raise_limit(workers + hanging);
            self.checks.raise_limit(processors() + hanging);
        }
    }

    /// Gives a batch to the next worker that is free.
    pub fn give(&self, batch: Batch) {
        batch.queue(&self.waiting, &self.workers);
    }

    /// Raises each pool's limit to `most` threads; never lowers it.
    pub fn raise_limit(&self, most: usize) {
        self.workers.raise_limit(most);
        self.addresses.raise_limit(most);
        self.starts.raise_limit(most);
    }

    /// Tries again to start the threads that the system refused.
    pub fn retry_spawn(&self) {
        self.workers.retry_spawn();
        self.addresses.retry_spawn();
        self.starts.retry_spawn();
    }
}

fn workers(
    most: usize,
    context: &Arc<WorkerContext>,
    reports: &Sender<Report>,
    checks: ThreadPool<Check>,
) -> ThreadPool<Batch> {
    let idle = context.clone();
    let (context, reports) = (context.clone(), reports.clone());
    let make_handler = move || {
        let (context, reports, checks) = (context.another(), reports.clone(), checks.clone());
        let mut buffer = CopyBuffer::default();
        let handler: Handler<Batch> =
            Box::new(move |batch| work(batch, &context, &mut buffer, &checks, &reports));
        handler
    };
    ThreadPool::new("worker", most, make_handler, move || idle.client.rest())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// Threads that compute digests of what was fetched: as many as there are processors.
fn checks(context: &Arc<WorkerContext>, reports: &Sender<Report>) -> ThreadPool<Check> {
    let most = processors();
    let (context, reports) = (context.clone(), reports.clone());
    let make_handler = move || {
        let (context, reports) = (context.clone(), reports.clone());
        let handler: Handler<Check> = Box::new(move |check| match check {
            Check::Batch(mut batch, begun) => {
                name_files(&mut batch, &context, Hashing::work);
                batch.report(&reports, begun.elapsed());
            }
            Check::Hash(hashing) => {
                // A panic costs the hash, no more.
                let _ = catch_unwind(AssertUnwindSafe(|| hashing.work(&context)));
            }
        });
        handler
    };
    ThreadPool::new("checksums", most, make_handler, || ())
}

fn tasks(
    name: &'static str,
    most: usize,
    context: &Arc<WorkerContext>,
    board: &Arc<Board>,
    workers: &ThreadPool<Batch>,
    reports: &Sender<Report>,
) -> ThreadPool<Task> {
    let (context, board, workers, reports) = (
        context.clone(),
        board.clone(),
        workers.clone(),
        reports.clone(),
    );
    let make_handler = move || {
        let runner = TaskRunner {
            context: context.another(),
            board: board.clone(),
            workers: workers.clone(),
            reports: reports.clone(),
        };
        let handler: Handler<Task> = Box::new(move |task| runner.run(task));
        handler
    };
    ThreadPool::new(name, most, make_handler, || ())
}

fn work(
    mut batch: Batch,
    context: &WorkerContext,
    buffer: &mut CopyBuffer,
    checks: &ThreadPool<Check>,
    reports: &Sender<Report>,
) {
    let is_outranked = |batch: &Batch| context.waiting.outranks(batch.priority());
    // A batch that was stopped needs no slot to say so.
    let is_halted = |batch: &Batch| batch.jobs.iter().all(Job::is_halted);
    // A worker that goes to a disk which does not respond is lost to all others.
    let is_vain = |batch: &Batch| batch.jobs.iter().any(|job| job.run.disk.is_silent());
    let has_slot = context
        .slots
        .acquire(|| is_halted(&batch) || is_outranked(&batch) || is_vain(&batch));
    if (is_outranked(&batch) || is_vain(&batch)) && !is_halted(&batch) {
        if has_slot {
            context.slots.release(false);
        }
        return batch.give_back(reports);
    }
    batch.ticket = None;
    let begun = Instant::now();
    let run = batch.jobs.first().map(|job| job.run.clone());
    let at_work = run.as_ref().map(|run| run.at_work());
    let addresses = batch.jobs.iter().filter(|job| job.range.is_some());
    let addresses: Vec<_> = addresses.map(|job| job.address_of_all().cloned()).collect();
    let mut next = addresses.as_slice();
    announce_parts(&batch, context);
    batch.run_jobs(|job| {
        if job.range.is_some() {
            next = next.get(1..).unwrap_or_default();
        }
        job.fetch_range(context, buffer, next)
    });
    let takes_long = batch.jobs.iter().any(Job::takes_long_to_check);
    if !takes_long {
        name_files(&mut batch, context, |hashing, context| {
            // The worker waits its turn where digests cannot keep up with the line.
            match checks
                .queue()
                .is_none_or(|queue| queue < MAX_HASHES_WAITING)
            {
                true => checks.send(Check::Hash(hashing)),
                false => hashing.work(context),
            }
        });
    }
    let is_complete = |done: &Done| matches!(done.outcome, Outcome::Complete);
    if let Some(run) = run.as_ref().filter(|_| batch.done.iter().any(is_complete)) {
        run.look_at_free_space();
    }
    if has_slot {
        let yielded = |done: &Done| matches!(done.outcome, Outcome::Yielded);
        context.slots.release(batch.done.iter().any(yielded));
    }
    drop(at_work);
    match takes_long {
        true => checks.send(Check::Batch(batch, begun)),
        false => batch.report(reports, begun.elapsed()),
    }
}

/// Tells the journal of all the `.part` files that are to be made, at once. Where it cannot be
/// told, each job tries again.
fn announce_parts(batch: &Batch, context: &WorkerContext) {
    let announced = batch
        .jobs
        .iter()
        .filter(|job| !job.is_halted())
        .filter_map(|job| Some((job, job.announce_part()?)));
    let (jobs, changes): (Vec<&Job>, Vec<Change>) = announced.unzip();
    if context.store.append(&changes).is_err() {
        jobs.into_iter().for_each(Job::part_is_unannounced);
    }
}

/// Gives the files that are whole their names. The journal is told of all of them at once.
/// What is still to be hashed goes to `hash`.
fn name_files(
    batch: &mut Batch,
    context: &WorkerContext,
    mut hash: impl FnMut(Hashing, &WorkerContext),
) {
    let mut changes = Vec::with_capacity(batch.jobs.len());
    let mut sealed = Vec::with_capacity(batch.jobs.len());
    batch.run_jobs(|job| {
        let call = job.run.disk.enter();
        let finalized = job.finalize(context);
        drop(call);
        let whole = finalized.and_then(|change| Ok((change, job.check(context)?)));
        match whole {
            Ok((change, seal)) => {
                changes.push(change);
                sealed.push((job.file.index, seal));
                None
            }
            Err(outcome) => Some(outcome),
        }
    });
    keep_seals(batch, &sealed, context);
    let saved = context.store.append(&changes);
    let mut sealed = sealed.into_iter();
    batch.run_jobs(|job| {
        let seal = sealed.next().map(|(_, seal)| seal).unwrap_or_default();
        if let Err(error) = &saved {
            return Some(Outcome::transient(error.to_string()));
        }
        job.table.set_verified(job.file.index, seal.verified);
        let later = job.is_to_be_hashed_later(&seal, context);
        let run = job.run.clone();
        let call = run.disk.enter();
        let outcome = job.name(context);
        drop(call);
        if matches!(outcome, Outcome::Complete) && later {
            let (run, table, file) = (job.run.clone(), job.table.clone(), job.file.index);
            let hashing = Hashing {
                run,
                table,
                file,
                seal,
            };
            hash(hashing, context);
        }
        Some(outcome)
    });
    write_manifest(batch, context);
}

/// Writes the list of checksums, where the last file is in place. The controller hears of that file
/// only afterwards.
fn write_manifest(batch: &mut Batch, context: &WorkerContext) {
    let is_complete =
        |done: &&mut Done| matches!(done.outcome, Outcome::Complete | Outcome::Skipped);
    let Some(last) = batch.done.iter_mut().rev().find(is_complete) else {
        return;
    };
    manifest::write_or_log(&last.job.run, &last.job.table, context);
}

/// Keeps what is known of whole files. Where that fails, it is not known later.
fn keep_seals(batch: &Batch, sealed: &[(u32, Seal)], context: &WorkerContext) {
    let Some(job) = batch.jobs.first() else {
        return;
    };
    let Some(seals) = job.run.seals(&context.store) else {
        return;
    };
    if let Err(error) = seals.put(sealed) {
        log::warn!(
            "download {}: checksums are not kept: {error}",
            job.run.download.id
        );
    }
}

struct TaskRunner {
    context: WorkerContext,
    board: Arc<Board>,
    workers: ThreadPool<Batch>,
    reports: Sender<Report>,
}

impl TaskRunner {
    fn run(&self, task: Task) {
        match task {
            Task::Start(request) => self.begin(request),
            Task::Addresses(batch) => self.addresses(batch),
        }
    }

    fn begin(&self, request: Box<StartRequest>) {
        let key = request.run.download.key;
        let begun = catch_unwind(AssertUnwindSafe(|| {
            start::begin(&request, &self.context, &self.board)
        }));
        let result = begun.unwrap_or_else(|_| Err(StartError::panicked()));
        let _ = self.reports.send(Report::Begun {
            key,
            request,
            result,
        });
    }

    fn addresses(&self, mut batch: Batch) {
        let wanted = batch.jobs.iter().filter(|job| job.wants_address());
        let wanted: Vec<u32> = wanted.map(|job| job.file.index).collect();
        let mut next = wanted.as_slice();
        batch.run_jobs(|job| {
            if job.wants_address() {
                next = next.get(1..).unwrap_or_default();
            }
            job.find_address(&self.context, next).err()
        });
        if batch.jobs.is_empty() {
            batch.report(&self.reports, Duration::ZERO);
        } else {
            batch.queue(&self.context.waiting, &self.workers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::model::download::Download;
    use crate::model::table::TableBuilder;
    use crate::store::Store;
    use crate::transfer::OpenFile;
    use crate::transfer::run::Run;
    use crate::transfer::slots::WorkerSlots;
    use crate::upstream::session::Session;
    use crate::upstream::{Client, Options};

    const WORKERS: usize = 2;

    fn run() -> Arc<Run> {
        Arc::new(Run::new(
            Arc::new(Download::sample()),
            Arc::new(Session::new(None)),
            Arc::default(),
        ))
    }

    /// A job for a file that is not in its table, which is a mistake of ours and ends in a panic.
    fn impossible(run: &Arc<Run>) -> Job {
        let file = Arc::new(OpenFile::new(
            7,
            10,
            crate::store::saved::Partial::default(),
            false,
            None,
        ));
        let range = file.take(1);
        Job::new(
            run.clone(),
            Arc::new(TableBuilder::default().finish()),
            file,
            range,
        )
    }

    fn batch(run: &Arc<Run>) -> Batch {
        Batch {
            key: 1,
            jobs: vec![impossible(run), impossible(run)],
            done: Vec::new(),
            ticket: None,
        }
    }

    #[test]
    fn a_panic_is_its_files_error_and_the_pool_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "boot").unwrap();
        let context = Arc::new(WorkerContext {
            client: Client::new(Options::default()).unwrap(),
            store: Arc::new(store),
            meter: Default::default(),
            limit: Arc::default(),
            slots: Arc::new(WorkerSlots::new(WORKERS)),
            waiting: Arc::default(),
            keeps_hashes: true,
        });
        let (reports, reports_in) = unbounded();
        let pools = Pools::new(WORKERS, &context, &Arc::default(), &reports);
        let done = || match reports_in.recv_timeout(Duration::from_secs(30)).unwrap() {
            Report::Batch { done, .. } => done,
            Report::Begun { .. } => panic!("no start was asked for"),
        };
        let run = run();
        // More than there are threads: one that died of it would not do another, nor one that kept
        // its slot.
        for _ in 0..5 * WORKERS {
            pools.workers.send(batch(&run));
            pools.addresses.send(Task::Addresses(batch(&run)));
        }
        for _ in 0..10 * WORKERS {
            let done = done();
            assert_eq!(done.len(), 2, "the second file was tried, too");
            for Done { job, outcome } in done {
                let Outcome::Failed(problem) = outcome else {
                    panic!("{outcome:?}")
                };
                assert_eq!(problem.code, Code::InternalError);
                assert!(job.file.take(1).is_some(), "the range is free again");
            }
        }
        // They work: the jobs of a run that was halted are given back undone.
        run.halt();
        pools.workers.send(batch(&run));
        let stopped = |done: &Done| matches!(done.outcome, Outcome::Stopped);
        assert!(done().iter().all(stopped));
    }
}
