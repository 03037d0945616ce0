//! A disk that does not answer, such as a network file system whose server is away: a FUSE file
//! system whose process was stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::agent::{Agent, Setup};
use crate::support::namespace::Namespace;
use crate::support::origin::Origin;
use crate::support::package::Package;
use crate::support::tree;

const MIB: u64 = 1 << 20;

/// An agent, and a disk at `dst` that can be stopped.
struct Scene {
    agent: Agent,
    origin: Origin,
    disk: Pid,
    home: tempfile::TempDir,
    namespace: Namespace,
}

/// The process that serves the mount at this path.
fn server_of(mount: &Path) -> Option<Pid> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().find_map(|process| {
        let id: i32 = process.file_name().to_str()?.parse().ok()?;
        let line = fs::read(process.path().join("cmdline")).ok()?;
        let mut words = line.split(|&byte| byte == 0);
        let is_ours = words.next()?.ends_with(b"bindfs")
            && words.any(|word| word == mount.as_os_str().as_encoded_bytes());
        is_ours.then(|| Pid::from_raw(id))?
    })
}

impl Scene {
    /// None, with the reason printed, where there is no FUSE.
    fn new(package: Package) -> Option<Scene> {
        let home = tempfile::tempdir().unwrap();
        for name in ["behind", "dst"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let mount = home.path().join("dst");
        let script = format!(
            "bindfs '{}' '{}'",
            home.path().join("behind").display(),
            mount.display()
        );
        // Its process ends with the mount.
        let once = format!("{script} && umount '{}'", mount.display());
        let tried = Command::new("unshare")
            .args(["--mount", "sh", "-c", &once])
            .output();
        if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
            eprintln!("skipped: no file system can be mounted by bindfs here: {tried:?}");
            return None;
        }
        let namespace = Namespace::new(&script)?;
        let origin = Origin::new(package);
        let setup = Setup::new().origin(&origin).wrapper(&namespace.enter());
        let agent = setup.args(&["--workers", "4"]).start();
        let disk = server_of(&mount)?;
        Some(Scene {
            agent,
            origin,
            disk,
            home,
            namespace,
        })
    }

    fn dst(&self) -> PathBuf {
        self.home.path().join("dst")
    }

    fn stop_disk(&self) {
        kill_process(self.disk, Signal::STOP).unwrap();
    }

    fn let_disk_go_on(&self) {
        kill_process(self.disk, Signal::CONT).unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Nobody can end while a call to it hangs.
        let _ = kill_process(self.disk, Signal::CONT);
        self.namespace
            .run(&format!("umount -l '{}'", self.dst().display()));
    }
}

fn is_waiting(record: &Value) -> bool {
    record["error"]["code"] == "destination_not_responding"
}

#[test]
fn it_holds_up_its_own_download_alone_which_goes_on_by_itself() {
    let Some(scene) = Scene::new(Package::new().file("large", 24 * MIB).many(300, 30_000)) else {
        return;
    };
    scene.origin.throttle(6 * MIB);
    let id = scene.agent.create(&scene.origin, &scene.dst().join("in"));
    scene.origin.await_served(4 * MIB);
    scene.stop_disk();
    let record = scene.agent.wait(&id, "what the disk does", is_waiting);
    assert_eq!(record["state"], "transferring", "{record:#}");
    assert_eq!(record["error"]["recoverable"], true);
    assert!(record["error"]["retry_at"].is_string());

    scene.origin.unthrottle();
    let begun = Instant::now();
    let elsewhere = scene.home.path().join("elsewhere");
    let other = scene.agent.create(&scene.origin, &elsewhere);
    scene.agent.wait_state(&other, "complete");
    // Nor are other downloads' verifications and removals.
    scene
        .agent
        .act(&format!("/api/v1/downloads/{other}/verify"))
        .expect(202);
    scene
        .agent
        .wait(&other, "the end of the verification", |record| {
            record["verification"]["state"] == "done"
        });
    let target = format!("/api/v1/downloads/{other}?remove_files=true");
    assert_eq!(
        scene.agent.delete(&target).expect(200)["files_removed"],
        301
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert!(is_waiting(&scene.agent.inspect(&id)), "it still hangs");

    let begun = Instant::now();
    let order = json!({"url": scene.origin.link(), "dst_folder": scene.dst().join("new")});
    let refused = scene.agent.order(&order);
    refused.assert_error(400, "invalid_destination");
    assert!(refused.text.contains("does not answer"), "{}", refused.text);
    assert!(begun.elapsed() < Duration::from_secs(10));

    scene.let_disk_go_on();
    let record = scene.agent.wait_state(&id, "complete");
    assert!(record["error"].is_null());
    for entry in scene.origin.package().entries {
        let path = scene
            .home
            .path()
            .join("behind/in")
            .join(entry.path.unwrap_or_default());
        tree::assert_file(&path.join(&entry.name), entry.seed, entry.size);
    }
}

#[test]
fn the_agent_ends_when_it_is_told_to_while_a_disk_hangs() {
    let Some(mut scene) = Scene::new(Package::new().file("large", 24 * MIB)) else {
        return;
    };
    scene.origin.throttle(6 * MIB);
    let id = scene.agent.create(&scene.origin, &scene.dst().join("in"));
    scene.origin.await_served(4 * MIB);
    scene.stop_disk();
    scene.agent.wait(&id, "what the disk does", is_waiting);
    let (process, begun) = (scene.agent.pid(), Instant::now());
    let pid = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    // Threads whose call FUSE has taken on cannot be ended by anybody: the rest of the process is.
    let has_ended = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    while !has_ended() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it still runs");
        thread::sleep(Duration::from_millis(20));
    }
    scene.let_disk_go_on();
    scene.agent.terminate();
    scene.origin.unthrottle();
    scene.agent.restart();
    scene.agent.wait_state(&id, "complete");
}
