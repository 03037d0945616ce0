//! `haul get --shard`: several nodes bring one package into one folder, and need no word between
//! them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::process::Signal;

use crate::support::content;
use crate::support::nodes::Nodes;
use crate::support::origin::{Kind, Reply};
use crate::support::package::{Entry, Package};
use crate::support::process::{Finished, Running, run};
use crate::support::tree;

const MIB: u64 = 1 << 20;

/// Something of everything, names that meet among it.
fn mixed() -> Package {
    Package::new()
        .file("big.mov", 24 * MIB)
        .many(60, 30_000)
        .file("reel/a.wav", 5 * MIB)
        .file("reel/b.wav", 3 * MIB)
        .file("nothing", 0)
        .entry(Entry::new("twice", "same", 5000))
        .entry(Entry::new("twice", "same", 3 * MIB))
        .entry(Entry::new("twice", "same.part", 7000))
        .entry(Entry::new("bad", "infected", 100).infected())
        .entry(Entry::new("", "empty 1", 0).kind("directory"))
        .entry(Entry::new("empty 2", "inner", 0).kind("directory"))
}

fn large() -> Package {
    Package::new().file("big.mov", 24 * MIB).file("small", 100)
}

fn ends(running: Vec<Running>) -> Vec<Finished> {
    running.into_iter().map(Running::finish).collect()
}

fn assert_all_end_well(running: Vec<Running>) -> Vec<Finished> {
    let ends = ends(running);
    for end in &ends {
        assert_eq!(end.code(), Some(0), "{end:?}");
    }
    ends
}

/// The one file under the shared folder whose name ends so.
fn only(nodes: &Nodes, suffix: &str) -> PathBuf {
    let paths = tree::paths(&nodes.shared());
    let mut found = paths.iter().filter(|path| path.ends_with(suffix));
    let path = found
        .next()
        .unwrap_or_else(|| panic!("{suffix}: {paths:?}"));
    assert_eq!(found.next(), None, "{paths:?}");
    nodes.shared().join(path)
}

#[test]
fn nodes_that_know_nothing_of_each_other_bring_a_package_once() {
    let nodes = Nodes::new(mixed());
    let ends = assert_all_end_well(nodes.start(4, &["--json"]));
    let all = nodes.origin.package().size();
    assert_eq!(nodes.origin.served(), all, "each byte once");
    // What one node alone makes of the package, names and all.
    let alone = Nodes {
        dir: tempfile::tempdir().unwrap(),
        origin: nodes.origin,
    };
    let end = run(&mut alone.get("home", &[]));
    assert_eq!(end.code(), Some(0), "{end:?}");
    let shared = nodes.dir.path().join("shared");
    let paths = tree::paths(&shared);
    assert_eq!(paths, tree::paths(&alone.shared()));
    for path in paths.iter().filter(|path| !path.ends_with('/')) {
        let (one, other) = (shared.join(path), alone.shared().join(path));
        assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap(), "{path}");
        let time = |path: &PathBuf| fs::metadata(path).unwrap().mtime();
        assert_eq!(time(&one), time(&other), "{path}");
    }
    for end in &ends {
        let own = end.last_event()["bytes_done"].as_u64().unwrap();
        assert!(own.abs_diff(all / 4) <= 2 * MIB, "{own} of {all}");
    }
}

#[test]
fn a_finished_shard_has_nothing_to_do() {
    let nodes = Nodes::new(large());
    nodes.expect(0, &["0/2", "1/2"], &[]);
    nodes.assert_whole();
    let (served, links) = (nodes.origin.served(), nodes.origin.count(Kind::Link));
    for end in nodes.expect(0, &["0/2", "1/2"], &[]) {
        assert!(end.stdout.starts_with("complete already"), "{end:?}");
    }
    assert_eq!(nodes.origin.served(), served);
    assert_eq!(nodes.origin.count(Kind::Link), links, "nobody is asked");
    // On another machine, which remembers nothing.
    let end = run(&mut nodes.get("elsewhere", &["--shard", "1/2"]));
    assert_eq!(end.code(), Some(0), "{end:?}");
    assert_eq!(
        nodes.origin.served(),
        served,
        "what is there was seen to be"
    );
    nodes.assert_whole();
}

