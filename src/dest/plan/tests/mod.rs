use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::dest::{Kind, Root};
use crate::model::table::FileState;

/// A disk as a list: paths and what is there.
#[derive(Default)]
struct Held {
    kinds: BTreeMap<String, Kind>,
    reserved: HashSet<String>,
    reserved_folders: HashSet<String>,
}

impl Held {
    fn with(kinds: &[(&str, Kind)]) -> Held {
        Held {
            kinds: kinds
                .iter()
                .map(|&(path, kind)| (path.into(), kind))
                .collect(),
            ..Held::default()
        }
    }
}

impl Disk for Held {
    fn kind(&self, components: &[&str]) -> Option<Kind> {
        self.kinds.get(&components.join("/")).copied()
    }

    fn reserved(&self, path: &str) -> bool {
        self.reserved.contains(path)
    }

    fn reserved_folder(&self, path: &str) -> bool {
        self.reserved_folders.contains(path)
    }
}

fn file(path: &str, name: &str) -> Listed {
    Listed {
        id: format!("id of {path}/{name}"),
        kind: "file".into(),
        name: name.into(),
        path: Some(path.into()),
        size: 1,
        ..Listed::default()
    }
}

fn folder(path: &str, name: &str) -> Listed {
    Listed {
        kind: "directory".into(),
        ..file(path, name)
    }
}

fn plan_on(disk: &dyn Disk, traits: Traits, policy: IfExists, listing: Vec<Listed>) -> FileTable {
    let mut planner = Planner::new(traits);
    for listed in listing {
        planner.add(listed).unwrap();
    }
    planner.finish(disk, policy).unwrap()
}

fn plan(listing: Vec<Listed>) -> FileTable {
    plan_on(
        &Held::default(),
        Traits::default(),
        IfExists::Rename,
        listing,
    )
}

fn saved(table: &FileTable) -> Vec<String> {
    (0..table.len()).map(|file| table.path(file)).collect()
}

fn parts(table: &FileTable) -> Vec<String> {
    (0..table.len())
        .map(|file| table.names(file).part)
        .collect()
}

/// `original_path` as the API shows it.
fn originals(table: &FileTable) -> Vec<Option<String>> {
    let mut json = b"[".to_vec();
    table.render(
        0,
        u32::MAX,
        crate::model::state::State::Transferring,
        &mut json,
    );
    json.push(b']');
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
    let original = |row: &serde_json::Value| row["original_path"].as_str().map(str::to_owned);
    rows.iter().map(original).collect()
}

fn folders(table: &FileTable) -> Vec<(String, bool)> {
    (1..table.dirs().len())
        .map(|dir| {
            let index = u32::try_from(dir).unwrap();
            (
                table.dir_components(index).join("/"),
                table.dirs()[dir].ours,
            )
        })
        .collect()
}

#[test]
fn files_keep_their_order_sizes_times_and_identifiers() {
    let mut second = file("a", "2");
    second.size = 7;
    second.mtime = Some(5);
    let table = plan(vec![file("b", "1"), second, file("b", "3")]);
    assert_eq!(saved(&table), ["b/1", "a/2", "b/3"]);
    assert_eq!(table.id(1), "id of a/2");
    assert_eq!((table.size(1), table.mtime(1)), (7, Some(5)));
    assert_eq!(table.counts().bytes_total, 9);
    assert_eq!(folders(&table), [("b".into(), true), ("a".into(), true)]);
}

#[test]
fn a_missing_path_is_the_top_and_archives_are_left_out() {
    let mut top = file("", "top");
    top.path = None;
    let mut zip = file("", "all.zip");
    zip.kind = "zip_windows".into();
    let table = plan(vec![top, zip, folder("a", "empty")]);
    assert_eq!(saved(&table), ["top"]);
    assert_eq!(
        folders(&table),
        [("a".into(), true), ("a/empty".into(), true)]
    );
}

#[test]
fn hostile_paths_stay_inside_and_say_what_they_were() {
    let table = plan(vec![
        file("../../etc", "passwd"),
        file("/abs/", "x"),
        file("a/./b//c", ".."),
        file("back\\slash", "a/b"),
        file("/", "y"),
        file("/etc/cron.d", "abs"),
        file("end//", "z"),
    ]);
    assert_eq!(
        saved(&table),
        [
            "etc/passwd",
            "abs/x",
            "a/b/c/unnamed",
            "back\\slash/ab",
            "y",
            "etc/cron.d/abs",
            "end/z"
        ]
    );
    let expected = [
        Some("../../etc/passwd"),
        Some("/abs/x"),
        Some("a/./b//c/.."),
        Some("back\\slash/a/b"),
        None,
        Some("/etc/cron.d/abs"),
        None,
    ];
    assert_eq!(
        originals(&table),
        expected.map(|path| path.map(str::to_owned))
    );
}

