//! Who gets which name: folders, then files, then `.part` names.

use std::collections::{HashMap, HashSet};

use crate::dest::paths;
use crate::dest::{Kind, Traits};
use crate::model::request::IfExists;
use crate::model::table::ROOT;

use super::batch::Batches;
use super::disk::Disk;
use super::folders::{Folders, Keys};

/// Names that differ from the obvious ones, by file.
#[derive(Default)]
pub(super) struct Changes {
    pub names: HashMap<u32, Change>,
}

#[derive(Default)]
pub(super) struct Change {
    /// The final name, where it is not the mended one.
    pub last: Option<Box<str>>,
    /// The `.part` name, where it is not the final one and `.part`.
    pub part: Option<Box<str>>,
}

pub(super) struct Names<'a> {
    traits: Traits,
    disk: &'a dyn Disk,
    if_exists: IfExists,
    keys: Keys,
    /// Final names of files, names of folders and uncommon `.part` names of this package.
    taken: HashSet<u64>,
    /// The number that the next file of a contested name tries first.
    next: HashMap<u64, u32>,
}

/// A folder while its files are named.
struct Here<'a> {
    folder: u32,
    /// From `dst_folder` down.
    components: Vec<&'a str>,
    /// The same, each followed by a slash.
    prefix: String,
    /// Whether something may be in it already.
    exists: bool,
}

