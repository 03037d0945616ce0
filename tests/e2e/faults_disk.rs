//! A disk that is full, and a user who works in the destination meanwhile.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::agent::{Agent, Setup, row};
use crate::support::namespace::can_mount;
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tree;

const MIB: u64 = 1 << 20;
/// The bytes of a small file.
const SIZE: u64 = 100_000;

/// An agent that sees a small disk of its own, in a mount namespace that nobody else is in.
struct SmallDisk {
    agent: Agent,
    origin: Origin,
    mount: TempDir,
}

impl SmallDisk {
    /// None, with the reason printed, where mounting is not permitted.
    fn new(package: Package, mib: u64) -> Option<SmallDisk> {
        if !can_mount() {
            return None;
        }
        let mount = tempfile::tempdir().unwrap();
        let path = mount.path().display();
        let script = format!("mount -t tmpfs -o size={mib}m none {path} && exec \"$@\"");
        let origin = Origin::new(package);
        let agent = Setup::new()
            .origin(&origin)
            .wrapper(&["unshare", "--mount", "sh", "-c", &script, "sh"])
            .start();
        Some(SmallDisk {
            agent,
            origin,
            mount,
        })
    }

    /// A path on the disk as the agent knows it.
    fn dst(&self) -> PathBuf {
        self.mount.path().join("in")
    }

    /// The disk as we see it.
    fn seen(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.agent.pid()));
        root.join(self.mount.path().strip_prefix("/").unwrap())
    }

    /// Writes until nothing more fits, but for `leave` bytes.
    fn fill(&self, leave: u64) {
        let path = self.seen().join("filler");
        let mut filler = fs::File::create(path).unwrap();
        let chunk = vec![0; 64 * 1024];
        loop {
            match filler.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let length = filler.metadata().unwrap().len();
        filler.set_len(length.saturating_sub(leave)).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.seen().join("filler")).unwrap();
    }

    fn assert_file(&self, record: &Value, file: &str) {
        let row = row(record, file);
        let entry = self.origin.entry(file);
        assert_eq!(row["state"], "complete", "{row}");
        let path = self.seen().join("in").join(row["path"].as_str().unwrap());
        tree::assert_file(&path, entry.seed, entry.size);
    }
}

fn assert_no_space(record: &Value) {
    assert_eq!(
        record["error"]["code"], "insufficient_storage",
        "{record:#}"
    );
    assert_eq!(record["error"]["recoverable"], true);
}

#[test]
fn a_part_file_that_another_program_keeps_removing_is_the_files_error() {
    let rig = Rig::new(Package::new().file("x", 500_000).file("y", 10));
    rig.origin.throttle(1 << 20);
    let part = rig.dst().join("x.part");
    let id = rig.create();
    let record = loop {
        let _ = fs::remove_file(&part);
        let record = rig.agent.inspect(&id);
        if record["state"] == "error" {
            break record;
        }
    };
    let error = &row(&record, "F1")["error"];
    assert_eq!(error["code"], "destination_unwritable", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("by another program three times"),
        "{message}"
    );
    assert_eq!(row(&record, "F2")["state"], "complete");
    let requests = rig.origin.requests(Kind::Bytes);
    let of_x = requests.iter().filter(|seen| seen.is_for("F1")).count();
    assert!(of_x <= 4, "{of_x} requests");
    assert!(rig.agent.logs().contains("x.part was removed"));
}

