//! What arrived is held against the digests that servers tell, and what was saved is known again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::support::agent::row;
use crate::support::content;
use crate::support::origin::{Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::process::run;
use crate::support::rig::Rig;
use crate::support::tree;

const MIB: u64 = 1 << 20;

fn sha256(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    format!("sha-256=:{}:", BASE64_STANDARD.encode(digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content(origin: &Origin, file: &str) -> Vec<u8> {
    let entry = origin.entry(file);
    content::bytes(entry.seed, entry.size)
}

/// An upstream that tells the SHA-256 of `F1`, whose first `wrong` answers bring other bytes.
fn spoiled(size: u64, wrong: usize) -> Rig {
    let rig = Rig::with(Package::new().file("a.mov", size).file("b", 10), &[]);
    let digest = sha256(&content(&rig.origin, "F1"));
    rig.origin.on(Kind::Bytes, move |seen| {
        let reply = match seen.is_for("F1") && seen.nth_of_file <= wrong {
            true => Reply::content_of(99),
            false => Reply::serve(),
        };
        match seen.is_for("F1") {
            true => reply.header("Repr-Digest", &digest),
            false => reply,
        }
    });
    rig
}

#[test]
fn bytes_that_were_changed_on_the_way_are_found_and_fetched_again() {
    // One that the worker looks at itself, and one that it leaves to others.
    for size in [5000, 3 * MIB] {
        let rig = spoiled(size, 1);
        let id = rig.create();
        let record = rig.complete(&id);
        assert_eq!(row(&record, "F1")["verified"], "sha-256", "{size}");
        assert_eq!(
            row(&record, "F2")["verified"],
            Value::Null,
            "nothing was told"
        );
        assert!(rig.agent.logs().contains("a.mov starts over"));
    }
}

#[test]
fn what_never_has_the_right_checksum_fails_and_a_resume_tries_again() {
    let rig = spoiled(5000, 2);
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    rig.assert_file(&record, "F2");
    let bad = row(&record, "F1");
    assert_eq!(bad["state"], "error");
    assert_eq!(bad["error"]["code"], "checksum_mismatch", "{bad}");
    assert_eq!(bad["verified"], Value::Null);
    assert!(!rig.dst().join("a.mov").exists(), "it never gets its name");
    assert_eq!(rig.origin.requests(Kind::Bytes).len(), 3, "two, and F2's");
    rig.agent.resume(&id).expect(200);
    let record = rig.complete(&id);
    assert_eq!(row(&record, "F1")["verified"], "sha-256");
}

#[test]
fn verify_false_takes_what_comes() {
    let rig = spoiled(5000, 1);
    let id = rig.create_with(json!({"verify": false}));
    let record = rig.agent.wait_state(&id, "complete");
    assert_eq!(record["verify"], false);
    assert_eq!(row(&record, "F1")["verified"], Value::Null);
    tree::assert_file(&rig.dst().join("a.mov"), 99, 5000);
}

#[test]
fn verified_stays_known_after_a_restart() {
    let mut rig = spoiled(5000, 0);
    let id = rig.create();
    rig.complete(&id);
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(row(&rig.agent.inspect(&id), "F1")["verified"], "sha-256");
}

/// The entity tag of a file uploaded to S3 in parts of this size.
fn multipart_tag(content: &[u8], part: usize) -> String {
    let md5s: Vec<u8> = content.chunks(part).flat_map(Md5::digest).collect();
    let count = content.len().div_ceil(part);
    format!("\"{}-{count}\"", hex(&Md5::digest(md5s)))
}

fn tagged(
    size: u64,
    tag: impl Fn(&[u8]) -> String,
    more: Option<(&'static str, &'static str)>,
) -> Value {
    let rig = Rig::new(Package::new().file("a.mov", size));
    let tag = tag(&content(&rig.origin, "F1"));
    rig.origin.on(Kind::Bytes, move |_| {
        let reply = Reply::etag(&tag);
        match more {
            Some((name, value)) => reply.header(name, value),
            None => reply,
        }
    });
    let id = rig.create();
    let record = rig.complete(&id);
    row(&record, "F1")["verified"].clone()
}

#[test]
fn the_entity_tags_of_s3_are_understood_and_those_that_say_nothing_do_no_harm() {
    let single = |content: &[u8]| format!("\"{}\"", hex(&Md5::digest(content)));
    let s3 = Some(("x-amz-request-id", "1"));
    assert_eq!(tagged(5000, single, s3), "md5");
    assert_eq!(tagged(5000, single, None), "md5");
    assert_eq!(tagged(0, |_| "\"etag\"".into(), s3), Value::Null);
    // No uploader has parts of the last size.
    for (part, expected) in [
        (5 * MIB, json!("md5")),
        (8 * MIB, json!("md5")),
        (6 * MIB + 1, Value::Null),
    ] {
        let parts = |content: &[u8]| multipart_tag(content, part as usize);
        assert_eq!(tagged(12 * MIB + 3, parts, s3), expected, "{part}");
    }
    assert_eq!(
        tagged(3 * MIB, |content| multipart_tag(content, 4 << 20), s3),
        "md5",
        "-1"
    );
    // It looks like an MD5 and is something else, as some web frameworks have it.
    let other = |_: &[u8]| format!("\"{}\"", hex(&Md5::digest(b"1700000000-5000")));
    assert_eq!(tagged(5000, other, None), Value::Null);
    let kms = Some(("x-amz-server-side-encryption", "aws:kms"));
    assert_eq!(tagged(5000, other, kms), Value::Null);
}

#[test]
fn a_wrong_md5_of_s3_is_a_mismatch() {
    let rig = Rig::new(Package::new().file("a.mov", 5000));
    let tag = format!("\"{}\"", hex(&Md5::digest(b"something else")));
    rig.origin.on(Kind::Bytes, move |_| {
        Reply::etag(&tag).header("x-amz-request-id", "1")
    });
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(row(&record, "F1")["error"]["code"], "checksum_mismatch");
}

fn with_manifest(kind: &str) -> (Rig, String, Value) {
    let small = Package::new()
        .file("a.mov", 5000)
        .file("day 1/b\n\\c", 70_000);
    let rig = Rig::new(small.file("large", 3 * MIB).file("nothing", 0));
    let id = rig.create_with(json!({"manifest": kind}));
    let record = rig.complete(&id);
    assert_eq!(record["manifest"], kind);
    (rig, id, record)
}

#[test]
fn a_list_of_checksums_is_left_that_coreutils_read() {
    let (rig, id, record) = with_manifest("sha256");
    assert_eq!(record["manifest_file"], "SHA256SUMS");
    let mut check = Command::new("sha256sum");
    check
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(rig.dst());
    let checked = run(&mut check);
    assert_eq!(
        checked.code(),
        Some(0),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
    let list = fs::read_to_string(rig.dst().join("SHA256SUMS")).unwrap();
    assert_eq!(list.lines().count(), 4, "{list}");
    let deleted = rig
        .agent
        .delete(&format!("/api/v1/downloads/{id}?remove_files=true"));
    assert_eq!(deleted.expect(200)["files_removed"], 4);
    assert!(!rig.dst().exists(), "the list went with the files");
}

#[test]
fn lists_of_other_kinds_hold_the_right_digests() {
    for (kind, name) in [("xxh64", "XXH64SUMS"), ("blake3", "B3SUMS")] {
        let (rig, _, record) = with_manifest(kind);
        assert_eq!(record["manifest_file"], name);
        let content = content(&rig.origin, "F1");
        let digest = match kind {
            "xxh64" => format!("{:016x}", twox_hash::XxHash64::oneshot(0, &content)),
            _ => blake3::hash(&content).to_string(),
        };
        let list = fs::read_to_string(rig.dst().join(name)).unwrap();
        assert!(list.contains(&format!("{digest}  a.mov\n")), "{list}");
    }
}

#[test]
fn an_asc_mhl_is_begun_goes_on_and_goes() {
    let rig = Rig::new(Package::new().file("A001/a.mov", 5000).file("b & c", 10));
    let history = rig.dst().join("Dailies 14/ascmhl");
    let order = json!({"manifest": "ascmhl", "create_package_folder": true});
    let id = rig.create_with(order.clone());
    let record = rig.complete(&id);
    let list = record["manifest_file"].as_str().unwrap();
    assert!(
        list.starts_with("Dailies 14/ascmhl/0001_Dailies 14_2"),
        "{list}"
    );
    let text = fs::read_to_string(rig.dst().join(list)).unwrap();
    assert!(text.contains("<path size=\"5000\""), "{text}");
    assert!(text.contains(">A001/a.mov</path>") && text.contains(">b &amp; c</path>"));
    let chain = || fs::read_to_string(history.join("ascmhl_chain.xml")).unwrap();
    assert_eq!(chain().matches("<hashlist").count(), 1);
    let second = rig.create_with(order);
    let again = rig.agent.wait_state(&second, "complete");
    let next = again["manifest_file"].as_str().unwrap();
    assert!(next.starts_with("Dailies 14/ascmhl/0002_"), "{next}");
    assert_eq!(chain().matches("<hashlist").count(), 2);
    for id in [second, id] {
        let target = format!("/api/v1/downloads/{id}?remove_files=true");
        rig.agent.delete(&target).expect(200);
    }
    assert!(!rig.dst().exists(), "{:?}", tree::paths(&rig.dst()));
}

/// The list of the user's own is not touched; one of a second download stands beside it.
#[test]
fn a_list_takes_a_name_that_is_free() {
    let rig = Rig::new(Package::new().file("a.mov", 10));
    fs::create_dir(rig.dst()).unwrap();
    fs::write(rig.dst().join("SHA256SUMS"), "mine").unwrap();
    let id = rig.create_with(json!({"manifest": "sha256"}));
    let record = rig.complete(&id);
    assert_eq!(record["manifest_file"], "SHA256SUMS (1)");
    assert_eq!(
        fs::read_to_string(rig.dst().join("SHA256SUMS")).unwrap(),
        "mine"
    );
}

#[test]
fn an_unknown_kind_of_list_is_refused_with_those_that_there_are() {
    let rig = Rig::new(Package::new().file("a.mov", 10));
    let mut order = rig.order();
    order["manifest"] = json!("md5");
    let refused = rig.agent.order(&order);
    refused.assert_error(400, "invalid_request");
    let message = refused.json()["error"]["message"].to_string();
    assert!(
        message.contains("sha256, xxh64, blake3, ascmhl"),
        "{message}"
    );
}

/// One of the same length and time, but another file: a copy that the user put there.
#[test]
fn remove_files_leaves_a_file_that_was_put_in_the_place_of_ours() {
    let rig = Rig::new(Package::new().file("a.mov", 5000).file("b", 10));
    let id = rig.create();
    rig.complete(&id);
    let saved = rig.dst().join("a.mov");
    let copy = rig.dst().join("copy");
    fs::copy(&saved, &copy).unwrap();
    let modified = fs::metadata(&saved).unwrap().modified().unwrap();
    fs::File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    let inode = fs::metadata(&saved).unwrap().ino();
    fs::rename(&copy, &saved).unwrap();
    assert_ne!(fs::metadata(&saved).unwrap().ino(), inode);
    let deleted = rig
        .agent
        .delete(&format!("/api/v1/downloads/{id}?remove_files=true"))
        .expect(200);
    assert_eq!(deleted["files_removed"], 1, "{deleted}");
    assert_eq!(deleted["files_left"][0]["path"], "a.mov", "{deleted}");
    assert!(saved.exists());
}
