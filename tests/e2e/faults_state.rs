//! A state directory without room: refused is what cannot be saved, and nothing that was
//! acknowledged is lost.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::support::agent::{Agent, DOWNLOADS, Setup, one};
use crate::support::namespace::Namespace;
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::tree;

/// More changes than fit into the room that is set aside for them.
const MANY: usize = 20_000;

struct Cramped {
    agent: Agent,
    origin: Origin,
    namespace: Namespace,
    home: TempDir,
}

impl Cramped {
    fn new(package: Package) -> Option<Cramped> {
        let setup = Setup::new();
        let state = setup.state_dir();
        let script = format!(
            "mkdir -p '{0}'; mount -t tmpfs -o size=2m none '{0}'",
            state.display()
        );
        let namespace = Namespace::new(&script)?;
        let origin = Origin::new(package);
        let agent = setup.origin(&origin).wrapper(&namespace.enter()).start();
        let home = tempfile::tempdir().unwrap();
        Some(Cramped {
            agent,
            origin,
            namespace,
            home,
        })
    }

    fn filler(&self) -> PathBuf {
        self.namespace.seen(&self.agent.state_dir()).join("filler")
    }

    fn fill(&self) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        let chunk = [0; 4096];
        loop {
            match filler.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn create(&self, folder: &str) -> String {
        self.agent
            .create(&self.origin, &self.home.path().join(folder))
    }

    /// Pauses and resumes until that is refused; the state that was acknowledged last.
    fn use_up(&self, id: &str) -> &'static str {
        let mut last = "transferring";
        for _ in 0..MANY {
            // What was set aside is given back when the journal is written anew.
            self.fill();
            let (answer, next) = match last {
                "paused" => (self.agent.resume(id), "transferring"),
                _ => (self.agent.pause(id), "paused"),
            };
            if answer.status != 200 {
                assert!((500..600).contains(&answer.status), "{answer:?}");
                let message = answer.json()["error"]["message"].to_string();
                assert!(
                    message.contains("space") || message.contains("full"),
                    "{message}"
                );
                return last;
            }
            last = next;
        }
        panic!("{MANY} changes fit on a full disk");
    }
}

#[test]
fn a_full_state_directory_refuses_changes_and_loses_none() {
    let Some(mut rig) = Cramped::new(Package::new().file("large", 8 << 20).many(50, 20_000)) else {
        return;
    };
    let done = rig.create("done");
    rig.agent.wait_state(&done, "complete");
    let spare = rig.create("spare");
    rig.agent.wait_state(&spare, "complete");
    let before = rig.origin.served();
    rig.origin.throttle(1 << 20);
    let busy = rig.create("busy");
    let toggled = rig.create("toggled");
    rig.origin.await_served(before + (1 << 20));
    let acknowledged = rig.use_up(&toggled);

    // Nothing new is taken, nothing is forgotten, and everything can still be read.
    let folder = rig.home.path().join("refused");
    let order = json!({"url": rig.origin.link(), "dst_folder": folder});
    // A journal that was written anew meanwhile gave room back.
    rig.fill();
    let answer = rig.agent.order(&order);
    assert!((500..600).contains(&answer.status), "{answer:?}");
    assert!(!folder.exists(), "a refused order leaves nothing behind");
    // A DELETE may find the room that is set aside for it; it is done or refused, and nothing
    // between.
    let answer = rig.agent.delete(&one(&spare));
    let mut ids = vec![done.clone(), busy.clone(), toggled.clone()];
    if answer.status != 200 {
        assert!((500..600).contains(&answer.status), "{answer:?}");
        ids.insert(1, spare);
    }
    assert_eq!(rig.agent.ids(), ids);
    assert_eq!(rig.agent.inspect(&toggled)["state"], acknowledged);
    assert_eq!(rig.agent.inspect(&done)["state"], "complete");
    rig.agent.get(DOWNLOADS).expect(200);

    // A kill in the middle of it: the start works, and what was acknowledged still holds.
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.ids(), ids);
    assert_eq!(rig.agent.inspect(&toggled)["state"], acknowledged);

    // With room, everything goes on by itself.
    rig.make_room();
    rig.origin.unthrottle();
    rig.agent.wait_state(&busy, "complete");
    if acknowledged == "paused" {
        rig.agent.resume(&toggled).expect(200);
    }
    rig.agent.wait_state(&toggled, "complete");
    for folder in ["done", "busy", "toggled"] {
        for entry in rig.origin.package().entries {
            let path = entry.path.unwrap_or_default();
            let path = rig.home.path().join(folder).join(path).join(entry.name);
            tree::assert_file(&path, entry.seed, entry.size);
        }
    }
    rig.agent.kill9();
    rig.agent.restart();
    for id in [done, busy, toggled] {
        assert_eq!(rig.agent.inspect(&id)["state"], "complete");
    }
}

