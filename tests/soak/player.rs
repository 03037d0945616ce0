//! A caller who cannot decide, and who sometimes pulls the plug.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chaos::{Chaos, Dice};
use crate::support::agent::{Agent, Setup, one, row};
use crate::support::origin::Origin;
use crate::support::tree;

/// Downloads at a time.
const SLOTS: usize = 3;
/// A download that got nowhere for so long, without a fault left, is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

struct Slot {
    id: String,
    dst: PathBuf,
    /// The state that the caller was told last, where it may not change by itself.
    paused: bool,
}

pub struct Player<'a> {
    origin: &'a Origin,
    agent: Agent,
    dir: TempDir,
    dice: Dice,
    slots: [Option<Slot>; SLOTS],
    made: usize,
    completed: usize,
    deleted: usize,
    kills: usize,
    stops: usize,
    resumed_errors: usize,
}

impl<'a> Player<'a> {
    pub fn new(origin: &'a Origin, setup: Setup, seed: u64) -> Player<'a> {
        Player {
            origin,
            agent: setup.quiet().start(),
            dir: tempfile::tempdir().unwrap(),
            dice: Dice::new(seed),
            slots: Default::default(),
            made: 0,
            completed: 0,
            deleted: 0,
            kills: 0,
            stops: 0,
            resumed_errors: 0,
        }
    }

    pub fn pid(&self) -> u32 {
        self.agent.pid()
    }

    pub fn score(&self) -> String {
        format!(
            "{} downloads made, {} complete, {} deleted midway, {} errors resumed, {} kills, {} \
             stops",
            self.made, self.completed, self.deleted, self.resumed_errors, self.kills, self.stops
        )
    }

    /// Does this and that until the time is over; `look` is shown the process now and again.
    pub fn play(&mut self, end: Instant, mortal: bool, mut look: impl FnMut(u32)) {
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(20 + self.dice.roll(200)));
            if mortal {
                match self.dice.roll(25) {
                    0 | 1 => self.kill(),
                    2 => self.stop(),
                    _ => {}
                }
            }
            let slot = self.dice.roll(SLOTS as u64) as usize;
            self.touch(slot);
            look(self.agent.pid());
        }
    }

    fn touch(&mut self, at: usize) {
        let Some(slot) = &self.slots[at] else {
            return self.create(at);
        };
        let id = slot.id.clone();
        let record = self.agent.inspect(&id);
        self.check(&record, at);
        match record["state"].as_str().unwrap() {
            "complete" => self.complete(at, &record),
            "error" => {
                let error = &record["error"];
                assert_eq!(error["recoverable"], true, "{error}");
                self.agent.resume(&id).expect(200);
                self.resumed_errors += 1;
            }
            "paused" if self.dice.roll(3) == 0 => {
                self.agent.resume(&id).expect(200);
                self.set_paused(at, false);
            }
            "transferring" => match self.dice.roll(12) {
                0 | 1 => self.pause(at),
                2 if self.dice.roll(4) == 0 => self.delete_midway(at),
                _ => {}
            },
            _ => {}
        }
    }

    fn set_paused(&mut self, at: usize, paused: bool) {
        if let Some(slot) = &mut self.slots[at] {
            slot.paused = paused;
        }
    }

    fn create(&mut self, at: usize) {
        let dst = self.dir.path().join(format!("{at}/{}", self.made));
        let order = json!({"url": self.origin.link(), "dst_folder": dst});
        let answer = self.agent.order(&order);
        self.made += 1;
        let id = answer.expect(201)["download_id"]
            .as_str()
            .unwrap()
            .to_string();
        let paused = false;
        self.slots[at] = Some(Slot { id, dst, paused });
    }

    fn pause(&mut self, at: usize) {
        let id = self.slots[at].as_ref().unwrap().id.clone();
        let answer = self.agent.pause(&id);
        match answer.status {
            200 => self.set_paused(at, true),
            // It has ended since.
            409 => {}
            _ => panic!("{answer:?}"),
        }
    }

    /// What is true of every record at any time.
    fn check(&self, record: &Value, at: usize) {
        let number = |name: &str| record[name].as_u64();
        if let (Some(total), Some(done)) = (number("bytes_total"), number("bytes_done")) {
            assert!(done <= total, "{record:#}");
        }
        let paused = self.slots[at].as_ref().is_some_and(|slot| slot.paused);
        if paused {
            assert_eq!(record["state"], "paused", "{record:#}");
        }
    }

    fn complete(&mut self, at: usize, record: &Value) {
        let slot = self.slots[at].take().unwrap();
        self.assert_arrived(record, &slot.dst);
        self.completed += 1;
        let target = format!("{}?remove_files=true", one(&slot.id));
        let answer = self.agent.delete(&target).expect(200);
        let files = self.origin.package().entries.len() - 1;
        assert_eq!(answer["files_removed"], files, "{answer}");
        assert!(!slot.dst.exists(), "{:?}", tree::paths(&slot.dst));
    }

    fn assert_arrived(&self, record: &Value, dst: &Path) {
        let mut paths = Vec::new();
        for entry in self.origin.package().entries {
            let row = row(record, &entry.id);
            if entry.virus_detected {
                continue;
            }
            assert_eq!(row["state"], "complete", "{row}");
            let path = row["path"].as_str().unwrap();
            tree::assert_file(&dst.join(path), entry.seed, entry.size);
            paths.push(path.to_string());
        }
        let mut others = tree::paths(dst);
        others.retain(|path| !path.ends_with('/') && !paths.contains(path));
        assert!(others.is_empty(), "not of this package: {others:?}");
    }

    fn delete_midway(&mut self, at: usize) {
        let slot = self.slots[at].take().unwrap();
        self.deleted += 1;
        let keep = self.dice.roll(2) == 0;
        let query = if keep { "" } else { "?remove_files=true" };
        let target = format!("{}{query}", one(&slot.id));
        self.agent.delete(&target).expect(200);
        if keep {
            let left = tree::paths(&slot.dst);
            let parts = left.iter().filter(|path| path.ends_with(".part"));
            // One of the package's files has such a name.
            let parts: Vec<_> = parts.filter(|path| !path.contains("same")).collect();
            assert!(parts.is_empty(), "{parts:?}");
            fs::remove_dir_all(&slot.dst).unwrap();
        } else {
            assert!(!slot.dst.exists(), "{:?}", tree::paths(&slot.dst));
        }
    }

    fn kill(&mut self) {
        self.agent.kill9();
        self.kills += 1;
        self.restart();
    }

    fn stop(&mut self) {
        let (status, took) = self.agent.terminate();
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(5), "{took:?}");
        self.stops += 1;
        self.restart();
    }

    fn restart(&mut self) {
        self.agent.restart();
        let mut ids = self.agent.ids();
        let slots = self.slots.iter().flatten();
        let mut known: Vec<String> = slots.map(|slot| slot.id.clone()).collect();
        ids.sort();
        known.sort();
        assert_eq!(ids, known, "what is known after a restart");
        for at in 0..SLOTS {
            if let Some(slot) = &self.slots[at] {
                self.check(&self.agent.inspect(&slot.id), at);
            }
        }
    }

    /// Without any more faults, everything arrives.
    pub fn finish(&mut self, chaos: &Chaos) {
        chaos.calm_down();
        for at in 0..SLOTS {
            let end = Instant::now() + PATIENCE;
            if let Some(slot) = &self.slots[at] {
                // It may be waiting after a fault; a pause ends that.
                self.agent.pause(&slot.id.clone());
            }
            self.set_paused(at, false);
            while let Some(slot) = &self.slots[at] {
                let id = slot.id.clone();
                let record = self.agent.inspect(&id);
                match record["state"].as_str().unwrap() {
                    "complete" => self.complete(at, &record),
                    "transferring" => {}
                    _ => drop(self.agent.resume(&id).expect(200)),
                }
                assert!(
                    Instant::now() <= end,
                    "stuck: {record:#}\n{}",
                    self.agent.logs()
                );
                thread::sleep(Duration::from_millis(100));
            }
        }
        assert_eq!(self.agent.ids(), Vec::<String>::new());
    }
}
