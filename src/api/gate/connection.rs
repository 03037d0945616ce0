//! One client's connection, request by request.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use super::chunked::Chunked;
use super::head::{self, Framing, Head, Scan};
use super::registry::Slot;
use super::relay::{Broken, Relayed, relay};
use super::socket::{Door, Socket};
use super::tls;
use super::wait;
use super::{STACK, Shared};
use crate::api::answer::Answer;
use crate::api::backend::Upstream;
use crate::api::error::ApiError;
use crate::api::guard;
use crate::api::inbox::Inbox;

/// First size of a connection's read buffer, bytes.
const FIRST_BUFFER: usize = 2 << 10;
/// Bytes of a refused request that are read and thrown away.
const MAX_DRAINED: u64 = 256 << 20;

/// Why a connection ends before its time.
enum End {
    /// The client has gone or said nothing; there is nothing to tell.
    Silent,
    /// The client is told.
    Refused(ApiError),
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> End {
        End::Refused(error)
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    slot: &'a Slot,
    /// What requests are read from: the client's own connection, or what TLS hands on.
    stream: &'a Socket,
    inbox: Inbox,
    /// The request to be passed on, later the answer.
    out: Vec<u8>,
    body: Vec<u8>,
    /// A line that says where its requests come from.
    origin: Vec<u8>,
    first: bool,
}

/// The line for the guard: by a Unix socket, or from which address.
fn origin(slot: &Slot) -> Vec<u8> {
    match (&slot.door, &slot.stream) {
        (Door::Local, _) => guard::LOCAL_LINE.to_vec(),
        (_, Socket::Tcp(stream)) => match stream.peer_addr() {
            Ok(peer) => format!("{}: {}\r\n", guard::PEER_FIELD, peer.ip()).into_bytes(),
            // It is gone, and so is who would read the answer.
            Err(_) => Vec::new(),
        },
        (_, Socket::Unix(_)) => Vec::new(),
    }
}

/// Serves the connection until it ends.
pub fn serve(shared: &Shared, slot: &Slot) {
    let (Door::Tls(certificate), Socket::Tcp(client)) = (&slot.door, &slot.stream) else {
        return serve_on(shared, slot, &slot.stream);
    };
    match tls::is_spoken(client, &shared.limits) {
        Some(true) => {}
        Some(false) => {
            let hint = "haul speaks TLS here: ask with https:// instead of http://";
            let connection = Connection::new(shared, slot, &slot.stream);
            return match connection.prepare() {
                Ok(()) => connection.refuse(ApiError::invalid_request(hint)),
                Err(error) => log::debug!("a connection could not be set up: {error}"),
            };
        }
        None => return,
    }
    if let Err(error) = serve_tls(shared, slot, certificate, client) {
        log::debug!("a TLS connection ended: {error}");
    }
}

fn serve_tls(
    shared: &Shared,
    slot: &Slot,
    certificate: &tls::Certificate,
    client: &std::net::TcpStream,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (outer, inner) = UnixStream::pair()?;
    thread::scope(|scope| {
        thread::Builder::new()
            .name("api-client".into())
            .stack_size(STACK)
            .spawn_scoped(scope, || {
                let inner = Socket::Unix(inner);
                serve_on(shared, slot, &inner);
            })?;
        let pumped = tls::pump(certificate, client, &outer, &shared.limits);
        // Ends the other thread, which may be waiting for what will not come.
        let _ = outer.shutdown(Shutdown::Both);
        pumped
    })
}

fn serve_on(shared: &Shared, slot: &Slot, stream: &Socket) {
    let mut connection = Connection::new(shared, slot, stream);
    if let Err(error) = connection.prepare() {
        log::debug!("a connection could not be set up: {error}");
        return;
    }
    loop {
        match connection.turn() {
            Ok(true) => {}
            Ok(false) => return connection.hang_up(),
            Err(End::Silent) => return,
            Err(End::Refused(error)) => return connection.refuse(error),
        }
    }
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, slot: &'a Slot, stream: &'a Socket) -> Connection<'a> {
        Connection {
            shared,
            slot,
            stream,
            inbox: Inbox::new(FIRST_BUFFER),
            out: Vec::with_capacity(FIRST_BUFFER),
            body: Vec::new(),
            origin: origin(slot),
            first: true,
        }
    }
}

