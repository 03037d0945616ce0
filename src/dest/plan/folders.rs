//! The folders of a package, each held once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::dest::Traits;
use crate::dest::{NAME_MAX, paths};
use crate::model::table::ROOT;

use super::{DEPTH_MAX, ENTRIES_MAX, PlanError};

/// Stands for "no other folder".
const NONE: u32 = u32::MAX;

struct Folder {
    parent: u32,
    /// Where its name begins in the text.
    text: u32,
    /// The next folder whose parent and name have the same hash.
    twin: u32,
    name_len: u8,
    depth: u8,
    /// This download makes it.
    ours: bool,
    /// It, or a folder it is in, is saved under another name than the mended one.
    moved: bool,
}

/// Folder 0 is `dst_folder`; a parent comes before its children.
pub(super) struct Folders {
    folders: Vec<Folder>,
    text: String,
    /// By parent and name.
    index: HashMap<u64, u32>,
    /// The names of those that had to give way.
    renamed: HashMap<u32, String>,
    keys: Keys,
    /// The package's own folder: [`ROOT`], or one right in it.
    base: u32,
}

/// Hashes a folder and a name in it, so that names that the disk takes for one have one hash.
#[derive(Clone)]
pub(super) struct Keys {
    state: RandomState,
    ignores_case: bool,
}

impl Keys {
    pub fn new(traits: Traits) -> Keys {
        Keys {
            state: RandomState::new(),
            ignores_case: traits.ignores_case,
        }
    }

    pub fn key(&self, folder: u32, name: &str) -> u64 {
        let mut hasher = self.state.build_hasher();
        folder.hash(&mut hasher);
        let mut ascii = [0; NAME_MAX];
        if !self.ignores_case {
            hasher.write(name.as_bytes());
        } else if name.is_ascii() && name.len() <= ascii.len() {
            // What most names are, without a walk through Unicode's tables.
            let lower = &mut ascii[..name.len()];
            lower.copy_from_slice(name.as_bytes());
            lower.make_ascii_lowercase();
            hasher.write(lower);
        } else {
            hasher.write(paths::folded(name).collect::<String>().as_bytes());
        }
        hasher.finish()
    }

    fn same(&self, a: &str, b: &str) -> bool {
        a == b || (self.ignores_case && paths::folded(a).eq(paths::folded(b)))
    }
}

impl Folders {
    pub fn new(traits: Traits) -> Folders {
        let root = Folder {
            parent: ROOT,
            text: 0,
            twin: NONE,
            name_len: 0,
            depth: 0,
            ours: false,
            moved: false,
        };
        Folders {
            folders: vec![root],
            text: String::new(),
            index: HashMap::new(),
            renamed: HashMap::new(),
            keys: Keys::new(traits),
            base: ROOT,
        }
    }

    /// The folder that listed paths begin in.
    pub fn base(&self) -> u32 {
        self.base
    }

    pub fn set_base(&mut self, base: u32) {
        self.base = base;
    }

    /// The folder of a (mended) name in `parent`, added if it is new; `parent` itself if that is
    /// too deep.
    pub fn enter(&mut self, parent: u32, name: &str) -> Result<u32, PlanError> {
        let key = self.keys.key(parent, name);
        let first = self.index.get(&key).copied().unwrap_or(NONE);
        let mut at = first;
        while at != NONE {
            if self.parent(at) == parent && self.keys.same(self.name(at), name) {
                return Ok(at);
            }
            at = self.folders[at as usize].twin;
        }
        let depth = usize::from(self.folders[parent as usize].depth);
        if depth == DEPTH_MAX {
            return Ok(parent);
        }
        if self.len() > ENTRIES_MAX {
            return Err(PlanError::TooMany);
        }
        let index = self.len();
        self.folders.push(Folder {
            parent,
            text: u32::try_from(self.text.len()).map_err(|_| PlanError::TooMany)?,
            twin: first,
            name_len: u8::try_from(name.len()).expect("a mended name has at most 250 bytes"),
            depth: u8::try_from(depth + 1).expect("depth was below 255"),
            ours: true,
            moved: false,
        });
        self.text.push_str(name);
        self.index.insert(key, index);
        Ok(index)
    }

    /// Number of folders, `dst_folder` too.
    pub fn len(&self) -> u32 {
        u32::try_from(self.folders.len()).expect("no more than ENTRIES_MAX and one are let in")
    }

    pub fn parent(&self, folder: u32) -> u32 {
        self.folders[folder as usize].parent
    }

    /// The mended name.
    pub fn name(&self, folder: u32) -> &str {
        let entry = &self.folders[folder as usize];
        let start = entry.text as usize;
        &self.text[start..start + usize::from(entry.name_len)]
    }

    /// The name on the disk.
    pub fn saved_name(&self, folder: u32) -> &str {
        match self.renamed.get(&folder) {
            Some(name) => name,
            None => self.name(folder),
        }
    }

    /// Whether this download makes the folder.
    pub fn is_ours(&self, folder: u32) -> bool {
        self.folders[folder as usize].ours
    }

    /// Whether the folder's saved path differs from its mended one.
    pub fn is_moved(&self, folder: u32) -> bool {
        self.folders[folder as usize].moved
    }

    /// Settles a folder, after the one that it is in. `name`: another than the mended one.
    pub fn settle(&mut self, folder: u32, ours: bool, name: Option<String>) {
        // Another name of the package's folder is none of its files' doing.
        let moved = folder != self.base && (name.is_some() || self.is_moved(self.parent(folder)));
        let entry = &mut self.folders[folder as usize];
        entry.ours = ours;
        entry.moved = moved;
        if let Some(name) = name {
            self.renamed.insert(folder, name);
        }
    }

    /// Saved names from `dst_folder` down.
    pub fn saved_components(&self, folder: u32) -> Vec<&str> {
        self.components(folder, ROOT, Folders::saved_name)
    }

    /// The mended path of a file.
    pub fn listed_path(&self, folder: u32, name: &str) -> String {
        let mut components = self.components(folder, self.base, Folders::name);
        components.push(name);
        components.join("/")
    }

    fn components<'a>(
        &'a self,
        folder: u32,
        above: u32,
        name: impl Fn(&'a Folders, u32) -> &'a str,
    ) -> Vec<&'a str> {
        let mut names = Vec::new();
        let mut at = folder;
        while at != above {
            names.push(name(self, at));
            at = self.parent(at);
        }
        names.reverse();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_agree_where_the_target_takes_names_for_one() {
        let keys = Keys::new(Traits::WINDOWS);
        // The second is the Kelvin sign, whose lower case is an ordinary k.
        assert_eq!(keys.key(1, "KELVIN"), keys.key(1, "\u{212a}elvin"));
        assert_eq!(keys.key(1, "Ärger"), keys.key(1, "äRGER"));
        assert_ne!(keys.key(1, "a"), keys.key(2, "a"));
        let keys = Keys::new(Traits::default());
        assert_ne!(keys.key(1, "a"), keys.key(1, "A"));
    }
}
