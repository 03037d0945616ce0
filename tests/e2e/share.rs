//! `haul share` to `haul serve`: a folder arrives as it is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup};
use crate::support::http;
use crate::support::process::{Finished, Running, haul, run};
use crate::support::tree;

/// A running share, its folder, and the link it printed.
struct Share {
    running: Running,
    dir: TempDir,
    link: String,
}

impl Share {
    fn of(dir: TempDir, args: &[&str]) -> Share {
        let mut command = haul();
        command.arg("share").arg(dir.path());
        command.args(["--listen", "127.0.0.1:0"]).args(args);
        let running = Running::start(&mut command);
        let link = running.stdout.line();
        let link = link.unwrap_or_else(|| panic!("no link: {}", running.stderr.text()));
        Share { running, dir, link }
    }

    /// `http://127.0.0.1:PORT`
    fn base(&self) -> &str {
        let after_scheme = self.link.find("://").unwrap() + 3;
        let host = self.link[after_scheme..].find('/').unwrap();
        &self.link[..after_scheme + host]
    }

    fn agent(&self) -> Agent {
        let pair = format!("{0}={0}/v1", self.base());
        Setup::new().args(&["--origin", &pair]).start()
    }
}

fn set_mtime(path: &Path, seconds: u64) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
        .unwrap();
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    tree::write_file(&dir.path().join("large.mov"), 1, 20 << 20);
    tree::write_file(&dir.path().join("Grüße/日本語 🎬.txt"), 2, 1234);
    tree::write_file(&dir.path().join("a/b/c/100%25 & more?.txt"), 3, 1);
    tree::write_file(&dir.path().join("a/nothing"), 4, 0);
    fs::create_dir_all(dir.path().join("empty/inside")).unwrap();
    set_mtime(&dir.path().join("large.mov"), 946_684_798);
    set_mtime(&dir.path().join("a/nothing"), 1_000_000_000);
    dir
}

fn fetch(agent: &Agent, share: &Share, dst: &Path, more: &Value) -> http::Answer {
    let mut order = json!({"url": share.link, "dst_folder": dst});
    for (name, value) in more.as_object().unwrap() {
        order[name] = value.clone();
    }
    agent.order(&order)
}

fn complete(agent: &Agent, answer: &http::Answer) -> Value {
    let id = answer.expect(201)["download_id"].clone();
    agent.wait_state(id.as_str().unwrap(), "complete")
}

#[test]
fn a_folder_arrives_as_it_is() {
    let share = Share::of(folder(), &["--name", "Täglich 14"]);
    let agent = share.agent();
    let target = tempfile::tempdir().unwrap();
    let dst = target.path().join("in");
    let record = complete(&agent, &fetch(&agent, &share, &dst, &json!({})));
    assert_eq!(record["name"], "Täglich 14");
    assert_eq!(tree::paths(&dst), tree::paths(share.dir.path()));
    tree::assert_file(&dst.join("large.mov"), 1, 20 << 20);
    tree::assert_file(&dst.join("Grüße/日本語 🎬.txt"), 2, 1234);
    tree::assert_file(&dst.join("a/b/c/100%25 & more?.txt"), 3, 1);
    tree::assert_file(&dst.join("a/nothing"), 4, 0);
    assert_eq!(tree::mtime(&dst.join("large.mov")), 946_684_798);
    assert_eq!(tree::mtime(&dst.join("a/nothing")), 1_000_000_000);
}

/// The digest of a large file comes with a later answer than the first.
#[test]
fn what_arrives_from_a_share_is_verified() {
    let share = Share::of(folder(), &[]);
    let agent = share.agent();
    let into = tempfile::tempdir().unwrap();
    let record = complete(
        &agent,
        &fetch(&agent, &share, &into.path().join("in"), &json!({})),
    );
    let rows = record["files"].as_array().unwrap();
    let content = rows.iter().filter(|row| row["size"] != 0);
    for row in content {
        assert_eq!(row["verified"], "sha-256", "{row}");
    }
}

#[test]
fn a_password_is_asked_for() {
    let share = Share::of(folder(), &["--password", "open sesame"]);
    let agent = share.agent();
    let target = tempfile::tempdir().unwrap();
    let dst = target.path().join("in");
    let none = fetch(&agent, &share, &dst, &json!({}));
    none.assert_error(403, "link_password_required");
    let wrong = fetch(&agent, &share, &dst, &json!({"password": "wrong"}));
    wrong.assert_error(403, "link_password_wrong");
    let right = fetch(&agent, &share, &dst, &json!({"password": "open sesame"}));
    complete(&agent, &right);
    tree::assert_file(&dst.join("large.mov"), 1, 20 << 20);
}

