//! What the crews do: one moves bytes, the others do the errands that go before them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::begin::{self, Beginning, NoBeginning, Start};
use crate::board::{Board, Code, FileProblem};
use crate::crew::{Crew, Hand};
use crate::hold::Hold;
use crate::outcome::Outcome;
use crate::saved::Change;
use crate::transfer::{Hands, Job};

/// What goes before the bytes.
pub enum Errand {
    Begin(Box<Beginning>),
    /// Fetch the addresses, then pass the batch on to the workers.
    Addresses(Batch),
}

/// Jobs of one download that are given out together, and reported together: handing a job over costs more than
/// fetching a small file.
pub struct Batch {
    pub key: u32,
    pub jobs: Vec<Job>,
    /// Those that have ended already.
    pub done: Vec<Done>,
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
        beginning: Box<Beginning>,
        result: Result<Start, NoBeginning>,
    },
    Batch {
        key: u32,
        done: Vec<Done>,
        /// How long the worker took for it.
        took: Duration,
    },
}

impl Batch {
    /// Does the jobs in turn. After one that ended for a reason beyond its file, the others are given back undone.
    fn each(&mut self, mut work: impl FnMut(&mut Job) -> Option<Outcome>) {
        let mut kept = Vec::with_capacity(self.jobs.len());
        let mut broken_off = false;
        for mut job in self.jobs.drain(..) {
            let outcome = if broken_off {
                Some(Outcome::Stopped)
            } else {
                caught(|| work(&mut job))
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
fn caught(work: impl FnOnce() -> Option<Outcome>) -> Option<Outcome> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Some(Outcome::Failed(FileProblem {
            code: Code::InternalError,
            message: "haul itself failed on this file; resume to try again, and please report it"
                .into(),
        }))
    })
}

/// The crews.
pub struct Crews {
    pub workers: Crew<Batch>,
    pub errands: Crew<Errand>,
    /// Errands too: those that begin a download, which are not to wait behind another's addresses.
    pub beginnings: Crew<Errand>,
}

impl Crews {
    /// Crews of so many each.
    pub fn new(
        most: usize,
        hands: &Arc<Hands>,
        board: &Arc<Board>,
        reports: &Sender<Report>,
    ) -> Crews {
        let workers = workers(most, hands, reports);
        let errands = |name| errands(name, most, hands, board, &workers, reports);
        Crews {
            errands: errands("errand"),
            beginnings: errands("beginning"),
            workers,
        }
    }

    /// Lets each have so many threads, or more where it could before.
    pub fn allow(&self, most: usize) {
        self.workers.allow(most);
        self.errands.allow(most);
        self.beginnings.allow(most);
    }

