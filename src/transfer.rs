//! One job: one byte range of one file, fetched into its `.part`; the last one gives the file its name.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::board::{Code, FileProblem, IfExists, Problem};
use crate::dest::{self, DestError, Folder, Published, Root, Traits};
use crate::hold::{self, Hold};
use crate::intervals::Intervals;
use crate::limit::Limit;
use crate::meter::Meter;
use crate::paths;
use crate::ranges::{Range, Ranges};
use crate::run::Run;
use crate::saved::{Change, Partial, Saved};
use crate::seats::Seats;
use crate::session::SessionFault;
use crate::store::Store;
use crate::table::{FileState, FileTable, Names, Skip};
use crate::upstream::{Address, Client, Content, Fault, Fetched};

/// Refusals in a row of fresh addresses, with no byte between them, that make a file fail.
const REFUSALS: u32 = 5;
/// How often a file's content may turn out changed before that is its error.
const CHANGES: u32 = 3;
/// No file system of use has larger blocks.
const BLOCK: u64 = 64 << 10;
/// A file from this size on may be tampered with while it is on its way; a smaller one is there too shortly.
const LARGE: u64 = 1 << 20;

/// What workers work with.
pub struct Hands {
    pub client: Client,
    pub store: Arc<Store<Saved>>,
    pub meter: Meter,
    pub limit: Limit,
    pub seats: Seats,
}

/// A file on its way, shared by the workers that fetch its ranges.
pub struct OpenFile {
    pub index: u32,
    progress: Mutex<Progress>,
    /// Held while a first address is fetched, so that one worker does it for all.
    address: Mutex<Option<Address>>,
    part: Mutex<Option<Arc<Part>>>,
    /// Whether a `.part` that is there is ours.
    begun: AtomicBool,
    /// The file has failed or is in place: jobs for it that are still out are to end.
    given_up: AtomicBool,
}

struct Progress {
    ranges: Ranges,
    etag: Option<String>,
    etag_reported: bool,
    refusals: u32,
    changes: u32,
    finishing: bool,
    /// The journal still says what is no longer true of the file.
    owes_void: bool,
    /// Whether the whole file was looked through for holes.
    looked: bool,
}

/// The open `.part` of a file.
pub struct Part {
    pub file: File,
    folder: Arc<Folder>,
    names: Names,
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
}

/// How a job ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was told to stop.
    Stopped,
    /// It gave up its seat: there are to be fewer workers.
    Yielded,
    /// The range is in place, the file is not whole.
    Range,
    Complete,
    /// The name was taken and `if_exists` is `skip`.
    Skipped,
    /// The file starts over: its `.part` is gone, or the server cannot do ranges.
    Over,
    /// To be tried again. `gained` tells whether bytes came before.
    Fault {
        message: String,
        retry_after: Option<Duration>,
        gained: bool,
    },
    /// The file has failed.
    Failed(FileProblem),
    /// Nothing of the download can go on.
    Broken(Problem),
}

