//! A download as a state machine: what happened goes in, what is to be done comes out. No threads,
//! no I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::model::outcome::Outcome;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};

/// So many faults in a row, on whatever files, and the whole download waits: the fault is not a
/// file's. A definite answer about one file ends the row, whatever it says.
const STREAK: u32 = 8;
/// So many files wait for their next attempt at most, but for those whose attempt is not due yet.
const MANY: usize = 1000;
/// Jobs of one file that may end because it started over, within [`RESTARTS_WITHIN`], before it has
/// to wait: as many as a large file has at a time, three times over.
const MAX_RESTARTS: u32 = 36;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);
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

/// The next piece of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Pick {
    Begin,
    /// A file that no job of this run had yet.
    New(u32),
    /// A file on its way that may have a range to give.
    Open(u32),
}

/// An attempt that came to nothing.
struct Setback {
    message: String,
    retry_after: Option<Duration>,
    /// Bytes came before.
    gained: bool,
    /// It says something of the whole file, not only of the range that was asked for.
    of_all: bool,
}

/// A file that had a fault.
struct Wait {
    backoff: Backoff,
    /// Its bytes in place when that was last looked at.
    done: u64,
    /// Its jobs that the last fault says nothing of: so many may go on, range after range.
    others: u32,
    /// No byte came before the fault: one attempt alone is to show whether it is over.
    careful: bool,
}

impl Wait {
    /// How many jobs of the file may be out at once.
    fn most(&self, asleep: bool) -> u32 {
        match (asleep, self.careful) {
            (true, _) => self.others,
            (false, true) => self.others.saturating_add(1),
            (false, false) => u32::MAX,
        }
    }
}

