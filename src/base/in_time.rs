//! Work that may never end, such as a question to a disk whose server is away: it is waited for,
//! and then left to itself.

use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::base::places::Places;

/// So much of it may be under way, what was left to itself included.
const MOST: usize = 64;

static PLACES: Places = Places::new(MOST);

/// Does the work on a thread of its own, and returns what it came to. None: it takes longer than
/// `patience`, and goes on alone; or too much of the kind does so already.
pub fn in_time<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = PLACES.take()?;
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
}
