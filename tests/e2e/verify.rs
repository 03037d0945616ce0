//! Files that are complete are read back, and what is not as it was saved is fetched again.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::row;
use crate::support::http;
use crate::support::package::Package;
use crate::support::process::{haul, run};
use crate::support::rig::Rig;

const MIB: u64 = 1 << 20;

fn verified(rig: &Rig, id: &str) -> Value {
    let begun = rig.agent.act(&format!("/api/v1/downloads/{id}/verify"));
    assert!(begun.expect(202)["verification"].is_object());
    rig.agent.wait(id, "the end of the verification", |record| {
        record["verification"]["state"] == "done"
    })
}

fn package() -> Package {
    let small = Package::new().file("a", 5000).file("sub/b", 70_000);
    small.file("large", 3 * MIB).file("c", 5000).file("d", 5000)
}

/// Changes one bit and keeps length and time.
fn flip(path: &Path) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1000).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn all_as_saved() {
    let rig = Rig::new(package());
    let id = rig.create();
    rig.complete(&id);
    // The hash of the large one may still be on its way; then it is recorded now.
    let record = verified(&rig, &id);
    assert_eq!(record["state"], "complete");
    let found = &record["verification"];
    assert_eq!(
        (&found["files_done"], &found["files_total"]),
        (&5.into(), &5.into())
    );
    assert_eq!(found["bytes_done"], found["bytes_total"]);
    assert_eq!(found["files_bad"], Value::Array(vec![]));
    let record = verified(&rig, &id);
    assert_eq!(record["verification"]["files_recorded"], 0);
    assert!(record["verification"]["ended_at"].is_string());
}

#[test]
fn what_is_not_as_saved_is_named_and_a_resume_heals_it_alone() {
    let mut rig = Rig::new(package());
    let id = rig.create();
    rig.complete(&id);
    verified(&rig, &id);
    let dst = rig.dst();
    flip(&dst.join("a"));
    flip(&dst.join("large"));
    fs::remove_dir_all(dst.join("sub")).unwrap();
    // Two of one length take each other's place.
    fs::rename(dst.join("c"), dst.join("other")).unwrap();
    fs::rename(dst.join("d"), dst.join("c")).unwrap();
    fs::rename(dst.join("other"), dst.join("d")).unwrap();
    let record = verified(&rig, &id);
    assert_eq!(record["state"], "error", "{record:#}");
    assert_eq!(record["error"]["code"], "checksum_mismatch");
    assert_eq!(record["error"]["recoverable"], true);
    let found = &record["verification"];
    assert_eq!(found["files_changed"], 4, "{found:#}");
    assert_eq!(found["files_missing"], 1);
    let mut named: Vec<_> = found["files_bad"].as_array().unwrap().iter().collect();
    named.sort_by_key(|bad| bad["path"].to_string());
    assert_eq!(named[4]["path"], "sub/b");
    assert_eq!(named[4]["damage"], "missing");
    assert_eq!(row(&record, "F1")["error"]["code"], "checksum_mismatch");
    rig.agent.kill9();
    rig.agent.restart();
    let before = rig.origin.served();
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
    assert_eq!(rig.origin.served() - before, 3 * MIB + 70_000 + 3 * 5000);
    assert_eq!(
        fs::read_dir(&dst).unwrap().count(),
        5,
        "nothing beside them"
    );
    let record = verified(&rig, &id);
    assert_eq!(record["state"], "complete");
}

#[test]
fn a_folder_is_verified_by_the_lists_in_it() {
    for kind in ["sha256", "xxh64", "blake3", "ascmhl"] {
        let rig = Rig::new(package());
        let id = rig.create_with(json!({"manifest": kind}));
        rig.complete(&id);
        let ask = || run(haul().arg("verify").arg(rig.dst()));
        let good = ask();
        assert_eq!(good.code(), Some(0), "{kind}: {}", good.stderr);
        assert!(
            good.stdout.contains("5 files are as listed"),
            "{}",
            good.stdout
        );
        flip(&rig.dst().join("a"));
        fs::remove_file(rig.dst().join("c")).unwrap();
        let bad = ask();
        assert_eq!(bad.code(), Some(1), "{kind}");
        assert!(
            bad.stderr.contains("a: its content is not what is listed"),
            "{}",
            bad.stderr
        );
        assert!(bad.stderr.contains("c: it is not there"), "{}", bad.stderr);
    }
    let none = tempfile::tempdir().unwrap();
    let end = run(haul().arg("verify").arg(none.path()));
    assert_eq!(end.code(), Some(2), "{end:?}");
}

