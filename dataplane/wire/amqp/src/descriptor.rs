//! Descriptors of the specification's types: each is a number and a symbol (part 1, 1.5), and a peer
//! may use either. This crate writes the number, which is shorter.

use crate::value::Value;

macro_rules! descriptors {
    ($($name:ident = $code:literal, $symbol:literal;)*) => {
        $(#[doc = $symbol] pub const $name: u64 = $code;)*
        /// Every descriptor: number, symbol.
        pub const ALL: &[(u64, &str)] = &[$(($name, $symbol)),*];
    };
}

descriptors! {
    // Part 2, 2.7: performatives.
    OPEN = 0x10, "amqp:open:list";
    BEGIN = 0x11, "amqp:begin:list";
    ATTACH = 0x12, "amqp:attach:list";
    FLOW = 0x13, "amqp:flow:list";
    TRANSFER = 0x14, "amqp:transfer:list";
    DISPOSITION = 0x15, "amqp:disposition:list";
    DETACH = 0x16, "amqp:detach:list";
    END = 0x17, "amqp:end:list";
    CLOSE = 0x18, "amqp:close:list";
    // Part 2, 2.8.14.
    ERROR = 0x1D, "amqp:error:list";
    // Part 3, 3.4: delivery states.
    RECEIVED = 0x23, "amqp:received:list";
    ACCEPTED = 0x24, "amqp:accepted:list";
    REJECTED = 0x25, "amqp:rejected:list";
    RELEASED = 0x26, "amqp:released:list";
    MODIFIED = 0x27, "amqp:modified:list";
    // Part 3, 3.5: sources and targets.
    SOURCE = 0x28, "amqp:source:list";
    TARGET = 0x29, "amqp:target:list";
    DELETE_ON_CLOSE = 0x2B, "amqp:delete-on-close:list";
    DELETE_ON_NO_LINKS = 0x2C, "amqp:delete-on-no-links:list";
    DELETE_ON_NO_MESSAGES = 0x2D, "amqp:delete-on-no-messages:list";
    DELETE_ON_NO_LINKS_OR_MESSAGES = 0x2E, "amqp:delete-on-no-links-or-messages:list";
    // Part 4, 4.5: transactions.
    COORDINATOR = 0x30, "amqp:coordinator:list";
    DECLARE = 0x31, "amqp:declare:list";
    DISCHARGE = 0x32, "amqp:discharge:list";
    DECLARED = 0x33, "amqp:declared:list";
    TRANSACTIONAL_STATE = 0x34, "amqp:transactional-state:list";
    // Part 5, 5.3.3: SASL.
    SASL_MECHANISMS = 0x40, "amqp:sasl-mechanisms:list";
    SASL_INIT = 0x41, "amqp:sasl-init:list";
    SASL_CHALLENGE = 0x42, "amqp:sasl-challenge:list";
    SASL_RESPONSE = 0x43, "amqp:sasl-response:list";
    SASL_OUTCOME = 0x44, "amqp:sasl-outcome:list";
    // Part 3, 3.2: sections of a message.
    HEADER = 0x70, "amqp:header:list";
    DELIVERY_ANNOTATIONS = 0x71, "amqp:delivery-annotations:map";
    MESSAGE_ANNOTATIONS = 0x72, "amqp:message-annotations:map";
    PROPERTIES = 0x73, "amqp:properties:list";
    APPLICATION_PROPERTIES = 0x74, "amqp:application-properties:map";
    DATA = 0x75, "amqp:data:binary";
    AMQP_SEQUENCE = 0x76, "amqp:amqp-sequence:list";
    AMQP_VALUE = 0x77, "amqp:amqp-value:*";
    FOOTER = 0x78, "amqp:footer:map";
}

/// The number of a descriptor: itself, or that of a symbol of the specification.
pub(crate) fn code(descriptor: Value<'_>) -> Option<u64> {
    match descriptor {
        Value::Ulong(code) => Some(code),
        Value::Symbol(symbol) => {
            ALL.iter().find(|(_, name)| *name == symbol.as_str()).map(|(code, _)| *code)
        }
        _ => None,
    }
}
