//! The SHA-256 of each shared file, computed once: a downloader sees by it that what arrived is
//! what was shared.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use crate::base::base64;
use crate::base::digest::{Algorithm, Hasher};
use crate::base::locks;
use crate::base::pieces;
use crate::base::thread_pool::{Handler, ThreadPool};

/// A file up to this size is read before its first answer, in bytes; a larger one beside it, so
/// that its first byte does not wait.
const AT_ONCE: u64 = 32 << 20;
/// Digests that are kept, at most; a hundred bytes each.
const MAX_KEPT: usize = 1 << 20;

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// Which file it is: device and inode.
type Id = (u64, u64);

#[derive(Default)]
struct Known {
    /// None while it is being computed.
    digests: HashMap<Id, (Stamp, Option<[u8; 32]>)>,
}

/// The digests that are known, and the thread that finds out others.
pub struct Digests {
    known: Arc<Mutex<Known>>,
    reader: ThreadPool<(File, Id, Stamp)>,
}

impl Default for Digests {
    fn default() -> Digests {
        let known = Arc::<Mutex<Known>>::default();
        let shared = known.clone();
        let make_handler = move || {
            let known = shared.clone();
            let handler: Handler<(File, Id, Stamp)> = Box::new(move |(file, id, stamp)| {
                let digest = sha256(&file, stamp);
                keep(&known, id, stamp, digest.ok().flatten());
            });
            handler
        };
        let reader = ThreadPool::new("checksums", 1, make_handler, || ());
        Digests { known, reader }
    }
}

impl Digests {
    /// The value of `Repr-Digest` (RFC 9530, 3) for an open file. None while it is being found
    /// out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(&self, file: &File) -> io::Result<Option<String>> {
        let (id, stamp) = identify(file)?;
        {
            let mut known = locks::lock(&self.known);
            match known.digests.get(&id) {
                Some((found, digest)) if *found == stamp => return Ok(digest.map(header)),
                _ => {}
            }
            if stamp.size > AT_ONCE {
                known.digests.insert(id, (stamp, None));
            }
        }
        if stamp.size > AT_ONCE {
            self.reader.send((file.try_clone()?, id, stamp));
            return Ok(None);
        }
        let digest = sha256(file, stamp)?;
        keep(&self.known, id, stamp, digest);
        Ok(digest.map(header))
    }
}

/// Keeps a digest; without one the next request begins anew.
fn keep(known: &Mutex<Known>, id: Id, stamp: Stamp, digest: Option<[u8; 32]>) {
    let mut known = locks::lock(known);
    if known.digests.len() >= MAX_KEPT {
        known.digests.clear();
    }
    match digest {
        Some(digest) => drop(known.digests.insert(id, (stamp, Some(digest)))),
        None => drop(known.digests.remove(&id)),
    }
}

/// The SHA-256 of an open file; None if it changes meanwhile.
fn sha256(file: &File, stamp: Stamp) -> io::Result<Option<[u8; 32]>> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    // A byte more than there was shows that it grew.
    let at = pieces::read(file, 0, stamp.size.saturating_add(1), |piece| {
        hasher.update(piece);
        Ok::<_, io::Error>(())
    })?;
    let is_same = at == stamp.size && identify(file)?.1 == stamp;
    let digest = hasher.finish().bytes.try_into().ok();
    Ok(digest.filter(|_| is_same))
}

fn identify(file: &File) -> io::Result<(Id, Stamp)> {
    let meta = file.metadata()?;
    let stamp = Stamp {
        size: meta.len(),
        seconds: meta.mtime(),
        nanoseconds: meta.mtime_nsec(),
    };
    Ok(((meta.dev(), meta.ino()), stamp))
}

fn header(digest: [u8; 32]) -> String {
    format!("sha-256=:{}:", base64::encode(&digest))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_digest_is_that_of_what_the_file_holds_now() {
        let mut file = tempfile::tempfile().unwrap();
        let digests = Digests::default();
        let of = |file: &File| digests.of(file).unwrap().unwrap();
        assert_eq!(
            of(&file),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
        file.write_all(b"123456789").unwrap();
        let nine = "sha-256=:FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=:";
        assert_eq!(of(&file), nine);
        assert_eq!(of(&file), nine, "and again");
    }

    #[test]
    fn a_large_file_does_not_wait_for_its_digest() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(AT_ONCE + 1).unwrap();
        let digests = Digests::default();
        assert_eq!(digests.of(&file).unwrap(), None);
        while digests.of(&file).unwrap().is_none() {
            std::thread::yield_now();
        }
    }
}
