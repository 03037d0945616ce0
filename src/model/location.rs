//! Where a folder really is, whatever name it was reached by.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A folder by its real path and by its place in its file system: symbolic links, `..` and bind
/// mounts give one folder several names, and each of them leads to the same location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The path without symbolic links.
    pub real: String,
    /// The file system's device number, as `major:minor`. Empty where it cannot be told.
    #[serde(default)]
    pub device: String,
    /// The path inside that file system, which bind mounts do not change.
    #[serde(default)]
    pub inner: String,
}

impl Location {
    /// A location known by its path alone.
    pub fn by_path(path: &str) -> Location {
        Location {
            real: path.into(),
            device: String::new(),
            inner: String::new(),
        }
    }

    /// Where `path`, relative to this location, is relative to `outer`. None if it is not below
    /// it.
    pub fn relative_to(&self, outer: &Location, path: &Path) -> Option<PathBuf> {
        let strip = |here: &str, outer: &str| {
            let whole = Path::new(here).join(path);
            whole.strip_prefix(outer).ok().map(Path::to_owned)
        };
        strip(&self.real, &outer.real).or_else(|| {
            let known = !self.device.is_empty() && self.device == outer.device;
            known.then(|| strip(&self.inner, &outer.inner))?
        })
    }

    /// Whether this is `outer` or lies below it.
    pub fn is_in(&self, outer: &Location) -> bool {
        self.relative_to(outer, Path::new("")).is_some()
    }

    /// Whether both are known to be on one file system.
    pub fn shares_disk(&self, other: &Location) -> bool {
        !self.device.is_empty() && self.device == other.device
    }

    /// Whether both are one folder.
    pub fn is_same(&self, other: &Location) -> bool {
        self.is_in(other) && other.is_in(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(real: &str, device: &str, inner: &str) -> Location {
        Location {
            real: real.into(),
            device: device.into(),
            inner: inner.into(),
        }
    }

    #[test]
    fn one_folder_by_two_mounts_is_one() {
        let (disk, bind) = (at("/data/in", "8:1", "/in"), at("/mnt", "8:1", "/in"));
        assert!(disk.is_same(&bind));
        let below = at("/mnt/a", "8:1", "/in/a");
        assert!(below.is_in(&disk) && !disk.is_in(&below));
        assert_eq!(below.relative_to(&disk, Path::new("b")), Some("a/b".into()));
    }

    #[test]
    fn equal_inner_paths_of_two_disks_are_two_folders() {
        assert!(!at("/a", "8:1", "/in").is_in(&at("/b", "8:2", "/in")));
        assert!(!at("/a", "", "/in").is_in(&at("/b", "", "/in")));
    }

    #[test]
    fn a_disk_mounted_below_another_folder_lies_in_it() {
        assert!(at("/data/usb/x", "8:2", "/x").is_in(&at("/data", "8:1", "/data")));
        assert!(!at("/database", "8:1", "/database").is_in(&at("/data", "8:1", "/data")));
    }
}
