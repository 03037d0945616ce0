//! A DELETE: stopped first, cleaned up, then gone.

use super::*;
use crate::agent::MAX_FILES_LEFT;

impl Controller {
    pub(super) fn begin_delete(
        &mut self,
        keys: Vec<u32>,
        remove_files: bool,
        reply: Option<Sender<Deleted>>,
    ) {
        let delete = self.next_delete;
        self.next_delete += 1;
        let mut deleted = Vec::new();
        for key in &keys {
            deleted.extend(
                self.active
                    .get(key)
                    .map(|active| active.download.id.clone()),
            );
        }
        let waiting = deleted.len();
        self.deletes.insert(
            delete,
            Delete {
                keys: keys.clone(),
                idle: 0,
                deleted,
                waiting,
                cleaned: Cleaned::default(),
                reply,
            },
        );
        if waiting == 0 {
            self.close_delete(delete);
        }
        for key in &keys {
            let Some(active) = self.active.get_mut(key) else {
                continue;
            };
            active.committing = false;
            active.deleting = Some(Deletion {
                delete,
                remove_files,
            });
        }
        self.publish();
        for key in keys {
            let state = self.active.get(&key).map(|active| active.record.state());
            if state == Some(State::Transferring) {
                self.event(key, Event::Paused);
            }
            self.hand_over(key);
            self.run_deferred(key);
        }
    }

    /// Gives deleted downloads to the cleaner, once no job of those that the same DELETE is of is
    /// out. The newest goes first: the older may have made the folders that it put its files into.
    pub(super) fn hand_over(&mut self, key: u32) {
        let deletion = |active: &Active| active.deleting.as_ref().map(|deletion| deletion.delete);
        let delete = self.active.get(&key).and_then(deletion);
        let Some(delete) = delete.and_then(|delete| self.deletes.get_mut(&delete)) else {
            return;
        };
        // Once idle, a deleted download stays so: no key is looked at twice.
        while let Some(key) = delete.keys.get(delete.idle) {
            let active = self.active.get(key);
            if active.is_some_and(|active| !active.record.is_idle()) {
                return;
            }
            delete.idle += 1;
        }
        for key in std::mem::take(&mut delete.keys).into_iter().rev() {
            if let Some(removal) = self.active.get_mut(&key).and_then(removal) {
                self.channels.removals.send(removal);
            }
        }
    }

    pub(super) fn removed(&mut self, key: u32, cleaned: Cleaned) {
        let Some(active) = self.active.remove(&key) else {
            return;
        };
        self.busy.remove(&key);
        self.publish();
        for command in active.deferred {
            self.command(command);
        }
        let Some(deletion) = active.deleting else {
            return;
        };
        let Some(delete) = self.deletes.get_mut(&deletion.delete) else {
            return;
        };
        delete.waiting -= 1;
        delete.cleaned.files_removed += cleaned.files_removed;
        let left = &mut delete.cleaned.files_left;
        left.extend(cleaned.files_left);
        left.truncate(MAX_FILES_LEFT);
        if delete.waiting == 0 {
            self.close_delete(deletion.delete);
        }
    }

    pub(super) fn close_delete(&mut self, delete: u64) {
        if let Some(delete) = self.deletes.remove(&delete)
            && let Some(reply) = delete.reply
        {
            let _ = reply.send(Deleted {
                deleted: delete.deleted,
                files_removed: delete.cleaned.files_removed,
                files_left: delete.cleaned.files_left,
            });
        }
    }
}

/// What the cleaner needs to know of a deleted download.
fn removal(active: &mut Active) -> Option<Removal> {
    let remove_files = active.deleting.as_ref()?.remove_files;
    active.open.clear();
    active.run = None;
    Some(Removal {
        download: active.download.clone(),
        identity: active.identity,
        made: active.made.clone(),
        parts: active.parts.clone(),
        unsettled: active.unsettled,
        remove_files,
    })
}
