//! A folder of the state directory. Its files are private, no symlink is followed in it, and what
//! is written whole is either there whole or not at all, power cuts included.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};

use super::disk::{Disk, Writer};

const PRIVATE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;
/// Ends the names of files that are not whole yet.
const TEMPORARY: &str = ".tmp";

/// An open folder.
pub(super) struct Folder {
    fd: File,
    pub(super) path: PathBuf,
    /// Makes temporary names differ between threads.
    drafts: AtomicU64,
}

/// Some file systems take a change of permissions and leave them as they are, such as those of
/// Windows disks.
fn warn_if_open(folder: &File, path: &Path) -> io::Result<()> {
    if folder.metadata()?.mode() & 0o077 != 0 {
        log::warn!(
            "{} stays open to others, who can read the links' secrets and passwords there: its \
             file system does not keep \
             permissions; choose another with --state-dir",
            path.display()
        );
    }
    Ok(())
}

impl Folder {
    /// Opens the folder at `path`, making it (0700) and its parents where they are missing. A
    /// folder of ours that others may enter is closed to them.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_DIR)
            .create(path)?;
        for parent in missing.iter().filter_map(|dir| dir.parent()) {
            // Best effort: not every file system lets a directory be opened and synced.
            let _ = File::open(parent).and_then(|dir| dir.sync_all());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        Folder::private(File::from(fd), path.to_owned())
    }

    /// Opens a folder inside this one, making it where it is missing.
    pub(super) fn inner(&self, name: &str) -> io::Result<Folder> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(PRIVATE_DIR)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty())?;
        Folder::private(File::from(fd), self.path.join(name))
    }

    fn private(fd: File, path: PathBuf) -> io::Result<Folder> {
        let metadata = fd.metadata()?;
        if metadata.mode() & 0o077 != 0 {
            if metadata.uid() == rustix::process::geteuid().as_raw() {
                let mut permissions = metadata.permissions();
                permissions.set_mode(PRIVATE_DIR);
                fd.set_permissions(permissions)?;
                warn_if_open(&fd, &path)?;
            } else {
                log::warn!(
                    "{} belongs to another user and is open to others; links and passwords are \
                     kept there",
                    path.display()
                );
            }
        }
        Ok(Folder {
            fd,
            path,
            drafts: AtomicU64::new(0),
        })
    }

    /// Opens a regular file for reading.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        self.regular(name, OFlags::RDONLY)
    }

    /// Opens a regular file that is there for reading and writing.
    pub(super) fn write(&self, name: &str) -> io::Result<File> {
        self.regular(name, OFlags::RDWR)
    }

    fn regular(&self, name: &str, access: OFlags) -> io::Result<File> {
        // NONBLOCK: a pipe put in the file's place must not hold us up.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.fd, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(file)
    }

    /// Closes those of the folder's regular files to others that are open to them, such as one
    /// copied back from a backup. What cannot be closed stays as it is.
    pub(super) fn close_files(&self) -> io::Result<()> {
        for name in self.all_names()? {
            if let Err(error) = self.close_file(&name) {
                log::warn!(
                    "{} may be open to others: {error}",
                    self.path.join(&name).display()
                );
            }
        }
        Ok(())
    }

    fn close_file(&self, name: &str) -> io::Result<()> {
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        if !regular || found.st_mode & 0o077 == 0 {
            return Ok(());
        }
        self.read(name)?
            .set_permissions(Permissions::from_mode(PRIVATE))
    }

    /// Opens a file for reading and writing, or for locking, making it where it is missing.
    pub(super) fn open_or_make(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(PRIVATE);
        Ok(File::from(openat(&self.fd, name, flags, mode)?))
    }

    /// Begins a new version of the file `name`.
    pub(super) fn draft(&self, name: &str) -> io::Result<Draft<'_>> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{name}.{number}{TEMPORARY}");
        self.remove(&temporary)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, &temporary, flags, Mode::from_raw_mode(PRIVATE))?;
        Ok(Draft {
            folder: self,
            name: name.to_owned(),
            temporary: Some(temporary),
            file: File::from(fd),
        })
    }

    /// Replaces the file `name` by what `write` writes; on disk when this returns.
    /// Returns the new file's length. After an error the old file is still there.
    pub(super) fn replace(
        &self,
        disk: &dyn Disk,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<u64> {
        let draft = self.draft(name)?;
        let mut out = BufWriter::with_capacity(64 << 10, Writer::new(disk, &draft.file));
        write(&mut out)?;
        let len = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .len;
        disk.sync_data(&draft.file)?;
        draft.publish()?;
        self.sync(disk)?;
        Ok(len)
    }

    /// Makes renames and removals durable.
    pub(super) fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.sync_dir(&self.fd)
    }

    /// Removes a file; one that is not there is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in the folder, temporary ones left out; names that are no UTF-8 are not ours.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.all_names()?;
        names.retain(|name| !is_temporary(name));
        Ok(names)
    }

    /// Removes the drafts that a killed process left behind, of the files that `ours` knows.
    pub(super) fn remove_drafts(&self, ours: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in self.all_names()? {
            if drafted(&name).is_some_and(&ours) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    fn all_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }
}

/// The name of the file that a draft of this name is for.
fn drafted(name: &str) -> Option<&str> {
    let (name, number) = name.strip_suffix(TEMPORARY)?.rsplit_once('.')?;
    number.parse::<u64>().is_ok().then_some(name)
}

/// Whether a name ends as drafts' names do.
pub(super) fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

/// A file being written under a temporary name; removed again unless it is published.
pub(super) struct Draft<'a> {
    folder: &'a Folder,
    name: String,
    temporary: Option<String>,
    pub(super) file: File,
}

impl Draft<'_> {
    /// Gives the file its name, in place of the file that bears it. Not durable until the folder is
    /// synced.
    pub(super) fn publish(mut self) -> io::Result<File> {
        let file = self.file.try_clone()?;
        if let Some(temporary) = &self.temporary {
            let fd = &self.folder.fd;
            renameat(fd, temporary, fd, &self.name)?;
        }
        self.temporary = None;
        Ok(file)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary
            && let Err(error) = self.folder.remove(temporary)
        {
            log::warn!(
                "cannot remove {}: {error}",
                self.folder.path.join(temporary).display()
            );
        }
    }
}
