//! What a match costs and what is kept for a subscription and for a retained topic:
//! `cargo run --release -p fulcrum-router --example match_cost`.
//!
//! Times are wall clock of one thread, bytes are the growth of the process; both are meant to be read by a person.

#![allow(clippy::unwrap_used, reason = "a failure ends the measurement")]

use fulcrum_router::{LinkId, Matches, Put, Retained, ShardIndex, Subscriber, Topics};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

fn main() {
    // First, for what others freed would not show as growth.
    one_filter_of_many();
    typical_tenant();
    many_subscribers();
    hostile_filters();
    hostile_topic();
    group();
    retained();
}

fn typical_tenant() {
    let mut topics = Topics::default();
    for key in 0..5_000 {
        subscribe(&mut topics, &format!("site/{}/device/{key}/command", key % 50), key);
    }
    for (key, filter) in
        ["site/+/device/+/state", "site/7/#", "#", "+/+/alarm/#"].into_iter().enumerate()
    {
        subscribe(&mut topics, filter, 10_000 + key as u64);
    }
    let names: Vec<_> = (0..1024_u64)
        .map(|n| n * 4241 % 5_000)
        .map(|key| format!("site/{}/device/{key}/command", key % 50))
        .collect();
    report_match("5,000 exact filters and 4 with wildcards", &topics, &names);
    let mut found = Matches::default();
    topics.matches("acme", &names[0], None, &mut found);
    let per_check = nanoseconds(1_000_000, |_| {
        black_box(topics.is_current("acme", black_box(&mut found)));
    });
    println!("  whether a match that was kept is good: {per_check:.1} ns");
}

fn many_subscribers() {
    for (what, pattern) in [("exact", "device/#/command"), ("wildcard", "device/#/+/command")] {
        let before = resident_bytes();
        let mut topics = Topics::default();
        for key in 0..100_000 {
            subscribe(&mut topics, &pattern.replace('#', &key.to_string()), key);
        }
        let bytes = (resident_bytes() - before) / 100_000;
        println!("100,000 {what} filters: {bytes} bytes a subscription");
        let topic = pattern.replace('+', "any");
        let names: Vec<_> = (0..1024_u64)
            .map(|n| topic.replace('#', &(n * 40_009 % 100_000).to_string()))
            .collect();
        report_match(what, &topics, &names);
    }
}

/// As many placements of `+` as are allowed, all of which match the topic up to its last level.
fn hostile_filters() {
    let mut topics = Topics::default();
    let mut accepted = 0;
    for key in 0..100_000_u64 {
        let levels = (0..17).map(|level| if key >> level & 1 == 1 { "+" } else { "a" });
        let filter = levels.chain(["z"]).collect::<Vec<_>>().join("/");
        accepted += usize::from(topics.subscribe("acme", &filter, None, subscriber(key)).is_ok());
    }
    println!("hostile filters: {accepted} of 100,000 accepted");
    report_match("hostile filters of 18 levels", &topics, &[["a"; 18].join("/")]);
    let mut topics = Topics::default();
    for key in 0..2048_u64 {
        let levels = (0..11).map(|level| if key >> level & 1 == 1 { "+" } else { "a" });
        let filter = levels.chain(["#"]).collect::<Vec<_>>().join("/");
        let _ = topics.subscribe("acme", &filter, None, subscriber(0));
    }
    report_match("2,048 filters that all match", &topics, &[["a"; 12].join("/")]);
}

fn hostile_topic() {
    let mut topics = Topics::default();
    subscribe(&mut topics, "#", 1);
    subscribe(&mut topics, "so that the topic is looked up whole", 1);
    subscribe(&mut topics, &["+"; 128].join("/"), 2);
    report_match("a topic of 65,535 slashes", &topics, &["/".repeat(65_535)]);
}

fn group() {
    let before = resident_bytes();
    let mut topics = Topics::default();
    for key in 0..100_000 {
        let member = Subscriber { online: key % 100 == 0, ..subscriber(key) };
        topics.subscribe("acme", "jobs/#", Some("workers"), member).unwrap();
    }
    let bytes = (resident_bytes() - before) / 100_000;
    let mut found = Matches::default();
    topics.matches("acme", "jobs/7", None, &mut found);
    let per_pick = nanoseconds(1_000_000, |_| {
        black_box(topics.pick(found.groups[0]));
    });
    println!("100,000 members of a group: {bytes} bytes each, {per_pick:.0} ns to pick one");
}

