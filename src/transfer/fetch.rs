//! From a range to bytes in the `.part`: ask, check the answer, copy.

use std::sync::Arc;
use std::time::Instant;

use super::copy::Copying;
use super::open_file::{Progress, lock};
use super::verdict::{Refusal, failed};
use super::{Hands, Job};
use crate::hold::Hold;
use crate::outcome::Outcome;
use crate::ranges::Range;
use crate::saved::Change;
use crate::upstream::{Address, Content, Fault, Fetched};

impl Job {
    pub(super) fn fetch(
        &self,
        range: &Arc<Range>,
        hands: &Hands,
        hold: &mut Hold,
        next: &[Option<Address>],
    ) -> Result<(), Outcome> {
        if self.is_halted() {
            return Err(Outcome::Stopped);
        }
        if range.is_void() {
            return Err(Outcome::Over);
        }
        self.tell_over(hands)?;
        self.table.begin(self.file.index);
        let (mut fetched, asked_end) = self.open(range, hands, next)?;
        let mut whole = None;
        let copied = self
            .check(&fetched, range, asked_end, hands, &mut whole)
            .and_then(|skip| {
                let range = whole.as_ref().unwrap_or(range);
                let part = self.part(hands)?;
                range.begin(Instant::now());
                Copying::new(self, hands, range, skip).run(&mut fetched, &part, hold)
            });
        if let Some(range) = &whole {
            self.file.put_back(range);
        }
        copied
    }

    /// Gets an answer to the request for a range, with a fresh address where the known one is refused.
    pub(super) fn open(
        &self,
        range: &Range,
        hands: &Hands,
        next: &[Option<Address>],
    ) -> Result<(Fetched, u64), Outcome> {
        let size = self.table.size(self.file.index);
        let end = range.end();
        let single = self.file.progress().ranges.is_single();
        let wanted = (!single && (range.start > 0 || end < size)).then_some(range.start..end);
        let (mut address, mut fresh) = match (&self.address, self.file.known_address()) {
            (Some(ahead), _) => (ahead.clone(), true),
            (None, Some(known)) => (known, false),
            (None, None) => (self.shared_address(hands)?, true),
        };
        let mut again = true;
        loop {
            let next = next.iter().map_while(Option::as_ref);
            match hands
                .client
                .fetch(&address, wanted.clone(), next, &self.run.watch())
            {
                Ok(fetched) => {
                    self.file.keep_address(&address);
                    return Ok((fetched, end));
                }
                Err(Fault::Refused { status: 416 }) => {
                    let message = "the server says that the file is shorter than listed";
                    return Err(self.changed(range, message, hands));
                }
                Err(fault) => {
                    // Used up or expired: a fresh one is used at once, and then after a wait.
                    let outcome = self.refused(fault, fresh, range, hands);
                    if !again || !matches!(outcome, Refusal::Address(_)) {
                        return Err(outcome.into());
                    }
                    again = false;
                    fresh = true;
                    address = self.fetch_address(hands, &[])?;
                }
            }
        }
    }

    /// The file's first address: one worker fetches it, the others wait for that.
    pub(super) fn shared_address(&self, hands: &Hands) -> Result<Address, Outcome> {
        let _fetching = lock(&self.file.fetching_address);
        if let Some(address) = self.file.known_address() {
            return Ok(address);
        }
        let address = self.fetch_address(hands, &[])?;
        self.file.keep_address(&address);
        Ok(address)
    }

    /// What a failed request means; `fresh` tells whether its address had not been used before.
    pub(super) fn refused(
        &self,
        fault: Fault,
        fresh: bool,
        range: &Range,
        hands: &Hands,
    ) -> Refusal {
        let status = match fault {
            Fault::Stopped => return Refusal::Other(Outcome::Stopped),
            Fault::Transient {
                message,
                retry_after,
            } => {
                return Refusal::Other(Outcome::Fault {
                    message,
                    retry_after,
                    gained: false,
                });
            }
            Fault::Malformed(message) => {
                return Refusal::Other(self.changed(range, &message, hands));
            }
            Fault::Refused { status } => status,
            Fault::Unauthorized => 403,
            Fault::NotFound => 404,
            Fault::Gone => 410,
        };
        self.file.forget_address();
        let expired = matches!(status, 401 | 403 | 410);
        if expired && fresh {
            let outcome = self.strike(&format!(
                "the storage server refuses a fresh address (status {status})"
            ));
            return match outcome {
                Outcome::Failed(_) => Refusal::Other(outcome),
                outcome => Refusal::Address(outcome),
            };
        }
        Refusal::Address(failed(&format!(
            "the storage server refuses the file (status {status}); ask the sender"
        )))
    }

