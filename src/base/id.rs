//! Identifiers of downloads: ULIDs, which sort by the time of their making.

use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32, as the ULID specification has it.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Random bytes from the system.
pub fn random<const N: usize>() -> [u8; N] {
    use ring::rand::SecureRandom;
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .expect("a Linux without getrandom and without /dev/urandom cannot run this program");
    bytes
}

/// Makes identifiers, each greater than every one before it, also where the clock goes back.
#[derive(Debug, Default)]
pub struct Ids {
    last: u128,
}

impl Ids {
    /// Takes note of an identifier that exists.
    pub fn seen(&mut self, id: &str) {
        self.last = self.last.max(decode(id).unwrap_or(0));
    }

    /// The next identifier: 26 characters.
    pub fn make(&mut self) -> String {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let random = u128::from_le_bytes(random()) >> 48;
        let fresh = (since.as_millis() & ((1 << 48) - 1)) << 80 | random;
        // After the last one that there is, which only a state file made by hand can name, order is
        // given up.
        self.last = self
            .last
            .checked_add(1)
            .map_or(fresh, |next| fresh.max(next));
        encode(self.last)
    }
}

fn encode(value: u128) -> String {
    (0..26)
        .rev()
        .map(|digit| char::from(ALPHABET[(value >> (5 * digit)) as usize & 31]))
        .collect()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != 26 {
        return None;
    }
    text.bytes().try_fold(0_u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        value.checked_mul(32)?.checked_add(digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_greater_than_the_one_before() {
        let mut ids = Ids::default();
        let made: Vec<String> = (0..1000).map(|_| ids.make()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        assert!(made.iter().all(|id| id.len() == 26));
    }

    #[test]
    fn a_clock_that_went_back_does_not_matter() {
        let future = encode(u128::from(u64::MAX) << 62);
        let mut ids = Ids::default();
        ids.seen(&future);
        assert!(ids.make() > future);
        ids.seen("not an id");
    }

    #[test]
    fn the_last_identifier_that_there_is_is_not_given_out_again() {
        let mut ids = Ids::default();
        let last = encode(u128::MAX);
        ids.seen(&last);
        let (a, b) = (ids.make(), ids.make());
        assert!(a != last && b != last && a != b);
    }

    #[test]
    fn decoding_undoes_encoding() {
        for value in [0, 1, 31, 32, 1 << 100, (1 << 127) - 1] {
            assert_eq!(decode(&encode(value)), Some(value));
        }
    }
}
