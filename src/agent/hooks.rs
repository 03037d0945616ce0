//! Hooks: programs of the user's that run when a download becomes complete or fails.
//!
//! A program is run without arguments and without a shell; what happened is in its environment, and
//! nothing else is but `PATH`, `HOME` and `LANG`. Names and messages come from outside: a script
//! must quote them. It runs in `dst_folder` (in `/` if that is gone), reads nothing, and what it
//! prints goes to the agent's stderr. Four run at the same time, the others wait their turn; one
//! that runs for ten minutes is killed with all that it started.
//!
//! A hook runs at most once for each time that a download becomes complete or fails, and never
//! again for one that was so at a start. One that waits for its turn when the agent ends does not
//! run; one that runs goes on. (Only after a power cut may a download that had become complete in
//! the last few seconds do so again, with its hook.)

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::base::system_words::words;
use crate::model::download::{Download, View};
use crate::model::record::Effect;
use crate::model::state::State;

#[cfg(test)]
mod tests;

/// Programs that run at the same time.
const AT_ONCE: usize = 4;
/// Downloads that may wait for one of them.
const WAITING: usize = 1000;
/// How long a program may run.
const LIMIT: Duration = Duration::from_secs(600);
/// Bytes of one variable: a name may be long, and the system refuses what is over 128 KiB
/// (execve(2)).
const LONGEST: usize = 8 << 10;
/// What a program gets of our own environment. Ours may hold secrets.
const KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Which programs to run; absolute paths.
#[derive(Debug, Default, Clone)]
pub struct Programs {
    pub on_complete: Option<PathBuf>,
    pub on_error: Option<PathBuf>,
}

impl Programs {
    /// Looks whether what the command line says can be run.
    ///
    /// # Errors
    /// A text that names the flag and says what is wrong.
    pub fn check(on_complete: Option<&Path>, on_error: Option<&Path>) -> Result<Programs, String> {
        let check = |flag: &str, path: Option<&Path>| {
            path.map(|path| runnable(path).map_err(|why| format!("{flag} {path:?}: {why}")))
                .transpose()
        };
        Ok(Programs {
            on_complete: check("--on-complete", on_complete)?,
            on_error: check("--on-error", on_error)?,
        })
    }

    fn of(&self, state: State) -> Option<&Path> {
        match state {
            State::Complete => self.on_complete.as_deref(),
            State::Error => self.on_error.as_deref(),
            State::Transferring | State::Paused => None,
        }
    }
}

fn runnable(path: &Path) -> Result<PathBuf, String> {
    // Hooks run elsewhere than where the flag was given.
    let path = std::path::absolute(path).map_err(|error| words(&error))?;
    let data = path
        .metadata()
        .map_err(|error| format!("the program cannot be found: {}", words(&error)))?;
    let may_run = rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok();
    match data.is_file() && may_run {
        true => Ok(path),
        false => Err("it must be a program that this user may run; it gets no arguments".into()),
    }
}

/// A download as it was when it became complete or failed.
pub struct Ended {
    download: Arc<Download>,
    view: View,
}

impl Ended {
    /// Whether these effects make a download complete or fail.
    pub fn is_among(effects: &[Effect]) -> bool {
        let ends = |effect: &Effect| matches!(effect, Effect::Complete | Effect::Error);
        effects.iter().any(ends)
    }

    pub fn new(download: &Arc<Download>) -> Ended {
        Ended {
            download: download.clone(),
            view: download.view(),
        }
    }

    /// The variables that say what happened.
    fn variables(&self) -> [(&'static str, String); 9] {
        let (order, view) = (&self.download.order, &self.view);
        let problem = view.problem.as_ref();
        let counts = self.download.counts();
        let number = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
        let code = problem.map(|problem| serde_json::to_value(problem.code));
        let code = code.and_then(|code| Some(code.ok()?.as_str()?.to_owned()));
        [
            ("HAUL_DOWNLOAD_ID", self.download.id.clone()),
            ("HAUL_STATE", view.state.name().into()),
            ("HAUL_NAME", plain(view.name.as_deref().unwrap_or(""))),
            ("HAUL_DST_FOLDER", order.dst_folder.clone()),
            ("HAUL_LINK", plain(&order.link.public)),
            ("HAUL_ERROR_CODE", code.unwrap_or_default()),
            (
                "HAUL_ERROR_MESSAGE",
                plain(problem.map_or("", |problem| &problem.message)),
            ),
            (
                "HAUL_BYTES_TOTAL",
                number(counts.map(|counts| counts.bytes_total)),
            ),
            (
                "HAUL_FILES_TOTAL",
                number(counts.map(|counts| counts.files_total)),
            ),
        ]
    }
}

/// Text from outside as one line of bounded length; the environment cannot hold NUL.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        if plain.len() + character.len_utf8() > LONGEST {
            break;
        }
        plain.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    plain
}

