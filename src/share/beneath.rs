//! Opening things beneath the shared folder, never through a symbolic link.
//!
//! A path is walked component by component with O_NOFOLLOW, so that a link planted after the scan
//! leads nowhere. (`openat2` could do it in one call, but is missing before Linux 5.6 and in some
//! sandboxes.)

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

/// Opens the folder at `path`, relative to `root` and `/`-separated; empty for `root` itself.
///
/// # Errors
/// A component is missing, no folder, or a symbolic link.
pub fn folder(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut at = openat(root, ".", flags, Mode::empty())?;
    for component in path
        .split(|&byte| byte == b'/')
        .filter(|component| !component.is_empty())
    {
        at = openat(&at, component, flags, Mode::empty())?;
    }
    Ok(at)
}

/// Opens the regular file `name` in the folder at `path`.
///
/// # Errors
/// Anything on the way is missing, a symbolic link, or no regular file.
pub fn file(root: &OwnedFd, path: &[u8], name: &[u8]) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO would wait for its writer.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
    let folder = folder(root, path)?;
    let file = File::from(openat(folder.as_fd(), name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symbolic_links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("private"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/f"), "x").unwrap();
        symlink(outside.path(), dir.path().join("a/out")).unwrap();
        symlink(outside.path().join("private"), dir.path().join("a/l")).unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        file(&root, b"a/b", b"f").unwrap();
        folder(&root, b"a/b").unwrap();
        folder(&root, b"").unwrap();
        assert!(file(&root, b"a/out", b"private").is_err());
        assert!(file(&root, b"a", b"l").is_err());
        assert!(file(&root, b"a", b"b").is_err());
        assert!(folder(&root, b"a/out").is_err());
    }
}
