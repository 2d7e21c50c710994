//! Messages (part 3, 3.2): where their sections are, and what they say.
//!
//! [`Message::parse`] goes over the bytes once, from section to section by their sizes, and keeps
//! where each is. What a section says is read when it is asked for, and checked then; so a message
//! that is only passed on costs its section heads, and its bytes stay what they were.
//!
//! A message may have no body. The specification wants one, but common clients send none where they
//! have nothing to say, and whoever passes a message on has no reason to mind.

use std::fmt;

use crate::clause;
use crate::composite::{self, Composite};
use crate::descriptor;
use crate::error::{DecodeError, malformed};
use crate::messaging::section::{Header, Properties, are_annotations, are_application_properties};
use crate::value::compound::{List, Map};
use crate::value::read::{self, Reader, Walk};
use crate::value::{Value, format};

/// A message's sections: they are neighbours, so where each ends is all there is to know. Empty is
/// one that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Message<'a> {
    bytes: &'a [u8],
    ends: [usize; Place::COUNT],
    kind: BodyKind,
}

/// The sections in their order (3.2). What a body is made of is one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Header,
    DeliveryAnnotations,
    MessageAnnotations,
    Properties,
    ApplicationProperties,
    Body,
    Footer,
}

impl Place {
    const COUNT: usize = 7;
}

/// What a body is made of (3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyKind {
    /// There is none.
    #[default]
    Empty,
    /// Data sections (3.2.6).
    Data,
    /// Sequence sections (3.2.7).
    Sequence,
    /// A value (3.2.8).
    Value,
}

/// What was read from the front of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix<'a> {
    /// The sections that are whole.
    pub message: Message<'a>,
    /// Bytes of a section whose end is missing; empty if none is.
    pub rest: &'a [u8],
}

