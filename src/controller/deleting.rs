//! A DELETE: stopped first, cleaned up, then gone.

use super::*;

impl Controller {
    pub(super) fn begin_delete(
        &mut self,
        keys: Vec<u32>,
        remove_files: bool,
        reply: Option<Sender<Deleted>>,
    ) {
        let delete = self.next_delete;
        self.next_delete += 1;
        let deleted = keys
            .iter()
            .filter_map(|key| {
                self.active
                    .get(key)
                    .map(|active| active.download.id.clone())
            })
            .collect::<Vec<_>>();
        let waiting = deleted.len();
        self.deletes.insert(
            delete,
            Delete {
                deleted,
                waiting,
                files_removed: 0,
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
                handed_over: false,
            });
        }
        self.publish();
        for key in keys {
            let state = self.active.get(&key).map(|active| active.record.state());
            if state == Some(State::Transferring) {
                self.event(key, Event::Paused);
            }
            self.hand_over(key);
            self.undefer(key);
        }
    }

    /// Gives a deleted download to the cleaner, once none of its jobs is out.
    pub(super) fn hand_over(&mut self, key: u32) {
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        let Some(deletion) = active
            .deleting
            .as_mut()
            .filter(|deletion| !deletion.handed_over)
        else {
            return;
        };
        if !active.record.is_idle() {
            return;
        }
        deletion.handed_over = true;
        let removal = Removal {
            download: active.download.clone(),
            identity: active.identity,
            made: active.made.clone(),
            begun: active.begun.upto(),
            remove_files: deletion.remove_files,
        };
        active.open.clear();
        active.run = None;
        let _ = self.channels.removals.send(removal);
    }

    pub(super) fn removed(&mut self, key: u32, files: u64) {
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
        delete.files_removed += files;
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
                files_removed: delete.files_removed,
            });
        }
    }
}
