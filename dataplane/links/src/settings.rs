//! What this end says of itself, and how much of a peer it bears.

use crate::limits::FRAME_BYTES_MIN;

/// Settings of a connection, the same for all of a listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This container's name (part 2, 2.7.1).
    pub container_id: Box<str>,
    /// Largest frame taken, in bytes; at least 512.
    pub frame_bytes_max: u32,
    /// Sessions of one connection, at least 1.
    pub sessions_max: u16,
    /// Links of one session, at least 1.
    pub links_max: u32,
    /// Transfers a session takes before it says that there is room for more (part 2, 2.5.6); at least 2.
    pub incoming_window: u32,
    /// Deliveries of a session, in each direction, that may wait for settlement.
    pub unsettled_max: usize,
    /// Milliseconds of silence after which the peer counts as gone. It is told half of that (part 2, 2.4.5).
    pub idle_time_out_ms: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            container_id: "fulcrum".into(),
            frame_bytes_max: 64 << 10,
            sessions_max: 64,
            links_max: 1024,
            incoming_window: 2048,
            unsettled_max: 16 << 10,
            idle_time_out_ms: Some(60_000),
        }
    }
}

impl Settings {
    /// The same, with what is below its least raised to that.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        self.frame_bytes_max = self.frame_bytes_max.max(FRAME_BYTES_MIN);
        self.sessions_max = self.sessions_max.max(1);
        self.links_max = self.links_max.max(1);
        self.incoming_window = self.incoming_window.max(2);
        self
    }
}
