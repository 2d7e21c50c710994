//! A device on either version of MQTT that says what it sees, packet by packet, and answers nothing by itself.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where its world breaks")]

use crate::harness::client_id_for;
use fulcrum_mqtt::{
    ConnAckCode, Connect, DecodeContext, Decoded, Packet, Properties, Property, PropertyBuffer,
    PropertyOwner, ProtocolLevel, Publish, QoS, ReasonCode, SubscribeFilter, SubscribeOptions,
    encode_packet, v5,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Both versions: what is said of the device API holds for each.
pub const LEVELS: [ProtocolLevel; 2] = [ProtocolLevel::V311, ProtocolLevel::V5];

/// What a device reads. Reasons are 0 in 3.1.1, which has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    ConnAck(u8),
    Publish { topic: String, payload: Vec<u8>, packet_id: Option<u16> },
    PubAck(u16, u8),
    PubRec(u16, u8),
    PubComp(u16),
    SubAck(Vec<u8>),
    UnsubAck,
    Pong,
    Disconnect(u8),
    Other,
}

pub struct Device {
    pub level: ProtocolLevel,
    pub socket: TcpStream,
    /// Subscription identifiers of the last message.
    pub ids: Vec<u32>,
    input: Vec<u8>,
}

impl Device {
    pub fn open(address: SocketAddr, level: ProtocolLevel) -> Device {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Device { level, socket, ids: Vec::new(), input: Vec::new() }
    }

    #[track_caller]
    pub fn connect(address: SocketAddr, username: &str, level: ProtocolLevel) -> Device {
        let mut device = Device::open(address, level);
        assert_eq!(device.greet(address, username, "secret"), Some(Said::ConnAck(0)), "{username}");
        device
    }

    /// Sends CONNECT and reads the answer.
    pub fn greet(&mut self, address: SocketAddr, username: &str, password: &str) -> Option<Said> {
        self.greet_with(address, username, password, &[])
    }

