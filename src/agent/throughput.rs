//! How fast bytes come: over the last few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Long enough to smooth bursts, short enough to follow a line that changes.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures a growing count.
#[derive(Debug, Default)]
pub struct Throughput {
    samples: VecDeque<(Instant, u64)>,
}

impl Throughput {
    /// Takes a sample and returns units per second over the window; 0 while there is no earlier
    /// sample.
    pub fn measure(&mut self, now: Instant, count: u64) -> u64 {
        // After a rest, what lies further back says nothing about now.
        while self
            .samples
            .front()
            .is_some_and(|&(at, _)| now.duration_since(at) > WINDOW)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, count));
        let Some(&(first, before)) = self.samples.front() else {
            return 0;
        };
        let seconds = now.duration_since(first).as_secs_f64();
        if seconds > 0.0 {
            (count.saturating_sub(before) as f64 / seconds) as u64
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_last_five_seconds() {
        let begin = Instant::now();
        let mut rate = Throughput::default();
        assert_eq!(rate.measure(begin, 0), 0);
        assert_eq!(rate.measure(begin + Duration::from_secs(2), 2_000), 1_000);
        assert_eq!(rate.measure(begin + Duration::from_secs(6), 2_000), 0);
        assert_eq!(rate.measure(begin + Duration::from_secs(60), 9_000), 0);
    }

    #[test]
    fn a_count_that_falls_is_no_rate() {
        let begin = Instant::now();
        let mut rate = Throughput::default();
        rate.measure(begin, 500);
        assert_eq!(rate.measure(begin + Duration::from_secs(1), 100), 0);
    }
}
