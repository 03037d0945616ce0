//! Which files of a download may have a `.part`: the journal on disk knows of one before it is made, so that none is
//! left behind that nobody knows of, whenever the power goes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// So many files are noted at once, for each time costs a sync.
const STRIDE: u32 = 512;

/// Files below an index that grows.
#[derive(Debug, Default)]
pub struct Begun {
    upto: AtomicU32,
    noting: Mutex<()>,
}

impl Begun {
    pub fn new(upto: u32) -> Begun {
        Begun {
            upto: AtomicU32::new(upto),
            noting: Mutex::default(),
        }
    }

    /// Files below this index may have a `.part`.
    pub fn upto(&self) -> u32 {
        self.upto.load(Ordering::Acquire)
    }

    /// Makes sure of `file`. Where the end is near, one of those who come notes the next files, and the others go on;
    /// `note` puts a new end on disk.
    ///
    /// # Errors
    /// Those of `note`.
    pub fn include<E>(&self, file: u32, note: impl FnOnce(u32) -> Result<(), E>) -> Result<(), E> {
        let upto = self.upto();
        if file.saturating_add(STRIDE / 2) < upto {
            return Ok(());
        }
        let Some(_noting) = self.noting(file < upto) else {
            return Ok(());
        };
        if self.upto() > upto && file < self.upto() {
            return Ok(());
        }
        let upto = file.saturating_add(STRIDE);
        note(upto)?;
        self.upto.store(upto, Ordering::Release);
        Ok(())
    }

    /// The right to note. None where another has it and there is no need to wait.
    fn noting(&self, early: bool) -> Option<MutexGuard<'_, ()>> {
        if !early {
            return Some(self.noting.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.noting.try_lock() {
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
    fn every_file_is_noted_before_its_part_is_made_and_seldom_alone() {
        let begun = Begun::new(3);
        let noted = RefCell::new(vec![3]);
        for file in 0..10_000 {
            begun
                .include(file, |upto| {
                    noted.borrow_mut().push(upto);
                    Ok::<_, ()>(())
                })
                .unwrap();
            assert!(noted.borrow().last().is_some_and(|&upto| file < upto));
            assert!(file < begun.upto());
        }
        let noted = noted.into_inner();
        assert!(noted.is_sorted() && noted.len() < 50, "{noted:?}");
    }

    #[test]
    fn what_could_not_be_noted_is_tried_again() {
        let begun = Begun::default();
        assert_eq!(begun.include(0, |_| Err("full")), Err("full"));
        assert_eq!(begun.upto(), 0);
        assert_eq!(begun.include(0, |_| Ok::<_, ()>(())), Ok(()));
        assert!(begun.upto() > 0);
    }
}
