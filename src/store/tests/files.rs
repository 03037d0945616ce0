//! The two files, the lock, the side files: what is there, who may read it, and what damage does.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::super::{JOURNAL, JSON, StoreError};
use super::*;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// Puts a journal of one's own making beside an empty state.
fn with_journal(lines: &str) -> tempfile::TempDir {
    let dir = temp();
    let header = format!("{{\"generation\":1,\"boot\":\"{BOOT}\",\"synced\":0}}\n");
    fs::write(dir.path().join(JOURNAL), header + lines).unwrap();
    dir
}

#[test]
fn a_store_is_shared_by_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Store<Log>>();
}

#[test]
fn a_first_start_finds_nothing_and_leaves_a_clean_pair() {
    let dir = temp();
    let path = dir.path().join("new/state");
    let (store, state) = open(&path, BOOT).unwrap();
    assert_eq!(state, Log::default());
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join(JSON)).unwrap()).unwrap();
    assert_eq!((&json["seq"], &json["format"]), (&0.into(), &1.into()));
    assert_eq!(
        fs::read_to_string(path.join(JOURNAL)).unwrap(),
        "{\"generation\":1,\"boot\":\"boot-1\",\"synced\":0}\n"
    );
    drop(store);
}

#[test]
fn everything_is_private() {
    let dir = temp();
    let path = dir.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (store, _) = open(&path, BOOT).unwrap();
    store
        .write_side("list", &mut |out| out.write_all(b"x"))
        .unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("side")), 0o700);
    for name in [JSON, JOURNAL, "lock", "side/list"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_second_opener_is_told_who_is_in_the_way() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    let error = open(dir.path(), BOOT).err().unwrap();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    assert!(error.to_string().contains("another haul is running"));
    drop(store);
    open(dir.path(), BOOT).unwrap();
}

#[test]
fn a_json_file_that_does_not_parse_is_named_and_left() {
    for text in [
        "",
        "{",
        "[]",
        "{\"format\":2,\"generation\":1,\"seq\":0,\"state\":[]}",
        "{\"format\":1,\"generation\":1,\"seq\":9007199254740992,\"state\":[]}",
        "{\"format\":1,\"generation\":1,\"seq\":-1,\"state\":[]}",
        "{\"format\":1,\"generation\":1,\"seq\":0,\"state\":{}}",
    ] {
        let dir = with_journal("{\"n\":1,\"c\":{\"o\":1}}\n");
        fs::write(dir.path().join(JSON), text).unwrap();
        fs::write(dir.path().join("downloads.json.0.tmp"), "draft").unwrap();
        let journal = fs::read(dir.path().join(JOURNAL)).unwrap();
        let error = open(dir.path(), BOOT).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(JSON), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(JSON)).unwrap(), text);
        assert_eq!(fs::read(dir.path().join(JOURNAL)).unwrap(), journal);
        assert!(dir.path().join("downloads.json.0.tmp").exists());
    }
}

#[test]
fn repeated_misplaced_and_damaged_lines_do_no_harm() {
    let dir = with_journal(concat!(
        "{\"n\":3,\"c\":{\"o\":3}}\n",
        "garbage\n",
        "\n",
        "{\"n\":1,\"c\":{\"o\":1}}\n",
        "{\"n\":3,\"c\":{\"o\":33}}\n",
        "{\"n\":0,\"c\":{\"o\":0}}\n",
        "{\"n\":-5,\"c\":{\"o\":0}}\n",
        "{\"n\":9007199254740992,\"c\":{\"o\":0}}\n",
        "{\"n\":18446744073709551616,\"c\":{\"o\":0}}\n",
        "{\"n\":5}\n{\"c\":{\"o\":5}}\n{\"v\":[9,2]}\n",
        "{\"n\":2,\"c\":{\"o\":2}}\n",
        "{\"n\":4,\"c\":{\"unknown\":2}}\n",
        "{\"n\":6,\"c\":{\"o\":6}}",
    ));
    assert_eq!(reopened(dir.path(), BOOT), other([1, 2, 3]));
    assert_eq!(reopened(dir.path(), BOOT), other([1, 2, 3]));
}

#[test]
fn lines_without_end_and_binary_noise_are_passed_over() {
    let mut text = String::from("{\"n\":1,\"c\":{\"o\":1}}\n");
    text.push_str(&"[".repeat(3 << 20));
    text.push_str("\n{\"n\":2,\"c\":{\"o\":2}}\n");
    text.push_str(&"[".repeat(200_000));
    text.push_str("\n\0\0\0\n{\"n\":3,\"c\":{\"o\":3}}\n");
    text.push_str(&"\0".repeat(2 << 20));
    let dir = with_journal(&text);
    assert_eq!(reopened(dir.path(), BOOT), other([1, 2, 3]));
}

