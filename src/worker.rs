//! The threads that do jobs: one pool for bytes, and one for what goes before them. They grow as there is work and
//! never shrink: a thread without work costs next to nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::begin::{self, Beginning, NoBeginning};
use crate::board::{Board, Code, FileProblem};
use crate::hold::Hold;
use crate::limit::Limit;
use crate::outcome::Outcome;
use crate::reserve::Reserve;
use crate::seats::Seats;
use crate::table::FileTable;
use crate::transfer::{Hands, Job};

/// So long after its last job a worker lies down and gives its buffer back; the last one to do so has the
/// connections closed. An agent that rests holds little memory.
const DROWSY: Duration = Duration::from_secs(5);

/// What goes before the bytes.
pub enum Errand {
    Begin(Box<Beginning>),
    /// Fetch the address, then pass the job on to the workers.
    Address(Job),
}

/// What the threads tell the controller.
pub enum Report {
    Begun {
        key: u32,
        beginning: Box<Beginning>,
        result: Result<Arc<FileTable>, NoBeginning>,
    },
    Job {
        key: u32,
        job: Box<Job>,
        outcome: Outcome,
    },
}

/// Both pools. The threads end when their channels are closed.
pub struct Pool {
    hands: Arc<Hands>,
    workers: Arc<Reserve>,
    errands: Arc<Reserve>,
}

impl Pool {
    /// Without a thread: `grow` starts the first.
    pub fn new(
        hands: Arc<Hands>,
        board: Arc<Board>,
        errands: Receiver<Errand>,
        jobs: (Sender<Job>, Receiver<Job>),
        reports: Sender<Report>,
    ) -> Pool {
        let worker = Worker {
            hands: hands.clone(),
            jobs: jobs.1,
            reports: reports.clone(),
            awake: Arc::default(),
            hold: None,
        };
        let runner = ErrandRunner {
            hands: hands.clone(),
            board,
            jobs: jobs.0,
            reports,
        };
        Pool {
            hands,
            workers: Reserve::new("worker", move |reserve| worker.another().work(reserve)),
            errands: Reserve::new("errand", move |reserve| runner.work(&errands, reserve)),
        }
    }

    pub fn limit(&self) -> &Limit {
        &self.hands.limit
    }

    pub fn seats(&self) -> &Seats {
        &self.hands.seats
    }

    /// Allows so many byte workers, and as many threads for errands.
    ///
    /// # Errors
    /// The system refuses a thread; those that there are work on.
    pub fn grow(&self, workers: usize) -> std::io::Result<()> {
        self.workers.allow(workers)?;
        self.errands.allow(workers)
    }
}

struct Worker {
    hands: Arc<Hands>,
    jobs: Receiver<Job>,
    reports: Sender<Report>,
    /// How many workers have a hold.
    awake: Arc<AtomicUsize>,
    /// None while at rest.
    hold: Option<Hold>,
}

impl Worker {
    /// One more of its kind, at rest.
    fn another(&self) -> Worker {
        Worker {
            hands: self.hands.clone(),
            jobs: self.jobs.clone(),
            reports: self.reports.clone(),
            awake: self.awake.clone(),
            hold: None,
        }
    }

    fn work(&mut self, reserve: &Arc<Reserve>) {
        let mut fresh = true;
        while let Some(job) = self.next_job() {
            if std::mem::take(&mut fresh) {
                reserve.called();
            }
            // A job that was stopped needs no seat to say so.
            let seats = &self.hands.seats;
            let seated = seats.take(|| job.is_halted());
            let hold = self.hold.get_or_insert_default();
            let outcome = caught(|| job.work(&self.hands, hold));
            if seated {
                seats.give_back(matches!(outcome, Outcome::Yielded));
            }
            if let (Outcome::Failed(_), Some(range)) = (&outcome, &job.range) {
                // After a panic the range is still taken; putting it back twice does no harm.
                job.file.put_back(range);
            }
            report(&self.reports, job, outcome);
        }
    }

    /// Waits for a job, at rest where it takes long; None when there will be no more.
    fn next_job(&mut self) -> Option<Job> {
        if self.hold.is_some() {
            match self.jobs.recv_timeout(DROWSY) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.rest(),
            }
        }
        let job = self.jobs.recv().ok()?;
        self.awake.fetch_add(1, Ordering::Relaxed);
        self.hold = Some(Hold::default());
        Some(job)
    }

    fn rest(&mut self) {
        self.hold = None;
        if self.awake.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.hands.client.rest();
        }
    }
}

