use super::*;
use crate::limits::RETAINED_TOMBSTONES_PER_TENANT_MAX;

fn frame(text: &str) -> Option<Arc<[u8]>> {
    Some(text.as_bytes().into())
}

fn found(retained: &Retained, tenant: &str, filter: &str, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    assert_eq!(retained.matches(tenant, filter, now_ms, None, usize::MAX, &mut found), None);
    found.into_iter().map(|(topic, _)| topic).collect()
}

#[test]
fn the_highest_version_wins_in_whatever_order_changes_arrive() {
    let mut retained = Retained::default();
    assert_eq!(retained.put("acme", "a/b", frame("two"), 2, None), Put::Stored);
    assert_eq!(retained.put("acme", "a/b", frame("one"), 1, None), Put::Older);
    assert_eq!(retained.put("acme", "a/b", frame("two"), 2, None), Put::Older);
    assert_eq!(retained.put("acme", "a/b", None, 4, None), Put::Deleted);
    assert_eq!(retained.put("acme", "a/b", frame("three"), 3, None), Put::Older);
    assert_eq!(found(&retained, "acme", "#", 0), [""; 0]);
    assert_eq!(retained.put("acme", "a/b", frame("five"), 5, None), Put::Stored);
    assert_eq!(found(&retained, "acme", "#", 0), ["a/b"]);
    assert_eq!(found(&retained, "rival", "#", 0), [""; 0]);
}

#[test]
fn deletions_are_remembered_for_a_bounded_number_and_time() {
    let mut retained = Retained::default();
    retained.expire(1_000, 0);
    for topic in 0..=RETAINED_TOMBSTONES_PER_TENANT_MAX as u64 {
        assert_eq!(retained.put("acme", &format!("t{topic}"), None, 9, None), Put::Deleted);
    }
    assert_eq!(retained.tenants["acme"].graves(), RETAINED_TOMBSTONES_PER_TENANT_MAX);
    assert_eq!(retained.due.len(), RETAINED_TOMBSTONES_PER_TENANT_MAX);
    assert_eq!(retained.put("acme", "t0", frame("late"), 8, None), Put::Stored, "the oldest went");
    assert_eq!(retained.put("acme", "t1", frame("late"), 8, None), Put::Older);
    assert!(!retained.expire(1_000 + RETAINED_TOMBSTONE_MS - 1, usize::MAX));
    assert_eq!(retained.put("acme", "t1", frame("late"), 8, None), Put::Older);
    assert!(!retained.expire(1_000 + RETAINED_TOMBSTONE_MS, usize::MAX));
    assert_eq!(retained.put("acme", "t1", frame("late"), 8, None), Put::Stored);
    assert_eq!(retained.tenants["acme"].graves(), 0);
    assert_eq!(retained.tenants["acme"].entries.len(), 2);
    assert!(retained.due.is_empty());
}

#[test]
fn limits_refuse_what_is_more_but_never_what_is_less_or_already_decided() {
    let mut retained = Retained::default();
    retained.set_limits("acme", RetainedLimits { messages: 2, bytes: 20 });
    assert_eq!(retained.put("acme", "a", frame("12345"), 1, None), Put::Stored);
    assert_eq!(retained.put("acme", "b", frame("12345"), 1, None), Put::Stored);
    let refused = Put::Refused(RetainRefused::Messages);
    assert_eq!(retained.put("acme", "c", frame("1"), 1, None), refused);
    let refused = Put::Refused(RetainRefused::Bytes);
    assert_eq!(retained.put("acme", "a", frame("12345678901234"), 2, None), refused);
    assert_eq!(retained.message("acme", "a", 0).map(|frame| frame.len()), Some(5));
    assert_eq!(retained.follow("acme", "c", frame("1234567890"), 1, None), Put::Stored);
    assert_eq!(retained.tenant_use("acme"), RetainedUse { messages: 3, bytes: 23 });
    assert_eq!(retained.put("acme", "a", frame("1"), 2, None), Put::Stored, "smaller than before");
    assert_eq!(retained.put("acme", "b", None, 2, None), Put::Deleted);
    assert_eq!(retained.put("rival", "c", frame("1"), 1, None), Put::Stored);
    assert_eq!(retained.tenant_use("acme"), RetainedUse { messages: 2, bytes: 13 });
    assert_eq!(retained.total_use(), RetainedUse { messages: 3, bytes: 15 });
}

