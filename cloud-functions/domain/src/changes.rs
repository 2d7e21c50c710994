//! The change feed: one scope per tenant with its documents, one per edge with the commands it is to deliver.
//!
//! An entity has one entry in its scope, at the version of its last change, so "everything above 0" is the snapshot and
//! "everything above the cursor" the delta. A deletion is an entry without a document. In an edge's own
//! feed those it is past are dropped, and a cursor below what was dropped gets a new feed id, that is a new snapshot. In a tenant's
//! feed they stay: one small entry per deleted document.

use crate::edges::Edge;
use crate::registry::put;
use crate::rows::{EdgeRow, FloorRow, decode, encode};
use crate::secrets::new_id;
use crate::store::{Expect, FeedEntry, StoreError, Write};
use crate::{Cloud, Error, keys};
use fulcrum_contract::feed::{Change, ChangePage, Entity};
use std::time::{Duration, Instant};

/// Most changes of one page.
const PAGE_CHANGES: usize = 500;
/// Bytes of documents after which a page ends.
const PAGE_BYTES: usize = 1024 * 1024;
/// Tombstones looked for in one go.
const SWEEP_ENTRIES: usize = 1000;

/// What an edge asks the feed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangesRequest {
    /// The feed it has, if any.
    pub feed: Option<String>,
    /// Its cursor.
    pub after: u64,
    /// How long to wait for a change, in seconds.
    pub wait_s: u64,
}

impl Cloud {
    /// Changes behind the edge's cursor, waiting for the first one if there is none.
    pub async fn changes(&self, edge: Edge, request: &ChangesRequest) -> Result<ChangePage, Error> {
        let until = self.wait_until(request.wait_s);
        let mut edge = edge;
        loop {
            let scopes = scopes_of(&edge);
            let mut topics = scopes.clone();
            topics.push(keys::EDGES.to_owned());
            let mut watch = self.store.watch(topics);
            let feed = self.feed_id(&edge);
            let known = request.feed.as_deref() == Some(feed.as_str());
            let after = if known { request.after } else { 0 };
            let scope = keys::edge_scope(&edge.id, &edge.incarnation);
            let page = self.store.feed(&scopes, after, PAGE_CHANGES, PAGE_BYTES).await?;
            // Looked at after the page was read, so that what is dropped meanwhile is noticed.
            let lost = known && after > 0 && self.floor(&scope, &edge).await?.value > after;
            // A cursor from the future: this store was restored from an earlier time.
            if lost || after > page.head {
                edge = self.restart_feed(&edge).await?;
                continue;
            }
            let left_ms = left_ms(until);
            if !page.entries.is_empty() || !known || left_ms == 0 {
                let cursor = page.entries.last().map_or(after, |last| last.version);
                let changes = page.entries.iter().map(change).collect::<Result<_, _>>()?;
                return Ok(ChangePage { feed, changes, cursor, more: page.more });
            }
            self.sweep_tombstones(&scope, &edge, after).await?;
            if watch.changed(left_ms).await {
                edge = self.reread(&edge).await?;
            }
        }
    }

    /// Step that puts the entity at the end of the scope's feed.
    pub(crate) fn publish(&self, scope: String, entity: &Entity) -> Write {
        Write::Publish { scope, subject: subject(entity), value: encode(entity) }
    }

    /// When a wait that was asked for ends, by the monotonic clock; waits are cut to what the host in front allows.
    pub(crate) fn wait_until(&self, wait_s: u64) -> Instant {
        Instant::now() + Duration::from_secs(wait_s.min(self.settings.wait_s_max))
    }

    fn feed_id(&self, edge: &Edge) -> String {
        format!("{}-{}", self.store.identity(), edge.feed)
    }

    async fn reread(&self, edge: &Edge) -> Result<Edge, Error> {
        let revoked = Error::Unauthorized("the edge was revoked: enrol it with a new token");
        let item = self.one(keys::edge(&edge.id)).await?.ok_or(revoked)?;
        Ok(Edge::of(edge.id.clone(), &decode(&item)?))
    }

