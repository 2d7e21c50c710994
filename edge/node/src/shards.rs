//! One thread per shard: each makes its ring where it will run it, then all learn of each other, then they go.

use crate::config::Config;
use crate::listeners::Sockets;
use crate::registry::presence::Presences;
use crate::registry::{ShardRegistry, TenantConnections};
use fulcrum_identity::{Identity, Verifier};
use fulcrum_journal::Partition;
use fulcrum_ring::{Doorbell, Ring, RingError, Waker};
use fulcrum_shard::{
    JournalKind, LiveConsumer, Mailbox, Message, Peer, Segments, SessionStore, Settings, Shard,
    ShardHandle, ShardMetrics, ShardParts,
};
use fulcrum_uplink::PresenceSender;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What all shards share.
pub struct Shared {
    pub identity: Identity,
    pub verifier: Arc<Verifier>,
    pub presence: Option<PresenceSender>,
    /// Makes the consumer of live telemetry for one shard.
    pub live: Option<Box<dyn Fn() -> Box<dyn LiveConsumer>>>,
    /// Makes the way to the thread that prepares segments.
    pub segments: Box<dyn Fn(JournalKind) -> Box<dyn Segments>>,
}

/// The running shards.
pub struct Shards {
    pub handles: Vec<ShardHandle>,
    pub metrics: Vec<Arc<ShardMetrics>>,
    threads: Vec<JoinHandle<Result<(), RingError>>>,
}

/// The mailboxes and handles of a node's shards; made before anything that wants to reach them.
pub fn mailboxes(shards: u16) -> (Vec<Arc<Mailbox>>, Vec<ShardHandle>) {
    let mailboxes: Vec<_> = (0..shards).map(|_| Mailbox::new(shards)).collect();
    let handles = mailboxes.iter().cloned().map(ShardHandle::new).collect();
    (mailboxes, handles)
}

impl Shards {
    /// Starts the threads and waits until every ring is made.
    pub fn start(
        config: &Config,
        sockets: Sockets,
        mailboxes: &[Arc<Mailbox>],
        handles: Vec<ShardHandle>,
        partitions: Vec<Partition>,
        sessions: Vec<SessionStore>,
        shared: &Shared,
    ) -> Result<Shards, Box<dyn std::error::Error>> {
        let mut shards = Shards { handles, metrics: Vec::new(), threads: Vec::new() };
        let mut meetings = Vec::new();
        let connections = Arc::<TenantConnections>::default();
        let presences = Arc::new(Presences::new(shared.presence.clone()));
        let all: Arc<[ShardHandle]> = shards.handles.as_slice().into();
        let stores = partitions.into_iter().zip(sessions);
        for ((index, (partition, sessions)), listeners) in (0..).zip(stores).zip(sockets.of_shards)
        {
            let metrics = Arc::<ShardMetrics>::default();
            let handle = shards.handles[usize::from(index)].clone();
            let parts = ShardParts {
                index,
                settings: settings(config),
                mailbox: mailboxes[usize::from(index)].clone(),
                peers: Vec::new(),
                listeners,
                partition,
                sessions,
                write_mode: config.journal.write_mode.into(),
                segments: (shared.segments)(JournalKind::Messages),
                registry: Box::new(ShardRegistry {
                    connections: connections.clone(),
                    verifier: shared.verifier.clone(),
                    known: shared.identity.known_logins(),
                    index,
                    shard: handle.clone(),
                    shards: all.clone(),
                    presences: presences.clone(),
                }),
                live: shared.live.as_ref().map(|live| live()),
                metrics: metrics.clone(),
            };
            shards.metrics.push(metrics);
            let (made, hears) = sync_channel(1);
            let (tells, peers) = sync_channel(1);
            let ring = config.ring(index);
            let thread =
                std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                    run(ring, parts, &made, &peers).inspect_err(|error| {
                        tracing::error!(shard = index, %error, "the shard's loop has ended");
                    })
                })?;
            shards.threads.push(thread);
            meetings.push((hears, tells));
        }
        shards.introduce(mailboxes, meetings)?;
        Ok(shards)
    }

    fn introduce(
        &mut self,
        mailboxes: &[Arc<Mailbox>],
        meetings: Vec<Meeting>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut doorbells = Vec::new();
        for (index, (made, _)) in meetings.iter().enumerate() {
            let (waker, doorbell) =
                made.recv().map_err(|_| format!("shard {index} ended while starting"))??;
            self.handles[index].connect(waker);
            doorbells.push(doorbell);
        }
        for (own, (_, tell)) in meetings.iter().enumerate() {
            let peer = |(index, doorbell): (usize, &Doorbell)| {
                let mailbox = mailboxes[index].clone();
                (index != own).then(|| Peer { mailbox, doorbell: doorbell.clone() })
            };
            let peers = doorbells.iter().enumerate().map(peer).collect();
            tell.send(peers).map_err(|_| format!("shard {own} ended while starting"))?;
        }
        Ok(())
    }

    /// Asks every shard to take no more connections, commit what is pending and stop.
    pub fn drain(&self) {
        for handle in &self.handles {
            crate::registry::offer(handle, Message::Drain);
        }
    }

    /// Whether a shard has ended.
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Whether all shards have ended.
    pub fn all_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the threads; the first error of any of them.
    pub fn join(self) -> Result<(), Box<dyn std::error::Error>> {
        for (index, thread) in self.threads.into_iter().enumerate() {
            thread.join().map_err(|_| format!("shard {index} panicked"))??;
        }
        Ok(())
    }
}

fn settings(config: &Config) -> Settings {
    let mqtt = config.mqtt.as_ref();
    let reference = mqtt.and_then(|mqtt| mqtt.server_reference.as_deref());
    Settings {
        message_bytes_max: config.limits.message_bytes,
        keep_alive_max_s: mqtt.map_or(0, |mqtt| mqtt.keep_alive_max_s),
        session_expiry_max_s: config.sessions.expiry_max_s,
        server_reference: reference.map(Arc::from),
        ..Settings::default()
    }
}

/// Hears that a shard's ring is made; tells it who the others are.
type Meeting = (Receiver<Made>, SyncSender<Vec<Option<Peer>>>);
type Made = Result<(Waker, Doorbell), RingError>;

fn run(
    config: fulcrum_ring::RingConfig,
    mut parts: ShardParts,
    made: &SyncSender<Made>,
    peers: &Receiver<Vec<Option<Peer>>>,
) -> Result<(), RingError> {
    let mut ring = match Ring::new(config) {
        Ok(ring) => ring,
        Err(error) => {
            let _ = made.send(Err(error));
            return Ok(());
        }
    };
    let introduced = made.send(Ok((ring.waker(), ring.doorbell()))).is_ok();
    // Only a start that failed elsewhere hangs up here.
    let (true, Ok(others)) = (introduced, peers.recv()) else { return Ok(()) };
    parts.peers = others;
    ring.run(&mut Shard::new(parts))
}
