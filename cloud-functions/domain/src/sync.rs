//! Taking in what edges ship, exactly once; and which devices they have.
//!
//! Invariants:
//! - The mark moves in the write that stores the records: a batch that is repeated, overlapping or late stores each sequence once.
//! - What a frame says about a command takes effect in the same write as the frame.
//! - A batch's frames are all of the tenant its header names, and the edge serves that tenant.

use crate::chunk::{Chunk, Classes, pack};
use crate::commands::{Address, report};
use crate::edges::Edge;
use crate::registry::put;
use crate::rows::{CommandRow, PartitionRow, Reference, decode, reference};
use crate::store::{Expect, Item, Scan, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use bytes::Bytes;
use fulcrum_contract::streams::PartitionKey;
use fulcrum_contract::sync::{BatchAnswer, BatchHeader, Mark, Marks, Presence};
use fulcrum_contract::{CommandId, DeviceId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

mod batch;

use batch::Batch;

/// Partitions (epochs counted) one edge may have in a tenant's stream.
const PARTITIONS_PER_EDGE_MAX: usize = 1024;
/// Most devices of one presence report.
const PRESENCE_DEVICES_MAX: usize = 10_000;
/// Writes of one transaction besides those for commands: mark, chunk, trimmed chunks, retired partitions.
const WRITES_BESIDE_COMMANDS: usize = 24;
/// Most writes for what one frame says about a command.
const WRITES_PER_COMMAND: usize = 6;
/// Chunks of live telemetry trimmed with one batch, at most.
const TRIM_CHUNKS: usize = 8;
/// Bytes of chunks looked at for trimming.
const TRIM_BYTES: usize = 8 * 1024 * 1024;
/// Earlier boots' telemetry partitions retired with one batch, at most.
const RETIRE_AT_ONCE: usize = 8;

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ingested {
    /// Stored up to the mark, now or before.
    Stored(BatchAnswer),
    /// Records between the mark and the batch are missing; nothing was stored.
    Gap(BatchAnswer),
}

impl Cloud {
    /// What the edge resumes from; live telemetry is not listed.
    pub async fn marks(&self, edge: &Edge) -> Result<Marks, Error> {
        let mut marks = Vec::new();
        for tenant in &edge.tenants {
            let prefix = format!("{}/", edge.id);
            let scan = Scan::partition(keys::partitions(tenant), 2 * PARTITIONS_PER_EDGE_MAX);
            for item in self.store.scan(scan.with_prefix(&prefix)).await? {
                let Some(key) = keys::parse_partition_sort(&item.sort) else { continue };
                if !is_live(&key.partition) {
                    let (tenant, sequence) = (tenant.clone(), decode::<PartitionRow>(&item)?.mark);
                    let (partition, epoch) = (key.partition, key.epoch);
                    marks.push(Mark { tenant, partition, epoch, sequence });
                }
            }
        }
        Ok(Marks { marks })
    }

    /// Stores what is new in the batch and moves the mark. The mark in the answer may lie before the batch's end where the store
    /// cannot take all of it in one transaction: the edge goes on behind the mark.
    pub async fn ingest(&self, edge: &Edge, body: Bytes, now_ms: u64) -> Result<Ingested, Error> {
        let (header, packed) = batch::open(&body, edge)?;
        let _place = self.unpacking_place().await?;
        let opened = {
            let header = header.clone();
            tokio::task::spawn_blocking(move || Batch::parse(header, packed))
        };
        let batch = opened.await.map_err(|error| Error::Unavailable(error.to_string()))??;
        let BatchHeader { tenant, partition, epoch, first_sequence: first, .. } = header;
        let key = PartitionKey { edge: edge.id.clone(), partition, epoch };
        for _ in 0..ATTEMPTS {
            let item = self.one(keys::partition(&tenant, &key)).await?;
            let before = item.as_ref().map(decode::<PartitionRow>).transpose()?;
            let mark = before.as_ref().map_or(0, |row| row.mark);
            if first > mark + 1 {
                return Ok(Ingested::Gap(BatchAnswer { high_water_mark: mark }));
            }
            if batch.last() <= mark {
                return Ok(Ingested::Stored(BatchAnswer { high_water_mark: mark }));
            }
            let mut row = before.unwrap_or(PartitionRow {
                mark: 0,
                first: 1,
                bytes: 0,
                created_ms: now_ms,
                updated_ms: now_ms,
                retired_ms: None,
            });
            let mut writes = Vec::new();
            if item.is_none() {
                writes.extend(self.open_partition(&batch, &key, now_ms).await?);
            }
            let commands_max =
                self.store.writes_max().saturating_sub(WRITES_BESIDE_COMMANDS) / WRITES_PER_COMMAND;
            let part = batch.after(mark, commands_max.max(1));
            writes.extend(self.apply_reports(&batch, part.clone(), now_ms).await?);
            writes.push(self.put_chunk(&batch, &key, part, &mut row, now_ms).await?);
            if is_live(&key.partition) {
                writes.extend(self.trim(&batch, &key, &mut row).await?);
            }
            let partition = keys::partition(&tenant, &key);
            writes.push(put(partition, &row, Expect::as_read(item.as_ref())));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(Ingested::Stored(BatchAnswer { high_water_mark: row.mark })),
            }
        }
        Err(Error::Busy)
    }

    /// Binds devices to the edge: what waits for them is queued there.
    pub async fn presence(
        &self,
        edge: &Edge,
        presence: &Presence,
        now_ms: u64,
    ) -> Result<(), Error> {
        if presence.devices.len() > PRESENCE_DEVICES_MAX {
            return Err(Error::Invalid(format!(
                "a presence report names at most {PRESENCE_DEVICES_MAX} devices: split it"
            )));
        }
        if let Some(foreign) = presence.devices.iter().find(|one| !edge.serves(&one.tenant)) {
            return Err(not_served(edge, &foreign.tenant));
        }
        for devices in presence.devices.chunks(100) {
            let homes: Vec<_> =
                devices.iter().map(|one| keys::home(&one.tenant, &one.device)).collect();
            let known: Vec<_> =
                devices.iter().map(|one| keys::device(&one.tenant, &one.device)).collect();
            let (present, known) = (self.store.read(&homes).await?, self.store.read(&known).await?);
            let mut moved = BTreeMap::new();
            for ((key, home), device) in homes.into_iter().zip(&present).zip(&known) {
                let home = home.as_ref().map(decode::<Reference>).transpose()?;
                let same = home.is_some_and(|home| home.id == edge.id.as_str());
                if device.is_some() && !same {
                    let (value, expect) = (reference(&edge.id), Expect::Anything);
                    moved.insert(key.clone(), Write::Put { key, value, expect });
                }
            }
            if !moved.is_empty() {
                self.store.write(moved.into_values().collect()).await?;
            }
            // After the homes are written: a command that is sent meanwhile either sees the new home or is seen here.
            for (one, _) in devices.iter().zip(&known).filter(|(_, known)| known.is_some()) {
                self.attract_commands(&one.tenant, &one.device, edge, now_ms).await?;
            }
        }
        Ok(())
    }

    /// Steps that go with a partition's first batch: an earlier boot's live telemetry is retired.
    async fn open_partition(
        &self,
        batch: &Batch,
        key: &PartitionKey,
        now_ms: u64,
    ) -> Result<Vec<Write>, Error> {
        let tenant = &batch.header.tenant;
        let scan = Scan::partition(keys::partitions(tenant), PARTITIONS_PER_EDGE_MAX);
        let siblings = self.store.scan(scan.with_prefix(&format!("{}/", key.edge))).await?;
        if siblings.len() >= PARTITIONS_PER_EDGE_MAX {
            return Err(Error::Limit(format!(
                "the edge '{}' has {PARTITIONS_PER_EDGE_MAX} partitions in '{tenant}': wait until old ones are dropped",
                key.edge
            )));
        }
        let mut writes = Vec::new();
        for item in siblings.iter().filter(|_| is_live(&key.partition)) {
            let Some(sibling) = keys::parse_partition_sort(&item.sort) else { continue };
            let mut row: PartitionRow = decode(item)?;
            let older = sibling.partition == key.partition && sibling.epoch != key.epoch;
            if older && row.retired_ms.is_none() && writes.len() < RETIRE_AT_ONCE {
                row.retired_ms = Some(now_ms);
                let partition = keys::partition(tenant, &sibling);
                writes.push(put(partition, &row, Expect::as_read(Some(item))));
            }
        }
        Ok(writes)
    }

    /// Steps for what the part's frames say about commands. What is said about an unknown command is a record like any other.
    async fn apply_reports(
        &self,
        batch: &Batch,
        part: std::ops::Range<usize>,
        now_ms: u64,
    ) -> Result<Vec<Write>, Error> {
        let tenant = &batch.header.tenant;
        type Moved = (Item, CommandRow, CommandRow);
        let mut moved: BTreeMap<(DeviceId, CommandId), Option<Moved>> = BTreeMap::new();
        for told in batch.reports.iter().filter(|told| part.contains(&told.index)) {
            let slot = match moved.entry((told.device.clone(), told.command.clone())) {
                Entry::Occupied(slot) => slot.into_mut(),
                Entry::Vacant(slot) => {
                    let key = keys::command(tenant, &told.device, &told.command);
                    let item = self.one(key).await?;
                    let row = item.as_ref().map(decode::<CommandRow>).transpose()?;
                    slot.insert(item.zip(row).map(|(item, row)| (item, row.clone(), row)))
                }
            };
            if let Some((_, _, after)) = slot {
                report(after, told.report.clone());
            }
        }
        let mut writes = Vec::new();
        for ((device, command), slot) in &mut moved {
            let Some((item, before, after)) = slot else { continue };
            if before.state != after.state || before.response != after.response {
                let address = Address { tenant, device, command };
                writes.extend(self.transition(address, Some((item, before)), after, now_ms));
            }
        }
        Ok(writes)
    }

    /// The step that stores the part's frames; counts them into the row.
    async fn put_chunk(
        &self,
        batch: &Batch,
        key: &PartitionKey,
        part: std::ops::Range<usize>,
        row: &mut PartitionRow,
        now_ms: u64,
    ) -> Result<Write, Error> {
        let chunk = Chunk {
            classes: batch.classes_of(part.clone()),
            count: part.len() as u32,
            first: batch.header.first_sequence + part.start as u64,
            stored_ms: now_ms,
        };
        let packed = if part.len() == batch.frames.len() {
            batch.packed.clone()
        } else {
            let frames = batch.frames[part].to_vec();
            let packing = tokio::task::spawn_blocking(move || pack(&frames));
            let packed = packing.await.map_err(|error| Error::Unavailable(error.to_string()))?;
            packed.map_err(|error| Error::Unavailable(format!("zstd: {error}")))?.into()
        };
        let value = chunk.encode(&packed);
        row.mark = chunk.last();
        row.bytes += value.len() as u64;
        row.updated_ms = now_ms;
        let chunks = keys::chunks(&batch.header.tenant, key);
        let key = crate::store::Key::new(chunks, keys::number(chunk.last()));
        Ok(Write::Put { key, value, expect: Expect::Absent })
    }

    /// Steps that keep live telemetry within its bounds: the oldest chunks go.
    async fn trim(
        &self,
        batch: &Batch,
        key: &PartitionKey,
        row: &mut PartitionRow,
    ) -> Result<Vec<Write>, Error> {
        let over = |row: &PartitionRow| {
            row.bytes > self.settings.telemetry_bytes_per_partition
                || row.mark + 1 - row.first > self.settings.telemetry_records_per_partition
        };
        let mut writes = Vec::new();
        if !over(row) {
            return Ok(writes);
        }
        let chunks = keys::chunks(&batch.header.tenant, key);
        let scan = Scan { bytes: TRIM_BYTES, ..Scan::partition(chunks.clone(), TRIM_CHUNKS) };
        for item in self.store.scan(scan).await? {
            if !over(row) {
                break;
            }
            row.first = Chunk::decode(&item.value)?.0.last() + 1;
            row.bytes = row.bytes.saturating_sub(item.value.len() as u64);
            let key = crate::store::Key::new(chunks.clone(), item.sort.clone());
            writes.push(Write::Delete { key, expect: Expect::Anything });
        }
        Ok(writes)
    }
}

/// Live telemetry: `t0`, `t1`, …; stored classes are in `p0`, `p1`, ….
pub(crate) fn is_live(partition: &str) -> bool {
    partition.starts_with('t')
}

fn not_served(edge: &Edge, tenant: &fulcrum_contract::TenantId) -> Error {
    Error::Forbidden(format!(
        "the edge '{}' does not serve the tenant '{tenant}': add it with PUT /v1/edges/{}",
        edge.id, edge.id
    ))
}

/// The classes of some frames.
fn classes(frames: impl Iterator<Item = fulcrum_frame::Class>) -> Classes {
    let mut all = Classes::default();
    frames.for_each(|class| all.add(class));
    all
}
