//! Settings: the rate limit, the number of workers and the schedule, changed while the agent runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Setup};
use crate::support::http::{self, Answer};
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

const SETTINGS: &str = "/api/v1/settings";
const MIB: u64 = 1 << 20;

fn put(agent: &Agent, settings: &Value) -> Answer {
    let headers = [("Content-Type", "application/json")];
    let body = settings.to_string();
    http::send(agent.address, "PUT", SETTINGS, &headers, Some(&body))
}

/// A schedule by which this limit holds all the time.
fn always(rate_limit: Value) -> Value {
    let week = json!(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
    json!([
        {"days": week, "from": "12:00", "to": "11:59", "utc_offset": "+05:45", "rate_limit": rate_limit},
        {"days": week, "from": "00:00", "to": "24:00", "utc_offset": "+00:00", "rate_limit": rate_limit},
    ])
}

#[test]
fn flags_are_the_defaults_of_what_was_never_set() {
    let mut agent = Setup::new()
        .args(&["--rate-limit", "500k", "--workers", "3"])
        .start();
    let flags = json!({"rate_limit": 500_000, "workers": 3, "schedule": [],
        "effective_rate_limit": 500_000});
    assert_eq!(agent.get(SETTINGS).expect(200), flags);
    let set = put(&agent, &json!({"rate_limit": 700_000})).expect(200);
    assert_eq!(set["rate_limit"], 700_000);
    assert_eq!(set["effective_rate_limit"], 700_000);
    assert_eq!(set["workers"], 3);
    // What was answered is on disk.
    agent.kill9();
    agent.restart();
    assert_eq!(agent.get(SETTINGS).expect(200), set);
    put(&agent, &json!({"rate_limit": null})).expect(200);
    agent.terminate();
    agent.restart();
    let lifted = agent.get(SETTINGS).expect(200);
    assert_eq!(lifted["rate_limit"], Value::Null);
    assert!(
        agent.logs().contains("--rate-limit"),
        "the flag is said to be ignored"
    );
}

#[test]
fn a_refused_change_changes_nothing() {
    let agent = Setup::new().start();
    let before = agent.get(SETTINGS).expect(200);
    for wrong in [
        json!({"rate_limit": "10X"}),
        json!({"workers": 0}),
        json!({"workers": 4, "speed": 1}),
        json!({"workers": 4, "schedule": [{"days": ["mon"], "from": "1:00", "to": "2:00",
            "rate_limit": 1}]}),
    ] {
        put(&agent, &wrong).assert_error(400, "invalid_request");
    }
    assert_eq!(agent.get(SETTINGS).expect(200), before);
}

#[test]
fn the_rate_is_held_and_lifting_it_takes_effect_at_once() {
    const RATE: u64 = 2 * MIB;
    const SIZE: u64 = 160 * MIB;
    let rig = Rig::with(
        Package::new().file("large.mov", SIZE),
        &["--rate-limit", &RATE.to_string(), "--workers", "2"],
    );
    let id = rig.create();
    // Until then buffers on both sides are filled.
    rig.origin.await_served(4 * MIB);
    let (start, from) = (Instant::now(), rig.origin.served());
    rig.origin.await_served(from + 6 * MIB);
    let took = start.elapsed();
    // Three seconds' worth; a slow machine may take longer.
    assert!(took > Duration::from_millis(1800), "too fast: {took:?}");
    // What is left would take more than a minute, twice as long as this test waits for anything.
    put(&rig.agent, &json!({"rate_limit": 0})).expect(200);
    rig.complete(&id);
}

#[test]
fn the_schedule_wins_over_the_plain_limit() {
    let mut rig = Rig::new(Package::new().file("a", 40 * MIB));
    let set = json!({"rate_limit": 5_000_000, "schedule": always(json!(1000))});
    let set = put(&rig.agent, &set).expect(200);
    assert_eq!(set["effective_rate_limit"], 1000);
    assert_eq!(set["schedule"], always(json!(1000)));
    let id = rig.create();
    rig.agent
        .wait(&id, "a byte", |record| record["bytes_done"] != 0);
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.get(SETTINGS).expect(200), set);
    // 40 MiB at 1000 bytes per second would take half a day.
    let set = put(&rig.agent, &json!({"schedule": always(json!(null))})).expect(200);
    assert_eq!(set["effective_rate_limit"], Value::Null);
    assert_eq!(set["rate_limit"], 5_000_000);
    rig.complete(&id);
}

#[test]
fn a_pause_reaches_workers_that_wait_for_their_turn() {
    let rig = Rig::with(Package::new().file("a", 40 * MIB), &["--rate-limit", "1"]);
    let id = rig.create();
    rig.agent
        .wait(&id, "a byte", |record| record["bytes_done"] != 0);
    rig.agent.pause(&id).expect(200);
    assert!(
        rig.origin.is_idle_within(Duration::from_secs(1)),
        "connections are given up"
    );
    put(&rig.agent, &json!({"rate_limit": null})).expect(200);
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

#[test]
fn more_workers_begin_at_once() {
    let rig = Rig::with(Package::new().many(30, 1000), &["--workers", "1"]);
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let id = rig.create();
    rig.origin.await_requests(Kind::Bytes, 1);
    put(&rig.agent, &json!({"workers": 5})).expect(200);
    rig.origin
        .ledger()
        .wait("five connections", |tally| tally.active == 5);
    rig.origin.heal(Kind::Bytes);
    gate.open();
    rig.complete(&id);
    assert_eq!(rig.origin.peak(), 5);
}

#[test]
fn surplus_workers_leave_at_once_and_nothing_is_lost() {
    let rig = Rig::with(
        Package::new().file("large.mov", 64 * MIB),
        &["--workers", "8"],
    );
    // Each range, 4 MiB long, takes longer than this test waits for anything.
    rig.origin.throttle(MIB / 2);
    let id = rig.create();
    rig.origin
        .ledger()
        .wait("eight connections", |tally| tally.active == 8);
    put(&rig.agent, &json!({"workers": 2})).expect(200);
    rig.origin
        .ledger()
        .wait("two connections", |tally| tally.active <= 2);
    let from = rig.origin.served();
    let more = |tally: &_| crate::support::origin::Tally::total(tally) >= from + MIB / 4;
    rig.origin.ledger().wait("more bytes", more);
    let active = rig.origin.ledger().read(|tally| tally.active);
    assert!(active <= 2, "{active} connections");
    put(&rig.agent, &json!({"workers": 8})).expect(200);
    rig.origin
        .ledger()
        .wait("eight connections", |tally| tally.active == 8);
    rig.origin.unthrottle();
    rig.complete(&id);
}
