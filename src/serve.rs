//! `haul serve`: starts the threads, wires them together, and stops them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};

use crate::api;
use crate::board::Board;
use crate::cli::{self, UsageError};
use crate::controller::{Channels, Command, Controller, Policy};
use crate::governor::Governor;
use crate::handle::Handle;
use crate::hooks::{self, Programs};
use crate::limit::Limit;
use crate::link::Origins;
use crate::meter::Meter;
use crate::remember::remember;
use crate::saved::Saved;
use crate::seats::Seats;
use crate::settings::{Defaults, MOST_WORKERS};
use crate::store::{Store, StoreError};
use crate::transfer::Hands;
use crate::upstream::{Client, Options};
use crate::worker::Pool;
use crate::{cleaner, syncer};

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
            // The number of workers may change; what is not there costs nothing.
            connections: 2 * MOST_WORKERS,
            silence: options.silence_timeout,
            ca_file: options.ca_file.clone(),
        })
        .map_err(usage)?;
        let programs = Programs::check(options.on_complete.as_deref(), options.on_error.as_deref())
            .map_err(usage)?;
        let (store, saved) = Store::open(&options.state_dir)?;
        let store = Arc::new(store);
        let board = Arc::new(Board::default());
        let hands = Arc::new(Hands {
            client,
            store: store.clone(),
            meter: Meter::default(),
            limit: Limit::default(),
            seats: Seats::new(options.workers),
        });
        let (commands, governor) = engine(&options, programs, saved, &store, &board, &hands)
            .map_err(|error| ServeError::Start(format!("the system refuses a thread: {error}")))?;
        let handle = Handle {
            board,
            store: store.clone(),
            hands,
            commands: commands.clone(),
            governor,
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
    programs: Programs,
    mut saved: Saved,
    store: &Arc<Store<Saved>>,
    board: &Arc<Board>,
    hands: &Arc<Hands>,
) -> std::io::Result<(Sender<Command>, Arc<Governor>)> {
    let (command_out, command_in) = unbounded();
    let (report_out, report_in) = unbounded();
    let (errand_out, errand_in) = unbounded();
    let jobs = unbounded();
    let (sync_out, sync_in) = bounded(1);
    let (removal_out, removal_in) = unbounded();
    let (removed_out, removed_in) = unbounded();
    let ended = hooks::start(programs)?;
    syncer::start(store.clone(), sync_in)?;
    cleaner::start(store.clone(), removal_in, removed_out)?;
    let next_key = saved.next_key;
    let said = std::mem::take(&mut saved.settings);
    let remembered = remember(saved, store, options.retry_for);
    let channels = Channels {
        commands: command_in,
        reports: report_in,
        errands: errand_out,
        jobs: jobs.0.clone(),
        syncs: sync_out,
        removals: removal_out,
        removed: removed_in,
        ended,
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
    let pool = Pool {
        hands: hands.clone(),
        board: board.clone(),
        errands: errand_in,
        jobs,
        reports: report_out,
        started: Mutex::default(),
        awake: Arc::default(),
    };
    let defaults = Defaults {
        rate_limit: options.rate_limit,
        workers: options.workers,
    };
    let governor = Governor::start(store.clone(), pool, command_out.clone(), defaults, said)?;
    std::thread::Builder::new()
        .name("controller".into())
        .spawn(move || controller.run())?;
    Ok((command_out, governor))
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
