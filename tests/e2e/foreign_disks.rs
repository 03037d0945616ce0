//! Disks that keep times their own way, have no holes, or refuse to set space aside: sticks and
//! cards of other systems.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::agent::{Agent, Setup, row};
use crate::support::namespace::Namespace;
use crate::support::origin::Origin;
use crate::support::package::{Entry, Package};

const MIB: u64 = 1 << 20;

/// A disk in a file: how to make it and how to mount it, `$image` on `$disk`.
struct Disk {
    programs: &'static [&'static str],
    make: &'static str,
    mount: &'static str,
}

const EXT4: Disk = Disk {
    programs: &["mkfs.ext4"],
    make: "mkfs.ext4 -q -I 128 \"$image\" >/dev/null 2>&1",
    mount: "mount -o loop \"$image\" \"$disk\"",
};
const EXFAT: Disk = Disk {
    programs: &["mkfs.exfat", "mount.exfat-fuse", "losetup"],
    make: "mkfs.exfat \"$image\" >/dev/null",
    mount: "loop=$(losetup -f --show \"$image\"); mount.exfat-fuse \"$loop\" \"$disk\" >/dev/null 2>&1; losetup -d \"$loop\"",
};
const FAT: Disk = Disk {
    programs: &["mkfs.vfat", "fusefat"],
    make: "mkfs.vfat \"$image\" >/dev/null",
    mount: "fusefat -o rw+ \"$image\" \"$disk\" >/dev/null 2>&1",
};

/// An agent in a mount namespace of its own, with the disk at `dst`.
struct Mounted {
    agent: Agent,
    namespace: Namespace,
    origin: Origin,
    home: tempfile::TempDir,
}

fn is_there(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|found| found.status.success())
}

impl Mounted {
    /// None, with the reason printed, where the disk cannot be had here.
    fn new(disk: &Disk, package: Package) -> Option<Mounted> {
        Mounted::sized(disk, 300 * MIB, package)
    }

