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
#[cfg(test)]
mod tests;
mod wait;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use self::limits::Limits;
use self::registry::Registry;
use super::backend::Backend;

/// A connection's thread keeps its buffers on the heap.
const STACK: usize = 128 << 10;
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
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Written to when the accept thread is to end.
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// Takes connections from `listener` and passes their requests on to `backend`.
    ///
    /// # Errors
    /// The system is out of descriptors or threads.
    pub fn start(listener: TcpListener, backend: Backend, limits: Limits) -> io::Result<Gate> {
        let address = listener.local_addr()?;
        // A connection can go between poll and accept.
        listener.set_nonblocking(true)?;
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let shared = Arc::new(Shared {
            limits,
            backend,
            registry: Arc::default(),
        });
        let acceptor = Acceptor {
            listener,
            end: end.clone(),
            shared: shared.clone(),
            starved: false,
        };
        let thread = thread::Builder::new()
            .name("api-accept".into())
            .stack_size(STACK)
            .spawn(move || acceptor.run())?;
        Ok(Gate {
            address,
            shared,
            end,
            thread: Some(thread),
        })
    }

    /// The address that it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
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
    listener: TcpListener,
    end: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// Whether the last attempt failed for want of descriptors or memory.
    starved: bool,
}

impl Acceptor {
    fn run(mut self) {
        while self.wait(true, None) {
            if !self.make_room() {
                continue;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if std::mem::take(&mut self.starved) {
                        log::warn!("connections are accepted again");
                    }
                    self.serve(stream);
                }
                Err(error) if passes_by(&error) => {}
                Err(error) => self.wait_out(&error),
            }
        }
    }

    /// Waits for a connection where `listen`, and until the time has passed where there is one;
    /// false when the thread is to end.
    fn wait(&self, listen: bool, time: Option<Duration>) -> bool {
        let mut sources = vec![PollFd::new(&*self.end, PollFlags::IN)];
        if listen {
            sources.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let deadline = time.map(|time| Instant::now() + time);
        match wait::any(&mut sources, deadline) {
            Ok(_) => sources[0].revents().is_empty(),
            Err(error) => {
                log::error!("the API cannot wait for connections: {error}");
                thread::sleep(self.shared.limits.accept_pause);
                true
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

    fn serve(&self, stream: TcpStream) {
        let entry = self.shared.registry.enter(stream);
        let shared = self.shared.clone();
        let thread = thread::Builder::new()
            .name("api-client".into())
            .stack_size(STACK)
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
