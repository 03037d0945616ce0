//! The ledger: what changed on the board, in the order in which it was seen to change.
//!
//! Nothing is rendered or queued here. A download has at most one entry, that of its last
//! change, so a reader who comes late finds each once, as it is by then, and what the ledger
//! holds is bounded by the board, however slow or however many its readers are.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::model::download::{Download, Fingerprint};

/// Between two changes of one download, where nothing but its numbers moves.
const PROGRESS: Duration = Duration::from_secs(1);
/// Deletions that are remembered, so that a reader who was away learns of them.
const MAX_DELETED: usize = 16_384;

/// One thing that a reader is told.
pub enum Change {
    /// It came, or it is no longer what it was.
    Download(Arc<Download>),
    /// The identifier of what is gone.
    Deleted(Arc<str>),
}

enum Entry {
    /// The board is the owner: a ledger that nobody reads must not keep files in memory.
    Download(Weak<Download>),
    Deleted(Arc<str>),
}

/// A download as it was when its last change was entered.
struct Row {
    id: Arc<str>,
    fingerprint: Fingerprint,
    at: Instant,
    /// 0 while it is as it was when the ledger was begun.
    number: u64,
}

/// What a look at the board brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether anything was entered.
    pub news: bool,
    /// When to look again at the latest: numbers have moved, and it is not their time yet.
    pub due: Option<Instant>,
}

/// What watchers were told last of each download, and what changed since.
pub struct Ledger {
    /// As on the board: sorted by identifier.
    rows: Vec<Row>,
    /// The board's list that `rows` was made from.
    list: Weak<Vec<Arc<Download>>>,
    entries: BTreeMap<u64, Entry>,
    /// The numbers of the deletions, oldest first.
    deleted: VecDeque<u64>,
    /// What came after this number is all here.
    since: u64,
    last: u64,
}

impl Ledger {
    /// A ledger that begins with the board as it is; its numbers are greater than `start`.
    pub fn new(start: u64, board: &Arc<Vec<Arc<Download>>>, now: Instant) -> Ledger {
        Ledger {
            rows: board
                .iter()
                .map(|download| Row::new(download, now))
                .collect(),
            list: Arc::downgrade(board),
            entries: BTreeMap::new(),
            deleted: VecDeque::new(),
            since: start,
            last: start,
        }
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether all that came after this number can be told.
    pub fn knows(&self, number: u64) -> bool {
        (self.since..=self.last).contains(&number)
    }

    /// Enters what has changed on the board.
    pub fn look(&mut self, board: &Arc<Vec<Arc<Download>>>, now: Instant) -> Look {
        let before = self.last;
        let same_list = std::ptr::eq(self.list.as_ptr(), Arc::as_ptr(board));
        if !same_list {
            self.align(board, now);
        }
        let mut due: Option<Instant> = None;
        for (at, download) in board.iter().enumerate() {
            let (row, fingerprint) = (&mut self.rows[at], download.fingerprint());
            if row.fingerprint == fingerprint {
                continue;
            }
            let next = row.at + PROGRESS;
            if row.fingerprint.changes == fingerprint.changes && now < next {
                due = Some(due.map_or(next, |due| due.min(next)));
                continue;
            }
            (row.fingerprint, row.at) = (fingerprint, now);
            let was = std::mem::replace(&mut row.number, self.last + 1);
            self.entries.remove(&was);
            self.enter(Entry::Download(Arc::downgrade(download)));
        }
        self.forget();
        Look {
            news: self.last > before,
            due,
        }
    }

    fn enter(&mut self, entry: Entry) {
        self.last += 1;
        self.entries.insert(self.last, entry);
    }

    /// Brings the rows in line with another list: enters what is gone and what is new.
    fn align(&mut self, board: &Arc<Vec<Arc<Download>>>, now: Instant) {
        let mut old = std::mem::take(&mut self.rows).into_iter().peekable();
        let mut rows = Vec::with_capacity(board.len());
        for download in board.iter() {
            while let Some(gone) = next_before(&mut old, Some(&download.id)) {
                self.bury(gone);
            }
            if let Some(row) = old.next_if(|row| *row.id == *download.id) {
                rows.push(row);
                continue;
            }
            let mut row = Row::new(download, now);
            row.number = self.last + 1;
            rows.push(row);
            self.enter(Entry::Download(Arc::downgrade(download)));
        }
        while let Some(gone) = next_before(&mut old, None) {
            self.bury(gone);
        }
        self.rows = rows;
        self.list = Arc::downgrade(board);
    }

    fn bury(&mut self, row: Row) {
        self.entries.remove(&row.number);
        self.enter(Entry::Deleted(row.id));
        self.deleted.push_back(self.last);
    }

    /// Forgets the oldest deletions, beyond a bound.
    fn forget(&mut self) {
        let surplus = self.deleted.len().saturating_sub(MAX_DELETED);
        for number in self.deleted.drain(..surplus) {
            self.entries.remove(&number);
            self.since = number;
        }
    }

    /// Up to `most` changes after this number, with theirs.
    pub fn after(&self, number: u64, most: usize) -> Vec<(u64, Change)> {
        let entries = self.entries.range(number + 1..);
        let changes = entries.filter_map(|(&number, entry)| {
            Some(match entry {
                // One that is gone by now: its deletion follows.
                Entry::Download(download) => (number, Change::Download(download.upgrade()?)),
                Entry::Deleted(id) => (number, Change::Deleted(id.clone())),
            })
        });
        changes.take(most).collect()
    }
}

impl Row {
    fn new(download: &Arc<Download>, now: Instant) -> Row {
        Row {
            id: download.id.as_str().into(),
            fingerprint: download.fingerprint(),
            at: now,
            number: 0,
        }
    }
}

/// The next row that comes before this identifier; before the end if there is none.
fn next_before(rows: &mut Peekable<std::vec::IntoIter<Row>>, id: Option<&str>) -> Option<Row> {
    rows.next_if(|row| id.is_none_or(|id| *row.id < *id))
}
