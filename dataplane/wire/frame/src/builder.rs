//! Writing a frame into a buffer.

use crate::field::FIELD_HEAD_BYTES;
use crate::{
    Class, FIELD_BYTES_MAX, FIXED_HEAD_BYTES, Field, FrameError, HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX,
    Tag, VERSION,
};

pub(crate) const FLAG_RETAIN: u8 = 1;

/// Appends one frame to a buffer: fixed header, then fields, then [`FrameBuilder::finish`] with the payload.
///
/// ```
/// use fulcrum_frame::{Class, Frame, FrameBuilder, Tag};
/// let mut out = Vec::new();
/// let mut frame = FrameBuilder::new(&mut out, Class::Event, 1, 1_700_000_000_000);
/// frame.text(Tag::Tenant, "acme").text(Tag::Device, "pump-7");
/// frame.finish(b"21.5").unwrap();
/// assert_eq!(Frame::parse(&out).unwrap().device(), Some("pump-7"));
/// ```
pub struct FrameBuilder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    error: Option<FrameError>,
}

impl<'a> FrameBuilder<'a> {
    /// Begins a frame at the end of `out`. `created_ms` is in milliseconds since the Unix epoch.
    pub fn new(out: &'a mut Vec<u8>, class: Class, qos: u8, created_ms: u64) -> FrameBuilder<'a> {
        let start = out.len();
        out.extend_from_slice(&[VERSION, class as u8, qos, 0]);
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&created_ms.to_le_bytes());
        let error = (qos > 2).then_some(FrameError::Qos(qos));
        FrameBuilder { out, start, error }
    }

    /// Adds a text field; an empty value is left out.
    pub fn text(&mut self, tag: Tag, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.field(tag as u8, &[value.as_bytes()]);
        }
        self
    }

    /// Adds the status of a command response or delivery.
    pub fn status(&mut self, status: u16) -> &mut Self {
        self.field(Tag::Status as u8, &[&status.to_le_bytes()]);
        self
    }

    /// Adds a field of any bytes, an empty one too.
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) -> &mut Self {
        self.field(tag as u8, &[value]);
        self
    }

    /// Adds a field of another frame as it is there.
    pub fn field_as_is(&mut self, field: Field<'_>) -> &mut Self {
        self.field(field.tag, &[field.value]);
        self
    }

    /// Adds an application property.
    pub fn property(&mut self, key: &str, value: &str) -> &mut Self {
        match (u8::try_from(key.len()), u16::try_from(key.len())) {
            (Ok(key_bytes), _) => {
                self.field(Tag::Property as u8, &[&[key_bytes], key.as_bytes(), value.as_bytes()]);
            }
            (_, Ok(key_bytes)) => {
                let key_bytes = key_bytes.to_le_bytes();
                let parts = [&key_bytes[..], key.as_bytes(), value.as_bytes()];
                self.field(Tag::LongProperty as u8, &parts);
            }
            _ => self.refuse("property key", key.len(), usize::from(u16::MAX)),
        }
        self
    }

    /// Marks the message as one to retain.
    pub fn retain(&mut self, retain: bool) -> &mut Self {
        if retain {
            self.out[self.start + 3] |= FLAG_RETAIN;
        }
        self
    }

    /// Sets the time to live in seconds; `None` and 0 mean no limit.
    pub fn ttl_s(&mut self, ttl_s: Option<u32>) -> &mut Self {
        let at = self.start + 12;
        self.out[at..at + 4].copy_from_slice(&ttl_s.unwrap_or(0).to_le_bytes());
        self
    }

    /// Writes the lengths and the payload. On an error the buffer is as it was before [`FrameBuilder::new`].
    pub fn finish(mut self, payload: &[u8]) -> Result<(), FrameError> {
        let head_bytes = self.out.len() - self.start;
        if head_bytes > HEAD_BYTES_MAX {
            self.refuse("head", head_bytes, HEAD_BYTES_MAX);
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            self.refuse("payload", payload.len(), PAYLOAD_BYTES_MAX);
        }
        if let Some(error) = self.error {
            self.out.truncate(self.start);
            return Err(error);
        }
        debug_assert!(head_bytes >= FIXED_HEAD_BYTES);
        // Both fit: they were compared with limits far below u32::MAX.
        let lengths = [head_bytes as u32, payload.len() as u32];
        for (index, length) in lengths.into_iter().enumerate() {
            let at = self.start + 4 + 4 * index;
            self.out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        self.out.extend_from_slice(payload);
        Ok(())
    }

    fn field(&mut self, tag: u8, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let head_bytes = self.out.len() - self.start;
        if bytes > FIELD_BYTES_MAX || head_bytes + FIELD_HEAD_BYTES + bytes > HEAD_BYTES_MAX {
            self.refuse("field", bytes, FIELD_BYTES_MAX.min(HEAD_BYTES_MAX));
            return;
        }
        self.out.push(tag);
        self.out.extend_from_slice(&(bytes as u16).to_le_bytes());
        for part in parts {
            self.out.extend_from_slice(part);
        }
    }

    /// Keeps the first error for [`FrameBuilder::finish`].
    fn refuse(&mut self, what: &'static str, bytes: usize, max: usize) {
        self.error.get_or_insert(FrameError::TooLong { what, bytes, max });
    }
}
