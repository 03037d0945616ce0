//! The journal as the running process holds it: the open file, and what of it is not yet in the
//! JSON file.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::disk::Disk;
use super::line::{self, Header, MAX_SEQ};
use super::{State, StoreError};

/// The journal keeps this much space reserved, in bytes, where possible: a full disk must not
/// keep anyone from deleting a download.
const RESERVE: u64 = 64 << 10;

/// How much of the buffer is kept from one write to the next.
const KEPT: usize = 64 << 10;

/// A change that is in the journal and not in the JSON file.
#[derive(Clone)]
pub(super) struct Entry<C> {
    pub seq: u64,
    pub change: C,
    pub data: bool,
}

/// The numbers of lines that someone waits for, first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub first: u64,
    pub last: u64,
}

/// The ticket of a line that bears no number.
const NOBODY: Ticket = Ticket { first: 1, last: 0 };

pub(super) struct Journal<C> {
    pub file: Arc<File>,
    /// The length of what counts; the next line goes here.
    pub len: u64,
    /// The length at which the JSON file is due to be written anew.
    pub full_at: u64,
    /// Up to here the disk has set space aside, so that a small change can be saved on a full disk.
    pub reserved: u64,
    /// The last sequence number that was given out. None is given out twice.
    pub last: u64,
    /// The last number that was given to a change.
    pub appended: u64,
    /// The data behind every change up to this one has been synced.
    pub synced: u64,
    /// As `synced`, as far as the journal on disk says so.
    pub marked: u64,
    /// Changes that are not in the JSON file's state, in sequence.
    pub tail: VecDeque<Entry<C>>,
    /// Those who wait for the disk, in sequence.
    pub waiting: Vec<Ticket>,
    /// Changes that were refused or taken back, whose lines may still be in the file, and which it
    /// does not call void yet.
    pub owed: Vec<Ticket>,
    /// A sync of the file failed. The kernel then forgets which pages were not written, so that a
    /// later sync of the same file proves nothing: it must be written anew.
    pub suspect: bool,
    buffer: Vec<u8>,
}

impl<C> Journal<C> {
    pub(super) fn new(file: Arc<File>, last: u64, synced: u64, tail: Vec<Entry<C>>) -> Journal<C> {
        Journal {
            file,
            len: 0,
            full_at: 0,
            reserved: 0,
            last,
            appended: last,
            synced,
            marked: synced,
            tail: tail.into(),
            waiting: Vec::new(),
            owed: Vec::new(),
            suspect: false,
            buffer: Vec::new(),
        }
    }

    /// Writes a line for each change, given with its JSON, in one write.
    /// After an error none of them is in the journal.
    pub(super) fn push(&mut self, disk: &dyn Disk, changes: Encoded<C>) -> io::Result<Ticket> {
        let count = changes.changes.len() as u64;
        let ticket = self.number(count)?;
        self.start_lines();
        let mut start = 0;
        for (seq, end) in (ticket.first..).zip(&changes.ends) {
            line::push_change(&mut self.buffer, seq, &changes.json[start..*end]);
            start = *end;
        }
        self.write_lines(disk, ticket)?;
        self.appended = ticket.last;
        for (seq, (change, data)) in (ticket.first..).zip(changes.changes) {
            self.tail.push_back(Entry { seq, change, data });
        }
        Ok(ticket)
    }

    /// Writes the line that says how far data has been synced.
    pub(super) fn push_mark(&mut self, disk: &dyn Disk) -> io::Result<Ticket> {
        // The line bears no number, but who waits for it needs one.
        let ticket = self.number(1)?;
        self.start_lines();
        line::push_synced(&mut self.buffer, self.synced);
        self.write_lines(disk, ticket)?;
        Ok(ticket)
    }

    /// Writes a header: what follows is of its boot.
    pub(super) fn push_header(&mut self, disk: &dyn Disk, header: &Header) -> io::Result<()> {
        self.start_lines();
        line::push_header(&mut self.buffer, header);
        self.write_lines(disk, NOBODY)
    }

    /// Takes back the lines up to `upto` that someone waits for, since they could not be made
    /// durable. Returns whose lines these were.
    pub(super) fn refuse(&mut self, disk: &dyn Disk, upto: u64) -> Vec<Ticket> {
        let (refused, kept): (Vec<_>, Vec<_>) = self
            .waiting
            .drain(..)
            .partition(|ticket| ticket.last <= upto);
        self.waiting = kept;
        self.suspect = true;
        self.take_back(disk, &refused);
        refused
    }

    fn take_back(&mut self, disk: &dyn Disk, tickets: &[Ticket]) {
        let refused = |seq: u64| tickets.iter().any(|t| t.first <= seq && seq <= t.last);
        self.tail.retain(|entry| !refused(entry.seq));
        self.owed.extend_from_slice(tickets);
        self.start_lines();
        if let Err(error) = self.write_lines(disk, NOBODY) {
            // They stay owed: the next write, or the next generation, settles it.
            log::warn!("cannot yet take back changes in the journal: {error}");
        }
    }

