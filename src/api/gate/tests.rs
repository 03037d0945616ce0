//! The gate in front of a server that does what its test tells it to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Gate;
use super::limits::Limits;
use super::socket::Listener;
use crate::api::answer::{Answer, Body};
use crate::api::backend::{Backend, Handler};
use crate::base::listen::Address;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LONG: Duration = Duration::from_secs(10);

fn gate(
    limits: Limits,
    handler: impl Fn(tiny_http::Request) + Send + Sync + 'static,
) -> (Gate, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let handler: Handler = Arc::new(handler);
    let backend = Backend::start(folder.path(), handler).unwrap();
    let address = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&address, None, None).unwrap();
    (
        Gate::start(vec![listener], backend, limits).unwrap(),
        folder,
    )
}

fn connect(gate: &Gate) -> TcpStream {
    let stream = TcpStream::connect(gate.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn ok(request: tiny_http::Request) {
    let answer = Answer::json(200, b"{}".to_vec());
    answer
        .send(false, &mut request.into_writer())
        .unwrap_or_default();
}

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(end.as_bytes()) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}

fn get(gate: &Gate) -> String {
    let mut stream = connect(gate);
    stream.write_all(GET).unwrap();
    read_until(&mut stream, "{}")
}

/// A handler that streams what a test sends, and tells when its reader has gone.
fn streaming(
    content_type: &'static str,
) -> (
    Sender<&'static str>,
    Receiver<()>,
    impl Fn(tiny_http::Request) + Send + Sync,
) {
    let (send, receive) = channel::<&'static str>();
    let (gone, went) = channel();
    let receive = Mutex::new(receive);
    let handler = move |request: tiny_http::Request| {
        let receive = receive.lock().unwrap();
        let (copy, copied) = channel();
        let answer = Answer {
            content_type,
            body: Body::Sliced(Box::new(move |slice| match copied.recv() {
                Ok(text) => {
                    let text: &str = text;
                    slice.extend_from_slice(text.as_bytes());
                    true
                }
                Err(_) => false,
            })),
            ..Answer::json(200, Vec::new())
        };
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || answer.send(false, &mut request.into_writer()));
            while let Ok(text) = receive.recv() {
                if copy.send(text).is_err() {
                    break;
                }
            }
            drop(copy);
            if sending.join().unwrap().is_err() {
                gone.send(()).unwrap();
            }
        });
    };
    (send, went, handler)
}

#[test]
fn a_stream_passes_piece_by_piece() {
    let (send, _went, handler) = streaming("text/event-stream");
    let (gate, _folder) = gate(Limits::default(), handler);
    let mut stream = connect(&gate);
    stream.write_all(GET).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").contains("text/event-stream"));
    for text in ["data: one\n\n", "data: two\n\n"] {
        send.send(text).unwrap();
        let chunk = read_until(&mut stream, "\r\n");
        assert_eq!(chunk, format!("{:x}\r\n{text}\r\n", text.len()));
    }
    drop(send);
    assert_eq!(read_until(&mut stream, "0\r\n\r\n"), "0\r\n\r\n");
}

#[test]
fn a_reader_of_events_that_goes_is_missed() {
    let (send, went, handler) = streaming("text/event-stream");
    let (gate, _folder) = gate(Limits::default(), handler);
    let mut stream = connect(&gate);
    stream.write_all(GET).unwrap();
    read_until(&mut stream, "\r\n\r\n");
    drop(stream);
    // Nothing is written to the client in the meantime: the gate notices by itself.
    let begun = Instant::now();
    while gate.connections() > 0 {
        assert!(begun.elapsed() < LONG);
        std::thread::yield_now();
    }
    for _ in 0..2 {
        send.send("data: x\n\n").unwrap();
    }
    drop(send);
    went.recv_timeout(LONG).unwrap();
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let (gate, _folder) = gate(Limits::default(), |request| {
        let mut first = true;
        let answer = Answer {
            body: Body::Sliced(Box::new(move |slice| {
                assert!(std::mem::take(&mut first), "on purpose");
                slice.extend_from_slice(b"half");
                true
            })),
            ..Answer::json(200, Vec::new())
        };
        answer.send(false, &mut request.into_writer()).unwrap();
    });
    let mut stream = connect(&gate);
    stream.write_all(GET).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let limits = Limits {
        write_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let (done, written) = channel();
    let done = Mutex::new(done);
    let (gate, _folder) = gate(limits, move |request| {
        let answer = Answer::json(200, vec![b'x'; 64 << 20]);
        let result = answer.send(false, &mut request.into_writer());
        done.lock().unwrap().send(result.is_err()).unwrap();
    });
    let mut stream = connect(&gate);
    stream.write_all(GET).unwrap();
    assert!(written.recv_timeout(LONG).unwrap());
}

#[test]
fn an_inner_server_that_no_longer_accepts_is_replaced() {
    let (gate, folder) = gate(Limits::default(), ok);
    let mut kept = connect(&gate);
    kept.write_all(GET).unwrap();
    read_until(&mut kept, "{}");
    // With its path gone nobody can connect, as when its accept loop has ended.
    let socket = gate.shared.backend.socket();
    std::fs::remove_file(&socket).unwrap();
    let idle = gate.shared.backend.take().unwrap();
    assert!(get(&gate).starts_with("HTTP/1.1 200 "));
    let next = gate.shared.backend.socket();
    assert_ne!(next, socket);
    // What the old one had under way is finished there.
    gate.shared.backend.give_back(idle);
    kept.write_all(GET).unwrap();
    read_until(&mut kept, "{}");
    drop((kept, gate));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_request_that_nobody_accepted_is_passed_on_again() {
    let (gate, _folder) = gate(Limits::default(), ok);
    // Somebody else listens at the path and hangs up: the same as an accept loop that ends
    // with a connection in its queue.
    let socket = gate.shared.backend.socket();
    std::fs::remove_file(&socket).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let ending = std::thread::spawn(move || drop(listener.accept().unwrap()));
    assert!(get(&gate).starts_with("HTTP/1.1 200 "));
    ending.join().unwrap();
}
