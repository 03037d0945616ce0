//! `haul get --batch`: many packages by one command.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::process::{Running, haul, run};

/// A list, and origins that all packages may come from.
struct Desk {
    dir: TempDir,
    pairs: Vec<String>,
}

impl Desk {
    fn new(origins: &[&Origin]) -> Desk {
        let pair = |origin: &&Origin| format!("{}={}", origin.base(), origin.api());
        Desk {
            dir: tempfile::tempdir().unwrap(),
            pairs: origins.iter().map(pair).collect(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, list: &str, more: &[&str]) -> Command {
        fs::write(self.path("list"), list).unwrap();
        let mut command = haul();
        command
            .args(["get", "--batch", &self.path("list")])
            .args(more);
        for pair in &self.pairs {
            command.args(["--origin", pair]);
        }
        command
            .env("HOME", self.path("home"))
            .env_remove("RUST_LOG");
        command
    }
}

#[test]
fn each_line_is_a_package_with_its_folder_and_flags() {
    let one = Origin::new(Package::new().file("a.mov", 2000).file("a.txt", 10));
    let two = Origin::new(Package::new().file("b", 3000));
    two.require_password("open sesame");
    let desk = Desk::new(&[&one, &two]);
    let list = format!(
        "# tonight's dailies\n\n{} \"{}\" --include '*.mov'  # clips only\n{} {} --password 'open sesame'\n",
        one.link(),
        desk.path("with space"),
        two.link(),
        desk.path("two")
    );
    let end = run(&mut desk.command(&list, &[]));
    assert_eq!(end.code(), Some(0), "{}", end.stderr);
    assert!(
        end.stdout.ends_with("2 of 2 packages are complete.\n"),
        "{}",
        end.stdout
    );
    let names = |folder: &str| fs::read_dir(desk.path(folder)).unwrap().count();
    assert!(desk.dir.path().join("with space/a.mov").is_file());
    assert_eq!((names("with space"), names("two")), (1, 1));
    // Once more: nothing is left to do.
    let before = one.served() + two.served();
    let end = run(&mut desk.command(&list, &["--json"]));
    assert_eq!(end.code(), Some(0));
    let last = end.stdout.lines().last().unwrap();
    assert_eq!(last, r#"{"complete":2,"event":"batch","packages":2}"#);
    assert_eq!(one.served() + two.served(), before);
}

#[test]
fn one_that_fails_does_not_keep_the_others() {
    let (bad, good) = (
        Origin::new(Package::new().file("a", 10)),
        Origin::new(Package::new().file("b", 10)),
    );
    bad.refuse_link(404);
    let desk = Desk::new(&[&bad, &good]);
    let list = format!(
        "{} {}\n{} {}\n",
        bad.link(),
        desk.path("bad"),
        good.link(),
        desk.path("good")
    );
    let end = run(&mut desk.command(&list, &["--quiet"]));
    // The one reason there is: refused.
    assert_eq!(end.code(), Some(3), "{}", end.stderr);
    assert_eq!(end.stdout, "");
    assert!(
        end.stderr
            .contains("line 1: not downloaded (exit status 3)"),
        "{}",
        end.stderr
    );
    assert!(desk.dir.path().join("good/b").is_file());
}

#[test]
fn a_mistake_anywhere_is_told_before_anything_begins() {
    let origin = Origin::new(Package::new().file("a", 10));
    let desk = Desk::new(&[&origin]);
    for (wrong, told) in [
        ("--includ x", "did you mean --include?"),
        ("'open", "a quote has no end"),
        ("in more", "unexpected argument"),
        ("--help", "it is not about a package"),
    ] {
        let list = format!("{0} {1}\n{0} {2}\n", origin.link(), desk.path("in"), wrong);
        let end = run(&mut desk.command(&list, &[]));
        assert_eq!(end.code(), Some(2), "{wrong}: {}", end.stderr);
        assert!(
            end.stderr.contains("line 2 of the list: "),
            "{}",
            end.stderr
        );
        assert!(end.stderr.contains(told), "{}", end.stderr);
    }
    for (link, told) in [
        ("foo", "not a package link"),
        ("https://x.example/A?secret=b", "x.example"),
    ] {
        let list = format!("{0} {1}\n{link} {1}\n", origin.link(), desk.path("in"));
        let end = run(&mut desk.command(&list, &[]));
        assert_eq!(end.code(), Some(2), "{link}: {}", end.stderr);
        assert!(
            end.stderr.contains("line 2 of the list: "),
            "{}",
            end.stderr
        );
        assert!(end.stderr.contains(told), "{}", end.stderr);
    }
    assert!(!desk.dir.path().join("in").exists());
    let both = run(desk.command("", &[]).arg("http://x/y?secret=z"));
    assert_eq!(both.code(), Some(2));
    assert!(both.stderr.contains("stand in the list"), "{}", both.stderr);
}

#[test]
fn the_list_may_come_from_stdin_and_links_are_in_no_arguments() {
    let origin = Origin::new(Package::new().file("a", 8 << 20));
    let desk = Desk::new(&[&origin]);
    let command = desk.command("", &[]);
    let mut words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    words[2] = "-".into();
    let mut again = Command::new(command.get_program());
    again
        .args(words)
        .env("HOME", desk.path("home"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    origin.throttle(4 << 20);
    let mut child = again.spawn().unwrap();
    let line = format!("{} {}\n", origin.link(), desk.path("in"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
    origin.await_served(1 << 20);
    let secret = origin.link().rsplit_once('=').unwrap().1.to_owned();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let told = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(!told.contains(&secret), "{told}");
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_pauses_the_package_at_work_and_leaves_the_rest() {
    let (one, two) = (
        Origin::new(Package::new().file("a", 24 << 20)),
        Origin::new(Package::new().file("b", 10)),
    );
    one.throttle(4 << 20);
    let desk = Desk::new(&[&one, &two]);
    let list = format!(
        "{} {}\n{} {}\n",
        one.link(),
        desk.path("one"),
        two.link(),
        desk.path("two")
    );
    let mut running = Running::start(&mut desk.command(&list, &[]));
    one.await_served(6 << 20);
    running.signal(Signal::INT);
    assert_eq!(running.wait_exit().code(), Some(130));
    assert!(!desk.dir.path().join("two").exists());
    one.unthrottle();
    let end = run(&mut desk.command(&list, &[]));
    assert_eq!(end.code(), Some(0), "{}", end.stderr);
    assert!(
        one.served() < (24 << 20) + (3 << 20),
        "it went on: {}",
        one.served()
    );
    assert!(desk.dir.path().join("two/b").is_file());
}
