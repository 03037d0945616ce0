//! POST /downloads: what it answers, and what arrives.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::agent::{Setup, row};
use crate::support::http::keys;
use crate::support::origin::{Gate, Kind, Origin, Reply, SECRET_ENCODED};
use crate::support::package::{Entry, Package};
use crate::support::rig::Rig;
use crate::support::tree;

/// Every field of a summary, sorted.
pub const SUMMARY: [&str; 20] = [
    "bytes_done",
    "bytes_free",
    "bytes_per_second",
    "bytes_total",
    "completed_at",
    "created_at",
    "download_id",
    "dst_folder",
    "error",
    "eta_seconds",
    "files_complete",
    "files_failed",
    "files_skipped",
    "files_total",
    "link",
    "name",
    "package_id",
    "priority",
    "selection",
    "state",
];

fn small() -> Package {
    Package::new()
        .file("readme.txt", 100)
        .file("clips/day 1/a.mov", 50_000)
        .file("clips/b.mov", 1)
}

#[test]
fn answers_201_with_location_and_summary() {
    let rig = Rig::new(small());
    let gate = Gate::new();
    rig.origin.always(Kind::Listing, Reply::stall(&gate));
    let answer = rig.agent.order(&rig.order());
    let summary = answer.expect(201);
    let id = summary["download_id"].as_str().unwrap();
    let location = answer.header("location").unwrap();
    assert!(location.ends_with(&format!("/api/v1/downloads/{id}")));
    assert_eq!(keys(&summary), SUMMARY);
    assert_eq!(summary["state"], "transferring");
    assert_eq!(summary["link"], rig.origin.public_link());
    assert_eq!(summary["dst_folder"], rig.dst().to_str().unwrap());
    assert_eq!(summary["completed_at"], Value::Null);
    assert_eq!(summary["error"], Value::Null);
    assert_eq!(summary["bytes_done"], 0);
    let created = summary["created_at"].as_str().unwrap();
    assert!(created.ends_with('Z'), "{created}");
    let created = OffsetDateTime::parse(created, &Rfc3339).unwrap();
    let age = OffsetDateTime::now_utc() - created;
    assert!(age.whole_seconds().abs() < 60, "{age}");
}

#[test]
fn totals_are_null_until_the_listing_was_read() {
    let rig = Rig::new(small());
    let gate = Gate::new();
    rig.origin.always(Kind::Listing, Reply::stall(&gate));
    let id = rig.create();
    rig.origin.await_requests(Kind::Listing, 1);
    let record = rig.agent.inspect(&id);
    assert_eq!(record["bytes_total"], Value::Null);
    assert_eq!(record["files_total"], Value::Null);
    gate.open();
    let record = rig.complete(&id);
    assert_eq!(record["bytes_total"], 50_101);
    assert_eq!(record["files_total"], 3);
}

#[test]
fn the_package_arrives_as_it_was_sent() {
    let rig = Rig::new(small());
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(
        tree::paths(&rig.dst()),
        [
            "clips/",
            "clips/b.mov",
            "clips/day 1/",
            "clips/day 1/a.mov",
            "readme.txt"
        ]
    );
    assert_eq!(record["name"], "Dailies 14");
    assert_eq!(record["package_id"], "PACKAGE1");
    assert_eq!(record["bytes_done"], 50_101);
    assert_eq!(record["files_complete"], 3);
    assert_eq!(record["files_failed"], 0);
    assert_eq!(record["error"], Value::Null);
    assert!(record["completed_at"].as_str().unwrap() >= record["created_at"].as_str().unwrap());
}

#[test]
fn the_destination_is_made_with_its_parents() {
    let rig = Rig::new(small());
    let deep = rig.dir().join("not/there/yet");
    let id = rig.agent.create(&rig.origin, &deep);
    rig.agent.wait_state(&id, "complete");
    tree::assert_file(&deep.join("clips/b.mov"), 3, 1);
}

