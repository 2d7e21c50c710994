//! The symbols of the specification's error conditions: what an error's `condition` says.

use crate::value::symbol::Symbol;

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Symbol<'static> = Symbol::literal($text);)*
        /// Every condition, for tables and tests.
        pub const ALL: &[Symbol<'static>] = &[$($name),*];
    };
}

conditions! {
    // Part 2, 2.8.15: of any endpoint.
    /// Something broke inside; an operator has to look at it.
    INTERNAL_ERROR = "amqp:internal-error";
    /// The peer named something that is not there.
    NOT_FOUND = "amqp:not-found";
    /// The peer may not do what it tried.
    UNAUTHORIZED_ACCESS = "amqp:unauthorized-access";
    /// The peer's bytes could not be decoded.
    DECODE_ERROR = "amqp:decode-error";
    /// The peer is over what it was given.
    RESOURCE_LIMIT_EXCEEDED = "amqp:resource-limit-exceeded";
    /// The peer used a frame or a feature in a way it must not.
    NOT_ALLOWED = "amqp:not-allowed";
    /// A field of a frame has a value that cannot be.
    INVALID_FIELD = "amqp:invalid-field";
    /// The peer used something that is not implemented here.
    NOT_IMPLEMENTED = "amqp:not-implemented";
    /// Another client has it at the moment.
    RESOURCE_LOCKED = "amqp:resource-locked";
    /// Something the request presumes is not so.
    PRECONDITION_FAILED = "amqp:precondition-failed";
    /// What the peer used was deleted.
    RESOURCE_DELETED = "amqp:resource-deleted";
    /// The peer sent a frame that this state does not permit.
    ILLEGAL_STATE = "amqp:illegal-state";
    /// What has to be said does not fit the peer's largest frame.
    FRAME_SIZE_TOO_SMALL = "amqp:frame-size-too-small";

    // Part 2, 2.8.16: of a connection.
    /// An operator or a stopping server closed the connection.
    CONNECTION_FORCED = "amqp:connection:forced";
    /// No frame could be made of the peer's bytes.
    CONNECTION_FRAMING_ERROR = "amqp:connection:framing-error";
    /// Another container serves this host name.
    CONNECTION_REDIRECT = "amqp:connection:redirect";

    // Part 2, 2.8.17: of a session.
    /// The peer sent more transfers than the window had room for.
    SESSION_WINDOW_VIOLATION = "amqp:session:window-violation";
    /// A link that was detached for an error goes on sending.
    SESSION_ERRANT_LINK = "amqp:session:errant-link";
    /// An attach used a handle that is in use.
    SESSION_HANDLE_IN_USE = "amqp:session:handle-in-use";
    /// A frame named a handle that is not attached.
    SESSION_UNATTACHED_HANDLE = "amqp:session:unattached-handle";

    // Part 2, 2.8.18: of a link.
    /// An operator detached the link.
    LINK_DETACH_FORCED = "amqp:link:detach-forced";
    /// The peer sent more than the link's credit.
    LINK_TRANSFER_LIMIT_EXCEEDED = "amqp:link:transfer-limit-exceeded";
    /// The peer sent a message larger than the link takes.
    LINK_MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded";
    /// The address is served elsewhere.
    LINK_REDIRECT = "amqp:link:redirect";
    /// The link was attached again from elsewhere.
    LINK_STOLEN = "amqp:link:stolen";

    // Part 4, 4.5.8: of a transaction.
    /// No transaction has this identifier.
    TRANSACTION_UNKNOWN_ID = "amqp:transaction:unknown-id";
    /// The transaction was rolled back for a reason of its own.
    TRANSACTION_ROLLBACK = "amqp:transaction:rollback";
    /// The transaction took too long.
    TRANSACTION_TIMEOUT = "amqp:transaction:timeout";
}
