//! An open `.part` file: its space, its bytes, its modification time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, SeekFrom, Stat, StatxFlags, Timespec, Timestamps,
};
use rustix::fs::{fadvise, fallocate, fstat, fstatvfs, ftruncate, futimens, seek, statx};
use rustix::io::{Errno, retry_on_intr};

use super::{DestError, Storage};

/// Bytes in a block as `st_blocks` counts them, whatever the file system's own are: stat(2).
pub(super) const STAT_BLOCK: u64 = 512;

/// Files up to this size are written at once, which shows a full disk as soon as setting space
/// aside would.
const SMALL: u64 = 256 << 10;

/// Files from this size on are first held against the free space.
const LARGE: u64 = 1 << 20;

/// Readies a file that was just made, and is empty, for `size` bytes. A small one is left as it is.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_new(file: &File, size: u64, storage: Storage) -> Result<(), DestError> {
    if size <= SMALL && size <= storage.largest_file {
        return Ok(());
    }
    reserve(file, size, storage)
}

/// Makes a file `size` bytes long and sets their space aside, so that a full disk shows now. Where
/// the file system cannot set it aside, there has to be that much free. A file that would be filled
/// with zeros keeps its length, and grows as it comes. A failure changes nothing.
///
/// # Errors
/// `Full`; `TooLarge` where the file system cannot hold a file so large.
pub fn reserve(file: &File, size: u64, storage: Storage) -> Result<(), DestError> {
    try_reserve(file, size, storage)
        .map_err(|errno| DestError::of("make room for", &path_of(file), errno))
}

fn try_reserve(file: &File, size: u64, storage: Storage) -> Result<(), Errno> {
    if size > storage.largest_file {
        return Err(Errno::FBIG);
    }
    let before = fstat(file)?;
    let length = u64::try_from(before.st_size).unwrap_or(0);
    if size >= LARGE {
        // Asked first, since some file systems allocate all they have before they refuse,
        // and everybody else's disk is full meanwhile.
        check_free(file, &before, size)?;
    }
    let flags = match storage.has_holes {
        true => FallocateFlags::empty(),
        false => FallocateFlags::KEEP_SIZE,
    };
    if size > 0
        && let Err(errno) = retry_on_intr(|| fallocate(file, flags, 0, size))
        && is_definite(errno)
    {
        // Gives back what was allocated; the refusal is what matters.
        let _ = ftruncate(file, length);
        return Err(errno);
    }
    let size_now = i64::try_from(size).map_err(|_| Errno::FBIG)?;
    if storage.has_holes && fstat(file)?.st_size != size_now {
        definite(retry_on_intr(|| ftruncate(file, size)))?;
    }
    Ok(())
}

/// Sets space aside for the bytes from `start` up to `end` of a file that others write to as well,
/// and makes it `size` bytes long. `is_new`: nothing of that is there. A failure changes nothing of
/// what others have written.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_own(
    file: &File,
    (start, end): (u64, u64),
    size: u64,
    storage: Storage,
    is_new: bool,
) -> Result<(), DestError> {
    let reserved = || {
        if size > storage.largest_file {
            return Err(Errno::FBIG);
        }
        let own = end - start;
        let before = fstat(file)?;
        if is_new && own >= LARGE {
            check_free(file, &before, own)?;
        }
        let flags = match storage.has_holes {
            true => FallocateFlags::empty(),
            false => FallocateFlags::KEEP_SIZE,
        };
        if own > SMALL {
            definite(retry_on_intr(|| fallocate(file, flags, start, own)))?;
        }
        // All who write to it make it as long, and none makes it shorter.
        let length = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
        if storage.has_holes && size > SMALL && length < size {
            definite(retry_on_intr(|| ftruncate(file, size)))?;
        }
        Ok(())
    };
    reserved().map_err(|errno| DestError::of("make room for", &path_of(file), errno))
}

fn definite(result: Result<(), Errno>) -> Result<(), Errno> {
    result.or_else(|errno| {
        if is_definite(errno) {
            Err(errno)
        } else {
            Ok(())
        }
    })
}

/// Whether a file that cannot be made so long could not be written either. Whatever else hinders
/// setting space aside (some FUSE file systems answer EPERM) says nothing about writing.
fn is_definite(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::ROFS | Errno::IO
    )
}

fn check_free(file: &File, stat: &Stat, size: u64) -> Result<(), Errno> {
    let has = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(STAT_BLOCK);
    let disk = fstatvfs(file)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // Some network and FUSE file systems report nothing at all; they are given the benefit of the
    // doubt.
    if disk.f_blocks > 0 && size.saturating_sub(has) > free {
        return Err(Errno::NOSPC);
    }
    Ok(())
}

