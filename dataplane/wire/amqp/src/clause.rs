//! What a peer can break, each with the clause of the OASIS AMQP 1.0 specification that forbids it.
//!
//! The constants are the only values `clause` has in [`crate::DecodeError`] and
//! [`crate::EncodeError`], so tests compare against them.

macro_rules! clauses {
    ($($name:ident = $text:literal;)*) => {
        $(#[doc = $text] pub const $name: &str = $text;)*
        /// Every clause with the name of its constant, for tables and tests.
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

clauses! {
    VALUE_PAST_END = "part 1, 1.2: a value runs past the end of what holds it";
    CONSTRUCTOR_UNKNOWN = "part 1, 1.6: a format code is none of the specification";
    BOOLEAN_OCTET = "part 1, 1.6.2: a boolean's octet is neither 0 nor 1";
    CHAR_SCALAR = "part 1, 1.6.16: a char is not a Unicode character";
    STRING_UTF8 = "part 1, 1.6.20: a string is not UTF-8";
    SYMBOL_ASCII = "part 1, 1.6.21: a symbol is not ASCII";
    COMPOUND_COUNT = "part 1, 1.2.3: a list or map announces more items than it has bytes";
    COMPOUND_TRAILING = "part 1, 1.2.3: bytes follow the last item of a list or map";
    MAP_ODD = "part 1, 1.6.23: a map has a key without a value";
    ARRAY_COUNT = "part 1, 1.2.4: an array announces more elements than it has bytes";
    ARRAY_TRAILING = "part 1, 1.2.4: bytes follow the last element of an array";
    DESCRIPTOR_RESERVED = "part 1, 1.5: a descriptor is neither a symbol nor a ulong";
    ARRAY_MIXED = "part 1, 1.2.4: the elements of an array are of different types";

    DEPTH = "limits VALUE_DEPTH_MAX: a value is nested too deep";
    ARRAY_ZERO_WIDTH = "limits ARRAY_ZERO_WIDTH_COUNT_MAX: an array of nothing has too many elements";

    COMPOSITE_NOT_DESCRIBED = "part 1, 1.4: a composite is not a described list";
    COMPOSITE_UNKNOWN = "part 1, 1.5: a descriptor is not one that can stand here";
    FIELDS_TOO_MANY = "part 1, 1.4: a composite has more fields than its type";
    FIELD_MISSING = "part 1, 1.4: a mandatory field is null or absent";
    FIELD_TYPE = "part 1, 1.4: a field is not of its type";
    FIELD_CHOICE = "part 1, 1.3: a field has a value that is none of its choices";
    FIELDS_KEY = "part 2, 2.8.13: a key of a map of fields is not a symbol";

    PROTOCOL_HEADER = "part 2, 2.2: the connection does not begin with an AMQP protocol header";
    FRAME_SIZE = "part 2, 2.3.1: a frame is smaller than its header";
    FRAME_DATA_OFFSET = "part 2, 2.3.1: the data offset of a frame points into its header or behind its end";
    FRAME_TYPE = "part 2, 2.3.1: the type of a frame is not the one of this layer";
    PERFORMATIVE_UNKNOWN = "part 2, 2.7: the body of a frame is no performative";
    PAYLOAD_MISPLACED = "part 2, 2.3.2: bytes follow a performative that has no payload";
    OPEN_FRAME_SIZE = "part 2, 2.7.1: max-frame-size is below 512";
    ATTACH_DELIVERY_COUNT = "part 2, 2.7.3: a sender attaches without initial-delivery-count";
    FLOW_HANDLE = "part 2, 2.7.4: a flow has a link's state but no handle";
    DELIVERY_TAG = "part 2, 2.8.7: a delivery tag is longer than 32 octets";

    SECTION_UNKNOWN = "part 3, 3.2: a message has a section that is none of the specification";
    SECTION_ORDER = "part 3, 3.2: the sections of a message are out of order or repeated";
    SECTION_TYPE = "part 3, 3.2: a section of a message is not of its type";
    ANNOTATIONS_KEY = "part 3, 3.2.10: a key of annotations is neither a symbol nor a ulong";
    APPLICATION_PROPERTIES_KEY = "part 3, 3.2.5: a key of application-properties is not a string";
    APPLICATION_PROPERTIES_VALUE = "part 3, 3.2.5: a value of application-properties is a list, map or array";
    MESSAGE_ID = "part 3, 3.2.11 to 3.2.14: a message-id is none of ulong, uuid, binary, string";
    ADDRESS = "part 3, 3.2.15: an address is not a string";
    FILTER_SET = "part 3, 3.5.8: a filter has a key that is no symbol, or a value that is not described";

    SASL_MECHANISMS_EMPTY = "part 5, 5.3.3.1: a server offers no SASL mechanism";
    SASL_FRAME_EMPTY = "part 5, 5.3.1: a SASL frame without a body";
}