impl<'a> Here<'a> {
    fn new(folders: &'a Folders, folder: u32) -> Here<'a> {
        let components = folders.saved_components(folder);
        let mut prefix = String::new();
        for component in &components {
            prefix.push_str(component);
            prefix.push('/');
        }
        Here {
            folder,
            components,
            prefix,
            exists: !folders.is_ours(folder),
        }
    }

    fn path(&self, name: &str) -> String {
        [&self.prefix, name].concat()
    }

    fn kind(&self, disk: &dyn Disk, name: &str) -> Option<Kind> {
        if !self.exists {
            return None;
        }
        let mut components = self.components.clone();
        components.push(name);
        disk.kind(&components)
    }
}

/// What may become of a name that nothing else in the package has.
enum Verdict {
    Free,
    /// It stays as it is on the disk.
    Skip,
    Taken,
}

impl<'a> Names<'a> {
    pub fn new(traits: Traits, disk: &'a dyn Disk, if_exists: IfExists) -> Names<'a> {
        Names {
            traits,
            disk,
            if_exists,
            keys: Keys::new(traits),
            taken: HashSet::new(),
            next: HashMap::new(),
        }
    }

    /// Folders go first: a file gives way to a folder, since other files need it.
    pub fn settle_folders(&mut self, folders: &mut Folders) {
        for folder in 1..folders.len() {
            let key = self.keys.key(folders.parent(folder), folders.name(folder));
            self.taken.insert(key);
        }
        for folder in 1..folders.len() {
            let (ours, name) = self.settle_folder(folders, folder);
            folders.settle(folder, ours, name);
        }
    }

    fn settle_folder(&mut self, folders: &Folders, folder: u32) -> (bool, Option<String>) {
        let here = Here::new(folders, folders.parent(folder));
        let name = folders.name(folder);
        match here.kind(self.disk, name) {
            Some(Kind::Folder) => return (false, None),
            None if !self.disk.reserved(&here.path(name)) => return (true, None),
            _ => {}
        }
        let renamed = self.numbered(&here, name, |names, candidate| {
            let path = here.path(candidate);
            here.kind(names.disk, candidate).is_none()
                && !names.disk.reserved(&path)
                && !names.disk.reserved_folder(&path)
        });
        (true, Some(renamed))
    }

    /// Files keep their listed names where they can; those that cannot choose after all that can.
    pub fn settle_files(&mut self, folders: &Folders, files: &mut Batches) -> Changes {
        for file in 0..files.len() {
            let row = files.row(file);
            if row.withheld.is_none() {
                let key = self.keys.key(row.folder, files.name(file));
                files.row_mut(file).first = self.taken.insert(key);
            }
        }
        let order = files.by_folder(folders.len());
        let mut changes = Changes::default();
        self.each(folders, files, &order, |names, here, files, file| {
            names.settle_file(here, files, file, &mut changes);
        });
        self.each(folders, files, &order, |names, here, files, file| {
            names.settle_part(here, files, file, &mut changes);
        });
        changes
    }

    /// Walks the files folder by folder, so that the disk is asked in that order.
    fn each(
        &mut self,
        folders: &Folders,
        files: &mut Batches,
        order: &[u32],
        mut visit: impl FnMut(&mut Self, &Here<'_>, &mut Batches, u32),
    ) {
        let mut here = Here::new(folders, ROOT);
        for &file in order {
            let folder = files.row(file).folder;
            if folder != here.folder {
                here = Here::new(folders, folder);
            }
            visit(self, &here, files, file);
        }
    }

    fn settle_file(&mut self, here: &Here<'_>, files: &mut Batches, file: u32, out: &mut Changes) {
        let row = files.row(file);
        let name = files.name(file);
        let withheld = row.withheld.is_some();
        let mut exists = false;
        if row.first || (withheld && self.taken.insert(self.keys.key(here.folder, name))) {
            match self.judge(here, name, withheld) {
                Verdict::Free => return,
                Verdict::Skip => {
                    files.row_mut(file).exists = true;
                    return;
                }
                Verdict::Taken => {}
            }
        }
        let renamed = self.numbered(here, name, |names, candidate| {
            let verdict = names.judge(here, candidate, withheld);
            exists = matches!(verdict, Verdict::Skip);
            !matches!(verdict, Verdict::Taken)
        });
        files.row_mut(file).exists = exists;
        out.names.entry(file).or_default().last = Some(renamed.into());
    }

    /// What the disk and `if_exists` say to a final name. A withheld file is not saved, so nothing
    /// hinders it.
    fn judge(&self, here: &Here<'_>, name: &str, withheld: bool) -> Verdict {
        if withheld {
            return Verdict::Free;
        }
        match (here.kind(self.disk, name), self.if_exists) {
            (None, _) => {
                let path = here.path(name);
                if self.disk.reserved(&path) || self.disk.reserved_folder(&path) {
                    Verdict::Taken
                } else {
                    Verdict::Free
                }
            }
            (Some(Kind::Folder), _) | (Some(_), IfExists::Rename) => Verdict::Taken,
            (Some(_), IfExists::Overwrite) if self.disk.reserved(&here.path(name)) => {
                Verdict::Taken
            }
            (Some(_), IfExists::Overwrite) => Verdict::Free,
            (Some(_), IfExists::Skip) => Verdict::Skip,
        }
    }

    fn settle_part(&mut self, here: &Here<'_>, files: &mut Batches, file: u32, out: &mut Changes) {
        let row = files.row(file);
        if row.withheld.is_some() || row.exists {
            return;
        }
        let change = out.names.get(&file);
        let name = change.and_then(|change| change.last.as_deref());
        let name = name.unwrap_or_else(|| files.name(file)).to_owned();
        let usual = paths::part_name(&name, 0, self.traits);
        if !self.taken.contains(&self.keys.key(here.folder, &usual)) && self.is_clear(here, &usual)
        {
            return;
        }
        let part = (1..)
            .map(|number| paths::part_name(&name, number, self.traits))
            .find(|part| self.may_be_part(here, part))
            .expect("there are more numbers than files");
        self.taken.insert(self.keys.key(here.folder, &part));
        out.names.entry(file).or_default().part = Some(part.into());
    }

    /// Neither a name of this package, nor the usual `.part` name of a file in it, nor on the disk.
    fn may_be_part(&self, here: &Here<'_>, part: &str) -> bool {
        let whole = part.strip_suffix(paths::PART).unwrap_or(part);
        [part, whole]
            .iter()
            .all(|name| !self.taken.contains(&self.keys.key(here.folder, name)))
            && self.is_clear(here, part)
    }

    fn is_clear(&self, here: &Here<'_>, name: &str) -> bool {
        let path = here.path(name);
        here.kind(self.disk, name).is_none()
            && !self.disk.reserved(&path)
            && !self.disk.reserved_folder(&path)
    }

    /// The first `name (1)`, `name (2)`, … that no other has and `fits` agrees to; it is taken from
    /// here on.
    fn numbered(
        &mut self,
        here: &Here<'_>,
        name: &str,
        mut fits: impl FnMut(&Self, &str) -> bool,
    ) -> String {
        let contested = self.keys.key(here.folder, name);
        let mut number = self.next.get(&contested).copied().unwrap_or(1);
        loop {
            let candidate = paths::numbered(name, number, self.traits);
            let key = self.keys.key(here.folder, &candidate);
            number += 1;
            if !self.taken.contains(&key) && fits(self, &candidate) {
                self.taken.insert(key);
                self.next.insert(contested, number);
                return candidate;
            }
        }
    }
}
