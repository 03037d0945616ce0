//! What the upstream saw: every request and every byte, with a way to wait for them.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::super::PATIENCE;

/// The four calls of the protocol, and whatever else was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Link,
    Listing,
    Address,
    Bytes,
    Other,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Link,
        Kind::Listing,
        Kind::Address,
        Kind::Bytes,
        Kind::Other,
    ];
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub kind: Kind,
    pub at: Instant,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The file that it is about.
    pub file: Option<String>,
    /// First and last byte asked for; the last may be open.
    pub range: Option<(u64, Option<u64>)>,
    /// How many of its kind there were, this one included.
    pub nth: usize,
    /// How many of its kind there were for its file, this one included.
    pub nth_of_file: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn is_for(&self, file: &str) -> bool {
        self.file.as_deref() == Some(file)
    }
}

/// The sums.
#[derive(Default)]
pub struct Tally {
    pub requests: Vec<Seen>,
    /// Requests are counted, not kept: for tests that make very many.
    pub only_counted: bool,
    kinds: HashMap<Kind, usize>,
    files: HashMap<(Kind, Option<String>), usize>,
    /// Bytes of content that were handed to the network, by file.
    pub served: HashMap<String, u64>,
    /// Requests for bytes that are being answered.
    pub active: usize,
    /// The most there ever were at once.
    pub peak: usize,
    /// Requests that take one of the places of a server that has only so many.
    pub seated: usize,
    /// When there was no place.
    pub refusals: Vec<Instant>,
}

impl Tally {
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.served.values().sum()
    }
}

#[derive(Default)]
pub struct Ledger {
    tally: Mutex<Tally>,
    changed: Condvar,
}

impl Ledger {
    pub fn read<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.tally.lock().unwrap())
    }

    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        let result = change(&mut self.tally.lock().unwrap());
        self.changed.notify_all();
        result
    }

    /// Numbers a request and keeps it.
    pub(super) fn arrive(&self, mut seen: Seen) -> Seen {
        self.note(|tally| {
            let next = |count: &mut usize| {
                *count += 1;
                *count
            };
            seen.nth = next(tally.kinds.entry(seen.kind).or_default());
            let about = (seen.kind, seen.file.clone());
            seen.nth_of_file = next(tally.files.entry(about).or_default());
            if !tally.only_counted {
                tally.requests.push(seen.clone());
            }
            seen
        })
    }

    /// Counts bytes of a file's content as served; negative ones were not, after all.
    pub(super) fn count_served(&self, file: &str, bytes: i64) {
        self.note(|tally| {
            let served = tally.served.entry(file.into()).or_default();
            *served = served.checked_add_signed(bytes).unwrap();
        });
    }

    /// Waits until the tally is as wanted.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Tally) -> bool) {
        assert!(self.wait_within(PATIENCE, wanted), "waited for {what}");
    }

    /// Whether the tally is as wanted before the time is over.
    pub fn wait_within(&self, time: Duration, wanted: impl Fn(&Tally) -> bool) -> bool {
        let end = Instant::now() + time;
        let mut tally = self.tally.lock().unwrap();
        loop {
            if wanted(&tally) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            tally = self.changed.wait_timeout(tally, left).unwrap().0;
        }
    }
}
