//! A choice of files: by identifier and by pattern.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::agent::row;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::{Entry, Package};
use crate::support::process::{haul, run};
use crate::support::rig::Rig;
use crate::support::tree;

/// `F1` to `F6`, the last an empty folder.
fn package() -> Package {
    Package::new()
        .file("readme.txt", 100)
        .file("clips/day 1/a.mov", 5_000)
        .file("clips/b.mov", 1)
        .file("clips/b.txt", 2)
        .file("old/B.mov", 3)
        .entry(Entry::new("clips", "empty", 0).kind("directory"))
}

/// What arrives of the package with these fields in the order.
fn arrives(more: Value) -> Vec<String> {
    let rig = Rig::new(package());
    let id = rig.create_with(more);
    rig.agent.wait_state(&id, "complete");
    tree::paths(&rig.dst())
}

#[test]
fn include_exclude_and_file_ids_choose_together() {
    assert_eq!(
        arrives(json!({"include": ["*.mov"], "exclude": ["old/"]})),
        ["clips/", "clips/b.mov", "clips/day 1/", "clips/day 1/a.mov"]
    );
    assert_eq!(
        arrives(json!({"include": ["{clips,old}/[a-z]*"]})),
        ["clips/", "clips/b.mov", "clips/b.txt", "clips/empty/"]
    );
    assert_eq!(arrives(json!({"file_ids": ["F1"]})), ["readme.txt"]);
    assert_eq!(
        arrives(json!({"file_ids": ["F1", "F3"], "include": ["clips/**"]})),
        ["clips/", "clips/b.mov"]
    );
    assert_eq!(
        arrives(json!({"exclude": ["*.mov", "*.txt"], "include": ["clips/"]})),
        ["clips/", "clips/empty/"]
    );
}

#[test]
fn totals_and_lists_know_the_chosen_files_only_and_the_choice_is_shown() {
    let rig = Rig::new(package());
    let id = rig.create_with(json!({"file_ids": ["F2", "F3"], "exclude": ["x"]}));
    let record = rig.agent.wait_state(&id, "complete");
    assert_eq!(record["files_total"], 2);
    assert_eq!(record["bytes_total"], 5_001);
    assert_eq!(record["files"].as_array().unwrap().len(), 2);
    rig.assert_file(&record, "F2");
    rig.assert_file(&record, "F3");
    assert_eq!(
        record["selection"],
        json!({"file_ids": 2, "include": [], "exclude": ["x"]})
    );
    let all = rig.agent.create(&rig.origin, &rig.dir().join("all"));
    assert_eq!(rig.agent.inspect(&all)["selection"], Value::Null);
}

#[test]
fn a_choice_of_nothing_is_an_error_that_says_so() {
    for (more, code) in [
        (json!({"include": ["*.wav"]}), "nothing_selected"),
        (json!({"file_ids": ["F1", "F8", "F9"]}), "file_not_found"),
        // A folder is no file.
        (json!({"file_ids": ["F6"]}), "file_not_found"),
    ] {
        let rig = Rig::new(package());
        let id = rig.create_with(more.clone());
        let record = rig.agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], code, "{more}");
        assert_eq!(record["error"]["recoverable"], false);
        if code == "file_not_found" {
            let message = record["error"]["message"].as_str().unwrap();
            let first = if more["file_ids"][0] == "F6" {
                "F6"
            } else {
                "F8"
            };
            assert!(message.contains(first), "{message}");
        }
        assert_eq!(rig.origin.count(Kind::Address), 0);
    }
}

#[test]
fn a_malformed_pattern_is_named_with_its_column() {
    let rig = Rig::new(package());
    for (field, pattern, column) in [("include", "ab[c", "3"), ("exclude", "{a", "1")] {
        let mut order = rig.order();
        order[field] = json!(["fine", pattern]);
        let answer = rig.agent.order(&order);
        answer.assert_error(400, "invalid_request");
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(message.contains(pattern), "{message}");
        assert!(message.contains(&format!("column {column}")), "{message}");
    }
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
}

