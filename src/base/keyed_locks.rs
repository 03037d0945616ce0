//! A lock for each key, for as long as somebody holds it or waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::base::locks;

/// Locks by their keys, such as one for each disk.
#[derive(Debug)]
pub struct KeyedLocks<K>(Mutex<BTreeMap<K, Weak<Mutex<()>>>>);

impl<K: Ord> Default for KeyedLocks<K> {
    fn default() -> KeyedLocks<K> {
        KeyedLocks::new()
    }
}

impl<K: Ord> KeyedLocks<K> {
    pub const fn new() -> KeyedLocks<K> {
        KeyedLocks(Mutex::new(BTreeMap::new()))
    }

    /// The lock of this key, which is the same for all who ask while one of them keeps it.
    pub fn of(&self, key: K) -> Arc<Mutex<()>> {
        let mut known = locks::lock(&self.0);
        known.retain(|_, lock| lock.strong_count() > 0);
        known.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let new = Arc::default();
            known.insert(key, Arc::downgrade(&new));
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_lock_while_it_is_kept() {
        let locks = KeyedLocks::new();
        let (one, other) = (locks.of(1), locks.of(2));
        assert!(Arc::ptr_eq(&one, &locks.of(1)));
        assert!(!Arc::ptr_eq(&one, &other));
        drop(one);
        drop(locks.of(2));
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
