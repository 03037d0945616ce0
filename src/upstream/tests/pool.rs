//! Connections: used again when they can be, replaced without a word when the server has closed
//! them.

use super::server::{Reply, Server, Then};
use super::*;

#[test]
fn a_connection_is_free_again_with_the_last_byte() {
    let server = Server::start(|_| Reply::ok("206 P\nContent-Range: bytes 0-4/5", "hello"));
    let (client, address) = (client(), address(&server, "/x"));
    let mut buf = [0; 5];
    for _ in 0..5 {
        let mut fetched = client
            .fetch(&address, Some(0..5), std::iter::empty(), &Watch::default())
            .unwrap();
        let mut filled = 0;
        while filled < buf.len() {
            filled += fetched.read(&mut buf[filled..]).unwrap();
        }
        assert_eq!(&buf, b"hello");
        // No read that returns 0, and the body still alive: the next request goes out on the same
        // connection all the same.
        client
            .fetch(&address, Some(0..5), std::iter::empty(), &Watch::default())
            .unwrap()
            .read(&mut buf)
            .unwrap();
    }
    assert_eq!(server.accepts(), 1);
}

#[test]
fn small_answers_and_errors_leave_the_connection_usable() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v1/links/L1?secret=s" => Reply::ok("404 Not Found", "x".repeat(5000)),
        "/v1/packages/P1/files" => Reply::ok("200 OK", "[ ]\n"),
        _ => Reply::ok("302 Found\nLocation: /file", "moved"),
    });
    let client = client();
    for _ in 0..3 {
        assert_eq!(
            client
                .resolve(&link(&server, "s"), None, &Watch::default())
                .unwrap_err(),
            Fault::NotFound
        );
        assert_eq!(list(&client, &server).unwrap(), []);
        at(&server, |place| {
            client.address(place, "F", std::iter::empty(), &Watch::default())
        })
        .unwrap();
    }
    assert_eq!((server.accepts(), server.requests().len()), (1, 9));
}

#[test]
fn a_large_error_costs_its_connection_rather_than_its_bytes() {
    let server = Server::start(|_| Reply::ok("404 Not Found", "x".repeat(100_000)));
    let client = client();
    for _ in 0..2 {
        assert_eq!(
            client
                .resolve(&link(&server, "s"), None, &Watch::default())
                .unwrap_err(),
            Fault::NotFound
        );
    }
    assert_eq!(server.accepts(), 2);
}

#[test]
fn a_stale_connection_is_no_fault() {
    for then in [Then::Close, Then::Reset] {
        // Closed at the moment of its second request, when no look beforehand could have told.
        let server = Server::start(move |request| match (request.connection, request.turn) {
            (1, 2) => Reply::raw("", then),
            _ => Reply::ok("200 OK", "hello"),
        });
        let (client, address) = (client(), address(&server, "/x"));
        for _ in 0..3 {
            let mut fetched = client
                .fetch(&address, None, std::iter::empty(), &Watch::default())
                .unwrap();
            assert_eq!(read_all(&mut fetched).unwrap(), b"hello");
        }
        assert_eq!((server.accepts(), server.requests().len()), (2, 4));
    }
}

#[test]
fn a_new_connection_that_is_closed_is_a_fault_at_once() {
    let server = Server::start(|_| Reply::raw("", Then::Close));
    let result = client().fetch(
        &address(&server, "/x"),
        None,
        std::iter::empty(),
        &Watch::default(),
    );
    assert_transient(result, "127.0.0.1");
    assert_eq!((server.accepts(), server.requests().len()), (1, 1));
}

#[test]
fn a_reused_connection_that_breaks_within_the_answer_is_a_fault() {
    let server = Server::start(|request| match request.turn {
        2 => Reply::raw("HTTP/1.1 200", Then::Close),
        _ => Reply::ok("200 OK", "hello"),
    });
    let (client, address) = (client(), address(&server, "/x"));
    read_all(
        &mut client
            .fetch(&address, None, std::iter::empty(), &Watch::default())
            .unwrap(),
    )
    .unwrap();
    assert_transient(
        client.fetch(&address, None, std::iter::empty(), &Watch::default()),
        "127.0.0.1",
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn as_many_connections_are_kept_as_there_are_threads() {
    let server = Server::start(|_| Reply::ok("200 OK", "hello"));
    let (client, address) = (client(), address(&server, "/x"));
    for _ in 0..2 {
        let open: Vec<_> = (0..4)
            .map(|_| {
                client
                    .fetch(&address, None, std::iter::empty(), &Watch::default())
                    .unwrap()
            })
            .collect();
        for mut fetched in open {
            read_all(&mut fetched).unwrap();
        }
    }
    assert_eq!(server.accepts(), 4);
}

#[test]
fn the_connection_of_a_body_given_up_is_not_used_again() {
    let server = Server::start(|_| {
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
        Reply::raw(half, Then::Keep)
    });
    let (client, address) = (client(), address(&server, "/x"));
    for _ in 0..2 {
        let mut fetched = client
            .fetch(&address, None, std::iter::empty(), &Watch::default())
            .unwrap();
        assert_eq!(fetched.read(&mut [0; 10]).unwrap(), 5);
    }
    assert_eq!(server.accepts(), 2);
}