#[test]
fn a_file_that_has_to_start_over_while_nothing_can_be_saved_arrives_later() {
    let Some(rig) = Cramped::new(Package::new().file("large", 16 << 20)) else {
        return;
    };
    let gate = Gate::new();
    let broken = Reply::stall_after(1000, &gate).and_cut(1000);
    rig.origin.always(Kind::Bytes, broken);
    let busy = rig.create("busy");
    rig.origin.await_requests(Kind::Bytes, 4);
    let toggled = rig.create("toggled");
    rig.use_up(&toggled);
    // Whatever is asked for from now on, the whole file comes, and what was said of its ranges must
    // be taken back.
    rig.origin.always(Kind::Bytes, Reply::ignore_range());
    gate.open();
    rig.agent.wait(&busy, "the reason", |record| {
        let error = record["error"]["message"].as_str().unwrap_or_default();
        error.contains("space") || error.contains("full")
    });
    rig.make_room();
    rig.agent.wait_state(&busy, "complete");
    tree::assert_file(&rig.home.path().join("busy/large"), 1, 16 << 20);
}

/// Downloads that are complete, each in a folder of its own, until one cannot be deleted: that
/// one's identifier and folder. Those before it found the room that is set aside for a DELETE, and
/// are gone.
fn first_refused(rig: &Cramped, complete: &mut Vec<(String, String)>) -> (String, PathBuf) {
    for (id, folder) in std::mem::take(complete) {
        rig.fill();
        let folder = rig.home.path().join(folder);
        let answer = rig.agent.delete(&whole(&id));
        if answer.status != 200 {
            answer.assert_error(507, "insufficient_storage");
            return (id, folder);
        }
        assert!(!rig.agent.ids().contains(&id));
        assert!(!folder.exists(), "what was answered was done");
    }
    panic!("every DELETE found room on a full disk");
}

fn whole(id: &str) -> String {
    one(id) + "?remove_files=true"
}

impl Cramped {
    fn assert_whole(&self, folder: &std::path::Path) {
        for entry in self.origin.package().entries {
            let path = folder.join(entry.path.unwrap_or_default());
            tree::assert_file(&path.join(entry.name), entry.seed, entry.size);
        }
    }
}

#[test]
fn a_delete_without_room_to_be_remembered_deletes_nothing_and_works_later() {
    let Some(mut rig) = Cramped::new(Package::new().many(20, 50_000)) else {
        return;
    };
    let mut complete = Vec::new();
    for number in 0..4 {
        let folder = format!("complete{number}");
        let id = rig.create(&folder);
        rig.agent.wait_state(&id, "complete");
        complete.push((id, folder));
    }
    rig.origin.throttle(50_000);
    let [busy, toggled] = ["busy", "toggled"].map(|folder| rig.create(folder));
    rig.agent
        .wait(&busy, "a byte", |record| record["bytes_done"] != 0);
    let acknowledged = rig.use_up(&toggled);
    let (refused, folder) = first_refused(&rig, &mut complete);
    let ids = rig.agent.ids();

    // One that is transferring is not stopped for a DELETE that is not done, and a second try is no
    // other.
    for _ in 0..2 {
        rig.fill();
        for target in [
            whole(&refused),
            whole(&busy),
            format!("{DOWNLOADS}?states=complete,transferring&remove_files=true"),
        ] {
            let answer = rig.agent.delete(&target);
            answer.assert_error(507, "insufficient_storage");
        }
    }
    assert_eq!(rig.agent.ids(), ids);
    assert_eq!(rig.agent.inspect(&refused)["state"], "complete");
    rig.assert_whole(&folder);
    let before = rig.origin.served();
    rig.origin.await_served(before + 50_000);
    assert_eq!(rig.agent.inspect(&busy)["state"], "transferring");

    // Nor did a start find that it was deleted.
    rig.agent.kill9();
    rig.agent.restart();
    assert_eq!(rig.agent.ids(), ids);
    assert_eq!(rig.agent.inspect(&toggled)["state"], acknowledged);
    rig.assert_whole(&folder);

    rig.make_room();
    let done = rig.agent.delete(&whole(&refused)).expect(200);
    assert_eq!(done, json!({"deleted": [refused], "files_removed": 20}));
    assert!(!folder.exists());
    rig.agent.delete(&whole(&busy)).expect(200);
    assert!(!rig.home.path().join("busy").exists());
    rig.agent.kill9();
    rig.agent.restart();
    let left = |id: &&String| **id != refused && **id != busy;
    assert!(rig.agent.ids().iter().eq(ids.iter().filter(left)));
    assert_eq!(rig.agent.inspect(&toggled)["state"], acknowledged);
}
