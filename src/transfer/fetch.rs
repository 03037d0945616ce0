//! From a range to bytes in the `.part`: ask, check the answer, copy.

use super::*;

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
        self.void(hands)?;
        self.table.begin(self.file.index);
        let (mut fetched, asked_end) = self.open(range, hands, next)?;
        let mut whole = None;
        let copied = self
            .check(&fetched, range, asked_end, hands, &mut whole)
            .and_then(|skip| {
                let range = whole.as_ref().unwrap_or(range);
                let part = self.part(hands)?;
                range.begin(Instant::now());
                self.copy(&mut fetched, range, &part, hands, skip, hold)
            });
        if let Some(range) = &whole {
            self.return_range(range, &copied);
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
            *whole = Some(progress.start_over_single());
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
        progress.start_over();
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
        Outcome::Again(message.to_owned())
    }

    /// Takes back what was said of the file's bytes, where that is owed and no other worker has done it.
    ///
    /// # Errors
    /// The journal cannot be written: it is still owed.
    pub(super) fn void(&self, hands: &Hands) -> Result<(), Outcome> {
        // Held until it is in the journal: what comes in the bytes' place is reported after it.
        let mut progress = self.file.progress();
        if !progress.owes_void {
            return Ok(());
        }
        self.table.set_done(self.file.index, 0);
        let over = Change::Over(self.run.download.key, self.file.index);
        self.save(hands, &[over])?;
        progress.owes_void = false;
        progress.etag_reported = false;
        Ok(())
    }

    pub(super) fn save(&self, hands: &Hands, changes: &[Change]) -> Result<(), Outcome> {
        let saved = hands.store.append(changes);
        saved.map_err(|error| Outcome::passing(error.to_string()))
    }

    /// Moves the body into the `.part`.
    pub(super) fn copy(
        &self,
        fetched: &mut Fetched,
        range: &Range,
        part: &Part,
        hands: &Hands,
        mut skip: u64,
        hold: &mut Hold,
    ) -> Result<(), Outcome> {
        let mut at = range.start;
        let begun = at;
        let since = Instant::now();
        let asked_end = range.end();
        loop {
            if self.is_halted() {
                return Err(Outcome::Stopped);
            }
            if hands.seats.is_crowded() && self.may_yield() && hands.seats.must_leave() {
                return Err(Outcome::Yielded);
            }
            if self.run.is_worker_wanted()
                && may_share(self.may_yield(), since.elapsed(), at - begun)
                && self.run.must_leave()
            {
                // What came stays, and the rest has its turn again.
                return Err(Outcome::Stopped);
            }
            // A large file takes long, and its open `.part` does not tell that its disk is gone.
            if let Some(root) = self.run.root() {
                self.run.look(root).map_err(|error| broken(&error))?;
            }
            let stopped = || self.is_halted();
            let Some(grant) = hands.limit.take(hold::PIPE, stopped) else {
                return Err(Outcome::Stopped);
            };
            let loaded = if skip > 0 {
                fetched.load_past(&mut skip, hold, grant.bytes)
            } else {
                fetched.load(hold, grant.bytes)
            };
            let came = loaded.as_ref().map_or(0, |load| load.len());
            hands.limit.settle(&grant, came);
            let load = match loaded {
                Ok(load) => load,
                Err(Fault::Stopped) => return Err(Outcome::Stopped),
                Err(Fault::Transient {
                    message,
                    retry_after,
                }) => {
                    return Err(Outcome::Fault {
                        message,
                        retry_after,
                        gained: at > begun,
                    });
                }
                Err(other) => {
                    return Err(Outcome::Fault {
                        message: format!("the file's bytes broke off ({other})"),
                        retry_after: None,
                        gained: at > begun,
                    });
                }
            };
            if load.is_empty() {
                break;
            }
            hands.meter.add_received(load.len() as u64);
            let granted = range.claim(load.len() as u64) as usize;
            if granted > 0 {
                if let Err(error) = hold.write(load, granted, &part.file, at) {
                    range.unclaim();
                    return Err(error.into());
                }
                if !range.wrote() {
                    return Err(Outcome::Over);
                }
                if at == begun {
                    let mut progress = self.file.progress();
                    progress.refusals = 0;
                }
                at += granted as u64;
                self.table.add_done(self.file.index, granted as u64);
            }
            if granted < load.len() {
                hold.discard();
                return if at >= asked_end && asked_end == self.table.size(self.file.index) {
                    Err(Outcome::Over)
                } else {
                    Ok(())
                };
            }
        }
        if range.is_done() {
            return Ok(());
        }
        Err(Outcome::Fault {
            message: "the server ended the file's bytes early".into(),
            retry_after: None,
            gained: at > begun,
        })
    }

    /// Whether what was received stays of use: a server that ignores ranges would send it all again.
    pub(super) fn may_yield(&self) -> bool {
        !self.file.progress().ranges.is_single()
    }
}

/// Whether a worker, after so long and so many bytes, may be given to another download. Where the bytes would be lost, only if
/// they are next to none: a connection that never ends must not hold a worker for ever.
fn may_share(bytes_stay: bool, took: Duration, bytes: u64) -> bool {
    let trickles = took >= TRICKLE_TIME && bytes < TRICKLE * took.as_secs();
    took >= SHARE_AFTER && (bytes_stay || trickles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_shared_where_that_costs_little() {
        let after = Duration::from_secs;
        assert!(!may_share(true, after(1), 0), "it has just begun");
        assert!(may_share(true, after(3), 1 << 30));
        assert!(!may_share(false, after(3), 10), "it may yet become fast");
        assert!(may_share(false, after(60), 10));
        assert!(!may_share(false, after(60), 10 << 20), "too much to lose");
    }
}
