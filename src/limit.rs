//! The limit on how fast files' bytes come: one for all workers together.
//!
//! A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, virtual scheduling): what is kept is
//! the time from which the line is free, and whoever wants to read reserves the next piece of it. So workers get
//! their turn in the order in which they ask, and nothing has to be refilled. Pieces are a fiftieth of a second
//! long, so that bytes come evenly. Only what files hold is limited, not listings, headers or TLS.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The largest limit, in bytes per second: the last whole number that every reader of JSON holds exactly.
pub const MOST: u64 = (1 << 53) - 1;

/// Pieces of a second that are given out at a time.
const PIECES: u64 = 50;
/// How much unused time can be made up for: a reader that was woken late does not make the line slower.
const CREDIT: Duration = Duration::from_millis(50);
/// How long a waiting reader may not notice that it was told to stop.
const SLICE: Duration = Duration::from_millis(250);

/// The bucket itself, without clock or threads.
#[derive(Debug)]
struct Bucket {
    /// Bytes per second.
    rate: NonZeroU64,
    /// When everything that was given out has been used up.
    free_at: Instant,
}

impl Bucket {
    fn new(rate: NonZeroU64, now: Instant) -> Bucket {
        Bucket { rate, free_at: now }
    }

    /// Reserves up to `most` bytes: how many, and when they may be read.
    fn reserve(&mut self, now: Instant, most: usize) -> (Instant, usize) {
        let piece = usize::try_from(self.rate.get() / PIECES).unwrap_or(usize::MAX);
        let bytes = most.min(piece.max(1));
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let start = self.free_at.max(earliest);
        self.free_at = start + self.time(bytes);
        (start, bytes)
    }

    /// Bytes that were reserved and not read.
    fn give_back(&mut self, bytes: usize) {
        if let Some(earlier) = self.free_at.checked_sub(self.time(bytes)) {
            self.free_at = earlier;
        }
    }

