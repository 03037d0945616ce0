//! The API from outside: real sockets, and an agent that does what its test tells it to.

pub mod agent;
mod client;
mod errors;
mod events;
mod health;
mod lines;
mod openapi;
mod reads;
mod settings;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use super::gate::limits::Limits;
use super::{Config, Server};
use crate::base::listen::Address;
use crate::base::secret::Secret;
use crate::model::link::Origins;
use agent::FakeAgent;
use client::{Client, Reply};

/// A running API with everything around it.
struct Api {
    server: Server,
    agent: Arc<FakeAgent>,
    state_dir: tempfile::TempDir,
}

/// Limits that tests do not have to wait for.
fn quick() -> Limits {
    Limits {
        connections: 16,
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        idle_time: Duration::from_millis(600),
        write_time: Duration::from_millis(500),
        linger_time: Duration::from_millis(300),
        ..Limits::default()
    }
}

impl Api {
    fn start() -> Api {
        Api::start_with(Limits::default(), None)
    }

    fn start_with(limits: Limits, token: Option<&str>) -> Api {
        let state_dir = tempfile::tempdir().unwrap();
        let agent = Arc::new(FakeAgent::default());
        let config = Config {
            listen: vec![Address::Tcp("127.0.0.1:0".parse().unwrap())],
            socket_group: None,
            tls: None,
            state_dir: state_dir.path().to_owned(),
            token: token.map(Secret::new),
            origins: Origins::default(),
            base_path: String::new(),
        };
        let server = Server::start_within(limits, config, agent.clone()).unwrap();
        Api {
            server,
            agent,
            state_dir,
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.server.address())
    }

    /// Waits until that many streams and long polls are under way.
    fn await_watchers(&self, count: usize) {
        let begin = std::time::Instant::now();
        while self.server.hub.watchers() != count {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "no {count} watchers"
            );
            std::thread::yield_now();
        }
    }

    /// One request on a connection of its own.
    fn ask(&self, method: &str, path: &str) -> Reply {
        self.client().ask(method, path, "", None)
    }

    fn post(&self, path: &str, body: &str) -> Reply {
        let fields = "Content-Type: application/json\r\n";
        self.client().ask("POST", path, fields, Some(body))
    }
}

const DOWNLOADS: &str = "/api/v1/downloads";