#[test]
fn empty_folders_and_empty_files_arrive() {
    let folder = Entry::new("a", "empty", 0).kind("directory");
    let rig = Rig::new(Package::new().entry(folder).file("b/nothing", 0));
    let id = rig.create();
    rig.agent.wait_state(&id, "complete");
    assert_eq!(
        tree::paths(&rig.dst()),
        ["a/", "a/empty/", "b/", "b/nothing"]
    );
    tree::assert_file(&rig.dst().join("b/nothing"), 2, 0);
}

#[test]
fn an_empty_package_is_complete() {
    let rig = Rig::new(Package::new());
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "complete");
    assert_eq!(record["files_total"], 0);
    assert_eq!(record["bytes_total"], 0);
    assert_eq!(record["files"], json!([]));
}

#[test]
fn known_modification_times_are_kept() {
    let package = Package::new()
        .entry(Entry::new("", "old", 10).modified("1999-12-31T23:59:58.500Z"))
        .entry(Entry::new("", "offset", 10).modified("2020-01-01T02:00:00+02:00"))
        .entry(Entry::new("", "unknown", 10).modified("0001-01-01T00:00:00.000Z"))
        .entry(Entry::new("", "empty", 0).modified("2001-09-09T01:46:40Z"));
    let rig = Rig::new(package);
    let id = rig.create();
    rig.complete(&id);
    let dst = rig.dst();
    assert_eq!(tree::mtime(&dst.join("old")), 946_684_798);
    assert_eq!(tree::mtime(&dst.join("offset")), 1_577_836_800);
    assert_eq!(tree::mtime(&dst.join("empty")), 1_000_000_000);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = now.as_secs() as i64 - tree::mtime(&dst.join("unknown"));
    assert!((0..120).contains(&age), "{age} s old");
}

#[test]
fn a_listing_without_paths_is_flat() {
    let rig = Rig::new(Package::new().entry(Entry::new("", "flat", 5).without_path()));
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(tree::paths(&rig.dst()), ["flat"]);
}

#[test]
fn archives_made_by_the_server_are_never_asked_for() {
    let package = Package::new()
        .file("true", 10)
        .entry(Entry::new("", "all.zip", 500).kind("zip_windows"))
        .entry(Entry::new("", "all-mac.zip", 500).kind("zip_mac"))
        .entry(Entry::new("", "all.xyz", 500).kind("kind_of_the_future"));
    let rig = Rig::new(package);
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(record["bytes_total"], 10);
    assert_eq!(tree::paths(&rig.dst()), ["true"]);
    for file in ["F2", "F3", "F4"] {
        assert_eq!(rig.origin.requests_about(file), 0, "{file}");
    }
}

#[test]
fn infected_files_are_skipped_and_said_to_be() {
    let package = Package::new()
        .file("clean", 10)
        .entry(Entry::new("", "bad.exe", 500).infected());
    let rig = Rig::new(package);
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(row(&record, "F2")["state"], "skipped");
    assert_eq!(record["files_skipped"], 1);
    assert_eq!(record["files_total"], 2);
    assert_eq!(record["files_complete"], 1);
    assert_eq!(record["bytes_total"], 10);
    assert_eq!(record["bytes_done"], 10);
    assert_eq!(rig.origin.requests_about("F2"), 0);
    assert_eq!(tree::paths(&rig.dst()), ["clean"]);
}

#[test]
fn the_password_opens_the_link_and_goes_nowhere_else() {
    let rig = Rig::new(small());
    rig.origin.require_password("open sesame");
    let id = rig.create_with(json!({"password": "open sesame"}));
    rig.complete(&id);
    for kind in Kind::ALL {
        for seen in rig.origin.requests(kind) {
            let password = seen.header("x-link-password");
            assert_eq!(password.is_some(), kind == Kind::Link, "{seen:?}");
        }
    }
}

#[test]
fn the_package_token_stays_with_the_api() {
    let rig = Rig::new(small());
    let id = rig.create();
    rig.complete(&id);
    for seen in rig.origin.requests(Kind::Bytes) {
        assert_eq!(seen.header("x-package-token"), None, "{seen:?}");
        assert!(!seen.target.contains(SECRET_ENCODED), "{seen:?}");
    }
}