#[test]
fn the_same_link_goes_into_a_folder_again_with_another_choice() {
    let rig = Rig::new(package());
    let gate = Gate::new();
    rig.origin.always(Kind::Listing, Reply::stall(&gate));
    let one = rig.create_with(json!({"file_ids": ["F1", "F3"]}));
    let mut same = rig.order();
    same["file_ids"] = json!(["F3", "F1"]);
    let answer = rig.agent.order(&same);
    let error = answer.expect(409)["error"].clone();
    assert_eq!(error["code"], "duplicate_download");
    assert_eq!(error["download_id"], json!(one));
    let other = rig.create_with(json!({"file_ids": ["F2"]}));
    gate.open();
    rig.agent.wait_state(&one, "complete");
    rig.agent.wait_state(&other, "complete");
    assert!(rig.dst().join("clips/day 1/a.mov").exists());
    assert!(rig.dst().join("clips/b.mov").exists());
}

#[test]
fn thirty_thousand_identifiers_fit_and_one_more_does_not() {
    let rig = Rig::new(package());
    let mut ids: Vec<String> = (0..29_999).map(|number| format!("{number:030}")).collect();
    ids.insert(0, "F1".into());
    let mut order = rig.order();
    order["file_ids"] = json!(ids);
    assert!(order.to_string().len() < 1 << 20);
    let id = rig.agent.order(&order).expect(201)["download_id"].clone();
    let record = rig.agent.wait_state(id.as_str().unwrap(), "error");
    assert_eq!(record["error"]["code"], "file_not_found");
    assert_eq!(record["selection"]["file_ids"], 30_000);
    ids.push("x".into());
    order["file_ids"] = json!(ids);
    rig.agent.order(&order).assert_error(400, "invalid_request");
    order["file_ids"] = json!([]);
    rig.agent.order(&order).assert_error(400, "invalid_request");
}

#[test]
fn a_choice_survives_a_kill_before_and_after_the_listing() {
    let mut rig = Rig::new(package());
    let gate = Gate::new();
    rig.origin.always(Kind::Listing, Reply::stall(&gate));
    let id = rig.create_with(json!({"include": ["*.txt"], "priority": 7}));
    rig.origin.await_requests(Kind::Listing, 1);
    rig.agent.kill9();
    rig.agent.restart();
    gate.open();
    rig.origin.heal(Kind::Listing);
    let before = rig.agent.wait_state(&id, "complete");
    rig.agent.kill9();
    rig.agent.restart();
    let after = rig.agent.inspect(&id);
    for record in [before, after] {
        assert_eq!(record["files_total"], 2);
        assert_eq!(record["priority"], 7);
        assert_eq!(record["selection"]["include"], json!(["*.txt"]));
        assert_eq!(row(&record, "F4")["state"], "complete");
    }
}

fn get(rig: &Rig, state: &Path, more: &[&str]) {
    let (link, dst) = (rig.origin.link(), rig.dst());
    let origin = format!("{}={}", rig.origin.base(), rig.origin.api());
    let mut command = haul();
    command.args(["get", &link, dst.to_str().unwrap(), "--origin", &origin]);
    let end = run(command.arg("--state-dir").arg(state).args(more));
    assert_eq!(end.code(), Some(0), "{end:?}");
}

#[test]
fn get_and_add_choose_files_too() {
    let rig = Rig::new(package());
    let state = rig.dir().join("state");
    get(
        &rig,
        &state,
        &["--include", "*.txt", "--exclude", "readme*"],
    );
    assert_eq!(tree::paths(&rig.dst()), ["clips/", "clips/b.txt"]);
    // Another choice is another download, and not the same command again.
    get(
        &rig,
        &state,
        &["--file-id", "F1", "--create-package-folder"],
    );
    assert!(rig.dst().join("Dailies 14/readme.txt").exists());
    let other = rig.dir().join("other");
    let mut command = haul();
    command.args(["add", &rig.origin.link(), other.to_str().unwrap()]);
    command.args(["--include", "{a,b}.mov", "--priority", "-3", "--json"]);
    command.args(["--server", &format!("http://{}", rig.agent.address)]);
    let end = run(&mut command);
    assert_eq!(end.code(), Some(0), "{end:?}");
    let summary: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(summary["priority"], -3);
    let id = summary["download_id"].as_str().unwrap();
    assert_eq!(rig.agent.wait_state(id, "complete")["files_total"], 2);
}
