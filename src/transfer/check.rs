//! Whether a whole file is what the server has: read back from where it was written, and held
//! against the digest that came with its bytes.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::open_file::Part;
use super::seals::Seal;
use super::verdict::failed_with;
use super::{Job, WorkerContext};
use crate::base::digest::{Algorithm, Digest, Hasher, digest};
use crate::base::in_parallel::{self, Work};
use crate::base::pieces;
use crate::dest::{self, FileIdentity};
use crate::model::manifest::Manifest;
use crate::model::outcome::Outcome;
use crate::model::problem::Code;
use crate::upstream::Expected;

/// A file up to this size is read back by the worker that fetched it, in bytes: that takes less
/// than handing it over.
const SHORT: u64 = 1 << 20;
/// So many part sizes are tried at most, since each takes a reading of the whole file.
const MAX_PART_SIZES: usize = 8;
const MIB: u64 = 1 << 20;
/// Part sizes that uploaders use, in bytes: MASV's own first, then those of Amazon's and others'
/// programs.
const PART_SIZES: [u64; 14] = [
    100 * MIB,
    5 * MIB,
    8 * MIB,
    16 * MIB,
    32 * MIB,
    64 * MIB,
    128 * MIB,
    256 * MIB,
    512 * MIB,
    1024 * MIB,
    2048 * MIB,
    5120 * MIB,
    10 * MIB,
    50 * MIB,
];

/// Why a file could not be read back.
pub enum ReadBack {
    /// The work is not wanted any more.
    Halted,
    Failed(io::Error),
}

impl From<io::Error> for ReadBack {
    fn from(error: io::Error) -> ReadBack {
        ReadBack::Failed(error)
    }
}

/// What is known of a package's servers, shared by the checks of its files.
#[derive(Debug, Default)]
pub struct ServerHabits {
    /// The size of the parts in which a file was uploaded, in bytes; 0 while none is known.
    part_size: AtomicU64,
    /// How many files had an entity tag that was the MD5 of their content, for certain.
    md5_tags: AtomicU64,
}

impl Job {
    /// Whether anything is to be known of the file's content.
    fn is_checked(&self) -> bool {
        self.run.download.order.options.verify != Some(false)
    }

    /// Whether to check the whole file takes so long that the worker had better do something else.
    pub fn takes_long_to_check(&self) -> bool {
        let has_manifest = self.run.download.order.options.manifest.is_some();
        let is_compared = || self.is_checked() && self.file.progress().expected.is_some();
        self.size() > SHORT && (has_manifest || is_compared())
    }

    /// Whether the file's hash is to be kept and is not known without another reading.
    pub fn is_to_be_hashed_later(&self, seal: &Seal, context: &WorkerContext) -> bool {
        context.keeps_hashes && self.is_checked() && seal.hash.is_none()
    }

    /// Holds the whole file against what the server says of it, and says what is known of it from
    /// now on. A long file of which the server says nothing is not read.
    ///
    /// # Errors
    /// The outcome with which the job ends: the content is another, and starts over or has failed.
    pub fn check(&self, context: &WorkerContext) -> Result<Seal, Outcome> {
        if self.file.awaits_others.load(Ordering::Acquire) {
            return Ok(Seal::default());
        }
        let part = self.part(context)?;
        let keeps_inodes = self.root()?.storage().keeps_times;
        let mut seal = Seal {
            identity: FileIdentity::of(&part.file).filter(|_| keeps_inodes),
            ..Seal::default()
        };
        let expected = self.file.progress().expected.clone();
        let expected = expected.filter(|_| self.is_checked());
        let result = self
            .look(&part.file, expected.as_ref(), &mut seal, context)
            .and_then(|found| match &expected {
                Some(expected) => self.compare(expected, &found, &part.file, &mut seal),
                None => Ok(true),
            });
        match result {
            Ok(true) => Ok(seal),
            Ok(false) => Err(self.mismatch(&part, context)),
            Err(ReadBack::Halted) => Err(Outcome::Stopped),
            Err(ReadBack::Failed(error)) => Err(dest::read_failed(&part.file, &error).into()),
        }
    }

