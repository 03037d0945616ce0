//! A package that several nodes bring into one shared folder: which node brings what.
//!
//! Who brings what is decided by the list of files and the shard alone, so that the nodes agree
//! without a word. Files below [`DIVIDED`] bytes and all others are two rows of bytes, each laid
//! end to end in the order of the list and cut into as many equal pieces as there are shards: so
//! every shard has its share of the bytes, and of the many small files too. A cut through a small
//! file moves to one of its ends, a cut through a large one to the nearest multiple of [`GRAIN`].

use serde::{Deserialize, Serialize};

/// A file of so many bytes may be divided.
pub const DIVIDED: u64 = 2 << 20;
/// Where a file may be cut: at multiples of this, in bytes.
const GRAIN: u64 = 1 << 20;
/// Nodes that may share a package, at most.
const MAX_SHARDS: u32 = 100_000;

/// One of the parts that a package is divided into: the `index`-th, from 0, of `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub index: u32,
    pub count: u32,
}

impl Shard {
    /// The `number`-th of `count`. Numbers from 0 and numbers from 1 will both do: the last shard
    /// is `count` then, which is the same as 0.
    ///
    /// # Errors
    /// There are no such shards; the text says what to give.
    pub fn new(number: u32, count: u32) -> Result<Shard, String> {
        if !(1..=MAX_SHARDS).contains(&count) {
            return Err(format!(
                "{count} shards: there can be 1 to {MAX_SHARDS} of them"
            ));
        }
        if number > count {
            return Err(format!(
                "there is no shard {number} of {count}: they have the numbers 0 to {}, or 1 to \
                 {count}",
                count - 1
            ));
        }
        Ok(Shard {
            index: number % count,
            count,
        })
    }

    /// Reads `K/N`.
    ///
    /// # Errors
    /// As [`Shard::new`].
    pub fn parse(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        // What was given may be a link, with its secret, where the value was forgotten.
        let (number, count) = numbers
            .ok_or("the value is neither K/N, such as 0/4 for the first of 4 shards, nor auto")?;
        Shard::new(number, count)
    }
}

/// What a shard brings of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Nothing,
    Whole,
    /// The bytes from the first number up to, and without, the second; there is at least one.
    Slice(u64, u64),
}

/// Files laid end to end.
#[derive(Debug, Default)]
struct Row {
    total: u128,
    at: u128,
}

impl Row {
    /// Where the shard's piece begins and ends.
    fn piece(&self, shard: Shard) -> (u128, u128) {
        let cut = |index: u32| self.total * u128::from(index) / u128::from(shard.count);
        (cut(shard.index), cut(shard.index + 1))
    }

    /// Moves on by so much; returns where that began.
    fn pass(&mut self, length: u64) -> u128 {
        let at = self.at;
        self.at += u128::from(length);
        at
    }
}

/// Divides the files of a package; see the page of this module.
#[derive(Debug)]
pub struct Division {
    shard: Shard,
    small: Row,
    large: Row,
}

/// An empty file is work, too.
fn weight(size: u64) -> u64 {
    size.max(1)
}

impl Division {
    /// For files of these sizes, in bytes, in the order of the list.
    pub fn new(shard: Shard, sizes: impl Iterator<Item = u64>) -> Division {
        let (mut small, mut large) = (Row::default(), Row::default());
        for size in sizes {
            match size < DIVIDED {
                true => small.total += u128::from(weight(size)),
                false => large.total += u128::from(size),
            }
        }
        Division {
            shard,
            small,
            large,
        }
    }

    /// What the shard brings of the next file, which has so many bytes.
    pub fn next(&mut self, size: u64) -> Share {
        match size < DIVIDED {
            true => self.next_small(weight(size)),
            false => self.next_large(size),
        }
    }

    fn next_small(&mut self, weight: u64) -> Share {
        let (start, end) = self.small.piece(self.shard);
        let middle = self.small.pass(weight) + u128::from(weight / 2);
        match (start..end).contains(&middle) {
            true => Share::Whole,
            false => Share::Nothing,
        }
    }

