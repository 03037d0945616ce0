//! What a download's record says of its faults.

use std::time::{Duration, Instant};

use super::{Now, Record};
use crate::base::backoff::Backoff;
use crate::model::problem::{Code, Problem};
use crate::model::state::State;

/// The time of an attempt that takes longer is not shown any more.
const LONG_ATTEMPT: Duration = Duration::from_secs(5);

/// When a disk that does not respond is said to be looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Record {
    pub(super) fn verdict(&self) -> Problem {
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
    pub(super) fn explain(&mut self, now: Now) {
        match self.state {
            State::Transferring if self.silent => {
                self.problem = Some(Problem {
                    code: Code::DestinationNotResponding,
                    message: "the disk of the destination does not answer: is its server there? \
                              The download goes on by itself when it does"
                        .into(),
                    recoverable: true,
                    retry_at: Some(now.wall.after(LOOK_AGAIN)),
                });
            }
            State::Transferring => {
                // Behind a closed gate no file's own time counts.
                let download_backoff = self.download_backoff.as_ref().map(Backoff::due);
                // A file whose time has come may wait for its server's leave: the next file's time
                // is nearer to the truth then.
                let is_past = |due: &Instant| *due < now.instant;
                let of_files = || {
                    let dues = || self.backoffs().map(Backoff::due);
                    dues().filter(|due| !is_past(due)).min().or(dues().min())
                };
                let due = download_backoff.or_else(of_files);
                // While the attempt is being made, the time that was said for it stays, unless that
                // takes long.
                let said = self.problem.as_ref().and_then(|problem| problem.retry_at);
                let said = said.filter(|said| said.after(LONG_ATTEMPT) >= now.wall);
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
}
