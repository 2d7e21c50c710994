//! Records of a session journal nobody wrote, or that were changed, through recovery; and what was recovered to its
//! next life. The first byte chooses: records made of the input, or changes of records that were written.
//!
//! Held: no panic; a record is taken whole or refused with a reason; what was recovered can be served and copied
//! forward, and the copy alone recovers to the same.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulcrum_sessions::{Origin, Outgoing, Recovery, SessionKey, Sessions, Subscription};

use crate::script::Script;

#[path = "../../dataplane/sessions/tests/harness/mod.rs"]
#[allow(missing_docs, reason = "a test's")]
pub mod harness;

use harness::{EPOCH, MemoryLog, Shard, described, limits, message, tenant, will};

const SEGMENT_BYTES: usize = 2048;
const NOW_MS: u64 = 2_000_000;

/// A record, and the segment it is in.
type Records = Vec<(u64, Vec<u8>)>;

/// Takes one input.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let records = match script.byte() {
        0 => vec![(1, script.rest().to_vec())],
        1 => invented(script),
        _ => changed(script),
    };
    let now = Instant::now();
    let mut recovery = Recovery::new(limits(), 3, EPOCH);
    for (segment, record) in &records {
        if let Err(error) = recovery.replay(*segment, record) {
            assert!(!error.to_string().is_empty());
        }
    }
    let mut sessions = recovery.finish(now, NOW_MS);
    let before = words(&sessions);
    let log = copy_forward(&mut sessions, &records);
    // The copy says the same, whatever the records were.
    let again = harness::replayed(&log, &limits(), now, NOW_MS);
    assert_eq!(words(&again), before, "what was copied forward is not what was there");
    serve(sessions, log, now);
}

/// All that a client, another shard or an operator can see of it.
fn words(sessions: &Sessions) -> Vec<String> {
    let mut words = described(sessions);
    let queued = sessions.keys().map(|key| (sessions.client_id(key), sessions.queued(key)));
    words.extend(queued.map(|queued| format!("{queued:?}")));
    let metrics = sessions.metrics();
    words.push(format!("{} wills, {} bodies", metrics.wills, metrics.stored_messages));
    words.sort();
    words
}

/// Copies everything into segments behind those of `records`, and gives those up.
fn copy_forward(sessions: &mut Sessions, records: &Records) -> MemoryLog {
    let mut log = MemoryLog::new(SEGMENT_BYTES);
    let last = records.iter().map(|(segment, _)| *segment).max().unwrap_or(1);
    log.segment = last + 1;
    for _ in 0..10_000 {
        let needed = sessions.compact(&mut log, 1 << 20);
        sessions.durable(log.last);
        log.durable = log.last;
        if needed.is_some_and(|needed| needed > last) {
            return log;
        }
    }
    panic!("segment {last} stays needed, however often it is copied");
}

/// A day of the recovered sessions: clients come, take what waits for them, and go; then all expires.
fn serve(sessions: Sessions, log: MemoryLog, now: Instant) {
    let mut shard = Shard { sessions, log, now, now_ms: NOW_MS, limits: limits(), links: 0 };
    let clients: Vec<(String, SessionKey)> = (shard.sessions.keys())
        .filter(|key| shard.sessions.tenant(*key).is_some_and(|found| **found == *tenant()))
        .filter_map(|key| Some((shard.sessions.client_id(key)?.to_string(), key)))
        .collect();
    for (client, _) in clients {
        let Ok(attached) = shard.try_attach(&client, false, 60, None) else { continue };
        shard.sync();
        let key = attached.key;
        take_all(&mut shard, key);
        let _ = shard.publish2(key, 9, key, "again");
        shard.sync();
        shard.leave(key, true);
    }
    let lanes: Vec<(u16, u64)> =
        shard.sessions.pending_forwards().map(|(to, number, _)| (to, number)).collect();
    for (to, number) in lanes {
        shard.sessions.forwarded(&mut shard.log, to, number);
    }
    shard.sync();
    shard.pass(Duration::from_secs(30 * 24 * 3600));
    for _ in 0..100 {
        if shard.due().is_empty() {
            break;
        }
        shard.sync();
    }
    let later = shard.sessions.next_timeout();
    assert!(later.is_none_or(|at| at > shard.now) || shard.sessions.keys().next().is_none());
}

fn take_all(shard: &mut Shard, key: SessionKey) {
    for _ in 0..4 {
        while let Some(out) = shard.sessions.next(&mut shard.log, key, shard.now_ms) {
            match out {
                Outgoing::Publish { packet_id, qos: 1, .. } => {
                    shard.sessions.puback(&mut shard.log, key, packet_id);
                }
                Outgoing::Publish { packet_id, qos: 2, .. } => {
                    let _ = shard.sessions.pubrec(&mut shard.log, key, packet_id, false);
                    shard.sync();
                    shard.sessions.pubcomp(&mut shard.log, key, packet_id);
                }
                Outgoing::Publish { .. } => {}
                Outgoing::PubRel { packet_id } => {
                    shard.sessions.pubcomp(&mut shard.log, key, packet_id);
                }
            }
        }
        shard.sync();
    }
}

