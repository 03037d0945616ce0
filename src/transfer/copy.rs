//! An answer's body on its way into the `.part`.

use std::time::{Duration, Instant};

use super::open_file::Part;
use super::slowness::{Meter, Stake};
use super::verdict::broken;
use super::{Job, WorkerContext};
use crate::base::copy_buffer::{self, Chunk, CopyBuffer};
use crate::dest;
use crate::model::outcome::Outcome;
use crate::model::ranges::Range;
use crate::transfer::rate_limiter::Grant;
use crate::upstream::{Content, Fault, Fetched};

/// A connection is kept for so long at least, also where its worker is wanted elsewhere.
const SHARE_AFTER: Duration = Duration::from_secs(2);
/// For so long where it would have to begin anew, and then only if it brings fewer bytes per second
/// than that.
const TRICKLE_TIME: Duration = Duration::from_secs(20);
const TRICKLE: u64 = 4 << 10;

/// One body, and where it goes.
pub(super) struct Copying<'a> {
    job: &'a Job,
    context: &'a WorkerContext,
    range: &'a Range,
    /// Bytes at the body's start that are in place already.
    skip: u64,
    /// Where the next byte goes.
    at: u64,
    since: Instant,
    meter: Meter,
}

/// What a look at the body brought.
enum Came {
    Bytes,
    /// The body is at its end.
    End,
    /// The range takes no more, though the body goes on.
    Enough,
}