/// Extents looked at, at most: a file in more pieces than that is taken at its word.
const EXTENTS: usize = 65_536;

/// The parts of a file that hold data, as half-open intervals: what was set aside but never
/// written, or was cut off and grew again, is not among them. Where the file system cannot tell,
/// that is the file's whole length.
pub fn extents(file: &File) -> Vec<(u64, u64)> {
    let length = fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    let mut found = Vec::new();
    let mut at = 0;
    while at < length && found.len() < EXTENTS {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole from here on.
            Err(Errno::NXIO) => return found,
            Err(_) => return vec![(0, length)],
        };
        let end = seek(file, SeekFrom::Hole(start))
            .unwrap_or(length)
            .min(length);
        found.push((start, end));
        at = end.max(start + 1);
    }
    if at < length {
        return vec![(0, length)];
    }
    found
}

/// What to say where bytes could not be written to a file.
pub fn write_failed(file: &File, error: &io::Error) -> DestError {
    DestError::of_io("write to", &path_of(file), error)
}

/// What to say where a file could not be read back.
pub fn read_failed(file: &File, error: &io::Error) -> DestError {
    DestError::of_io("read", &path_of(file), error)
}

/// Has what is read of the file come from the disk, as far as the system lets go of what it holds.
pub fn forget_cached(file: &File) {
    // Where it does not, the memory is what is compared.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// Where an open file is now, for a message; its name is not worth keeping otherwise.
fn path_of(file: &File) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .unwrap_or_else(|_| PathBuf::from("the file"))
}

/// Sets the modification time, in nanoseconds since 1970. Returns the one that the file has then,
/// which may be coarser or another: file systems have a grain and bounds, and some only say that
/// they have done it.
pub fn set_mtime(file: &File, ns: i64) -> Option<i64> {
    let before = fstat(file).ok()?;
    let time = Timespec {
        tv_sec: ns.div_euclid(1_000_000_000),
        tv_nsec: ns.rem_euclid(1_000_000_000) as _,
    };
    let times = Timestamps {
        // As it is. Leaving it out is ignored together with the other by libfuse 2.
        last_access: Timespec {
            tv_sec: before.st_atime,
            tv_nsec: before.st_atime_nsec as _,
        },
        last_modification: time,
    };
    // Where it is refused the time is what it was.
    let _ = futimens(file, &times);
    mtime(file)
}

/// The modification time in nanoseconds since 1970. None if it is outside the years 1677 to
/// 2262.
pub fn mtime(file: &File) -> Option<i64> {
    nanoseconds(&fstat(file).ok()?)
}

/// Which file a file is, whatever its name, as long as its disk lives: a copy of it is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not know.
    pub born: i64,
}

impl FileIdentity {
    /// That of an open file. None where the system does not tell.
    pub fn of(file: impl AsFd) -> Option<FileIdentity> {
        FileIdentity::at(file, "", AtFlags::EMPTY_PATH)
    }

    /// That of an open file, as far as any system tells it.
    pub fn by_inode(file: &File) -> FileIdentity {
        FileIdentity::of(file).unwrap_or_else(|| FileIdentity {
            inode: fstat(file).map_or(0, |stat| stat.st_ino),
            born: 0,
        })
    }

    /// Whether both may be of one file; not every machine that looks at a file knows when it was
    /// made.
    pub fn may_be(&self, other: &FileIdentity) -> bool {
        let born_alike = self.born == other.born || self.born == 0 || other.born == 0;
        self.inode == other.inode && born_alike
    }

    /// That of the file `name` in an open folder, links not followed.
    pub(super) fn of_name(dir: impl AsFd, name: &str) -> Option<FileIdentity> {
        FileIdentity::at(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn at(dir: impl AsFd, name: &str, flags: AtFlags) -> Option<FileIdentity> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let found = statx(dir, name, flags, wanted).ok()?;
        let has = |field: StatxFlags| found.stx_mask & field.bits() != 0;
        let born = found.stx_btime;
        let born = born
            .tv_sec
            .checked_mul(1_000_000_000)
            .and_then(|seconds| seconds.checked_add(born.tv_nsec.into()));
        has(StatxFlags::INO).then(|| FileIdentity {
            inode: found.stx_ino,
            born: born.filter(|_| has(StatxFlags::BTIME)).unwrap_or(0),
        })
    }
}

pub(super) fn nanoseconds(stat: &Stat) -> Option<i64> {
    stat.st_mtime
        .checked_mul(1_000_000_000)?
        .checked_add(i64::try_from(stat.st_mtime_nsec).ok()?)
}
