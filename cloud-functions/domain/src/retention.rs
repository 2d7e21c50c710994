//! Background work: what is over goes. Run it now and then ([`Cloud::maintain`]); every step is idempotent and takes a bounded bite.
//!
//! Deliberately absent: a schedule. The local host runs it by timer, on AWS a schedule invokes it.

use crate::chunk::Chunk;
use crate::registry::put;
use crate::rows::{PartitionRow, decode};
use crate::store::{Expect, Key, Scan, StoreError, Write};
use crate::{Cloud, Error, keys};
use fulcrum_contract::TenantId;
use fulcrum_contract::streams::PartitionKey;

/// Retired live telemetry can still be read for so long, in milliseconds.
const RETIRED_MS: u64 = 10 * 60 * 1000;
/// Chunks dropped in one write.
const CHUNKS_AT_ONCE: usize = 16;
/// Bytes of chunks read to drop them.
const CHUNK_BYTES: usize = 16 * 1024 * 1024;
/// Bites per partition and run, and of commands that are due.
const BITES: usize = 64;

impl Cloud {
    /// Expires commands, drops records that are too old or too many, and partitions that are over.
    pub async fn maintain(&self, now_ms: u64) -> Result<(), Error> {
        for _ in 0..BITES {
            if !self.commands_due(now_ms).await? {
                break;
            }
        }
        self.retain_all(keys::TENANTS, now_ms).await?;
        self.retain_all(keys::GONE_TENANTS, now_ms).await
    }

    async fn retain_all(&self, tenants: &str, now_ms: u64) -> Result<(), Error> {
        let mut scan = Scan::partition(tenants, 100);
        loop {
            let tenants = self.store.scan(scan.clone()).await?;
            let Some(last) = tenants.last() else { return Ok(()) };
            scan.from = format!("{}\0", last.sort);
            for item in tenants {
                let tenant = TenantId::parse(&item.sort).map_err(Error::invalid)?;
                self.retain(&tenant, now_ms).await?;
            }
        }
    }

    async fn retain(&self, tenant: &TenantId, now_ms: u64) -> Result<(), Error> {
        let oldest_ms = now_ms.saturating_sub(self.settings.stored_age_ms);
        let mut stored_bytes = 0u64;
        let mut stored = Vec::new();
        for (sort, row) in self.partitions(tenant).await? {
            let Some(key) = keys::parse_partition_sort(&sort) else { continue };
            match row.retired_ms {
                Some(at_ms) if at_ms + RETIRED_MS <= now_ms => {
                    self.drop_partition(tenant, &key).await?;
                }
                Some(_) => {}
                None if crate::sync::is_live(&key.partition) => {}
                None => {
                    stored_bytes += row.bytes;
                    stored.push((key, row));
                }
            }
        }
        // The longest partitions give first, so that a quiet edge's few records outlive a busy one's flood.
        stored.sort_by_key(|(_, row)| std::cmp::Reverse(row.bytes));
        for (key, row) in stored {
            let over = stored_bytes.saturating_sub(self.settings.stored_bytes_per_tenant);
            let dropped = self.drop_oldest(tenant, &key, over.min(row.bytes), oldest_ms).await?;
            stored_bytes = stored_bytes.saturating_sub(dropped);
        }
        Ok(())
    }

    /// Drops chunks stored before `oldest_ms`, and at least `over` bytes. Returns how many bytes went.
    async fn drop_oldest(
        &self,
        tenant: &TenantId,
        key: &PartitionKey,
        over: u64,
        oldest_ms: u64,
    ) -> Result<u64, Error> {
        let mut dropped = 0;
        for _ in 0..BITES {
            let Some(item) = self.one(keys::partition(tenant, key)).await? else { break };
            let mut row: PartitionRow = decode(&item)?;
            let partition = keys::chunks(tenant, key);
            let scan = Scan { bytes: CHUNK_BYTES, ..Scan::partition(&partition, CHUNKS_AT_ONCE) };
            let (mut writes, mut bite, lost_from) = (Vec::new(), 0, row.first);
            for chunk_item in self.store.scan(scan).await? {
                let chunk = Chunk::decode(&chunk_item.value)?.0;
                if dropped + bite >= over && chunk.stored_ms >= oldest_ms {
                    break;
                }
                bite += chunk_item.value.len() as u64;
                row.first = chunk.last() + 1;
                let key = Key::new(partition.clone(), chunk_item.sort);
                writes.push(Write::Delete { key, expect: Expect::Anything });
            }
            if writes.is_empty() {
                break;
            }
            row.bytes = row.bytes.saturating_sub(bite);
            writes.push(put(keys::partition(tenant, key), &row, Expect::as_read(Some(&item))));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => drop(other?),
            }
            dropped += bite;
            let edge = &key.edge;
            let (partition, until) = (&key.partition, row.first - 1);
            tracing::info!(%tenant, %edge, partition, from = lost_from, until, "retention dropped records");
        }
        Ok(dropped)
    }

    /// Drops a partition with its records and every group's position in it.
    async fn drop_partition(&self, tenant: &TenantId, key: &PartitionKey) -> Result<(), Error> {
        let partition = keys::chunks(tenant, key);
        for _ in 0..BITES {
            let scan = Scan { bytes: CHUNK_BYTES, ..Scan::partition(&partition, CHUNKS_AT_ONCE) };
            let chunks = self.store.scan(scan).await?;
            if chunks.is_empty() {
                let mut writes = vec![delete(keys::partition(tenant, key))];
                for group in self.store.scan(Scan::partition(keys::groups(tenant), 1000)).await? {
                    let positions = keys::positions(tenant, &group.sort);
                    writes.push(delete(Key::new(positions, keys::partition_sort(key))));
                }
                self.store.write(writes).await?;
                return Ok(());
            }
            let gone = |sort| delete(Key::new(partition.clone(), sort));
            let writes = chunks.into_iter().map(|chunk| gone(chunk.sort)).collect();
            self.store.write(writes).await?;
        }
        Ok(())
    }
}

fn delete(key: Key) -> Write {
    Write::Delete { key, expect: Expect::Anything }
}
