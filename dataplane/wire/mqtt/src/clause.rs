//! What a peer can break, each with the clause of the specification that forbids it.
//!
//! `MQTT-x` is a numbered statement of MQTT 3.1.1, `MQTT5-x` one of MQTT 5.0, "section" a rule of
//! the text that has no number. The constants are the only values `clause` has in
//! [`crate::DecodeError`] and [`crate::topic::TopicError`], so tests compare against them.

macro_rules! clauses {
    ($($name:ident = $text:literal;)*) => {
        $(#[doc = $text] pub const $name: &str = $text;)*
        /// Every clause with the name of its constant, for tables and tests.
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

clauses! {
    UTF8_ILL_FORMED = "MQTT-1.5.3-1, MQTT5-1.5.4-1: a string is not well-formed UTF-8";
    UTF8_NUL = "MQTT-1.5.3-2, MQTT5-1.5.4-2: a string contains U+0000";
    FLAGS_RESERVED = "MQTT-2.2.2-2, MQTT5-2.1.3-1: reserved flags of the fixed header have a wrong value";
    TYPE_RESERVED = "section 2.2.1 (MQTT5 2.1.2): the packet type is reserved";
    LENGTH_TOO_LONG = "section 2.2.3 (MQTT5 1.5.5): a variable length has more than four bytes";
    LENGTH_NOT_MINIMAL = "section 2.2.3, MQTT5-1.5.5-1: a variable length has more bytes than it needs";
    FIELD_PAST_END = "section 2.2.3 (MQTT5 2.1.4): a field runs past the end of the packet";
    TRAILING_BYTES = "section 2.2.3 (MQTT5 2.1.4): bytes follow the last field of the packet";
    PACKET_ID_ZERO = "MQTT-2.3.1-1, MQTT5-2.2.1-3, MQTT5-2.2.1-4: the packet identifier is zero";

    CONNECT_FIRST = "MQTT-3.1.0-1, MQTT5-3.1.0-1: the first packet is not CONNECT";
    CONNECT_AGAIN = "MQTT-3.1.0-2, MQTT5-3.1.0-2: a second CONNECT on one connection";
    PROTOCOL_NAME = "MQTT-3.1.2-1, MQTT5-3.1.2-1: the protocol name is not MQTT";
    CONNECT_FLAG_RESERVED = "MQTT-3.1.2-3, MQTT5-3.1.2-3: the reserved connect flag is set";
    WILL_QOS_WITHOUT_WILL = "MQTT-3.1.2-13, MQTT5-3.1.2-11: will QoS without the will flag";
    WILL_QOS_INVALID = "MQTT-3.1.2-14, MQTT5-3.1.2-12: the will QoS is 3";
    WILL_RETAIN_WITHOUT_WILL = "MQTT-3.1.2-15, MQTT5-3.1.2-13: will retain without the will flag";
    PASSWORD_WITHOUT_USERNAME = "MQTT-3.1.2-22: a password without a user name";

    CONNACK_FLAGS_RESERVED = "section 3.2.2.1, MQTT5-3.2.2-1: reserved connect acknowledge flags are set";
    CONNACK_SESSION_PRESENT = "MQTT-3.2.2-4, MQTT5-3.2.2-6: session present in a refusing CONNACK";
    CONNACK_CODE = "section 3.2.2.3, MQTT5-3.2.2-8: the CONNACK code is reserved";

    PUBLISH_DUP_QOS0 = "MQTT-3.3.1-2, MQTT5-3.3.1-2: DUP is set on a QoS 0 PUBLISH";
    PUBLISH_QOS_INVALID = "MQTT-3.3.1-4, MQTT5-3.3.1-4: the QoS of a PUBLISH is 3";
    TOPIC_WILDCARD = "MQTT-3.3.2-2, MQTT-4.7.1-1, MQTT5-3.3.2-2, MQTT5-4.7.0-1: a topic name contains a wildcard";
    TOPIC_EMPTY = "MQTT-4.7.3-1, MQTT5-4.7.3-1: a topic name or filter is empty";
    TOPIC_TOO_LONG = "MQTT-4.7.3-3, MQTT5-4.7.3-3: a topic name or filter is longer than 65535 bytes";
    TOPIC_MISSING = "MQTT5 section 3.3.2.1: a PUBLISH has neither topic name nor topic alias";
    ACK_CODE = "MQTT5-3.4.2-1, MQTT5-3.5.2-1, MQTT5-3.6.2-1, MQTT5-3.7.2-1: the reason code is not one of this packet";

    SUBSCRIBE_EMPTY = "MQTT-3.8.3-3, MQTT5-3.8.3-2: a SUBSCRIBE without a topic filter";
    SUBSCRIBE_OPTIONS = "MQTT-3-8.3-4, MQTT5-3.8.3-5: reserved bits or QoS 3 in the subscription options";
    SUBSCRIBE_RETAIN_HANDLING = "MQTT5 section 3.8.3.1: retain handling is 3";
    SUBSCRIBE_SHARED_NO_LOCAL = "MQTT5-3.8.3-4: no-local on a shared subscription";
    SHARE_NAME = "MQTT5-4.8.2-1, MQTT5-4.8.2-2: a shared subscription without a valid share name and filter";
    SUBACK_CODE = "MQTT-3.9.3-2, MQTT5-3.9.3-2: a reserved SUBACK code";
    SUBACK_EMPTY = "MQTT-3.8.4-5, MQTT5-3.8.4-6: a SUBACK without codes";
    UNSUBSCRIBE_EMPTY = "MQTT-3.10.3-2, MQTT5-3.10.3-2: an UNSUBSCRIBE without a topic filter";
    UNSUBACK_CODE = "MQTT5-3.11.3-2: a reserved UNSUBACK code";
    UNSUBACK_EMPTY = "MQTT5-3.11.3-1: an UNSUBACK without codes";
    DISCONNECT_CODE = "MQTT5-3.14.2-1: a reserved DISCONNECT code";
    AUTH_CODE = "MQTT5-3.15.2-1: a reserved AUTH code";
    FILTER_MULTI_LEVEL = "MQTT-4.7.1-2, MQTT5-4.7.1-1: # is not alone in the last level of a topic filter";
    FILTER_SINGLE_LEVEL = "MQTT-4.7.1-3, MQTT5-4.7.1-2: + is not alone in its level of a topic filter";

    PROPERTY_UNKNOWN = "MQTT5 section 2.2.2.2: a property identifier is unknown";
    PROPERTY_MISPLACED = "MQTT5 section 2.2.2.2: a property is not permitted in this packet";
    PROPERTY_REPEATED = "MQTT5 sections 3.1.2.11 to 3.15.2.2: a property that may be given once is repeated";
    PROPERTY_VALUE = "MQTT5 sections 3.1.2.11 to 3.15.2.2: the value of a property is outside its range";
    RESPONSE_TOPIC_WILDCARD = "MQTT5-3.3.2-14: a response topic contains a wildcard";
    AUTH_DATA_WITHOUT_METHOD = "MQTT5 section 3.1.2.11.10: authentication data without a method";
}
