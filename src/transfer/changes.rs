//! How often a file had to start over for one reason: its content changed, or its `.part` was
//! removed.

use std::time::{Duration, Instant};

/// How often it may before that is the file's error.
const MOST: u32 = 3;
/// Changes seen within so long of one that was counted are that one: a server that is being renewed
/// may answer several connections wrongly. It is less than the wait before another attempt.
const BURST: Duration = Duration::from_millis(250);

/// Counts changes.
#[derive(Default)]
pub(super) struct Changes {
    count: u32,
    counted: Option<Instant>,
}

impl Changes {
    /// Takes note of a change. Whether there were too many: then the count begins anew.
    pub(super) fn add(&mut self, now: Instant) -> bool {
        let is_same = |counted| now.saturating_duration_since(counted) < BURST;
        if self.counted.is_some_and(is_same) {
            return false;
        }
        self.count += 1;
        self.counted = Some(now);
        let too_many = self.count >= MOST;
        if too_many {
            *self = Changes::default();
        }
        too_many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_change_is_too_much_and_a_burst_is_one() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let mut changes = Changes::default();
        for millis in [0, 1, 100, 249, 500, 600, 749] {
            assert!(!changes.add(after(millis)), "{millis}");
        }
        assert!(changes.add(after(750)));
        assert!(!changes.add(after(751)), "a resumed file has its own count");
    }

    #[test]
    fn a_burst_without_an_end_is_not_one_change() {
        let begun = Instant::now();
        let mut moments = (0..).map(|tick| begun + tick * BURST / 10);
        let mut changes = Changes::default();
        assert_eq!(moments.position(|now| changes.add(now)), Some(20));
    }
}
