//! Messages for people: no number of the system in them, and a missing permission told with both
//! sides.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::agent::{DOWNLOADS, Setup};
use crate::support::nginx::free_address;
use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::process::{Finished, Running, haul, run};

/// Neither the library's "(os error 2)" nor what is left of it where somebody cut it.
fn assert_plain(text: &str) {
    assert!(!text.contains("os error"), "{text}");
}

fn of(args: &[&str], home: &Path) -> Finished {
    let mut command = haul();
    command.args(args).env("HOME", home).env("RUST_LOG", "off");
    run(&mut command)
}

#[test]
fn no_number_of_the_system_reaches_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("missing");
    let missing = missing.to_str().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    let below_a_file = file.join("state");
    let below_a_file = below_a_file.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let nobody = format!("http://{}", free_address());
    let link = "https://get.massive.app/L?secret=s";
    let at_missing = format!("@{missing}");
    let folder = home.path().to_str().unwrap();
    let at_folder = format!("@{folder}");
    let any = "127.0.0.1:0";
    let cases: [&[&str]; 14] = [
        &["serve", "--listen", any, "--token-file", missing],
        &["serve", "--listen", any, "--token-file", folder],
        &["serve", "--listen", any, "--ca-file", missing],
        &["serve", "--listen", any, "--ca-file", folder],
        &["serve", "--listen", any, "--on-complete", missing],
        &["serve", "--listen", any, "--state-dir", below_a_file],
        &["serve", "--listen", &taken],
        &[
            "serve",
            "--listen",
            "192.0.2.1:0",
            "--token-file",
            below_a_file,
        ],
        &["share", missing],
        &["share", folder, "--listen", &taken],
        &["get", &at_missing],
        &["get", &at_folder],
        &["get", link, below_a_file],
        &["ls", "--server", &nobody],
    ];
    for args in cases {
        let end = of(args, home.path());
        assert_ne!(end.code(), Some(0), "{args:?}: {end:?}");
        assert!(end.stderr.len() > 10, "{args:?}: {end:?}");
        assert_plain(&end.stderr);
    }
    let end = of(&["ls", "--server", "http://127.0.0.1:1/x"], home.path());
    assert_plain(&end.stderr);
}

#[test]
fn no_number_of_the_system_reaches_the_api() {
    let origin = Origin::down(Package::new().file("a", 10));
    let dir = tempfile::tempdir().unwrap();
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--retry-for", "1"])
        .start();
    let id = agent.create(&origin, &dir.path().join("in"));
    let waiting = agent.wait(&id, "a fault", |record| record["error"] != Value::Null);
    let ended = agent.wait_state(&id, "error");
    for record in [waiting, ended] {
        let message = record["error"]["message"].as_str().unwrap();
        assert!(message.contains("connection refused"), "{message}");
        assert_plain(message);
    }
    let below = dir.path().join("file/in");
    fs::write(dir.path().join("file"), "x").unwrap();
    let order = serde_json::json!({"url": origin.link(), "dst_folder": below});
    let refused = agent.post(DOWNLOADS, &order.to_string());
    refused.assert_error(400, "invalid_destination");
    assert_plain(&refused.text);
}

/// The program as another user of this machine; None, with the reason printed, where only root
/// could.
fn as_user(user: u32, group: u32, dir: &Path) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run a program as somebody else");
        return None;
    }
    // The build's folder may be closed to others.
    let program = dir.join("haul");
    // By another process: a file that this one has open for writing may be inherited by a child of
    // another test, and then cannot be run.
    let copied = Command::new("cp")
        .arg(haul().get_program())
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.uid(user).gid(group).env_clear();
    Some(command)
}

/// As with `--user 1026:100` and a volume that belongs to the image's own user.
#[test]
fn a_state_directory_of_another_user_says_whose_it_has_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = as_user(1026, 100, dir.path()) else {
        return;
    };
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&state, Some(65532), Some(65532)).unwrap();
    command.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]);
    let end = run(command.arg(&state));
    assert_eq!(end.code(), Some(1), "{end:?}");
    for part in [
        "haul runs as user 1026 and group 100",
        "belongs to user 65532 and group 65532 (mode 700)",
        "chown -R 1026:100",
    ] {
        assert!(end.stderr.contains(part), "{part}: {end:?}");
    }
    assert!(!end.stderr.contains("disk is sound"), "{end:?}");
}

/// The mode that a fresh volume of the container has.
#[test]
fn a_state_directory_that_is_open_to_all_will_do_for_any_user() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = as_user(1026, 100, dir.path()) else {
        return;
    };
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o1777)).unwrap();
    chown(&state, Some(65532), Some(65532)).unwrap();
    command.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]);
    let running = Running::start(command.arg(&state));
    let ready = running.stdout.line();
    assert!(ready.is_some_and(|line| line.starts_with("listening on")));
    let recipe = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scripts/packaging/Containerfile"
    );
    let recipe = fs::read_to_string(recipe).unwrap();
    assert!(recipe.contains("--chmod=1777 state /state"), "{recipe}");
}

#[test]
fn a_token_file_of_another_user_says_who_could_not_read_what() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = as_user(1026, 100, dir.path()) else {
        return;
    };
    let token = dir.path().join("token");
    fs::write(&token, "t0ken").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        "/nowhere",
        "--token-file",
    ]);
    let end = run(command.arg(&token));
    assert_eq!(end.code(), Some(2), "{end:?}");
    for part in [
        "cannot read the token file",
        token.to_str().unwrap(),
        "haul runs as user 1026 and group 100",
        "belongs to user 0 and group 0 (mode 600)",
    ] {
        assert!(end.stderr.contains(part), "{part}: {end:?}");
    }
}
