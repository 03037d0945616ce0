//! Reading the state back: the JSON file, then what the journal says has changed since.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::journal::{Entry, Ticket};
use super::line::{self, Header, Line, MAX_SEQ, Next};
use super::{JOURNAL, JSON, State, StoreError};

/// The version of the JSON file's layout.
const FORMAT: u32 = 1;
/// More than this is no JSON file of ours (1 GiB).
const MAX_JSON: u64 = 1 << 30;

/// The JSON file.
#[derive(Serialize, Deserialize)]
pub(super) struct Snapshot<S> {
    pub format: u32,
    /// How many times the pair of files has been begun anew.
    pub generation: u64,
    /// Every change up to this one is in `state`, and none after it.
    pub seq: u64,
    pub state: S,
}

impl<S> Snapshot<S> {
    pub(super) fn new(generation: u64, seq: u64, state: S) -> Snapshot<S> {
        Snapshot {
            format: FORMAT,
            generation,
            seq,
            state,
        }
    }
}

/// What was read back, with the changes that do not count already left out.
pub(super) struct Recovered<S: State> {
    pub whole: Snapshot<S>,
    /// Changes since, in sequence.
    pub tail: Vec<Entry<S::Change>>,
    /// The data behind every change up to this one has been synced.
    pub synced: u64,
    /// The greatest number seen.
    pub last: u64,
    pub journal: Found,
}

/// The journal file as it was found.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Found {
    /// Where its last whole line ends; 0 if there is no journal.
    pub end: u64,
    /// Whether there is something after that.
    pub torn: bool,
    /// Whether it was written in this boot.
    pub same_boot: bool,
}

/// Reads both files and changes neither.
pub(super) fn recover<S: State>(folder: &Folder, boot: &str) -> Result<Recovered<S>, StoreError> {
    let whole = read_json::<S>(folder)?;
    let mut log = match folder.read(JOURNAL) {
        Ok(file) => Log::<S>::read(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Log::default(),
        Err(error) => {
            let path = folder.path.join(JOURNAL);
            return Err(StoreError::io("read", &path, &folder.path, error));
        }
    };
    log.report(folder, &whole);
    let same_boot = log.header.as_ref().is_some_and(|h| h.boot == boot);
    let mut last = log.last.max(whole.seq);
    let synced = log.synced.min(last);
    log.put_in_order();
    let mut tail = Vec::with_capacity(log.changes.len());
    for (seq, change) in log.changes {
        let data = S::is_data(&change);
        let counts = same_boot || !data || seq <= synced;
        if seq > whole.seq && counts {
            tail.push(Entry { seq, change, data });
        }
    }
    let rebooted = S::rebooted().filter(|_| !same_boot && log.header.is_some());
    if let Some(change) = rebooted {
        last += 1;
        tail.push(Entry {
            seq: last,
            change,
            data: false,
        });
    }
    Ok(Recovered {
        whole,
        tail,
        // In another boot what was not synced is gone, so that nothing is left to be synced.
        synced: if same_boot { synced } else { last },
        last,
        journal: Found {
            end: log.end,
            torn: log.torn || log.fault.is_some(),
            same_boot,
        },
    })
}

fn read_json<S: State>(folder: &Folder) -> Result<Snapshot<S>, StoreError> {
    let path = folder.path.join(JSON);
    let damaged = |reason: String| StoreError::Damaged {
        path: path.clone(),
        reason,
    };
    let file = match folder.read(JSON) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Snapshot::new(0, 0, S::default()));
        }
        Err(error) => return Err(StoreError::io("read", &path, &folder.path, error)),
    };
    let mut text = Vec::new();
    file.take(MAX_JSON + 1)
        .read_to_end(&mut text)
        .map_err(|error| StoreError::io("read", &path, &folder.path, error))?;
    if text.len() as u64 > MAX_JSON {
        return Err(damaged(format!("it is larger than {MAX_JSON} bytes")));
    }
    let whole: Snapshot<S> =
        serde_json::from_slice(&text).map_err(|error| damaged(unfit(&text, &error)))?;
    if whole.format != FORMAT {
        return Err(damaged(other_format(whole.format)));
    }
    if whole.seq >= MAX_SEQ {
        return Err(damaged(format!("its seq, {}, is out of range", whole.seq)));
    }
    Ok(whole)
}

