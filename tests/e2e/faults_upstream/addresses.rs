//! Addresses that expire, serve once, or are refused.

use std::time::{Duration, Instant};

use crate::support::agent::row;
use crate::support::origin::{Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

use super::{assert_only_f2_failed, spoil, two};

#[test]
fn an_expired_address_is_fetched_again_and_goes_on() {
    for status in [403, 410] {
        let rig = Rig::new(Package::new().file("a", 100_000));
        rig.origin.on(Kind::Bytes, move |seen| match seen.nth {
            1 => Reply::cut(40_000),
            2 => Reply::status(status),
            _ => Reply::serve(),
        });
        let id = rig.create();
        rig.complete(&id);
        let requests = rig.origin.requests(Kind::Bytes);
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].range.unwrap().0, 40_000, "from the same byte");
        assert_ne!(requests[2].target, requests[1].target, "a fresh address");
        assert_eq!(rig.origin.served(), 100_000);
    }
}

#[test]
fn addresses_may_expire_at_any_time() {
    let rig = Rig::new(Package::new().file("large.mov", 24 << 20).many(50, 10_000));
    rig.origin.throttle(12 << 20);
    let id = rig.create();
    for part in 1..=4 {
        rig.origin.await_served(part * (4 << 20));
        rig.origin.expire_addresses();
    }
    rig.complete(&id);
}

#[test]
fn an_address_may_serve_once_only() {
    let rig = Rig::new(Package::new().file("large.mov", 24 << 20).many(20, 1000));
    rig.origin.one_shot_addresses();
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn an_address_that_serves_once_survives_a_cut() {
    let rig = Rig::new(Package::new().file("a", 100_000));
    rig.origin.one_shot_addresses();
    rig.origin.first(1, Kind::Bytes, Reply::cut(30_000));
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(rig.origin.served(), 100_000);
}

#[test]
fn an_address_outlives_a_fault_that_passes() {
    for status in [429, 503] {
        let rig = Rig::new(Package::new().many(40, 1000));
        rig.origin.on(Kind::Bytes, move |seen| match seen.nth {
            5 | 9 => Reply::status(status),
            _ => Reply::serve(),
        });
        let id = rig.create();
        rig.complete(&id);
        assert_eq!(rig.origin.count(Kind::Address), 40, "one for each file");
    }
}

#[test]
fn an_address_does_not_outlive_faults_without_an_end() {
    let rig = Rig::new(Package::new().file("a", 1000));
    rig.origin.on(Kind::Bytes, |seen| {
        match seen.target.ends_with("signature=1") {
            true => Reply::hang_up(),
            false => Reply::serve(),
        }
    });
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Address), 2);
}

#[test]
fn an_address_that_serves_once_may_be_used_up_by_a_fault() {
    let rig = Rig::new(Package::new().many(20, 1000));
    rig.origin.one_shot_addresses();
    rig.origin.on(Kind::Bytes, |seen| match seen.nth_of_file {
        1 if seen.nth % 3 == 0 => Reply::cut(0),
        _ => Reply::serve(),
    });
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn five_refusals_in_a_row_are_that_files_error() {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Bytes, |_| Reply::status(403));
    let id = rig.create();
    assert_only_f2_failed(&rig, &id);
    let addresses = rig.origin.requests(Kind::Address);
    let fresh = addresses.iter().filter(|seen| seen.is_for("F2")).count();
    assert!((5..=6).contains(&fresh), "{fresh} fresh addresses");
}

#[test]
fn four_refusals_are_not() {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Bytes, |seen| match seen.nth_of_file {
        1..=4 => Reply::status(403),
        _ => Reply::serve(),
    });
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn any_other_refusal_is_the_files_error_once_a_fresh_address_was_tried() {
    for status in [400, 404] {
        let rig = Rig::new(two());
        spoil(&rig, Kind::Bytes, move |_| Reply::status(status));
        let id = rig.create();
        assert_only_f2_failed(&rig, &id);
        let requests = rig.origin.requests(Kind::Bytes);
        let targets: Vec<&String> = requests
            .iter()
            .filter(|seen| seen.is_for("F2"))
            .map(|seen| &seen.target)
            .collect();
        assert_eq!(targets.len(), 2, "{targets:?}");
        assert_ne!(targets[0], targets[1], "the second address is a fresh one");
    }
}

#[test]
fn many_files_that_fail_for_good_fail_as_soon_as_one() {
    type Spoil = fn(&Rig);
    let causes: [(&str, Spoil); 3] = [
        ("refused", |rig| {
            rig.origin.always(Kind::Bytes, Reply::status(403));
        }),
        ("of another size", |rig| {
            rig.origin.always(Kind::Bytes, Reply::resized(1));
        }),
        ("without an address", |rig| {
            rig.origin.always(Kind::Address, Reply::json("{}"));
        }),
    ];
    for (what, spoil) in causes {
        let rig = Rig::new(Package::new().many(40, 500));
        spoil(&rig);
        let start = Instant::now();
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        // Two waits, of half a second and of a second; ten times as much is for a machine with
        // other things to do.
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{what}: {:?}",
            start.elapsed()
        );
        assert_eq!(record["files_failed"], 40, "{what}");
        assert_eq!(record["error"]["code"], "protocol_error", "{what}");
    }
}

#[test]
fn files_that_fail_for_good_do_not_hold_up_the_others() {
    let rig = Rig::new(Package::new().many(400, 500));
    rig.origin.on(Kind::Bytes, |seen| {
        let file = seen.file.as_deref().unwrap_or_default();
        // Every tenth.
        match file.ends_with('7') {
            true => Reply::resized(1),
            false => Reply::serve(),
        }
    });
    let start = Instant::now();
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(record["files_failed"], 40);
    assert_eq!(record["files_complete"], 360);
    assert_eq!(record["error"]["code"], "file_failed");
}

#[test]
fn a_file_without_an_address_is_that_files_error() {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Address, |_| Reply::status(404));
    let id = rig.create();
    assert_only_f2_failed(&rig, &id);
}

#[test]
fn a_failed_file_arrives_when_it_is_resumed() {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Address, |_| Reply::status(404));
    let id = rig.create();
    assert_only_f2_failed(&rig, &id);
    rig.origin.heal(Kind::Address);
    rig.agent.resume(&id).expect(200);
    let record = rig.complete(&id);
    assert!(row(&record, "F2").get("error").is_none());
}

#[test]
fn addresses_that_are_none_are_never_followed() {
    for url in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "no address",
        "",
        "//",
        "http://",
        "http://user:pass@:0/",
    ] {
        let rig = Rig::with(two(), &["--retry-for", "1"]);
        let answer = serde_json::json!({ "url": url }).to_string();
        spoil(&rig, Kind::Address, move |_| Reply::json(&answer));
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        rig.assert_file(&record, "F1");
        assert_eq!(row(&record, "F2")["state"], "error", "{url:?}");
        assert!(!rig.dst().join("bad").exists(), "{url:?}");
    }
}
