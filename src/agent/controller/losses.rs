//! A disk that lost what was written to it: the download fails, and goes on, when it is resumed,
//! from what is safe.

use super::*;
use crate::agent::restore::RestoredFiles;
use crate::model::problem::Problem;

impl Controller {
    pub(super) fn loss(&mut self, loss: Loss) {
        match loss {
            Loss::Found(key, problem) => {
                self.lost.insert(key);
                let wanted = self.active.get(&key);
                if wanted.is_some_and(|active| active.deleting.is_none()) {
                    self.event(key, Event::Lost(problem));
                }
            }
            Loss::Damaged(key, problem, recalled, shown) => {
                self.damaged(key, problem, *recalled);
                drop(shown);
            }
            Loss::Settled(key, recalled) => {
                self.lost.remove(&key);
                if let Some(recalled) = recalled {
                    self.set_back(key, *recalled);
                }
            }
        }
    }

    /// Files of a complete download were found not to be as they were saved.
    fn damaged(&mut self, key: u32, problem: Problem, recalled: RestoredFiles) {
        let is_complete =
            |active: &Active| active.deleting.is_none() && active.record.state() == State::Complete;
        if self.active.get(&key).is_some_and(is_complete) {
            self.event(key, Event::Lost(problem));
            self.set_back(key, recalled);
        }
    }

    /// Lost downloads that write nothing more, those that are gone too.
    pub(super) fn rested(&self) -> Vec<u32> {
        let rests = |key: &&u32| {
            let active = self.active.get(key);
            active.is_none_or(|active| active.record.is_idle())
        };
        self.lost.iter().filter(rests).copied().collect()
    }

    /// Takes a download up again from what is left, as a start would.
    fn set_back(&mut self, key: u32, recalled: RestoredFiles) {
        let retry_for = self.policy.retry_for;
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        if active.deleting.is_some() {
            return;
        }
        let (state, problem) = (active.record.state(), active.record.problem().cloned());
        let resumed = state == State::Transferring;
        let state = if resumed { State::Error } else { state };
        active.set_back(
            Record::new(state, problem, recalled.failed.clone(), retry_for),
            recalled,
        );
        if resumed {
            self.event(key, Event::Resumed);
        }
        self.note_busy(key);
    }
}

impl Active {
    fn set_back(&mut self, record: Record, recalled: RestoredFiles) {
        self.open.drain().for_each(|(_, open)| open.give_up());
        self.run = None;
        self.record = record;
        self.partial = recalled.partial;
        self.parts = Arc::new(recalled.parts);
        self.restarted = true;
        self.unsettled = recalled.unsettled;
        if let Ok(Some(table)) = recalled.table {
            self.download.set_table(Arc::new(table));
        }
    }
}
