//! The state directory: whose it is, what it survives, and how the agent ends.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::agent::{DOWNLOADS, Setup, ready};
use crate::support::http;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::process::{Running, haul, run};
use crate::support::rig::Rig;
use crate::support::tree;

const FIVE_SECONDS: Duration = Duration::from_secs(5);

fn used() -> (Rig, String) {
    let rig = Rig::new(Package::new().file("a", 1000));
    let id = rig.create();
    rig.complete(&id);
    (rig, id)
}

#[test]
fn nobody_else_may_read_it() {
    let (mut rig, _) = used();
    let state = rig.agent.state_dir();
    let look = || {
        assert_eq!(tree::mode(&state), 0o700);
        for path in tree::paths(&state) {
            // A socket is a file too; folders are searched.
            let wanted = if path.ends_with('/') { 0o700 } else { 0o600 };
            assert_eq!(tree::mode(&state.join(&path)), wanted, "{path}");
        }
    };
    look();
    rig.agent.terminate();
    look();
    assert!(state.join("downloads.json").exists());
    for path in tree::paths(&state) {
        let mode = if path.ends_with('/') { 0o755 } else { 0o644 };
        fs::set_permissions(state.join(&path), fs::Permissions::from_mode(mode)).unwrap();
    }
    rig.agent.restart();
    look();
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let (rig, id) = used();
    let end = run(&mut rig.agent.setup().command());
    assert_eq!(end.code(), Some(1), "{end:?}");
    assert_eq!(end.stdout, "");
    assert!(!end.stderr.trim().is_empty(), "it says so");
    assert_eq!(rig.agent.inspect(&id)["state"], "complete");
}

#[test]
fn a_killed_agent_leaves_no_lock() {
    let (mut rig, id) = used();
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.inspect(&id)["state"], "complete");
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_was() {
    for damage in [
        "",
        "{\"downloads\": [",
        "nonsense",
        "[1, 2",
        "\u{0}\u{0}\u{0}",
    ] {
        let (mut rig, _) = used();
        rig.agent.terminate();
        let file = rig.agent.state_dir().join("downloads.json");
        fs::write(&file, damage).unwrap();
        let end = run(&mut rig.agent.setup().command());
        assert_eq!(end.code(), Some(1), "{damage:?}: {end:?}");
        assert_eq!(end.stdout, "");
        assert!(end.stderr.contains("downloads.json"), "{damage:?}: {end:?}");
        assert_eq!(fs::read(&file).unwrap(), damage.as_bytes());
    }
}

#[test]
fn the_state_is_valid_json() {
    let (mut rig, _) = used();
    rig.agent.terminate();
    let text = fs::read(rig.agent.state_dir().join("downloads.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap();
}

#[test]
fn a_torn_last_line_of_the_journal_is_ignored() {
    let rig = Rig::new(Package::new().file("a", 1000).file("b", 500_000));
    let gate = Gate::new();
    rig.origin.on(Kind::Bytes, {
        let gate = gate.clone();
        move |seen| match seen.is_for("F2") && seen.nth_of_file == 1 {
            true => Reply::stall_after(1000, &gate),
            false => Reply::serve(),
        }
    });
    let mut rig = rig;
    let id = rig.create();
    rig.agent
        .wait(&id, "one file", |record| record["files_complete"] == 1);
    rig.agent.kill9();
    let journal = rig.agent.state_dir().join("downloads.journal");
    let mut journal = OpenOptions::new().append(true).open(journal).unwrap();
    journal.write_all(b"{\"half\": [1, 2").unwrap();
    rig.agent.restart();
    rig.complete(&id);
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.inspect(&id)["state"], "complete");
}

#[test]
fn signals_end_it_cleanly_within_five_seconds() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut rig, id) = used();
        let (status, took) = rig.agent.end_by(signal);
        assert_eq!(status.code(), Some(0));
        assert!(took < FIVE_SECONDS, "{took:?}");
        rig.agent.restart();
        assert_eq!(rig.agent.inspect(&id)["state"], "complete");
    }
}

#[test]
fn it_ends_in_time_in_the_middle_of_everything() {
    let rig = Rig::new(Package::new().file("fast", 24 << 20).file("silent", 100));
    let gate = Gate::new();
    rig.origin
        .on(Kind::Bytes, move |seen| match seen.is_for("F2") {
            true => Reply::stall(&gate),
            false => Reply::serve(),
        });
    rig.origin.throttle(4 << 20);
    let mut rig = rig;
    let id = rig.create();
    rig.origin.await_served(1 << 20);
    let (status, took) = rig.agent.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < FIVE_SECONDS, "{took:?}");
    rig.origin.heal(Kind::Bytes);
    rig.origin.unthrottle();
    rig.agent.restart();
    rig.complete(&id);
}

#[test]
fn it_ends_in_time_with_an_open_connection() {
    let (mut rig, _) = used();
    let mut open = std::net::TcpStream::connect(rig.agent.address).unwrap();
    open.write_all(b"GET /api/v1/downl").unwrap();
    let (status, took) = rig.agent.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < FIVE_SECONDS, "{took:?}");
}

#[test]
fn a_post_that_waits_for_its_link_is_refused_when_the_agent_stops() {
    let mut rig = Rig::new(Package::new().file("a", 10));
    let gate = Gate::new();
    rig.origin.always(Kind::Link, Reply::stall(&gate));
    let mut order = rig.order();
    order["dst_folder"] = rig.dst().join("new").to_str().into();
    let to = rig.agent.address;
    let post = thread::spawn(move || {
        let headers = [("Content-Type", "application/json")];
        http::send(to, "POST", DOWNLOADS, &headers, Some(&order.to_string()))
    });
    rig.origin.await_requests(Kind::Link, 1);
    let (status, took) = rig.agent.terminate();
    post.join().unwrap().assert_error(503, "shutting_down");
    assert_eq!(status.code(), Some(0));
    assert!(took < FIVE_SECONDS, "{took:?}");
    assert_eq!(tree::paths(rig.dir()), Vec::<String>::new());
    rig.agent.restart();
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
}

/// Starts an agent that has to find its state directory by itself.
fn started_with(variables: &[(&str, &Path)]) -> Running {
    let mut command = haul();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.envs(variables.iter().copied());
    let running = Running::start(&mut command);
    ready(&running);
    running
}

#[test]
fn the_state_directory_is_found_in_the_usual_places() {
    let dir = tempfile::tempdir().unwrap();
    let [home, xdg, systemd] = ["home", "xdg", "systemd"].map(|name| dir.path().join(name));
    let by_home = home.join(".local/state/haul");
    let by_xdg = xdg.join("haul");
    let variables: [(&str, &Path); 3] = [
        ("HOME", &home),
        ("XDG_STATE_HOME", &xdg),
        ("STATE_DIRECTORY", &systemd),
    ];
    for (count, found) in [(1, &by_home), (2, &by_xdg), (3, &systemd)] {
        assert!(!found.exists());
        let running = started_with(&variables[..count]);
        assert_eq!(tree::mode(found), 0o700, "{}", found.display());
        drop(running);
    }
}

#[test]
fn an_existing_state_directory_is_closed_to_others() {
    let setup = Setup::new();
    fs::create_dir(setup.state_dir()).unwrap();
    let agent = setup.start();
    assert_eq!(tree::mode(&agent.state_dir()), 0o700);
}
