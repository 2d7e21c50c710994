//! The proof: the application's records held against the devices' ledgers.
//!
//! What is claimed, and nothing beyond it:
//! 1. An event that was sent once and acknowledged is in the stream exactly once.
//! 2. An event whose acknowledgement was lost (the node was killed in between) was sent again by its device, as QoS 1
//!    asks of it; it is in the stream at least once. How many are there twice is counted.
//! 3. Per device the events are in the order the device numbered them; a repetition stands behind its first copy.
//!    Within a partition that order is the sequence's. A device that connects again may be served by another core and
//!    so go on in another partition: across partitions the order is that of the node's creation times.
//! 4. The way to the cloud adds and loses nothing: no sequence of a partition is missing or there twice.
//! 5. Each record says what the device measured.

use super::ledger::Ledger;
use super::readings::{Message, Series};
use fulcrum_contract::streams::{PartitionKey, Record};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most findings that are spelled out.
const FINDINGS_MAX: usize = 20;

/// Partitions of stored classes; live telemetry may have holes by design.
fn is_stored(partition: &PartitionKey) -> bool {
    partition.partition.starts_with('p')
}

/// One event as the application read it.
#[derive(Clone, Debug)]
struct Arrival {
    partition: PartitionKey,
    sequence: u64,
    created_ms: u64,
    message: Message,
}

/// What the application has read so far.
#[derive(Clone, Default, Debug)]
pub struct Arrivals {
    sequences: BTreeMap<PartitionKey, Vec<u64>>,
    events: HashMap<String, Vec<Arrival>>,
    unreadable: Vec<String>,
    /// Telemetry records.
    pub telemetry: u64,
    /// Command responses.
    pub command_responses: u64,
}

impl Arrivals {
    /// Takes the next record of the stream.
    pub fn take(&mut self, record: &Record) {
        if is_stored(&record.partition) {
            self.sequences.entry(record.partition.clone()).or_default().push(record.sequence);
        }
        match record.class.as_str() {
            "telemetry" => self.telemetry += 1,
            "command_response" => self.command_responses += 1,
            "event" => match serde_json::from_slice::<Message>(&record.payload) {
                Ok(message) => {
                    self.events.entry(record.device.to_string()).or_default().push(Arrival {
                        partition: record.partition.clone(),
                        sequence: record.sequence,
                        created_ms: record.created_ms,
                        message,
                    });
                }
                // Events of the platform itself (a device became reachable) have no body.
                Err(_) if record.payload.is_empty() => {}
                Err(error) => self.unreadable.push(format!(
                    "record {}#{} of {} is not what any device sent: {error}",
                    record.partition.partition, record.sequence, record.device
                )),
            },
            _ => {}
        }
    }

    /// Events of one device, repetitions included.
    pub fn events_of(&self, device: &str) -> usize {
        self.events.get(device).map_or(0, Vec::len)
    }

    /// Whether every acknowledged event of `ledger` has arrived.
    pub fn has_all_of(&self, device: &str, ledger: &Ledger) -> bool {
        let there: BTreeSet<u64> = self
            .events
            .get(device)
            .into_iter()
            .flatten()
            .map(|arrival| arrival.message.n)
            .collect();
        numbered(ledger).all(|(n, entry)| !entry.acknowledged || there.contains(&n))
    }
}

fn numbered(ledger: &Ledger) -> impl Iterator<Item = (u64, &super::ledger::Entry)> {
    ledger.entries().iter().enumerate().map(|(index, entry)| (index as u64 + 1, entry))
}

/// The outcome. The proof holds when every counter under `faults` is zero.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Devices looked at.
    pub devices: usize,
    /// Of them: served by more than one core over the run.
    pub devices_in_several_partitions: usize,
    /// Events acknowledged to their device.
    pub acknowledged: usize,
    /// Of them: sent once, so each must be there exactly once.
    pub acknowledged_on_first_send: usize,
    /// Of those: there exactly once.
    pub exactly_once: usize,
    /// Events sent again because an acknowledgement was lost.
    pub sent_again: usize,
    /// Of them: acknowledged in the end and there at least once.
    pub sent_again_and_there: usize,
    /// Copies beyond the first of events that were sent again: what QoS 1 permits.
    pub permitted_copies: usize,
    /// Records of stored classes, and partitions they are in.
    pub records: usize,
    /// Partitions of stored classes.
    pub partitions: usize,
    /// What must be zero.
    pub faults: Faults,
    /// The first faults in words.
    pub findings: Vec<String>,
}

/// What must not happen, counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Faults {
    /// Acknowledged events that did not arrive.
    pub lost: usize,
    /// Copies of events that were sent once.
    pub duplicated: usize,
    /// Events behind a later one of their device.
    pub out_of_order: usize,
    /// Records with another content than the device sent, or that no device sent.
    pub altered: usize,
    /// Sequences of a partition that are missing.
    pub holes: u64,
    /// Sequences of a partition that came twice or backwards.
    pub repeated_sequences: usize,
}