fn report(reports: &Sender<Report>, job: Job, outcome: Outcome) {
    let key = job.run.download.key;
    // The controller is gone only when the process ends.
    let _ = reports.send(Report::Job {
        key,
        job: Box::new(job),
        outcome,
    });
}

/// A panic becomes its file's error; the thread lives on.
fn caught(work: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| panicked())
}

fn panicked() -> Outcome {
    Outcome::Failed(FileProblem {
        code: Code::InternalError,
        message: "haul itself failed on this file; resume to try again, and please report it"
            .into(),
    })
}

struct ErrandRunner {
    hands: Arc<Hands>,
    board: Arc<Board>,
    jobs: Sender<Job>,
    reports: Sender<Report>,
}

impl ErrandRunner {
    fn work(&self, errands: &Receiver<Errand>, reserve: &Arc<Reserve>) {
        let mut fresh = true;
        for errand in errands {
            if std::mem::take(&mut fresh) {
                reserve.called();
            }
            self.run(errand);
        }
    }

    fn run(&self, errand: Errand) {
        match errand {
            Errand::Begin(beginning) => self.begin(beginning),
            Errand::Address(job) => self.address(job),
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

    fn address(&self, mut job: Job) {
        if job.run.is_halted() {
            return self.give_back(job, Outcome::Stopped);
        }
        let fetched = catch_unwind(AssertUnwindSafe(|| job.fetch_address(&self.hands)));
        match fetched {
            Ok(Ok(address)) => {
                job.address = Some(address);
                let _ = self.jobs.send(job);
            }
            Ok(Err(outcome)) => self.give_back(job, outcome),
            Err(_) => self.give_back(job, panicked()),
        }
    }

    fn give_back(&self, job: Job, outcome: Outcome) {
        if let Some(range) = &job.range {
            job.file.put_back(range);
        }
        report(&self.reports, job, outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::board::{Download, IfExists, Order, Secret, State, View};
    use crate::clock::Timestamp;
    use crate::link::Link;
    use crate::run::Run;
    use crate::session::Session;
    use crate::store::Store;
    use crate::table::TableBuilder;
    use crate::transfer::OpenFile;
    use crate::upstream::{Client, Options};

    const WORKERS: usize = 2;

    fn run() -> Arc<Run> {
        let link = Link {
            public: "http://localhost:1/A".into(),
            api: "http://localhost:1".into(),
            id: "A".into(),
            secret: Secret::new("s"),
        };
        let order = Order {
            link,
            password: None,
            dst_folder: "/nowhere".into(),
            if_exists: IfExists::Rename,
        };
        let view = View {
            state: State::Transferring,
            name: None,
            package_id: None,
            completed_at: None,
            problem: None,
        };
        let download = Download::new("D".into(), 1, order, Timestamp(0), view);
        Arc::new(Run::new(Arc::new(download), Session::new(None)))
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
        Job {
            run: run.clone(),
            table: Arc::new(TableBuilder::default().finish()),
            file,
            range,
            address: None,
        }
    }

    #[test]
    fn a_panic_is_its_files_error_and_the_pool_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "boot").unwrap();
        let hands = Arc::new(Hands {
            client: Client::new(Options::default()).unwrap(),
            store: Arc::new(store),
            meter: Default::default(),
            limit: Limit::default(),
            seats: Seats::new(WORKERS),
        });
        let (errands, errands_in) = unbounded();
        let (jobs, jobs_in) = unbounded();
        let (reports, reports_in) = unbounded();
        let channel = (jobs.clone(), jobs_in);
        let pool = Pool::new(hands, Arc::default(), errands_in, channel, reports);
        pool.grow(WORKERS).unwrap();
        let run = run();
        // More than there are threads: one that died of it would not do another, nor one that kept its seat.
        for _ in 0..5 * WORKERS {
            jobs.send(impossible(&run)).unwrap();
            errands.send(Errand::Address(impossible(&run))).unwrap();
        }
        for _ in 0..10 * WORKERS {
            let report = reports_in.recv_timeout(Duration::from_secs(30)).unwrap();
            let Report::Job { job, outcome, .. } = report else {
                panic!("no beginning was asked for")
            };
            let Outcome::Failed(problem) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(problem.code, Code::InternalError);
            assert!(job.file.take(1).is_some(), "the range is free again");
        }
        // They work: a job of a run that was halted is given back undone.
        run.halt();
        jobs.send(impossible(&run)).unwrap();
        let report = reports_in.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(
            report,
            Report::Job {
                outcome: Outcome::Stopped,
                ..
            }
        ));
    }
}