#[test]
fn files_that_meet_are_numbered_and_listed_names_go_first() {
    let table = plan(vec![
        file("", "a.mov"),
        file("", "a.mov"),
        file("", "a (1).mov"),
        file("", "a.mov"),
    ]);
    assert_eq!(
        saved(&table),
        ["a.mov", "a (2).mov", "a (1).mov", "a (3).mov"]
    );
    assert_eq!(originals(&table)[1].as_deref(), Some("a.mov"));
    assert_eq!(originals(&table)[2], None);
}

#[test]
fn case_matters_only_where_the_target_says_so() {
    let listing = || vec![file("Clips", "A"), file("clips", "a")];
    assert_eq!(saved(&plan(listing())), ["Clips/A", "clips/a"]);
    let held = Held::default();
    let table = plan_on(&held, Traits::WINDOWS, IfExists::Rename, listing());
    assert_eq!(saved(&table), ["Clips/A", "Clips/a (1)"]);
    assert_eq!(originals(&table)[1].as_deref(), Some("clips/a"));
}

#[test]
fn a_file_gives_way_to_a_folder_of_its_name() {
    let table = plan(vec![file("", "a"), file("a", "b"), folder("a", "b")]);
    assert_eq!(saved(&table), ["a (1)", "a/b (1)"]);
}

#[test]
fn part_names_meet_no_file_and_no_folder() {
    let table = plan(vec![
        file("", "x"),
        file("", "x.part"),
        file("", "x (1)"),
        file("y.part", "z"),
        file("", "y"),
    ]);
    let expected = [
        "x (2).part",
        "x.part.part",
        "x (1).part",
        "z.part",
        "y (1).part",
    ];
    assert_eq!(parts(&table), expected);
}

#[test]
fn part_names_meet_nothing_on_the_disk() {
    let held = Held::with(&[("x.part", Kind::File), ("x (1).part", Kind::Symlink)]);
    let table = plan_on(
        &held,
        Traits::default(),
        IfExists::Overwrite,
        vec![file("", "x")],
    );
    assert_eq!(parts(&table), ["x (2).part"]);
}

#[test]
fn what_is_on_the_disk_is_treated_as_asked() {
    for kind in [Kind::File, Kind::Symlink, Kind::Other] {
        let held = Held::with(&[("a.mov", kind), ("a (1).mov", kind)]);
        let planned = |policy| plan_on(&held, Traits::default(), policy, vec![file("", "a.mov")]);
        assert_eq!(saved(&planned(IfExists::Rename)), ["a (2).mov"]);
        assert_eq!(saved(&planned(IfExists::Overwrite)), ["a.mov"]);
        let skipped = planned(IfExists::Skip);
        assert_eq!(saved(&skipped), ["a.mov"]);
        assert_eq!(skipped.state(0), FileState::Skipped);
        assert_eq!(skipped.counts().bytes_total, 0);
    }
}

#[test]
fn a_folder_on_the_disk_is_never_replaced_nor_skipped() {
    let held = Held::with(&[("a", Kind::Folder)]);
    for policy in [IfExists::Rename, IfExists::Overwrite, IfExists::Skip] {
        let table = plan_on(&held, Traits::default(), policy, vec![file("", "a")]);
        assert_eq!(saved(&table), ["a (1)"]);
        assert_eq!(table.state(0), FileState::Pending);
    }
}

#[test]
fn the_same_package_again_with_skip_skips_all_of_it() {
    let listing = || vec![file("", "a"), file("", "a"), file("a", "b")];
    let first = saved(&plan(listing()));
    let mut kinds: Vec<_> = first
        .iter()
        .map(|path| (path.as_str(), Kind::File))
        .collect();
    kinds.push(("a", Kind::Folder));
    let held = Held::with(&kinds);
    let again = plan_on(&held, Traits::default(), IfExists::Skip, listing());
    assert_eq!(saved(&again), first);
    assert_eq!(again.counts().files_skipped, 3);
}

#[test]
fn folders_on_the_disk_are_shared_and_other_things_are_gone_around() {
    let held = Held::with(&[
        ("real", Kind::Folder),
        ("real/link", Kind::Symlink),
        ("real/link (1)", Kind::Folder),
        ("file", Kind::File),
    ]);
    let listing = vec![
        file("real/link/deep", "x"),
        file("file", "y"),
        file("file (1)", "z"),
    ];
    let table = plan_on(&held, Traits::default(), IfExists::Rename, listing);
    assert_eq!(
        saved(&table),
        ["real/link (2)/deep/x", "file (2)/y", "file (1)/z"]
    );
    assert_eq!(originals(&table)[0].as_deref(), Some("real/link/deep/x"));
    assert_eq!(originals(&table)[2], None);
    let ours: Vec<bool> = folders(&table).into_iter().map(|(_, ours)| ours).collect();
    assert_eq!(ours, [false, true, true, true, true]);
}

