//! The limit on how fast files' bytes come: one for all workers together.
//!
//! A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, virtual scheduling): instead of tokens
//! that have to be refilled, what is kept is the time from which the line is free. Whoever wants to read gets a
//! piece of it, a fiftieth of a second long, so that bytes come evenly, and gives back what it did not read; the
//! others wait in the order in which they came. Only what files hold is limited, not listings, headers or TLS.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

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

    /// How long until there is something to give out.
    fn wait(&self, now: Instant) -> Duration {
        self.free_at.saturating_duration_since(now)
    }

    /// Gives out up to `most` bytes; to be called when there is nothing to wait for.
    fn take(&mut self, now: Instant, most: usize) -> usize {
        let piece = usize::try_from(self.rate.get() / PIECES).unwrap_or(usize::MAX);
        let bytes = most.min(piece.max(1));
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.free_at = self.free_at.max(earliest) + self.time(bytes);
        bytes
    }

    /// Bytes that were given out and not read.
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
    /// Who waits, in the order of coming. The first one waits for the bucket, the others for their turn.
    queue: VecDeque<Thread>,
}

impl State {
    /// Gives `most` bytes or less to whoever asks, if it is the turn of the thread `me`; else says how long to wait.
    fn try_take(&mut self, most: usize, me: &Thread) -> Result<Grant, Duration> {
        let Some(bucket) = &mut self.bucket else {
            return Ok(Grant {
                bytes: most,
                epoch: None,
            });
        };
        if self
            .queue
            .front()
            .is_some_and(|first| first.id() != me.id())
        {
            return Err(SLICE);
        }
        let now = Instant::now();
        match bucket.wait(now) {
            Duration::ZERO => Ok(Grant {
                bytes: bucket.take(now, most),
                epoch: Some(self.epoch),
            }),
            left => Err(left.min(SLICE)),
        }
    }

    fn leave(&mut self, me: &Thread) {
        self.queue.retain(|waiting| waiting.id() != me.id());
        self.wake_first();
    }

    fn wake_first(&self) {
        self.queue.iter().take(1).for_each(Thread::unpark);
    }
}

/// A token bucket that all downloads share. Without a limit it costs one relaxed load a read.
#[derive(Debug, Default)]
pub struct RateLimiter {
    limited: AtomicBool,
    state: Mutex<State>,
}