impl OpenFile {
    /// A file of `size` bytes of which `partial` are in place; `begun` tells whether it may have a `.part`.
    pub fn new(index: u32, size: u64, partial: Partial, begun: bool) -> OpenFile {
        let progress = Progress {
            ranges: Ranges::new(size, partial.bytes),
            etag_reported: partial.etag.is_some(),
            etag: partial.etag,
            refusals: 0,
            changes: 0,
            finishing: false,
            owes_void: false,
            looked: false,
        };
        OpenFile {
            index,
            progress: Mutex::new(progress),
            address: Mutex::default(),
            part: Mutex::default(),
            begun: AtomicBool::new(begun),
            given_up: AtomicBool::new(false),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next free range for one of `workers` workers.
    pub fn take(&self, workers: u64) -> Option<Arc<Range>> {
        self.progress().ranges.take(workers)
    }

    /// Takes the tail of the slowest range.
    pub fn take_tail(&self, now: Instant) -> Option<Arc<Range>> {
        self.progress().ranges.take_tail(now)
    }

    /// Puts a range back that no worker got.
    pub fn put_back(&self, range: &Arc<Range>) {
        self.progress().ranges.put_back(range);
    }

    /// Whether every byte is in place.
    pub fn is_whole(&self) -> bool {
        self.progress().ranges.is_complete()
    }

    /// Whether another range could be taken.
    pub fn has_free(&self) -> bool {
        self.progress().ranges.has_free()
    }

    /// The address that later ranges use.
    pub fn known_address(&self) -> Option<Address> {
        self.address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What the journal does not know yet.
    pub fn news(&self, key: u32) -> Vec<Change> {
        let mut progress = self.progress();
        let news = progress.ranges.news();
        let mut changes = Vec::new();
        if !news.is_empty()
            && !progress.etag_reported
            && let Some(etag) = progress.etag.clone()
        {
            progress.etag_reported = true;
            changes.push(Change::Etag(key, self.index, etag));
        }
        changes.extend(
            news.into_iter()
                .map(|(start, end)| Change::Wrote(key, self.index, start, end)),
        );
        changes
    }

    /// How far the file is, for an [`OpenFile`] that takes its place.
    pub fn partial(&self) -> Partial {
        let progress = self.progress();
        Partial {
            bytes: progress.ranges.done().clone(),
            etag: progress.etag.clone(),
        }
    }

    /// Closes the `.part`; it is opened again when needed.
    pub fn close(&self) {
        *self.part.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Closes it for good.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.close();
    }

    fn keep_address(&self, address: &Address) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.clone());
    }
}

/// Why a request for bytes came to nothing.
enum Refusal {
    /// The address was refused; the outcome holds if another is, too.
    Address(Outcome),
    Other(Outcome),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        let (Refusal::Address(outcome) | Refusal::Other(outcome)) = refusal;
        outcome
    }
}

impl From<DestError> for Outcome {
    fn from(error: DestError) -> Outcome {
        if let DestError::Short(message) = error {
            return passing(message);
        }
        Outcome::Failed(FileProblem {
            code: error.code(),
            message: error.to_string(),
        })
    }
}

/// The outcome of what will do when it is tried again.
fn passing(message: String) -> Outcome {
    Outcome::Fault {
        message,
        retry_after: None,
        gained: false,
    }
}

/// The outcome of a destination that cannot be used at all.
fn broken(error: &DestError) -> Outcome {
    if let DestError::Short(message) = error {
        return passing(message.clone());
    }
    Outcome::Broken(Problem {
        code: error.code(),
        message: error.to_string(),
        recoverable: true,
        retry_at: None,
    })
}

impl From<SessionFault> for Outcome {
    fn from(fault: SessionFault) -> Outcome {
        match fault {
            SessionFault::Link(problem) => Outcome::Broken(problem),
            SessionFault::Call(Fault::Stopped) => Outcome::Stopped,
            SessionFault::Call(Fault::Transient {
                message,
                retry_after,
            }) => Outcome::Fault {
                message,
                retry_after,
                gained: false,
            },
            SessionFault::Call(Fault::Unauthorized) => failed(
                "the server refuses the file's address, also with a fresh token; ask the sender",
            ),
            SessionFault::Call(Fault::NotFound | Fault::Gone) => {
                failed("the server no longer has this file; ask the sender")
            }
            SessionFault::Call(Fault::Refused { status }) => failed(&format!(
                "the server refuses the file's address (status {status})"
            )),
            SessionFault::Call(Fault::Malformed(message)) => failed(&message),
        }
    }
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed(FileProblem {
        code: Code::ProtocolError,
        message: message.into(),
    })
}

impl Job {
    /// Does the job. What it wrote is put back into the file's ranges whatever happens.
    pub fn work(&self, hands: &Hands, hold: &mut Hold) -> Outcome {
        let fetched = match &self.range {
            Some(range) => {
                let result = self.fetch(range, hands, hold);
                self.file.put_back(range);
                result
            }
            None => Ok(()),
        };
        match fetched {
            Err(outcome) => outcome,
            Ok(()) if !self.claim_finish() => Outcome::Range,
            Ok(()) => {
                let outcome = self.finish(hands).unwrap_or_else(|outcome| outcome);
                // Once it has its name, a worker that comes late must not finish it again.
                self.file.progress().finishing =
                    matches!(outcome, Outcome::Complete | Outcome::Skipped);
                outcome
            }
        }
    }

