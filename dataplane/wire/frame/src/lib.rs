//! The message frame: one binary envelope in front of an untouched payload.
//!
//! ```text
//!  0        1      2     3       4            8             12        16            24
//!  ┌────────┬──────┬─────┬───────┬────────────┬─────────────┬─────────┬─────────────┬──────────┬─────────┐
//!  │version │class │ qos │ flags │ head bytes │payload bytes│ ttl (s) │ created (ms)│ fields … │ payload │
//!  └────────┴──────┴─────┴───────┴────────────┴─────────────┴─────────┴─────────────┴──────────┴─────────┘
//!   field: tag (1 byte) · length (2 bytes) · value          all integers little-endian
//! ```
//!
//! The same bytes are routed between shards, written to the journal, shipped to the cloud and kept there: a frame is
//! encoded once, where the message enters the platform. A reader skips fields whose tag it does not know and passes
//! the bytes on, so a newer edge can talk through an older cloud.
//!
//! Invariant: [`Frame::parse`] accepts exactly the bytes of one frame and checks every length before it looks inside;
//! after it succeeded no accessor can fail.
//!
//! Deliberately absent: compression and encryption (a batch is compressed, a segment is encrypted, a frame is neither).

mod builder;
mod field;

pub use builder::FrameBuilder;
pub use field::{Field, Tag};

/// Bytes of the fixed header.
pub const FIXED_HEAD_BYTES: usize = 24;
/// The version this crate writes.
pub const VERSION: u8 = 1;
/// Longest head (fixed header and fields) of one frame, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Largest payload of one frame, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest value of one field, in bytes; its length is a `u16`.
pub const FIELD_BYTES_MAX: usize = u16::MAX as usize;

/// What kind of message a frame carries; decides whether it is stored before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// Direct: accepted only while a consumer takes it.
    Telemetry = 1,
    /// Stored: acknowledged after it is on disk.
    Event = 2,
    /// To a device.
    Command = 3,
    /// From a device, answering a command; stored.
    CommandResponse = 4,
    /// From an edge node, telling what became of a command; stored.
    CommandStatus = 5,
    /// Between clients of a tenant, at an address the tenant has declared; stored for whoever is away.
    Message = 6,
    /// What a shard writes down about itself; never leaves the node.
    Internal = 7,
}

impl Class {
    /// Whether a message of this class is written to the journal before its producer is answered.
    pub fn is_stored(self) -> bool {
        matches!(self, Class::Event | Class::CommandResponse | Class::CommandStatus)
    }

    /// The class's name in metrics, logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Telemetry => "telemetry",
            Class::Event => "event",
            Class::Command => "command",
            Class::CommandResponse => "command_response",
            Class::CommandStatus => "command_status",
            Class::Message => "message",
            Class::Internal => "internal",
        }
    }

    fn from_byte(byte: u8) -> Option<Class> {
        Some(match byte {
            1 => Class::Telemetry,
            2 => Class::Event,
            3 => Class::Command,
            4 => Class::CommandResponse,
            5 => Class::CommandStatus,
            6 => Class::Message,
            7 => Class::Internal,
            _ => return None,
        })
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the lengths in the header promise.
    #[error("the frame ends after {found} bytes, its header promises {wanted}")]
    Short {
        /// Bytes given.
        found: usize,
        /// Bytes the header asks for.
        wanted: usize,
    },
    /// Bytes behind the payload.
    #[error("{0} bytes follow the frame's payload")]
    Trailing(usize),
    /// A version this code cannot read.
    #[error("frame version {0} is not known here; upgrade this side")]
    Version(u8),
    /// A class byte without meaning.
    #[error("{0} is not a message class")]
    Class(u8),
    /// A quality of service above 2.
    #[error("{0} is not a quality of service")]
    Qos(u8),
    /// A length above its limit.
    #[error("{what} of {bytes} bytes is above the limit of {max}")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A field's length runs over the end of the head.
    #[error("a field at byte {0} runs over the end of the head")]
    Field(usize),
    /// A field that is text in this version is not UTF-8.
    #[error("the field with tag {0} is not UTF-8")]
    Text(u8),
}

