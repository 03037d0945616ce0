//! How the file system of `dst_folder` stores files.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::fstatfs;
use rustix::io::Errno;

use super::DestError;
use super::traits::{fuse_is_linux_like, magic, mounted_as, number};

/// FAT's file sizes have 32 bits.
const FAT_FILE: u64 = u32::MAX as u64;

/// What a file system does with space and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// What was not written takes no space. Without that, making a file longer fills it with zeros.
    pub has_holes: bool,
    /// A file's time stays what it was set to when the file is given another name, and its inode
    /// what it was when the disk is mounted again.
    pub keeps_times: bool,
    /// Bytes that a file may have at most.
    pub largest_file: u64,
}

impl Default for Storage {
    /// An ordinary Linux file system.
    fn default() -> Storage {
        Storage {
            has_holes: true,
            keeps_times: true,
            largest_file: u64::MAX,
        }
    }
}

impl Storage {
    /// Whether a file of `size` bytes can be held; `path` names it.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn check_size(&self, size: u64, path: impl FnOnce() -> PathBuf) -> Result<(), DestError> {
        match size > self.largest_file {
            true => Err(DestError::of("make room for", &path(), Errno::FBIG)),
            false => Ok(()),
        }
    }

    /// Asks the file system that the open directory is on.
    // The magic word's width depends on the machine.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn of(dir: impl AsFd) -> Storage {
        let kind = fstatfs(&dir).map_or(0, |stat| number(stat.f_type as i64));
        let plain = Storage {
            has_holes: false,
            keeps_times: false,
            largest_file: u64::MAX,
        };
        match kind {
            magic::MSDOS => Storage {
                largest_file: FAT_FILE,
                ..plain
            },
            // Which of those for foreign disks it is, FUSE does not always tell.
            magic::FUSE if !fuse_is_linux_like(&dir) => match mounted_as(&dir) {
                Some(kind) if kind.contains("fat") && !kind.contains("exfat") => Storage {
                    largest_file: FAT_FILE,
                    ..plain
                },
                _ => plain,
            },
            magic::FUSE => Storage {
                keeps_times: false,
                ..Storage::default()
            },
            magic::EXFAT | magic::HFS | magic::HFS_PLUS => plain,
            magic::CIFS | magic::SMB | magic::SMB2 | magic::NTFS | magic::NTFS3 => Storage {
                keeps_times: false,
                ..Storage::default()
            },
            _ => Storage::default(),
        }
    }
}