    /// Reads the file, where anything is to be known of its content, and keeps what is.
    fn look(
        &self,
        file: &File,
        expected: Option<&Expected>,
        seal: &mut Seal,
        context: &WorkerContext,
    ) -> Result<Vec<Digest>, ReadBack> {
        let manifest = self
            .run
            .download
            .order
            .options
            .manifest
            .map(Manifest::algorithm);
        let told = expected.and_then(|expected| match expected {
            Expected::Digest { digest, .. } => Some(digest.algorithm),
            // The one reading of the file does for an upload in one part.
            Expected::Parts { count: 1, .. } => Some(Algorithm::Md5),
            Expected::Parts { .. } => None,
        });
        let is_read = manifest.is_some() || expected.is_some() || self.size() <= SHORT;
        let keeps = context.keeps_hashes && self.is_checked() && is_read;
        let mut wanted: Vec<Algorithm> = told
            .into_iter()
            .chain(manifest)
            .chain(keeps.then_some(Algorithm::Xxh3))
            .collect();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.read_back(file, &wanted)?;
        let of = |algorithm| found.iter().find(|found| found.algorithm == algorithm);
        seal.hash = of(Algorithm::Xxh3).and_then(number);
        if let Some(sum) = manifest.and_then(of)
            && let Some(sums) = self.run.sums(&context.store)
        {
            // Where it cannot be kept, the file is read again for the list.
            let _ = sums.put(self.file.index, sum);
        }
        Ok(found)
    }

