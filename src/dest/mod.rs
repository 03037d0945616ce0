//! Everything that touches `dst_folder`: through open directories, component by component.
//!
//! `dst_folder` itself and what is above it may be or contain symbolic links, for that is the
//! user's choice. Below it no link is ever followed, whoever plants one and whenever.

mod error;
mod file;
mod folder;
mod locate;
mod own;
mod owner;
pub mod paths;
mod place;
pub mod plan;
mod roots;
mod storage;
mod traits;

pub use error::DestError;
pub use file::{
    FileIdentity, extents, forget_cached, mtime, read_failed, reserve, reserve_new, reserve_own,
    set_mtime, write_failed,
};
pub use folder::{Folder, Found, KEPT_TIMES, Kind, Published};
pub use locate::location;
pub use own::{keep_file, keep_folder};
pub use owner::Owner;
pub use place::{Identity, ask_disk, unmake};
pub use roots::allow_root;
pub use storage::Storage;
pub use traits::{NAME_MAX, Traits};

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::model::location::Location;

/// `dst_folder`, open. It stays the same directory whatever happens to its path; [`Root::check`]
/// tells when the path leads elsewhere.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
    identity: Identity,
    traits: Traits,
    storage: Storage,
    owner: Owner,
}

impl Root {
    /// The same folder, whose files and folders are given to `owner` as they are made.
    #[must_use]
    pub fn for_owner(self, owner: Owner) -> Root {
        Root { owner, ..self }
    }

    /// Tries whether what is made here can be given away.
    ///
    /// # Errors
    /// Why not, for a user.
    pub fn check_owner(&self, owner: Owner) -> Result<(), String> {
        owner::may_give(self, owner).map_err(|errno| {
            let why = match errno {
                Errno::PERM | Errno::ACCESS => "the agent does not have the right to".to_owned(),
                errno => io::Error::from(errno).to_string(),
            };
            let path = self.path.display();
            format!("files in {path} cannot be given to that uid and gid: {why}")
        })
    }

    /// Gives away folders that were made above it and itself.
    ///
    /// # Errors
    /// One cannot be given away.
    pub fn give_made(made: &[PathBuf], owner: Owner) -> Result<(), DestError> {
        for path in made {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            let fail = |errno| DestError::of("give away", path, errno);
            let dir = fs::open(path, flags, Mode::empty()).map_err(fail)?;
            owner.give(dir).map_err(fail)?;
        }
        Ok(())
    }

    /// Reads a `dst_folder` as a caller wrote it: absolute and without NUL. `.`, `..` and doubled
    /// slashes are resolved by their text alone, as a shell's `cd` does, so that the folder that is
    /// shown is the folder that is used. Touches no disk.
    ///
    /// # Errors
    /// `Unwritable`: empty, relative or with a NUL.
    pub fn validate(path: &str) -> Result<PathBuf, DestError> {
        place::validate(path)
    }

    /// Opens `dst_folder`, making it and its ancestors where they are missing. Returns the
    /// directories it made, outermost first, for [`unmake`]. A failure leaves nothing behind.
    ///
    /// # Errors
    /// Something in the way, no permission, a full disk. That the folder can be written to is not
    /// tried.
    pub fn make(path: &Path) -> Result<(Root, Vec<PathBuf>), DestError> {
        place::refuse_by_ancestor(path)?;
        let made = place::make_missing(path)?;
        match Root::existing(path).and_then(Root::if_allowed) {
            Ok(root) => Ok((root, made)),
            Err(error) => {
                unmake(&made);
                Err(error)
            }
        }
    }

    /// Opens the `dst_folder` that a download began in. A folder that was removed is made again,
    /// if what is left of its path is on the same file system.
    ///
    /// # Errors
    /// `Unwritable` where the path leads to another file system: its disk is not mounted.
    pub fn open(path: &Path, known: &Identity) -> Result<Root, DestError> {
        let root = match Root::existing(path) {
            Ok(root) => root,
            Err(error) if place::is_missing(path) => {
                if !place::ancestor_is_on(path, known) {
                    return Err(place::not_the_folder(path));
                }
                log::warn!("{error}; it is made again");
                Root::make(path)?.0
            }
            Err(error) => return Err(error),
        };
        if !root.identity.may_be(known) {
            return Err(place::not_the_folder(path));
        }
        root.if_allowed()
    }

    /// Refuses a folder that the agent keeps for itself, or that is outside of where downloads may
    /// go.
    fn if_allowed(self) -> Result<Root, DestError> {
        own::refuse_own(&self.dir, &self.path)?;
        roots::refuse_outside(&self.dir, &self.path)?;
        Ok(self)
    }

    /// Where the folder really is.
    pub fn location(&self) -> Location {
        locate::locate(&self.dir, &self.path)
    }

