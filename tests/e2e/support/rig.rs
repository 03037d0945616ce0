//! One upstream, one agent, one folder: what most tests need.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{Agent, Setup, row};
use super::origin::Origin;
use super::package::Package;
use super::tree;

/// Fields are dropped in this order: the agent goes before what it talks to.
pub struct Rig {
    pub agent: Agent,
    pub origin: Origin,
    dir: TempDir,
}

impl Rig {
    pub fn new(package: Package) -> Rig {
        Rig::with(package, &[])
    }

    /// The same, with further arguments for the agent.
    pub fn with(package: Package, args: &[&str]) -> Rig {
        let origin = Origin::new(package);
        let agent = Setup::new().origin(&origin).args(args).start();
        let dir = tempfile::tempdir().unwrap();
        Rig { agent, origin, dir }
    }

    /// Of parts that were made otherwise.
    pub fn of(agent: Agent, origin: Origin, dir: TempDir) -> Rig {
        Rig { agent, origin, dir }
    }

    /// A folder that nobody else looks into.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where downloads go; not made yet.
    pub fn dst(&self) -> PathBuf {
        self.dir().join("in")
    }

    /// Asks for the package; the download's identifier.
    pub fn create(&self) -> String {
        self.agent.create(&self.origin, &self.dst())
    }

    pub fn create_with(&self, more: Value) -> String {
        self.agent.create_with(&self.origin, &self.dst(), more)
    }

    /// The order for the package as JSON.
    pub fn order(&self) -> Value {
        json!({"url": self.origin.link(), "dst_folder": self.dst()})
    }

    /// Waits for the end, which must be a good one, and looks at every file.
    pub fn complete(&self, id: &str) -> Value {
        let record = self.agent.wait_state(id, "complete");
        self.assert_arrived(&record);
        record
    }

    /// Asserts that every file is complete and at its path, whole and right.
    pub fn assert_arrived(&self, record: &Value) {
        for entry in self.origin.package().entries {
            if entry.kind == "file" && !entry.virus_detected {
                self.assert_file(record, &entry.id);
            }
        }
        let saved = |part: &PathBuf| {
            let rows = record["files"].as_array().unwrap().iter();
            let mut paths = rows.map(|row| self.dst().join(row["path"].as_str().unwrap()));
            paths.any(|path| path == *part)
        };
        let mut left = tree::part_files(&self.dst());
        left.retain(|part| !saved(part));
        assert_eq!(left, Vec::<PathBuf>::new());
    }

    /// Asserts that one file is complete and at its path, whole and right.
    pub fn assert_file(&self, record: &Value, file: &str) {
        let row = row(record, file);
        let entry = self.origin.entry(file);
        assert_eq!(row["state"], "complete", "{row}");
        assert_eq!(row["bytes_done"], entry.size, "{row}");
        let path = self.dst().join(row["path"].as_str().unwrap());
        tree::assert_file(&path, entry.seed, entry.size);
    }
}
