//! `haul get`: one package, in the foreground, without an agent. The engine runs in this process, with a state
//! directory that belongs to this link and this folder, so that the same command again goes on.

mod again;
mod bars;
mod home;
mod notes;
mod report;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::again::Known;
use self::bars::Bars;
use self::report::{End, Events, Lines, Quiet, Report};
use crate::agent::{Agent, Refusal};
use crate::board::{Code, Download, FileProblem, Order, Problem, State};
use crate::cli::{self, Output};
use crate::hooks::Programs;
use crate::human;
use crate::remember;
use crate::serve::{Engine, ServeError, Setup};
use crate::store::StoreError;
use crate::table::{FileState, FileTable};

pub use self::home::{absolute, link_text};
pub use self::notes::LogTarget;

/// Every file is in place.
pub const COMPLETE: u8 = 0;
/// It did not work out; the same command may.
pub const FAILED: u8 = 1;
/// Bad usage.
pub const USAGE: u8 = 2;
/// The link's server says no: no such link, expired, another password.
pub const REFUSED: u8 = 3;
/// Told to stop by SIGINT or SIGTERM: one code for both, so that scripts have to know only one.
pub const INTERRUPTED: u8 = 130;

/// While a fault is waited out nothing changes fast.
const WAITING: Duration = Duration::from_secs(1);
/// Failed files that are named on stderr.
const NAMED: usize = 20;

/// What the main thread waits for.
enum News {
    Signal,
    Ordered(Result<Arc<Download>, Refusal>),
}

/// Why there is nothing to report on.
struct Fault {
    exit: u8,
    message: String,
}

impl Fault {
    fn usage(message: String) -> Fault {
        let exit = USAGE;
        Fault { exit, message }
    }

    fn failed(message: impl ToString) -> Fault {
        let message = message.to_string();
        Fault {
            exit: FAILED,
            message,
        }
    }
}

/// Downloads what the command line says. Returns the exit code; all that there is to say has been said.
pub fn run(options: &cli::Get) -> u8 {
    match download(options) {
        Ok(exit) => exit,
        Err(fault) => {
            complain(&fault.message);
            fault.exit
        }
    }
}

fn complain(message: &str) {
    // Where stderr is gone, the exit code has to do.
    let _ = writeln!(io::stderr(), "haul: {}", human::clean(message));
}

fn download(options: &cli::Get) -> Result<u8, Fault> {
    let (sender, news) = unbounded();
    listen_for_signals(sender.clone())
        .map_err(|error| Fault::failed(format!("signals cannot be handled: {error}")))?;
    let order = home::order(options).map_err(Fault::usage)?;
    let state_dir = home::state_dir(&options.state_dir, &order);
    let (engine, known) = start(options, &order, &state_dir)?;
    let was_complete = known
        .as_ref()
        .is_some_and(|known| known.state == State::Complete);
    let mut get = Get {
        engine,
        report: report(options.output, known.is_some()),
        state_dir,
        download: None,
        machine_reads: options.output == Output::Json,
    };
    match known {
        Some(known) => get.go_on(&known)?,
        None => order_on_a_thread(&get.engine, order, sender).map_err(Fault::failed)?,
    }
    if was_complete {
        return get.finish(End::Complete { already: true });
    }
    let end = get.watch(&news);
    match end {
        Ok(end) => get.finish(end),
        Err(error) => {
            get.stop();
            Err(Fault::failed(format!("stdout is closed: {error}")))
        }
    }
}

fn report(output: Output, resumed: bool) -> Box<dyn Report> {
    let env = |name: &str| std::env::var(name).ok();
    match output {
        Output::Quiet => Box::new(Quiet),
        Output::Json => Box::new(Events::new()),
        Output::Human => match Bars::on_terminal(resumed, &env) {
            Some(bars) => Box::new(bars),
            None => Box::new(Lines::new(resumed)),
        },
    }
}

/// The first signal is news; the second one ends the process, since what was received is in the journal anyway. SIGHUP is left
/// alone: under nohup(1) it is to be ignored, and otherwise being killed is nothing that the next run could not mend.
fn listen_for_signals(news: Sender<News>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut signals = signals.forever();
            if signals.next().is_some() && news.send(News::Signal).is_ok() {
                signals.next();
            }
            std::process::exit(INTERRUPTED.into());
        })?;
    Ok(())
}

