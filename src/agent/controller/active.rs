//! One download in the controller's hand: its record, and what its run needs.

use super::*;

pub(super) struct Active {
    pub(super) record: Record,
    pub(super) download: Arc<Download>,
    pub(super) identity: Identity,
    pub(super) made: Vec<PathBuf>,
    pub(super) run: Option<Arc<Run>>,
    /// What the link led to. A link is read once, and again only when the token is refused: some
    /// links count it.
    pub(super) session: Arc<Session>,
    pub(super) open: HashMap<u32, Arc<OpenFile>>,
    pub(super) partial: BTreeMap<u32, Partial>,
    pub(super) parts: Arc<Parts>,
    pub(super) restarted: bool,
    pub(super) unsettled: bool,
    /// What was seen of the calls to the run's disk.
    pub(super) disk: DiskWatch,
    pub(super) rate: Throughput,
    /// Since when it has had work to do and no worker.
    pub(super) waits_since: Option<Instant>,
    pub(super) pace: Pace,
    /// The counts when the rate was last measured.
    pub(super) counted: Counts,
    /// A change is being committed: others wait.
    pub(super) committing: bool,
    pub(super) deferred: VecDeque<Command>,
    pub(super) deleting: Option<Deletion>,
}

impl Active {
    pub(super) fn new(new: NewDownload, record: Record) -> Active {
        Active {
            record,
            download: new.download,
            identity: new.identity,
            made: new.made,
            run: None,
            session: Arc::new(Session::new(new.package)),
            open: HashMap::new(),
            partial: BTreeMap::new(),
            parts: Arc::default(),
            restarted: false,
            unsettled: false,
            disk: DiskWatch::default(),
            rate: Throughput::default(),
            waits_since: None,
            pace: Pace::default(),
            counted: Counts::default(),
            committing: false,
            deferred: VecDeque::new(),
            deleting: None,
        }
    }

    pub(super) fn wants_work(&self) -> bool {
        self.record.state() == State::Transferring && self.deleting.is_none()
    }

    pub(super) fn new_run(&mut self) -> Arc<Run> {
        let run = Run::new(
            self.download.clone(),
            self.session.clone(),
            self.parts.clone(),
        );
        let run = Arc::new(run);
        self.run = Some(run.clone());
        run
    }

    pub(super) fn open_file(&mut self, file: u32, table: &FileTable) -> Arc<OpenFile> {
        let root = self.run.as_ref().and_then(|run| run.root());
        let has_holes = root.is_none_or(|root| root.storage().has_holes);
        let (partial, parts) = (&mut self.partial, &self.parts);
        let chunk = self.download.order.options.chunk_size;
        let open = || {
            let known = partial.remove(&file).unwrap_or_default();
            let slice = table.slice(file);
            let size = table.size(file);
            let file = OpenFile::new(file, size, known, parts.has(file), chunk);
            if let Some(slice) = slice {
                file.keep_to(slice);
            }
            if !has_holes {
                file.keep_order();
            }
            Arc::new(file)
        };
        self.open.entry(file).or_insert_with(open).clone()
    }

    /// What a start could not name is pending again: no byte of it is to be fetched, but a job is
    /// to name it.
    pub(super) fn leave_to_jobs(&mut self, start: &Start) {
        for &file in &start.unnamed {
            start.table.set_state(file, FileState::Pending);
            self.parts.add(file);
            let whole = Partial::whole(start.table.size(file));
            self.partial.insert(file, whole);
        }
    }

    /// What other nodes, or this one with another number of shards, have on disk of files that this
    /// one is to bring need not be fetched again. What the journal says counts no more: the `.part`
    /// may be another one since.
    pub(super) fn take_told(&mut self, table: &FileTable, told: BTreeMap<u32, Partial>) {
        let before = std::mem::replace(&mut self.partial, told);
        for file in before.into_keys().filter(|&file| file < table.len()) {
            table.set_done(file, 0);
        }
        for (&file, told) in &self.partial {
            table.set_done(file, told.bytes.total());
            self.parts.add(file);
        }
    }

    /// How many calls of the run hang in its disk.
    pub(super) fn look_at_disk(&mut self, now: Instant) -> usize {
        match &self.run {
            Some(run) => self.disk.look(&run.disk, now),
            None => 0,
        }
    }

