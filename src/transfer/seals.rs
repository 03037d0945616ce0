//! What is known of each file since it was whole, in a file of its own beside the list of files:
//! for a million files that is too much for the memory and for the journal.
//!
//! A record has 32 bytes and stands at its file's index, so that it is read and written in place.
//! What a power cut takes of it is unknown afterwards, and nothing else is lost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::digest::{Algorithm, digest};
use crate::dest::FileIdentity;
use crate::model::table::{FileState, FileTable};
use crate::store::Store;
use crate::store::saved::Saved;

const RECORD: usize = 32;
const HAS_HASH: u8 = 1;
const HAS_IDENTITY: u8 = 2;
/// Records that are read at once.
const AT_ONCE: u32 = 2048;

/// What is known of a file since it was whole. The default is a file of which nothing is known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Which file on the disk it is.
    pub identity: Option<FileIdentity>,
    /// The XXH3 of its content, as the disk held it when it was whole.
    pub hash: Option<u64>,
    /// What kind of digest has proved that the content is what the server has.
    pub verified: Option<Algorithm>,
}

impl Seal {
    fn to_record(self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        if let Some(hash) = self.hash {
            record[..8].copy_from_slice(&hash.to_le_bytes());
            record[25] |= HAS_HASH;
        }
        if let Some(identity) = self.identity {
            record[8..16].copy_from_slice(&identity.inode.to_le_bytes());
            record[16..24].copy_from_slice(&identity.born.to_le_bytes());
            record[25] |= HAS_IDENTITY;
        }
        record[24] = self.verified.map_or(0, |algorithm| algorithm as u8);
        let check = check(&record);
        record[28..].copy_from_slice(&check);
        record
    }

    fn from_record(record: &[u8]) -> Seal {
        if record.len() != RECORD || record[28..] != check(record) {
            return Seal::default();
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&record[at..at + 8]);
            word
        };
        let flags = record[25];
        Seal {
            identity: (flags & HAS_IDENTITY != 0).then(|| FileIdentity {
                inode: u64::from_le_bytes(word(8)),
                born: i64::from_le_bytes(word(16)),
            }),
            hash: (flags & HAS_HASH != 0).then(|| u64::from_le_bytes(word(0))),
            verified: Algorithm::from_number(record[24]),
        }
    }
}

/// The last four bytes of a record, by which one that was torn is told.
fn check(record: &[u8]) -> [u8; 4] {
    let hash = digest(Algorithm::Xxh3, &record[..28]).bytes;
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The seals of a download's files.
pub struct Seals {
    file: File,
}

impl Seals {
    /// Opens the seals of the download of this identifier, none at first.
    ///
    /// # Errors
    /// Any fault of the disk.
    pub fn open(store: &Store<Saved>, id: &str) -> io::Result<Seals> {
        let file = store.open_side(&seals_name(id))?;
        Ok(Seals { file })
    }

    /// The same for reading. None if there are none.
    pub fn existing(store: &Store<Saved>, id: &str) -> Option<Seals> {
        let file = store.read_side(&seals_name(id)).ok()?.into_inner();
        Some(Seals { file })
    }

    /// That of a file, by its index.
    pub fn get(&self, file: u32) -> Seal {
        let mut record = [0; RECORD];
        match self.file.read_exact_at(&mut record, place(file)) {
            Ok(()) => Seal::from_record(&record),
            Err(_) => Seal::default(),
        }
    }

    /// Keeps the seals of these files.
    ///
    /// # Errors
    /// Any fault of the disk.
    pub fn put(&self, seals: &[(u32, Seal)]) -> io::Result<()> {
        // The files of a batch mostly follow one another.
        let follows = |a: &(u32, Seal), b: &(u32, Seal)| a.0.checked_add(1) == Some(b.0);
        for run in seals.chunk_by(follows) {
            let records: Vec<u8> = run.iter().flat_map(|(_, seal)| seal.to_record()).collect();
            self.file.write_all_at(&records, place(run[0].0))?;
        }
        Ok(())
    }

    /// Shows in the table which of its complete files were verified.
    pub fn show(&self, table: &FileTable) {
        let mut records = vec![0; RECORD * AT_ONCE as usize];
        for first in (0..table.len()).step_by(AT_ONCE as usize) {
            let Ok(length) = self.file.read_at(&mut records, place(first)) else {
                return;
            };
            for (file, record) in (first..table.len()).zip(records[..length].chunks(RECORD)) {
                if table.state(file) == FileState::Complete {
                    table.set_verified(file, Seal::from_record(record).verified);
                }
            }
        }
    }
}

fn place(file: u32) -> u64 {
    u64::from(file) * RECORD as u64
}

/// The name of the file beside `downloads.json` that holds the seals of a download's files.
pub fn seals_name(id: &str) -> String {
    format!("{id}.seals")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(number: u64) -> Seal {
        Seal {
            identity: Some(FileIdentity {
                inode: number,
                born: -5,
            }),
            hash: Some(number << 40),
            verified: Some(Algorithm::Sha256),
        }
    }

    #[test]
    fn what_was_kept_is_found_again_and_the_rest_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "boot").unwrap();
        assert!(Seals::existing(&store, "D").is_none());
        let seals = Seals::open(&store, "D").unwrap();
        let bare = Seal {
            hash: Some(0),
            ..Seal::default()
        };
        let kept = [(2, seal(2)), (3, seal(3)), (7, bare)];
        seals.put(&kept).unwrap();
        let again = Seals::existing(&store, "D").unwrap();
        for (file, expected) in kept {
            assert_eq!(again.get(file), expected);
        }
        for unknown in [0, 1, 4, 8, u32::MAX] {
            assert_eq!(again.get(unknown), Seal::default());
        }
    }

    #[test]
    fn a_torn_record_is_unknown() {
        let record = seal(9).to_record();
        assert_eq!(Seal::from_record(&record), seal(9));
        for at in 0..RECORD {
            let mut torn = record;
            torn[at] ^= 1;
            assert_eq!(Seal::from_record(&torn), Seal::default(), "byte {at}");
        }
    }
}
