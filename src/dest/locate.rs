//! Finds out where an open folder really is: proc(5), `/proc/PID/fd` and `/proc/PID/mountinfo`.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::model::location::Location;

/// Where the folder at `path` is. One that cannot be opened is taken to be where the path says.
pub fn location(path: &Path) -> Location {
    match fs::File::open(path) {
        Ok(dir) => locate(dir, path),
        Err(_) => Location::by_path(&path.to_string_lossy()),
    }
}

/// Where an open folder is. Where the system does not say, it is taken to be at `path`.
pub(super) fn locate(dir: impl AsFd, path: &Path) -> Location {
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let Ok(real) = fs::read_link(link) else {
        return Location::by_path(&path.to_string_lossy());
    };
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    let mount = mounts
        .lines()
        .filter_map(Mount::read)
        .filter(|mount| real.starts_with(&mount.point))
        // Of several on one mount point the last one is on top.
        .max_by_key(|mount| mount.point.as_os_str().len());
    let (device, inner) = mount.map_or((String::new(), PathBuf::new()), |mount| {
        let rest = real.strip_prefix(&mount.point).unwrap_or(Path::new(""));
        (mount.device.to_owned(), mount.root.join(rest))
    });
    Location {
        real: real.to_string_lossy().into(),
        device,
        inner: inner.to_string_lossy().into(),
    }
}

/// One line of mountinfo: `36 35 98:0 /root /mount/point options …`.
struct Mount<'a> {
    device: &'a str,
    root: PathBuf,
    point: PathBuf,
}

impl Mount<'_> {
    fn read(line: &str) -> Option<Mount<'_>> {
        let mut fields = line.split(' ').skip(2);
        Some(Mount {
            device: fields.next()?,
            root: unescaped(fields.next()?),
            point: unescaped(fields.next()?),
        })
    }
}

/// Spaces, tabs, line ends and backslashes are written as three octal digits behind a backslash.
fn unescaped(field: &str) -> PathBuf {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let plain = escapes
        .iter()
        .fold(field.to_owned(), |text, (escape, plain)| {
            text.replace(escape, plain)
        });
    plain.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_symbolic_link_leads_to_the_location_of_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("a b"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let locate = |path: &Path| locate(fs::File::open(path).unwrap(), path);
        assert_eq!(locate(&real), locate(&link));
        assert!(!locate(&real).device.is_empty());
        assert!(locate(&real).is_in(&locate(dir.path())));
    }

    #[test]
    fn a_line_of_mountinfo_is_read_with_its_escapes() {
        let line = r"36 35 98:0 /mnt1 /mnt\0402\134 rw,noatime master:1 - ext3 /dev/root rw";
        let mount = Mount::read(line).unwrap();
        assert_eq!(mount.device, "98:0");
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.point, Path::new(r"/mnt 2\"));
    }
}
