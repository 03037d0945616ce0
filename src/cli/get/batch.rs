//! `haul get --batch`: one package after the other, each by a process of its own, so that nothing
//! of one is in another's way.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::request;
use super::verdict::{COMPLETE, FAILED, INTERRUPTED, USAGE, complain};
use crate::base::permission::explained;
use crate::base::system_words::words;
use crate::cli::{self, Batch, Output};

/// A longer list is not read, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// One line of the list: a link, then a folder and flags as `haul get` takes them.
struct Line {
    number: usize,
    link: String,
    rest: Vec<String>,
}

/// Downloads every package of the list. Returns the exit code; all that there is to say has been
/// said.
pub fn run(batch: &Batch) -> u8 {
    let read = text(&batch.file).and_then(|text| lines(&text, batch));
    let lines = match read {
        Ok(lines) => lines,
        Err(message) => {
            complain(&message);
            return USAGE;
        }
    };
    let current = Arc::<Current>::default();
    if let Err(error) = current.listen_for_signals() {
        complain(&format!("signals cannot be handled: {}", words(&error)));
        return FAILED;
    }
    let mut ends = Vec::with_capacity(lines.len());
    for line in &lines {
        let end = match download(line, batch, &current) {
            Ok(end) => end,
            Err(error) => {
                complain(&format!("a process cannot be started: {}", words(&error)));
                FAILED
            }
        };
        ends.push(end);
        if current.is_interrupted() {
            break;
        }
        if end != COMPLETE {
            complain(&format!(
                "line {}: not downloaded (exit status {end})",
                line.number
            ));
        }
    }
    sum_up(&lines, &ends, batch.output, current.is_interrupted())
}

fn sum_up(lines: &[Line], ends: &[u8], output: Output, interrupted: bool) -> u8 {
    let complete = ends.iter().filter(|&&end| end == COMPLETE).count();
    let all = lines.len();
    let said = match output {
        Output::Quiet => Ok(()),
        Output::Json => {
            let told = serde_json::json!({"event": "batch", "packages": all, "complete": complete});
            writeln!(io::stdout(), "{told}")
        }
        Output::Human => writeln!(io::stdout(), "{complete} of {all} packages are complete."),
    };
    let mut failed = ends.iter().copied().filter(|&end| end != COMPLETE);
    match failed.next() {
        _ if interrupted => INTERRUPTED,
        // One reason for all of them is told as that.
        Some(first) if failed.all(|end| end == first) => first,
        Some(_) => FAILED,
        None if said.is_err() => FAILED,
        None => COMPLETE,
    }
}

fn text(file: &Path) -> Result<String, String> {
    let failed = |error: io::Error| {
        format!(
            "the list cannot be read from {}: {}",
            file.display(),
            explained(&error, file)
        )
    };
    let reader: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).map_err(failed)?),
    };
    let mut text = String::new();
    reader
        .take(MAX_LIST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// The lines of the list that are about a package, each found to be usable: a mistake in the last
/// one is told before the first one is begun.
fn lines(text: &str, batch: &Batch) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let wrong = |what: &str| format!("line {number} of the list: {what}");
        let mut words = split(text)
            .ok_or_else(|| wrong("a quote has no end"))?
            .into_iter();
        let Some(link) = words.next() else { continue };
        let line = Line {
            number,
            link,
            rest: words.collect(),
        };
        let link = OsString::from(&line.link);
        let args = ["get".into(), link].into_iter().chain(line.args(batch));
        match cli::parse(args, &|name| std::env::var_os(name)) {
            Ok(cli::Command::Get(get)) => {
                request::download_request(&get).map_err(|what| wrong(&what))?;
                lines.push(line);
            }
            Ok(_) => return Err(wrong("it is not about a package")),
            Err(error) => return Err(wrong(&error.to_string())),
        }
    }
    Ok(lines)
}

impl Line {
    /// What follows the link: what is said in the line wins over what is said for all.
    fn args(&self, batch: &Batch) -> impl Iterator<Item = OsString> {
        let own = self.rest.iter().map(OsString::from);
        batch.flags.iter().cloned().chain(own)
    }
}

/// The words of a line as a shell would have them, without its other powers: quotes and backslashes
/// keep a word together, `#` begins a comment. None: a quote has no end.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '#' if word.is_none() => break,
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        end if end == character => break,
                        '\\' if character == '"' => word.push(characters.next()?),
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(characters.next()?),
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// Downloads one package by a process of its own, which reads the link from its stdin: others on
/// the machine can see arguments.
fn download(line: &Line, batch: &Batch, current: &Current) -> io::Result<u8> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["get", "-"])
        .args(line.args(batch))
        .env_remove("HAUL_BATCH")
        .stdin(Stdio::piped())
        // What the terminal sends goes to this process, which passes it on, once.
        .process_group(0);
    if let Some(password) = &batch.password {
        command.env("HAUL_PASSWORD", password.reveal());
    }
    let mut child = command.spawn()?;
    current.set(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // Where it has ended already, its exit status says why.
        let _ = writeln!(stdin, "{}", line.link);
    }
    let status = child.wait();
    current.clear();
    Ok(status?
        .code()
        .and_then(|code| code.try_into().ok())
        .unwrap_or(FAILED))
}

/// The process that is at work, for signals to be passed on.
#[derive(Default)]
struct Current {
    /// Its number; 0 if there is none.
    process: AtomicI32,
    interrupted: AtomicBool,
}

impl Current {
    fn set(&self, child: &Child) {
        self.process
            .store(Pid::from_child(child).as_raw_pid(), Ordering::SeqCst);
        // One that came a moment ago found nobody.
        if self.is_interrupted() {
            self.pass_on(Signal::TERM);
        }
    }

    fn clear(&self) {
        self.process.store(0, Ordering::SeqCst);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    fn pass_on(&self, signal: Signal) {
        if let Some(process) = Pid::from_raw(self.process.load(Ordering::SeqCst)) {
            // It may have ended just now.
            let _ = kill_process(process, signal);
        }
    }

    fn listen_for_signals(self: &Arc<Current>) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        if !super::is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        let current = self.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for _ in signals.forever() {
                    current.interrupted.store(true, Ordering::SeqCst);
                    current.pass_on(Signal::TERM);
                }
            })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_does() {
        let words = |line: &str| split(line).unwrap();
        assert_eq!(
            words("  a 'b c'  \"d \\\" e\"\\ f '' # g"),
            ["a", "b c", "d \" e f", ""]
        );
        assert_eq!(words("# all of it"), [""; 0]);
        assert_eq!(words("a#b"), ["a#b"]);
        assert_eq!(words("\t"), [""; 0]);
        for open in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(open), None, "{open}");
        }
    }
}
