//! An upstream that is out of order at the very moment of POST: a record, 201, and patience.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{Agent, DOWNLOADS, Setup, row};
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

use super::two;

fn assert_retrying(record: &Value) {
    assert_eq!(record["state"], "transferring");
    assert_eq!(
        record["error"]["code"], "upstream_unavailable",
        "{record:#}"
    );
    assert!(record["error"]["retry_at"].is_string(), "{record:#}");
    assert_eq!(record["name"], Value::Null);
    assert_eq!(record["package_id"], Value::Null);
    assert_eq!(record["bytes_total"], Value::Null);
    assert_eq!(record["files_total"], Value::Null);
}

#[test]
fn an_upstream_that_is_down_is_waited_for() {
    let mut origin = Origin::down(two());
    let agent = Agent::of(&origin);
    let dir = tempfile::tempdir().unwrap();
    let id = agent.create(&origin, dir.path());
    let record = agent.wait(&id, "a fault", |record| !record["error"].is_null());
    assert_retrying(&record);
    origin.come_up();
    let record = agent.wait_state(&id, "complete");
    assert_eq!(record["error"], Value::Null);
    tree::assert_file(&dir.path().join("good"), 1, 5000);
}

#[test]
fn an_upstream_that_is_down_is_waited_for_across_a_kill() {
    let mut origin = Origin::down(two());
    let mut agent = Agent::of(&origin);
    let dir = tempfile::tempdir().unwrap();
    let id = agent.create(&origin, dir.path());
    agent.kill9();
    agent.restart();
    origin.come_up();
    agent.wait_state(&id, "complete");
    tree::assert_file(&dir.path().join("bad"), 2, 5000);
}

#[test]
fn transient_refusals_of_a_link_leave_a_record() {
    for fault in [
        Reply::status(500),
        Reply::status(503),
        Reply::status(429),
        Reply::hang_up(),
    ] {
        let rig = Rig::new(two());
        rig.origin.always(Kind::Link, fault);
        let summary = rig.agent.order(&rig.order()).expect(201);
        let id = summary["download_id"].as_str().unwrap();
        assert_retrying(&summary);
        rig.origin.heal(Kind::Link);
        rig.complete(id);
    }
}

#[test]
fn the_attempt_at_post_is_the_first_one_and_the_next_has_its_time() {
    let asks = Reply::status(429).header("Retry-After", "2");
    for (fault, wait) in [
        (Reply::status(503), Duration::from_millis(450)),
        (asks, Duration::from_secs(2)),
        (Reply::json("nonsense"), Duration::from_millis(450)),
    ] {
        let rig = Rig::new(two());
        rig.origin.first(1, Kind::Link, fault);
        let start = Instant::now();
        let summary = rig.agent.order(&rig.order()).expect(201);
        assert_retrying(&summary);
        rig.origin.await_requests(Kind::Link, 2);
        let took = start.elapsed();
        assert!(took >= wait, "{took:?}");
        rig.complete(summary["download_id"].as_str().unwrap());
    }
}

#[test]
fn a_silent_upstream_holds_up_a_post_for_ten_seconds_at_most() {
    let rig = Rig::new(two());
    let gate = Gate::new();
    rig.origin.always(Kind::Link, Reply::stall(&gate));
    let start = Instant::now();
    let id = rig.create();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    rig.origin.heal(Kind::Link);
    gate.open();
    rig.complete(&id);
}

#[test]
fn others_are_answered_while_a_post_waits() {
    let rig = Rig::new(two());
    let gate = Gate::new();
    rig.origin.first(1, Kind::Link, Reply::stall(&gate));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| rig.create());
        rig.origin.await_requests(Kind::Link, 1);
        let start = Instant::now();
        rig.agent.get(DOWNLOADS).expect(200);
        let other = rig.agent.create(&rig.origin, &rig.dir().join("other"));
        rig.agent.wait_state(&other, "complete");
        assert!(start.elapsed() < Duration::from_secs(8));
        gate.open();
        let id = waiting.join().unwrap();
        rig.complete(&id);
    });
}

#[test]
fn a_link_that_turns_out_to_be_gone_is_an_error() {
    let rig = Rig::new(two());
    rig.origin.always(Kind::Link, Reply::status(503));
    let id = rig.create();
    rig.origin.refuse_link(404);
    rig.origin.heal(Kind::Link);
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "link_not_found");
}