impl RateLimiter {
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
        state.queue.iter().for_each(Thread::unpark);
    }

    /// Waits until up to `most` bytes may be read. None once `is_stopped` says so, within 250 ms.
    pub fn take(&self, most: usize, is_stopped: impl Fn() -> bool) -> Option<Grant> {
        if !self.limited.load(Ordering::Relaxed) {
            return Some(Grant {
                bytes: most,
                epoch: None,
            });
        }
        let me = thread::current();
        let mut state = self.state();
        let mut wait = match state.try_take(most, &me) {
            Ok(grant) => return Some(grant),
            Err(wait) => wait,
        };
        state.queue.push_back(me.clone());
        loop {
            drop(state);
            // Who parks after having been unparked does not wait.
            thread::park_timeout(wait);
            let stopped = is_stopped();
            state = self.state();
            if stopped {
                state.leave(&me);
                return None;
            }
            match state.try_take(most, &me) {
                Ok(grant) => {
                    state.leave(&me);
                    return Some(grant);
                }
                Err(left) => wait = left,
            }
        }
    }

    /// Says how many bytes of a grant were `used`; the others are there for whoever comes next.
    pub fn settle(&self, grant: &Grant, used: usize) {
        if grant.epoch.is_none() || used >= grant.bytes {
            return;
        }
        let mut state = self.state();
        if grant.epoch == Some(state.epoch)
            && let Some(bucket) = &mut state.bucket
        {
            bucket.give_back(grant.bytes - used);
            state.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use proptest::prelude::*;

    use super::*;

    fn rate(bytes_per_second: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_second).unwrap()
    }

    fn free_at(limit: &RateLimiter) -> Instant {
        limit.state().bucket.as_ref().unwrap().free_at
    }

    /// A limit with so many seconds' worth given out already.
    fn busy(bytes_per_second: u64, time: Duration) -> Arc<RateLimiter> {
        let limit = Arc::new(RateLimiter::default());
        limit.set(Some(rate(bytes_per_second)));
        limit.state().bucket.as_mut().unwrap().free_at += time;
        limit
    }

    /// Waits until so many threads wait for their turn.
    fn await_waiting(limit: &RateLimiter, count: usize) {
        while limit.state().queue.len() != count {
            thread::yield_now();
        }
    }

    #[test]
    fn a_piece_is_a_fiftieth_of_a_second_and_at_least_a_byte() {
        let now = Instant::now();
        assert_eq!(Bucket::new(rate(50_000), now).take(now, 9999), 1000);
        assert_eq!(Bucket::new(rate(50_000), now).take(now, 10), 10);
        assert_eq!(Bucket::new(rate(3), now).take(now, 9999), 1);
    }

    #[test]
    fn what_was_given_out_takes_its_time_and_what_was_not_read_takes_none() {
        let now = Instant::now();
        let mut bucket = Bucket::new(rate(50_000), now);
        let bytes = bucket.take(now, 1000);
        assert_eq!(bucket.wait(now), Duration::from_millis(20));
        bucket.give_back(bytes - 250);
        assert_eq!(bucket.wait(now), Duration::from_millis(5));
        assert_eq!(bucket.wait(now + Duration::from_millis(5)), Duration::ZERO);
    }

    #[test]
    fn a_rest_is_made_up_for_by_a_twentieth_of_a_second_at_the_most() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate(50_000), begin);
        let now = begin + Duration::from_secs(3600);
        let mut at_once = 0;
        while bucket.wait(now).is_zero() {
            at_once += bucket.take(now, 1000);
        }
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
            let mut now = Instant::now();
            let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap(), now);
            let mut read: Vec<(Instant, usize)> = Vec::new();
            for (pause, most, unread) in asks {
                now += Duration::from_nanos(pause);
                now += bucket.wait(now);
                let bytes = bucket.take(now, most);
                prop_assert!(bytes >= 1 && bytes <= most);
                let unread = unread.min(bytes);
                bucket.give_back(unread);
                read.push((now, bytes - unread));
            }
            // Durations are whole nanoseconds: each piece may be off by what comes in one or two.
            let rounding = 2 + read.len() as u128 * (1 + u128::from(rate) / 1_000_000_000) * 2;
            let piece = u128::from(rate / PIECES).max(1);
            for (first, &(from, _)) in read.iter().enumerate() {
                let mut sum = 0_u128;
                for &(at, bytes) in &read[first..] {
                    sum += bytes as u128;
                    let time = at.duration_since(from) + CREDIT;
                    let share = time.as_nanos() * u128::from(rate) / 1_000_000_000;
                    prop_assert!(sum <= share + piece + rounding, "{sum} in {time:?} at {rate}");
                }
            }
        }

        /// Who always wants more gets all of the rate, also where reads bring little of what was granted.
        #[test]
        fn never_less_than_the_rate(
            rate in 10_000_u64..5_000_000_000,
            reads in prop::collection::vec(1_usize..20_000, 100..300),
        ) {
            let begin = Instant::now();
            let mut now = begin;
            let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap(), begin);
            // As above: each give-back may be a nanosecond short.
            let rounding = 1 + reads.len() as u128 * (1 + u128::from(rate) / 1_000_000_000);
            let mut sum = 0_u128;
            for wanted in reads {
                now += bucket.wait(now);
                let bytes = bucket.take(now, 1 << 18);
                let came = wanted.min(bytes);
                bucket.give_back(bytes - came);
                sum += came as u128;
            }
            let share = now.duration_since(begin).as_nanos() * u128::from(rate) / 1_000_000_000;
            prop_assert!(sum + rounding >= share, "{sum} of {share}");
        }
    }

    #[test]
    fn without_a_limit_all_is_granted_and_nothing_is_counted() {
        let limit = RateLimiter::default();
        let grant = limit.take(1 << 20, || panic!("nobody waits")).unwrap();
        assert_eq!(grant.bytes, 1 << 20);
        limit.settle(&grant, 0);
    }

    #[test]
    fn turns_come_in_the_order_of_asking() {
        let limit = busy(1, Duration::from_secs(3600));
        let (tell, told) = mpsc::channel();
        for number in 0..4 {
            let (limit, tell) = (limit.clone(), tell.clone());
            let before = limit.state().queue.len();
            let waiting = limit.clone();
            thread::spawn(move || {
                let grant = limit.take(10, || false).unwrap();
                tell.send((number, grant.bytes)).unwrap();
            });
            await_waiting(&waiting, before + 1);
        }
        for number in 0..4 {
            // One byte's worth of time: the next in the queue would get its own a second later.
            let mut state = limit.state();
            state.bucket.as_mut().unwrap().free_at = Instant::now();
            state.wake_first();
            drop(state);
            assert_eq!(told.recv().unwrap(), (number, 1));
        }
    }

    #[test]
    fn lifting_the_limit_ends_all_waits() {
        let limit = busy(1, Duration::from_secs(3600));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let limit = limit.clone();
                thread::spawn(move || limit.take(500, || false).unwrap().bytes)
            })
            .collect();
        await_waiting(&limit, 3);
        limit.set(None);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 500);
        }
    }

    #[test]
    fn who_is_told_to_stop_leaves_the_queue() {
        let limit = busy(1, Duration::from_secs(3600));
        let before = free_at(&limit);
        assert!(limit.take(1, || true).is_none());
        assert!(limit.state().queue.is_empty());
        assert_eq!(free_at(&limit), before);
    }

    #[test]
    fn a_grant_of_an_earlier_limit_is_not_given_back_to_the_next() {
        let limit = busy(1000, Duration::ZERO);
        let grant = limit.take(20, || false).unwrap();
        limit.set(Some(rate(2000)));
        let before = free_at(&limit);
        limit.settle(&grant, 0);
        assert_eq!(free_at(&limit), before);
    }
}
