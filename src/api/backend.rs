//! tiny_http behind the gate, on a Unix socket, and the connections to it.
//!
//! tiny_http's accept loop ends for good when the system is out of descriptors or threads.
//! A generation is one such server with its threads; when a connection cannot be made any
//! more the next generation takes over, and the old one answers what it has and goes.
//!
//! Its pool of threads counts a thread as free until that thread has woken up: of two
//! connections that come close together, the second may be left lying until the first one
//! ends. So connections are made one after the other, each proved to be served by a probe.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::inbox::Inbox;
use crate::base::locks;

/// Answers a request. It must not block: there are [`HANDLERS`] threads for all of them.
pub type Handler = Arc<dyn Fn(tiny_http::Request) + Send + Sync>;

/// Threads that take requests off tiny_http's queue.
const HANDLERS: usize = 2;
/// Rendering a summary's list is the deepest thing that they do.
const HANDLER_STACK: usize = 512 << 10;
/// Connections that are kept for the next request.
const MAX_IDLE: usize = 16;
/// First size of a connection's read buffer, bytes.
pub const UPSTREAM_BUFFER: usize = 16 << 10;
/// Bytes of a Unix socket's path that fit into `sun_path`, its NUL aside.
const MAX_PATH: usize = 107;
/// What a probe asks for; no client's target passes the gate without a slash or a star.
const PROBE: &str = "probe";
const PROBE_REQUEST: &[u8] = b"GET probe HTTP/1.1\r\n\r\n";
/// Not even HTTP: the probe is between the two ends in this file.
const PROBE_ANSWER: &[u8] = b"served";
/// How long a probe may take, far more than a loaded machine needs.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// The tiny_http server behind the gate, and its threads.
pub struct Backend {
    folder: Folder,
    handler: Handler,
    state: Mutex<State>,
    /// Held while a connection is being made.
    connecting: Mutex<()>,
}

struct State {
    /// None once it is closed.
    current: Option<Arc<Generation>>,
    number: u64,
    idle: Vec<Upstream>,
}

/// A connection to tiny_http, good for one request at a time.
pub struct Upstream {
    pub stream: UnixStream,
    pub inbox: Inbox,
    generation: Arc<Generation>,
}

impl Backend {
    /// Starts the first generation, with its socket in `state_dir` or, where no socket can
    /// be there, in a folder of its own under the temporary one.
    ///
    /// # Errors
    /// The socket or the threads cannot be made.
    pub fn start(state_dir: &Path, handler: Handler) -> io::Result<Backend> {
        let mut folder = Folder::choose(state_dir)?;
        let mut current = Generation::start(&folder, 1, &handler);
        if current.is_err() && !folder.ours {
            // Not every file system has sockets: exFAT, some network shares.
            folder = Folder::make()?;
            current = Generation::start(&folder, 1, &handler);
        }
        let current = current.inspect_err(|_| folder.remove())?;
        let current = Arc::new(current);
        let state = Mutex::new(State {
            current: Some(current),
            number: 1,
            idle: Vec::new(),
        });
        Ok(Backend {
            folder,
            handler,
            state,
            connecting: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locks::lock(&self.state)
    }

    /// An idle connection, or a new one.
    ///
    /// # Errors
    /// As for [`Backend::connect`].
    pub fn take(&self) -> io::Result<Upstream> {
        let idle = self.lock().idle.pop();
        idle.map_or_else(|| self.connect(), Ok)
    }

    /// Gives back a connection whose answer was read to its end.
    pub fn give_back(&self, upstream: Upstream) {
        let mut state = self.lock();
        if state.is_current(&upstream.generation) && state.idle.len() < MAX_IDLE {
            state.idle.push(upstream);
        } else {
            // Hanging up can end a whole generation, which takes a moment.
            drop(state);
        }
    }

    /// A new connection; where nobody serves it, to the next generation.
    ///
    /// # Errors
    /// The system is out of descriptors, memory or threads.
    fn connect(&self) -> io::Result<Upstream> {
        let _one_at_a_time = locks::lock(&self.connecting);
        let generation = self.lock().current.clone().ok_or_else(closed)?;
        match generation.connect() {
            Err(error) if is_unserved(&error) => {
                log::warn!("the API's inner server is started anew: {error}");
                self.renew(&generation)?.connect()
            }
            result => result,
        }
    }

    fn renew(&self, dead: &Arc<Generation>) -> io::Result<Arc<Generation>> {
        let mut state = self.lock();
        if !state.is_current(dead) {
            return state.current.clone().ok_or_else(closed);
        }
        let number = state.number + 1;
        let next = Arc::new(Generation::start(&self.folder, number, &self.handler)?);
        state.number = number;
        let old = state.current.replace(next.clone());
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop((idle, old));
        Ok(next)
    }

    /// Ends the server once its connections have gone, and removes its socket.
    pub fn close(&self) {
        let mut state = self.lock();
        let idle = std::mem::take(&mut state.idle);
        let current = state.current.take();
        drop(state);
        drop(idle);
        let Some(current) = current else { return };
        let path = current.path.clone();
        drop(current);
        // Somebody may hold a connection still, and the server with it.
        remove_socket(&path);
        self.folder.remove();
    }

    #[cfg(test)]
    pub fn socket(&self) -> PathBuf {
        let state = self.lock();
        state.current.as_ref().unwrap().path.clone()
    }
}

impl State {
    fn is_current(&self, generation: &Arc<Generation>) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, generation))
    }
}

