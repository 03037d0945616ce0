//! More connections than there is room for, and fewer descriptors than anyone would like.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::agent::{DOWNLOADS, Setup};
use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::rig::Rig;

/// Connections with half a request each. Where this process may not have so many, fewer.
fn half_open(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    while open.len() < count {
        let Ok(mut stream) = TcpStream::connect(to) else {
            break;
        };
        // It may have been closed already, to make room for the next.
        let _ = stream.write_all(b"POST /api/v1/downloads HTTP/1.1\r\nHost: loc");
        open.push(stream);
    }
    assert!(
        open.len() > 500.min(count / 2),
        "only {} connections",
        open.len()
    );
    open
}

#[test]
fn a_thousand_half_open_connections_leave_the_api_answering_and_a_download_going_on() {
    let rig = Rig::new(Package::new().file("large", 12 << 20).many(50, 20_000));
    rig.origin.throttle(8 << 20);
    let id = rig.create();
    let open = half_open(rig.agent.address, 1000);
    rig.agent.get(DOWNLOADS).expect(200);
    rig.complete(&id);
    drop(open);
    rig.agent.get(DOWNLOADS).expect(200);
}

/// The soft and the hard limit on open files.
fn limits(pid: u32) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3);
    let mut next = || words.next().unwrap().to_string();
    (next(), next())
}

#[test]
fn the_soft_limit_on_descriptors_is_raised() {
    let agent = Setup::new()
        .wrapper(&["prlimit", "--nofile=100:1000"])
        .start();
    assert_eq!(limits(agent.pid()), ("1000".into(), "1000".into()));
}

#[test]
fn without_descriptors_the_api_comes_back_and_downloads_go_on() {
    let origin = Origin::new(Package::new().file("large", 12 << 20).many(200, 20_000));
    origin.throttle(8 << 20);
    let mut agent = Setup::new()
        .origin(&origin)
        .args(&["--workers", "4"])
        .wrapper(&["prlimit", "--nofile=72:72"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let id = agent.create(&origin, &dir.path().join("in"));
    // In waves, so that accepting and opening run into the limit again and again.
    for _ in 0..4 {
        drop(half_open(agent.address, 300));
    }
    agent.wait_state(&id, "complete");
    agent.get(DOWNLOADS).expect(200);
    let (status, _) = agent.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_limit_that_falls_while_it_runs_ends_nothing() {
    let rig = Rig::new(Package::new().many(400, 20_000));
    rig.origin.throttle(2 << 20);
    let id = rig.create();
    rig.origin.await_served(1 << 20);
    let limit = |files: u32| {
        let pid = rig.agent.pid().to_string();
        let limit = format!("--nofile={files}:4096");
        let done = std::process::Command::new("prlimit")
            .args([&limit, "--pid", &pid])
            .status();
        assert!(done.unwrap().success());
    };
    // Fewer than are open: nothing can be opened or accepted any more.
    limit(8);
    let open = half_open(rig.agent.address, 20);
    // Nobody can ask the API whether the shortage was felt.
    rig.agent.await_log("no connection can be accepted", 1);
    limit(4096);
    drop(open);
    rig.agent.get(DOWNLOADS).expect(200);
    let record = rig.agent.inspect(&id);
    assert_eq!(record["state"], "transferring", "{record:#}");
    assert_eq!(record["files_failed"], 0, "{record:#}");
    rig.origin.unthrottle();
    rig.complete(&id);
}

/// Connections that each have asked for something that takes long.
fn asking(to: SocketAddr, target: &str, count: usize) -> Vec<TcpStream> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let ask = |_| {
        let mut stream = TcpStream::connect(to).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        Some(stream)
    };
    (0..count).map_while(ask).collect()
}

#[test]
fn a_crowd_of_watchers_leaves_the_api_answering() {
    let rig = Rig::new(Package::new().file("a", 12 << 20));
    rig.origin.throttle(1 << 20);
    let id = rig.create();
    let poll = format!("{DOWNLOADS}/{id}?wait=60");
    for target in ["/api/v1/events", &poll] {
        let watchers = asking(rig.agent.address, target, 400);
        assert!(watchers.len() > 200, "only {} connections", watchers.len());
        let begin = std::time::Instant::now();
        rig.agent.get(DOWNLOADS).expect(200);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "{target}: {took:?}");
        drop(watchers);
    }
    rig.agent.pause(&id).expect(200);
}
