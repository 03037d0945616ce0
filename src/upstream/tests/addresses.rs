//! Addresses, redirects and heads as servers send them: what goes out is what a browser would send.

use super::server::Reply;
use super::*;

fn whole(server: &Server, path: &str) -> Result<Vec<u8>, Fault> {
    let address = address(server, path);
    let mut fetched = client().fetch(&address, None, std::iter::empty(), &Watch::default())?;
    read_all(&mut fetched)
}

#[test]
fn an_address_goes_out_as_it_was_given() {
    let server = Server::start(|_| Reply::ok("200 OK", "x"));
    let signed = "/a|b'c%7C?sig=a|b`c{d}^e'f";
    assert_eq!(whole(&server, signed).unwrap(), b"x");
    assert_eq!(whole(&server, "/a b?c d").unwrap(), b"x");
    let targets: Vec<String> = server
        .requests()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(targets, [signed, "/a%20b?c%20d"]);
}

#[test]
fn a_location_may_have_spaces_and_raw_bytes() {
    for (location, target) in [
        (&b"/new place?x=a|b"[..], "/new%20place?x=a|b"),
        ("/d\u{e9}j\u{e0}".as_bytes(), "/d%C3%A9j%C3%A0"),
        (b"/caf\xe9", "/caf%E9"),
    ] {
        let server = Server::start(move |seen| match seen.turn {
            1 => {
                let head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ";
                Reply::raw([head, location, b"\r\n\r\n"].concat(), server::Then::Keep)
            }
            _ => Reply::ok("200 OK", "x"),
        });
        assert_eq!(whole(&server, "/a").unwrap(), b"x");
        assert_eq!(server.requests()[1].target, target);
    }
}

#[test]
fn ten_redirects_are_followed_with_the_cookies_that_they_set() {
    let server = Server::start(|seen| match seen.turn {
        turn @ 1..=10 => Reply::ok(
            &format!("302 Found\nLocation: /hop{turn}\nSet-Cookie: c{turn}=v; Path=/"),
            "",
        ),
        _ => Reply::ok("200 OK", "x"),
    });
    assert_eq!(whole(&server, "/a").unwrap(), b"x");
    let requests = server.requests();
    assert_eq!(requests[0].header("cookie"), None);
    assert_eq!(requests[1].header("cookie"), Some("c1=v"));
    assert!(
        requests[10]
            .header("cookie")
            .unwrap()
            .ends_with("c9=v; c10=v")
    );
}

#[test]
fn a_cookie_does_not_leave_its_site() {
    let other = Server::start(|_| Reply::ok("200 OK", "x"));
    // The same machine by another name.
    let there = other.base().replace("127.0.0.1", "localhost");
    let server = Server::start(move |_| {
        Reply::ok(
            &format!("302 Found\nLocation: {there}/\nSet-Cookie: c=v; Path=/"),
            "",
        )
    });
    assert_eq!(whole(&server, "/a").unwrap(), b"x");
    assert_eq!(other.requests()[0].header("cookie"), None);
}

#[test]
fn a_folded_header_line_is_read() {
    for secure_line in ["ETag:\n \"e\"", "X-Long: a\n\tb\n c\nETag: \"e\""] {
        let server = Server::start(move |_| Reply::ok(&format!("200 OK\n{secure_line}"), "xyz"));
        let address = address(&server, "/a");
        let client = client();
        for _ in 0..2 {
            let mut fetched = client
                .fetch(&address, None, std::iter::empty(), &Watch::default())
                .unwrap();
            assert_eq!(fetched.etag.as_deref(), Some("\"e\""));
            assert_eq!(read_all(&mut fetched).unwrap(), b"xyz");
        }
        assert_eq!(server.accepts(), 1);
    }
}

#[test]
fn the_head_after_an_interim_answer_is_unfolded_too() {
    let server = Server::start(|_| {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: a,\r\n b\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nETag:\r\n \"e\"\r\nContent-Length: 3\r\n\r\nxyz";
        Reply::raw(format!("{interim}{answer}"), server::Then::Keep)
    });
    assert_eq!(whole(&server, "/a").unwrap(), b"xyz");
}

#[test]
fn interim_answers_with_fields_of_their_own_are_passed_over() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nX: y\r\n\r\n",
        "HTTP/1.1 102 Processing\nX: y\n\n",
    ] {
        let server = Server::start(move |_| {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz";
            Reply::raw(format!("{interim}{answer}"), server::Then::Keep)
        });
        for _ in 0..3 {
            assert_eq!(whole(&server, "/a").unwrap(), b"xyz", "{interim:?}");
        }
    }
}
