//! The local REST API: HTTP and JSON around the agent and its board.
//!
//! A request passes the gate (limits, deadlines), tiny_http (the queue), the guard (who may
//! ask), and is read into a call, which the agent and the board answer. Calls that may take
//! long, and answers that may be read slowly, have threads of their own: reads never wait.
#![doc = include_str!("threats.md")]

mod answer;
mod attempts;
mod backend;
mod calls;
mod compress;
mod downloads;
mod error;
mod events;
mod fields;
mod gate;
mod guard;
mod health;
mod inbox;
mod inspect;
mod listing;
mod options;
mod packed;
mod page;
mod routes;
mod settings;
#[cfg(test)]
mod tests;
mod thread_pool;

use std::fmt;
use std::io::{self, Read};
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
use self::gate::socket::Listener;
use self::gate::tls::Certificate;
use self::guard::Guard;
use self::health::Tally;
use self::packed::OPENAPI;
use self::thread_pool::ThreadPool;
use crate::agent::Agent;
use crate::base::listen::{Address, TlsFiles};
use crate::base::secret::Secret;
use crate::base::system_words::words;
use crate::model::link::Origins;

/// POSTs of links at a time; each waits for the network, for 10 s at the most.
const CREATORS: usize = 64;
/// Pauses, resumes, deletions and changes of settings at a time; each waits for the disk.
const CHANGERS: usize = 16;
/// Bytes of an answer that surely fit into the socket's buffer, so that writing them does not
/// wait for the reader.
const SHORT_ANSWER: usize = 64 << 10;

/// What the API needs to know.
pub struct Config {
    pub listen: Vec<Address>,
    /// The number of the group that may open the Unix sockets; the agent's own if there is none.
    pub socket_group: Option<u32>,
    /// With these the TCP listeners speak TLS.
    pub tls: Option<TlsFiles>,
    /// Where the inner socket is put; nobody else may enter it.
    pub state_dir: PathBuf,
    /// Asked of every request, if there is one.
    pub token: Option<Secret>,
    /// The link hosts that are known.
    pub origins: Origins,
    /// What goes before every path; see [`crate::cli::Serve::base_path`].
    pub base_path: String,
}

/// Why the API cannot start.
#[derive(Debug)]
pub enum ApiStartError {
    /// The address is taken, or not ours.
    Listen(Address, io::Error),
    /// The certificate or its key cannot be used; the text says why.
    Certificate(String),
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
                "cannot listen on {address}: {}; choose another address with --listen",
                words(error)
            ),
            ApiStartError::Certificate(message) => f.write_str(message),
            ApiStartError::Inner(folder, error) => write!(
                f,
                "the API cannot be started with its socket in {}: {}",
                folder.display(),
                words(error)
            ),
            ApiStartError::Random => f.write_str("the system has no random numbers to give"),
        }
    }
}

impl std::error::Error for ApiStartError {}