    /// Takes back the data changes that are not known to be synced and that `lost` picks. After an
    /// error some of them may still be in the file, and the next line that is written settles that.
    pub(super) fn take_back_unsynced(
        &mut self,
        disk: &dyn Disk,
        lost: impl Fn(&C) -> bool,
    ) -> io::Result<Ticket> {
        let (synced, owed) = (self.synced, &mut self.owed);
        self.tail.retain(|entry| {
            let taken = entry.data && entry.seq > synced && lost(&entry.change);
            if taken {
                owe(owed, entry.seq);
            }
            !taken
        });
        // The lines bear no number of their own, but who waits for them needs one.
        let ticket = self.number(1)?;
        self.start_lines();
        self.write_lines(disk, ticket)?;
        Ok(ticket)
    }

    /// Whether it is time to write both files anew.
    pub(super) fn is_due(&self) -> bool {
        self.suspect || self.len > self.full_at
    }

    /// Sets space aside for the next changes, if little is left. A file system that cannot is fine.
    pub(super) fn reserve(&mut self, disk: &dyn Disk) {
        if self.reserved < self.len + RESERVE {
            let wanted = 2 * RESERVE;
            let got = disk.reserve(&self.file, self.len, wanted).is_ok();
            self.reserved = if got { self.len + wanted } else { 0 };
        }
    }

    fn number(&mut self, count: u64) -> io::Result<Ticket> {
        let first = self.last + 1;
        let last = self.last + count;
        if last >= MAX_SEQ {
            return Err(io::Error::other("the journal's numbers are used up"));
        }
        self.last = last;
        Ok(Ticket { first, last })
    }

    fn start_lines(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        for ticket in &self.owed {
            line::push_void(&mut self.buffer, ticket.first, ticket.last);
        }
    }

    /// Writes the buffer at the journal's end; undoes it after an error.
    fn write_lines(&mut self, disk: &dyn Disk, ticket: Ticket) -> io::Result<()> {
        match disk.write_at(&self.file, &self.buffer, self.len) {
            Ok(()) => {
                self.len += self.buffer.len() as u64;
                self.owed.clear();
                Ok(())
            }
            Err(error) => {
                // Cutting the file gives back what was set aside behind its end.
                self.reserved = 0;
                if let Err(error) = disk.truncate(&self.file, self.len) {
                    log::warn!("cannot cut the journal back to {} bytes: {error}", self.len);
                    if ticket.first <= ticket.last {
                        self.owed.push(ticket);
                    }
                }
                Err(error)
            }
        }
    }

    /// Takes the changes that can go into the JSON file: the longest run from the front that nobody
    /// waits for, and in which all data is synced. Returns them with the number up to which every
    /// change has then been taken (or refused).
    ///
    /// A run from the front, rather than every change that is ready, because the order between a
    /// data change that must wait and a later change of the same thing has to be kept.
    pub(super) fn take_ready(&mut self) -> (Vec<Entry<C>>, u64) {
        let awaited = self.waiting.first().map_or(u64::MAX, |ticket| ticket.first);
        let synced = self.synced;
        let blocks = |entry: &Entry<C>| entry.seq >= awaited || entry.data && entry.seq > synced;
        let ready = self.tail.iter().position(blocks);
        let taken: Vec<Entry<C>> = self
            .tail
            .drain(..ready.unwrap_or(self.tail.len()))
            .collect();
        let through = match self.tail.front() {
            Some(entry) => entry.seq - 1,
            None => self.last,
        };
        (taken, through)
    }
}

/// Adds one change to those that are to be called void, neighbours in one line.
fn owe(owed: &mut Vec<Ticket>, seq: u64) {
    match owed.last_mut() {
        Some(ticket) if ticket.last + 1 == seq => ticket.last = seq,
        _ => owed.push(Ticket {
            first: seq,
            last: seq,
        }),
    }
}

/// Changes with their JSON, made before the journal is locked.
pub(super) struct Encoded<C> {
    json: Vec<u8>,
    /// Where each change's JSON ends.
    ends: Vec<usize>,
    /// Each change, and whether it is about data.
    changes: Vec<(C, bool)>,
}

/// The room that a line needs beside its JSON: the number's field, braces, the newline.
const FRAME: usize = 40;

impl<C: Serialize + Clone> Encoded<C> {
    /// Makes the JSON of `changes`; `dir` is the state directory, for the error's text.
    pub(super) fn new<S: State<Change = C>>(
        changes: &[C],
        dir: &Path,
    ) -> Result<Encoded<C>, StoreError> {
        let mut encoded = Encoded {
            json: Vec::with_capacity(changes.len() * 48),
            ends: Vec::with_capacity(changes.len()),
            changes: Vec::with_capacity(changes.len()),
        };
        for change in changes {
            let start = encoded.json.len();
            serde_json::to_writer(&mut encoded.json, change)
                .map_err(|error| StoreError::io("put into words for", dir, dir, error.into()))?;
            let end = encoded.json.len();
            let (bytes, limit) = (end - start, line::MAX_LINE - FRAME);
            if bytes > limit {
                return Err(StoreError::TooLarge { bytes, limit });
            }
            encoded.ends.push(end);
            encoded.changes.push((change.clone(), S::is_data(change)));
        }
        Ok(encoded)
    }
}
