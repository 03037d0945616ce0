//! A small HTTP server for files: a thread a connection, a bound on connections, deadlines on
//! everything.
//!
//! tiny_http serves haul's own API, but cannot close a connection in the middle of an answer, which
//! is what a file that shrinks while it is sent needs, and copies in 8 KiB pieces; here the kernel
//! sends files straight from its cache.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::http::{HEAD_LIMIT, Request, end_of_head};
use crate::base::locks;

/// Connections at the same time: as many as the largest agent has workers, twice.
const CONNECTIONS: usize = 512;
/// A connection between two requests may be silent for this long.
const IDLE: Duration = Duration::from_secs(75);
/// A head must be whole this long after its first byte.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// A receiver may take nothing for this long.
const STALLED: Duration = Duration::from_secs(60);
/// After an error in accepting (no descriptors left, say) the next attempt is made when a
/// connection ends, or after this time.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// A connection's thread: heads and chunks are on the heap.
const STACK: usize = 256 * 1024;

type Handler = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: JoinHandle<()>,
}

struct Shared {
    listener: TcpListener,
    handler: Handler,
    stopping: AtomicBool,
    open: Mutex<HashMap<u64, Arc<TcpStream>>>,
    /// Told when a connection ends.
    closed: Condvar,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<TcpStream>>> {
        locks::lock(&self.open)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl Server {
    /// Starts to serve.
    ///
    /// # Errors
    /// The address is taken or not ours, or no thread can be started.
    pub fn start(
        listen: SocketAddr,
        handler: impl FnOnce(SocketAddr) -> Handler,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            listener,
            handler: handler(address),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            closed: Condvar::new(),
        });
        let acceptor = Builder::new()
            .name("share-accept".into())
            .stack_size(STACK)
            .spawn({
                let shared = shared.clone();
                move || accept(&shared)
            })?;
        Ok(Server {
            shared,
            address,
            acceptor,
        })
    }

    /// The address that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and waits for the threads, a few seconds at the most.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // On Linux this wakes the thread that waits in accept.
        if let Err(error) =
            rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Read)
        {
            log::debug!("closing the listening socket: {error}");
        }
        self.shared.closed.notify_all();
        if self.acceptor.join().is_err() {
            log::error!("the accepting thread panicked");
        }
        let open = self.shared.open();
        for socket in open.values() {
            // Where the other side was faster there is nothing to shut.
            let _ = socket.shutdown(Shutdown::Both);
        }
        let (open, _) = self
            .shared
            .closed
            .wait_timeout_while(open, Duration::from_secs(3), |open| !open.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if !open.is_empty() {
            log::warn!("{} connections did not end in time", open.len());
        }
    }
}

fn accept(shared: &Arc<Shared>) {
    let mut key = 0;
    loop {
        let accepted = shared.listener.accept();
        if shared.stopping() {
            return;
        }
        let started = accepted.and_then(|(socket, peer)| {
            key += 1;
            start_connection(shared, key, socket, peer)
        });
        if let Err(error) = started {
            log::warn!("cannot take a connection: {error}");
            let open = shared.open();
            drop(shared.closed.wait_timeout(open, ACCEPT_PAUSE));
        }
    }
}

fn start_connection(
    shared: &Arc<Shared>,
    key: u64,
    socket: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    let mut open = shared.open();
    if open.len() >= CONNECTIONS {
        log::debug!("refused a connection from {peer}: {CONNECTIONS} are open");
        return Ok(());
    }
    let socket = Arc::new(socket);
    open.insert(key, socket.clone());
    drop(open);
    let started = Builder::new()
        .name("share-connection".into())
        .stack_size(STACK)
        .spawn({
            let shared = shared.clone();
            move || {
                // A panic must not leave its connection in the list.
                let served = catch_unwind(AssertUnwindSafe(|| serve(&shared, &socket, peer)));
                match served {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => log::debug!("connection from {peer}: {error}"),
                    Err(_) => log::error!("connection from {peer}: a fault in haul"),
                }
                forget(&shared, key);
            }
        });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            forget(shared, key);
            Err(error)
        }
    }
}

fn forget(shared: &Shared, key: u64) {
    if let Some(socket) = shared.open().remove(&key) {
        // The other side may have closed it already.
        let _ = socket.shutdown(Shutdown::Both);
    }
    shared.closed.notify_all();
}

/// Answers request after request.
fn serve(shared: &Shared, socket: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(STALLED))?;
    let mut heads = Heads {
        socket,
        buffer: Vec::new(),
    };
    while let Some(head) = heads.next()? {
        let Some(request) = Request::parse(&head, peer) else {
            refuse(socket, peer)?;
            return linger(socket);
        };
        let answer = catch_unwind(AssertUnwindSafe(|| (shared.handler)(&request)))
            .unwrap_or_else(|_| Answer::error(500, "internal_error", "a fault in haul share"));
        let keep = request.keeps_alive() && !shared.stopping();
        answer.send(socket, &request, keep)?;
        if !keep {
            return linger(socket);
        }
    }
    Ok(())
}

fn refuse(socket: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    let any = Request::parse(b"GET / HTTP/1.1", peer).ok_or(io::ErrorKind::InvalidData)?;
    Answer::error(400, "invalid_request", "this is no HTTP/1.1 request").send(socket, &any, false)
}

/// Lets the other side read the answer: closing while its bytes are unread would reset the
/// connection.
fn linger(mut socket: &TcpStream) -> io::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut sink = [0; 4096];
    for _ in 0..16 {
        if socket.read(&mut sink)? == 0 {
            break;
        }
    }
    Ok(())
}

/// The heads that come on one connection.
struct Heads<'a> {
    socket: &'a TcpStream,
    /// What was read beyond the last head.
    buffer: Vec<u8>,
}

impl Heads<'_> {
    /// The next head; None if the other side has closed or said nothing for too long.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut deadline = None;
        let mut chunk = [0; 2048];
        loop {
            // Empty lines before a request are tolerated (RFC 9112, section 2.2).
            let blank = |byte: &&u8| matches!(**byte, b'\r' | b'\n');
            let skip = self.buffer.iter().take_while(blank).count();
            self.buffer.drain(..skip);
            if let Some((len, whole)) = end_of_head(&self.buffer) {
                let rest = self.buffer.split_off(whole);
                let mut head = std::mem::replace(&mut self.buffer, rest);
                head.truncate(len);
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Ok(Some(Vec::new()));
            }
            let wait = match deadline {
                None if self.buffer.is_empty() => IDLE,
                None => HEAD_DEADLINE,
                Some(deadline) => Instant::saturating_duration_since(&deadline, Instant::now()),
            };
            // Zero would mean no timeout at all.
            self.socket
                .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            let got = match self.socket.read(&mut chunk) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            if got == 0 {
                return Ok(None);
            }
            deadline.get_or_insert_with(|| Instant::now() + HEAD_DEADLINE);
            self.buffer.extend_from_slice(&chunk[..got]);
        }
    }
}
