//! From a range to bytes in the `.part`: ask, check the answer, copy.

use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::copy::Copying;
use super::open_file::Progress;
use super::verdict::{Refusal, failed};
use super::{Job, WorkerContext};
use crate::base::copy_buffer::CopyBuffer;
use crate::base::display::clean;
use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::model::outcome::Outcome;
use crate::model::ranges::Range;
use crate::store::saved::Change;
use crate::upstream::session::SessionFault;
use crate::upstream::{Address, Content, Fault, Fetched, Rejection, differs};

/// Where an answer's bytes go.
struct Place {
    range: Arc<Range>,
    /// Bytes at the body's start that are in place already.
    skip: u64,
}

impl Place {
    fn of_part(range: &Arc<Range>) -> Place {
        Place {
            range: range.clone(),
            skip: 0,
        }
    }

    fn of_whole(range: &Arc<Range>) -> Place {
        range.comes_whole();
        Place {
            range: range.clone(),
            skip: range.start,
        }
    }
}

/// Whether an answer is what was asked for, the bytes from `start` to `end` of a file of `size`, or
/// some of them, or all of the file.
fn fits(content: &Content, start: u64, end: u64, size: u64) -> bool {
    let fits_size = |told: Option<u64>| told.is_none_or(|told| told == size);
    match *content {
        Content::Whole { length } => fits_size(length),
        Content::Part {
            start: first,
            end: last,
            total,
        } => first == start && last <= end && fits_size(total),
    }
}

impl Job {
    pub(super) fn fetch(
        &self,
        range: &Arc<Range>,
        context: &WorkerContext,
        buffer: &mut CopyBuffer,
        next: &[Option<Address>],
    ) -> Result<(), Outcome> {
        if self.is_halted() {
            return Err(Outcome::Stopped);
        }
        if range.is_void() {
            return Err(Outcome::StartedOver);
        }
        self.refuse_too_large()?;
        self.refuse_taken(context)?;
        self.journal_reset(context)?;
        self.table.begin(self.file.index);
        let (mut fetched, asked_end) = self.open(range, context, next)?;
        let place = self.place(&mut fetched, range, asked_end, context)?;
        let copied = self.fill(&mut fetched, &place, context, buffer);
        self.return_range(&place.range, &copied);
        copied
    }

    /// Before a byte is asked for that the disk could not hold.
    fn refuse_too_large(&self) -> Result<(), Outcome> {
        let Some(root) = self.run.root() else {
            return Ok(());
        };
        let path = || root.path().join(self.table.path(self.file.index));
        let fits = root.storage().check_size(self.size(), path);
        fits.map_err(Outcome::from)
    }

    fn fill(
        &self,
        fetched: &mut Fetched,
        place: &Place,
        context: &WorkerContext,
        buffer: &mut CopyBuffer,
    ) -> Result<(), Outcome> {
        let part = self.part(context)?;
        place.range.begin(Instant::now());
        let copied = Copying::new(self, context, &place.range, place.skip);
        let copied = copied.run(fetched, &part, buffer);
        if self.run.is_halted() {
            self.leave_receipt(&part)?;
        }
        copied
    }

    /// Gets an answer to the request for a range, with a fresh address where the known one is
    /// refused.
    pub(super) fn open(
        &self,
        range: &Range,
        context: &WorkerContext,
        next: &[Option<Address>],
    ) -> Result<(Fetched, u64), Outcome> {
        let size = self.table.size(self.file.index);
        let end = range.end();
        let single = self.file.progress().ranges.is_single();
        let wanted = (!single && (range.start > 0 || end < size)).then_some(range.start..end);
        let (mut address, mut fresh) = match (&self.address, self.file.known_address()) {
            (Some(ahead), _) => (ahead.clone(), true),
            (None, Some(known)) => (known, false),
            (None, None) => (self.shared_address(context)?, true),
        };
        let mut again = true;
        loop {
            let next = next.iter().map_while(Option::as_ref);
            match context
                .client
                .fetch(&address, wanted.clone(), next, &self.run.watch())
            {
                Ok(fetched) => {
                    self.file.keep_address(&address);
                    return Ok((fetched, end));
                }
                Err(Fault::Refused(answer)) if answer.status == 416 => {
                    let message = "the server says that the file is shorter than listed";
                    return Err(self.changed(range, message, context));
                }
                Err(fault) => {
                    if let Fault::Transient { .. } = fault {
                        self.file.keep_after_fault(&address);
                    }
                    // Used up or expired: a fresh one is used at once, and then after a wait.
                    let outcome = self.refused(fault, fresh, range, context);
                    if !again || !matches!(outcome, Refusal::Address(_)) {
                        return Err(outcome.into());
                    }
                    again = false;
                    fresh = true;
                    address = self.fetch_address(context, &[])?;
                }
            }
        }
    }

