//! Every bound of a shard, and how they hold each other.

use std::time::Duration;

/// Largest MQTT packet or HTTP body a device may send by default, in bytes. Hono's default of 2 KiB is too small for
/// most firmware logs; 256 KiB is what brokers in the field allow.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Largest CONNECT, in bytes: user name, password, client id and a will. Whoever sends it is not known
/// yet, so it may not cost what a message may.
pub const CONNECT_BYTES_MAX: usize = 16 * 1024;

/// Unsent bytes of one subscriber above which it has no credit: messages for it are refused, not queued.
pub const SUBSCRIBER_BACKLOG_BYTES_MAX: usize = 1024 * 1024;

/// Most unsent bytes of messages one subscriber can have: the last one is taken while there is credit.
pub const SUBSCRIBER_OUTPUT_BYTES_MAX: usize =
    SUBSCRIBER_BACKLOG_BYTES_MAX + SUBSCRIBER_BACKLOG_BYTES_MAX / 4;

/// Answers a peer may leave unread; above it nothing more is read from the peer.
pub const ANSWERS_BYTES_MAX: usize = 256 * 1024;

/// Messages sent to one subscriber at QoS 1 and not acknowledged; above it the subscriber has no credit.
pub const UNACKNOWLEDGED_MAX: usize = 1024;

/// Packet identifiers from here on are of messages of the device API; those below of messages a session keeps.
pub const DEVICE_PACKET_ID_MIN: u16 = 0x8000;

/// QoS 1 and 2 messages a client may send before it has been answered (MQTT 5 Receive Maximum).
pub const RECEIVE_MAX: u16 = 1024;

/// Retained messages looked at for one connection in one turn.
pub const RETAINED_PER_TURN: usize = 64;

/// Connections that get retained messages in one turn; the others follow in turn.
pub const WALKS_PER_TURN: usize = 32;

/// New subscriptions of one connection whose retained messages are on their way; more get none.
pub const WALKS_MAX: usize = 1024;

/// Bytes one subscription takes in the session journal, its filter not counted.
pub const SUBSCRIBE_RECORD_BYTES: usize = 256;

/// TLS handshake steps with public-key cryptography in one turn: about a millisecond of it, so that nobody waits longer
/// for a storm of others.
pub const HANDSHAKES_PER_TURN: u32 = 2;

/// Subscriptions of one connection to telemetry.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 128;

/// Answers one HTTP connection may wait for before its next request is read.
pub const HTTP_PIPELINE_MAX: usize = 64;

/// Devices a gateway connection remembers being allowed to act for.
pub const AUTHORISED_DEVICES_MAX: usize = 256;

/// Time for a consumer to answer a QoS 1 telemetry message (Hono's `sendMessageTimeout`).
pub const OUTCOME_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for a client to send its CONNECT, and for the registry to answer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time an HTTP connection may be idle (Hono's server idle time-out), and time for a request to arrive whole.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Messages from the node's threads waiting for a shard.
pub const CONTROL_QUEUE: usize = 16 * 1024;

/// Batches from one shard waiting for another.
pub const LANE_BATCHES: usize = 256;

/// Bytes from one shard waiting for another; above it the target has no credit.
pub const LANE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Control messages to another shard that may wait for room in its lane. Subscriptions, client ids and commands make
/// them, one packet at most a few hundred; beyond this no connection is read from until there is room again.
pub const OUTBOX_CONTROL_MAX: usize = 64 * 1024;

/// Reports on commands that may wait for room in the journal; beyond it the cloud does not hear what became of one.
pub const REPORTS_WAITING_MAX: usize = 4096;

/// Connections the store is asked about at once after a change that may concern all; its queue is everybody's.
pub const RECHECKS_AT_ONCE: usize = 128;

/// Messages from other shards and threads handled in one turn; the rest follow in the next.
pub const INBOX_PER_TURN: usize = 1024;

/// Copies that ended sessions left to their shared subscriptions, given to other members in one turn: each costs about as
/// much as a message that is published.
pub const LEFTOVERS_PER_TURN: usize = 256;

/// Messages of clients of other shards taken in one turn.
pub const MESSAGES_PER_TURN: usize = 2048;

// A message must fit the lane and the subscriber's backlog, or it could never be delivered.
const _: () = assert!(MESSAGE_BYTES_MAX * 4 <= SUBSCRIBER_BACKLOG_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX * 4 <= LANE_BYTES_MAX);
// A peer that does not read is held before the ring drops it: messages, answers, and what one more packet can add.
const _: () = assert!(
    SUBSCRIBER_OUTPUT_BYTES_MAX + ANSWERS_BYTES_MAX + MESSAGE_BYTES_MAX
        < fulcrum_ring::limits::SEND_QUEUE_BYTES_MAX
);
const _: () = assert!(CONNECT_BYTES_MAX <= MESSAGE_BYTES_MAX);
// Packet identifiers are 16 bits and never zero.
const _: () = assert!(UNACKNOWLEDGED_MAX < u16::MAX as usize);

/// Messages an AMQP device may send on one link before they are answered: enough that a commit of the journal and the way to
/// it are filled by one device.
pub const AMQP_UPLOAD_CREDIT: u32 = 100;

/// Messages of one AMQP connection that wait for an answer, on all of its links together: as many as an MQTT client may have.
/// Outstanding deliveries are shared by the tenants of a shard.
pub const AMQP_UNANSWERED_MAX: usize = RECEIVE_MAX as usize;

/// Links of one AMQP session.
pub const AMQP_LINKS_MAX: u32 = 64;

/// Largest messages that may be on their way in pieces on one AMQP connection at one time.
pub const AMQP_ASSEMBLED_MESSAGES_MAX: usize = 4;

/// Application properties of an AMQP message that travel on; a message's head bounds their bytes.
pub const AMQP_PROPERTIES_MAX: usize = 64;
