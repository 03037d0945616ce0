//! Every refusal that a request can reach: its status, its code, its shape; and that it changed
//! nothing.

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use crate::support::agent::{Agent, DOWNLOADS, Setup, one};
use crate::support::http;
use crate::support::origin::{Gate, Kind, LINK_ID, Origin, Reply, SECRET_ENCODED};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

fn rig() -> Rig {
    Rig::new(Package::new().file("a", 10))
}

fn assert_untouched(rig: &Rig) {
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
}

/// An order with one field set, or taken away.
fn with(rig: &Rig, field: &str, value: Option<Value>) -> Value {
    let mut order = rig.order();
    match value {
        Some(value) => order[field] = value,
        None => {
            order.as_object_mut().unwrap().remove(field);
        }
    }
    order
}

#[test]
fn invalid_json() {
    let rig = rig();
    for body in [
        "",
        "{",
        "{\"url\":}",
        "nonsense",
        "{\"url\": \"\u{1}\"}",
        "{} {}",
    ] {
        let answer = rig.agent.post(DOWNLOADS, body);
        answer.assert_error(400, "invalid_json");
    }
    assert_untouched(&rig);
}

#[test]
fn invalid_request() {
    let rig = rig();
    for body in ["[]", "1", "\"url\"", "null", "true"] {
        let answer = rig.agent.post(DOWNLOADS, body);
        answer.assert_error(400, "invalid_request");
    }
    let wrong = [
        with(&rig, "url", None),
        with(&rig, "dst_folder", None),
        with(&rig, "url", Some(json!(7))),
        with(&rig, "dst_folder", Some(json!(["/tmp"]))),
        with(&rig, "password", Some(json!(1234))),
        with(&rig, "if_exists", Some(json!(true))),
        with(&rig, "if_exists", Some(json!("ask"))),
        with(&rig, "dst_foldr", Some(json!("/tmp"))),
    ];
    for order in wrong {
        rig.agent.order(&order).assert_error(400, "invalid_request");
    }
    assert_untouched(&rig);
}

fn assert_link(rig: &Rig, url: &str, code: &str) {
    let answer = rig.agent.order(&with(rig, "url", Some(json!(url))));
    assert_eq!(answer.expect(400)["error"]["code"], code, "{url}");
    answer.assert_error(400, code);
}

#[test]
fn invalid_link() {
    let rig = rig();
    let base = rig.origin.base();
    for url in [
        "",
        "no link",
        "/LINK1?secret=x",
        &format!("ftp://x.example/{LINK_ID}?secret=x"),
        &format!("file:///{LINK_ID}?secret=x"),
        &format!("{base}/{LINK_ID}"),
        &format!("{base}/{LINK_ID}?secret="),
        &format!("{base}/?secret=x"),
        &format!("{base}?secret=x"),
        "https://get.massive.app/?secret=x",
        "https://get.massive.io/ID",
    ] {
        assert_link(&rig, url, "invalid_link");
    }
    assert_untouched(&rig);
}

#[test]
fn unsupported_link_host() {
    let rig = rig();
    for url in [
        "https://evil.example/ID?secret=x",
        "https://get.massive.app.evil.example/ID?secret=x",
        "https://massive.app/ID?secret=x",
        "https://get.massive.app@evil.example/ID?secret=x",
        // The host is looked at before the id and the secret.
        "https://evil.example/",
    ] {
        assert_link(&rig, url, "unsupported_link_host");
    }
    assert_eq!(rig.origin.count(Kind::Other), 0);
    assert_untouched(&rig);
}

#[test]
fn invalid_destination() {
    let rig = rig();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    let file = file.to_str().unwrap();
    for dst in [
        "",
        "relative/path",
        "./here",
        "/tmp/nul\0nul",
        file,
        &format!("{file}/below"),
        "/proc/nowhere/in",
    ] {
        let answer = rig.agent.order(&with(&rig, "dst_folder", Some(json!(dst))));
        assert_eq!(
            answer.expect(400)["error"]["code"],
            "invalid_destination",
            "{dst:?}"
        );
        answer.assert_error(400, "invalid_destination");
    }
    assert_eq!(fs::read(file).unwrap(), b"mine");
    assert_untouched(&rig);
}