#[test]
fn an_upstream_that_stays_down_is_an_error_in_the_end() {
    let origin = Origin::down(two());
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--retry-for", "1"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let id = agent.create(&origin, dir.path());
    let record = agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "upstream_unavailable");
    assert_eq!(record["error"]["recoverable"], true);
}

#[test]
fn only_links_of_known_hosts_cause_requests() {
    let rig = Rig::new(two());
    let stranger = Origin::elsewhere(two());
    let order = json!({"url": stranger.link(), "dst_folder": rig.dst()});
    rig.agent
        .order(&order)
        .assert_error(400, "unsupported_link_host");
    let requests = Kind::ALL.map(|kind| stranger.count(kind));
    assert_eq!(requests, [0; 5]);
}

#[test]
fn a_name_that_cannot_be_resolved_is_waited_for() {
    // RFC 6761, 6.4: this one never can.
    let pair = "http://haul.invalid=http://haul.invalid/v1";
    let agent = Setup::new().args(&["--origin", pair]).start();
    let dir = tempfile::tempdir().unwrap();
    let order = json!({"url": "http://haul.invalid/A?secret=b", "dst_folder": dir.path()});
    let summary = agent.order(&order).expect(201);
    let id = summary["download_id"].as_str().unwrap();
    let record = agent.wait(id, "a fault", |record| !record["error"].is_null());
    assert_retrying(&record);
}

#[test]
fn a_password_that_is_wanted_later_is_named_as_records_name_it() {
    let rig = Rig::new(two());
    rig.origin.always(Kind::Link, Reply::status(503));
    let id = rig.create();
    rig.origin.require_password("p");
    rig.origin.heal(Kind::Link);
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "link_password_wrong", "{record:#}");
    let message = record["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("delete") && message.contains("post the link again"),
        "{message}"
    );
}

#[test]
fn a_link_that_is_refused_later_is_what_it_would_have_been_at_post() {
    for status in [400, 402, 409, 418, 451] {
        let rig = Rig::new(two());
        rig.origin.always(Kind::Link, Reply::status(503));
        let id = rig.create();
        rig.origin.always(Kind::Link, Reply::status(status));
        let record = rig.agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], "link_not_found", "{record:#}");
        let message = record["error"]["message"].as_str().unwrap();
        assert!(message.contains("refuses the link"), "{message}");
        assert!(message.contains(&status.to_string()), "{message}");
    }
}

/// A package of one large file of which half has arrived.
fn half_way() -> (Rig, String) {
    let rig = Rig::with(Package::new().file("x", 4 << 20), &["--workers", "1"]);
    rig.origin.throttle(2 << 20);
    let id = rig.create();
    rig.origin.await_served(2 << 20);
    (rig, id)
}

#[test]
fn a_link_is_read_once_through_pauses_and_restarts() {
    let (mut rig, id) = half_way();
    rig.agent.pause(&id).expect(200);
    rig.origin.refuse_link(410);
    rig.agent.resume(&id).expect(200);
    rig.agent
        .wait(&id, "bytes", |record| record["bytes_per_second"] != 0);
    rig.agent.kill9();
    rig.agent.restart();
    rig.origin.unthrottle();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Link), 1);
    let shown = rig.agent.inspect(&id).to_string() + &rig.agent.logs();
    assert!(!shown.contains(crate::support::origin::TOKEN), "{shown}");
}

#[test]
fn a_token_that_is_refused_after_a_restart_is_renewed_and_kept() {
    let (mut rig, id) = half_way();
    rig.agent.kill9();
    rig.origin.revoke_token();
    rig.origin.expire_addresses();
    rig.agent.restart();
    rig.origin.await_served(3 << 20);
    assert_eq!(rig.origin.count(Kind::Link), 2);
    rig.agent.kill9();
    rig.agent.restart();
    rig.origin.unthrottle();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Link), 2, "the new one was kept");
}

#[test]
fn what_a_storage_server_says_reaches_the_user() {
    let rig = Rig::new(two());
    let refusal = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Key>secret</Key></Error>";
    rig.origin.always(
        Kind::Bytes,
        Reply::raw(move |out| {
            let length = refusal.len();
            write!(
                out,
                "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{refusal}"
            )
        }),
    );
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    let file = row(&record, "F1");
    let message = file["error"]["message"].as_str().unwrap();
    assert!(message.contains("(status 404: NoSuchKey)"), "{message}");
}
