//! `haul get`: one package in the foreground, and the same command again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::nodes::get;
use crate::support::origin::{Gate, Kind, Origin, Reply, SECRET};
use crate::support::package::Package;
use crate::support::process::{Finished, Running, haul, run};
use crate::support::tree;

const LARGE: u64 = 24 << 20;
const RATE: u64 = 8 << 20;
/// What may be fetched twice after a stop: buffers of connections that are cut.
const SLACK: u64 = 1 << 20;
/// After a kill, the last quarter second too, and a tenth for a busy machine.
const KILL_SLACK: u64 = SLACK + RATE * 35 / 100;

/// An upstream, a home and a folder.
struct Desk {
    origin: Origin,
    dir: TempDir,
}

impl Desk {
    fn new(package: Package) -> Desk {
        Desk {
            origin: Origin::new(package),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn dst(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    /// The command line, with these words after LINK and DIR.
    fn get(&self, more: &[&str]) -> Command {
        self.get_link(&self.origin.link(), more)
    }

    fn get_link(&self, link: &str, more: &[&str]) -> Command {
        let home = self.dir.path().join("home");
        get(&self.origin, link, &self.dst(), &home, more)
    }

    /// Runs it to its end, which must have this code.
    fn expect(&self, code: i32, more: &[&str]) -> Finished {
        let end = run(&mut self.get(more));
        assert_eq!(end.code(), Some(code), "{end:?}");
        assert_no_secret(&end);
        end
    }

    /// Starts it on a slow line, and lets it get that many bytes.
    fn begun(&self, bytes: u64) -> Running {
        self.origin.throttle(RATE);
        let running = Running::start(&mut self.get(&["--json"]));
        self.origin.await_served(bytes);
        running
    }

    fn assert_arrived(&self) {
        for entry in self.origin.package().entries {
            let path = self.dst().join(entry.path.unwrap()).join(&entry.name);
            tree::assert_file(&path, entry.seed, entry.size);
        }
        assert_eq!(tree::part_files(&self.dst()), Vec::<PathBuf>::new());
    }

    /// The state directories that gets have left.
    fn states(&self) -> Vec<String> {
        let all = tree::paths(&self.dir.path().join("home/.local/state/haul/get"));
        let top = |path: &String| path.matches('/').count() == 1 && path.ends_with('/');
        all.into_iter().filter(top).collect()
    }
}

fn assert_no_secret(end: &Finished) {
    for text in [&end.stdout, &end.stderr] {
        assert!(
            !text.contains(SECRET) && !text.contains("secret="),
            "{text}"
        );
    }
}

#[test]
fn a_package_arrives_and_plain_lines_say_so() {
    let desk = Desk::new(Package::new().file("a.mov", 3 << 20).file("sub/b.txt", 10));
    let end = desk.expect(0, &[]);
    desk.assert_arrived();
    let lines: Vec<&str> = end.stdout.lines().collect();
    assert!(
        lines[0].starts_with("Dailies 14: 2 files, 3.1 MB, to "),
        "{end:?}"
    );
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("complete: 2 files, 3.1 MB, in "),
        "{end:?}"
    );
    assert!(
        !end.stdout.contains(['\u{1b}', '\r']),
        "no terminal: {end:?}"
    );
    assert_eq!(end.stderr, "");
}

#[test]
fn the_same_command_again_has_nothing_to_do() {
    let desk = Desk::new(Package::new().file("a.mov", 1 << 20));
    desk.expect(0, &[]);
    let requests = desk.origin.count(Kind::Link);
    let end = desk.expect(0, &[]);
    assert!(
        end.stdout.starts_with("complete already: 1 file, "),
        "{end:?}"
    );
    assert_eq!(desk.origin.count(Kind::Link), requests, "nobody is asked");
    assert_eq!(desk.origin.served(), 1 << 20);
    assert_eq!(tree::paths(&desk.dst()), ["a.mov"]);
}

#[test]
fn files_that_are_gone_or_cut_off_are_fetched_again() {
    let desk = Desk::new(Package::new().many(5, 40_000).file("sub/b", 70_000));
    desk.expect(0, &[]);
    fs::remove_file(desk.dst().join("many/0003")).unwrap();
    fs::write(desk.dst().join("sub/b"), "cut off").unwrap();
    desk.expect(0, &["--if-exists", "overwrite"]);
    desk.assert_arrived();
    assert_eq!(desk.origin.served(), 270_000 + 110_000);
    fs::remove_dir_all(desk.dst()).unwrap();
    desk.expect(0, &[]);
    desk.assert_arrived();
}

#[test]
fn what_was_left_out_for_being_there_is_replaced_when_that_is_asked_for() {
    let desk = Desk::new(Package::new().file("a.mov", 5000).file("b", 10));
    fs::create_dir(desk.dst()).unwrap();
    fs::write(desk.dst().join("a.mov"), "mine").unwrap();
    desk.expect(0, &["--if-exists", "skip"]);
    assert_eq!(fs::read(desk.dst().join("a.mov")).unwrap(), b"mine");
    desk.expect(0, &["--if-exists", "overwrite"]);
    desk.assert_arrived();
}

#[test]
fn a_stdout_that_takes_no_more_is_said_to_be_full() {
    for words in [&["help"][..], &["version"], &["completions", "bash"]] {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >/dev/full", "sh"]);
        command.arg(haul().get_program()).args(words);
        let end = run(&mut command);
        assert_eq!(end.code(), Some(1), "{end:?}");
        let expected = "haul: cannot write to stdout: no space left on device\n";
        assert_eq!(end.stderr, expected);
    }
}

#[test]
fn a_state_directory_that_cannot_be_one_is_said_to_be_none() {
    let desk = Desk::new(Package::new());
    let file = desk.dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, words) in [
        (file.to_str().unwrap(), "something that is not a folder"),
        ("/proc/x", "cannot be made"),
    ] {
        let end = desk.expect(1, &["--state-dir", path]);
        assert!(end.stderr.contains(words), "{end:?}");
        assert!(end.stderr.contains("--state-dir"), "{end:?}");
    }
}

/// The same command with SIGHUP as the system has it, which ends a process.
fn unhindered(command: &Command) -> Command {
    let mut env = Command::new("env");
    env.arg("--default-signal=HUP")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    env
}

#[test]
fn control_c_pauses_and_the_same_command_goes_on() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let desk = Desk::new(Package::new().file("large.mov", LARGE));
        desk.origin.throttle(RATE);
        // Whoever runs the tests may be under nohup(1), which haul would heed.
        let running = Running::start(&mut unhindered(&desk.get(&["--json"])));
        desk.origin.await_served(LARGE / 2);
        running.signal(signal);
        let end = running.finish();
        assert_eq!(end.code(), Some(130), "{end:?}");
        let event = end.last_event();
        assert_eq!(event["event"], "interrupted");
        assert_eq!(event["state"], "paused");
        assert_no_secret(&end);
        desk.origin.unthrottle();
        desk.expect(0, &[]);
        desk.assert_arrived();
        let twice = desk.origin.served() - LARGE;
        assert!(twice <= SLACK, "{twice} bytes fetched twice");
    }
}

