//! Reading: one read transaction per call, so each answer is the state of one moment.

use super::tables::{COUNTERS, FEED, ITEMS, VERSION};
use bytes::Bytes;
use fulcrum_domain::store::{FeedEntry, FeedPage, Item, Key, Revision, Scan};
use redb::{Database, ReadableDatabase};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(crate) fn items(database: &Database, keys: &[Key]) -> Result<Vec<Option<Item>>, redb::Error> {
    let table = database.begin_read()?.open_table(ITEMS)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let stored = table.get((key.partition.as_str(), key.sort.as_str()))?;
        found.push(stored.map(|stored| item(&key.sort, stored.value())));
    }
    Ok(found)
}

pub(crate) fn scan(database: &Database, scan: &Scan) -> Result<Vec<Item>, redb::Error> {
    let table = database.begin_read()?.open_table(ITEMS)?;
    let mut found = Vec::new();
    let mut bytes = 0usize;
    for entry in table.range((scan.partition.as_str(), scan.from.as_str())..)? {
        let (key, stored) = entry?;
        let (partition, sort) = key.value();
        let over = scan.until.as_deref().is_some_and(|until| sort >= until);
        if partition != scan.partition || over || found.len() >= scan.limit || bytes >= scan.bytes {
            break;
        }
        bytes += split(stored.value()).1.len();
        found.push(item(sort, stored.value()));
    }
    Ok(found)
}

pub(crate) fn feed(
    database: &Database,
    scopes: &[String],
    after: u64,
    limit: usize,
    bytes: usize,
) -> Result<FeedPage, redb::Error> {
    let transaction = database.begin_read()?;
    let head = transaction.open_table(COUNTERS)?.get(VERSION)?.map_or(0, |head| head.value());
    let table = transaction.open_table(FEED)?;
    let mut heads = BinaryHeap::new();
    let mut ranges = Vec::with_capacity(scopes.len());
    let Some(first) = after.checked_add(1) else {
        return Ok(FeedPage { entries: Vec::new(), more: false, head });
    };
    for scope in scopes {
        let mut range = table.range((scope.as_str(), first)..=(scope.as_str(), u64::MAX))?;
        if let Some(entry) = next(scope, &mut range)? {
            heads.push(Reverse((entry.version, ranges.len())));
            ranges.push((scope, range, Some(entry)));
        }
    }
    let mut page = FeedPage { entries: Vec::new(), more: false, head };
    let mut sum = 0usize;
    while let Some(Reverse((_, index))) = heads.pop() {
        if page.entries.len() >= limit || sum >= bytes {
            page.more = true;
            break;
        }
        let (scope, range, head) = &mut ranges[index];
        let following = next(scope, range)?;
        if let Some(entry) = &following {
            heads.push(Reverse((entry.version, index)));
        }
        if let Some(entry) = std::mem::replace(head, following) {
            sum += entry.value.len();
            page.entries.push(entry);
        }
    }
    Ok(page)
}

type FeedRange<'a> = redb::Range<'a, (&'static str, u64), (&'static str, &'static [u8])>;

fn next(scope: &str, range: &mut FeedRange<'_>) -> Result<Option<FeedEntry>, redb::Error> {
    let Some(entry) = range.next() else { return Ok(None) };
    let (key, value) = entry?;
    let (subject, value) = value.value();
    Ok(Some(FeedEntry {
        scope: scope.to_owned(),
        subject: subject.to_owned(),
        version: key.value().1,
        value: Bytes::copy_from_slice(value),
    }))
}

fn item(sort: &str, stored: &[u8]) -> Item {
    let (revision, value) = split(stored);
    Item { sort: sort.to_owned(), value: Bytes::copy_from_slice(value), revision }
}

/// Revision and value of a stored item. A value too short for a revision is of no write and never equals one.
pub(crate) fn split(stored: &[u8]) -> (Revision, &[u8]) {
    match stored.split_first_chunk::<8>() {
        Some((revision, value)) => (Revision(u64::from_le_bytes(*revision)), value),
        None => (Revision(0), stored),
    }
}
