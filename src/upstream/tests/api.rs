//! Resolving links and asking for addresses: what is sent where, and what answers mean.

use super::server::{Reply, Server, Then};
use super::*;

const PACKAGE: &str =
    r#"{"id":"L1","name":"Dailies","package_id":"P1","package_token":"tok","branding":{"x":[1]}}"#;

fn resolve(server: &Server) -> Result<Package, Fault> {
    client().resolve(&link(server, "s"), None, &Watch::default())
}

fn answered(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Result<Package, Fault> {
    resolve(&Server::start(move |_| reply()))
}

#[test]
fn a_link_resolves_with_its_secret_and_password() {
    let server = Server::start(|_| Reply::ok("200 OK", PACKAGE));
    let package = client()
        .resolve(
            &link(&server, "a b/ü&c"),
            Some(&Secret::new("geheim ü")),
            &Watch::default(),
        )
        .unwrap();
    assert_eq!(
        (package.package_id.as_str(), package.name.as_deref()),
        ("P1", Some("Dailies"))
    );
    assert_eq!(package.token.unwrap().reveal(), "tok");
    let request = &server.requests()[0];
    assert_eq!(request.target, "/v1/links/L1?secret=a%20b%2F%C3%BC%26c");
    assert_eq!(request.header("x-link-password"), Some("geheim ü"));
    assert_eq!(
        request.header("user-agent"),
        Some(concat!("haul/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(request.header("accept-encoding"), Some("identity"));
}

#[test]
fn what_may_be_missing_may_be_missing() {
    let package = answered(|| Reply::ok("200 OK", r#" {"package_id":"P1","name":null}"#)).unwrap();
    assert!(package.name.is_none() && package.token.is_none());
    let long = "ü".repeat(1000);
    let package =
        answered(move || Reply::ok("200 OK", format!(r#"{{"package_id":"P","name":"{long}"}}"#)))
            .unwrap();
    assert_eq!(package.name.unwrap().len(), MAX_NAME);
}

#[test]
fn statuses_mean_what_the_protocol_says() {
    for (status, fault) in [
        (401, Fault::Unauthorized),
        (403, Fault::Unauthorized),
        (404, Fault::NotFound),
        (410, Fault::Gone),
        (400, refused(400)),
        (422, refused(422)),
    ] {
        assert_eq!(
            answered(move || Reply::ok(&status.to_string(), "no")).unwrap_err(),
            fault
        );
    }
    for status in ["500", "503", "599", "408", "429"] {
        assert_transient(answered(move || Reply::ok(status, "no")), status);
    }
    assert_malformed(answered(|| Reply::ok("206 Partial", PACKAGE)), "206");
    assert_malformed(
        answered(|| Reply::raw("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep)),
        "204",
    );
}

#[test]
fn a_refusal_brings_the_servers_words() {
    let words = r#"{"code":7,"message":"the package was recalled"}"#;
    let refusal = answered(move || Reply::ok("422 x", words)).unwrap_err();
    assert!(
        refusal.to_string().contains("the package was recalled"),
        "{refusal}"
    );
    let server = Server::start(move |_| Reply::ok("403 x", words));
    let token = Secret::new("t");
    let api = format!("{}/v1", server.base());
    let place = Place {
        api: &api,
        package_id: "P1",
        token: &token,
    };
    let watch = Watch::default();
    let recalled = Fault::Forbidden("the package was recalled".to_owned());
    let address = client().address(&place, "F1", std::iter::empty(), &watch);
    assert_eq!(address.unwrap_err(), recalled);
    let list = client().list(&place, &watch, &mut |_| Ok(()));
    assert_eq!(list.unwrap_err(), recalled);
}

#[test]
fn an_answer_that_is_compressed_unasked_is_said_to_be() {
    assert_malformed(
        answered(|| Reply::ok("200 OK\nContent-Encoding: gzip", "\u{1f}...")),
        "encoded (gzip)",
    );
}

#[test]
fn too_many_headers_are_said_to_be() {
    let head = format!("200 OK{}", "\nX-A: b".repeat(200));
    assert_malformed(answered(move || Reply::ok(&head, PACKAGE)), "128 headers");
}

#[test]
fn the_wait_that_a_server_asks_for_is_passed_on() {
    match answered(|| Reply::ok("429 Slow down\nRetry-After: 7", "")) {
        Err(Fault::Transient { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_that_are_not_the_protocols_are_malformed() {
    for body in [
        "[]",
        r#"["L1","P1"]"#,
        "null",
        "{}",
        r#"{"package_id":""}"#,
        r#"{"package_id":".."}"#,
        r#"{"package_id":"a/../b"}"#,
        r#"{"package_id":"a\u0000"}"#,
        r#"{"package_id":7}"#,
        r#"{"package_id":"P1","package_token":"a\nb"}"#,
    ] {
        assert_malformed(answered(move || Reply::ok("200 OK", body)), "server");
    }
    let large = format!(r#"{{"package_id":"P1","x":"{}"}}"#, "x".repeat(1 << 20));
    assert_malformed(answered(move || Reply::ok("200 OK", &large)), "1 MiB");
    let head = format!("200 OK\nX-Filler: {}", "x".repeat(40_000));
    assert_malformed(answered(move || Reply::ok(&head, PACKAGE)), "32 KiB");
}

#[test]
fn an_answer_that_was_cut_short_is_transient() {
    let half = &PACKAGE[..30];
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1e\r\n";
    for head in [head, until_close, chunked] {
        for then in [Then::Close, Then::Reset] {
            let fault = answered(move || Reply::raw(format!("{head}{half}"), then)).unwrap_err();
            assert!(matches!(fault, Fault::Transient { .. }), "{fault:?}");
        }
    }
    for whole in ["", half] {
        assert_transient(answered(move || Reply::ok("200 OK", whole)), "cut short");
    }
    assert_transient(
        answered(|| Reply::raw("HTTP/1.1 200 OK\r\nConte", Then::Close)),
        "",
    );
    assert_transient(answered(|| Reply::raw("", Then::Reset)), "reset");
    assert_transient(
        answered(|| Reply::raw("SSH-2.0-x\r\n\r\n", Then::Close)),
        "HTTP",
    );
}

#[test]
fn a_password_that_no_header_can_carry_is_wrong() {
    let server = Server::start(|_| Reply::ok("200 OK", PACKAGE));
    for password in ["a\nX-Evil: 1".to_owned(), "x".repeat(20_000)] {
        let result = client().resolve(
            &link(&server, "s"),
            Some(&Secret::new(password)),
            &Watch::default(),
        );
        assert_eq!(result.unwrap_err(), Fault::Unauthorized);
    }
    assert_eq!(server.accepts(), 0);
}

#[test]
fn credentials_stay_with_the_host_when_a_call_is_redirected() {
    let elsewhere = Server::start(|_| Reply::ok("200 OK", PACKAGE));
    let there = elsewhere.base();
    let server = Server::start(move |request| match request.target.as_str() {
        "/v1/links/L1?secret=s" => Reply::ok("302 Found\nLocation: ../other?x=1", "moved"),
        _ => Reply::ok(&format!("307 Over there\nLocation: {there}/new"), ""),
    });
    let password = Secret::new("pw");
    client()
        .resolve(&link(&server, "s"), Some(&password), &Watch::default())
        .unwrap();
    let requests = server.requests();
    assert_eq!(requests[1].target, "/v1/other?x=1");
    assert_eq!(requests[1].header("x-link-password"), Some("pw"));
    let request = &elsewhere.requests()[0];
    assert_eq!(request.target, "/new");
    assert_eq!(request.header("x-link-password"), None);
    assert_eq!(request.header("referer"), None);
    assert_eq!(server.accepts(), 1);
}

#[test]
fn redirects_end() {
    let server = Server::start(|_| Reply::ok("302 Found\nLocation: ?again", ""));
    assert_malformed(resolve(&server), "redirected more than 10 times");
    assert_eq!(server.requests().len(), 11);
    assert_malformed(
        answered(|| Reply::ok("302 Found", "")),
        "without a Location",
    );
    assert_malformed(
        answered(|| Reply::ok("302 Found\nLocation: ftp://x/", "")),
        "redirect",
    );
    assert_malformed(
        answered(|| Reply::ok("302 Found\nLocation: http://u:p@x/", "")),
        "redirect",
    );
    assert_malformed(answered(|| Reply::ok("304 Not Modified", "")), "304");
}

#[test]
fn no_redirect_leads_from_https_to_http() {
    let from = Url::parse("https://api.example/v1?secret=s3cret").unwrap();
    let to = |location: &str| {
        let response = ureq::http::Response::builder()
            .header("Location", location)
            .body(ureq::Body::builder().data(""))
            .unwrap();
        exchange::redirect_target(&response, &from)
    };
    assert!(to("https://cdn.example/").is_ok() && to("//cdn.example/").is_ok());
    let fault = to("http://api.example/v1").unwrap_err();
    assert!(
        matches!(&fault, Fault::Malformed(why) if why.contains("https to http") && !why.contains("s3cret"))
    );
}

#[test]
fn an_address_comes_as_json_or_as_a_redirect() {
    for reply in [
        r#"200 OK|{"url":"http://cdn.example/x?sig=1","more":1}"#,
        "302 Found\nLocation: http://cdn.example/x?sig=1|ignored",
    ] {
        let (head, body) = reply.split_once('|').unwrap();
        let server = Server::start(move |_| Reply::ok(head, body));
        let address = at(&server, |place| {
            client().address(place, "F 1/x", std::iter::empty(), &Watch::default())
        })
        .unwrap();
        assert_eq!(format!("{address:?}"), "http://cdn.example/…");
        let request = &server.requests()[0];
        assert_eq!(request.target, "/v1/packages/P1/files/F%201%2Fx/download");
        assert_eq!(request.header("x-package-token"), Some("the-token"));
        assert_eq!(server.accepts(), 1);
    }
}

#[test]
fn addresses_that_cannot_be_used_are_malformed() {
    for body in [
        "{}",
        r#"{"url":null}"#,
        r#"{"url":"/x"}"#,
        r#"{"url":"ftp://x/sig"}"#,
        r#"{"url":"http://u@x/"}"#,
    ] {
        let server = Server::start(move |_| Reply::ok("200 OK", body));
        assert_malformed(
            at(&server, |place| {
                client().address(place, "F", std::iter::empty(), &Watch::default())
            }),
            "address",
        );
    }
    let server = Server::start(|_| Reply::ok("200 OK", "{}"));
    for id in ["", "..", "a/../../x", "a\nb"] {
        assert_malformed(
            at(&server, |place| {
                client().address(place, id, std::iter::empty(), &Watch::default())
            }),
            "identifier",
        );
    }
    assert_eq!(server.accepts(), 0);
}

#[test]
fn no_fault_repeats_a_credential() {
    let replies: [fn() -> Reply; 6] = [
        || Reply::raw("", Then::Reset),
        || Reply::ok("500 s3cret", "s3cret"),
        || Reply::ok("200 OK", r#""s3cret""#),
        || Reply::ok("200 OK", r#"{"package_id":["s3cret"]}"#),
        || Reply::ok("302 Found\nLocation: http://x\\s3cret/", ""),
        || Reply::ok("302 Found\nLocation: /s3cret", ""),
    ];
    for reply in replies {
        let server = Server::start(move |_| reply());
        let fault = client()
            .resolve(
                &link(&server, "s3cret"),
                Some(&Secret::new("s3cret")),
                &Watch::default(),
            )
            .unwrap_err();
        assert!(
            !format!("{fault} {fault:?}").contains("s3cret"),
            "{fault:?}"
        );
    }
}

#[test]
fn an_unreachable_server_is_transient() {
    let server = Server::start(|_| Reply::ok("200 OK", PACKAGE));
    let gone = link(&server, "s");
    drop(server);
    // The listener closes once its loop has seen the wake-up; until then connections find nobody
    // who answers.
    assert_transient(
        client().resolve(&gone, None, &Watch::default()),
        "127.0.0.1",
    );
    let mut nowhere = gone;
    nowhere.api = "http://haul.invalid/v1".to_owned();
    assert_transient(
        client().resolve(&nowhere, None, &Watch::default()),
        "haul.invalid",
    );
}
