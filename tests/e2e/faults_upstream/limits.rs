//! Servers that take only so many requests.

use std::time::{Duration, Instant};

use crate::support::agent::Setup;
use crate::support::origin::{Gate, Kind, Origin, Reply, Seen};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// Asserts that of the requests for bytes that came more than a second after the first refusal, one
/// in twenty was refused at most.
fn assert_few_refused(rig: &Rig) {
    let refusals = rig.origin.refusals();
    let first = *refusals.first().expect("there were too many at first");
    let is_late = |at: Instant| at > first + Duration::from_secs(1);
    let requests = rig.origin.requests(Kind::Bytes);
    let late = requests.iter().filter(|seen: &&Seen| is_late(seen.at));
    let late = late.count();
    let refused = refusals.iter().filter(|&&at| is_late(at)).count();
    assert!(late >= 60, "{late} requests after the first second");
    assert!(refused * 20 <= late, "{refused} of {late} were refused");
}

#[test]
fn a_server_that_takes_three_requests_at_once_refuses_few() {
    let rig = Rig::with(Package::new().many(120, 50_000), &["--workers", "24"]);
    rig.origin.throttle(1_000_000);
    rig.origin.take_at_once(3);
    let id = rig.create();
    rig.complete(&id);
    assert_few_refused(&rig);
}

#[test]
fn workers_that_wait_for_a_host_are_there_for_another() {
    let limited = Origin::new(Package::new().many(64, 300_000));
    let gate = Gate::new();
    limited.always(Kind::Bytes, Reply::stall(&gate));
    limited.take_at_once(1);
    let quick = Origin::new(Package::new().many(5, 5000));
    let agent = Setup::new()
        .origin(&limited)
        .origin(&quick)
        .args(&["--workers", "4", "--silence-timeout", "300"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let hostage = agent.create(&limited, &dir.path().join("limited"));
    // The request that it takes, and one at least that it refuses: from then on the workers wait.
    limited.await_requests(Kind::Bytes, 2);
    agent.wait(&hostage, "a fault", |record| !record["error"].is_null());
    let id = agent.create(&quick, &dir.path().join("quick"));
    agent.wait_state(&id, "complete");
    assert_eq!(agent.inspect(&hostage)["state"], "transferring");
    gate.open();
}

#[test]
fn a_download_that_waits_for_its_host_can_be_paused() {
    let rig = Rig::with(
        Package::new().many(20, 300_000),
        &["--workers", "4", "--silence-timeout", "300"],
    );
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    rig.origin.take_at_once(1);
    let id = rig.create();
    rig.origin.await_requests(Kind::Bytes, 2);
    rig.agent.pause(&id).expect(200);
    gate.open();
    rig.origin.heal(Kind::Bytes);
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}
