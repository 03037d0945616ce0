//! Signals and limits of the process: none of them costs more than what it is about.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::agent::{Agent, DOWNLOADS, Setup, row};
use crate::support::http;
use crate::support::origin::Origin;
use crate::support::package::Package;

#[test]
fn a_file_beyond_the_limit_on_file_sizes_is_that_files_error() {
    let origin = Origin::new(Package::new().file("large", 8 << 20).file("small", 1000));
    // In blocks of 512 bytes.
    let mut agent = Setup::new()
        .origin(&origin)
        .wrapper(&["sh", "-c", "ulimit -f 4096; exec \"$@\"", "sh"])
        .start();
    let dst = tempfile::tempdir().unwrap();
    let id = agent.create(&origin, dst.path());
    let record = agent.wait_state(&id, "error");
    assert_eq!(record["error"]["recoverable"], false, "{record:#}");
    let message = row(&record, "F1")["error"]["message"].to_string();
    assert!(
        message.contains("larger than this system allows"),
        "{message}"
    );
    assert_eq!(row(&record, "F2")["state"], "complete");
    agent.terminate();
    agent.restart();
    assert_eq!(agent.inspect(&id)["state"], "error");
}

fn asks_for(agent: &Agent, token: &str) -> bool {
    let header = format!("Bearer {token}");
    let headers = [("Authorization", header.as_str())];
    http::send(agent.address, "GET", DOWNLOADS, &headers, None).status == 200
}

fn hang_up(agent: &Agent) {
    let pid = Pid::from_raw(agent.pid() as i32).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

fn guarded(file: &Path) -> Agent {
    Setup::new()
        .args(&["--token-file", file.to_str().unwrap()])
        .start()
}

#[test]
fn hanging_up_reads_the_token_again_and_ends_nothing() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    fs::write(&file, "first-token").unwrap();
    let agent = guarded(&file);
    assert!(asks_for(&agent, "first-token"));
    fs::write(&file, "second-token").unwrap();
    hang_up(&agent);
    agent.await_log("the token file was read again", 1);
    assert!(asks_for(&agent, "second-token") && !asks_for(&agent, "first-token"));
    fs::write(&file, "").unwrap();
    hang_up(&agent);
    agent.await_log("the token stays as it is", 1);
    assert!(asks_for(&agent, "second-token"));
}

#[test]
fn hanging_up_without_a_token_is_no_matter() {
    let origin = Origin::new(Package::new().file("x", 1000));
    let agent = Agent::of(&origin);
    hang_up(&agent);
    agent.await_log("there is no token file", 1);
    let dst = tempfile::tempdir().unwrap();
    let order = json!({"url": origin.link(), "dst_folder": dst.path()});
    agent.order(&order).expect(201);
}
