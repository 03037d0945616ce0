//! Connections that are far slower than others of the same download: they are given up for new
//! ones.
//!
//! One of several connections may be stuck at a bad server or a lossy path, and would hold its
//! range, or the small files behind it, long after all others are done. What tells is the
//! comparison: with what other connections of the download bring, or with what this one, or the one
//! before it, brought a moment ago. A line that is slow as a whole gives nothing to compare with,
//! and one that has just become so is not given up again and again: each time is waited for twice
//! as long.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::base::locks;

/// A connection is judged by what it brought in so long: shorter than that, a lost packet looks
/// like a slow line.
const WINDOW: Duration = Duration::from_secs(3);
/// The longest time that a connection has after others were given up in vain.
const MAX_WINDOW: Duration = Duration::from_secs(60);
/// What was measured longer ago is not compared with.
const MEMORY: Duration = Duration::from_secs(10);
/// A connection is slow where the fastest brings more than so many times as much: less may be
/// chance, or the server's choice.
const RATIO: f64 = 8.0;
/// A body that comes at once says nothing of how fast more of it would have come: it counts as
/// having taken this long.
const MIN_TIME: Duration = Duration::from_millis(250);
/// Measurements that are kept, at most.
const MAX_SAMPLES: usize = 64;

/// What connections of one run have brought lately.
#[derive(Debug, Default)]
pub struct Speeds(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// When it was measured, and bytes per second.
    samples: VecDeque<(Instant, f64)>,
    /// How long a connection has before it is judged.
    window: Duration,
    given_up: Option<Instant>,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            samples: VecDeque::new(),
            window: WINDOW,
            given_up: None,
        }
    }
}

/// What one connection has brought since it was last looked at.
#[derive(Debug)]
pub struct Meter {
    since: Instant,
    bytes: u64,
}

/// What is at stake where a connection is given up.
#[derive(Debug, Clone, Copy)]
pub struct Stake {
    /// Bytes that would have to come again: all of a file whose server cannot do ranges.
    pub lost: u64,
    /// Bytes that are still to come.
    pub left: u64,
}

impl Meter {
    pub fn new(now: Instant) -> Meter {
        Meter {
            since: now,
            bytes: 0,
        }
    }

    pub fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether there is something to judge. Cheap: it is asked at each read.
    pub fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn rate(&self, now: Instant) -> f64 {
        let time = now.saturating_duration_since(self.since);
        self.bytes as f64 / time.max(MIN_TIME).as_secs_f64()
    }
}

impl Speeds {
    fn known(&self) -> MutexGuard<'_, Known> {
        locks::lock(&self.0)
    }

    /// A connection has brought what was wanted of it.
    pub fn finished(&self, meter: &Meter, now: Instant) {
        self.known().note(now, meter.rate(now));
    }

    /// Whether to give a connection up. What it brought since it was last judged is in `meter`.
    pub fn is_slow(&self, meter: &mut Meter, stake: Stake, now: Instant) -> bool {
        meter.is_due(now) && self.known().is_slow(meter, stake, now)
    }
}

impl Known {
    fn note(&mut self, now: Instant, rate: f64) {
        while self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, rate));
    }

    fn fastest(&self, now: Instant) -> f64 {
        let recent = self.samples.iter();
        let recent = recent.filter(|(at, _)| now.saturating_duration_since(*at) <= MEMORY);
        recent.map(|&(_, rate)| rate).fold(0.0, f64::max)
    }

    fn is_slow(&mut self, meter: &mut Meter, stake: Stake, now: Instant) -> bool {
        let time = now.saturating_duration_since(meter.since);
        let rate = meter.rate(now);
        let fastest = self.fastest(now);
        let slow = rate * RATIO < fastest;
        if slow && time < self.window {
            // It has its time, which counts on.
            return false;
        }
        *meter = Meter::new(now);
        if !slow {
            self.note(now, rate);
            self.relax(now);
            return false;
        }
        if !is_worth_it(rate, fastest, stake) {
            return false;
        }
        self.window = (2 * self.window).min(MAX_WINDOW);
        self.given_up = Some(now);
        true
    }

    /// After a while without a slow connection the next one is judged as early as the first.
    fn relax(&mut self, now: Instant) {
        let long_ago = |at: Instant| now.saturating_duration_since(at) > MAX_WINDOW;
        if self.given_up.is_none_or(long_ago) {
            self.window = WINDOW;
        }
    }
}

