//! Names: hostile ones are mended, colliding ones told apart, and every file arrives, inside.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::agent::row;
use crate::support::http;
use crate::support::package::{Entry, Package};
use crate::support::rig::Rig;
use crate::support::tree;

/// Downloads a package; everything must arrive, and nothing beside the destination.
fn arrive(entries: Vec<Entry>) -> (Rig, Value) {
    let package = entries.into_iter().fold(Package::new(), Package::entry);
    let rig = Rig::new(package);
    let id = rig.create();
    let record = rig.complete(&id);
    let beside = tree::paths(rig.dir());
    assert!(
        beside.iter().all(|path| path.starts_with("in/")),
        "{beside:?}"
    );
    (rig, record)
}

/// Where a file was saved, below the destination.
pub fn path_of(record: &Value, file: &str) -> String {
    row(record, file)["path"].as_str().unwrap().to_string()
}

/// Asserts where each listed entry is saved; a changed path shows the listed one too.
fn assert_saved(cases: &[(&str, &str, &str)]) {
    let entries = cases
        .iter()
        .map(|(path, name, _)| Entry::new(path, name, 50));
    let (_rig, record) = arrive(entries.collect());
    for (number, (path, name, saved)) in cases.iter().enumerate() {
        let row = row(&record, &format!("F{}", number + 1));
        assert_eq!(row["path"], *saved, "{path:?} {name:?}");
        let listed = match path.is_empty() {
            true => name.to_string(),
            false => format!("{path}/{name}"),
        };
        let changed = listed != *saved;
        assert_eq!(row.get("original_path").is_some(), changed, "{row}");
    }
}

#[test]
fn dots_and_empty_components_are_dropped() {
    assert_saved(&[
        ("../../etc", "passwd", "etc/passwd"),
        ("/abs//olute/./x/", "y", "abs/olute/x/y"),
        ("/etc/cron.d", "abs", "etc/cron.d/abs"),
        ("a/../b", "c", "a/b/c"),
        (".", "here", "here"),
        ("..", "up", "up"),
        ("", ".hidden", ".hidden"),
        ("", "...", "..."),
    ]);
}

#[test]
fn control_characters_are_removed() {
    assert_saved(&[
        ("", "a\u{1}b\n.txt", "ab.txt"),
        ("d\u{0}ir", "nu\u{0}l", "dir/nul"),
        ("", "tab\there\r", "tabhere"),
        ("esc\u{1b}[31m", "x\u{7f}y", "esc[31m/xy"),
    ]);
}

#[test]
fn what_linux_can_hold_is_left_alone() {
    assert_saved(&[
        ("", "back\\slash", "back\\slash"),
        ("CON", "aux.txt", "CON/aux.txt"),
        ("", "a:b?c*d|e\"<f>.mov", "a:b?c*d|e\"<f>.mov"),
        ("trailing. ", "dot. ", "trailing. /dot. "),
        ("Grüße", "日本語 🎬.mov", "Grüße/日本語 🎬.mov"),
        ("", "-rf", "-rf"),
        ("", " leading", " leading"),
    ]);
}

#[test]
fn a_name_with_nothing_left_is_unnamed() {
    assert_saved(&[("a", "", "a/unnamed"), ("b", "\u{1}\u{2}", "b/unnamed")]);
    let (_rig, record) = arrive(vec![Entry::new("", "..", 5), Entry::new("", "/", 6)]);
    let paths: BTreeSet<String> = ["F1", "F2"].map(|file| path_of(&record, file)).into();
    let expected = ["unnamed", "unnamed (1)"].map(String::from);
    assert_eq!(paths, expected.into());
}

#[test]
fn a_name_with_slashes_stays_inside() {
    let (rig, record) = arrive(vec![
        Entry::new("", "../../../evil", 5),
        Entry::new("x", "/etc/passwd", 6),
        Entry::new("..\\..", "..\\evil", 7),
    ]);
    assert!(!rig.dir().join("evil").exists());
    for file in ["F1", "F2", "F3"] {
        let path = path_of(&record, file);
        assert!(
            !path.split('/').any(|part| part == ".." || part.is_empty()),
            "{path}"
        );
    }
}

#[test]
fn long_components_are_shortened_and_keep_their_extension() {
    let ascii = "a".repeat(300);
    let wide = "ü".repeat(200);
    let (_rig, record) = arrive(vec![
        Entry::new("", &format!("{ascii}.mov"), 5),
        Entry::new("", &format!("{wide}.mxf"), 6),
        Entry::new(&wide, "x", 7),
        Entry::new("", &"b".repeat(250), 8),
        Entry::new("", &format!("{ascii}.MOV"), 9),
        Entry::new("", &format!("x.{ascii}"), 10),
    ]);
    for (file, extension) in [("F1", ".mov"), ("F2", ".mxf"), ("F5", ".MOV")] {
        let path = path_of(&record, file);
        assert!(path.len() <= 250, "{}", path.len());
        assert!(
            path.len() >= 240,
            "not shorter than need be: {}",
            path.len()
        );
        assert!(path.ends_with(extension), "{path}");
    }
    let folder = path_of(&record, "F3");
    let folder = folder.strip_suffix("/x").unwrap();
    assert!(folder.len() <= 250 && folder.chars().all(|c| c == 'ü'));
    assert_eq!(path_of(&record, "F4"), "b".repeat(250));
    assert!(row(&record, "F4").get("original_path").is_none());
    assert!(path_of(&record, "F6").len() <= 250);
}

