//! GET /downloads/{download_id}?wait=…: the long poll.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::agent::one;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// A rig whose download cannot end before the gate is open.
fn held() -> (Rig, Gate, String) {
    let rig = Rig::new(Package::new().file("a", 10));
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let id = rig.create();
    (rig, gate, id)
}

#[test]
fn it_answers_when_the_download_is_complete() {
    let (rig, gate, id) = held();
    let path = one(&id) + "?wait=60";
    thread::scope(|scope| {
        let poll = scope.spawn(|| rig.agent.get(&path).expect(200));
        // Others are answered meanwhile.
        assert_eq!(
            rig.agent.get(&one(&id)).expect(200)["state"],
            "transferring"
        );
        gate.open();
        let record = poll.join().unwrap();
        assert_eq!(record["state"], "complete");
        assert_eq!(record["files"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn it_answers_at_once_when_nothing_moves() {
    let (rig, gate, id) = held();
    rig.agent.pause(&id).expect(200);
    let begin = Instant::now();
    let record = rig.agent.get(&(one(&id) + "?wait=60")).expect(200);
    assert_eq!(record["state"], "paused");
    assert!(begin.elapsed() < Duration::from_secs(10));
    gate.open();
}

#[test]
fn it_answers_when_the_time_is_up() {
    let (rig, gate, id) = held();
    let begin = Instant::now();
    let record = rig.agent.get(&(one(&id) + "?wait=1")).expect(200);
    assert_eq!(record["state"], "transferring");
    assert!(begin.elapsed() >= Duration::from_secs(1));
    gate.open();
}

#[test]
fn it_tells_of_what_is_gone_and_refuses_what_is_no_time() {
    let (rig, gate, id) = held();
    for wait in ["", "61", "-1", "soon", "1.5", "0x1"] {
        let answer = rig.agent.get(&format!("{}?wait={wait}", one(&id)));
        answer.assert_error(400, "invalid_parameter");
    }
    let path = one(&id) + "?wait=60";
    thread::scope(|scope| {
        let poll = scope.spawn(|| rig.agent.get(&path));
        rig.agent.delete(&one(&id)).expect(200);
        poll.join().unwrap();
    });
    let answer = rig.agent.get(&path);
    answer.assert_error(404, "download_not_found");
    gate.open();
}

#[test]
fn a_stop_does_not_wait_for_it() {
    let (mut rig, gate, id) = held();
    let (to, path) = (rig.agent.address, one(&id) + "?wait=60");
    thread::scope(|scope| {
        let poll = scope.spawn(move || crate::support::http::send(to, "GET", &path, &[], None));
        // It is there when the agent counts it.
        let begin = Instant::now();
        while !rig
            .agent
            .get("/metrics")
            .text
            .contains("\nhaul_api_watchers 1\n")
        {
            assert!(begin.elapsed() < crate::support::PATIENCE);
        }
        let (status, took) = rig.agent.terminate();
        assert!(status.success());
        assert!(took < Duration::from_secs(4), "{took:?}");
        poll.join().unwrap().expect(200);
    });
    gate.open();
}
