//! Content that is not what was listed, or changes while it is fetched: start over, and the third
//! time it is that file's error; never a mixture.

use std::fs;

use crate::support::content;
use crate::support::origin::{Framing, Gate, Kind, Reply};
use crate::support::package::{Entry, Package};
use crate::support::rig::Rig;
use crate::support::tree;

use super::{assert_only_f2_failed, spoil, two};

fn assert_protocol_error(rig: &Rig) {
    let id = rig.create();
    let bad = assert_only_f2_failed(rig, &id);
    assert_eq!(bad["error"]["code"], "protocol_error", "{bad}");
    let requests = rig.origin.requests(Kind::Bytes);
    let requests = requests.iter().filter(|seen| seen.is_for("F2")).count();
    assert!(requests <= 12, "{requests} requests for a hopeless file");
}

#[test]
fn a_wrong_answer_once_or_twice_is_overcome() {
    for reply in [
        Reply::shifted(7),
        Reply::total(4999),
        Reply::total(1 << 50),
        Reply::status(416),
        Reply::resized(-100),
        Reply::resized(100),
    ] {
        let rig = Rig::new(two());
        spoil(&rig, Kind::Bytes, move |seen| match seen.nth_of_file {
            // A first request without a range cannot be answered with a wrong one.
            1 => Reply::cut(1000),
            2 => reply.clone(),
            _ => Reply::serve(),
        });
        let id = rig.create();
        rig.complete(&id);
    }
}

/// Every request for `F2` after a first part gets this.
fn always_after_a_part(reply: Reply) -> Rig {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Bytes, move |seen| match seen.range {
        Some((first, _)) if first > 0 => reply.clone(),
        _ => Reply::cut(1000),
    });
    rig
}

#[test]
fn a_wrong_range_for_ever_is_a_protocol_error() {
    assert_protocol_error(&always_after_a_part(Reply::shifted(7)));
}

#[test]
fn a_wrong_total_for_ever_is_a_protocol_error() {
    assert_protocol_error(&always_after_a_part(Reply::total(123_456)));
}

#[test]
fn a_range_that_cannot_be_had_for_ever_is_a_protocol_error() {
    assert_protocol_error(&always_after_a_part(Reply::status(416)));
}

#[test]
fn another_etag_for_ever_is_a_protocol_error() {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Bytes, |seen| {
        Reply::etag(&format!("\"version-{}\"", seen.nth_of_file)).and_cut(1000)
    });
    assert_protocol_error(&rig);
}

#[test]
fn content_of_another_size_than_listed_never_arrives() {
    for size in [0, 4000, 5001, 9_000_000] {
        let package = Package::new()
            .file("good", 5000)
            .entry(Entry::new("", "bad", 5000).listed_as(size));
        let rig = Rig::with(package, &["--retry-for", "1"]);
        let id = rig.create();
        let record = rig.agent.wait_end(&id);
        rig.assert_file(&record, "F1");
        let bad = rig.dst().join("bad");
        // Nothing has to be asked for a file of no bytes.
        if size == 0 && record["state"] == "complete" {
            assert_eq!(fs::metadata(&bad).unwrap().len(), 0);
        } else {
            assert_eq!(record["state"], "error", "{size} listed: {record:#}");
            assert!(!bad.exists(), "{size} listed");
        }
    }
}

#[test]
fn content_of_another_size_without_ranges_never_arrives() {
    for more in [-100, 100] {
        let rig = Rig::with(two(), &["--retry-for", "1"]);
        spoil(&rig, Kind::Bytes, move |_| {
            Reply::resized(more).and_ignore_range()
        });
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        rig.assert_file(&record, "F1");
        assert!(!rig.dst().join("bad").exists(), "{more} bytes more");
    }
}

/// `F2` always comes whole, with so many bytes more than listed, and without a length.
fn always_resized(more: i64, framing: Framing) -> Rig {
    let rig = Rig::new(two());
    let reply = Reply::resized(more).and_ignore_range();
    let reply = reply.and_framed(framing);
    spoil(&rig, Kind::Bytes, move |_| reply.clone());
    rig
}

#[test]
fn longer_content_is_a_protocol_error_however_its_end_is_told() {
    for framing in [Framing::Chunks, Framing::Close] {
        for more in [1, 100, 300_000] {
            assert_protocol_error(&always_resized(more, framing));
        }
    }
}

#[test]
fn shorter_content_whose_end_is_told_is_a_protocol_error() {
    assert_protocol_error(&always_resized(-100, Framing::Chunks));
}

#[test]
fn a_part_that_is_longer_than_it_says_for_ever_is_a_protocol_error() {
    for bytes in [2, 4000] {
        let reply = Reply::serve().and_framed(Framing::Chunks);
        assert_protocol_error(&always_after_a_part(reply.and_overrun(bytes)));
    }
}

#[test]
fn content_without_a_length_arrives() {
    for framing in [Framing::Chunks, Framing::Close] {
        let rig = Rig::new(two().file("large", 9 << 20));
        rig.origin.on(Kind::Bytes, move |seen| {
            let reply = Reply::serve().and_framed(framing);
            match seen.nth_of_file {
                1 => reply.and_cut(3000),
                _ => reply,
            }
        });
        let id = rig.create();
        rig.complete(&id);
    }
}

#[test]
fn a_file_replaced_meanwhile_is_fetched_anew() {
    let rig = Rig::new(two());
    spoil(&rig, Kind::Bytes, |seen| match seen.nth_of_file {
        1 => Reply::cut(3000),
        _ => Reply::content_of(77),
    });
    let id = rig.create();
    rig.agent.wait_state(&id, "complete");
    tree::assert_file(&rig.dst().join("bad"), 77, 5000);
}

/// What several connections are told at the same time is one change.
#[test]
fn a_change_that_many_connections_see_counts_once() {
    const AT_ONCE: usize = 8;
    for reply in [Reply::status(416), Reply::total(7), Reply::json("gone")] {
        let rig = Rig::new(Package::new().file("large.mov", 32 << 20));
        let gate = Gate::new();
        let wrong = reply.and_stall(&gate);
        rig.origin.on(Kind::Bytes, move |seen| match seen.nth {
            1..=AT_ONCE => wrong.clone(),
            _ => Reply::serve(),
        });
        let id = rig.create();
        rig.origin.await_requests(Kind::Bytes, AT_ONCE);
        gate.open();
        rig.complete(&id);
    }
}

#[test]
fn a_large_file_that_changes_for_ever_is_a_protocol_error() {
    for reply in [Reply::status(416), Reply::total(7), Reply::json("gone")] {
        let rig = Rig::new(Package::new().file("large.mov", 32 << 20));
        rig.origin.always(Kind::Bytes, reply);
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], "protocol_error", "{record:#}");
    }
}

#[test]
fn a_large_file_replaced_meanwhile_is_never_mixed() {
    const LARGE: u64 = 24 << 20;
    let rig = Rig::new(Package::new().file("large.mov", LARGE));
    rig.origin.on(Kind::Bytes, |seen| match seen.nth {
        1 | 2 => Reply::serve(),
        _ => Reply::content_of(77),
    });
    let id = rig.create();
    rig.agent.wait_state(&id, "complete");
    let path = rig.dst().join("large.mov");
    let begins = fs::read(&path).unwrap()[..64].to_vec();
    let seed = if begins == content::bytes(77, 64) {
        77
    } else {
        1
    };
    tree::assert_file(&path, seed, LARGE);
}
