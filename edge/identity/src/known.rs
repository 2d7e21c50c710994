//! Logins that were found good, and may be taken for good again without a look at the store.
//!
//! ```text
//!   shard ─ find ─▶ KnownLogins ── known ──▶ principal, at once
//!                       │ unknown
//!                       └─ lesson ─▶ verify thread ── learn ─▶ queue ─▶ KnownLogins
//! ```
//!
//! A fleet that comes back after a cut link shows what it has shown before; a device that connects for each message
//! always does. Invariants:
//! - Nothing is taken for good that the store would refuse: an entry holds as long as its [`Standing`], which ends with the
//!   first page of the feed that touches the tenant, and with the next beginning or end of a secret's validity. A decision
//!   made before a page and learnt after it is void from the beginning, since its edition was taken before it was read.
//! - An entry says "this was shown and was good", as `HMAC-SHA256(key, adapter ‖ user name ‖ password)` under a key made at
//!   start and never stored. Neither name nor password is kept.
//! - It never refuses. What is not known is decided as if this were not here, so a guess costs what it always did.
//! - One owner, no lock, no wait, no growth without bound: this may be called from a shard.
//!
//! Deliberately not here: tokens and certificates, which are void at a time of their own.

use crate::edition::{Edition, Editions};
use crate::limits::{
    KNOWN_LOGIN_BYTES_MAX, KNOWN_LOGINS_BUCKETS, KNOWN_LOGINS_PER_BUCKET, LESSONS_WAITING_MAX,
};
use crate::login::Adapter;
use crate::replica::Identity;
use crossbeam::queue::ArrayQueue;
use hmac::{Hmac, Mac as _};
use rand::RngCore as _;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How long a login that was found good may be taken for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Taken before the store was read.
    pub(crate) edition: Edition,
    /// When it was decided. A clock that was set back says nothing about validity.
    pub(crate) from_ms: u64,
    /// From then on another secret may be valid; in milliseconds since the Unix epoch.
    pub(crate) until_ms: u64,
}

/// What a client has shown, as a number that only this process can make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shown([u8; 32]);

/// Logins one shard knows to be good, each with what is to be known of it.
pub struct KnownLogins<P> {
    keyed: Hmac<Sha256>,
    editions: Arc<Editions>,
    /// An entry is in the bucket its number names. Buckets keep a full table from ever being moved or dropped at once, for
    /// which a shard has no time.
    buckets: Box<[Vec<Known<P>>]>,
    learnt: Arc<ArrayQueue<Known<P>>>,
}

struct Known<P> {
    shown: Shown,
    standing: Standing,
    principal: P,
}

/// Teaches a [`KnownLogins`] one login, from the thread that has decided on it.
pub struct Lesson<P> {
    shown: Shown,
    learnt: Arc<ArrayQueue<Known<P>>>,
}

impl Identity {
    /// An empty memory of logins, for one shard.
    pub fn known_logins<P>(&self) -> KnownLogins<P> {
        KnownLogins::new(self.inner.editions.clone(), KNOWN_LOGINS_BUCKETS)
    }
}

impl<P: Clone> KnownLogins<P> {
    /// Who it is, if the same was shown before, was good and still is.
    pub fn find(&mut self, shown: &Shown, now_ms: u64) -> Option<P> {
        self.take_lessons();
        let bucket = &self.buckets[self.bucket_of(shown)];
        let known = bucket.iter().find(|known| known.shown == *shown)?;
        let Standing { edition, from_ms, until_ms } = known.standing;
        let holds = self.editions.is_current(edition);
        (holds && (from_ms..until_ms).contains(&now_ms)).then(|| known.principal.clone())
    }
}

impl<P> KnownLogins<P> {
    fn new(editions: Arc<Editions>, buckets: usize) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(key.as_mut());
        let keyed =
            Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("HMAC takes keys of any length");
        let buckets = std::iter::repeat_with(Vec::new).take(buckets).collect();
        KnownLogins {
            keyed,
            editions,
            buckets,
            learnt: Arc::new(ArrayQueue::new(LESSONS_WAITING_MAX)),
        }
    }

    /// Names what a client shows; `None` if that is too long to be worth it: a token, or nonsense.
    pub fn shown(&self, adapter: Adapter, username: &str, password: &[u8]) -> Option<Shown> {
        if username.len() + password.len() > KNOWN_LOGIN_BYTES_MAX {
            return None;
        }
        let mut mac = self.keyed.clone();
        mac.update(&[adapter as u8]);
        // The length goes first so that no two pairs share a text.
        mac.update(&(username.len() as u64).to_le_bytes());
        mac.update(username.as_bytes());
        mac.update(password);
        Some(Shown(mac.finalize().into_bytes().into()))
    }

    /// For whoever is asked about what is not known.
    pub fn lesson(&self, shown: Shown) -> Lesson<P> {
        Lesson { shown, learnt: self.learnt.clone() }
    }

    fn take_lessons(&mut self) {
        while let Some(known) = self.learnt.pop() {
            self.insert(known);
        }
    }

    fn insert(&mut self, known: Known<P>) {
        let place = self.bucket_of(&known.shown);
        let bucket = &mut self.buckets[place];
        if let Some(same) = bucket.iter_mut().find(|entry| entry.shown == known.shown) {
            *same = known;
            return;
        }
        if bucket.len() >= KNOWN_LOGINS_PER_BUCKET {
            let editions = &self.editions;
            let void = bucket.iter().position(|entry| !editions.is_current(entry.standing.edition));
            // Else the one that was learnt first.
            bucket.remove(void.unwrap_or(0));
        }
        bucket.push(known);
    }

    fn bucket_of(&self, shown: &Shown) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = shown.0;
        // The remainder is below a usize's range.
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]) % self.buckets.len() as u64) as usize
    }
}

impl<P> Lesson<P> {
    /// Has the login taken for good as long as it stands. Forgotten where too many wait to be learnt.
    pub fn learn(self, standing: Standing, principal: P) {
        let _ = self.learnt.push(Known { shown: self.shown, standing, principal });
    }
}

impl<P> fmt::Debug for KnownLogins<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logins: usize = self.buckets.iter().map(Vec::len).sum();
        f.debug_struct("KnownLogins").field("logins", &logins).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Lesson<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lesson(…)")
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

#[cfg(test)]
mod tests;
