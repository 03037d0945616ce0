//! The table of errors, row by row, and that a refused call reaches nobody.

use super::agent::download;
use super::*;
use crate::agent::Refusal;
use crate::model::state::State;

const GOOD: &str = r#"{"url":"https://get.massive.app/L1?secret=S","dst_folder":"/in"}"#;

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn bodies_that_are_no_json_object_of_ours() {
    let api = Api::start();
    let mut client = api.client();
    let json = "Content-Type: application/json\r\n";
    for body in ["", "{", "nope", "{\"url\":\"\\ud800\"}", "{}x", "\u{feff}"] {
        let reply = client.ask("POST", DOWNLOADS, json, Some(body));
        assert_eq!(reply.error(), is(400, "invalid_json"), "{body}");
    }
    let url = r#""url":"https://get.massive.app/L1?secret=S""#;
    let dst = r#""dst_folder":"/in""#;
    for body in [
        "[]",
        "null",
        "\"x\"",
        "1",
        "{}",
        &format!("{{{url}}}"),
        &format!("{{{dst}}}"),
        &format!("{{{url},{dst},\"more\":1}}"),
        &format!("{{{url},{dst},{dst}}}"),
        &format!("{{{url},\"dst_folder\":1}}"),
        &format!("{{{url},\"dst_folder\":null}}"),
        &format!("{{\"url\":[],{dst}}}"),
        &format!("{{{url},{dst},\"password\":1}}"),
        &format!("{{{url},{dst},\"password\":\"a\\nb\"}}"),
        &format!("{{{url},{dst},\"if_exists\":true}}"),
        &format!("{{{url},{dst},\"if_exists\":\"Skip\"}}"),
    ] {
        let reply = client.ask("POST", DOWNLOADS, json, Some(body));
        assert_eq!(reply.error(), is(400, "invalid_request"), "{body}");
    }
    let mut reply = api.client();
    reply.send(
        "POST /api/v1/downloads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 3\r\n\r\n",
    );
    reply.send(b"\"\xff\"");
    assert_eq!(reply.reply(false).error(), is(400, "invalid_json"));
    assert!(api.agent.orders.lock().unwrap().is_empty());
}