/// Why the text is not our JSON: perhaps only because another version wrote it.
fn unfit(text: &[u8], error: &serde_json::Error) -> String {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    match serde_json::from_slice::<Version>(text) {
        Ok(version) if version.format != FORMAT => other_format(version.format),
        _ => format!("it does not parse: {error}"),
    }
}

fn other_format(format: u32) -> String {
    format!("it has format {format}, and this haul reads format {FORMAT}")
}

/// A journal's lines as they were found.
struct Log<S: State> {
    header: Option<Header>,
    changes: Vec<(u64, S::Change)>,
    voids: Vec<Ticket>,
    synced: u64,
    last: u64,
    damaged: u64,
    torn: bool,
    /// Where the last whole line ends.
    end: u64,
    fault: Option<io::Error>,
}

impl<S: State> Default for Log<S> {
    fn default() -> Log<S> {
        Log {
            header: None,
            changes: Vec::new(),
            voids: Vec::new(),
            synced: 0,
            last: 0,
            damaged: 0,
            torn: false,
            end: 0,
            fault: None,
        }
    }
}

impl<S: State> Log<S> {
    fn read(file: File) -> Log<S> {
        let mut log = Log::default();
        let mut from = BufReader::with_capacity(64 << 10, file);
        if let Err(error) = log.read_lines(&mut from) {
            log.fault = Some(error);
        }
        log
    }

    fn read_lines(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            let (next, taken) = line::next_line(from, &mut line)?;
            match next {
                Next::Line => self.take(&line),
                Next::TooLong => self.damaged += 1,
                Next::Torn => self.torn = true,
                Next::End => return Ok(()),
            }
            if next != Next::Torn {
                self.end += taken;
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        match line::parse(line) {
            Some(Line::Change(seq, change)) => {
                self.last = self.last.max(seq);
                self.changes.push((seq, change));
            }
            Some(Line::Synced(upto)) => self.synced = self.synced.max(upto),
            Some(Line::Void(first, last)) => {
                self.last = self.last.max(last);
                self.voids.push(Ticket { first, last });
            }
            None => match serde_json::from_slice::<Header>(line) {
                Ok(header) => self.begin(header),
                Err(_) => self.damaged += 1,
            },
        }
    }

    /// What follows was written in the header's boot; what came before in another may have lost its
    /// data.
    fn begin(&mut self, header: Header) {
        let same_boot = self.header.as_ref().is_some_and(|h| h.boot == header.boot);
        if !same_boot {
            let synced = self.synced;
            self.changes
                .retain(|(seq, change)| *seq <= synced || !S::is_data(change));
        }
        self.synced = self.synced.max(header.synced);
        self.header = Some(header);
    }

    /// Sorts the changes by number; leaves out repetitions (the first counts) and what was taken
    /// back.
    fn put_in_order(&mut self) {
        if !self.changes.is_sorted_by_key(|(seq, _)| *seq) {
            self.changes.sort_by_key(|(seq, _)| *seq);
        }
        self.changes.dedup_by_key(|(seq, _)| *seq);
        self.voids.sort_by_key(|void| void.first);
        let mut voids = self.voids.iter().peekable();
        // The furthest end of the voids that begin at or before the change at hand.
        let mut void_through = 0;
        self.changes.retain(|(seq, _)| {
            while let Some(void) = voids.next_if(|void| void.first <= *seq) {
                void_through = void_through.max(void.last);
            }
            *seq > void_through
        });
    }

    fn report(&self, folder: &Folder, whole: &Snapshot<S>) {
        let path = folder.path.join(JOURNAL);
        let path = path.display();
        if let Some(error) = &self.fault {
            log::warn!("{path}: cannot be read to its end ({error}); going on with what was read");
        }
        if self.damaged > 0 {
            log::warn!("{path}: {} damaged lines were skipped", self.damaged);
        }
        if self.torn {
            log::info!("{path}: the last line was not finished and does not count");
        }
        if self.header.as_ref().map_or(0, |h| h.generation) > whole.generation {
            log::warn!("{path}: it is newer than {JSON}, so that changes between may be missing");
        }
    }
}
