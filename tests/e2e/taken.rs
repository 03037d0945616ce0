//! Names that are taken in the destination, before or meanwhile: files, folders, and symlinks that
//! lead elsewhere. What the user has is never touched, unless the order says so.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::names::path_of;
use crate::support::agent::row;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

/// A rig whose destination holds what `prepare` put there, and the record at its end.
fn prepared(package: Package, more: Value, prepare: impl FnOnce(&Rig)) -> (Rig, Value) {
    let rig = Rig::new(package);
    fs::create_dir(rig.dst()).unwrap();
    prepare(&rig);
    let id = rig.create_with(more);
    let record = rig.agent.wait_end(&id);
    (rig, record)
}

#[test]
fn a_users_part_file_is_left_alone() {
    let (rig, record) = prepared(Package::new().file("x", 1000), json!({}), |rig| {
        tree::write_file(&rig.dst().join("x.part"), 90, 7);
    });
    rig.assert_file(&record, "F1");
    assert_eq!(path_of(&record, "F1"), "x");
    tree::assert_file(&rig.dst().join("x.part"), 90, 7);
}

#[test]
fn if_exists_rename_is_the_default() {
    for more in [json!({}), json!({"if_exists": "rename"})] {
        let package = Package::new().file("d/x.mov", 1000).file("y", 10);
        let (rig, record) = prepared(package, more, |rig| {
            tree::write_file(&rig.dst().join("d/x.mov"), 90, 7);
        });
        rig.assert_arrived(&record);
        assert_eq!(row(&record, "F1")["path"], "d/x (1).mov");
        assert_eq!(row(&record, "F1")["original_path"], "d/x.mov");
        tree::assert_file(&rig.dst().join("d/x.mov"), 90, 7);
    }
}

#[test]
fn if_exists_overwrite_replaces_once_the_new_file_is_whole() {
    let rig = Rig::new(Package::new().file("x", 100_000));
    tree::write_file(&rig.dst().join("x"), 90, 7);
    let gate = Gate::new();
    rig.origin
        .always(Kind::Bytes, Reply::stall_after(1000, &gate));
    let id = rig.create_with(json!({"if_exists": "overwrite"}));
    rig.agent
        .wait(&id, "bytes", |record| record["bytes_done"] != 0);
    tree::assert_file(&rig.dst().join("x"), 90, 7);
    gate.open();
    let record = rig.complete(&id);
    assert_eq!(path_of(&record, "F1"), "x");
    assert_eq!(tree::paths(&rig.dst()), ["x"]);
}

#[test]
fn if_exists_skip_leaves_the_file_and_fetches_nothing() {
    let package = Package::new().file("x", 1000).file("y", 10);
    let (rig, record) = prepared(package, json!({"if_exists": "skip"}), |rig| {
        tree::write_file(&rig.dst().join("x"), 90, 7);
    });
    assert_eq!(record["state"], "complete");
    assert_eq!(row(&record, "F1")["state"], "skipped");
    assert_eq!(record["files_skipped"], 1);
    assert_eq!(record["bytes_total"], 10);
    assert_eq!(record["bytes_done"], 10);
    rig.assert_file(&record, "F2");
    tree::assert_file(&rig.dst().join("x"), 90, 7);
    assert_eq!(rig.origin.served_of("F1"), 0);
}

#[test]
fn a_folder_in_a_files_place_stays() {
    for policy in ["rename", "overwrite"] {
        let package = Package::new().file("x", 1000);
        let (rig, record) = prepared(package, json!({"if_exists": policy}), |rig| {
            tree::write_file(&rig.dst().join("x/mine"), 90, 7);
        });
        rig.assert_arrived(&record);
        tree::assert_file(&rig.dst().join("x/mine"), 90, 7);
    }
}

#[test]
fn a_file_in_a_folders_place_stays() {
    let package = Package::new().file("x/y", 1000);
    let (rig, record) = prepared(package, json!({}), |rig| {
        tree::write_file(&rig.dst().join("x"), 90, 7);
    });
    rig.assert_arrived(&record);
    tree::assert_file(&rig.dst().join("x"), 90, 7);
}

#[test]
fn a_planted_symlink_is_a_name_that_is_taken() {
    for policy in ["rename", "overwrite"] {
        let package = Package::new().file("dir/x", 1000).file("y", 2000);
        let (rig, record) = prepared(package, json!({"if_exists": policy}), |rig| {
            let outside = rig.dir().join("outside");
            tree::write_file(&outside.join("target"), 90, 7);
            symlink(&outside, rig.dst().join("dir")).unwrap();
            symlink(outside.join("target"), rig.dst().join("y")).unwrap();
            symlink(outside.join("new"), rig.dst().join("y.part")).unwrap();
        });
        rig.assert_file(&record, "F1");
        rig.assert_file(&record, "F2");
        assert_ne!(path_of(&record, "F1"), "dir/x");
        let outside = rig.dir().join("outside");
        assert_eq!(tree::paths(&outside), ["target"]);
        tree::assert_file(&outside.join("target"), 90, 7);
    }
}

