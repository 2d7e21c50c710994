//! Random secrets, their hashes, and comparing without telling.
//!
//! Secrets made here have 256 random bits: one round of SHA-256 keeps them, only passwords chosen by people need a slow hash.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Random bytes of the operating system.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).expect("getrandom works on every kernel this runs on");
    bytes
}

/// A new secret: 256 random bits as Base64 for URLs, without padding.
pub fn new_secret() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// A new identifier that nobody else has: 128 random bits, hexadecimal.
pub fn new_id() -> String {
    format!("{:032x}", u128::from_le_bytes(random()))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 as padded Base64, as it is stored.
pub(crate) fn sha256_base64(bytes: &[u8]) -> String {
    STANDARD.encode(sha256(bytes))
}

/// Whether `secret` has the stored hash, in a time that does not depend on how much of it is right.
pub(crate) fn has_sha256(secret: &str, stored_base64: &str) -> bool {
    sha256_base64(secret.as_bytes()).as_bytes().ct_eq(stored_base64.as_bytes()).into()
}

/// Whether the hash of `secret` is among `accepted`; looks at all of them.
pub(crate) fn is_among(secret: &str, accepted: &[[u8; 32]]) -> bool {
    let hash = sha256(secret.as_bytes());
    accepted.iter().fold(false, |found, one| found | bool::from(hash.ct_eq(one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (new_secret(), new_secret());
        assert_ne!(one, other);
        assert_eq!(URL_SAFE_NO_PAD.decode(&one).unwrap().len(), 32);
    }

    #[test]
    fn only_the_secret_itself_has_its_hash() {
        let secret = new_secret();
        assert!(has_sha256(&secret, &sha256_base64(secret.as_bytes())));
        assert!(!has_sha256("other", &sha256_base64(secret.as_bytes())));
        assert!(is_among("b", &[sha256(b"a"), sha256(b"b")]));
        assert!(!is_among("c", &[sha256(b"a"), sha256(b"b")]));
    }
}
