//! The log as this crate sees it: a place that takes records and says later that they are durable.

/// Whether the log takes a record, and if not, for how long.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Room {
    /// It is taken now.
    Here,
    /// Not before the next commit is on disk.
    Later,
    /// The log is at its cap: new things are refused, what ends or acknowledges is still taken.
    Full,
    /// The log takes nothing any more until the process is started again.
    Failed,
}

/// Where a record is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Place {
    /// The record is durable when a commit reaches this number. Never smaller than an earlier record's; at least 1.
    pub ticket: u64,
    /// The segment that holds it.
    pub segment: u64,
}

/// An append-only log of segments that are dropped oldest first. Test seam: the shard's journal partition and an
/// ordinary vector both are one.
pub trait Log {
    /// Whether a record of so many bytes would be taken now.
    fn room(&self, bytes: usize) -> Room;

    /// Takes a record. `tenant` is who it is accounted to; empty for the node's own. An `essential` record
    /// (an acknowledgement, an end, a copy that lets a segment be dropped) may use the reserve.
    ///
    /// # Errors
    /// Why it was not taken; never [`Room::Here`].
    fn append(&mut self, tenant: &str, record: &[u8], essential: bool) -> Result<Place, Room>;

    /// The oldest segment that still exists.
    fn oldest_segment(&self) -> u64;

    /// The segment the next record goes to, or the one before it.
    fn current_segment(&self) -> u64;
}