    /// The file's first address: one worker fetches it, the others wait for that.
    pub(super) fn shared_address(&self, context: &WorkerContext) -> Result<Address, Outcome> {
        let _fetching = locks::lock(&self.file.fetching_address);
        if let Some(address) = self.file.known_address() {
            return Ok(address);
        }
        let address = self.fetch_address(context, &[])?;
        self.file.keep_address(&address);
        Ok(address)
    }

    /// What a failed request means; `fresh` tells whether its address had not been used before.
    pub(super) fn refused(
        &self,
        fault: Fault,
        fresh: bool,
        range: &Range,
        context: &WorkerContext,
    ) -> Refusal {
        let answer = match fault {
            Fault::Stopped => return Refusal::Other(Outcome::Stopped),
            Fault::Transient {
                message,
                retry_after,
            } => {
                return Refusal::Other(Outcome::Transient {
                    message,
                    retry_after,
                    gained: false,
                });
            }
            Fault::Malformed(message) => {
                return Refusal::Other(self.changed(range, &message, context));
            }
            Fault::Refused(answer) => answer,
            Fault::Unauthorized => Rejection::of(403),
            Fault::Forbidden(words) => Rejection {
                status: 403,
                words: Some(words),
            },
            Fault::NotFound => Rejection::of(404),
            Fault::Gone => Rejection::of(410),
        };
        self.file.forget_address();
        let expired = matches!(answer.status, 401 | 403 | 410);
        if expired && fresh {
            let outcome = self.count_refusal(&format!(
                "the storage server refuses a fresh address ({answer})"
            ));
            return match outcome {
                Outcome::Failed(_) => Refusal::Other(outcome),
                outcome => Refusal::Address(outcome),
            };
        }
        Refusal::Address(failed(&format!(
            "the storage server refuses the file ({answer}); ask the sender"
        )))
    }

    /// Holds the answer's head against what is known of the file, and says where its bytes go.
    fn place(
        &self,
        fetched: &mut Fetched,
        range: &Arc<Range>,
        asked_end: u64,
        context: &WorkerContext,
    ) -> Result<Place, Outcome> {
        let size = self.size();
        let fits = fits(&fetched.content, range.start, asked_end, size);
        let sizeless = fetched.content == Content::Whole { length: None };
        if (!fits || sizeless)
            && fetched.is_page_instead_of(&self.table.names(self.file.index).last)
        {
            return Err(SessionFault::Call(fetched.page_fault()).into());
        }
        if !fits {
            fetched.doubt();
            let otherwise = "the server's file has another size or place than was listed";
            return Err(self.changed(range, &fetched.explain_size(otherwise), context));
        }
        let mut progress = self.file.progress();
        if range.is_void() {
            return Err(Outcome::StartedOver);
        }
        let known = progress.etag.clone();
        if let (Some(known), Some(told)) = (&known, &fetched.etag)
            && differs(known, told)
        {
            drop(progress);
            let message = "the file changed on the server while it was being downloaded";
            return Err(self.changed(range, message, context));
        }
        progress.etag = fetched.etag.clone().or(known.clone());
        if let Some(expected) = fetched.expected.take() {
            progress.expected = Some(expected);
        }
        if matches!(fetched.content, Content::Part { .. }) {
            return Ok(Place::of_part(range));
        }
        let asked_all = range.start == 0 && asked_end == size;
        if asked_all || progress.ranges.is_single() {
            return Ok(Place::of_whole(range));
        }
        drop(progress);
        self.take_whole(range, known == fetched.etag, context)
    }

