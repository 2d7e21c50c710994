//! Writes messages (part 3, 3.2): a new one from its parts, or one that is passed on with the
//! sections that those on the way may change.

use crate::composite::Composite;
use crate::definitions::require;
use crate::descriptor;
use crate::error::EncodeError;
use crate::messaging::section::{Header, Properties, are_annotations, are_application_properties};
use crate::value::compound::{List, Map};
use crate::value::{Value, format, write};

/// The parts of a message. Sections that say nothing are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageParts<'a> {
    /// 3.2.1.
    pub header: Header,
    /// 3.2.2.
    pub delivery_annotations: Map<'a>,
    /// 3.2.3.
    pub message_annotations: Map<'a>,
    /// 3.2.4.
    pub properties: Properties<'a>,
    /// 3.2.5.
    pub application_properties: Map<'a>,
    /// What it is about.
    pub body: Body<'a>,
    /// 3.2.9.
    pub footer: Map<'a>,
}

/// The body of a message that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body<'a> {
    /// None.
    #[default]
    Empty,
    /// A data section for each piece (3.2.6).
    Data(&'a [&'a [u8]]),
    /// A sequence section for each list (3.2.7).
    Sequences(&'a [List<'a>]),
    /// A value (3.2.8).
    Value(Value<'a>),
}

impl MessageParts<'_> {
    /// Appends the message.
    ///
    /// # Errors
    /// A part is too long, or a map has keys or values it must not have; nothing was appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        whole(out, |out| {
            self.write_head(out)?;
            if self.properties != Properties::default() {
                self.properties.write_composite(out)?;
            }
            if !self.application_properties.is_empty() {
                held(are_application_properties(self.application_properties))?;
                let map = Value::Map(self.application_properties);
                section(descriptor::APPLICATION_PROPERTIES, &map, out)?;
            }
            self.write_body(out)?;
            annotations(descriptor::FOOTER, self.footer, out)
        })
    }

    fn write_head(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.header != Header::default() {
            self.header.write_composite(out)?;
        }
        annotations(descriptor::DELIVERY_ANNOTATIONS, self.delivery_annotations, out)?;
        annotations(descriptor::MESSAGE_ANNOTATIONS, self.message_annotations, out)
    }

    fn write_body(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.body {
            Body::Empty => Ok(()),
            Body::Data(pieces) => pieces
                .iter()
                .try_for_each(|piece| section(descriptor::DATA, &Value::Binary(piece), out)),
            Body::Sequences(lists) => lists
                .iter()
                .try_for_each(|list| section(descriptor::AMQP_SEQUENCE, &Value::List(*list), out)),
            Body::Value(value) => section(descriptor::AMQP_VALUE, &value, out),
        }
    }
}

/// Appends a header section (3.2.1). In front of the bare bytes of a message it passes that on.
pub fn encode_header(header: &Header, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    whole(out, |out| header.write_composite(out))
}

/// Appends a section of delivery annotations (3.2.2); nothing if there are none.
///
/// # Errors
/// A key is neither symbol nor ulong, or they are too long; nothing was appended.
pub fn encode_delivery_annotations(map: Map<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    whole(out, |out| annotations(descriptor::DELIVERY_ANNOTATIONS, map, out))
}

/// Appends a section of message annotations (3.2.3); nothing if there are none.
///
/// # Errors
/// A key is neither symbol nor ulong, or they are too long; nothing was appended.
pub fn encode_message_annotations(map: Map<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    whole(out, |out| annotations(descriptor::MESSAGE_ANNOTATIONS, map, out))
}

fn annotations(code: u64, map: Map<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if map.is_empty() {
        return Ok(());
    }
    held(are_annotations(map))?;
    section(code, &Value::Map(map), out)
}

fn section(code: u64, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(format::DESCRIBED);
    write::ulong(code, out);
    write::value(value, out)
}

fn held(checked: Result<(), &'static str>) -> Result<(), EncodeError> {
    checked.or_else(|clause| require(false, clause))
}

/// Appends what `write` writes, or nothing if it fails.
fn whole(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write(out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}
