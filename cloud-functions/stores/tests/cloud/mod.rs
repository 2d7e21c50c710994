//! The rules over a redb store of their own, with an operator's and an edge node's usual moves.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

pub mod meddling;

use bytes::Bytes;
use fulcrum_contract::registry::{Device, Tenant};
use fulcrum_contract::sync::{BatchAnswer, BatchHeader, encode_batch, push_frame};
use fulcrum_contract::{CommandId, DeviceId, EdgeId, TenantId};
use fulcrum_domain::edges::Edge;
use fulcrum_domain::streams::{ReadRequest, RecordClasses, Start};
use fulcrum_domain::sync::Ingested;
use fulcrum_domain::{Cloud, Error, Settings};
use fulcrum_frame::{Class, FrameBuilder, Tag};
use fulcrum_stores::RedbStore;
use std::path::Path;
use std::sync::Arc;

pub const NOW: u64 = 1_700_000_000_000;
pub const EPOCH: u64 = 7;

pub fn settings() -> Settings {
    Settings { bcrypt_cost: 4, wait_s_max: 1, ..Settings::default() }
}

pub fn open(dir: &Path, settings: Settings) -> Cloud {
    let store = RedbStore::open(&dir.join("cloud.redb"), "store").unwrap();
    Cloud::new(Arc::new(store), settings)
}

/// The tenant `acme` with the device `pump`.
pub async fn with_pump(settings: Settings) -> (Cloud, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let cloud = open(dir.path(), settings);
    make_pump(&cloud).await;
    (cloud, dir)
}

pub async fn make_pump(cloud: &Cloud) {
    cloud.create_tenant(Some(tenant("acme")), Tenant::default()).await.unwrap();
    cloud
        .create_device(&tenant("acme"), Some(device("pump")), Device::default(), NOW)
        .await
        .unwrap();
}

pub fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

pub fn command(id: &str) -> CommandId {
    CommandId::parse(id).unwrap()
}

/// An edge that serves `acme`, enrolled and authenticated.
pub async fn edge(cloud: &Cloud, id: &str) -> Edge {
    let id = EdgeId::parse(id).unwrap();
    cloud.create_edge(&id, vec![tenant("acme")], NOW).await.unwrap();
    cloud.edge_by_id(&id).await.unwrap()
}

pub fn frame(class: Class, about: Option<(&str, u16)>, payload: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = FrameBuilder::new(&mut bytes, class, 1, NOW);
    frame.text(Tag::Tenant, "acme").text(Tag::Device, "pump");
    if let Some((command, status)) = about {
        frame.text(Tag::Correlation, command).status(status);
    }
    frame.finish(payload.as_bytes()).unwrap();
    bytes
}

/// Events whose payload is their sequence.
pub fn events(sequences: std::ops::RangeInclusive<u64>) -> Vec<Vec<u8>> {
    sequences.map(|n| frame(Class::Event, None, &n.to_string())).collect()
}

pub fn body(partition: &str, epoch: u64, first: u64, frames: &[Vec<u8>]) -> Bytes {
    let mut unpacked = Vec::new();
    for frame in frames {
        push_frame(&mut unpacked, frame);
    }
    let header = BatchHeader {
        tenant: tenant("acme"),
        partition: partition.to_owned(),
        epoch,
        first_sequence: first,
        count: frames.len() as u32,
    };
    encode_batch(&header, &zstd::bulk::compress(&unpacked, 1).unwrap()).into()
}

/// Ships to `p0`; the mark if it was stored, the error of a gap if not.
pub async fn ship(cloud: &Cloud, edge: &Edge, first: u64, frames: &[Vec<u8>]) -> Result<u64, u64> {
    ship_to(cloud, edge, "p0", EPOCH, first, frames).await
}

pub async fn ship_to(
    cloud: &Cloud,
    edge: &Edge,
    partition: &str,
    epoch: u64,
    first: u64,
    frames: &[Vec<u8>],
) -> Result<u64, u64> {
    match cloud.ingest(edge, body(partition, epoch, first, frames), NOW).await.unwrap() {
        Ingested::Stored(BatchAnswer { high_water_mark }) => Ok(high_water_mark),
        Ingested::Gap(BatchAnswer { high_water_mark }) => Err(high_water_mark),
    }
}

pub fn read(group: &str, max: usize) -> ReadRequest {
    let (wait_s, classes) = (0, RecordClasses::ALL);
    ReadRequest { group: group.to_owned(), max, wait_s, classes, start: Start::Earliest }
}

/// Reads and commits until nothing is left; (partition, sequence, payload) of every record.
pub async fn drain(cloud: &Cloud, group: &str, max: usize) -> Vec<(String, u64, String)> {
    let mut all = Vec::new();
    loop {
        let page = cloud.records(&tenant("acme"), &read(group, max), NOW).await.unwrap();
        if page.records.is_empty() {
            return all;
        }
        for record in page.records {
            let payload = String::from_utf8(record.payload).unwrap();
            all.push((record.partition.partition, record.sequence, payload));
        }
        let commit = fulcrum_contract::streams::Commit { positions: page.commit };
        cloud.commit(&tenant("acme"), group, &commit).await.unwrap();
    }
}

pub fn is_invalid<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Invalid(_)))
}