    pub(super) fn measure(&mut self, now: Instant) {
        if self.record.state() == State::Transferring
            && let Some(table) = self.download.table()
        {
            let counts = table.counts();
            let rate = self.rate.measure(now, counts.bytes_done);
            let before = std::mem::replace(&mut self.counted, counts);
            if self.download.set_rate(rate) != rate || before != counts {
                self.download.touch();
            }
        }
    }

    /// Files that wait for an attempt, or had one, and have gained bytes since the last tick, each
    /// with the number of its ranges on their way that have brought some.
    pub(super) fn gained(&self) -> Vec<(u32, u32)> {
        let Some(table) = self.download.table() else {
            return Vec::new();
        };
        self.record
            .waiting()
            .filter(|&(file, before)| table.done(file) > before)
            .map(|(file, _)| (file, self.open.get(&file).map_or(0, |open| open.flowing())))
            .collect()
    }

    pub(super) fn carry_out(&mut self, key: u32, effect: Effect, changes: &mut Vec<Change>) {
        match effect {
            Effect::Show => {
                let (state, problem) = (self.record.state(), self.record.problem().cloned());
                self.download.update(|view| {
                    view.state = state;
                    view.problem = problem;
                    if state != State::Complete {
                        view.completed_at = None;
                    }
                });
            }
            Effect::Halt => self.run.iter().for_each(|run| run.halt()),
            Effect::Fail(file, problem) => {
                if let Some(table) = self.download.table() {
                    table.fail(file, problem.clone());
                }
                changes.push(Change::Failed(key, file, Box::new(problem)));
            }
            Effect::Close(file) => {
                let Some(open) = self.open.remove(&file) else {
                    return;
                };
                open.give_up();
                // A whole file without its name needs no byte again, only the name.
                let in_place = self.download.table().is_some_and(|table| {
                    matches!(table.state(file), FileState::Complete | FileState::Skipped)
                });
                if !in_place {
                    self.partial.insert(file, open.partial());
                }
            }
            Effect::Complete => {
                let at = clock::now();
                // At once: nobody is to see a download that is transferring and has been completed.
                self.download.update(|view| {
                    view.completed_at = Some(at);
                    view.state = State::Complete;
                    view.problem = None;
                });
                let counts = self.download.counts().unwrap_or_default();
                changes.push(Change::Complete(key, at, Box::new(counts)));
            }
            Effect::Error => {
                changes.push(Change::State(
                    key,
                    State::Error,
                    self.record.problem().cloned().map(Box::new),
                ));
            }
            Effect::Again(file) => {
                if let Some(table) = self.download.table() {
                    table.set_state(file, FileState::Pending);
                }
                if !changes
                    .iter()
                    .any(|change| matches!(change, Change::Again(_)))
                {
                    changes.push(Change::Again(key));
                }
            }
        }
    }

    /// Nothing is under way and nothing will be: give back descriptors and memory.
    pub(super) fn rest(&mut self) {
        if !self.record.is_idle() || self.record.state() == State::Transferring {
            return;
        }
        self.run = None;
        // Who resumes wants to know what the link says now.
        if self.session.has_failed() {
            self.session = Arc::default();
        }
        if self.record.state() == State::Complete {
            self.record.forget_files();
            self.partial.clear();
            restore::rest(&self.download);
        }
        for (file, open) in self.open.drain() {
            open.close();
            self.partial.insert(file, open.partial());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(dst_folder: &std::path::Path) -> Active {
        let new = NewDownload {
            download: Arc::new(Download::sample()),
            identity: Root::make(dst_folder).unwrap().0.identity(),
            made: Vec::new(),
            package: None,
        };
        let failed = BTreeMap::new();
        Active::new(
            new,
            Record::new(State::Transferring, None, failed, Duration::ZERO),
        )
    }

    #[test]
    fn the_time_of_completion_is_shown_with_the_state_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut active = active(folder.path());
        let before = active.download.fingerprint().changes;
        active.carry_out(1, Effect::Complete, &mut Vec::new());
        let view = active.download.view();
        assert_eq!(view.state, State::Complete);
        assert!(view.completed_at.is_some());
        assert_eq!(
            active.download.fingerprint().changes,
            before + 1,
            "in one step"
        );
    }
}