#[test]
fn people_are_told_how_to_go_on() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    desk.origin.throttle(RATE);
    let running = Running::start(&mut desk.get(&[]));
    desk.origin.await_served(LARGE / 4);
    running.signal(Signal::INT);
    let end = running.finish();
    assert_eq!(end.code(), Some(130), "{end:?}");
    let last = end.stdout.lines().last().unwrap();
    assert!(last.starts_with("paused at "), "{end:?}");
    assert!(
        last.ends_with("to go on, run the same command again"),
        "{end:?}"
    );
}

#[test]
fn a_kill_costs_next_to_nothing() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE).many(20, 30_000));
    let size = desk.origin.package().size();
    let mut running = desk.begun(LARGE / 2);
    running.kill9();
    desk.origin.unthrottle();
    desk.expect(0, &[]);
    desk.assert_arrived();
    let twice = desk.origin.served() - size;
    assert!(twice <= KILL_SLACK, "{twice} bytes fetched twice");
}

#[test]
fn events_are_one_object_a_line() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    desk.origin.throttle(RATE);
    let end = desk.expect(0, &["--json"]);
    let events = end.events();
    assert_eq!(events[0]["event"], "started", "{end:?}");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "complete");
    assert_eq!(
        (&last["state"], &last["bytes_done"]),
        (&"complete".into(), &LARGE.into())
    );
    // A summary as the API has it.
    for field in [
        "download_id",
        "name",
        "dst_folder",
        "bytes_per_second",
        "eta_seconds",
        "bytes_free",
        "error",
    ] {
        assert!(last.get(field).is_some(), "{field}: {last}");
    }
    let progress = events
        .iter()
        .filter(|event| event["event"] == "progress")
        .count();
    assert!(
        (1..=8).contains(&progress),
        "three seconds, one a second: {end:?}"
    );
}

