//! What a shard asks of the threads that may block. The node implements it; a test puts itself in its place.
//!
//! Every call returns at once. An answer comes back as a [`crate::Message`] through the shard's [`crate::ShardHandle`].

use crate::identity::{Adapter, Login, Principal};
use fulcrum_journal::SegmentRequest;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The asked thread has as much to do as it may; answer the peer with the protocol's word for "try again".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

/// Names the connection an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// The registry's replica and its verifier.
pub trait Registry: Send {
    /// Verifies a login: the principal at once where the registry knows the login to be good, else the answer is
    /// [`crate::Message::Authenticated`].
    fn authenticate(
        &mut self,
        ticket: Ticket,
        adapter: Adapter,
        login: Login,
    ) -> Result<Option<Principal>, Busy>;

    /// How many connections of a tenant the node has, counted by all shards together; asked once per connection of a tenant
    /// that has a limit.
    fn connections_of(&mut self, tenant: &Arc<str>) -> Arc<AtomicU64>;

    /// Asks whether `gateway` may act for `device`; answered with [`crate::Message::Authorised`].
    fn authorise(
        &mut self,
        ticket: Ticket,
        adapter: Adapter,
        tenant: &Arc<str>,
        gateway: &Arc<str>,
        device: &str,
    ) -> Result<(), Busy>;

    /// Asks whether a connected peer still may be; if not, answered with [`crate::Message::Evict`].
    fn recheck(&mut self, adapter: Adapter, principal: &Principal) -> Result<(), Busy>;

    /// Asks for a device's oldest pending commands; answered with [`crate::Message::Commands`]. Questions and
    /// [`Registry::command_done`] take effect in the order they are given.
    fn load_commands(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Result<(), Busy>;

    /// The device has taken the command, or its time is over: forget it.
    fn command_done(&mut self, tenant: &Arc<str>, device: &Arc<str>, id: &str) -> Result<(), Busy>;

    /// The device can take commands here now.
    fn present(&mut self, tenant: &Arc<str>, device: &Arc<str>);

    /// The device takes no more commands here.
    fn absent(&mut self, tenant: &Arc<str>, device: &Arc<str>);

    /// Asks which gateways may act for a device; answered with [`crate::Message::Gateways`].
    fn gateways_of(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Result<(), Busy>;

    /// The gateway takes the commands of all its devices here now. Answered with [`crate::Message::CommandArrived`] for
    /// each of them that has commands in the store, to the shard that owns it. It may be said again.
    fn gateway_present(&mut self, tenant: &Arc<str>, gateway: &Arc<str>);

    /// The gateway takes them no more.
    fn gateway_absent(&mut self, tenant: &Arc<str>, gateway: &Arc<str>);
}

/// A consumer of live telemetry outside the shards: the uplink.
pub trait LiveConsumer: Send {
    /// Whether it would take a message now.
    fn has_credit(&self) -> bool;

    /// Gives it a frame. With a ticket it answers with [`crate::Message::LiveOutcome`].
    fn try_send(&self, frame: Vec<u8>, ticket: Option<u64>) -> Result<(), Busy>;
}

/// The thread that prepares and drops journal segments; answered with [`crate::Message::SegmentPrepared`].
pub trait Segments: Send {
    /// Hands over a request; requests are executed in the order given.
    fn request(&mut self, partition: u16, request: SegmentRequest) -> Result<(), SegmentRequest>;
}
