//! Content of files: pseudo-random, told by a seed and a position, so that a file of any size costs
//! no memory and a byte in the wrong place is noticed.

use std::sync::LazyLock;

/// A prime, so that no power of two is a multiple of it and a misplaced range never looks right.
const PERIOD: usize = 1_048_583;

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = Vec::with_capacity(PERIOD + 8);
    while block.len() < PERIOD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block.truncate(PERIOD);
    block
});

/// Writes into `out` the bytes that stand at `offset` in the content of `seed`.
pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let shift = seed.wrapping_mul(0x2545_F491_4F6C_DD1D) % PERIOD as u64;
    let mut at = ((offset % PERIOD as u64 + shift) % PERIOD as u64) as usize;
    let mut rest = out;
    while !rest.is_empty() {
        let length = rest.len().min(PERIOD - at);
        let (now, later) = rest.split_at_mut(length);
        now.copy_from_slice(&BLOCK[at..at + length]);
        rest = later;
        at = 0;
    }
}

/// The whole content, for small files.
pub fn bytes(seed: u64, size: u64) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(size).unwrap()];
    fill(seed, 0, &mut all);
    all
}

#[test]
fn a_part_is_the_same_as_in_the_whole() {
    let whole = bytes(3, 2_500_000);
    for (offset, length) in [(0, 10), (1_048_000, 2000), (2_000_000, 500_000)] {
        let mut part = vec![0; length];
        fill(3, offset as u64, &mut part);
        assert_eq!(part, whole[offset..offset + length]);
    }
    assert_ne!(bytes(4, 1000), whole[..1000]);
}