/// The running API; dropping it stops it.
pub struct Server {
    service: Arc<Service>,
    hub: Arc<Hub>,
    gate: Gate,
    certificate: Option<Arc<Certificate>>,
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
        let certificate = config.tls.map(Certificate::read).transpose();
        let certificate = certificate
            .map_err(ApiStartError::Certificate)?
            .map(Arc::new);
        let bind = |address: &Address| {
            Listener::bind(address, certificate.as_ref(), config.socket_group)
                .map_err(|error| ApiStartError::Listen(address.clone(), error))
        };
        let listeners: Vec<_> = config.listen.iter().map(bind).collect::<Result<_, _>>()?;
        let own = listeners.iter().filter_map(Listener::tcp_address);
        let own: Vec<_> = own.map(|address| address.ip()).collect();
        let guard = Guard::new(own, config.token.as_ref()).map_err(|_| ApiStartError::Random)?;
        let service = Arc::new(Service::new(
            &limits,
            guard,
            config.origins,
            config.base_path,
            agent,
        ));
        let hub = service.hub.clone();
        let handling = service.clone();
        let handler: Handler = Arc::new(move |request| handling.handle(request));
        let inner = |error| ApiStartError::Inner(config.state_dir.clone(), error);
        let backend = Backend::start(&config.state_dir, handler).map_err(inner)?;
        let gate = Gate::start(listeners, backend, limits).map_err(inner)?;
        Ok(Server {
            service,
            hub,
            gate,
            certificate,
        })
    }

    /// The first TCP address that it listens on, with the real port.
    #[cfg(test)]
    pub fn address(&self) -> std::net::SocketAddr {
        self.gate.address()
    }

    /// Where it listens, as a client would write it.
    pub fn urls(&self) -> &[String] {
        self.gate.urls()
    }

    /// What goes before every path; empty if nothing does.
    pub fn base_path(&self) -> &str {
        &self.service.base_path
    }

    /// Reads the certificate and its key again, where there are any. Those that cannot be used
    /// change nothing.
    pub fn reload(&self) {
        let Some(certificate) = &self.certificate else {
            return;
        };
        match certificate.reload() {
            Ok(()) => log::info!("the certificate was read again"),
            Err(error) => log::error!("the certificate stays as it was: {error}"),
        }
    }

    /// Asks for another token from now on.
    ///
    /// # Errors
    /// A text for the log: the system has no random numbers to give.
    pub fn change_token(&self, token: &Secret) -> Result<(), String> {
        self.service
            .guard
            .change_token(token)
            .map_err(|_| ApiStartError::Random.to_string())
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
    base_path: String,
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
    fn new(
        limits: &Limits,
        guard: Guard,
        origins: Origins,
        base_path: String,
        agent: Arc<dyn Agent>,
    ) -> Service {
        // They stay for long: half of the connections are left to those who only ask.
        let most_streams = (limits.connections / 4).max(1);
        Service {
            guard,
            hub: Hub::new(agent.clone()),
            agent,
            origins,
            base_path,
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
        if self.is_bare_base(request.url()) {
            let answer = Answer::redirect(&format!("{}/", self.base_path));
            return self.respond(request, answer);
        }
        let call = match guarded(|| self.read(&mut request)) {
            Ok(call) => call,
            Err(error) => return self.respond(request, error.into()),
        };
        let pool = match &call {
            Call::Create(_) | Call::Inspect { .. } => &self.creators,
            Call::Pause(_)
            | Call::Resume(_)
            | Call::Verify(_)
            | Call::ChangeAll { .. }
            | Call::SetPriority { .. }
            | Call::Delete { .. }
            | Call::ChangeSettings(_) => &self.changers,
            // Looks at every file of the package: others are not to wait for it.
            Call::Details { wait: 0, files, .. } if files.is_choice() => &self.writers,
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

    /// Whether enough wait for a thread of this pool. Each of them holds a connection, and a crowd
    /// would hold all that there are.
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
            target: self.below_base(request.url()),
            whole_target: request.url(),
            content_type: field(request, "Content-Type"),
            last_event_id: field(request, "Last-Event-ID"),
            body: &body,
        })
    }

    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        let (host, origin) = (field(request, "Host"), field(request, "Origin"));
        if field(request, guard::LOCAL_FIELD).is_some() {
            return self.guard.check_origin(host, origin);
        }
        self.guard.check_site(host, origin)?;
        if routes::is_public(self.below_base(request.url())) {
            return Ok(());
        }
        let from = field(request, guard::PEER_FIELD).and_then(|text| text.parse().ok());
        self.guard
            .check_token(field(request, "Authorization"), from)
    }

    /// The target below the base path. What is not below it is no path of ours, and is found
    /// nowhere.
    fn below_base<'a>(&self, target: &'a str) -> &'a str {
        let below = target.strip_prefix(self.base_path.as_str());
        below.filter(|below| below.starts_with('/')).unwrap_or("")
    }

    /// Whether the base path itself was asked for, whose page is one slash further: its addresses
    /// are relative to that.
    fn is_bare_base(&self, target: &str) -> bool {
        !self.base_path.is_empty() && target == self.base_path
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
            Call::OpenApi => Ok(Answer::json(200, OPENAPI.text().into())),
            Call::Events { after } => {
                events::answer(&self.hub, after).map_err(|_| ApiError::overloaded())
            }
            Call::List(which) => Ok(downloads::list(agent.board(), &which)),
            Call::Details { id, wait, files } => {
                downloads::details(&self.hub, agent, &id, wait, files)
            }
            Call::Create(new) => downloads::create(new, agent, &self.origins, &self.base_path),
            Call::Pause(id) => Ok(downloads::summary(200, &*agent.pause(&id)?)),
            Call::Resume(id) => Ok(downloads::summary(200, &*agent.resume(&id)?)),
            Call::Verify(id) => Ok(downloads::summary(202, &*agent.verify(&id)?)),
            Call::ChangeAll { from, to } => {
                Ok(downloads::changed(to, &agent.change_all(&from, to)?))
            }
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
        let gzip = compress::is_accepted(field(&request, "Accept-Encoding"));
        let answer = compress::compress(answer, gzip);
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