#[test]
fn invalid_parameter_and_nothing_is_guessed() {
    let rig = rig();
    let id = rig.create();
    rig.complete(&id);
    let record = rig.agent.inspect(&id);
    let one = one(&id);
    for query in [
        "x=1",
        "states=",
        "states=idle",
        "states=complete,idle",
        "States=complete",
    ] {
        let answer = rig.agent.get(&format!("{DOWNLOADS}?{query}"));
        answer.assert_error(400, "invalid_parameter");
    }
    for query in [
        "x=1",
        "states=",
        "states=idle",
        "states=complete,idle",
        "states=COMPLETE",
        "remove_files=",
        "remove_files=yes",
        "remove_files=1",
        "remove_files=TRUE",
        "states=complete&remove_files=on",
        "remove_file=true",
    ] {
        let answer = rig.agent.delete(&format!("{DOWNLOADS}?{query}"));
        answer.assert_error(400, "invalid_parameter");
    }
    for query in ["x=1", "remove_files=maybe", "states=complete"] {
        let answer = rig.agent.delete(&format!("{one}?{query}"));
        answer.assert_error(400, "invalid_parameter");
    }
    assert_eq!(rig.agent.inspect(&id), record);
    rig.assert_arrived(&record);
}

#[test]
fn download_not_found() {
    let rig = rig();
    for id in ["01JD0000000000000000000000", "x", "a%20b"] {
        let one = one(id);
        rig.agent
            .delete(&one)
            .assert_error(404, "download_not_found");
        rig.agent.get(&one).assert_error(404, "download_not_found");
        for action in ["pause", "resume"] {
            let answer = rig.agent.act(&format!("{one}/{action}"));
            answer.assert_error(404, "download_not_found");
        }
    }
}

#[test]
fn not_found() {
    let rig = rig();
    for target in [
        "/api/v1/uploads",
        "/api/v2/downloads",
        "/nothing",
        "/api/v1/downloadsx",
    ] {
        rig.agent.get(target).assert_error(404, "not_found");
    }
    let target = format!("{DOWNLOADS}/x/explode");
    rig.agent.act(&target).assert_error(404, "not_found");
}

#[test]
fn method_not_allowed_names_the_allowed() {
    let rig = rig();
    let cases = [
        ("PUT", DOWNLOADS.to_string(), vec!["GET", "POST", "DELETE"]),
        ("PUT", one("x"), vec!["GET", "PATCH", "DELETE"]),
        ("POST", one("x"), vec!["GET", "PATCH", "DELETE"]),
        ("GET", format!("{}/pause", one("x")), vec!["POST"]),
        ("DELETE", format!("{}/resume", one("x")), vec!["POST"]),
    ];
    for (method, target, allowed) in cases {
        let answer = http::send(rig.agent.address, method, &target, &[], None);
        answer.assert_error(405, "method_not_allowed");
        let named = answer.header("allow").unwrap();
        let named: Vec<&str> = named.split(',').map(str::trim).collect();
        for method in allowed {
            assert!(named.contains(&method), "{target}: {named:?}");
        }
        assert!(!named.contains(&method), "{target}: {named:?}");
    }
}

#[test]
fn link_refusals() {
    let rig = rig();
    for (status, answered, code) in [(404, 404, "link_not_found"), (410, 410, "link_expired")] {
        rig.origin.refuse_link(status);
        rig.agent.order(&rig.order()).assert_error(answered, code);
    }
    assert_untouched(&rig);
}

#[test]
fn a_wrong_secret_is_no_such_link() {
    let rig = rig();
    let wrong = rig.origin.link().replace(SECRET_ENCODED, "wrong");
    let answer = rig.agent.order(&with(&rig, "url", Some(json!(wrong))));
    answer.assert_error(404, "link_not_found");
    assert_untouched(&rig);
}

#[test]
fn passwords_required_and_wrong() {
    let rig = rig();
    rig.origin.require_password("right");
    let answer = rig.agent.order(&rig.order());
    answer.assert_error(403, "link_password_required");
    let answer = rig
        .agent
        .order(&with(&rig, "password", Some(json!("wrong"))));
    answer.assert_error(403, "link_password_wrong");
    assert_untouched(&rig);
    let answer = rig
        .agent
        .order(&with(&rig, "password", Some(json!("right"))));
    answer.expect(201);
}