/// Whether a new connection would be done sooner, also where something has to come again: at most a
/// fiftieth of it, unless that saves more than half of the time.
fn is_worth_it(rate: f64, fastest: f64, stake: Stake) -> bool {
    let Stake { lost, left } = stake;
    let little = lost.saturating_mul(50) <= left;
    let on = left as f64 / rate.max(1.0);
    let anew = (lost + left) as f64 / fastest.max(1.0);
    let window = WINDOW.as_secs_f64();
    on > anew + window && (little || on > 2.0 * (anew + window))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MUCH: Stake = Stake {
        lost: 0,
        left: 100_000_000,
    };

    /// What one connection brings, looked at four times a second; after how many seconds it is
    /// given up.
    fn judged(
        speeds: &Speeds,
        begin: Instant,
        rate: u64,
        seconds: u32,
        stake: Stake,
    ) -> Option<u32> {
        let mut meter = Meter::new(begin);
        (1..=4 * seconds)
            .find(|&quarter| {
                meter.add(rate / 4);
                let now = begin + quarter * SECOND / 4;
                speeds.is_slow(&mut meter, stake, now)
            })
            .map(|quarters| quarters / 4)
    }

    /// Speeds that know of one connection that brought so much a second.
    fn beside(rate: u64, now: Instant) -> Speeds {
        let speeds = Speeds::default();
        let mut meter = Meter::new(now - SECOND);
        meter.add(rate);
        speeds.finished(&meter, now);
        speeds
    }

    #[test]
    fn a_trickle_beside_a_stream_is_given_up_after_three_seconds() {
        let now = Instant::now();
        assert_eq!(
            judged(&beside(10_000_000, now), now, 100, 20, MUCH),
            Some(3)
        );
        assert_eq!(
            judged(&beside(10_000_000, now), now, 2_000_000, 20, MUCH),
            None
        );
    }

    #[test]
    fn a_line_that_is_slow_as_a_whole_is_left_alone() {
        let now = Instant::now();
        assert_eq!(judged(&Speeds::default(), now, 100, 100, MUCH), None);
        assert_eq!(judged(&beside(500, now), now, 100, 100, MUCH), None);
    }

    #[test]
    fn a_connection_is_compared_with_what_it_was_itself() {
        let (speeds, now) = (Speeds::default(), Instant::now());
        assert_eq!(judged(&speeds, now, 5_000_000, 7, MUCH), None);
        assert_eq!(judged(&speeds, now + 7 * SECOND, 100, 20, MUCH), Some(3));
    }

    #[test]
    fn a_line_that_has_become_slow_is_given_up_less_and_less() {
        let speeds = Speeds::default();
        let mut now = Instant::now();
        judged(&speeds, now, 5_000_000, 4, MUCH);
        now += 4 * SECOND;
        let mut times = 0;
        while let Some(seconds) = judged(&speeds, now, 1000, 600, MUCH) {
            now += seconds * SECOND;
            times += 1;
        }
        assert!(times <= 2, "{times}");
    }

    #[test]
    fn what_is_nearly_done_or_would_be_lost_is_kept() {
        let now = Instant::now();
        let nearly = Stake { lost: 0, left: 50 };
        assert_eq!(judged(&beside(10_000_000, now), now, 100, 20, nearly), None);
        // Most of it has come: to begin anew would take as long.
        let most = Stake {
            lost: 90_000_000,
            left: 10_000_000,
        };
        assert_eq!(
            judged(&beside(10_000_000, now), now, 900_000, 20, most),
            None
        );
        let begun = Stake {
            lost: 1000,
            left: 10_000_000,
        };
        assert_eq!(
            judged(&beside(10_000_000, now), now, 100, 20, begun),
            Some(3)
        );
    }
}
