//! How the agent says that it is well, the page, and the description of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::agent::{download, fill};
use super::*;
use crate::model::state::State;

#[test]
fn health_tells_whether_the_agent_can_save() {
    let api = Api::start();
    let health = api.ask("GET", "/api/v1/health").json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(health["state_writable"], true);
    assert!(health["uptime_seconds"].as_u64().unwrap() < 60);
    api.agent.unwritable.store(true, Ordering::SeqCst);
    let reply = api.ask("GET", "/api/v1/health");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["status"], "degraded");
    assert_eq!(reply.json()["state_writable"], false);
}

/// The samples by their names with labels, after a look at the form.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut described = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let words: Vec<&str> = rest.splitn(3, ' ').collect();
            if words[0] == "TYPE" {
                described.insert(words[1].to_owned());
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let plain = name.split('{').next().unwrap();
        assert!(described.contains(plain), "{line}");
        let before = samples.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{line}");
    }
    samples
}

#[test]
fn metrics_add_up() {
    let api = Api::start();
    let moving = download(1, State::Transferring);
    fill(&moving, 4);
    moving.table().unwrap().add_done(0, 7);
    moving.set_rate(1_000);
    let paused = download(2, State::Paused);
    fill(&paused, 1);
    paused.set_rate(5);
    api.agent.publish([moving, paused]);
    api.ask("GET", "/nowhere");
    let reply = api.ask("GET", "/metrics");
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(reply.field("Content-Type"), Some(kind));
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.ends_with('\n'));
    let samples = samples(&text);
    for (name, value) in [
        ("haul_downloads{state=\"transferring\"}", 1.0),
        ("haul_downloads{state=\"paused\"}", 1.0),
        ("haul_downloads{state=\"complete\"}", 0.0),
        ("haul_downloads{state=\"error\"}", 0.0),
        ("haul_files{state=\"open\"}", 5.0),
        ("haul_wanted_bytes", 50.0),
        ("haul_done_bytes", 7.0),
        ("haul_transfer_bytes_per_second", 1_000.0),
        ("haul_received_bytes_total", 1_099_511_627_776.0),
        ("haul_workers", 4.0),
        ("haul_workers_busy", 1.0),
        ("haul_journal_bytes", 300.0),
        ("haul_state_writable", 1.0),
        ("haul_http_requests_total{code=\"404\"}", 1.0),
        ("haul_api_watchers", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}

#[test]
fn the_page_comes_with_its_fence() {
    let api = Api::start();
    let reply = api.ask("GET", "/");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.field("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let policy = reply.field("Content-Security-Policy").unwrap();
    for part in [
        "default-src 'none';",
        "connect-src 'self';",
        "base-uri 'none';",
        "form-action 'none';",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(reply.field("X-Frame-Options"), Some("DENY"));
    assert_eq!(reply.field("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(reply.field("X-Content-Type-Options"), Some("nosniff"));
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.starts_with("<!doctype html>"));
}

#[test]
fn the_description_is_served_whole() {
    let api = Api::start();
    let document = api.ask("GET", "/api/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(matches!(document["paths"], Value::Object(_)));
}