/// As where its disk is not mounted: the folder of that name is another one.
#[test]
fn where_the_folder_is_another_nothing_is_taken_back() {
    let mut rig = Rig::new(package());
    let id = rig.create();
    rig.complete(&id);
    rig.agent.kill9();
    let away = rig.dir().join("away");
    fs::rename(rig.dst(), &away).unwrap();
    fs::write(rig.dst(), "no folder").unwrap();
    rig.agent.restart();
    let record = verified(&rig, &id);
    assert_eq!(record["state"], "complete", "{record:#}");
    assert_eq!(record["verification"]["files_unreadable"], 5);
    fs::remove_file(rig.dst()).unwrap();
    fs::rename(&away, rig.dst()).unwrap();
    let record = verified(&rig, &id);
    assert_eq!(record["verification"]["files_bad"], Value::Array(vec![]));
}

#[test]
fn only_what_is_complete_can_be_verified() {
    let rig = Rig::new(package());
    let none = rig.agent.act("/api/v1/downloads/0100000001/verify");
    none.assert_error(404, "download_not_found");
    rig.origin.throttle(1);
    let id = rig.create();
    let early = rig.agent.act(&format!("/api/v1/downloads/{id}/verify"));
    early.assert_error(409, "invalid_transition");
}

#[test]
fn the_command_line_says_what_is_not_as_saved() {
    let rig = Rig::new(package());
    let id = rig.create();
    rig.complete(&id);
    verified(&rig, &id);
    let ask = || {
        let server = format!("http://{}", rig.agent.address);
        run(haul().args(["verify", &id, "--server", &server]))
    };
    let good = ask();
    assert_eq!(good.code(), Some(0), "{}", good.stderr);
    assert!(
        good.stdout.contains("5 files are as saved"),
        "{}",
        good.stdout
    );
    flip(&rig.dst().join("a"));
    let bad = ask();
    assert_eq!(bad.code(), Some(1));
    assert!(
        bad.stderr.contains("a: its content is not what was saved"),
        "{}",
        bad.stderr
    );
}

fn put_settings(rig: &Rig, settings: &Value) -> Value {
    let headers = [("Content-Type", "application/json")];
    let body = settings.to_string();
    let path = "/api/v1/settings";
    http::send(rig.agent.address, "PUT", path, &headers, Some(&body)).expect(200)
}

/// A verification that is slow, which has come so many files far.
fn slow_verification(rig: &Rig, id: &str, files: u64) -> Value {
    // A large file takes ten seconds.
    assert_eq!(
        put_settings(rig, &json!({"verify_rate": 300_000}))["verify_rate"],
        300_000
    );
    let begun = rig.agent.act(&format!("/api/v1/downloads/{id}/verify"));
    begun.expect(202);
    rig.agent.wait(id, "some files", |record| {
        record["verification"]["files_done"].as_u64() >= Some(files)
    })
}