#[test]
fn links_that_cannot_be() {
    let api = Api::start();
    for (url, code) in [
        ("ftp://x", "invalid_link"),
        (
            "https://evil.example/L?secret=TOPSECRET",
            "unsupported_link_host",
        ),
    ] {
        let body = format!(r#"{{"url":"{url}","dst_folder":"/in"}}"#);
        let reply = api.post(DOWNLOADS, &body);
        assert_eq!(reply.error(), is(400, code));
        assert!(!String::from_utf8(reply.body).unwrap().contains("TOPSECRET"));
    }
}

#[test]
fn what_the_agent_refuses() {
    let api = Api::start();
    let duplicate = Refusal::Duplicate {
        download_id: "01X".into(),
    };
    for (refusal, status, code) in [
        (
            Refusal::InvalidDestination("no".into()),
            400,
            "invalid_destination",
        ),
        (Refusal::LinkPasswordRequired, 403, "link_password_required"),
        (Refusal::LinkPasswordWrong, 403, "link_password_wrong"),
        (Refusal::LinkRefused("x".into()), 403, "link_refused"),
        (Refusal::LinkNotFound, 404, "link_not_found"),
        (Refusal::LinkExpired, 410, "link_expired"),
        (duplicate, 409, "duplicate_download"),
        (Refusal::ShuttingDown, 503, "shutting_down"),
        (
            Refusal::StateUnwritable("full".into()),
            507,
            "insufficient_storage",
        ),
    ] {
        api.agent.refuse(refusal);
        let reply = api.post(DOWNLOADS, GOOD);
        assert_eq!(reply.error(), is(status, code));
        if code == "duplicate_download" {
            assert_eq!(reply.json()["error"]["download_id"], "01X");
        }
    }
    api.agent.refuse(Refusal::InvalidTransition {
        state: State::Complete,
        action: "paused",
    });
    let reply = api.post("/api/v1/downloads/x/pause", "");
    assert_eq!(reply.error(), is(409, "invalid_transition"));
}

#[test]
fn unknown_downloads_and_paths() {
    let api = Api::start();
    for id in [
        "x", "%2e%2e", "%ff", "a%2Fb", "é", "%00", "%", "x%20y", "'\"<>",
    ] {
        for (method, rest) in [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/pause"),
            ("POST", "/resume"),
        ] {
            let reply = api.ask(method, &format!("{DOWNLOADS}/{id}{rest}"));
            assert_eq!(reply.error(), is(404, "download_not_found"), "{id}");
        }
    }
    for path in [
        "//",
        "*",
        "/api",
        "/api/v2/downloads",
        "/api/v1/download",
        "/api/v1//downloads",
        "/api/v1/downloads/",
        "/api/v1/downloads//pause",
        "/api/v1/downloads/x/",
        "/api/v1/downloads/x/stop",
        "/api/v1/downloads/x/pause/",
        "/api/v1/downloads/x/pause/y",
        "/favicon.ico",
    ] {
        for method in ["GET", "DELETE", "POST"] {
            let reply = api.ask(method, path);
            assert_eq!(reply.error(), is(404, "not_found"), "{path}");
        }
    }
    assert!(api.agent.deletions.lock().unwrap().is_empty());
}

#[test]
fn methods_that_a_path_does_not_take() {
    let api = Api::start();
    for (method, path, allow) in [
        ("PUT", DOWNLOADS, "GET, HEAD, POST, DELETE"),
        ("OPTIONS", DOWNLOADS, "GET, HEAD, POST, DELETE"),
        ("get", DOWNLOADS, "GET, HEAD, POST, DELETE"),
        ("POST", "/api/v1/downloads/x", "GET, HEAD, DELETE, PATCH"),
        ("PUT", "/api/v1/downloads/x", "GET, HEAD, DELETE, PATCH"),
        ("GET", "/api/v1/downloads/x/pause", "POST"),
        ("DELETE", "/api/v1/downloads/x/resume", "POST"),
        ("POST", "/api/v1/health", "GET, HEAD"),
        ("DELETE", "/api/v1", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/api/v1/events", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ] {
        let reply = api.ask(method, path);
        assert_eq!(
            reply.error(),
            is(405, "method_not_allowed"),
            "{method} {path}"
        );
        assert_eq!(reply.field("Allow"), Some(allow));
    }
    let reply = api.ask("HEAD", "/api/v1/downloads/x/pause");
    assert!(reply.head.contains(" 405 "));
}

#[test]
fn parameters_that_are_not_understood_are_never_guessed_at() {
    let api = Api::start();
    api.agent.publish([download(1, State::Complete)]);
    let one = "/api/v1/downloads/0100000001";
    for (method, path, query) in [
        ("GET", DOWNLOADS, "x=1"),
        ("GET", DOWNLOADS, "states"),
        ("GET", DOWNLOADS, "states="),
        ("GET", DOWNLOADS, "states=done"),
        ("GET", DOWNLOADS, "states=paused,"),
        ("GET", DOWNLOADS, "states=,paused"),
        ("GET", DOWNLOADS, "states=Paused"),
        ("GET", DOWNLOADS, "states=paused&states=error"),
        ("GET", DOWNLOADS, "states=paused&"),
        ("GET", DOWNLOADS, "remove_files=true"),
        ("HEAD", DOWNLOADS, "x"),
        ("DELETE", DOWNLOADS, "state=complete"),
        ("DELETE", DOWNLOADS, "states="),
        ("DELETE", DOWNLOADS, "states=complete%2C"),
        ("DELETE", DOWNLOADS, "states=complete%zz"),
        ("DELETE", DOWNLOADS, "states=%ff"),
        ("DELETE", DOWNLOADS, "remove_files"),
        ("DELETE", DOWNLOADS, "remove_files=1"),
        ("DELETE", DOWNLOADS, "remove_files=TRUE"),
        ("DELETE", DOWNLOADS, "remove_files=true&remove_files=true"),
        ("DELETE", DOWNLOADS, "remove_files=false&remove_files=true"),
        ("DELETE", one, "states=complete"),
        ("DELETE", one, "remove_files=yes"),
        ("GET", one, "states=complete"),
        ("POST", DOWNLOADS, "states=complete"),
        ("GET", one, "wait"),
        ("GET", one, "wait=61"),
        ("GET", one, "wait=-1"),
        ("GET", one, "wait=+1"),
        ("GET", one, "wait=1.5"),
        ("GET", one, "wait=99999999999999999999"),
        ("GET", one, "wait=1&wait=1"),
        ("GET", DOWNLOADS, "wait=1"),
        ("GET", "/", "x=1"),
        ("GET", "/metrics", "x=1"),
        ("GET", "/api/v1/events", "x=1"),
        ("POST", "/api/v1/downloads/0100000001/pause", "x=1"),
        ("GET", "/api/v1/health", "x=1"),
    ] {
        let reply = api.ask(method, &format!("{path}?{query}"));
        if method == "HEAD" {
            assert_eq!(reply.status, 400);
        } else {
            assert_eq!(
                reply.error(),
                is(400, "invalid_parameter"),
                "{path}?{query}"
            );
        }
    }
    assert!(api.agent.deletions.lock().unwrap().is_empty());
}

#[test]
fn bodies_of_another_type() {
    let api = Api::start();
    let mut client = api.client();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for fields in [
        "",
        form,
        "Content-Type: application/jsonp\r\n",
        "Content-Type:\r\n",
    ] {
        let reply = client.ask("POST", DOWNLOADS, fields, Some(GOOD));
        assert_eq!(reply.error(), is(415, "unsupported_media_type"));
        let reply = client.ask("POST", "/api/v1/downloads/x/pause", fields, Some("{}"));
        assert_eq!(reply.error(), is(415, "unsupported_media_type"));
    }
    let json = "Content-Type: application/json\r\n";
    for (method, path, fields) in [
        ("POST", "/api/v1/downloads/x/resume", json),
        ("DELETE", DOWNLOADS, json),
        ("DELETE", DOWNLOADS, form),
        ("DELETE", "/api/v1/downloads/x", ""),
    ] {
        let reply = client.ask(method, path, fields, Some(r#"{"states":"complete"}"#));
        assert_eq!(reply.error(), is(400, "invalid_request"));
        let reply = client.ask(method, path, fields, Some("nope"));
        assert_eq!(reply.error(), is(400, "invalid_json"));
    }
    assert!(api.agent.deletions.lock().unwrap().is_empty());
    let reply = client.ask("DELETE", DOWNLOADS, form, Some("{}"));
    assert_eq!(reply.status, 200, "a DELETE has no type");
}

#[test]
fn strangers_are_turned_away_before_anything_else() {
    let api = Api::start();
    let ask = |text: &str| {
        let mut client = api.client();
        client.send(text);
        client.reply(false).error()
    };
    let path = "/api/v1/nowhere";
    let text = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(ask(&text), is(403, "forbidden_host"));
    let text = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(ask(text), is(403, "forbidden_host"));
    let text = format!("GET {path} HTTP/1.0\r\n\r\n");
    assert_eq!(ask(&text), is(403, "forbidden_host"));
    let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n");
    assert_eq!(ask(&text), is(403, "forbidden_origin"));
    let text =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n");
    assert_eq!(ask(&text), is(404, "not_found"));
    let text = format!("GET {path} HTTP/1.1\r\n\r\n");
    assert_eq!(ask(&text), is(400, "invalid_request"));
}

#[test]
fn a_token_is_asked_of_every_call() {
    let api = Api::start_with(Limits::default(), Some("t0ken"));
    let mut client = api.client();
    for path in [
        DOWNLOADS,
        "/api/v1/health",
        "/api/v1",
        "/metrics",
        "/api/v1/events",
        "/nowhere",
    ] {
        for fields in ["", "Authorization: Bearer wrong\r\n"] {
            let reply = client.ask("GET", path, fields, None);
            assert_eq!(reply.error(), is(401, "unauthorized"));
            assert_eq!(reply.field("WWW-Authenticate"), Some("Bearer"));
        }
    }
    let fields = "Authorization: bearer t0ken\r\n";
    assert_eq!(client.ask("GET", DOWNLOADS, fields, None).status, 200);
    // The page holds no secret, and asks for the token itself.
    assert_eq!(client.ask("GET", "/", "", None).status, 200);
    let elsewhere = "Origin: http://evil.example\r\n";
    let reply = client.ask("GET", "/", elsewhere, None);
    assert_eq!(reply.error(), is(403, "forbidden_origin"));
    client.send(format!(
        "GET {DOWNLOADS} HTTP/1.1\r\nHost: nas.example\r\n{fields}\r\n"
    ));
    assert_eq!(client.reply(false).status, 200);
}

#[test]
fn a_panic_is_one_answer_and_no_more() {
    let api = Api::start();
    let mut client = api.client();
    let json = "Content-Type: application/json\r\n";
    api.agent
        .panics
        .store(true, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..20 {
        let reply = client.ask("POST", DOWNLOADS, json, Some(GOOD));
        assert_eq!(reply.error(), is(500, "internal_error"));
    }
    api.agent
        .panics
        .store(false, std::sync::atomic::Ordering::SeqCst);
    let reply = client.ask("POST", DOWNLOADS, json, Some(GOOD));
    assert_eq!(reply.status, 201);
}