fn start(
    options: &cli::Get,
    order: &Order,
    state_dir: &Path,
) -> Result<(Engine, Option<Known>), Fault> {
    let setup = Setup {
        state_dir,
        workers: options.workers,
        rate_limit: options.rate_limit,
        silence_timeout: options.silence_timeout,
        retry_for: options.retry_for,
        ca_file: options.ca_file.clone(),
        programs: Programs::default(),
    };
    let mut known = None;
    let engine = Engine::start(&setup, |store, saved| {
        known = again::take_up(store, saved, order)?;
        Ok(())
    });
    let afresh = |error: String| {
        let dir = state_dir.display();
        Fault::failed(format!("{error} (to start afresh, remove {dir})"))
    };
    match engine {
        Ok(engine) => Ok((engine, known)),
        Err(ServeError::Usage(error)) => Err(Fault::usage(error.to_string())),
        Err(ServeError::Store(StoreError::Locked(_))) => Err(Fault::failed(
            "another haul get is downloading this package into this folder: wait for it, or stop it",
        )),
        Err(ServeError::Store(error)) => Err(Fault::failed(error)),
        Err(ServeError::Start(message)) => Err(afresh(message)),
    }
}

/// Asking the link's server may take seconds; signals are heard meanwhile.
fn order_on_a_thread(engine: &Engine, order: Order, news: Sender<News>) -> io::Result<()> {
    let handle = engine.handle.clone();
    thread::Builder::new().name("order".into()).spawn(move || {
        // Nobody listens where a signal came first.
        let _ = news.send(News::Ordered(handle.create(order)));
    })?;
    Ok(())
}

/// A download under way.
struct Get {
    engine: Engine,
    report: Box<dyn Report>,
    state_dir: PathBuf,
    download: Option<Arc<Download>>,
    machine_reads: bool,
}

impl Get {
    /// Takes up a download that is remembered; one that was paused or failed has to be told.
    fn go_on(&mut self, known: &Known) -> Result<(), Fault> {
        let handle = &self.engine.handle;
        if matches!(known.state, State::Paused | State::Error)
            && let Err(refusal) = handle.resume(&known.id)
        {
            return Err(Fault::failed(refused(&refusal).message));
        }
        self.download = handle.board().find(&known.id);
        Ok(())
    }

