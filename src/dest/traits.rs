//! What names the file system of `dst_folder` can hold.

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{fstat, fstatfs, fstatvfs, major, minor};

/// Bytes in a name on nearly every Linux file system: `NAME_MAX`, limits.h(0p).
pub const NAME_MAX: usize = 255;

/// What the target file system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Only names that Windows can hold: FAT, exFAT, NTFS, SMB.
    pub windows_names: bool,
    /// `A` and `a` are one name.
    pub ignores_case: bool,
    /// Bytes that a name may have, 64 to 255: 255 nearly everywhere, 143 on eCryptfs (encrypted
    /// folders of some NAS makers).
    pub name_max: usize,
}

impl Default for Traits {
    /// An ordinary Linux file system.
    fn default() -> Traits {
        Traits {
            windows_names: false,
            ignores_case: false,
            name_max: NAME_MAX,
        }
    }
}

impl Traits {
    /// FAT, exFAT, NTFS and SMB.
    pub const WINDOWS: Traits = Traits {
        windows_names: true,
        ignores_case: true,
        name_max: NAME_MAX,
    };

    /// Asks the file system that the open directory is on. What cannot be told is taken for an
    /// ordinary Linux file system.
    // The magic word's width depends on the machine.
    #[allow(clippy::unnecessary_cast)]
    pub(crate) fn of(dir: impl AsFd) -> Traits {
        let magic = fstatfs(&dir).map_or(0, |stat| number(stat.f_type as i64));
        let mut traits = match magic {
            magic::FUSE if fuse_is_linux_like(&dir) => Traits::default(),
            magic::MSDOS | magic::EXFAT | magic::NTFS | magic::NTFS3 => Traits::WINDOWS,
            magic::CIFS | magic::SMB | magic::SMB2 | magic::FUSE => Traits::WINDOWS,
            magic::HFS | magic::HFS_PLUS => Traits {
                ignores_case: true,
                ..Traits::default()
            },
            _ => Traits::default(),
        };
        if let Ok(stat) = fstatvfs(&dir) {
            // FAT counts 255 UTF-16 units and reports more bytes; some network file systems report
            // nonsense.
            let reported = usize::try_from(stat.f_namemax).unwrap_or(NAME_MAX);
            traits.name_max = reported.clamp(64, NAME_MAX);
        }
        traits
    }
}

/// Numbers of include/uapi/linux/magic.h and of the file systems' own sources.
pub(super) mod magic {
    pub const MSDOS: u32 = 0x4d44;
    pub const EXFAT: u32 = 0x2011_bab0;
    pub const NTFS: u32 = 0x5346_544e;
    pub const NTFS3: u32 = 0x7366_746e;
    pub const SMB: u32 = 0x517b;
    pub const CIFS: u32 = 0xff53_4d42;
    pub const SMB2: u32 = 0xfe53_4d42;
    pub const FUSE: u32 = 0x6573_5546;
    pub const HFS: u32 = 0x4244;
    pub const HFS_PLUS: u32 = 0x482b;
}

/// The kernel's word is signed on 32-bit machines; the numbers are 32 bits.
pub(super) fn number(word: i64) -> u32 {
    (word & 0xffff_ffff) as u32
}

/// FUSE has one number for all: ntfs-3g on a block device, but mergerfs and sshfs too. The mount
/// table tells them apart; where it does not, Windows names are safe everywhere.
pub(super) fn fuse_is_linux_like(dir: impl AsFd) -> bool {
    mounted_as(dir).is_some_and(|kind| {
        kind != "fuseblk"
            && !["ntfs", "exfat", "fat", "smb"]
                .iter()
                .any(|w| kind.contains(w))
    })
}

/// The type that the folder's file system is mounted as.
pub(super) fn mounted_as(dir: impl AsFd) -> Option<String> {
    let stat = fstat(dir).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
    fuse_type(&mounts, &device).map(str::to_owned)
}

/// The type that a device is mounted as: proc_pid_mountinfo(5), the third field and the first one
/// after ` - `.
fn fuse_type<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        (mount.split(' ').nth(2)? == device).then(|| source.split(' ').next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_tells_ntfs_3g_from_mergerfs() {
        let mounts = "36 35 8:1 / /mnt/usb rw,noatime shared:1 - fuseblk /dev/sda1 rw\n\
                      40 35 0:52 / /mnt/pool rw - fuse.mergerfs a:b rw\n";
        assert_eq!(fuse_type(mounts, "8:1"), Some("fuseblk"));
        assert_eq!(fuse_type(mounts, "0:52"), Some("fuse.mergerfs"));
        assert_eq!(fuse_type(mounts, "0:53"), None);
    }

    #[test]
    fn a_negative_word_is_the_same_number() {
        assert_eq!(number(i64::from(0xff53_4d42_u32 as i32)), magic::CIFS);
    }
}
