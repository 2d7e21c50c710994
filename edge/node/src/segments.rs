//! The shards' way to the maintenance thread.

use fulcrum_journal::SegmentRequest;
use fulcrum_maintenance::Requests;
use fulcrum_shard::Segments;

/// Hands requests to the maintenance thread; answers come back through its callback.
pub struct ShardSegments(pub Requests);

impl Segments for ShardSegments {
    fn request(&mut self, _partition: u16, request: SegmentRequest) -> Result<(), SegmentRequest> {
        self.0.submit(request)
    }
}
