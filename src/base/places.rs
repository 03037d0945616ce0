//! A bounded number of places, for work that can be abandoned and not ended.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Places, of which so many are taken.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: AtomicUsize,
}

/// One of them; it is given back when this is dropped, whatever becomes of the work.
#[must_use]
pub struct Place(&'static Places);

impl Places {
    pub const fn new(most: usize) -> Places {
        Places {
            most,
            taken: AtomicUsize::new(0),
        }
    }

    /// Takes one. None: all are taken.
    pub fn take(&'static self) -> Option<Place> {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Place(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_there_is_not_given_back() {
        static PLACES: Places = Places::new(64);
        let places: Vec<Place> = (0..64).filter_map(|_| PLACES.take()).collect();
        assert!(PLACES.take().is_none());
        assert_eq!(PLACES.taken.load(Ordering::Relaxed), 64);
        drop(places);
        assert_eq!(PLACES.taken.load(Ordering::Relaxed), 0);
    }
}
