//! A look at the disk: what is there, and whether it is what was sent.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::content;

const CHUNK: u64 = 256 * 1024;

/// Every path under `dir`, sorted; folders end in `/`, symbolic links in `@`.
pub fn paths(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(dir, "", &mut found);
    found.sort();
    found
}

fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.push(format!("{name}/"));
            walk(&entry.path(), &format!("{name}/"), found);
        } else if kind.is_symlink() {
            found.push(format!("{name}@"));
        } else {
            found.push(name);
        }
    }
}

/// The `.part` files under `dir`.
pub fn part_files(dir: &Path) -> Vec<PathBuf> {
    paths(dir)
        .iter()
        .filter(|path| path.ends_with(".part"))
        .map(|path| dir.join(path))
        .collect()
}

/// Makes a file with the content of `seed`, and the folders that it is in.
pub fn write_file(path: &Path, seed: u64, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    for_each_chunk(seed, size, |_, chunk| file.write_all(chunk).unwrap());
}

/// Asserts that the file at `path` is a regular one with exactly the content of `seed`.
pub fn assert_file(path: &Path, seed: u64, size: u64) {
    let told = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(told.is_file(), "{} is not a regular file", path.display());
    assert_eq!(told.len(), size, "size of {}", path.display());
    let mut file = File::open(path).unwrap();
    let mut found = vec![0; CHUNK as usize];
    for_each_chunk(seed, size, |offset, expected| {
        let found = &mut found[..expected.len()];
        file.read_exact(found).unwrap();
        if found != expected {
            let at = found.iter().zip(expected).position(|(a, b)| a != b);
            panic!(
                "{} differs at byte {}",
                path.display(),
                offset + at.unwrap() as u64
            );
        }
    });
}

fn for_each_chunk(seed: u64, size: u64, mut each: impl FnMut(u64, &[u8])) {
    let mut chunk = vec![0; CHUNK as usize];
    let mut offset = 0;
    while offset < size {
        let length = CHUNK.min(size - offset);
        let chunk = &mut chunk[..length as usize];
        content::fill(seed, offset, chunk);
        each(offset, chunk);
        offset += length;
    }
}

/// Seconds since 1970 of the last modification.
pub fn mtime(path: &Path) -> i64 {
    fs::symlink_metadata(path).unwrap().mtime()
}

/// The permission bits.
pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_wrong_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    write_file(&path, 1, 700_000);
    assert_file(&path, 1, 700_000);
    let mut bytes = fs::read(&path).unwrap();
    bytes[600_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(std::panic::catch_unwind(|| assert_file(&path, 1, 700_000)).is_err());
    assert_eq!(paths(dir.path()), ["a/", "a/b"]);
}
