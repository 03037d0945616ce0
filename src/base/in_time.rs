//! Work that may never end, such as a question to a disk whose server is away: it is waited for,
//! and then left to itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

/// So much of it may be under way, what was left to itself included.
const MOST: usize = 64;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Gives its place back, whatever becomes of the work.
struct Place(&'static AtomicUsize);

impl Place {
    fn take(taken: &'static AtomicUsize) -> Option<Place> {
        let more = |running| (running < MOST).then_some(running + 1);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Place(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does the work on a thread of its own, and returns what it came to. None: it takes longer than
/// `patience`, and goes on alone; or too much of the kind does so already.
pub fn in_time<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = Place::take(&UNDER_WAY)?;
    let (answer, answers) = bounded(1);
    let started = thread::Builder::new()
        .name("in-time".into())
        .stack_size(128 << 10)
        .spawn(move || {
            let _place = place;
            // Nobody listens any more where the patience has ended.
            let _ = answer.send(work());
        });
    started.ok()?;
    answers.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_left_to_itself() {
        assert_eq!(in_time(Duration::from_secs(60), || 7), Some(7));
        let (go, wait) = bounded::<()>(0);
        let slow = in_time(Duration::from_millis(10), move || wait.recv());
        assert_eq!(slow, None);
        drop(go);
    }

    #[test]
    fn a_place_that_is_not_there_is_not_given_back() {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let places: Vec<Place> = (0..MOST).filter_map(|_| Place::take(&TAKEN)).collect();
        assert!(Place::take(&TAKEN).is_none());
        assert_eq!(TAKEN.load(Ordering::Relaxed), MOST);
        drop(places);
        assert_eq!(TAKEN.load(Ordering::Relaxed), 0);
    }
}
