//! `fulcrum-edge run`: start everything, wait for the end, stop everything in order.
//!
//! 1. Preflight, sockets, data directory, journal recovery, the registry's replica.
//! 2. Maintenance thread, identity threads, shards.
//! 3. This thread becomes the uplink's: tokio-uring runs the uplink and the admin endpoint until a signal comes.
//! 4. Shards drain (what they acknowledged is committed), the uplink ships what it can in a few seconds, threads end.

use crate::config::{Config, Uplink};
use crate::listeners::{Protocol, Sockets};
use crate::observe::Observed;
use crate::registry::{offer_patiently, unix_ms};
use crate::segments::{ShardSegments, journal_of};
use crate::shards::{Shards, Shared, mailboxes};
use crate::uplink::{Events, ShardLive, expire_commands};
use crate::{check, data_dir, logging};
use fulcrum_admin::{AdminConfig, Health, State};
use fulcrum_identity::verifier::VerifierConfig;
use fulcrum_identity::{Identity, Verifier};
use fulcrum_journal::{JournalConfig, Tail};
use fulcrum_maintenance::{Maintenance, MaintenanceConfig};
use fulcrum_ring::preflight;
use fulcrum_shard::{JournalKind, LiveConsumer, Message, SessionStore, ShardHandle};
use fulcrum_transport::ServerTls;
use fulcrum_uplink::{
    Backoff, LinkStatus, LiveReceiver, PresenceReceiver, UplinkConfig, UplinkParts, live_channel,
    presence_channel,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Devices whose coming and going waits for the uplink.
const PRESENCE_QUEUE: usize = 65_536;
/// How often health is looked at.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);
/// How often commands whose time is over are looked for.
const EXPIRY_PERIOD: Duration = Duration::from_secs(15);
/// Time for the shards to stop; their own time for it is a third of this.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Longest pause between the uplink's attempts, unless configured.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error>;

/// Runs the node until a signal ends it.
pub fn run(config: Config) -> Result<(), Error> {
    logging::start(&config.log)?;
    if let Err(error) = preflight::raise_file_limit() {
        tracing::warn!(%error, "cannot raise the file limit");
    }
    let checks = check::checks(&config);
    if !preflight::is_fit(&checks) {
        let complaint = check::complaint(&checks);
        return Err(format!("this host does not fit the node yet:\n{complaint}").into());
    }
    // Addresses first: what is in the way there is known at once, and nothing has to be undone.
    let sockets = Sockets::open(&config)?;
    let admin = listen_for_admin(&config)?;
    let addresses = Addresses {
        mqtt: sockets.first(Protocol::Mqtt),
        http: sockets.first(Protocol::Http),
        amqp: sockets.first(Protocol::Amqp),
        all: sockets.addresses.clone(),
        admin: admin.local_addr()?,
    };
    let tls = sockets.tls.clone();
    data_dir::prepare(&config.node.data_dir)?;
    let health = Arc::new(Health::new());
    let opened = open_journal(&config.journal())?;
    let kept = open_journal(&config.session_journal())?;
    let identity = Identity::open(&config.identity_file())?;
    health.set("identity", State::Ok);
    let verifier =
        VerifierConfig { verify_threads: config.node.verify_threads, ..Default::default() };
    let verifier = Arc::new(Verifier::start(identity.clone(), verifier)?);
    let (mailboxes, handles) = mailboxes(config.shards());
    let maintenance = start_maintenance(handles.clone())?;
    let (partitions, tails): (Vec<_>, Vec<_>) = opened.partitions.into_iter().unzip();

    let cloud = config.uplink.as_ref().map(Cloud::new).transpose()?;
    let requests = maintenance.requests();
    let shared = Shared {
        identity: identity.clone(),
        verifier: verifier.clone(),
        presence: cloud.as_ref().map(|cloud| cloud.presence_sender.clone()),
        live: cloud.as_ref().map(|cloud| {
            let live = cloud.live_sender.clone();
            Box::new(move || -> Box<dyn LiveConsumer> { Box::new(ShardLive(live.clone())) }) as _
        }),
        segments: Box::new(move |journal| {
            Box::new(ShardSegments { requests: requests.clone(), journal })
        }),
    };
    let sessions = read_sessions(&config, kept, &shared)?;
    let shards =
        Shards::start(&config, sockets, &mailboxes, handles, partitions, sessions, &shared)?;
    drop(shared);
    for index in 0..shards.handles.len() {
        health.set(&format!("shard-{index}"), State::Ok);
    }
    let observed = Arc::new(Observed {
        shards: shards.metrics.clone(),
        identity,
        verifier: verifier.clone(),
        link: cloud.as_ref().map(|cloud| cloud.status.clone()),
        health: health.clone(),
        started: Instant::now(),
    });
    observed.refresh_health();
    let events = Events { verifier, shards: shards.handles.clone() };
    let supervised = Supervised { shards, observed, cloud, tails, events, admin, addresses, tls };
    tokio_uring::start(supervise(supervised))?;
    maintenance.stop();
    tracing::info!("stopped");
    Ok(())
}

fn listen_for_admin(config: &Config) -> Result<std::net::TcpListener, Error> {
    let address = config.admin.listen;
    std::net::TcpListener::bind(address).map_err(|error| {
        format!("cannot listen on {address} for [admin]: {error}; is another server, or another node, running there?")
            .into()
    })
}

fn open_journal(config: &JournalConfig) -> Result<fulcrum_journal::Opened, Error> {
    let opened = fulcrum_journal::open(config)?;
    let journal = config.dir.display();
    for (number, partition) in opened.report.partitions.iter().enumerate() {
        for quarantine in &partition.quarantined {
            let damage = quarantine.damage;
            tracing::warn!(
                %journal,
                partition = number,
                from = %damage.from,
                to = %damage.to,
                messages_lost_at_most = quarantine.messages_max,
                "a damaged range of the journal is set aside"
            );
        }
        tracing::info!(
            %journal,
            partition = number,
            records = partition.records,
            bytes_scanned = partition.bytes_scanned,
            torn_bytes = partition.torn_bytes,
            damaged_ranges = partition.quarantined.len(),
            sequences_unknown = partition.sequences_unknown,
            tenants = partition.next_sequences.len(),
            cursor = %partition.cursor,
            end = %partition.end,
            "journal partition recovered"
        );
    }
    Ok(opened)
}

/// Reads what MQTT sessions must not forget back into memory.
fn read_sessions(
    config: &Config,
    kept: fulcrum_journal::Opened,
    shared: &Shared,
) -> Result<Vec<SessionStore>, Error> {
    let boot = u64::from(std::process::id()) << 32 ^ unix_ms();
    let mut stores = Vec::new();
    for (shard, partition) in (0..).zip(kept.partitions) {
        let limits = config.session_limits();
        let mode = config.journal.write_mode.into();
        let segments = (shared.segments)(JournalKind::Sessions);
        let mut store =
            SessionStore::read(shard, limits, partition, mode, segments).map_err(|error| {
                format!("cannot read the session journal of shard {shard}: {error}")
            })?;
        store.set_boot(boot);
        tracing::info!(
            shard,
            sessions = store.sessions(),
            queued_messages = store.queued(),
            retained_messages = store.retained(),
            unreadable_records = store.unreadable,
            "MQTT sessions recovered"
        );
        stores.push(store);
    }
    Ok(stores)
}

fn start_maintenance(shards: Vec<ShardHandle>) -> Result<Maintenance, Error> {
    // Two for every segment a partition can want are more than can be asked for.
    let queue = 128 * shards.len();
    let answer = Box::new(move |partition: u16, number: u64, result| {
        let (journal, partition) = journal_of(partition);
        if let Some(shard) = shards.get(usize::from(partition)) {
            // Without its segment the partition would stand still.
            offer_patiently(shard, Message::SegmentPrepared { journal, number, result });
        }
    });
    Ok(fulcrum_maintenance::spawn(MaintenanceConfig { queue, answer })?)
}

/// The uplink's settings and both ends of its channels.
struct Cloud {
    config: UplinkConfig,
    status: Arc<LinkStatus>,
    live_sender: fulcrum_uplink::LiveSender,
    live_receiver: LiveReceiver,
    presence_sender: fulcrum_uplink::PresenceSender,
    presence_receiver: PresenceReceiver,
}

impl Cloud {
    fn new(settings: &Uplink) -> Result<Cloud, Error> {
        let cloud = settings.cloud.parse().map_err(|error| {
            format!("uplink.cloud '{}': {error}; expected https://host:port", settings.cloud)
        })?;
        let backoff_max = settings.backoff_max_ms.map_or(BACKOFF_MAX, Duration::from_millis);
        let config = UplinkConfig {
            ca_file: settings.ca_file.clone(),
            backoff: Backoff { min: Duration::from_millis(100).min(backoff_max), max: backoff_max },
            ..UplinkConfig::new(cloud, settings.edge.clone(), &settings.key_file)
        };
        config.validate()?;
        let (live_sender, live_receiver) =
            live_channel(config.live_queue_records, config.live_queue_bytes);
        let (presence_sender, presence_receiver) = presence_channel(PRESENCE_QUEUE);
        Ok(Cloud {
            config,
            status: Arc::new(LinkStatus::new()),
            live_sender,
            live_receiver,
            presence_sender,
            presence_receiver,
        })
    }
}

/// Where the node listens.
struct Addresses {
    mqtt: Option<SocketAddr>,
    http: Option<SocketAddr>,
    amqp: Option<SocketAddr>,
    all: Vec<(Protocol, SocketAddr)>,
    admin: SocketAddr,
}

/// What runs until the node stops.
struct Supervised {
    shards: Shards,
    observed: Arc<Observed>,
    cloud: Option<Cloud>,
    tails: Vec<Tail>,
    events: Events,
    admin: std::net::TcpListener,
    addresses: Addresses,
    tls: Option<Arc<ServerTls>>,
}

async fn supervise(node: Supervised) -> Result<(), Error> {
    let (stop, stopped) = watch::channel(false);
    let (source, status) = (node.observed.clone(), node.observed.clone());
    let admin = AdminConfig {
        listener: node.admin,
        health: node.observed.health.clone(),
        sources: vec![source],
        status: Arc::new(move || status.status()),
    };
    let admin = tokio::task::spawn_local(fulcrum_admin::serve(admin, is_set(stopped.clone())));
    let identity = node.observed.identity.clone();
    let cloud = node.cloud.as_ref().map(|cloud| tracing::field::display(&cloud.config.cloud));
    tracing::info!(
        shards = node.shards.handles.len(),
        mqtt = node.addresses.mqtt.map(tracing::field::display),
        http = node.addresses.http.map(tracing::field::display),
        amqp = node.addresses.amqp.map(tracing::field::display),
        listeners = ?node.addresses.all,
        admin = %node.addresses.admin,
        cloud,
        "started"
    );
    let uplink = node.cloud.map(|cloud| {
        let parts = UplinkParts {
            tails: node.tails,
            identity,
            live: cloud.live_receiver,
            presence: cloud.presence_receiver,
            events: Box::new(node.events),
            status: cloud.status,
        };
        tokio::task::spawn_local(fulcrum_uplink::run(cloud.config, parts, is_set(stopped)))
    });
    let shards = node.shards;
    let watched = Watched {
        shards: &shards,
        observed: &node.observed,
        uplink: uplink.as_ref(),
        admin: &admin,
        tls: node.tls.as_ref(),
    };
    let outcome = watched.until_the_end().await;
    // First the shards: what they have acknowledged is committed before the uplink's last attempt to ship it.
    shards.drain();
    let drained = tokio::time::timeout(DRAIN_MAX, async {
        while !shards.all_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let joined = match drained.await {
        Ok(()) => shards.join(),
        Err(_) => Err(format!(
            "the shards have not stopped within {} s; is the disk of data_dir stuck? What was acknowledged is on it",
            DRAIN_MAX.as_secs()
        )
        .into()),
    };
    stop.send_replace(true);
    let shipped = match uplink {
        Some(uplink) => uplink.await?.map_err(Into::into),
        None => Ok(()),
    };
    let served = admin.await?.map_err(Into::into);
    // The cause before what followed from it.
    joined.and(shipped).and(served).and(outcome)
}

/// What must not end before the node does.
struct Watched<'a, U, A> {
    shards: &'a Shards,
    observed: &'a Observed,
    uplink: Option<&'a JoinHandle<U>>,
    admin: &'a JoinHandle<A>,
    tls: Option<&'a Arc<ServerTls>>,
}

impl<U, A> Watched<'_, U, A> {
    /// Looks after the node until a signal comes or a part of it ends by itself.
    async fn until_the_end(&self) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut period = tokio::time::interval(HEALTH_PERIOD);
        let mut expired = Instant::now();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(self.tls),
                _ = period.tick() => {}
            }
            self.observed.refresh_health();
            if self.shards.any_ended() {
                return Err("a shard has ended by itself".into());
            }
            if self.uplink.is_some_and(JoinHandle::is_finished) {
                return Err("the uplink has ended by itself".into());
            }
            if self.admin.is_finished() {
                return Err("the admin endpoint has ended by itself".into());
            }
            if expired.elapsed() >= EXPIRY_PERIOD {
                expired = Instant::now();
                let shards = self.shards.handles.clone();
                let _ = self.observed.verifier.submit_store(Box::new(move |identity| {
                    expire_commands(identity, &shards, unix_ms());
                }));
            }
        }
        tracing::info!("stopping: taking no more connections, committing what was acknowledged");
        Ok(())
    }
}

/// Reads the certificates again; what cannot be used changes nothing.
fn reload(tls: Option<&Arc<ServerTls>>) {
    let Some(tls) = tls.cloned() else { return };
    let spawned =
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || match tls.reload() {
            Ok(()) => tracing::info!("certificates are read again; new connections get them"),
            Err(error) => tracing::error!(%error, "the certificates stay as they were"),
        });
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot read the certificates again");
    }
}

async fn is_set(mut flag: watch::Receiver<bool>) {
    // An error means the sender is gone, which stops the node just as well.
    let _ = flag.wait_for(|set| *set).await;
}
