//! The transfers: how a download begins, and how workers bring its files.
//!
//! One job is one byte range of one file, fetched into its `.part`; the last one gives the file its
//! name. What happens after a job has ended is decided elsewhere, in [`crate::model::record`].

pub mod ascmhl;
mod changes;
mod check;
mod copy;
pub mod disk_calls;
mod fetch;
mod manifest;
mod open_file;
mod part;
mod publish;
pub mod rate_limiter;
mod receipts;
pub mod run;
pub mod seals;
mod shared;
mod shared_list;
pub mod slots;
mod slowness;
mod space;
pub mod start;
pub mod sums;
mod verdict;
pub mod waiting;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::byte_counter::ByteCounter;
use crate::base::copy_buffer::CopyBuffer;
use crate::dest::Root;
use crate::model::outcome::Outcome;
use crate::model::ranges::Range;
use crate::model::table::FileTable;
use crate::store::saved::{Change, Saved};
use crate::store::{Store, StoreError};
use crate::transfer::rate_limiter::RateLimiter;
use crate::transfer::run::Run;
use crate::transfer::slots::WorkerSlots;
use crate::transfer::waiting::Waiting;
use crate::upstream::session::SessionFault;
use crate::upstream::{Address, Client, Fault};

pub use check::{ReadBack, hash_of};
pub use open_file::{OpenFile, report};
use publish::free_part as part_free;
pub use publish::{Place, publish};
use verdict::failed;

/// Refusals in a row of fresh addresses, with no byte between them, that make a file fail.
const REFUSALS: u32 = 5;
/// No file system of use has larger blocks.
const BLOCK: u64 = 64 << 10;
/// A file from this size on may be tampered with while it is on its way; a smaller one is there too
/// shortly.
const LARGE: u64 = 1 << 20;

/// The names of all files beside `downloads.json` that belong to a download.
pub fn side_names(id: &str) -> [String; 3] {
    [
        start::side_name(id),
        seals::seals_name(id),
        sums::sums_name(id),
    ]
}

/// What a thread works with.
pub struct WorkerContext {
    pub client: Client,
    pub store: Arc<Store<Saved>>,
    pub meter: Arc<ByteCounter>,
    pub limit: Arc<RateLimiter>,
    pub slots: Arc<WorkerSlots>,
    pub waiting: Arc<Waiting>,
    /// Whether the hashes of files are kept, to verify them by later.
    pub keeps_hashes: bool,
}

impl WorkerContext {
    /// The same for another thread, which gets connections of its own.
    pub fn another(&self) -> WorkerContext {
        WorkerContext {
            client: self.client.another(),
            store: self.store.clone(),
            meter: self.meter.clone(),
            limit: self.limit.clone(),
            slots: self.slots.clone(),
            waiting: self.waiting.clone(),
            keeps_hashes: self.keeps_hashes,
        }
    }
}

impl WorkerContext {
    /// Puts a token that was just got into the journal.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn keep_token(&self, run: &Run) -> Result<(), StoreError> {
        match run.session.take_new_token() {
            Some(token) => self.store.append(&[Change::Token(run.download.key, token)]),
            None => Ok(()),
        }
    }
}

/// One piece of work for a worker.
pub struct Job {
    pub run: Arc<Run>,
    pub table: Arc<FileTable>,
    pub file: Arc<OpenFile>,
    /// The range to fetch; none for a file that has no bytes left to fetch.
    pub range: Option<Arc<Range>>,
    /// Fetched ahead.
    pub address: Option<Address>,
    /// The bytes were asked for: what is to be kept of the address was kept then.
    asked: bool,
    /// This job is the one that gives the whole file its name.
    names_file: bool,
}

impl Job {
    pub fn new(
        run: Arc<Run>,
        table: Arc<FileTable>,
        file: Arc<OpenFile>,
        range: Option<Arc<Range>>,
    ) -> Job {
        Job {
            run,
            table,
            file,
            range,
            address: None,
            asked: false,
            names_file: false,
        }
    }

    /// The address that was fetched ahead for all of the file's bytes.
    pub fn address_of_all(&self) -> Option<&Address> {
        let (address, range) = (self.address.as_ref()?, self.range.as_ref()?);
        let all = range.start == 0 && range.end() == self.size();
        all.then_some(address)
    }

