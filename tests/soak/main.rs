//! Faults at every upstream call, callers that change their minds, and a process that is killed
//! again and again: in the end every file is equal, and nothing has leaked.
//!
//! `HAUL_SOAK_SECONDS` (default 6) and `HAUL_SOAK_SEED` are set by `scripts/soak`.
#![forbid(unsafe_code)]

mod chaos;
mod player;
mod shards;
mod vitals;

#[allow(
    dead_code,
    unused_imports,
    reason = "it serves the end-to-end tests, too"
)]
#[path = "../e2e/support/mod.rs"]
mod support;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chaos::Chaos;
use player::Player;
use support::agent::Setup;
use support::origin::Origin;
use support::package::{Entry, Package};
use vitals::Vitals;

const WORKERS: usize = 8;
/// All connections together; more would only measure this machine.
const RATE: u64 = 48 << 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Large, small, empty, oddly named: something of everything.
fn mixed() -> Package {
    Package::new()
        .file("large.mov", 20 << 20)
        .many(150, 20_000)
        .file("reel/a.wav", 9 << 20)
        .file("reel/b.wav", 3 << 20)
        .file("empty", 0)
        .entry(Entry::new("../../etc", "passwd", 70_000))
        .entry(Entry::new("a\u{0}b/..//c", "x\ny", 1_000_001))
        .entry(Entry::new("twice", "same", 5000))
        .entry(Entry::new("twice", "same", 6000))
        .entry(Entry::new("twice", "same.part", 7000))
        .entry(Entry::new("", &"long".repeat(100), 8000))
        .entry(Entry::new("bad", "infected", 100).infected())
}

fn agent(origin: &Origin) -> Setup {
    let workers = WORKERS.to_string();
    let args = ["--workers", &workers, "--silence-timeout", "2"];
    Setup::new().origin(origin).args(&args)
}

#[test]
fn nothing_is_lost_and_nothing_leaks() {
    let seconds = setting("HAUL_SOAK_SECONDS").unwrap_or(6);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("HAUL_SOAK_SEED").unwrap_or(now.as_secs());
    println!("{seconds} s of soak with seed {seed}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let origin = Origin::new(mixed());
    origin.only_count();
    origin.throttle(RATE);
    let chaos = Chaos::let_loose(&origin, seed);
    thread::scope(|scope| {
        let mortal = scope.spawn(|| {
            let mut player = Player::new(&origin, agent(&origin), seed ^ 1);
            player.play(end, true, |_| {});
            player.finish(&chaos);
            println!("killed and restarted: {}", player.score());
        });
        let enduring = scope.spawn(|| {
            let mut player = Player::new(&origin, agent(&origin), seed ^ 2);
            let mut vitals = Vitals::of(player.pid(), seconds);
            player.play(end, false, |pid| vitals.look(pid));
            player.finish(&chaos);
            println!("never restarted: {}; {vitals}", player.score());
            vitals.assert_sound(player.pid(), WORKERS);
        });
        chaos.keep_going(&[&mortal, &enduring]);
        for player in [mortal, enduring] {
            if let Err(panic) = player.join() {
                println!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    });
    println!("faults: {}", chaos.score());
}