impl Verdict {
    /// Whether the proof holds. A run in which nothing was acknowledged proves nothing.
    pub fn holds(&self) -> bool {
        self.faults == Faults::default() && self.acknowledged > 0
    }

    fn fault(&mut self, text: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(text);
        }
    }
}

/// Holds `arrivals` against what the devices know.
pub fn audit<'a>(
    devices: impl IntoIterator<Item = (&'a Series, &'a Ledger)>,
    arrivals: &Arrivals,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut known = BTreeSet::new();
    for (series, ledger) in devices {
        known.insert(series.device.to_string());
        audit_device(series, ledger, arrivals, &mut verdict);
    }
    for device in arrivals.events.keys().filter(|device| !known.contains(*device)) {
        verdict.faults.altered += arrivals.events_of(device);
        verdict.fault(format!("events of {device}, which is no device of this run"));
    }
    verdict.faults.altered += arrivals.unreadable.len();
    for text in &arrivals.unreadable {
        verdict.fault(text.clone());
    }
    audit_sequences(arrivals, &mut verdict);
    verdict
}

fn audit_device(series: &Series, ledger: &Ledger, arrivals: &Arrivals, verdict: &mut Verdict) {
    let device = series.device.as_str();
    let events = arrivals.events.get(device).map_or(&[][..], Vec::as_slice);
    let partitions: BTreeSet<&PartitionKey> =
        events.iter().map(|arrival| &arrival.partition).collect();
    verdict.devices_in_several_partitions += usize::from(partitions.len() > 1);
    let mut copies: BTreeMap<u64, usize> = BTreeMap::new();
    let mut highest = 0;
    for message in in_order(events) {
        let first = !copies.contains_key(&message.n);
        *copies.entry(message.n).or_default() += 1;
        if first && message.n < highest {
            verdict.faults.out_of_order += 1;
            verdict.fault(format!("{device}: event {} came behind event {highest}", message.n));
        }
        highest = highest.max(message.n);
        let sent = message.n >= 1 && message.n <= ledger.entries().len() as u64;
        if !sent || *message != series.message(message.n) {
            verdict.faults.altered += 1;
            verdict.fault(format!("{device}: event {} is not what the device sent", message.n));
        }
    }
    verdict.devices += 1;
    for (n, entry) in numbered(ledger) {
        let there = copies.get(&n).copied().unwrap_or(0);
        verdict.acknowledged += usize::from(entry.acknowledged);
        if entry.acknowledged && there == 0 {
            verdict.faults.lost += 1;
            verdict.fault(format!("{device}: event {n} was acknowledged and did not arrive"));
        }
        if entry.attempts > 1 {
            verdict.sent_again += 1;
            verdict.sent_again_and_there += usize::from(entry.acknowledged && there > 0);
            verdict.permitted_copies += there.saturating_sub(1);
            continue;
        }
        verdict.acknowledged_on_first_send += usize::from(entry.acknowledged);
        verdict.exactly_once += usize::from(entry.acknowledged && there == 1);
        if there > 1 {
            verdict.faults.duplicated += there - 1;
            verdict.fault(format!("{device}: event {n} was sent once and arrived {there} times"));
        }
    }
}

/// The order an application gives a device's events: creation time, and within a partition never against its sequence.
fn in_order(events: &[Arrival]) -> impl Iterator<Item = &Message> {
    let mut latest: HashMap<&PartitionKey, u64> = HashMap::new();
    let mut keyed: Vec<(u64, &Arrival)> = events
        .iter()
        .map(|arrival| {
            let latest = latest.entry(&arrival.partition).or_default();
            *latest = (*latest).max(arrival.created_ms);
            (*latest, arrival)
        })
        .collect();
    keyed.sort_by_key(|(at_ms, arrival)| (*at_ms, &arrival.partition, arrival.sequence));
    keyed.into_iter().map(|(_, arrival)| &arrival.message)
}

