//! Remembers which passwords were found to produce which slow hashes.
//!
//! An entry is `HMAC-SHA256(boot key, hash ‖ password)` and stands for "this password produces this hash", a fact about
//! two texts. So nothing ever has to be invalidated: a changed, disabled or deleted secret is simply not looked up. A
//! device that authenticates for each request pays bcrypt once, not each time.
//!
//! The key is made at start and never leaves the process. Two halves, the older forgotten when the younger is full:
//! bounded, and what is used stays.

use crate::limits::MEMO_ENTRIES_MAX;
use hmac::{Hmac, Mac as _};
use rand::RngCore as _;
use sha2::Sha256;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// A password and a hash, as one number.
pub(crate) type Fingerprint = [u8; 32];

/// Verified pairs of hash and password.
pub(crate) struct Memo {
    key: Zeroizing<[u8; 32]>,
    halves: Mutex<Halves>,
    half_entries_max: usize,
}

#[derive(Default)]
struct Halves {
    young: HashSet<Fingerprint>,
    old: HashSet<Fingerprint>,
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self::with_capacity(MEMO_ENTRIES_MAX)
    }

    fn with_capacity(entries_max: usize) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(key.as_mut());
        Memo { key, halves: Mutex::default(), half_entries_max: (entries_max / 2).max(1) }
    }

    /// Names the pair. The hash's length goes first so that no two pairs share a text.
    pub(crate) fn fingerprint(&self, hash: &str, password: &[u8]) -> Fingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_ref())
            .expect("HMAC takes keys of any length");
        mac.update(&(hash.len() as u64).to_le_bytes());
        mac.update(hash.as_bytes());
        mac.update(password);
        mac.finalize().into_bytes().into()
    }

    /// Whether the pair was verified before; one that was stays for longer.
    pub(crate) fn knows(&self, fingerprint: &Fingerprint) -> bool {
        let mut halves = self.halves();
        if halves.young.contains(fingerprint) {
            return true;
        }
        if !halves.old.remove(fingerprint) {
            return false;
        }
        halves.insert(*fingerprint, self.half_entries_max);
        true
    }

    /// Remembers a verified pair.
    pub(crate) fn learn(&self, fingerprint: Fingerprint) {
        self.halves().insert(fingerprint, self.half_entries_max);
    }

    /// Number of pairs remembered.
    pub(crate) fn len(&self) -> usize {
        let halves = self.halves();
        halves.young.len() + halves.old.len()
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        // Both sets are whole at every point where a panic could leave them.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Halves {
    fn insert(&mut self, fingerprint: Fingerprint, half_entries_max: usize) {
        if self.young.len() >= half_entries_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&fingerprint);
        self.young.insert(fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memo_is_bounded_and_keeps_what_is_used() {
        let memo = Memo::with_capacity(10);
        let used = memo.fingerprint("hash", b"used");
        memo.learn(used);
        for round in 0..1_000 {
            memo.learn(memo.fingerprint("hash", format!("{round}").as_bytes()));
            assert!(memo.knows(&used), "round {round}");
            assert!(memo.len() <= 10);
        }
        assert!(!memo.knows(&memo.fingerprint("hash", b"0")));
    }

    #[test]
    fn a_byte_moved_from_hash_to_password_is_another_pair() {
        let memo = Memo::new();
        assert_ne!(memo.fingerprint("ab", b"c"), memo.fingerprint("a", b"bc"));
    }

    #[test]
    fn another_boot_makes_other_fingerprints() {
        assert_ne!(Memo::new().fingerprint("h", b"p"), Memo::new().fingerprint("h", b"p"));
    }
}
