//! Fields behind the fixed header: tag, length, value. Unknown tags are carried along.

use crate::{FIXED_HEAD_BYTES, FrameError};

/// Bytes of a field's tag and length.
pub(crate) const FIELD_HEAD_BYTES: usize = 3;

/// Tags this version gives a meaning to. A tag's number never changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Tag {
    /// Tenant id.
    Tenant = 1,
    /// Device id.
    Device = 2,
    /// Address as the device spelled it: MQTT topic, HTTP path.
    OriginAddress = 3,
    /// Media type of the payload.
    ContentType = 4,
    /// Protocol adapter the message came through, in Hono's names (`hono-mqtt`, `hono-http`).
    OriginAdapter = 5,
    /// Gateway that acted for the device.
    Gateway = 6,
    /// Correlation id of a command and its response.
    Correlation = 7,
    /// Reply id of a command (the `{r}` of `command_response/{t}/{r}`).
    Reply = 8,
    /// Name of a command.
    Subject = 9,
    /// Status of a command response or delivery, `u16`.
    Status = 10,
    /// W3C `traceparent`.
    Trace = 11,
    /// Key length (`u8`), key, value: an application property.
    Property = 12,
    /// Key under which the producer repeats a message it is unsure of (HTTP `Idempotency-Key`).
    Idempotency = 13,
    /// Address a consumer may answer to (MQTT 5 Response Topic, AMQP reply-to).
    ReplyAddress = 14,
    /// Any bytes that tie an answer to its request (MQTT 5 Correlation Data).
    CorrelationData = 15,
    /// 1: the payload is UTF-8 text (MQTT 5 Payload Format Indicator); one byte.
    PayloadFormat = 16,
    /// Client that published the message, where its consumers must know (MQTT 5 No Local).
    Publisher = 17,
    /// Key length (`u16`, little endian), key, value: an application property whose key is longer than 255 bytes.
    LongProperty = 18,
}

/// One field of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Its tag, maybe unknown to this version.
    pub tag: u8,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.value).ok()
    }

    pub(crate) fn as_property(&self) -> Option<(&'a str, &'a str)> {
        let (key_bytes, rest) = match self.tag {
            tag if tag == Tag::Property as u8 => {
                let (key_bytes, rest) = self.value.split_first()?;
                (usize::from(*key_bytes), rest)
            }
            tag if tag == Tag::LongProperty as u8 => {
                let (key_bytes, rest) = self.value.split_first_chunk()?;
                (usize::from(u16::from_le_bytes(*key_bytes)), rest)
            }
            _ => return None,
        };
        let (key, value) = rest.split_at_checked(key_bytes)?;
        Some((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?))
    }
}

/// Walks the fields of a head that [`check`] accepted.
pub(crate) fn iterate<'a>(head: &'a [u8]) -> impl Iterator<Item = Field<'a>> + use<'a> {
    let mut rest = head.get(FIXED_HEAD_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (field, behind) = split(rest)?;
        rest = behind;
        Some(field)
    })
}

/// Checks that the fields of `head` fill it exactly and that text is text.
pub(crate) fn check(head: &[u8]) -> Result<(), FrameError> {
    let mut at = FIXED_HEAD_BYTES;
    while at < head.len() {
        let (field, _) = split(&head[at..]).ok_or(FrameError::Field(at))?;
        check_value(&field)?;
        at += FIELD_HEAD_BYTES + field.value.len();
    }
    Ok(())
}

fn check_value(field: &Field<'_>) -> Result<(), FrameError> {
    let sound = match field.tag {
        tag if tag == Tag::Status as u8 => field.value.len() == 2,
        tag if tag == Tag::Property as u8 || tag == Tag::LongProperty as u8 => {
            field.as_property().is_some()
        }
        tag if tag == Tag::PayloadFormat as u8 => field.value.len() == 1,
        tag if tag == Tag::CorrelationData as u8 => true,
        tag if tag >= Tag::Tenant as u8 && tag <= Tag::Publisher as u8 => field.as_text().is_some(),
        _ => true,
    };
    if sound { Ok(()) } else { Err(FrameError::Text(field.tag)) }
}

fn split(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let [tag, low, high] = *bytes.first_chunk::<FIELD_HEAD_BYTES>()?;
    let value_bytes = usize::from(u16::from_le_bytes([low, high]));
    let (value, behind) = bytes[FIELD_HEAD_BYTES..].split_at_checked(value_bytes)?;
    Some((Field { tag, value }, behind))
}
