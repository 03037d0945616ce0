//! GET /metrics, GET /health, GET /openapi.json and the page.

use serde_json::Value;

use crate::support::agent::{Agent, one};
use crate::support::package::Package;
use crate::support::rig::Rig;

fn sample(agent: &Agent, name: &str) -> f64 {
    let answer = agent.get("/metrics");
    assert_eq!(answer.status, 200);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    let line = answer
        .text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    let value = line.unwrap_or_else(|| panic!("no {name} in {}", answer.text));
    value.parse().unwrap()
}

#[test]
fn metrics_tell_what_was_done() {
    let rig = Rig::new(Package::new().file("a", 1_000).file("b", 500));
    assert_eq!(sample(&rig.agent, "haul_received_bytes_total"), 0.0);
    let id = rig.create();
    rig.complete(&id);
    let of = |name| sample(&rig.agent, name);
    assert_eq!(of("haul_downloads{state=\"complete\"}"), 1.0);
    assert_eq!(of("haul_downloads{state=\"transferring\"}"), 0.0);
    assert_eq!(of("haul_files{state=\"complete\"}"), 2.0);
    assert_eq!(of("haul_done_bytes"), 1_500.0);
    assert_eq!(of("haul_received_bytes_total"), 1_500.0);
    assert_eq!(of("haul_workers_busy"), 0.0);
    assert_eq!(of("haul_state_writable"), 1.0);
    assert!(of("haul_workers") >= 1.0);
    assert!(of("haul_journal_bytes") > 0.0);
    assert!(of("haul_http_requests_total{code=\"201\"}") >= 1.0);
    rig.agent.delete(&one(&id)).expect(200);
    assert_eq!(of("haul_done_bytes"), 0.0);
    assert_eq!(of("haul_received_bytes_total"), 1_500.0);
}

#[test]
fn health_names_the_version() {
    let rig = Rig::new(Package::new());
    let health = rig.agent.get("/api/v1/health").expect(200);
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(health["state_writable"], true);
    assert!(health["uptime_seconds"].is_u64());
}

#[test]
fn the_description_names_every_call_of_the_list() {
    let rig = Rig::new(Package::new());
    let document = rig.agent.get("/api/v1/openapi.json").expect(200);
    let list = rig.agent.get("/api/v1").expect(200);
    for call in list["calls"].as_array().unwrap() {
        let (method, path) = call.as_str().unwrap().split_once(' ').unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{call}");
    }
    assert!(matches!(document["openapi"], Value::String(_)));
}

#[test]
fn the_page_is_one_file_that_loads_nothing() {
    let rig = Rig::new(Package::new());
    let page = rig.agent.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for load in ["src=", "@import", "url(http", "<link rel=\"stylesheet\""] {
        assert!(!page.text.contains(load), "{load}");
    }
}
