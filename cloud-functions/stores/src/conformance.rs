//! What the rules rely on, as a suite that every store must pass.
//!
//! Each check works under keys of its own, so that the suite can run against a store that holds other things. A broken promise
//! panics with its name, as in any test.

use bytes::Bytes;
use fulcrum_domain::store::{Expect, Item, Key, Revision, Scan, Store, StoreError, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Checks every promise of the port. `prefix` keeps this run's keys apart from all others.
///
/// # Panics
/// Where the store breaks a promise.
pub async fn run(store: Arc<dyn Store>, prefix: &str) {
    let suite = Suite { store, prefix: prefix.to_owned() };
    suite.an_item_is_read_as_it_was_written().await;
    suite.a_condition_that_fails_leaves_everything_as_it_was().await;
    suite.a_revision_is_never_used_again().await;
    suite.of_many_writers_on_one_revision_one_wins().await;
    suite.a_scan_is_in_order_and_within_its_bounds().await;
    suite.a_feed_has_one_entry_per_subject_in_order_of_the_last_change().await;
    suite.feeds_are_merged_by_version_and_cut_by_the_limits().await;
    suite.an_entry_that_changed_meanwhile_is_not_forgotten().await;
    suite.a_concurrent_reader_of_a_feed_misses_nothing().await;
    suite.a_watch_sees_what_is_written_after_it_was_made().await;
}

struct Suite {
    store: Arc<dyn Store>,
    prefix: String,
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Suite {
    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    fn key(&self, partition: &str, sort: &str) -> Key {
        Key::new(self.name(partition), sort)
    }

    async fn one(&self, key: &Key) -> Option<Item> {
        let found = self.store.read(std::slice::from_ref(key)).await.expect("a read succeeds");
        found.into_iter().next().flatten()
    }

    async fn put(&self, key: &Key, text: &str, expect: Expect) -> Result<Revision, StoreError> {
        let (key, value) = (key.clone(), value(text));
        self.store.write(vec![Write::Put { key, value, expect }]).await
    }

    async fn publish(&self, scope: &str, subject: &str, text: &str) {
        let (scope, subject, value) = (self.name(scope), subject.to_owned(), value(text));
        let writes = vec![Write::Publish { scope, subject, value }];
        self.store.write(writes).await.expect("a write without conditions succeeds");
    }

    /// Subjects and values of the scopes' entries behind `after`.
    async fn feed(
        &self,
        scopes: &[&str],
        after: u64,
        limit: usize,
    ) -> (Vec<(String, Bytes, u64)>, bool) {
        let scopes: Vec<_> = scopes.iter().map(|scope| self.name(scope)).collect();
        let page =
            self.store.feed(&scopes, after, limit, usize::MAX).await.expect("a feed is read");
        let entries = page.entries.into_iter();
        (entries.map(|entry| (entry.subject, entry.value, entry.version)).collect(), page.more)
    }

    async fn an_item_is_read_as_it_was_written(&self) {
        let (one, other) = (self.key("items", "one"), self.key("items", "other"));
        assert!(self.one(&one).await.is_none());
        let revision = self.put(&one, "1", Expect::Absent).await.expect("the item was absent");
        let found = self.store.read(&[other.clone(), one.clone()]).await.expect("a read succeeds");
        let item = Item { sort: "one".to_owned(), value: value("1"), revision };
        assert_eq!(found, [None, Some(item)]);
        let big = "x".repeat(5 * 1024 * 1024);
        self.put(&other, &big, Expect::Anything).await.expect("a batch's size fits");
        assert_eq!(self.one(&other).await.map(|item| item.value), Some(value(&big)));
    }

    async fn a_condition_that_fails_leaves_everything_as_it_was(&self) {
        let (kept, fresh) = (self.key("atomic", "kept"), self.key("atomic", "fresh"));
        let revision = self.put(&kept, "1", Expect::Anything).await.expect("written");
        let wrong = Expect::Revision(Revision(revision.0 + 1_000_000));
        for failing in [
            Write::Put { key: kept.clone(), value: value("2"), expect: Expect::Absent },
            Write::Delete { key: kept.clone(), expect: wrong },
            Write::Check { key: kept.clone(), expect: Expect::Absent },
            Write::Check { key: self.key("atomic", "missing"), expect: Expect::Revision(revision) },
        ] {
            let put = Write::Put { key: fresh.clone(), value: value("2"), expect: Expect::Absent };
            let scope = self.name("atomic-feed");
            let publish = Write::Publish { scope, subject: "s".to_owned(), value: value("2") };
            let result = self.store.write(vec![put, publish, failing]).await;
            assert_eq!(result, Err(StoreError::Conflict));
        }
        assert!(self.one(&fresh).await.is_none());
        assert_eq!(self.one(&kept).await.map(|item| item.revision), Some(revision));
        assert!(self.feed(&["atomic-feed"], 0, 10).await.0.is_empty());
    }

    async fn a_revision_is_never_used_again(&self) {
        let key = self.key("revisions", "item");
        let first = self.put(&key, "1", Expect::Absent).await.expect("written");
        let second = self.put(&key, "1", Expect::Revision(first)).await.expect("as it was read");
        assert_ne!(first, second);
        let delete = Write::Delete { key: key.clone(), expect: Expect::Revision(second) };
        self.store.write(vec![delete]).await.expect("as it was read");
        let third = self.put(&key, "1", Expect::Absent).await.expect("it was deleted");
        assert!(third != first && third != second);
        assert_eq!(self.put(&key, "2", Expect::Revision(first)).await, Err(StoreError::Conflict));
    }

    async fn of_many_writers_on_one_revision_one_wins(&self) {
        let key = self.key("race", "item");
        let revision = self.put(&key, "start", Expect::Anything).await.expect("written");
        let writers: Vec<_> = (0..16)
            .map(|n| {
                let (store, key) = (self.store.clone(), key.clone());
                let (value, expect) = (value(&n.to_string()), Expect::Revision(revision));
                tokio::spawn(
                    async move { store.write(vec![Write::Put { key, value, expect }]).await },
                )
            })
            .collect();
        let mut won = 0;
        for writer in writers {
            match writer.await.expect("a writer ends") {
                Ok(_) => won += 1,
                Err(error) => assert_eq!(error, StoreError::Conflict),
            }
        }
        assert_eq!(won, 1);
    }

    async fn a_scan_is_in_order_and_within_its_bounds(&self) {
        for sort in ["b/2", "a", "b/1", "c", "b/10"] {
            self.put(&self.key("scan", sort), sort, Expect::Anything).await.expect("written");
        }
        // A partition whose name starts like this one's.
        self.put(&self.key("scan-other", "b/1"), "", Expect::Anything).await.expect("written");
        let all = Scan::partition(self.name("scan"), 100);
        let sorts = async |scan: Scan| -> Vec<String> {
            let items = self.store.scan(scan).await.expect("a scan succeeds");
            items.into_iter().map(|item| item.sort).collect()
        };
        assert_eq!(sorts(all.clone()).await, ["a", "b/1", "b/10", "b/2", "c"]);
        assert_eq!(sorts(all.clone().with_prefix("b/")).await, ["b/1", "b/10", "b/2"]);
        assert_eq!(sorts(all.clone().starting("b/10")).await, ["b/10", "b/2", "c"]);
        assert_eq!(sorts(Scan { limit: 2, ..all.clone() }).await, ["a", "b/1"]);
        assert_eq!(sorts(Scan { bytes: 2, ..all.clone() }).await, ["a", "b/1"]);
        assert!(sorts(Scan::partition(self.name("scan-empty"), 10)).await.is_empty());
    }

    async fn a_feed_has_one_entry_per_subject_in_order_of_the_last_change(&self) {
        for (subject, text) in [("a", "1"), ("b", "1"), ("a", "2")] {
            self.publish("feed", subject, text).await;
        }
        let (entries, more) = self.feed(&["feed"], 0, 10).await;
        assert_eq!(entries.len(), 2, "two subjects make two entries");
        let [(b, _, first), (a, two, second)] = [&entries[0], &entries[1]];
        assert_eq!((a.as_str(), b.as_str(), two, more), ("a", "b", &value("2"), false));
        assert!(first < second);
        assert_eq!(self.feed(&["feed"], *first, 10).await.0.len(), 1);
        assert!(self.feed(&["feed"], *second, 10).await.0.is_empty());
        assert!(self.feed(&["feed"], u64::MAX, 10).await.0.is_empty());
    }

    async fn feeds_are_merged_by_version_and_cut_by_the_limits(&self) {
        for n in 0..6 {
            self.publish(if n % 2 == 0 { "even" } else { "odd" }, &n.to_string(), "xx").await;
        }
        let both = ["even", "odd", "none"];
        let (entries, more) = self.feed(&both, 0, 4).await;
        let subjects: Vec<_> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!((subjects, more), (vec!["0", "1", "2", "3"], true));
        let (rest, more) = self.feed(&both, entries[3].2, 4).await;
        assert_eq!((rest.len(), more), (2, false));
        let scopes = both.map(|scope| self.name(scope));
        let page = self.store.feed(&scopes, 0, 100, 3).await.expect("a feed is read");
        assert_eq!((page.entries.len(), page.more), (2, true));
        assert!(page.head >= rest[1].2);
    }

    async fn an_entry_that_changed_meanwhile_is_not_forgotten(&self) {
        self.publish("forget", "s", "1").await;
        let version = self.feed(&["forget"], 0, 10).await.0[0].2;
        self.publish("forget", "s", "2").await;
        let forget = async |version| {
            let (scope, subject) = (self.name("forget"), "s".to_owned());
            let write = Write::Forget { scope, subject, version };
            self.store.write(vec![write]).await.expect("forgetting has no condition");
        };
        forget(version).await;
        let left = self.feed(&["forget"], 0, 10).await.0;
        assert_eq!(left.len(), 1);
        forget(left[0].2).await;
        assert!(self.feed(&["forget"], 0, 10).await.0.is_empty());
    }

    async fn a_concurrent_reader_of_a_feed_misses_nothing(&self) {
        const WRITERS: usize = 4;
        const EACH: usize = 25;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, scope) =
                    (self.store.clone(), self.name(&format!("live-{}", writer % 2)));
                tokio::spawn(async move {
                    for n in 0..EACH {
                        let (scope, subject) = (scope.clone(), format!("{writer}-{n}"));
                        let write = Write::Publish { scope, subject, value: value("") };
                        store.write(vec![write]).await.expect("written");
                    }
                })
            })
            .collect();
        let (mut cursor, mut seen) = (0, 0);
        let until = Instant::now() + Duration::from_secs(60);
        while seen < WRITERS * EACH {
            assert!(Instant::now() < until, "the reader saw {seen} entries only");
            let (entries, _) = self.feed(&["live-0", "live-1"], cursor, 7).await;
            seen += entries.len();
            cursor = entries.last().map_or(cursor, |entry| entry.2);
        }
        for writer in writers {
            writer.await.expect("a writer ends");
        }
        assert_eq!(seen, WRITERS * EACH);
    }

    async fn a_watch_sees_what_is_written_after_it_was_made(&self) {
        let topics = vec![self.name("watched"), self.name("watched-feed")];
        let mut watch = self.store.watch(topics.clone());
        self.put(&self.key("watched", "s"), "1", Expect::Anything).await.expect("written");
        assert!(watch.changed(10_000).await, "a write before the wait is noticed");
        let mut watch = self.store.watch(topics);
        let waiting = tokio::spawn(async move { watch.changed(10_000).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.publish("watched-feed", "s", "1").await;
        assert!(waiting.await.expect("the wait ends"), "a write during the wait is noticed");
    }
}
