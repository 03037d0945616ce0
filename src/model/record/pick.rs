//! The next piece of work of a download.

use std::time::Instant;

use super::Record;
use crate::model::state::State;
use crate::model::table::FileState;

/// So many files wait for their next attempt at most, but for those whose attempt is not due yet.
const MANY: usize = 1000;
/// The next piece of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Pick {
    Begin,
    /// A file that no job of this run had yet.
    New(u32),
    /// A file on its way that may have a range to give.
    Open(u32),
}

impl Record {
    /// The next piece of work, if there is one now. It counts as given out. Where it is `crowded`,
    /// workers have enough to do, and only a file whose address is to be fetched ahead is picked.
    pub fn pick(&mut self, now: Instant, crowded: bool) -> Option<Pick> {
        if self.state != State::Transferring || self.halting || self.silent {
            return None;
        }
        if let Some(download_backoff) = &self.download_backoff
            && (download_backoff.due() > now || !self.is_idle())
        {
            return None;
        }
        if !self.begun {
            if !self.is_idle() {
                return None;
            }
            self.starting = true;
            return Some(Pick::Begin);
        }
        self.wake(now);
        // Where very many wait they have their turn first, so that they do not become more and
        // more.
        self.open_first = !self.open_first || self.waiting.len() > MANY;
        let pick = if crowded {
            self.pick_new()
        } else if self.open_first {
            self.pick_open().or_else(|| self.pick_new())
        } else {
            self.pick_new().or_else(|| self.pick_open())
        };
        if let Some(Pick::New(file) | Pick::Open(file)) = pick {
            self.give_out(file);
        }
        pick
    }

    pub(super) fn pick_new(&mut self) -> Option<Pick> {
        let file = self.peek_new()?;
        self.take_new(file);
        Some(Pick::New(file))
    }

    /// The next file that no job of this run had yet.
    pub(super) fn peek_new(&mut self) -> Option<u32> {
        let table = self.table.as_ref()?;
        if let Some(&file) = self.again.front() {
            return Some(file);
        }
        let is_new = |&file: &u32| table.state(file) == FileState::Pending;
        let file = (self.next..table.len()).find(is_new);
        self.next = file.unwrap_or(table.len());
        file
    }

    pub(super) fn take_new(&mut self, file: u32) {
        if self.again.pop_front().is_none() {
            self.next = file + 1;
        }
    }

    /// One more new file if that is at most this large, to go with the one that was just picked.
    /// It counts as given out.
    pub fn pick_small(&mut self, most: u64) -> Option<u32> {
        // After a fault of the server's one job alone tries whether it is over.
        if self.download_backoff.is_some() {
            return None;
        }
        let file = self.peek_new()?;
        if self.table.as_ref()?.size(file) > most {
            return None;
        }
        self.take_new(file);
        self.give_out(file);
        Some(file)
    }

    pub(super) fn pick_open(&mut self) -> Option<Pick> {
        let at = self
            .with_ranges
            .iter()
            .position(|&file| self.may_have_another(file))?;
        // To the back, so that files take turns.
        let file = self.with_ranges.remove(at)?;
        self.with_ranges.push_back(file);
        Some(Pick::Open(file))
    }

    /// The file that was picked had no range to give: the pick is void.
    pub fn cancel_pick(&mut self, file: u32) {
        self.take_back(file);
        self.with_ranges.retain(|&with_ranges| with_ranges != file);
    }

    /// A range of the file that was picked was given out; `more` tells whether it has another to
    /// give.
    pub fn range_given(&mut self, file: u32, more: bool) {
        if more {
            self.queue_file(file);
        } else {
            self.with_ranges.retain(|&with_ranges| with_ranges != file);
        }
    }

    /// The tail of a slow range was given out without a pick.
    pub fn gave_tail(&mut self, file: u32) {
        self.give_out(file);
    }

    /// Whether an idle worker may help with what is on its way.
    pub fn may_help(&self) -> bool {
        self.state == State::Transferring
            && self.begun
            && !self.halting
            && self.download_backoff.is_none()
    }
}
