//! The command line: what is printed, where, and with which exit code.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::support::PATIENCE;
use crate::support::agent::{DOWNLOADS, Setup, ready};
use crate::support::http;
use crate::support::process::{Finished, Running, haul, run};

fn haul_with(args: &[&str]) -> Command {
    let mut command = haul();
    command.args(args).env_remove("RUST_LOG");
    command
}

fn assert_bad_usage(end: &Finished) {
    assert_eq!(end.code(), Some(2), "{end:?}");
    assert_eq!(end.stdout, "", "{end:?}");
    assert_eq!(end.stderr.lines().count(), 1, "one line: {end:?}");
    assert!(end.stderr.len() > 10, "it says what was wrong: {end:?}");
}

#[test]
fn bad_usage_is_exit_2_and_one_line() {
    let cases: [&[&str]; 14] = [
        &[],
        &["download"],
        &["--frobnicate"],
        &["serve", "--frobnicate"],
        &["serve", "extra"],
        &["serve", "--listen"],
        &["serve", "--listen", "nonsense"],
        &["serve", "--listen", "127.0.0.1:99999"],
        &["serve", "--workers", "0"],
        &["serve", "--workers", "many"],
        &["serve", "--workers", "-1"],
        &["serve", "--origin", "http://x.example"],
        &["serve", "--origin", "nonsense=http://x.example"],
        &["share", "a", "b"],
    ];
    for args in cases {
        eprintln!("haul {args:?}");
        assert_bad_usage(&run(&mut haul_with(args)));
    }
}

#[test]
fn bad_usage_is_one_line_also_where_rust_log_makes_no_sense() {
    for args in [&["serve", "--workers", "0"] as &[&str], &["download"]] {
        let end = run(haul_with(args).env("RUST_LOG", "haul=loud=er"));
        assert_bad_usage(&end);
    }
}

#[test]
fn bad_values_in_the_environment_are_bad_usage_too() {
    for (name, value) in [("HAUL_WORKERS", "many"), ("HAUL_LISTEN", "nonsense")] {
        let end = run(haul_with(&["serve"]).env(name, value));
        assert_bad_usage(&end);
    }
}

#[test]
fn help_is_exit_0_on_stdout() {
    for args in [
        &["--help"] as &[&str],
        &["serve", "--help"],
        &["share", "--help"],
    ] {
        let end = run(&mut haul_with(args));
        assert_eq!(end.code(), Some(0), "{args:?}: {end:?}");
        assert!(end.stdout.contains("haul"), "{args:?}: {end:?}");
        assert_eq!(end.stderr, "");
    }
    let end = run(&mut haul_with(&["serve", "--help"]));
    for flag in [
        "--listen",
        "--state-dir",
        "--workers",
        "--origin",
        "--token-file",
    ] {
        assert!(end.stdout.contains(flag), "{flag}: {end:?}");
    }
}

#[test]
fn the_ready_line_is_all_that_stdout_gets() {
    let mut agent = Setup::new().start();
    assert_ne!(agent.address.port(), 0);
    agent.get(DOWNLOADS).expect(200);
    let expected = format!("listening on http://{}\n", agent.address);
    agent.terminate();
    assert_eq!(agent.stdout(), expected);
}

#[test]
fn systemd_hears_when_calls_are_taken() {
    let setup = Setup::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let running = Running::start(setup.command().env("NOTIFY_SOCKET", &path));
    let mut said = [0; 64];
    let length = loop {
        match systemd.recv(&mut said) {
            // A call with a time limit is not taken up again after a signal, whoever it was for
            // (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    assert_eq!(&said[..length], b"READY=1");
    http::send(ready(&running), "GET", DOWNLOADS, &[], None).expect(200);
}

#[test]
fn every_flag_has_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "t0ken").unwrap();
    let mut command = haul_with(&["serve"]);
    command
        .env("HAUL_LISTEN", "127.0.0.1:0")
        .env("HAUL_STATE_DIR", dir.path().join("state"))
        .env("HAUL_WORKERS", "3")
        .env("HAUL_TOKEN_FILE", token);
    let running = Running::start(&mut command);
    let address = ready(&running);
    http::send(address, "GET", DOWNLOADS, &[], None).assert_error(401, "unauthorized");
    let headers = [("Authorization", "Bearer t0ken")];
    http::send(address, "GET", DOWNLOADS, &headers, None).expect(200);
    assert!(dir.path().join("state").is_dir());
}

#[test]
fn an_address_that_is_taken_is_said_to_be() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let setup = Setup::new().args(&["--listen", &address.to_string()]);
    let end = run(&mut setup.command());
    assert!(end.code().is_some_and(|code| code != 0), "{end:?}");
    assert_eq!(end.stdout, "");
    assert!(end.stderr.contains(&address.port().to_string()), "{end:?}");
}

#[test]
fn what_was_perhaps_meant_is_said() {
    for (words, told) in [
        (&["--verson"][..], "did you mean --version?"),
        (&["rm", "all"], "one by one"),
        (
            &["get", "@/dev/null", "/tmp/x"],
            "the first line of \"/dev/null\" is empty",
        ),
    ] {
        let end = run(haul().args(words));
        assert_eq!(end.code(), Some(2), "{words:?}");
        assert!(end.stderr.contains(told), "{}", end.stderr);
    }
}
