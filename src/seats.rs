//! How many jobs may move bytes at the same time; can be changed while they do.
//!
//! A worker takes a seat for each job. Where there are suddenly fewer seats than workers on them, those that are
//! too many are asked to leave in the middle of their job: a range can take long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a worker that waits for a seat may not notice that its job was stopped.
const SLICE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct State {
    allowed: usize,
    taken: usize,
    /// Those of the taken ones that were asked to leave and have not left yet.
    leaving: usize,
}

impl State {
    fn is_crowded(&self) -> bool {
        self.taken - self.leaving > self.allowed
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Seats {
    state: Mutex<State>,
    freed: Condvar,
    crowded: AtomicBool,
}

impl Seats {
    pub fn new(allowed: usize) -> Seats {
        Seats {
            state: Mutex::new(State {
                allowed,
                taken: 0,
                leaving: 0,
            }),
            freed: Condvar::new(),
            crowded: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &State) {
        self.crowded.store(state.is_crowded(), Ordering::Relaxed);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.state().taken
    }

    /// From now on so many.
    pub fn set(&self, allowed: usize) {
        let mut state = self.state();
        state.allowed = allowed;
        self.note(&state);
        self.freed.notify_all();
    }

    /// Waits for a seat. False, without one, once `is_stopped` says so, within 250 ms.
    #[must_use]
    pub fn take(&self, is_stopped: impl Fn() -> bool) -> bool {
        let mut state = self.state();
        while state.taken >= state.allowed {
            if is_stopped() {
                return false;
            }
            let waited = self.freed.wait_timeout(state, SLICE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.taken += 1;
        true
    }

    /// Whether somebody is to leave: one relaxed load.
    pub fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// For a worker that can leave now. True where it is to: it then says so when it gives its seat back.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        let mut state = self.state();
        let must = state.is_crowded();
        state.leaving += usize::from(must);
        self.note(&state);
        must
    }

    /// Gives a seat back; `left` tells whether its worker was asked to.
    pub fn give_back(&self, left: bool) {
        let mut state = self.state();
        state.taken -= 1;
        state.leaving -= usize::from(left);
        self.note(&state);
        self.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    const NEVER: fn() -> bool = || false;

    #[test]
    fn exactly_those_that_are_too_many_leave() {
        let seats = Seats::new(3);
        assert!((0..3).all(|_| seats.take(NEVER)));
        assert!(!seats.is_crowded() && !seats.must_leave());
        seats.set(1);
        assert!(seats.is_crowded());
        assert!(seats.must_leave() && seats.must_leave());
        assert!(!seats.is_crowded() && !seats.must_leave());
        seats.give_back(true);
        seats.give_back(true);
        // One is taken, one is allowed.
        assert!(!seats.take(|| true));
        seats.give_back(false);
        assert!(seats.take(NEVER));
    }

    #[test]
    fn one_that_ends_by_itself_makes_up_for_one_that_is_to_leave() {
        let seats = Seats::new(2);
        assert!((0..2).all(|_| seats.take(NEVER)));
        seats.set(1);
        seats.give_back(false);
        assert!(!seats.must_leave());
    }

    #[test]
    fn raising_the_number_seats_who_waits() {
        let seats = Arc::new(Seats::new(1));
        assert!(seats.take(NEVER));
        let waiting = seats.clone();
        let waiter = thread::spawn(move || waiting.take(NEVER));
        seats.set(2);
        assert!(waiter.join().unwrap());
    }
}
