//! A broker for the driver's own tests: wildcards, shared subscriptions, every QoS, one thread for
//! each connection, and faults on demand. It keeps nothing.

use fulcrum_mqtt::{
    ConnectReturnCode, DecodeContext, Decoded, Packet, Properties, Property, PropertyBuffer,
    PropertyOwner, ProtocolLevel, Publish, QoS, ReasonCode, decode, encode_connack, encode_packet,
    encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel, encode_suback, topic, v5,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the broker does wrong.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Drops each n-th message of a publisher instead of forwarding or acknowledging it.
    pub drops_each: Option<u64>,
    /// Acknowledges each n-th message of a publisher and forwards it to nobody.
    pub loses_each: Option<u64>,
    /// Forwards each n-th message of a publisher twice.
    pub repeats_each: Option<u64>,
    /// Holds each n-th message of a publisher back until the next one is forwarded.
    pub delays_each: Option<u64>,
    /// Refuses every CONNECT.
    pub refuses: bool,
    /// Says in MQTT 5 that it takes no more unacknowledged messages than this.
    pub receive_maximum: Option<u16>,
    /// Closes a publisher's connection at its n-th message.
    pub closes_at: Option<u64>,
}

#[derive(Default)]
struct Subscriptions {
    all: Vec<Subscription>,
    forwarded: usize,
}

struct Subscription {
    filter: String,
    is_shared: bool,
    qos: QoS,
    level: ProtocolLevel,
    to: TcpStream,
    last_id: u16,
}

/// Starts the broker on an ephemeral port, which is returned. Its threads end with the process.
pub fn start(faults: Faults) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let subscriptions = Arc::new(Mutex::new(Subscriptions::default()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, subscriptions) = (stream.unwrap(), subscriptions.clone());
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut session = Session::new(stream, subscriptions, faults);
                session.serve();
                let _ = session.stream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

struct Session {
    stream: TcpStream,
    subscriptions: Arc<Mutex<Subscriptions>>,
    faults: Faults,
    level: ProtocolLevel,
    count: u64,
    held: Option<Vec<u8>>,
}

impl Session {
    fn new(stream: TcpStream, subscriptions: Arc<Mutex<Subscriptions>>, faults: Faults) -> Self {
        Self { stream, subscriptions, faults, level: ProtocolLevel::V311, count: 0, held: None }
    }

    fn serve(&mut self) -> Option<()> {
        let mut context = DecodeContext { level: None, packet_bytes_max: 1 << 20 };
        let (mut unread, mut chunk) = (Vec::new(), [0; 65_536]);
        loop {
            let mut at = 0;
            let mut answers = Vec::new();
            while let Decoded::Packet { packet, used } = decode(&unread[at..], &context).ok()? {
                at += used;
                if let Packet::Connect(connect) = &packet {
                    self.level = connect.level;
                    context.level = Some(connect.level);
                }
                self.on_packet(&packet, &mut answers)?;
            }
            self.write(&answers)?;
            unread.drain(..at);
            let read = self.stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
            unread.extend_from_slice(&chunk[..read]);
        }
    }

    /// Deliveries from other threads go to the same socket: one whole write at a time.
    fn write(&mut self, answers: &[u8]) -> Option<()> {
        let _subscriptions = self.subscriptions.lock().unwrap();
        self.stream.write_all(answers).ok()
    }

    fn on_packet(&mut self, packet: &Packet<'_>, answers: &mut Vec<u8>) -> Option<()> {
        match packet {
            Packet::Connect(_) => {
                let code = match self.faults.refuses {
                    true => ConnectReturnCode::NotAuthorized,
                    false => ConnectReturnCode::Accepted,
                };
                match self.level {
                    ProtocolLevel::V5 => {
                        let mut properties = PropertyBuffer::new(PropertyOwner::ConnAck);
                        if let Some(maximum) = self.faults.receive_maximum {
                            properties.push(Property::ReceiveMaximum(maximum)).ok()?;
                        }
                        let properties = properties.properties();
                        v5::encode_connack(false, ReasonCode::SUCCESS, properties, answers).ok()?;
                    }
                    _ => encode_connack(false, code, answers),
                }
            }
            Packet::Subscribe(subscribe) => {
                let asked = subscribe.filters().next()?;
                let shared = topic::shared_subscription(asked.filter).ok()?;
                let subscription = Subscription {
                    filter: shared.map_or(asked.filter, |(_, filter)| filter).to_owned(),
                    is_shared: shared.is_some(),
                    qos: asked.options.qos,
                    level: self.level,
                    to: self.stream.try_clone().unwrap(),
                    last_id: 0,
                };
                self.subscriptions.lock().unwrap().all.push(subscription);
                let codes = [ReasonCode::granted(asked.options.qos)];
                match self.level {
                    ProtocolLevel::V5 => {
                        let none = Properties::EMPTY;
                        v5::encode_suback(subscribe.packet_id, none, &codes, answers).ok()?;
                    }
                    _ => encode_suback(subscribe.packet_id, &codes, answers).ok()?,
                }
            }
            Packet::Publish(publish) => self.on_publish(publish, answers)?,
            Packet::PubRec { packet_id, .. } => encode_pubrel(*packet_id, answers),
            Packet::PubRel { packet_id, .. } => encode_pubcomp(*packet_id, answers),
            Packet::Disconnect { .. } => return None,
            _ => {}
        }
        Some(())
    }

    fn on_publish(&mut self, publish: &Publish<'_>, answers: &mut Vec<u8>) -> Option<()> {
        self.count += 1;
        let falls = |each: Option<u64>| each.is_some_and(|each| self.count.is_multiple_of(each));
        if self.faults.closes_at == Some(self.count) {
            return None;
        }
        if falls(self.faults.drops_each) {
            return Some(());
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => encode_puback(id, answers),
            (QoS::ExactlyOnce, Some(id)) => encode_pubrec(id, answers),
            _ => {}
        }
        if falls(self.faults.loses_each) {
            return Some(());
        }
        let (twice, late) = (falls(self.faults.repeats_each), falls(self.faults.delays_each));
        let mut subscriptions = self.subscriptions.lock().unwrap();
        if late {
            self.held = Some(publish.payload.to_vec());
            return Some(());
        }
        subscriptions.forward(publish);
        if twice {
            subscriptions.forward(publish);
        }
        if let Some(payload) = self.held.take() {
            subscriptions.forward(&Publish { payload: &payload, ..*publish });
        }
        Some(())
    }
}

impl Subscriptions {
    fn forward(&mut self, publish: &Publish<'_>) {
        self.forwarded += 1;
        let matches = |at: &usize| topic::matches(&self.all[*at].filter, publish.topic);
        let (members, mut receivers): (Vec<usize>, Vec<usize>) =
            (0..self.all.len()).filter(matches).partition(|&at| self.all[at].is_shared);
        receivers.extend(members.get(self.forwarded % members.len().max(1)));
        for at in receivers {
            let subscription = &mut self.all[at];
            let qos = QoS::from_u8(publish.qos.as_u8().min(subscription.qos.as_u8())).unwrap();
            subscription.last_id = subscription.last_id % u16::MAX + 1;
            let packet_id = (qos != QoS::AtMostOnce).then_some(subscription.last_id);
            let forwarded = Packet::Publish(Publish { qos, packet_id, ..*publish });
            let mut bytes = Vec::new();
            encode_packet(&forwarded, subscription.level, &mut bytes).unwrap();
            // A subscriber that is gone is the test's business.
            let _ = subscription.to.write_all(&bytes);
        }
    }
}