#[test]
fn quiet_is_quiet() {
    let desk = Desk::new(Package::new().file("a", 1000));
    let end = desk.expect(0, &["--quiet"]);
    assert_eq!((end.stdout.as_str(), end.stderr.as_str()), ("", ""));
    desk.assert_arrived();
}

#[test]
fn a_link_that_the_server_refuses_is_exit_3() {
    for status in [404, 410, 401, 403] {
        let desk = Desk::new(Package::new().file("a", 1000));
        desk.origin.refuse_link(status);
        let end = desk.expect(3, &["--json"]);
        assert_eq!(end.last_event()["event"], "refused", "{end:?}");
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
        assert!(!desk.dst().exists(), "nothing is left behind");
        assert_eq!(desk.states(), Vec::<String>::new());
    }
}

#[test]
fn a_password_comes_from_the_environment() {
    let desk = Desk::new(Package::new().file("a", 1000));
    desk.origin.require_password("open sesame");
    let end = desk.expect(3, &[]);
    assert!(end.stderr.contains("HAUL_PASSWORD"), "{end:?}");
    let end = run(desk.get(&[]).env("HAUL_PASSWORD", "hunter2"));
    assert_eq!(end.code(), Some(3), "{end:?}");
    assert!(!end.stderr.contains("hunter2"), "{end:?}");
    let end = run(desk.get(&[]).env("HAUL_PASSWORD", "open sesame"));
    assert_eq!(end.code(), Some(0), "{end:?}");
    desk.assert_arrived();
}

#[test]
fn a_link_that_expires_on_the_way_is_exit_3_too() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    let running = desk.begun(LARGE / 4);
    running.signal(Signal::INT);
    assert_eq!(running.finish().code(), Some(130));
    desk.origin.refuse_link(410);
    // While the token is good the link is not asked again.
    desk.origin.revoke_token();
    desk.origin.expire_addresses();
    let end = desk.expect(3, &["--json"]);
    let event = end.last_event();
    assert_eq!(event["event"], "error");
    assert_eq!(event["error"]["code"], "link_expired", "{event}");
    assert_eq!(tree::part_files(&desk.dst()).len(), 1, "what came is kept");
}

#[test]
fn a_failed_file_is_exit_1_and_fetched_by_the_same_command() {
    let desk = Desk::new(Package::new().file("good", 1000).file("bad", 1000));
    desk.origin.on(Kind::Bytes, |seen| match seen.is_for("F2") {
        true => Reply::status(404),
        false => Reply::serve(),
    });
    let end = desk.expect(1, &[]);
    assert!(
        end.stderr
            .lines()
            .next()
            .unwrap()
            .starts_with("haul: bad: "),
        "{end:?}"
    );
    assert!(end.stderr.contains("the same command again"), "{end:?}");
    let end = desk.expect(1, &["--json"]);
    let failed = |event: &&Value| event["event"] == "file_failed";
    assert_eq!(end.events().iter().find(failed).unwrap()["path"], "bad");
    desk.origin.heal(Kind::Bytes);
    desk.expect(0, &[]);
    desk.assert_arrived();
    assert_eq!(desk.origin.served_of("F1"), 1000);
}