/// Where downloads that have ended are handed over; never blocks.
pub struct Queue(Sender<Box<Ended>>);

impl Queue {
    pub fn push(&self, ended: Ended) {
        // Without hooks nobody is at the other end.
        if let Err(TrySendError::Full(ended)) = self.0.try_send(Box::new(ended)) {
            log::error!(
                "download {}: {WAITING} hooks are waiting already, this one does not run",
                ended.download.id
            );
        }
    }
}

/// Starts the threads that run hooks, where there are programs to run.
///
/// # Errors
/// The system refuses a thread.
pub fn start(programs: Programs) -> io::Result<Queue> {
    if programs.on_complete.is_none() && programs.on_error.is_none() {
        return Ok(Queue(bounded(0).0));
    }
    let (queue, waiting) = bounded::<Box<Ended>>(WAITING);
    let runner = Arc::new(Runner {
        programs,
        kept: kept(&|name| std::env::var_os(name)),
        limit: LIMIT,
    });
    for number in 0..AT_ONCE {
        let (runner, waiting) = (runner.clone(), waiting.clone());
        thread::Builder::new()
            .name(format!("hook-{number}"))
            .stack_size(256 << 10)
            .spawn(move || waiting.iter().for_each(|ended| runner.hook(&ended)))?;
    }
    Ok(Queue(queue))
}

fn kept(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    KEPT.into_iter()
        .filter_map(|name| Some((name, env(name)?)))
        .collect()
}

struct Runner {
    programs: Programs,
    kept: Vec<(&'static str, OsString)>,
    limit: Duration,
}

/// How a hook ended.
#[derive(Debug)]
enum End {
    Exited(ExitStatus),
    Killed,
}

impl Runner {
    /// Runs the hook of a download, if there is one for its state, to its end.
    fn hook(&self, ended: &Ended) {
        let Some(program) = self.programs.of(ended.view.state) else {
            return;
        };
        let id = &ended.download.id;
        let shown = program.display();
        match self.run(program, ended) {
            Ok(End::Exited(status)) if status.success() => {
                log::info!("download {id}: {shown} ended well");
            }
            Ok(End::Exited(status)) => log::warn!("download {id}: {shown} failed: {status}"),
            Ok(End::Killed) => {
                log::warn!("download {id}: {shown} was killed after {:?}", self.limit);
            }
            Err(error) => log::error!("download {id}: {shown} cannot be run: {error}"),
        }
    }

    fn run(&self, program: &Path, ended: &Ended) -> io::Result<End> {
        let folder = Path::new(&ended.download.order.dst_folder);
        let folder = if folder.is_dir() {
            folder
        } else {
            Path::new("/")
        };
        let mut child = Command::new(program)
            .env_clear()
            .envs(self.kept.iter().map(|(name, value)| (name, value)))
            .envs(ended.variables())
            .current_dir(folder)
            .stdin(Stdio::null())
            // Our stdout has one line, for the program that started us.
            .stdout(io::stderr().as_fd().try_clone_to_owned()?)
            // A group of its own: a terminal's Ctrl-C is for us, and the end is for all that it
            // started.
            .process_group(0)
            .spawn()?;
        if ends_within(&child, self.limit) {
            return child.wait().map(End::Exited);
        }
        // The child was not waited for, so its number is nobody else's.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait()?;
        Ok(End::Killed)
    }
}

/// Whether the child ends in time. It is left to be waited for, so that its number stays its own.
/// (A pidfd could be polled instead, but not before Linux 5.3, and network storage often has less.)
fn ends_within(child: &Child, limit: Duration) -> bool {
    let (ended, end) = bounded::<()>(1);
    let pid = Pid::from_child(child);
    let watch = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
        drop(ended);
    };
    let watching = thread::Builder::new()
        .name("hook-watch".into())
        .stack_size(64 << 10)
        .spawn(watch);
    match watching {
        Ok(_) => wait(&end, limit),
        // Without a thread there is no limit either.
        Err(_) => true,
    }
}

/// True once the other end is dropped, false if that takes longer than `limit`.
fn wait(end: &Receiver<()>, limit: Duration) -> bool {
    end.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
}
