//! Answers of the API that are no answers: malformed, truncated, lying, enormous.

use serde_json::{Value, json};

use crate::support::agent::DOWNLOADS;
use crate::support::origin::{Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

use super::two;

/// Bytes that are no JSON, or JSON of the wrong shape.
const MALFORMED: [&str; 6] = ["", "<html>", "{\"id\":", "null", "17", "\"text\""];

/// A fault that is gone: the download comes through by itself, or, where it was taken as final,
/// when resumed.
fn comes_through(rig: &Rig, id: &str) {
    let record = rig.agent.wait_end(id);
    if record["state"] == "error" {
        let code = record["error"]["code"].as_str().unwrap();
        let codes = ["protocol_error", "upstream_unavailable", "file_failed"];
        assert!(codes.contains(&code), "{record:#}");
        rig.agent.resume(id).expect(200);
    }
    rig.complete(id);
}

#[test]
fn a_malformed_answer_once_is_overcome() {
    for kind in [Kind::Listing, Kind::Address] {
        for text in MALFORMED {
            let rig = Rig::new(two());
            rig.origin.first(1, kind, Reply::json(text));
            let id = rig.create();
            comes_through(&rig, &id);
        }
    }
}

#[test]
fn a_truncated_answer_once_is_overcome() {
    for kind in [Kind::Listing, Kind::Address] {
        let rig = Rig::new(two());
        rig.origin.first(1, kind, Reply::half());
        let id = rig.create();
        comes_through(&rig, &id);
    }
}

#[test]
fn a_malformed_answer_for_ever_is_an_error() {
    for kind in [Kind::Listing, Kind::Address] {
        let rig = Rig::with(two(), &["--retry-for", "1"]);
        rig.origin.always(kind, Reply::json("{\"half"));
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        let code = record["error"]["code"].as_str().unwrap();
        let codes = ["protocol_error", "upstream_unavailable", "file_failed"];
        assert!(codes.contains(&code), "{record:#}");
        assert!(!rig.dst().join("good").exists());
    }
}

#[test]
fn a_malformed_link_harms_nobody() {
    for text in MALFORMED {
        let rig = Rig::with(two(), &["--retry-for", "1"]);
        rig.origin.always(Kind::Link, Reply::json(text));
        let answer = rig.agent.order(&rig.order());
        assert_ne!(answer.status, 500, "{answer:?}");
        if answer.status == 201 {
            let id = answer.json()["download_id"].as_str().unwrap().to_string();
            rig.agent.wait_state(&id, "error");
        }
        rig.agent.get(DOWNLOADS).expect(200);
    }
}

fn entry(id: &str, name: &str, size: Value) -> Value {
    json!({"id": id, "kind": "file", "name": name, "path": "", "size": size,
        "last_modified": "0001-01-01T00:00:00.000Z", "virus_detected": false})
}

/// What comes of a listing that is well-formed and wrong.
fn outcome(listing: &Value) -> (Rig, Value) {
    let rig = Rig::with(two(), &["--retry-for", "1"]);
    rig.origin
        .always(Kind::Listing, Reply::json(&listing.to_string()));
    let id = rig.create();
    let record = rig.agent.wait_end(&id);
    rig.agent.get(DOWNLOADS).expect(200);
    (rig, record)
}

#[test]
fn entries_that_lie_harm_nobody() {
    let [good, same_id] = ["good", "again"].map(|name| entry("F1", name, json!(5000)));
    let liars = [
        json!([good, same_id]),
        json!([good, good]),
        json!([good, entry("", "nameless", json!(5))]),
        json!([good, entry("F2", "negative", json!(-1))]),
        json!([good, entry("F2", "enormous", json!(u64::MAX))]),
        json!([good, entry("F2", "beyond", json!(1e300))]),
        json!([good, entry("F2", "fraction", json!(1.5))]),
        json!([good, entry("F2", "text", json!("5000"))]),
        json!([good, entry("../../links/LINK1?secret=x", "id", json!(5))]),
        json!([good, {"id": "F2", "kind": "file"}]),
        json!([good, {"name": "no id", "kind": "file", "size": 5}]),
        json!([good, {"id": "F2", "name": "no kind", "size": 5}]),
        json!([good, 17, null, "text", []]),
        json!({"files": [good]}),
    ];
    for listing in &liars {
        let (rig, record) = outcome(listing);
        // A file that is shown is a whole one.
        if rig.dst().join("good").exists() {
            tree::assert_file(&rig.dst().join("good"), 1, 5000);
        } else {
            assert_eq!(record["state"], "error", "{listing}: {record:#}");
        }
        assert!(!rig.dst().join("enormous").exists());
        for path in tree::paths(rig.dir()) {
            assert!(path.starts_with("in/"), "{listing}: {path}");
        }
    }
}

#[test]
fn a_file_that_is_listed_twice_arrives() {
    let good = entry("F1", "good", json!(5000));
    let (rig, record) = outcome(&json!([good, entry("F1", "again", json!(5000))]));
    assert_eq!(record["state"], "complete", "{record:#}");
    tree::assert_file(&rig.dst().join("good"), 1, 5000);
    tree::assert_file(&rig.dst().join("again"), 1, 5000);
}

#[test]
fn missing_optional_fields_are_tolerated() {
    let bare = json!([{"id": "F1", "kind": "file", "name": "good", "size": 5000}]);
    let (rig, record) = outcome(&bare);
    assert_eq!(record["state"], "complete", "{record:#}");
    tree::assert_file(&rig.dst().join("good"), 1, 5000);
}

#[test]
fn dates_that_are_none_are_taken_as_unknown() {
    let listing: Vec<Value> = [
        "",
        "yesterday",
        "2021-02-30T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ]
    .iter()
    .enumerate()
    .map(|(number, date)| {
        let mut entry = entry("F1", &format!("good {number}"), json!(5000));
        entry["last_modified"] = json!(date);
        entry
    })
    .collect();
    let (rig, record) = outcome(&json!(listing));
    assert_eq!(record["state"], "complete", "{record:#}");
    for number in 0..4 {
        tree::assert_file(&rig.dst().join(format!("good {number}")), 1, 5000);
    }
}

#[test]
fn an_endless_text_is_not_read_to_its_end() {
    let rig = Rig::with(Package::new().file("a", 10), &["--retry-for", "1"]);
    let text = format!("{{\"url\": \"http://x/{}\"}}", "x".repeat(8 << 20));
    rig.origin.always(Kind::Address, Reply::json(&text));
    let id = rig.create();
    rig.agent.wait_state(&id, "error");
}
