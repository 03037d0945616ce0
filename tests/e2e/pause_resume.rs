//! Pause and resume: when bytes stop, what stays, and who may do what when.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::agent::{one, row};
use crate::support::http;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

const LARGE: u64 = 24 << 20;
const RATE: u64 = 8 << 20;

fn large() -> Package {
    Package::new().file("large.mov", LARGE)
}

/// A rig whose download has begun on a slow line.
fn begun() -> (Rig, String) {
    let rig = Rig::new(large());
    rig.origin.throttle(RATE);
    let id = rig.create();
    rig.origin.await_served(RATE / 2);
    (rig, id)
}

#[test]
fn no_byte_is_written_a_second_after_the_answer() {
    let (rig, id) = begun();
    let summary = rig.agent.pause(&id).expect(200);
    let answered = Instant::now();
    assert_eq!(summary["state"], "paused");
    assert!(summary.get("files").is_none(), "a summary has no files");
    assert!(
        rig.origin.is_idle_within(Duration::from_secs(1)),
        "connections are given up"
    );
    // The contract's second, to its end.
    thread::sleep(Duration::from_secs(1).saturating_sub(answered.elapsed()));
    let part = &tree::part_files(&rig.dst())[0];
    let (bytes, requests) = (fs::read(part).unwrap(), rig.origin.count(Kind::Bytes));
    thread::sleep(Duration::from_millis(300));
    assert!(bytes == fs::read(part).unwrap(), "{} grew", part.display());
    assert_eq!(rig.origin.count(Kind::Bytes), requests);
    let record = rig.agent.inspect(&id);
    assert_eq!(record["state"], "paused");
    assert_eq!(row(&record, "F1")["state"], "paused");
}

#[test]
fn resume_goes_on_from_what_was_received() {
    let (rig, id) = begun();
    rig.agent.pause(&id).expect(200);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    let paused = rig.agent.inspect(&id)["bytes_done"].as_u64().unwrap();
    assert!(paused > 0);
    let summary = rig.agent.resume(&id).expect(200);
    assert_eq!(summary["state"], "transferring");
    assert!(summary["bytes_done"].as_u64().unwrap() >= paused);
    rig.complete(&id);
    // What was on its way when the connections were given up is lost: their buffers, no more.
    let twice = rig.origin.served() - LARGE;
    assert!(twice < 2 << 20, "{twice} bytes fetched twice");
}

#[test]
fn bytes_done_never_goes_backwards() {
    let (rig, id) = begun();
    let mut last = 0;
    for _ in 0..3 {
        rig.agent.pause(&id).expect(200);
        for _ in 0..5 {
            let now = rig.agent.inspect(&id)["bytes_done"].as_u64().unwrap();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        rig.agent.resume(&id).expect(200);
        let record = rig.agent.wait(&id, "progress", |record| {
            let now = record["bytes_done"].as_u64().unwrap();
            assert!(now >= last, "{now} after {last}");
            now > last
        });
        last = record["bytes_done"].as_u64().unwrap();
    }
    rig.origin.unthrottle();
    rig.complete(&id);
}

#[test]
fn pausing_twice_and_resuming_twice_changes_nothing() {
    let (rig, id) = begun();
    rig.agent.pause(&id).expect(200);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    assert_eq!(rig.agent.pause(&id).expect(200)["state"], "paused");
    rig.agent.resume(&id).expect(200);
    assert_eq!(rig.agent.resume(&id).expect(200)["state"], "transferring");
    rig.origin.unthrottle();
    rig.complete(&id);
}

#[test]
fn a_complete_download_can_be_neither_paused_nor_resumed() {
    let rig = Rig::new(Package::new().file("a", 1));
    let id = rig.create();
    rig.complete(&id);
    let before = rig.agent.inspect(&id);
    rig.agent.pause(&id).assert_error(409, "invalid_transition");
    rig.agent
        .resume(&id)
        .assert_error(409, "invalid_transition");
    assert_eq!(rig.agent.inspect(&id), before);
}

#[test]
fn an_error_cannot_be_paused_and_resume_retries_its_failed_files_only() {
    let rig = Rig::new(Package::new().file("good", 1000).file("gone", 1000));
    rig.origin
        .on(Kind::Address, |seen| match seen.is_for("F2") {
            true => Reply::status(404),
            false => Reply::serve(),
        });
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "file_failed");
    rig.agent.pause(&id).assert_error(409, "invalid_transition");
    rig.origin.heal(Kind::Address);
    let before = rig.origin.requests_about("F1");
    rig.agent.resume(&id).expect(200);
    let record = rig.complete(&id);
    assert_eq!(record["error"], Value::Null);
    assert_eq!(record["files_failed"], 0);
    assert_eq!(rig.origin.requests_about("F1"), before);
}

#[test]
fn no_body_is_fine_with_and_without_a_content_type() {
    let (rig, id) = begun();
    let post = |action: &str, headers: &[(&str, &str)], body: Option<&str>| {
        let target = format!("{}/{action}", one(&id));
        http::send(rig.agent.address, "POST", &target, headers, body).expect(200)
    };
    let json = [("Content-Type", "application/json")];
    post("pause", &json, None);
    post("resume", &json, Some(""));
    post("pause", &[], Some(""));
    post("resume", &[], None);
    rig.origin.unthrottle();
    rig.complete(&id);
}

#[test]
fn pause_reaches_a_silent_connection() {
    let rig = Rig::new(Package::new().file("a", 500_000));
    let gate = Gate::new();
    let first = Reply::stall_after(100_000, &gate);
    rig.origin.first(1, Kind::Bytes, first);
    let id = rig.create();
    rig.origin.await_served(100_000);
    let start = Instant::now();
    assert_eq!(rig.agent.pause(&id).expect(200)["state"], "paused");
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "{took:?}, silence lasts 30 s"
    );
}

#[test]
fn pause_works_before_the_listing_was_read() {
    let rig = Rig::new(Package::new().file("a", 100).file("b", 0));
    let gate = Gate::new();
    rig.origin.first(1, Kind::Listing, Reply::stall(&gate));
    let id = rig.create();
    rig.origin.await_requests(Kind::Listing, 1);
    rig.agent.pause(&id).expect(200);
    gate.open();
    assert_eq!(rig.agent.inspect(&id)["state"], "paused");
    assert_eq!(rig.origin.count(Kind::Bytes), 0);
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

#[test]
fn a_paused_download_shows_no_error_and_retries_nothing() {
    let rig = Rig::new(Package::new().file("a", 100));
    rig.origin.always(Kind::Bytes, Reply::status(503));
    let id = rig.create();
    rig.agent
        .wait(&id, "a fault", |record| !record["error"].is_null());
    assert_eq!(rig.agent.pause(&id).expect(200)["error"], Value::Null);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    let requests = rig.origin.count(Kind::Bytes);
    // Longer than the first two retries would wait.
    let more = rig
        .origin
        .ledger()
        .wait_within(Duration::from_secs(2), |tally| {
            tally.count(Kind::Bytes) > requests
        });
    assert!(!more, "a paused download asked again");
    rig.origin.heal(Kind::Bytes);
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}
