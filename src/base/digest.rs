//! Digests of content: what storage servers send along, and what lists of checksums hold.

use std::hash::Hasher as _;

use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc, Digest as CrcState};
use md5::Digest as _;

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
static CRC64: Crc<u64> = Crc::<u64>::new(&CRC_64_NVME);

/// A way to make a digest, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    Crc32 = 1,
    Crc32c,
    Crc64Nvme,
    Xxh64,
    Xxh3,
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Blake3,
}

impl Algorithm {
    pub const ALL: [Algorithm; 10] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64Nvme,
        Algorithm::Xxh64,
        Algorithm::Xxh3,
        Algorithm::Md5,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha512,
        Algorithm::Blake3,
    ];

    /// As the API shows it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "crc32",
            Algorithm::Crc32c => "crc32c",
            Algorithm::Crc64Nvme => "crc64nvme",
            Algorithm::Xxh64 => "xxh64",
            Algorithm::Xxh3 => "xxh3",
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha-1",
            Algorithm::Sha256 => "sha-256",
            Algorithm::Sha512 => "sha-512",
            Algorithm::Blake3 => "blake3",
        }
    }

    /// Bytes that its digests have.
    pub fn digest_len(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme | Algorithm::Xxh64 | Algorithm::Xxh3 => 8,
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Blake3 => 32,
            Algorithm::Sha512 => 64,
        }
    }

    /// The one of this number, which is how it is saved.
    pub fn from_number(number: u8) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|known| *known as u8 == number)
    }
}

/// A digest of some content. Numbers have their highest byte first, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub algorithm: Algorithm,
    pub bytes: Vec<u8>,
}

impl Digest {
    /// One that was read somewhere. None if its length is not the algorithm's.
    pub fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Option<Digest> {
        (bytes.len() == algorithm.digest_len()).then_some(Digest { algorithm, bytes })
    }

    /// In lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.bytes)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// What hexadecimal digits of either case stand for. None if it is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// A digest in the making.
pub struct Hasher {
    state: State,
}

enum State {
    Crc32(CrcState<'static, u32>, Algorithm),
    Crc64(CrcState<'static, u64>),
    Xxh64(twox_hash::XxHash64),
    Xxh3(Box<twox_hash::XxHash3_64>),
    Md5(md5::Md5),
    Sha(ring::digest::Context, Algorithm),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Hasher {
        use ring::digest;
        let sha = |kind| State::Sha(digest::Context::new(kind), algorithm);
        let state = match algorithm {
            Algorithm::Crc32 => State::Crc32(CRC32.digest(), algorithm),
            Algorithm::Crc32c => State::Crc32(CRC32C.digest(), algorithm),
            Algorithm::Crc64Nvme => State::Crc64(CRC64.digest()),
            Algorithm::Xxh64 => State::Xxh64(twox_hash::XxHash64::with_seed(0)),
            Algorithm::Xxh3 => State::Xxh3(Box::default()),
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::Sha1 => sha(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::Sha256 => sha(&digest::SHA256),
            Algorithm::Sha512 => sha(&digest::SHA512),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        };
        Hasher { state }
    }

    /// Adds what comes next of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc32(state, _) => state.update(bytes),
            State::Crc64(state) => state.update(bytes),
            State::Xxh64(state) => state.write(bytes),
            State::Xxh3(state) => state.write(bytes),
            State::Md5(state) => state.update(bytes),
            State::Sha(state, _) => state.update(bytes),
            State::Blake3(state) => drop(state.update(bytes)),
        }
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.state {
            State::Crc32(state, algorithm) => (algorithm, state.finalize().to_be_bytes().into()),
            State::Crc64(state) => (Algorithm::Crc64Nvme, state.finalize().to_be_bytes().into()),
            State::Xxh64(state) => (Algorithm::Xxh64, state.finish().to_be_bytes().into()),
            State::Xxh3(state) => (Algorithm::Xxh3, state.finish().to_be_bytes().into()),
            State::Md5(state) => (Algorithm::Md5, state.finalize().to_vec()),
            State::Sha(state, algorithm) => (algorithm, state.finish().as_ref().to_vec()),
            State::Blake3(state) => (Algorithm::Blake3, state.finalize().as_bytes().to_vec()),
        };
        Digest { algorithm, bytes }
    }
}

/// The digest of this content.
pub fn digest(algorithm: Algorithm, content: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(content);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of CRCs and of the algorithms' own test vectors.
    #[test]
    fn digests_are_those_of_the_standards() {
        for (algorithm, expected) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Xxh64, "8cb841db40e6ae83"),
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (
                Algorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ] {
            let found = digest(algorithm, b"123456789");
            assert_eq!(found.hex(), expected, "{}", algorithm.name());
            assert_eq!(found.bytes.len(), algorithm.digest_len());
        }
        assert_eq!(digest(Algorithm::Xxh3, b"").hex(), "2d06800538d394c2");
        assert_eq!(
            digest(Algorithm::Blake3, b"").hex(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert!(
            digest(Algorithm::Sha512, b"")
                .hex()
                .starts_with("cf83e1357eefb8bd")
        );
    }

    #[test]
    fn numbers_names_and_digits_lead_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_number(algorithm as u8), Some(algorithm));
            let found = digest(algorithm, b"content");
            assert_eq!(unhex(&found.hex()), Some(found.bytes.clone()));
            assert_eq!(Digest::new(algorithm, found.bytes.clone()), Some(found));
        }
        assert_eq!(Algorithm::from_number(0), None);
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
        assert_eq!(Digest::new(Algorithm::Md5, vec![0; 15]), None);
    }
}
