//! A line of limited speed, shared by all connections of one upstream.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

struct Schedule {
    /// Bytes per second; None where there is no limit.
    rate: Option<u64>,
    /// When the line has sent everything that it was given.
    free_at: Instant,
}

pub(super) struct Pace {
    schedule: Mutex<Schedule>,
    changed: Condvar,
}

impl Pace {
    pub fn new() -> Pace {
        let free_at = Instant::now();
        Pace {
            schedule: Mutex::new(Schedule {
                rate: None,
                free_at,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn set(&self, rate: Option<u64>) {
        let mut schedule = self.schedule.lock().unwrap();
        schedule.rate = rate;
        schedule.free_at = Instant::now();
        self.changed.notify_all();
    }

    /// The most that is given to the line at once: a hundredth of a second.
    pub fn chunk(&self) -> usize {
        let rate = self.schedule.lock().unwrap().rate;
        rate.map_or(64 * 1024, |rate| (rate / 100).clamp(1, 64 * 1024) as usize)
    }

    /// Waits as long as the line needs for so many bytes; not at all once the limit is lifted.
    pub fn send(&self, bytes: usize) {
        let mut schedule = self.schedule.lock().unwrap();
        let Some(rate) = schedule.rate else {
            return;
        };
        let from = schedule.free_at.max(Instant::now());
        let due = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
        schedule.free_at = due;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || schedule.rate != Some(rate) {
                return;
            }
            schedule = self.changed.wait_timeout(schedule, left).unwrap().0;
        }
    }
}
