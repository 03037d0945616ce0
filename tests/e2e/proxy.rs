//! The agent behind a reverse proxy that takes a prefix off, or leaves it on, and that may end TLS.

use serde_json::json;

use crate::events::Events;
use crate::support::agent::{Agent, Setup};
use crate::support::http::{self, Answer};
use crate::support::nginx::Nginx;
use crate::support::origin::Origin;
use crate::support::package::Package;

fn package() -> Package {
    Package::new().file("x", 1000)
}

/// As the README's example, `to` being the agent's address and what follows it.
fn nginx(to: &str) -> Option<Nginx> {
    let location = format!(
        "location /haul/ {{
            proxy_pass http://{to};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_read_timeout 1h;
        }}"
    );
    Nginx::serving_with(&package(), None, &location)
}

fn post(nginx: &Nginx, origin: &Origin, page: &str, dst: &std::path::Path) -> Answer {
    let order = json!({"url": origin.link(), "dst_folder": dst}).to_string();
    let headers = [("Content-Type", "application/json"), ("Origin", page)];
    let target = "/haul/api/v1/downloads";
    http::send(nginx.address(), "POST", target, &headers, Some(&order))
}

fn works_behind(nginx: &Nginx, origin: &Origin) -> Answer {
    let page = http::send(nginx.address(), "GET", "/haul/", &[], None);
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<title>"));
    let mut events = Events::open_at(nginx.address(), "/haul/api/v1/events", None);
    let dst = tempfile::tempdir().unwrap();
    let created = post(nginx, origin, &nginx.base(), dst.path());
    let id = created.expect(201)["download_id"]
        .as_str()
        .unwrap()
        .to_owned();
    // They come while the stream stays open: nothing holds them back.
    loop {
        let data = events.next().unwrap().data;
        if data["download_id"] == *id && data["state"] == "complete" {
            break;
        }
    }
    post(nginx, origin, "https://evil.example", dst.path()).assert_error(403, "forbidden_origin");
    let secure = nginx.base().replace("http://", "https://");
    // The browser's side of a proxy that ends TLS.
    assert_ne!(post(nginx, origin, &secure, dst.path()).status, 403);
    created
}

#[test]
fn a_prefix_that_the_proxy_takes_off_is_no_matter() {
    let origin = Origin::new(package());
    let agent = Agent::of(&origin);
    if let Some(nginx) = nginx(&format!("{}/", agent.address)) {
        works_behind(&nginx, &origin);
    }
}

#[test]
fn a_prefix_that_the_proxy_leaves_on_is_the_base_path() {
    let origin = Origin::new(package());
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--base-path", "/haul/"])
        .start();
    let get = |target: &str| http::send(agent.address, "GET", target, &[], None);
    assert_eq!(get("/haul").status, 308);
    assert_eq!(get("/haul").header("location"), Some("/haul/"));
    get("/haul/api/v1/downloads").expect(200);
    let dir = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let dst = dir.path().join(name);
        let order = json!({"url": origin.link(), "dst_folder": dst}).to_string();
        let headers = [("Content-Type", "application/json")];
        let target = "/haul/api/v1/downloads";
        http::send(agent.address, "POST", target, &headers, Some(&order)).expect(201);
    }
    let part = get("/haul/api/v1/downloads?limit=1");
    let link = part.header("link").unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(get(next).expect(200).as_array().unwrap().len(), 1, "{link}");
    for other in [
        "/",
        "/api/v1/downloads",
        "/haulx/api/v1/downloads",
        "/haul/haul/",
    ] {
        get(other).assert_error(404, "not_found");
    }
    if let Some(nginx) = nginx(&agent.address.to_string()) {
        let created = works_behind(&nginx, &origin);
        let location = created.header("location").unwrap();
        assert!(
            location.starts_with("/haul/api/v1/downloads/"),
            "{location}"
        );
    }
}

#[test]
fn an_unknown_field_or_parameter_is_named_with_what_was_meant() {
    let origin = Origin::new(package());
    let agent = Agent::of(&origin);
    let says = |answer: Answer, code: &str, parts: &[&str]| {
        answer.assert_error(400, code);
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    };
    let order = r#"{"url":"x","dst_foldr":"/x"}"#;
    let meant = [r#""dst_foldr""#, r#"did you mean "dst_folder"?"#];
    says(
        agent.post("/api/v1/downloads", order),
        "invalid_request",
        &meant,
    );
    let put = |body: &str| {
        let headers = [("Content-Type", "application/json")];
        http::send(
            agent.address,
            "PUT",
            "/api/v1/settings",
            &headers,
            Some(body),
        )
    };
    let meant = [r#""ratelimit""#, r#"did you mean "rate_limit"?"#];
    says(put(r#"{"ratelimit":1}"#), "invalid_request", &meant);
    let meant = [r#""state""#, r#"did you mean "states"?"#];
    says(
        agent.get("/api/v1/downloads?state=paused"),
        "invalid_parameter",
        &meant,
    );
    says(
        agent.get("/api/v1/health?x=1"),
        "invalid_parameter",
        &[r#""x""#],
    );
}

#[test]
fn a_body_may_begin_with_a_byte_order_mark() {
    let origin = Origin::new(package());
    let agent = Agent::of(&origin);
    let dst = tempfile::tempdir().unwrap();
    let order = json!({"url": origin.link(), "dst_folder": dst.path()});
    let body = format!("\u{feff}{order}");
    agent.post("/api/v1/downloads", &body).expect(201);
    agent
        .post("/api/v1/downloads", "\u{feff}")
        .assert_error(400, "invalid_json");
}
