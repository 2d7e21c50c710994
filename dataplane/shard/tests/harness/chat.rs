//! A client of messaging that keeps its side of the session as the protocol asks: packet identifiers both ways, what is
//! sent again after a reconnect, PUBREL for what was received. It outlives its connections, and the node.
//!
//! Every packet is answered while something is waited for, so a test reads as what its client wants.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where its world breaks")]

use fulcrum_mqtt::{
    ConnAckCode, Connect, DecodeContext, Decoded, Packet, Properties, Property, PropertyBuffer,
    PropertyOwner, ProtocolLevel, Publish, QoS, ReasonCode, RetainHandling, SubscribeFilter,
    SubscribeOptions, Will, encode_packet, v5,
};
use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// A will.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastWords {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub delay_s: u32,
}

/// A message the client was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8(self.payload.clone()).unwrap()
    }
}

/// A message on its way to the server.
#[derive(Clone, Debug)]
struct Sent {
    packet_id: u16,
    qos: u8,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    released: bool,
}

/// The client.
pub struct Chat {
    pub level: ProtocolLevel,
    pub username: String,
    pub password: String,
    pub client_id: String,
    pub clean: bool,
    /// MQTT 5: session expiry interval; 3.1.1 keeps its session as the clean flag says.
    pub expiry_s: u32,
    pub receive_max: u16,
    /// Largest packet it takes.
    pub packet_bytes_max: u32,
    pub will: Option<LastWords>,
    /// Whether what arrives is acknowledged.
    pub acknowledges: bool,
    socket: Option<TcpStream>,
    input: Vec<u8>,
    last_packet_id: u16,
    outgoing: VecDeque<Sent>,
    received: HashSet<u16>,
    /// PUBLISH packets at QoS above 0 that were not acknowledged.
    pub unacknowledged: Vec<(u8, u16)>,
    /// What arrived, each message once where QoS 2 promises that.
    pub got: Vec<Got>,
    /// Payloads the server has taken responsibility for.
    pub accepted: Vec<Vec<u8>>,
    /// Payloads the server refused, and why.
    pub refused: Vec<(u8, Vec<u8>)>,
    /// Reason of the server's DISCONNECT.
    pub goodbye: Option<u8>,
    /// Server receive maximum of the last CONNACK.
    pub server_receive_max: u16,
    codes: Option<Vec<u8>>,
    pongs: usize,
    greeting: Option<(bool, u8)>,
}

impl Chat {
    /// A client of MQTT 5 whose session lives for an hour.
    pub fn durable(username: &str, client_id: &str) -> Chat {
        Chat { clean: false, expiry_s: 3600, ..Chat::new(username, client_id) }
    }

    /// A client of MQTT 5 whose session ends with its connection.
    pub fn new(username: &str, client_id: &str) -> Chat {
        Chat {
            level: ProtocolLevel::V5,
            username: username.to_owned(),
            password: "secret".to_owned(),
            client_id: client_id.to_owned(),
            clean: true,
            expiry_s: 0,
            receive_max: u16::MAX,
            packet_bytes_max: u32::MAX,
            will: None,
            acknowledges: true,
            socket: None,
            input: Vec::new(),
            last_packet_id: 0,
            outgoing: VecDeque::new(),
            received: HashSet::new(),
            unacknowledged: Vec::new(),
            got: Vec::new(),
            accepted: Vec::new(),
            refused: Vec::new(),
            goodbye: None,
            server_receive_max: u16::MAX,
            codes: None,
            pongs: 0,
            greeting: None,
        }
    }

    /// With a session that lives so many seconds longer than its connection.
    pub fn keeping(self, expiry_s: u32) -> Chat {
        Chat { clean: false, expiry_s, ..self }
    }

    /// With another password.
    pub fn with_password(self, password: &str) -> Chat {
        Chat { password: password.to_owned(), ..self }
    }

    /// With a receive maximum.
    pub fn with_receive_max(self, receive_max: u16) -> Chat {
        Chat { receive_max, ..self }
    }

