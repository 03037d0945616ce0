//! Who gets the next job, and what comes of it.

use super::*;

impl Controller {
    /// Hands out work as long as the threads can take it: to the downloads of the highest priority
    /// first, and among equal ones one job each in turn.
    pub(super) fn dispatch(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let now = Instant::now();
        // Nobody has room.
        if self.out >= 2 * AHEAD * self.policy.workers {
            return;
        }
        let mut levels: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for (key, active) in self.busy() {
            if active.wants_work() && !self.lost.contains(&key) {
                let level = levels.entry(active.download.priority()).or_default();
                level.push(key);
            }
        }
        let mut above = false;
        for (_, mut keys) in levels.into_iter().rev() {
            let first = keys.partition_point(|&key| key <= self.turn);
            keys.rotate_left(first);
            let all = keys.clone();
            while !keys.is_empty() {
                keys.retain(|&key| {
                    if !self.has_room(key, above) {
                        return false;
                    }
                    let given = self.give(key, now);
                    if given {
                        self.turn = key;
                    }
                    given
                });
            }
            above |= all.iter().any(|key| {
                let active = self.active.get(key);
                active.is_some_and(|active| !active.record.is_idle())
            });
        }
    }

    /// Whether this download may have another job out. One that has none may have one, whoever has
    /// taken all the room. But what is at work `above` it, with a higher priority, finds no job of
    /// it before its own: it gets the workers that have nothing else to do.
    fn has_room(&self, key: u32, above: bool) -> bool {
        if above {
            return self.out < self.policy.workers;
        }
        let most = AHEAD * self.policy.workers;
        let has_none = || {
            let active = self.active.get(&key);
            active.is_some_and(|active| active.record.is_idle())
        };
        self.out < most || (self.out < 2 * most && has_none())
    }

    /// Gives out one job of a download. False if it has none now.
    fn give(&mut self, key: u32, now: Instant) -> bool {
        let mut crowded = self.out > self.policy.workers + 2;
        let idle = self.out < self.policy.workers;
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        let first = active.record.is_idle();
        crowded &= !first;
        match active.record.pick(now, crowded) {
            Some(Pick::Begin) => {
                let run = active.new_run();
                let request = StartRequest {
                    run,
                    identity: active.identity,
                    restarted: std::mem::take(&mut active.restarted),
                    unsettled: std::mem::take(&mut active.unsettled),
                };
                self.out += 1;
                self.pools.starts.send(Task::Start(Box::new(request)));
                true
            }
            // There may be another file that has a range to give where this one had none.
            Some(Pick::New(file)) => {
                self.give_files(key, file, first);
                true
            }
            Some(Pick::Open(file)) => {
                let job = self.job(key, file);
                self.send(key, job.into_iter().collect(), first);
                true
            }
            None => idle && self.give_tail(key, now),
        }
    }

    /// Gives out a file that no job had yet, and with a small one as many of the next as fit into a
    /// batch.
    fn give_files(&mut self, key: u32, file: u32, first: bool) {
        let mut jobs: Vec<Job> = self.job(key, file).into_iter().collect();
        let small = jobs.first().is_some_and(|job| job.size() <= SMALL);
        while small
            && let Some(active) = self.active.get_mut(&key)
            && jobs.len() < active.pace.batch()
            && let Some(next) = active.record.pick_small(SMALL)
        {
            jobs.extend(self.job(key, next));
        }
        self.send(key, jobs, first);
    }

    /// A job for a file that was picked. None if it has no range to give now.
    fn job(&mut self, key: u32, file: u32) -> Option<Job> {
        let workers = self.policy.workers as u64;
        let active = self.active.get_mut(&key)?;
        let (Some(run), Some(table)) = (active.run.clone(), active.download.table()) else {
            active.record.cancel_pick(file);
            return None;
        };
        let open = active.open_file(file, &table);
        // Not before: a range may rest whose fault is still on its way here.
        if active.record.has_woken(file) {
            open.end_rest();
        }
        let range = open.take(workers);
        if range.is_none() && !open.is_whole() {
            active.record.cancel_pick(file);
            return None;
        }
        let more = range.is_some() && open.has_free();
        active.record.range_given(file, more);
        Some(Job::new(run, table, open, range))
    }