fn one_filter_of_many() {
    let before = resident_bytes();
    let mut topics = Topics::default();
    let started = Instant::now();
    for key in 0..100_000 {
        subscribe(&mut topics, "news", key);
    }
    let each = started.elapsed().as_nanos() / 100_000;
    let bytes = (resident_bytes() - before) / 100_000;
    println!("100,000 subscribers of one filter: {bytes} bytes each, {each} ns to subscribe");
    report_match("100,000 subscribers of one filter", &topics, &["news".to_owned()]);
    subscribe(&mut topics, "#", 7);
    report_match("and one of them overlapping", &topics, &["news".to_owned()]);
}

fn retained() {
    const COUNT: u64 = 1_000_000;
    let frame: Arc<[u8]> = Arc::from(&b"a frame that all of them share"[..]);
    let mut retained = Retained::default();
    let topic = |n: u64| format!("site/{}/device/{}/state", n % 50, n / 50);
    let names: Vec<_> = (0..COUNT).map(|n| topic(n * 400_009 % COUNT)).collect();
    let before = resident_bytes();
    let per_put = nanoseconds(COUNT, |n| {
        let stored = retained.put("acme", &names[n as usize], Some(frame.clone()), 1, None);
        assert_eq!(stored, Put::Stored);
    });
    let bytes = (resident_bytes() - before) as u64 / COUNT;
    println!("1,000,000 retained topics of about 26 bytes: {bytes} bytes each without the frame");
    let per_change = nanoseconds(COUNT, |n| {
        let stored = retained.put("acme", &names[n as usize], Some(frame.clone()), 2, None);
        assert_eq!(stored, Put::Stored);
    });
    let per_look_up = nanoseconds(COUNT, |n| {
        black_box(retained.message("acme", &names[n as usize], 0));
    });
    println!("  new {per_put:.0} ns, changed {per_change:.0} ns, looked up {per_look_up:.0} ns");
    let before = resident_bytes();
    for name in &names {
        let _ = retained.put("acme", name, Some(frame.clone()), 3, Some(u64::MAX - 1));
    }
    let bytes = (resident_bytes() - before) as u64 / COUNT;
    println!("  an expiry: {bytes} bytes");
    for filter in ["#", "site/7/#", "site/+/device/77/state", "+/+/+/+/alarm", "nothing/+"] {
        let (mut found, mut turns, mut after) = (Vec::new(), 0, None);
        let started = Instant::now();
        loop {
            after = retained.matches("acme", filter, 0, after, 1_000, &mut found);
            turns += 1;
            if after.is_none() {
                break;
            }
        }
        let elapsed = started.elapsed();
        let (count, turn) = (found.len(), elapsed / turns);
        println!("  {filter}: {count} found in {turns} turns of {turn:?}");
    }
}

fn report_match(what: &str, topics: &Topics, names: &[String]) {
    let mut found = Matches::default();
    topics.matches("acme", &names[0], None, &mut found);
    let once = Instant::now();
    topics.matches("acme", &names[0], None, &mut found);
    let rounds = (200_000_000 / once.elapsed().as_nanos().max(100) as u64).clamp(3, 1_000_000);
    let per_match = nanoseconds(rounds, |n| {
        let topic = &names[n as usize % names.len()];
        topics.matches("acme", black_box(topic), None, &mut found);
        black_box(&found);
    });
    println!("  {what}: {per_match:.0} ns a match, {} targets", found.targets.len());
}

fn subscriber(key: u64) -> Subscriber {
    Subscriber {
        link: LinkId { shard: ShardIndex((key % 4) as u16), key },
        qos: 1,
        no_local: false,
        retain_as_published: false,
        subscription_id: 0,
        online: true,
    }
}

fn subscribe(topics: &mut Topics, filter: &str, key: u64) {
    topics.subscribe("acme", filter, None, subscriber(key)).unwrap();
}

fn nanoseconds(rounds: u64, mut each: impl FnMut(u64)) -> f64 {
    let started = Instant::now();
    (0..rounds).for_each(&mut each);
    started.elapsed().as_nanos() as f64 / rounds as f64
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
