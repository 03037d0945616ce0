//! When to try again: first after half a second, doubling to five minutes, with jitter.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(300);
/// A server's Retry-After is heeded up to here.
const MAX_ASKED: Duration = Duration::from_secs(3600);

/// Faults in a row, and when the next attempt is due.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Instant,
    due: Instant,
    tries: u32,
}

impl Backoff {
    /// After a first fault. `jitter` is from 0 to 1.
    pub fn new(now: Instant, asked: Option<Duration>, jitter: f64) -> Backoff {
        let mut backoff = Backoff {
            first: now,
            due: now,
            tries: 0,
        };
        backoff.again(now, asked, jitter);
        backoff
    }

    /// After another fault. Faults that come while the next attempt is not due belong to the last
    /// one.
    pub fn again(&mut self, now: Instant, asked: Option<Duration>, jitter: f64) {
        let asked = asked.unwrap_or_default().min(MAX_ASKED);
        if now >= self.due {
            let doubled = FIRST.saturating_mul(1 << self.tries.min(20)).min(LONGEST);
            self.due = now + doubled.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
            self.tries += 1;
        }
        self.due = self.due.max(now + asked);
    }

    /// Bytes came: how long the faults have lasted counts from now on. The wait that is running
    /// stays.
    pub fn renew(&mut self, now: Instant) {
        self.first = now;
    }

    /// Bytes came at this very attempt: the count starts anew, too. The wait that is running stays.
    pub fn restart(&mut self, now: Instant) {
        self.renew(now);
        self.tries = 0;
    }

    /// When the next attempt is to be made.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// How long the faults have lasted.
    pub fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_half_a_second_to_five_minutes() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(now, None, 0.5);
        let mut waits = vec![];
        for _ in 0..12 {
            waits.push(backoff.due().duration_since(now).as_secs_f64());
            now = backoff.due();
            backoff.again(now, None, 0.5);
        }
        assert_eq!(&waits[..5], [0.5, 1.0, 2.0, 4.0, 8.0]);
        assert_eq!(waits[11], 300.0);
    }

    #[test]
    fn jitter_moves_the_wait_by_a_tenth() {
        let now = Instant::now();
        assert_eq!(
            Backoff::new(now, None, 0.0).due(),
            now + Duration::from_millis(450)
        );
        assert_eq!(
            Backoff::new(now, None, 1.0).due(),
            now + Duration::from_millis(550)
        );
    }

    #[test]
    fn what_the_server_asks_is_heeded_up_to_an_hour() {
        let now = Instant::now();
        let asked = |seconds| Backoff::new(now, Some(Duration::from_secs(seconds)), 0.5).due();
        assert_eq!(asked(7), now + Duration::from_secs(7));
        assert_eq!(asked(1_000_000), now + Duration::from_secs(3600));
    }

    #[test]
    fn a_byte_gained_starts_the_count_anew_and_leaves_the_wait() {
        let now = Instant::now();
        let mut backoff = Backoff::new(now, Some(Duration::from_secs(7)), 0.5);
        let due = backoff.due();
        backoff.again(due, None, 0.5);
        backoff.restart(due);
        assert_eq!(backoff.due(), due + Duration::from_secs(1));
        assert_eq!(backoff.lasted(backoff.due()), Duration::from_secs(1));
        let due = backoff.due();
        backoff.again(due, None, 0.5);
        assert_eq!(backoff.due(), due + Duration::from_millis(500));
    }

    #[test]
    fn faults_that_come_together_count_once() {
        let now = Instant::now();
        let mut backoff = Backoff::new(now, None, 0.5);
        for _ in 0..16 {
            backoff.again(now, None, 0.5);
        }
        assert_eq!(backoff.due(), now + Duration::from_millis(500));
    }
}
