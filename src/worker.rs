//! The threads that do jobs: a fixed pool for bytes, and one for what goes before them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};

use crate::begin::{self, Beginning, NoBeginning};
use crate::board::{Board, Code, FileProblem};
use crate::hold::Hold;
use crate::table::FileTable;
use crate::transfer::{Hands, Job, Outcome};

/// Enough for TLS and JSON with room to spare; what is not touched costs nothing.
const STACK: usize = 512 << 10;

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

/// Starts `workers` byte workers and as many threads for errands. They end when their channels are closed.
///
/// # Errors
/// The system refuses a thread.
pub fn start(
    workers: usize,
    hands: &Arc<Hands>,
    board: &Arc<Board>,
    errands: &Receiver<Errand>,
    jobs: &(Sender<Job>, Receiver<Job>),
    reports: &Sender<Report>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for number in 0..workers {
        let (hands, jobs, reports) = (hands.clone(), jobs.1.clone(), reports.clone());
        let builder = thread::Builder::new()
            .name(format!("worker-{number}"))
            .stack_size(STACK);
        threads.push(builder.spawn(move || work(&hands, &jobs, &reports))?);
    }
    for number in 0..workers {
        let errand = ErrandRunner {
            hands: hands.clone(),
            board: board.clone(),
            jobs: jobs.0.clone(),
            reports: reports.clone(),
        };
        let errands = errands.clone();
        let builder = thread::Builder::new()
            .name(format!("errand-{number}"))
            .stack_size(STACK);
        threads.push(builder.spawn(move || errands.iter().for_each(|next| errand.run(next)))?);
    }
    Ok(threads)
}

fn work(hands: &Hands, jobs: &Receiver<Job>, reports: &Sender<Report>) {
    let mut hold = Hold::default();
    for job in jobs {
        let outcome = caught(|| job.work(hands, &mut hold));
        if let (Outcome::Failed(_), Some(range)) = (&outcome, &job.range) {
            // After a panic the range is still taken; putting it back twice does no harm.
            job.file.put_back(range);
        }
        report(reports, job, outcome);
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
