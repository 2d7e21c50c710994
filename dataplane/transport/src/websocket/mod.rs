//! MQTT over WebSocket (RFC 6455, MQTT 5 section 6): the server's side of one connection.
//!
//! Message borders mean nothing to MQTT: packets may span and share frames [MQTT-6.0.0-2], so payload is
//! handed on as it arrives and nothing is gathered. Extensions are never agreed to. The Origin field is not
//! looked at: MQTT authenticates by its own credentials, not by what a browser adds unasked. A listener that
//! trusts client certificates of browsers must not also speak WebSocket to them.

mod close;
mod frame;
mod handshake;
mod mask;

use self::close::{Close, check_close_payload};
use self::frame::{FrameHeader, Opcode, ParsedHeader, parse_header, write_header};
use self::handshake::{Answer, RequestReader};
use self::mask::Mask;
use crate::limits::PONGS_QUEUED_BYTES_MAX;
use crate::{Progress, TransportError, WebSocketSettings};

const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

pub(crate) struct WebSocketSession {
    settings: WebSocketSettings,
    phase: Phase,
    /// The HTTP answer, pongs, the close frame.
    outgoing: Vec<u8>,
    /// How much of `outgoing` is the HTTP answer, which no pong may push out.
    answer_bytes: usize,
    close_sent: bool,
}

enum Phase {
    Request(RequestReader),
    Frames(Frames),
    Closed,
}

/// Where in the stream of frames the client is.
#[derive(Default)]
struct Frames {
    part: Part,
    /// Bytes of the message so far, and whether it goes on in another frame.
    message_bytes: u64,
    in_message: bool,
}

enum Part {
    /// Bytes of a header that is not complete.
    Header { bytes: [u8; FrameHeader::BYTES_MAX], length: u8 },
    /// A data frame's payload.
    Data { left: u64, mask: Mask, last: bool },
    /// A control frame, whose payload is gathered.
    Control { opcode: Opcode, left: usize, mask: Mask, payload: Vec<u8> },
}

impl Default for Part {
    fn default() -> Self {
        Self::Header { bytes: [0; FrameHeader::BYTES_MAX], length: 0 }
    }
}

impl WebSocketSession {
    pub(crate) fn new(settings: &WebSocketSettings) -> Self {
        Self {
            settings: settings.clone(),
            phase: Phase::Request(RequestReader::default()),
            outgoing: Vec::new(),
            answer_bytes: 0,
            close_sent: false,
        }
    }

    /// Takes the bytes of `plain` from `start` on and leaves the protocol's bytes there in their place.
    pub(crate) fn receive(
        &mut self,
        plain: &mut Vec<u8>,
        start: usize,
    ) -> Result<Progress, TransportError> {
        let mut read = start;
        if let Phase::Request(reader) = &mut self.phase {
            let answer = reader.receive(&plain[start..], &self.settings.path);
            match answer {
                Answer::NeedMore => {
                    plain.truncate(start);
                    return Ok(Progress::Open);
                }
                Answer::Accept { response, used } => {
                    self.answer_bytes = response.len();
                    self.outgoing = response;
                    self.phase = Phase::Frames(Frames::default());
                    read += used;
                }
                Answer::Refuse { response, status, reason } => {
                    self.outgoing = response;
                    self.phase = Phase::Closed;
                    plain.truncate(start);
                    return Err(TransportError::WebSocketRequest { status, reason });
                }
            }
        }
        let mut written = start;
        let result = self.read_frames(plain, read, &mut written);
        plain.truncate(written);
        match result {
            Ok(Some(close)) => {
                self.phase = Phase::Closed;
                self.send_close(close.answer());
                Ok(Progress::Finished)
            }
            Ok(None) if matches!(self.phase, Phase::Closed) => Ok(Progress::Finished),
            Ok(None) => Ok(Progress::Open),
            Err(error) => {
                self.phase = Phase::Closed;
                if let TransportError::WebSocket { code, .. } = &error {
                    self.send_close(Some(*code));
                }
                Err(error)
            }
        }
    }