#[test]
fn a_disk_that_is_too_small_is_an_error_until_there_is_room() {
    let package = Package::new().file("large.mov", 12 * MIB);
    let Some(disk) = SmallDisk::new(package, 16) else {
        return;
    };
    disk.fill(6 * MIB);
    let id = disk.agent.create(&disk.origin, &disk.dst());
    let record = disk.agent.wait_state(&id, "error");
    assert_no_space(&record);
    let served = disk.origin.served();
    assert!(served <= 6 * MIB, "{served} bytes came for nothing");
    disk.make_room();
    disk.agent.resume(&id).expect(200);
    let record = disk.agent.wait_state(&id, "complete");
    disk.assert_file(&record, "F1");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_is_an_error_until_there_is_room() {
    let package = Package::new().file("first", MIB).file("second", 8 * MIB);
    let Some(disk) = SmallDisk::new(package, 16) else {
        return;
    };
    let gate = Gate::new();
    let held = gate.clone();
    disk.origin
        .on(Kind::Address, move |seen| match seen.is_for("F2") {
            true => Reply::stall(&held),
            false => Reply::serve(),
        });
    let id = disk.agent.create(&disk.origin, &disk.dst());
    disk.agent.wait(&id, "the first file", |record| {
        record["files_complete"] == 1
    });
    disk.agent.pause(&id).expect(200);
    gate.open();
    // Whatever was set aside for the second file before is given back here.
    for part in tree::part_files(&disk.seen()) {
        fs::remove_file(part).unwrap();
    }
    disk.fill(2 * MIB);
    disk.agent.resume(&id).expect(200);
    let record = disk.agent.wait_state(&id, "error");
    assert_no_space(&record);
    disk.assert_file(&record, "F1");
    disk.make_room();
    disk.agent.resume(&id).expect(200);
    let record = disk.agent.wait_state(&id, "complete");
    disk.assert_file(&record, "F1");
    disk.assert_file(&record, "F2");
}

#[test]
fn a_file_that_fits_arrives_though_another_does_not() {
    let package = Package::new().file("fits", MIB).file("does not", 12 * MIB);
    let Some(disk) = SmallDisk::new(package, 16) else {
        return;
    };
    // It did when it was looked at; another program fills the disk then.
    let gate = Gate::new();
    disk.origin.always(Kind::Bytes, Reply::stall(&gate));
    let id = disk.agent.create(&disk.origin, &disk.dst());
    disk.origin.await_requests(Kind::Bytes, 2);
    disk.fill(3 * MIB);
    disk.origin.heal(Kind::Bytes);
    gate.open();
    let record = disk.agent.wait_state(&id, "error");
    assert_no_space(&record);
    disk.assert_file(&record, "F1");
    assert_eq!(row(&record, "F2")["state"], "error");
}

#[test]
fn a_full_disk_takes_nothing_from_what_is_there() {
    let Some(disk) = SmallDisk::new(Package::new().file("x", 12 * MIB), 16) else {
        return;
    };
    fs::create_dir(disk.seen().join("in")).unwrap();
    tree::write_file(&disk.seen().join("in/x"), 90, 6 * MIB);
    let overwrite = json!({"if_exists": "overwrite"});
    let id = disk.agent.create_with(&disk.origin, &disk.dst(), overwrite);
    let record = disk.agent.wait_state(&id, "error");
    assert_no_space(&record);
    tree::assert_file(&disk.seen().join("in/x"), 90, 6 * MIB);
    assert_eq!(tree::paths(&disk.seen().join("in")).last().unwrap(), "x");
}

/// A rig whose `large.mov` is under way, slowly; and its `.part`.
fn under_way() -> (Rig, String, PathBuf) {
    let rig = Rig::new(Package::new().file("d/large.mov", 16 * MIB));
    rig.origin.throttle(4 * MIB);
    let id = rig.create();
    rig.agent.wait(&id, "two MiB", |record| {
        record["bytes_done"].as_u64() > Some(2 * MIB)
    });
    let part = rig.dst().join("d/large.mov.part");
    (rig, id, part)
}

/// The same, paused, and after the last byte was written: whoever writes holds a connection.
fn paused() -> (Rig, String, PathBuf) {
    let (rig, id, part) = under_way();
    rig.agent.pause(&id).expect(200);
    assert!(rig.origin.is_idle_within(PATIENCE));
    rig.origin.unthrottle();
    (rig, id, part)
}

fn truncate(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// Whatever the user does to a `.part`, the file arrives, at the latest when it is resumed.
fn assert_arrives_in_the_end(rig: &Rig, id: &str) {
    rig.origin.unthrottle();
    let record = rig.agent.wait_end(id);
    if record["state"] == "error" {
        rig.agent.resume(id).expect(200);
    }
    rig.complete(id);
}

#[test]
fn a_part_file_deleted_while_paused_is_fetched_anew() {
    let (rig, id, part) = paused();
    fs::remove_file(part).unwrap();
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

#[test]
fn a_part_file_truncated_while_paused_is_not_believed() {
    for length in [0, MIB] {
        let (rig, id, part) = paused();
        truncate(&part, length);
        rig.agent.resume(&id).expect(200);
        rig.complete(&id);
    }
}

#[test]
fn a_part_file_deleted_in_the_middle_is_noticed() {
    let (rig, id, part) = under_way();
    fs::remove_file(part).unwrap();
    assert_arrives_in_the_end(&rig, &id);
}

#[test]
fn a_part_file_truncated_in_the_middle_is_never_shown_as_whole() {
    let (rig, id, part) = under_way();
    // Truncation at its end is what can be seen from outside: the length is wrong.
    truncate(&part, 1000);
    rig.origin.unthrottle();
    rig.agent.wait_end(&id);
    let shown = rig.dst().join("d/large.mov");
    if shown.exists() {
        assert_eq!(fs::metadata(shown).unwrap().len(), 16 * MIB);
    }
}

#[test]
fn a_completed_file_removed_before_the_end_stops_nothing() {
    let rig = Rig::new(
        Package::new()
            .file("small", 1000)
            .file("large.mov", 16 * MIB),
    );
    rig.origin.throttle(8 * MIB);
    let id = rig.create();
    rig.agent
        .wait(&id, "one file", |record| record["files_complete"] == 1);
    fs::remove_file(rig.dst().join("small")).unwrap();
    rig.origin.unthrottle();
    let record = rig.agent.wait_end(&id);
    rig.assert_file(&record, "F2");
}

#[test]
fn a_destination_that_becomes_a_file_is_unwritable() {
    let (rig, id, _) = paused();
    fs::remove_dir_all(rig.dst()).unwrap();
    fs::write(rig.dst(), "mine").unwrap();
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "destination_unwritable",
        "{record:#}"
    );
    assert_eq!(fs::read(rig.dst()).unwrap(), b"mine");
    fs::remove_file(rig.dst()).unwrap();
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

/// An agent that folders without write permission stop, also where the tests are run by root.
fn unprivileged(origin: &Origin) -> Agent {
    let setup = Setup::new().origin(origin);
    match rustix::process::geteuid().is_root() {
        true => setup
            .wrapper(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
            .start(),
        false => setup.start(),
    }
}

/// An unprivileged agent that was killed when `d/a` was whole and `b` half there, and before `d/a`
/// got its name; not started again. The gate holds `b`.
fn killed_before_a_name() -> (Agent, Origin, TempDir, String, Gate) {
    let origin = Origin::new(Package::new().file("d/a", SIZE).file("b", SIZE));
    let gate = Gate::new();
    origin.on(Kind::Bytes, {
        let gate = gate.clone();
        move |seen| match seen.is_for("F2") {
            true => Reply::stall_after(SIZE / 2, &gate),
            false => Reply::serve(),
        }
    });
    let mut agent = unprivileged(&origin);
    let dir = tempfile::tempdir().unwrap();
    let id = agent.create(&origin, dir.path());
    agent.wait(&id, "one file and a half", |record| {
        record["files_complete"] == 1 && record["bytes_done"].as_u64() > Some(SIZE)
    });
    agent.kill9();
    let name = dir.path().join("d/a");
    fs::rename(&name, dir.path().join("d/a.part")).unwrap();
    (agent, origin, dir, id, gate)
}

/// Sets the mode of the folder `d`.
fn set_mode(dir: &TempDir, bits: u32) {
    let bits = std::os::unix::fs::PermissionsExt::from_mode(bits);
    fs::set_permissions(dir.path().join("d"), bits).unwrap();
}

/// After [`killed_before_a_name`]: the download ends well, and the bytes of `d/a` were served once.
fn assert_named(agent: &Agent, origin: &Origin, dir: &TempDir, id: &str) {
    let record = agent.wait_state(id, "complete");
    assert_eq!(record["bytes_done"], 2 * SIZE);
    assert_eq!(tree::paths(dir.path()), ["b", "d/", "d/a"]);
    tree::assert_file(&dir.path().join("d/a"), 1, SIZE);
    tree::assert_file(&dir.path().join("b"), 2, SIZE);
    assert_eq!(origin.served_of("F1"), SIZE, "no byte came twice");
}

#[test]
fn a_download_does_not_end_well_before_every_file_has_its_name() {
    for restarted in [false, true] {
        let (mut agent, origin, dir, id, gate) = killed_before_a_name();
        set_mode(&dir, 0o555);
        gate.open();
        agent.restart();
        let record = agent.wait_end(&id);
        assert_eq!(
            record["error"]["code"], "destination_unwritable",
            "{record}"
        );
        assert_eq!(record["files_complete"], 1);
        assert_eq!(record["files_failed"], 1);
        assert_eq!(row(&record, "F1")["state"], "error");
        assert_eq!(row(&record, "F2")["state"], "complete");
        if restarted {
            agent.kill9();
            agent.restart();
            assert_eq!(agent.standing(&id)["files"], record["files"]);
            assert_eq!(agent.standing(&id)["error"], record["error"]);
        }
        set_mode(&dir, 0o755);
        agent.resume(&id).expect(200);
        assert_named(&agent, &origin, &dir, &id);
    }
}

#[test]
fn a_folder_that_cannot_be_looked_into_at_a_start_is_an_error() {
    let (mut agent, origin, dir, id, gate) = killed_before_a_name();
    set_mode(&dir, 0o444);
    gate.open();
    agent.restart();
    let record = agent.wait_end(&id);
    assert_eq!(
        record["error"]["code"], "destination_unwritable",
        "{record}"
    );
    assert_eq!(
        row(&record, "F1")["state"],
        "complete",
        "for all that is known"
    );
    set_mode(&dir, 0o755);
    agent.resume(&id).expect(200);
    assert_named(&agent, &origin, &dir, &id);
}

#[test]
fn a_whole_file_that_could_not_get_its_name_needs_no_byte_again() {
    for restarted in [false, true] {
        let size = 100_000;
        let origin = Origin::new(Package::new().file("d/a", size).file("b", 10));
        let gate = Gate::new();
        origin.on(Kind::Bytes, {
            let gate = gate.clone();
            move |seen| match seen.is_for("F1") {
                true => Reply::stall_after(size / 2, &gate),
                false => Reply::serve(),
            }
        });
        let mut agent = unprivileged(&origin);
        let dir = tempfile::tempdir().unwrap();
        let id = agent.create(&origin, dir.path());
        agent.wait(&id, "half of it", |record| {
            record["bytes_done"].as_u64() > Some(10_000)
        });
        let mode = |bits| {
            let bits = std::os::unix::fs::PermissionsExt::from_mode(bits);
            fs::set_permissions(dir.path().join("d"), bits).unwrap();
        };
        mode(0o555);
        gate.open();
        let record = agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], "destination_unwritable");
        mode(0o755);
        if restarted {
            agent.kill9();
            agent.restart();
        }
        agent.resume(&id).expect(200);
        agent.wait_state(&id, "complete");
        assert_eq!(tree::paths(dir.path()), ["b", "d/", "d/a"]);
        tree::assert_file(&dir.path().join("d/a"), 1, size);
        assert_eq!(origin.served_of("F1"), size, "no byte came twice");
    }
}

#[test]
fn what_is_free_is_told_without_what_has_arrived() {
    let Some(disk) = SmallDisk::new(Package::new().file("a", 4 * MIB), 10) else {
        return;
    };
    let id = disk
        .agent
        .create(&disk.origin, &disk.mount.path().join("in"));
    let record = disk.agent.wait_state(&id, "complete");
    let free = record["bytes_free"].as_u64().unwrap();
    assert!((5 * MIB..=6 * MIB).contains(&free), "{free}");
}

#[test]
fn a_package_that_does_not_fit_is_told_before_a_byte_is_fetched() {
    let package = Package::new().file("a", 5 * MIB).file("b", 7 * MIB);
    let Some(disk) = SmallDisk::new(package, 10) else {
        return;
    };
    let id = disk
        .agent
        .create(&disk.origin, &disk.mount.path().join("in"));
    let record = disk.agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "insufficient_storage",
        "{record:#}"
    );
    assert_eq!(record["error"]["recoverable"], true);
    let message = record["error"]["message"].as_str().unwrap();
    for figure in ["needs 13 MB", "10 MB free"] {
        assert!(message.contains(figure), "{message}");
    }
    assert_eq!(disk.origin.count(Kind::Bytes), 0);
    assert_eq!(record["files_failed"], 0);
    let free = record["bytes_free"].as_u64().unwrap();
    assert!((9 * MIB..=10 * MIB).contains(&free), "{free}");
}

#[test]
fn downloads_into_one_disk_are_counted_together() {
    let package = Package::new().file("a", 3 * MIB).file("b", 3 * MIB);
    let Some(disk) = SmallDisk::new(package, 10) else {
        return;
    };
    let gate = Gate::new();
    disk.origin.always(Kind::Bytes, Reply::stall(&gate));
    let first = disk
        .agent
        .create(&disk.origin, &disk.mount.path().join("1"));
    disk.origin.await_requests(Kind::Bytes, 2);
    let second = disk
        .agent
        .create(&disk.origin, &disk.mount.path().join("2"));
    let record = disk.agent.wait_state(&second, "error");
    assert_eq!(
        record["error"]["code"], "insufficient_storage",
        "{record:#}"
    );
    disk.origin.heal(Kind::Bytes);
    gate.open();
    disk.agent.wait_state(&first, "complete");
    disk.agent
        .delete(&format!(
            "{}?remove_files=true",
            crate::support::agent::one(&first)
        ))
        .expect(200);
    disk.agent.resume(&second).expect(200);
    disk.agent.wait_state(&second, "complete");
}