    /// Whether it is to end as soon as it can.
    pub fn is_halted(&self) -> bool {
        self.run.is_halted() || self.file.given_up.load(Ordering::Acquire)
    }

    /// Fetches the address of the file, for a job that does not have one yet.
    ///
    /// # Errors
    /// The outcome with which the job ends.
    pub fn fetch_address(&self, hands: &Hands) -> Result<Address, Outcome> {
        let order = &self.run.download.order;
        let watch = self.run.watch();
        let file_id = self.table.id(self.file.index);
        let address = self
            .run
            .session
            .call(&hands.client, order, &watch, |place| {
                hands.client.address(place, file_id, &watch)
            });
        address.map_err(|fault| match fault {
            // It may be a portal's or a proxy's answer.
            SessionFault::Call(Fault::Malformed(message)) => self.strike(&message),
            other => other.into(),
        })
    }

    /// An answer that cannot be used: to be tried again, but not for ever.
    fn strike(&self, message: &str) -> Outcome {
        let mut progress = self.file.progress();
        progress.refusals += 1;
        if progress.refusals < REFUSALS {
            return Outcome::Fault {
                message: message.into(),
                retry_after: None,
                gained: false,
            };
        }
        progress.refusals = 0;
        failed(&format!(
            "{message} ({REFUSALS} times in a row); ask the sender"
        ))
    }

    /// A large file is looked through for holes before it gets its name, once: some file systems show what holds
    /// nothing but zeros as one.
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

