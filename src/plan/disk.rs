//! What the planner may ask about the disk.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::dest::{Folder, Kind, Root};
use crate::paths;

/// What is, or soon will be, under `dst_folder`.
pub trait Disk {
    /// What is there, links not followed; None: nothing. `components` lead from `dst_folder` down
    /// and are not empty; the planner asks only inside folders that exist.
    fn kind(&self, components: &[&str]) -> Option<Kind>;

    /// Whether another active download of this agent will put a file at this relative path.
    fn reserved(&self, path: &str) -> bool;

    /// Whether another active download of this agent will make a folder at this relative path.
    fn reserved_folder(&self, path: &str) -> bool;
}

/// A real `dst_folder`, and the names that other downloads into it have settled on.
pub struct RootDisk<'a> {
    root: &'a Root,
    files: HashSet<String>,
    folders: HashSet<String>,
    /// The folder that was asked for last: the planner goes folder by folder.
    last: RefCell<Option<Opened>>,
}

struct Opened {
    components: Vec<String>,
    /// None: it does not exist, or nothing is in it.
    folder: Option<Folder>,
}

impl<'a> RootDisk<'a> {
    /// `reserved`: paths relative to `dst_folder` that other active downloads write to, `.part`
    /// names too. The folders in those paths are reserved with them.
    pub fn new(root: &'a Root, reserved: impl IntoIterator<Item = String>) -> RootDisk<'a> {
        let mut disk = RootDisk {
            root,
            files: HashSet::new(),
            folders: HashSet::new(),
            last: RefCell::new(None),
        };
        for path in reserved {
            let path = disk.spelled(&path);
            for (slash, _) in path.rmatch_indices('/') {
                if !disk.folders.insert(path[..slash].to_owned()) {
                    // What is above it is there too.
                    break;
                }
            }
            disk.files.insert(path);
        }
        disk
    }

    fn spelled(&self, path: &str) -> String {
        if self.root.traits().ignores_case {
            paths::folded(path).collect()
        } else {
            path.to_owned()
        }
    }

    fn has(&self, set: &HashSet<String>, path: &str) -> bool {
        !set.is_empty() && set.contains(&self.spelled(path))
    }
}

impl Disk for RootDisk<'_> {
    fn kind(&self, components: &[&str]) -> Option<Kind> {
        let (&name, parents) = components.split_last()?;
        let mut last = self.last.borrow_mut();
        let opened = match &mut *last {
            Some(opened) if opened.components == parents => opened,
            stale => stale.insert(Opened {
                components: parents.iter().map(|&parent| parent.to_owned()).collect(),
                folder: self
                    .root
                    .folder(parents, false)
                    .ok()
                    .filter(|folder| !folder.is_empty()),
            }),
        };
        opened.folder.as_ref()?.kind(name)
    }

    fn reserved(&self, path: &str) -> bool {
        self.has(&self.files, path)
    }

    fn reserved_folder(&self, path: &str) -> bool {
        self.has(&self.folders, path)
    }
}
