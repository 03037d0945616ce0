//! A download as a state machine: what happened goes in ([`Record::on`]), what is to be done comes
//! out ([`Effect`]), and the next piece of work is asked for ([`Record::pick`]). No threads, no
//! input or output.
//!
//! Invariants:
//!
//! - A job that was picked comes back by exactly one [`Event::File`] or [`Record::cancel_pick`];
//!   until then it is counted in `jobs` and `out`.
//! - Nothing is picked unless the state is `transferring` and no run is halting. A run that was
//!   halted ends, and the next one starts, only when the record is idle.
//! - A file in `asleep` is in `waiting`; a file in `failed` is in neither.
//! - `problem` is shown as `error`: in `transferring` it is there only while something is waited
//!   for, in `error` always, in `paused` and `complete` never.
//! - `complete` and `error` are reached only when no file is left to be fetched, or by a fault of
//!   the download as a whole.

mod explain;
mod pick;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::pick::Pick;
use self::retry::{Setback, Wait};
use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::model::outcome::Outcome;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};

/// So many faults in a row, on whatever files, and the whole download waits: the fault is not a
/// file's. A definite answer about one file ends the row, whatever it says.
const STREAK: u32 = 8;
/// An answer that makes no sense may be a portal's or a proxy's; so many in a row are the server's
/// own.
const MALFORMED: u32 = 5;

/// The time of an event, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub wall: Timestamp,
    /// From 0 to 1, at random.
    pub jitter: f64,
}

/// What happened.
#[derive(Clone)]
pub enum Event {
    Begun(Arc<FileTable>),
    /// The start is to be tried again.
    NotBegun {
        message: String,
        retry_after: Option<Duration>,
        malformed: bool,
    },
    /// The start failed for good.
    Broken(Problem),
    /// It was told to stop.
    StartStopped,
    File(u32, Outcome),
    /// Bytes of a file came while its jobs go on; `flowing` of them have brought some.
    Gained {
        file: u32,
        flowing: u32,
    },
    Paused,
    Resumed,
    /// Calls to the destination's disk do not return, or do again.
    Silent(bool),
    /// What was in place may be lost, whatever state it is in.
    Lost(Problem),
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The state or the problem that is shown has changed.
    Show,
    /// Tell the run's jobs to give up.
    Halt,
    /// A file has failed.
    Fail(u32, FileProblem),
    /// A file is done with: its descriptors can be closed and its ranges forgotten.
    Close(u32),
    /// Every file is in place.
    Complete,
    /// The download is in error from here on.
    Error,
    /// The failed file is pending again.
    Again(u32),
}

/// The state machine of one download.
pub struct Record {
    state: State,
    /// What is shown as `error`.
    problem: Option<Problem>,
    /// The files, once they were listed; none any more after the end.
    table: Option<Arc<FileTable>>,
    /// Whether this run's destination is open and its list read.
    begun: bool,
    /// The start of a run was picked and has not come back.
    starting: bool,
    /// Jobs that are out.
    jobs: usize,
    /// The run was told to give up, and some of its jobs are still out.
    halting: bool,
    /// No file before this one is new to the run, but for those in `again`.
    next: u32,
    /// Files that are neither complete nor skipped nor failed.
    files_left: u64,
    /// Files on their way that may have a range to give, the next one first.
    with_ranges: VecDeque<u32>,
    /// Jobs that are out, by file.
    out: BTreeMap<u32, u32>,
    /// Files that had a fault which is not known to be over.
    waiting: BTreeMap<u32, Wait>,
    /// The waiting files whose attempt is not due yet.
    asleep: BTreeSet<u32>,
    /// Files whose wait is over, until a job is told.
    woken: BTreeSet<u32>,
    /// How often jobs of a file ended because it started over, and since when that is counted.
    restarts: BTreeMap<u32, (Instant, u32)>,
    /// Files that have failed, and why.
    failed: BTreeMap<u32, Code>,
    /// Files that had failed and are to be tried again: as new ones are, since there may be very
    /// many.
    again: VecDeque<u32>,
    /// Faults since a server last gave a definite answer.
    consecutive_faults: u32,
    /// Starts in a row that were answered without sense.
    malformed: u32,
    /// The destination does not respond.
    silent: bool,
    /// The wait of the download as a whole.
    download_backoff: Option<Backoff>,
    /// What is being waited for, in words.
    last_fault: String,
    /// Whether files on their way have the next turn, rather than new ones.
    open_first: bool,
    /// A fault is final when no byte has come for so long.
    retry_for: Duration,
}