#[test]
fn if_exists_skip_does_not_write_through_a_symlink() {
    let package = Package::new().file("dir/x", 1000).file("y", 2000);
    let (rig, record) = prepared(package, json!({"if_exists": "skip"}), |rig| {
        let outside = rig.dir().join("outside");
        tree::write_file(&outside.join("target"), 90, 7);
        symlink(&outside, rig.dst().join("dir")).unwrap();
        symlink(outside.join("target"), rig.dst().join("y")).unwrap();
    });
    assert_eq!(record["state"], "complete");
    let outside = rig.dir().join("outside");
    assert_eq!(tree::paths(&outside), ["target"]);
    tree::assert_file(&outside.join("target"), 90, 7);
}

/// A rig whose one file, `dir/x`, is under way and held; and what holds it.
fn held() -> (Rig, String, Gate) {
    let rig = Rig::new(Package::new().file("dir/x", 300_000));
    fs::create_dir(rig.dir().join("outside")).unwrap();
    let gate = Gate::new();
    let reply = Reply::stall_after(100_000, &gate);
    rig.origin.first(1, Kind::Bytes, reply);
    let id = rig.create();
    rig.agent
        .wait(&id, "bytes", |record| record["bytes_done"] != 0);
    (rig, id, gate)
}

#[test]
fn a_folder_swapped_for_a_symlink_leads_nowhere() {
    let (rig, id, gate) = held();
    fs::rename(rig.dst().join("dir"), rig.dst().join("moved")).unwrap();
    symlink(rig.dir().join("outside"), rig.dst().join("dir")).unwrap();
    gate.open();
    rig.agent.wait_end(&id);
    assert_eq!(
        tree::paths(&rig.dir().join("outside")),
        Vec::<String>::new()
    );
}

#[test]
fn a_folder_swapped_while_paused_leads_nowhere() {
    let (rig, id, gate) = held();
    rig.agent.pause(&id).expect(200);
    gate.open();
    fs::rename(rig.dst().join("dir"), rig.dst().join("moved")).unwrap();
    symlink(rig.dir().join("outside"), rig.dst().join("dir")).unwrap();
    rig.agent.resume(&id).expect(200);
    rig.agent.wait_end(&id);
    assert_eq!(
        tree::paths(&rig.dir().join("outside")),
        Vec::<String>::new()
    );
}

#[test]
fn a_part_file_swapped_for_a_symlink_leads_nowhere() {
    let (rig, id, gate) = held();
    rig.agent.pause(&id).expect(200);
    gate.open();
    let target = rig.dir().join("outside/target");
    tree::write_file(&target, 90, 300_000);
    let part = rig.dst().join("dir/x.part");
    fs::remove_file(&part).unwrap();
    symlink(&target, &part).unwrap();
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_end(&id);
    rig.assert_file(&record, "F1");
    tree::assert_file(&target, 90, 300_000);
}

#[test]
fn a_name_taken_meanwhile_is_not_clobbered() {
    let (rig, id, gate) = held();
    let target = rig.dir().join("outside/target");
    tree::write_file(&target, 90, 7);
    symlink(&target, rig.dst().join("dir/x")).unwrap();
    gate.open();
    let record = rig.complete(&id);
    assert_eq!(row(&record, "F1")["path"], "dir/x (1)");
    tree::assert_file(&target, 90, 7);
}

#[test]
fn a_file_saved_by_the_user_meanwhile_is_not_clobbered() {
    let (rig, id, gate) = held();
    tree::write_file(&rig.dst().join("dir/x"), 90, 7);
    gate.open();
    let record = rig.complete(&id);
    assert_eq!(row(&record, "F1")["path"], "dir/x (1)");
    tree::assert_file(&rig.dst().join("dir/x"), 90, 7);
}

#[test]
fn a_part_that_the_user_made_between_two_runs_is_left_alone() {
    let package = Package::new().file("large", 24 << 20).file("later", 1000);
    let mut rig = Rig::with(package, &["--workers", "1"]);
    rig.origin.throttle(1 << 20);
    let id = rig.create();
    rig.agent
        .wait(&id, "bytes", |record| record["bytes_done"] != 0);
    rig.agent.pause(&id).expect(200);
    rig.agent.terminate();
    tree::write_file(&rig.dst().join("later.part"), 90, 7);
    rig.origin.unthrottle();
    rig.agent.restart();
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "complete");
    rig.assert_file(&record, "F1");
    rig.assert_file(&record, "F2");
    tree::assert_file(&rig.dst().join("later.part"), 90, 7);
}
