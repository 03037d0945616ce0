//! What the planner may ask about the disk.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::dest::paths;
use crate::dest::{Folder, Kind, Root, Traits};
use crate::model::table::ROOT;

use super::folders::Keys;

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

/// A `dst_folder` in which nothing is: names are settled by the listing alone, and so alike by all
/// who read it.
pub struct EmptyDisk;

impl Disk for EmptyDisk {
    fn kind(&self, _: &[&str]) -> Option<Kind> {
        None
    }

    fn reserved(&self, _: &str) -> bool {
        false
    }

    fn reserved_folder(&self, _: &str) -> bool {
        false
    }
}

/// A real `dst_folder`, and the names that other downloads into it have settled on.
pub struct RootDisk<'a> {
    root: &'a Root,
    files: HashSet<String>,
    folders: HashSet<String>,
    /// Letter case aside: a file system may ignore it without saying so.
    keys: Keys,
    /// The folder that was asked for last: the planner goes folder by folder.
    last: RefCell<Option<Opened>>,
    /// Called whenever the disk has answered something.
    answered: Box<dyn Fn() + 'a>,
}

struct Opened {
    components: Vec<String>,
    /// None: it does not exist.
    folder: Option<Folder>,
    /// Hashes of the names in it, letter case aside; None if it could not be listed.
    names: Option<HashSet<u64>>,
}

impl Opened {
    /// Whether something may be there. The list spares a system call for each of a million names;
    /// it is trusted for plain ASCII only, since file systems differ in which other characters are
    /// the same.
    fn may_have(&self, keys: &Keys, name: &str) -> bool {
        match &self.names {
            Some(names) if name.is_ascii() => names.contains(&keys.key(ROOT, name)),
            Some(names) => !names.is_empty(),
            None => true,
        }
    }
}

impl<'a> RootDisk<'a> {
    /// `reserved`: paths relative to `dst_folder` that other active downloads write to, `.part`
    /// names too. The folders in those paths are reserved with them.
    /// `answered` is called whenever the disk has answered something.
    pub fn new(
        root: &'a Root,
        reserved: impl IntoIterator<Item = String>,
        answered: impl Fn() + 'a,
    ) -> RootDisk<'a> {
        let mut disk = RootDisk {
            root,
            files: HashSet::new(),
            folders: HashSet::new(),
            keys: Keys::new(Traits {
                ignores_case: true,
                ..Traits::default()
            }),
            last: RefCell::new(None),
            answered: Box::new(answered),
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

    fn open(&self, components: &[&str]) -> Opened {
        let folder = self.root.folder(components, false).ok();
        let names = folder.as_ref().and_then(|folder| {
            let mut names = HashSet::new();
            let listed = folder.each_name(|name| {
                // A name that is no UTF-8 is none that the planner can ask for.
                if let Ok(name) = str::from_utf8(name) {
                    names.insert(self.keys.key(ROOT, name));
                }
            });
            listed.is_ok().then_some(names)
        });
        Opened {
            components: components.iter().map(|&name| name.to_owned()).collect(),
            folder,
            names,
        }
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
        (self.answered)();
        let (&name, parents) = components.split_last()?;
        let mut last = self.last.borrow_mut();
        let opened = match &mut *last {
            Some(opened) if opened.components == parents => opened,
            stale => stale.insert(self.open(parents)),
        };
        let folder = opened.folder.as_ref()?;
        if !opened.may_have(&self.keys, name) {
            return None;
        }
        folder.kind(name)
    }

    fn reserved(&self, path: &str) -> bool {
        self.has(&self.files, path)
    }

    fn reserved_folder(&self, path: &str) -> bool {
        self.has(&self.folders, path)
    }
}
