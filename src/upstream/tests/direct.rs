//! Large bodies by plain http, which are taken from the socket itself.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::thread;

use super::server::{Reply, Server, Then};
use super::*;
use crate::base::copy_buffer::CopyBuffer;

/// Well above what ureq buffers, and no multiple of anything.
const LARGE: usize = 3_000_001;

fn content() -> Vec<u8> {
    (0..LARGE).map(|at| (at * 31 % 251) as u8).collect()
}

fn head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

/// Moves a body into a file the way a worker does; how many bytes came, and how it ended.
fn save(fetched: &mut Fetched, buffer: &mut CopyBuffer, file: &File) -> (u64, Result<(), Fault>) {
    let mut at = 0;
    loop {
        match fetched.load(buffer, usize::MAX) {
            Ok(load) if load.is_empty() => return (at, Ok(())),
            Ok(load) => buffer.write(load, load.len(), file, at).unwrap(),
            Err(fault) => return (at, Err(fault)),
        }
        at = file.metadata().unwrap().len();
    }
}

#[test]
fn every_byte_arrives_and_the_connection_serves_again() {
    let server = Server::start(|request| match request.target.as_str() {
        "/large" => Reply::ok("200 OK", content()),
        _ => Reply::ok("200 OK", "small"),
    });
    let (client, mut buffer) = (client(), CopyBuffer::default());
    for path in ["/large", "/large", "/small", "/large"] {
        let mut fetched = client
            .fetch(
                &address(&server, path),
                None,
                std::iter::empty(),
                &Watch::default(),
            )
            .unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let (came, end) = save(&mut fetched, &mut buffer, &file);
        assert_eq!(end, Ok(()));
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, came);
        assert!(
            bytes
                == if path == "/large" {
                    content()
                } else {
                    b"small".to_vec()
                }
        );
    }
    assert_eq!(server.accepts(), 1);
}

#[test]
fn reading_and_loading_can_be_mixed() {
    let server = Server::start(|_| Reply::ok("200 OK", content()));
    let mut fetched = client()
        .fetch(
            &address(&server, "/x"),
            None,
            std::iter::empty(),
            &Watch::default(),
        )
        .unwrap();
    assert!(read_all(&mut fetched).unwrap() == content());
    assert_eq!(fetched.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_large_body_that_breaks_off_is_transient_and_what_came_is_kept() {
    let server = Server::start(|_| {
        let mut text = head(LARGE + 5);
        text.extend(content());
        Reply::raw(text, Then::Close)
    });
    let file = tempfile::tempfile().unwrap();
    let mut fetched = client()
        .fetch(
            &address(&server, "/x"),
            None,
            std::iter::empty(),
            &Watch::default(),
        )
        .unwrap();
    let (came, end) = save(&mut fetched, &mut CopyBuffer::default(), &file);
    assert_eq!(came, LARGE as u64);
    assert_transient(end, "closed the connection");
    assert_transient(fetched.read(&mut [0; 8]), "closed the connection");
}

#[test]
fn a_connection_with_more_than_was_declared_serves_no_further_request() {
    let server = Server::start(|_| {
        let mut text = head(LARGE - 5);
        text.extend(content());
        Reply::raw(text, Then::Keep)
    });
    let (client, mut buffer) = (client(), CopyBuffer::default());
    for _ in 0..2 {
        let file = tempfile::tempfile().unwrap();
        let mut fetched = client
            .fetch(
                &address(&server, "/x"),
                None,
                std::iter::empty(),
                &Watch::default(),
            )
            .unwrap();
        assert_eq!(
            save(&mut fetched, &mut buffer, &file),
            (LARGE as u64 - 5, Ok(()))
        );
    }
    assert_eq!(server.accepts(), 2);
}

#[test]
fn silence_and_a_stop_end_it_too() {
    let server = Server::start(|_| {
        let mut text = head(2 * LARGE);
        text.extend(content());
        Reply::raw(text, Then::Keep)
    });
    let (client, file) = (client(), tempfile::tempfile().unwrap());
    let mut fetched = client
        .fetch(
            &address(&server, "/x"),
            None,
            std::iter::empty(),
            &Watch::default(),
        )
        .unwrap();
    let (came, end) = save(&mut fetched, &mut CopyBuffer::default(), &file);
    assert_eq!(came, LARGE as u64);
    assert_transient(end, "no byte");

    let (watch, file) = (Watch::default(), tempfile::tempfile().unwrap());
    let mut fetched = client
        .fetch(&address(&server, "/x"), None, std::iter::empty(), &watch)
        .unwrap();
    thread::scope(|scope| {
        let transfer = scope.spawn(|| save(&mut fetched, &mut CopyBuffer::default(), &file).1);
        while file.metadata().unwrap().len() < LARGE as u64 {
            thread::yield_now();
        }
        watch.stop.store(true, Ordering::Relaxed);
        assert_eq!(transfer.join().unwrap(), Err(Fault::Stopped));
    });
}
