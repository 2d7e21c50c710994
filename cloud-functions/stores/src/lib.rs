//! Implementations of the domain's store port, and the suite each must pass.
//!
//! [`RedbStore`] keeps everything in one file of one process. [`conformance::run`] states what the rules rely on.
//!
//! Deliberately absent: rules. A store knows items, conditions and feeds, not tenants or commands.

pub mod conformance;
mod redb_store;
mod watch;

pub use redb_store::{OpenError, RedbStore};