    /// False: the content is not what the server has.
    fn compare(
        &self,
        expected: &Expected,
        found: &[Digest],
        file: &File,
        seal: &mut Seal,
    ) -> Result<bool, ReadBack> {
        let habits = &self.run.habits;
        match expected {
            Expected::Digest { digest, is_certain } => {
                let is_same = found.contains(digest);
                if is_same {
                    seal.verified = Some(digest.algorithm);
                    if !is_certain {
                        habits.md5_tags.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // What has been an MD5 for other files of this package is one for this file too.
                let must_be = *is_certain || habits.md5_tags.load(Ordering::Relaxed) > 0;
                Ok(is_same || !must_be)
            }
            Expected::Parts { md5, count } => {
                let known = habits.part_size.load(Ordering::Relaxed);
                for part_size in part_sizes(self.size(), *count, known) {
                    if self.parts_md5(file, part_size, found)? == *md5 {
                        habits.part_size.store(part_size, Ordering::Relaxed);
                        seal.verified = Some(Algorithm::Md5);
                        break;
                    }
                }
                // Where no part size explains the tag it proves nothing.
                Ok(true)
            }
        }
    }

    fn read_back(&self, file: &File, wanted: &[Algorithm]) -> Result<Vec<Digest>, ReadBack> {
        let mut hashers: Vec<Hasher> = wanted.iter().copied().map(Hasher::new).collect();
        let update = |piece: &[u8]| hashers.iter_mut().for_each(|hasher| hasher.update(piece));
        let call = self.run.disk.enter();
        let may_go_on = |_| {
            call.goes_on();
            !self.is_halted()
        };
        read_through(file, 0, self.size(), may_go_on, update)?;
        Ok(hashers.into_iter().map(Hasher::finish).collect())
    }

    /// The MD5 of the MD5s of the file's parts of this size, which are read side by side; `found`
    /// has the whole file's MD5 where that is its one part.
    fn parts_md5(
        &self,
        file: &File,
        part_size: u64,
        found: &[Digest],
    ) -> Result<Vec<u8>, ReadBack> {
        let size = self.size();
        let whole = found.iter().find(|found| found.algorithm == Algorithm::Md5);
        if let Some(whole) = whole.filter(|_| part_size >= size) {
            return Ok(digest(Algorithm::Md5, &whole.bytes).bytes);
        }
        let count = size.div_ceil(part_size);
        let of_part = |index: u32| {
            let start = u64::from(index) * part_size;
            let mut hasher = Hasher::new(Algorithm::Md5);
            let end = size.min(start + part_size);
            let call = self.run.disk.enter();
            read_through(
                file,
                start,
                end,
                |_| {
                    call.goes_on();
                    !self.is_halted()
                },
                |piece| hasher.update(piece),
            )?;
            Ok(hasher.finish().bytes)
        };
        // S3 has 10,000 parts at the most.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let parts = in_parallel::filter_map(count, Work::Long, &|index| Some(of_part(index)));
        let parts: Vec<Vec<u8>> = parts.into_iter().collect::<Result<_, ReadBack>>()?;
        Ok(digest(Algorithm::Md5, &parts.concat()).bytes)
    }

    /// What arrived is not what the server has: the file starts over, and the second time it fails.
    fn mismatch(&self, part: &Part, context: &WorkerContext) -> Outcome {
        self.forget_receipts(part);
        let mut progress = self.file.progress();
        progress.mismatches += 1;
        // Where others brought parts of it, nobody knows whose are wrong.
        let fails = progress.mismatches > 1 || self.slice().is_some();
        if fails {
            progress.mismatches = 0;
        }
        let message = "what arrived does not have the checksum that the server tells";
        if let Err(outcome) = self.begin_anew(progress, message, context) {
            return outcome;
        }
        match fails {
            true if self.slice().is_some() => failed_with(
                Code::ChecksumMismatch,
                &format!("{message}; start every shard again, and each brings its part anew"),
            ),
            true => failed_with(
                Code::ChecksumMismatch,
                &format!(
                    "{message}, twice; resume to try again, and ask the sender if that does not help"
                ),
            ),
            false => Outcome::Again(message.to_owned()),
        }
    }
}

/// The digest of the `size` bytes of a file.
///
/// # Errors
/// It cannot be read, or the work is not wanted any more.
pub fn digest_of(
    file: &File,
    size: u64,
    algorithm: Algorithm,
    is_halted: impl Fn() -> bool,
) -> Result<Digest, ReadBack> {
    let mut hasher = Hasher::new(algorithm);
    read_through(
        file,
        0,
        size,
        |_| !is_halted(),
        |piece| hasher.update(piece),
    )?;
    Ok(hasher.finish())
}

/// The XXH3 of the `size` bytes of a file. Before each piece of so many bytes goes into it,
/// `may_go_on` is asked.
///
/// # Errors
/// As [`digest_of`].
pub fn hash_of(file: &File, size: u64, may_go_on: impl Fn(usize) -> bool) -> Result<u64, ReadBack> {
    let mut hasher = Hasher::new(Algorithm::Xxh3);
    read_through(file, 0, size, may_go_on, |piece| hasher.update(piece))?;
    Ok(number(&hasher.finish()).unwrap_or_default())
}

fn number(digest: &Digest) -> Option<u64> {
    let bytes: [u8; 8] = digest.bytes.as_slice().try_into().ok()?;
    (digest.algorithm == Algorithm::Xxh3).then(|| u64::from_be_bytes(bytes))
}

/// Reads the bytes from `start` to `end` of a file, which must all be there.
fn read_through(
    file: &File,
    start: u64,
    end: u64,
    may_go_on: impl Fn(usize) -> bool,
    mut piece: impl FnMut(&[u8]),
) -> Result<(), ReadBack> {
    let read = pieces::read(file, start, end, |bytes| {
        if !may_go_on(bytes.len()) {
            return Err(ReadBack::Halted);
        }
        piece(bytes);
        Ok(())
    })?;
    match read == end - start {
        true => Ok(()),
        false => Err(ReadBack::Failed(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The part sizes that a file of `size` bytes in `count` parts may have been uploaded in: the
/// `known` one of another file first, then those that uploaders use, round ones, and equal parts.
fn part_sizes(size: u64, count: u32, known: u64) -> Vec<u64> {
    let count = u64::from(count);
    if count == 1 {
        return vec![size.max(1)];
    }
    let least = size.div_ceil(count).max(1);
    // All of one length but the last, which has at least a byte.
    let most = (size - u64::from(size > 0)) / (count - 1);
    let round = |unit: u64| least.div_ceil(unit) * unit;
    let candidates = [known]
        .into_iter()
        .chain(PART_SIZES)
        .chain([10 * MIB, MIB, 1_000_000].map(round))
        .chain([least]);
    let mut sizes = Vec::new();
    for candidate in candidates {
        if (least..=most).contains(&candidate) && !sizes.contains(&candidate) {
            sizes.push(candidate);
        }
    }
    sizes.truncate(MAX_PART_SIZES);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_sizes_are_those_that_make_so_many_parts() {
        assert_eq!(part_sizes(5, 1, 0), [5], "one part, whatever its size");
        assert_eq!(part_sizes(0, 1, 0), [1]);
        assert_eq!(
            part_sizes(250 * MIB, 3, 0)[0],
            100 * MIB,
            "MASV's own first"
        );
        assert_eq!(
            part_sizes(250 * MIB, 3, 90 * MIB)[0],
            90 * MIB,
            "what was found before"
        );
        assert_eq!(part_sizes(10 * MIB + 1, 2, 0)[0], 8 * MIB);
        assert!(
            part_sizes(70 * MIB, 2, 0).contains(&(35 * MIB)),
            "equal ones"
        );
        assert!(part_sizes(2, 3, 0).is_empty(), "there is no such upload");
        assert!(part_sizes(0, 2, 0).is_empty());
        for (size, count) in [(1 << 40, 10_000), (u64::MAX, 2), (7, 7), (123_456_789, 12)] {
            let sizes = part_sizes(size, count, 0);
            assert!(!sizes.is_empty() && sizes.len() <= MAX_PART_SIZES);
            for part in sizes {
                assert_eq!(size.div_ceil(part), u64::from(count), "{size} in {part}");
            }
        }
    }
}
