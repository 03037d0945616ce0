//! What GET and HEAD answer.

use super::agent::{download, fill};
use super::*;
use crate::model::state::State;

#[test]
fn the_list_has_every_field_and_the_oldest_first() {
    let api = Api::start();
    assert_eq!(api.ask("GET", DOWNLOADS).body, b"[]");
    api.agent
        .publish([download(1, State::Paused), download(2, State::Complete)]);
    let reply = api.ask("GET", DOWNLOADS);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.field("Content-Type"), Some("application/json"));
    assert_eq!(reply.field("Cache-Control"), Some("no-store"));
    assert_eq!(reply.field("X-Content-Type-Options"), Some("nosniff"));
    assert!(reply.field("Date").unwrap().ends_with(" GMT"));
    let list = reply.json();
    assert_eq!(list[0]["download_id"], "0100000001");
    assert_eq!(list[1]["download_id"], "0100000002");
    let expected = serde_json::json!({
        "download_id": "0100000001", "state": "paused", "name": null, "package_id": null,
        "link": "https://get.massive.app/L1", "dst_folder": "/in",
        "created_at": "1970-01-01T00:00:00Z", "completed_at": null,
        "bytes_total": null, "bytes_done": 0, "bytes_per_second": 0, "eta_seconds": null, "bytes_free": null,
        "files_total": null, "files_complete": 0, "files_skipped": 0, "files_failed": 0,
        "error": null, "priority": 0, "selection": null,
    });
    assert_eq!(list[0], expected);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(!text.contains("s3cret") && !text.contains("passw0rd"));
}

#[test]
fn states_select_and_are_percent_decoded() {
    let api = Api::start();
    api.agent
        .publish(State::ALL.into_iter().zip(0..).map(|(s, n)| download(n, s)));
    let states = |query: &str| {
        let reply = api.ask("GET", &format!("{DOWNLOADS}?{query}"));
        let list = reply.json();
        let names = list.as_array().unwrap().iter();
        names
            .map(|one| one["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(states(""), "transferring paused complete error");
    assert_eq!(states("states=error"), "error");
    assert_eq!(states("states=error,paused"), "paused error");
    assert_eq!(states("states=error%2Cpaused,error"), "paused error");
    assert_eq!(states("%73tates=%65rror"), "error");
}

#[test]
fn details_have_the_files_however_many() {
    let api = Api::start();
    let counts = [0, 1, 2_000, 2_001, 2_304, 100_000];
    api.agent
        .publish(counts.into_iter().zip(1..).map(|(files, number)| {
            let download = download(number, State::Paused);
            fill(&download, files);
            download
        }));
    let mut client = api.client();
    for (files, number) in counts.into_iter().zip(1..) {
        let path = format!("{DOWNLOADS}/01{number:08}");
        let reply = client.ask("GET", &path, "", None);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.field("Content-Length").is_some(), files <= 2_000);
        let details = reply.json();
        assert_eq!(details["files_total"], files);
        let rows = details["files"].as_array().unwrap();
        assert_eq!(rows.len(), files as usize);
        for (row, number) in rows.iter().zip(0..) {
            assert_eq!(row["file_id"], format!("f{number}"));
        }
    }
}

#[test]
fn before_the_listing_there_are_no_files() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    let details = api.ask("GET", "/api/v1/downloads/0100000001").json();
    assert_eq!(details["files"], serde_json::json!([]));
    assert_eq!(details["files_total"], serde_json::Value::Null);
    // The path is percent-decoded.
    let same = api.ask("GET", "/api/v1/downloads/%3010000000%31").json();
    assert_eq!(same, details);
}

#[test]
fn head_answers_as_get_without_the_body() {
    let api = Api::start();
    api.agent.publish([download(1, State::Paused)]);
    let mut client = api.client();
    for path in [DOWNLOADS, "/api/v1/downloads/0100000001", "/api/v1/health"] {
        let get = client.ask("GET", path, "", None);
        let head = client.ask("HEAD", path, "", None);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.field("Content-Length"), get.field("Content-Length"));
    }
    assert_eq!(client.ask("HEAD", "/api/v1/x", "", None).status, 404);
}

#[test]
fn the_root_lists_the_calls() {
    let api = Api::start();
    for path in ["/api/v1", "/api/v1/"] {
        let calls = api.ask("GET", path).json();
        assert_eq!(calls["calls"].as_array().unwrap().len(), 20);
    }
    assert_eq!(api.ask("GET", "/api/v1/health").json()["status"], "ok");
}

#[test]
fn a_long_list_arrives_whole() {
    let api = Api::start();
    api.agent
        .publish((0..5_000).map(|number| download(number, State::Complete)));
    let reply = api.ask("GET", DOWNLOADS);
    assert!(reply.field("Content-Length").is_some());
    assert_eq!(reply.json().as_array().unwrap().len(), 5_000);
}

#[test]
fn slow_readers_of_long_answers_hold_up_nobody() {
    let api = Api::start();
    api.agent
        .publish((0..20_000).map(|number| download(number, State::Complete)));
    let mut slow: Vec<_> = (0..8).map(|_| api.client()).collect();
    for client in &mut slow {
        client.send("GET /api/v1/downloads HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for _ in 0..20 {
        assert_eq!(api.ask("GET", "/api/v1/health").status, 200);
    }
    for client in &mut slow {
        let list = client.reply(false).json();
        assert_eq!(list.as_array().unwrap().len(), 20_000);
    }
}

#[test]
fn long_answers_are_compressed_for_those_who_accept_it() {
    use std::io::Read as _;

    let api = Api::start();
    for files in [3000, 50] {
        let download = agent::download(1, State::Complete);
        agent::fill(&download, files);
        api.agent.publish([download]);
        let path = format!("{DOWNLOADS}/0100000001");
        let ask = |accept: &str| {
            let fields = format!("Accept-Encoding: {accept}\r\n");
            api.client().ask("GET", &path, &fields, None)
        };
        let plain = ask("gzip;q=0");
        assert_eq!(plain.field("Content-Encoding"), None);
        assert_eq!(plain.field("Vary"), Some("Accept-Encoding"));
        let small = ask("br, gzip");
        assert_eq!(small.field("Content-Encoding"), Some("gzip"));
        assert_eq!(small.field("Vary"), Some("Accept-Encoding"));
        assert!(small.body.len() < plain.body.len() / 4);
        let mut body = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&small.body[..]);
        decoder.read_to_end(&mut body).unwrap();
        assert!(body == plain.body, "{files} files");
    }
    let fields = "Accept-Encoding: gzip\r\n";
    let short = api.client().ask("GET", "/api/v1/health", fields, None);
    assert_eq!(short.field("Content-Encoding"), None);
    let mut client = api.client();
    client.send(format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    ));
    assert_eq!(client.head().field("Content-Encoding"), None);
}
