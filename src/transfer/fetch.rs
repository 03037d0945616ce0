//! From a range to bytes in the `.part`: ask, check the answer, copy.

use std::sync::Arc;
use std::time::Instant;

use super::copy::Copying;
use super::open_file::lock;
use super::verdict::{Refusal, failed};
use super::{CHANGES, Hands, Job};
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
        if self.file.progress().owes_void {
            self.void(hands)?;
        }
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
                    return Err(self.changed(
                        "the server says that the file is shorter than listed",
                        hands,
                    ));
                }
                Err(fault) => {
                    // Used up or expired: a fresh one is used at once, and then after a wait.
                    let outcome = self.refused(fault, fresh, hands);
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
    pub(super) fn refused(&self, fault: Fault, fresh: bool, hands: &Hands) -> Refusal {
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
            Fault::Malformed(message) => return Refusal::Other(self.changed(&message, hands)),
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
            return Err(self.changed(
                "the server's file has another size or place than was listed",
                hands,
            ));
        }
        let mut progress = self.file.progress();
        match (&progress.etag, &fetched.etag) {
            (Some(known), Some(now)) if known != now => {
                drop(progress);
                return Err(self.changed(
                    "the file changed on the server while it was being downloaded",
                    hands,
                ));
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
            drop(progress);
            self.void(hands)?;
        }
        Ok(0)
    }

    /// The content is not what it was: the file starts over, the third time it fails.
    pub(super) fn changed(&self, message: &str, hands: &Hands) -> Outcome {
        let mut progress = self.file.progress();
        progress.changes += 1;
        let changes = progress.changes;
        progress.etag = None;
        progress.etag_reported = false;
        progress.ranges.start_over();
        drop(progress);
        if let Err(outcome) = self.void(hands) {
            return outcome;
        }
        self.file.forget_address();
        if changes >= CHANGES {
            self.file.progress().changes = 0;
            return failed(&format!(
                "{message}; it was started over twice; ask the sender"
            ));
        }
        Outcome::passing(message)
    }

    /// Takes back what was said of the file's bytes. Until that is in the journal, no other byte may take their place.
    pub(super) fn void(&self, hands: &Hands) -> Result<(), Outcome> {
        self.table.set_done(self.file.index, 0);
        self.file.progress().owes_void = true;
        self.save(
            hands,
            &[Change::Over(self.run.download.key, self.file.index)],
        )?;
        self.file.progress().owes_void = false;
        Ok(())
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
