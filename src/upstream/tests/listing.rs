//! The listing: what elements may look like, and what ends it.

use super::server::{Reply, Server, Then};
use super::*;

fn listed(body: impl Into<String>) -> Result<Vec<Listed>, Fault> {
    let body = body.into();
    let server = Server::start(move |_| Reply::ok("200 OK", &body));
    let result = list(&client(), &server);
    let request = &server.requests()[0];
    assert_eq!(request.target, "/v1/packages/P1/files");
    assert_eq!(request.header("x-package-token"), Some("the-token"));
    result
}

/// A listing of one file, some of whose fields are given.
fn one(fields: &str) -> Result<Listed, Fault> {
    let body = format!(r#"[{{"id":"F","kind":"file","name":"n","size":1,{fields}}}]"#);
    listed(body).map(|mut all| all.remove(0))
}

#[test]
fn reads_what_the_protocol_shows() {
    let all = listed(
        r#" [ {"id":"F1","kind":"file","name":"a.mov","path":"day 1/cam","size":28176354,
             "last_modified":"2026-11-23T10:00:00.5Z","virus_detected":true,"x":{"y":[null,{}]}},
            {"id":"Z","kind":"zip_mac","name":"all.zip"},
            {"kind":"directory","path":"empty","name":null,"size":-1} ] "#,
    )
    .unwrap();
    assert_eq!(
        all[0],
        Listed {
            id: "F1".to_owned(),
            kind: "file".to_owned(),
            name: "a.mov".to_owned(),
            path: Some("day 1/cam".to_owned()),
            size: 28_176_354,
            mtime: Some(1_795_428_000_500_000_000),
            virus: true,
            incomplete: false,
        }
    );
    assert_eq!(
        (all[1].kind.as_str(), all[1].size, all[1].path.as_deref()),
        ("zip_mac", 0, None)
    );
    assert_eq!(
        (all[2].path.as_deref(), all[2].name.as_str(), all[2].size),
        (Some("empty"), "", 0)
    );
    assert_eq!(listed("[]").unwrap(), []);
}

#[test]
fn times_that_are_none_are_unknown() {
    for time in [
        r#""0001-01-01T00:00:00.000Z""#,
        r#""yesterday""#,
        r#""""#,
        "null",
        "17",
        "-1",
        "1.5",
        "true",
        "[{}]",
        "{\"a\":[]}",
    ] {
        assert_eq!(
            one(&format!(r#""last_modified":{time}"#)).unwrap().mtime,
            None,
            "{time}"
        );
    }
}

#[test]
fn sizes_are_whole_numbers_of_bytes() {
    let size = |text: &str| one(&format!(r#""size":{text}"#)).map(|file| file.size);
    assert_eq!(size("0").unwrap(), 0);
    assert_eq!(size("9223372036854775807").unwrap(), i64::MAX as u64);
    assert_eq!(size("1e3").unwrap(), 1000);
    assert_eq!(size("5.0").unwrap(), 5);
    assert_eq!(size("1852224261497567.0").unwrap(), 1_852_224_261_497_567);
    for bad in ["-1", "1.5", "9223372036854775808", "1e300", "-1.0", "null"] {
        assert_malformed(size(bad), "size");
    }
    for bad in [r#""7""#, "[]", "true"] {
        assert_malformed(size(bad), "not as the protocol says");
    }
}

#[test]
fn names_that_are_no_unicode_are_mended() {
    assert_eq!(
        one(r#""name":"a\ud800b""#)
            .unwrap()
            .name
            .replace('\u{fffd}', "?"),
        "a???b"
    );
    assert_eq!(
        one(r#""name":"\ud83d\ude00\u0000/..""#).unwrap().name,
        "😀\0/.."
    );
    let mut bytes = br#"[{"id":"F","kind":"file","size":1,"name":"a"#.to_vec();
    bytes.extend_from_slice(b"\xff\"}]");
    let server = Server::start(move |_| Reply::ok("200 OK", &bytes));
    assert_eq!(list(&client(), &server).unwrap()[0].name, "a\u{fffd}");
}

#[test]
fn a_file_needs_what_is_needed_to_fetch_it() {
    for (body, part) in [
        (r#"[{"kind":"file","name":"n","size":1}]"#, "an id"),
        (r#"[{"id":"","kind":"file","name":"n","size":1}]"#, "an id"),
        (r#"[{"id":"F","kind":"file","size":1}]"#, "a name"),
        (r#"[{"id":"F","kind":"file","name":"n"}]"#, "a size"),
        (r#"[{"id":"F","name":"n","size":1}]"#, "a kind"),
    ] {
        assert_malformed(listed(body), part);
    }
}

#[test]
fn what_is_no_listing_is_malformed() {
    for body in [
        "{}",
        "null",
        "7",
        "\"x\"",
        "[1]",
        "[[\"F\",\"file\"]]",
        "[] x",
        "[{\"id\":]",
    ] {
        assert_malformed(listed(body), "the list of files");
    }
    for cut in ["", "[", "[{\"id\":\"F"] {
        assert_transient(listed(cut), "the list of files was cut short");
    }
    assert_transient(listed("<html>"), "sign-in");
    let deep = format!("[{{\"x\":{}", "[".repeat(100_000));
    assert_transient(listed(deep), "the list of files was cut short");
}

#[test]
fn strings_and_elements_have_an_end() {
    let long = "x".repeat(LONGEST);
    assert_malformed(one(&format!(r#""name":"{long}""#)), "64 KiB");
    assert_malformed(
        one(&format!(r#""unknown":"{}""#, long.repeat(5))),
        "256 KiB",
    );
    assert_malformed(listed(format!("[{}", " ".repeat(300_000))), "256 KiB");
}

const LONGEST: usize = 64 * 1024;

#[test]
fn the_callers_refusal_ends_it() {
    let element = r#"{"id":"F","kind":"file","name":"n","size":1}"#;
    let body = format!("[{}]", [element; 10].join(","));
    let server = Server::start(move |_| Reply::ok("200 OK", &body));
    let mut seen = 0;
    let result = at(&server, |place| {
        client().list(place, &Watch::default(), &mut |_| {
            seen += 1;
            if seen < 3 {
                Ok(())
            } else {
                Err("too many files".to_owned())
            }
        })
    });
    assert_eq!(result, Err(Fault::Malformed("too many files".to_owned())));
    assert_eq!(seen, 3);
}

#[test]
fn a_listing_that_was_cut_short_is_transient() {
    let half = r#"[{"id":"F","kind":"file","name":"n","size":1},{"id":"#;
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n34\r\n",
    ] {
        for then in [Then::Close, Then::Reset] {
            let server = Server::start(move |_| Reply::raw(format!("{head}{half}"), then));
            let fault = list(&client(), &server).unwrap_err();
            assert!(
                matches!(fault, Fault::Transient { .. }),
                "{head}: {fault:?}"
            );
        }
    }
}

#[test]
fn a_rate_limited_listing_says_how_long_to_wait() {
    let server = Server::start(|_| Reply::ok("429 Too Many Requests\nRetry-After: 5", "{}"));
    match list(&client(), &server) {
        Err(Fault::Transient { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(5)));
        }
        other => panic!("{other:?}"),
    }
}
