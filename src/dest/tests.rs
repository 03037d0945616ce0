use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, mknodat};
use tempfile::TempDir;

use super::*;
use crate::model::problem::Code;

fn root() -> (TempDir, Root) {
    let dir = TempDir::new().unwrap();
    let (root, made) = Root::make(dir.path()).unwrap();
    assert!(made.is_empty());
    (dir, root)
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_path_is_cleaned_by_its_text() {
    for (given, clean) in [
        ("/volume1/in", "/volume1/in"),
        ("/volume1//in/", "/volume1/in"),
        ("/a/./b/../c", "/a/c"),
        ("/../..", "/"),
        ("/", "/"),
    ] {
        assert_eq!(Root::validate(given).unwrap(), Path::new(clean), "{given}");
    }
    for refused in ["", "in", "./in", "~/in", "/in\0"] {
        let error = Root::validate(refused).unwrap_err();
        assert_eq!(error.code(), Code::DestinationUnwritable, "{refused:?}");
    }
}

#[test]
fn missing_ancestors_are_made_and_can_be_unmade() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/b/c");
    let (_, made) = Root::make(&path).unwrap();
    assert_eq!(
        made,
        [dir.path().join("a"), dir.path().join("a/b"), path.clone()]
    );
    fs::write(dir.path().join("a/kept"), "").unwrap();
    unmake(&made);
    assert!(!dir.path().join("a/b").exists());
    assert!(dir.path().join("a/kept").exists());
}

#[test]
fn a_failed_make_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/b").join("n".repeat(256));
    assert!(Root::make(&path).is_err());
    assert!(!dir.path().join("a").exists());
    fs::write(dir.path().join("file"), "").unwrap();
    for in_the_way in ["file", "file/below/it"] {
        let error = Root::make(&dir.path().join(in_the_way)).unwrap_err();
        assert_eq!(error.code(), Code::DestinationUnwritable);
        assert!(error.to_string().contains("file"), "{error}");
    }
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    assert!(Root::make(&dir.path().join("dangling/in")).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn dst_folder_itself_may_be_a_link() {
    let (dir, _) = root();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let (root, made) = Root::make(&dir.path().join("link/in")).unwrap();
    assert_eq!(made.len(), 1);
    root.folder(&["x"], true).unwrap();
    assert!(dir.path().join("real/in/x").is_dir());
}

#[test]
fn the_same_folder_is_known_again_even_made_anew() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in");
    let (root, _) = Root::make(&path).unwrap();
    let json = serde_json::to_string(&root.identity()).unwrap();
    let known: Identity = serde_json::from_str(&json).unwrap();
    assert_eq!(Root::open(&path, &known).unwrap().identity(), known);
    root.check(&path).unwrap();
    fs::remove_dir(&path).unwrap();
    root.check(&path).unwrap_err();
    let again = Root::open(&path, &known).unwrap();
    assert!(path.is_dir());
    again.check(&path).unwrap();
}

#[test]
fn another_file_system_is_not_the_folder() {
    let (dir, root) = root();
    let elsewhere = Root::open(Path::new("/proc"), &root.identity()).unwrap_err();
    assert_eq!(elsewhere.code(), Code::DestinationUnwritable);
    assert!(elsewhere.to_string().contains("mounted"), "{elsewhere}");
    let proc = Identity::of(fs::File::open("/proc").unwrap()).unwrap();
    Root::open(dir.path(), &proc).unwrap_err();
    let missing = dir.path().join("gone");
    Root::open(&missing, &proc).unwrap_err();
    assert!(!missing.exists());
}

#[test]
fn a_replaced_folder_is_noticed() {
    let (dir, _) = root();
    let path = dir.path().join("in");
    let (root, _) = Root::make(&path).unwrap();
    fs::rename(&path, dir.path().join("old")).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(
        root.check(&path).unwrap_err().code(),
        Code::DestinationUnwritable
    );
    root.check(&dir.path().join("old")).unwrap();
}

