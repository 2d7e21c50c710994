//! A node's shards on real rings and sockets, with a registry of this file in place of the replica.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where its world breaks")]

pub mod chat;

use fulcrum_journal::{JournalConfig, Opened, SegmentRequest, Tail, open, open_segment};
use fulcrum_mqtt::{
    Connect, DecodeContext, Decoded, Packet, Properties, ProtocolLevel, QoS, encode_connect,
    encode_packet, encode_publish_parts, encode_subscribe,
};
use fulcrum_ring::{Doorbell, Ring, RingConfig, bind_listener};
use fulcrum_sessions::Limits as SessionLimits;
use fulcrum_shard::*;
use fulcrum_transport::Layers;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the fake registry knows: any `{name}@{tenant}` with password "secret" is a device, names that begin with `app`
/// are applications, `off` is a disabled device, `slow` answers after 300 ms. Gateways, `gw…`, may act for
/// `behind…`; `nobody` is not registered.
#[derive(Default)]
pub struct Store {
    pub commands: HashMap<(String, String), Vec<Command>>,
    pub done: Vec<String>,
    pub present: Vec<String>,
    /// Questions to the registry are taken and not answered.
    pub silent: bool,
    /// Work for the store is refused.
    pub busy: bool,
    /// Segments are not prepared.
    pub segments_held: bool,
    /// Good logins are known at once.
    pub knows_logins: bool,
    /// Times commands were asked for.
    pub loads: usize,
    /// Times it was asked whether somebody may still be connected.
    pub rechecks: usize,
    /// The registry names no gateways, though it lets them act.
    pub knows_no_gateways: bool,
    /// Gateways may act for nobody any more.
    pub revoked: bool,
    /// Connections of limited tenants.
    pub connections: Arc<AtomicU64>,
    /// Segments prepared from now on are on a disk that takes no write.
    pub disk_fails: bool,
}

struct FakeRegistry {
    shard: ShardHandle,
    store: Arc<Mutex<Store>>,
}

impl Registry for FakeRegistry {
    fn authenticate(
        &mut self,
        ticket: Ticket,
        _adapter: Adapter,
        login: Login,
    ) -> Result<Option<Principal>, Busy> {
        let Login::Password { username, password, .. } = login else { return Err(Busy) };
        let (name, tenant) = username.split_once('@').unwrap_or((&username, ""));
        let result = match name {
            _ if password.expose() != b"secret" || tenant.is_empty() => {
                Err(Refusal::BadCredentials)
            }
            "off" => Err(Refusal::NotFound),
            "barred" => Err(Refusal::Forbidden),
            name => Ok(Principal {
                tenant: tenant.into(),
                name: name.into(),
                role: match name.starts_with("app") {
                    true => Role::Application { may_consume: true },
                    false => Role::Device,
                },
                messaging: rights(name),
                valid_until_ms: name.starts_with("brief").then(|| unix_ms() + 1500),
                connections_max: (tenant == "small").then_some(2),
            }),
        };
        let store = self.store.lock().unwrap();
        if store.silent {
            return Ok(None);
        }
        if store.knows_logins
            && let Ok(principal) = &result
        {
            return Ok(Some(principal.clone()));
        }
        let shard = self.shard.clone();
        let slow = name.starts_with("slow");
        std::thread::spawn(move || {
            if slow {
                std::thread::sleep(Duration::from_millis(300));
            }
            shard.send(Message::Authenticated { ticket, result }).unwrap();
        });
        Ok(None)
    }

    fn connections_of(&mut self, _tenant: &Arc<str>) -> Arc<AtomicU64> {
        self.store.lock().unwrap().connections.clone()
    }

    fn authorise(
        &mut self,
        ticket: Ticket,
        _adapter: Adapter,
        _tenant: &Arc<str>,
        gateway: &Arc<str>,
        device: &str,
    ) -> Result<(), Busy> {
        let store = self.store.lock().unwrap();
        if store.silent {
            return Ok(());
        }
        if store.busy {
            return Err(Busy);
        }
        drop(store);
        let revoked = self.store.lock().unwrap().revoked;
        let result = match device {
            "nobody" => Err(Refusal::NotFound),
            _ if gateway.starts_with("gw") && device.starts_with("behind") && !revoked => Ok(()),
            _ => Err(Refusal::Forbidden),
        };
        let message = Message::Authorised { ticket, device: device.to_owned(), result };
        self.shard.send(message).unwrap();
        Ok(())
    }