/// Whether the error says that nobody serves connections there, rather than that the system
/// has none to give.
fn is_unserved(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotFound
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::TimedOut
            | io::ErrorKind::WouldBlock
    )
}

fn closed() -> io::Error {
    io::Error::other("the API has been closed")
}

fn remove_socket(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("{} could not be removed: {error}", path.display());
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where the sockets lie.
struct Folder {
    path: PathBuf,
    /// Whether it was made for the sockets alone.
    ours: bool,
}

impl Folder {
    fn choose(state_dir: &Path) -> io::Result<Folder> {
        let longest = socket_path(state_dir, u64::MAX);
        if longest.as_os_str().len() <= MAX_PATH {
            return Ok(Folder {
                path: state_dir.to_owned(),
                ours: false,
            });
        }
        Folder::make()
    }

    /// A new folder under the temporary one.
    fn make() -> io::Result<Folder> {
        let mut name = [0; 8];
        SystemRandom::new()
            .fill(&mut name)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let name = format!("haul-{:016x}", u64::from_ne_bytes(name));
        let path = std::env::temp_dir().join(name);
        // Fails where it exists, so that nobody else can have made it.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder { path, ours: true })
    }

    /// Removes the folder if it was made here; the sockets are gone by then.
    fn remove(&self) {
        if self.ours
            && let Err(error) = fs::remove_dir(&self.path)
        {
            log::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

fn socket_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("api-{number}.sock"))
}

/// One tiny_http server with the threads that answer for it.
struct Generation {
    path: PathBuf,
    server: Option<Arc<tiny_http::Server>>,
    ended: Arc<AtomicBool>,
    handlers: Vec<JoinHandle<()>>,
}

impl Generation {
    fn start(folder: &Folder, number: u64, handler: &Handler) -> io::Result<Generation> {
        let path = socket_path(&folder.path, number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        // It panics where no thread can be started.
        let server = catch_unwind(AssertUnwindSafe(|| {
            tiny_http::Server::from_listener(listener, None)
        }))
        .map_err(|_| io::Error::other("no thread could be started"))?
        .map_err(io::Error::other)?;
        let mut generation = Generation {
            path,
            server: Some(Arc::new(server)),
            ended: Arc::default(),
            handlers: Vec::with_capacity(HANDLERS),
        };
        for _ in 0..HANDLERS {
            let thread = generation.spawn_handler(handler.clone())?;
            generation.handlers.push(thread);
        }
        Ok(generation)
    }

    fn spawn_handler(&self, handler: Handler) -> io::Result<JoinHandle<()>> {
        let server = self.server.clone();
        let ended = self.ended.clone();
        thread::Builder::new()
            .name("api".into())
            .stack_size(HANDLER_STACK)
            .spawn(move || {
                let Some(server) = server else { return };
                handle(&server, &ended, &handler);
            })
    }

    fn connect(self: &Arc<Generation>) -> io::Result<Upstream> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PROBE_TIME))?;
        stream.write_all(PROBE_REQUEST)?;
        let mut answer = [0; PROBE_ANSWER.len()];
        stream.read_exact(&mut answer)?;
        if answer != PROBE_ANSWER {
            return Err(io::Error::other("the probe's answer is wrong"));
        }
        stream.set_read_timeout(None)?;
        Ok(Upstream {
            stream,
            inbox: Inbox::new(UPSTREAM_BUFFER),
            generation: self.clone(),
        })
    }
}

fn answer_probe(request: tiny_http::Request) -> io::Result<()> {
    let mut writer = request.into_writer();
    writer.write_all(PROBE_ANSWER)?;
    writer.flush()
}

fn handle(server: &tiny_http::Server, ended: &AtomicBool, handler: &Handler) {
    loop {
        match server.recv() {
            Ok(request) if request.url() == PROBE => {
                if let Err(error) = answer_probe(request) {
                    log::debug!("a probe of the API's inner server was given up: {error}");
                }
            }
            Ok(request) => {
                // tiny_http answers 500 for a request that is dropped.
                if catch_unwind(AssertUnwindSafe(|| handler(request))).is_err() {
                    log::error!("answering a request panicked");
                }
            }
            Err(_) if ended.load(Ordering::Acquire) => return,
            Err(error) => log::error!("the API's inner server: {error}"),
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(server) = self.server.take() {
            for _ in &self.handlers {
                server.unblock();
            }
            for handler in self.handlers.drain(..) {
                if handler.join().is_err() {
                    log::error!("a thread of the API panicked");
                }
            }
            // Now the last holder: it wakes its accept thread through the socket's path, and
            // removes the path.
            drop(server);
        }
        remove_socket(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_socket_can_be_it_is_put_elsewhere() {
        // No user can put files into proc(5).
        let backend = Backend::start(Path::new("/proc"), Arc::new(|_| {})).unwrap();
        assert!(backend.folder.ours);
        assert!(backend.folder.path.is_dir());
        let path = backend.folder.path.clone();
        backend.close();
        drop(backend);
        assert!(!path.exists());
    }
}