#[test]
fn changes_that_were_taken_back_do_not_count() {
    let dir = with_journal(concat!(
        "{\"n\":1,\"c\":{\"o\":1}}\n{\"n\":2,\"c\":{\"o\":2}}\n{\"n\":3,\"c\":{\"o\":3}}\n",
        "{\"n\":4,\"c\":{\"o\":4}}\n{\"n\":5,\"c\":{\"o\":5}}\n{\"n\":6,\"c\":{\"o\":6}}\n",
        "{\"v\":[5,5]}\n{\"v\":[2,3]}\n{\"v\":[3,3]}\n",
    ));
    assert_eq!(reopened(dir.path(), BOOT), other([1, 4, 6]));
}

#[test]
fn a_journal_without_its_header_counts_as_another_boots() {
    let dir = temp();
    let lines = "{\"n\":1,\"c\":{\"o\":1}}\n{\"n\":2,\"c\":{\"d\":2}}\n";
    fs::write(dir.path().join(JOURNAL), lines).unwrap();
    assert_eq!(reopened(dir.path(), BOOT), other([1]));
}

#[test]
fn the_old_journal_beside_a_new_json_file_is_not_applied_twice() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    store.append(&other([1, 2])).unwrap();
    store.append(&data([3])).unwrap();
    store.append(&other([4])).unwrap();
    let journal = fs::read(dir.path().join(JOURNAL)).unwrap();
    store.close().unwrap();
    drop(store);
    fs::write(dir.path().join(JOURNAL), journal).unwrap();
    let (store, state) = open(dir.path(), BOOT).unwrap();
    assert_eq!(state.0, [other([1, 2]), data([3]), other([4])].concat());
    drop(store);
    assert_eq!(
        reopened(dir.path(), OTHER_BOOT),
        [other([1, 2]), other([4])].concat()
    );
}

#[test]
fn a_restart_in_the_same_boot_does_not_make_unsynced_data_durable() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    store.append(&data([1])).unwrap();
    store.synced(store.mark()).unwrap();
    store.append(&data([2])).unwrap();
    drop(store);
    let (store, state) = open(dir.path(), BOOT).unwrap();
    assert_eq!(state.0, data([1, 2]));
    assert_eq!(store.unsynced(), data([2]));
    store.append(&data([3])).unwrap();
    store.close().unwrap();
    drop(store);
    let (store, state) = open(dir.path(), OTHER_BOOT).unwrap();
    assert_eq!(state.0, data([1]));
    assert!(store.unsynced().is_empty());
}

#[test]
fn a_mark_covers_what_came_before_it_and_no_more() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    store.append(&data([1])).unwrap();
    let mark = store.mark();
    store.append(&data([2])).unwrap();
    store.synced(mark).unwrap();
    let len = || fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
    let before = len();
    store.synced(mark).unwrap();
    assert_eq!(len(), before, "saying it again costs nothing");
    store.append(&other([3])).unwrap();
    drop(store);
    assert_eq!(
        reopened(dir.path(), OTHER_BOOT),
        [data([1]), other([3])].concat()
    );
}

#[test]
fn an_idle_store_writes_nothing() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    store.append(&data([1])).unwrap();
    store.synced(store.mark()).unwrap();
    let journal = fs::read(dir.path().join(JOURNAL)).unwrap();
    for _ in 0..3 {
        store.synced(store.mark()).unwrap();
        assert!(!store.compact_if_needed().unwrap());
    }
    assert_eq!(fs::read(dir.path().join(JOURNAL)).unwrap(), journal);
}

#[test]
fn the_journal_is_written_anew_when_it_has_outgrown_the_json_file() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    assert!(!store.compact_if_needed().unwrap());
    let mut times = 0;
    for round in 0..60u32 {
        store
            .append(&other(round * 1000..(round + 1) * 1000))
            .unwrap();
        times += u32::from(store.compact_if_needed().unwrap());
    }
    assert!((1..6).contains(&times), "{times} times for 60,000 changes");
    let journal = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
    let json = fs::metadata(dir.path().join(JSON)).unwrap().len();
    assert!(journal <= json.max(256 << 10) + 60_000, "{journal}, {json}");
    drop(store);
    assert_eq!(reopened(dir.path(), OTHER_BOOT), other(0..60_000));
}