#[test]
fn links_and_files_are_no_way_down() {
    let (dir, root) = root();
    let outside = TempDir::new().unwrap();
    symlink(outside.path(), dir.path().join("link")).unwrap();
    symlink(".", dir.path().join("here")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for components in [
        &["link"][..],
        &["link", "x"],
        &["here"],
        &["file"],
        &["file", "x"],
    ] {
        for make in [false, true] {
            let error = root.folder(components, make).unwrap_err();
            assert_eq!(error.code(), Code::DestinationUnwritable, "{components:?}");
        }
    }
    let error = root.folder(&["link"], true).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn components_that_lead_elsewhere_are_refused() {
    let (_dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    for name in ["", ".", "..", "a/b", "/etc", "a\0"] {
        assert_eq!(
            root.folder(&[name], true).unwrap_err().code(),
            Code::InternalError
        );
        assert!(folder.create_part(name).is_err(), "{name:?}");
        assert!(folder.publish("p", name, true).is_err(), "{name:?}");
        assert_eq!(folder.kind(name), None);
        assert!(!root.remove_folder(&[name]));
    }
}

#[test]
fn folders_are_made_only_when_asked_and_removed_only_when_empty() {
    let (dir, root) = root();
    assert!(root.folder(&["a", "b"], false).is_err());
    root.folder(&["a", "b"], true).unwrap();
    assert!(!root.remove_folder(&["a"]));
    assert!(root.remove_folder(&["a", "b"]));
    assert!(root.remove_folder(&["a"]));
    assert!(!root.remove_folder(&["a"]));
    assert!(!root.remove_folder(&[]));
    symlink(".", dir.path().join("link")).unwrap();
    assert!(!root.remove_folder(&["link"]));
}

#[test]
fn a_part_is_made_once_and_opened_as_it_is() {
    let (dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    let file = folder.create_part("a.part").unwrap().unwrap();
    file.write_all_at(b"hello", 3).unwrap();
    assert!(folder.create_part("a.part").unwrap().is_none());
    let again = folder.open_part("a.part").unwrap().unwrap();
    again.write_all_at(b"123", 0).unwrap();
    assert_eq!(text(dir.path().join("a.part")), "123hello");
}

#[test]
fn only_a_regular_file_with_one_name_is_a_part() {
    let (dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    symlink("file", at("soft")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    mknodat(
        CWD,
        at("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for name in ["hard", "file", "soft", "dir", "fifo", "missing"] {
        assert!(folder.open_part(name).unwrap().is_none(), "{name}");
    }
    for name in ["soft", "dir", "fifo", "missing"] {
        assert!(!folder.remove_part(name).unwrap(), "{name}");
    }
    assert!(folder.create_part("soft").unwrap().is_none());
    let kinds = ["file", "dir", "soft", "fifo", "missing"].map(|name| folder.kind(name));
    let expected = [Kind::File, Kind::Folder, Kind::Symlink, Kind::Other].map(Some);
    assert_eq!(kinds[..4], expected);
    assert_eq!(kinds[4], None);
}

#[test]
fn publishing_never_replaces_unless_told() {
    let (dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    let at = |name: &str| dir.path().join(name);
    type Publish = fn(&Folder, &str, &str) -> Published;
    let ways: [Publish; 3] = [
        |folder, part, last| folder.publish(part, last, false).unwrap(),
        |folder, part, last| folder.publish_by_link(part, last).unwrap(),
        |folder, part, last| folder.publish_by_check(part, last).unwrap(),
    ];
    for publish in ways {
        fs::write(at("a.part"), "new").unwrap();
        symlink("nowhere", at("link")).unwrap();
        fs::write(at("old"), "old").unwrap();
        fs::create_dir(at("dir")).unwrap();
        for taken in ["link", "old", "dir"] {
            assert_eq!(
                publish(&folder, "a.part", taken),
                Published::Taken,
                "{taken}"
            );
        }
        assert_eq!(text(at("old")), "old");
        assert_eq!(publish(&folder, "a.part", "a"), Published::Done);
        assert_eq!(text(at("a")), "new");
        assert_eq!(publish(&folder, "a.part", "b"), Published::PartMissing);
        for name in ["a", "link", "old"] {
            fs::remove_file(at(name)).unwrap();
        }
        fs::remove_dir(at("dir")).unwrap();
    }
}

#[test]
fn replacing_takes_the_link_itself_and_never_a_folder() {
    let (dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("target"), "target").unwrap();
    symlink("target", at("link")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("a.part"), "new").unwrap();
    assert_eq!(
        folder.publish("a.part", "dir", true).unwrap(),
        Published::Taken
    );
    assert_eq!(
        folder.publish("a.part", "link", true).unwrap(),
        Published::Done
    );
    assert_eq!(folder.kind("link"), Some(Kind::File));
    assert_eq!(text(at("target")), "target");
    symlink("target", at("b.part")).unwrap();
    assert_eq!(
        folder.publish("b.part", "b", true).unwrap(),
        Published::PartMissing
    );
    assert_eq!(
        folder.publish("b.part", "b", false).unwrap(),
        Published::PartMissing
    );
}

#[test]
fn a_publication_cut_short_between_link_and_unlink_is_finished() {
    let (dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    fs::write(dir.path().join("a.part"), "whole").unwrap();
    fs::hard_link(dir.path().join("a.part"), dir.path().join("a")).unwrap();
    assert_eq!(
        folder.publish_by_link("a.part", "a").unwrap(),
        Published::Done
    );
    assert_eq!(folder.kind("a.part"), None);
    assert_eq!(text(dir.path().join("a")), "whole");
}

#[test]
fn a_saved_file_is_removed_only_while_it_is_as_it_was_saved() {
    let (dir, root) = root();
    let folder = root.folder(&[], false).unwrap();
    let file = folder.create_part("a").unwrap().unwrap();
    file.write_all_at(b"12345", 0).unwrap();
    let then = 1_600_000_000_123_456_789;
    assert_eq!(set_mtime(&file, then), Some(then));
    assert_eq!(mtime(&file), Some(then));
    let slack = 2_000_000_000;
    assert!(!folder.remove_saved("a", 4, Some(then), None).unwrap());
    assert!(
        !folder
            .remove_saved("a", 5, Some(then + slack + 1), None)
            .unwrap()
    );
    assert!(!folder.remove_saved("a", 5, Some(i64::MIN), None).unwrap());
    let other = folder.create_part("other").unwrap().unwrap();
    let (ours, others) = (FileIdentity::of(&file), FileIdentity::of(&other));
    assert_ne!(ours, others);
    assert!(!folder.remove_saved("a", 5, Some(then), others).unwrap());
    symlink("a", dir.path().join("link")).unwrap();
    assert!(!folder.remove_saved("link", 1, None, None).unwrap());
    assert!(
        folder
            .remove_saved("a", 5, Some(then - slack), ours)
            .unwrap()
    );
    assert!(!folder.remove_saved("a", 5, None, None).unwrap());
}

#[test]
fn modification_times_before_1970_are_kept() {
    let (_dir, root) = root();
    let file = root
        .folder(&[], false)
        .unwrap()
        .create_part("a")
        .unwrap()
        .unwrap();
    assert_eq!(set_mtime(&file, -1), Some(-1));
    assert_eq!(mtime(&file), Some(-1));
}

#[test]
fn reserving_takes_the_space_at_once_and_gives_the_length() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, root) = root();
    let file = root
        .folder(&[], false)
        .unwrap()
        .create_part("a")
        .unwrap()
        .unwrap();
    reserve(&file, 0, Storage::default()).unwrap();
    reserve(&file, 1 << 20, Storage::default()).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!(found.len(), 1 << 20);
    assert!(found.blocks() * 512 >= 1 << 20);
    file.write_all_at(b"end", (1 << 20) - 3).unwrap();
    reserve(&file, 10, Storage::default()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10);
    root.sync().unwrap();
}

#[test]
fn a_file_larger_than_the_disk_is_refused_at_once() {
    let (_dir, root) = root();
    let file = root
        .folder(&[], false)
        .unwrap()
        .create_part("a")
        .unwrap()
        .unwrap();
    let error = reserve(&file, 1 << 60, Storage::default()).unwrap_err();
    assert_eq!(error.code(), Code::InsufficientStorage, "{error}");
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn writing_to_a_full_device_says_so() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = write_failed(&full, &full.write_all_at(b"x", 0).unwrap_err());
    assert_eq!(error.code(), Code::InsufficientStorage);
    assert!(error.to_string().contains("/dev/full"), "{error}");
}

#[test]
fn an_ordinary_file_system_holds_ordinary_names() {
    let (_dir, root) = root();
    assert_eq!(root.traits(), Traits::default());
}

#[test]
fn a_hole_holds_no_data() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create_new(dir.path().join("x.part")).unwrap();
    const BLOCK: u64 = 1 << 20;
    reserve(&file, 4 * BLOCK, Storage::default()).unwrap();
    file.write_all_at(&vec![7; BLOCK as usize], BLOCK).unwrap();
    let seen = extents(&file);
    let whole = vec![(0, 4 * BLOCK)];
    assert!(seen == [(BLOCK, 2 * BLOCK)] || seen == whole, "{seen:?}");
    file.set_len(0).unwrap();
    assert_eq!(extents(&file), []);
}