    /// Below which version the edge's present feed has lost deletions. What was dropped under an earlier feed does not count:
    /// a snapshot that was begun since then never contained it.
    async fn floor(&self, scope: &str, edge: &Edge) -> Result<FloorRow, Error> {
        let item = self.one(keys::floor(scope)).await?;
        let row = item.as_ref().map(decode::<FloorRow>).transpose()?;
        let none = || FloorRow { value: 0, feed: edge.feed.clone() };
        Ok(row.filter(|row| row.feed == edge.feed).unwrap_or_else(none))
    }

    /// Gives the edge a new feed id, so that it takes a snapshot.
    async fn restart_feed(&self, edge: &Edge) -> Result<Edge, Error> {
        let key = keys::edge(&edge.id);
        if let Some(item) = self.one(key.clone()).await? {
            let mut row: EdgeRow = decode(&item)?;
            if row.feed == edge.feed {
                row.feed = new_id();
                let write = put(key, &row, Expect::as_read(Some(&item)));
                match self.store.write(vec![write]).await {
                    Ok(_) | Err(StoreError::Conflict) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.reread(edge).await
    }

    /// Drops deletions that the edge's cursor is past: it has them on disk. What lies below the floor was looked at before.
    async fn sweep_tombstones(&self, scope: &str, edge: &Edge, cursor: u64) -> Result<(), Error> {
        let key = keys::floor(scope);
        let item = self.one(key.clone()).await?;
        let row = item.as_ref().map(decode::<FloorRow>).transpose()?;
        let floor = row.filter(|row| row.feed == edge.feed).map_or(0, |row| row.value);
        if floor >= cursor {
            return Ok(());
        }
        let scopes = [scope.to_owned()];
        let page = self.store.feed(&scopes, floor, SWEEP_ENTRIES, PAGE_BYTES).await?;
        let seen = || page.entries.iter().filter(|entry| entry.version <= cursor);
        let gone: Vec<_> = seen().filter(|entry| is_tombstone(entry)).collect();
        if gone.is_empty() && !page.more {
            return Ok(());
        }
        let Some(value) = seen().map(|entry| entry.version).max() else { return Ok(()) };
        let row = FloorRow { value, feed: edge.feed.clone() };
        let mut writes = vec![put(key, &row, Expect::as_read(item.as_ref()))];
        writes.extend(gone.iter().map(|entry| Write::Forget {
            scope: scope.to_owned(),
            subject: entry.subject.clone(),
            version: entry.version,
        }));
        match self.store.write(writes).await {
            // Somebody else is sweeping; what is left goes with the next sweep.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Milliseconds until `until`, 0 if it is over.
pub(crate) fn left_ms(until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
}

fn scopes_of(edge: &Edge) -> Vec<String> {
    let mut scopes: Vec<_> = edge.tenants.iter().map(keys::tenant_scope).collect();
    scopes.push(keys::edge_scope(&edge.id, &edge.incarnation));
    scopes
}

fn change(entry: &FeedEntry) -> Result<Change, Error> {
    let entity = serde_json::from_slice(&entry.value).map_err(|error| {
        Error::Unavailable(format!("the feed entry {} cannot be read: {error}", entry.subject))
    })?;
    Ok(Change { version: entry.version, entity })
}

fn is_tombstone(entry: &FeedEntry) -> bool {
    match change(entry).map(|change| change.entity) {
        Ok(Entity::Tenant { document, .. }) => document.is_none(),
        Ok(Entity::Device { document, .. }) => document.is_none(),
        Ok(Entity::Credentials { document, .. }) => document.is_none(),
        Ok(Entity::Application { document, .. }) => document.is_none(),
        Ok(Entity::Command { document, .. }) => document.is_none(),
        Err(_) => false,
    }
}

/// What an entry is about, unique within its scope.
fn subject(entity: &Entity) -> String {
    match entity {
        Entity::Tenant { tenant, .. } => format!("tenant/{tenant}"),
        Entity::Device { tenant, device, .. } => format!("device/{tenant}/{device}"),
        Entity::Credentials { tenant, device, .. } => format!("credentials/{tenant}/{device}"),
        Entity::Application { tenant, application, .. } => {
            format!("application/{tenant}/{application}")
        }
        Entity::Command { tenant, device, command, .. } => {
            format!("command/{tenant}/{device}/{command}")
        }
    }
}
