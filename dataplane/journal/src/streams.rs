//! The next sequence of each tenant's stream.
//!
//! Invariant: what is kept always fits into a checkpoint of `checkpoint_bytes_max`.

use std::collections::HashMap;

use crate::control::{CHECKPOINT_HEAD_BYTES, CHECKPOINT_TENANT_BYTES, Checkpoint, CheckpointHead};
use crate::error::AppendError;

/// Tenants one partition keeps sequences for. At 264 bytes each a checkpoint stays near 1 MiB of a 64 MiB segment.
pub const TENANTS_MAX: usize = 4096;
/// Longest tenant id, in bytes; its length is a `u8` in the checkpoint.
pub const TENANT_BYTES_MAX: usize = 255;

/// Sequences are far below this in ordinary life: nine years at a million messages a second. When every checkpoint of
/// a partition is lost, streams continue at the next multiple, above anything that can have been given out.
pub(crate) const SEQUENCE_ERA: u64 = 1 << 48;

pub(crate) struct Streams {
    next: HashMap<Box<str>, u64>,
    first_sequence: u64,
    checkpoint_bytes: usize,
    checkpoint_bytes_max: usize,
}

impl Streams {
    pub fn new(checkpoint_bytes_max: usize) -> Streams {
        Streams {
            next: HashMap::new(),
            first_sequence: 1,
            checkpoint_bytes: CHECKPOINT_HEAD_BYTES,
            checkpoint_bytes_max,
        }
    }

    /// Gives out the tenant's next sequence. Allocates for a new tenant alone.
    pub fn take(&mut self, tenant: &str) -> Result<u64, AppendError> {
        if let Some(next) = self.next.get_mut(tenant) {
            let sequence = *next;
            *next += 1;
            return Ok(sequence);
        }
        let checkpoint_bytes = self.checkpoint_bytes + CHECKPOINT_TENANT_BYTES + tenant.len();
        if self.next.len() >= TENANTS_MAX || checkpoint_bytes > self.checkpoint_bytes_max {
            return Err(AppendError::TenantLimit);
        }
        self.observe(tenant, self.first_sequence);
        Ok(self.first_sequence)
    }

    /// A message of `tenant` with this sequence is in the log.
    pub fn observe(&mut self, tenant: &str, sequence: u64) {
        let after = sequence.saturating_add(1);
        match self.next.get_mut(tenant) {
            Some(next) => *next = after,
            None => {
                self.checkpoint_bytes += CHECKPOINT_TENANT_BYTES + tenant.len();
                self.next.insert(tenant.into(), after);
            }
        }
    }

    /// Up to `messages_max` messages of unknown tenants are lost; none of their sequences may come again.
    pub fn skip(&mut self, messages_max: u64) {
        self.first_sequence = self.first_sequence.saturating_add(messages_max);
        for next in self.next.values_mut() {
            *next = next.saturating_add(messages_max);
        }
    }

    /// Nothing is known about the sequences before: continue above all of them.
    pub fn skip_era(&mut self) {
        let highest = self.next.values().copied().max().unwrap_or(0).max(self.first_sequence);
        let era = (highest / SEQUENCE_ERA + 1).saturating_mul(SEQUENCE_ERA);
        self.first_sequence = era;
        for next in self.next.values_mut() {
            *next = era;
        }
    }

    pub fn restore(&mut self, checkpoint: &Checkpoint) {
        self.next.clear();
        self.checkpoint_bytes = CHECKPOINT_HEAD_BYTES;
        self.first_sequence = checkpoint.head.first_sequence.max(1);
        for (tenant, next) in &checkpoint.tenants {
            self.observe(tenant, next.saturating_sub(1));
        }
    }

    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    pub fn checkpoint_bytes(&self) -> usize {
        self.checkpoint_bytes
    }

    pub fn tenants(&self) -> usize {
        self.next.len()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.next.iter().map(|(tenant, next)| (&**tenant, *next))
    }

    pub fn encode_checkpoint(&self, head: &CheckpointHead, out: &mut Vec<u8>) {
        head.encode(out, self.iter());
    }
}
