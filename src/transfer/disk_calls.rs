//! How long calls to a run's disk take, so that one that hangs (a network file system whose server
//! is away) is noticed while the calls to it do not return.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A disk that has not answered for so long does not respond. One that has to spin up takes up to
/// ten seconds, and is then back before much harm is done.
const PATIENCE: Duration = Duration::from_secs(5);

/// The calls of one run.
#[derive(Debug, Default)]
pub struct DiskCalls {
    /// Calls that have not returned.
    inside: AtomicUsize,
    /// Calls that have.
    returned: AtomicU64,
    silent: AtomicBool,
}

/// A call under way.
#[must_use]
pub struct DiskCall<'a>(&'a DiskCalls);

impl DiskCalls {
    /// A call to the disk begins, and lasts until what is returned is dropped.
    pub fn enter(&self) -> DiskCall<'_> {
        self.inside.fetch_add(1, Ordering::Relaxed);
        DiskCall(self)
    }

    /// Whether the disk was found not to respond: nobody is to call it.
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }
}

impl DiskCall<'_> {
    /// One of many calls has returned, and the next one begins.
    pub fn goes_on(&self) {
        self.0.returned.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for DiskCall<'_> {
    fn drop(&mut self) {
        self.0.returned.fetch_add(1, Ordering::Relaxed);
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at the calls from time to time.
#[derive(Debug, Default)]
pub struct DiskWatch {
    /// How many had returned, and since when no more have.
    seen: Option<(u64, Instant)>,
}

impl DiskWatch {
    /// How many calls hang; 0 where the disk responds.
    pub fn look(&mut self, calls: &DiskCalls, now: Instant) -> usize {
        let (inside, returned) = (
            calls.inside.load(Ordering::Relaxed),
            calls.returned.load(Ordering::Relaxed),
        );
        let since = match self.seen {
            Some((before, since)) if before == returned && inside > 0 => since,
            _ => now,
        };
        self.seen = Some((returned, since));
        let hanging = match now.duration_since(since) >= PATIENCE {
            true => inside,
            false => 0,
        };
        calls.silent.store(hanging > 0, Ordering::Relaxed);
        hanging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_silent_when_no_call_returns_for_long() {
        let (calls, mut watch) = (DiskCalls::default(), DiskWatch::default());
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let hanging = calls.enter();
        assert_eq!(watch.look(&calls, at(0)), 0);
        assert_eq!(watch.look(&calls, at(4)), 0);
        // Another one gets through.
        drop(calls.enter());
        assert_eq!(watch.look(&calls, at(6)), 0);
        let other = calls.enter();
        assert_eq!(watch.look(&calls, at(10)), 0);
        assert_eq!(watch.look(&calls, at(12)), 2);
        assert!(calls.is_silent());
        drop((hanging, other));
        assert_eq!(watch.look(&calls, at(13)), 0);
        assert!(!calls.is_silent());
        // Where nothing is asked of it, nothing hangs.
        assert_eq!(watch.look(&calls, at(60)), 0);
        let late = calls.enter();
        assert_eq!(watch.look(&calls, at(61)), 0);
        drop(late);
    }
}
