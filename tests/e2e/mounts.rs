//! A destination that goes away under a transfer: what is under its mount point is never written
//! to.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup};
use crate::support::namespace::Namespace;
use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

const FILES: usize = 600;
const SIZE: u64 = 20_000;
const RATE: u64 = 2 << 20;

/// An agent whose destination is a disk of its own.
struct Mounted {
    namespace: Namespace,
    agent: Agent,
    origin: Origin,
    home: TempDir,
}

impl Mounted {
    fn new() -> Option<Mounted> {
        Mounted::on("tmpfs", Package::new().many(FILES, SIZE))
    }

    /// On a file system of this type.
    fn on(kind: &str, package: Package) -> Option<Mounted> {
        let home = tempfile::tempdir().unwrap();
        let dst = home.path().join("disk");
        fs::create_dir(&dst).unwrap();
        let script = format!("mount -t {kind} none '{}'", dst.display());
        let namespace = Namespace::new(&script)?;
        let origin = Origin::new(package);
        let agent = Setup::new()
            .origin(&origin)
            .wrapper(&namespace.enter())
            .start();
        Some(Mounted {
            namespace,
            agent,
            origin,
            home,
        })
    }

    fn dst(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// What is under the mount point; from outside of the namespace nothing else is seen.
    fn underneath(&self) -> Vec<String> {
        tree::paths(&self.dst())
    }

    fn assert_arrived(&self, record: &Value) {
        let rows = record["files"].as_array().unwrap();
        for (row, entry) in rows.iter().zip(self.origin.package().entries) {
            let path = self.dst().join(row["path"].as_str().unwrap());
            tree::assert_file(&self.namespace.seen(&path), entry.seed, entry.size);
        }
    }

    fn unmount(&self) {
        self.namespace
            .run(&format!("umount --lazy '{}'", self.dst().display()));
    }
}

#[test]
fn nothing_is_written_under_a_mount_point_that_is_unmounted_midway() {
    let Some(rig) = Mounted::new() else { return };
    rig.origin.throttle(RATE);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.origin.await_served(RATE / 2);
    rig.unmount();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "destination_unwritable",
        "{record:#}"
    );
    assert_eq!(record["error"]["recoverable"], true, "{record:#}");
    assert_eq!(rig.underneath(), Vec::<String>::new());
    rig.agent.resume(&id).expect(200);
    rig.agent.wait_state(&id, "error");
    assert_eq!(rig.underneath(), Vec::<String>::new());
}

#[test]
fn nothing_is_written_under_a_mount_point_that_is_missing_at_a_start() {
    let Some(mut rig) = Mounted::new() else {
        return;
    };
    rig.origin.throttle(RATE);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.origin.await_served(RATE / 2);
    rig.agent.kill9();
    rig.unmount();
    rig.agent.restart();
    rig.agent.wait_state(&id, "error");
    assert_eq!(rig.underneath(), Vec::<String>::new());
    let target = format!("{}?remove_files=true", crate::support::agent::one(&id));
    rig.agent.delete(&target).expect(200);
    assert!(rig.dst().exists(), "the mount point is not ours");
}

