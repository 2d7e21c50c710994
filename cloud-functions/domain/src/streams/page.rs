//! Filling a page: every partition with something new gets its share of records and bytes. Which one is first follows from the
//! positions, so that the same positions give the same page, and every partition has its turn though a page holds but one.

use crate::chunk::{Chunk, Classes, unpack};
use crate::rows::PartitionRow;
use crate::store::Scan;
use crate::{Cloud, Error, keys};
use bytes::Bytes;
use fulcrum_contract::streams::{PartitionKey, Position, Record, RecordPage};
use fulcrum_contract::sync::split_frames;
use fulcrum_contract::{DeviceId, TenantId};
use fulcrum_frame::{Frame, Tag};
use std::collections::BTreeMap;

/// Bytes of payload after which a page ends, unless it would be empty: in Base64 and JSON below a function's 6 MB.
const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Bytes besides the payload that a record counts for.
const RECORD_OVERHEAD_BYTES: usize = 256;
/// Chunks read for one page; bounds the work of one call where a filter leaves out nearly everything.
const PAGE_CHUNKS: usize = 256;

/// How full the page may be once a partition has had its share.
#[derive(Clone, Copy)]
struct Until {
    records: usize,
    bytes: usize,
}

pub(super) struct PageBuilder {
    max: usize,
    classes: Classes,
    bytes: usize,
    chunks: usize,
    records: Vec<Record>,
    positions: BTreeMap<String, u64>,
    moved: BTreeMap<String, PartitionKey>,
}

impl PageBuilder {
    pub(super) fn new(max: usize, classes: Classes, positions: BTreeMap<String, u64>) -> Self {
        let (records, moved) = (Vec::new(), BTreeMap::new());
        PageBuilder { max, classes, bytes: 0, chunks: 0, records, positions, moved }
    }

    /// Reads from every partition that has something behind its position.
    pub(super) async fn fill(
        &mut self,
        cloud: &Cloud,
        tenant: &TenantId,
        partitions: &BTreeMap<String, PartitionRow>,
    ) -> Result<(), Error> {
        let behind = |sort: &String| self.positions.get(sort).copied().unwrap_or(0);
        let mut waiting: Vec<_> =
            partitions.iter().filter(|(sort, row)| behind(sort) < row.mark).collect();
        // Each page that is committed moves the sum on by what it held.
        let sum = self.positions.values().fold(0u64, |sum, position| sum.wrapping_add(*position));
        let mut left = waiting.len();
        waiting.rotate_left(sum.checked_rem(left as u64).unwrap_or(0) as usize);
        for (sort, row) in waiting {
            let Some(key) = keys::parse_partition_sort(sort) else { continue };
            // What earlier partitions leave of their share goes to the later ones.
            let share = (self.max - self.records.len()).div_ceil(left);
            let bytes = PAGE_BYTES.saturating_sub(self.bytes).div_ceil(left);
            left -= 1;
            let until = Until { records: self.records.len() + share, bytes: self.bytes + bytes };
            self.read_partition(cloud, tenant, (sort, &key), row, until).await?;
            if self.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Whether it has something for the reader: records, or so much passed over that the reader should commit it.
    pub(super) fn is_worth_sending(&self) -> bool {
        !self.records.is_empty() || self.chunks >= PAGE_CHUNKS
    }

    pub(super) fn into_positions(self) -> BTreeMap<String, u64> {
        self.positions
    }

    pub(super) fn finish(self) -> RecordPage {
        let positions = self.positions;
        let position = |(sort, partition): (String, PartitionKey)| {
            positions.get(&sort).map(|sequence| Position { partition, sequence: *sequence })
        };
        RecordPage {
            records: self.records,
            commit: self.moved.into_iter().filter_map(position).collect(),
        }
    }

    fn is_full(&self) -> bool {
        self.records.len() >= self.max || self.bytes >= PAGE_BYTES || self.chunks >= PAGE_CHUNKS
    }

    fn has_reached(&self, until: Until) -> bool {
        self.records.len() >= until.records || self.bytes >= until.bytes
    }

    async fn read_partition(
        &mut self,
        cloud: &Cloud,
        tenant: &TenantId,
        (sort, key): (&String, &PartitionKey),
        row: &PartitionRow,
        until: Until,
    ) -> Result<(), Error> {
        let mut position = self.positions.get(sort).copied().unwrap_or(0).max(row.first - 1);
        while position < row.mark && !self.has_reached(until) && !self.is_full() {
            let from = keys::number(position + 1);
            let scan = Scan::partition(keys::chunks(tenant, key), 1).starting(from);
            // Retention may have dropped the rest since the row was read.
            let Some(item) = cloud.store.scan(scan).await?.into_iter().next() else { break };
            self.chunks += 1;
            let (chunk, packed) = Chunk::decode(&item.value)?;
            if !chunk.classes.meets(self.classes) {
                position = chunk.last();
                continue;
            }
            let _place = cloud.unpacking_place().await?;
            let opened = tokio::task::spawn_blocking(move || unpack(&packed)).await;
            let unpacked = opened.map_err(|error| Error::Unavailable(error.to_string()))?;
            let unpacked = unpacked.map_err(|error| Error::Unavailable(error.to_string()))?;
            position = self.take(key, &chunk, &Bytes::from(unpacked), position, until)?;
        }
        self.positions.insert(sort.clone(), position);
        self.moved.insert(sort.clone(), key.clone());
        Ok(())
    }

    /// Takes the chunk's wanted records behind `position`; returns the position behind the last one looked at.
    fn take(
        &mut self,
        key: &PartitionKey,
        chunk: &Chunk,
        unpacked: &Bytes,
        position: u64,
        until: Until,
    ) -> Result<u64, Error> {
        let broken =
            |error: String| Error::Unavailable(format!("a stored chunk cannot be read: {error}"));
        let frames =
            split_frames(unpacked, chunk.count).map_err(|error| broken(error.to_string()))?;
        let mut looked_at = position;
        for (sequence, bytes) in (chunk.first..).zip(frames) {
            if sequence <= position {
                continue;
            }
            if self.has_reached(until) {
                break;
            }
            let frame = Frame::parse(bytes).map_err(|error| broken(error.to_string()))?;
            if self.classes.holds(frame.class()) {
                self.bytes += RECORD_OVERHEAD_BYTES + bytes.len();
                self.records.push(record(key, sequence, &frame)?);
            }
            looked_at = sequence;
        }
        Ok(looked_at)
    }
}

fn record(key: &PartitionKey, sequence: u64, frame: &Frame<'_>) -> Result<Record, Error> {
    let text = |tag| frame.text(tag).map(str::to_owned);
    Ok(Record {
        partition: key.clone(),
        sequence,
        class: frame.class().as_str().to_owned(),
        device: DeviceId::parse(frame.device().unwrap_or_default()).map_err(Error::invalid)?,
        created_ms: frame.created_ms(),
        qos: frame.qos(),
        content_type: text(Tag::ContentType),
        orig_adapter: text(Tag::OriginAdapter),
        orig_address: text(Tag::OriginAddress),
        gateway: text(Tag::Gateway),
        correlation_id: text(Tag::Correlation),
        status: frame.status(),
        properties: frame
            .properties()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        payload: frame.payload().to_vec(),
    })
}
