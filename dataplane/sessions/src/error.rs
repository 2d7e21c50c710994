//! What can be refused, and why.

use crate::Room;

/// Why a client cannot have its session.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum AttachRefused {
    /// The tenant has as many sessions on this shard as it may.
    #[error("the tenant has as many sessions as it may; end some, or raise the tenant's limit")]
    TooManySessions,
    /// The session with this client identifier was made by another principal.
    #[error(
        "this client identifier belongs to another login; use another one, or end the session that has it"
    )]
    OtherPrincipal,
    /// The log does not take the record.
    #[error("the session cannot be recorded ({0:?}); try again when the log has room")]
    Log(Room),
}

/// Why a subscription is not made.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum SubscribeRefused {
    /// The session has as many subscriptions as it may.
    #[error("the session has as many subscriptions as it may; unsubscribe from some")]
    TooMany,
    /// Nobody has this key.
    #[error("the session has ended; connect again")]
    Gone,
    /// The log does not take the record.
    #[error("the subscription cannot be recorded ({0:?}); try again when the log has room")]
    Log(Room),
}

/// Why a record of the log cannot be replayed.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a version that knows more.
    #[error(
        "a session record has format {found}, this version reads up to {known}; start the version that wrote it"
    )]
    NewerVersion {
        /// The record's format.
        found: u8,
        /// The newest format this version reads.
        known: u8,
    },
    /// Written by a version that knows more entries.
    #[error(
        "a session record of format {version} has an entry of kind {kind}, which this version does not know; start \
         the version that wrote it"
    )]
    UnknownEntry {
        /// The record's format.
        version: u8,
        /// The entry's number.
        kind: u8,
    },
    /// Not a record of this crate, or damaged.
    #[error(
        "a session record cannot be read ({what}); the log's partition holds something else, or is damaged"
    )]
    Malformed {
        /// What does not fit.
        what: &'static str,
    },
}
