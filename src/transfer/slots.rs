//! How many jobs may move bytes at the same time; can be changed while they do.
//!
//! A semaphore whose size can change. A worker acquires a slot for each job. Where there are
//! suddenly fewer slots than workers that have one, those that are too many are asked to leave in
//! the middle of their job: a range can take long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::locks;

/// How long a worker that waits for a slot may not notice that its job was stopped.
const SLICE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct State {
    allowed: usize,
    /// So many more, for workers that hang.
    lent: usize,
    taken: usize,
    /// Those of the taken ones that were asked to leave and have not left yet.
    leaving: usize,
}

impl State {
    fn is_crowded(&self) -> bool {
        self.taken - self.leaving > self.allowed + self.lent
    }
}

/// A semaphore over the workers, of a size that can change.
#[derive(Debug)]
pub struct WorkerSlots {
    state: Mutex<State>,
    freed: Condvar,
    crowded: AtomicBool,
}

impl WorkerSlots {
    pub fn new(allowed: usize) -> WorkerSlots {
        WorkerSlots {
            state: Mutex::new(State {
                allowed,
                lent: 0,
                taken: 0,
                leaving: 0,
            }),
            freed: Condvar::new(),
            crowded: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locks::lock(&self.state)
    }

    fn note(&self, state: &State) {
        self.crowded.store(state.is_crowded(), Ordering::Relaxed);
    }

    /// How many are taken.
    pub fn acquired(&self) -> usize {
        self.state().taken
    }

    /// Sets the number of slots.
    pub fn set(&self, allowed: usize) {
        let mut state = self.state();
        state.allowed = allowed;
        self.note(&state);
        self.freed.notify_all();
    }

    /// Lets so many more be taken, for those whose workers do not come back from a disk.
    pub fn lend(&self, lent: usize) {
        let mut state = self.state();
        if state.lent != lent {
            state.lent = lent;
            self.note(&state);
            self.freed.notify_all();
        }
    }

    /// Waits for a slot. False, without one, once `is_stopped` says so, within 250 ms.
    #[must_use]
    pub fn acquire(&self, is_stopped: impl Fn() -> bool) -> bool {
        let mut state = self.state();
        while state.taken >= state.allowed + state.lent {
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

    /// True if this worker must stop: more slots are taken than are allowed. The worker then says
    /// so when it gives its slot back.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        let mut state = self.state();
        let must = state.is_crowded();
        state.leaving += usize::from(must);
        self.note(&state);
        must
    }

    /// Gives a slot back; `left` tells whether its worker was asked to.
    pub fn release(&self, left: bool) {
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
        let slots = WorkerSlots::new(3);
        assert!((0..3).all(|_| slots.acquire(NEVER)));
        assert!(!slots.is_crowded() && !slots.must_leave());
        slots.set(1);
        assert!(slots.is_crowded());
        assert!(slots.must_leave() && slots.must_leave());
        assert!(!slots.is_crowded() && !slots.must_leave());
        slots.release(true);
        slots.release(true);
        // One is taken, one is allowed.
        assert!(!slots.acquire(|| true));
        slots.release(false);
        assert!(slots.acquire(NEVER));
    }

    #[test]
    fn one_that_ends_by_itself_makes_up_for_one_that_is_to_leave() {
        let slots = WorkerSlots::new(2);
        assert!((0..2).all(|_| slots.acquire(NEVER)));
        slots.set(1);
        slots.release(false);
        assert!(!slots.must_leave());
    }

    #[test]
    fn raising_the_number_seats_who_waits() {
        let slots = Arc::new(WorkerSlots::new(1));
        assert!(slots.acquire(NEVER));
        let waiting = slots.clone();
        let waiter = thread::spawn(move || waiting.acquire(NEVER));
        slots.set(2);
        assert!(waiter.join().unwrap());
    }
}
