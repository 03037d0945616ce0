//! What the agent has done since it was started, counted where it is done and read by nobody
//! but its metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of what was received since the start.
#[derive(Default)]
pub struct ByteCounter {
    received: AtomicU64,
}

impl ByteCounter {
    /// Bytes of files have arrived.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of files that have arrived so far, those that were fetched twice too.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