    /// Brings the range's bytes; what was written is put back into the file's ranges whatever
    /// happens. None if the file is whole now and this job is to give it its name: first
    /// [`Job::finalize`], then [`Job::name`]. `next` are the addresses of the jobs that this thread
    /// does right after it, up to one that has none.
    pub fn fetch_range(
        &mut self,
        context: &WorkerContext,
        buffer: &mut CopyBuffer,
        next: &[Option<Address>],
    ) -> Option<Outcome> {
        if let Some(range) = &self.range {
            self.asked = true;
            let result = self.fetch(range, context, buffer, next);
            self.return_range(range, &result);
            if let Err(outcome) = result {
                return Some(outcome);
            }
        }
        self.names_file = self.claim_finish();
        (!self.names_file).then_some(Outcome::RangeDone)
    }

    /// Puts a range back; what a failed request asked for waits for its next attempt.
    fn return_range(&self, range: &Arc<Range>, result: &Result<(), Outcome>) {
        match result {
            Err(Outcome::Transient { .. } | Outcome::Again(_)) => self.file.defer(range),
            _ => self.file.put_back(range),
        }
    }

    /// Lets others do what this job has not done.
    pub fn give_back(&mut self) {
        if let Some(range) = &self.range {
            // Where it was put back already this does no harm.
            self.file.put_back(range);
        }
        if let Some(address) = self.address.take()
            && !self.asked
        {
            self.file.leave_address(address);
        }
        if std::mem::take(&mut self.names_file) {
            self.file.progress().finishing = false;
        }
    }

    fn root(&self) -> Result<&Arc<Root>, Outcome> {
        let root = self.run.root();
        root.ok_or_else(|| failed("the destination is not open"))
    }

    /// Whether it is to end as soon as it can.
    pub fn is_halted(&self) -> bool {
        self.run.is_halted() || self.file.given_up.load(Ordering::Acquire)
    }

    /// The file's size, in bytes.
    pub fn size(&self) -> u64 {
        self.table.size(self.file.index)
    }

    /// Whether it needs an address that is not known yet.
    pub fn wants_address(&self) -> bool {
        self.range.is_some() && self.file.known_address().is_none()
    }

    /// Fetches the address ahead, where it is needed. `next` are the files whose addresses this
    /// thread will want right after it.
    ///
    /// # Errors
    /// The outcome with which the job ends.
    pub fn find_address(&mut self, context: &WorkerContext, next: &[u32]) -> Result<(), Outcome> {
        if !self.wants_address() {
            return Ok(());
        }
        if self.is_halted() {
            return Err(Outcome::Stopped);
        }
        self.address = Some(self.fetch_address(context, next)?);
        Ok(())
    }

    fn fetch_address(&self, context: &WorkerContext, next: &[u32]) -> Result<Address, Outcome> {
        let order = &self.run.download.order;
        let watch = self.run.watch();
        let file_id = self.table.id(self.file.index);
        let address = self
            .run
            .session
            .call(&context.client, order, &watch, |place| {
                let next = next.iter().map(|&file| self.table.id(file));
                context.client.address(place, file_id, next, &watch)
            });
        // Where the journal cannot take it, the link is read again after a restart.
        if let Err(error) = context.keep_token(&self.run) {
            log::warn!("the package's token is not kept: {error}");
        }
        address.map_err(|fault| match fault {
            // It may be a portal's or a proxy's answer.
            SessionFault::Call(Fault::Malformed(message)) => self.count_refusal(&message),
            other => other.into(),
        })
    }

    /// An answer that cannot be used: to be tried again, but not for ever.
    fn count_refusal(&self, message: &str) -> Outcome {
        let mut progress = self.file.progress();
        progress.refusals += 1;
        if progress.refusals < REFUSALS {
            return Outcome::Again(message.to_owned());
        }
        progress.refusals = 0;
        failed(&format!(
            "{message} ({REFUSALS} times in a row); ask the sender"
        ))
    }

    /// A large file is looked through for holes before it gets its name, once: some file systems
    /// show what holds nothing but zeros as one.
    fn claim_look(&self) -> bool {
        !std::mem::replace(&mut self.file.progress().looked, true)
    }

    /// Exactly one worker gives a whole file its name.
    fn claim_finish(&self) -> bool {
        let mut progress = self.file.progress();
        let mine = progress.ranges.is_complete() && !progress.finishing;
        progress.finishing |= mine;
        mine
    }
}

#[cfg(test)]
mod tests;
