//! Which priorities have batches that wait for a worker. Batches stand in one queue, so a worker
//! that takes one of a lower priority gives it back while one of a higher priority waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::base::locks;

/// How many batches of each priority wait.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<BTreeMap<i32, usize>>);

/// A batch that waits; once this is dropped it does no longer.
#[derive(Debug)]
pub struct Ticket {
    waiting: Arc<Waiting>,
    priority: i32,
}

impl Waiting {
    /// Takes note of a batch that waits from now on.
    pub fn enter(self: &Arc<Self>, priority: i32) -> Ticket {
        *locks::lock(&self.0).entry(priority).or_default() += 1;
        Ticket {
            waiting: self.clone(),
            priority,
        }
    }

    /// Whether a batch of a higher priority waits.
    pub fn outranks(&self, priority: i32) -> bool {
        let highest = locks::lock(&self.0).last_key_value().map(|(&key, _)| key);
        highest.is_some_and(|highest| highest > priority)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = locks::lock(&self.waiting.0);
        if let Some(count) = waiting.get_mut(&self.priority) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.priority);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_with_a_higher_priority_comes_first() {
        let waiting = Arc::new(Waiting::default());
        let tickets = [waiting.enter(5), waiting.enter(5), waiting.enter(-1)];
        assert!(waiting.outranks(4) && !waiting.outranks(5));
        let [first, second, low] = tickets;
        drop(first);
        assert!(waiting.outranks(4));
        drop(second);
        assert!(!waiting.outranks(4) && waiting.outranks(-2));
        drop(low);
        assert!(!waiting.outranks(-1000));
    }
}