#[test]
fn long_names_that_become_the_same_all_arrive() {
    let name = |end: &str| format!("{}{end}.mov", "a".repeat(300));
    let entries = ["x", "y", "z"].map(|end| Entry::new("", &name(end), 5));
    let (rig, record) = arrive(entries.to_vec());
    let paths = ["F1", "F2", "F3"].map(|file| path_of(&record, file));
    assert_eq!(BTreeSet::from(paths.clone()).len(), 3, "{paths:?}");
    assert_eq!(tree::paths(&rig.dst()).len(), 3);
}

#[test]
fn a_deep_path_harms_nobody() {
    let deep = vec!["d".repeat(100); 60].join("/");
    let rig = Rig::new(Package::new().file(&format!("{deep}/x"), 10).file("y", 20));
    let id = rig.create();
    let record = rig.agent.wait_end(&id);
    rig.assert_file(&record, "F2");
    assert_eq!(
        row(&record, "F1")["state"],
        "complete",
        "every file arrives"
    );
    let target = format!("{}?remove_files=true", crate::support::agent::one(&id));
    assert_eq!(rig.agent.delete(&target).expect(200)["files_removed"], 2);
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
}

#[test]
fn files_at_one_path_are_numbered() {
    let entries = vec![Entry::new("d", "x.txt", 10); 3];
    let (rig, _record) = arrive(entries);
    assert_eq!(
        tree::paths(&rig.dst()),
        ["d/", "d/x (1).txt", "d/x (2).txt", "d/x.txt"]
    );
}

#[test]
fn a_number_that_is_taken_is_not_given() {
    let (rig, _record) = arrive(vec![
        Entry::new("", "x", 10),
        Entry::new("", "x", 20),
        Entry::new("", "x (1)", 30),
    ]);
    assert_eq!(tree::paths(&rig.dst()).len(), 3);
}

#[test]
fn mended_names_collide_as_others_do() {
    let (rig, _record) = arrive(vec![
        Entry::new("a", "x", 10),
        Entry::new("a/.", "x", 20),
        Entry::new("/a", "\u{1}x", 30),
    ]);
    assert_eq!(tree::paths(&rig.dst()), ["a/", "a/x", "a/x (1)", "a/x (2)"]);
}

#[test]
fn a_file_gives_way_to_a_folder_of_its_name() {
    for file_first in [true, false] {
        let file = Entry::new("", "a", 10);
        let inside = Entry::new("a", "b", 20);
        let entries = match file_first {
            true => vec![file, inside],
            false => vec![inside, file],
        };
        let (rig, _record) = arrive(entries);
        assert_eq!(tree::paths(&rig.dst()), ["a (1)", "a/", "a/b"]);
    }
}

#[test]
fn a_part_name_never_meets_a_real_files() {
    let (rig, _record) = arrive(vec![
        Entry::new("", "x", 300_000),
        Entry::new("", "x.part", 200_000),
        Entry::new("", "x.part.part", 100_000),
        Entry::new("y.part", "z", 10),
        Entry::new("", "y", 100_000),
    ]);
    assert_eq!(
        tree::paths(&rig.dst()),
        ["x", "x.part", "x.part.part", "y", "y.part/", "y.part/z"]
            .map(String::from)
            .to_vec()
    );
}

/// For folders that Windows machines read over the network.
#[test]
fn names_are_such_as_windows_holds_where_that_was_asked_for() {
    let package = || {
        let one = Package::new().file("a:b", 10).file("Same", 20);
        one.file("same", 30).file("dir./CON.txt", 40)
    };
    let rig = Rig::new(package());
    let headers = [("Content-Type", "application/json")];
    let set = Some(r#"{"windows_names":true}"#);
    let path = "/api/v1/settings";
    let plain = rig.create_with(json!({"windows_names": false}));
    let record = rig.agent.wait_state(&plain, "complete");
    assert_eq!(row(&record, "F1")["path"], "a:b");
    http::send(rig.agent.address, "PUT", path, &headers, set).expect(200);
    let id = rig.agent.create(&rig.origin, &rig.dir().join("other"));
    let record = rig.agent.wait_state(&id, "complete");
    assert_eq!(record["windows_names"], true);
    let paths: Vec<_> = ["F1", "F2", "F3", "F4"]
        .map(|file| row(&record, file)["path"].as_str().unwrap().to_owned())
        .into();
    assert_eq!(paths, ["ab", "Same", "same (1)", "dir/unnamed.txt"]);
    for path in paths {
        assert!(rig.dir().join("other").join(&path).is_file(), "{path}");
    }
}
