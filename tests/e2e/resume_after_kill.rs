//! A process that is killed loses at most a quarter second of bytes, and nothing that it
//! acknowledged.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::agent::one;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

const LARGE: u64 = 24 << 20;
const RATE: u64 = 8 << 20;
/// The contract's quarter second, and a tenth for a busy machine, of a line with this rate; and
/// what is in the buffers of connections that are cut.
const BOUND: u64 = RATE * 35 / 100 + (512 << 10);

/// A rig on a slow line, with a download that got this many bytes.
fn begun(package: Package, bytes: u64) -> (Rig, String) {
    let rig = Rig::new(package);
    rig.origin.throttle(RATE);
    let id = rig.create();
    rig.origin.await_served(bytes);
    (rig, id)
}

fn kill_and_restart(rig: &mut Rig) {
    rig.agent.kill9();
    rig.agent.restart();
}

fn bytes_done(record: &Value) -> u64 {
    record["bytes_done"].as_u64().unwrap()
}

#[test]
fn a_large_file_goes_on_where_it_was() {
    let (mut rig, id) = begun(Package::new().file("large.mov", LARGE), LARGE / 2);
    kill_and_restart(&mut rig);
    let record = rig.agent.inspect(&id);
    assert_eq!(record["state"], "transferring", "it goes on by itself");
    rig.complete(&id);
    let twice = rig.origin.served() - LARGE;
    assert!(
        twice <= BOUND,
        "{twice} bytes fetched twice, {BOUND} allowed"
    );
}

#[test]
fn many_small_files_are_not_fetched_again() {
    let package = Package::new().many(400, 40_000);
    let size = package.size();
    let (mut rig, id) = begun(package, size / 2);
    kill_and_restart(&mut rig);
    rig.complete(&id);
    let twice = rig.origin.served() - size;
    assert!(
        twice <= BOUND,
        "{twice} bytes fetched twice, {BOUND} allowed"
    );
    assert_eq!(fs::read_dir(rig.dst().join("many")).unwrap().count(), 400);
}

#[test]
fn five_kills_in_a_row_harm_nothing() {
    let package = Package::new().file("large.mov", LARGE).many(100, 20_000);
    let size = package.size();
    let (mut rig, id) = begun(package, 1 << 20);
    for part in 1..=5 {
        rig.origin.await_served(size * part / 8);
        kill_and_restart(&mut rig);
    }
    rig.complete(&id);
    let twice = rig.origin.served() - size;
    assert!(twice <= 5 * BOUND, "{twice} bytes fetched twice");
}

/// Kills at moments that nobody chose; `HAUL_TEST_KILLS` says how many.
#[test]
fn kills_at_random_instants_harm_nothing() {
    let kills: u64 = std::env::var("HAUL_TEST_KILLS").map_or(25, |kills| kills.parse().unwrap());
    let package = Package::new()
        .file("large.mov", LARGE)
        .file("reel/b", 5 << 20)
        .file("empty", 0)
        .many(300, 20_000);
    let size = package.size();
    let mut rig = Rig::new(package);
    rig.origin.only_count();
    let rate = size / (kills / 4).max(1);
    rig.origin.throttle(rate);
    let id = rig.create();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_millis(random % 400));
        let before = rig.agent.inspect(&id);
        kill_and_restart(&mut rig);
        let after = rig.agent.inspect(&id);
        assert!(after["state"] == "transferring" || before["state"] != "transferring");
        let (before, after) = (bytes_done(&before), bytes_done(&after));
        assert!(
            after + rate / 2 + (512 << 10) >= before,
            "{before}, then {after}"
        );
    }
    rig.origin.unthrottle();
    rig.complete(&id);
    let twice = rig.origin.served() - size;
    let bound = kills * (rate * 35 / 100 + (512 << 10));
    assert!(
        twice <= bound,
        "{twice} bytes fetched twice, {bound} allowed"
    );
}

#[test]
fn a_clean_stop_loses_nothing() {
    let (mut rig, id) = begun(Package::new().file("large.mov", LARGE), LARGE / 2);
    let (status, _) = rig.agent.terminate();
    assert_eq!(status.code(), Some(0));
    rig.agent.restart();
    rig.complete(&id);
    let twice = rig.origin.served() - LARGE;
    assert!(twice <= 1 << 20, "{twice} bytes fetched twice");
}

#[test]
fn what_is_paused_stays_paused_and_keeps_its_bytes() {
    let (mut rig, id) = begun(Package::new().file("large.mov", LARGE), LARGE / 2);
    rig.agent.pause(&id).expect(200);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    let before = bytes_done(&rig.agent.inspect(&id));
    rig.agent.kill9();
    let requests = rig.origin.count(Kind::Bytes);
    rig.agent.restart();
    let record = rig.agent.inspect(&id);
    assert_eq!(record["state"], "paused");
    assert!(
        bytes_done(&record) + BOUND >= before,
        "{record}, {before} before"
    );
    assert_eq!(rig.origin.count(Kind::Bytes), requests);
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
    let twice = rig.origin.served() - LARGE;
    assert!(twice <= BOUND, "{twice} bytes fetched twice");
}

