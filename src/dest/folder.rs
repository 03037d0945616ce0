//! One open folder under `dst_folder`, and the files in it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::{DestError, FileIdentity, Owner, own};

/// What a name stands for, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Symlink,
    /// A device, a socket, a pipe.
    Other,
}

impl Kind {
    fn of(stat: &Stat) -> Kind {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        }
    }
}

/// What became of a file that was to get its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    Done,
    /// The final name is taken, and was not to be replaced, or is a folder or a file of the agent's
    /// own. Nothing was changed.
    Taken,
    /// There is no regular file under the `.part` name.
    PartMissing,
}

/// A regular file, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// In bytes.
    pub length: u64,
    /// Its modification time in nanoseconds since 1970. None if it is outside the years 1677 to
    /// 2262.
    pub mtime: Option<i64>,
}

impl Found {
    /// Whether it may be the file of so many bytes with this modification time, in nanoseconds
    /// since 1970; by its length alone where no time is known, or one that disks may change.
    pub fn may_be(&self, size: u64, mtime: Option<i64>) -> bool {
        let near = |(known, found): (i64, i64)| known.abs_diff(found) <= MTIME_SLACK_NS;
        let kept = mtime.filter(|known| KEPT_TIMES.contains(known));
        self.length == size && kept.zip(self.mtime).is_none_or(near)
    }
}

/// The times that every file system can keep, from 1981 to 2037, in nanoseconds since 1970. Others
/// it may change.
pub const KEPT_TIMES: Range<i64> = 347_155_200_000_000_000..2_114_380_800_000_000_000;

/// How far a saved file's modification time may be from the expected one: FAT counts in 2 s.
const MTIME_SLACK_NS: u64 = 2_000_000_000;

/// An open folder. It stays the same directory, even if it is renamed or replaced.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    /// For messages only.
    path: PathBuf,
    /// Whom the files that are made in it are given to.
    owner: Owner,
}

/// A name that can only mean an entry of the folder itself.
pub(super) fn checked(name: &str) -> Result<&str, DestError> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(DestError::Other(format!(
            "{name:?} is not the name of a file or folder"
        )));
    }
    Ok(name)
}

impl Folder {
    pub(super) fn new(dir: OwnedFd, path: PathBuf, owner: Owner) -> Folder {
        Folder { dir, path, owner }
    }

