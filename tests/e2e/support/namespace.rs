//! A mount namespace of a test's own, that outlives the agents started in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Running;

/// Whether a private tmpfs can be mounted here; where not, the reason is printed.
pub fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /tmp"])
        .output();
    let works = matches!(&tried, Ok(output) if output.status.success());
    if !works {
        eprintln!("skipped: a private tmpfs cannot be mounted here: {tried:?}");
    }
    works
}

/// Held open by a process that does nothing; the namespace ends with it.
pub struct Namespace {
    holder: Running,
}

impl Namespace {
    /// Runs `script` in a new namespace. None, with the reason printed, where mounting is not
    /// permitted.
    pub fn new(script: &str) -> Option<Namespace> {
        if !can_mount() {
            return None;
        }
        let script = format!("set -e; {script}\necho ready; exec sleep 3600");
        let mut command = Command::new("unshare");
        let holder = Running::start(command.args(["--mount", "sh", "-c", &script]));
        assert_eq!(
            holder.stdout.line().as_deref(),
            Some("ready"),
            "{}",
            holder.stderr.text()
        );
        Some(Namespace { holder })
    }

    /// The words that a command line begins with to be run in the namespace.
    pub fn enter(&self) -> Vec<String> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.pid());
        ["nsenter".to_string(), namespace].into()
    }

    /// Runs a shell script in the namespace.
    pub fn run(&self, script: &str) {
        let enter = self.enter();
        let status = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["sh", "-ec", script])
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }

    /// A path as it is in the namespace, seen from outside.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(path.strip_prefix("/").unwrap())
    }
}