#[test]
fn a_pause_keeps_what_was_looked_at_also_over_a_restart() {
    let mut rig = Rig::new(package());
    let id = rig.create();
    rig.complete(&id);
    verified(&rig, &id);
    flip(&rig.dst().join("a"));
    slow_verification(&rig, &id, 2);
    let paused = rig.agent.pause(&id).expect(200);
    assert_eq!(paused["state"], "complete");
    assert_eq!(paused["verification"]["state"], "paused");
    // A second one changes nothing more.
    rig.agent.pause(&id).assert_error(409, "invalid_transition");
    rig.agent.await_log("verifying is paused", 1);
    rig.agent.kill9();
    rig.agent.restart();
    let record = rig.agent.inspect(&id);
    let found = &record["verification"];
    assert_eq!(found["state"], "paused", "{found:#}");
    assert!(found["files_done"].as_u64() >= Some(2), "{found:#}");
    assert_eq!(found["files_changed"], 1);
    assert_eq!(found["started_at"], paused["verification"]["started_at"]);
    put_settings(&rig, &json!({"verify_rate": null}));
    let on = rig.agent.resume(&id).expect(200);
    assert_eq!(on["state"], "complete");
    let record = rig
        .agent
        .wait(&id, "the end of the verification", |record| {
            record["verification"]["state"] == "done"
        });
    let found = &record["verification"];
    assert_eq!(found["started_at"], paused["verification"]["started_at"]);
    assert_eq!(
        (&found["files_done"], &found["files_changed"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(found["bytes_done"], found["bytes_total"]);
    assert_eq!(record["state"], "error");
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

#[test]
fn one_that_a_kill_ends_goes_on_by_itself() {
    let mut rig = Rig::new(package());
    let id = rig.create();
    rig.complete(&id);
    verified(&rig, &id);
    slow_verification(&rig, &id, 1);
    rig.agent.kill9();
    rig.agent.restart();
    put_settings(&rig, &json!({"verify_rate": 0}));
    let record = rig
        .agent
        .wait(&id, "the end of the verification", |record| {
            record["verification"]["state"] == "done"
        });
    assert_eq!(record["verification"]["files_done"], 5);
    assert_eq!(record["state"], "complete");
}

#[test]
fn the_disks_are_read_no_faster_than_the_settings_allow() {
    let rig = Rig::new(Package::new().file("a", MIB).file("b", MIB));
    let id = rig.create();
    rig.complete(&id);
    verified(&rig, &id);
    put_settings(&rig, &json!({"verify_rate": "1M"}));
    let begun = Instant::now();
    verified(&rig, &id);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1900), "{took:?}");
}

/// A time alone needs no server: the content is known.
#[test]
fn a_changed_time_is_named_and_set_back() {
    let rig = Rig::new(package());
    let id = rig.create();
    let record = rig.complete(&id);
    verified(&rig, &id);
    let path = rig.dst().join("a");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before - Duration::from_secs(9)).unwrap();
    let found = verified(&rig, &id);
    assert_eq!(found["state"], "complete");
    assert_eq!(found["verification"]["files_retimed"], 1, "{found:#}");
    let named = &found["verification"]["files_bad"][0];
    assert_eq!(
        (&named["path"], &named["damage"]),
        (&json!("a"), &json!("retimed"))
    );
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    assert_eq!(row(&found, "F1"), row(&record, "F1"));
    assert_eq!(verified(&rig, &id)["verification"]["files_retimed"], 0);
}

/// It was found just before the pause, and not shown yet.
#[test]
fn damage_that_was_found_before_a_pause_is_not_forgotten() {
    let rig = Rig::new(Package::new().file("a", 5000).file("b", 8 * MIB));
    let id = rig.create();
    rig.complete(&id);
    verified(&rig, &id);
    flip(&rig.dst().join("a"));
    put_settings(&rig, &json!({"verify_rate": 2_000_000}));
    let begun = rig.agent.act(&format!("/api/v1/downloads/{id}/verify"));
    begun.expect(202);
    // Some of the large file was read, so that the small one was looked at.
    rig.agent.wait(&id, "some of the large one", |record| {
        record["verification"]["bytes_done"].as_u64() > Some(1_000_000)
    });
    rig.agent.pause(&id).expect(200);
    rig.agent.await_log("verifying is paused", 1);
    assert_eq!(rig.agent.inspect(&id)["verification"]["files_changed"], 1);
    put_settings(&rig, &json!({"verify_rate": null}));
    rig.agent.resume(&id).expect(200);
    let record = rig
        .agent
        .wait(&id, "the end of the verification", |record| {
            record["verification"]["state"] == "done"
        });
    assert_eq!(record["verification"]["files_changed"], 1, "{record:#}");
    assert_eq!(record["state"], "error");
}
