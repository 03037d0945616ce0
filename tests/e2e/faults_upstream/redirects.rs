//! Redirects: followed without our headers, never in circles, never out of HTTP.

use crate::support::agent::row;
use crate::support::origin::{Kind, Origin, Reply};
use crate::support::rig::Rig;

use super::{spoil, two};

/// The headers that belong to the API host alone.
const OURS: [&str; 2] = ["x-package-token", "x-link-password"];

fn assert_never_saw_ours(stranger: &Origin) {
    for kind in Kind::ALL {
        for seen in stranger.requests(kind) {
            for name in OURS {
                assert_eq!(seen.header(name), None, "{seen:?}");
            }
        }
    }
}

#[test]
fn an_address_may_come_as_a_redirect() {
    let rig = Rig::new(two());
    let storage = Origin::elsewhere(two());
    let location = storage.issue_address("F2");
    spoil(&rig, Kind::Address, move |_| Reply::redirect(&location));
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(storage.served_of("F2"), 5000);
    assert_never_saw_ours(&storage);
}

#[test]
fn an_address_may_be_on_another_host() {
    let rig = Rig::new(two());
    let storage = Origin::elsewhere(two());
    let answer = serde_json::json!({"url": storage.issue_address("F2")}).to_string();
    spoil(&rig, Kind::Address, move |_| Reply::json(&answer));
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(storage.served_of("F2"), 5000);
    assert_never_saw_ours(&storage);
}

#[test]
fn storage_may_redirect() {
    for status in [301, 302, 303, 307, 308] {
        let rig = Rig::new(two());
        let storage = Origin::elsewhere(two());
        let location = storage.issue_address("F2");
        spoil(&rig, Kind::Bytes, move |_| {
            Reply::status(status).header("Location", &location)
        });
        let id = rig.create();
        rig.complete(&id);
        assert_eq!(storage.served_of("F2"), 5000);
        assert_never_saw_ours(&storage);
    }
}

#[test]
fn a_redirect_may_be_relative() {
    let rig = Rig::new(two());
    let there = rig.origin.issue_address("F2");
    let there = there.strip_prefix(rig.origin.base()).unwrap().to_string();
    spoil(&rig, Kind::Bytes, move |seen| match seen.target == there {
        true => Reply::serve(),
        false => Reply::redirect(&there),
    });
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn an_api_that_redirects_elsewhere_does_not_take_the_token_along() {
    let rig = Rig::with(two(), &["--retry-for", "1"]);
    rig.origin.require_password("open sesame");
    let stranger = Origin::elsewhere(two());
    let location = format!("{}/v1/packages/PACKAGE1/files", stranger.base());
    rig.origin.always(Kind::Listing, Reply::redirect(&location));
    let id = rig.create_with(serde_json::json!({"password": "open sesame"}));
    rig.agent.wait_end(&id);
    assert!(rig.origin.count(Kind::Listing) > 0);
    assert_never_saw_ours(&stranger);
}

#[test]
fn a_link_that_redirects_elsewhere_does_not_take_the_password_along() {
    let rig = Rig::with(two(), &["--retry-for", "1"]);
    let stranger = Origin::elsewhere(two());
    let location = format!("{}/v1/links/LINK1", stranger.base());
    rig.origin.always(Kind::Link, Reply::redirect(&location));
    let mut order = rig.order();
    order["password"] = "open sesame".into();
    let answer = rig.agent.order(&order);
    assert_ne!(answer.status, 500, "{answer:?}");
    if answer.status == 201 {
        let id = answer.json()["download_id"].as_str().unwrap().to_string();
        rig.agent.wait_end(&id);
    }
    assert!(rig.origin.count(Kind::Link) > 0);
    assert_never_saw_ours(&stranger);
}

#[test]
fn redirects_in_circles_end() {
    let rig = Rig::with(two(), &["--retry-for", "1"]);
    spoil(&rig, Kind::Bytes, |seen| Reply::redirect(&seen.target));
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    rig.assert_file(&record, "F1");
    assert_eq!(row(&record, "F2")["state"], "error");
    let requests = rig.origin.requests_about("F2");
    assert!(requests < 200, "{requests} requests in a circle");
}

#[test]
fn redirects_out_of_http_are_not_followed() {
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", ""] {
        let rig = Rig::with(two(), &["--retry-for", "1"]);
        spoil(&rig, Kind::Bytes, move |_| Reply::redirect(location));
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        rig.assert_file(&record, "F1");
        assert_eq!(row(&record, "F2")["state"], "error", "{location:?}");
        assert!(!rig.dst().join("bad").exists());
    }
}
