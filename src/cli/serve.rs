//! Starts the threads, wires them together, and stops them: the engine, and for `haul serve` the
//! API in front of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use rustix::fs::Mode;

use crate::agent::claims::Claims;
use crate::agent::cleaner::{Cleaner, Cleaners};
use crate::agent::controller::{Channels, Controller, Policy};
use crate::agent::free_space;
use crate::agent::hooks::{self, Programs};
use crate::agent::live_settings::LiveSettings;
use crate::agent::local::LocalAgent;
use crate::agent::messages::Command;
use crate::agent::restore::restore_all;
use crate::agent::syncer::{self, Loss, Lost};
use crate::agent::verifications::Verifications;
use crate::agent::verifier::{self, Verifier};
use crate::api;
use crate::base::exit_on_panic::exit_on_panic;
use crate::base::keyed_locks::KeyedLocks;
use crate::base::listen::Address;
use crate::base::system_words::words;
use crate::cli::{self, UsageError};
use crate::dest;
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::link::Origins;
use crate::model::problem::Problem;
use crate::model::schedule::Rate;
use crate::model::settings::{Days, Defaults, MAX_WORKERS};
use crate::model::state::State;
use crate::store::saved::Saved;
use crate::store::{Store, StoreError};
use crate::transfer::WorkerContext;
use crate::transfer::rate_limiter::RateLimiter;
use crate::transfer::slots::WorkerSlots;
use crate::transfer::worker::Pools;
use crate::upstream::{Client, Options};

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

/// What the engine needs to know.
pub struct Setup<'a> {
    pub state_dir: &'a Path,
    pub transfers: &'a cli::Transfers,
    pub programs: Programs,
    /// Whether the hashes of files are kept, to verify them by later.
    pub keeps_hashes: bool,
    pub verify_rate: Rate,
    pub verify_every_days: Option<Days>,
}

/// The agent without its API: everything that downloads.
pub struct Engine {
    pub handle: Arc<LocalAgent>,
    /// Until somebody waits for it.
    syncer: Option<JoinHandle<Lost>>,
}

impl Engine {
    /// Takes the state directory and goes on with what is in it. `amend` sees what was saved before
    /// anything is done about it, and may change it; what is to last it must commit as well.
    ///
    /// # Errors
    /// See [`ServeError`]; what `amend` reports becomes `Start`.
    pub fn start(
        setup: &Setup<'_>,
        amend: impl FnOnce(&Store<Saved>, &mut Saved) -> Result<(), String>,
    ) -> Result<Engine, ServeError> {
        let client = Client::new(Options {
            // The number of workers may change; what is not there costs nothing.
            connections: 2 * MAX_WORKERS,
            silence: setup.transfers.silence_timeout,
            ca_file: setup.transfers.ca_file.clone(),
            pipelining: setup.transfers.pipelining,
            outlet: setup.transfers.outlet.clone(),
        })
        .map_err(|message| ServeError::Usage(UsageError::new(message)))?;
        if let Some(mask) = setup.transfers.umask {
            rustix::process::umask(Mode::from_raw_mode(mask as _));
        }
        for (scheme, proxy) in setup.transfers.outlet.proxies.all() {
            log::info!("{scheme} goes by way of the proxy {proxy}");
        }
        let (store, mut saved) = Store::open(setup.state_dir)?;
        dest::keep_folder(setup.state_dir);
        amend(&store, &mut saved).map_err(ServeError::Start)?;
        let store = Arc::new(store);
        let board = Arc::new(Board::default());
        let context = Arc::new(WorkerContext {
            client,
            store: store.clone(),
            meter: Arc::default(),
            limit: Arc::default(),
            slots: Arc::new(WorkerSlots::new(setup.transfers.workers)),
            waiting: Arc::default(),
            keeps_hashes: setup.keeps_hashes,
        });
        let claims = Claims::new(board.clone());
        let stopping = Arc::<AtomicBool>::default();
        let threads =
            engine(setup, saved, &board, &claims, &context, &stopping).map_err(|error| {
                ServeError::Start(format!("the system refuses a thread: {}", words(&error)))
            })?;
        let handle = Arc::new(LocalAgent {
            board,
            store,
            context,
            commands: threads.commands,
            live_settings: threads.live_settings,
            claims,
            verifications: threads.verifications,
            stopping,
        });
        Ok(Engine {
            handle,
            syncer: Some(threads.syncer),
        })
    }

