//! Several nodes that bring one package into one folder, each with a state directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::origin::Origin;
use super::package::Package;
use super::process::{Finished, Running, haul, run};
use super::tree;

/// `haul get` of a link of this upstream into a folder, with these words after LINK and DIR.
pub fn get(origin: &Origin, link: &str, dst: &Path, home: &Path, more: &[&str]) -> Command {
    let mut command = haul();
    let pair = format!("{}={}", origin.base(), origin.api());
    command
        .args(["get", link])
        .arg(dst)
        .args(["--origin", &pair])
        .args(more)
        .env("HOME", home)
        .env_remove("RUST_LOG");
    command
}

pub struct Nodes {
    pub origin: Origin,
    pub dir: TempDir,
}

impl Nodes {
    pub fn new(package: Package) -> Nodes {
        Nodes {
            origin: Origin::new(package),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The folder that they share.
    pub fn shared(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    /// What node `home` runs, with these words after LINK and DIR.
    pub fn get(&self, home: &str, more: &[&str]) -> Command {
        let home = self.dir.path().join(home);
        get(
            &self.origin,
            &self.origin.link(),
            &self.shared(),
            &home,
            more,
        )
    }

    /// What the node of this shard, `K/N`, runs.
    pub fn shard(&self, shard: &str, more: &[&str]) -> Command {
        let home = shard.replace('/', "-of-");
        self.get(&home, &[&["--shard", shard], more].concat())
    }

    /// Runs shards one after the other, each to its end.
    pub fn expect(&self, code: i32, shards: &[&str], more: &[&str]) -> Vec<Finished> {
        let one = |shard: &&str| {
            let end = run(&mut self.shard(shard, more));
            assert_eq!(end.code(), Some(code), "shard {shard}: {end:?}");
            end
        };
        shards.iter().map(one).collect()
    }

    /// Starts all shards of so many.
    pub fn start(&self, count: usize, more: &[&str]) -> Vec<Running> {
        (0..count)
            .map(|index| Running::start(&mut self.shard(&format!("{index}/{count}"), more)))
            .collect()
    }

    /// Every file of the package that is not colliding with another is there under its listed path,
    /// and nothing unfinished is.
    pub fn assert_whole(&self) {
        for entry in self.origin.package().entries {
            if entry.kind == "file" && !entry.virus_detected {
                let path = self.shared().join(entry.path.unwrap()).join(&entry.name);
                tree::assert_file(&path, entry.seed, entry.size);
            }
        }
        self.assert_clean();
    }

    /// Nothing is there that is not a file of the package.
    pub fn assert_clean(&self) {
        let package = self.origin.package();
        let is_listed = |path: &str| package.entries.iter().any(|e| path.ends_with(&e.name));
        let is_odd = |path: &&String| {
            !is_listed(path) && (path.ends_with(".part") || path.ends_with(".receipt"))
        };
        let paths = tree::paths(&self.shared());
        let odd: Vec<_> = paths.iter().filter(is_odd).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
}
