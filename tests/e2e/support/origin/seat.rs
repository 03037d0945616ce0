//! One of the places that a server has for requests for bytes.

use std::cell::Cell;
use std::time::Instant;

use super::Shared;
use super::ledger::{Kind, Seen};

/// The place of one request. Where there are places without end, it takes none.
pub(super) struct Seat<'a> {
    shared: &'a Shared,
    taken: Cell<bool>,
}

impl Seat<'_> {
    /// None where all are taken.
    pub(super) fn take<'a>(shared: &'a Shared, seen: &Seen) -> Option<Seat<'a>> {
        let most = *shared.most_at_once.lock().unwrap();
        let most = most.filter(|_| seen.kind == Kind::Bytes);
        let seated = shared.ledger.note(|tally| {
            let is_full = most.is_some_and(|most| tally.seated >= most);
            if is_full {
                tally.refusals.push(Instant::now());
                return None;
            }
            tally.seated += usize::from(most.is_some());
            Some(most.is_some())
        });
        seated.map(|taken| Seat {
            shared,
            taken: Cell::new(taken),
        })
    }

    /// The request needs it no more. Before its last bytes are sent, so that whoever has them finds
    /// the place free.
    pub(super) fn leave(&self) {
        if self.taken.take() {
            self.shared.ledger.note(|tally| tally.seated -= 1);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