    /// Waits for the end, and says how far it is.
    fn watch(&mut self, news: &Receiver<News>) -> io::Result<End> {
        loop {
            if let Some(download) = &self.download {
                self.report.look(download)?;
                let view = download.view();
                match (view.state, view.problem) {
                    (State::Complete, _) => return Ok(End::Complete { already: false }),
                    (State::Error, Some(problem)) => return Ok(End::Failed(problem)),
                    _ => {}
                }
            }
            match news.recv_timeout(self.pace()) {
                Ok(News::Signal) => return Ok(self.interrupt()),
                Ok(News::Ordered(Ok(download))) => self.download = Some(download),
                Ok(News::Ordered(Err(refusal))) => return Ok(End::Refused(refused(&refusal))),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    fn pace(&self) -> Duration {
        match &self.download {
            Some(download) if download.view().problem.is_none() => self.report.pace(),
            _ => WAITING,
        }
    }

    /// Pauses, so that the state that is shown is the one that is saved.
    fn interrupt(&self) -> End {
        let Some(download) = &self.download else {
            return End::Interrupted;
        };
        match self.engine.handle.pause(&download.id) {
            // It was just about to end by itself.
            Err(Refusal::InvalidTransition { .. }) => match download.view() {
                view if view.state == State::Complete => End::Complete { already: false },
                view => view.problem.map_or(End::Interrupted, End::Failed),
            },
            Err(refusal) => {
                log::warn!("{}", refused(&refusal).message);
                End::Interrupted
            }
            Ok(_) => End::Interrupted,
        }
    }

    /// Stops the engine, saves, and has the last word said.
    fn finish(mut self, end: End) -> Result<u8, Fault> {
        let stopped = self.engine.halt();
        self.engine.settle(&stopped);
        if let End::Complete { already: false } = end {
            self.harden();
        }
        let download = self.download.as_deref();
        // Those of a complete download rest on disk, and are read back only for who lists them.
        let wanted = self.machine_reads || matches!(end, End::Failed(_));
        let store = &self.engine.handle.store;
        let table = download
            .filter(|_| wanted)
            .and_then(|download| remember::files(download, store));
        let said = self.report.end(download, table.as_deref(), &end);
        let exit = self.explain(&end, table.as_deref());
        if self.download.is_none() && matches!(end, End::Refused(_)) {
            // Nothing came of it, so nothing stays of it. The lock is held until the process ends.
            if let Err(error) = std::fs::remove_dir_all(&self.state_dir) {
                log::warn!("{} stays: {error}", self.state_dir.display());
            }
        } else if let Err(error) = self.engine.close() {
            log::warn!("{error}");
        }
        match said {
            Err(error) => Err(Fault::failed(format!("stdout is closed: {error}"))),
            Ok(()) => Ok(exit),
        }
    }

    fn stop(self) {
        self.interrupt();
        let stopped = self.engine.halt();
        self.engine.settle(&stopped);
        if let Err(error) = self.engine.close() {
            log::warn!("{error}");
        }
    }

    /// Exit code 0 is a promise that a power cut does not break: the data is on disk, and recorded as such.
    fn harden(&self) {
        let Some(download) = &self.download else {
            return;
        };
        let store = &self.engine.handle.store;
        let mark = store.mark();
        let synced = std::fs::File::open(&download.order.dst_folder)
            .and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        if let Err(error) = synced {
            log::warn!(
                "{} cannot be synced: {error}",
                human::clean(&download.order.dst_folder)
            );
            return;
        }
        if let Err(error) = store.synced(mark) {
            log::warn!("{error}");
        }
    }

    /// Says on stderr what went wrong; the exit code.
    fn explain(&self, end: &End, table: Option<&FileTable>) -> u8 {
        match end {
            End::Complete { .. } => COMPLETE,
            End::Interrupted => INTERRUPTED,
            End::Refused(problem) => {
                complain(&problem.message);
                exit_of(problem.code)
            }
            End::Failed(problem) => {
                if let Some(table) = table.filter(|_| !self.machine_reads) {
                    name_failed_files(table);
                }
                complain(&advice(problem));
                exit_of(problem.code)
            }
        }
    }
}

fn name_failed_files(table: &FileTable) {
    let mut count = 0;
    // Nothing in here fails.
    let _ = report::each_problem(table, |state, path, problem| {
        if let (FileState::Error, Some(problem)) = (state, problem) {
            count += 1;
            if count <= NAMED {
                complain(&format!("{path}: {}", problem.message));
            }
        }
        Ok(())
    });
    if count > NAMED {
        complain(&format!("and {} more", count - NAMED));
    }
}

fn exit_of(code: Code) -> u8 {
    match code {
        Code::LinkNotFound
        | Code::LinkExpired
        | Code::LinkPasswordRequired
        | Code::LinkPasswordWrong => REFUSED,
        _ => FAILED,
    }
}

fn advice(problem: &Problem) -> String {
    if exit_of(problem.code) == FAILED {
        format!(
            "{}; the same command again fetches what is missing",
            problem.message
        )
    } else {
        problem.message.clone()
    }
}

/// A refusal in the words of the command line.
fn refused(refusal: &Refusal) -> FileProblem {
    let (code, message) = match refusal {
        Refusal::InvalidDestination(why) => (Code::DestinationUnwritable, why.clone()),
        Refusal::LinkPasswordRequired => (
            Code::LinkPasswordRequired,
            "this link needs a password: set HAUL_PASSWORD to it".into(),
        ),
        Refusal::LinkPasswordWrong => (
            Code::LinkPasswordWrong,
            "the link's password is wrong: ask the sender for the right one".into(),
        ),
        Refusal::LinkNotFound => (
            Code::LinkNotFound,
            "there is no package behind this link: check that it was copied whole".into(),
        ),
        Refusal::LinkExpired => (
            Code::LinkExpired,
            "this link has expired or was deleted: ask the sender for a new one".into(),
        ),
        Refusal::StateUnwritable(why) => (Code::InsufficientStorage, why.clone()),
        Refusal::DownloadNotFound
        | Refusal::InvalidTransition { .. }
        | Refusal::Duplicate { .. }
        | Refusal::ShuttingDown => (
            Code::InternalError,
            format!("haul contradicts itself ({refusal:?}); please report it"),
        ),
    };
    FileProblem { code, message }
}