#[test]
fn bad_usage_is_exit_2() {
    let desk = Desk::new(Package::new());
    for link in [
        "nonsense",
        "https://example.com/A?secret=top-s3cret",
        "https://get.massive.app/A",
        "@/nowhere/link",
    ] {
        let end = run(&mut desk.get_link(link, &[]));
        assert_eq!(end.code(), Some(2), "{end:?}");
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
        assert!(!end.stderr.contains("top-s3cret"), "{end:?}");
    }
    assert_eq!(run(haul().arg("get")).code(), Some(2));
    assert!(!desk.dir.path().join("home").exists(), "nothing was begun");
}

#[test]
fn a_link_in_a_file_stays_out_of_the_list_of_processes() {
    let desk = Desk::new(Package::new().file("a", 1000));
    let file = desk.dir.path().join("link");
    fs::write(&file, format!("{}\n", desk.origin.link())).unwrap();
    let end = run(&mut desk.get_link(&format!("@{}", file.display()), &[]));
    assert_eq!(end.code(), Some(0), "{end:?}");
    desk.assert_arrived();
}

#[test]
fn two_at_once_do_not_get_in_each_others_way() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    let running = desk.begun(LARGE / 4);
    let end = desk.expect(1, &[]);
    assert!(end.stderr.contains("another haul get"), "{end:?}");
    desk.origin.unthrottle();
    assert_eq!(running.finish().code(), Some(0));
    desk.assert_arrived();
}

#[test]
fn without_a_folder_it_goes_into_the_current_one() {
    let desk = Desk::new(Package::new().file("a", 1000));
    fs::create_dir(desk.dst()).unwrap();
    let pair = format!("{}={}", desk.origin.base(), desk.origin.api());
    let mut command = haul();
    command
        .args(["get", &desk.origin.link(), "--origin", &pair])
        .current_dir(desk.dst())
        .env("HOME", desk.dir.path().join("home"));
    let end = run(&mut command);
    assert_eq!(end.code(), Some(0), "{end:?}");
    desk.assert_arrived();
    // Named in full, it is the same folder.
    let end = desk.expect(0, &[]);
    assert!(end.stdout.starts_with("complete already"), "{end:?}");
}

#[test]
fn an_interrupt_before_the_server_has_answered_ends_it_at_once() {
    let desk = Desk::new(Package::new().file("a", 1000));
    let gate = Gate::new();
    desk.origin.always(Kind::Link, Reply::stall(&gate));
    let running = Running::start(&mut desk.get(&[]));
    desk.origin.await_requests(Kind::Link, 1);
    running.signal(Signal::INT);
    let end = running.finish();
    assert_eq!(end.code(), Some(130), "{end:?}");
    assert!(end.stdout.starts_with("stopped before it began"), "{end:?}");
    gate.open();
    desk.origin.heal(Kind::Link);
    desk.expect(0, &[]);
    desk.assert_arrived();
}

#[test]
fn a_fault_that_is_waited_out_is_said() {
    let desk = Desk::new(Package::new().file("a", 1000));
    desk.origin.first(2, Kind::Listing, Reply::status(503));
    let end = desk.expect(0, &[]);
    desk.assert_arrived();
    assert!(end.stdout.contains("waiting: "), "{end:?}");
}