#[test]
fn an_acknowledged_post_survives() {
    let mut rig = Rig::new(Package::new().file("a", 1000));
    let gate = Gate::new();
    rig.origin.first(1, Kind::Listing, Reply::stall(&gate));
    let id = rig.create();
    kill_and_restart(&mut rig);
    // The stalled answer may have gone to either process.
    gate.open();
    rig.complete(&id);
}

#[test]
fn an_acknowledged_pause_survives() {
    let (mut rig, id) = begun(Package::new().file("large.mov", LARGE), 1 << 20);
    rig.agent.pause(&id).expect(200);
    kill_and_restart(&mut rig);
    assert_eq!(rig.agent.inspect(&id)["state"], "paused");
}

#[test]
fn an_acknowledged_resume_survives() {
    let (mut rig, id) = begun(Package::new().file("large.mov", LARGE), 1 << 20);
    rig.agent.pause(&id).expect(200);
    rig.agent.resume(&id).expect(200);
    kill_and_restart(&mut rig);
    assert_eq!(rig.agent.inspect(&id)["state"], "transferring");
    rig.origin.unthrottle();
    rig.complete(&id);
}

#[test]
fn an_acknowledged_delete_survives() {
    let (mut rig, id) = begun(Package::new().file("large.mov", LARGE), 1 << 20);
    rig.agent.delete(&one(&id)).expect(200);
    kill_and_restart(&mut rig);
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
    assert_eq!(tree::part_files(&rig.dst()), Vec::<PathBuf>::new());
}

#[test]
fn ends_survive_as_they_were() {
    let mut rig = Rig::new(Package::new().file("a", 1000).file("b", 10));
    let good = rig.create();
    rig.complete(&good);
    rig.origin
        .on(Kind::Address, |seen| match seen.is_for("F2") {
            true => Reply::status(404),
            false => Reply::serve(),
        });
    let bad = rig.agent.create(&rig.origin, &rig.dir().join("bad"));
    rig.agent.wait_state(&bad, "error");
    let before = [&good, &bad].map(|id| rig.agent.standing(id));
    rig.agent.kill9();
    let requests = rig.origin.ledger().read(|tally| tally.requests.len());
    rig.agent.restart();
    assert_eq!([&good, &bad].map(|id| rig.agent.standing(id)), before);
    let now = rig.origin.ledger().read(|tally| tally.requests.len());
    assert_eq!(now, requests, "what has ended asks for nothing");
    rig.origin.heal(Kind::Address);
    rig.agent.resume(&bad).expect(200);
    rig.agent.wait_state(&bad, "complete");
}

#[test]
fn the_order_of_the_list_and_every_record_survive() {
    let mut rig = Rig::new(Package::new().file("a", 10));
    let ids: Vec<String> = (0..12)
        .map(|number| {
            let dst = rig.dir().join(number.to_string());
            rig.agent.create(&rig.origin, &dst)
        })
        .collect();
    kill_and_restart(&mut rig);
    assert_eq!(rig.agent.ids(), ids);
    for id in &ids {
        rig.agent.wait_state(id, "complete");
    }
}

#[test]
fn the_password_survives() {
    let mut rig = Rig::new(Package::new().file("a", 10));
    rig.origin.require_password("open sesame");
    let gate = Gate::new();
    rig.origin.first(1, Kind::Bytes, Reply::stall(&gate));
    let id = rig.create_with(serde_json::json!({"password": "open sesame"}));
    rig.origin.await_requests(Kind::Bytes, 1);
    rig.agent.kill9();
    rig.origin.revoke_token();
    rig.agent.restart();
    rig.complete(&id);
}

/// A rig that was killed half way through one file, not yet started again; and its `.part`.
fn killed_half_way() -> (Rig, String, PathBuf) {
    let (mut rig, id) = begun(Package::new().file("d/large.mov", LARGE), LARGE / 2);
    rig.agent.kill9();
    rig.origin.unthrottle();
    let part = rig.dst().join("d/large.mov.part");
    assert!(part.exists());
    (rig, id, part)
}

#[test]
fn a_part_file_that_is_gone_is_fetched_again() {
    let (mut rig, id, part) = killed_half_way();
    fs::remove_file(part).unwrap();
    rig.agent.restart();
    rig.complete(&id);
}

#[test]
fn a_part_file_that_was_truncated_is_not_believed() {
    let (mut rig, id, part) = killed_half_way();
    let file = fs::OpenOptions::new().write(true).open(part).unwrap();
    file.set_len(1 << 20).unwrap();
    rig.agent.restart();
    rig.complete(&id);
}

#[test]
fn a_destination_that_is_gone_is_made_again() {
    let (mut rig, id, _) = killed_half_way();
    fs::remove_dir_all(rig.dst()).unwrap();
    rig.agent.restart();
    rig.complete(&id);
}

#[test]
fn content_that_changed_meanwhile_is_not_mixed() {
    let (mut rig, id, _) = killed_half_way();
    rig.origin.always(Kind::Bytes, Reply::content_of(77));
    rig.agent.restart();
    rig.agent.wait_state(&id, "complete");
    tree::assert_file(&rig.dst().join("d/large.mov"), 77, LARGE);
}
