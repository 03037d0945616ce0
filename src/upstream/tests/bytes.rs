//! Fetching bytes: parts, statuses, and bodies that end too early.

use super::server::{Reply, Server, Then};
use super::*;

fn fetch(server: &Server, part: Option<Range<u64>>) -> Result<Fetched, Fault> {
    client().fetch(
        &address(server, "/file?sig=s3cret"),
        part,
        std::iter::empty(),
        &Watch::default(),
    )
}

fn answered(
    part: Option<Range<u64>>,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> Result<Fetched, Fault> {
    fetch(&Server::start(move |_| reply()), part)
}

#[test]
fn a_part_is_asked_for_and_read() {
    let server = Server::start(|_| {
        Reply::ok(
            "206 Partial Content\nContent-Range: bytes 10-14/100\nETag: \"e1\"",
            "hello",
        )
    });
    let mut fetched = fetch(&server, Some(10..15)).unwrap();
    assert_eq!(
        fetched.content,
        Content::Part {
            start: 10,
            end: 15,
            total: Some(100)
        }
    );
    assert_eq!(fetched.etag.as_deref(), Some("\"e1\""));
    assert_eq!(read_all(&mut fetched).unwrap(), b"hello");
    assert_eq!(fetched.read(&mut [0; 8]).unwrap(), 0);
    let request = &server.requests()[0];
    assert_eq!(request.target, "/file?sig=s3cret");
    assert_eq!(request.header("range"), Some("bytes=10-14"));
    for name in [
        "x-package-token",
        "x-link-password",
        "cookie",
        "authorization",
        "referer",
    ] {
        assert_eq!(request.header(name), None);
    }
}

#[test]
fn a_server_may_send_all_of_it() {
    let mut fetched = answered(Some(5..9), || Reply::ok("200 OK", "the whole file")).unwrap();
    assert_eq!(fetched.content, Content::Whole { length: Some(14) });
    assert_eq!(read_all(&mut fetched).unwrap(), b"the whole file");
    let mut fetched = answered(None, || Reply::ok("200 OK", "")).unwrap();
    assert_eq!(fetched.content, Content::Whole { length: Some(0) });
    assert_eq!(read_all(&mut fetched).unwrap(), b"");
    let mut fetched = answered(None, || {
        Reply::raw("HTTP/1.0 200 OK\r\n\r\nall", Then::Close)
    })
    .unwrap();
    assert_eq!(fetched.content, Content::Whole { length: None });
    assert_eq!(read_all(&mut fetched).unwrap(), b"all");
    let chunked = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    let mut fetched = answered(None, move || Reply::raw(chunked, Then::Keep)).unwrap();
    assert_eq!(read_all(&mut fetched).unwrap(), b"hello");
}

#[test]
fn parts_that_do_not_say_which_they_are_are_malformed() {
    for head in [
        "206 P",
        "206 P\nContent-Type: multipart/byteranges; boundary=x",
        "206 P\nContent-Range: bytes */100",
        "206 P\nContent-Range: bytes 9-5/100",
        "206 P\nContent-Range: bytes 0-99/100",
    ] {
        assert_malformed(
            answered(Some(0..5), move || Reply::ok(head, "hello")),
            "part",
        );
    }
    assert_malformed(
        answered(Some(5..5), || Reply::ok("200 OK", "")),
        "empty part",
    );
}

#[test]
fn a_body_that_ends_too_early_is_transient_and_never_an_end() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let part = "HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/10\r\nConnection: close\r\n\r\nhello";
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
    for (head, then) in [
        (length, Then::Close),
        (length, Then::Reset),
        (part, Then::Close),
        (part, Then::Reset),
        (chunk, Then::Close),
        (chunk, Then::Reset),
        (endless, Then::Reset),
    ] {
        // A reset may overtake the head; then the fetch itself fails.
        let Ok(mut fetched) = answered(Some(0..10), move || Reply::raw(head, then)) else {
            assert!(then == Then::Reset);
            continue;
        };
        assert_transient(read_all(&mut fetched), "127.0.0.1");
        assert_transient(read_all(&mut fetched), "");
    }
}

#[test]
fn no_more_is_given_than_was_announced() {
    let reply =
        "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/100\r\nConnection: close\r\n\r\nhello, world";
    let mut fetched = answered(Some(0..5), move || Reply::raw(reply, Then::Close)).unwrap();
    assert_eq!(read_all(&mut fetched).unwrap(), b"hello");
}

#[test]
fn refusals_are_told_from_faults_that_pass() {
    for status in [400, 401, 403, 404, 410, 416] {
        let result = answered(Some(0..5), move || Reply::ok(&status.to_string(), "no"));
        assert_eq!(result.unwrap_err(), refused(status));
    }
    for status in ["500", "503", "408", "429"] {
        assert_transient(answered(None, move || Reply::ok(status, "no")), status);
    }
    assert_malformed(
        answered(None, || Reply::raw("HTTP/1.1 204 No\r\n\r\n", Then::Keep)),
        "204",
    );
}

#[test]
fn redirects_keep_the_range_and_end() {
    let server = Server::start(|request| match request.target.as_str() {
        "/file?sig=s3cret" => Reply::ok("302 Found\nLocation: /elsewhere", ""),
        _ => Reply::ok("206 P\nContent-Range: bytes 1-2/9", "ab"),
    });
    let mut fetched = fetch(&server, Some(1..3)).unwrap();
    assert_eq!(read_all(&mut fetched).unwrap(), b"ab");
    assert_eq!(server.requests()[1].header("range"), Some("bytes=1-2"));
    assert_malformed(
        answered(None, || Reply::ok("302 Found\nLocation: /file", "")),
        "redirected more than",
    );
}

#[test]
fn nothing_shown_holds_the_signature() {
    let server = Server::start(|_| Reply::ok("200 OK", "x"));
    let address = address(&server, "/file?sig=s3cret");
    let fetched = fetch(&server, None).unwrap();
    assert!(!format!("{address:?} {fetched:?}").contains("s3cret"));
    let fault = answered(None, || Reply::raw("", Then::Close)).unwrap_err();
    assert!(!format!("{fault} {fault:?}").contains("s3cret"));
}

#[test]
fn heads_have_an_end() {
    let many = |count: usize, length: usize| {
        let value = "x".repeat(length);
        let lines: String = (0..count).map(|n| format!("X-{n}: {value}\r\n")).collect();
        move || {
            let head = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok");
            Reply::raw(head, Then::Close)
        }
    };
    assert!(answered(None, many(10, 100)).is_ok());
    assert!(answered(None, many(10, 1 << 20)).is_err(), "large lines");
    assert!(answered(None, many(100_000, 10)).is_err(), "many lines");
}
