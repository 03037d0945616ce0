//! The order of truth, as the kernel saw it: data is synced before the journal says so, and the
//! journal is synced before a caller is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::agent::{Agent, Setup, one};
use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::tree;

/// A system call: when it began and ended, as line numbers of the trace, and its text.
#[derive(Debug)]
struct Call {
    begun: usize,
    ended: usize,
    name: String,
    text: String,
}

impl Call {
    fn is(&self, name: &str, part: &str) -> bool {
        self.name == name && self.text.contains(part)
    }
}

/// Whether programs can be traced here; in CI they must be.
pub fn can_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output();
    let works = matches!(&tried, Ok(output) if output.status.success());
    if !works {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs strace: {tried:?}"
        );
        eprintln!("skipped: nothing can be traced here: {tried:?}");
    }
    works
}

struct Traced {
    agent: Agent,
    origin: Origin,
    dir: TempDir,
}

impl Traced {
    fn new(package: Package) -> Traced {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::new(package);
        let trace = dir.path().join("trace");
        let trace = trace.to_str().unwrap();
        let calls = "trace=openat,pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync,syncfs,renameat,renameat2";
        // As a grandchild, so that the agent can be killed as always.
        let words = [
            "strace", "-D", "-f", "-qq", "-y", "-s", "400", "-e", calls, "-o", trace,
        ];
        let agent = Setup::new().quiet().origin(&origin).wrapper(&words).start();
        Traced { agent, origin, dir }
    }

    fn dst(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    /// Ends the agent; every call that it made.
    fn calls(mut self) -> Vec<Call> {
        let (status, _) = self.agent.terminate();
        assert_eq!(status.code(), Some(0));
        parse(&self.dir.path().join("trace"))
    }
}

fn parse(trace: &Path) -> Vec<Call> {
    let text = fs::read(trace).unwrap();
    let text = String::from_utf8_lossy(&text);
    let mut calls: Vec<Call> = Vec::new();
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            let Some(place) = open.iter().rposition(|(other, _)| *other == thread) else {
                continue;
            };
            let (_, call) = open.remove(place);
            calls[call].ended = at;
            continue;
        }
        let Some((name, _)) = rest.split_once('(') else {
            continue;
        };
        if rest.contains("<unfinished ...>") {
            open.push((thread, calls.len()));
        }
        let ended = if rest.contains("<unfinished ...>") {
            usize::MAX
        } else {
            at
        };
        calls.push(Call {
            begun: at,
            ended,
            name: name.into(),
            text: rest.into(),
        });
    }
    calls
}

/// Whether a call that is as wanted began after `after` and ended before `before`.
fn between(calls: &[Call], after: usize, before: usize, wanted: impl Fn(&Call) -> bool) -> bool {
    calls
        .iter()
        .any(|call| wanted(call) && call.begun > after && call.ended < before)
}

fn is_journal_sync(call: &Call) -> bool {
    matches!(&*call.name, "fdatasync" | "fsync") && call.text.contains("downloads.journal")
}