impl Connection<'_> {
    fn prepare(&self) -> io::Result<()> {
        self.stream.prepare(self.shared.limits.write_time)
    }

    /// One request and its answer; whether there may be another.
    fn turn(&mut self) -> Result<bool, End> {
        let request = self.read_request()?;
        if !self.slot.begin_answer() {
            return Err(End::Silent);
        }
        let keep = self.answer(&request);
        self.slot.end_answer();
        self.first = false;
        Ok(keep? && !self.shared.registry.is_stopping())
    }

    /// Reads a request whole, and leaves what is to be passed on in `out`.
    fn read_request(&mut self) -> Result<Head, End> {
        let length = self.read_head()?;
        self.out.clear();
        let request = head::parse(&self.inbox.data()[..length], &mut self.out)?;
        self.inbox.consume(length);
        // No client can say this: of its fields only those that are known are passed on.
        self.out.extend_from_slice(&self.origin);
        self.body.clear();
        match request.framing {
            Framing::Length(0) => {}
            Framing::Length(length) => self.read_length(length, request.expects_continue)?,
            Framing::Chunked => self.read_chunks(request.expects_continue)?,
        }
        if !self.body.is_empty() {
            let line = format!("Content-Length: {}\r\n", self.body.len());
            self.out.extend_from_slice(line.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&self.body);
        Ok(request)
    }

    /// Waits for a whole head; its length in the inbox.
    fn read_head(&mut self) -> Result<usize, End> {
        let limits = &self.shared.limits;
        let patience = if self.first {
            limits.head_time
        } else {
            limits.idle_time
        };
        let mut deadline = Instant::now() + patience;
        let mut begun = false;
        let mut scan = Scan::default();
        loop {
            // RFC 9112, 2.2: empty lines before a request are passed over.
            let before = self.inbox.data().len();
            while scan.is_new() && self.inbox.data().starts_with(b"\r\n") {
                self.inbox.consume(2);
            }
            if before > 0 && !begun {
                begun = true;
                deadline = Instant::now() + limits.head_time;
            }
            if let Some(length) = scan.end(self.inbox.data())? {
                return if length > limits.head_bytes {
                    Err(head::head_too_large().into())
                } else {
                    Ok(length)
                };
            }
            if self.inbox.data().len() >= limits.head_bytes {
                return Err(head::head_too_large().into());
            }
            match self.fill(deadline, limits.head_bytes)? {
                Filled::Some => {}
                Filled::End => return Err(End::Silent),
                Filled::Late if begun => return Err(too_slow("head").into()),
                Filled::Late => return Err(End::Silent),
            }
        }
    }

    fn fill(&mut self, deadline: Instant, most: usize) -> Result<Filled, End> {
        match wait::readable(self.stream, deadline) {
            Ok(true) => {}
            Ok(false) => return Ok(Filled::Late),
            Err(_) => return Err(End::Silent),
        }
        let mut stream = self.stream;
        match self.inbox.fill(&mut stream, most) {
            Ok(0) => Ok(Filled::End),
            Ok(_) => Ok(Filled::Some),
            Err(_) => Err(End::Silent),
        }
    }

    fn fill_body(&mut self, deadline: Instant) -> Result<(), End> {
        match self.fill(deadline, self.shared.limits.head_bytes)? {
            Filled::Some => Ok(()),
            Filled::End => Err(head::malformed("its body is shorter than announced").into()),
            Filled::Late => Err(too_slow("body").into()),
        }
    }

    fn body_too_large(&self) -> End {
        ApiError::body_too_large(self.shared.limits.body_bytes).into()
    }

    fn read_length(&mut self, length: u64, expects_continue: bool) -> Result<(), End> {
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= self.shared.limits.body_bytes)
            .ok_or_else(|| self.body_too_large())?;
        let deadline = Instant::now() + self.shared.limits.body_time;
        if expects_continue && self.inbox.data().is_empty() {
            self.go_ahead()?;
        }
        loop {
            let data = self.inbox.data();
            let here = data.len().min(length - self.body.len());
            self.body.extend_from_slice(&data[..here]);
            self.inbox.consume(here);
            if self.body.len() == length {
                return Ok(());
            }
            self.fill_body(deadline)?;
        }
    }

    fn read_chunks(&mut self, expects_continue: bool) -> Result<(), End> {
        let deadline = Instant::now() + self.shared.limits.body_time;
        if expects_continue && self.inbox.data().is_empty() {
            self.go_ahead()?;
        }
        let mut chunked = Chunked::default();
        loop {
            let body = &mut self.body;
            let used = chunked
                .advance(self.inbox.data(), |piece| body.extend_from_slice(piece))
                .map_err(|_| head::malformed("its chunks are not well formed"))?;
            self.inbox.consume(used);
            if self.body.len() > self.shared.limits.body_bytes {
                return Err(self.body_too_large());
            }
            if chunked.is_done() {
                return Ok(());
            }
            self.fill_body(deadline)?;
        }
    }

    fn go_ahead(&self) -> Result<(), End> {
        let mut stream = self.stream;
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .map_err(|_| End::Silent)
    }

    /// Passes the request on and the answer back; whether the connection can go on.
    fn answer(&mut self, request: &Head) -> Result<bool, End> {
        if self.shared.registry.is_stopping() {
            return Err(ApiError::shutting_down().into());
        }
        let backend = &self.shared.backend;
        let mut upstream = backend.take().map_err(overloaded)?;
        match self.pass(&mut upstream, request) {
            Ok(relayed) => {
                if relayed.keep_upstream {
                    backend.give_back(upstream);
                }
                Ok(relayed.keep_client)
            }
            Err(Broken::Upstream { head_sent: false }) => Err(ApiError::internal().into()),
            Err(Broken::Upstream { head_sent: true } | Broken::Client) => Err(End::Silent),
        }
    }

    fn pass(&mut self, upstream: &mut Upstream, request: &Head) -> Result<Relayed, Broken> {
        let mut stream = &upstream.stream;
        stream
            .write_all(&self.out)
            .map_err(|_| Broken::Upstream { head_sent: false })?;
        let keep = request.keep_alive && !self.shared.registry.is_stopping();
        relay(upstream, self.stream, request, keep, &mut self.out)
    }

    /// Tells the client why not, and hangs up.
    fn refuse(mut self, error: ApiError) {
        log::debug!("refused a request: {} {}", error.status, error.code);
        let mut answer = Answer::from(error);
        answer.fields.push(("Connection", "close".into()));
        let mut stream = self.stream;
        if answer.send(false, &mut stream).is_ok() {
            self.hang_up();
        }
    }

    /// Closes the connection so that the client gets to read what was sent: closing with
    /// unread bytes would reset it (RFC 9112, 9.6).
    fn hang_up(&mut self) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let stopping = self.shared.registry.is_stopping();
        let patience = match stopping {
            true => self.shared.limits.linger_time / 10,
            false => self.shared.limits.linger_time,
        };
        let deadline = Instant::now() + patience;
        let mut drained = 0;
        while drained < MAX_DRAINED {
            let here = self.inbox.data().len();
            drained += here as u64;
            self.inbox.consume(here);
            if !matches!(
                self.fill(deadline, self.shared.limits.head_bytes),
                Ok(Filled::Some)
            ) {
                return;
            }
        }
    }
}

enum Filled {
    Some,
    /// The client will send no more.
    End,
    /// The deadline has passed.
    Late,
}

fn too_slow(part: &str) -> ApiError {
    let message = format!("the request's {part} took too long to arrive");
    ApiError::new(408, "request_timeout", message)
}

fn overloaded(error: io::Error) -> End {
    log::error!("a request could not be passed on: {error}");
    ApiError::overloaded().into()
}