#[test]
fn a_closed_stdout_stops_it() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    desk.origin.throttle(RATE);
    let script = "\"$@\" | head -n 1; exit ${PIPESTATUS[0]}";
    let get = desk.get(&["--json"]);
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "bash"])
        .arg(get.get_program())
        .args(get.get_args())
        .env("HOME", desk.dir.path().join("home"));
    let end = run(&mut command);
    assert_eq!(end.code(), Some(1), "{end:?}");
    assert!(desk.origin.served() < LARGE, "it did not go on unseen");
    assert!(desk.origin.is_idle_within(Duration::from_secs(5)));
}

/// Runs it on a pseudo-terminal of 100 columns, which util-linux's script(1) makes; its stdout is
/// what the terminal got.
fn on_terminal(desk: &Desk, env: &[(&str, &str)]) -> Finished {
    let get = desk.get(&[]);
    let words = std::iter::once(get.get_program()).chain(get.get_args());
    let quoted = words.map(|word| format!(" '{}'", word.to_str().unwrap()));
    let inner = format!("stty cols 100 rows 30;{}", quoted.collect::<String>());
    let mut command = Command::new("script");
    command
        .args(["-q", "-e", "-c", &inner, "/dev/null"])
        .env("HOME", desk.dir.path().join("home"))
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env("SHELL", "/bin/sh")
        .env_remove("NO_COLOR")
        .envs(env.iter().copied());
    run(&mut command)
}

/// What is left on a terminal that understands the few sequences that are used; any other is a
/// failure.
fn screen(record: &str) -> Vec<String> {
    let mut rows: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0);
    let mut rest = record.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['));
                let mut count = String::new();
                let letter = loop {
                    match rest.next().unwrap() {
                        digit if digit.is_ascii_digit() => count.push(digit),
                        letter => break letter,
                    }
                };
                match letter {
                    'A' => row -= count.parse::<usize>().unwrap(),
                    'K' => rows[row].truncate(column),
                    'J' => {
                        rows.truncate(row + 1);
                        rows[row].truncate(column);
                    }
                    'm' => {}
                    other => panic!("CSI {count}{other}"),
                }
            }
            '\r' => column = 0,
            '\n' => {
                row += 1;
                rows.resize(rows.len().max(row + 1), Vec::new());
            }
            c => {
                let cells = &mut rows[row];
                cells.resize(cells.len().max(column + 1), ' ');
                cells[column] = c;
                column += 1;
                assert!(column < 100, "it would wrap: {cells:?}");
            }
        }
    }
    let rows = rows.into_iter().map(|row| row.into_iter().collect());
    rows.filter(|row: &String| !row.is_empty()).collect()
}

#[test]
fn a_terminal_gets_bars_and_is_left_clean() {
    let desk = Desk::new(
        Package::new()
            .file("large.mov", LARGE)
            .file("other.mov", LARGE),
    );
    desk.origin.throttle(2 * RATE);
    let end = on_terminal(&desk, &[]);
    let record = &end.stdout;
    assert_eq!(end.code(), Some(0), "{record}");
    desk.assert_arrived();
    assert!(
        record.contains('█') && record.contains("large.mov  "),
        "{record}"
    );
    assert!(
        record.contains("/s, ") && record.contains(" left"),
        "{record}"
    );
    assert!(record.contains("\u{1b}[32m"), "in colour: {record}");
    let left = screen(record);
    assert_eq!(left.len(), 2, "{left:#?}");
    assert!(left[0].starts_with("Dailies 14: 2 files"), "{left:?}");
    assert!(left[1].starts_with("complete: 2 files"), "{left:?}");
}

#[test]
fn color_can_be_switched_off() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    desk.origin.throttle(2 * RATE);
    let end = on_terminal(&desk, &[("NO_COLOR", "1"), ("LC_ALL", "C")]);
    assert_eq!(end.code(), Some(0), "{end:?}");
    assert!(
        end.stdout.contains("##"),
        "and ASCII where the locale is: {end:?}"
    );
    assert!(!end.stdout.contains("\u{1b}[32m"), "{end:?}");
    assert!(end.stdout.is_ascii(), "{end:?}");
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let desk = Desk::new(Package::new().file("a", 1000));
    let end = on_terminal(&desk, &[("TERM", "dumb")]);
    assert_eq!(end.code(), Some(0), "{end:?}");
    assert!(!end.stdout.contains('\u{1b}'), "{end:?}");
}

