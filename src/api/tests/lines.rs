//! What clients can do to a connection, and how the API ends.

use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::agent::{download, fill};
use super::*;
use crate::model::state::State;

const GET: &str = "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_flood_of_half_open_connections_leaves_the_api_answering() {
    let api = Api::start();
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        let mut client = api.client();
        client.send("GET /api/v1/health HTTP/1.1\r\n");
        flood.push(client);
    }
    for _ in 0..10 {
        assert_eq!(api.ask("GET", "/api/v1/health").status, 200);
    }
    // The oldest were given up, the newest were not.
    assert!(flood[0].is_closed());
    let newest = flood.last_mut().unwrap();
    newest.send("Host: localhost\r\n\r\n");
    assert_eq!(newest.reply(false).status, 200);
}

#[test]
fn a_crowd_beyond_the_bound_is_answered_one_after_the_other() {
    // None of them is idle, only slow where this machine has other things to do.
    let limits = Limits {
        grace: Duration::from_secs(30),
        head_time: Duration::from_secs(30),
        write_time: Duration::from_secs(30),
        ..quick()
    };
    let api = Api::start_with(limits, None);
    let address = api.server.address();
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                client.ask("GET", "/api/v1/health", "Connection: close\r\n", None)
            })
        })
        .collect();
    for one in crowd {
        assert_eq!(one.join().unwrap().status, 200);
    }
}

#[test]
fn a_request_that_is_being_answered_is_never_given_up() {
    let api = Api::start_with(quick(), None);
    api.agent.hold();
    let mut busy = api.client();
    busy.send(format!(
        "DELETE {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    api.agent.await_held(1);
    let idle: Vec<_> = (0..100).map(|_| api.client()).collect();
    assert_eq!(api.ask("GET", "/api/v1/health").status, 200);
    api.agent.release();
    assert_eq!(busy.reply(false).status, 200);
    drop(idle);
}

#[test]
fn more_body_than_allowed_is_refused_unread() {
    let api = Api::start();
    for length in ["1000000000000000", "1048577", "99999999999999999999999999"] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let mut client = api.client();
            client.send(format!(
                "POST {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\n{expect}Content-Length: \
                 {length}\r\n\r\n"
            ));
            let reply = client.reply(false);
            assert_eq!(reply.error(), is(413, "body_too_large"));
            assert_eq!(reply.field("Connection"), Some("close"));
            assert_eq!(client.rest(), b"");
        }
    }
    assert_eq!(api.ask("GET", "/api/v1/health").status, 200);
}

#[test]
fn a_client_that_sends_all_of_a_large_body_still_reads_the_answer() {
    let api = Api::start();
    let body = "x".repeat(4 << 20);
    let reply = api.post(DOWNLOADS, &body);
    assert_eq!(reply.error(), is(413, "body_too_large"));
}

#[test]
fn a_body_of_just_the_limit_is_read() {
    let api = Api::start();
    let body = " ".repeat(1 << 20);
    assert_eq!(api.post(DOWNLOADS, &body).error(), is(400, "invalid_json"));
}

#[test]
fn slow_heads_and_bodies_run_into_their_deadlines() {
    let api = Api::start_with(quick(), None);
    let begun = Instant::now();
    let mut head = api.client();
    head.send("GET / HT");
    let mut body = api.client();
    body.send(format!(
        "POST {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"
    ));
    let mut silent = api.client();
    assert_eq!(head.reply(false).error(), is(408, "request_timeout"));
    assert_eq!(body.reply(false).error(), is(408, "request_timeout"));
    assert!(silent.is_closed());
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_trickled_head_has_its_time_in_all() {
    let api = Api::start_with(quick(), None);
    let mut client = api.client();
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let begun = Instant::now();
    let mut answer = [0; 12];
    loop {
        use std::io::{Read, Write};
        // Each byte comes well within any deadline that starts anew.
        let written = client.stream.write_all(b"G");
        match client.stream.read(&mut answer) {
            Ok(0) => break,
            Ok(_) => {
                assert_eq!(&answer, b"HTTP/1.1 408");
                break;
            }
            Err(_) if written.is_err() => break,
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(5)),
        }
    }
}

