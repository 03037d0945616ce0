//! The table alone: counting, rendering, saving.

use super::*;
use crate::model::problem::Code;

fn file(dir: u32, name: &str, size: u64) -> NewFile {
    NewFile {
        id: format!("id-{name}"),
        dir,
        name: name.into(),
        size,
        mtime: None,
        original: None,
        part: None,
        skip: None,
        slice: None,
    }
}

fn sample() -> FileTable {
    let mut builder = TableBuilder::default();
    let a = builder
        .dir(Dir {
            parent: ROOT,
            name: "a".into(),
            ours: true,
        })
        .unwrap();
    let b = builder
        .dir(Dir {
            parent: a,
            name: "b".into(),
            ours: false,
        })
        .unwrap();
    builder.file(file(ROOT, "top", 1)).unwrap();
    builder
        .file(NewFile {
            mtime: Some(5),
            original: Some("a/b\\c/x".into()),
            ..file(b, "x", 20)
        })
        .unwrap();
    builder
        .file(NewFile {
            skip: Some(Skip::Virus),
            ..file(a, "bad", 300)
        })
        .unwrap();
    builder.finish()
}

fn rows(table: &FileTable, state: State) -> serde_json::Value {
    let mut out = b"[".to_vec();
    let mut at = 0;
    while at < table.len() {
        at = table.render(at, 2, state, &mut out);
    }
    out.push(b']');
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_table_comes_back_from_its_lines() {
    let table = sample();
    let mut lines = Vec::new();
    table.save(&mut lines).unwrap();
    let again = FileTable::load(&mut lines.as_slice()).unwrap();
    assert_eq!(
        rows(&table, State::Transferring),
        rows(&again, State::Transferring)
    );
    assert_eq!(again.dirs(), table.dirs());
    assert_eq!(again.counts(), table.counts());
    assert_eq!(again.mtime(1), Some(5));
    assert_eq!(again.mtime(0), None);
}

#[test]
fn torn_and_hostile_lines_are_errors() {
    let mut lines = Vec::new();
    sample().save(&mut lines).unwrap();
    for cut in 0..lines.len() {
        assert!(FileTable::load(&mut &lines[..cut]).is_err(), "cut at {cut}");
    }
    for text in [
        "{\"dirs\":1,\"files\":0}\n[1,\"loop\",0]\n",
        "{\"dirs\":0,\"files\":1}\n[7,\"i\",\"n\",1,null]\n",
    ] {
        assert!(
            matches!(
                FileTable::load(&mut text.as_bytes()),
                Err(TableError::Inconsistent)
            ),
            "{text}"
        );
    }
}

#[test]
fn skipped_files_are_listed_but_their_bytes_are_not_counted() {
    let table = sample();
    let counts = table.counts();
    assert_eq!(
        (counts.files_total, counts.files_skipped, counts.bytes_total),
        (3, 1, 21)
    );
    table.add_done(1, 5);
    table.skip(1, Skip::Exists);
    let counts = table.counts();
    assert_eq!(
        (counts.files_skipped, counts.bytes_total, counts.bytes_done),
        (2, 1, 0)
    );
}

#[test]
fn a_failed_file_says_why_until_it_is_tried_again() {
    let table = sample();
    table.fail(
        0,
        FileProblem {
            code: Code::ProtocolError,
            message: "no".into(),
        },
    );
    assert_eq!(
        rows(&table, State::Error)[0]["error"]["code"],
        "protocol_error"
    );
    assert_eq!(table.counts().files_failed, 1);
    table.set_state(0, FileState::Pending);
    assert_eq!(table.counts().files_failed, 0);
    assert!(rows(&table, State::Transferring)[0].get("error").is_none());
}

#[test]
fn begun_files_of_a_paused_download_are_paused() {
    let table = sample();
    table.set_state(0, FileState::Transferring);
    assert_eq!(
        rows(&table, State::Transferring)[0]["state"],
        "transferring"
    );
    assert_eq!(rows(&table, State::Paused)[0]["state"], "paused");
    assert_eq!(rows(&table, State::Paused)[1]["state"], "pending");
    assert_eq!(rows(&table, State::Paused)[2]["state"], "skipped");
}

#[test]
fn a_renamed_file_shows_both_paths() {
    let table = sample();
    table.rename(
        0,
        Names {
            last: "top (1)".into(),
            part: "top.part".into(),
        },
    );
    let rows = rows(&table, State::Complete);
    assert_eq!(rows[0]["path"], "top (1)");
    assert_eq!(rows[0]["original_path"], "top");
    assert_eq!(rows[1]["path"], "a/b/x");
    assert_eq!(rows[1]["original_path"], "a/b\\c/x");
    assert_eq!(table.names(1).part, "x.part");
}
