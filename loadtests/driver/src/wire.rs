//! The driver's packets: a PUBLISH is encoded once for each publisher and then only stamped.
//!
//! Invariant: the payload begins with a [`Stamp`], so a delivery says by itself when it was sent
//! and which one it is.

use fulcrum_mqtt::{EncodeError, Properties, PublishOut, QoS, encode_publish};

/// Room for the stamp.
pub const PAYLOAD_BYTES_MIN: usize = STAMP_BYTES;
/// Largest payload of the driver; brokers have their own limits.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const STAMP_BYTES: usize = 16;
const PACKET_ID_BYTES: usize = 2;

/// What the first 16 bytes of each payload say, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the message was sent, or due in an open loop: nanoseconds since the run's epoch.
    pub sent_at_ns: u64,
    /// The publisher's count, from 0.
    pub sequence: u64,
}

impl Stamp {
    /// Reads the stamp of a delivered payload; `None` when the payload is not ours.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (sent_at, rest) = payload.split_first_chunk::<8>()?;
        let (sequence, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            sent_at_ns: u64::from_le_bytes(*sent_at),
            sequence: u64::from_le_bytes(*sequence),
        })
    }

    fn write(self, into: &mut [u8]) {
        into[..8].copy_from_slice(&self.sent_at_ns.to_le_bytes());
        into[8..STAMP_BYTES].copy_from_slice(&self.sequence.to_le_bytes());
    }
}

/// One publisher's PUBLISH, all but stamp and packet identifier.
#[derive(Debug)]
pub struct PublishTemplate {
    packet: Vec<u8>,
    payload_at: usize,
    qos: QoS,
}

impl PublishTemplate {
    /// Encodes the packet for `topic`; `payload_bytes` is at least [`PAYLOAD_BYTES_MIN`].
    ///
    /// # Errors
    /// The topic is not a topic name, or the packet would be too large.
    pub fn new(topic: &str, qos: QoS, payload_bytes: usize) -> Result<Self, EncodeError> {
        let payload: Vec<u8> = (0..payload_bytes).map(filler).collect();
        let mut packet = Vec::new();
        let publish = PublishOut {
            topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(1),
            qos,
            retain: false,
            dup: false,
            properties: Properties::EMPTY,
            payload: &payload,
        };
        encode_publish(&publish, &mut packet)?;
        let payload_at = packet.len() - payload_bytes;
        Ok(Self { packet, payload_at, qos })
    }

    /// Appends one message to `out`. `packet_id` is left out of a QoS 0 message.
    pub fn append(&self, packet_id: u16, stamp: Stamp, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.packet);
        let packet = &mut out[start..];
        stamp.write(&mut packet[self.payload_at..]);
        if self.qos != QoS::AtMostOnce {
            // 3.1.1 has nothing between packet identifier and payload (section 3.3.2).
            packet[self.payload_at - PACKET_ID_BYTES..self.payload_at]
                .copy_from_slice(&packet_id.to_be_bytes());
        }
    }
}

/// Letters that repeat late, so that neither a terminal nor a compressor has an easy time.
fn filler(position: usize) -> u8 {
    let mixed = (position as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    b'a' + ((mixed >> 40) % 26) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_mqtt::{DecodeContext, Decoded, Packet, ProtocolLevel, decode};

    fn decoded(bytes: &[u8]) -> (Packet<'_>, usize) {
        let context = DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max: 2 << 20 };
        match decode(bytes, &context).unwrap() {
            Decoded::Packet { packet, used } => (packet, used),
            Decoded::NeedMore { .. } => panic!("incomplete"),
        }
    }

    #[test]
    fn a_stamped_message_is_a_valid_publish_that_carries_the_stamp() {
        for (qos, payload_bytes) in
            [(QoS::AtMostOnce, 16), (QoS::AtMostOnce, 20_000), (QoS::AtLeastOnce, 128)]
        {
            let template = PublishTemplate::new("event/bench/d7", qos, payload_bytes).unwrap();
            let mut out = b"xx".to_vec();
            let stamp = Stamp { sent_at_ns: 7, sequence: u64::MAX - 1 };
            template.append(0xABCD, stamp, &mut out);
            let (packet, used) = decoded(&out[2..]);
            assert_eq!(used, out.len() - 2);
            let Packet::Publish(publish) = packet else { panic!("not a PUBLISH") };
            assert_eq!(publish.topic, "event/bench/d7");
            assert_eq!(publish.packet_id, (qos != QoS::AtMostOnce).then_some(0xABCD));
            assert_eq!(publish.payload.len(), payload_bytes);
            assert_eq!(Stamp::read(publish.payload), Some(stamp));
        }
    }

    #[test]
    fn a_payload_too_short_for_a_stamp_is_not_ours() {
        assert_eq!(Stamp::read(&[0; 15]), None);
        assert_eq!(Stamp::read(&[]), None);
    }

    #[test]
    fn a_topic_with_a_wildcard_is_refused() {
        assert!(PublishTemplate::new("a/#", QoS::AtMostOnce, 16).is_err());
    }
}
