//! How the file system of `dst_folder` stores files.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

use super::traits::{fuse_is_linux_like, magic, number};

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
                largest_file: u32::MAX.into(),
                ..plain
            },
            // Which of those for foreign disks it is, FUSE does not tell.
            magic::FUSE if !fuse_is_linux_like(&dir) => plain,
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
