//! The driver's bytes: a PUBLISH is encoded once for each publisher and then only stamped, and what
//! comes in is cut into packets.
//!
//! Invariant: the payload begins with a [`Stamp`], so a delivery says by itself when it was due, who
//! sent it and which one it is.

use crate::settings::Protocol;
use fulcrum_mqtt::{
    DecodeContext, Decoded, EncodeError, Packet, Properties, ProtocolLevel, PublishOut, QoS,
    decode, encode_publish, v5,
};

/// Room for the stamp.
pub const PAYLOAD_BYTES_MIN: usize = STAMP_BYTES;
/// Largest payload of the driver; brokers have their own limits.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const STAMP_BYTES: usize = 24;
const PACKET_ID_BYTES: usize = 2;
/// A broker's packet to the driver is at most one of its own messages sent back.
const PACKET_BYTES_MAX: usize = 2 << 20;
/// The length in front of a frame of the bare loop.
const FRAME_HEAD_BYTES: usize = 2;

/// The broker ended the connection, or it is beyond repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// What the first 24 bytes of each payload say, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the message was sent, or due in an open loop: nanoseconds since the run's epoch.
    pub due_ns: u64,
    /// The publisher's count, from 0.
    pub sequence: u64,
    /// Who sent it.
    pub publisher: u32,
    /// Which run it belongs to: what a broker kept from an earlier one is told apart.
    pub run: u32,
}

impl Stamp {
    /// Reads the stamp of a delivered payload; `None` when the payload is not ours.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (due, rest) = payload.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (publisher, rest) = rest.split_first_chunk::<4>()?;
        let (run, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            due_ns: u64::from_le_bytes(*due),
            sequence: u64::from_le_bytes(*sequence),
            publisher: u32::from_le_bytes(*publisher),
            run: u32::from_le_bytes(*run),
        })
    }

    fn write(self, into: &mut [u8]) {
        into[..8].copy_from_slice(&self.due_ns.to_le_bytes());
        into[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        into[16..20].copy_from_slice(&self.publisher.to_le_bytes());
        into[20..STAMP_BYTES].copy_from_slice(&self.run.to_le_bytes());
    }
}

/// The level of MQTT that `protocol` carries.
pub fn level(protocol: Protocol) -> ProtocolLevel {
    match protocol {
        Protocol::V311 | Protocol::Bare => ProtocolLevel::V311,
        Protocol::V5 => ProtocolLevel::V5,
    }
}

/// One publisher's PUBLISH, all but stamp and packet identifier.
#[derive(Debug)]
pub struct PublishTemplate {
    packet: Vec<u8>,
    payload_at: usize,
    /// `None` with QoS 0.
    packet_id_at: Option<usize>,
}

impl PublishTemplate {
    /// Encodes the packet for `topic`; `payload_bytes` is at least [`PAYLOAD_BYTES_MIN`].
    ///
    /// # Errors
    /// The topic is not a topic name, or the packet would be too large.
    pub fn new(
        protocol: Protocol,
        topic: &str,
        qos: QoS,
        retain: bool,
        payload_bytes: usize,
    ) -> Result<Self, EncodeError> {
        let payload: Vec<u8> = (0..payload_bytes).map(filler).collect();
        let publish = PublishOut {
            topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(1),
            qos,
            retain,
            dup: false,
            properties: Properties::EMPTY,
            payload: &payload,
        };
        let mut packet = Vec::new();
        // Between packet identifier and payload: nothing in 3.1.1, in 5 the length of no properties.
        let between = match protocol {
            Protocol::V311 | Protocol::Bare => {
                encode_publish(&publish, &mut packet)?;
                0
            }
            Protocol::V5 => {
                v5::encode_publish(&publish, &mut packet)?;
                1
            }
        };
        if protocol == Protocol::Bare {
            let length = u16::try_from(packet.len())
                .map_err(|_| EncodeError::PacketTooLarge { bytes: packet.len() })?;
            packet.splice(..0, length.to_le_bytes());
        }
        let payload_at = packet.len() - payload_bytes;
        let packet_id_at =
            (qos != QoS::AtMostOnce).then_some(payload_at - between - PACKET_ID_BYTES);
        Ok(Self { packet, payload_at, packet_id_at })
    }

    /// Appends one message to `out`. `packet_id` is left out of a QoS 0 message.
    pub fn append(&self, packet_id: u16, stamp: Stamp, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.packet);
        let packet = &mut out[start..];
        stamp.write(&mut packet[self.payload_at..]);
        if let Some(at) = self.packet_id_at {
            packet[at..at + PACKET_ID_BYTES].copy_from_slice(&packet_id.to_be_bytes());
        }
    }
}

