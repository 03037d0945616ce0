//! DELETE: one, all, or those in some states; with the files or without; never anything else.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{DOWNLOADS, Setup, one};
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::{Entry, Package};
use crate::support::rig::Rig;
use crate::support::tree;

fn small() -> Package {
    Package::new()
        .file("a", 10)
        .file("dir/b", 20)
        .file("dir/deep/c", 30)
}

fn completed() -> (Rig, String) {
    let rig = Rig::new(small());
    fs::create_dir(rig.dst()).unwrap();
    let id = rig.create();
    rig.complete(&id);
    (rig, id)
}

fn remove(rig: &Rig, id: &str) -> Value {
    let target = format!("{}?remove_files=true", one(id));
    rig.agent.delete(&target).expect(200)
}

#[test]
fn the_record_goes_and_the_files_stay() {
    let (rig, id) = completed();
    let answer = rig.agent.delete(&one(&id)).expect(200);
    assert_eq!(answer, json!({"deleted": [id], "files_removed": 0}));
    let again = rig.agent.get(&one(&id));
    again.assert_error(404, "download_not_found");
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
    tree::assert_file(&rig.dst().join("dir/deep/c"), 3, 30);
}

#[test]
fn remove_files_false_is_the_same_as_nothing() {
    let (rig, id) = completed();
    let target = format!("{}?remove_files=false", one(&id));
    assert_eq!(rig.agent.delete(&target).expect(200)["files_removed"], 0);
    tree::assert_file(&rig.dst().join("a"), 1, 10);
}

#[test]
fn a_transfer_is_stopped_and_its_part_files_go() {
    let rig = Rig::new(
        Package::new()
            .file("whole", 1000)
            .file("dir/large", 24 << 20),
    );
    rig.origin.throttle(4 << 20);
    let id = rig.create();
    rig.agent.wait(&id, "one whole file and a part", |record| {
        record["files_complete"] == 1 && record["bytes_done"].as_u64() > Some(100_000)
    });
    assert_eq!(tree::part_files(&rig.dst()).len(), 1);
    let answer = rig.agent.delete(&one(&id)).expect(200);
    assert_eq!(answer["files_removed"], 0);
    assert_eq!(tree::part_files(&rig.dst()).len(), 0);
    tree::assert_file(&rig.dst().join("whole"), 1, 1000);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    assert_eq!(tree::part_files(&rig.dst()).len(), 0);
}

#[test]
fn removed_are_exactly_the_files_and_folders_that_it_made() {
    let rig = Rig::new(small().entry(Entry::new("", "empty", 0).kind("directory")));
    let dst = rig.dst();
    tree::write_file(&dst.join("mine"), 90, 5);
    tree::write_file(&dst.join("dir/mine"), 91, 5);
    let id = rig.create();
    rig.complete(&id);
    tree::write_file(&dst.join("dir/later"), 92, 5);
    let answer = remove(&rig, &id);
    assert_eq!(answer, json!({"deleted": [id], "files_removed": 3}));
    assert_eq!(tree::paths(&dst), ["dir/", "dir/later", "dir/mine", "mine"]);
    tree::assert_file(&dst.join("dir/mine"), 91, 5);
}

#[test]
fn a_folder_that_was_there_before_stays_even_when_empty() {
    let rig = Rig::new(small());
    fs::create_dir_all(rig.dst().join("dir")).unwrap();
    let id = rig.create();
    rig.complete(&id);
    remove(&rig, &id);
    assert_eq!(tree::paths(&rig.dst()), ["dir/"]);
}

#[test]
fn a_folder_that_it_made_stays_while_something_is_in_it() {
    let (rig, id) = completed();
    tree::write_file(&rig.dst().join("dir/deep/mine"), 90, 5);
    remove(&rig, &id);
    assert_eq!(
        tree::paths(&rig.dst()),
        ["dir/", "dir/deep/", "dir/deep/mine"]
    );
}

#[test]
fn a_destination_that_it_made_goes_too() {
    let rig = Rig::new(small());
    let id = rig.create();
    rig.complete(&id);
    remove(&rig, &id);
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
}

