//! Changes that nobody waits for, and that must not be lost because the disk is full just now.
//!
//! They are kept in memory, and go before anything that is appended later: the order of changes is
//! part of what they say.

use std::collections::VecDeque;

use super::{JOURNAL, State, Store, StoreError};
use crate::base::locks;

/// So many changes may wait. Beyond that the oldest about data are forgotten: what they tell of is
/// fetched again, should this process end before there is room.
pub(super) const LIMIT: usize = 200_000;
/// So many are put into words at a time, since that is in vain where the disk is still full.
const BATCH: usize = 1000;

impl<S: State> Store<S> {
    /// As `append`, but what cannot be written now is kept, and written before whatever comes next.
    ///
    /// # Errors
    /// Why changes wait. A change that is too large to be written at all is not kept.
    pub fn queue(&self, changes: Vec<S::Change>) -> Result<(), StoreError> {
        let mut backlog = locks::lock(&self.backlog);
        if backlog.is_empty() {
            if changes.is_empty() {
                return Ok(());
            }
            let encoded = self.encode(&changes)?;
            let pushed = locks::lock(&self.journal).push(&*self.disk, encoded);
            return match pushed {
                Ok(_) => Ok(()),
                Err(error) => {
                    backlog.extend(changes);
                    Err(self.fault("write", JOURNAL, error))
                }
            };
        }
        self.encode(&changes)?;
        backlog.extend(changes);
        let flushed = self.flush(&mut backlog);
        forget_surplus::<S>(&mut backlog);
        flushed
    }

    /// Whether changes wait to be written.
    #[cfg(test)]
    pub fn has_backlog(&self) -> bool {
        !locks::lock(&self.backlog).is_empty()
    }

    /// Writes what waits.
    pub(super) fn flush(&self, backlog: &mut VecDeque<S::Change>) -> Result<(), StoreError> {
        while !backlog.is_empty() {
            let batch: Vec<S::Change> = backlog.iter().take(BATCH).cloned().collect();
            let encoded = self.encode(&batch)?;
            let pushed = locks::lock(&self.journal).push(&*self.disk, encoded);
            pushed.map_err(|error| self.fault("write", JOURNAL, error))?;
            backlog.drain(..batch.len());
        }
        Ok(())
    }
}

fn forget_surplus<S: State>(backlog: &mut VecDeque<S::Change>) {
    let mut surplus = backlog.len().saturating_sub(LIMIT);
    if surplus > 0 {
        // Not for each new change anew.
        surplus += LIMIT / 4;
        backlog.retain(|change| {
            let forgotten = surplus > 0 && S::is_data(change);
            surplus -= usize::from(forgotten);
            !forgotten
        });
    }
}
