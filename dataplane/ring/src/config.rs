//! The settings of a ring and the errors of making and running one.

use std::io;
use std::time::Duration;

use crate::limits;

/// Settings of one ring. Start from `RingConfig::default()`.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Submission queue entries, a power of two.
    pub entries: u32,
    /// Completion queue entries, a power of two above `entries`.
    pub completion_entries: u32,
    /// Receive buffers shared by all connections, a power of two, at most 32768.
    pub receive_buffers: u16,
    /// Bytes in one receive buffer.
    pub receive_buffer_bytes: u32,
    /// Connections held at once; one more is accepted and closed at once.
    pub connections_max: u32,
    /// Unsent bytes of one connection; beyond it the connection ends with [`CloseReason::SlowConsumer`](crate::CloseReason).
    pub send_queue_bytes_max: usize,
    /// Unsent bytes of one connection from which [`Io::send`](crate::Io::send) answers `Backlogged`.
    pub send_high_water_bytes: usize,
    /// How long an event may wait for company under load. Zero wakes at once, always.
    pub latency_target: Duration,
    /// How long to poll [`Handler::has_inbox`](crate::Handler::has_inbox) before parking. 0 to 20 µs make sense.
    pub spin: Duration,
    /// How long a closed connection may take to flush its output and to see the peer's FIN.
    pub linger: Duration,
    /// Pin the calling thread to this processor before the ring is made, so that the kernel's workers inherit the pin.
    pub cpu: Option<usize>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            entries: limits::ENTRIES,
            completion_entries: limits::COMPLETION_ENTRIES,
            receive_buffers: limits::RECEIVE_BUFFERS,
            receive_buffer_bytes: limits::RECEIVE_BUFFER_BYTES,
            connections_max: limits::CONNECTIONS_MAX,
            send_queue_bytes_max: limits::SEND_QUEUE_BYTES_MAX,
            send_high_water_bytes: limits::SEND_HIGH_WATER_BYTES,
            latency_target: limits::LATENCY_TARGET,
            spin: Duration::ZERO,
            linger: limits::LINGER,
            cpu: None,
        }
    }
}

impl RingConfig {
    pub(crate) fn validate(&self) -> Result<(), RingError> {
        let wrong = |setting, wanted| Err(RingError::Config { setting, wanted });
        if !self.entries.is_power_of_two() || !(8..=32_768).contains(&self.entries) {
            return wrong("entries", "a power of two from 8 to 32768");
        }
        if !self.completion_entries.is_power_of_two()
            || self.completion_entries < 2 * self.entries
            || self.completion_entries > 65_536
        {
            return wrong("completion_entries", "a power of two from twice `entries` to 65536");
        }
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > 1 << 15 {
            return wrong("receive_buffers", "a power of two up to 32768");
        }
        if !(64..=1 << 24).contains(&self.receive_buffer_bytes) {
            return wrong("receive_buffer_bytes", "64 bytes to 16 MiB");
        }
        if self.connections_max == 0 || self.connections_max > 1 << 24 {
            return wrong("connections_max", "1 to 16777216");
        }
        if self.send_queue_bytes_max == 0 || self.send_queue_bytes_max > 1 << 30 {
            return wrong("send_queue_bytes_max", "1 byte to 1 GiB");
        }
        if self.latency_target > Duration::from_secs(1) {
            return wrong("latency_target", "at most one second");
        }
        Ok(())
    }
}

/// Why a ring could not be made or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// A setting is outside its range.
    #[error("ring setting `{setting}` is out of range; it must be {wanted}")]
    Config {
        /// The field of [`RingConfig`].
        setting: &'static str,
        /// Its range in words.
        wanted: &'static str,
    },
    /// The thread could not be pinned.
    #[error(
        "cannot pin the ring's thread to processor {cpu}: {source}; name a processor this process may use (taskset -p, cpuset)"
    )]
    Pin {
        /// The processor asked for.
        cpu: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a step of the set-up.
    #[error("cannot {step}: {source}; run the preflight check, it names the setting in the way")]
    Setup {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused to go on.
    #[error("io_uring_enter failed: {0}; the ring cannot continue and its connections are lost")]
    Enter(#[source] io::Error),
    /// `run` was called a second time.
    #[error("this ring has run and stopped; make a new one")]
    Finished,
}

impl RingError {
    pub(crate) fn setup(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Setup { step, source }
    }
}
