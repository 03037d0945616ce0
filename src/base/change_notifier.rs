//! Wakes the threads that wait for a change.
//!
//! Who changes something counts it here, which costs two atomic operations while nobody waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::base::locks;

/// Counts changes, and wakes those who wait for the next one.
#[derive(Default)]
pub struct ChangeNotifier {
    version: AtomicU64,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    notified: Condvar,
}

impl ChangeNotifier {
    /// Something changed.
    pub fn notify(&self) {
        // In one order with the waiter's two steps, so that one of the two sees the other.
        self.version.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(locks::lock(&self.lock));
            self.notified.notify_all();
        }
    }

    /// How often something has changed so far.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Waits until something has changed since there were `seen` changes, or until the deadline
    /// if there is one; returns the changes so far.
    pub fn wait(&self, seen: u64, deadline: Option<Instant>) -> u64 {
        let mut guard = locks::lock(&self.lock);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while self.version() == seen {
            guard = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    let waited = self.notified.wait_timeout(guard, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.notified.wait(guard);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(guard);
        self.version()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_beat_ends_the_wait_whenever_it_comes() {
        let notifier = ChangeNotifier::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    notifier.notify();
                    thread::yield_now();
                }
            });
            let mut seen = 0;
            while seen < 1_000 {
                seen = notifier.wait(seen, None);
            }
        });
    }

    #[test]
    fn without_a_beat_it_waits_until_the_deadline() {
        let notifier = ChangeNotifier::default();
        notifier.notify();
        assert_eq!(notifier.wait(0, None), 1);
        let begin = Instant::now();
        let seen = notifier.wait(1, Some(begin + Duration::from_millis(30)));
        assert_eq!(seen, 1);
        assert!(begin.elapsed() >= Duration::from_millis(30));
    }
}
