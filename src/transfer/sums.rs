//! The digests for a download's list of checksums, kept as each file becomes whole in a file of
//! their own beside the list of files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::digest::{Algorithm, Digest, digest};
use crate::model::manifest::Manifest;
use crate::store::Store;
use crate::store::saved::Saved;

/// The digests of a download's files, each at its file's index, with four bytes behind it by which
/// a torn one is told.
pub struct Sums {
    file: File,
    algorithm: Algorithm,
}

impl Sums {
    /// Opens those of the download of this identifier, none at first.
    ///
    /// # Errors
    /// Any fault of the disk.
    pub fn open(store: &Store<Saved>, id: &str, manifest: Manifest) -> io::Result<Sums> {
        Ok(Sums {
            file: store.open_side(&sums_name(id))?,
            algorithm: manifest.algorithm(),
        })
    }

    fn place(&self, file: u32) -> u64 {
        u64::from(file) * (self.algorithm.digest_len() as u64 + 4)
    }

    /// Keeps a file's digest.
    ///
    /// # Errors
    /// Any fault of the disk.
    pub fn put(&self, file: u32, found: &Digest) -> io::Result<()> {
        let check = digest(Algorithm::Crc32c, &found.bytes).bytes;
        let record = [found.bytes.as_slice(), &check].concat();
        self.file.write_all_at(&record, self.place(file))
    }

    /// A file's digest, where it is known.
    pub fn get(&self, file: u32) -> Option<Digest> {
        let length = self.algorithm.digest_len();
        let mut record = vec![0; length + 4];
        self.file
            .read_exact_at(&mut record, self.place(file))
            .ok()?;
        let check = record.split_off(length);
        let is_sound = digest(Algorithm::Crc32c, &record).bytes == check;
        Digest::new(self.algorithm, record).filter(|_| is_sound)
    }
}

/// The name of the file beside `downloads.json` that holds the digests of a download's files.
pub fn sums_name(id: &str) -> String {
    format!("{id}.sums")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_again_and_what_was_torn_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "boot").unwrap();
        let sums = Sums::open(&store, "D", Manifest::Sha256).unwrap();
        let found = digest(Algorithm::Sha256, b"content");
        sums.put(3, &found).unwrap();
        let again = Sums::open(&store, "D", Manifest::Sha256).unwrap();
        assert_eq!(again.get(3), Some(found));
        assert_eq!(again.get(2), None, "a hole");
        assert_eq!(again.get(4), None, "behind the end");
        again.file.write_all_at(b"x", again.place(3)).unwrap();
        assert_eq!(again.get(3), None);
    }
}