/// A parsed frame, borrowing its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    head_bytes: usize,
    class: Class,
}

impl<'a> Frame<'a> {
    /// Parses `bytes`, which must hold exactly one frame.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let short = |wanted| FrameError::Short { found: bytes.len(), wanted };
        let fixed: &[u8; FIXED_HEAD_BYTES] = bytes.first_chunk().ok_or(short(FIXED_HEAD_BYTES))?;
        if fixed[0] != VERSION {
            return Err(FrameError::Version(fixed[0]));
        }
        let class = Class::from_byte(fixed[1]).ok_or(FrameError::Class(fixed[1]))?;
        if fixed[2] > 2 {
            return Err(FrameError::Qos(fixed[2]));
        }
        let head_bytes = u32_at(fixed, 4) as usize;
        let payload_bytes = u32_at(fixed, 8) as usize;
        if !(FIXED_HEAD_BYTES..=HEAD_BYTES_MAX).contains(&head_bytes) {
            return Err(FrameError::TooLong {
                what: "head",
                bytes: head_bytes,
                max: HEAD_BYTES_MAX,
            });
        }
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong {
                what: "payload",
                bytes: payload_bytes,
                max: PAYLOAD_BYTES_MAX,
            });
        }
        let wanted = head_bytes + payload_bytes;
        match bytes.len() {
            found if found < wanted => return Err(short(wanted)),
            found if found > wanted => return Err(FrameError::Trailing(found - wanted)),
            _ => {}
        }
        field::check(&bytes[..head_bytes])?;
        Ok(Frame { bytes, head_bytes, class })
    }

    /// The message's class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Quality of service asked for by the producer: 0, 1 or 2.
    pub fn qos(&self) -> u8 {
        self.bytes[2]
    }

    /// Whether the producer asked to retain the message.
    pub fn retain(&self) -> bool {
        self.bytes[3] & builder::FLAG_RETAIN != 0
    }

    /// Time to live in seconds from [`Frame::created_ms`]; `None` means no limit.
    pub fn ttl_s(&self) -> Option<u32> {
        Some(u32_at(self.bytes, 12)).filter(|ttl| *ttl != 0)
    }

    /// Creation time in milliseconds since the Unix epoch, by the clock of the node that took the message in.
    pub fn created_ms(&self) -> u64 {
        u64_at(self.bytes, 16)
    }

    /// The payload, untouched.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.head_bytes..]
    }

    /// The whole frame's bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All fields in the order they were written, unknown ones included.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        field::iterate(&self.bytes[..self.head_bytes])
    }

    /// The first field with `tag` as text.
    pub fn text(&self, tag: Tag) -> Option<&'a str> {
        self.fields().find(|field| field.tag == tag as u8).and_then(|field| field.as_text())
    }

    /// Tenant the message belongs to.
    pub fn tenant(&self) -> Option<&'a str> {
        self.text(Tag::Tenant)
    }

    /// Device the message comes from or goes to.
    pub fn device(&self) -> Option<&'a str> {
        self.text(Tag::Device)
    }

    /// Status of a command response or of a command's delivery.
    pub fn status(&self) -> Option<u16> {
        let field = self.fields().find(|field| field.tag == Tag::Status as u8)?;
        Some(u16::from_le_bytes(*field.value.first_chunk()?))
    }

    /// The first field with `tag`, as it is.
    pub fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        self.fields().find(|field| field.tag == tag as u8).map(|field| field.value)
    }

    /// Application properties as key and value.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.fields().filter_map(|field| field.as_property())
    }
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("class", &self.class)
            .field("qos", &self.qos())
            .field("tenant", &self.tenant())
            .field("device", &self.device())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests;
