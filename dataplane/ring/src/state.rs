//! Everything of a ring but its receive buffers and its handler: what [`Io`](crate::Io) gives access to.
//!
//! The receive buffers stay outside so that a handler may hold received bytes and use `Io` at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adaptive::Adaptive;
use crate::config::RingConfig;
use crate::connections::{CloseReason, ConnectionId, Connections, Spares};
use crate::files::Files;
use crate::limits::TIMER_MAX;
use crate::listener::{ListenerId, Listeners};
use crate::queue::Queue;
use crate::stats::RingStats;
use crate::timers::{TimerKey, Wheel};
use crate::token::{Operation, Token};
use crate::wake::{Bell, Doorbell};

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alarm {
    /// The handler's, with its token.
    Handler(u64),
    /// A closed connection took too long.
    Linger(ConnectionId),
    /// Accepting has rested.
    Accept(ListenerId),
}

/// How far the ring is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    Running,
    /// No accepts, all connections closing.
    Stopping,
    /// Nothing left but the eventfd's poll, which was cancelled.
    Silencing,
}

pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) config: RingConfig,
    pub(crate) connections: Connections,
    pub(crate) spares: Spares,
    pub(crate) listeners: Listeners,
    pub(crate) files: Files,
    pub(crate) timers: Wheel<Alarm>,
    pub(crate) adaptive: Adaptive,
    pub(crate) bell: Arc<Bell>,
    /// Doorbells rung so far, so that a failed message finds its bell.
    pub(crate) doorbells: Vec<Doorbell>,
    /// Connections with output to send at the end of the turn.
    pub(crate) dirty: Vec<u32>,
    /// Connections whose receive is to be armed at the end of the turn, after the buffers were returned.
    pub(crate) to_arm: Vec<u32>,
    /// Closed connections the handler has not been told of.
    pub(crate) closed: Vec<(ConnectionId, CloseReason)>,
    /// Connections the kernel holds nothing of any more and whose detaching handler has not been told. Some may have ended since.
    pub(crate) detached: Vec<ConnectionId>,
    /// Connections that drained and whose handler wants to know.
    pub(crate) drained: Vec<ConnectionId>,
    pub(crate) origin: Instant,
    pub(crate) now: Instant,
    pub(crate) course: Course,
    /// The handler asked for another turn without waiting.
    pub(crate) again: bool,
    /// The coming wait ends after this long at the latest.
    pub(crate) wake_within: Option<Duration>,
    /// Sends submitted since the last enter.
    pub(crate) sends_submitted: u32,
    /// Completions the last enter was to wait for.
    pub(crate) wanted: u32,
    /// Events from outside in this turn.
    pub(crate) arrivals: u32,
    pub(crate) stats: RingStats,
}

impl State {
    pub(crate) fn new(config: RingConfig, queue: Queue, bell: Arc<Bell>) -> Self {
        let now = Instant::now();
        let target = if queue.has_min_wait() { config.latency_target } else { Duration::ZERO };
        Self {
            queue,
            connections: Connections::new(config.connections_max),
            spares: Spares::new(),
            listeners: Listeners::new(),
            files: Files::new(),
            timers: Wheel::new(),
            adaptive: Adaptive::new(target.as_nanos() as u64),
            bell,
            doorbells: Vec::new(),
            dirty: Vec::new(),
            to_arm: Vec::new(),
            closed: Vec::new(),
            detached: Vec::new(),
            drained: Vec::new(),
            origin: now,
            now,
            course: Course::Running,
            again: false,
            wake_within: None,
            sends_submitted: 0,
            wanted: 0,
            arrivals: 0,
            stats: RingStats::default(),
            config,
        }
    }

    /// Nanoseconds since the ring was made.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now.duration_since(self.origin).as_nanos() as u64
    }

    pub(crate) fn set_alarm(&mut self, after: Duration, alarm: Alarm) -> TimerKey {
        let after_ns = after.min(TIMER_MAX).as_nanos() as u64;
        self.timers.insert(self.now_ns() + after_ns, alarm)
    }

    /// Rings another ring, by a message if it sleeps.
    pub(crate) fn ring(&mut self, doorbell: &Doorbell) {
        if !doorbell.ring() {
            return;
        }
        self.stats.doorbells_rung += 1;
        // One per shard of the node: a search beats a map.
        let known = self.doorbells.iter().position(|known| Arc::ptr_eq(&known.0, &doorbell.0));
        let index = known.unwrap_or_else(|| {
            self.doorbells.push(doorbell.clone());
            self.doorbells.len() - 1
        });
        let token = Token::new(Operation::Ring, 0, index as u32);
        self.queue.message(doorbell.ring_fd(), token);
    }

    /// The kernel would not carry a message: use the eventfd.
    pub(crate) fn message_failed(&mut self, index: u32) {
        self.stats.doorbell_fallbacks += 1;
        if let Some(doorbell) = self.doorbells.get(index as usize) {
            doorbell.0.signal();
        }
    }

    /// Something is to be done before the loop may sleep.
    pub(crate) fn is_restless(&self) -> bool {
        self.again
            || !self.closed.is_empty()
            || !self.detached.is_empty()
            || !self.drained.is_empty()
            || !self.dirty.is_empty()
            || !self.to_arm.is_empty()
            || self.files.has_refused()
            || self.queue.has_backlog()
    }

    /// Nothing of the handler's is left.
    pub(crate) fn is_drained(&self) -> bool {
        self.connections.len() == 0
            && self.closed.is_empty()
            && self.detached.is_empty()
            && self.listeners.is_idle()
            && self.files.pending() == 0
    }
}