impl<'a> Message<'a> {
    /// Finds the sections of a whole message.
    ///
    /// # Errors
    /// The bytes are not sections, or these are out of order. What is in them was not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Prefix { message, rest } = Self::parse_prefix(bytes)?;
        if rest.is_empty() { Ok(message) } else { Err(malformed(clause::VALUE_PAST_END)) }
    }

    /// Finds the sections that are whole in the front of a message, which the first transfer of a
    /// delivery has while others are to come.
    ///
    /// # Errors
    /// As for a whole message; only that it ends too early is none.
    pub fn parse_prefix(bytes: &'a [u8]) -> Result<Prefix<'a>, DecodeError> {
        let mut message = Self { bytes, ..Self::default() };
        let mut reader = Reader::new(bytes);
        let mut last = None;
        while !reader.is_empty() {
            let rest = reader.rest();
            let (place, kind) = match section(&mut reader) {
                Ok(section) => section,
                Err(DecodeError::Malformed { clause: clause::VALUE_PAST_END, .. }) => {
                    return Ok(Prefix { message, rest });
                }
                Err(error) => return Err(error),
            };
            let goes_on = last == Some(Place::Body)
                && place == Place::Body
                && kind == message.kind
                && kind != BodyKind::Value;
            if Some(place) <= last && !goes_on {
                return Err(malformed(clause::SECTION_ORDER));
            }
            if place == Place::Body {
                message.kind = kind;
            }
            message.ends[place as usize..].fill(bytes.len() - reader.rest().len());
            last = Some(place);
        }
        Ok(Prefix { message, rest: &[] })
    }

    /// Checks every section to its last byte.
    ///
    /// # Errors
    /// One of them is not what it has to be.
    pub fn check(&self) -> Result<(), DecodeError> {
        self.header()?;
        self.delivery_annotations()?;
        self.message_annotations()?;
        self.properties()?;
        self.application_properties()?;
        self.sequences().try_for_each(|list| list.map(drop))?;
        self.value()?;
        self.footer()?;
        Ok(())
    }

    /// 3.2.1; that of a message without one has the defaults.
    ///
    /// # Errors
    /// It is not a header.
    pub fn header(&self) -> Result<Header, DecodeError> {
        fields(self.header_bytes()).map(Option::unwrap_or_default)
    }

    /// 3.2.2.
    ///
    /// # Errors
    /// They are no annotations.
    pub fn delivery_annotations(&self) -> Result<Map<'a>, DecodeError> {
        map(self.delivery_annotations_bytes(), are_annotations)
    }

    /// 3.2.3.
    ///
    /// # Errors
    /// They are no annotations.
    pub fn message_annotations(&self) -> Result<Map<'a>, DecodeError> {
        map(self.message_annotations_bytes(), are_annotations)
    }

    /// 3.2.4; of a message without them, none is set.
    ///
    /// # Errors
    /// They are no properties.
    pub fn properties(&self) -> Result<Properties<'a>, DecodeError> {
        fields(self.properties_bytes()).map(Option::unwrap_or_default)
    }

    /// 3.2.5.
    ///
    /// # Errors
    /// They are no application properties.
    pub fn application_properties(&self) -> Result<Map<'a>, DecodeError> {
        map(self.application_properties_bytes(), are_application_properties)
    }

    /// 3.2.9.
    ///
    /// # Errors
    /// It is no footer.
    pub fn footer(&self) -> Result<Map<'a>, DecodeError> {
        map(self.footer_bytes(), are_annotations)
    }

    /// What the body is made of.
    pub fn body_kind(&self) -> BodyKind {
        self.kind
    }

    /// The data sections of the body, in order; none if it is made of something else.
    pub fn data(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.sections(BodyKind::Data).map(|value| match value {
            Ok(Value::Binary(bytes)) => bytes,
            // Whether the section is binary was looked at when it was found.
            _ => &[],
        })
    }

    /// The sequence sections of the body, in order; none if it is made of something else. Each is
    /// checked when it is its turn.
    pub fn sequences(
        &self,
    ) -> impl Iterator<Item = Result<List<'a>, DecodeError>> + Clone + use<'a> {
        self.sections(BodyKind::Sequence).map(|value| match value? {
            Value::List(list) => Ok(list),
            _ => Err(malformed(clause::SECTION_TYPE)),
        })
    }

    /// The value the body is, if it is one.
    ///
    /// # Errors
    /// It is none.
    pub fn value(&self) -> Result<Option<Value<'a>>, DecodeError> {
        self.sections(BodyKind::Value).next().transpose()
    }

    /// The bytes of the header section; empty if there is none, as for the others.
    pub fn header_bytes(&self) -> &'a [u8] {
        self.section(Place::Header)
    }

    /// The bytes of the delivery annotations' section.
    pub fn delivery_annotations_bytes(&self) -> &'a [u8] {
        self.section(Place::DeliveryAnnotations)
    }

    /// The bytes of the message annotations' section.
    pub fn message_annotations_bytes(&self) -> &'a [u8] {
        self.section(Place::MessageAnnotations)
    }

    /// The bytes of the properties' section.
    pub fn properties_bytes(&self) -> &'a [u8] {
        self.section(Place::Properties)
    }

    /// The bytes of the application properties' section.
    pub fn application_properties_bytes(&self) -> &'a [u8] {
        self.section(Place::ApplicationProperties)
    }

    /// The bytes of the body's sections.
    pub fn body_bytes(&self) -> &'a [u8] {
        self.section(Place::Body)
    }

    /// The bytes of the footer's section.
    pub fn footer_bytes(&self) -> &'a [u8] {
        self.section(Place::Footer)
    }

    /// The bare message: what nobody on the way may change (3.2). Properties, application
    /// properties, body.
    pub fn bare_bytes(&self) -> &'a [u8] {
        &self.bytes[self.ends[Place::MessageAnnotations as usize]..self.ends[Place::Body as usize]]
    }

    fn sections(
        &self,
        kind: BodyKind,
    ) -> impl Iterator<Item = Result<Value<'a>, DecodeError>> + Clone + use<'a> {
        let mut reader = Reader::new(if self.kind == kind { self.body_bytes() } else { &[] });
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let described = read::value(&mut reader, Walk::DEEP);
            if described.is_err() {
                reader = Reader::new(&[]);
            }
            Some(described.map(|value| match value {
                Value::Described(section) => section.value(),
                other => other,
            }))
        })
    }

    fn section(&self, place: Place) -> &'a [u8] {
        let end = self.ends[place as usize];
        let start = (place as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..end]
    }
}

