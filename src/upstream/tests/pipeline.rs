//! Requests that are sent ahead: each file gets its own answer, whatever the server makes of it.

use super::server::{Reply, Request, Server, Then};
use super::*;

/// Asks for this many addresses as a task does before the bytes, and sees that each is its file's
/// own.
fn ask(client: &Client, server: &Server, files: std::ops::Range<usize>) {
    let ids: Vec<String> = files.map(|file| format!("F{file}")).collect();
    for (at, id) in ids.iter().enumerate() {
        let next = ids[at + 1..].iter().map(String::as_str);
        let address = super::at(server, |place| {
            client.address(place, id, next, &Watch::default())
        });
        assert_eq!(address.unwrap().path(), format!("/bytes/{id}"));
    }
}

fn body(request: &Request) -> String {
    let file = request.target.split('/').nth_back(1).unwrap();
    format!(r#"{{"url":"http://localhost/bytes/{file}"}}"#)
}

fn own(request: &Request) -> Reply {
    Reply::ok("200 OK", body(request))
}

fn followed(server: &Server) -> usize {
    let requests = server.requests();
    requests.iter().filter(|request| request.followed).count()
}

#[test]
fn a_server_that_has_proved_itself_is_asked_ahead_and_every_file_gets_its_own_answer() {
    let server = Server::start(own);
    let client = client();
    ask(&client, &server, 0..400);
    assert_eq!((server.accepts(), server.requests().len()), (1, 400));
    assert!(followed(&server) > 300, "{}", followed(&server));
    let first = server
        .requests()
        .iter()
        .position(|request| request.followed);
    assert!(first >= Some(8), "{first:?}");
}

#[test]
fn nothing_is_sent_ahead_where_answers_come_without_a_length() {
    let server = Server::start(|request| {
        let body = body(request);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        Reply::raw(chunks, Then::Keep)
    });
    ask(&client(), &server, 0..50);
    assert_eq!((server.accepts(), followed(&server)), (1, 0));
}

#[test]
fn a_server_that_closes_is_asked_again_for_what_it_did_not_answer() {
    let server = Server::start(|request| {
        let then = if request.turn % 30 == 0 {
            Then::Close
        } else {
            Then::Keep
        };
        Reply {
            then,
            ..own(request)
        }
    });
    ask(&client(), &server, 0..200);
    assert!(followed(&server) > 0);
    assert_eq!(server.requests().len(), 200, "each was answered once");
}

#[test]
fn a_server_that_drops_what_came_along_is_asked_one_thing_at_a_time() {
    let server = Server::start(|request| Reply {
        then: Then::Forget,
        ..own(request)
    });
    let client = client();
    ask(&client, &server, 0..20);
    assert_eq!((server.accepts(), followed(&server)), (2, 1));
    ask(&client.another(), &server, 20..80);
    assert_eq!(
        (server.accepts(), followed(&server)),
        (3, 1),
        "every thread heeds it"
    );
}

#[test]
fn an_answer_that_is_not_wanted_any_more_is_nobodys() {
    let server = Server::start(own);
    let client = client();
    for start in 0..30 {
        // The thread says what it will ask next, and then asks something else.
        let id = format!("F{start}");
        let address = super::at(&server, |place| {
            client.address(
                place,
                &id,
                ["G1", "G2", "G3"].into_iter(),
                &Watch::default(),
            )
        });
        assert_eq!(address.unwrap().path(), format!("/bytes/{id}"));
    }
    assert!(followed(&server) > 0);
}

#[test]
fn a_refusal_among_the_answers_is_its_own_files() {
    let server = Server::start(|request| match body(request) {
        body if body.contains("5\"") => Reply::ok("404 Not Found", "no such file"),
        body => Reply::ok("200 OK", body),
    });
    let client = client();
    let ids: Vec<String> = (0..100).map(|file| format!("F{file}")).collect();
    for (at, id) in ids.iter().enumerate() {
        let next = ids[at + 1..].iter().map(String::as_str);
        let address = super::at(&server, |place| {
            client.address(place, id, next, &Watch::default())
        });
        match address {
            Ok(address) => assert_eq!(address.path(), format!("/bytes/{id}")),
            Err(fault) => assert!(
                id.ends_with('5') && fault == Fault::NotFound,
                "{id}: {fault}"
            ),
        }
    }
    assert!(followed(&server) > 0);
}

#[test]
fn bodies_come_in_their_order_and_whole() {
    let content = |target: &str| target.repeat(1 + target.len() * 977 % 3000);
    let server = Server::start(move |request| Reply::ok("200 OK", content(&request.target)));
    let client = client();
    let addresses: Vec<Address> = (0..300_u32)
        .map(|file| {
            address(
                &server,
                &format!("/{file}{}", "x".repeat(file as usize % 70)),
            )
        })
        .collect();
    for (at, address) in addresses.iter().enumerate() {
        let next = addresses[at + 1..].iter();
        let mut fetched = client
            .fetch(address, None, next, &Watch::default())
            .unwrap();
        assert!(read_all(&mut fetched).unwrap() == content(address.path()).into_bytes());
    }
    assert_eq!((server.accepts(), server.requests().len()), (1, 300));
    assert!(followed(&server) > 200, "{}", followed(&server));
}

#[test]
fn a_body_that_breaks_off_takes_only_its_own_file_with_it() {
    let server = Server::start(|request| {
        let body = request.target.repeat(100);
        match request.turn % 40 {
            0 => Reply::raw(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n/", body.len()),
                Then::Close,
            ),
            _ => Reply::ok("200 OK", body),
        }
    });
    let client = client();
    let addresses: Vec<Address> = (0..200)
        .map(|file| address(&server, &format!("/{file}")))
        .collect();
    let mut broken = 0;
    for (at, address) in addresses.iter().enumerate() {
        let next = addresses[at + 1..].iter();
        let fetched = client.fetch(address, None, next, &Watch::default());
        match fetched.and_then(|mut fetched| read_all(&mut fetched)) {
            Ok(body) => assert_eq!(body, address.path().repeat(100).into_bytes()),
            Err(fault) => {
                assert!(matches!(fault, Fault::Transient { .. }), "{fault}");
                broken += 1;
            }
        }
    }
    assert!((1..=5).contains(&broken), "{broken}");
}

#[test]
fn it_can_be_switched_off() {
    let server = Server::start(own);
    let client = Client::new(Options {
        pipelining: false,
        ..Options::default()
    });
    ask(&client.unwrap(), &server, 0..100);
    assert_eq!((server.accepts(), followed(&server)), (1, 0));
}

#[test]
fn a_server_whose_answer_was_doubted_is_asked_one_thing_at_a_time() {
    let server = Server::start(own);
    let client = client();
    ask(&client, &server, 0..50);
    let before = followed(&server);
    assert!(before > 0);
    client
        .fetch(
            &address(&server, "/a/b"),
            None,
            std::iter::empty(),
            &Watch::default(),
        )
        .unwrap()
        .doubt();
    ask(&client, &server, 50..150);
    assert_eq!(followed(&server), before);
}