    /// Tells every transfer, and every POST that waits for its link, to give up. The receiver, for
    /// [`Engine::settle`], hears of it when none is left.
    pub fn halt(&self) -> Receiver<()> {
        self.handle.stopping.store(true, Ordering::Release);
        let (reply, stopped) = bounded(1);
        // A controller that is gone has dropped `reply` with the command: the wait ends at once.
        let _ = self.handle.commands.send(Command::Shutdown { reply });
        stopped
    }

    /// Waits until the transfers have given up, 3 s at the most. Nothing is written to a
    /// destination after that.
    pub fn settle(&self, stopped: &Receiver<()>) {
        if stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "some transfers did not stop in time; what they wrote last may be fetched again"
            );
        }
    }

    /// Once the transfers have given up: makes sure that a complete download is on the disk, and
    /// recorded as such.
    ///
    /// # Errors
    /// It is not. What of it was not synced before counts no more, and it is in error.
    pub fn sync_and_record(&mut self, download: &Download) -> Result<(), Problem> {
        let store = &self.handle.store;
        // It ends with the controller. The system may have told it of a loss, and tells nobody
        // else.
        let syncer = self.syncer.take().map(JoinHandle::join);
        let mut lost = syncer.and_then(Result::ok).unwrap_or_default();
        let known = lost.remove(&download.key).or(download.view().problem);
        let hardened = known.map_or_else(|| syncer::sync_and_record(store, download), Err);
        if let Err(problem) = &hardened {
            syncer::fail(store, download.key, problem);
            download.update(|view| {
                view.state = State::Error;
                view.problem = Some(problem.clone());
                view.completed_at = None;
            });
        }
        hardened
    }

    /// Saves a last time.
    ///
    /// # Errors
    /// The state could not be saved as a whole; the journal still holds it.
    pub fn close(self) -> Result<(), StoreError> {
        self.handle.store.close()
    }
}

/// A running agent.
pub struct Serving {
    token_file: Option<PathBuf>,
    api: api::Server,
    engine: Engine,
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
        for root in &options.roots {
            // It may come later, with its disk.
            dest::allow_root(root).map_err(|what| ServeError::Start(format!("--root: {what}")))?;
        }
        let token = options
            .token_file
            .as_deref()
            .map(cli::read_token)
            .transpose()
            .map_err(usage)?;
        let own_files = [&options.token_file, &options.on_complete, &options.on_error];
        let own_files = own_files.into_iter().chain([&options.transfers.ca_file]);
        let tls_files = options.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
        own_files
            .flatten()
            .chain(tls_files)
            .for_each(|path| dest::keep_file(path.as_ref()));
        let programs = Programs::check(options.on_complete.as_deref(), options.on_error.as_deref())
            .map_err(usage)?;
        let setup = Setup {
            state_dir: &options.state_dir,
            transfers: &options.transfers,
            programs,
            keeps_hashes: true,
            verify_rate: options.verify_rate,
            verify_every_days: options.verify_every_days,
        };
        if token.is_some() && options.tls.is_none() {
            warn_of_plain_http(&options.listen);
        }
        let engine = Engine::start(&setup, |_, _| Ok(()))?;
        let config = api::Config {
            listen: options.listen,
            socket_group: options.socket_group,
            tls: options.tls,
            state_dir: options.state_dir,
            token,
            origins,
            base_path: options.base_path,
        };
        let api = api::Server::start(config, engine.handle.clone())
            .map_err(|error| ServeError::Start(error.to_string()))?;
        Ok(Serving {
            token_file: options.token_file,
            api,
            engine,
        })
    }

    /// Where the API listens, as a client would write it.
    pub fn urls(&self) -> &[String] {
        self.api.urls()
    }

    /// What goes before every path; empty if nothing does.
    pub fn base_path(&self) -> &str {
        self.api.base_path()
    }

    /// Reads token and certificate again, as SIGHUP asks. What cannot be read stays what it was.
    pub fn reload(&self) {
        self.api.reload();
        self.reload_token();
    }

    fn reload_token(&self) {
        let Some(path) = &self.token_file else {
            log::info!("there is no token file to be read again");
            return;
        };
        match cli::read_token(path).and_then(|token| self.api.change_token(&token)) {
            Ok(()) => log::info!("the token file was read again"),
            Err(error) => log::error!("the token stays as it is: {error}"),
        }
        // It may have been replaced by another file.
        dest::keep_file(path);
    }

    /// Stops taking requests, gives up the transfers and saves.
    ///
    /// # Errors
    /// The state could not be saved as a whole; the journal still holds it.
    pub fn stop(self) -> Result<(), StoreError> {
        let stopped = self.engine.halt();
        self.api.stop();
        self.engine.settle(&stopped);
        self.engine.close()
    }
}