#[test]
fn a_link_may_be_written_in_other_ways() {
    let origin = Origin::new(small());
    let port = origin.base().rsplit_once(':').unwrap().1.to_string();
    let pair = format!("http://links.example:{port}={}", origin.api());
    let agent = Setup::new().args(&["--origin", &pair]).start();
    let dir = tempfile::tempdir().unwrap();
    let links = [
        format!("http://links.example:{port}/LINK1/?secret={SECRET_ENCODED}"),
        format!("http://LINKS.Example:{port}/LINK1?secret={SECRET_ENCODED}"),
        format!("http://links.example:{port}/LINK1?utm=1&secret={SECRET_ENCODED}&x=y"),
        format!("http://links.example:{port}/LINK1?secret={SECRET_ENCODED}#part"),
    ];
    for (number, link) in links.iter().enumerate() {
        let dst = dir.path().join(number.to_string());
        let summary = agent.order(&json!({"url": link, "dst_folder": dst}));
        let id = summary.expect(201)["download_id"]
            .as_str()
            .unwrap()
            .to_string();
        agent.wait_state(&id, "complete");
        tree::assert_file(&dst.join("readme.txt"), 1, 100);
    }
}

#[test]
fn a_final_name_appears_only_when_the_file_is_whole() {
    let rig = Rig::new(Package::new().file("clips/a.mov", 300_000));
    let gate = Gate::new();
    rig.origin
        .always(Kind::Bytes, Reply::stall_after(1000, &gate));
    let id = rig.create();
    rig.agent
        .wait(&id, "bytes", |record| record["bytes_done"] != 0);
    assert_eq!(tree::paths(&rig.dst()), ["clips/", "clips/a.mov.part"]);
    gate.open();
    rig.complete(&id);
    assert_eq!(tree::paths(&rig.dst()), ["clips/", "clips/a.mov"]);
}

#[test]
fn one_large_file_uses_several_connections() {
    let rig = Rig::new(Package::new().file("large.mov", 32 << 20));
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall_after(1, &gate));
    let id = rig.create();
    rig.origin
        .ledger()
        .wait("two connections", |tally| tally.active >= 2);
    gate.open();
    rig.complete(&id);
    let twice = rig.origin.served() - (32 << 20);
    assert!(twice < 1 << 20, "{twice} bytes fetched twice");
}

#[test]
fn one_worker_makes_one_connection() {
    // One file: its ranges follow one another on one connection, where the origin cannot see two at
    // once.
    let package = Package::new().file("large.mov", 24 << 20);
    let rig = Rig::with(package, &["--workers", "1"]);
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(rig.origin.peak(), 1);
}

#[test]
fn a_package_of_many_files_does_not_starve_another() {
    let big = Origin::new(Package::new().many(1500, 4000));
    let small = Origin::new(small());
    big.throttle(2_000_000);
    let agent = Setup::new()
        .origin(&big)
        .origin(&small)
        .args(&["--workers", "2"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let long = agent.create(&big, &dir.path().join("big"));
    big.await_requests(Kind::Bytes, 10);
    let short = agent.create(&small, &dir.path().join("small"));
    agent.wait_state(&short, "complete");
    assert_eq!(agent.inspect(&long)["state"], "transferring");
    big.unthrottle();
    let record = agent.wait_state(&long, "complete");
    assert_eq!(record["files_complete"], 1500);
    assert_eq!(
        fs::read_dir(dir.path().join("big/many")).unwrap().count(),
        1500
    );
}

#[test]
fn the_content_type_may_name_a_charset() {
    let rig = Rig::new(small());
    let answer = crate::support::http::send(
        rig.agent.address,
        "POST",
        "/api/v1/downloads",
        &[("Content-Type", "application/json; charset=utf-8")],
        Some(&rig.order().to_string()),
    );
    let id = answer.expect(201)["download_id"]
        .as_str()
        .unwrap()
        .to_string();
    rig.complete(&id);
}
