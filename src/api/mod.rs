//! The local REST API: HTTP and JSON around the agent and its board.
//!
//! A request passes the gate (limits, deadlines), tiny_http (the queue), the guard (who may
//! ask), and is read into a call, which the agent and the board answer. Calls that may take
//! long, and answers that may be read slowly, have threads of their own: reads never wait.

mod answer;
mod backend;
mod calls;
mod downloads;
mod error;
mod events;
mod fields;
mod gate;
mod guard;
mod health;
mod inspect;
mod options;
mod page;
mod routes;
mod settings;
#[cfg(test)]
mod tests;
mod thread_pool;

use std::fmt;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use tiny_http::{Method, Request};

use self::answer::Answer;
use self::backend::{Backend, Handler};
use self::calls::{Asked, Call};
use self::error::ApiError;
use self::events::Hub;
use self::gate::Gate;
use self::gate::limits::Limits;
use self::guard::Guard;
use self::health::Tally;
use self::thread_pool::ThreadPool;
use crate::agent::Agent;
use crate::model::board::Secret;
use crate::model::link::Origins;

/// POSTs of links at a time; each waits for the network, for 10 s at the most.
const CREATORS: usize = 64;
/// Pauses, resumes, deletions and changes of settings at a time; each waits for the disk.
const CHANGERS: usize = 16;
/// The description of the API for machines.
const OPENAPI: &str = include_str!("openapi.json");
/// Bytes of an answer that surely fit into the socket's buffer, so that writing them does not
/// wait for the reader.
const SHORT_ANSWER: usize = 64 << 10;

/// What the API needs to know.
pub struct Config {
    /// Port 0 stands for any free one.
    pub listen: SocketAddr,
    /// Where the inner socket is put; nobody else may enter it.
    pub state_dir: PathBuf,
    /// Asked of every request, where there is one.
    pub token: Option<Secret>,
    /// The link hosts that are known.
    pub origins: Origins,
}

/// Why the API cannot start.
#[derive(Debug)]
pub enum ApiStartError {
    /// The address is taken, or not ours.
    Listen(SocketAddr, io::Error),
    /// The inner socket or a thread cannot be made.
    Inner(PathBuf, io::Error),
    /// The system has no random numbers for comparing tokens.
    Random,
}

impl fmt::Display for ApiStartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiStartError::Listen(address, error) => write!(
                f,
                "cannot listen on {address}: {error}; choose another address with --listen"
            ),
            ApiStartError::Inner(folder, error) => write!(
                f,
                "the API cannot be started with its socket in {}: {error}",
                folder.display()
            ),
            ApiStartError::Random => f.write_str("the system has no random numbers to give"),
        }
    }
}

impl std::error::Error for ApiStartError {}

/// The running API; dropping it stops it.
pub struct Server {
    hub: Arc<Hub>,
    gate: Gate,
}

impl Server {
    /// Starts the API; it listens when this returns.
    ///
    /// # Errors
    /// See [`ApiStartError`].
    pub fn start(config: Config, agent: Arc<dyn Agent>) -> Result<Server, ApiStartError> {
        Server::start_within(Limits::default(), config, agent)
    }

    fn start_within(
        limits: Limits,
        config: Config,
        agent: Arc<dyn Agent>,
    ) -> Result<Server, ApiStartError> {
        let listen = |error| ApiStartError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        let guard = Guard::new(config.listen.ip(), config.token.as_ref())
            .map_err(|_| ApiStartError::Random)?;
        let service = Arc::new(Service::new(&limits, guard, config.origins, agent));
        let hub = service.hub.clone();
        let handler: Handler = Arc::new(move |request| service.handle(request));
        let inner = |error| ApiStartError::Inner(config.state_dir.clone(), error);
        let backend = Backend::start(&config.state_dir, handler).map_err(inner)?;
        let gate = Gate::start(listener, backend, limits).map_err(inner)?;
        Ok(Server { hub, gate })
    }

    /// The address that it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// Stops the API: what still arrives gets `shutting_down`, answers under way have two
    /// seconds, then every connection is closed and the inner socket removed.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Streams and long polls end by this; nobody has to be waited for.
        self.hub.close();
        self.gate.stop();
    }
}

/// Answers requests.
struct Service {
    guard: Guard,
    agent: Arc<dyn Agent>,
    origins: Origins,
    body_bytes: u64,
    hub: Arc<Hub>,
    tally: Tally,
    creators: ThreadPool,
    changers: ThreadPool,
    writers: ThreadPool,
    /// Event streams, one thread each.
    streams: ThreadPool,
    most_streams: usize,
    /// Long polls, one thread each.
    waiters: ThreadPool,
}

impl Service {
    fn new(limits: &Limits, guard: Guard, origins: Origins, agent: Arc<dyn Agent>) -> Service {
        // They stay for long: half of the connections are left to those who only ask.
        let most_streams = (limits.connections / 4).max(1);
        Service {
            guard,
            hub: Hub::new(agent.clone()),
            agent,
            origins,
            body_bytes: limits.body_bytes as u64,
            tally: Tally::new(),
            creators: ThreadPool::new("api-create", CREATORS),
            changers: ThreadPool::new("api-change", CHANGERS),
            writers: ThreadPool::new("api-write", limits.connections),
            streams: ThreadPool::new("api-events", most_streams),
            most_streams,
            waiters: ThreadPool::new("api-wait", most_streams),
        }
    }