/// The script for Slurm, with a scontrol(1) that only says what it was asked.
fn slurm_task(desk: &Desk) -> Command {
    let bin = desk.dir.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let scontrol = bin.join("scontrol");
    fs::write(&scontrol, "#!/bin/sh\necho \"scontrol $*\"\n").unwrap();
    fs::set_permissions(&scontrol, fs::Permissions::from_mode(0o700)).unwrap();
    let links = desk.dir.path().join("links.txt");
    fs::write(&links, format!("not this one\n{}\n", desk.origin.link())).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = haul();
    let haul = command.get_program().to_owned();
    command = Command::new("bash");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/scripts/packaging/batch/slurm.sbatch"
        ))
        .env("HAUL", haul)
        .env("PATH", format!("{}:{path}", bin.display()))
        .env(
            "HAUL_ORIGIN",
            format!("{}={}", desk.origin.base(), desk.origin.api()),
        )
        .env("LINKS", links)
        .env("DEST", desk.dst())
        .env("SLURM_JOB_ID", "78")
        .env("SLURM_ARRAY_JOB_ID", "77")
        .env("SLURM_ARRAY_TASK_ID", "2");
    command
}

#[test]
fn a_slurm_task_that_is_stopped_is_queued_again_and_goes_on() {
    let desk = Desk::new(Package::new().file("large.mov", LARGE));
    desk.origin.throttle(RATE);
    let running = Running::start(&mut slurm_task(&desk));
    desk.origin.await_served(LARGE / 2);
    running.signal(Signal::TERM);
    let end = running.finish();
    assert_eq!(end.code(), Some(130), "{end:?}");
    assert!(end.stdout.contains("scontrol requeue 77_2\n"), "{end:?}");
    assert_no_secret(&end);
    desk.origin.unthrottle();
    let end = run(&mut slurm_task(&desk));
    assert_eq!(end.code(), Some(0), "{end:?}");
    assert!(!end.stdout.contains("scontrol"), "{end:?}");
    tree::assert_file(&desk.dst().join("2/large.mov"), 1, LARGE);
    assert!(desk.origin.served() - LARGE <= SLACK);
}

/// Waits until it says on stderr that nothing comes, stops it as that line says, and looks what it
/// said before.
fn assert_told_and_stopped(mut running: Running, server: &str) {
    // The log is on stderr, too.
    let line = loop {
        let line = running.stderr.line().expect("a line on stderr");
        if line.starts_with("haul: ") {
            break line;
        }
    };
    for part in [
        server,
        "cannot be reached",
        "goes on trying for 1 d",
        "Ctrl-C stops it",
        "same command",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    running.signal(Signal::INT);
    assert_eq!(running.wait_exit().code(), Some(130));
    let said = running.stderr.rest();
    assert_eq!(said.matches("cannot be reached").count(), 1, "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn without_a_network_it_says_so_for_how_long_it_tries_and_how_to_stop_it() {
    let desk = Desk {
        origin: Origin::down(Package::new().file("a", 10)),
        dir: tempfile::tempdir().unwrap(),
    };
    let server = desk.origin.base().trim_start_matches("http://").to_owned();
    for more in [&[] as &[&str], &["--quiet"], &["--json"]] {
        assert_told_and_stopped(Running::start(&mut desk.get(more)), &server);
    }
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_cannot_be_reached_either() {
    let desk = Desk::new(Package::new().file("a", 10));
    let gate = Gate::new();
    desk.origin.always(Kind::Link, Reply::stall_after(0, &gate));
    let server = desk.origin.base().trim_start_matches("http://").to_owned();
    assert_told_and_stopped(Running::start(&mut desk.get(&[])), &server);
    gate.open();
}