    fn next_large(&mut self, size: u64) -> Share {
        let (start, end) = self.large.piece(self.shard);
        let at = self.large.pass(size);
        let in_file = |cut: u128| nearest_grain(cut.saturating_sub(at), size);
        match (in_file(start), in_file(end)) {
            (start, end) if start >= end => Share::Nothing,
            (0, end) if end == size => Share::Whole,
            (start, end) => Share::Slice(start, end),
        }
    }
}

/// The place in a file of `size` bytes where it may be cut that is nearest to a wanted one.
fn nearest_grain(wanted: u128, size: u64) -> u64 {
    match u64::try_from(wanted) {
        Ok(wanted) if wanted < size => ((wanted + GRAIN / 2) / GRAIN * GRAIN).min(size),
        _ => size,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::intervals::Intervals;

    fn shares(sizes: &[u64], index: u32, count: u32) -> Vec<Share> {
        let shard = Shard { index, count };
        let mut division = Division::new(shard, sizes.iter().copied());
        sizes.iter().map(|&size| division.next(size)).collect()
    }

    fn bytes(share: Share, size: u64) -> (u64, u64) {
        match share {
            Share::Nothing => (0, 0),
            Share::Whole => (0, size),
            Share::Slice(start, end) => (start, end),
        }
    }

    #[test]
    fn numbers_from_0_and_from_1_will_do() {
        assert_eq!(Shard::parse("0/4"), Shard::parse("4/4"));
        assert_eq!(Shard::parse("3/4").unwrap().index, 3);
        for wrong in [
            "5/4",
            "1/0",
            "0/0",
            "-1/4",
            "1",
            "1/",
            "/4",
            "a/b",
            "1/4294967296",
        ] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_shard_has_all() {
        let sizes = [0, 1, 5 << 20, 3];
        assert_eq!(shares(&sizes, 0, 1), [Share::Whole; 4]);
    }

    #[test]
    fn a_large_file_is_divided_and_a_small_one_is_not() {
        const GIB: u64 = 1 << 30;
        assert_eq!(shares(&[4 * GIB], 1, 4), [Share::Slice(GIB, 2 * GIB)]);
        let whole = |index| shares(&[1000], index, 4)[0] == Share::Whole;
        assert_eq!((0..4).filter(|&index| whole(index)).count(), 1);
    }

    #[test]
    fn small_files_are_shared_by_their_bytes() {
        let sizes = [1 << 20, 1 << 20, 1 << 20, 1 << 20, 1000, 1000, 1000, 1000];
        let own = |index| {
            let shares = shares(&sizes, index, 2);
            let whole = shares.iter().filter(|share| **share == Share::Whole);
            whole.count()
        };
        assert_eq!((own(0), own(1)), (2, 6));
    }

    fn size() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(DIVIDED),
            0..2 * DIVIDED,
            0u64..1 << 40,
            Just(u64::MAX >> 1)
        ]
    }

    proptest! {
        #[test]
        fn every_byte_is_brought_once_and_the_bytes_are_balanced(
            sizes in prop::collection::vec(size(), 0..20),
            count in 1u32..30,
        ) {
            let all: Vec<_> = (0..count).map(|index| shares(&sizes, index, count)).collect();
            for (file, &size) in sizes.iter().enumerate() {
                let mut covered = Intervals::default();
                let mut total = 0;
                for shares in &all {
                    let (start, end) = bytes(shares[file], size);
                    let is_nothing = shares[file] == Share::Nothing;
                    prop_assert!(start < end || is_nothing || size == 0);
                    covered.insert(start, end);
                    total += end - start;
                }
                prop_assert_eq!(total, size, "disjoint");
                prop_assert_eq!(covered.total(), size);
                let owners = all.iter().filter(|shares| shares[file] != Share::Nothing);
                prop_assert!(owners.count() == 1 || size >= DIVIDED);
            }
            let sum: u128 = sizes.iter().map(|&size| u128::from(size)).sum();
            let fair = sum / u128::from(count);
            for shares in &all {
                let files = shares.iter().zip(&sizes);
                let own: u128 = files
                    .map(|(&share, &size)| bytes(share, size))
                    .map(|(start, end)| u128::from(end - start))
                    .sum();
                // A small file and a grain, at each of two ends.
                let slack = u128::from(2 * DIVIDED + 2 * GRAIN);
                prop_assert!(own.abs_diff(fair) <= slack, "{own} of {fair}");
            }
        }
    }
}
