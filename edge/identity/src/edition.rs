//! When what logins are decided from has changed.
//!
//! An edition is a number for each of a fixed number of groups of tenants; a page of the feed that touches a tenant raises
//! its group's. Whoever takes the edition, then reads the store, then finds the edition as it was, has what the store says:
//! no page has come into force since. Two tenants of one group share a number, which costs the other a look at the store
//! and nothing else.

use crate::feed::Applied;
use crate::limits::EDITION_GROUPS;
use fulcrum_contract::TenantId;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a tenant's group at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Edition {
    group: usize,
    number: u64,
}

/// The present numbers.
pub(crate) struct Editions {
    numbers: Box<[AtomicU64]>,
    /// Keyed anew at each start: nobody chooses names that fall into another tenant's group.
    hasher: RandomState,
}

impl Editions {
    pub(crate) fn new() -> Editions {
        let numbers = (0..EDITION_GROUPS).map(|_| AtomicU64::new(0)).collect();
        Editions { numbers, hasher: RandomState::new() }
    }

    /// The tenant's edition; to be taken before the store is read.
    pub(crate) fn of(&self, tenant: &TenantId) -> Edition {
        let group = self.group(tenant);
        Edition { group, number: self.numbers[group].load(Ordering::SeqCst) }
    }

    /// Whether nothing of the tenant has changed since.
    pub(crate) fn is_current(&self, edition: Edition) -> bool {
        self.numbers[edition.group].load(Ordering::SeqCst) == edition.number
    }

    /// Notes what a page has changed; to be called after its commit, before anybody is told that it is in force.
    pub(crate) fn raise(&self, applied: &Applied) {
        if applied.all {
            return self.raise_all();
        }
        let devices = applied.devices_changed.iter().map(|(tenant, _)| tenant);
        let applications = applied.applications_changed.iter().map(|(tenant, _)| tenant);
        let mut last = None;
        for tenant in applied.tenants_changed.iter().chain(devices).chain(applications) {
            if last != Some(tenant) {
                self.numbers[self.group(tenant)].fetch_add(1, Ordering::SeqCst);
            }
            last = Some(tenant);
        }
    }

    /// Anything may have changed.
    pub(crate) fn raise_all(&self) {
        for number in &self.numbers {
            number.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn group(&self, tenant: &TenantId) -> usize {
        // The remainder is below a usize's range.
        (self.hasher.hash_one(tenant.as_str()) % self.numbers.len() as u64) as usize
    }
}
