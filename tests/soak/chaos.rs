//! Faults at random, at every call, for as long as they are wanted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::support::origin::{Gate, Kind, Origin, Reply};

/// A small generator (xorshift64), so that a run can be made again from its seed, as far as threads
/// allow.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn roll(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

#[derive(Clone)]
pub struct Chaos {
    dice: Arc<Mutex<Dice>>,
    calm: Arc<AtomicBool>,
    /// Silences, and when they end.
    silences: Arc<Mutex<Vec<(Instant, Gate)>>>,
    score: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Chaos {
    pub fn let_loose(origin: &Origin, seed: u64) -> Chaos {
        let chaos = Chaos {
            dice: Arc::new(Mutex::new(Dice::new(seed))),
            calm: Arc::default(),
            silences: Arc::default(),
            score: Arc::default(),
        };
        for kind in [Kind::Link, Kind::Listing, Kind::Address, Kind::Bytes] {
            let chaos = chaos.clone();
            origin.on(kind, move |_| chaos.reply(kind));
        }
        chaos
    }

    /// No faults from now on.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    fn roll(&self, limit: u64) -> u64 {
        self.dice.lock().unwrap().roll(limit)
    }

    fn silence(&self) -> Gate {
        let gate = Gate::new();
        let end = Instant::now() + Duration::from_secs(4);
        self.silences.lock().unwrap().push((end, gate.clone()));
        gate
    }

    /// Ends silences that have lasted, until all of these are done.
    pub fn keep_going(&self, players: &[&ScopedJoinHandle<'_, ()>]) {
        while players.iter().any(|player| !player.is_finished()) {
            let now = Instant::now();
            self.silences.lock().unwrap().retain(|(end, gate)| {
                let over = *end <= now;
                if over {
                    gate.open();
                }
                !over
            });
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn reply(&self, kind: Kind) -> Reply {
        if self.calm.load(Ordering::SeqCst) || self.roll(100) >= 20 {
            return Reply::serve();
        }
        let (name, reply) = match kind {
            Kind::Bytes if self.roll(2) == 0 => self.wrong_bytes(),
            _ => self.fault(kind),
        };
        *self.score.lock().unwrap().entry(name).or_default() += 1;
        reply
    }

    /// What any call may suffer.
    fn fault(&self, kind: Kind) -> (&'static str, Reply) {
        let length = if kind == Kind::Bytes { 4 << 20 } else { 300 };
        match self.roll(16) {
            0 => ("cut at once", Reply::cut(0)),
            1 | 2 => ("cut", Reply::cut(self.roll(length))),
            3 => ("reset", Reply::reset(self.roll(length))),
            4 => ("no head", Reply::hang_up()),
            5 => ("silent", Reply::stall(&self.silence())),
            6 => (
                "silent midway",
                Reply::stall_after(self.roll(length), &self.silence()),
            ),
            7 => ("429", Reply::status(429).header("Retry-After", "1")),
            8 => ("429 bare", Reply::status(429)),
            9 if kind != Kind::Link => ("401", Reply::status(401)),
            10 if kind != Kind::Bytes => ("half", Reply::half()),
            11 if kind != Kind::Link && self.roll(10) == 0 => ("404", Reply::status(404)),
            n => ("5xx", Reply::status([500, 502, 503, 504][n as usize % 4])),
        }
    }

    /// What can be wrong with content; each can be told from its head.
    fn wrong_bytes(&self) -> (&'static str, Reply) {
        match self.roll(10) {
            0 | 1 => ("403", Reply::status(403)),
            2 => ("410", Reply::status(410)),
            3 => ("other range", Reply::shifted(1 + self.roll(1000))),
            4 => ("other total", Reply::total(7)),
            5 => ("other size", Reply::resized(1 - 2 * self.roll(2) as i64)),
            6 => ("other etag", Reply::etag("\"another\"")),
            7 => ("no ranges", Reply::ignore_range()),
            8 => (
                "no ranges, cut",
                Reply::cut(self.roll(4 << 20)).and_ignore_range(),
            ),
            _ => ("416", Reply::status(416)),
        }
    }

    pub fn score(&self) -> String {
        let score = self.score.lock().unwrap();
        score.iter().fold(String::new(), |mut text, (name, count)| {
            let _ = write!(text, "{name} {count}, ");
            text
        })
    }
}
