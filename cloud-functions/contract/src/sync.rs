//! Shipping an edge node's records to the cloud, exactly once.
//!
//! A *stream* is (edge, tenant, partition); its records carry a dense sequence within an epoch. The cloud keeps one
//! high-water mark per (stream, epoch) and moves it in the transaction that stores the batch. A batch that was stored
//! before is answered with the mark and changes nothing, so the edge may repeat it as often as it likes.
//!
//! Body of `POST /v1/sync/{edge}/batches`, media type [`BATCH_CONTENT_TYPE`]:
//!
//! ```text
//!   header length (u32 LE) · header (JSON, BatchHeader) · zstd( frame length (u32 LE) · frame , … )
//! ```

use crate::ids::{DeviceId, TenantId};
use serde::{Deserialize, Serialize};

/// Media type of a batch.
pub const BATCH_CONTENT_TYPE: &str = "application/vnd.fulcrum.batch";
/// Largest body of one batch, in bytes: below the 6 MB a Lambda function takes, Base64 included.
pub const BATCH_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most a batch may unpack to, in bytes; the edge closes a batch before it gets there.
pub const BATCH_UNPACKED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most records of one batch.
pub const BATCH_RECORDS_MAX: u32 = 10_000;
/// Longest header of a batch, in bytes.
pub const BATCH_HEADER_BYTES_MAX: usize = 4 * 1024;

/// What a batch holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchHeader {
    /// Tenant of every frame in the batch.
    pub tenant: TenantId,
    /// `p0`, `p1`, … for stored classes, `t0` for live telemetry.
    pub partition: String,
    /// The edge store's epoch, or the boot's for live telemetry.
    pub epoch: u64,
    /// Sequence of the first frame; the others follow without a hole.
    pub first_sequence: u64,
    /// Number of frames.
    pub count: u32,
}

/// Why a body is not a batch.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The body ends inside its header or a frame.
    #[error("the batch ends early, in its {0}")]
    Short(&'static str),
    /// A length is over its limit.
    #[error("the batch's {what} of {bytes} is above the limit of {max}")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The header is not the JSON it should be.
    #[error("the batch's header is not valid: {0}")]
    Header(String),
    /// The number of frames differs from the header.
    #[error("the batch's header says {said} frames, {found} are there")]
    Count {
        /// In the header.
        said: u32,
        /// In the body.
        found: u32,
    },
}

/// Puts the header in front of the packed frames.
pub fn encode_batch(header: &BatchHeader, packed: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).expect("a header of numbers and names is always JSON");
    let mut body = Vec::with_capacity(4 + header.len() + packed.len());
    body.extend_from_slice(&(header.len() as u32).to_le_bytes());
    body.extend_from_slice(&header);
    body.extend_from_slice(packed);
    body
}

/// Splits a body into its header and the packed (zstd) frames.
pub fn decode_batch(body: &[u8]) -> Result<(BatchHeader, &[u8]), BatchError> {
    if body.len() > BATCH_BODY_BYTES_MAX {
        let bytes = body.len();
        return Err(BatchError::TooLong { what: "body", bytes, max: BATCH_BODY_BYTES_MAX });
    }
    let (length, rest) = body.split_first_chunk::<4>().ok_or(BatchError::Short("header"))?;
    let header_bytes = u32::from_le_bytes(*length) as usize;
    if header_bytes > BATCH_HEADER_BYTES_MAX {
        let max = BATCH_HEADER_BYTES_MAX;
        return Err(BatchError::TooLong { what: "header", bytes: header_bytes, max });
    }
    let (header, packed) =
        rest.split_at_checked(header_bytes).ok_or(BatchError::Short("header"))?;
    let header: BatchHeader =
        serde_json::from_slice(header).map_err(|error| BatchError::Header(error.to_string()))?;
    if header.count == 0 || header.count > BATCH_RECORDS_MAX {
        let bytes = header.count as usize;
        let max = BATCH_RECORDS_MAX as usize;
        return Err(BatchError::TooLong { what: "record count", bytes, max });
    }
    if header.first_sequence == 0 || header.first_sequence > u64::MAX - u64::from(header.count) {
        return Err(BatchError::Header("firstSequence is out of range".to_owned()));
    }
    Ok((header, packed))
}

