//! What a device knows about its own events: how often it sent each, and which the node acknowledged.
//!
//! The ledger is the device's side of the proof, written by the device alone; `audit` holds the application's side
//! against it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One event.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Entry {
    /// How often it was sent.
    pub attempts: u32,
    /// Whether an acknowledgement came.
    pub acknowledged: bool,
}

/// What became of a device's telemetry, which is never stored on the way.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TelemetryCount {
    /// Messages sent.
    pub sent: u64,
    /// Messages the node said it cannot pass on.
    pub refused: u64,
}

/// One device's record of what it did.
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// Its telemetry.
    pub telemetry: TelemetryCount,
    /// Connections made.
    pub connections: u32,
    /// Whether it is connected now.
    pub connected: bool,
    /// Commands it answered.
    pub commands_answered: u32,
    /// Why it was last disconnected or refused.
    pub trouble: Option<String>,
}

impl Ledger {
    /// Numbers a new event; the first is 1.
    pub fn open(&mut self) -> u64 {
        self.entries.push(Entry::default());
        self.entries.len() as u64
    }

    /// Event `n` is being sent.
    pub fn attempt(&mut self, n: u64) {
        if let Some(entry) = self.entry(n) {
            entry.attempts += 1;
        }
    }

    /// The node acknowledged event `n`.
    pub fn acknowledge(&mut self, n: u64) {
        if let Some(entry) = self.entry(n) {
            entry.acknowledged = true;
        }
    }

    /// All events, number 1 first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many events are acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.entries.iter().filter(|entry| entry.acknowledged).count()
    }

    /// How many events were sent more than once.
    pub fn repeated(&self) -> usize {
        self.entries.iter().filter(|entry| entry.attempts > 1).count()
    }

    fn entry(&mut self, n: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(n.checked_sub(1)?).ok()?)
    }
}

/// A ledger that its device writes and the screen reads.
#[derive(Clone, Default, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// The ledger; nothing that holds it waits.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_unknown_events_change_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!((ledger.open(), ledger.open()), (1, 2));
        ledger.attempt(1);
        ledger.acknowledge(1);
        ledger.acknowledge(0);
        ledger.acknowledge(3);
        assert_eq!(ledger.entries()[0], Entry { attempts: 1, acknowledged: true });
        assert_eq!((ledger.acknowledged(), ledger.repeated()), (1, 0));
    }
}
