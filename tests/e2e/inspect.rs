//! A look into a package before anything is downloaded.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::http::{Answer, keys};
use crate::support::origin::{Kind, Reply, SECRET};
use crate::support::package::{Entry, Package};
use crate::support::process::{haul, run};
use crate::support::rig::Rig;

/// Files of the largest package.
const MANY: u64 = 1_000_000;

fn inspect(rig: &Rig, more: Value) -> Answer {
    let mut asked = json!({"url": rig.origin.link()});
    for (name, value) in more.as_object().unwrap() {
        asked[name] = value.clone();
    }
    rig.agent.post("/api/v1/links/inspect", &asked.to_string())
}

#[test]
fn the_package_is_told_as_listed_and_nothing_is_recorded() {
    let package = Package::new()
        .file("clips/a\u{1b}.mov", 50)
        .entry(Entry::new("", "bad", 7).infected())
        .entry(Entry::new("clips", "empty", 0).kind("directory"))
        .entry(Entry::new("", "all.zip", 99).kind("zip"));
    let rig = Rig::new(package);
    let seen = inspect(&rig, json!({})).expect(200);
    assert_eq!(
        keys(&seen),
        [
            "bytes_total",
            "expires_at",
            "files",
            "files_total",
            "name",
            "package_id"
        ]
    );
    assert_eq!(seen["name"], "Dailies 14");
    assert_eq!(seen["package_id"], "PACKAGE1");
    assert_eq!(seen["files_total"], 2);
    assert_eq!(seen["bytes_total"], 57);
    assert_eq!(
        seen["files"],
        json!([
            {"file_id": "F1", "path": "clips/a?.mov", "size": 50, "kind": "file",
             "last_modified": "2021-03-04T05:06:07Z", "virus_detected": false},
            {"file_id": "F2", "path": "bad", "size": 7, "kind": "file",
             "last_modified": "2021-03-04T05:06:07Z", "virus_detected": true},
            {"file_id": "F3", "path": "clips/empty", "size": 0, "kind": "directory",
             "last_modified": "2021-03-04T05:06:07Z", "virus_detected": false},
        ])
    );
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
    assert!(!rig.dst().exists());
}

#[test]
fn refusals_are_those_of_a_post() {
    let rig = Rig::new(Package::new());
    rig.origin.require_password("pass");
    inspect(&rig, json!({})).assert_error(403, "link_password_required");
    inspect(&rig, json!({"password": "x"})).assert_error(403, "link_password_wrong");
    inspect(&rig, json!({"password": "pass"})).expect(200);
    inspect(&rig, json!({"url": "https://example.com/a?secret=b"}))
        .assert_error(400, "unsupported_link_host");
    inspect(&rig, json!({"dst_folder": "/in"})).assert_error(400, "invalid_request");
    inspect(&rig, json!({"url": null})).assert_error(400, "invalid_request");
    for (status, code) in [(404, "link_not_found"), (410, "link_expired")] {
        rig.origin.refuse_link(status);
        inspect(&rig, json!({"password": "pass"})).assert_error(status, code);
    }
}

#[test]
fn a_fault_that_may_pass_is_502_with_the_servers_wait() {
    for kind in [Kind::Link, Kind::Listing] {
        let rig = Rig::new(Package::new().file("a", 1));
        rig.origin
            .always(kind, Reply::status(503).header("Retry-After", "17"));
        let answer = inspect(&rig, json!({}));
        answer.assert_error(502, "upstream_unavailable");
        assert_eq!(answer.header("retry-after"), Some("17"));
        rig.origin.always(kind, Reply::status(500));
        let answer = inspect(&rig, json!({}));
        answer.assert_error(502, "upstream_unavailable");
        assert_eq!(answer.header("retry-after"), None);
        assert_eq!(rig.agent.ids(), Vec::<String>::new());
    }
}

/// The most memory that the agent had so far, in kB.
fn memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

fn write_many(out: &mut dyn Write) -> std::io::Result<()> {
    for number in 0..MANY {
        let sign = if number == 0 { '[' } else { ',' };
        write!(
            out,
            r#"{sign}{{"id":"L{number}","kind":"file","name":"{number:07}.mov","path":"clips/day 1","size":3}}"#
        )?;
    }
    out.write_all(b"]")
}

#[test]
fn a_million_files_go_through_little_memory() {
    let rig = Rig::new(Package::new());
    rig.origin.always(Kind::Listing, Reply::made(write_many));
    let seen = inspect(&rig, json!({}));
    assert!(memory(&rig.agent) < 64 << 10, "{} kB", memory(&rig.agent));
    let seen = seen.expect(200);
    assert_eq!(seen["files_total"], MANY);
    assert_eq!(seen["bytes_total"], 3 * MANY);
    assert_eq!(seen["files"].as_array().unwrap().len() as u64, MANY);
}

#[test]
fn the_command_line_lists_a_package() {
    let rig = Rig::new(Package::new().file("clips/a.mov", 50).file("b", 7));
    let server = format!("http://{}", rig.agent.address);
    let ask = |more: &[&str]| {
        let link = rig.origin.link();
        let mut command = haul();
        let end = run(command
            .args(["inspect", &link, "--server", &server])
            .args(more));
        assert!(
            !end.stdout.contains(SECRET) && !end.stderr.contains(SECRET),
            "{end:?}"
        );
        end
    };
    let end = ask(&[]);
    assert_eq!(end.code(), Some(0), "{end:?}");
    let lines: Vec<&str> = end.stdout.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        ["50 B  clips/a.mov", "7 B  b", "Dailies 14: 2 files, 57 B"]
    );
    let end = ask(&["--json"]);
    let seen: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(seen["files"][1]["file_id"], "F2");
    rig.origin.refuse_link(404);
    assert_eq!(ask(&[]).code(), Some(1));
}