fn audit_sequences(arrivals: &Arrivals, verdict: &mut Verdict) {
    verdict.partitions = arrivals.sequences.len();
    for (key, sequences) in &arrivals.sequences {
        verdict.records += sequences.len();
        let mut expected = 1;
        for sequence in sequences {
            let name = format!("partition {} epoch {}", key.partition, key.epoch);
            if *sequence < expected {
                verdict.faults.repeated_sequences += 1;
                verdict.fault(format!("{name}: sequence {sequence} came again"));
                continue;
            }
            if *sequence > expected {
                verdict.faults.holes += sequence - expected;
                verdict
                    .fault(format!("{name}: sequences {expected} to {} are missing", sequence - 1));
            }
            expected = sequence + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::readings::recorded_series;
    use super::*;
    use fulcrum_contract::DeviceId;

    struct Case {
        series: Series,
        ledger: Ledger,
        arrivals: Arrivals,
        next: u64,
    }

    impl Case {
        fn new() -> Case {
            let series = recorded_series().remove(0);
            Case { series, ledger: Ledger::default(), arrivals: Arrivals::default(), next: 1 }
        }

        fn sent(&mut self, attempts: u32, acknowledged: bool) -> u64 {
            let n = self.ledger.open();
            (0..attempts).for_each(|_| self.ledger.attempt(n));
            if acknowledged {
                self.ledger.acknowledge(n);
            }
            n
        }

        fn arrived(&mut self, n: u64) {
            let payload = self.series.payload(n);
            self.arrived_as(payload, self.series.device.clone(), self.next);
        }

        fn arrived_as(&mut self, payload: Vec<u8>, device: DeviceId, sequence: u64) {
            self.arrived_in("p0", payload, device, sequence, sequence);
        }

        fn arrived_in(
            &mut self,
            partition: &str,
            payload: Vec<u8>,
            device: DeviceId,
            sequence: u64,
            created_ms: u64,
        ) {
            self.next = sequence + 1;
            self.arrivals.take(&Record {
                partition: PartitionKey {
                    edge: "edge-1".parse().unwrap(),
                    partition: partition.to_owned(),
                    epoch: 1,
                },
                sequence,
                class: "event".to_owned(),
                device,
                created_ms,
                qos: 1,
                content_type: None,
                orig_adapter: None,
                orig_address: None,
                gateway: None,
                correlation_id: None,
                status: None,
                properties: BTreeMap::new(),
                payload,
            });
        }

        fn verdict(&self) -> Verdict {
            audit([(&self.series, &self.ledger)], &self.arrivals)
        }
    }

    #[test]
    fn a_faultless_run_holds() {
        let mut case = Case::new();
        for _ in 0..3 {
            let n = case.sent(1, true);
            case.arrived(n);
        }
        // The acknowledgement of the fourth was lost, so it was sent again and is there twice.
        let n = case.sent(2, true);
        case.arrived(n);
        case.arrived(n);
        let verdict = case.verdict();
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!((verdict.acknowledged, verdict.acknowledged_on_first_send), (4, 3));
        assert_eq!((verdict.exactly_once, verdict.sent_again, verdict.permitted_copies), (3, 1, 1));
    }

    #[test]
    fn a_lost_acknowledged_event_breaks_the_proof() {
        let mut case = Case::new();
        case.sent(1, true);
        let verdict = case.verdict();
        assert!(!verdict.holds());
        assert_eq!(verdict.faults.lost, 1);
        assert!(!case.arrivals.has_all_of(case.series.device.as_str(), &case.ledger));
    }

    #[test]
    fn an_event_that_was_never_acknowledged_may_be_missing_or_there() {
        let mut case = Case::new();
        let n = case.sent(1, true);
        case.arrived(n);
        case.sent(1, false);
        assert!(case.verdict().holds());
        case.arrived(2);
        assert!(case.verdict().holds());
    }

    #[test]
    fn a_copy_of_an_event_sent_once_breaks_the_proof() {
        let mut case = Case::new();
        let n = case.sent(1, true);
        case.arrived(n);
        case.arrived(n);
        assert_eq!(case.verdict().faults.duplicated, 1);
    }

    #[test]
    fn events_in_the_wrong_order_break_the_proof() {
        let mut case = Case::new();
        case.sent(1, true);
        case.sent(1, true);
        case.arrived(2);
        case.arrived(1);
        assert_eq!(case.verdict().faults.out_of_order, 1);
    }

    #[test]
    fn partitions_that_arrive_in_another_order_are_merged_by_creation_time() {
        let mut case = Case::new();
        case.sent(1, true);
        case.sent(1, true);
        let device = case.series.device.clone();
        case.arrived_in("p1", case.series.payload(2), device.clone(), 1, 2000);
        case.arrived_in("p0", case.series.payload(1), device, 1, 1000);
        let verdict = case.verdict();
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!(verdict.devices_in_several_partitions, 1);
    }

    #[test]
    fn a_hole_or_a_repeated_sequence_breaks_the_proof() {
        let mut case = Case::new();
        case.sent(1, true);
        case.sent(1, true);
        let (device, first, second) =
            (case.series.device.clone(), case.series.payload(1), case.series.payload(2));
        case.arrived_as(first, device.clone(), 2);
        case.arrived_as(second, device, 2);
        let faults = case.verdict().faults;
        assert_eq!((faults.holes, faults.repeated_sequences), (1, 1));
    }

    #[test]
    fn an_altered_event_and_one_from_nowhere_break_the_proof() {
        let mut case = Case::new();
        case.sent(1, true);
        let mut message = case.series.message(1);
        message.value += 1.0;
        let device = case.series.device.clone();
        case.arrived_as(serde_json::to_vec(&message).unwrap(), device.clone(), 1);
        case.arrived_as(b"{}".to_vec(), device, 2);
        case.arrived_as(case.series.payload(1), "stranger".parse().unwrap(), 3);
        assert_eq!(case.verdict().faults.altered, 3);
    }

    #[test]
    fn a_run_without_acknowledged_events_proves_nothing() {
        assert!(!Case::new().verdict().holds());
    }
}
