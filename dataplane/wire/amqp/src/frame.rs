//! Frames: how a connection's bytes are cut (part 2, 2.3; of SASL part 5, 5.3.1).
//!
//! ```text
//!  0        4      5      6         8               4 x doff
//!  | size   | doff | type | channel | extended header | performative | payload |
//! ```

use crate::clause;
use crate::definitions::require;
use crate::error::{DecodeError, EncodeError, framing};
use crate::limits::{FRAME_HEADER_BYTES, SASL_FRAME_BYTES_MAX};
use crate::performative::{Performative, Transfer, without_payload};
use crate::sasl::Sasl;
use crate::value::read::Reader;

const TYPE_AMQP: u8 = 0;
const TYPE_SASL: u8 = 1;

/// The data offset counts words of four bytes; the frame header is two of them.
const WORD_BYTES: usize = 4;

/// What the decoder has to know about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameContext {
    /// Which protocol header was agreed on last.
    pub layer: Layer,
    /// Largest frame accepted, header included: 512 until an open said more.
    pub frame_bytes_max: usize,
}

impl FrameContext {
    /// While SASL speaks. Its frames cannot be larger than 512 bytes; whose clients have longer
    /// credentials may accept more.
    pub const SASL: Self = Self { layer: Layer::Sasl, frame_bytes_max: SASL_FRAME_BYTES_MAX };

    /// After the protocol header of AMQP.
    pub const fn amqp(frame_bytes_max: usize) -> Self {
        Self { layer: Layer::Amqp, frame_bytes_max }
    }
}

/// Whose frames are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Those of SASL (part 5, 5.3).
    Sasl,
    /// Those of AMQP (part 2).
    Amqp,
}

/// What the front of a buffer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame.
    Frame {
        /// The frame, borrowing from the buffer.
        frame: Frame<'a>,
        /// How many bytes it has: the next frame begins behind them.
        used: usize,
    },
    /// The beginning of a frame.
    NeedMore {
        /// The size the buffer must have before another call can get further. The exact size of
        /// the frame once its header is there.
        at_least: usize,
    },
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Nothing but a sign of life (part 2, 2.4.5).
    Empty {
        /// Means nothing.
        channel: u16,
    },
    /// A performative (part 2, 2.3.2).
    Amqp {
        /// The session's channel.
        channel: u16,
        /// What it says.
        performative: Performative<'a>,
        /// What follows it: the message of a transfer, untouched. Empty behind all others.
        payload: &'a [u8],
    },
    /// One of SASL's (part 5, 5.3.1).
    Sasl(Sasl<'a>),
}

/// Decodes one frame from the front of `bytes`. Size, data offset and type are checked before the
/// body has to be there, so nobody can make a connection buffer what will be refused anyway.
///
/// # Errors
/// The connection is beyond repair, see [`DecodeError`].
pub fn decode_frame<'a>(
    bytes: &'a [u8],
    context: &FrameContext,
) -> Result<Decoded<'a>, DecodeError> {
    let Some(header) = FrameHeader::decode(bytes, context)? else {
        return Ok(Decoded::NeedMore { at_least: FRAME_HEADER_BYTES.max(bytes.len() + 1) });
    };
    let Some(frame) = bytes.get(..header.size) else {
        return Ok(Decoded::NeedMore { at_least: header.size });
    };
    let body = &frame[header.data_offset..];
    let frame = match context.layer {
        Layer::Amqp => amqp(header.channel, body)?,
        Layer::Sasl => sasl(body)?,
    };
    Ok(Decoded::Frame { frame, used: header.size })
}

fn amqp(channel: u16, body: &[u8]) -> Result<Frame<'_>, DecodeError> {
    if body.is_empty() {
        return Ok(Frame::Empty { channel });
    }
    let mut reader = Reader::new(body);
    let performative = Performative::read(&mut reader)?;
    if !matches!(performative, Performative::Transfer(_)) {
        without_payload(&reader)?;
    }
    Ok(Frame::Amqp { channel, performative, payload: reader.rest() })
}