#[test]
fn a_folder_that_takes_the_place_of_the_destination_stays_empty() {
    let rig = Rig::new(Package::new().many(FILES, SIZE));
    rig.origin.throttle(RATE);
    let id = rig.create();
    rig.origin.await_served(RATE / 2);
    let aside = rig.dir().join("aside");
    fs::rename(rig.dst(), &aside).unwrap();
    fs::create_dir(rig.dst()).unwrap();
    rig.agent.wait_state(&id, "error");
    assert_eq!(tree::paths(&rig.dst()), Vec::<String>::new());
    // Once it is back, it goes on.
    fs::remove_dir(rig.dst()).unwrap();
    fs::rename(&aside, rig.dst()).unwrap();
    rig.origin.unthrottle();
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

/// From which on the agent must have noticed what happened to the destination, with room for a slow
/// machine.
const NOTICED: Duration = Duration::from_secs(4);

/// One file that takes longer than a test waits for anything.
fn huge() -> Package {
    Package::new().file("huge", 96 << 20)
}

fn assert_noticed(agent: &Agent, id: &str, since: Instant) {
    let record = agent.wait_state(id, "error");
    let took = since.elapsed();
    assert!(took < NOTICED, "{took:?}");
    let error = &record["error"];
    assert_eq!(error["code"], "destination_unwritable", "{record:#}");
    assert_eq!(error["recoverable"], true, "{record:#}");
}

/// A huge file that is half a second on its way to a disk of its own.
fn huge_on_its_way() -> Option<(Mounted, String)> {
    let rig = Mounted::on("tmpfs", huge())?;
    rig.origin.throttle(RATE);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.origin.await_served(RATE / 2);
    Some((rig, id))
}

#[test]
fn one_huge_file_is_given_up_soon_after_its_disk_is_unmounted() {
    let Some((rig, id)) = huge_on_its_way() else {
        return;
    };
    let since = Instant::now();
    rig.unmount();
    assert_noticed(&rig.agent, &id, since);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    assert_eq!(rig.underneath(), Vec::<String>::new());
}

#[test]
fn one_huge_file_is_given_up_soon_after_another_disk_covers_its_own() {
    let Some((rig, id)) = huge_on_its_way() else {
        return;
    };
    let since = Instant::now();
    let mount = format!("mount -t tmpfs none '{}'", rig.dst().display());
    rig.namespace.run(&mount);
    assert_noticed(&rig.agent, &id, since);
    let covering = rig.namespace.seen(&rig.dst());
    assert_eq!(tree::paths(&covering), Vec::<String>::new());
    // Its own disk is still there, and what was fetched is on it.
    rig.unmount();
    rig.origin.unthrottle();
    let before = rig.agent.inspect(&id)["bytes_done"].as_u64().unwrap();
    assert!(before > 0);
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "complete");
    rig.assert_arrived(&record);
}

#[test]
fn one_huge_file_is_given_up_soon_after_its_folder_is_replaced() {
    let rig = Rig::new(huge());
    rig.origin.throttle(RATE);
    let id = rig.create();
    rig.origin.await_served(RATE / 2);
    let since = Instant::now();
    let aside = rig.dir().join("aside");
    fs::rename(rig.dst(), &aside).unwrap();
    fs::create_dir(rig.dst()).unwrap();
    assert_noticed(&rig.agent, &id, since);
    assert_eq!(tree::paths(&rig.dst()), Vec::<String>::new());
}

#[test]
fn a_file_system_that_cannot_preallocate_will_do() {
    let package = Package::new().file("large", 12 << 20).many(20, 10_000);
    let Some(mut rig) = Mounted::on("ramfs", package) else {
        return;
    };
    rig.origin.throttle(8 << 20);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.origin.await_served(6 << 20);
    rig.agent.kill9();
    rig.agent.restart();
    let record = rig.agent.wait_state(&id, "complete");
    rig.assert_arrived(&record);
}

#[test]
fn a_destination_that_is_read_only_is_an_error_until_it_is_not() {
    let Some(rig) = Mounted::new() else { return };
    rig.origin.throttle(RATE);
    let id = rig.agent.create(&rig.origin, &rig.dst());
    rig.origin.await_served(RATE / 2);
    rig.agent.pause(&id).expect(200);
    assert!(rig.origin.is_idle_within(Duration::from_secs(1)));
    let dst = rig.dst();
    let remount = |how: &str| {
        // The last descriptors may still be being closed.
        let script = format!(
            "for n in 1 2 3 4 5 6 7 8 9; do mount -o remount,{how} '{0}' && exit 0; sleep 0.2; \
             done; exit 1",
            dst.display()
        );
        rig.namespace.run(&script);
    };
    remount("ro");
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "destination_unwritable",
        "{record:#}"
    );
    remount("rw");
    rig.origin.unthrottle();
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "complete");
    rig.assert_arrived(&record);
}
