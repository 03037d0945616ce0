//! Who gets the next job, and what comes of it.

use super::*;

impl Controller {
    /// Hands out work as long as the threads can take it, one job a download in turn.
    pub(super) fn dispatch(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let now = Instant::now();
        if self.out >= AHEAD * self.policy.workers {
            return;
        }
        let mut keys: Vec<u32> = self
            .busy()
            .filter(|(_, active)| active.wants_work())
            .map(|(key, _)| key)
            .collect();
        let first = keys.partition_point(|&key| key <= self.turn);
        keys.rotate_left(first);
        while !keys.is_empty() {
            keys.retain(|&key| {
                if self.out >= AHEAD * self.policy.workers {
                    return false;
                }
                let given = self.give(key, now);
                if given {
                    self.turn = key;
                }
                given
            });
        }
    }

    /// Gives out one job of a download. False where it has none now.
    pub(super) fn give(&mut self, key: u32, now: Instant) -> bool {
        let crowded = self.out > self.policy.workers + 2;
        let idle = self.out < self.policy.workers;
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        match active.record.pick(now, crowded) {
            Some(Pick::Begin) => {
                let run = active.new_run();
                let beginning = Beginning {
                    run,
                    identity: active.identity,
                    restarted: std::mem::take(&mut active.restarted),
                    unsettled: std::mem::take(&mut active.unsettled),
                    begun: active.begun_before,
                };
                self.out += 1;
                let _ = self
                    .channels
                    .errands
                    .send(Errand::Begin(Box::new(beginning)));
                true
            }
            Some(Pick::New(file)) => {
                self.note_begun(key, file);
                self.give_file(key, file)
            }
            Some(Pick::Open(file)) => self.give_file(key, file),
            None => idle && self.give_tail(key, now),
        }
    }

    /// The journal knows of a `.part` before it is made, for many files at a time.
    pub(super) fn note_begun(&mut self, key: u32, file: u32) {
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        if file >= active.begun {
            active.begun = file.saturating_add(64);
            let change = Change::Begun(key, active.begun);
            self.save(vec![change]);
        }
    }

    pub(super) fn give_file(&mut self, key: u32, file: u32) -> bool {
        let workers = self.policy.workers as u64;
        let Some(active) = self.active.get_mut(&key) else {
            return false;
        };
        let (Some(run), Some(table)) = (active.run.clone(), active.download.table()) else {
            active.record.void(file);
            return false;
        };
        let open = active.open_file(file, table.size(file));
        let range = open.take(workers);
        if range.is_none() && !open.is_whole() {
            active.record.void(file);
            return true;
        }
        let more = range.is_some() && open.has_free();
        active.record.given(file, more);
        let known = range.is_none() || open.known_address().is_some();
        self.send(
            Job {
                run,
                table,
                file: open,
                range,
                address: None,
            },
            known,
        );
        true
    }

    pub(super) fn give_tail(&mut self, key: u32, now: Instant) -> bool {
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
            .find_map(|file| file.take_tail(now).map(|range| (file.clone(), range)))
        else {
            return false;
        };
        active.record.gave_tail();
        self.send(
            Job {
                run,
                table,
                file,
                range: Some(range),
                address: None,
            },
            true,
        );
        true
    }

    pub(super) fn send(&mut self, job: Job, has_address: bool) {
        self.out += 1;
        if let Some(root) = job.run.root().cloned() {
            self.soil(&root);
        }
        let _ = if has_address {
            self.channels.jobs.send(job).is_ok()
        } else {
            self.channels.errands.send(Errand::Address(job)).is_ok()
        };
    }

    pub(super) fn report(&mut self, report: Report) {
        self.out -= 1;
        match report {
            Report::Begun {
                key,
                beginning,
                result,
            } => {
                let event = match result {
                    Ok(table) => Event::Begun(table),
                    Err(no_beginning) => {
                        if let Some(active) = self.active.get_mut(&key) {
                            active.restarted |= beginning.restarted;
                            active.unsettled |= beginning.unsettled;
                            active.run = None;
                        }
                        match no_beginning {
                            NoBeginning::Stopped => Event::BeginningStopped,
                            NoBeginning::Fault {
                                message,
                                retry_after,
                                malformed,
                            } => Event::NotBegun {
                                message,
                                retry_after,
                                malformed,
                            },
                            NoBeginning::Broken(problem) => Event::Broken(problem),
                        }
                    }
                };
                self.event(key, event);
            }
            Report::Job { key, job, outcome } => {
                let file = job.file.index;
                if !matches!(outcome, Outcome::Complete | Outcome::Skipped) {
                    let news = job.file.news(key);
                    self.save(news);
                }
                self.event(key, Event::File(file, outcome));
            }
        }
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
