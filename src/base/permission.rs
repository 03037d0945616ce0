//! Who may not do what at a path, said so that a user knows what to change.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{getegid, geteuid};

use crate::base::system_words::words;

/// An error at `path` in words; where the permission is missing, with who this process is and whose
/// the path is.
pub fn explained(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{}: {}", words(error), who(path)),
        _ => words(error),
    }
}

/// This process's user and group, as chown(1) takes them.
pub fn own_ids() -> String {
    format!("{}:{}", geteuid().as_raw(), getegid().as_raw())
}

/// Who this process is, and whose the path is, or the nearest folder above it that is there.
pub fn who(path: &Path) -> String {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let whose = path.ancestors().find_map(|at| {
        let at = if at.as_os_str().is_empty() {
            Path::new(".")
        } else {
            at
        };
        Some((at, at.metadata().ok()?))
    });
    let run = format!("haul runs as user {user} and group {group}");
    match whose {
        Some((at, found)) => format!(
            "{run}, and {} belongs to user {} and group {} (mode {:o})",
            at.display(),
            found.uid(),
            found.gid(),
            found.mode() & 0o7777
        ),
        None => run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_told_with_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let denied = io::Error::from_raw_os_error(13);
        let text = explained(&denied, &dir.path().join("gone/file"));
        let ids = own_ids();
        let (user, group) = ids.split_once(':').unwrap();
        for part in [
            "permission denied: ".to_owned(),
            format!(
                "runs as user {user} and group {group}, and {} belongs to",
                dir.path().display()
            ),
            format!("belongs to user {user} "),
            "(mode ".to_owned(),
        ] {
            assert!(text.contains(&part), "{text}");
        }
        let other = io::Error::from_raw_os_error(2);
        assert_eq!(explained(&other, dir.path()), "no such file or directory");
    }
}
