//! Silence, deadlines and stops, wherever a call may be blocked.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType};

use super::server::{Reply, Server, Then};
use super::*;

/// What a loaded machine may need beyond the quarter of a second; far below every timeout of the
/// client's own.
const SOON: Duration = Duration::from_secs(5);

/// A server that says when it has been asked, sends `start`, and then nothing more.
fn silent(start: &'static str) -> (Server, Receiver<()>) {
    let (asked, when_asked) = unbounded();
    let server = Server::start(move |_| {
        asked.send(()).unwrap();
        Reply::raw(start, Then::Silence)
    });
    (server, when_asked)
}

fn patient() -> Client {
    Client::new(Options::default()).unwrap()
}

/// Runs `call` with a watch that is stopped once the server was asked.
fn stopped<T: std::fmt::Debug>(
    when_asked: &Receiver<()>,
    call: impl FnOnce(&Watch) -> Result<T, Fault>,
) {
    let watch = Watch::default();
    thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            when_asked.recv().unwrap();
            watch.stop.store(true, Ordering::Relaxed);
            Instant::now()
        });
        assert_eq!(call(&watch).unwrap_err(), Fault::Stopped);
        assert!(stopper.join().unwrap().elapsed() < SOON);
    });
}

#[test]
fn a_stop_reaches_a_call_that_waits_for_its_answer() {
    let (server, when_asked) = silent("");
    let client = patient();
    stopped(&when_asked, |watch| {
        client.resolve(&link(&server, "s"), None, watch)
    });
    stopped(&when_asked, |watch| {
        client.fetch(&address(&server, "/x"), None, std::iter::empty(), watch)
    });
    // One request each: a stop is no stale connection.
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_stop_reaches_a_body_that_waits_for_bytes() {
    let (server, when_asked) = silent("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let client = patient();
    stopped(&when_asked, |watch| {
        read_all(&mut client.fetch(&address(&server, "/x"), None, std::iter::empty(), watch)?)
    });
    let (server, when_asked) = silent("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{\"id\":");
    stopped(&when_asked, |watch| {
        at(&server, |place| client.list(place, watch, &mut |_| Ok(())))
    });
}

#[test]
fn a_call_that_is_stopped_already_sends_nothing() {
    let (server, _when_asked) = silent("");
    let watch = Watch::default();
    watch.stop.store(true, Ordering::Relaxed);
    assert_eq!(
        patient()
            .resolve(&link(&server, "s"), None, &watch)
            .unwrap_err(),
        Fault::Stopped
    );
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_body_heeds_its_own_watch_and_not_the_one_of_a_later_call() {
    let server = Server::start(|request| match request.target.as_str() {
        "/whole" => Reply::ok("200 OK", "hello"),
        _ => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Then::Silence,
        ),
    });
    let client = patient();
    let watch = Watch::default();
    let mut half = client
        .fetch(&address(&server, "/half"), None, std::iter::empty(), &watch)
        .unwrap();
    let mut buf = [0; 10];
    assert_eq!(half.read(&mut buf).unwrap(), 5);
    // A later call on this thread, under a watch of its own that nobody stops.
    let mut whole = client
        .fetch(
            &address(&server, "/whole"),
            None,
            std::iter::empty(),
            &Watch::default(),
        )
        .unwrap();
    watch.stop.store(true, Ordering::Relaxed);
    assert_eq!(half.read(&mut buf).unwrap_err(), Fault::Stopped);
    assert_eq!(read_all(&mut whole).unwrap(), b"hello");
}

#[test]
fn silence_is_a_timeout() {
    let (server, _when_asked) = silent("");
    assert_transient(
        client().resolve(&link(&server, "s"), None, &Watch::default()),
        "no byte",
    );
    assert_eq!(server.requests().len(), 1);
    let (server, _when_asked) = silent("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let mut fetched = client()
        .fetch(
            &address(&server, "/x"),
            None,
            std::iter::empty(),
            &Watch::default(),
        )
        .unwrap();
    assert_transient(read_all(&mut fetched), "no byte");
    let (server, _when_asked) = silent("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[");
    assert_transient(list(&client(), &server), "no byte");
}

#[test]
fn a_deadline_ends_a_call_before_the_silence_does() {
    let (server, _when_asked) = silent("");
    let watch = Watch {
        deadline: Some(Instant::now() + Duration::from_millis(300)),
        ..Watch::default()
    };
    assert_transient(
        patient().resolve(&link(&server, "s"), None, &watch),
        "too long",
    );
    assert!(watch.deadline.unwrap().elapsed() < SOON);
}

#[test]
fn a_deadline_ends_a_connect_that_nobody_answers() {
    let (address, _queue) = deaf_listener();
    let watch = Watch {
        deadline: Some(Instant::now() + Duration::from_millis(300)),
        ..Watch::default()
    };
    let mut link = link(&Server::start(|_| Reply::ok("200 OK", "")), "s");
    link.api = format!("http://{address}");
    assert_transient(patient().resolve(&link, None, &watch), "too long");
    assert!(watch.deadline.unwrap().elapsed() < SOON);
}

/// An address whose queue of unaccepted connections is full, so that the kernel leaves further ones
/// waiting.
fn deaf_listener() -> (SocketAddr, Vec<std::os::fd::OwnedFd>) {
    let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: SocketAddrAny = rustix::net::getsockname(&listener).unwrap();
    let address = SocketAddr::try_from(address).unwrap();
    let mut queue = vec![listener];
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream.into());
        assert!(queue.len() < 100, "the queue never fills");
    }
    (address, queue)
}