    /// The same in 3.1.1.
    pub fn v311(self) -> Chat {
        Chat { level: ProtocolLevel::V311, ..self }
    }

    /// With a will.
    pub fn with_will(
        self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
        delay_s: u32,
    ) -> Chat {
        let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
        Chat { will: Some(LastWords { topic, payload, qos, retain, delay_s }), ..self }
    }

    /// Connects, and sends again what the session was in the middle of. Whether the session was there.
    #[track_caller]
    pub fn connect(&mut self, address: SocketAddr) -> bool {
        match self.try_connect(address) {
            Ok((present, 0)) => present,
            other => panic!("{}: {other:?}, {:?}", self.client_id, self.goodbye),
        }
    }

    /// The same; session present and reason code.
    pub fn try_connect(&mut self, address: SocketAddr) -> Result<(bool, u8), Gone> {
        self.open(address)?;
        self.send_connect()?;
        self.await_greeting()
    }

    /// Opens the socket.
    pub fn open(&mut self, address: SocketAddr) -> Result<(), Gone> {
        self.drop_connection();
        let socket = TcpStream::connect(address).map_err(|_| Gone)?;
        socket.set_nodelay(true).unwrap();
        self.socket = Some(socket);
        Ok(())
    }

    /// Sends CONNECT.
    pub fn send_connect(&mut self) -> Result<(), Gone> {
        (self.greeting, self.goodbye) = (None, None);
        let is_v5 = self.level == ProtocolLevel::V5;
        let mut properties = PropertyBuffer::new(PropertyOwner::Connect);
        let mut of_will = PropertyBuffer::new(PropertyOwner::Will);
        if is_v5 {
            properties.push(Property::SessionExpiryInterval(self.expiry_s)).unwrap();
            properties.push(Property::ReceiveMaximum(self.receive_max)).unwrap();
            properties.push(Property::MaximumPacketSize(self.packet_bytes_max)).unwrap();
            let delay_s = self.will.as_ref().map_or(0, |will| will.delay_s);
            of_will.push(Property::WillDelayInterval(delay_s)).unwrap();
        }
        let mut out = Vec::new();
        let connect = Connect {
            level: self.level,
            clean_session: self.clean,
            keep_alive_s: 0,
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| Will {
                topic: &will.topic,
                payload: &will.payload,
                qos: QoS::from_u8(will.qos).unwrap(),
                retain: will.retain,
                properties: of_will.properties(),
            }),
            username: Some(&self.username),
            password: Some(self.password.as_bytes()),
            properties: properties.properties(),
        };
        fulcrum_mqtt::encode_connect(&connect, &mut out).unwrap();
        self.write(&out)
    }

    /// Waits for CONNACK, then sends again what is unanswered [MQTT-4.4.0-1].
    pub fn await_greeting(&mut self) -> Result<(bool, u8), Gone> {
        self.wait_until(|chat| chat.greeting.is_some())?;
        let (present, code) = self.greeting.unwrap();
        if code != 0 {
            return Ok((present, code));
        }
        if !present {
            self.outgoing.clear();
            self.received.clear();
        }
        for sent in self.outgoing.clone() {
            match sent.released {
                true => self.send_release(sent.packet_id)?,
                false => self.send_publish(&sent, true)?,
            }
        }
        Ok((present, code))
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// The connection breaks.
    pub fn drop_connection(&mut self) {
        self.socket = None;
        self.input.clear();
    }

    /// DISCONNECT, then the connection ends. With another reason than 0 the will stays.
    pub fn leave(&mut self, reason: u8) {
        let mut out = Vec::new();
        let reason = match reason {
            0 => ReasonCode::NORMAL_DISCONNECTION,
            _ => ReasonCode::DISCONNECT_WITH_WILL,
        };
        let packet = Packet::Disconnect { reason, properties: Properties::default() };
        encode_packet(&packet, self.level, &mut out).unwrap();
        let _ = self.write(&out);
        // The server closes when it has taken it.
        if let Some(socket) = &mut self.socket {
            let _ = socket.set_read_timeout(Some(PATIENCE));
            let mut rest = [0; 4096];
            while matches!(socket.read(&mut rest), Ok(bytes) if bytes > 0) {}
        }
        self.drop_connection();
    }

    /// Publishes; the answer comes later.
    pub fn publish(
        &mut self,
        topic: &str,
        qos: u8,
        retain: bool,
        payload: &[u8],
    ) -> Result<(), Gone> {
        let packet_id = if qos == 0 { 0 } else { self.free_packet_id() };
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        let sent = Sent { packet_id, qos, topic, payload, retain, released: false };
        if qos > 0 {
            self.outgoing.push_back(sent.clone());
        }
        self.send_publish(&sent, false)
    }

    /// Publishes and waits until the server has answered.
    #[track_caller]
    pub fn publish_and_wait(&mut self, topic: &str, qos: u8, retain: bool, payload: &[u8]) {
        self.publish(topic, qos, retain, payload).unwrap();
        self.wait_until(Chat::owes_nothing).unwrap();
    }

    /// Whether all that was published is answered to the end.
    pub fn owes_nothing(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether every QoS 2 message that came has been released.
    pub fn received_is_released(&self) -> bool {
        self.received.is_empty()
    }

    /// Messages that are not answered to the end.
    pub fn under_way(&self) -> usize {
        self.outgoing.len()
    }

    /// Subscribes; the code of the SUBACK.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.subscribe_with(filter, SubscribeOptions::qos(QoS::from_u8(qos).unwrap())).unwrap()
    }

    /// The same with options.
    pub fn subscribe_with(&mut self, filter: &str, options: SubscribeOptions) -> Result<u8, Gone> {
        self.send_subscribe(filter, options)?;
        self.wait_until(|chat| chat.codes.is_some())?;
        Ok(self.codes.take().unwrap()[0])
    }

    /// The same without waiting.
    pub fn send_subscribe(&mut self, filter: &str, options: SubscribeOptions) -> Result<(), Gone> {
        self.codes = None;
        let packet_id = self.free_packet_id();
        let mut out = Vec::new();
        match self.level {
            ProtocolLevel::V5 => {
                let filters = [SubscribeFilter { filter, options }];
                v5::encode_subscribe(packet_id, Properties::default(), filters, &mut out).unwrap();
            }
            ProtocolLevel::V311 => {
                fulcrum_mqtt::encode_subscribe(packet_id, &[(filter, options.qos)], &mut out)
                    .unwrap();
            }
        }
        self.write(&out)
    }

    /// Unsubscribes and waits for the answer.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        self.codes = None;
        let packet_id = self.free_packet_id();
        let mut out = Vec::new();
        match self.level {
            ProtocolLevel::V5 => {
                v5::encode_unsubscribe(packet_id, Properties::default(), [filter], &mut out)
                    .unwrap();
            }
            ProtocolLevel::V311 => {
                fulcrum_mqtt::encode_unsubscribe(packet_id, &[filter], &mut out).unwrap();
            }
        }
        self.write(&out).unwrap();
        self.wait_until(|chat| chat.codes.is_some()).unwrap();
        self.codes = None;
    }

    /// A PINGREQ and its answer: all that was sent before has been taken.
    pub fn ping(&mut self) -> Result<(), Gone> {
        let before = self.pongs;
        self.write(&[0xc0, 0])?;
        self.wait_until(|chat| chat.pongs > before)
    }

    /// Takes packets until `holds`; fails when that takes too long.
    #[track_caller]
    pub fn wait_until(&mut self, holds: impl Fn(&Chat) -> bool) -> Result<(), Gone> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < deadline,
                "{}: waited too long; got {}, under way {}, accepted {}, refused {:?}",
                self.client_id,
                self.got.len(),
                self.outgoing.len(),
                self.accepted.len(),
                self.refused.len()
            );
            self.take(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Takes packets until none has come for `quiet`.
    pub fn take_all(&mut self, quiet: Duration) -> Result<(), Gone> {
        while self.take(quiet)? {}
        Ok(())
    }

    /// Takes what comes within `wait`; whether anything did.
    pub fn take(&mut self, wait: Duration) -> Result<bool, Gone> {
        let Some(socket) = &mut self.socket else { return Err(Gone) };
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 64 * 1024];
        let bytes = match socket.read(&mut buffer) {
            Ok(0) => None,
            Ok(bytes) => Some(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(_) => None,
        };
        let Some(bytes) = bytes else {
            self.drop_connection();
            return Err(Gone);
        };
        self.input.extend_from_slice(&buffer[..bytes]);
        self.take_packets()?;
        Ok(true)
    }

    fn take_packets(&mut self) -> Result<(), Gone> {
        let input = std::mem::take(&mut self.input);
        let context = DecodeContext { level: Some(self.level), packet_bytes_max: 1 << 20 };
        let mut out = Vec::new();
        let mut done = 0;
        while let Decoded::Packet { packet, used } =
            fulcrum_mqtt::decode(&input[done..], &context).unwrap()
        {
            self.take_packet(&packet, &mut out);
            done += used;
        }
        self.input = input[done..].to_vec();
        if out.is_empty() { Ok(()) } else { self.write(&out) }
    }

    fn take_packet(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        match packet {
            Packet::ConnAck(connack) => {
                let code = match connack.code {
                    ConnAckCode::V311(code) => code.as_u8(),
                    ConnAckCode::V5(code) => code.as_u8(),
                };
                for property in &connack.properties {
                    if let Property::ReceiveMaximum(most) = property {
                        self.server_receive_max = most;
                    }
                }
                self.greeting = Some((connack.session_present, code));
            }
            Packet::Publish(publish) => self.take_publish(publish, out),
            Packet::PubAck { packet_id, reason, .. } => {
                let sent = self.remove(*packet_id);
                assert_eq!(sent.qos, 1, "{}: PUBACK for QoS 2", self.client_id);
                self.note_answer(*reason, sent.payload);
            }
            Packet::PubRec { packet_id, reason, .. } => {
                let place = self.place(*packet_id);
                assert_eq!(self.outgoing[place].qos, 2, "{}: PUBREC for QoS 1", self.client_id);
                if reason.is_error() {
                    let sent = self.remove(*packet_id);
                    return self.note_answer(*reason, sent.payload);
                }
                if !std::mem::replace(&mut self.outgoing[place].released, true) {
                    let payload = self.outgoing[place].payload.clone();
                    self.note_answer(*reason, payload);
                }
                let reason = ReasonCode::SUCCESS;
                let (packet_id, properties) = (*packet_id, Properties::default());
                let release = Packet::PubRel { packet_id, reason, properties };
                encode_packet(&release, self.level, out).unwrap();
            }
            Packet::PubComp { packet_id, .. } => {
                let sent = self.remove(*packet_id);
                assert!(sent.released, "{}: PUBCOMP before PUBREC", self.client_id);
            }
            Packet::PubRel { packet_id, .. } => {
                self.received.remove(packet_id);
                let (packet_id, reason) = (*packet_id, ReasonCode::SUCCESS);
                let properties = Properties::default();
                let complete = Packet::PubComp { packet_id, reason, properties };
                encode_packet(&complete, self.level, out).unwrap();
            }
            Packet::SubAck(suback) => {
                self.codes = Some(suback.codes.iter().map(|code| code.as_u8()).collect());
            }
            Packet::UnsubAck(_) => self.codes = Some(vec![0]),
            Packet::PingResp => self.pongs += 1,
            Packet::Disconnect { reason, .. } => self.goodbye = Some(reason.as_u8()),
            other => panic!("{}: {other:?} from a server", self.client_id),
        }
    }

    fn take_publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) {
        let got = Got {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos.as_u8(),
            retain: publish.retain,
            dup: publish.dup,
        };
        let reason = ReasonCode::SUCCESS;
        let properties = Properties::default();
        let Some(packet_id) = publish.packet_id else { return self.got.push(got) };
        if !self.acknowledges {
            self.unacknowledged.push((got.qos, packet_id));
            self.got.push(got);
            return;
        }
        let answer = match publish.qos {
            QoS::ExactlyOnce => {
                if self.received.insert(packet_id) {
                    self.got.push(got);
                }
                Packet::PubRec { packet_id, reason, properties }
            }
            _ => {
                self.got.push(got);
                Packet::PubAck { packet_id, reason, properties }
            }
        };
        encode_packet(&answer, self.level, out).unwrap();
    }

    /// Acknowledges what was not.
    pub fn acknowledge_late(&mut self) -> Result<(), Gone> {
        let mut out = Vec::new();
        let (reason, properties) = (ReasonCode::SUCCESS, Properties::default());
        for (qos, packet_id) in std::mem::take(&mut self.unacknowledged) {
            let answer = match qos {
                2 => {
                    self.received.insert(packet_id);
                    Packet::PubRec { packet_id, reason, properties }
                }
                _ => Packet::PubAck { packet_id, reason, properties },
            };
            encode_packet(&answer, self.level, &mut out).unwrap();
        }
        self.write(&out)
    }

    fn note_answer(&mut self, reason: ReasonCode, payload: Vec<u8>) {
        match reason.is_error() {
            true => self.refused.push((reason.as_u8(), payload)),
            false => self.accepted.push(payload),
        }
    }

    #[track_caller]
    fn place(&self, packet_id: u16) -> usize {
        let found = self.outgoing.iter().position(|sent| sent.packet_id == packet_id);
        found.unwrap_or_else(|| panic!("{}: nothing sent as {packet_id}", self.client_id))
    }

    #[track_caller]
    fn remove(&mut self, packet_id: u16) -> Sent {
        let place = self.place(packet_id);
        self.outgoing.remove(place).unwrap()
    }

    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let free = |sent: &Sent| sent.packet_id != self.last_packet_id;
            if self.last_packet_id != 0 && self.outgoing.iter().all(free) {
                return self.last_packet_id;
            }
        }
    }

    fn send_publish(&mut self, sent: &Sent, dup: bool) -> Result<(), Gone> {
        let mut out = Vec::new();
        let publish = Packet::Publish(Publish {
            topic: &sent.topic,
            packet_id: (sent.qos > 0).then_some(sent.packet_id),
            qos: QoS::from_u8(sent.qos).unwrap(),
            retain: sent.retain,
            dup,
            properties: Properties::default(),
            payload: &sent.payload,
        });
        encode_packet(&publish, self.level, &mut out).unwrap();
        self.write(&out)
    }

    fn send_release(&mut self, packet_id: u16) -> Result<(), Gone> {
        let mut out = Vec::new();
        let (reason, properties) = (ReasonCode::SUCCESS, Properties::default());
        let release = Packet::PubRel { packet_id, reason, properties };
        encode_packet(&release, self.level, &mut out).unwrap();
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let Some(socket) = &mut self.socket else { return Err(Gone) };
        // A server that is gone is found out by reading: what it said before is not lost.
        match socket.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(_) => {
                while matches!(self.take(Duration::from_millis(10)), Ok(true)) {}
                self.drop_connection();
                Err(Gone)
            }
        }
    }

    /// The texts it got on a topic, in order.
    pub fn texts(&self, topic: &str) -> Vec<String> {
        self.got.iter().filter(|got| got.topic == topic).map(Got::text).collect()
    }
}

/// Options of a subscription.
pub fn options(qos: u8, retain_handling: RetainHandling) -> SubscribeOptions {
    SubscribeOptions { retain_handling, ..SubscribeOptions::qos(QoS::from_u8(qos).unwrap()) }
}

/// Random numbers from a seed that can be given again.
pub struct Random(u64);

impl Random {
    /// The seed of the environment variable, or one of the clock; printed.
    pub fn from_environment(name: &str) -> Random {
        let seed =
            std::env::var(name).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.unwrap().as_nanos() as u64
            });
        println!("{name}={seed}");
        Random::new(seed)
    }

    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}