impl<'a> Copying<'a> {
    /// A body whose bytes from `skip` on belong into `range`.
    pub(super) fn new(
        job: &'a Job,
        context: &'a WorkerContext,
        range: &'a Range,
        skip: u64,
    ) -> Copying<'a> {
        let now = Instant::now();
        Copying {
            job,
            context,
            range,
            skip,
            at: range.start,
            since: now,
            meter: Meter::new(now),
        }
    }

    /// Moves the body into the `.part` until the range is in place.
    ///
    /// # Errors
    /// The outcome with which the job ends.
    pub(super) fn run(
        mut self,
        fetched: &mut Fetched,
        part: &Part,
        buffer: &mut CopyBuffer,
    ) -> Result<(), Outcome> {
        loop {
            self.go_on()?;
            self.give_up_if_slow()?;
            let came = if self.skip > 0 {
                self.pass_over(fetched, buffer)
            } else {
                self.fetch_range(fetched, part, buffer)
            };
            match came? {
                Came::Bytes => {}
                Came::End => {
                    self.job.run.speeds.finished(&self.meter, Instant::now());
                    return self.at_end(fetched);
                }
                Came::Enough => return self.at_enough(fetched),
            }
        }
    }

    /// Whether the bytes are still wanted.
    fn is_wanted(&self) -> Result<(), Outcome> {
        if self.job.is_halted() {
            return Err(Outcome::Stopped);
        }
        if self.range.is_void() {
            return Err(Outcome::StartedOver);
        }
        Ok(())
    }

    /// Whether to go on: the bytes are wanted, nobody needs the worker more, and the disk is there.
    fn go_on(&self) -> Result<(), Outcome> {
        self.is_wanted()?;
        let (job, slots) = (self.job, &self.context.slots);
        if slots.is_crowded() && job.may_yield() && slots.must_leave() {
            return Err(Outcome::Yielded);
        }
        if job.run.is_worker_requested()
            && may_share(job.may_yield(), self.since.elapsed(), self.gained())
            && job.run.must_leave()
        {
            // What came stays, and the rest has its turn again.
            return Err(Outcome::Stopped);
        }
        // A large file takes long, and its open `.part` does not tell that its disk is gone.
        if let Some(root) = job.run.root() {
            job.run
                .check_destination(root)
                .map_err(|error| broken(&error))?;
        }
        Ok(())
    }

    /// Gives the connection up where others are far faster: the range has another at once.
    fn give_up_if_slow(&mut self) -> Result<(), Outcome> {
        let now = Instant::now();
        // Under a limit nobody knows how fast they are.
        if !self.meter.is_due(now) || self.context.limit.is_limited() {
            return Ok(());
        }
        let stays = self.job.may_yield();
        let stake = Stake {
            lost: if stays { 0 } else { self.gained() },
            left: self.skip + self.range.left(),
        };
        match self.job.run.speeds.is_slow(&mut self.meter, stake, now) {
            true => {
                log::info!(
                    "download {}: a connection is far slower than the others, and is given up for \
                     a new one",
                    self.job.run.download.id
                );
                Err(Outcome::Stopped)
            }
            false => Ok(()),
        }
    }

    /// Leave to read, which under a limit may take its time.
    fn granted(&self) -> Result<Grant, Outcome> {
        loop {
            let unwanted = || self.is_wanted().is_err();
            // No more than there is to come: what is granted and not read was nobody's meanwhile.
            let left = usize::try_from(self.skip + self.range.left()).unwrap_or(usize::MAX);
            let most = left.clamp(1, copy_buffer::PIPE);
            let key = self.job.run.download.key;
            if let Some(grant) = self.context.limit.take(key, most, unwanted) {
                return Ok(grant);
            }
            self.is_wanted()?;
        }
    }

    /// Reads what is in place already, and drops it.
    fn pass_over(
        &mut self,
        fetched: &mut Fetched,
        buffer: &mut CopyBuffer,
    ) -> Result<Came, Outcome> {
        let grant = self.granted()?;
        let most = usize::try_from(self.skip).map_or(grant.bytes, |skip| skip.min(grant.bytes));
        let read = fetched.read(buffer.buffer(most));
        let came = *read.as_ref().unwrap_or(&0);
        self.context.limit.settle(&grant, came);
        read.map_err(|fault| self.broken_off(fault))?;
        self.skip -= came as u64;
        Ok(if came == 0 { Came::End } else { Came::Bytes })
    }

    /// Reads what comes next, and writes it.
    fn fetch_range(
        &mut self,
        fetched: &mut Fetched,
        part: &Part,
        buffer: &mut CopyBuffer,
    ) -> Result<Came, Outcome> {
        let grant = self.granted()?;
        let loaded = fetched.load(buffer, grant.bytes);
        let came = loaded.as_ref().map_or(0, |load| load.len());
        self.context.limit.settle(&grant, came);
        let load = loaded.map_err(|fault| self.broken_off(fault))?;
        if load.is_empty() {
            return Ok(Came::End);
        }
        self.context.meter.add_received(came as u64);
        self.meter.add(came as u64);
        self.write(load, part, buffer)
    }

    /// Writes what the range takes of a load.
    fn write(
        &mut self,
        load: Chunk,
        part: &Part,
        buffer: &mut CopyBuffer,
    ) -> Result<Came, Outcome> {
        let granted = self.range.claim(load.len() as u64) as usize;
        if granted > 0 {
            let call = self.job.run.disk.enter();
            let written = buffer.write(load, granted, &part.file, self.at);
            drop(call);
            if let Err(error) = written {
                self.range.unclaim();
                return Err(dest::write_failed(&part.file, &error).into());
            }
            let file = self.job.file.index;
            let note = || self.job.table.add_done(file, granted as u64);
            if !self.range.wrote(note) {
                return Err(Outcome::StartedOver);
            }
            if self.gained() == 0 {
                self.job.file.note_byte();
            }
            self.at += granted as u64;
            self.job.renew_receipt(part, self.context)?;
        }
        if granted == load.len() {
            return Ok(Came::Bytes);
        }
        buffer.discard();
        Ok(Came::Enough)
    }

    /// Bytes that were written.
    fn gained(&self) -> u64 {
        self.at - self.range.start
    }

    fn broken_off(&self, fault: Fault) -> Outcome {
        let gained = self.gained() > 0;
        match fault {
            Fault::Stopped => Outcome::Stopped,
            Fault::Transient {
                message,
                retry_after,
            } => Outcome::Transient {
                message,
                retry_after,
                gained,
            },
            other => Outcome::Transient {
                message: format!("the file's bytes broke off ({other})"),
                retry_after: None,
                gained,
            },
        }
    }

    /// The range takes no more: it counts no more, its tail was given away, or there are more bytes
    /// than the file is to have.
    fn at_enough(&self, fetched: &Fetched) -> Result<(), Outcome> {
        if self.range.is_void() {
            return Err(Outcome::StartedOver);
        }
        if self.at < self.job.size() {
            return Ok(());
        }
        Err(self.longer(fetched))
    }

    /// The body is at its end, which may be before or behind the one that it should have.
    fn at_end(&self, fetched: &Fetched) -> Result<(), Outcome> {
        if self.range.is_void() {
            return Err(Outcome::StartedOver);
        }
        if fetched.is_longer() {
            return Err(self.longer(fetched));
        }
        if self.range.is_done() {
            return Ok(());
        }
        // A whole file without a length whose end was told is not broken off: that is all there is
        // of it.
        if matches!(fetched.content, Content::Whole { .. }) && fetched.is_framed() {
            let otherwise = "the server's file is shorter than listed";
            return Err(self.changed(&fetched.explain_size(otherwise)));
        }
        Err(Outcome::Transient {
            message: "the server ended the file's bytes early".into(),
            retry_after: None,
            gained: self.gained() > 0,
        })
    }

    fn longer(&self, fetched: &Fetched) -> Outcome {
        self.changed(&fetched.explain_size("the server's file is longer than listed"))
    }

    fn changed(&self, message: &str) -> Outcome {
        self.job.changed(self.range, message, self.context)
    }
}

/// Whether a worker, after so long and so many bytes, may be given to another download. Where the
/// bytes would be lost, only if they are next to none: a connection that never ends must not hold a
/// worker for ever.
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
