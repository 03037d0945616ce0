//! Signatures on what is handed out: package tokens and the addresses of bytes.
//!
//! The key is made at the start and never leaves the process, so a restart makes every token and
//! address stale; a downloader then resolves the link again, as it does when they expire.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::error::Unspecified;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::base::digest::{hex, unhex};

/// What a signature is good for. One made for the one purpose is worth nothing for the other.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    Token,
    Address,
}

/// Signs with HMAC-SHA256 and checks in constant time.
pub struct Signer {
    key: hmac::Key,
}

impl Signer {
    /// A signer with a new random key.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn new() -> Result<Signer, Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        Ok(Signer { key })
    }

    /// The signature over a subject and the time, in seconds since 1970, at which it ends.
    pub fn sign(&self, purpose: Purpose, subject: &str, expires: u64) -> String {
        let tag = hmac::sign(&self.key, message(purpose, subject, expires).as_bytes());
        hex(tag.as_ref())
    }

    /// Whether the signature is ours and its time has not come.
    pub fn verify(&self, purpose: Purpose, subject: &str, expires: u64, signature: &str) -> bool {
        let message = message(purpose, subject, expires);
        let ours = unhex(signature)
            .is_some_and(|tag| hmac::verify(&self.key, message.as_bytes(), &tag).is_ok());
        ours && now() < expires
    }

    /// Whether two secrets are the same, in a time that does not tell where they differ: what is
    /// compared are their signatures.
    pub fn same(&self, left: &[u8], right: &[u8]) -> bool {
        let tag = hmac::sign(&self.key, left);
        hmac::verify(&self.key, right, tag.as_ref()).is_ok()
    }

    /// A token for a package, `PACKAGE.EXPIRES.SIGNATURE`.
    pub fn token(&self, package: &str, expires: u64) -> String {
        let signature = self.sign(Purpose::Token, package, expires);
        format!("{package}.{expires}.{signature}")
    }

    /// Whether the token is ours, for this package and still good.
    pub fn token_is_good(&self, package: &str, token: &str) -> bool {
        let mut parts = token.splitn(3, '.');
        let (Some(subject), Some(expires), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        subject == package
            && number(expires)
                .is_some_and(|expires| self.verify(Purpose::Token, package, expires, signature))
    }
}

fn message(purpose: Purpose, subject: &str, expires: u64) -> String {
    format!("{purpose:?}\n{subject}\n{expires}")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Decimal digits and nothing else: `u64::from_str` also takes a plus sign.
pub fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Random bytes as hexadecimal digits.
///
/// # Errors
/// The system has no randomness to give.
pub fn random_hex(bytes: usize) -> Result<String, Unspecified> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new().fill(&mut buffer)?;
    Ok(hex(&buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_one_purpose_subject_and_time() {
        let signer = Signer::new().unwrap();
        let later = now() + 60;
        let good = signer.sign(Purpose::Address, "a", later);
        assert!(signer.verify(Purpose::Address, "a", later, &good));
        assert!(!signer.verify(Purpose::Token, "a", later, &good));
        assert!(!signer.verify(Purpose::Address, "b", later, &good));
        assert!(!signer.verify(Purpose::Address, "a", later + 1, &good));
        assert!(!signer.verify(Purpose::Address, "a", later, &good[2..]));
        assert!(!signer.verify(Purpose::Address, "a", later, ""));
        let past = signer.sign(Purpose::Address, "a", now());
        assert!(!signer.verify(Purpose::Address, "a", now(), &past));
        let other = Signer::new().unwrap();
        assert!(!other.verify(Purpose::Address, "a", later, &good));
    }

    #[test]
    fn tokens() {
        let signer = Signer::new().unwrap();
        let token = signer.token("p", now() + 60);
        assert!(signer.token_is_good("p", &token));
        assert!(!signer.token_is_good("q", &token));
        assert!(!signer.token_is_good("p", &signer.token("p", 1)));
        for wrong in ["", "p", "p.1", "p.x.00", "..", &token[..token.len() - 1]] {
            assert!(!signer.token_is_good("p", wrong), "{wrong}");
        }
    }

    #[test]
    fn random_digits_are_others_each_time() {
        assert_ne!(random_hex(16).unwrap(), random_hex(16).unwrap());
    }
}
