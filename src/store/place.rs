//! Where the state is kept, and which boot this is.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The state directory to use when none is named: the first of `$STATE_DIRECTORY` (systemd gives several
/// separated by `:`), else `$XDG_STATE_HOME/haul`, else `$HOME/.local/state/haul`. Variables that are
/// empty or not absolute do not count (XDG Base Directory Specification 0.8).
///
/// # Errors
/// None of the variables is usable; the text says what to do.
pub fn default_state_dir(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, String> {
    let absolute = |name| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(dirs) = env("STATE_DIRECTORY") {
        let first = dirs.as_bytes().split(|byte| *byte == b':').next();
        let first = PathBuf::from(OsString::from_vec(first.unwrap_or_default().to_vec()));
        if first.is_absolute() {
            return Ok(first);
        }
    }
    if let Some(base) = absolute("XDG_STATE_HOME") {
        return Ok(base.join("haul"));
    }
    if let Some(home) = absolute("HOME") {
        return Ok(home.join(".local/state/haul"));
    }
    Err("no state directory: HOME is not set; name one with --state-dir".into())
}

/// The kernel's name for this boot. Where it has none, a random one: every start then counts as a new boot,
/// so that nothing is believed that was not synced.
pub(super) fn boot_id() -> io::Result<String> {
    match read_boot_id(Path::new("/proc/sys/kernel/random/boot_id")) {
        Some(id) => Ok(id),
        None => random_id(),
    }
}

fn read_boot_id(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(128).read_to_string(&mut text).ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if got < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(format!("random-{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(vars: &[(&str, &str)]) -> Result<PathBuf, String> {
        default_state_dir(|name| {
            let var = vars.iter().find(|(other, _)| *other == name);
            var.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_first_usable_variable_names_the_state_directory() {
        let xdg = ("XDG_STATE_HOME", "/x");
        let home = ("HOME", "/h");
        let all = [("STATE_DIRECTORY", "/a/b:/c"), xdg, home];
        assert_eq!(found(&all).unwrap(), Path::new("/a/b"));
        assert_eq!(found(&all[1..]).unwrap(), Path::new("/x/haul"));
        assert_eq!(found(&[home]).unwrap(), Path::new("/h/.local/state/haul"));
        let unusable = [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "x"), home];
        assert_eq!(found(&unusable).unwrap(), Path::new("/h/.local/state/haul"));
        assert!(found(&[]).unwrap_err().contains("--state-dir"));
        assert!(found(&[("HOME", "")]).is_err());
    }

    #[test]
    fn without_a_boot_id_no_two_starts_are_in_one_boot() {
        assert_eq!(read_boot_id(Path::new("/nonexistent")), None);
        assert_ne!(random_id().unwrap(), random_id().unwrap());
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