/// Appends one frame to the unpacked body of a batch.
pub fn push_frame(unpacked: &mut Vec<u8>, frame: &[u8]) {
    unpacked.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    unpacked.extend_from_slice(frame);
}

/// The frames of an unpacked body; an error where one is cut short, or where there are not `count`.
pub fn split_frames(unpacked: &[u8], count: u32) -> Result<Vec<&[u8]>, BatchError> {
    let mut frames = Vec::with_capacity(count.min(BATCH_RECORDS_MAX) as usize);
    let mut rest = unpacked;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(BatchError::Short("frame"))?;
        let bytes = u32::from_le_bytes(*length) as usize;
        let (frame, behind) = behind.split_at_checked(bytes).ok_or(BatchError::Short("frame"))?;
        frames.push(frame);
        rest = behind;
    }
    let found = frames.len() as u32;
    if found == count { Ok(frames) } else { Err(BatchError::Count { said: count, found }) }
}

/// Answer to a batch, 200 when it is stored (now or before), 409 when frames between the mark and the batch are missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchAnswer {
    /// Highest sequence stored for the stream in this epoch; 0 before the first.
    pub high_water_mark: u64,
}

/// One stream's mark, in the answer to `GET /v1/sync/{edge}/marks`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The stream's tenant.
    pub tenant: TenantId,
    /// The stream's partition.
    pub partition: String,
    /// The epoch.
    pub epoch: u64,
    /// Highest sequence stored.
    pub sequence: u64,
}

/// Answer to `GET /v1/sync/{edge}/marks`: what the edge resumes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Marks {
    /// One per stream and epoch; live telemetry is not listed.
    pub marks: Vec<Mark>,
}

/// Body of `POST /v1/sync/{edge}/presence`: devices that can take commands at this edge now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// The devices; an empty list is a heartbeat.
    pub devices: Vec<DevicePresence>,
}

/// One device that can take commands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DevicePresence {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its id.
    pub device: DeviceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(count: u32) -> BatchHeader {
        BatchHeader {
            tenant: TenantId::parse("acme").unwrap(),
            partition: "p0".to_owned(),
            epoch: 7,
            first_sequence: 11,
            count,
        }
    }

    #[test]
    fn a_batch_is_read_back_as_it_was_written() {
        let body = encode_batch(&header(2), b"packed");
        assert_eq!(decode_batch(&body).unwrap(), (header(2), &b"packed"[..]));
    }

    #[test]
    fn a_cut_or_lying_batch_is_refused() {
        let body = encode_batch(&header(2), b"");
        for end in 0..body.len() {
            assert!(decode_batch(&body[..end]).is_err());
        }
        let at = |count| decode_batch(&encode_batch(&header(count), b"")).is_ok();
        assert!(!at(0) && at(1) && at(BATCH_RECORDS_MAX) && !at(BATCH_RECORDS_MAX + 1));
        assert_eq!(
            decode_batch(&u32::MAX.to_le_bytes()).unwrap_err(),
            BatchError::TooLong {
                what: "header",
                bytes: u32::MAX as usize,
                max: BATCH_HEADER_BYTES_MAX
            }
        );
    }

    #[test]
    fn frames_are_split_where_they_were_joined() {
        let mut unpacked = Vec::new();
        push_frame(&mut unpacked, b"one");
        push_frame(&mut unpacked, b"");
        assert_eq!(split_frames(&unpacked, 2).unwrap(), [&b"one"[..], b""]);
        assert_eq!(split_frames(&unpacked, 3), Err(BatchError::Count { said: 3, found: 2 }));
        assert_eq!(split_frames(&unpacked[..5], 1), Err(BatchError::Short("frame")));
    }
}