    fn fetch(&self, range: &Arc<Range>, hands: &Hands, hold: &mut Hold) -> Result<(), Outcome> {
        if self.is_halted() {
            return Err(Outcome::Stopped);
        }
        if self.file.progress().owes_void {
            self.void(hands)?;
        }
        self.table.begin(self.file.index);
        let (mut fetched, asked_end) = self.open(range, hands)?;
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
            self.file.put_back(range);
        }
        copied
    }

    /// Gets an answer to the request for a range, with a fresh address where the known one is refused.
    fn open(&self, range: &Range, hands: &Hands) -> Result<(Fetched, u64), Outcome> {
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
            match hands
                .client
                .fetch(&address, wanted.clone(), &self.run.watch())
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
                    address = self.fetch_address(hands)?;
                }
            }
        }
    }

    /// The file's first address: one worker fetches it, the others wait for that.
    fn shared_address(&self, hands: &Hands) -> Result<Address, Outcome> {
        let mut shared = self
            .file
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = &*shared {
            return Ok(address.clone());
        }
        let address = self.fetch_address(hands)?;
        *shared = Some(address.clone());
        Ok(address)
    }

    /// What a failed request means; `fresh` tells whether its address had not been used before.
    fn refused(&self, fault: Fault, fresh: bool, hands: &Hands) -> Refusal {
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
        *self
            .file
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
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
    fn check(
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
    fn changed(&self, message: &str, hands: &Hands) -> Outcome {
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
        *self
            .file
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        if changes >= CHANGES {
            self.file.progress().changes = 0;
            return failed(&format!(
                "{message}; it was started over twice; ask the sender"
            ));
        }
        Outcome::Fault {
            message: message.into(),
            retry_after: None,
            gained: false,
        }
    }

    /// Takes back what was said of the file's bytes. Until that is in the journal, no other byte may take their place.
    fn void(&self, hands: &Hands) -> Result<(), Outcome> {
        self.table.set_done(self.file.index, 0);
        self.file.progress().owes_void = true;
        self.save(
            hands,
            &[Change::Over(self.run.download.key, self.file.index)],
        )?;
        self.file.progress().owes_void = false;
        Ok(())
    }

    fn save(&self, hands: &Hands, changes: &[Change]) -> Result<(), Outcome> {
        hands.store.append(changes).map_err(|error| Outcome::Fault {
            message: error.to_string(),
            retry_after: None,
            gained: false,
        })
    }

    /// Moves the body into the `.part`.
    fn copy(
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
        let asked_end = range.end();
        loop {
            if self.is_halted() {
                return Err(Outcome::Stopped);
            }
            if hands.seats.is_crowded() && self.may_yield() && hands.seats.must_leave() {
                return Err(Outcome::Yielded);
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
    fn may_yield(&self) -> bool {
        !self.file.progress().ranges.is_single()
    }

    /// The file's `.part`, opened or made.
    fn part(&self, hands: &Hands) -> Result<Arc<Part>, Outcome> {
        let mut slot = self
            .file
            .part
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = &*slot {
            return Ok(part.clone());
        }
        let root = self
            .run
            .root()
            .ok_or_else(|| failed("the destination is not open"))?;
        self.run.look(root).map_err(|error| broken(&error))?;
        let part = Arc::new(self.open_part(root, hands)?);
        *slot = Some(part.clone());
        Ok(part)
    }

    fn open_part(&self, root: &Root, hands: &Hands) -> Result<Part, Outcome> {
        let index = self.file.index;
        let size = self.table.size(index);
        let folder = self
            .run
            .folder(root, &self.table, self.table.dir_of(index))?;
        let mut names = self.table.names(index);
        if self.file.begun.load(Ordering::Acquire)
            && let Some(file) = folder.open_part(&names.part)?
        {
            if !self.file.progress().ranges.done().is_empty() {
                self.believe(&file, hands)?;
            }
            if file.metadata().map_or(0, |data| data.len()) != size {
                dest::reserve(&file, size)?;
            }
            return Ok(Part {
                file,
                folder,
                names,
            });
        }
        self.hold(&Intervals::default(), hands)?;
        let file = loop {
            if let Some(file) = folder.create_part(&names.part)? {
                self.file.begun.store(true, Ordering::Release);
                break file;
            }
            names.part = free_part(&folder, &names.last, root.traits());
            self.save(
                hands,
                &[Change::Renamed(self.run.download.key, index, names.clone())],
            )?;
            self.table.rename(index, names.clone());
        };
        if let Err(error) = dest::reserve_new(&file, size) {
            // Nothing of it is worth keeping, and it may be what fills the disk.
            let _ = folder.remove_part(&names.part);
            return Err(error.into());
        }
        Ok(Part {
            file,
            folder,
            names,
        })
    }

    /// Believes only what the `.part` holds: somebody may have cut it.
    fn believe(&self, file: &File, hands: &Hands) -> Result<(), Outcome> {
        let held: Intervals = dest::extents(file).into_iter().collect();
        let done = self.file.progress().ranges.done().clone();
        if done.intersection(&held) == done {
            return Ok(());
        }
        // An extent begins and ends with whole blocks, in which the cut may lie.
        let inner = held
            .iter()
            .map(|(start, end)| (start + BLOCK, end.saturating_sub(BLOCK)));
        self.hold(&inner.collect(), hands)
    }

    /// The `.part` holds this much; what else was said to be in it is to be fetched again.
    fn hold(&self, held: &Intervals, hands: &Hands) -> Result<(), Outcome> {
        let mut progress = self.file.progress();
        let before = progress.ranges.done().total();
        progress.ranges.keep(held);
        let bytes = progress.ranges.done().clone();
        let etag = progress.etag.clone().filter(|_| !bytes.is_empty());
        drop(progress);
        if bytes.total() == before {
            return Ok(());
        }
        log::warn!(
            "download {}: the unfinished {} was removed or cut; what is missing is fetched again",
            self.run.download.id,
            self.table.path(self.file.index)
        );
        self.table.set_done(self.file.index, bytes.total());
        let (key, index) = (self.run.download.key, self.file.index);
        let mut changes = vec![Change::Over(key, index)];
        changes.extend(etag.map(|etag| Change::Etag(key, index, etag)));
        changes.extend(
            bytes
                .iter()
                .map(|(start, end)| Change::Wrote(key, index, start, end)),
        );
        if let Err(outcome) = self.save(hands, &changes) {
            // The journal says too much; nothing of it is believed until that is mended.
            let mut progress = self.file.progress();
            progress.ranges.keep(&Intervals::default());
            progress.owes_void = true;
            return Err(outcome);
        }
        Err(Outcome::Over)
    }

    /// Gives the whole file its time and its name. The journal knows before the name changes, so that a start
    /// in between finds out which of the two it is.
    fn finish(&self, hands: &Hands) -> Result<Outcome, Outcome> {
        if self.run.is_halted() {
            return Err(Outcome::Stopped);
        }
        let index = self.file.index;
        let part = self.part(hands)?;
        let root = self
            .run
            .root()
            .ok_or_else(|| failed("the destination is not open"))?;
        self.run.look(root).map_err(|error| broken(&error))?;
        let size = self.table.size(index);
        let short = part.file.metadata().map_or(0, |data| data.len()) < size;
        if short || (size >= LARGE && self.claim_look()) {
            self.believe(&part.file, hands)
                .inspect_err(|_| self.file.close())?;
        }
        let key = self.run.download.key;
        self.save(hands, &[stamp(&self.table, index, key, &part.file)])?;
        let place = Place {
            key,
            table: &self.table,
            index,
            if_exists: self.run.download.order.if_exists,
            traits: root.traits(),
        };
        let published = publish(&place, &part.folder, part.names.clone(), &hands.store)?;
        self.file.close();
        match published {
            Some(state) => {
                self.table.set_state(index, state);
                if state == FileState::Complete {
                    self.table.set_done(index, self.table.size(index));
                }
                Ok(if state == FileState::Skipped {
                    Outcome::Skipped
                } else {
                    Outcome::Complete
                })
            }
            None => {
                self.file.progress().ranges.start_over();
                self.void(hands)?;
                Err(Outcome::Over)
            }
        }
    }
}

/// Sets the file's time, and says with which one it is whole.
fn stamp(table: &FileTable, index: u32, key: u32, file: &File) -> Change {
    if let Some(mtime) = table.mtime(index)
        && dest::set_mtime(file, mtime)
    {
        return Change::Done(key, index);
    }
    match dest::mtime(file) {
        Some(mtime) => {
            table.set_saved_mtime(index, mtime);
            Change::DoneAt(key, index, mtime)
        }
        None => Change::Done(key, index),
    }
}

/// Which file is to be given its name.
pub struct Place<'a> {
    pub key: u32,
    pub table: &'a FileTable,
    pub index: u32,
    pub if_exists: IfExists,
    pub traits: Traits,
}

/// Renames a whole `.part` to its final name. None where there is no `.part`.
///
/// # Errors
/// The outcome with which the file's job ends.
pub fn publish(
    place: &Place<'_>,
    folder: &Folder,
    mut names: Names,
    store: &Store<Saved>,
) -> Result<Option<FileState>, Outcome> {
    let save = |change: Change| {
        store.append(&[change]).map_err(|error| Outcome::Fault {
            message: error.to_string(),
            retry_after: None,
            gained: false,
        })
    };
    loop {
        match folder.publish(
            &names.part,
            &names.last,
            place.if_exists == IfExists::Overwrite,
        )? {
            Published::Done => return Ok(Some(FileState::Complete)),
            Published::PartMissing => return Ok(None),
            Published::Taken if place.if_exists == IfExists::Skip => {
                folder.remove_part(&names.part)?;
                save(Change::Skipped(place.key, place.index))?;
                place.table.skip(place.index, Skip::Exists);
                return Ok(Some(FileState::Skipped));
            }
            Published::Taken => {
                names.last = free_name(folder, &names.last, place.traits);
                save(Change::Renamed(place.key, place.index, names.clone()))?;
                place.table.rename(place.index, names.clone());
            }
        }
    }
}

/// The first of `name (1).ext`, `name (2).ext`, … that is free in the folder.
fn free_name(folder: &Folder, name: &str, traits: Traits) -> String {
    let mut candidates = (1..).map(|number| paths::numbered(name, number, traits));
    candidates
        .find(|candidate| folder.kind(candidate).is_none())
        .unwrap_or_else(|| name.to_owned())
}

/// The first of `name (1).part`, `name (2).part`, … that is free in the folder.
fn free_part(folder: &Folder, name: &str, traits: Traits) -> String {
    let mut candidates = (1..).map(|number| paths::part_name(name, number, traits));
    candidates
        .find(|candidate| folder.kind(candidate).is_none())
        .unwrap_or_else(|| name.to_owned())
}
