//! A disk that reports a failed write only when it is asked to sync, and only once: the kernel says
//! so to each open descriptor one time, and takes what was lost for written from then on.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup};
use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::process::{haul, run};
use crate::support::tree;
use crate::system_calls::can_trace;

const SIZE: u64 = 24 << 20;
const RATE: u64 = 8 << 20;

/// Runs a program so that each thread's first syncfs(2) fails, and none after it.
const FIRST_SYNC_FAILS: [&str; 10] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "-e",
    "trace=syncfs",
    "-e",
    "inject=syncfs:error=EIO:when=1",
    "-o",
    "/dev/null",
];

struct Sick {
    agent: Agent,
    origin: Origin,
    dir: TempDir,
}

impl Sick {
    fn new(package: Package) -> Sick {
        let origin = Origin::new(package);
        let setup = Setup::new().origin(&origin);
        Sick {
            agent: setup.wrapper(&FIRST_SYNC_FAILS).start(),
            origin,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn dst(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    /// The download's fault, once it shows.
    fn await_fault(&self, id: &str) -> Value {
        let record = self.agent.wait(id, "the fault", |record| {
            record["state"] == "error" && record["bytes_done"] == 0
        });
        assert_eq!(record["error"]["code"], "destination_unwritable");
        assert_eq!(record["error"]["recoverable"], true);
        let message = record["error"]["message"].as_str().unwrap();
        assert!(message.contains(self.dst().to_str().unwrap()), "{message}");
        assert_eq!(record["files_complete"], 0, "{record:#}");
        assert_eq!(record["completed_at"], Value::Null);
        record
    }

    /// Resumes; everything arrives under its own name, and what was lost has come twice.
    fn resume(&self, id: &str) {
        let lost = self.origin.served();
        self.agent.resume(id).expect(200);
        let record = self.agent.wait_state(id, "complete");
        let package = self.origin.package();
        for (row, entry) in record["files"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&package.entries)
        {
            let path = row["path"].as_str().unwrap();
            assert!(!path.contains("(1)"), "{row}");
            tree::assert_file(&self.dst().join(path), entry.seed, entry.size);
        }
        assert_eq!(tree::part_files(&self.dst()), Vec::<PathBuf>::new());
        assert!(lost > 0);
        assert!(
            self.origin.served() >= lost + package.size(),
            "all of it again"
        );
    }
}

#[test]
fn what_could_not_be_synced_is_the_downloads_fault_and_is_fetched_again() {
    if !can_trace() {
        return;
    }
    let rig = Sick::new(Package::new().many(100, 20_000).file("large.mov", SIZE));
    rig.origin.throttle(RATE);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.await_fault(&id);
    rig.resume(&id);
}

#[test]
fn a_download_that_was_complete_before_its_data_was_lost_is_so_no_more() {
    if !can_trace() {
        return;
    }
    let rig = Sick::new(Package::new().many(20, 20_000));
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.await_fault(&id);
    rig.resume(&id);
}

#[test]
fn a_resume_need_not_wait_until_the_loss_is_settled() {
    if !can_trace() {
        return;
    }
    let rig = Sick::new(Package::new().many(100, 20_000).file("large.mov", SIZE));
    rig.origin.throttle(RATE);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.agent.wait_state(&id, "error");
    rig.resume(&id);
}

#[test]
fn get_does_not_promise_what_could_not_be_synced() {
    if !can_trace() {
        return;
    }
    let origin = Origin::new(Package::new().many(20, 20_000));
    let home = tempfile::tempdir().unwrap();
    let dst = home.path().join("in");
    let get = |wrapper: &[&str]| {
        let bare = haul();
        let words = wrapper.iter().map(std::convert::AsRef::as_ref);
        let mut words = words.chain([bare.get_program()]);
        let mut command = std::process::Command::new(words.next().unwrap());
        command.args(words).arg("get").arg(origin.link()).arg(&dst);
        let pair = format!("{}={}", origin.base(), origin.api());
        command.args(["--origin", &pair]).env("HOME", home.path());
        run(&mut command)
    };
    let first = get(&FIRST_SYNC_FAILS[..]);
    assert_ne!(first.code(), Some(0), "{first:?}");
    assert!(first.stderr.contains(dst.to_str().unwrap()), "{first:?}");
    let second = get(&[]);
    assert_eq!(second.code(), Some(0), "{second:?}");
    assert!(origin.served() >= 2 * origin.package().size());
    let wanted = (0..20).map(|number| format!("{number:04}"));
    let found = tree::paths(&dst.join("many"));
    assert_eq!(found, wanted.collect::<Vec<_>>(), "each under its own name");
}

#[test]
fn a_kill_after_the_fault_brings_nothing_back() {
    if !can_trace() {
        return;
    }
    let mut rig = Sick::new(Package::new().many(20, 20_000));
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.await_fault(&id);
    rig.agent.kill9();
    rig.agent.restart();
    rig.await_fault(&id);
}