    /// Tries again to start the threads that the system refused.
    pub fn tend(&self) {
        self.workers.tend();
        self.errands.tend();
        self.beginnings.tend();
    }
}

fn workers(most: usize, hands: &Arc<Hands>, reports: &Sender<Report>) -> Crew<Batch> {
    let idle = hands.clone();
    let (hands, reports) = (hands.clone(), reports.clone());
    let hire = move || {
        let (hands, reports) = (hands.another(), reports.clone());
        let mut hold = Hold::default();
        let hand: Hand<Batch> = Box::new(move |batch| work(batch, &hands, &mut hold, &reports));
        hand
    };
    Crew::new("worker", most, hire, move || idle.client.rest())
}

fn errands(
    name: &'static str,
    most: usize,
    hands: &Arc<Hands>,
    board: &Arc<Board>,
    workers: &Crew<Batch>,
    reports: &Sender<Report>,
) -> Crew<Errand> {
    let (hands, board, workers, reports) = (
        hands.clone(),
        board.clone(),
        workers.clone(),
        reports.clone(),
    );
    let hire = move || {
        let runner = ErrandRunner {
            hands: hands.another(),
            board: board.clone(),
            workers: workers.clone(),
            reports: reports.clone(),
        };
        let hand: Hand<Errand> = Box::new(move |errand| runner.run(errand));
        hand
    };
    Crew::new(name, most, hire, || ())
}

fn work(mut batch: Batch, hands: &Hands, hold: &mut Hold, reports: &Sender<Report>) {
    // A batch that was stopped needs no seat to say so.
    let seated = hands.seats.take(|| batch.jobs.iter().all(Job::is_halted));
    let begun = Instant::now();
    let run = batch.jobs.first().map(|job| job.run.clone());
    let at_work = run.as_ref().map(|run| run.at_work());
    let addresses = batch.jobs.iter().filter(|job| job.range.is_some());
    let addresses: Vec<_> = addresses.map(|job| job.address_of_all().cloned()).collect();
    let mut next = addresses.as_slice();
    announce_parts(&batch, hands);
    batch.each(|job| {
        if job.range.is_some() {
            next = next.get(1..).unwrap_or_default();
        }
        job.bring(hands, hold, next)
    });
    name_files(&mut batch, hands);
    if seated {
        let yielded = |done: &Done| matches!(done.outcome, Outcome::Yielded);
        hands.seats.give_back(batch.done.iter().any(yielded));
    }
    drop(at_work);
    batch.report(reports, begun.elapsed());
}

/// Tells the journal of all the `.part` files that are to be made, at once. Where it cannot be told, each job tries again.
fn announce_parts(batch: &Batch, hands: &Hands) {
    let announced = batch
        .jobs
        .iter()
        .filter(|job| !job.is_halted())
        .filter_map(|job| Some((job, job.announce_part()?)));
    let (jobs, changes): (Vec<&Job>, Vec<Change>) = announced.unzip();
    if hands.store.append(&changes).is_err() {
        jobs.into_iter().for_each(Job::part_is_unannounced);
    }
}

/// Gives the files that are whole their names. The journal is told of all of them at once.
fn name_files(batch: &mut Batch, hands: &Hands) {
    let mut changes = Vec::with_capacity(batch.jobs.len());
    batch.each(|job| match job.seal(hands) {
        Ok(change) => {
            changes.push(change);
            None
        }
        Err(outcome) => Some(outcome),
    });
    let saved = hands.store.append(&changes);
    batch.each(|job| match &saved {
        Ok(()) => Some(job.name(hands)),
        Err(error) => Some(Outcome::passing(error.to_string())),
    });
}

struct ErrandRunner {
    hands: Hands,
    board: Arc<Board>,
    workers: Crew<Batch>,
    reports: Sender<Report>,
}

impl ErrandRunner {
    fn run(&self, errand: Errand) {
        match errand {
            Errand::Begin(beginning) => self.begin(beginning),
            Errand::Addresses(batch) => self.addresses(batch),
        }
    }

    fn begin(&self, beginning: Box<Beginning>) {
        let key = beginning.run.download.key;
        let begun = catch_unwind(AssertUnwindSafe(|| {
            begin::begin(&beginning, &self.hands, &self.board)
        }));
        let result = begun.unwrap_or_else(|_| Err(NoBeginning::panicked()));
        let _ = self.reports.send(Report::Begun {
            key,
            beginning,
            result,
        });
    }

    fn addresses(&self, mut batch: Batch) {
        let wanted = batch.jobs.iter().filter(|job| job.wants_address());
        let wanted: Vec<u32> = wanted.map(|job| job.file.index).collect();
        let mut next = wanted.as_slice();
        batch.each(|job| {
            if job.wants_address() {
                next = next.get(1..).unwrap_or_default();
            }
            job.find_address(&self.hands, next).err()
        });
        if batch.jobs.is_empty() {
            batch.report(&self.reports, Duration::ZERO);
        } else {
            self.workers.send(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::board::Download;
    use crate::run::Run;
    use crate::seats::Seats;
    use crate::session::Session;
    use crate::store::Store;
    use crate::table::TableBuilder;
    use crate::transfer::OpenFile;
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
            crate::saved::Partial::default(),
            false,
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
        }
    }

    #[test]
    fn a_panic_is_its_files_error_and_the_crew_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "boot").unwrap();
        let hands = Arc::new(Hands {
            client: Client::new(Options::default()).unwrap(),
            store: Arc::new(store),
            meter: Default::default(),
            limit: Arc::default(),
            seats: Arc::new(Seats::new(WORKERS)),
        });
        let (reports, reports_in) = unbounded();
        let crews = Crews::new(WORKERS, &hands, &Arc::default(), &reports);
        let done = || match reports_in.recv_timeout(Duration::from_secs(30)).unwrap() {
            Report::Batch { done, .. } => done,
            Report::Begun { .. } => panic!("no beginning was asked for"),
        };
        let run = run();
        // More than there are threads: one that died of it would not do another, nor one that kept its seat.
        for _ in 0..5 * WORKERS {
            crews.workers.send(batch(&run));
            crews.errands.send(Errand::Addresses(batch(&run)));
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
        crews.workers.send(batch(&run));
        let stopped = |done: &Done| matches!(done.outcome, Outcome::Stopped);
        assert!(done().iter().all(stopped));
    }
}