    /// The whole file comes although a part was asked for. What is in place at its start stays
    /// where the content `is_known` to be the same.
    fn take_whole(
        &self,
        range: &Range,
        is_known: bool,
        context: &WorkerContext,
    ) -> Result<Place, Outcome> {
        let mut progress = self.file.progress();
        if range.is_void() {
            return Err(Outcome::StartedOver);
        }
        let Some(whole) = progress.ranges.become_single(is_known) else {
            return Err(Outcome::StartedOver);
        };
        progress.etag_reported = false;
        progress.owes_void = true;
        let in_place = progress.ranges.done().total();
        self.table.set_done(self.file.index, in_place);
        drop(progress);
        self.log_start_over("the server takes no ranges and sends the whole file");
        self.journal_reset(context)
            .inspect_err(|_| self.file.put_back(&whole))?;
        Ok(Place::of_whole(&whole))
    }

    /// The answer for a range shows that the file's content has changed: the file starts over, and
    /// the third time it fails. If the range was already discarded, the answer is ignored.
    pub(super) fn changed(&self, range: &Range, message: &str, context: &WorkerContext) -> Outcome {
        let mut progress = self.file.progress();
        if range.is_void() {
            return Outcome::StartedOver;
        }
        let failed_now = progress.changes.add(Instant::now());
        if let Err(outcome) = self.begin_anew(progress, message, context) {
            return outcome;
        }
        if failed_now {
            return failed(&format!(
                "{message}; it was started over twice; ask the sender"
            ));
        }
        Outcome::Again(message.to_owned())
    }

    /// Forgets what is in place of the file, here and in the journal, and says why.
    ///
    /// # Errors
    /// The journal cannot be written: it is still owed.
    pub(super) fn begin_anew(
        &self,
        mut progress: MutexGuard<'_, Progress>,
        why: &str,
        context: &WorkerContext,
    ) -> Result<(), Outcome> {
        self.start_over(&mut progress);
        drop(progress);
        self.log_start_over(why);
        self.journal_reset(context)?;
        self.file.forget_address();
        if self.shard().is_some() {
            // What was open may have its name since, and is not to be written to.
            self.file.close();
        }
        Ok(())
    }

    fn log_start_over(&self, why: &str) {
        let path = clean(&self.table.path(self.file.index));
        log::warn!(
            "download {}: {path} starts over: {why}",
            self.run.download.id
        );
    }

    /// Forgets what is in place of the file. Before another byte takes its place,
    /// [`Job::journal_reset`] has to be called.
    pub(super) fn start_over(&self, progress: &mut Progress) {
        progress.etag = None;
        progress.etag_reported = false;
        progress.expected = None;
        progress.ranges.start_over();
        progress.owes_void = true;
        self.table.set_done(self.file.index, 0);
    }

    /// Tells the journal what is in place of the file, where what it says is no longer true and no
    /// other worker has done it.
    ///
    /// # Errors
    /// The journal cannot be written: it is still owed.
    pub(super) fn journal_reset(&self, context: &WorkerContext) -> Result<(), Outcome> {
        let owes_void = self.file.progress().owes_void;
        if owes_void {
            self.void_receipts()?;
        }
        // Held until it is in the journal: what comes in the bytes' place is reported after it.
        let mut progress = self.file.progress();
        if !progress.owes_void {
            return Ok(());
        }
        let bytes = progress.ranges.done().clone();
        let etag = progress.etag.clone().filter(|_| !bytes.is_empty());
        let has_etag = etag.is_some();
        self.save(context, &self.anew(etag, &bytes))?;
        progress.owes_void = false;
        progress.etag_reported = has_etag;
        Ok(())
    }

    /// What makes the journal forget all that it knows of the file's bytes, and know these.
    pub(super) fn anew(&self, etag: Option<String>, bytes: &Intervals) -> Vec<Change> {
        let (key, index) = (self.run.download.key, self.file.index);
        let etag = etag.map(|etag| Change::Etag(key, index, etag.into()));
        let wrote = bytes.iter();
        let wrote = wrote.map(|(start, end)| Change::Wrote(key, index, start, end));
        [Change::Reset(key, index)]
            .into_iter()
            .chain(etag)
            .chain(wrote)
            .collect()
    }

    pub(super) fn save(&self, context: &WorkerContext, changes: &[Change]) -> Result<(), Outcome> {
        let saved = context.store.append(changes);
        saved.map_err(|error| Outcome::transient(error.to_string()))
    }

    /// Whether what was received stays of use: a server that ignores ranges would send it all
    /// again.
    pub(super) fn may_yield(&self) -> bool {
        !self.file.progress().ranges.is_single()
    }
}
