//! `haul get`: one package, in the foreground, without an agent. The engine runs in this process,
//! with a state directory that belongs to this link and this folder, so that the same command again
//! goes on.

mod bars;
pub mod batch;
mod known;
mod notes;
mod report;
mod request;
mod silence;
mod verdict;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::bars::Bars;
use self::known::Known;
use self::report::{End, Events, Lines, Quiet, Report};
use self::silence::{Seen, Silence};
use self::verdict::{Fault, INTERRUPTED, complain, refused};
use crate::agent::hooks::Programs;
use crate::agent::restore;
use crate::agent::{Agent, Refusal};
use crate::base::system_words::{stdout_failed, words};
use crate::base::url::Url;
use crate::cli::human;
use crate::cli::serve::{Engine, ServeError, Setup};
use crate::cli::{self, Output};
use crate::model::download::Download;
use crate::model::request::DownloadRequest;
use crate::model::state::State;
use crate::store::StoreError;

pub use self::notes::LogTarget;
pub use self::request::{absolute, link_text};

/// While a fault is waited out nothing changes fast.
const WAITING: Duration = Duration::from_secs(1);
/// What the main thread waits for.
enum News {
    Signal,
    Ordered(Result<Arc<Download>, Refusal>),
}

/// Downloads what the command line says. Returns the exit code; all that there is to say has been
/// said.
pub fn run(options: &cli::Get) -> u8 {
    match download(options) {
        Ok(exit) => exit,
        Err(fault) => {
            complain(&fault.message);
            fault.exit
        }
    }
}

fn download(options: &cli::Get) -> Result<u8, Fault> {
    let (sender, news) = unbounded();
    listen_for_signals(sender.clone())
        .map_err(|error| Fault::failed(format!("signals cannot be handled: {}", words(&error))))?;
    let order = request::download_request(options).map_err(Fault::usage)?;
    let state_dir = request::state_dir(&options.state_dir, &order);
    let (engine, known) = start(options, &order, &state_dir)?;
    let was_complete = known
        .as_ref()
        .is_some_and(|known| known.state == State::Complete);
    let silence = silence(options, &order);
    let mut get = Get {
        engine,
        silence,
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
            Err(Fault::failed(stdout_failed(&error)))
        }
    }
}

fn silence(options: &cli::Get, order: &DownloadRequest) -> Silence {
    let server = Url::parse(&order.link.api).map_or_else(
        |_| "the link's server".into(),
        |api| human::clean(&api.authority()),
    );
    let limited = options.transfers.rate_limit.0.is_some();
    Silence::new(server, options.transfers.retry_for, limited, Instant::now())
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

/// The first signal is news; the second one ends the process, since what was received is in the
/// journal anyway. SIGHUP is one of them, unless it is ignored, as under nohup(1).
fn listen_for_signals(news: Sender<News>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP)?;
    }
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

/// Whether the process was started with this signal ignored: proc(5), `SigIgn`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn start(
    options: &cli::Get,
    order: &DownloadRequest,
    state_dir: &Path,
) -> Result<(Engine, Option<Known>), Fault> {
    let setup = Setup {
        state_dir,
        transfers: &options.transfers,
        programs: Programs::default(),
        // They would go with the state directory.
        keeps_hashes: false,
        verify_rate: crate::model::schedule::Rate::default(),
        verify_every_days: None,
    };
    let mut known = None;
    let engine = Engine::start(&setup, |store, saved| {
        known = known::take_up(store, saved, order)?;
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
            "another haul get is downloading this package into this folder: wait for it, or stop \
             it",
        )),
        Err(ServeError::Store(error)) => Err(Fault::failed(error)),
        Err(ServeError::Start(message)) => Err(afresh(message)),
    }
}

/// Asking the link's server may take seconds; signals are heard meanwhile.
fn order_on_a_thread(
    engine: &Engine,
    order: DownloadRequest,
    news: Sender<News>,
) -> io::Result<()> {
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
    silence: Silence,
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
            self.tell_silence();
            match news.recv_timeout(self.pace()) {
                Ok(News::Signal) => return Ok(self.interrupt()),
                Ok(News::Ordered(Ok(download))) => self.download = Some(download),
                Ok(News::Ordered(Err(refusal))) => return Ok(End::Refused(refused(&refusal))),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Says on stderr, above the bars where there are some, that nothing comes.
    fn tell_silence(&mut self) {
        let seen = self
            .download
            .as_ref()
            .map(|download| Seen::from(&download.summary()));
        if let Some(text) = self.silence.look(seen.as_ref(), Instant::now()) {
            // Where stderr is gone there is nobody to tell.
            let _ = writeln!(LogTarget, "haul: {}", human::clean(&text));
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
        let end = match end {
            End::Complete { already: false } => self.sync_and_record(),
            other => other,
        };
        let download = self.download.as_deref();
        // Those of a complete download rest on disk, and are read back only for who lists them.
        let shard = download.and_then(|download| download.order.options.shard);
        let wanted = self.machine_reads || shard.is_some() || matches!(end, End::Failed(_));
        let store = &self.engine.handle.store;
        let table = download
            .filter(|_| wanted)
            .and_then(|download| restore::files(download, store));
        let said = self.report.end(download, table.as_deref(), &end);
        let exit = verdict::explain(&end, table.as_deref(), self.machine_reads);
        if self.download.is_none() && matches!(end, End::Refused(_)) {
            // Nothing came of it, so nothing stays of it. The lock is held until the process ends.
            if let Err(error) = std::fs::remove_dir_all(&self.state_dir) {
                log::warn!("{} stays: {error}", self.state_dir.display());
            }
        } else if let Err(error) = self.engine.close() {
            log::warn!("{error}");
        }
        match said {
            Err(error) => Err(Fault::failed(stdout_failed(&error))),
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

    /// Exit code 0 is a promise that a power cut does not break: the data is on disk, and recorded
    /// as such.
    fn sync_and_record(&mut self) -> End {
        let complete = End::Complete { already: false };
        let Some(download) = &self.download else {
            return complete;
        };
        let hardened = self.engine.sync_and_record(download);
        hardened.map_or_else(End::Failed, |()| complete)
    }
}
