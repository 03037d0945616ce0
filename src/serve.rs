//! `haul serve`: starts the threads, wires them together, and stops them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};

use crate::api;
use crate::board::Board;
use crate::cli::{self, UsageError};
use crate::controller::{Channels, Command, Controller, Policy};
use crate::handle::Handle;
use crate::link::Origins;
use crate::meter::Meter;
use crate::remember::remember;
use crate::saved::Saved;
use crate::store::{Store, StoreError};
use crate::transfer::Hands;
use crate::upstream::{Client, Options};
use crate::{cleaner, syncer, worker};

/// How long a stop waits for the jobs; they look at their flag four times a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the agent could not start.
#[derive(Debug)]
pub enum ServeError {
    Usage(UsageError),
    Store(StoreError),
    Start(String),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServeError::Usage(error) => error.fmt(f),
            ServeError::Store(error) => error.fmt(f),
            ServeError::Start(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> ServeError {
        ServeError::Store(error)
    }
}

/// A running agent.
pub struct Serving {
    api: api::Server,
    commands: Sender<Command>,
    store: Arc<Store<Saved>>,
}

impl Serving {
    /// Starts everything; on return the API answers.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn start(options: cli::Serve) -> Result<Serving, ServeError> {
        let usage = |message: String| ServeError::Usage(UsageError::new(message));
        let mut origins = Origins::default();
        for pair in &options.origins {
            origins.add(pair).map_err(usage)?;
        }
        let token = options
            .token_file
            .as_deref()
            .map(cli::read_token)
            .transpose()
            .map_err(usage)?;
        let client = Client::new(Options {
            connections: 2 * options.workers,
            silence: options.silence_timeout,
            ca_file: options.ca_file.clone(),
        })
        .map_err(usage)?;
        let (store, saved) = Store::open(&options.state_dir)?;
        let store = Arc::new(store);
        let board = Arc::new(Board::default());
        let hands = Arc::new(Hands {
            client,
            store: store.clone(),
            meter: Meter::default(),
        });
        let commands = engine(&options, saved, &store, &board, &hands)
            .map_err(|error| ServeError::Start(format!("the system refuses a thread: {error}")))?;
        let handle = Handle {
            board,
            store: store.clone(),
            hands,
            commands: commands.clone(),
            workers: options.workers,
        };
        let config = api::Config {
            listen: options.listen,
            state_dir: options.state_dir,
            token,
            origins,
        };
        let api = api::Server::start(config, Arc::new(handle))
            .map_err(|error| ServeError::Start(error.to_string()))?;
        Ok(Serving {
            api,
            commands,
            store,
        })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.api.address()
    }

    /// Stops taking requests, gives up the transfers and saves.
    ///
    /// # Errors
    /// The state could not be saved as a whole; the journal still holds it.
    pub fn stop(self) -> Result<(), StoreError> {
        let (reply, stopped) = bounded(1);
        let told = self.commands.send(Command::Shutdown { reply }).is_ok();
        self.api.stop();
        if told && stopped.recv_timeout(PATIENCE).is_err() {
            log::warn!(
                "some transfers did not stop in time; what they wrote last may be fetched again"
            );
        }
        self.store.close()
    }
}

fn engine(
    options: &cli::Serve,
    saved: Saved,
    store: &Arc<Store<Saved>>,
    board: &Arc<Board>,
    hands: &Arc<Hands>,
) -> std::io::Result<Sender<Command>> {
    let (command_out, command_in) = unbounded();
    let (report_out, report_in) = unbounded();
    let (errand_out, errand_in) = unbounded();
    let jobs = unbounded();
    let (sync_out, sync_in) = bounded(1);
    let (removal_out, removal_in) = unbounded();
    let (removed_out, removed_in) = unbounded();
    worker::start(
        options.workers,
        hands,
        board,
        &errand_in,
        &jobs,
        &report_out,
    )?;
    syncer::start(store.clone(), sync_in)?;
    cleaner::start(store.clone(), removal_in, removed_out)?;
    let next_key = saved.next_key;
    let remembered = remember(saved, store, options.retry_for);
    let channels = Channels {
        commands: command_in,
        reports: report_in,
        errands: errand_out,
        jobs: jobs.0,
        syncs: sync_out,
        removals: removal_out,
        removed: removed_in,
    };
    let policy = Policy {
        workers: options.workers,
        retry_for: options.retry_for,
    };
    let controller = Controller::new(
        channels,
        policy,
        store.clone(),
        board.clone(),
        remembered,
        next_key,
    );
    std::thread::Builder::new()
        .name("controller".into())
        .spawn(move || controller.run())?;
    Ok(command_out)
}

/// Says on stdout that the agent is ready.
///
/// # Errors
/// Stdout is closed.
pub fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}
