//! What recovery makes of records that were not written like this.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use fulcrum_sessions::*;
use harness::*;

#[test]
fn a_queue_that_names_another_tenants_message_is_recovered_without_it() {
    let mut shard = Shard::new();
    let ours = shard.connect("ours", 3600);
    let theirs = shard.connect("theirs", 3600);
    shard.deliver_message(&[ours, theirs], 1, &message("ours")).1.unwrap();
    shard.sync();
    let mut recovery = Recovery::new(limits(), 3, EPOCH);
    for (_, segment, _, record) in &shard.log.records {
        let mut record = record.clone();
        if record.windows(6).any(|bytes| bytes == b"theirs") {
            // Format, length, and then the tenant.
            record[2..7].copy_from_slice(b"other");
        }
        recovery.replay(*segment, &record).unwrap();
    }
    shard.sessions = recovery.finish(shard.now, shard.now_ms);
    let (ours, theirs) = (
        shard.sessions.find("plant", "ours").unwrap(),
        shard.sessions.find("other", "theirs").unwrap(),
    );
    let queued = (shard.sessions.queued(ours), shard.sessions.queued(theirs));
    assert_eq!((queued, shard.sessions.metrics().lost_bodies), ((1, 0), 1));
    for key in [ours, theirs] {
        shard.sessions.end(&mut shard.log, key);
    }
    assert_eq!(shard.sessions.metrics().queued_bytes, 0);
}
