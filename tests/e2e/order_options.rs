//! What else a POST can ask for: a folder for the package, an owner, quarantine, the size of
//! ranges.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::{Value, json};

use crate::support::agent::{one, row};
use crate::support::origin::Kind;
use crate::support::package::{Entry, Package};
use crate::support::rig::Rig;
use crate::support::tree;

const MIB: u64 = 1 << 20;

#[test]
fn files_go_into_a_folder_of_the_packages_name() {
    let mut package = Package::new().file("clips/a.mov", 10);
    package.name = "Day/ 1\u{7}".into();
    let rig = Rig::new(package);
    let id = rig.create_with(json!({"create_package_folder": true}));
    let record = rig.complete(&id);
    assert_eq!(record["create_package_folder"], true);
    assert_eq!(row(&record, "F1")["path"], "Day 1/clips/a.mov");
    assert_eq!(row(&record, "F1")["original_path"], Value::Null);
    // A pattern is about the path inside the package.
    let target = format!("{}?files_match=clips/", one(&id));
    let matched = rig.agent.get(&target).expect(200);
    assert_eq!(row(&matched, "F1")["path"], "Day 1/clips/a.mov");
    let dst = rig.dst();
    assert_eq!(
        tree::paths(&dst),
        ["Day 1/", "Day 1/clips/", "Day 1/clips/a.mov"]
    );
    let deleted = rig
        .agent
        .delete(&format!("/api/v1/downloads/{id}?remove_files=true"));
    assert_eq!(deleted.expect(200)["files_removed"], 1);
    assert!(!dst.join("Day 1").exists());
}

#[test]
fn a_folder_of_that_name_is_used_and_a_file_or_link_counts_as_taken() {
    for what in ["folder", "file", "link"] {
        let rig = Rig::new(Package::new().file("a.mov", 10));
        fs::create_dir(rig.dst()).unwrap();
        let name = rig.dst().join("Dailies 14");
        match what {
            "folder" => fs::create_dir(&name).unwrap(),
            "file" => fs::write(&name, "mine").unwrap(),
            _ => symlink(rig.dir(), &name).unwrap(),
        }
        let id = rig.create_with(json!({"create_package_folder": true}));
        let record = rig.complete(&id);
        let expected = match what {
            "folder" => "Dailies 14/a.mov",
            _ => "Dailies 14 (1)/a.mov",
        };
        let row = row(&record, "F1");
        assert_eq!(row["path"], expected, "{what}");
        assert_eq!(row["original_path"], Value::Null, "{what}");
    }
}

#[test]
fn a_flagged_file_keeps_a_package_away_only_where_that_is_asked_for() {
    let package = Package::new()
        .file("fine", 10)
        .entry(Entry::new("", "bad", 10).infected());
    let rig = Rig::new(package);
    let id = rig.create_with(json!({"bypass_package_quarantine": false, "file_ids": ["F1"]}));
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "package_quarantined");
    assert_eq!(record["bypass_package_quarantine"], false);
    assert_eq!(rig.origin.count(Kind::Address), 0);
    let id = rig.create_with(json!({"bypass_package_quarantine": true}));
    let record = rig.agent.wait_state(&id, "complete");
    assert_eq!(row(&record, "F2")["state"], "skipped");
}

#[test]
fn a_file_that_is_not_uploaded_yet_is_skipped_and_said_to_be() {
    let package = Package::new()
        .file("here", 10)
        .entry(Entry::new("", "not yet", 10).incomplete());
    let rig = Rig::new(package);
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "complete");
    assert_eq!(record["files_skipped"], 1);
    let not_yet = row(&record, "F2");
    assert_eq!(not_yet["state"], "skipped");
    assert_eq!(not_yet["error"]["code"], "file_not_found");
    let message = not_yet["error"]["message"].as_str().unwrap();
    assert!(message.contains("not uploaded all"), "{message}");
    assert!(!rig.dst().join("not yet").exists());
    assert_eq!(rig.origin.count(Kind::Address), 1);
}

#[test]
fn ranges_have_the_size_that_is_asked_for() {
    let rig = Rig::new(Package::new().file("large", 5 * MIB + 1));
    let id = rig.create_with(json!({"chunk_size": 2 * MIB}));
    let record = rig.complete(&id);
    assert_eq!(record["chunk_size"], 2 * MIB);
    let requests = rig.origin.requests(Kind::Bytes);
    let mut starts: Vec<u64> = requests
        .iter()
        .map(|seen| seen.range.map_or(0, |(start, _)| start))
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, [0, 2 * MIB, 4 * MIB]);
}

#[test]
fn what_the_agent_may_not_give_away_is_said_at_post() {
    let rig = Rig::new(Package::new().file("sub/a", 10));
    let own = fs::metadata(rig.dir()).unwrap();
    let root = own.uid() == 0;
    let mut order = rig.order();
    order["uid"] = json!(if root { 12_345 } else { 0 });
    let answer = rig.agent.order(&order);
    if !root {
        answer.assert_error(400, "invalid_request");
        assert!(!rig.dst().exists());
        return;
    }
    let id = answer.expect(201)["download_id"].clone();
    rig.complete(id.as_str().unwrap());
    for path in ["", "sub", "sub/a"] {
        let found = fs::metadata(rig.dst().join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (12_345, own.gid()), "{path}");
    }
}

#[test]
fn to_oneself_everybody_may_give() {
    let rig = Rig::new(Package::new().file("a", 10));
    let own = fs::metadata(rig.dir()).unwrap();
    let id = rig.create_with(json!({"uid": own.uid(), "gid": own.gid()}));
    let record = rig.complete(&id);
    assert_eq!(record["uid"], own.uid());
    assert_eq!(record["gid"], own.gid());
}

#[test]
fn fields_of_a_wrong_type_or_outside_their_range_are_refused() {
    let rig = Rig::new(Package::new());
    for (field, wrong) in [
        ("create_package_folder", json!("true")),
        ("file_ids", json!("F1")),
        ("file_ids", json!([1])),
        ("include", json!({})),
        ("exclude", json!([null])),
        ("include", json!(vec!["a"; 1001])),
        ("priority", json!(1001)),
        ("priority", json!(0.5)),
        ("uid", json!(-1)),
        ("gid", json!(4_294_967_295_u64)),
        ("bypass_package_quarantine", json!(0)),
        ("chunk_size", json!(MIB - 1)),
        ("chunk_size", json!(1024 * MIB + 1)),
    ] {
        let mut order = rig.order();
        order[field] = wrong.clone();
        let answer = rig.agent.order(&order);
        answer.assert_error(400, "invalid_request");
        assert!(
            answer.text.contains(field),
            "{field} {wrong}: {}",
            answer.text
        );
    }
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
}

#[test]
fn permissions_are_those_of_the_mask() {
    for (mask, file, folder) in [("002", 0o664, 0o775), ("027", 0o640, 0o750)] {
        let rig = Rig::with(Package::new().file("deep/a", 10), &["--umask", mask]);
        let id = rig.create();
        rig.complete(&id);
        let mode = |path: &str| {
            let found = std::fs::metadata(rig.dst().join(path)).unwrap();
            std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777
        };
        assert_eq!(
            (mode("deep/a"), mode("deep"), mode("")),
            (file, folder, folder)
        );
    }
    for wrong in ["8", "0x2", "777", "2000", "-2"] {
        let mut command = crate::support::process::haul();
        command.args(["serve", "--state-dir", "/nowhere", "--umask", wrong]);
        let end = crate::support::process::run(&mut command);
        assert_eq!(end.code(), Some(2), "{wrong}: {}", end.stderr);
    }
}