    fn give_tail(&mut self, key: u32, now: Instant) -> bool {
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        if !active.record.may_help() {
            return false;
        }
        let (Some(run), Some(table)) = (active.run.clone(), active.download.table()) else {
            return false;
        };
        let Some((file, range)) = active
            .open
            .values()
            .filter(|file| active.record.may_have_another(file.index))
            .find_map(|file| file.take_tail(now).map(|range| (file.clone(), range)))
        else {
            return false;
        };
        active.record.gave_tail(file.index);
        self.send(key, vec![Job::new(run, table, file, Some(range))], false);
        true
    }

    /// Gives jobs of one download out together; `first` where it has no others out.
    fn send(&mut self, key: u32, jobs: Vec<Job>, first: bool) {
        let Some(job) = jobs.first() else { return };
        self.out += 1;
        if let Some(root) = job.run.root().cloned() {
            self.mark_dirty(key, &root);
        }
        // Where others' addresses take their time, a worker fetches this one's itself.
        let ahead =
            jobs.iter().any(Job::wants_address) && !(first && self.pools.addresses.is_busy());
        let batch = Batch {
            key,
            jobs,
            done: Vec::new(),
            ticket: None,
        };
        if ahead {
            self.pools.addresses.send(Task::Addresses(batch));
        } else {
            self.pools.give(batch);
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        self.out -= 1;
        match report {
            Report::Begun {
                key,
                request,
                result,
            } => {
                let event = match result {
                    Ok(start) => {
                        if let Some(active) = self.active.get_mut(&key) {
                            active.leave_to_jobs(&start);
                            if let Some(told) = start.told {
                                active.take_told(&start.table, told);
                            }
                        }
                        Event::Begun(start.table)
                    }
                    Err(error) => {
                        if let Some(active) = self.active.get_mut(&key) {
                            active.restarted |= request.restarted;
                            active.unsettled |= request.unsettled;
                            active.run = None;
                        }
                        match error {
                            StartError::Stopped => Event::StartStopped,
                            StartError::Fault {
                                message,
                                retry_after,
                                malformed,
                            } => Event::NotBegun {
                                message,
                                retry_after,
                                malformed,
                            },
                            StartError::Broken(problem) => Event::Broken(problem),
                        }
                    }
                };
                self.event(key, event);
            }
            Report::Batch { key, done, took } => {
                if let Some(active) = self.active.get_mut(&key) {
                    active.pace.note(&done, took);
                }
                for Done { job, outcome } in done {
                    self.job_done(key, &job, outcome);
                }
            }
        }
    }

    fn job_done(&mut self, key: u32, job: &Job, outcome: Outcome) {
        let in_place = matches!(outcome, Outcome::Complete | Outcome::Skipped);
        if !in_place && !self.lost.contains(&key) {
            let file = std::iter::once((key, &*job.file));
            let queued = transfer::report(file, |news| self.store.queue(news));
            self.note_queued(queued);
        }
        self.event(key, Event::File(job.file.index, outcome));
    }

    pub(super) fn event(&mut self, key: u32, event: Event) {
        let now = self.now();
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        let effects = active.record.on(event, now);
        let ended = Ended::is_among(&effects);
        let mut changes = Vec::new();
        for effect in effects {
            active.carry_out(key, effect, &mut changes);
        }
        active.download.touch();
        active.rest();
        let idle = active.record.is_idle();
        let ended = ended.then(|| Ended::new(&active.download));
        self.note_busy(key);
        self.save(changes);
        // After it was saved: a killed process does not say it again.
        if let Some(ended) = ended {
            self.channels.ended.push(ended);
        }
        if idle {
            self.hand_over(key);
        }
    }
}
