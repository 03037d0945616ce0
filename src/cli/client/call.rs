//! One call to a running agent's API, and what can go wrong with it.

use std::fmt;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::{Method, Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, AsSendBody, Body};

use super::unix::UnixConnector;
use crate::base::secret::Secret;
use crate::base::system_words::words;
use crate::base::url::Url;
use crate::cli::human;
use crate::cli::{self, Ask};
use crate::upstream::{Unresolved, trust};

/// A POST may wait for the link's server for 10 s, a long poll for 30.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What takes longer is said to.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers are read this far, in bytes: a million files and their errors fit.
const MAX_ANSWER: u64 = 1 << 30;

/// Why there is no answer that could be used. Each text is for a user.
#[derive(Debug)]
pub enum CallError {
    /// Nothing can be asked like that.
    Usage(String),
    /// The API says no.
    Api { status: u16, message: String },
    /// No agent there, or not an agent.
    Server(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Usage(text) | CallError::Server(text) => f.write_str(text),
            CallError::Api { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for CallError {}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Deserialize)]
struct ErrorFields {
    #[serde(default)]
    code: String,
    message: String,
}

/// A running agent.
pub struct Server {
    agent: Agent,
    /// As it was given.
    base: String,
    /// What URLs begin with.
    root: String,
    token: Option<Secret>,
}

impl Server {
    /// # Errors
    /// The token cannot be read.
    pub fn of(ask: &Ask) -> Result<Server, CallError> {
        let token = ask
            .token_file
            .as_deref()
            .map(cli::read_token)
            .transpose()
            .map_err(CallError::Usage)?;
        let given = ask.ca_file.as_deref().map(trust::read).transpose();
        let given = given.map_err(CallError::Usage)?.unwrap_or_default();
        let tls = trust::local(&given).unwrap_or_else(trust::bundled);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // An agent on this machine or in this house: no proxy knows it.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
            .build();
        let base = ask.server.strip_suffix("/api/v1").unwrap_or(&ask.server);
        let (agent, root) = match base.strip_prefix("unix:") {
            Some(path) => (
                Agent::with_parts(config, UnixConnector(path.into()), Unresolved),
                "http://localhost",
            ),
            None => {
                let connector = TcpConnector::default().chain(tls);
                let agent = Agent::with_parts(config, connector, DefaultResolver::default());
                (agent, base)
            }
        };
        Ok(Server {
            agent,
            base: base.to_owned(),
            root: root.to_owned(),
            token,
        })
    }

    /// The agent's base, as it was given.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET, read as JSON.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.read(self.send(Method::GET, path, (), Some(TIMEOUT))?)
    }

    /// GET, written to `out` as it is, with a newline at its end.
    pub fn copy(&self, path: &str, out: &mut dyn io::Write) -> Result<(), CallError> {
        let answer = self.send(Method::GET, path, (), Some(TIMEOUT))?;
        // Reading and writing fail alike here; of a closed stdout the caller has no more to say.
        io::copy(&mut reader(answer), out)
            .and_then(|_| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(|error| self.broken(&error))
    }

    /// POST of JSON, the answer written to `out` as it is, with a newline at its end.
    pub fn post_copy(
        &self,
        path: &str,
        body: &impl Serialize,
        out: &mut dyn io::Write,
    ) -> Result<(), CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Usage(error.to_string()))?;
        let answer = self.send(Method::POST, path, &body[..], Some(TIMEOUT))?;
        io::copy(&mut reader(answer), out)
            .and_then(|_| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(|error| self.broken(&error))
    }

    /// POST without a body.
    pub fn act<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.read(self.send(Method::POST, path, (), Some(TIMEOUT))?)
    }

    /// PUT of JSON.
    pub fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Usage(error.to_string()))?;
        self.read(self.send(Method::PUT, path, &body[..], Some(TIMEOUT))?)
    }

    /// POST of JSON.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Usage(error.to_string()))?;
        self.read(self.send(Method::POST, path, &body[..], Some(TIMEOUT))?)
    }

    /// DELETE, which answers once everything is gone, however long that takes.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.read(self.send(Method::DELETE, path, (), None)?)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: impl AsSendBody,
        timeout: Option<Duration>,
    ) -> Result<Response<Body>, CallError> {
        let request = self.request(method, path, body, timeout)?;
        let answer = match path.contains("wait=") {
            // This one is meant to take its time.
            true => self.agent.run(request),
            false => self.patiently(|| self.agent.run(request)),
        };
        let answer = answer.map_err(|error| self.fault(error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            status => Err(self.refusal(status, answer)),
        }
    }

    /// Says on stderr, once it takes long, that an answer is being waited for.
    fn patiently<T>(&self, call: impl FnOnce() -> T) -> T {
        let (done, waiting) = bounded::<()>(0);
        thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    // Where stderr is gone there is nobody to tell.
                    let _ = writeln!(io::stderr(), "haul: waiting for {} to answer", self.base);
                }
            });
            let result = call();
            drop(done);
            result
        })
    }

    fn request<B: AsSendBody>(
        &self,
        method: Method,
        path: &str,
        body: B,
        timeout: Option<Duration>,
    ) -> Result<Request<B>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.root))
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let request = request
            .body(body)
            .map_err(|_| CallError::Usage(format!("{} cannot be asked anything", self.base)))?;
        Ok(self
            .agent
            .configure_request(request)
            .timeout_recv_response(timeout)
            .build())
    }

    fn read<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T, CallError> {
        serde_json::from_reader(io::BufReader::new(reader(answer)))
            .map_err(|error| self.broken(&error.into()))
    }

    fn refusal(&self, status: u16, answer: Response<Body>) -> CallError {
        match self.read::<ErrorBody>(answer) {
            Ok(ErrorBody { error }) => CallError::Api {
                status,
                message: match error.code.as_str() {
                    "unauthorized" if self.token.is_some() => {
                        "this is not the agent's token: look at the first line of the file that \
                         --token-file names"
                            .to_owned()
                    }
                    "unauthorized" => {
                        "this agent wants its token: name its file with --token-file".to_owned()
                    }
                    "link_password_required" => {
                        "this link needs a password; set HAUL_PASSWORD to it".to_owned()
                    }
                    "unsupported_link_host" => {
                        format!(
                            "{} (of haul serve, which is to be started with it)",
                            error.message
                        )
                    }
                    _ => error.message,
                },
            },
            Err(_) => CallError::Server(format!(
                "{} answered with status {status}: that is no haul agent",
                self.base
            )),
        }
    }

    fn broken(&self, error: &io::Error) -> CallError {
        CallError::Server(format!(
            "the answer of {} cannot be used: {}",
            self.base,
            words(error)
        ))
    }

    fn fault(&self, error: ureq::Error) -> CallError {
        let base = &self.base;
        let refused = matches!(&error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
            || matches!(&error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::NotFound && base.starts_with("unix:"))
            || matches!(error, ureq::Error::ConnectionFailed);
        CallError::Server(if refused {
            format!(
                "no agent is running at {base}: start one with `haul serve`, or name another with \
                 --server or HAUL_SERVER"
            )
        } else {
            let why = match (&error, Url::parse(base)) {
                // TLS has much to go wrong, and each fault its advice.
                (_, Ok(url)) if url.secure => crate::upstream::explain(error, &url),
                (ureq::Error::Io(error), _) => words(error),
                _ => error.to_string(),
            };
            format!("{base} cannot be reached: {}", human::clean(&why))
        })
    }
}

fn reader(answer: Response<Body>) -> impl Read {
    answer
        .into_body()
        .into_with_config()
        .limit(MAX_ANSWER)
        .reader()
}
