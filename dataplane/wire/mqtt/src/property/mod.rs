//! The property block of MQTT 5 (section 2.2.2): a length, then identifier and value pairs.
//!
//! [`Properties`] is a validated view of a block: every property is known, permitted in its packet,
//! given no more often than allowed, and has a legal value. [`PropertyBuffer`] builds one for
//! sending. 3.1.1 packets have the empty block, so sessions need no second code path.

pub(crate) mod value;

use std::fmt;

use crate::clause;
use crate::error::{DecodeError, EncodeError, malformed, protocol};
use crate::limits::STRING_BYTES_MAX;
use crate::reader::Reader;
use value::Property;

/// Whose property block it is: which properties are permitted depends on it (MQTT 5 table 2-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the packets of MQTT 5, and the will inside CONNECT")]
pub enum PropertyOwner {
    Connect,
    Will,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    Disconnect,
    Auth,
}

impl PropertyOwner {
    /// Every owner, for tables and tests.
    pub const ALL: [Self; 14] = [
        Self::Connect,
        Self::Will,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::Disconnect,
        Self::Auth,
    ];
}

/// A validated property block. Empty for every 3.1.1 packet.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    /// The block without properties.
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// Whether there are no properties.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The properties in the order they were sent.
    pub fn iter(&self) -> PropertyIter<'a> {
        PropertyIter { reader: Reader::new(self.raw) }
    }

    /// The encoded properties without the length in front of them.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Reads a block: its length, then properties that are checked one by one.
    pub(crate) fn read(reader: &mut Reader<'a>, owner: PropertyOwner) -> Result<Self, DecodeError> {
        let length = reader.variable_length()?;
        let raw = reader.take(length)?;
        validate(raw, owner)?;
        Ok(Self { raw })
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over a property block. Cannot fail: the block was checked when it was read.
#[derive(Debug, Clone)]
pub struct PropertyIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        Property::read(&mut self.reader).ok()
    }
}

fn validate(raw: &[u8], owner: PropertyOwner) -> Result<(), DecodeError> {
    let mut reader = Reader::new(raw);
    let mut seen = Seen::default();
    while !reader.is_empty() {
        let property = Property::read(&mut reader)?;
        seen.add(&property, owner)?;
    }
    seen.finish()
}

/// Which identifiers a block has so far: one bit each, identifiers end at 0x2A.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    identifiers: u64,
}

impl Seen {
    fn add(&mut self, property: &Property<'_>, owner: PropertyOwner) -> Result<(), DecodeError> {
        if !property.is_permitted_in(owner) {
            return Err(malformed(clause::PROPERTY_MISPLACED));
        }
        let bit = 1u64 << property.identifier();
        if self.identifiers & bit != 0 && !property.may_repeat_in(owner) {
            return Err(protocol(clause::PROPERTY_REPEATED));
        }
        self.identifiers |= bit;
        Ok(())
    }

    /// The rule that spans two properties: authentication data belongs to a method.
    fn finish(self) -> Result<(), DecodeError> {
        let (method, data) = (1u64 << 0x15, 1u64 << 0x16);
        if self.identifiers & data != 0 && self.identifiers & method == 0 {
            return Err(protocol(clause::AUTH_DATA_WITHOUT_METHOD));
        }
        Ok(())
    }
}

/// Builds a property block for a packet that is to be sent.
#[derive(Debug, Clone)]
pub struct PropertyBuffer {
    owner: PropertyOwner,
    seen: Seen,
    bytes: Vec<u8>,
}

impl PropertyBuffer {
    /// An empty block for a packet of that kind.
    pub fn new(owner: PropertyOwner) -> Self {
        Self { owner, seen: Seen::default(), bytes: Vec::new() }
    }

    /// Appends a property. Refuses what the peer would have to refuse: a property that is not
    /// permitted in this packet, repeated, too long, or has a value out of range. Authentication
    /// data must come after its method.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), EncodeError> {
        if let Some(bytes) = property.longest_field().filter(|bytes| *bytes > STRING_BYTES_MAX) {
            return Err(EncodeError::FieldTooLong { bytes });
        }
        let mut seen = self.seen;
        let start = self.bytes.len();
        property.write(&mut self.bytes);
        // Reading back what was written applies every rule of the decoder, so the two cannot drift.
        let verdict = Property::read(&mut Reader::new(&self.bytes[start..]))
            .and_then(|_| seen.add(&property, self.owner))
            .and_then(|()| seen.finish());
        match verdict {
            Ok(()) => {
                self.seen = seen;
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                let clause = error.clause().unwrap_or(clause::PROPERTY_VALUE);
                Err(EncodeError::Invalid { clause })
            }
        }
    }

    /// The block as it goes into a packet.
    pub fn properties(&self) -> Properties<'_> {
        Properties { raw: &self.bytes }
    }
}
