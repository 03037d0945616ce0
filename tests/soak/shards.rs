//! Eight nodes that bring one package into one folder, killed at random, and now and then another
//! number of them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::chaos::Dice;
use crate::setting;
use crate::support::nodes::Nodes;
use crate::support::package::Package;
use crate::support::process::Running;

/// All nodes together, in bytes per second.
const RATE: u64 = 12 << 20;
const MOST: u64 = 8;
/// So many times its bytes may be fetched of a package that takes five minutes or more: a shorter
/// one has as many changes of the number of nodes, each of which costs the same.
const HEADROOM: f64 = 1.05;

struct Node {
    running: Running,
    index: usize,
    done: bool,
}

/// What a run of the nodes has seen.
#[derive(Default)]
struct Score {
    kills: u64,
    stops: u64,
    changes: u64,
}

/// One large file that every node brings a part of, some that are divided at the edges, and many
/// small ones; together what the line carries in so many seconds.
fn package(seconds: u64) -> Package {
    let bytes = seconds * RATE;
    let medium = bytes / 40;
    (0..12)
        .fold(Package::new().file("large.mov", bytes / 2), |package, n| {
            package.file(&format!("reel/{n}.wav"), medium)
        })
        .many(400, bytes / 5 / 400)
}

#[test]
fn nodes_that_are_killed_bring_every_byte_about_once() {
    let seconds = setting("HAUL_SOAK_SECONDS").unwrap_or(6).max(6);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("HAUL_SOAK_SEED").unwrap_or(now.as_secs());
    println!("{seconds} s of nodes with seed {seed}");
    let nodes = Nodes::new(package(seconds));
    nodes.origin.only_count();
    nodes.origin.throttle(RATE);
    let mut dice = Dice::new(seed);
    let mut score = Score::default();
    let mut count = MOST as usize;
    let end = Instant::now() + Duration::from_secs(4 * seconds + 60);
    // Another number of nodes costs each what it had begun, and comes a few times only.
    let mut change_at = Instant::now() + Duration::from_secs(seconds / 3);
    while !play(&nodes, count, change_at, &mut dice, &mut score) {
        assert!(Instant::now() < end, "not done; seed {seed}");
        count = 1 + dice.roll(MOST) as usize;
        score.changes += 1;
        change_at = Instant::now() + Duration::from_secs(seconds / 3);
    }
    nodes.assert_whole();
    let ratio = nodes.origin.served() as f64 / nodes.origin.package().size() as f64;
    let twice = nodes.origin.served() - nodes.origin.package().size();
    println!(
        "{twice} bytes twice; {} killed, {} stopped, {} changes of their number: {ratio:.3} of the bytes fetched",
        score.kills, score.stops, score.changes
    );
    // The line's last second and a half, where shares fall to others; else what was on its way.
    let most = score.changes * RATE * 3 / 2 + (score.kills + score.stops) * (2 << 20);
    assert!(twice <= most, "{twice} of {most} with seed {seed}");
    assert!(
        seconds < 300 || ratio <= HEADROOM,
        "{ratio} with seed {seed}"
    );
}

fn start(nodes: &Nodes, index: usize, count: usize) -> Node {
    let running =
        Running::start(&mut nodes.shard(&format!("{index}/{count}"), &["--workers", "4"]));
    Node {
        running,
        index,
        done: false,
    }
}

/// Lets so many nodes work and kills one of them now and then. Whether all were done before the
/// time was over; then none is left.
fn play(nodes: &Nodes, count: usize, until: Instant, dice: &mut Dice, score: &mut Score) -> bool {
    let mut all: Vec<Node> = (0..count).map(|index| start(nodes, index, count)).collect();
    let mut next_kill = pause(dice);
    loop {
        for node in all.iter_mut().filter(|node| !node.done) {
            if node.running.has_ended() {
                let code = node.running.wait_exit().code();
                assert_eq!(code, Some(0), "shard {}/{count}", node.index);
                node.done = true;
            }
        }
        if all.iter().all(|node| node.done) {
            return true;
        }
        if Instant::now() >= until {
            stop_all(&mut all, dice, score);
            return false;
        }
        if Instant::now() >= next_kill {
            let chosen = dice.roll(count as u64) as usize;
            if !all[chosen].done {
                all[chosen].running.kill9();
                score.kills += 1;
                all[chosen] = start(nodes, chosen, count);
            }
            next_kill = pause(dice);
        }
        // Nothing tells of the end of one of several processes.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pause(dice: &mut Dice) -> Instant {
    Instant::now() + Duration::from_millis(500 + dice.roll(8000))
}

/// As a scheduler that takes its nodes back: with a warning, or without.
fn stop_all(all: &mut [Node], dice: &mut Dice, score: &mut Score) {
    let warns = dice.roll(2) == 0;
    for node in all.iter_mut().filter(|node| !node.done) {
        match warns {
            true => {
                node.running.signal(Signal::TERM);
                node.running.wait_exit();
                score.stops += 1;
            }
            false => {
                node.running.kill9();
                score.kills += 1;
            }
        }
    }
}