    /// The same, with properties of MQTT 5.
    pub fn greet_with(
        &mut self,
        address: SocketAddr,
        username: &str,
        password: &str,
        with: &[Property<'_>],
    ) -> Option<Said> {
        let mut properties = PropertyBuffer::new(PropertyOwner::Connect);
        with.iter().for_each(|property| properties.push(*property).unwrap());
        let connect = Connect {
            level: self.level,
            clean_session: true,
            keep_alive_s: 0,
            client_id: &client_id_for(address, username),
            will: None,
            username: Some(username),
            password: Some(password.as_bytes()),
            properties: properties.properties(),
        };
        self.write(&Packet::Connect(connect));
        self.read()
    }

    pub fn write(&mut self, packet: &Packet<'_>) {
        let mut out = Vec::new();
        encode_packet(packet, self.level, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    /// Publishes; above QoS 0 with this packet identifier.
    pub fn publish(&mut self, topic: &str, qos: u8, packet_id: u16, payload: &[u8]) {
        self.publish_with(topic, qos, packet_id, payload, &[]);
    }

    pub fn publish_with(
        &mut self,
        topic: &str,
        qos: u8,
        packet_id: u16,
        payload: &[u8],
        properties: &[Property<'_>],
    ) {
        let mut all = PropertyBuffer::new(PropertyOwner::Publish);
        properties.iter().for_each(|property| all.push(*property).unwrap());
        self.write(&Packet::Publish(Publish {
            topic,
            packet_id: (qos > 0).then_some(packet_id),
            qos: QoS::from_u8(qos).unwrap(),
            retain: false,
            dup: false,
            properties: all.properties(),
            payload,
        }));
    }

    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.subscribe_all(&[(filter, qos)])[0]
    }

    /// Subscribes under an identifier, in MQTT 5.
    #[track_caller]
    pub fn subscribe_as(&mut self, id: u32, filter: &str) -> u8 {
        let mut properties = PropertyBuffer::new(PropertyOwner::Subscribe);
        properties.push(Property::SubscriptionIdentifier(id)).unwrap();
        let options = SubscribeOptions::qos(QoS::AtMostOnce);
        let mut out = Vec::new();
        let filters = [SubscribeFilter { filter, options }];
        v5::encode_subscribe(9, properties.properties(), filters, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
        match self.read() {
            Some(Said::SubAck(codes)) => codes[0],
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn subscribe_all(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let mut out = Vec::new();
        match self.level {
            ProtocolLevel::V5 => {
                let filters = filters.iter().map(|(filter, qos)| SubscribeFilter {
                    filter,
                    options: SubscribeOptions::qos(QoS::from_u8(*qos).unwrap()),
                });
                v5::encode_subscribe(9, Properties::default(), filters, &mut out).unwrap();
            }
            ProtocolLevel::V311 => {
                let filters: Vec<_> = filters
                    .iter()
                    .map(|(filter, qos)| (*filter, QoS::from_u8(*qos).unwrap()))
                    .collect();
                fulcrum_mqtt::encode_subscribe(9, &filters, &mut out).unwrap();
            }
        }
        self.socket.write_all(&out).unwrap();
        match self.read() {
            Some(Said::SubAck(codes)) => codes,
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        let mut out = Vec::new();
        match self.level {
            ProtocolLevel::V5 => {
                v5::encode_unsubscribe(5, Properties::default(), [filter], &mut out).unwrap();
            }
            ProtocolLevel::V311 => {
                fulcrum_mqtt::encode_unsubscribe(5, &[filter], &mut out).unwrap();
            }
        }
        self.socket.write_all(&out).unwrap();
        assert_eq!(self.read(), Some(Said::UnsubAck));
    }

    pub fn acknowledge(&mut self, packet_id: u16) {
        let (reason, properties) = (ReasonCode::SUCCESS, Properties::default());
        self.write(&Packet::PubAck { packet_id, reason, properties });
    }

    /// The next packet; `None` when the server has closed the connection.
    #[track_caller]
    pub fn read(&mut self) -> Option<Said> {
        let context = DecodeContext { level: Some(self.level), packet_bytes_max: 1 << 20 };
        loop {
            let decoded = fulcrum_mqtt::decode(&self.input, &context).unwrap();
            if let Decoded::Packet { packet, used } = decoded {
                let said = said(&packet);
                if let Packet::Publish(publish) = &packet {
                    let id = |property| match property {
                        Property::SubscriptionIdentifier(id) => Some(id),
                        _ => None,
                    };
                    self.ids = publish.properties.iter().filter_map(id).collect();
                }
                self.input.drain(..used);
                return Some(said);
            }
            let mut buffer = [0; 16 * 1024];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(bytes) => self.input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server is silent: {error}"),
            }
        }
    }

    /// The next message: topic, text, packet identifier.
    #[track_caller]
    pub fn expect_publish(&mut self) -> (String, String, Option<u16>) {
        match self.read() {
            Some(Said::Publish { topic, payload, packet_id }) => {
                (topic, String::from_utf8(payload).unwrap(), packet_id)
            }
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// The connection goes on, and nothing but the answer to a PINGREQ comes within a moment.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        std::thread::sleep(Duration::from_millis(150));
        self.write(&Packet::PingReq);
        assert_eq!(self.read(), Some(Said::Pong));
    }

    /// The connection ends next, with this reason where the version has a word for it.
    #[track_caller]
    pub fn expect_end(&mut self, reason: u8) {
        if self.level == ProtocolLevel::V5 {
            assert_eq!(self.read(), Some(Said::Disconnect(reason)));
        }
        assert_eq!(self.read(), None);
    }

    /// An error in the words of the version: 3.1.1 has one for a subscription and none for a message.
    pub fn reason(&self, reason: u8) -> u8 {
        if self.level == ProtocolLevel::V5 { reason } else { 0 }
    }

    /// The same for the codes of a SUBACK.
    pub fn code(&self, reason: u8) -> u8 {
        if self.level == ProtocolLevel::V5 { reason } else { 0x80 }
    }
}

fn said(packet: &Packet<'_>) -> Said {
    match packet {
        Packet::ConnAck(connack) => Said::ConnAck(match connack.code {
            ConnAckCode::V311(code) => code.as_u8(),
            ConnAckCode::V5(code) => code.as_u8(),
        }),
        Packet::Publish(publish) => Said::Publish {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            packet_id: publish.packet_id,
        },
        Packet::PubAck { packet_id, reason, .. } => Said::PubAck(*packet_id, reason.as_u8()),
        Packet::PubRec { packet_id, reason, .. } => Said::PubRec(*packet_id, reason.as_u8()),
        Packet::PubComp { packet_id, .. } => Said::PubComp(*packet_id),
        Packet::SubAck(suback) => {
            Said::SubAck(suback.codes.iter().map(|code| code.as_u8()).collect())
        }
        Packet::UnsubAck(_) => Said::UnsubAck,
        Packet::PingResp => Said::Pong,
        Packet::Disconnect { reason, .. } => Said::Disconnect(reason.as_u8()),
        _ => Said::Other,
    }
}

/// The frames a partition has committed.
pub fn frames(tail: &fulcrum_journal::Tail) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut position = tail.start();
    while position < tail.committed() {
        let (path, offset, segment_bytes) = tail.segment_path(position);
        let bytes = std::fs::read(path).unwrap();
        let rest = &bytes[offset as usize..segment_bytes as usize];
        match tail.reader().parse(rest, position, tail.committed()) {
            fulcrum_journal::Step::Record(record) => {
                if record.kind == fulcrum_journal::Kind::Message {
                    found.push(record.body.to_vec());
                }
                position = record.next;
            }
            fulcrum_journal::Step::EndOfSegment { next } => position = next,
            other => panic!("the journal is not readable at {position:?}: {other:?}"),
        }
    }
    found
}