    /// The folder's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fail(&self, action: &str, name: &str, errno: Errno) -> DestError {
        DestError::of(action, &self.path.join(name), errno)
    }

    fn stat(&self, name: &str) -> Result<Option<Stat>, Errno> {
        match fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Calls `visit` with every name in the folder, in no order.
    ///
    /// # Errors
    /// The folder cannot be listed, or not to its end.
    pub fn each_name(&self, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        for entry in fs::Dir::new(self.for_reading()?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                visit(name);
            }
        }
        Ok(())
    }

    /// The same folder with the right to list and to sync it: it was opened without (O_PATH).
    fn for_reading(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(&self.dir, ".", flags, Mode::empty())
    }

    /// Has the names in it on the disk. Some file systems cannot, and keep them all the same.
    pub fn sync(&self) {
        let synced = self.for_reading().and_then(fs::fsync);
        if let Err(errno) = synced {
            log::debug!("{}: the folder is not synced: {errno}", self.path.display());
        }
    }

    /// Opens a regular file for reading and writing that others may write to as well, or makes it,
    /// empty. The second value tells whether it was made.
    ///
    /// # Errors
    /// Something else has the name; no space for the entry, no permission.
    pub fn open_shared(&self, name: &str) -> Result<(File, bool), DestError> {
        // Others may make or rename it between the two steps, but not for ever.
        for _ in 0..100 {
            if let Some(file) = self.open_part(name)? {
                return Ok((file, false));
            }
            if let Some(file) = self.create_part(name)? {
                return Ok((file, true));
            }
            let found = self
                .stat(name)
                .map_err(|errno| self.fail("open", name, errno))?;
            if found.is_some_and(|stat| Kind::of(&stat) == Kind::File && stat.st_nlink > 1) {
                // Where names are given by a second link, that is what another is doing now.
                return Err(DestError::Short(format!(
                    "another process is giving {} its name",
                    self.path.join(name).display()
                )));
            }
        }
        Err(self.fail("open", name, Errno::EXIST))
    }

    /// Which file has that name, links not followed. None: nothing has, or it cannot be looked at.
    pub fn identity(&self, name: &str) -> Option<FileIdentity> {
        let name = checked(name).ok()?;
        FileIdentity::of_name(&self.dir, name).or_else(|| {
            let inode = self.stat(name).ok()??.st_ino;
            Some(FileIdentity { inode, born: 0 })
        })
    }

    /// Makes a file, empty, for reading and writing. None: the name is taken.
    ///
    /// # Errors
    /// No space for the entry, no permission.
    pub fn create_part(&self, name: &str) -> Result<Option<File>, DestError> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        match fs::openat(&self.dir, checked(name)?, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => {
                let given = self.owner.give(&file);
                if let Err(errno) = given {
                    // Nobody else can have put anything into it yet.
                    let _ = fs::unlinkat(&self.dir, name, AtFlags::empty());
                    return Err(self.fail("give away", name, errno));
                }
                Ok(Some(file.into()))
            }
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(self.fail("create", name, errno)),
        }
    }

    /// Opens a regular file with one name, as it is, for reading and writing. None: there is no
    /// such file; a second hard link might be a file of the user's, so it counts as none.
    ///
    /// # Errors
    /// No permission, a failing disk.
    pub fn open_part(&self, name: &str) -> Result<Option<File>, DestError> {
        let fail = |errno| self.fail("open", name, errno);
        // Looked at first, since opening a device may do something to it.
        match self.stat(checked(name)?).map_err(fail)? {
            Some(stat) if Kind::of(&stat) == Kind::File => {}
            _ => return Ok(None),
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        // Looked at again, since it may have been replaced in between.
        let stat = fs::fstat(&file).map_err(fail)?;
        let ours = Kind::of(&stat) == Kind::File && stat.st_nlink <= 1;
        Ok(ours.then(|| file.into()))
    }

    /// Opens a regular file for reading, links not followed. None: there is no such file.
    ///
    /// # Errors
    /// No permission, a failing disk.
    pub fn open_saved(&self, name: &str) -> Result<Option<File>, DestError> {
        let fail = |errno| self.fail("open", name, errno);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.dir, checked(name)?, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        let stat = fs::fstat(&file).map_err(fail)?;
        Ok((Kind::of(&stat) == Kind::File).then(|| file.into()))
    }

    /// Gives a whole file its final name. With `replace` a file or link of that name is replaced,
    /// the link itself.
    ///
    /// # Errors
    /// No permission, no space for the entry, a failing disk.
    pub fn publish(&self, part: &str, last: &str, replace: bool) -> Result<Published, DestError> {
        checked(part)?;
        checked(last)?;
        self.try_publish(part, last, replace)
            .map_err(|errno| self.fail("save", last, errno))
    }

    fn try_publish(&self, part: &str, last: &str, replace: bool) -> Result<Published, Errno> {
        match self.stat(part)? {
            Some(stat) if Kind::of(&stat) == Kind::File => {}
            _ => return Ok(Published::PartMissing),
        }
        if replace {
            return self.publish_over(part, last);
        }
        match fs::renameat_with(&self.dir, part, &self.dir, last, RenameFlags::NOREPLACE) {
            // Kernels before 3.15, and file systems that lack the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.publish_by_link(part, last),
            result => self.outcome(result, part),
        }
    }

    fn publish_over(&self, part: &str, last: &str) -> Result<Published, Errno> {
        let found = self.stat(last)?;
        if found.is_some_and(|stat| Kind::of(&stat) == Kind::Folder || own::is_own_file(&stat)) {
            return Ok(Published::Taken);
        }
        self.outcome(fs::renameat(&self.dir, part, &self.dir, last), part)
    }

    /// Without replacing, where the file system has hard links.
    pub(super) fn publish_by_link(&self, part: &str, last: &str) -> Result<Published, Errno> {
        match fs::linkat(&self.dir, part, &self.dir, last, AtFlags::empty()) {
            Ok(()) => {}
            // Both names may be ours: left by an agent that was killed between the two steps.
            Err(Errno::EXIST) if self.same_file(part, last)? => {}
            Err(Errno::EXIST) => return Ok(Published::Taken),
            Err(_) => return self.publish_by_check(part, last),
        }
        match fs::unlinkat(&self.dir, part, AtFlags::empty()) {
            // Another process that gives it the same name may have come first.
            Ok(()) | Err(Errno::NOENT) => Ok(Published::Done),
            Err(errno) => Err(errno),
        }
    }

    /// Where the file system has neither. Something that appears between the look and the
    /// rename is replaced; nothing better is to be had there.
    pub(super) fn publish_by_check(&self, part: &str, last: &str) -> Result<Published, Errno> {
        if self.stat(last)?.is_some() {
            return Ok(Published::Taken);
        }
        self.outcome(fs::renameat(&self.dir, part, &self.dir, last), part)
    }

    fn outcome(&self, renamed: Result<(), Errno>, part: &str) -> Result<Published, Errno> {
        match renamed {
            Ok(()) => Ok(Published::Done),
            Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => Ok(Published::Taken),
            // Some file systems say so of a name that they cannot hold.
            Err(Errno::NOENT) if self.stat(part)?.is_some() => Err(Errno::ILSEQ),
            Err(Errno::NOENT) => Ok(Published::PartMissing),
            Err(errno) => Err(errno),
        }
    }

    fn same_file(&self, a: &str, b: &str) -> Result<bool, Errno> {
        let (Some(a), Some(b)) = (self.stat(a)?, self.stat(b)?) else {
            return Ok(false);
        };
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Removes a regular file, not a link. False: there was none.
    ///
    /// # Errors
    /// No permission, a failing disk.
    pub fn remove_part(&self, name: &str) -> Result<bool, DestError> {
        self.remove_if(name, |_| true)
    }

    /// Removes a regular file of `size` bytes whose modification time is within 2 s of `mtime_ns`
    /// (nanoseconds since 1970; None: any), if it is the one of this identity (None: any). False:
    /// there is none such, it is not ours any more.
    ///
    /// # Errors
    /// No permission, a failing disk.
    pub fn remove_saved(
        &self,
        name: &str,
        size: u64,
        mtime_ns: Option<i64>,
        identity: Option<FileIdentity>,
    ) -> Result<bool, DestError> {
        self.remove_if(name, |stat| {
            let same_size = u64::try_from(stat.st_size).is_ok_and(|found| found == size);
            let is_same = |known| {
                let found = FileIdentity::of_name(&self.dir, name);
                found.is_none_or(|found| found == known)
            };
            same_size
                && mtime_ns.is_none_or(|known| is_near(known, stat))
                && identity.is_none_or(is_same)
        })
    }

    fn remove_if(&self, name: &str, ours: impl Fn(&Stat) -> bool) -> Result<bool, DestError> {
        let fail = |errno| self.fail("remove", name, errno);
        match self.stat(checked(name)?).map_err(fail)? {
            Some(stat) if Kind::of(&stat) == Kind::File && ours(&stat) => {}
            _ => return Ok(false),
        }
        match fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// What is there under a name, links not followed. None: nothing, or nothing that can be looked
    /// at.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        let stat = self.stat(checked(name).ok()?).ok()??;
        Some(Kind::of(&stat))
    }

    /// The regular file of that name, links not followed. None: there is none.
    ///
    /// # Errors
    /// It cannot be looked at: no permission, a failing disk.
    pub fn file(&self, name: &str) -> Result<Option<Found>, DestError> {
        let stat = self.stat(checked(name)?);
        let stat = stat.map_err(|errno| self.fail("look at", name, errno))?;
        let stat = stat.filter(|stat| Kind::of(stat) == Kind::File);
        Ok(stat.map(|stat| Found {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: super::file::nanoseconds(&stat),
        }))
    }

    /// Bytes that a regular file takes on the disk; 0 if there is none.
    pub fn allocated(&self, name: &str) -> u64 {
        let stat = checked(name).ok().and_then(|name| self.stat(name).ok()?);
        let stat = stat.filter(|stat| Kind::of(stat) == Kind::File);
        let blocks = stat.and_then(|stat| u64::try_from(stat.st_blocks).ok());
        blocks.unwrap_or(0).saturating_mul(super::file::STAT_BLOCK)
    }

    /// The length of a regular file, in bytes, links not followed. None: there is none of that
    /// name, or nothing that can be looked at.
    pub fn file_len(&self, name: &str) -> Option<u64> {
        self.file(name).ok()?.map(|found| found.length)
    }

    pub(super) fn remove_folder(&self, name: &str) -> bool {
        fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR).is_ok()
    }
}

fn is_near(known: i64, stat: &Stat) -> bool {
    super::file::nanoseconds(stat).is_some_and(|found| found.abs_diff(known) <= MTIME_SLACK_NS)
}
