//! What is tried again, and when: a file waits after a fault of its own, the whole download after
//! many in a row.

use std::time::{Duration, Instant};

use super::{Effect, Now, Record};
use crate::base::backoff::Backoff;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::model::state::State;

/// Jobs of one file that may end because it started over, within [`RESTARTS_WITHIN`], before it has
/// to wait: as many as a large file has at a time, three times over.
pub(super) const MAX_RESTARTS: u32 = 36;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

/// An attempt that came to nothing.
pub(super) struct Setback {
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    /// Bytes came before.
    pub(super) gained: bool,
    /// It says something of the whole file, not only of the range that was asked for.
    pub(super) of_all: bool,
}

/// A file that had a fault.
pub(super) struct Wait {
    pub(super) backoff: Backoff,
    /// Its bytes in place when that was last looked at.
    pub(super) done: u64,
    /// The number of its jobs that the last fault did not stop: they may go on, range after range.
    pub(super) others: u32,
    /// No byte came before the fault: one attempt alone is to show whether it is over.
    pub(super) careful: bool,
}

impl Wait {
    /// How many jobs of the file may be out at once.
    pub(super) fn most(&self, asleep: bool) -> u32 {
        match (asleep, self.careful) {
            (true, _) => self.others,
            (false, true) => self.others.saturating_add(1),
            (false, false) => u32::MAX,
        }
    }
}

impl Record {
    /// The jobs of a range that counts no more have another at once. Where that goes on and on,
    /// whatever the reason, it is waited for as after a fault.
    pub(super) fn started_over(&mut self, file: u32, now: Now, effects: &mut Vec<Effect>) {
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

    /// An attempt came to nothing: the file waits for the next, or has had its time. Returns
    /// whether it waits.
    pub(super) fn set_back(
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
            let message = self.given_up(&message);
            let code = Code::UpstreamUnavailable;
            self.fail(file, FileProblem { code, message }, effects);
            return false;
        }
        self.last_fault = message;
        true
    }

    /// What failed of the file waits for its next attempt. Returns how long the file has been
    /// without a byte; None if nothing is to be tried again.
    pub(super) fn defer(&mut self, file: u32, setback: &Setback, now: Now) -> Option<Duration> {
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
    pub(super) fn reached(&mut self) {
        self.consecutive_faults = 0;
        self.download_backoff = None;
    }

    /// Where nothing has come of the whole download for as long as a fault is waited out, files
    /// that had no fault yet are not given as long, one after the other: the download has failed.
    pub(super) fn give_up_on_server(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let all_had_faults = self.waiting.len() as u64 >= self.files_left;
        if !self.has_had_its_time(now) || all_had_faults || self.state != State::Transferring {
            return;
        }
        let problem = Problem {
            code: Code::UpstreamUnavailable,
            message: self.given_up(&self.last_fault),
            recoverable: true,
            retry_at: None,
        };
        self.fail_all(problem, effects);
    }

    /// Whether nothing has come of the whole download for as long as a fault is waited out.
    pub(super) fn has_had_its_time(&self, now: Now) -> bool {
        let backoff = self.download_backoff.as_ref();
        backoff.is_some_and(|backoff| backoff.lasted(now.instant) >= self.retry_for)
    }

    fn given_up(&self, message: &str) -> String {
        format!("{message}; given up after {}", hours(self.retry_for))
    }

    pub(super) fn back_off(&mut self, retry_after: Option<Duration>, now: Now) {
        match &mut self.download_backoff {
            Some(download_backoff) => download_backoff.again(now.instant, retry_after, now.jitter),
            None => {
                self.download_backoff = Some(Backoff::new(now.instant, retry_after, now.jitter));
            }
        }
    }

    /// Bytes of a file came, some of them from `flowing` jobs that go on. They may be from jobs
    /// that its fault had not stopped: those say nothing of what failed, whose wait stays.
    pub(super) fn gained(&mut self, file: u32, flowing: u32, now: Now) {
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

    /// The files whose attempt is due have something to give again.
    pub(super) fn wake(&mut self, now: Instant) {
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

    /// When the next retry is due.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.state != State::Transferring {
            return None;
        }
        self.backoffs()
            .map(Backoff::due)
            .filter(|&due| due > now)
            .min()
    }

    pub(super) fn backoffs(&self) -> impl Iterator<Item = &Backoff> {
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