    fn recheck(&mut self, _adapter: Adapter, principal: &Principal) -> Result<(), Busy> {
        let mut store = self.store.lock().unwrap();
        if store.busy {
            return Err(Busy);
        }
        store.rechecks += 1;
        if principal.name.ends_with("deleted") {
            let (tenant, device) = (principal.tenant.clone(), Some(principal.name.clone()));
            self.shard.send(Message::Evict { tenant, device }).unwrap();
        }
        Ok(())
    }

    fn load_commands(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Result<(), Busy> {
        let key = (tenant.to_string(), device.to_string());
        let mut store = self.store.lock().unwrap();
        if store.busy {
            return Err(Busy);
        }
        store.loads += 1;
        let commands = store.commands.get(&key).cloned().unwrap_or_default();
        let (tenant, device) = (tenant.clone(), device.clone());
        self.shard.send(Message::Commands { tenant, device, commands }).unwrap();
        Ok(())
    }

    fn command_done(&mut self, tenant: &Arc<str>, device: &Arc<str>, id: &str) -> Result<(), Busy> {
        let mut store = self.store.lock().unwrap();
        if store.busy {
            return Err(Busy);
        }
        let key = (tenant.to_string(), device.to_string());
        store.commands.entry(key).or_default().retain(|command| command.id != id);
        store.done.push(id.to_owned());
        Ok(())
    }

    fn present(&mut self, _tenant: &Arc<str>, device: &Arc<str>) {
        self.store.lock().unwrap().present.push(device.to_string());
    }

    fn absent(&mut self, _tenant: &Arc<str>, device: &Arc<str>) {
        let present = &mut self.store.lock().unwrap().present;
        present.retain(|present| **present != **device);
    }

    fn gateways_of(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Result<(), Busy> {
        let store = self.store.lock().unwrap();
        if store.busy {
            return Err(Busy);
        }
        let known = device.starts_with("behind") && !store.revoked && !store.knows_no_gateways;
        let gateways = if known { vec!["gw2".to_owned(), "gw".to_owned()] } else { Vec::new() };
        let (tenant, device) = (tenant.clone(), device.clone());
        self.shard.send(Message::Gateways { tenant, device, gateways }).unwrap();
        Ok(())
    }

    fn gateway_present(&mut self, _tenant: &Arc<str>, gateway: &Arc<str>) {
        self.store.lock().unwrap().present.push(format!("+{gateway}"));
    }

    fn gateway_absent(&mut self, _tenant: &Arc<str>, gateway: &Arc<str>) {
        let present = &mut self.store.lock().unwrap().present;
        present.retain(|present| present.strip_prefix('+') != Some(&**gateway));
    }
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Runs of nodes so far.
static BOOTS: AtomicU64 = AtomicU64::new(1);

/// Which shard of how many listens where.
static PLACES: Mutex<BTreeMap<SocketAddr, (u16, u16)>> = Mutex::new(BTreeMap::new());

/// A client identifier owned by the shard that listens at `address`.
pub fn client_id_for(address: SocketAddr, username: &str) -> String {
    let (shard, shards) = PLACES.lock().unwrap().get(&address).copied().unwrap_or((0, 1));
    let tenant = username.split_once('@').map_or("", |(_, tenant)| tenant);
    (0..)
        .map(|count| if count == 0 { username.to_owned() } else { format!("{username}#{count}") })
        .find(|id| owner(&[tenant, id], shards).0 == shard)
        .unwrap()
}

/// Clients whose names begin with `chat` may use every messaging address.
fn rights(name: &str) -> Arc<MessagingRights> {
    let all = || match name.starts_with("chat") {
        true => vec!["#".into()],
        false => Vec::new(),
    };
    Arc::new(MessagingRights { publish: all(), subscribe: all() })
}

/// Prepares segments on a thread of its own, as the maintenance thread does.
struct FakeSegments {
    requests: mpsc::Sender<SegmentRequest>,
}

impl FakeSegments {
    fn start(journal: JournalKind, shard: ShardHandle, store: Arc<Mutex<Store>>) -> FakeSegments {
        let (requests, work) = mpsc::channel();
        std::thread::spawn(move || {
            for request in work {
                while store.lock().unwrap().segments_held {
                    std::thread::sleep(Duration::from_millis(5));
                }
                match request {
                    SegmentRequest::Prepare { number, path, bytes, mode, .. } => {
                        std::fs::write(&path, vec![0; bytes as usize]).unwrap();
                        let result = match store.lock().unwrap().disk_fails {
                            true => File::options().write(true).open("/dev/full"),
                            false => open_segment(&path, mode),
                        };
                        let _ = shard.send(Message::SegmentPrepared { journal, number, result });
                    }
                    SegmentRequest::Drop { path, .. } => drop(std::fs::remove_file(path)),
                }
            }
        });
        FakeSegments { requests }
    }
}

impl Segments for FakeSegments {
    fn request(&mut self, _partition: u16, request: SegmentRequest) -> Result<(), SegmentRequest> {
        self.requests.send(request).map_err(|error| error.0)
    }
}

pub struct Node {
    pub mqtt: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub amqp: Vec<SocketAddr>,
    pub handles: Vec<ShardHandle>,
    pub metrics: Vec<Arc<ShardMetrics>>,
    pub store: Arc<Mutex<Store>>,
    pub tails: Vec<Tail>,
    threads: Vec<JoinHandle<()>>,
}

pub fn journal_config(dir: &Path, shards: u16) -> JournalConfig {
    JournalConfig {
        segment_bytes: 1 << 20,
        bytes_max: 8 << 20,
        reserve_bytes: 64 << 10,
        batch_bytes_max: 256 << 10,
        ..JournalConfig::new(dir.join("journal"), shards)
    }
}

impl Node {
    /// Starts `shards` shards, each with listeners of its own so that a test decides where a connection lands.
    pub fn start(dir: &Path, shards: u16) -> Node {
        Node::start_with(&journal_config(dir, shards), RingConfig::default())
    }

    pub fn start_with(journal: &JournalConfig, ring: RingConfig) -> Node {
        let sessions = JournalConfig { dir: journal.dir.join("sessions"), ..journal.clone() };
        Node::start_limited(journal, &sessions, ring, &SessionLimits::default())
    }

    /// With a session journal and limits of its own.
    pub fn start_limited(
        journal: &JournalConfig,
        sessions: &JournalConfig,
        ring: RingConfig,
        limits: &SessionLimits,
    ) -> Node {
        let shards = journal.partitions;
        let boot = BOOTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Opened { partitions, .. } = open(journal).unwrap();
        let sessions = open(sessions).unwrap().partitions;
        let mailboxes: Vec<_> = (0..shards).map(|_| Mailbox::new(shards)).collect();
        let store = Arc::new(Mutex::new(Store::default()));
        let mut node = Node {
            mqtt: Vec::new(),
            http: Vec::new(),
            amqp: Vec::new(),
            handles: mailboxes.iter().cloned().map(ShardHandle::new).collect(),
            metrics: (0..shards).map(|_| Arc::default()).collect(),
            store,
            tails: Vec::new(),
            threads: Vec::new(),
        };
        let doorbells = Arc::new(Mutex::new(vec![None; usize::from(shards)]));
        let barrier = Arc::new(Barrier::new(usize::from(shards)));
        for (index, ((partition, tail), kept)) in partitions.into_iter().zip(sessions).enumerate() {
            let mqtt = bind_listener("127.0.0.1:0".parse().unwrap(), false, 128).unwrap();
            let http = bind_listener("127.0.0.1:0".parse().unwrap(), false, 128).unwrap();
            let amqp = bind_listener("127.0.0.1:0".parse().unwrap(), false, 128).unwrap();
            node.amqp.push(amqp.local_addr().unwrap());
            node.mqtt.push(mqtt.local_addr().unwrap());
            PLACES.lock().unwrap().insert(mqtt.local_addr().unwrap(), (index as u16, shards));
            node.http.push(http.local_addr().unwrap());
            node.tails.push(tail);
            let shard = node.handles[index].clone();
            let (mailboxes, metrics) = (mailboxes.clone(), node.metrics[index].clone());
            let (doorbells, barrier) = (doorbells.clone(), barrier.clone());
            let (store, ring, limits) = (node.store.clone(), ring.clone(), limits.clone());
            let mode = journal.write_mode;
            node.threads.push(std::thread::spawn(move || {
                let mut ring = Ring::new(ring).unwrap();
                doorbells.lock().unwrap()[index] = Some(ring.doorbell());
                barrier.wait();
                let doorbells = doorbells.lock().unwrap().clone();
                let peer = |(peer, doorbell): (usize, Option<Doorbell>)| {
                    let mailbox = mailboxes[peer].clone();
                    (peer != index).then(|| Peer { mailbox, doorbell: doorbell.unwrap() })
                };
                let peers = doorbells.into_iter().enumerate().map(peer).collect();
                let segments =
                    FakeSegments::start(JournalKind::Sessions, shard.clone(), store.clone());
                let mut sessions =
                    SessionStore::read(index as u16, limits, kept, mode, Box::new(segments))
                        .unwrap();
                sessions.set_boot(boot);
                let mut handler = Shard::new(ShardParts {
                    index: index as u16,
                    settings: Settings {
                        message_bytes_max: 64 * 1024,
                        connect_timeout: Duration::from_secs(2),
                        ..Settings::default()
                    },
                    mailbox: mailboxes[index].clone(),
                    peers,
                    listeners: vec![
                        (mqtt, Speaks::Mqtt, Layers::default()),
                        (http, Speaks::Http, Layers::default()),
                        (amqp, Speaks::Amqp, Layers::default()),
                    ],
                    sessions,
                    partition,
                    write_mode: mode,
                    segments: Box::new(FakeSegments::start(
                        JournalKind::Messages,
                        shard.clone(),
                        store.clone(),
                    )),
                    registry: Box::new(FakeRegistry { shard: shard.clone(), store }),
                    live: None,
                    metrics,
                });
                shard.connect(ring.waker());
                ring.run(&mut handler).unwrap();
            }));
        }
        node
    }

    /// A client of messaging whose session lives on shard `shard`.
    pub fn chat(&self, shard: usize, name: &str) -> chat::Chat {
        let username = format!("chat-{name}@t");
        chat::Chat::new(&username, &client_id_for(self.mqtt[shard], &username))
    }

    /// The same with a session that is kept.
    pub fn durable_chat(&self, shard: usize, name: &str) -> chat::Chat {
        self.chat(shard, name).keeping(3600)
    }

    /// Drains all shards and waits for their threads.
    pub fn stop(mut self) {
        for handle in &self.handles {
            handle.send(Message::Drain).unwrap();
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    pub fn total(&self, counter: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.metrics.iter().map(|metrics| counter(metrics)).sum()
    }

    /// Waits until `holds`, for at most five seconds.
    #[track_caller]
    pub fn wait_for(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        for _ in 0..500 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited five seconds for {what}");
    }
}

/// What a client reads, copied out of its buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    ConnAck(u8),
    Publish { topic: String, payload: Vec<u8>, packet_id: Option<u16> },
    PubAck(u16),
    SubAck(Vec<u8>),
    Pong,
    Other,
}

/// A blocking MQTT client on the project's codec.
pub struct Client {
    pub socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub fn open(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Client { socket, input: Vec::new() }
    }

    /// A second client on the same connection, to write while this one reads.
    pub fn duplicate(&self) -> Client {
        Client { socket: self.socket.try_clone().unwrap(), input: Vec::new() }
    }

    /// With a client identifier that is owned by the shard that listens there, so that the connection stays.
    pub fn connect(address: SocketAddr, username: &str) -> Client {
        let mut client = Client::open(address);
        client.send_connect(username, "secret", &client_id_for(address, username), 0);
        assert_eq!(client.read(), Some(Seen::ConnAck(0)), "{username}");
        client
    }

    pub fn send_connect(
        &mut self,
        username: &str,
        password: &str,
        client_id: &str,
        keep_alive_s: u16,
    ) {
        let connect = Connect {
            level: ProtocolLevel::V311,
            clean_session: true,
            keep_alive_s,
            client_id,
            will: None,
            username: Some(username),
            password: Some(password.as_bytes()),
            properties: Properties::default(),
        };
        self.write(|out| encode_connect(&connect, out).unwrap());
    }

    pub fn publish(&mut self, topic: &str, qos: u8, packet_id: Option<u16>, payload: &[u8]) {
        let qos = QoS::from_u8(qos).unwrap();
        self.write(|out| {
            encode_publish_parts(out, topic, qos, packet_id, false, false, payload).unwrap();
        });
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Vec<u8> {
        self.write(|out| {
            encode_subscribe(9, &[(filter, QoS::from_u8(qos).unwrap())], out).unwrap();
        });
        match self.read() {
            Some(Seen::SubAck(codes)) => codes,
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub fn acknowledge(&mut self, packet_id: u16) {
        self.write(|out| fulcrum_mqtt::encode_puback(packet_id, out));
    }

    pub fn write(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        encode(&mut out);
        self.socket.write_all(&out).unwrap();
    }

    pub fn write_packet(&mut self, packet: &Packet<'_>) {
        self.write(|out| encode_packet(packet, ProtocolLevel::V311, out).unwrap());
    }

    /// The next packet; `None` when the server has closed the connection.
    pub fn read(&mut self) -> Option<Seen> {
        let context = DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max: 1 << 20 };
        loop {
            let decoded = fulcrum_mqtt::decode(&self.input, &context).unwrap();
            if let Decoded::Packet { packet, used } = decoded {
                let seen = seen(&packet);
                self.input.drain(..used);
                return Some(seen);
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

    #[track_caller]
    pub fn expect_publish(&mut self) -> (String, Vec<u8>, Option<u16>) {
        match self.read() {
            Some(Seen::Publish { topic, payload, packet_id }) => (topic, payload, packet_id),
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }
}

fn seen(packet: &Packet<'_>) -> Seen {
    match packet {
        Packet::ConnAck(connack) => match connack.code {
            fulcrum_mqtt::ConnAckCode::V311(code) => Seen::ConnAck(code.as_u8()),
            fulcrum_mqtt::ConnAckCode::V5(_) => Seen::Other,
        },
        Packet::Publish(publish) => Seen::Publish {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            packet_id: publish.packet_id,
        },
        Packet::PubAck { packet_id, .. } => Seen::PubAck(*packet_id),
        Packet::SubAck(suback) => {
            Seen::SubAck(suback.codes.iter().map(|code| code.as_u8()).collect())
        }
        Packet::PingResp => Seen::Pong,
        _ => Seen::Other,
    }
}

/// Sends raw HTTP and reads until `answers` status lines have come or the server closes.
pub fn http(address: SocketAddr, request: &[u8], answers: usize) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.write_all(request).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 16 * 1024];
    while text.matches("HTTP/1.1 ").count() < answers
        || !text.ends_with("\r\n\r\n") && !text.ends_with('}')
    {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => text.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap()),
            Err(error) => panic!("the server is silent after {text:?}: {error}"),
        }
    }
    text
}

/// Frames of a partition's committed messages: (class, device, payload).
pub fn stored(tail: &Tail) -> Vec<(fulcrum_frame::Class, String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut position = tail.start();
    while position < tail.committed() {
        let (path, offset, segment_bytes) = tail.segment_path(position);
        let bytes = std::fs::read(path).unwrap();
        let rest = &bytes[offset as usize..segment_bytes as usize];
        match tail.reader().parse(rest, position, tail.committed()) {
            fulcrum_journal::Step::Record(record) => {
                if record.kind == fulcrum_journal::Kind::Message {
                    let frame = fulcrum_frame::Frame::parse(record.body).unwrap();
                    found.push((
                        frame.class(),
                        frame.device().unwrap().to_owned(),
                        frame.payload().to_vec(),
                    ));
                }
                position = record.next;
            }
            fulcrum_journal::Step::EndOfSegment { next } => position = next,
            other => panic!("the journal is not readable at {position:?}: {other:?}"),
        }
    }
    found
}
