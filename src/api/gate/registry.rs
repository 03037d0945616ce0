//! The connections that are open, and which of them can be given up for a new one.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::socket::{Door, Socket};
use crate::base::locks;

/// The client has to act next: nothing is lost if the connection goes.
const WAITING: u8 = 0;
/// A whole request is being answered.
const BUSY: u8 = 1;
/// Given up.
const EVICTED: u8 = 2;

/// One connection.
pub struct Slot {
    pub stream: Socket,
    pub door: Door,
    number: u64,
    state: AtomicU8,
    /// When it began to wait, on the registry's clock.
    since: AtomicU64,
    registry: Arc<Registry>,
}

/// All connections that are open.
pub struct Registry {
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
    /// A connection went, or an answer was given while stopping.
    changed: Condvar,
    /// Connections so far.
    count: AtomicU64,
    epoch: Instant,
    /// Whether somebody waits for room.
    crowded: AtomicBool,
    stopping: AtomicBool,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            slots: Mutex::default(),
            changed: Condvar::new(),
            count: AtomicU64::new(0),
            epoch: Instant::now(),
            crowded: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        locks::lock(&self.slots)
    }

    /// Microseconds since the registry was made.
    fn clock(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Enters a connection.
    pub fn enter(self: &Arc<Registry>, stream: Socket, door: Door) -> Entry {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot {
            stream,
            door,
            number,
            state: AtomicU8::new(WAITING),
            since: AtomicU64::new(self.clock()),
            registry: self.clone(),
        });
        self.lock().insert(number, slot.clone());
        Entry(slot)
    }

    /// Waits until there are fewer than `most` connections, giving up the one that has been waiting
    /// for its client the longest, `grace` at least. Where all are being answered this takes until
    /// one is done, or `patience` at the most; false then.
    pub fn make_room(&self, most: usize, grace: Duration, patience: Duration) -> bool {
        let mut slots = self.lock();
        if slots.len() < most {
            return true;
        }
        let deadline = Instant::now() + patience;
        self.crowded.store(true, Ordering::Release);
        while slots.len() >= most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // One that was given up before is on its way out.
            let leaving = slots
                .values()
                .any(|slot| slot.state.load(Ordering::Acquire) == EVICTED);
            let wait = match leaving {
                true => left,
                false => self.evict_oldest(&slots, grace).unwrap_or(left).min(left),
            };
            slots = self
                .changed
                .wait_timeout(slots, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        self.crowded.store(false, Ordering::Release);
        slots.len() < most
    }

    /// Gives up the connection that has been waiting the longest, `grace` at least; returns
    /// how much of its grace is left where it has some.
    fn evict_oldest(&self, slots: &HashMap<u64, Arc<Slot>>, grace: Duration) -> Option<Duration> {
        loop {
            let slot = slots
                .values()
                .filter(|slot| slot.state.load(Ordering::Acquire) == WAITING)
                .min_by_key(|slot| slot.since.load(Ordering::Relaxed))?;
            let since = slot.since.load(Ordering::Relaxed);
            let waited = Duration::from_micros(self.clock().saturating_sub(since));
            if waited < grace {
                return Some(grace - waited);
            }
            // Its request may have become whole just now.
            if slot.change(WAITING, EVICTED) {
                shut(slot, Shutdown::Both);
                return None;
            }
        }
    }

    /// Gives up the connection that has been waiting for its client the longest.
    pub fn evict_one(&self) {
        self.evict_oldest(&self.lock(), Duration::ZERO);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// From here on requests are refused. Waits until those under way have been answered,
    /// `patience` at the most, then closes whatever is still open.
    pub fn stop(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.stopping.store(true, Ordering::Release);
        let mut slots = self.lock();
        let newest = self.count.load(Ordering::Relaxed);
        for slot in slots.values() {
            if slot.state.load(Ordering::Acquire) != BUSY {
                // What has arrived can still be read, and is refused.
                shut(slot, Shutdown::Read);
            }
        }
        while slots
            .values()
            .any(|slot| slot.number < newest || slot.state.load(Ordering::Acquire) == BUSY)
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            slots = self
                .changed
                .wait_timeout(slots, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        for slot in slots.values() {
            shut(slot, Shutdown::Both);
        }
    }

    /// Waits until every connection has gone, `patience` at the most.
    pub fn wait_empty(&self, patience: Duration) {
        let slots = self.lock();
        drop(
            self.changed
                .wait_timeout_while(slots, patience, |slots| !slots.is_empty()),
        );
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }
}

fn shut(slot: &Slot, how: Shutdown) {
    if let Err(error) = slot.stream.shutdown(how) {
        // The client was quicker.
        log::debug!("shutting a connection down: {error}");
    }
}

impl Slot {
    fn change(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The request is whole; false where the connection was given up before.
    pub fn begin_answer(&self) -> bool {
        self.change(WAITING, BUSY)
    }

    /// The answer is out.
    pub fn end_answer(&self) {
        self.since.store(self.registry.clock(), Ordering::Relaxed);
        self.change(BUSY, WAITING);
        if self.registry.is_stopping() || self.registry.crowded.load(Ordering::Acquire) {
            let _slots = self.registry.lock();
            self.registry.changed.notify_all();
        }
    }
}

/// Takes the connection out of the registry when dropped.
pub struct Entry(pub Arc<Slot>);

impl Drop for Entry {
    fn drop(&mut self) {
        let registry = &self.0.registry;
        registry.lock().remove(&self.0.number);
        registry.changed.notify_all();
    }
}
