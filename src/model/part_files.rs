//! Which files of a download have a `.part` that the download made. Everything else of that name is
//! the user's.
//!
//! Two records of it: exactly, for a process that is killed and one that goes on, by a line for
//! each file; and for a power cut, which may take such a line but not the `.part`, by a bound that
//! is on disk before the `.part` is made.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::base::locks;

/// So many files are bounded at once, for each time costs a sync.
const STRIDE: u32 = 512;

/// The `.part` files of one download, by their files' indices.
#[derive(Debug, Default)]
pub struct Parts {
    made: Mutex<BTreeSet<u32>>,
    bound: AtomicU32,
    bounding: Mutex<()>,
}

impl Parts {
    /// Those that are known after a start: `made` have one, and no file from `bound` on does.
    pub fn new(made: BTreeSet<u32>, bound: u32) -> Parts {
        Parts {
            made: Mutex::new(made),
            bound: AtomicU32::new(bound),
            bounding: Mutex::default(),
        }
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        locks::lock(&self.made)
    }

    /// Whether the file has one.
    pub fn has(&self, file: u32) -> bool {
        self.made().contains(&file)
    }

    /// The file has one from now on.
    pub fn add(&self, file: u32) {
        self.made().insert(file);
    }

    /// It has its final name, or is gone.
    pub fn remove(&self, file: u32) {
        self.made().remove(&file);
    }

    /// Files from this index on have none, whatever a power cut took.
    pub fn bound(&self) -> u32 {
        self.bound.load(Ordering::Acquire)
    }

    /// Makes sure that `file` is below the bound. Where that is near, one of those who come raises
    /// it, and the others go on; `note` puts a new bound on disk.
    ///
    /// # Errors
    /// Those of `note`.
    pub fn raise_bound<E>(
        &self,
        file: u32,
        note: impl FnOnce(u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let bound = self.bound();
        if file.saturating_add(STRIDE / 2) < bound {
            return Ok(());
        }
        let Some(_bounding) = self.bounding(file < bound) else {
            return Ok(());
        };
        if self.bound() > bound && file < self.bound() {
            return Ok(());
        }
        let bound = file.saturating_add(STRIDE);
        note(bound)?;
        self.bound.store(bound, Ordering::Release);
        Ok(())
    }

    /// The right to raise the bound. None if another has it and there is no need to wait.
    fn bounding(&self, early: bool) -> Option<MutexGuard<'_, ()>> {
        if !early {
            return Some(locks::lock(&self.bounding));
        }
        match self.bounding.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_bound_is_above_every_file_and_seldom_raised() {
        let parts = Parts::new(BTreeSet::new(), 3);
        let noted = RefCell::new(vec![3]);
        for file in 0..10_000 {
            parts
                .raise_bound(file, |bound| {
                    noted.borrow_mut().push(bound);
                    Ok::<_, ()>(())
                })
                .unwrap();
            assert!(noted.borrow().last().is_some_and(|&bound| file < bound));
            assert!(file < parts.bound());
        }
        let noted = noted.into_inner();
        assert!(noted.is_sorted() && noted.len() < 50, "{noted:?}");
    }

    #[test]
    fn what_could_not_be_noted_is_tried_again() {
        let parts = Parts::default();
        assert_eq!(parts.raise_bound(0, |_| Err("full")), Err("full"));
        assert_eq!(parts.bound(), 0);
        assert_eq!(parts.raise_bound(0, |_| Ok::<_, ()>(())), Ok(()));
        assert!(parts.bound() > 0);
    }
}