#[test]
fn a_divided_file_has_its_name_once_the_last_node_is_done() {
    let nodes = Nodes::new(large());
    let ends = nodes.expect(0, &["0/3", "2/3"], &[]);
    assert!(!nodes.shared().join("big.mov").exists());
    let told = "1 file gets its name once the other shards";
    assert!(ends[0].stdout.contains(told), "{ends:?}");
    // Nothing is to be done yet.
    let served = nodes.origin.served();
    nodes.expect(0, &["0/3"], &[]);
    assert_eq!(nodes.origin.served(), served);
    let end = nodes.expect(0, &["1/3"], &[]);
    assert!(!end[0].stdout.contains("once the other"), "{end:?}");
    nodes.assert_whole();
    assert_eq!(nodes.origin.served(), nodes.origin.package().size());
}

#[test]
fn killed_nodes_go_on_here_and_on_another_machine() {
    let nodes = Nodes::new(large());
    let all = nodes.origin.package().size();
    nodes.origin.throttle(4 * MIB);
    let mut running = nodes.start(2, &[]);
    // Receipts are about a second apart.
    nodes.origin.await_served(10 * MIB);
    running.iter_mut().for_each(Running::kill9);
    nodes.origin.unthrottle();
    // The second one has lost its machine, and what it remembers is the shared folder's.
    let elsewhere = nodes.get("elsewhere", &["--shard", "1/2"]);
    let here = nodes.shard("0/2", &[]);
    assert_all_end_well([here, elsewhere].iter_mut().map(Running::start).collect());
    nodes.assert_whole();
    let twice = nodes.origin.served() - all;
    // A second and a half of one node's half of the line, and what was on its way.
    assert!(twice <= 5 * MIB, "{twice} bytes were fetched twice");
}

#[test]
fn another_number_of_nodes_goes_on_with_what_is_there() {
    let nodes = Nodes::new(mixed());
    let all = nodes.origin.package().size();
    nodes.origin.throttle(6 * MIB);
    let mut running = nodes.start(4, &[]);
    nodes.origin.await_served(15 * MIB);
    running
        .iter_mut()
        .for_each(|node| node.signal(Signal::TERM));
    for end in ends(running) {
        assert!(matches!(end.code(), Some(0 | 130)), "{end:?}");
    }
    nodes.origin.unthrottle();
    assert_all_end_well(nodes.start(3, &[]));
    nodes.assert_clean();
    let big = nodes.origin.entry("F1");
    tree::assert_file(&nodes.shared().join("big.mov"), big.seed, big.size);
    let twice = nodes.origin.served().saturating_sub(all);
    // Whole files below the size from which others are told of them.
    assert!(twice <= 8 * MIB, "{twice} bytes were fetched twice");
}

#[test]
fn a_foreign_file_of_that_name_is_left_replaced_or_an_error_as_was_asked_for() {
    let nodes = Nodes::new(large());
    fs::create_dir(nodes.shared()).unwrap();
    let big = nodes.shared().join("big.mov");
    fs::write(&big, "mine").unwrap();
    let end = nodes.expect(1, &["0/2"], &[]);
    assert!(
        end[0].stderr.contains("big.mov: another file has its name"),
        "{end:?}"
    );
    assert_eq!(fs::read(&big).unwrap(), b"mine");
    nodes.expect(0, &["0/2", "1/2"], &["--if-exists", "skip"]);
    assert_eq!(fs::read(&big).unwrap(), b"mine");
    assert_eq!(nodes.origin.served(), 100, "of the other file");
    nodes.expect(0, &["0/2", "1/2"], &["--if-exists", "overwrite"]);
    nodes.assert_whole();
}

#[test]
fn a_users_own_part_file_is_not_written_to() {
    let nodes = Nodes::new(large());
    fs::create_dir(nodes.shared()).unwrap();
    let own = nodes.shared().join("big.mov.part");
    fs::write(&own, "mine").unwrap();
    nodes.expect(0, &["0/2", "1/2"], &[]);
    assert_eq!(fs::read(&own).unwrap(), b"mine");
    fs::remove_file(own).unwrap();
    nodes.assert_whole();
}

#[test]
fn a_receipt_is_not_believed_of_another_part_file() {
    let nodes = Nodes::new(large());
    nodes.expect(0, &["0/2"], &[]);
    // Another program takes the file away and puts one of the same name there.
    let part = only(&nodes, ".part");
    let beside = part.with_extension("kept");
    fs::rename(&part, &beside).unwrap();
    File::create(&part).unwrap().set_len(24 * MIB).unwrap();
    nodes.expect(0, &["1/2"], &[]);
    assert!(
        !nodes.shared().join("big.mov").exists(),
        "half of it is gone"
    );
    nodes.expect(0, &["0/2"], &[]);
    fs::remove_file(beside).unwrap();
    nodes.assert_whole();
}