    /// Reads `plain` from `read` on, writes payload to `written`, which never overtakes it.
    fn read_frames(
        &mut self,
        plain: &mut [u8],
        mut read: usize,
        written: &mut usize,
    ) -> Result<Option<Close>, TransportError> {
        let Phase::Frames(frames) = &mut self.phase else { return Ok(None) };
        loop {
            let input = &plain[read..];
            match &mut frames.part {
                Part::Header { bytes, length } => {
                    let kept = usize::from(*length);
                    let fresh = input.len().min(FrameHeader::BYTES_MAX - kept);
                    bytes[kept..kept + fresh].copy_from_slice(&input[..fresh]);
                    let ParsedHeader::Whole { header, used } =
                        parse_header(&bytes[..kept + fresh])?
                    else {
                        *length += fresh as u8;
                        return Ok(None);
                    };
                    read += used - kept;
                    frames.begin(&header, self.settings.message_bytes_max)?;
                }
                Part::Data { left, mask, last } => {
                    let here =
                        usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    plain.copy_within(read..read + here, *written);
                    mask.apply(&mut plain[*written..*written + here]);
                    read += here;
                    *written += here;
                    *left -= here as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    frames.in_message = !*last;
                    if *last {
                        frames.message_bytes = 0;
                    }
                    frames.part = Part::default();
                }
                Part::Control { opcode, left, mask, payload } => {
                    let here = (*left).min(input.len());
                    let from = payload.len();
                    payload.extend_from_slice(&input[..here]);
                    mask.apply(&mut payload[from..]);
                    read += here;
                    *left -= here;
                    if *left > 0 {
                        return Ok(None);
                    }
                    let (opcode, payload) = (*opcode, std::mem::take(payload));
                    frames.part = Part::default();
                    match opcode {
                        Opcode::Close => return check_close_payload(&payload).map(Some),
                        Opcode::Ping => {
                            queue_pong(&mut self.outgoing, self.answer_bytes, &payload);
                        }
                        // An answer to nothing, or a heartbeat (RFC 6455 section 5.5.3).
                        _ => {}
                    }
                }
            }
        }
    }

    fn send_close(&mut self, code: Option<u16>) {
        if self.close_sent || matches!(self.phase, Phase::Request(_)) {
            return;
        }
        self.close_sent = true;
        let code = code.map(u16::to_be_bytes);
        let payload = code.as_ref().map_or(&[][..], |code| &code[..]);
        write_header(&mut self.outgoing, Opcode::Close, payload.len());
        self.outgoing.extend_from_slice(payload);
    }

    /// The close frame of an orderly end by us, behind what is queued.
    pub(crate) fn close(&mut self) {
        if matches!(self.phase, Phase::Frames(_)) {
            self.send_close(Some(close::NORMAL));
            self.phase = Phase::Closed;
        }
    }

    /// Puts what this layer has to send, and a frame's header if there is payload, in front of `output`.
    pub(crate) fn frame(&mut self, output: &mut Vec<u8>) {
        let payload_bytes = output.len();
        let mut front = self.take_outgoing();
        if payload_bytes > 0 && self.may_send_data() {
            write_header(&mut front, Opcode::Binary, payload_bytes);
        }
        output.splice(0..0, front);
    }

    /// What this layer has to send by itself.
    pub(crate) fn take_outgoing(&mut self) -> Vec<u8> {
        self.answer_bytes = 0;
        std::mem::take(&mut self.outgoing)
    }

    pub(crate) fn wants_flush(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub(crate) fn is_established(&self) -> bool {
        !matches!(self.phase, Phase::Request(_))
    }

    /// Nothing may follow a close frame.
    pub(crate) fn may_send_data(&self) -> bool {
        matches!(self.phase, Phase::Frames(_))
    }
}

impl Frames {
    /// A header was read: what follows it.
    fn begin(
        &mut self,
        header: &FrameHeader,
        message_bytes_max: u64,
    ) -> Result<(), TransportError> {
        let mask = Mask::new(header.mask);
        if header.opcode.is_control() {
            let left = usize::try_from(header.payload_bytes)
                .ok()
                .filter(|bytes| *bytes <= CONTROL_PAYLOAD_BYTES_MAX)
                .ok_or_else(|| close::violation("a control frame is too long"))?;
            self.part = Part::Control { opcode: header.opcode, left, mask, payload: Vec::new() };
            return Ok(());
        }
        match (header.opcode, self.in_message) {
            (Opcode::Text, _) => {
                return Err(TransportError::WebSocket {
                    code: close::UNSUPPORTED,
                    // [MQTT-6.0.0-1]
                    reason: "MQTT travels in binary frames",
                });
            }
            (Opcode::Continuation, false) => {
                return Err(close::violation("a continuation of no message"));
            }
            (Opcode::Binary, true) => {
                return Err(close::violation("a message begins inside another"));
            }
            _ => {}
        }
        self.message_bytes = self.message_bytes.saturating_add(header.payload_bytes);
        if self.message_bytes > message_bytes_max {
            return Err(TransportError::WebSocket {
                code: close::TOO_BIG,
                reason: "a message is over the limit",
            });
        }
        self.part = Part::Data { left: header.payload_bytes, mask, last: header.last };
        Ok(())
    }
}

/// Of the pings of a client that does not read its pongs, only later ones are answered (section 5.5.3).
fn queue_pong(outgoing: &mut Vec<u8>, answer_bytes: usize, payload: &[u8]) {
    if outgoing.len() - answer_bytes + payload.len() + 2 > PONGS_QUEUED_BYTES_MAX {
        outgoing.truncate(answer_bytes);
    }
    write_header(outgoing, Opcode::Pong, payload.len());
    outgoing.extend_from_slice(payload);
}