fn sasl(body: &[u8]) -> Result<Frame<'_>, DecodeError> {
    if body.is_empty() {
        return Err(framing(clause::SASL_FRAME_EMPTY));
    }
    let mut reader = Reader::new(body);
    let sasl = Sasl::read(&mut reader)?;
    without_payload(&reader)?;
    Ok(Frame::Sasl(sasl))
}

struct FrameHeader {
    size: usize,
    data_offset: usize,
    channel: u16,
}

impl FrameHeader {
    /// Reads a frame header (part 2, 2.3.1). What is there of it is judged at once.
    fn decode(bytes: &[u8], context: &FrameContext) -> Result<Option<Self>, DecodeError> {
        let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        if size < FRAME_HEADER_BYTES {
            return Err(framing(clause::FRAME_SIZE));
        }
        if size > context.frame_bytes_max {
            return Err(DecodeError::FrameTooLarge { bytes: size, max: context.frame_bytes_max });
        }
        let Some((&words, rest)) = rest.split_first() else { return Ok(None) };
        let data_offset = usize::from(words) * WORD_BYTES;
        if data_offset < FRAME_HEADER_BYTES || data_offset > size {
            return Err(framing(clause::FRAME_DATA_OFFSET));
        }
        let Some((&frame_type, rest)) = rest.split_first() else { return Ok(None) };
        let expected = match context.layer {
            Layer::Amqp => TYPE_AMQP,
            Layer::Sasl => TYPE_SASL,
        };
        if frame_type != expected {
            return Err(framing(clause::FRAME_TYPE));
        }
        // Of a SASL frame, these two bytes are ignored (part 5, 5.3.1).
        let Some(channel) = rest.first_chunk() else { return Ok(None) };
        Ok(Some(Self { size, data_offset, channel: u16::from_be_bytes(*channel) }))
    }
}

/// Appends a frame.
///
/// # Errors
/// It is larger than `frame_bytes_max`, which is what the peer's open said, or cannot be; nothing
/// was appended.
pub fn encode_frame(
    frame: &Frame<'_>,
    frame_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match frame {
        Frame::Empty { channel } => write(TYPE_AMQP, *channel, frame_bytes_max, out, |_| Ok(())),
        Frame::Amqp { channel, performative, payload } => {
            write(TYPE_AMQP, *channel, frame_bytes_max, out, |out| {
                let is_transfer = matches!(performative, Performative::Transfer(_));
                require(is_transfer || payload.is_empty(), clause::PAYLOAD_MISPLACED)?;
                performative.write(out)?;
                out.extend_from_slice(payload);
                Ok(())
            })
        }
        Frame::Sasl(sasl) => write(TYPE_SASL, 0, frame_bytes_max, out, |out| sasl.write(out)),
    }
}

/// Appends a frame with a transfer and its payload in pieces, such as the sections of a message
/// that are new and the ones that are passed on.
///
/// # Errors
/// As [`encode_frame`].
pub fn encode_transfer(
    channel: u16,
    transfer: &Transfer<'_>,
    payload: &[&[u8]],
    frame_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    write(TYPE_AMQP, channel, frame_bytes_max, out, |out| {
        crate::composite::Composite::write_composite(transfer, out)?;
        payload.iter().for_each(|piece| out.extend_from_slice(piece));
        Ok(())
    })
}

/// Appends a frame whose body `write_body` appends.
fn write(
    frame_type: u8,
    channel: u16,
    frame_bytes_max: usize,
    out: &mut Vec<u8>,
    write_body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend([0, 0, 0, 0, (FRAME_HEADER_BYTES / WORD_BYTES) as u8, frame_type]);
    out.extend(channel.to_be_bytes());
    let written = write_body(out).and_then(|()| {
        let bytes = out.len() - start;
        let max = frame_bytes_max;
        match u32::try_from(bytes) {
            Ok(size) if bytes <= max => {
                out[start..start + 4].copy_from_slice(&size.to_be_bytes());
                Ok(())
            }
            _ => Err(EncodeError::FrameTooLarge { bytes, max }),
        }
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}