#[test]
fn names_of_other_downloads_are_taken_whatever_the_policy() {
    let held = Held {
        reserved: ["a".into(), "b.part".into(), "dir".into()].into(),
        reserved_folders: ["c".into(), "shared".into()].into(),
        ..Held::default()
    };
    for policy in [IfExists::Rename, IfExists::Overwrite, IfExists::Skip] {
        let listing = vec![
            file("", "a"),
            file("", "b"),
            file("", "c"),
            file("dir", "x"),
            file("shared", "y"),
        ];
        let table = plan_on(&held, Traits::default(), policy, listing);
        assert_eq!(
            saved(&table),
            ["a (1)", "b", "c (1)", "dir (1)/x", "shared/y"]
        );
        assert_eq!(parts(&table)[1], "b (1).part");
    }
}

#[test]
fn a_flagged_file_is_skipped_and_displaces_nobody() {
    let mut flagged = file("", "a");
    flagged.virus = true;
    let table = plan(vec![flagged, file("", "a")]);
    assert_eq!(table.state(0), FileState::Skipped);
    assert_eq!(saved(&table), ["a (1)", "a"]);
}

#[test]
fn a_path_without_end_ends() {
    let table = plan(vec![
        file(&"d/".repeat(5000), "x"),
        file(&"d/".repeat(6000), "x"),
    ]);
    assert_eq!(table.dir_components(table.dir_of(0)).len(), DEPTH_MAX);
    assert_eq!(table.names(0).last, "x");
    assert_eq!(table.names(1).last, "x (1)");
    assert!(originals(&table)[0].as_ref().unwrap().len() <= ORIGINAL_MAX);
}

#[test]
fn an_endless_identifier_is_refused() {
    let mut listed = file("", "a");
    listed.id = "i".repeat(65_536);
    let error = Planner::new(Traits::default()).add(listed).unwrap_err();
    assert!(matches!(error, PlanError::Table(_)), "{error:?}");
}

#[test]
fn a_hundred_thousand_files_of_one_name_are_no_trouble() {
    let table = plan((0..100_000).map(|_| file("", "a")).collect());
    assert_eq!(table.path(99_999), "a (99999)");
}

#[test]
fn a_real_disk_is_asked_without_following_links() {
    let dir = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("x"), "").unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/x"), "").unwrap();
    symlink(outside.path(), dir.path().join("link")).unwrap();
    let (root, _) = Root::make(dir.path()).unwrap();
    let disk = RootDisk::new(&root, ["sub/deep/f".to_owned()], || ());
    assert_eq!(disk.kind(&["real"]), Some(Kind::Folder));
    assert_eq!(disk.kind(&["real", "x"]), Some(Kind::File));
    assert_eq!(disk.kind(&["link"]), Some(Kind::Symlink));
    assert_eq!(disk.kind(&["link", "x"]), None);
    assert_eq!(disk.kind(&["missing", "x"]), None);
    assert!(disk.reserved("sub/deep/f") && !disk.reserved("sub/deep"));
    assert!(disk.reserved_folder("sub/deep") && disk.reserved_folder("sub"));
    assert!(!disk.reserved_folder("sub/deep/f"));
}

mod any_listing;

/// How many such entries a planner takes that has so much room for text.
fn entries_in(room: usize, entry: impl Fn(usize) -> Listed) -> usize {
    let mut planner = Planner::new(Traits::default());
    planner.text_left = room;
    let refused = (0..).find(|&number| match planner.add(entry(number)) {
        Ok(()) => false,
        Err(PlanError::TooLong) => true,
        Err(other) => panic!("{other}"),
    });
    refused.unwrap()
}

#[test]
fn the_text_of_a_package_has_an_end() {
    const ROOM: usize = 1 << 20;
    let named = |id: String, path: &str, name: &str| Listed {
        id,
        ..file(path, name)
    };
    let ids = |number| named(format!("{number:05000}"), "", "a");
    assert_eq!(entries_in(ROOM, ids), ROOM / 5001);
    let names = |number| named("F".into(), "", &format!("{number:05000}"));
    assert_eq!(entries_in(ROOM, names), ROOM / (1 + 250 + ORIGINAL_MAX));
    let paths = |number: usize| named("F".into(), &format!("{number:0200}/").repeat(10), "a");
    assert_eq!(entries_in(ROOM, paths), ROOM / 2002);
    // A path that is there costs nothing again.
    let one_path = |_| named("F".into(), &"0/".repeat(200), "a");
    assert_eq!(entries_in(ROOM, one_path), (ROOM - 200) / 2);
    let folders = |number: usize| folder("", &format!("{number:0240}"));
    assert_eq!(entries_in(ROOM, folders), ROOM / 240);
}

#[test]
fn paths_of_folders_that_gave_way_are_cut_as_all_are() {
    let disk = Held::with(&[("top", Kind::File)]);
    let mut planner = Planner::new(Traits::default());
    let deep = format!("top/{}", format!("{}/", "d".repeat(240)).repeat(200));
    planner.add(file(&deep, "a")).unwrap();
    let table = planner.finish(&disk, IfExists::Rename).unwrap();
    let shown = originals(&table)[0].clone().unwrap();
    assert_eq!(shown.len(), ORIGINAL_MAX);
    assert!(shown.starts_with("top/ddd"));
}