#[test]
fn heads_have_a_limit() {
    let api = Api::start();
    let mut client = api.client();
    let long = "x".repeat(20_000);
    client.send(format!(
        "GET /api/v1/health?{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    assert_eq!(client.reply(false).error(), is(431, "headers_too_large"));
    let long = "x".repeat(15_000);
    let path = format!("/api/v1/downloads/{long}");
    assert_eq!(api.ask("GET", &path).error(), is(404, "download_not_found"));
}

#[test]
fn pipelined_requests_are_answered_in_turn() {
    let api = Api::start();
    let mut client = api.client();
    let post =
        format!("POST {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody");
    client.send(format!("{GET}{post}\r\n{GET}").repeat(20));
    for _ in 0..20 {
        assert_eq!(client.reply(false).status, 200);
        assert_eq!(client.reply(false).status, 415);
        assert_eq!(client.reply(false).status, 200);
    }
}

#[test]
fn chunked_bodies_are_put_together() {
    let api = Api::start();
    let head = format!(
        "POST {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let mut client = api.client();
    let (a, b) = (
        r#"{"url":"https://get.massive.app/L1?secret=S","#,
        r#""dst_folder":"/in"}"#,
    );
    client.send(format!(
        "{head}{:x};x=y\r\n{a}\r\n{:X}\r\n{b}\r\n0\r\nTrailer: z\r\n\r\n{GET}",
        a.len(),
        b.len()
    ));
    assert_eq!(client.reply(false).status, 201);
    assert_eq!(client.reply(false).status, 200);

    client.send(format!("{head}zz\r\n"));
    assert_eq!(client.reply(false).error(), is(400, "invalid_request"));
    assert_eq!(client.rest(), b"");

    let mut client = api.client();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    client.send(format!("{head}{}", chunk.repeat(65)));
    assert_eq!(client.reply(false).error(), is(413, "body_too_large"));
}

#[test]
fn a_client_that_waits_for_the_go_ahead_gets_it() {
    let api = Api::start();
    let mut client = api.client();
    client.send(format!(
        "POST {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    ));
    assert_eq!(client.reply(false).status, 100);
    client.send("{}");
    assert_eq!(client.reply(false).error(), is(400, "invalid_request"));
}

#[test]
fn malformed_requests_are_answered_and_hung_up_on() {
    let api = Api::start();
    for text in [
        "GET / HTTP/1.1\nHost: localhost\n\n",
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = api.client();
        client.send(text);
        let reply = client.reply(false);
        assert_eq!(reply.error(), is(400, "invalid_request"), "{text:?}");
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn connections_go_on_as_their_clients_wish() {
    let api = Api::start();
    let mut client = api.client();
    for _ in 0..50 {
        let reply = client.ask("GET", "/api/v1/health", "", None);
        assert_eq!((reply.status, reply.field("Connection")), (200, None));
    }
    let reply = client.ask("GET", "/api/v1/health", "Connection: close\r\n", None);
    assert_eq!(reply.field("Connection"), Some("close"));
    assert_eq!(client.rest(), b"");

    let mut client = api.client();
    let old = "GET /api/v1/health HTTP/1.0\r\nHost: localhost\r\n";
    client.send(format!("{old}Connection: keep-alive\r\n\r\n"));
    assert_eq!(client.reply(false).field("Connection"), Some("keep-alive"));
    client.send(format!("{old}\r\n"));
    assert_eq!(client.reply(false).field("Connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_old_client_gets_a_streamed_answer_without_chunks() {
    let api = Api::start();
    let many = download(1, State::Paused);
    fill(&many, 5_000);
    api.agent.publish([many]);
    let mut client = api.client();
    client.send(format!(
        "GET {DOWNLOADS}/0100000001 HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
    ));
    let reply = client.reply(false);
    assert_eq!(reply.field("Transfer-Encoding"), None);
    assert_eq!(reply.field("Connection"), Some("close"));
    assert_eq!(reply.json()["files"].as_array().unwrap().len(), 5_000);
}

#[test]
fn a_client_may_close_its_half_and_read_on() {
    let api = Api::start();
    let mut client = api.client();
    client.send(GET);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.reply(false).status, 200);
    assert_eq!(client.rest(), b"");
}

#[test]
fn idle_connections_are_closed_in_the_end() {
    let api = Api::start_with(quick(), None);
    let mut client = api.client();
    assert_eq!(client.ask("GET", "/api/v1/health", "", None).status, 200);
    let begun = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

#[test]
fn stopping_refuses_what_comes_and_finishes_what_is_under_way() {
    let api = Api::start();
    let address = api.server.address();
    let mut idle = api.client();
    assert_eq!(idle.ask("GET", "/api/v1/health", "", None).status, 200);
    api.agent.hold();
    let mut busy = api.client();
    busy.send(format!(
        "DELETE {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    api.agent.await_held(1);
    let Api {
        server,
        agent,
        state_dir,
    } = api;
    let stopping = std::thread::spawn(move || server.stop());
    // The stop has begun once the idle connection is closed.
    assert_eq!(idle.rest(), b"");
    let mut late = Client::connect(address);
    late.send(GET);
    assert_eq!(late.reply(false).error(), is(503, "shutting_down"));
    agent.release();
    let reply = busy.reply(false);
    assert_eq!(reply.status, 200);
    drop((late, busy));
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(std::fs::read_dir(state_dir.path()).unwrap().count(), 0);
}

#[test]
fn stopping_waits_for_nobody_forever() {
    let api = Api::start();
    api.agent.hold();
    let mut stuck = api.client();
    stuck.send(format!(
        "DELETE {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    api.agent.await_held(1);
    let begun = Instant::now();
    api.server.stop();
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(std::fs::read_dir(api.state_dir.path()).unwrap().count(), 0);
    assert!(stuck.is_closed());
    api.agent.release();
}

#[test]
fn the_inner_socket_is_ours_alone_and_replaces_a_leftover() {
    let state_dir = tempfile::tempdir().unwrap();
    let socket = state_dir.path().join("api-1.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let config = Config {
        listen: vec![Address::Tcp("127.0.0.1:0".parse().unwrap())],
        socket_group: None,
        tls: None,
        state_dir: state_dir.path().to_owned(),
        token: None,
        origins: Origins::default(),
        base_path: String::new(),
    };
    let server = Server::start(config, Arc::new(FakeAgent::default())).unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = Client::connect(server.address());
    assert_eq!(client.ask("GET", "/api/v1/health", "", None).status, 200);
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn a_state_directory_too_deep_for_a_socket_will_do() {
    let state_dir = tempfile::tempdir().unwrap();
    let deep = state_dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let config = Config {
        listen: vec![Address::Tcp("127.0.0.1:0".parse().unwrap())],
        socket_group: None,
        tls: None,
        state_dir: deep,
        token: None,
        origins: Origins::default(),
        base_path: String::new(),
    };
    let server = Server::start(config, Arc::new(FakeAgent::default())).unwrap();
    let mut client = Client::connect(server.address());
    assert_eq!(client.ask("GET", "/api/v1/health", "", None).status, 200);
}

#[test]
fn an_address_that_is_taken_is_an_error_that_says_so() {
    let api = Api::start();
    let config = Config {
        listen: vec![Address::Tcp(api.server.address())],
        socket_group: None,
        tls: None,
        state_dir: api.state_dir.path().to_owned(),
        token: None,
        origins: Origins::default(),
        base_path: String::new(),
    };
    let error = Server::start(config, api.agent.clone()).err().unwrap();
    assert!(
        error
            .to_string()
            .contains(&api.server.address().to_string())
    );
}
