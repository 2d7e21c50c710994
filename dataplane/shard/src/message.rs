//! What reaches a shard from other shards and from the node's threads, and the queues it travels in.
//!
//! From another shard: one lane (a bounded single-producer queue) per sender, whole batches at a time. From threads: one
//! bounded control queue. A sender learns at once when a queue is full; nothing is buffered on hope.

use crate::broker::Answer;
use crate::gateways::Attachment;
use crate::identity::{Principal, Refusal};
use crate::limits::{CONTROL_QUEUE, LANE_BATCHES};
use crate::mqtt::Session;
use crate::ports::Ticket;
use crate::stored::JournalKind;
use crossbeam::queue::ArrayQueue;
use fulcrum_ring::{Detached, Waker};
use fulcrum_router::{Command, DeliveryId, LinkId, Outcome, ShardIndex, Subscriber, Target};
use fulcrum_sessions::Origin;
use fulcrum_transport::Stack;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What a thread tells a shard.
#[derive(Debug)]
pub enum Message {
    /// Answer to [`crate::Registry::authenticate`].
    Authenticated {
        /// The connection that asked.
        ticket: Ticket,
        /// Who it is, or why not.
        result: Result<Principal, Refusal>,
    },
    /// Answer to [`crate::Registry::authorise`].
    Authorised {
        /// The connection that asked.
        ticket: Ticket,
        /// The device asked about.
        device: String,
        /// Whether the gateway may act for it.
        result: Result<(), Refusal>,
    },
    /// Answer to [`crate::Registry::load_commands`].
    Commands {
        /// The device's tenant.
        tenant: Arc<str>,
        /// The device.
        device: Arc<str>,
        /// Its oldest commands.
        commands: Vec<Command>,
    },
    /// Answer to [`crate::Registry::gateways_of`].
    Gateways {
        /// The device's tenant.
        tenant: Arc<str>,
        /// The device.
        device: Arc<str>,
        /// The gateways that may act for it.
        gateways: Vec<String>,
    },
    /// The store has a new command for a device this shard owns.
    CommandArrived {
        /// The device's tenant.
        tenant: Arc<str>,
        /// The device.
        device: Arc<str>,
    },
    /// A command's time was over while it waited in the store: report it, then have it forgotten.
    CommandExpired {
        /// The device's tenant.
        tenant: Arc<str>,
        /// The device.
        device: Arc<str>,
        /// The command.
        id: String,
    },
    /// A consumer outside the shards has settled a live message.
    LiveOutcome {
        /// The ticket it was given with.
        ticket: u64,
        /// Whether it was taken.
        accepted: bool,
    },
    /// Answer to a segment request.
    SegmentPrepared {
        /// Which journal asked.
        journal: JournalKind,
        /// The segment's number.
        number: u64,
        /// Its open file.
        result: std::io::Result<File>,
    },
    /// The registry's replica has changed: what was cached of it is asked for again.
    IdentityChanged {
        /// Anything may have changed: ask for every connected device whether it still may be.
        recheck: bool,
    },
    /// Connections of this tenant (and device, where one is named) are to end.
    Evict {
        /// The tenant.
        tenant: Arc<str>,
        /// One device of it, or all.
        device: Option<Arc<str>>,
    },
    /// A tenant, or one login of it, is no more: its sessions and what it retained go too.
    Forget {
        /// The tenant.
        tenant: Arc<str>,
        /// A device's name, `application/{name}` for an application, or `None` for the whole tenant.
        login: Option<Arc<str>>,
    },
    /// Take no more connections, end those there are, commit what is pending, stop.
    Drain,
}

/// What one shard tells another.
#[derive(Debug)]
pub(crate) enum PeerMessage {
    /// A message forwarded to its owner is durable there, or refused.
    Stored {
        id: u64,
        accepted: bool,
    },
    /// The sender drains and waits for nothing from this shard any more.
    Quiet,
    Subscribed {
        tenant: Arc<str>,
        filter: Box<str>,
        target: Target,
    },
    Unsubscribed {
        tenant: Arc<str>,
        filter: Box<str>,
        link: LinkId,
    },
    Outcome {
        delivery: DeliveryId,
        accepted: bool,
    },
    Attach(Attachment),
    Detach {
        tenant: Arc<str>,
        device: Arc<str>,
        link: LinkId,
    },
    Deliver {
        link: LinkId,
        tenant: Arc<str>,
        device: Arc<str>,
        command: Arc<Command>,
    },
    CommandOutcome {
        tenant: Arc<str>,
        device: Arc<str>,
        link: LinkId,
        id: String,
        outcome: Outcome,
    },
    /// A gateway takes the commands of all its devices.
    GatewayHere {
        tenant: Arc<str>,
        gateway: Arc<str>,
        link: LinkId,
    },
    GatewayGone {
        tenant: Arc<str>,
        gateway: Arc<str>,
        link: LinkId,
    },
    /// A subscription to a messaging address.
    TopicSubscribed {
        tenant: Arc<str>,
        filter: Box<str>,
        group: Option<Box<str>>,
        subscriber: Subscriber,
    },
    TopicUnsubscribed {
        tenant: Arc<str>,
        filter: Box<str>,
        group: Option<Box<str>>,
        link: LinkId,
    },
    /// A member of shared subscriptions is connected, or no longer is.
    Online {
        link: LinkId,
        online: bool,
    },
    /// Asks to be told, behind all messages published before, that everything told so far is known; if wanted, also behind
    /// those that wait in the sender's journal.
    Barrier {
        shard: ShardIndex,
        number: u64,
        behind_forwards: bool,
    },
    /// Answers that.
    BarrierSeen {
        number: u64,
    },
    /// A forwarded message found no room in the receiver's journal; it and those behind it are to be sent again.
    NotForwarded {
        number: u64,
    },
    /// A message was given to its sessions and is durable for them, or was refused.
    Delivered {
        receipt: u32,
        answer: Answer,
    },
    /// A forward is durable.
    Forwarded {
        number: u64,
    },
    /// A retained message found at start, or in a forward of an earlier run.
    Retained {
        tenant: Arc<str>,
        topic: Box<str>,
        /// `None`: the topic has none any more.
        frame: Option<Arc<[u8]>>,
        version: u64,
        expires_at_ms: Option<u64>,
    },
    /// Everything found at start has been told.
    Ready,
    /// A connection whose client identifier the receiver owns.
    Moved(Box<Moved>),
}

