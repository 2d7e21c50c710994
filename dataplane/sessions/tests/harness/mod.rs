//! What the tests share: a log in memory that can lose its tail, and a shard over it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses a part; a failed expectation is a failed test"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulcrum_sessions::*;

/// A log in memory. Records up to `durable` survive a crash; others survive as far as the test says.
#[derive(Clone, Default)]
pub struct MemoryLog {
    /// (ticket, segment, tenant, record, essential)
    pub records: Vec<(u64, u64, String, Vec<u8>)>,
    pub last: u64,
    pub durable: u64,
    pub segment_bytes: usize,
    pub used: usize,
    pub segment: u64,
    pub oldest: u64,
    /// What it answers instead of taking a record.
    pub refuses: Option<Room>,
    /// ... or only for records that are not essential.
    pub refuses_new: Option<Room>,
}

impl MemoryLog {
    pub fn new(segment_bytes: usize) -> Self {
        Self { segment_bytes, segment: 1, oldest: 1, ..Self::default() }
    }

    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.3.len()).sum()
    }

    /// Drops the segments below.
    pub fn drop_below(&mut self, segment: u64) {
        assert!(segment <= self.segment);
        self.oldest = self.oldest.max(segment);
        let oldest = self.oldest;
        self.records.retain(|record| record.1 >= oldest);
    }

    /// The log as it is found after a crash that lost all but `kept` of the records that were not durable.
    pub fn after_crash(&self, kept: usize) -> Self {
        let mut log = self.clone();
        let durable = log.records.iter().filter(|record| record.0 <= log.durable).count();
        log.records.truncate(durable + kept);
        log.refuses = None;
        log.refuses_new = None;
        log.durable = log.last;
        // A new process writes to a new segment.
        log.used = 0;
        log.segment = 1 + log.records.last().map_or(log.oldest, |record| record.1);
        log
    }
}

impl Log for MemoryLog {
    fn room(&self, _bytes: usize) -> Room {
        self.refuses.or(self.refuses_new).unwrap_or(Room::Here)
    }

    fn append(&mut self, tenant: &str, record: &[u8], essential: bool) -> Result<Place, Room> {
        if let Some(room) = self.refuses {
            return Err(room);
        }
        if let (Some(room), false) = (self.refuses_new, essential) {
            return Err(room);
        }
        if self.used + record.len() > self.segment_bytes && self.used > 0 {
            self.segment += 1;
            self.used = 0;
        }
        self.used += record.len();
        self.last += 1;
        self.records.push((self.last, self.segment, tenant.into(), record.to_vec()));
        Ok(Place { ticket: self.last, segment: self.segment })
    }

    fn oldest_segment(&self) -> u64 {
        self.oldest
    }

    fn current_segment(&self) -> u64 {
        self.segment
    }
}

/// A shard: sessions over a log, with a clock.
pub struct Shard {
    pub sessions: Sessions,
    pub log: MemoryLog,
    pub now: Instant,
    pub now_ms: u64,
    pub limits: Limits,
    pub links: u64,
}

pub const EPOCH: u64 = 7;

pub fn tenant() -> Arc<str> {
    "plant".into()
}

pub fn limits() -> Limits {
    Limits::default()
}

pub fn message(text: &str) -> Arc<Message> {
    Arc::new(Message::new(Bytes::copy_from_slice(text.as_bytes()), None))
}

pub fn text(message: &Message) -> String {
    String::from_utf8(message.frame().to_vec()).unwrap()
}

pub fn will(text: &str, delay_s: u32) -> Will {
    let frame = Bytes::copy_from_slice(text.as_bytes());
    Will::new(tenant(), "nobody".into(), frame, delay_s)
}

/// What a client sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    Publish { id: u16, dup: bool, qos: u8, text: String },
    Rel(u16),
}

impl Shard {
    pub fn new() -> Self {
        Self::with(limits(), 1 << 20)
    }

