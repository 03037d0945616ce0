//! What `haul get` says on stdout: lines, JSON, or nothing. The bars of a terminal are in
//! [`super::bars`].

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::human;
use crate::model::download::{Download, Summary};
use crate::model::problem::{FileProblem, Problem};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};

/// Lines about progress are at least so far apart.
const LINES: Duration = Duration::from_secs(5);
/// Events about progress are.
const EVENTS: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// Every file is in place; `already` where this command had nothing to do.
    Complete {
        already: bool,
    },
    Failed(Problem),
    /// No download came of it: the link's server does not give the package, or the folder cannot be
    /// used.
    Refused(FileProblem),
    /// Told to stop.
    Interrupted,
}

/// One way of saying it. Every call writes at once; an error means that stdout is closed.
pub trait Report {
    /// How often [`Report::look`] wants to be called while bytes move.
    fn pace(&self) -> Duration;

    /// Looks at the download and says what is worth saying.
    fn look(&mut self, download: &Download) -> io::Result<()>;

    /// The last word. There is no download where none came about; the files are there for who lists
    /// them.
    fn end(
        &mut self,
        download: Option<&Download>,
        files: Option<&FileTable>,
        end: &End,
    ) -> io::Result<()>;
}

/// Nothing at all.
pub struct Quiet;

impl Report for Quiet {
    fn pace(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn look(&mut self, _: &Download) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: Option<&Download>, _: Option<&FileTable>, _: &End) -> io::Result<()> {
        Ok(())
    }
}

/// Lines for people and logs.
pub struct Lines {
    started: Instant,
    said_at: Instant,
    headed: bool,
    /// What was last said about a fault that is being retried.
    fault: Option<String>,
    bytes: u64,
    /// Whether an earlier command has begun it.
    resumed: bool,
    /// Bytes that were there when this command began.
    before: u64,
}

impl Lines {
    /// `resumed` tells whether an earlier command has begun the download.
    pub fn new(resumed: bool) -> Lines {
        let now = Instant::now();
        Lines {
            started: now,
            said_at: now,
            headed: false,
            fault: None,
            bytes: 0,
            resumed,
            before: 0,
        }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.said_at = Instant::now();
        print(line)
    }

    /// What the package is, once that is known.
    pub fn head(&mut self, summary: &Summary<'_>) -> Option<String> {
        let (Some(files), Some(bytes)) = (summary.files_total, summary.bytes_total) else {
            return None;
        };
        if self.headed {
            return None;
        }
        self.headed = true;
        self.bytes = summary.bytes_done;
        let mut line = format!(
            "{}: {}, {}, to {}",
            name(summary),
            human::files(files),
            human::size(bytes),
            human::clean(summary.dst_folder)
        );
        if self.resumed && summary.bytes_done > 0 {
            self.before = summary.bytes_done;
            line += &format!("; {} are there already", human::size(summary.bytes_done));
        }
        Some(line)
    }

    /// The last line on stdout, if there is one; what went wrong is said on stderr, not here.
    pub fn last(&self, download: Option<&Download>, end: &End) -> Option<String> {
        let summary = download.map(Download::summary);
        match end {
            End::Complete { already } => summary.map(|summary| self.complete(&summary, *already)),
            End::Failed(_) | End::Refused(_) => None,
            End::Interrupted => Some(match summary {
                Some(summary) => format!(
                    "paused at {}; to go on, run the same command again",
                    human::progress(&summary)
                ),
                None => "stopped before it began; to begin, run the same command again".into(),
            }),
        }
    }

    fn complete(&self, summary: &Summary<'_>, already: bool) -> String {
        let mut line = format!(
            "{}: {}, {}, in {}",
            if already {
                "complete already"
            } else {
                "complete"
            },
            human::files(summary.files_complete),
            human::size(summary.bytes_done),
            human::clean(summary.dst_folder)
        );
        if summary.files_skipped > 0 {
            line += &format!("; {} skipped", human::files(summary.files_skipped));
        }
        if !already {
            let took = self.started.elapsed();
            let fetched = summary.bytes_done.saturating_sub(self.before);
            let rate = fetched as f64 / took.as_secs_f64().max(0.001);
            line += &format!(
                " ({} in {}, {}/s)",
                human::size(fetched),
                match took.as_secs_f64() {
                    short if short < 10.0 => format!("{short:.1} s"),
                    _ => human::time(took.as_secs()),
                },
                human::size(rate as u64)
            );
        }
        line
    }
}