#[test]
fn the_link_is_as_ordered() {
    let share = Share::of(folder(), &["--link-id", "MYLINK", "--secret", "mysecret"]);
    let expected = format!("{}/MYLINK?secret=mysecret", share.base());
    assert_eq!(share.link, expected);
    let target = tempfile::tempdir().unwrap();
    let agent = share.agent();
    let wrong = json!({"url": expected.replace("mysecret", "x"), "dst_folder": target.path()});
    agent.order(&wrong).assert_error(404, "link_not_found");
    complete(&agent, &fetch(&agent, &share, target.path(), &json!({})));
}

#[test]
fn two_shares_have_two_secrets() {
    let [one, two] = [folder(), folder()].map(|dir| Share::of(dir, &[]));
    let secret = |share: &Share| share.link.split_once("secret=").unwrap().1.to_string();
    assert_ne!(secret(&one), secret(&two));
    assert!(secret(&one).len() >= 16, "hard to guess: {}", one.link);
}

#[test]
fn nothing_outside_is_offered() {
    let dir = folder();
    let outside = tempfile::tempdir().unwrap();
    tree::write_file(&outside.path().join("private"), 9, 100);
    std::os::unix::fs::symlink(outside.path(), dir.path().join("way_out")).unwrap();
    let file = outside.path().join("private");
    std::os::unix::fs::symlink(file, dir.path().join("file_out")).unwrap();
    let share = Share::of(dir, &[]);
    let agent = share.agent();
    let target = tempfile::tempdir().unwrap();
    complete(&agent, &fetch(&agent, &share, target.path(), &json!({})));
    for path in tree::paths(target.path()) {
        assert!(
            !path.contains("private") && !path.contains("_out"),
            "{path}"
        );
    }
}

#[test]
fn a_kill_in_the_middle_is_resumed() {
    let share = Share::of(folder(), &[]);
    let mut agent = share.agent();
    let target = tempfile::tempdir().unwrap();
    let dst = target.path().join("in");
    let created = fetch(&agent, &share, &dst, &json!({})).expect(201);
    let id = created["download_id"].as_str().unwrap().to_string();
    agent.wait(&id, "bytes", |record| record["bytes_done"] != 0);
    agent.kill9();
    agent.restart();
    agent.wait_state(&id, "complete");
    assert_eq!(tree::paths(&dst), tree::paths(share.dir.path()));
    tree::assert_file(&dst.join("large.mov"), 1, 20 << 20);
}

fn refused(args: &[&str]) -> Finished {
    let mut command = haul();
    run(command.arg("share").args(args).env_remove("RUST_LOG"))
}

#[test]
fn what_is_no_folder_cannot_be_shared() {
    let end = refused(&["/nowhere/at/all", "--listen", "127.0.0.1:0"]);
    assert!(end.code().is_some_and(|code| code != 0), "{end:?}");
    assert!(end.stderr.contains("/nowhere/at/all"), "{end:?}");
    assert_eq!(end.stdout, "");
    assert_eq!(refused(&[]).code(), Some(2));
}

/// From an old disk, or a Windows of another country: names that no JSON can hold arrive all the
/// same.
#[test]
fn names_that_are_not_utf_8_arrive_displayable_and_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let name = |bytes: &'static [u8]| dir.path().join(OsStr::from_bytes(bytes));
    tree::write_file(&name(b"Gr\xfc\xdfe.txt"), 1, 3000);
    tree::write_file(&name(b"Gr\xfd\xdfe.txt"), 2, 4000);
    tree::write_file(&name(b"B\xe4nder/m\xe4rz.mov"), 3, 5000);
    let share = Share::of(dir, &[]);
    let agent = share.agent();
    let home = tempfile::tempdir().unwrap();
    let dst = home.path().join("in");
    let id = fetch(&agent, &share, &dst, &json!({})).expect(201)["download_id"].clone();
    let record = agent.wait_state(id.as_str().unwrap(), "complete");
    assert_eq!(record["files_complete"], 3, "{record:#}");
    tree::assert_file(&dst.join("Gr\u{fffd}\u{fffd}e.txt"), 1, 3000);
    tree::assert_file(&dst.join("Gr\u{fffd}\u{fffd}e (1).txt"), 2, 4000);
    tree::assert_file(&dst.join("B\u{fffd}nder/m\u{fffd}rz.mov"), 3, 5000);
}

#[test]
fn the_command_that_it_prints_fetches_it() {
    let share = Share::of(folder(), &[]);
    let said = share.running.stderr.line().unwrap();
    let command = said.strip_prefix("To fetch it: haul ").unwrap();
    let here = tempfile::tempdir().unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &format!("\"$HAUL\" {command}")])
        .env("HAUL", haul().get_program())
        .env("HOME", here.path().join("home"))
        .current_dir(here.path());
    let end = run(&mut shell);
    assert_eq!(end.code(), Some(0), "{end:?}");
    tree::assert_file(&here.path().join("large.mov"), 1, 20 << 20);
}