    fn time(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rate.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Leave to read so many bytes, now.
#[derive(Debug)]
#[must_use]
pub struct Grant {
    pub bytes: usize,
    /// Which limit it was given under; None where there was none.
    epoch: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    bucket: Option<Bucket>,
    /// Counts the changes.
    epoch: u64,
}

/// See the module's page. Without a limit it costs one relaxed load a read.
#[derive(Debug, Default)]
pub struct Limit {
    limited: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Limit {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits everybody to this many bytes per second from now on; None lifts the limit. Who waits is told at once.
    pub fn set(&self, rate: Option<NonZeroU64>) {
        let mut state = self.state();
        if state.bucket.as_ref().map(|bucket| bucket.rate) == rate {
            return;
        }
        state.bucket = rate.map(|rate| Bucket::new(rate, Instant::now()));
        state.epoch += 1;
        self.limited.store(rate.is_some(), Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Waits until up to `most` bytes may be read. None once `is_stopped` says so, within 250 ms.
    pub fn take(&self, most: usize, is_stopped: impl Fn() -> bool) -> Option<Grant> {
        if !self.limited.load(Ordering::Relaxed) {
            return Some(Grant {
                bytes: most,
                epoch: None,
            });
        }
        let mut state = self.state();
        loop {
            let epoch = state.epoch;
            let Some(bucket) = &mut state.bucket else {
                return Some(Grant {
                    bytes: most,
                    epoch: None,
                });
            };
            let (start, bytes) = bucket.reserve(Instant::now(), most);
            while state.epoch == epoch {
                let left = start.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let epoch = Some(epoch);
                    return Some(Grant { bytes, epoch });
                }
                let waited = self.changed.wait_timeout(state, left.min(SLICE));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if is_stopped() {
                    let epoch = Some(epoch);
                    give_back(&mut state, &Grant { bytes, epoch }, 0);
                    return None;
                }
            }
        }
    }

    /// Says how many bytes of a grant were `used`; the others are there for whoever comes next.
    pub fn settle(&self, grant: &Grant, used: usize) {
        if grant.epoch.is_some() && used < grant.bytes {
            give_back(&mut self.state(), grant, used);
        }
    }
}

fn give_back(state: &mut State, grant: &Grant, used: usize) {
    if grant.epoch == Some(state.epoch)
        && let Some(bucket) = &mut state.bucket
    {
        bucket.give_back(grant.bytes - used);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn rate(bytes_per_second: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_second).unwrap()
    }

    #[test]
    fn a_piece_is_a_fiftieth_of_a_second_and_at_least_a_byte() {
        let now = Instant::now();
        assert_eq!(Bucket::new(rate(50_000), now).reserve(now, 9999).1, 1000);
        assert_eq!(Bucket::new(rate(50_000), now).reserve(now, 10).1, 10);
        assert_eq!(Bucket::new(rate(3), now).reserve(now, 9999).1, 1);
    }

    #[test]
    fn pieces_follow_one_another_in_the_order_of_asking() {
        let now = Instant::now();
        let mut bucket = Bucket::new(rate(50_000), now);
        let starts: Vec<Duration> = (0..4)
            .map(|_| bucket.reserve(now, 1000).0.duration_since(now))
            .collect();
        assert_eq!(starts, [0, 20, 40, 60].map(Duration::from_millis));
    }

    #[test]
    fn what_was_not_read_is_there_for_the_next() {
        let now = Instant::now();
        let mut bucket = Bucket::new(rate(50_000), now);
        let (_, bytes) = bucket.reserve(now, 1000);
        bucket.give_back(bytes - 500);
        let (start, _) = bucket.reserve(now, 1000);
        assert_eq!(start.duration_since(now), Duration::from_millis(10));
    }

    #[test]
    fn a_rest_is_made_up_for_by_a_twentieth_of_a_second_at_the_most() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate(50_000), begin);
        let now = begin + Duration::from_secs(3600);
        let at_once = (0..100)
            .map(|_| bucket.reserve(now, 1000))
            .take_while(|(start, _)| *start <= now)
            .map(|(_, bytes)| bytes)
            .sum::<usize>();
        assert_eq!(at_once, 3000);
    }

    proptest! {
        /// However it is asked, what may be read in any stretch of time is the rate's share of it, plus one
        /// credit and one piece.
        #[test]
        fn never_more_than_the_rate(
            rate in 1_u64..5_000_000_000,
            asks in prop::collection::vec((0_u64..40_000_000, 1_usize..300_000, 0_usize..300_000), 1..200),
        ) {
            let begin = Instant::now();
            let mut now = begin;
            let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap(), begin);
            let mut read: Vec<(Instant, usize)> = Vec::new();
            for (pause, most, unused) in asks {
                now += Duration::from_nanos(pause);
                let (start, bytes) = bucket.reserve(now, most);
                prop_assert!(bytes >= 1 && bytes <= most);
                now = now.max(start);
                let unused = unused.min(bytes);
                bucket.give_back(unused);
                read.push((now, bytes - unused));
            }
            for (first, &(from, _)) in read.iter().enumerate() {
                let mut sum = 0_u128;
                for &(at, bytes) in &read[first..] {
                    sum += bytes as u128;
                    let time = at.duration_since(from) + CREDIT;
                    let share = time.as_nanos() * u128::from(rate) / 1_000_000_000;
                    let piece = u128::from(rate / PIECES).max(1);
                    // Durations are whole nanoseconds: at high rates each reservation is off by a byte or five.
                    let rounding = 2 + read.len() as u128 * (1 + u128::from(rate) / 1_000_000_000) * 2;
                    prop_assert!(sum <= share + piece + rounding, "{sum} in {time:?} at {rate}");
                }
            }
        }
    }

    #[test]
    fn without_a_limit_all_is_granted_and_nothing_is_counted() {
        let limit = Limit::default();
        let grant = limit.take(1 << 20, || panic!("nobody waits")).unwrap();
        assert_eq!(grant.bytes, 1 << 20);
        limit.settle(&grant, 0);
    }

    #[test]
    fn lifting_the_limit_ends_a_wait() {
        let limit = Arc::new(Limit::default());
        limit.set(Some(rate(1)));
        // The next byte would come in 99 s.
        for _ in 0..100 {
            let mut state = limit.state();
            let bucket = state.bucket.as_mut().unwrap();
            let _reserved = bucket.reserve(Instant::now(), 1);
        }
        let waiting = limit.clone();
        let waiter = thread::spawn(move || waiting.take(500, || false).unwrap().bytes);
        limit.set(None);
        assert_eq!(waiter.join().unwrap(), 500);
    }

    #[test]
    fn who_is_told_to_stop_gives_its_turn_back() {
        let limit = Limit::default();
        limit.set(Some(rate(1)));
        let first = limit.take(1, || false).unwrap();
        assert_eq!(first.bytes, 1);
        let before = limit.state().bucket.as_ref().unwrap().free_at;
        assert!(limit.take(1, || true).is_none());
        assert_eq!(limit.state().bucket.as_ref().unwrap().free_at, before);
    }

    #[test]
    fn a_grant_of_an_earlier_limit_is_not_given_back_to_the_next() {
        let limit = Limit::default();
        limit.set(Some(rate(1000)));
        let grant = limit.take(20, || false).unwrap();
        limit.set(Some(rate(2000)));
        let before = limit.state().bucket.as_ref().unwrap().free_at;
        limit.settle(&grant, 0);
        assert_eq!(limit.state().bucket.as_ref().unwrap().free_at, before);
    }
}