    fn handle(self: &Arc<Service>, mut request: Request) {
        let call = match guarded(|| self.read(&mut request)) {
            Ok(call) => call,
            Err(error) => return self.respond(request, error.into()),
        };
        let pool = match &call {
            Call::Create(_) | Call::Inspect { .. } => &self.creators,
            Call::Pause(_)
            | Call::Resume(_)
            | Call::SetPriority { .. }
            | Call::Delete { .. }
            | Call::ChangeSettings(_) => &self.changers,
            Call::Details { wait: 1.., .. } => {
                if self.is_crowded(&self.waiters) {
                    return self.respond(request, ApiError::crowded().into());
                }
                &self.waiters
            }
            Call::Events { .. } => {
                if self.streams.queue().is_some() {
                    // Those whose readers have gone make room.
                    self.hub.knock();
                }
                if self.is_crowded(&self.streams) {
                    return self.respond(request, ApiError::crowded().into());
                }
                &self.streams
            }
            _ => return self.respond(request, self.perform(call)),
        };
        let service = self.clone();
        // The thread is for this request alone, and may wait for its reader.
        pool.run(Box::new(move || {
            let answer = service.perform(call);
            service.send(request, answer);
        }));
    }

    /// Whether enough wait for a thread of this pool. Each of them holds a connection, and a crowd would hold all that there are.
    fn is_crowded(&self, pool: &ThreadPool) -> bool {
        let most = (self.most_streams / 2).max(1);
        pool.queue().is_some_and(|waiting| waiting >= most)
    }

    /// Checks who asks, and reads what for.
    fn read(&self, request: &mut Request) -> Result<Call, ApiError> {
        let mut body = Vec::new();
        self.admit(request)?;
        if request.body_length().is_some_and(|length| length > 0) {
            let mut reader = request.as_reader().take(self.body_bytes);
            reader
                .read_to_end(&mut body)
                .map_err(|_| ApiError::internal())?;
        }
        calls::read(Asked {
            method: request.method().as_str(),
            target: request.url(),
            content_type: field(request, "Content-Type"),
            last_event_id: field(request, "Last-Event-ID"),
            body: &body,
        })
    }

    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        self.guard
            .check_site(field(request, "Host"), field(request, "Origin"))?;
        if routes::is_public(request.url()) {
            return Ok(());
        }
        self.guard.check_token(field(request, "Authorization"))
    }

    fn perform(&self, call: Call) -> Answer {
        guarded(|| self.answer(call)).unwrap_or_else(Answer::from)
    }

    fn answer(&self, call: Call) -> Result<Answer, ApiError> {
        let agent = &*self.agent;
        match call {
            Call::Page => Ok(page::answer()),
            Call::Metrics => Ok(health::metrics(agent, &self.tally, self.hub.watchers())),
            Call::Index => Ok(Answer::json(200, routes::index())),
            Call::Health => Ok(health::health(agent, &self.tally)),
            Call::OpenApi => Ok(Answer::json(200, OPENAPI.into())),
            Call::Events { after } => {
                events::answer(&self.hub, after).map_err(|_| ApiError::overloaded())
            }
            Call::List(states) => Ok(downloads::list(agent.board(), states.as_deref())),
            Call::Details { id, wait } => downloads::details(&self.hub, agent, &id, wait),
            Call::Create(new) => downloads::create(new, agent, &self.origins),
            Call::Pause(id) => Ok(downloads::summary(200, &*agent.pause(&id)?)),
            Call::Resume(id) => Ok(downloads::summary(200, &*agent.resume(&id)?)),
            Call::Delete {
                which,
                remove_files,
            } => Ok(downloads::answer(&agent.delete(which, remove_files)?)),
            Call::SetPriority { id, priority } => Ok(downloads::summary(
                200,
                &*agent.set_priority(&id, priority)?,
            )),
            Call::Inspect { url, password } => {
                let link = self.origins.parse(url.reveal())?;
                inspect::answer(self.agent.clone(), link, password)
            }
            Call::Settings => Ok(downloads::answer(&agent.settings())),
            Call::ChangeSettings(said) => Ok(downloads::answer(&agent.change_settings(said)?)),
        }
    }

    /// Writes the answer; a long one from another thread, since its reader may be slow.
    fn respond(self: &Arc<Service>, request: Request, answer: Answer) {
        let short = answer.length().is_some_and(|length| length <= SHORT_ANSWER);
        if short {
            self.send(request, answer);
        } else {
            let service = self.clone();
            self.writers
                .run(Box::new(move || service.send(request, answer)));
        }
    }

    fn send(&self, request: Request, answer: Answer) {
        self.tally.count(answer.status);
        let head_only = *request.method() == Method::Head;
        if let Err(error) = answer.send(head_only, &mut request.into_writer()) {
            log::debug!("an answer was not read: {error}");
        }
    }
}

/// The value of the header field of that name.
fn field<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    let mut headers = request.headers().iter();
    let header = headers.find(|header| header.field.equiv(name))?;
    Some(header.value.as_str())
}

/// Turns a panic into an answer.
fn guarded<T>(work: impl FnOnce() -> Result<T, ApiError>) -> Result<T, ApiError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        log::error!("answering a request panicked");
        Err(ApiError::internal())
    })
}
