//! What is listed, and under which identifiers.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn the_listing_holds_files_and_empty_folders_and_no_links() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("private"), "x").unwrap();
    let fixture = Fixture::new(|dir, _| {
        fs::create_dir_all(dir.join("Überraschung/b/empty")).unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
        fs::write(dir.join("Überraschung/日本.mov"), "12").unwrap();
        fs::write(dir.join("Überraschung/b/quote\"\n"), "").unwrap();
        symlink(outside.path(), dir.join("out")).unwrap();
        symlink(outside.path().join("private"), dir.join("empty/link")).unwrap();
        fs::write(dir.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join("fifo"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        let file = File::options()
            .write(true)
            .open(dir.join("Überraschung/日本.mov"))
            .unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_millis(1_795_428_000_250);
        file.set_modified(time).unwrap();
    });
    let list = fixture.list();
    assert_eq!(
        names(&list),
        [
            "directory |empty",
            "file |\u{fffd}",
            "file Überraschung|日本.mov",
            "directory Überraschung/b|empty",
            "file Überraschung/b|quote\"\n",
        ]
    );
    // printf '\xff' | base64
    assert_eq!(list[1]["name_bytes"], "/w==");
    assert_eq!(list[2]["name_bytes"], serde_json::Value::Null);
    assert_eq!(list[2]["size"], 2);
    assert_eq!(list[2]["last_modified"], "2026-11-23T10:00:00.250Z");
    assert_eq!(list[2]["virus_detected"], false);
    let left_out = fixture.dir.path();
    let root = open_root(left_out).unwrap();
    let catalog = Catalog::scan(&root, "LINK_ID").unwrap();
    assert_eq!(
        catalog.left_out,
        LeftOut {
            links: 2,
            special: 1,
            unreadable: 0
        }
    );
}

#[test]
fn five_thousand_files_come_in_chunks_with_identifiers_of_their_own() {
    let fixture = Fixture::new(|dir, _| {
        for folder in 0..50 {
            let folder = dir.join(format!("f{folder}"));
            fs::create_dir(&folder).unwrap();
            for file in 0..100 {
                File::create(folder.join(format!("{file}"))).unwrap();
            }
        }
    });
    let list = fixture.list();
    assert_eq!(list.len(), 5000);
    let mut ids: Vec<_> = list.iter().map(|entry| entry["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5000);
    let key = |entry: &Value| (entry["path"].to_string(), entry["name"].to_string());
    assert!(list.is_sorted_by_key(key));
    let (package, token) = fixture.enter();
    let target = format!("/v1/packages/{package}/files");
    let mut old = fixture.connect();
    write!(old, "GET {target} HTTP/1.0\r\n{token}\r\n").unwrap();
    let old = read_reply(&mut old);
    assert!(old.header("transfer-encoding").is_none());
    assert_eq!(old.json().as_array().unwrap().len(), 5000);
}

#[test]
fn identifiers_survive_a_restart_and_new_files_show_after_a_new_resolve() {
    let scan = |dir: &Path| Catalog::scan(&open_root(dir).unwrap(), "L").unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m"), "x").unwrap();
    let before = scan(dir.path());
    let id = before.iter().next().unwrap().id;
    fs::write(dir.path().join("a"), "x").unwrap();
    let after = scan(dir.path());
    assert_eq!(after.len(), 2);
    assert_eq!(after.find(&id).unwrap().name, b"m");
    assert!(after.find("").is_none() && after.find(&id[2..]).is_none());

    let fixture = Fixture::new(|_, _| {});
    assert!(fixture.list().is_empty());
    fs::write(fixture.dir.path().join("late"), "x").unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while fixture.list().is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "the new file never shows"
        );
    }
}

#[test]
fn a_folder_has_no_bytes() {
    let fixture = Fixture::new(|dir, _| fs::create_dir(dir.join("d")).unwrap());
    let (package, token) = fixture.enter();
    let id = fixture.list()[0]["id"].as_str().unwrap().to_owned();
    let target = format!("/v1/packages/{package}/files/{id}/download");
    assert_eq!(fixture.get(&target, &token).status, 404);
}