    fn sized(disk: &Disk, size: u64, package: Package) -> Option<Mounted> {
        if let Some(missing) = disk.programs.iter().find(|program| !is_there(program)) {
            eprintln!("skipped: {missing} is not installed");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let image = home.path().join("image");
        File::create(&image).unwrap().set_len(size).unwrap();
        fs::create_dir(home.path().join("dst")).unwrap();
        let script = format!(
            "image='{}'; disk='{}'; {}; if ! ( {} ) || ! mountpoint -q \"$disk\"; then echo \
             cannot; exit; fi",
            image.display(),
            home.path().join("dst").display(),
            disk.make,
            disk.mount
        );
        let tried = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .output();
        if !tried
            .as_ref()
            .is_ok_and(|tried| tried.stdout.is_empty() && tried.status.success())
        {
            eprintln!("skipped: the disk cannot be mounted here: {tried:?}");
            return None;
        }
        let namespace = Namespace::new(&script)?;
        let origin = Origin::new(package);
        let agent = Setup::new()
            .origin(&origin)
            .wrapper(&namespace.enter())
            .start();
        Some(Mounted {
            agent,
            namespace,
            origin,
            home,
        })
    }

    fn dst(&self) -> std::path::PathBuf {
        self.home.path().join("dst")
    }

    /// Bytes that the process has written to storage or had a file system write: proc(5), `wchar`
    /// apart.
    fn names(&self) -> Vec<String> {
        names(&self.namespace.seen(&self.dst()))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lost+found")
        .collect();
    names.sort();
    names
}

/// Times that some disks cannot keep: odd nanoseconds, odd seconds, beyond 2038, before 1980.
fn package() -> Package {
    Package::new()
        .entry(Entry::new("d", "odd", 1000).modified("2021-03-04T05:06:07.123456789Z"))
        .entry(Entry::new("", "late", 1000).modified("2045-01-02T03:04:05Z"))
        .entry(Entry::new("", "early", 1000).modified("1975-01-02T03:04:05Z"))
        .entry(Entry::new("", "large", 3 * MIB).modified("2024-05-06T07:08:09.5Z"))
}

fn what_was_downloaded_is_removed_again(disk: &Disk) {
    let Some(mut mounted) = Mounted::new(disk, package()) else {
        return;
    };
    let id = mounted.agent.create(&mounted.origin, &mounted.dst());
    let record = mounted.agent.wait_end(&id);
    assert_eq!(record["state"], "complete", "{record:#}");
    mounted.agent.terminate();
    mounted.agent.restart();
    let target = format!("/api/v1/downloads/{id}?remove_files=true");
    let deleted = mounted.agent.delete(&target).expect(200);
    assert_eq!(deleted["files_removed"], 4, "{deleted}");
    assert_eq!(deleted.get("files_left"), None, "{deleted}");
    assert_eq!(mounted.names(), [""; 0]);
}

#[test]
fn ext4_with_small_inodes_gives_back_what_it_took() {
    what_was_downloaded_is_removed_again(&EXT4);
}

#[test]
fn exfat_by_fuse_gives_back_what_it_took() {
    what_was_downloaded_is_removed_again(&EXFAT);
}

#[test]
fn fat_by_fuse_gives_back_what_it_took() {
    what_was_downloaded_is_removed_again(&FAT);
}

#[test]
fn a_users_file_stays_and_is_told_with_its_reason() {
    let Some(mounted) = Mounted::new(&EXT4, package()) else {
        return;
    };
    let id = mounted.agent.create(&mounted.origin, &mounted.dst());
    mounted.agent.wait_state(&id, "complete");
    let large = mounted.namespace.seen(&mounted.dst().join("large"));
    fs::write(large, "the user's own").unwrap();
    let target = format!("/api/v1/downloads/{id}?remove_files=true");
    let deleted = mounted.agent.delete(&target).expect(200);
    assert_eq!(deleted["files_removed"], 3, "{deleted}");
    let left = deleted["files_left"].as_array().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["path"], "large");
    let reason = left[0]["reason"].as_str().unwrap();
    assert!(reason.contains("changed"), "{reason}");
    assert_eq!(mounted.names(), ["large"]);
    assert_eq!(json!(left[0].as_object().unwrap().len()), 2);
}

/// Bytes that were written to the image's disk so far: what FUSE daemons write comes from them, so
/// the image tells.
fn written(image: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(image).unwrap().blocks() * 512
}

#[test]
fn a_disk_without_holes_is_written_in_order() {
    let size = 40 * MIB;
    let Some(mounted) = Mounted::new(&EXFAT, Package::new().file("large", size)) else {
        return;
    };
    mounted.origin.throttle(20 * MIB);
    let before = written(&mounted.home.path().join("image"));
    let id = mounted.agent.create(&mounted.origin, &mounted.dst());
    let record = mounted.agent.wait(&id, "a beginning", |record| {
        record["bytes_done"].as_u64() > Some(0)
    });
    // Nothing is filled with zeros ahead of what has come.
    let part = mounted.namespace.seen(&mounted.dst().join("large.part"));
    let length = fs::metadata(part).map_or(0, |found| found.len());
    let done = record["bytes_done"].as_u64().unwrap();
    assert!(
        length < done + 8 * MIB,
        "{length} bytes long, {done} have come"
    );
    assert!(written(&mounted.home.path().join("image")) < before + size / 2);
    mounted.agent.wait_state(&id, "complete");
}

#[test]
fn a_state_directory_whose_disk_keeps_no_permissions_is_warned_of() {
    let Some(mounted) = Mounted::new(&EXFAT, package()) else {
        return;
    };
    let state = mounted.dst().join("state");
    // No Unix socket can be made there either.
    let agent = Setup::new()
        .args(&["--state-dir", state.to_str().unwrap()])
        .wrapper(&mounted.namespace.enter())
        .start();
    agent.await_log("stays open to others", 1);
    assert_eq!(agent.get("/api/v1/downloads").status, 200);
}

/// The size is refused before a byte is asked for, and costs the others nothing.
#[test]
fn a_file_of_5_gb_is_refused_on_fat() {
    let package = Package::new().file("huge.mov", 5 << 30).file("small", 1000);
    // There is room for it.
    let Some(mounted) = Mounted::sized(&FAT, 8 << 30, package) else {
        return;
    };
    let id = mounted.agent.create(&mounted.origin, &mounted.dst());
    let record = mounted.agent.wait_end(&id);
    assert_eq!(row(&record, "F2")["state"], "complete", "{record:#}");
    let huge = row(&record, "F1");
    assert_eq!(huge["state"], "error", "{record:#}");
    let message = huge["error"]["message"].as_str().unwrap();
    assert!(message.contains("larger than"), "{message}");
    assert_eq!(mounted.origin.served_of("F1"), 0);
}