#[test]
fn what_is_no_topic_is_refused() {
    let mut retained = Retained::default();
    let refused = Put::Refused(RetainRefused::Topic);
    for topic in ["", "a\0b", &"a".repeat(RETAINED_TOPIC_BYTES_MAX + 1)] {
        assert_eq!(retained.put("acme", topic, frame("1"), 1, None), refused);
    }
    let slashes = "/".repeat(RETAINED_TOPIC_BYTES_MAX);
    assert_eq!(retained.put("acme", &slashes, frame("1"), 1, None), Put::Stored);
    assert_eq!(found(&retained, "acme", "/#", 0), [slashes]);
}

#[test]
fn deletions_read_back_before_any_time_was_told_are_remembered_from_then_on() {
    let mut retained = Retained::default();
    let now_ms = 1_700_000_000_000;
    assert_eq!(retained.put("acme", "a", None, 9, None), Put::Deleted);
    retained.expire(now_ms, usize::MAX);
    assert_eq!(retained.put("acme", "a", frame("late"), 8, None), Put::Older);
    assert_eq!(retained.next_expiry_ms(), Some(now_ms + RETAINED_TOMBSTONE_MS));
    retained.expire(now_ms + RETAINED_TOMBSTONE_MS, usize::MAX);
    assert_eq!(retained.put("acme", "a", frame("late"), 8, None), Put::Stored);
}

#[test]
fn an_expired_message_is_not_found_and_an_older_one_does_not_take_its_place() {
    let mut retained = Retained::default();
    assert_eq!(retained.put("acme", "a", frame("1"), 5, Some(2_000)), Put::Stored);
    assert_eq!(found(&retained, "acme", "#", 1_999), ["a"]);
    assert_eq!(found(&retained, "acme", "#", 2_000), [""; 0]);
    assert!(retained.expire(2_000, 0), "more is due than nothing");
    assert!(!retained.expire(2_000, 1));
    assert_eq!(retained.total_use(), RetainedUse::default());
    assert_eq!(retained.put("acme", "a", frame("1"), 4, None), Put::Older);
}

#[test]
fn a_removed_tenant_is_gone_at_once_and_swept_in_steps() {
    let mut retained = Retained::default();
    for topic in 0..10 {
        let topic = topic.to_string();
        assert_eq!(retained.put("acme", &topic, frame("1"), 1, Some(5_000)), Put::Stored);
    }
    retained.remove_tenant("acme");
    assert_eq!(retained.total_use(), RetainedUse::default());
    assert_eq!(found(&retained, "acme", "#", 0), [""; 0]);
    assert_eq!(retained.put("acme", "3", frame("new"), 1, Some(5_000)), Put::Stored);
    assert!(retained.expire(1_000, 4));
    while retained.expire(1_000, 4) {}
    assert!(retained.leaving.is_empty());
    assert_eq!(retained.due.len(), 1, "the new one's");
    retained.expire(5_000, 1);
    assert_eq!(retained.total_use(), RetainedUse::default());
}

#[test]
fn a_walk_leaps_over_what_cannot_match() {
    let mut retained = Retained::default();
    for site in 0..3 {
        for device in 0..500 {
            let topic = format!("site{site}/{device}");
            assert_eq!(retained.put("acme", &topic, frame("1"), 1, None), Put::Stored);
        }
    }
    let mut found = Vec::new();
    assert_eq!(retained.matches("acme", "+/77", 0, None, 10, &mut found), None);
    assert_eq!(found.len(), 3);
}