/// Whoever is on the way can read a token that is sent without TLS.
fn warn_of_plain_http(listen: &[Address]) {
    let open = listen.iter().find(|address| match address {
        Address::Tcp(address) => !cli::is_loopback(*address),
        Address::Unix(_) => false,
    });
    if let Some(address) = open {
        log::warn!(
            "the token travels unencrypted to {address}; give --tls-cert and --tls-key, \
             or put a proxy with TLS before it"
        );
    }
}

/// How the threads that were started are spoken to.
struct Threads {
    commands: Sender<Command>,
    live_settings: Arc<LiveSettings>,
    syncer: JoinHandle<Lost>,
    verifications: Arc<Verifications>,
}

fn engine(
    setup: &Setup<'_>,
    mut saved: Saved,
    board: &Arc<Board>,
    claims: &Arc<Claims>,
    context: &Arc<WorkerContext>,
    stopping: &Arc<AtomicBool>,
) -> std::io::Result<Threads> {
    let store = &context.store;
    let (command_out, command_in) = unbounded();
    let (report_out, report_in) = unbounded();
    let (sync_out, sync_in) = bounded(1);
    let (removed_out, removed_in) = unbounded();
    let ended = hooks::start(setup.programs.clone())?;
    let (loss_out, loss_in) = unbounded();
    let verifications = verifications(store, board, loss_out.clone(), stopping.clone());
    let disks = Arc::new(syncer::SystemDisks);
    let syncer = syncer::start(store.clone(), disks, sync_in, loss_out)?;
    let cleaner = Cleaner {
        store: store.clone(),
        board: board.clone(),
        claims: claims.clone(),
    };
    let next_key = saved.next_key;
    let said = std::mem::take(&mut saved.settings);
    let remembered = restore_all(saved, store, setup.transfers.retry_for);
    let channels = Channels {
        commands: command_in,
        reports: report_in,
        syncs: sync_out,
        losses: loss_in,
        removals: Cleaners::new(cleaner, removed_out),
        removed: removed_in,
        ended,
    };
    let policy = Policy {
        workers: setup.transfers.workers,
        retry_for: setup.transfers.retry_for,
    };
    let pools = Arc::new(Pools::new(
        setup.transfers.workers,
        context,
        board,
        &report_out,
    ));
    let controller = Controller::new(
        channels,
        pools.clone(),
        policy,
        store.clone(),
        board.clone(),
        remembered,
        next_key,
    );
    free_space::look(board);
    let defaults = Defaults {
        rate_limit: setup.transfers.rate_limit,
        workers: setup.transfers.workers,
        verify_rate: setup.verify_rate,
        verify_every_days: setup.verify_every_days,
    };
    let live_settings = LiveSettings::start(
        context.clone(),
        pools,
        verifications.clone(),
        command_out.clone(),
        defaults,
        said,
    )?;
    verifications.go_on();
    std::thread::Builder::new()
        .name("controller".into())
        .spawn(move || exit_on_panic(|| controller.run()))?;
    Ok(Threads {
        commands: command_out,
        live_settings,
        syncer,
        verifications,
    })
}

fn verifications(
    store: &Arc<Store<Saved>>,
    board: &Arc<Board>,
    losses: Sender<Loss>,
    stopping: Arc<AtomicBool>,
) -> Arc<Verifications> {
    let limit = Arc::<RateLimiter>::default();
    let verifier = Verifier {
        store: store.clone(),
        losses,
        limit: limit.clone(),
        stopping,
        disks: KeyedLocks::default(),
    };
    Arc::new(Verifications {
        store: store.clone(),
        board: board.clone(),
        limit,
        pool: verifier::pool(verifier),
    })
}