/// Deletes a download with its files while another, which has not begun to write, is to go into
/// `folder` below the first one's destination; then that one is completed, and deleted in the same
/// way. Returns what is left.
fn remove_beside_another(folder: &str, paused: bool) -> Vec<String> {
    let first = Origin::new(small());
    let second = Origin::new(Package::new().file("new/x", 10));
    let agent = Setup::new().origin(&first).origin(&second).start();
    let dir = tempfile::tempdir().unwrap();
    let dst = dir.path().join("in");
    let id = agent.create(&first, &dst);
    agent.wait_state(&id, "complete");
    let gate = Gate::new();
    second.always(Kind::Listing, Reply::stall(&gate));
    let other = agent.create(&second, &dst.join(folder));
    second.await_requests(Kind::Listing, 1);
    if paused {
        agent.pause(&other).expect(200);
    }
    let target = format!("{}?remove_files=true", one(&id));
    assert_eq!(agent.delete(&target).expect(200)["files_removed"], 3);
    assert!(dst.join(folder).is_dir(), "{:?}", tree::paths(dir.path()));
    gate.open();
    if paused {
        agent.resume(&other).expect(200);
    }
    agent.wait_state(&other, "complete");
    tree::assert_file(&dst.join(folder).join("new/x"), 1, 10);
    let target = format!("{}?remove_files=true", one(&other));
    agent.delete(&target).expect(200);
    tree::paths(dir.path())
}

#[test]
fn a_destination_that_another_is_to_use_stays() {
    for paused in [false, true] {
        assert_eq!(remove_beside_another("", paused), Vec::<String>::new());
    }
}

#[test]
fn a_folder_of_the_package_that_is_anothers_destination_stays() {
    let left = remove_beside_another("dir/deep", false);
    assert_eq!(left, ["in/", "in/dir/", "in/dir/deep/"], "it made none");
}

#[test]
fn files_of_a_running_transfer_are_removed_with_their_parts() {
    let rig = Rig::new(
        Package::new()
            .file("whole", 1000)
            .file("dir/large", 24 << 20),
    );
    rig.origin.throttle(4 << 20);
    let id = rig.create();
    rig.agent.wait(&id, "one whole file", |record| {
        record["files_complete"] == 1
    });
    assert_eq!(remove(&rig, &id)["files_removed"], 1);
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
}

#[test]
fn what_the_user_put_in_a_files_place_stays() {
    let (rig, id) = completed();
    let path = rig.dst().join("dir/b");
    fs::remove_file(&path).unwrap();
    tree::write_file(&path, 90, 777);
    remove(&rig, &id);
    tree::assert_file(&path, 90, 777);
    assert_eq!(tree::paths(&rig.dst()), ["dir/", "dir/b"]);
}

#[test]
fn nothing_is_removed_through_a_symlink() {
    let (rig, id) = completed();
    let outside = rig.dir().join("outside");
    // The very same content and time: only the way leads elsewhere.
    fs::rename(rig.dst().join("dir"), &outside).unwrap();
    symlink(&outside, rig.dst().join("dir")).unwrap();
    remove(&rig, &id);
    tree::assert_file(&outside.join("b"), 2, 20);
    tree::assert_file(&outside.join("deep/c"), 3, 30);
    assert!(!rig.dst().join("a").exists());
}

#[test]
fn files_that_are_gone_already_are_no_trouble() {
    let (rig, id) = completed();
    fs::remove_dir_all(rig.dst()).unwrap();
    let answer = remove(&rig, &id);
    assert_eq!(answer, json!({"deleted": [id], "files_removed": 0}));
}

#[test]
fn files_skipped_because_they_were_there_stay() {
    let rig = Rig::new(small());
    tree::write_file(&rig.dst().join("a"), 90, 5);
    let id = rig.create_with(json!({"if_exists": "skip"}));
    rig.agent.wait_state(&id, "complete");
    assert_eq!(remove(&rig, &id)["files_removed"], 2);
    tree::assert_file(&rig.dst().join("a"), 90, 5);
}

/// Two complete downloads, then a paused and a running one.
fn four() -> (Rig, Vec<String>) {
    let rig = Rig::new(small());
    let create = |name: &str| rig.agent.create(&rig.origin, &rig.dir().join(name));
    let mut ids = vec![create("1"), create("2")];
    for id in &ids {
        rig.agent.wait_state(id, "complete");
    }
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    ids.extend([create("3"), create("4")]);
    rig.agent.pause(&ids[2]).expect(200);
    (rig, ids)
}

