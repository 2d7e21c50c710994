//! Bodies of the records that are not messages.

use crate::position::Position;

/// "FJ" and the number of this body's layout.
const CHECKPOINT_MAGIC: u32 = 0x464A_0001;
/// Bytes of a checkpoint before its tenants.
pub(crate) const CHECKPOINT_HEAD_BYTES: usize = 40;
/// Bytes of a tenant in a checkpoint besides its name.
pub(crate) const CHECKPOINT_TENANT_BYTES: usize = 9;

/// The part of a checkpoint that does not depend on the tenants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckpointHead {
    /// Everything before is acknowledged by the consumer.
    pub cursor: Position,
    /// First sequence of a tenant that is not listed; above 1 after damage hid which tenants there were.
    pub first_sequence: u64,
    /// Messages appended since the store was created.
    pub messages: u64,
    /// Messages lost to damage since the store was created, at most.
    pub lost_max: u64,
}

impl CheckpointHead {
    /// Appends a checkpoint's body to `out`. Names are at most 255 bytes; a longer one is cut out of the list.
    pub fn encode<'a>(
        &self,
        out: &mut Vec<u8>,
        tenants: impl ExactSizeIterator<Item = (&'a str, u64)>,
    ) {
        out.extend_from_slice(&CHECKPOINT_MAGIC.to_le_bytes());
        out.extend_from_slice(&(tenants.len() as u32).to_le_bytes());
        for value in [self.cursor.0, self.first_sequence, self.messages, self.lost_max] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for (name, next) in tenants {
            if let Ok(name_bytes) = u8::try_from(name.len()) {
                out.push(name_bytes);
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&next.to_le_bytes());
            }
        }
    }
}

/// What a partition has to remember when older segments are gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// Cursor and counters.
    pub head: CheckpointHead,
    /// Tenants and the next sequence of each.
    pub tenants: Vec<(String, u64)>,
}

impl Checkpoint {
    /// Reads a body; `None` if it is not one.
    pub fn decode(body: &[u8]) -> Option<Checkpoint> {
        let mut input = Input(body);
        if input.u32()? != CHECKPOINT_MAGIC {
            return None;
        }
        let count = input.u32()? as usize;
        let head = CheckpointHead {
            cursor: Position(input.u64()?),
            first_sequence: input.u64()?,
            messages: input.u64()?,
            lost_max: input.u64()?,
        };
        // A tenant takes at least nine bytes, so a false count cannot ask for more than the body's size.
        let mut tenants = Vec::with_capacity(count.min(input.0.len() / CHECKPOINT_TENANT_BYTES));
        for _ in 0..count {
            let name_bytes = usize::from(input.take::<1>()?[0]);
            let (name, rest) = input.0.split_at_checked(name_bytes)?;
            input.0 = rest;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            tenants.push((name, input.u64()?));
        }
        Some(Checkpoint { head, tenants })
    }
}

/// The consumer acknowledged everything before a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor(pub Position);

impl Cursor {
    /// The body.
    pub fn encode(self) -> [u8; 8] {
        self.0.0.to_le_bytes()
    }

    /// Reads a body; `None` if it is not one.
    pub fn decode(body: &[u8]) -> Option<Cursor> {
        Some(Cursor(Position(u64::from_le_bytes(body.try_into().ok()?))))
    }
}

/// Why records are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum GapReason {
    /// Older than their limit.
    Expired = 1,
    /// Evicted to make room for newer ones.
    Evicted = 2,
    /// Damaged on disk.
    Quarantined = 3,
}

/// Messages of one tenant that will not come, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// How many at most.
    pub messages: u64,
    /// First missing sequence.
    pub first: u64,
    /// Last missing sequence.
    pub last: u64,
    /// The tenant.
    pub tenant: String,
}

impl Gap {
    /// Appends the body to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.reason as u8);
        for value in [self.messages, self.first, self.last] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(self.tenant.as_bytes());
    }

    /// Reads a body; `None` if it is not one.
    pub fn decode(body: &[u8]) -> Option<Gap> {
        let mut input = Input(body);
        let reason = match input.take::<1>()?[0] {
            1 => GapReason::Expired,
            2 => GapReason::Evicted,
            3 => GapReason::Quarantined,
            _ => return None,
        };
        Some(Gap {
            reason,
            messages: input.u64()?,
            first: input.u64()?,
            last: input.u64()?,
            tenant: std::str::from_utf8(input.0).ok()?.to_owned(),
        })
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_records_read_back_as_written_and_refuse_anything_shorter() {
        let gap = Gap {
            reason: GapReason::Evicted,
            messages: 3,
            first: 7,
            last: 9,
            tenant: "acme".to_owned(),
        };
        let mut body = Vec::new();
        gap.encode(&mut body);
        assert_eq!(Gap::decode(&body), Some(gap));
        assert!((0..25).all(|bytes| Gap::decode(&body[..bytes]).is_none()));

        let cursor = Cursor(Position(1 << 40));
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        assert_eq!(Cursor::decode(&cursor.encode()[..7]), None);

        let head =
            CheckpointHead { cursor: cursor.0, first_sequence: 1, messages: 12, lost_max: 2 };
        let mut body = Vec::new();
        head.encode(&mut body, [("acme", 5), ("b", 6)].into_iter());
        let tenants = vec![("acme".to_owned(), 5), ("b".to_owned(), 6)];
        assert_eq!(Checkpoint::decode(&body), Some(Checkpoint { head, tenants }));
        assert!((0..body.len()).all(|bytes| Checkpoint::decode(&body[..bytes]).is_none()));
    }
}