#[test]
fn a_file_that_changes_on_the_server_is_not_put_together_of_two() {
    let nodes = Nodes::new(large());
    let tag = |tag: &'static str| {
        nodes.origin.on(Kind::Bytes, move |_| Reply::etag(tag));
    };
    tag("\"one\"");
    nodes.expect(0, &["0/2"], &[]);
    tag("\"two\"");
    let end = nodes.expect(1, &["1/2"], &[]);
    assert!(end[0].stderr.contains("start every shard again"), "{end:?}");
    assert!(!nodes.shared().join("big.mov").exists());
    nodes.expect(0, &["0/2", "1/2"], &[]);
    nodes.assert_whole();
}

#[test]
fn what_another_node_has_spoiled_is_found_by_the_checksum() {
    let nodes = Nodes::new(large());
    let big = nodes.origin.entry("F1");
    let whole = content::bytes(big.seed, big.size);
    let digest = ring::digest::digest(&ring::digest::SHA256, &whole);
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest));
    nodes
        .origin
        .on(Kind::Bytes, move |seen| match seen.is_for("F1") {
            true => Reply::serve().header("Repr-Digest", &digest),
            false => Reply::serve(),
        });
    nodes.expect(0, &["0/2"], &[]);
    let part = File::options()
        .write(true)
        .open(only(&nodes, ".part"))
        .unwrap();
    part.write_all_at(&[!whole[1000]], 1000).unwrap();
    drop(part);
    let end = nodes.expect(1, &["1/2"], &[]);
    assert!(end[0].stderr.contains("checksum"), "{end:?}");
    assert!(!nodes.shared().join("big.mov").exists());
    nodes.expect(0, &["0/2", "1/2"], &[]);
    nodes.assert_whole();
}

#[test]
fn a_server_without_ranges_will_do() {
    let nodes = Nodes::new(large());
    nodes.origin.on(Kind::Bytes, |_| Reply::ignore_range());
    assert_all_end_well(nodes.start(3, &[]));
    nodes.assert_whole();
}

