//! What the agent has done since it was started, counted where it is done and read by nobody
//! but its metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// See the module's page.
#[derive(Default)]
pub struct Meter {
    received: AtomicU64,
    busy: AtomicUsize,
}

impl Meter {
    /// Bytes of files have arrived.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of files that have arrived so far, those that were fetched twice too.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Does one worker's work, which counts as busy meanwhile.
    pub fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Done<'a>(&'a AtomicUsize);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.busy.fetch_add(1, Ordering::Relaxed);
        let _done = Done(&self.busy);
        work()
    }

    /// Workers that have a job.
    pub fn workers_busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn who_panics_is_no_longer_busy() {
        let meter = Meter::default();
        let result = catch_unwind(AssertUnwindSafe(|| {
            meter.busy(|| {
                assert_eq!(meter.workers_busy(), 1);
                panic!("on purpose");
            })
        }));
        assert!(result.is_err());
        assert_eq!(meter.workers_busy(), 0);
    }
}
