//! Workers go to the highest priority that has work.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::agent::{Agent, one};
use crate::support::http::{self, Answer};
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

fn patch(agent: &Agent, id: &str, body: &str) -> Answer {
    let headers = [("Content-Type", "application/json")];
    http::send(agent.address, "PATCH", &one(id), &headers, Some(body))
}

#[test]
fn a_priority_can_be_changed_in_any_state_and_survives_a_kill() {
    let mut rig = Rig::new(Package::new().file("a", 10));
    let id = rig.create();
    assert_eq!(rig.complete(&id)["priority"], 0);
    let summary = patch(&rig.agent, &id, r#"{"priority": -1000}"#).expect(200);
    assert_eq!(summary["priority"], -1000);
    assert_eq!(summary["state"], "complete");
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.inspect(&id)["priority"], -1000);
}

#[test]
fn what_is_no_priority_is_refused() {
    let rig = Rig::new(Package::new().file("a", 10));
    let id = rig.create();
    rig.complete(&id);
    for body in [
        "{}",
        r#"{"priority": null}"#,
        r#"{"priority": 1001}"#,
        r#"{"priority": "1"}"#,
        r#"{"priority": 1, "state": "paused"}"#,
    ] {
        patch(&rig.agent, &id, body).assert_error(400, "invalid_request");
    }
    patch(&rig.agent, "01A", r#"{"priority": 1}"#).assert_error(404, "download_not_found");
    assert_eq!(rig.agent.inspect(&id)["priority"], 0);
}

/// With one worker, whose first file waits at the origin, what comes next is known for certain.
#[test]
fn the_higher_priority_comes_next_and_the_lower_one_after_it() {
    let rig = Rig::with(Package::new().many(40, 400_000), &["--workers", "1"]);
    let (gate, rest) = (Gate::new(), Gate::new());
    let asked = AtomicUsize::new(0);
    let (first, later) = (gate.clone(), rest.clone());
    // What comes after the first 50 requests waits, so that the lower one, which has no more than
    // 10 of them, is not done before it is looked at. With less for the higher one, that is never
    // complete.
    rig.origin.on(Kind::Bytes, move |_| {
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::stall(&first),
            1..50 => Reply::serve(),
            _ => Reply::stall(&later),
        }
    });
    let low = rig.create_with(json!({"priority": -1}));
    rig.origin.await_requests(Kind::Bytes, 1);
    let dst = rig.dir().join("high");
    let high = rig
        .agent
        .create_with(&rig.origin, &dst, json!({"priority": 5}));
    let listed = |record: &Value| !record["files_total"].is_null();
    rig.agent.wait(&high, "be listed", listed);
    gate.open();
    rig.agent.wait_state(&high, "complete");
    // It had a few files on their way to the worker before, and gets no other until the higher one
    // has all of its own.
    let record = rig.agent.inspect(&low);
    let done = record["files_complete"].as_u64().unwrap();
    assert!(done <= 10, "{done} files of the lower priority");
    rest.open();
    rig.complete(&low);
}

/// What already waits for the worker gives way, too.
#[test]
fn what_was_given_out_before_waits_behind_a_higher_priority() {
    let package = Package::new().many(4, 4 << 20);
    let rig = Rig::with(package, &["--workers", "1"]);
    rig.origin.throttle(400_000);
    let chunk = json!({"priority": 0, "chunk_size": 1 << 20});
    let low = rig.create_with(chunk);
    rig.origin.await_served(100_000);
    let dst = rig.dir().join("high");
    let order = json!({"priority": 5, "chunk_size": 1 << 20});
    let high = rig.agent.create_with(&rig.origin, &dst, order);
    let begun = |record: &Value| record["bytes_done"] != 0;
    rig.agent.wait(&high, "get bytes", begun);
    let before = rig.agent.inspect(&low)["bytes_done"].as_u64().unwrap();
    assert!(before < 1 << 20, "{before} bytes of the lower priority");
    rig.origin.unthrottle();
    rig.agent.wait_state(&high, "complete");
    rig.complete(&low);
}

#[test]
fn fewer_workers_are_the_higher_priorities() {
    let rig = Rig::with(Package::new().many(4, 4 << 20), &["--workers", "24"]);
    let headers = [("Content-Type", "application/json")];
    let fewer = Some(r#"{"workers": 1}"#);
    http::send(
        rig.agent.address,
        "PUT",
        "/api/v1/settings",
        &headers,
        fewer,
    )
    .expect(200);
    rig.origin.throttle(400_000);
    let chunk = json!({"chunk_size": 1 << 20});
    let low = rig.create_with(chunk.clone());
    rig.origin.await_served(100_000);
    let dst = rig.dir().join("high");
    let high = rig.agent.create_with(
        &rig.origin,
        &dst,
        json!({"priority": 5, "chunk_size": 1 << 20}),
    );
    let begun = |record: &Value| record["bytes_done"].as_u64().unwrap() > (3 << 20) / 2;
    rig.agent.wait(&high, "get more than a range", begun);
    let before = rig.agent.inspect(&low)["bytes_done"].as_u64().unwrap();
    assert!(before < 1 << 20, "{before} bytes of the lower priority");
    rig.origin.unthrottle();
    rig.agent.wait_state(&high, "complete");
    rig.complete(&low);
}
