//! The program: reads the command line, runs what it asks for, and turns signals into a clean stop.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use haul::base::system_words::{stdout_failed, words};
use haul::cli::client;
use haul::cli::get::{self, LogTarget};
use haul::cli::ready;
use haul::cli::serve::{ServeError, Serving};
use haul::cli::{self, Command, Verb};
use haul::share::Share;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

#[cfg(not(target_arch = "arm"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A stop that takes longer is cut short: what matters is in the journal already.
const LAST_RESORT: Duration = Duration::from_millis(4_500);

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    let command = cli::parse(std::env::args_os().skip(1), &env);
    // Not before: it complains of a RUST_LOG that makes no sense, and bad usage is one line.
    if command.is_ok() {
        start_log();
        survive_file_limits();
    }
    match command {
        Ok(Command::Help(text)) => print(&text),
        Ok(Command::Version) => print(concat!("haul ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Serve(options)) => serve(options),
        Ok(Command::Share(options)) => share(options),
        Ok(Command::Get(options)) => ExitCode::from(get::run(&options)),
        Ok(Command::Batch(options)) => ExitCode::from(get::batch::run(&options)),
        Ok(Command::Ask(options)) => ExitCode::from(client::run(&options)),
        Err(error) => fail(2, &error.to_string()),
    }
}

fn start_log() {
    let mut builder =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"));
    for noisy in ["ureq", "ureq_proto", "rustls", "tiny_http"] {
        // At lower levels they write whole requests, secrets included.
        builder.filter_module(noisy, log::LevelFilter::Warn);
    }
    builder
        .target(env_logger::Target::Pipe(Box::new(LogTarget)))
        .format(|out, record| {
            let time = haul::base::clock::now().to_rfc3339();
            writeln!(out, "{time} {:5} {}", record.level(), record.args())
        })
        .init();
}

/// A write beyond the limit on file sizes (setrlimit(2), RLIMIT_FSIZE) is to be that file's error:
/// by default its signal ends the process.
fn survive_file_limits() {
    // Programs that are started have the default action again, since a handler does not outlive
    // exec(2).
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::default()) {
        log::warn!(
            "a limit on file sizes may end the process: {}",
            words(&error)
        );
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // As of every program whose reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => fail(1, &stdout_failed(&error)),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("haul: {message}");
    ExitCode::from(code)
}

/// Every worker and every caller takes descriptors; the usual soft limit of 1024 is there for
/// programs that use select(2), which this one does not.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("the limit on open files stays as it is: {error}");
    }
}

fn serve(options: cli::Serve) -> ExitCode {
    raise_descriptor_limit();
    // Before anything can be acknowledged, so that a signal never finds the default action in
    // place.
    let mut signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return fail(1, &format!("signals cannot be handled: {}", words(&error))),
    };
    let serving = match Serving::start(options) {
        Ok(serving) => serving,
        Err(ServeError::Usage(error)) => return fail(2, &error.of(Verb::Serve).to_string()),
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Err(error) = ready::announce(serving.urls()) {
        return fail(1, &stdout_failed(&error));
    }
    if !serving.base_path().is_empty() {
        // Where stderr is gone there is nobody to tell.
        let path = serving.base_path();
        let _ = writeln!(
            io::stderr(),
            "haul: everything is below {path}/: add it to the address"
        );
    }
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        serving.reload();
    }
    stop_by_force_later();
    match serving.stop() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

fn stop_by_force_later() {
    let spawned = std::thread::Builder::new()
        .name("last-resort".into())
        .spawn(|| {
            std::thread::sleep(LAST_RESORT);
            std::process::exit(0);
        });
    if let Err(error) = spawned {
        log::warn!("a stop may take long: {error}");
    }
}

fn share(options: cli::Share) -> ExitCode {
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return fail(1, &format!("signals cannot be handled: {}", words(&error))),
    };
    let share = match Share::start(options) {
        Ok(share) => share,
        Err(error) => return fail(1, &error.to_string()),
    };
    let said = print(&format!("{}\n", share.link()));
    // Where stderr is gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "To fetch it: {}", share.command());
    if said == ExitCode::SUCCESS {
        signals.forever().next();
    }
    share.stop();
    said
}