/// The value of a field, wherever in the answer it is.
fn anywhere<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object
        .get(field)
        .or_else(|| object.values().find_map(|inner| anywhere(inner, field)))
}

#[test]
fn duplicate_download_names_the_other() {
    let rig = rig();
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let id = rig.create();
    for state in ["transferring", "paused"] {
        let answer = rig.agent.order(&rig.order()).expect(409);
        assert_eq!(answer["error"]["code"], "duplicate_download", "{state}");
        assert!(answer["error"]["message"].is_string());
        assert_eq!(anywhere(&answer, "download_id").unwrap(), &json!(id));
        rig.agent.pause(&id).expect(200);
    }
    assert_eq!(rig.agent.ids(), [id.as_str()]);
    let other = rig.agent.create(&rig.origin, &rig.dir().join("other"));
    gate.open();
    rig.origin.heal(Kind::Bytes);
    rig.agent.wait_state(&other, "complete");
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
    let again = rig.create();
    assert_ne!(again, id, "a complete one is no obstacle");
}

#[test]
fn a_failed_one_is_not_resumed_beside_its_twin() {
    let rig = rig();
    rig.origin.always(Kind::Bytes, Reply::status(404));
    let [failed, also_failed] = [(); 2].map(|()| {
        let id = rig.create();
        rig.agent.wait_state(&id, "error");
        id
    });
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let twin = rig.create();
    for state in ["transferring", "paused"] {
        for id in [&failed, &also_failed] {
            let answer = rig.agent.resume(id).expect(409);
            assert_eq!(answer["error"]["code"], "duplicate_download", "{state}");
            assert_eq!(answer["error"]["download_id"], json!(twin));
            assert_eq!(rig.agent.inspect(id)["state"], "error");
        }
        rig.agent.pause(&twin).expect(200);
    }
    rig.agent.delete(&one(&twin)).expect(200);
    rig.agent.resume(&failed).expect(200);
    let answer = rig.agent.resume(&also_failed).expect(409);
    assert_eq!(answer["error"]["download_id"], json!(failed));
    gate.open();
    rig.agent.wait_state(&failed, "complete");
    rig.agent.resume(&also_failed).expect(200);
    rig.agent.wait_state(&also_failed, "complete");
}

#[test]
fn body_too_large() {
    let rig = rig();
    let padding = " ".repeat(1 << 20);
    let answer = rig
        .agent
        .post(DOWNLOADS, &format!("{}{padding}", rig.order()));
    answer.assert_error(413, "body_too_large");
    assert_untouched(&rig);
    let order = rig.order().to_string();
    let fits = format!("{order}{}", " ".repeat((1 << 20) - order.len()));
    rig.agent.post(DOWNLOADS, &fits).expect(201);
}

#[test]
fn a_body_that_claims_to_be_enormous_harms_nobody() {
    let rig = rig();
    for (method, target) in [
        ("POST", DOWNLOADS),
        ("GET", DOWNLOADS),
        ("POST", "/nothing"),
    ] {
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", "1000000000000000"),
        ];
        let answer = http::send(rig.agent.address, method, target, &headers, Some("{}"));
        assert!((200..500).contains(&answer.status), "{answer:?}");
        if (method, target) == ("POST", DOWNLOADS) {
            answer.assert_error(413, "body_too_large");
        }
    }
    assert_untouched(&rig);
}

#[test]
fn unsupported_media_type() {
    let rig = rig();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "x",
    ] {
        let headers = [("Content-Type", kind)];
        let body = rig.order().to_string();
        let answer = http::send(rig.agent.address, "POST", DOWNLOADS, &headers, Some(&body));
        answer.assert_error(415, "unsupported_media_type");
    }
    assert_untouched(&rig);
}

#[test]
fn a_refused_post_leaves_nothing_behind() {
    let rig = rig();
    let deep = rig.dir().join("not/there/yet");
    rig.origin.refuse_link(404);
    let order = with(&rig, "dst_folder", Some(json!(deep)));
    rig.agent.order(&order).assert_error(404, "link_not_found");
    assert_untouched(&rig);
}

