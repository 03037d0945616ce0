//! The limit on how fast files' bytes come: one for all workers together.
//!
//! A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, virtual scheduling):
//! instead of tokens that have to be refilled, what is kept is the time from which the line is
//! free. Whoever wants to read gets a piece of it, a fiftieth of a second long, so that bytes come
//! evenly, and gives back what it did not read. Only what files hold is limited, not listings,
//! headers or TLS.
//!
//! Each download has its fair share, however many connections it has and however small its files
//! are: the next piece goes to the download that has had the fewest bytes (start-time fair
//! queueing; Goyal, Vin and Cheng, 1996), and within a download in the order of asking. A download
//! that is behind the others hardly waits: small files take a round trip each, and would lose their
//! share if each waited for another's piece as well. How far it can be behind is bounded, so that
//! one that comes late, or again, does not catch up.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::base::locks;

/// Pieces of a second that are given out at a time.
const PIECES: u64 = 50;
/// How much unused time can be made up for: a reader that was woken late does not make the line
/// slower.
const CREDIT: Duration = Duration::from_millis(50);
/// A download is at most this much of a second's bytes behind the others: a tenth.
const LAG: u64 = 10;
/// So much earlier a download that is behind gets its piece. What it takes is waited for by the
/// others, so that all together are never further ahead of the limit than this.
const HEAD_START: Duration = Duration::from_millis(100);
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

/// Leave to read this many bytes now.
#[derive(Debug)]
#[must_use]
pub struct Grant {
    pub bytes: usize,
    /// The download that it was given to.
    flow: u32,
    /// Which limit it was given under; None if there was none.
    epoch: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    bucket: Option<Bucket>,
    /// Counts the changes.
    epoch: u64,
    /// Who waits, in the order of coming. The one whose turn it is waits for the bucket, the others
    /// for their turn.
    queue: VecDeque<Waiter>,
    shares: Shares,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    /// The key of its download.
    flow: u32,
}

/// How many bytes each download has had, on one scale for all.
#[derive(Debug, Default)]
struct Shares {
    /// Where the download was that had the last piece.
    now: u64,
    /// How far behind that a download can be, in bytes.
    lag: u64,
    /// Those that are ahead of that.
    had: HashMap<u32, u64>,
}

/// So many downloads are remembered before those that are not ahead are forgotten.
const MANY_FLOWS: usize = 64;

impl Shares {
    /// The download comes, or comes again.
    fn enter(&mut self, flow: u32) {
        let earliest = self.now.saturating_sub(self.lag);
        let share = self.position(flow).max(earliest);
        if self.had.len() >= MANY_FLOWS {
            let now = self.now;
            self.had.retain(|_, had| *had > now);
        }
        self.had.insert(flow, share);
    }

    /// Whether it had less than the one that had the last piece.
    fn is_behind(&self, flow: u32) -> bool {
        self.position(flow) < self.now
    }

    fn position(&self, flow: u32) -> u64 {
        self.had.get(&flow).copied().unwrap_or(self.now)
    }

    fn grant(&mut self, flow: u32, bytes: usize) {
        let before = self.position(flow);
        self.now = self.now.max(before);
        self.had.insert(flow, before + bytes as u64);
    }

    fn give_back(&mut self, flow: u32, bytes: usize) {
        if let Some(had) = self.had.get_mut(&flow) {
            *had = had.saturating_sub(bytes as u64);
        }
    }
}

impl State {
    /// Gives `most` bytes or less to whoever asks, if it is the turn of the thread `me`; else says
    /// how long to wait.
    fn try_take(&mut self, flow: u32, most: usize, me: &Thread) -> Result<Grant, Duration> {
        if self.bucket.is_some() && !self.is_turn_of(flow, me) {
            return Err(SLICE);
        }
        let Some(bucket) = &mut self.bucket else {
            return Ok(Grant {
                bytes: most,
                flow,
                epoch: None,
            });
        };
        let now = Instant::now();
        let ahead = match self.shares.is_behind(flow) {
            true => HEAD_START,
            false => Duration::ZERO,
        };
        let wait = bucket.wait(now).saturating_sub(ahead);
        match wait {
            Duration::ZERO => {
                let bytes = bucket.take(now, most);
                self.shares.grant(flow, bytes);
                Ok(Grant {
                    bytes,
                    flow,
                    epoch: Some(self.epoch),
                })
            }
            left => Err(left.min(SLICE)),
        }
    }

    /// Whether nobody who waits comes before this thread. One that does not wait yet comes after
    /// those of its download.
    fn is_turn_of(&self, flow: u32, me: &Thread) -> bool {
        match self.first() {
            Some(first) => {
                first.thread.id() == me.id()
                    || self.shares.position(flow) < self.shares.position(first.flow)
            }
            None => true,
        }
    }

    /// Of those who wait, the one whose turn it is.
    fn first(&self) -> Option<&Waiter> {
        // Of several the first one that came.
        self.queue
            .iter()
            .min_by_key(|waiter| self.shares.position(waiter.flow))
    }