impl Record {
    /// A new download, or one that goes on after a start. `failed` are the files that have failed.
    pub fn new(
        state: State,
        problem: Option<Problem>,
        failed: BTreeMap<u32, Code>,
        retry_for: Duration,
    ) -> Record {
        Record {
            state,
            problem,
            table: None,
            begun: false,
            starting: false,
            jobs: 0,
            halting: false,
            next: 0,
            files_left: 0,
            with_ranges: VecDeque::new(),
            out: BTreeMap::new(),
            waiting: BTreeMap::new(),
            asleep: BTreeSet::new(),
            woken: BTreeSet::new(),
            restarts: BTreeMap::new(),
            failed,
            again: VecDeque::new(),
            consecutive_faults: 0,
            malformed: 0,
            silent: false,
            download_backoff: None,
            last_fault: String::new(),
            open_first: false,
            retry_for,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the destination does not respond: no job is picked meanwhile.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// What is shown as `error`.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Whether no job of the download is out.
    pub fn is_idle(&self) -> bool {
        self.jobs == 0 && !self.starting
    }

    /// How many of the download's jobs are out.
    pub fn jobs_out(&self) -> usize {
        self.jobs
    }

    /// Takes in an event.
    pub fn on(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let before = (self.state, self.problem.clone());
        match event {
            Event::Begun(table) => self.on_begun(table),
            Event::StartStopped => self.starting = false,
            Event::NotBegun {
                message,
                retry_after,
                malformed,
            } => {
                self.on_not_begun(message, retry_after, malformed, now, &mut effects);
            }
            Event::Broken(problem) => {
                self.starting = false;
                self.fail_all(problem, &mut effects);
            }
            Event::File(file, event) => {
                self.take_back(file);
                self.on_file(file, event, now, &mut effects);
            }
            Event::Gained { file, flowing } => self.gained(file, flowing, now),
            Event::Paused => {
                self.state = State::Paused;
                self.halt(&mut effects);
            }
            Event::Resumed => self.on_resumed(&mut effects),
            Event::Silent(is) => self.silent = is,
            Event::Lost(problem) => {
                // What is to be done about it is the user's to decide, also where it was paused or
                // complete.
                self.state = State::Transferring;
                self.fail_all(problem, &mut effects);
            }
        }
        if self.is_idle() {
            self.halting = false;
            self.settle(&mut effects);
        }
        self.explain(now);
        if (self.state, &self.problem) != (before.0, &before.1) {
            effects.push(Effect::Show);
        }
        effects
    }

    fn on_begun(&mut self, table: Arc<FileTable>) {
        self.starting = false;
        // A run that was halted meanwhile is of no use: the next one begins anew.
        self.begun = self.state == State::Transferring && !self.halting;
        self.download_backoff = None;
        self.consecutive_faults = 0;
        self.malformed = 0;
        let counts = table.counts();
        self.files_left =
            counts.files_total - counts.files_complete - counts.files_skipped - counts.files_failed;
        self.table = Some(table);
    }

    fn on_not_begun(
        &mut self,
        message: String,
        retry_after: Option<Duration>,
        malformed: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.starting = false;
        if self.state != State::Transferring {
            return;
        }
        self.malformed = if malformed { self.malformed + 1 } else { 0 };
        self.back_off(retry_after, now);
        let code = if self.malformed >= MALFORMED {
            Code::ProtocolError
        } else if self.has_had_its_time(now) {
            Code::UpstreamUnavailable
        } else {
            self.last_fault = message;
            return;
        };
        self.fail_all(
            Problem {
                code,
                message,
                recoverable: true,
                retry_at: None,
            },
            effects,
        );
    }

    fn on_file(&mut self, file: u32, event: Outcome, now: Now, effects: &mut Vec<Effect>) {
        if self.is_settled(file) && !matches!(event, Outcome::Complete | Outcome::Skipped) {
            return self.on_straggler(event, effects);
        }
        match event {
            Outcome::Stopped | Outcome::Yielded => self.queue_file(file),
            Outcome::StartedOver => self.started_over(file, now, effects),
            Outcome::RangeDone => {
                self.gained(file, 0, now);
                self.queue_file(file);
            }
            Outcome::Complete | Outcome::Skipped => {
                self.reached();
                self.finish(file, effects);
            }
            Outcome::Again(message) => {
                self.reached();
                let setback = Setback {
                    message,
                    retry_after: None,
                    gained: false,
                    of_all: true,
                };
                self.set_back(file, setback, now, effects);
            }
            Outcome::Failed(problem) => {
                self.reached();
                self.fail(file, problem, effects);
            }
            Outcome::DownloadFailed(problem) => {
                self.queue_file(file);
                self.fail_all(problem, effects);
            }
            Outcome::Transient {
                message,
                retry_after,
                gained,
            } => {
                if gained {
                    self.reached();
                }
                let setback = Setback {
                    message,
                    retry_after,
                    gained,
                    of_all: false,
                };
                if self.set_back(file, setback, now, effects) {
                    self.consecutive_faults += 1;
                    if self.consecutive_faults >= STREAK {
                        self.back_off(retry_after, now);
                    }
                }
                self.give_up_on_server(now, effects);
            }
        }
    }

    /// A large file has several jobs at a time. Those that end after its last byte was published,
    /// or after it failed, have nothing to add: above all they must not bring it back to life.
    fn on_straggler(&mut self, event: Outcome, effects: &mut Vec<Effect>) {
        if let Outcome::DownloadFailed(problem) = event {
            self.fail_all(problem, effects);
        }
    }

    /// Whether nothing is left to do for the file, for now.
    fn is_settled(&self, file: u32) -> bool {
        let in_place = |table: &Arc<FileTable>| {
            matches!(table.state(file), FileState::Complete | FileState::Skipped)
        };
        self.failed.contains_key(&file) || self.table.as_ref().is_some_and(in_place)
    }

    fn done(&self, file: u32) -> u64 {
        self.table.as_ref().map_or(0, |table| table.done(file))
    }

    /// How many jobs of the file are out.
    fn out_of(&self, file: u32) -> u32 {
        self.out.get(&file).copied().unwrap_or(0)
    }

    /// A job of the file is out.
    fn give_out(&mut self, file: u32) {
        self.jobs += 1;
        *self.out.entry(file).or_default() += 1;
    }

    /// A job of the file is out no more.
    fn take_back(&mut self, file: u32) {
        self.jobs -= 1;
        if let Some(out) = self.out.get_mut(&file) {
            *out -= 1;
            if *out == 0 {
                self.out.remove(&file);
            }
        }
    }

    fn queue_file(&mut self, file: u32) {
        if !self.with_ranges.contains(&file) {
            self.with_ranges.push_back(file);
        }
    }

    fn forget(&mut self, file: u32) {
        self.with_ranges.retain(|&with_ranges| with_ranges != file);
        self.waiting.remove(&file);
        self.asleep.remove(&file);
        self.woken.remove(&file);
        self.restarts.remove(&file);
    }

    fn finish(&mut self, file: u32, effects: &mut Vec<Effect>) {
        self.forget(file);
        // One that had failed was counted then.
        if self.failed.remove(&file).is_some() {
            return;
        }
        self.files_left = self.files_left.saturating_sub(1);
        effects.push(Effect::Close(file));
    }

    fn fail(&mut self, file: u32, problem: FileProblem, effects: &mut Vec<Effect>) {
        self.finish(file, effects);
        self.failed.insert(file, problem.code);
        effects.push(Effect::Fail(file, problem));
    }

    fn fail_all(&mut self, problem: Problem, effects: &mut Vec<Effect>) {
        if self.state == State::Transferring {
            self.state = State::Error;
            self.problem = Some(problem);
            effects.push(Effect::Error);
        }
        self.halt(effects);
    }

    fn halt(&mut self, effects: &mut Vec<Effect>) {
        self.begun = false;
        self.halting = !self.is_idle();
        // The next run does not wait for what this one had to.
        let waiting = std::mem::take(&mut self.waiting);
        for file in waiting.into_keys() {
            self.queue_file(file);
            self.woken.insert(file);
        }
        self.asleep.clear();
        self.download_backoff = None;
        self.consecutive_faults = 0;
        self.malformed = 0;
        effects.push(Effect::Halt);
    }

    fn on_resumed(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Transferring;
        self.problem = None;
        let failed = std::mem::take(&mut self.failed);
        self.files_left += failed.len() as u64;
        // Those ahead are new to this run anyway.
        self.again
            .extend(failed.range(..self.next).map(|(&file, _)| file));
        effects.extend(failed.into_keys().map(Effect::Again));
    }

    /// Ends the download where nothing is left to do.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        if !self.begun || self.state != State::Transferring || self.files_left > 0 {
            return;
        }
        if self.failed.is_empty() {
            self.state = State::Complete;
            effects.push(Effect::Complete);
        } else {
            self.state = State::Error;
            self.problem = Some(self.verdict());
            effects.push(Effect::Error);
        }
        self.halt(effects);
    }

    /// Lets go of the files of a complete download.
    pub fn forget_files(&mut self) {
        self.table = None;
        self.with_ranges = VecDeque::new();
        self.again = VecDeque::new();
    }
}