impl Report for Lines {
    fn pace(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn look(&mut self, download: &Download) -> io::Result<()> {
        let summary = download.summary();
        if let Some(head) = self.head(&summary) {
            self.say(&head)?;
        }
        let fault = summary.error.as_ref().map(|error| error.message.clone());
        let due = self.said_at.elapsed() >= LINES;
        if summary.state == State::Transferring && fault != self.fault {
            // Each attempt has a new time; said anew only now and then.
            if fault.is_some() != self.fault.is_some() || due {
                let error = summary.error.as_ref();
                let line = error.map_or_else(|| "going on".into(), waiting);
                self.fault = fault;
                self.say(&line)?;
            }
        } else if due && summary.bytes_done != self.bytes {
            self.bytes = summary.bytes_done;
            self.say(&human::progress(&summary))?;
        }
        Ok(())
    }

    fn end(
        &mut self,
        download: Option<&Download>,
        files: Option<&FileTable>,
        end: &End,
    ) -> io::Result<()> {
        if let (Some(download), End::Complete { already: false }) = (download, end)
            && let Some(head) = self.head(&download.summary())
        {
            // It was over before it was looked at.
            self.say(&head)?;
        }
        if let Some(line) = self.last(download, end) {
            self.say(&line)?;
        }
        if let (Some(download), Some(files), End::Complete { .. }) = (download, files, end)
            && let Some(line) = of_other_shards(&download.order.dst_folder, files)
        {
            self.say(&line)?;
        }
        Ok(())
    }
}

/// Files of which this shard's part is there, and that have no name yet since others' are not.
fn of_other_shards(dst_folder: &str, files: &FileTable) -> Option<String> {
    let has_name = |file: u32| Path::new(dst_folder).join(files.path(file)).exists();
    let divided = (0..files.len()).filter(|&file| files.slice(file).is_some());
    let waiting = divided.filter(|&file| !has_name(file)).count() as u64;
    (waiting > 0).then(|| {
        let (verb, pronoun) = if waiting == 1 {
            ("gets its name", "it")
        } else {
            ("get their names", "them")
        };
        format!(
            "{} {verb} once the other shards have brought their parts of {pronoun}",
            human::files(waiting)
        )
    })
}

/// Why nothing moves.
pub fn waiting(problem: &Problem) -> String {
    let at = problem.retry_at.map(human::retry_in).unwrap_or_default();
    format!("waiting: {}{at}", human::clean(&problem.message))
}

/// The package's name, fit to be shown.
pub fn name(summary: &Summary<'_>) -> String {
    let name = summary.name.as_deref().or(summary.package_id.as_deref());
    human::clean(name.unwrap_or(summary.link))
}

/// One JSON object a line: `event`, then the fields of the API's summary.
pub struct Events {
    started: bool,
    said_at: Instant,
    said: Option<(State, Option<Problem>, bool, u64)>,
}

#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    #[serde(flatten)]
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct FileEvent<'a> {
    event: &'static str,
    path: &'a str,
    error: Option<&'a FileProblem>,
}

#[derive(Serialize)]
struct Refused<'a> {
    event: &'static str,
    error: Option<&'a FileProblem>,
}

impl Events {
    pub fn new() -> Events {
        Events {
            started: false,
            said_at: Instant::now(),
            said: None,
        }
    }
}

impl Report for Events {
    fn pace(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn look(&mut self, download: &Download) -> io::Result<()> {
        let summary = download.summary();
        if summary.state != State::Transferring {
            return Ok(());
        }
        let now = (
            summary.state,
            summary.error.clone(),
            summary.files_total.is_some(),
            summary.bytes_done,
        );
        let news = self.said.as_ref().is_none_or(|said| {
            (said.0, &said.1, said.2) != (now.0, &now.1, now.2)
                || (said.3 != now.3 && self.said_at.elapsed() >= EVENTS)
        });
        if !news {
            return Ok(());
        }
        let event = if self.started { "progress" } else { "started" };
        self.started = true;
        self.said = Some(now);
        self.said_at = Instant::now();
        print_json(&Event { event, summary })
    }

    fn end(
        &mut self,
        download: Option<&Download>,
        files: Option<&FileTable>,
        end: &End,
    ) -> io::Result<()> {
        let event = match end {
            End::Complete { .. } => "complete",
            End::Failed(_) => "error",
            End::Refused(_) => "refused",
            End::Interrupted => "interrupted",
        };
        let Some(download) = download else {
            let error = match end {
                End::Refused(problem) => Some(problem),
                _ => None,
            };
            return print_json(&Refused { event, error });
        };
        if let Some(files) = files {
            each_problem(files, |state, path, error| {
                let event = match state {
                    FileState::Skipped => "file_skipped",
                    _ => "file_failed",
                };
                print_json(&FileEvent { event, path, error })
            })?;
        }
        let summary = download.summary();
        print_json(&Event { event, summary })
    }
}

/// Calls `say` with every file that failed or was skipped, and why.
///
/// # Errors
/// What `say` reports.
pub fn each_problem(
    table: &FileTable,
    mut say: impl FnMut(FileState, &str, Option<&FileProblem>) -> io::Result<()>,
) -> io::Result<()> {
    for file in 0..table.len() {
        let state = table.state(file);
        if matches!(state, FileState::Error | FileState::Skipped) {
            say(state, &table.path(file), table.problem(file).as_ref())?;
        }
    }
    Ok(())
}

fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(&serde_json::to_string(value).map_err(io::Error::from)?)
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
