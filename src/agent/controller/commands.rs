//! What the API asks for: checked, then, once it is on disk, carried out.

use super::*;

impl Controller {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::PrepareState { id, state, reply } => self.prepare_state(id, state, reply),
            Command::ApplyState {
                key,
                state,
                committed,
                reply,
            } => {
                let result = self.apply_state(key, state, committed);
                let _ = reply.send(result);
                self.run_deferred(key);
            }
            Command::PrepareStates { from, state, reply } => {
                self.prepare_states(from, state, reply);
            }
            Command::ApplyStates {
                keys,
                state,
                committed,
                reply,
            } => {
                let changed = self.apply_states(&keys, state, committed);
                let _ = reply.send(changed);
                keys.into_iter().for_each(|key| self.run_deferred(key));
            }
            Command::PreparePriority { id, reply } => self.prepare_priority(id, reply),
            Command::ApplyPriority {
                key,
                priority,
                reply,
            } => {
                let _ = reply.send(self.apply_priority(key, priority));
                self.run_deferred(key);
            }
            Command::PrepareCreate { order, reply } => {
                let _ = reply.send(self.prepare_create(*order));
            }
            Command::ApplyCreate {
                key,
                new,
                fault,
                reply,
            } => {
                self.coming.remove(&key);
                if let Some(new) = new {
                    self.add(key, *new, fault);
                }
                let _ = reply.send(());
            }
            Command::PrepareDelete { which, reply } => self.prepare_delete(which, reply),
            Command::ApplyDelete {
                keys,
                remove_files,
                reply,
            } => match remove_files {
                Some(remove_files) => self.begin_delete(keys, remove_files, Some(reply)),
                None => keys.into_iter().for_each(|key| {
                    if let Some(active) = self.active.get_mut(&key) {
                        active.committing = false;
                    }
                    self.run_deferred(key);
                }),
            },
            Command::Workers(workers) => self.policy.workers = workers,
            Command::Shutdown { reply } => {
                for (_, active) in self.busy() {
                    active.run.iter().for_each(|run| run.halt());
                }
                self.stopping = Some(reply);
            }
        }
    }

    fn add(&mut self, key: u32, new: NewDownload, fault: Option<Event>) {
        let failed = BTreeMap::new();
        let record = Record::new(State::Transferring, None, failed, self.policy.retry_for);
        self.active.insert(key, Active::new(new, record));
        match fault {
            Some(fault) => self.event(key, fault),
            None => self.note_busy(key),
        }
        // Now that its error is known: nobody sees it without.
        self.publish();
    }

    pub(super) fn key_of(&self, id: &str) -> Option<u32> {
        self.board.find(id).map(|download| download.key)
    }

    pub(super) fn prepare_state(
        &mut self,
        id: String,
        state: State,
        reply: Sender<Result<Prepared, Refusal>>,
    ) {
        let key = self.key_of(&id);
        let Some(active) = key.and_then(|key| self.active.get_mut(&key)) else {
            let _ = reply.send(Err(Refusal::DownloadNotFound));
            return;
        };
        if active.committing {
            active
                .deferred
                .push_back(Command::PrepareState { id, state, reply });
            return;
        }
        let key = active.download.key;
        let _ = reply.send(self.prepared(key, state));
    }

    /// Looks for the downloads that can change; one that cannot, such as one whose link goes into
    /// its folder again already, stays as it is. Waits for its turn while a change of one of them
    /// is being committed.
    fn prepare_states(&mut self, from: Vec<State>, state: State, reply: Sender<Vec<u32>>) {
        let keys: Vec<u32> = self
            .board
            .all()
            .iter()
            .map(|download| download.key)
            .filter(|key| {
                let active = self.active.get(key);
                active.is_some_and(|active| from.contains(&active.record.state()))
            })
            .collect();
        let is_busy = |key: &&u32| self.active.get(key).is_some_and(|active| active.committing);
        let busy = keys.iter().find(is_busy).copied();
        if let Some(active) = busy.and_then(|key| self.active.get_mut(&key)) {
            let again = Command::PrepareStates { from, state, reply };
            active.deferred.push_back(again);
            return;
        }
        let may_change = |key: &u32| matches!(self.prepared(*key, state), Ok(Prepared::Commit(..)));
        let _ = reply.send(keys.into_iter().filter(may_change).collect());
    }

    fn apply_states(&mut self, keys: &[u32], state: State, committed: bool) -> Vec<String> {
        let applied = keys
            .iter()
            .map(|&key| self.apply_state(key, state, committed));
        // One that ended while that was being committed has not changed by it.
        let changed = applied.filter_map(Result::ok);
        changed.map(|download| download.id.clone()).collect()
    }

    fn prepared(&mut self, key: u32, state: State) -> Result<Prepared, Refusal> {
        let active = self.active.get(&key).ok_or(Refusal::DownloadNotFound)?;
        let download = active.download.clone();
        match (active.record.state(), state) {
            _ if active.deleting.is_some() => return Err(Refusal::DownloadNotFound),
            (now, wanted) if now == wanted => return Ok(Prepared::Already(download)),
            (State::Transferring, State::Paused) | (State::Paused, State::Transferring) => {}
            (State::Error, State::Transferring) => {
                self.check_twin(&download.order)?;
                let coming = (download.id.clone(), download.order.clone());
                self.coming.insert(key, coming);
            }
            (now, _) => {
                return Err(Refusal::InvalidTransition {
                    state: now,
                    action: action(state),
                });
            }
        }
        if let Some(active) = self.active.get_mut(&key) {
            active.committing = true;
        }
        Ok(Prepared::Commit(key, Change::State(key, state, None)))
    }

    pub(super) fn apply_state(
        &mut self,
        key: u32,
        state: State,
        committed: bool,
    ) -> Result<Arc<Download>, Refusal> {
        self.coming.remove(&key);
        let active = self.active.get_mut(&key).ok_or(Refusal::DownloadNotFound)?;
        active.committing = false;
        let download = active.download.clone();
        if !committed {
            return Ok(download);
        }
        let now = active.record.state();
        let event = match (now, state) {
            (State::Transferring, State::Paused) => Event::Paused,
            (State::Paused | State::Error, State::Transferring) => Event::Resumed,
            _ => {
                // It ended while the change was being committed: the journal's last word must be
                // the truth.
                let problem = active.record.problem().cloned();
                let truth = match (now, download.view().completed_at) {
                    (State::Complete, Some(at)) => {
                        Change::Complete(key, at, Box::new(download.counts().unwrap_or_default()))
                    }
                    _ => Change::State(key, now, problem.map(Box::new)),
                };
                self.save(vec![truth]);
                return Err(Refusal::InvalidTransition {
                    state: now,
                    action: action(state),
                });
            }
        };
        self.event(key, event);
        Ok(download)
    }

    fn prepare_priority(&mut self, id: String, reply: Sender<Result<u32, Refusal>>) {
        let key = self.key_of(&id);
        let active = key.and_then(|key| self.active.get_mut(&key));
        let Some(active) = active.filter(|active| active.deleting.is_none()) else {
            let _ = reply.send(Err(Refusal::DownloadNotFound));
            return;
        };
        if active.committing {
            let command = Command::PreparePriority { id, reply };
            active.deferred.push_back(command);
            return;
        }
        active.committing = true;
        let _ = reply.send(Ok(active.download.key));
    }

    fn apply_priority(
        &mut self,
        key: u32,
        priority: Option<i32>,
    ) -> Result<Arc<Download>, Refusal> {
        let active = self.active.get_mut(&key).ok_or(Refusal::DownloadNotFound)?;
        active.committing = false;
        if let Some(priority) = priority {
            active.download.update(|view| view.priority = priority);
        }
        Ok(active.download.clone())
    }

    pub(super) fn run_deferred(&mut self, key: u32) {
        while let Some(active) = self.active.get_mut(&key)
            && !active.committing
            && let Some(command) = active.deferred.pop_front()
        {
            self.command(command);
        }
    }

    /// Refuses what is on its way, or on the way to that: a link goes into a folder once at a time.
    fn check_twin(&self, order: &DownloadRequest) -> Result<(), Refusal> {
        let under_way = self.active.values().filter(|active| {
            matches!(active.record.state(), State::Transferring | State::Paused)
                && active.deleting.is_none()
        });
        let mut orders = under_way
            .map(|active| (&active.download.id, &active.download.order))
            .chain(self.coming.values().map(|(id, order)| (id, order)));
        match orders.find(|(_, other)| other.same_target(order)) {
            Some((id, _)) => Err(Refusal::Duplicate {
                download_id: id.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn prepare_create(
        &mut self,
        order: DownloadRequest,
    ) -> Result<(u32, String), Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        self.check_twin(&order)?;
        let key = self.next_key;
        let id = self.ids.make();
        self.next_key = self.next_key.checked_add(1).ok_or_else(|| {
            Refusal::StateUnwritable(
                "this state directory has had more downloads than can be counted".into(),
            )
        })?;
        self.coming.insert(key, (id.clone(), order));
        Ok((key, id))
    }

    pub(super) fn prepare_delete(
        &mut self,
        which: Which,
        reply: Sender<Result<Vec<u32>, Refusal>>,
    ) {
        let keys: Vec<u32> = match &which {
            Which::One(id) => self.key_of(id).into_iter().collect(),
            Which::States(states) => self
                .board
                .all()
                .iter()
                .map(|download| download.key)
                .filter(|key| {
                    self.active
                        .get(key)
                        .is_some_and(|active| states.contains(&active.record.state()))
                })
                .collect(),
        };
        let busy = keys
            .iter()
            .find(|key| self.active.get(key).is_some_and(|active| active.committing))
            .copied();
        if let Some(active) = busy.and_then(|key| self.active.get_mut(&key)) {
            active
                .deferred
                .push_back(Command::PrepareDelete { which, reply });
            return;
        }
        let keys: Vec<u32> = keys
            .into_iter()
            .filter(|key| {
                self.active
                    .get(key)
                    .is_some_and(|active| active.deleting.is_none())
            })
            .collect();
        if keys.is_empty() && matches!(which, Which::One(_)) {
            let _ = reply.send(Err(Refusal::DownloadNotFound));
            return;
        }
        for key in &keys {
            if let Some(active) = self.active.get_mut(key) {
                active.committing = true;
            }
        }
        let _ = reply.send(Ok(keys));
    }
}

fn action(state: State) -> &'static str {
    if state == State::Paused {
        "paused"
    } else {
        "resumed"
    }
}
