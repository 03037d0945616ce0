//! What the journal and the disk are told while bytes move.

use super::*;

impl Controller {
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.ticked_at) < TICK {
            return;
        }
        self.ticked_at = now;
        self.pools.retry_spawn();
        self.channels.removals.retry_spawn();
        self.journal_all();
        let mut gained: Vec<(u32, Event)> = Vec::new();
        for &key in &self.busy {
            if let Some(active) = self.active.get_mut(&key) {
                active.measure(now);
                let event = |(file, flowing)| (key, Event::Gained { file, flowing });
                gained.extend(active.gained().into_iter().map(event));
            }
        }
        for (key, event) in gained {
            self.event(key, event);
        }
        self.look_at_disks(now);
        self.share(now);
        self.sync(now);
    }

    /// Lets others take the places of workers that hang in calls to a disk, and says which download
    /// waits for its own.
    fn look_at_disks(&mut self, now: Instant) {
        let mut hanging = 0;
        let mut changed = Vec::new();
        for &key in &self.busy {
            let Some(active) = self.active.get_mut(&key) else {
                continue;
            };
            let calls = active.look_at_disk(now);
            hanging += calls;
            let told = active.record.problem().and_then(|problem| problem.retry_at);
            let is_old = || told.is_none_or(|told| told <= clock::now());
            let is_silent = calls > 0;
            if is_silent != active.record.is_silent() || (is_silent && is_old()) {
                changed.push((key, is_silent));
            }
        }
        self.pools.replace_hanging(hanging, self.policy.workers);
        for (key, is_silent) in changed {
            self.event(key, Event::Silent(is_silent));
        }
    }

    pub(super) fn busy(&self) -> impl Iterator<Item = (u32, &Active)> {
        self.busy
            .iter()
            .filter_map(|&key| Some((key, self.active.get(&key)?)))
    }

    pub(super) fn note_busy(&mut self, key: u32) {
        let busy = self.active.get(&key).is_some_and(|active| {
            active.record.state() == State::Transferring || !active.record.is_idle()
        });
        if busy {
            self.busy.insert(key);
        } else {
            self.busy.remove(&key);
        }
    }

    pub(super) fn journal_all(&mut self) {
        let files = self
            .busy()
            // What a lost one's workers wrote last counts no more.
            .filter(|(key, _)| !self.lost.contains(key))
            .flat_map(|(key, active)| active.open.values().map(move |file| (key, &**file)));
        let queued = transfer::report(files, |news| self.store.queue(news));
        self.note_queued(queued);
    }

    /// Appends to the journal; what does not fit waits for room, and is tried again at each tick.
    pub(super) fn save(&mut self, changes: Vec<Change>) {
        let queued = self.store.queue(changes);
        self.note_queued(queued);
    }

    pub(super) fn note_queued(&mut self, queued: Result<(), StoreError>) {
        match queued {
            Ok(()) => self.unsaved = false,
            Err(error) => {
                if !std::mem::replace(&mut self.unsaved, true) {
                    log::error!("progress cannot be saved, which is tried again: {error}");
                }
            }
        }
    }

    pub(super) fn sync(&mut self, now: Instant) {
        let nothing = self.dirty.is_empty() && self.lost.is_empty();
        if nothing || now.duration_since(self.synced_at) < Duration::from_secs(1) {
            return;
        }
        // Data that is written from here on may go to other places: it is the next request's.
        let request = SyncRequest {
            mark: self.store.mark(),
            roots: self.dirty.clone(),
            rested: self.rested(),
        };
        if self.channels.syncs.try_send(request).is_ok() {
            self.synced_at = now;
            self.dirty.clear();
            let running: Vec<(u32, Arc<Root>)> = self
                .busy()
                .filter(|(_, active)| !active.record.is_idle())
                .filter_map(|(key, active)| Some((key, active.run.as_ref()?.root()?.clone())))
                .collect();
            running
                .into_iter()
                .for_each(|(key, root)| self.mark_dirty(key, &root));
        }
    }

    /// A download's data goes to this destination: it is to be synced.
    pub(super) fn mark_dirty(&mut self, key: u32, root: &Arc<Root>) {
        if !self.dirty.iter().any(|(_, dirty)| Arc::ptr_eq(dirty, root)) {
            self.dirty.push((key, root.clone()));
        }
    }
}
