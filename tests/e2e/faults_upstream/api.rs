//! The upstream's API in the middle of a download: tokens that die, calls that fail.

use std::time::{Duration, Instant};

use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

use super::two;

#[test]
fn a_dead_token_is_renewed_once_for_all_workers() {
    let rig = Rig::with(Package::new().many(300, 4000), &["--workers", "8"]);
    rig.origin.throttle(800_000);
    let id = rig.create();
    rig.origin.await_requests(Kind::Address, 30);
    let before = rig.origin.count(Kind::Link);
    rig.origin.revoke_token();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Link), before + 1);
}

#[test]
fn a_token_that_dies_before_the_listing_is_renewed() {
    for status in [401, 403] {
        let rig = Rig::new(two());
        rig.origin.first(1, Kind::Listing, Reply::status(status));
        let id = rig.create();
        rig.complete(&id);
        assert_eq!(rig.origin.count(Kind::Listing), 2);
    }
}

#[test]
fn a_token_that_never_works_is_not_renewed_in_a_tight_loop() {
    let rig = Rig::with(two(), &["--retry-for", "1"]);
    rig.origin.always(Kind::Listing, Reply::status(401));
    let id = rig.create();
    rig.agent.wait_state(&id, "error");
    let links = rig.origin.count(Kind::Link);
    assert!(links <= 10, "the link was resolved {links} times");
}

#[test]
fn calls_that_fail_for_a_while_are_made_again() {
    for reply in [
        Reply::status(500),
        Reply::status(429),
        Reply::status(429).header("Retry-After", "1"),
        Reply::hang_up(),
        Reply::reset(0),
        Reply::cut(20),
    ] {
        let rig = Rig::new(two());
        rig.origin.first(1, Kind::Listing, reply.clone());
        rig.origin.first(1, Kind::Address, reply);
        let id = rig.create();
        rig.complete(&id);
        assert!(rig.origin.count(Kind::Listing) >= 2);
        assert!(rig.origin.count(Kind::Address) >= 3);
    }
}

/// A paused download whose token is dead: resuming resolves the link again.
fn about_to_resolve() -> (Rig, String) {
    let rig = Rig::new(Package::new().file("a", 100_000));
    rig.origin.require_password("right");
    rig.origin.always(Kind::Bytes, Reply::status(503));
    let id = rig.create_with(serde_json::json!({"password": "right"}));
    rig.origin.await_requests(Kind::Bytes, 1);
    rig.agent.pause(&id).expect(200);
    rig.origin.revoke_token();
    rig.origin.expire_addresses();
    rig.origin.heal(Kind::Bytes);
    (rig, id)
}

#[test]
fn a_link_that_is_gone_meanwhile_is_an_error() {
    for (status, code) in [
        (404, "link_not_found"),
        (410, "link_expired"),
        (451, "link_not_found"),
    ] {
        let (rig, id) = about_to_resolve();
        rig.origin.refuse_link(status);
        rig.agent.resume(&id).expect(200);
        let record = rig.agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], code, "{record:#}");
        assert!(record["error"]["recoverable"].is_boolean());
    }
}

#[test]
fn a_password_that_is_wrong_meanwhile_is_an_error() {
    let (rig, id) = about_to_resolve();
    rig.origin.require_password("another");
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "link_password_wrong");
}

/// Files whose addresses want a fresh token, while the link answers like this.
fn renewing(reply: Reply, args: &[&str]) -> Rig {
    let rig = Rig::with(Package::new().many(40, 500), args);
    rig.origin.on(Kind::Link, move |seen| match seen.nth {
        1 => Reply::serve(),
        _ => reply.clone(),
    });
    rig.origin.always(Kind::Address, Reply::status(401));
    rig.create();
    rig
}

#[test]
fn a_renewal_that_fails_is_tried_again_once_for_all_workers() {
    let rig = renewing(Reply::status(503), &[]);
    rig.origin.await_requests(Kind::Link, 4);
    let links = rig.origin.requests(Kind::Link);
    // The first is that of POST; then half a second and a second, with jitter.
    for (pair, least) in links[1..].windows(2).zip([400, 800]) {
        let wait = pair[1].at - pair[0].at;
        assert!(wait >= Duration::from_millis(least), "{wait:?}");
    }
}

#[test]
fn a_renewal_that_hangs_does_so_for_one_worker() {
    let gate = Gate::new();
    let rig = renewing(Reply::stall(&gate), &["--silence-timeout", "1"]);
    rig.origin.await_requests(Kind::Link, 4);
    let links = rig.origin.requests(Kind::Link);
    for (pair, least) in links[1..].windows(2).zip([1400, 1800]) {
        let wait = pair[1].at - pair[0].at;
        assert!(wait >= Duration::from_millis(least), "{wait:?}");
    }
}

#[test]
fn files_whose_fresh_token_is_refused_fail_at_once_and_the_others_arrive() {
    let rig = Rig::new(Package::new().many(200, 500));
    rig.origin.on(Kind::Address, |seen| {
        let file = seen.file.as_deref().unwrap_or_default();
        match file.ends_with('7') {
            true => Reply::status(401),
            false => Reply::serve(),
        }
    });
    let start = Instant::now();
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(record["files_failed"], 20);
    assert_eq!(record["files_complete"], 180);
    // One at POST and one renewal; another for each five seconds that a slow machine takes.
    let links = rig.origin.count(Kind::Link);
    assert!(
        links as u64 <= 2 + took.as_secs() / 5,
        "{links} in {took:?}"
    );
}

#[test]
fn a_listing_that_is_tried_again_needs_no_other_token() {
    let rig = Rig::new(two());
    rig.origin.first(3, Kind::Listing, Reply::status(429));
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Link), 1);
}

#[test]
fn a_listing_that_is_refused_renews_the_token_once() {
    let rig = Rig::new(two());
    rig.origin.first(3, Kind::Listing, Reply::status(401));
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Link), 2);
}

#[test]
fn a_package_without_a_listing_is_gone_at_once() {
    for (status, code) in [(404, "link_not_found"), (410, "link_expired")] {
        let rig = Rig::new(two());
        rig.origin.always(Kind::Listing, Reply::status(status));
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], code, "{record:#}");
        assert_eq!(rig.origin.count(Kind::Listing), 1);
    }
}
