//! Answers that somebody else gives in the server's name (sign-in pages, a proxy's error page), and
//! bodies that were encoded on their way.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_only_f2_failed, two};
use crate::support::agent::row;
use crate::support::origin::{Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

const PAGE: &str = "<!DOCTYPE html>\n<html><title>Welcome, guest</title></html>";

fn pages() -> Vec<Reply> {
    let typed = |reply: Reply| reply.header("Content-Type", "text/html; charset=utf-8");
    vec![
        typed(Reply::json(PAGE)),
        Reply::json(PAGE).header("Content-Type", "application/octet-stream"),
        typed(Reply::raw(|out| {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
            write!(out, "{head}{:x}\r\n{PAGE}\r\n0\r\n\r\n", PAGE.len())
        })),
    ]
}

/// The record while a page is in the way.
fn behind_page(rig: &Rig, id: &str) -> Value {
    let record = rig
        .agent
        .wait(id, "a fault", |record| !record["error"].is_null());
    assert_eq!(record["state"], "transferring", "{record:#}");
    let message = record["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("does this network want a sign-in?"),
        "{message}"
    );
    record
}

#[test]
fn a_sign_in_page_is_waited_for_wherever_it_comes() {
    let kinds = [Kind::Link, Kind::Listing, Kind::Address, Kind::Bytes];
    let cases = kinds
        .into_iter()
        .flat_map(|kind| pages().into_iter().map(move |page| (kind, page)));
    // They wait at the same time.
    let rigs: Vec<(Kind, Rig, String)> = cases
        .map(|(kind, page)| {
            let rig = Rig::new(two());
            rig.origin.always(kind, page);
            let id = rig.create();
            (kind, rig, id)
        })
        .collect();
    for (kind, rig, id) in &rigs {
        behind_page(rig, id);
        // Longer than the answers would have counted against the files.
        rig.origin.await_requests(*kind, 4);
        let record = rig.agent.inspect(id);
        assert_eq!(record["files_failed"], 0, "{kind:?}: {record:#}");
        rig.origin.heal(*kind);
    }
    for (_, rig, id) in &rigs {
        rig.complete(id);
    }
}

#[test]
fn a_page_in_the_middle_of_a_file_costs_nothing_that_has_arrived() {
    let rig = Rig::with(Package::new().file("x.mov", 8 << 20), &["--workers", "1"]);
    rig.origin.throttle(4 << 20);
    let id = rig.create();
    rig.origin.await_served(4 << 20);
    rig.agent.pause(&id).expect(200);
    rig.origin.always(Kind::Bytes, pages().remove(2));
    rig.agent.resume(&id).expect(200);
    behind_page(&rig, &id);
    let record = rig.agent.inspect(&id);
    assert!(
        record["bytes_done"].as_u64().unwrap() > 3 << 20,
        "{record:#}"
    );
    rig.origin.unthrottle();
    rig.origin.heal(Kind::Bytes);
    rig.complete(&id);
    assert!(rig.origin.served() < 9 << 20, "{}", rig.origin.served());
}

#[test]
fn a_file_that_is_a_page_arrives() {
    let package = Package::new()
        .file("index.html", PAGE.len() as u64)
        .file("y", 10);
    let rig = Rig::new(package);
    rig.origin.on(Kind::Bytes, |_| {
        Reply::serve().header("Content-Type", "text/html")
    });
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn json_that_is_cut_is_tried_again() {
    let rigs = [Kind::Link, Kind::Listing, Kind::Address].map(|kind| {
        let rig = Rig::new(two());
        let half = match kind {
            Kind::Listing => "[{\"id\":",
            _ => "{\"pack",
        };
        rig.origin.always(kind, Reply::json(half));
        let id = rig.create();
        (kind, rig, id)
    });
    for (kind, rig, id) in rigs {
        // More than answers without sense may come before they count.
        rig.origin.await_requests(kind, 6);
        let record = rig.agent.inspect(&id);
        assert_eq!(record["state"], "transferring", "{kind:?}: {record:#}");
        assert_eq!(record["files_failed"], 0, "{kind:?}: {record:#}");
        let message = record["error"]["message"].as_str().unwrap();
        assert!(message.contains("was cut short"), "{message}");
    }
}

#[test]
fn identity_is_asked_for_and_an_encoded_body_of_another_size_is_named() {
    let rig = Rig::new(two());
    super::spoil(&rig, Kind::Bytes, |_| {
        Reply::json("not what was listed").header("Content-Encoding", "gzip")
    });
    let id = rig.create();
    let bad = assert_only_f2_failed(&rig, &id);
    let message = bad["error"]["message"].as_str().unwrap();
    assert!(message.contains("encoded the file (gzip)"), "{message}");
    for seen in rig.origin.requests(Kind::Bytes) {
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
    }
}

#[test]
fn a_stored_object_that_says_it_is_encoded_is_saved_as_it_is() {
    let rig = Rig::new(two());
    rig.origin.always(
        Kind::Bytes,
        Reply::serve().header("Content-Encoding", "gzip"),
    );
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn a_link_is_refused_in_the_servers_own_words() {
    let rig = Rig::new(two());
    let words = r#"{"message":"The download limit\u202e has been reached"}"#;
    rig.origin.always(
        Kind::Link,
        Reply::raw(move |out| {
            let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json";
            write!(
                out,
                "{head}\r\nContent-Length: {}\r\n\r\n{words}",
                words.len()
            )
        }),
    );
    for password in [json!(null), json!("p")] {
        let order =
            json!({"url": rig.origin.link(), "dst_folder": rig.dst(), "password": password});
        let answer = rig.agent.order(&order);
        answer.assert_error(403, "link_refused");
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            message.contains("The download limit has been reached"),
            "{message}"
        );
    }
    assert!(rig.agent.ids().is_empty());
}

#[test]
fn a_link_that_is_refused_while_it_runs_costs_nothing_that_has_arrived() {
    let rig = Rig::with(
        Package::new().file("x", 8 << 20).file("y", 10),
        &["--workers", "1"],
    );
    rig.origin.throttle(4 << 20);
    let id = rig.create();
    rig.origin.await_served(4 << 20);
    let words = r#"{"error":{"message":"sign in first"}}"#;
    rig.origin.always(
        Kind::Link,
        Reply::raw(move |out| {
            let head = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json";
            write!(
                out,
                "{head}\r\nContent-Length: {}\r\n\r\n{words}",
                words.len()
            )
        }),
    );
    rig.origin.revoke_token();
    rig.agent.pause(&id).expect(200);
    rig.origin.expire_addresses();
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "error");
    let error = &record["error"];
    assert_eq!(error["code"], "link_refused", "{record:#}");
    assert_eq!(error["recoverable"], true);
    assert!(error["message"].as_str().unwrap().contains("sign in first"));
    assert!(
        record["bytes_done"].as_u64().unwrap() > 3 << 20,
        "{record:#}"
    );
    assert_ne!(row(&record, "F1")["state"], "error");
    rig.origin.heal(Kind::Link);
    rig.origin.unthrottle();
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
    assert!(rig.origin.is_idle_within(Duration::from_secs(5)));
    assert!(rig.origin.served() < 9 << 20, "{}", rig.origin.served());
}

#[test]
fn a_link_that_is_not_active_yet_is_waited_for() {
    let rig = Rig::new(two());
    let words = r#"{"code":425,"message":"Package is not ready yet"}"#;
    rig.origin.always(
        Kind::Link,
        Reply::raw(move |out| {
            let head = "HTTP/1.1 425 Too Early\r\nContent-Type: application/json";
            write!(
                out,
                "{head}\r\nContent-Length: {}\r\n\r\n{words}",
                words.len()
            )
        }),
    );
    let id = rig.create();
    let record = rig
        .agent
        .wait(&id, "a fault", |record| !record["error"].is_null());
    let message = record["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("not active yet: Package is not ready yet"),
        "{message}"
    );
    rig.origin.heal(Kind::Link);
    rig.complete(&id);
}

#[test]
fn content_of_another_time_is_not_mixed_with_what_has_arrived() {
    let rig = Rig::with(Package::new().file("x", 300_000), &["--workers", "1"]);
    rig.origin.on(Kind::Bytes, |seen| match seen.nth {
        1 => Reply::cut(100_000).header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        _ => Reply::content_of(77).header("Last-Modified", "Tue, 02 Jan 2024 00:00:00 GMT"),
    });
    let id = rig.create();
    rig.agent.wait_state(&id, "complete");
    crate::support::tree::assert_file(&rig.dst().join("x"), 77, 300_000);
}
