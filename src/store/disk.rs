//! The few calls through which the store changes a file's contents, behind a trait so that tests
//! can let the disk fill up or fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

/// What the store asks of a disk.
pub(super) trait Disk: Send + Sync {
    /// Writes all of `bytes` at the offset `at`. After an error any part of them may be there.
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Sets aside space for `len` bytes from `at` on; the file's length stays.
    fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, file: &File, len: u64) -> io::Result<()>;

    /// Returns once the file's contents and length would survive a power cut.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// Returns once the names in a directory would survive a power cut.
    fn sync_dir(&self, dir: &File) -> io::Result<()>;
}

/// The operating system's files.
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        fallocate(file, FallocateFlags::KEEP_SIZE, at, len)?;
        Ok(())
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, dir: &File) -> io::Result<()> {
        dir.sync_all()
    }
}

/// A file written from its start, through a disk.
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    file: &'a File,
    /// Bytes written so far.
    pub(super) len: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(disk: &'a dyn Disk, file: &'a File) -> Writer<'a> {
        Writer { disk, file, len: 0 }
    }
}

impl io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_at(self.file, bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
