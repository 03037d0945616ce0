//! GET /downloads and GET /downloads/{download_id}.

use serde_json::json;

use crate::create::SUMMARY;
use crate::support::agent::{DOWNLOADS, row};
use crate::support::http::keys;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

fn small() -> Package {
    Package::new().file("a", 10).file("dir/b", 20)
}

/// A rig with two complete downloads, then a paused one; their identifiers.
fn three(rig: &Rig) -> [String; 3] {
    let [first, second] = ["1", "2"].map(|name| {
        let id = rig.agent.create(&rig.origin, &rig.dir().join(name));
        rig.agent.wait_state(&id, "complete");
        id
    });
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let third = rig.agent.create(&rig.origin, &rig.dir().join("3"));
    rig.agent.pause(&third).expect(200);
    [first, second, third]
}

fn ids_of(rig: &Rig, query: &str) -> Vec<String> {
    let list = rig.agent.get(&format!("{DOWNLOADS}{query}")).expect(200);
    let list = list.as_array().unwrap().iter();
    list.map(|one| one["download_id"].as_str().unwrap().into())
        .collect()
}

#[test]
fn at_first_there_is_nothing() {
    let rig = Rig::new(small());
    assert_eq!(rig.agent.get(DOWNLOADS).expect(200), json!([]));
}

#[test]
fn the_list_is_oldest_first() {
    let rig = Rig::new(small());
    assert_eq!(three(&rig).to_vec(), rig.agent.ids());
}

#[test]
fn the_list_can_be_limited_to_states() {
    let rig = Rig::new(small());
    let [first, second, third] = three(&rig);
    assert_eq!(ids_of(&rig, "?states=paused"), [third.as_str()]);
    let complete = [first.clone(), second.clone()];
    assert_eq!(ids_of(&rig, "?states=complete"), complete);
    let all = [first, second, third];
    assert_eq!(ids_of(&rig, "?states=paused,complete"), all);
    assert_eq!(ids_of(&rig, "?states=complete%2Cpaused"), all);
    assert_eq!(ids_of(&rig, "?states=error"), Vec::<String>::new());
}

#[test]
fn the_list_holds_summaries_and_the_record_adds_files() {
    let rig = Rig::new(small());
    let id = rig.create();
    let mut record = rig.complete(&id);
    let list = rig.agent.get(DOWNLOADS).expect(200);
    assert_eq!(keys(&list[0]), SUMMARY);
    let files = record.as_object_mut().unwrap().remove("files");
    assert!(files.unwrap().is_array());
    assert_eq!(list, json!([record]));
}

#[test]
fn a_file_tells_what_the_contract_says() {
    let rig = Rig::new(small());
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(
        row(&record, "F2"),
        json!({"file_id": "F2", "path": "dir/b", "size": 20, "bytes_done": 20, "state": "complete"})
    );
    assert_eq!(record["files"].as_array().unwrap().len(), 2);
}

#[test]
fn original_path_is_there_only_when_the_name_had_to_change() {
    let rig = Rig::new(Package::new().file("a", 1).file("dir/c\u{7}d", 2));
    let id = rig.create();
    let record = rig.complete(&id);
    assert!(row(&record, "F1").get("original_path").is_none());
    assert_eq!(row(&record, "F2")["path"], "dir/cd");
    assert_eq!(row(&record, "F2")["original_path"], "dir/c\u{7}d");
}

#[test]
fn a_file_under_way_shows_its_bytes() {
    let rig = Rig::with(Package::new().file("a", 200_000), &["--workers", "1"]);
    let gate = Gate::new();
    let reply = Reply::stall_after(50_000, &gate);
    rig.origin.always(Kind::Bytes, reply);
    let id = rig.create();
    let record = rig.agent.wait(&id, "the first bytes", |record| {
        record["bytes_done"] == 50_000
    });
    let file = row(&record, "F1");
    assert_eq!(file["state"], "transferring");
    assert_eq!(file["bytes_done"], 50_000);
    assert_eq!(record["bytes_total"], 200_000);
    assert_eq!(record["files_complete"], 0);
    gate.open();
    rig.complete(&id);
}

#[test]
fn a_moving_download_tells_its_speed_and_the_time_left() {
    let rig = Rig::new(Package::new().file("a", 8_000_000));
    rig.origin.throttle(2_000_000);
    let id = rig.create();
    let record = rig.agent.wait(&id, "a speed and a time left", |record| {
        assert_ne!(record["state"], "complete", "it never told: {record}");
        record["bytes_per_second"] != 0 && record["eta_seconds"].is_u64()
    });
    let speed = record["bytes_per_second"].as_u64().unwrap();
    assert!(speed < 8_000_000, "{speed} bytes per second");
    assert!(record["eta_seconds"].as_u64().unwrap() < 600, "{record}");
    rig.origin.unthrottle();
    rig.complete(&id);
}

#[test]
fn a_record_of_many_files_is_whole() {
    let rig = Rig::new(Package::new().many(1200, 0));
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "complete");
    let files = record["files"].as_array().unwrap();
    assert_eq!(files.len(), 1200);
    assert_eq!(row(&record, "F1200")["path"], "many/1199");
}