    /// Opens the folder at `path`, whichever that is: enough to sync it. To write, see
    /// [`Root::open`].
    ///
    /// # Errors
    /// It is not there, or cannot be opened.
    pub fn existing(path: &Path) -> Result<Root, DestError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fail = |errno| DestError::of("open", path, errno);
        let dir = match fs::open(path, flags | OFlags::RDONLY, Mode::empty()) {
            // A drop box: it may be written to, but not listed.
            Err(Errno::ACCESS) => fs::open(path, flags | OFlags::PATH, Mode::empty()),
            other => other,
        }
        .map_err(fail)?;
        Ok(Root {
            identity: Identity::of(&dir).map_err(fail)?,
            traits: Traits::of(&dir),
            storage: Storage::of(&dir),
            path: path.to_owned(),
            dir,
            owner: Owner::default(),
        })
    }

    /// What to know the folder by when the agent starts again.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// The same, for names that Windows can hold, whatever the disk is.
    pub fn for_windows(mut self) -> Root {
        let name_max = self.traits.name_max;
        self.traits = Traits {
            name_max,
            ..Traits::WINDOWS
        };
        self
    }

    /// Bytes that this user may still write there. None if the file system does not say.
    pub fn bytes_free(&self) -> Option<u64> {
        fs::fstatvfs(&self.dir).ok().and_then(free)
    }

    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `path` still leads to this very directory; one system call.
    ///
    /// # Errors
    /// `Unwritable`: unmounted, removed or replaced.
    pub fn check(&self, path: &Path) -> Result<(), DestError> {
        match fs::stat(path) {
            Ok(stat) if self.identity.is(&stat) => Ok(()),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Err(place::not_the_folder(path)),
            Err(errno) => Err(DestError::of("reach", path, errno)),
        }
    }

    /// Waits until everything written to this file system is on the disk.
    /// Another file system that is mounted somewhere below is not waited for.
    ///
    /// # Errors
    /// What the disk reports: anything may be lost that was written through this root, or while it
    /// was open, since it was last synced. That is said once: another call may succeed, and would
    /// prove nothing of it.
    pub fn sync(&self) -> Result<(), DestError> {
        match fs::syncfs(&self.dir) {
            // Opened without the right to list it: such a descriptor cannot sync.
            Err(Errno::BADF) => {
                fs::sync();
                Ok(())
            }
            other => other.map_err(|errno| DestError::of("sync", &self.path, errno)),
        }
    }

    /// Opens the folder at `components` below this one, making what is missing if `make`.
    ///
    /// # Errors
    /// `Unwritable`: missing (without `make`), a link or a file in the way, no permission.
    /// `Other`: a component that is empty, `.`, `..` or has a `/` or NUL.
    pub fn folder(&self, components: &[&str], make: bool) -> Result<Folder, DestError> {
        let mut at = self
            .dir
            .try_clone()
            .map_err(|error| DestError::of_io("open", &self.path, &error))?;
        let mut path = self.path.clone();
        for &component in components {
            path.push(folder::checked(component)?);
            let fail = |errno| DestError::of("open the folder", &path, errno);
            at = descend(&at, component, make, self.owner).map_err(fail)?;
            if own::is_own_folder(&at).map_err(fail)? {
                return Err(own::refusal(&path));
            }
        }
        Ok(Folder::new(at, path, self.owner))
    }

    /// Removes the folder at `components` where it is empty, and no link. Whatever hinders is no
    /// error: false.
    pub fn remove_folder(&self, components: &[&str]) -> bool {
        let Some((&last, parents)) = components.split_last() else {
            return false;
        };
        folder::checked(last).is_ok()
            && self
                .folder(parents, false)
                .is_ok_and(|parent| parent.remove_folder(last))
    }
}

/// As [`Root::bytes_free`], of the folder at `path`. A mount that hangs does so here.
pub fn bytes_free(path: &Path) -> Option<u64> {
    fs::statvfs(path).ok().and_then(free)
}

fn free(disk: fs::StatVfs) -> Option<u64> {
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// One step down: `O_NOFOLLOW` makes a link an error, `O_PATH` needs no right to list.
fn descend(at: &OwnedFd, component: &str, make: bool, owner: Owner) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let step = || fs::openat(at, component, flags, Mode::empty());
    match step() {
        Err(Errno::NOENT) if make => {
            match fs::mkdirat(at, component, Mode::from_raw_mode(0o777)) {
                // Another worker was faster.
                Ok(()) => {
                    owner.give_at(at, component)?;
                    step()
                }
                Err(Errno::EXIST) => step(),
                Err(errno) => Err(errno),
            }
        }
        // With O_DIRECTORY a link is reported as "not a directory"; name it for what it is.
        Err(Errno::NOTDIR) if is_link(at, component) => Err(Errno::LOOP),
        other => other,
    }
}

fn is_link(at: impl AsFd, name: &str) -> bool {
    fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Symlink)
}

#[cfg(test)]
mod tests;