    /// Holds the answer's head against what is known of the file. Returns the bytes at the body's start that are in
    /// place already; fills `whole` where the answer is the whole file although a part was asked for.
    pub(super) fn check(
        &self,
        fetched: &Fetched,
        range: &Arc<Range>,
        asked_end: u64,
        hands: &Hands,
        whole: &mut Option<Arc<Range>>,
    ) -> Result<u64, Outcome> {
        let size = self.table.size(self.file.index);
        let fits = match fetched.content {
            Content::Whole { length } => length.is_none_or(|length| length == size),
            Content::Part { start, end, total } => {
                start == range.start && end <= asked_end && total.is_none_or(|total| total == size)
            }
        };
        if !fits {
            fetched.doubt();
            let message = "the server's file has another size or place than was listed";
            return Err(self.changed(range, message, hands));
        }
        let mut progress = self.file.progress();
        if range.is_void() {
            return Err(Outcome::Over);
        }
        match (&progress.etag, &fetched.etag) {
            (Some(known), Some(now)) if known != now => {
                drop(progress);
                let message = "the file changed on the server while it was being downloaded";
                return Err(self.changed(range, message, hands));
            }
            (None, Some(now)) => progress.etag = Some(now.clone()),
            _ => {}
        }
        if matches!(fetched.content, Content::Part { .. }) || progress.ranges.is_single() {
            let skip = if matches!(fetched.content, Content::Part { .. }) {
                0
            } else {
                range.start
            };
            return Ok(skip);
        }
        if range.start > 0 || asked_end < size {
            *whole = Some(progress.ranges.start_over_single());
            progress.owes_void = true;
            self.table.set_done(self.file.index, 0);
            drop(progress);
            self.tell_over(hands)?;
        }
        Ok(0)
    }

    /// The answer for a range shows that the content is not what it was: the file starts over, the third time it fails.
    /// Where the range counts no more, the answer is as old, and says nothing new.
    pub(super) fn changed(&self, range: &Range, message: &str, hands: &Hands) -> Outcome {
        let mut progress = self.file.progress();
        if range.is_void() {
            return Outcome::Over;
        }
        let failed_now = progress.changes.add(Instant::now());
        self.start_over(&mut progress);
        drop(progress);
        if let Err(outcome) = self.tell_over(hands) {
            return outcome;
        }
        self.file.forget_address();
        if failed_now {
            return failed(&format!(
                "{message}; it was started over twice; ask the sender"
            ));
        }
        Outcome::passing(message)
    }

    /// Forgets what is in place of the file. Before another byte takes its place, [`Job::tell_over`] has to be called.
    pub(super) fn start_over(&self, progress: &mut Progress) {
        progress.etag = None;
        progress.etag_reported = false;
        progress.ranges.start_over();
        progress.owes_void = true;
        self.table.set_done(self.file.index, 0);
    }

    /// Takes back what the journal says of the file's bytes, where that is no longer true. Whoever comes meanwhile waits.
    pub(super) fn tell_over(&self, hands: &Hands) -> Result<(), Outcome> {
        let _telling = lock(&self.file.telling);
        if !std::mem::take(&mut self.file.progress().owes_void) {
            return Ok(());
        }
        let over = Change::Over(self.run.download.key, self.file.index);
        let told = self.save(hands, &[over]);
        self.file.progress().owes_void |= told.is_err();
        told
    }

    pub(super) fn save(&self, hands: &Hands, changes: &[Change]) -> Result<(), Outcome> {
        let saved = hands.store.append(changes);
        saved.map_err(|error| Outcome::passing(error.to_string()))
    }

    /// Whether what was received stays of use: a server that ignores ranges would send it all again.
    pub(super) fn may_yield(&self) -> bool {
        !self.file.progress().ranges.is_single()
    }
}