/// A connection on its way to another shard, with everything that belongs to it.
pub(crate) struct Moved {
    pub socket: Detached,
    pub stack: Option<Box<Stack>>,
    pub session: Session,
    /// Bytes received and not taken; its CONNECT is at the front.
    pub input: Vec<u8>,
}

impl std::fmt::Debug for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moved").field("input_bytes", &self.input.len()).finish_non_exhaustive()
    }
}

/// One message of a batch for a link on the target shard: a frame within [`Batch::frames`].
#[derive(Debug)]
pub(crate) struct Delivery {
    pub link: LinkId,
    pub qos: u8,
    pub id: Option<DeliveryId>,
    pub frame: Range<usize>,
}

/// A message to be stored by the shard that owns its device: a frame within [`Batch::frames`].
#[derive(Debug)]
pub(crate) struct StoreRequest {
    pub id: u64,
    pub frame: Range<usize>,
}

/// A message between clients: a parcel within [`Batch::frames`].
#[derive(Debug, Default)]
pub(crate) struct MessageOut {
    /// Who waits for it to be durable, on the sender's shard.
    pub receipt: Option<u32>,
    /// Its number, if it is to be taken exactly once.
    pub forward: Option<(Origin, u64)>,
    pub frame: Range<usize>,
}

/// What crosses a lane at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub control: Vec<PeerMessage>,
    pub deliveries: Vec<Delivery>,
    pub stores: Vec<StoreRequest>,
    pub messages: Vec<MessageOut>,
    pub frames: Vec<u8>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty()
            && self.deliveries.is_empty()
            && self.stores.is_empty()
            && self.messages.is_empty()
    }
}

/// A lane from one shard to another.
pub(crate) struct Lane {
    batches: ArrayQueue<Batch>,
    bytes: AtomicUsize,
}

impl Lane {
    fn new() -> Lane {
        Lane { batches: ArrayQueue::new(LANE_BATCHES), bytes: AtomicUsize::new(0) }
    }

    /// Frame bytes in the lane.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn push(&self, batch: Batch) -> Result<(), Batch> {
        let bytes = batch.frames.len();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batches.push(batch).inspect_err(|_| {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    pub(crate) fn pop(&self) -> Option<Batch> {
        let batch = self.batches.pop()?;
        self.bytes.fetch_sub(batch.frames.len(), Ordering::Relaxed);
        Some(batch)
    }
}

/// Everything that waits for one shard.
pub struct Mailbox {
    pub(crate) control: ArrayQueue<Message>,
    pub(crate) lanes: Vec<Lane>,
    /// Messages to be stored: lanes of their own, so that a disk that is behind holds up nothing else.
    pub(crate) store_lanes: Vec<Lane>,
    /// Messages between clients: the same, for the session journal.
    pub(crate) message_lanes: Vec<Lane>,
}

impl Mailbox {
    /// The mailbox of one of `shards` shards.
    pub fn new(shards: u16) -> Arc<Mailbox> {
        let lanes = || (0..shards).map(|_| Lane::new()).collect();
        let control = ArrayQueue::new(CONTROL_QUEUE);
        let (store_lanes, message_lanes) = (lanes(), lanes());
        Arc::new(Mailbox { control, lanes: lanes(), store_lanes, message_lanes })
    }

    /// Whether nothing waits but what is to be stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.lanes.iter().all(|lane| lane.batches.is_empty())
    }

    /// Whether something waits to be stored.
    pub(crate) fn has_stores(&self) -> bool {
        self.store_lanes.iter().any(|lane| !lane.batches.is_empty())
    }

    /// Whether messages between clients wait.
    pub(crate) fn has_messages(&self) -> bool {
        self.message_lanes.iter().any(|lane| !lane.batches.is_empty())
    }

    pub(crate) fn message_lane_from(&self, shard: ShardIndex) -> &Lane {
        &self.message_lanes[usize::from(shard.0)]
    }

    pub(crate) fn lane_from(&self, shard: ShardIndex) -> &Lane {
        &self.lanes[usize::from(shard.0)]
    }

    pub(crate) fn store_lane_from(&self, shard: ShardIndex) -> &Lane {
        &self.store_lanes[usize::from(shard.0)]
    }
}

/// A thread's way to reach a shard.
#[derive(Clone)]
pub struct ShardHandle {
    mailbox: Arc<Mailbox>,
    waker: Arc<OnceLock<Waker>>,
}

impl ShardHandle {
    /// The handle of the shard that empties `mailbox`.
    pub fn new(mailbox: Arc<Mailbox>) -> ShardHandle {
        ShardHandle { mailbox, waker: Arc::default() }
    }

    /// Connects the handle with the shard's ring, once that exists. Messages sent before wait in the mailbox.
    pub fn connect(&self, waker: Waker) {
        // A shard has one ring in its life; a second call changes nothing.
        let _ = self.waker.set(waker);
        self.wake();
    }

    /// Gives the shard a message; gives it back when the shard has as many as it may.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        self.mailbox.control.push(message)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}