/// What a DELETE of several answers, its list sorted.
fn delete_some(rig: &Rig, query: &str) -> (Vec<String>, u64) {
    let answer = rig.agent.delete(&format!("{DOWNLOADS}{query}")).expect(200);
    let deleted = answer["deleted"].as_array().unwrap().iter();
    let mut deleted: Vec<String> = deleted.map(|id| id.as_str().unwrap().into()).collect();
    deleted.sort();
    (deleted, answer["files_removed"].as_u64().unwrap())
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

#[test]
fn all_are_deleted_at_once() {
    let (rig, ids) = four();
    assert_eq!(delete_some(&rig, ""), (sorted(&ids), 0));
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
    tree::assert_file(&rig.dir().join("1/a"), 1, 10);
    assert_eq!(delete_some(&rig, ""), (Vec::new(), 0));
}

#[test]
fn those_in_one_state_are_deleted() {
    let (rig, ids) = four();
    let complete = sorted(&ids[..2]);
    assert_eq!(delete_some(&rig, "?states=complete"), (complete, 0));
    assert_eq!(rig.agent.ids(), ids[2..]);
    assert_eq!(delete_some(&rig, "?states=error"), (Vec::new(), 0));
}

#[test]
fn states_and_remove_files_work_together() {
    let (rig, ids) = four();
    let query = "?states=complete,paused&remove_files=true";
    assert_eq!(delete_some(&rig, query), (sorted(&ids[..3]), 6));
    assert_eq!(rig.agent.ids(), ids[3..]);
    assert!(!rig.dir().join("1").exists());
    assert!(!rig.dir().join("2").exists());
}

#[test]
fn all_can_be_deleted_with_their_files() {
    let (rig, ids) = four();
    assert_eq!(delete_some(&rig, "?remove_files=true"), (sorted(&ids), 6));
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
}

#[test]
fn a_deleted_link_can_be_downloaded_again() {
    let (rig, id) = completed();
    remove(&rig, &id);
    let again = rig.create();
    assert_ne!(again, id);
    rig.complete(&again);
}

#[test]
fn what_was_deleted_stays_deleted_after_a_restart() {
    let (mut rig, id) = completed();
    rig.agent.delete(&one(&id)).expect(200);
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
}

#[test]
fn a_users_part_beside_a_skipped_file_stays() {
    for query in ["", "?remove_files=true"] {
        let package = Package::new()
            .file("first", 1000)
            .entry(Entry::new("", "infected", 100).infected())
            .file("there", 1000)
            .file("last", 1000);
        let rig = Rig::new(package);
        fs::create_dir(rig.dst()).unwrap();
        for name in ["there", "there.part", "infected.part"] {
            tree::write_file(&rig.dst().join(name), 90, 7);
        }
        let id = rig.create_with(json!({"if_exists": "skip"}));
        rig.agent.wait_state(&id, "complete");
        rig.agent
            .delete(&format!("{}{query}", one(&id)))
            .expect(200);
        for name in ["there", "there.part", "infected.part"] {
            tree::assert_file(&rig.dst().join(name), 90, 7);
        }
    }
}

#[test]
fn a_users_part_of_a_file_that_is_not_begun_stays() {
    let package = Package::new().file("large", 24 << 20).file("later", 1000);
    let rig = Rig::with(package, &["--workers", "1"]);
    rig.origin.throttle(1 << 20);
    let id = rig.create();
    rig.origin.await_served(1);
    rig.agent
        .wait(&id, "bytes", |record| record["bytes_done"] != 0);
    tree::write_file(&rig.dst().join("later.part"), 90, 7);
    rig.agent.delete(&one(&id)).expect(200);
    assert_eq!(tree::paths(&rig.dst()), ["later.part"]);
    tree::assert_file(&rig.dst().join("later.part"), 90, 7);
}

#[test]
fn a_file_that_another_download_has_overwritten_is_the_others() {
    let rig = Rig::new(small());
    let first = rig.create();
    rig.complete(&first);
    let second = rig.create_with(json!({"if_exists": "overwrite"}));
    let record = rig.complete(&second);
    assert_eq!(remove(&rig, &first)["files_removed"], 0);
    rig.assert_arrived(&record);
    remove(&rig, &second);
    assert_eq!(
        tree::paths(&rig.dst())
            .iter()
            .filter(|path| !path.ends_with('/'))
            .count(),
        0
    );
}

#[test]
fn downloads_that_are_deleted_together_leave_no_folder_that_one_of_them_made() {
    let rig = Rig::new(small());
    let first = rig.create();
    rig.complete(&first);
    let second = rig.create();
    rig.complete(&second);
    let answer = rig.agent.delete("/api/v1/downloads?remove_files=true");
    assert_eq!(answer.expect(200)["deleted"], json!([first, second]));
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
}