/// Shows what is there and how long it is: what is in it is the application's.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("header", &self.header_bytes().len())
            .field("delivery_annotations", &self.delivery_annotations_bytes().len())
            .field("message_annotations", &self.message_annotations_bytes().len())
            .field("properties", &self.properties_bytes().len())
            .field("application_properties", &self.application_properties_bytes().len())
            .field("body", &self.body_bytes().len())
            .field("kind", &self.kind)
            .field("footer", &self.footer_bytes().len())
            .finish()
    }
}

/// Steps over one section: its descriptor says what it is, its format code has to be one of that.
fn section(reader: &mut Reader<'_>) -> Result<(Place, BodyKind), DecodeError> {
    if reader.byte()? != format::DESCRIBED {
        return Err(malformed(clause::SECTION_UNKNOWN));
    }
    let descriptor = read::descriptor(reader)?;
    let (place, kind) = match descriptor::code(descriptor) {
        Some(descriptor::HEADER) => (Place::Header, BodyKind::Empty),
        Some(descriptor::DELIVERY_ANNOTATIONS) => (Place::DeliveryAnnotations, BodyKind::Empty),
        Some(descriptor::MESSAGE_ANNOTATIONS) => (Place::MessageAnnotations, BodyKind::Empty),
        Some(descriptor::PROPERTIES) => (Place::Properties, BodyKind::Empty),
        Some(descriptor::APPLICATION_PROPERTIES) => (Place::ApplicationProperties, BodyKind::Empty),
        Some(descriptor::DATA) => (Place::Body, BodyKind::Data),
        Some(descriptor::AMQP_SEQUENCE) => (Place::Body, BodyKind::Sequence),
        Some(descriptor::AMQP_VALUE) => (Place::Body, BodyKind::Value),
        Some(descriptor::FOOTER) => (Place::Footer, BodyKind::Empty),
        _ => return Err(malformed(clause::SECTION_UNKNOWN)),
    };
    let body = read::encoded(reader, Walk::SHALLOW)?;
    let is_primitive = body.constructor.len() == 1;
    let is_permitted = match (place, kind) {
        (_, BodyKind::Value) => true,
        (_, BodyKind::Data) => matches!(body.code(), format::BINARY_8 | format::BINARY_32),
        (Place::Header | Place::Properties, _) | (_, BodyKind::Sequence) => {
            matches!(body.code(), format::LIST_0 | format::LIST_8 | format::LIST_32)
        }
        _ => matches!(body.code(), format::MAP_8 | format::MAP_32),
    };
    if is_permitted && (is_primitive || kind == BodyKind::Value) {
        Ok((place, kind))
    } else {
        Err(malformed(clause::SECTION_TYPE))
    }
}

/// The fields of a section, if it is there.
fn fields<'a, T: Composite<'a>>(section: &'a [u8]) -> Result<Option<T>, DecodeError> {
    if section.is_empty() {
        return Ok(None);
    }
    let (_, list, walk) = composite::head(&mut Reader::new(section))?;
    T::read(list, walk).map(Some)
}

/// The pairs of a section, of which there are none if it is not there.
fn map(
    section: &[u8],
    check: fn(Map<'_>) -> Result<(), &'static str>,
) -> Result<Map<'_>, DecodeError> {
    if section.is_empty() {
        return Ok(Map::EMPTY);
    }
    let Value::Described(described) = read::value(&mut Reader::new(section), Walk::DEEP)? else {
        return Err(malformed(clause::SECTION_UNKNOWN));
    };
    let Value::Map(map) = described.value() else { return Err(malformed(clause::SECTION_TYPE)) };
    check(map).map(|()| map).map_err(malformed)
}
