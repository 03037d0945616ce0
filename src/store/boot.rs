//! Which boot this is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The kernel's name for this boot. Where it has none, a random one: every start then counts as a
/// new boot, so that nothing is believed that was not synced.
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

    #[test]
    fn without_a_boot_id_no_two_starts_are_in_one_boot() {
        assert_eq!(read_boot_id(Path::new("/nonexistent")), None);
        assert_ne!(random_id().unwrap(), random_id().unwrap());
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