/// Deletes a download with its files, after which nothing is left in the folder.
fn assert_leaves_nothing(agent: &Agent, id: &str, dir: &Path) {
    let target = format!("{}?remove_files=true", one(id));
    agent.delete(&target).expect(200);
    assert_eq!(tree::paths(dir), Vec::<String>::new());
}

#[test]
fn a_refused_post_takes_no_folder_from_an_accepted_one() {
    let refusing = Origin::new(Package::new());
    let good = Origin::new(Package::new().file("sub/a", 10));
    let agent = Setup::new().origin(&refusing).origin(&good).start();
    let dir = tempfile::tempdir().unwrap();
    let dst = dir.path().join("new/in");
    let (answer, listing) = (Gate::new(), Gate::new());
    refusing.refuse_link(404);
    refusing.always(Kind::Link, Reply::stall(&answer));
    good.always(Kind::Listing, Reply::stall(&listing));
    let order = json!({"url": refusing.link(), "dst_folder": dst});
    let id = thread::scope(|scope| {
        let refused = scope.spawn(|| agent.order(&order));
        refusing.await_requests(Kind::Link, 1);
        let id = agent.create(&good, &dst);
        good.await_requests(Kind::Listing, 1);
        answer.open();
        refused.join().unwrap().assert_error(404, "link_not_found");
        id
    });
    listing.open();
    agent.wait_state(&id, "complete");
    tree::assert_file(&dst.join("sub/a"), 1, 10);
    assert_leaves_nothing(&agent, &id, dir.path());
}

#[test]
fn of_equal_posts_at_once_one_is_accepted_and_has_its_folder() {
    let rig = Rig::new(Package::new().file("sub/a", 10));
    let (answer, listing) = (Gate::new(), Gate::new());
    rig.origin.always(Kind::Link, Reply::stall(&answer));
    rig.origin.always(Kind::Listing, Reply::stall(&listing));
    let order = rig.order();
    let answers = thread::scope(|scope| {
        let posts = [(); 4].map(|()| scope.spawn(|| rig.agent.order(&order)));
        rig.origin.await_requests(Kind::Link, posts.len());
        answer.open();
        posts.map(|post| post.join().unwrap())
    });
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 201);
    let [accepted] = accepted[..] else {
        panic!("{answers:?}")
    };
    let id = accepted.json()["download_id"].as_str().unwrap().to_owned();
    for answer in refused {
        assert_eq!(answer.expect(409)["error"]["download_id"], id);
    }
    listing.open();
    rig.complete(&id);
    assert_leaves_nothing(&rig.agent, &id, rig.dir());
}

#[test]
fn several_refused_posts_into_one_folder_leave_nothing_behind() {
    let rig = rig();
    let gate = Gate::new();
    rig.origin.refuse_link(410);
    rig.origin.always(Kind::Link, Reply::stall(&gate));
    let orders = ["a/b", "a/b/c", "a/b"]
        .map(|path| with(&rig, "dst_folder", Some(json!(rig.dir().join(path)))));
    thread::scope(|scope| {
        let agent = &rig.agent;
        let posts = orders
            .each_ref()
            .map(|order| scope.spawn(move || agent.order(order)));
        rig.origin.await_requests(Kind::Link, posts.len());
        gate.open();
        for post in posts {
            post.join().unwrap().assert_error(410, "link_expired");
        }
    });
    assert_untouched(&rig);
}

#[test]
fn nonsense_on_the_wire_harms_nobody() {
    let rig = rig();
    for request in [
        "\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "POST /api/v1/downloads HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\nConnection: \
         close\r\n\r\n",
        "POST /api/v1/downloads HTTP/1.1\r\nHost: localhost\r\nContent-Length: \
         1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab",
    ] {
        let answer = http::exchange(rig.agent.address, request);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            !answer.contains(" 200 ") && !answer.contains(" 201 "),
            "{request:?}: {answer}"
        );
        assert!(!answer.contains(" 500 "), "{request:?}: {answer}");
    }
    assert_alive(&rig.agent);
}

fn assert_alive(agent: &Agent) {
    assert_eq!(agent.get(DOWNLOADS).expect(200), json!([]));
}