/// Records whose bytes are the input's.
fn invented(mut script: Script<'_>) -> Records {
    let mut records = Vec::new();
    while !script.is_over() {
        let segment = 1 + u64::from(script.byte() & 3);
        let mut record = script.bytes().to_vec();
        while script.flag() && !script.is_over() {
            record.extend(script.bytes());
        }
        records.push((segment, record));
    }
    records.sort_by_key(|(segment, _)| *segment);
    records
}

/// The records of a shard's life, changed.
fn changed(mut script: Script<'_>) -> Records {
    static WRITTEN: OnceLock<Records> = OnceLock::new();
    let mut records = WRITTEN.get_or_init(written).clone();
    for _ in 0..64 {
        if script.is_over() || records.is_empty() {
            break;
        }
        let chosen = usize::from(script.byte()) % records.len();
        match script.byte() % 8 {
            0 => drop(records.remove(chosen)),
            1 => {
                let record = records[chosen].1.clone();
                records.push((records.last().map_or(1, |last| last.0), record));
            }
            2 => {
                let other = usize::from(script.byte()) % records.len();
                let bytes = std::mem::take(&mut records[chosen].1);
                records[chosen].1 = std::mem::replace(&mut records[other].1, bytes);
            }
            3 => {
                let keep = usize::from(script.byte());
                records[chosen].1.truncate(keep);
            }
            4 => records.truncate(chosen + 1),
            5 => {
                let bytes = script.bytes();
                records[chosen].1.extend(bytes);
            }
            _ => {
                let (at, to) = (script.byte(), script.byte());
                let record = &mut records[chosen].1;
                let at = usize::from(at) % record.len().max(1);
                if let Some(byte) = record.get_mut(at) {
                    *byte = to;
                }
            }
        }
    }
    records
}

/// A shard's life with every kind of record.
pub fn written() -> Records {
    let mut shard = Shard::with(limits(), SEGMENT_BYTES);
    let keeper = shard.connect("keeper", 3600);
    let other = shard.connect("other", 3600);
    for filter in ["a", "b/#", "+/c"] {
        let how = Subscription { qos: 2, no_local: true, ..Default::default() };
        let _ = shard.sessions.subscribe(&mut shard.log, keeper, filter, how);
    }
    let _ = shard.sessions.unsubscribe(&mut shard.log, keeper, "b/#");
    for id in 3..6 {
        shard.publish2(other, id, keeper, "exactly once");
    }
    let _ = shard.sessions.pubrel(&mut shard.log, other, 4);
    let _ = shard.deliver_message(&[keeper, other], 1, &message("to both"));
    shard.sync();
    let _ = shard.sent(keeper);
    let _ = shard.sessions.pubrec(&mut shard.log, keeper, 1, false);
    let _ = shard.sessions.pubrec(&mut shard.log, keeper, 2, false);
    shard.sync();
    shard.sessions.pubcomp(&mut shard.log, keeper, 2);
    let mut transaction = shard.sessions.begin(&tenant());
    let frame = Bytes::from_static(b"frame");
    for to in [1, 1, 2] {
        shard.sessions.forward(&mut transaction, to, &frame);
    }
    for (topic, version) in [("kept", 1), ("dropped", 2), ("changed", 3)] {
        shard.sessions.retain(&mut transaction, topic, Some(&frame), version, Some(NOW_MS * 2));
    }
    shard.sessions.retain(&mut transaction, "dropped", None, 4, None);
    shard.sessions.note_from(&mut transaction, Origin { shard: 9, epoch: 9 }, 9);
    let _ = shard.sessions.commit(&mut shard.log, transaction);
    shard.sessions.forwarded(&mut shard.log, 1, 1);
    shard.leave(other, true);
    let _ = shard.try_attach("testator", false, 3600, Some(will("w", 60)));
    let short = shard.try_attach("short", true, 0, Some(will("v", 0)));
    if let Ok(short) = short {
        shard.sync();
        shard.leave(short.key, true);
    }
    let _ = shard.due();
    let ended = shard.connect("ended", 3600);
    shard.deliver(ended, 1, "to nobody");
    shard.sessions.end(&mut shard.log, ended);
    // Enough subscriptions for an image in parts.
    let wide = shard.connect("wide", 3600);
    for count in 0..40 {
        let filter = format!("{count}/{}", "x".repeat(30));
        let _ = shard.sessions.subscribe(&mut shard.log, wide, &filter, Subscription::default());
    }
    for _ in 0..3 {
        shard.sync();
        shard.sessions.compact(&mut shard.log, 1 << 20);
    }
    shard.log.records.into_iter().map(|(_, segment, _, record)| (segment, record)).collect()
}
