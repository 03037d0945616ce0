//! Whom files and folders are given to.

use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::Root;
use crate::model::request::RequestOptions;

/// The user and the group that what a download makes is given to; None leaves them as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Owner {
    /// Whom a download's files are to be given to.
    pub fn of(options: &RequestOptions) -> Owner {
        Owner {
            uid: options.uid,
            gid: options.gid,
        }
    }

    fn is_anyone(self) -> bool {
        self.uid.is_none() && self.gid.is_none()
    }

    /// Gives away what is open.
    ///
    /// # Errors
    /// The agent may not, or the file system cannot.
    pub(super) fn give(self, file: impl AsFd) -> Result<(), Errno> {
        match self.is_anyone() {
            true => Ok(()),
            false => fs::fchown(
                file,
                self.uid.map(Uid::from_raw),
                self.gid.map(Gid::from_raw),
            ),
        }
    }

    /// Gives away what `name` is in `folder`; a link itself.
    ///
    /// # Errors
    /// As for [`Owner::give`].
    pub(super) fn give_at(self, folder: impl AsFd, name: &str) -> Result<(), Errno> {
        match self.is_anyone() {
            true => Ok(()),
            false => fs::chownat(
                folder,
                name,
                self.uid.map(Uid::from_raw),
                self.gid.map(Gid::from_raw),
                AtFlags::SYMLINK_NOFOLLOW,
            ),
        }
    }
}

/// Tries, with a file that has no name or is gone at once, whether files here can be given away.
///
/// # Errors
/// What the system says to that.
pub(super) fn may_give(root: &Root, owner: Owner) -> Result<(), Errno> {
    if owner.is_anyone() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0o600);
    let unnamed = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match fs::openat(&root.dir, ".", unnamed, mode) {
        Ok(file) => owner.give(file),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
            let name = format!(
                ".haul-{:016x}.part",
                u64::from_le_bytes(crate::base::id::random())
            );
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = fs::openat(&root.dir, &name, flags, mode)?;
            let given = owner.give(file);
            fs::unlinkat(&root.dir, &name, AtFlags::empty())?;
            given
        }
        Err(errno) => Err(errno),
    }
}
