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