#[test]
fn a_data_change_costs_few_bytes() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    let before = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
    store.append(&data(900_000..901_000)).unwrap();
    let after = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
    assert!((after - before) / 1000 < 60, "{}", (after - before) / 1000);
}

#[test]
fn many_threads_lose_nothing_while_the_files_are_written_anew() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let store = &store;
            scope.spawn(move || {
                for n in (0..300).map(|n| thread * 1000 + n) {
                    match n % 50 {
                        0 => store.commit(&other([n])).unwrap(),
                        25 => {
                            store.append(&data([n])).unwrap();
                            store.synced(store.mark()).unwrap();
                        }
                        _ => store.append(&data([n])).unwrap(),
                    }
                }
            });
        }
        for _ in 0..20 {
            store.close().unwrap();
        }
    });
    drop(store);
    let state = reopened(dir.path(), BOOT);
    assert_eq!(state.len(), 1200);
    for thread in 0..4u32 {
        let of_thread = state.iter().filter_map(|note| match note {
            Note::Data(n) | Note::Other(n) => (n / 1000 == thread).then_some(n % 1000),
        });
        assert!(of_thread.eq(0..300), "thread {thread}");
    }
}

#[test]
fn side_files_come_whole_or_not_at_all() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    store
        .write_side("a-1.list", &mut |out| out.write_all(b"one"))
        .unwrap();
    let broken = store.write_side("a-1.list", &mut |out| {
        out.write_all(&[0; 100_000])?;
        Err(std::io::Error::other("no more"))
    });
    assert!(broken.is_err());
    let mut text = String::new();
    store
        .read_side("a-1.list")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "one");
    assert_eq!(store.side_names(), ["a-1.list"]);
    assert_eq!(fs::read_dir(dir.path().join("side")).unwrap().count(), 1);
    store.remove_side("a-1.list");
    store.remove_side("a-1.list");
    assert!(store.side_names().is_empty());
    assert!(store.read_side("a-1.list").is_err());
}

#[test]
fn side_files_stay_in_their_folder() {
    let dir = temp();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    for name in ["", ".", "..", "../lock", "a/b", ".a", "a.tmp", "a\0b", "é"] {
        assert!(store.write_side(name, &mut |_| Ok(())).is_err(), "{name:?}");
        assert!(store.read_side(name).is_err(), "{name:?}");
        store.remove_side(name);
    }
    assert!(dir.path().join("lock").exists());
    symlink("/etc/passwd", dir.path().join("side/link")).unwrap();
    assert!(store.read_side("link").is_err());
}

#[test]
fn symlinks_and_other_things_in_place_of_the_files_are_refused() {
    for name in [JSON, JOURNAL, "lock"] {
        let dir = temp();
        let target = dir.path().join("target");
        fs::write(&target, "mine").unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        symlink(&target, state.join(name)).unwrap();
        assert!(open(&state, BOOT).is_err(), "{name}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        fs::remove_file(state.join(name)).unwrap();
        fs::create_dir(state.join(name)).unwrap();
        assert!(open(&state, BOOT).is_err(), "{name} as a directory");
    }
}

#[test]
fn drafts_of_a_killed_process_are_removed() {
    let dir = temp();
    drop(open(dir.path(), BOOT).unwrap());
    fs::write(dir.path().join("downloads.json.7.tmp"), "x").unwrap();
    fs::write(dir.path().join("side/list.3.tmp"), "x").unwrap();
    fs::write(dir.path().join("not-ours.3.tmp"), "x").unwrap();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    assert!(!dir.path().join("downloads.json.7.tmp").exists());
    assert!(dir.path().join("not-ours.3.tmp").exists());
    assert_eq!(fs::read_dir(dir.path().join("side")).unwrap().count(), 0);
    drop(store);
}

#[test]
fn too_large_a_change_is_refused_and_harms_nothing() {
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Texts(Vec<String>);
    impl State for Texts {
        type Change = String;
        fn apply(&mut self, change: String) {
            self.0.push(change);
        }
        fn is_data(_: &String) -> bool {
            false
        }
    }
    let dir = temp();
    let (store, _) = Store::<Texts>::open_in_boot(dir.path(), BOOT).unwrap();
    let long = "x".repeat(1 << 20);
    let error = store.append(&["a".into(), long.clone()]).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    let longest = long[..(1 << 20) - 42].to_owned();
    store.commit(&[longest]).unwrap();
    drop(store);
    let (_store, state) = Store::<Texts>::open_in_boot(dir.path(), BOOT).unwrap();
    assert_eq!(state.0.len(), 1);
    assert_eq!(state.0[0].len(), (1 << 20) - 42);
}