    fn leave(&mut self, me: &Thread) {
        self.queue.retain(|waiter| waiter.thread.id() != me.id());
        self.wake_first();
    }

    fn wake_first(&self) {
        if let Some(first) = self.first() {
            first.thread.unpark();
        }
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
        locks::lock(&self.state)
    }

    /// Whether there is a limit now.
    pub fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Limits everybody to this many bytes per second from now on; None lifts the limit. Who waits
    /// is told at once.
    pub fn set(&self, rate: Option<NonZeroU64>) {
        let mut state = self.state();
        if state.bucket.as_ref().map(|bucket| bucket.rate) == rate {
            return;
        }
        state.bucket = rate.map(|rate| Bucket::new(rate, Instant::now()));
        state.epoch += 1;
        self.limited.store(rate.is_some(), Ordering::Relaxed);
        state.shares = Shares {
            lag: rate.map_or(0, |rate| rate.get() / LAG),
            ..Shares::default()
        };
        state.queue.iter().for_each(|waiter| waiter.thread.unpark());
    }

    /// Waits until up to `most` bytes may be read for the download of the key `flow`. None once
    /// `is_stopped` says so, within 250 ms.
    pub fn take(&self, flow: u32, most: usize, is_stopped: impl Fn() -> bool) -> Option<Grant> {
        if !self.limited.load(Ordering::Relaxed) {
            return Some(Grant {
                bytes: most,
                flow,
                epoch: None,
            });
        }
        let me = thread::current();
        let mut state = self.state();
        state.shares.enter(flow);
        let mut wait = match state.try_take(flow, most, &me) {
            Ok(grant) => return Some(grant),
            Err(wait) => wait,
        };
        state.queue.push_back(Waiter {
            thread: me.clone(),
            flow,
        });
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
            match state.try_take(flow, most, &me) {
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
            state.shares.give_back(grant.flow, grant.bytes - used);
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

    /// A limit of which this many seconds' worth is given out already.
    fn busy(bytes_per_second: u64, time: Duration) -> Arc<RateLimiter> {
        let limit = Arc::new(RateLimiter::default());
        limit.set(Some(rate(bytes_per_second)));
        limit.state().bucket.as_mut().unwrap().free_at += time;
        limit
    }

    /// Waits until this many threads wait for their turn.
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
        /// However it is asked, what may be read in any stretch of time is the rate's share of it,
        /// plus one credit and one piece.
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

        /// Who always wants more gets all of the rate, also where reads bring little of what was
        /// granted.
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
        let grant = limit.take(1, 1 << 20, || panic!("nobody waits")).unwrap();
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
                let grant = limit.take(1, 10, || false).unwrap();
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

    /// Gives each of these flows, which always want more, its pieces in turn; how many bytes each
    /// had.
    fn shared(wants: &[(u32, usize)], rounds: usize) -> Vec<u64> {
        let mut shares = Shares::default();
        let mut had = vec![0; wants.len()];
        for _ in 0..rounds {
            wants.iter().for_each(|&(flow, _)| shares.enter(flow));
            let next = (0..wants.len()).min_by_key(|&one| shares.position(wants[one].0));
            let (flow, most) = wants[next.unwrap()];
            // A piece is granted, and what the file did not have is given back.
            shares.grant(flow, 80_000);
            shares.give_back(flow, 80_000 - most);
            had[next.unwrap()] += most as u64;
        }
        had
    }

    #[test]
    fn each_download_has_its_share_whatever_its_files_size() {
        let had = shared(&[(1, 80_000), (2, 1_000)], 10_000);
        assert!(had[0].abs_diff(had[1]) <= 80_000, "{had:?}");
        let had = shared(&[(1, 80_000), (2, 1_000), (3, 7)], 1_000_000);
        let most = had.iter().max().unwrap() - had.iter().min().unwrap();
        assert!(most <= 80_000, "{had:?}");
    }

    #[test]
    fn who_comes_late_does_not_catch_up_and_who_went_is_forgotten() {
        let mut shares = Shares::default();
        shares.enter(1);
        (0..1000).for_each(|_| shares.grant(1, 1000));
        shares.enter(2);
        assert!(shares.position(1) - shares.position(2) <= 1000);
        for flow in 10..10_000 {
            shares.enter(flow);
        }
        assert!(shares.had.len() <= MANY_FLOWS + 1);
    }

    #[test]
    fn lifting_the_limit_ends_all_waits() {
        let limit = busy(1, Duration::from_secs(3600));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let limit = limit.clone();
                thread::spawn(move || limit.take(1, 500, || false).unwrap().bytes)
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
        assert!(limit.take(1, 1, || true).is_none());
        assert!(limit.state().queue.is_empty());
        assert_eq!(free_at(&limit), before);
    }

    #[test]
    fn a_grant_of_an_earlier_limit_is_not_given_back_to_the_next() {
        let limit = busy(1000, Duration::ZERO);
        let grant = limit.take(1, 20, || false).unwrap();
        limit.set(Some(rate(2000)));
        let before = free_at(&limit);
        limit.settle(&grant, 0);
        assert_eq!(free_at(&limit), before);
    }
}