    pub fn with(limits: Limits, segment_bytes: usize) -> Self {
        Self {
            sessions: Sessions::new(limits.clone(), 3, EPOCH),
            log: MemoryLog::new(segment_bytes),
            now: Instant::now(),
            now_ms: 1_000_000,
            limits,
            links: 0,
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.now_ms += time.as_millis() as u64;
    }

    /// A crash that loses all but `kept` of the records that are not durable; then a start.
    pub fn crash(&mut self, kept: usize) {
        self.log = self.log.after_crash(kept);
        self.sessions = replayed(&self.log, &self.limits, self.now, self.now_ms);
    }

    /// Everything appended is durable.
    pub fn sync(&mut self) {
        self.log.durable = self.log.last;
        self.sessions.durable(self.log.last);
    }

    pub fn try_attach(
        &mut self,
        client: &str,
        clean: bool,
        expiry_s: u32,
        will: Option<Will>,
    ) -> Result<Attached, AttachRefused> {
        self.links += 1;
        let who = Attach {
            tenant: &tenant(),
            client_id: client,
            principal: &"device-1".into(),
            clean_start: clean,
            expiry_s,
            receive_max: 0,
            link: self.links,
            will,
        };
        self.sessions.attach(&mut self.log, who, self.now, self.now_ms)
    }

    pub fn attach(&mut self, client: &str, clean: bool, expiry_s: u32) -> Attached {
        self.try_attach(client, clean, expiry_s, None).unwrap()
    }

    /// A client with its session, durable and open.
    pub fn connect(&mut self, client: &str, expiry_s: u32) -> SessionKey {
        let key = self.attach(client, false, expiry_s).key;
        self.sync();
        key
    }

    /// With this receive maximum.
    pub fn connect_narrow(&mut self, client: &str, expiry_s: u32, receive_max: u16) -> SessionKey {
        self.links += 1;
        let who = Attach {
            tenant: &tenant(),
            client_id: client,
            principal: &"device-1".into(),
            clean_start: false,
            expiry_s,
            receive_max,
            link: self.links,
            will: None,
        };
        let key = self.sessions.attach(&mut self.log, who, self.now, self.now_ms).unwrap().key;
        self.sync();
        key
    }

    pub fn leave(&mut self, key: SessionKey, keep_will: bool) -> Detached {
        let link = self.sessions.link(key).unwrap();
        let how = Leave { keep_will, expiry_s: None };
        self.sessions.detach(&mut self.log, key, link, how, self.now, self.now_ms)
    }

    pub fn deliver_message(
        &mut self,
        keys: &[SessionKey],
        qos: u8,
        message: &Arc<Message>,
    ) -> (Vec<Delivered>, Result<Option<u64>, Room>) {
        let mut transaction = self.sessions.begin(&tenant());
        let options = Options { qos, retain: false, subscription_ids: &[], group: None };
        let delivered = keys
            .iter()
            .map(|key| self.sessions.deliver(&mut transaction, *key, message, options))
            .collect();
        (delivered, self.sessions.commit(&mut self.log, transaction))
    }

    pub fn deliver(&mut self, key: SessionKey, qos: u8, text: &str) -> Option<u64> {
        let (delivered, ticket) = self.deliver_message(&[key], qos, &message(text));
        assert_eq!(delivered, [Delivered::Taken]);
        ticket.unwrap()
    }

    /// A QoS 2 PUBLISH from a client, to one session.
    pub fn publish2(&mut self, from: SessionKey, id: u16, to: SessionKey, text: &str) -> Incoming {
        let mut transaction = self.sessions.begin(&tenant());
        let incoming = self.sessions.incoming(&mut transaction, from, id);
        if incoming == Incoming::New {
            let options = Options { qos: 2, retain: false, subscription_ids: &[], group: None };
            let _ = self.sessions.deliver(&mut transaction, to, &message(text), options);
            self.sessions.commit(&mut self.log, transaction).unwrap();
        }
        incoming
    }

    /// All that goes out to a client now.
    pub fn sent(&mut self, key: SessionKey) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(out) = self.sessions.next(&mut self.log, key, self.now_ms) {
            sent.push(match out {
                Outgoing::Publish { packet_id, dup, qos, message, .. } => {
                    Sent::Publish { id: packet_id, dup, qos, text: text(&message) }
                }
                Outgoing::PubRel { packet_id } => Sent::Rel(packet_id),
            });
        }
        sent
    }

    pub fn sent_texts(&mut self, key: SessionKey) -> Vec<String> {
        let texts = self.sent(key).into_iter().filter_map(|sent| match sent {
            Sent::Publish { text, .. } => Some(text),
            Sent::Rel(_) => None,
        });
        texts.collect()
    }

    pub fn due(&mut self) -> Vec<Due> {
        let mut due = Vec::new();
        self.sessions.timeout(&mut self.log, self.now, self.now_ms, &mut due);
        due
    }

    pub fn ready(&mut self) -> Vec<SessionKey> {
        std::iter::from_fn(|| self.sessions.poll_ready()).collect()
    }
}

pub fn replayed(log: &MemoryLog, limits: &Limits, now: Instant, now_ms: u64) -> Sessions {
    let mut recovery = Recovery::new(limits.clone(), 3, EPOCH);
    for (_, segment, _, record) in &log.records {
        recovery.replay(*segment, record).unwrap();
    }
    let mut sessions = recovery.finish(now, now_ms);
    sessions.durable(log.last);
    sessions
}

/// All that a session is, in words, so that two shards can be compared.
pub fn described(sessions: &Sessions) -> Vec<String> {
    let mut all: Vec<String> = sessions
        .keys()
        .map(|key| {
            let filters: Vec<String> = sessions
                .subscriptions(key)
                .map(|(filter, subscription)| format!("{filter}:{subscription:?}"))
                .collect();
            let known: Vec<u16> =
                (1..100).filter(|id| sessions.incoming_is_known(key, *id)).collect();
            let client = sessions.client_id(key).unwrap();
            format!("{client} {:?} {filters:?} {known:?}", sessions.principal(key))
        })
        .collect();
    all.extend(sessions.retained().map(|r| format!("retained {} {:?}", r.topic, r.frame)));
    all.extend(sessions.pending_forwards().map(|forward| format!("{forward:?}")));
    all.sort();
    all
}