/// Letters that repeat late, so that neither a terminal nor a compressor has an easy time.
fn filler(position: usize) -> u8 {
    let mixed = (position as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    b'a' + ((mixed >> 40) % 26) as u8
}

/// Cuts incoming bytes into packets; keeps the beginning of one that has not come whole.
#[derive(Debug, Default)]
pub struct Inbox {
    unread: Vec<u8>,
}

impl Inbox {
    /// Hands each packet that is whole now to `on_packet`.
    ///
    /// # Errors
    /// What came is not MQTT, or `on_packet` says it is over.
    pub fn take_in(
        &mut self,
        bytes: &[u8],
        protocol: Protocol,
        mut on_packet: impl FnMut(&Packet<'_>) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        if self.unread.is_empty() {
            let used = packets(bytes, protocol, &mut on_packet)?;
            if used < bytes.len() {
                self.unread.extend_from_slice(&bytes[used..]);
            }
            return Ok(());
        }
        self.unread.extend_from_slice(bytes);
        let used = packets(&self.unread, protocol, &mut on_packet)?;
        if used == self.unread.len() {
            // An idle connection keeps nothing.
            self.unread = Vec::new();
        } else {
            self.unread.drain(..used);
        }
        Ok(())
    }
}

/// Hands over each whole packet at the front of `bytes`; returns how many bytes they had.
fn packets(
    bytes: &[u8],
    protocol: Protocol,
    on_packet: &mut impl FnMut(&Packet<'_>) -> Result<(), Closed>,
) -> Result<usize, Closed> {
    let context =
        DecodeContext { level: Some(level(protocol)), packet_bytes_max: PACKET_BYTES_MAX };
    let head = if protocol == Protocol::Bare { FRAME_HEAD_BYTES } else { 0 };
    let mut at = 0;
    while at + head < bytes.len() {
        match decode(&bytes[at + head..], &context) {
            Ok(Decoded::Packet { packet, used }) => {
                on_packet(&packet)?;
                at += head + used;
            }
            Ok(Decoded::NeedMore { .. }) => break,
            Err(_) => return Err(Closed),
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { due_ns: 7, sequence: u64::MAX - 1, publisher: 3, run: 0xABCD_EF01 };

    #[test]
    fn a_stamped_message_is_a_valid_publish_that_carries_the_stamp() {
        for (protocol, qos, payload_bytes) in [
            (Protocol::V311, QoS::AtMostOnce, 24),
            (Protocol::V311, QoS::AtLeastOnce, 20_000),
            (Protocol::V5, QoS::AtMostOnce, 128),
            (Protocol::V5, QoS::ExactlyOnce, 128),
            (Protocol::Bare, QoS::AtMostOnce, 128),
        ] {
            let template =
                PublishTemplate::new(protocol, "event/bench/d7", qos, true, payload_bytes).unwrap();
            let mut out = Vec::new();
            template.append(0xABCD, STAMP, &mut out);
            template.append(0xABCE, Stamp { sequence: 0, ..STAMP }, &mut out);
            let mut seen = Vec::new();
            let mut inbox = Inbox::default();
            // In pieces, as a network would.
            for piece in out.chunks(17) {
                inbox
                    .take_in(piece, protocol, |packet| {
                        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                        assert_eq!((publish.topic, publish.qos), ("event/bench/d7", qos));
                        assert!(publish.retain);
                        assert_eq!(publish.payload.len(), payload_bytes);
                        seen.push((publish.packet_id, Stamp::read(publish.payload).unwrap()));
                        Ok(())
                    })
                    .unwrap();
            }
            let id = |id| (qos != QoS::AtMostOnce).then_some(id);
            assert_eq!(
                seen,
                [(id(0xABCD), STAMP), (id(0xABCE), Stamp { sequence: 0, ..STAMP })],
                "{protocol:?} {qos:?}"
            );
            assert!(inbox.unread.is_empty());
        }
    }

    #[test]
    fn what_is_no_packet_ends_the_connection() {
        let refused = Inbox::default().take_in(&[0, 0, 0], Protocol::V311, |_| Ok(()));
        assert_eq!(refused, Err(Closed));
    }

    #[test]
    fn a_payload_too_short_for_a_stamp_is_not_ours() {
        assert_eq!(Stamp::read(&[0; 23]), None);
        assert_eq!(Stamp::read(&[]), None);
    }

    #[test]
    fn a_topic_with_a_wildcard_is_refused() {
        let template = PublishTemplate::new(Protocol::V311, "a/#", QoS::AtMostOnce, false, 24);
        assert!(template.is_err());
    }
}