#[test]
fn what_is_remembered_is_not_believed_of_what_others_have_begun_since() {
    // Whole files, and one that is divided.
    for package in [Package::new().many(6, 1_900_000), large()] {
        let nodes = Nodes::new(package);
        nodes.expect(0, &["0/2", "1/2"], &[]);
        for path in tree::paths(&nodes.shared()) {
            let path = nodes.shared().join(path);
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
        // Another number of nodes makes its own files there, at their full length, and is killed.
        let served = nodes.origin.served();
        nodes.origin.throttle(4 * MIB);
        let mut others = nodes.start(3, &[]);
        nodes.origin.await_served(served + 3 * MIB);
        others.iter_mut().for_each(Running::kill9);
        nodes.origin.unthrottle();
        nodes.expect(0, &["0/2", "1/2"], &[]);
        nodes.assert_whole();
    }
}

#[test]
fn receipts_that_a_killed_node_has_left_do_no_harm() {
    let nodes = Nodes::new(large());
    nodes.expect(0, &["0/2"], &[]);
    let receipt = only(&nodes, ".receipt");
    let text = fs::read(&receipt).unwrap();
    nodes.expect(0, &["1/2"], &[]);
    fs::write(&receipt, &text).unwrap();
    let end = run(&mut nodes.get("elsewhere", &["--shard", "0/2"]));
    assert_eq!(end.code(), Some(0), "{end:?}");
    nodes.assert_whole();
    fs::write(&receipt, &text).unwrap();
    fs::remove_file(nodes.shared().join("big.mov")).unwrap();
    nodes.expect(0, &["0/2", "1/2"], &[]);
    nodes.assert_whole();
}

#[test]
fn a_node_whose_work_others_have_done_meanwhile_ends_well() {
    let nodes = Nodes::new(large());
    let mut slow = nodes.get("slow", &["--shard", "0/2", "--rate-limit", "1M"]);
    let running = Running::start(&mut slow);
    nodes.origin.await_served(MIB);
    nodes.expect(0, &["0/2", "1/2"], &[]);
    let end = ends(vec![running]).remove(0);
    assert_eq!(end.code(), Some(0), "{end:?}");
    assert!(
        nodes.origin.served() < 24 * MIB + 8 * MIB,
        "it did not go on"
    );
    nodes.assert_whole();
    let time = fs::metadata(nodes.shared().join("big.mov"))
        .unwrap()
        .mtime();
    assert_eq!(time, 1_614_834_367, "as listed");
}

#[test]
fn what_is_in_a_receipts_way_is_named() {
    for suffix in [".receipt", ".receipt.part"] {
        let nodes = Nodes::new(large());
        nodes.expect(0, &["0/2"], &[]);
        let receipt = only(&nodes, ".receipt").to_str().unwrap().to_owned();
        let receipt = receipt.replace(".0-2.receipt", &format!(".1-2{suffix}"));
        fs::create_dir(&receipt).unwrap();
        let end = nodes.expect(1, &["1/2"], &[]);
        assert!(
            end[0].stderr.contains("is in the way: remove it"),
            "{end:?}"
        );
        fs::remove_dir(&receipt).unwrap();
        nodes.expect(0, &["1/2"], &[]);
        nodes.assert_whole();
    }
}

#[test]
fn a_sender_cannot_name_a_file_as_nodes_name_what_they_share() {
    let size = 8 * MIB;
    let told = format!("PACKAGE1\0F1\0{size}");
    let digest = ring::digest::digest(&ring::digest::SHA256, told.as_bytes());
    let tag: String = digest.as_ref()[..6]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let nodes = Nodes::new(
        Package::new()
            .file("big", size)
            .file(&format!("big.{tag}.part"), size)
            .file(&format!("big.{tag}.0-2.receipt"), 10),
    );
    assert_all_end_well(nodes.start(2, &[]));
    nodes.assert_whole();
    assert_eq!(tree::paths(&nodes.shared()).len(), 3);
}

#[test]
fn the_last_shard_puts_the_list_of_checksums_together() {
    for more in [&["--manifest", "sha256"], &["--manifest", "xxh64"]] {
        let nodes = Nodes::new(mixed());
        let name = if more[1] == "sha256" {
            "SHA256SUMS"
        } else {
            "XXH64SUMS"
        };
        nodes.expect(0, &["0/3", "2/3"], more);
        assert!(!nodes.shared().join(name).exists());
        nodes.expect(0, &["1/3"], more);
        nodes.assert_clean();
        let alone = Nodes {
            dir: tempfile::tempdir().unwrap(),
            origin: nodes.origin,
        };
        assert_eq!(run(&mut alone.get("home", more)).code(), Some(0));
        let list = fs::read_to_string(nodes.dir.path().join("shared").join(name)).unwrap();
        let expected = fs::read_to_string(alone.shared().join(name)).unwrap();
        assert_eq!(list, expected);
        // One that has lost what it remembers adds nothing to it.
        let again = Nodes {
            dir: nodes.dir,
            origin: alone.origin,
        };
        let again_more = [&["--shard", "0/3"], &more[..]].concat();
        assert_eq!(
            run(&mut again.get("elsewhere", &again_more)).code(),
            Some(0)
        );
        again.assert_clean();
    }
}

#[test]
fn shards_that_end_at_once_leave_one_list() {
    let nodes = Nodes::new(mixed());
    assert_all_end_well(nodes.start(4, &["--manifest", "sha256"]));
    nodes.assert_clean();
    let lists = tree::paths(&nodes.shared());
    let lists: Vec<_> = lists.iter().filter(|path| path.contains("SUMS")).collect();
    assert_eq!(lists, ["SHA256SUMS"]);
    let end = run(&mut nodes.get("x", &["--shard", "0/4", "--manifest", "ascmhl"]));
    assert_eq!(end.code(), Some(2), "{end:?}");
    assert!(end.stderr.contains("sha256, xxh64 or blake3"), "{end:?}");
}

#[test]
fn the_scheduler_says_which_shard_it_is() {
    let nodes = Nodes::new(large());
    let mut slurm = nodes.get("one", &["--shard", "auto"]);
    slurm
        .env("SLURM_ARRAY_TASK_ID", "7")
        .env("SLURM_ARRAY_TASK_COUNT", "2")
        .env("SLURM_ARRAY_TASK_MIN", "7");
    assert_eq!(run(&mut slurm).code(), Some(0));
    let mut kubernetes = nodes.get("two", &[]);
    kubernetes
        .env("HAUL_SHARD", "auto")
        .env("JOB_COMPLETION_INDEX", "1")
        .env("HAUL_SHARDS", "2");
    assert_eq!(run(&mut kubernetes).code(), Some(0));
    nodes.assert_whole();
    let end = run(&mut nodes.get("three", &["--shard", "auto"]));
    assert_eq!(end.code(), Some(2), "{end:?}");
    assert!(end.stderr.contains("give K/N instead"), "{end:?}");
    for wrong in ["4/3", "x", "1/0"] {
        let end = run(&mut nodes.get("three", &["--shard", wrong]));
        assert_eq!(end.code(), Some(2), "{wrong}: {end:?}");
    }
}
