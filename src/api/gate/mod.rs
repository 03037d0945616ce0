//! The gate: everything that clients can do to a connection ends here.
//!
//! tiny_http has no timeouts, no bound on connections, no TCP_NODELAY, does not survive an
//! error of `accept`, and allocates whatever length a dropped request claims. So the gate
//! accepts, reads each request whole within its limits, and passes it on, written anew, over
//! a Unix socket; the answer goes back by its framing. What the gate refuses it answers itself.

mod chunked;
mod connection;
mod fields;
mod head;
pub mod limits;
mod registry;
mod relay;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
mod wait;

use std::io;
#[cfg(test)]
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use self::limits::Limits;
use self::registry::Registry;
use self::socket::{Door, Listener, Socket};
use super::backend::Backend;

/// A connection's thread keeps its buffers on the heap.
const STACK: usize = 128 << 10;
/// A handshake takes more.
const TLS_STACK: usize = 512 << 10;
/// How long the accept thread waits for room at a time, so that it notices a stop.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// How long closed connections may take to be gone.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

struct Shared {
    limits: Limits,
    backend: Backend,
    registry: Arc<Registry>,
}

/// The listener before the HTTP server, with the thread that accepts.
pub struct Gate {
    #[cfg(test)]
    address: Option<SocketAddr>,
    urls: Vec<String>,
    shared: Arc<Shared>,
    /// Written to when the accept thread is to end.
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// Takes connections from the listeners and passes their requests on to `backend`.
    ///
    /// # Errors
    /// The system is out of descriptors or threads.
    pub fn start(listeners: Vec<Listener>, backend: Backend, limits: Limits) -> io::Result<Gate> {
        #[cfg(test)]
        let address = listeners.iter().find_map(Listener::tcp_address);
        let urls = listeners.iter().map(Listener::url).collect();
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let shared = Arc::new(Shared {
            limits,
            backend,
            registry: Arc::default(),
        });
        let acceptor = Acceptor {
            listeners,
            end: end.clone(),
            shared: shared.clone(),
            starved: false,
        };
        let thread = thread::Builder::new()
            .name("api-accept".into())
            .stack_size(STACK)
            .spawn(move || acceptor.run())?;
        Ok(Gate {
            #[cfg(test)]
            address,
            urls,
            shared,
            end,
            thread: Some(thread),
        })
    }

    /// The first TCP address that it listens on, with the real port.
    #[cfg(test)]
    pub fn address(&self) -> SocketAddr {
        self.address.expect("tests listen on TCP")
    }

    /// Where it listens, as a client would write it.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Refuses further requests, waits for the answers under way, closes everything.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let started = Instant::now();
        let patience = self.shared.limits.stop_time;
        let registry = &self.shared.registry;
        registry.stop(patience);
        if let Err(error) = rustix::io::write(&*self.end, &1_u64.to_ne_bytes()) {
            log::error!("the API's accept thread could not be woken: {error}");
            return;
        }
        if thread.join().is_err() {
            log::error!("the API's accept thread panicked");
        }
        // Those that were accepted in between.
        registry.stop(Duration::ZERO);
        registry.wait_empty(patience.saturating_sub(started.elapsed()) + CLOSE_WAIT);
        self.shared.backend.close();
    }

    #[cfg(test)]
    fn connections(&self) -> usize {
        self.shared.registry.len()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Acceptor {
    listeners: Vec<Listener>,
    end: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// Whether the last attempt failed for want of descriptors or memory.
    starved: bool,
}

impl Acceptor {
    fn run(mut self) {
        let mut next = 0;
        while let Some(ready) = self.wait(true, None) {
            if !self.make_room() {
                continue;
            }
            // One connection at a time, from each listener in its turn.
            let count = self.listeners.len();
            let places = (0..count).map(|at| (next + at) % count);
            let Some(at) = places.into_iter().find(|&at| ready.contains(&at)) else {
                continue;
            };
            next = at + 1;
            match self.listeners[at].accept() {
                Ok(stream) => {
                    if std::mem::take(&mut self.starved) {
                        log::warn!("connections are accepted again");
                    }
                    self.serve(stream, self.listeners[at].door.clone());
                }
                Err(error) if passes_by(&error) => {}
                Err(error) => self.wait_out(&error),
            }
        }
    }

    /// Waits for a connection where `listen`, and until the time has passed if there is one: the
    /// listeners that have one. None when the thread is to end.
    fn wait(&self, listen: bool, time: Option<Duration>) -> Option<Vec<usize>> {
        let mut sources = vec![PollFd::new(&*self.end, PollFlags::IN)];
        if listen {
            let listeners = self.listeners.iter();
            sources.extend(listeners.map(|one| PollFd::new(one, PollFlags::IN)));
        }
        let deadline = time.map(|time| Instant::now() + time);
        match wait::any(&mut sources, deadline) {
            Ok(_) if !sources[0].revents().is_empty() => None,
            Ok(_) => {
                let ready = sources.iter().skip(1).map(|one| !one.revents().is_empty());
                Some(
                    ready
                        .enumerate()
                        .filter_map(|(at, is)| is.then_some(at))
                        .collect(),
                )
            }
            Err(error) => {
                log::error!("the API cannot wait for connections: {error}");
                thread::sleep(self.shared.limits.accept_pause);
                Some(Vec::new())
            }
        }
    }

    fn make_room(&self) -> bool {
        let limits = &self.shared.limits;
        let registry = &self.shared.registry;
        registry.make_room(limits.connections, limits.grace, ROOM_WAIT)
    }

    /// Out of descriptors or memory: a connection that does nothing is given up for the next
    /// attempt, which waits a moment.
    fn wait_out(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.starved, true) {
            log::error!("no connection can be accepted for now: {error}");
        }
        self.shared.registry.evict_one();
        self.wait(false, Some(self.shared.limits.accept_pause));
    }

    fn serve(&self, stream: Socket, door: Door) {
        let stack = match door {
            Door::Tls(_) => TLS_STACK,
            Door::Plain | Door::Local => STACK,
        };
        let entry = self.shared.registry.enter(stream, door);
        let shared = self.shared.clone();
        let thread = thread::Builder::new()
            .name("api-client".into())
            .stack_size(stack)
            .spawn(move || connection::serve(&shared, &entry.0));
        if let Err(error) = thread {
            log::error!("a connection was closed for want of a thread: {error}");
        }
    }
}

/// Errors of `accept` that concern one connection only, or nothing at all (accept(2)).
fn passes_by(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}
