//! An open `.part` file: its space, its bytes, its modification time.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::fs::{fallocate, fstat, fstatvfs, ftruncate, futimens, seek};
use rustix::io::{Errno, retry_on_intr};

use super::DestError;

/// Bytes in a block as `st_blocks` counts them, whatever the file system's own are: stat(2).
const STAT_BLOCK: u64 = 512;

/// Files up to this size are written at once, which shows a full disk as soon as setting space aside would.
const SMALL: u64 = 256 << 10;

/// Files from this size on are first held against the free space.
const LARGE: u64 = 1 << 20;

/// Readies a file that was just made, and is empty, for `size` bytes. A small one is left as it is.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_new(file: &File, size: u64) -> Result<(), DestError> {
    if size <= SMALL {
        return Ok(());
    }
    reserve(file, size)
}

/// Makes a file `size` bytes long and sets their space aside, so that a full disk shows now. Where
/// the file system cannot set it aside, there has to be that much free. A failure changes nothing.
///
/// # Errors
/// `Full`; `Unwritable` where the file system cannot hold a file so large.
pub fn reserve(file: &File, size: u64) -> Result<(), DestError> {
    try_reserve(file, size).map_err(|errno| DestError::of("make room for", &path_of(file), errno))
}

fn try_reserve(file: &File, size: u64) -> Result<(), Errno> {
    let before = fstat(file)?;
    let length = u64::try_from(before.st_size).unwrap_or(0);
    if size >= LARGE {
        // Asked first, since some file systems allocate all they have before they refuse,
        // and everybody else's disk is full meanwhile.
        check_free(file, &before, size)?;
    }
    if size > 0 {
        match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, size)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => {
                // Gives back what was allocated; the refusal is what matters.
                let _ = ftruncate(file, length);
                return Err(errno);
            }
        }
    }
    if fstat(file)?.st_size != i64::try_from(size).map_err(|_| Errno::FBIG)? {
        retry_on_intr(|| ftruncate(file, size))?;
    }
    Ok(())
}

fn check_free(file: &File, stat: &Stat, size: u64) -> Result<(), Errno> {
    let has = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(STAT_BLOCK);
    let disk = fstatvfs(file)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // Some network and FUSE file systems report nothing at all; they are given the benefit of the doubt.
    if disk.f_blocks > 0 && size.saturating_sub(has) > free {
        return Err(Errno::NOSPC);
    }
    Ok(())
}

/// Extents looked at, at most: a file in more pieces than that is taken at its word.
const EXTENTS: usize = 65_536;

/// The parts of a file that hold data, as half-open intervals: what was set aside but never written, or was cut off
/// and grew again, is not among them. Where the file system cannot tell, that is the file's whole length.
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

/// Where an open file is now, for a message; its name is not worth keeping otherwise.
fn path_of(file: &File) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .unwrap_or_else(|_| PathBuf::from("the file"))
}

/// Sets the modification time, in nanoseconds since 1970. False where the file system refuses.
pub fn set_mtime(file: &File, ns: i64) -> bool {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let time = Timespec {
        tv_sec: ns.div_euclid(1_000_000_000),
        tv_nsec: ns.rem_euclid(1_000_000_000) as _,
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: time,
    };
    futimens(file, &times).is_ok()
}

/// The modification time in nanoseconds since 1970. None where it is outside the years 1677 to 2262.
pub fn mtime(file: &File) -> Option<i64> {
    nanoseconds(&fstat(file).ok()?)
}

pub(super) fn nanoseconds(stat: &Stat) -> Option<i64> {
    stat.st_mtime
        .checked_mul(1_000_000_000)?
        .checked_add(i64::try_from(stat.st_mtime_nsec).ok()?)
}
