//! A real web server upstream: what works with our own must work with one that we did not write.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup};
use crate::support::nginx::Nginx;
use crate::support::package::Package;
use crate::support::tree;

const LARGE: u64 = 32 << 20;

fn package() -> Package {
    Package::new()
        .file("large.mov", LARGE)
        .file("Grüße/nothing", 0)
        .many(100, 3000)
}

/// Fields are dropped in this order.
struct Scene {
    agent: Agent,
    nginx: Nginx,
    dir: TempDir,
    id: String,
}

fn begin(limit: Option<u64>) -> Option<Scene> {
    let nginx = Nginx::serving(&package(), limit)?;
    let pair = format!("{0}={0}/v1", nginx.base());
    let agent = Setup::new().args(&["--origin", &pair]).start();
    let dir = tempfile::tempdir().unwrap();
    let order = json!({"url": nginx.link(), "dst_folder": dir.path()});
    let summary = agent.order(&order).expect(201);
    let id = summary["download_id"].as_str().unwrap().to_string();
    Some(Scene {
        agent,
        nginx,
        dir,
        id,
    })
}

impl Scene {
    fn await_bytes(&self, bytes: u64) {
        self.agent.wait(&self.id, "bytes", |record| {
            record["bytes_done"].as_u64() >= Some(bytes)
        });
    }

    fn complete(&self) {
        self.agent.wait_state(&self.id, "complete");
        for entry in package().entries {
            let path = Path::new(entry.path.as_ref().unwrap()).join(&entry.name);
            tree::assert_file(&self.dir.path().join(path), entry.seed, entry.size);
        }
        assert_eq!(tree::part_files(self.dir.path()).len(), 0);
    }
}

#[test]
fn everything_arrives_and_the_large_file_in_ranges() {
    let Some(scene) = begin(None) else { return };
    scene.complete();
    let log = scene.nginx.bytes_log();
    let ranges = log.iter().filter(|(status, _)| *status == 206).count();
    assert!(ranges >= 2, "{log:?}");
    assert!(log.iter().all(|(status, _)| matches!(status, 200 | 206)));
    let sent: u64 = log.iter().map(|(_, bytes)| bytes).sum();
    let twice = sent - package().size();
    assert!(twice < 1 << 20, "{twice} bytes sent twice");
}

#[test]
fn a_killed_agent_goes_on() {
    let Some(mut scene) = begin(Some(1 << 20)) else {
        return;
    };
    scene.await_bytes(LARGE / 4);
    scene.agent.kill9();
    scene.agent.restart();
    scene.complete();
}

#[test]
fn a_server_that_is_started_again_is_found_again() {
    let Some(mut scene) = begin(Some(1 << 20)) else {
        return;
    };
    scene.await_bytes(LARGE / 4);
    scene.nginx.stop();
    scene.agent.wait(&scene.id, "a fault", |record| {
        assert_eq!(record["state"], "transferring");
        record["error"]["code"] == "upstream_unavailable"
    });
    scene.nginx.start();
    scene.complete();
}

#[test]
fn many_small_files_get_their_own_bytes_on_connections_that_end_often() {
    // Equally long, so that only their bytes tell them apart.
    let package = Package::new().many(1500, 3000);
    let Some(nginx) = Nginx::serving_with(&package, None, "keepalive_requests 40;") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pair = format!("{0}={0}/v1", nginx.base());
    for (flags, pipelined) in [
        (&["--workers", "4"][..], true),
        (&["--no-pipelining"], false),
    ] {
        let before = nginx.pipelined();
        let agent = Setup::new().args(flags).args(&["--origin", &pair]).start();
        let folder = dir.path().join(flags[0]);
        let order = json!({"url": nginx.link(), "dst_folder": folder});
        let summary = agent.order(&order).expect(201);
        agent.wait_state(summary["download_id"].as_str().unwrap(), "complete");
        for entry in &package.entries {
            let path = folder.join("many").join(&entry.name);
            tree::assert_file(&path, entry.seed, entry.size);
        }
        assert_eq!(nginx.pipelined() > before, pipelined);
    }
    assert_eq!(
        nginx.bytes_log().len(),
        2 * 1500,
        "nothing was asked for twice"
    );
}