/// The state machine of one download.
pub struct Record {
    state: State,
    problem: Option<Problem>,
    table: Option<Arc<FileTable>>,
    /// Whether this run's destination is open and its list read.
    begun: bool,
    starting: bool,
    jobs: usize,
    halting: bool,
    next: u32,
    /// Files that are neither complete nor skipped nor failed.
    files_left: u64,
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
    failed: BTreeMap<u32, Code>,
    /// Files that had failed and are to be tried again: as new ones are, since there may be very
    /// many.
    again: VecDeque<u32>,
    consecutive_faults: u32,
    malformed: u32,
    download_backoff: Option<Backoff>,
    last_fault: String,
    open_first: bool,
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
            download_backoff: None,
            last_fault: String::new(),
            open_first: false,
            retry_for,
        }
    }

    pub fn state(&self) -> State {
        self.state
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
        let lasted = self
            .download_backoff
            .as_ref()
            .map_or(Duration::ZERO, |download_backoff| {
                download_backoff.lasted(now.instant)
            });
        let code = if self.malformed >= MALFORMED {
            Code::ProtocolError
        } else if lasted >= self.retry_for {
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
            }
        }
    }

    /// The jobs of a range that counts no more have another at once. Where that goes on and on,
    /// whatever the reason, it is waited for as after a fault.
    fn started_over(&mut self, file: u32, now: Now, effects: &mut Vec<Effect>) {
        let fresh = (now.instant, 0);
        let (since, count) = self.restarts.entry(file).or_insert(fresh);
        if now.instant.saturating_duration_since(*since) >= RESTARTS_WITHIN {
            (*since, *count) = fresh;
        }
        *count += 1;
        if *count <= MAX_RESTARTS {
            return self.queue_file(file);
        }
        let setback = Setback {
            message: "the file starts over again and again".into(),
            retry_after: None,
            gained: false,
            of_all: true,
        };
        self.set_back(file, setback, now, effects);
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

    /// An attempt came to nothing: the file waits for the next, or has had its time. Returns
    /// whether it waits.
    fn set_back(
        &mut self,
        file: u32,
        setback: Setback,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(lasted) = self.defer(file, &setback, now) else {
            return false;
        };
        let message = setback.message;
        if lasted >= self.retry_for {
            let message = format!("{message}; given up after {}", hours(self.retry_for));
            let code = Code::UpstreamUnavailable;
            self.fail(file, FileProblem { code, message }, effects);
            return false;
        }
        self.last_fault = message;
        true
    }

    /// What failed of the file waits for its next attempt. Returns how long the file has been
    /// without a byte; None where nothing is to be tried again.
    fn defer(&mut self, file: u32, setback: &Setback, now: Now) -> Option<Duration> {
        self.queue_file(file);
        if self.state != State::Transferring {
            self.woken.insert(file);
            return None;
        }
        let &Setback {
            retry_after,
            gained,
            ..
        } = setback;
        let done = self.done(file);
        let others = match setback.of_all {
            true => 0,
            false => self.out_of(file),
        };
        let new = || Wait {
            backoff: Backoff::new(now.instant, retry_after, now.jitter),
            done,
            others,
            careful: !gained,
        };
        let again = |wait: &mut Wait| {
            let together = wait.backoff.due() > now.instant;
            if gained {
                wait.backoff.restart(now.instant);
            }
            wait.backoff.again(now.instant, retry_after, now.jitter);
            wait.careful = !gained || (together && wait.careful);
            wait.done = done;
            wait.others = match together {
                true => wait.others.min(others),
                false => others,
            };
        };
        let entry = self.waiting.entry(file);
        let wait = entry.and_modify(again).or_insert_with(new);
        self.asleep.insert(file);
        self.woken.remove(&file);
        Some(wait.backoff.lasted(now.instant))
    }

    /// The server can be reached: what comes next is not held up by the faults before.
    fn reached(&mut self) {
        self.consecutive_faults = 0;
        self.download_backoff = None;
    }

    fn back_off(&mut self, retry_after: Option<Duration>, now: Now) {
        match &mut self.download_backoff {
            Some(download_backoff) => download_backoff.again(now.instant, retry_after, now.jitter),
            None => {
                self.download_backoff = Some(Backoff::new(now.instant, retry_after, now.jitter))
            }
        }
    }

    /// Bytes of a file came, some of them from `flowing` jobs that go on. They may be from jobs
    /// that its fault had not stopped: those say nothing of what failed, whose wait stays.
    fn gained(&mut self, file: u32, flowing: u32, now: Now) {
        self.reached();
        let (done, out) = (self.done(file), self.out_of(file));
        let asleep = self.asleep.contains(&file);
        let Some(wait) = self.waiting.get_mut(&file) else {
            return;
        };
        wait.done = done;
        if asleep || (flowing <= wait.others && flowing < out) {
            wait.backoff.renew(now.instant);
        } else {
            self.waiting.remove(&file);
            self.queue_file(file);
        }
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

    fn verdict(&self) -> Problem {
        let has = |code| self.failed.values().any(|&failed| failed == code);
        let others = self
            .table
            .as_ref()
            .is_some_and(|table| table.counts().files_complete > 0);
        let mut codes = self.failed.values().copied();
        let first = codes.next().unwrap_or(Code::FileFailed);
        let is_local = |&code: &Code| {
            matches!(
                code,
                Code::InsufficientStorage | Code::DestinationUnwritable | Code::FileTooLarge
            )
        };
        // Room or permission is the remedy only where it is for all of them.
        let code = if self.failed.values().all(is_local) {
            [Code::InsufficientStorage, Code::DestinationUnwritable]
                .into_iter()
                .find(|&code| has(code))
                .unwrap_or(Code::FileTooLarge)
        } else if others || codes.any(|code| code != first) {
            Code::FileFailed
        } else {
            first
        };
        let count = self.failed.len();
        let files = if count == 1 {
            "1 file".into()
        } else {
            format!("{count} files")
        };
        let advice = match code {
            Code::InsufficientStorage => "the disk is full: make room, then resume",
            Code::DestinationUnwritable => {
                "the destination cannot be written: mend that, then resume"
            }
            Code::FileTooLarge => {
                "each is larger than this system allows; delete this download, and choose another folder"
            }
            Code::UpstreamUnavailable => {
                "the server could not be reached for too long: resume to try again"
            }
            _ => "each file says why; resume to try again",
        };
        Problem {
            code,
            message: format!("{files} could not be downloaded: {advice}"),
            recoverable: code != Code::FileTooLarge,
            retry_at: None,
        }
    }

    /// A transient fault is shown for as long as it is being retried.
    fn explain(&mut self, now: Now) {
        match self.state {
            State::Transferring => {
                // Behind a closed gate no file's own time counts.
                let download_backoff = self.download_backoff.as_ref().map(Backoff::due);
                let due = download_backoff.or_else(|| self.backoffs().map(Backoff::due).min());
                // While the attempt is being made, the time that was said for it stays.
                let said = self.problem.as_ref().and_then(|problem| problem.retry_at);
                self.problem = due.map(|due| {
                    let wait = due.checked_duration_since(now.instant);
                    let retry_at = wait
                        .map(|wait| now.wall.after(wait))
                        .or(said)
                        .or(Some(now.wall));
                    let message = format!("{}; trying again", self.last_fault);
                    Problem {
                        code: Code::UpstreamUnavailable,
                        message,
                        recoverable: true,
                        retry_at,
                    }
                });
            }
            State::Paused | State::Complete => self.problem = None,
            State::Error => {}
        }
    }

    /// The next piece of work, if there is one now. It counts as given out. Where it is `crowded`,
    /// workers have enough to do, and only a file whose address is to be fetched ahead is picked.
    pub fn pick(&mut self, now: Instant, crowded: bool) -> Option<Pick> {
        if self.state != State::Transferring || self.halting {
            return None;
        }
        if let Some(download_backoff) = &self.download_backoff
            && (download_backoff.due() > now || !self.is_idle())
        {
            return None;
        }
        if !self.begun {
            if !self.is_idle() {
                return None;
            }
            self.starting = true;
            return Some(Pick::Begin);
        }
        self.wake(now);
        // Where very many wait they have their turn first, so that they do not become more and
        // more.
        self.open_first = !self.open_first || self.waiting.len() > MANY;
        let pick = if crowded {
            self.pick_new()
        } else if self.open_first {
            self.pick_open().or_else(|| self.pick_new())
        } else {
            self.pick_new().or_else(|| self.pick_open())
        };
        if let Some(Pick::New(file) | Pick::Open(file)) = pick {
            self.give_out(file);
        }
        pick
    }

    /// The files whose attempt is due have something to give again.
    fn wake(&mut self, now: Instant) {
        let waiting = &self.waiting;
        let is_due = |file: &u32| {
            let wait = waiting.get(file);
            wait.is_none_or(|wait| wait.backoff.due() <= now)
        };
        let awake: Vec<u32> = self.asleep.iter().copied().filter(is_due).collect();
        for file in awake {
            self.asleep.remove(&file);
            self.queue_file(file);
            self.woken.insert(file);
        }
    }

    /// Whether the file's wait is over, and nobody was told before: what failed may be tried again.
    #[must_use]
    pub fn has_woken(&mut self, file: u32) -> bool {
        self.woken.remove(&file)
    }

    /// Whether one more job of the file may be out.
    pub fn may_have_another(&self, file: u32) -> bool {
        let wait = self.waiting.get(&file);
        wait.is_none_or(|wait| self.out_of(file) < wait.most(self.asleep.contains(&file)))
    }

    fn pick_new(&mut self) -> Option<Pick> {
        let file = self.peek_new()?;
        self.take_new(file);
        Some(Pick::New(file))
    }

    /// The next file that no job of this run had yet.
    fn peek_new(&mut self) -> Option<u32> {
        let table = self.table.as_ref()?;
        if let Some(&file) = self.again.front() {
            return Some(file);
        }
        let is_new = |&file: &u32| table.state(file) == FileState::Pending;
        let file = (self.next..table.len()).find(is_new);
        self.next = file.unwrap_or(table.len());
        file
    }

    fn take_new(&mut self, file: u32) {
        if self.again.pop_front().is_none() {
            self.next = file + 1;
        }
    }

    /// One more new file where that is at most this large, to go with the one that was just picked.
    /// It counts as given out.
    pub fn pick_small(&mut self, most: u64) -> Option<u32> {
        // After a fault of the server's one job alone tries whether it is over.
        if self.download_backoff.is_some() {
            return None;
        }
        let file = self.peek_new()?;
        if self.table.as_ref()?.size(file) > most {
            return None;
        }
        self.take_new(file);
        self.give_out(file);
        Some(file)
    }

    fn pick_open(&mut self) -> Option<Pick> {
        let at = self
            .with_ranges
            .iter()
            .position(|&file| self.may_have_another(file))?;
        // To the back, so that files take turns.
        let file = self.with_ranges.remove(at)?;
        self.with_ranges.push_back(file);
        Some(Pick::Open(file))
    }

    /// The file that was picked had no range to give: the pick is void.
    pub fn cancel_pick(&mut self, file: u32) {
        self.take_back(file);
        self.with_ranges.retain(|&with_ranges| with_ranges != file);
    }

    /// A range of the file that was picked was given out; `more` tells whether it has another to
    /// give.
    pub fn range_given(&mut self, file: u32, more: bool) {
        if more {
            self.queue_file(file);
        } else {
            self.with_ranges.retain(|&with_ranges| with_ranges != file);
        }
    }

    /// The tail of a slow range was given out without a pick.
    pub fn gave_tail(&mut self, file: u32) {
        self.give_out(file);
    }

    /// Whether an idle worker may help with what is on its way.
    pub fn may_help(&self) -> bool {
        self.state == State::Transferring
            && self.begun
            && !self.halting
            && self.download_backoff.is_none()
    }

    /// Lets go of the files of a complete download.
    pub fn forget_files(&mut self) {
        self.table = None;
        self.with_ranges = VecDeque::new();
        self.again = VecDeque::new();
    }

    /// When there may be something to do that there is not now.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.state != State::Transferring {
            return None;
        }
        self.backoffs()
            .map(Backoff::due)
            .filter(|&due| due > now)
            .min()
    }

    fn backoffs(&self) -> impl Iterator<Item = &Backoff> {
        self.waiting
            .values()
            .map(|wait| &wait.backoff)
            .chain(&self.download_backoff)
    }

    /// Files that had a fault, with the bytes they had when that was last looked at.
    pub fn waiting(&self) -> impl Iterator<Item = (u32, u64)> {
        self.waiting.iter().map(|(&file, wait)| (file, wait.done))
    }
}

fn hours(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 7200 => format!("{} hours", seconds / 3600),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests;
