//! A server that answers each request as the test says, down to the byte, and counts its
//! connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Which connection it came on, from 1.
    pub connection: usize,
    /// Which request it is on that connection, from 1.
    pub turn: usize,
    /// More had come with it already.
    pub followed: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What happens to the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
    Reset,
    /// Nothing more is sent; the connection stays open until the client closes it.
    Silence,
    /// What came together with the request is dropped.
    Forget,
}

pub struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

impl Reply {
    pub fn raw(text: impl AsRef<[u8]>, then: Then) -> Reply {
        Reply {
            bytes: text.as_ref().to_owned(),
            then,
        }
    }

    /// A whole answer on a connection that is kept; `head` is a status and, on more lines, headers.
    pub fn ok(head: &str, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let mut bytes = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\n\r\n",
            head.replace('\n', "\r\n"),
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Reply::raw(bytes, Then::Keep)
    }
}

pub struct Server {
    address: SocketAddr,
    accepts: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            accepts: Arc::default(),
            requests: Arc::default(),
            closing: Arc::default(),
        };
        let (accepts, requests) = (server.accepts.clone(), server.requests.clone());
        let closing = server.closing.clone();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closing.load(Ordering::SeqCst) {
                    return;
                }
                let connection = accepts.fetch_add(1, Ordering::SeqCst) + 1;
                let (answer, requests) = (answer.clone(), requests.clone());
                thread::spawn(move || serve(stream.unwrap(), connection, &*answer, &requests));
            }
        });
        server
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn accepts(&self) -> usize {
        self.accepts.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the accept loop.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    answer: &(impl Fn(&Request) -> Reply + ?Sized),
    requests: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for turn in 1.. {
        let Some(request) = read_request(&mut reader, connection, turn) else {
            return;
        };
        requests.lock().unwrap().push(request.clone());
        let reply = answer(&request);
        // The client may have gone already.
        let _ = (&stream).write_all(&reply.bytes);
        match reply.then {
            Then::Keep => {}
            Then::Forget => reader.consume(reader.buffer().len()),
            Then::Close => return,
            Then::Reset => {
                // With no time to linger the close is a reset.
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                return;
            }
            Then::Silence => {
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
        }
    }
}

fn read_request(
    reader: &mut BufReader<TcpStream>,
    connection: usize,
    turn: usize,
) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Some(Request {
        target: lines[0].split(' ').nth(1).unwrap().to_owned(),
        headers: lines[1..].iter().map(header).collect(),
        connection,
        turn,
        followed: !reader.buffer().is_empty(),
    })
}