/// The numbers after this field in the text of a call.
fn numbers_after(call: &Call, field: &str) -> Vec<u64> {
    let pieces = call.text.split(field).skip(1);
    pieces
        .filter_map(|piece| {
            let digits: String = piece.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

#[test]
fn data_is_synced_before_the_journal_says_so() {
    if !can_trace() {
        return;
    }
    let rig = Traced::new(Package::new().file("large", 10 << 20).many(40, 20_000));
    rig.origin.throttle(4 << 20);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.agent.wait_state(&id, "complete");
    let journal = rig.agent.state_dir().join("downloads.journal");
    rig.agent.wait(&id, "the last mark", |_| {
        let text = fs::read_to_string(&journal).unwrap();
        text.lines()
            .last()
            .is_some_and(|line| line.starts_with("{\"s\":"))
    });
    assert_eq!(tree::part_files(&rig.dst()), Vec::<PathBuf>::new());
    let calls = rig.calls();
    let journal = |call: &&Call| call.is("pwrite64", "downloads.journal");
    let writes: Vec<&Call> = calls.iter().filter(journal).collect();
    let mut marks = 0;
    for mark in &writes {
        let Some(upto) = numbers_after(mark, r#"{\"s\":"#).into_iter().max() else {
            continue;
        };
        // Where the last change that it vouches for was written; the data behind it was in place
        // before.
        let change = writes
            .iter()
            .find(|write| numbers_after(write, r#"{\"n\":"#).contains(&upto));
        let Some(change) = change else { continue };
        marks += 1;
        assert!(
            between(&calls, change.ended, mark.begun, |call| call.name
                == "syncfs"),
            "no sync between {change:?} and {mark:?}"
        );
        assert!(
            between(&calls, mark.ended, usize::MAX, is_journal_sync),
            "{mark:?} is not synced"
        );
    }
    assert!(marks >= 2, "{marks} marks");
    // A file is said to be whole after its bytes were written and before it gets its name.
    let done = writes
        .iter()
        .find(|write| write.text.contains(r#"\"d\":["#))
        .unwrap();
    assert!(
        calls
            .iter()
            .any(|call| call.name.starts_with("renameat") && call.begun > done.ended)
    );
}

#[test]
fn a_part_is_made_after_the_journal_on_disk_knows_of_it() {
    if !can_trace() {
        return;
    }
    // More than are noted at once.
    let rig = Traced::new(Package::new().many(1200, 10));
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.agent.wait_state(&id, "complete");
    let calls = rig.calls();
    let noted: Vec<(&Call, u64)> = calls
        .iter()
        .filter(|call| call.is("pwrite64", "downloads.journal"))
        .flat_map(|call| {
            numbers_after(call, r#"\"b\":[0,"#)
                .into_iter()
                .map(move |upto| (call, upto))
        })
        .collect();
    assert!(noted.len() > 1, "{noted:?}");
    let made: Vec<&Call> = calls
        .iter()
        .filter(|call| call.is("openat", ".part") && call.text.contains("O_CREAT"))
        .collect();
    assert_eq!(made.len(), 1200);
    // Files are begun in their order, if only roughly: so many parts are there for so many that
    // were noted.
    for (count, part) in (1..).zip(&made) {
        let synced = noted.iter().rev().find(|(note, _)| {
            note.ended < part.begun && between(&calls, note.ended, part.begun, is_journal_sync)
        });
        let upto = synced.map_or(0, |&(_, upto)| upto);
        assert!(count <= upto, "{count} parts, {upto} noted: {part:?}");
    }
}

#[test]
fn a_caller_is_told_after_the_journal_was_synced() {
    if !can_trace() {
        return;
    }
    let rig = Traced::new(Package::new().file("large", 10 << 20));
    rig.origin.throttle(1 << 20);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.agent.pause(&id).expect(200);
    rig.agent.resume(&id).expect(200);
    rig.agent.delete(&one(&id)).expect(200);
    let calls = rig.calls();
    let mut from = 0;
    for (change, answer) in [
        (r#"{\"created\":"#, "HTTP/1.1 201"),
        (r#"\"paused\""#, "HTTP/1.1 200"),
        (r#"{\"state\":"#, "HTTP/1.1 200"),
        (r#"{\"deleting\":"#, "HTTP/1.1 200"),
    ] {
        let written = calls.iter().find(|call| {
            call.begun > from
                && call.is("pwrite64", "downloads.journal")
                && call.text.contains(change)
        });
        let written = written.unwrap_or_else(|| panic!("{change} is not in the journal"));
        let told = calls
            .iter()
            .find(|call| call.begun > from && call.text.contains(answer))
            .unwrap_or_else(|| panic!("no {answer} after {change}"));
        assert!(
            between(&calls, written.ended, told.begun, is_journal_sync),
            "no sync between {written:?} and {told:?}"
        );
        // The answer is relayed once; the next call's is another one.
        let relayed = calls
            .iter()
            .filter(|call| call.begun > told.begun && call.text.contains(answer));
        from = relayed
            .take(1)
            .map(|call| call.begun)
            .last()
            .unwrap_or(told.begun);
    }
}
