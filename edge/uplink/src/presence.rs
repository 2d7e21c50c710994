//! Which devices can take commands here: told to the cloud once, and all of them again when the cloud begins a new
//! change feed, for then it may have forgotten where devices are.
//!
//! The set of present devices is kept here; it is as large as the number of devices connected.
//!
//! Deliberately absent: telling the cloud that a device has gone. A command for it waits at this node.

use crate::backoff::Attempts;
use crate::doorbell::Doorbell;
use crate::link::{Link, refusal, refusal_text};
use crossbeam::queue::ArrayQueue;
use fulcrum_contract::sync::{DevicePresence, Presence};
use fulcrum_contract::{DeviceId, TenantId};
use http::StatusCode;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// News taken from the queue before other tasks get their turn.
const TURN_NEWS_MAX: usize = 4_096;
const JSON: &str = "application/json";

/// A queue for at most `capacity` pieces of news between the node and the uplink.
pub fn presence_channel(capacity: usize) -> (PresenceSender, PresenceReceiver) {
    let shared =
        Arc::new(Shared { queue: ArrayQueue::new(capacity.max(1)), doorbell: Doorbell::new() });
    (PresenceSender { shared: shared.clone() }, PresenceReceiver { shared })
}

struct Shared {
    queue: ArrayQueue<News>,
    doorbell: Doorbell,
}

enum News {
    Present(DevicePresence),
    Absent(DevicePresence),
}

/// The news was not taken: the queue is full. Give it again in a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the queue for presence is full; give the news again in a moment")]
pub struct PresenceFull;

/// The node's side: takes no lock and does not block.
#[derive(Clone)]
pub struct PresenceSender {
    shared: Arc<Shared>,
}

impl PresenceSender {
    /// `device` can take commands here. Repeating it costs nothing.
    ///
    /// # Errors
    /// [`PresenceFull`]: nothing has happened, try again.
    pub fn present(&self, tenant: TenantId, device: DeviceId) -> Result<(), PresenceFull> {
        self.send(News::Present(DevicePresence { tenant, device }))
    }

    /// `device` cannot take commands here any more; it will not be told to a cloud that starts anew.
    ///
    /// # Errors
    /// [`PresenceFull`]: nothing has happened, try again.
    pub fn absent(&self, tenant: TenantId, device: DeviceId) -> Result<(), PresenceFull> {
        self.send(News::Absent(DevicePresence { tenant, device }))
    }

    fn send(&self, news: News) -> Result<(), PresenceFull> {
        self.shared.queue.push(news).map_err(|_| PresenceFull)?;
        self.shared.doorbell.ring();
        Ok(())
    }
}

/// The uplink's side.
pub struct PresenceReceiver {
    shared: Arc<Shared>,
}

/// Who is here, and who of them the cloud has not been told of.
#[derive(Default)]
struct Devices {
    present: BTreeSet<DevicePresence>,
    untold: BTreeSet<DevicePresence>,
    /// Groups to be told on their own because the cloud refused them together with others.
    split: VecDeque<Vec<DevicePresence>>,
}

/// Runs until it is dropped.
pub(crate) async fn run(link: Rc<Link>, receiver: PresenceReceiver, restarted: Rc<Notify>) {
    let mut devices = Devices::default();
    loop {
        devices.hear(&receiver.shared.queue);
        if let Some(group) = devices.next_group(link.config.presence_devices_max) {
            tokio::select! {
                accepted = tell(&link, &group) => devices.told(&link, group, accepted),
                // The group is in doubt now, but then all devices are to be told again anyway.
                () = restarted.notified() => devices.forget_told(),
                () = drain(&receiver.shared) => devices.give_back(group),
            }
        } else {
            tokio::select! {
                () = receiver.shared.doorbell.wait_until(|| !receiver.shared.queue.is_empty()) => {}
                () = restarted.notified() => devices.forget_told(),
            }
        }
        link.status.presence_devices.set((devices.present.len() - devices.untold.len()) as u64);
    }
}

/// Returns when the queue is so full that it has to be emptied even if the cloud does not answer.
async fn drain(shared: &Shared) {
    let half = shared.queue.capacity().div_ceil(2);
    shared.doorbell.wait_until(|| shared.queue.len() >= half).await;
}

/// What the cloud says to a group.
enum Told {
    Accepted,
    /// It refuses something in it.
    Refused(StatusCode, String),
}

/// Tells one group, until the cloud has answered.
async fn tell(link: &Link, group: &[DevicePresence]) -> Told {
    let mut attempts = Attempts::new(link.config.backoff);
    let presence = Presence { devices: group.to_vec() };
    let body = serde_json::to_vec(&presence).expect("a list of identifiers is always JSON");
    let call = link.post(link.path("presence"), JSON, body.into());
    loop {
        let fault = match link.call(&call).await {
            Ok(answer) if answer.status.is_success() => return Told::Accepted,
            Ok(answer)
                if refusal(&answer.body).is_some()
                    || answer.status == StatusCode::PAYLOAD_TOO_LARGE =>
            {
                return Told::Refused(answer.status, refusal_text(&answer.body));
            }
            Ok(answer) => {
                let text = format!(
                    "presence is answered with {}, not by the cloud's functions",
                    answer.status
                );
                link.status.set_error(&text);
                crate::link::Fault::new(text)
            }
            Err(fault) => fault,
        };
        link.pause(&mut attempts, &fault).await;
    }
}

impl Devices {
    fn hear(&mut self, queue: &ArrayQueue<News>) {
        for _ in 0..TURN_NEWS_MAX {
            match queue.pop() {
                Some(News::Present(device)) => {
                    if self.present.insert(device.clone()) {
                        self.untold.insert(device);
                    }
                }
                Some(News::Absent(device)) => {
                    self.present.remove(&device);
                    self.untold.remove(&device);
                }
                None => return,
            }
        }
    }

    /// The next devices to tell; they stay untold until [`Devices::told`].
    fn next_group(&mut self, devices_max: usize) -> Option<Vec<DevicePresence>> {
        while let Some(mut group) = self.split.pop_front() {
            group.retain(|device| self.untold.contains(device));
            if !group.is_empty() {
                return Some(group);
            }
        }
        let group: Vec<_> = self.untold.iter().take(devices_max).cloned().collect();
        Some(group).filter(|group| !group.is_empty())
    }

    fn told(&mut self, link: &Link, group: Vec<DevicePresence>, answer: Told) {
        match answer {
            Told::Refused(_, _) if group.len() > 1 => {
                let (left, right) = group.split_at(group.len() / 2);
                self.split.push_front(right.to_vec());
                self.split.push_front(left.to_vec());
                return;
            }
            Told::Refused(status, reason) => {
                let text = format!(
                    "the cloud does not take the presence of {group:?}: {status}, {reason}"
                );
                tracing::warn!("{text}");
                link.status.set_error(&text);
            }
            Told::Accepted => {}
        }
        for device in &group {
            self.untold.remove(device);
        }
    }

    fn give_back(&mut self, group: Vec<DevicePresence>) {
        self.split.push_front(group);
    }

    fn forget_told(&mut self) {
        self.split.clear();
        self.untold = self.present.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: usize) -> (TenantId, DeviceId) {
        (TenantId::parse("acme").unwrap(), DeviceId::parse(&format!("d{number}")).unwrap())
    }

    fn heard(count: usize) -> (PresenceSender, PresenceReceiver, Devices) {
        let (sender, receiver) = presence_channel(16);
        let mut devices = Devices::default();
        for number in 0..count {
            let (tenant, id) = device(number);
            sender.present(tenant, id).unwrap();
        }
        devices.hear(&receiver.shared.queue);
        (sender, receiver, devices)
    }

    #[test]
    fn a_device_is_told_once_and_again_after_a_restart() {
        let (sender, receiver, mut devices) = heard(3);
        let group = devices.next_group(10).unwrap();
        assert_eq!(group.len(), 3);
        devices.untold.clear();
        sender.present(device(0).0, device(0).1).unwrap();
        devices.hear(&receiver.shared.queue);
        assert!(devices.next_group(10).is_none());
        devices.forget_told();
        assert_eq!(devices.next_group(2).unwrap().len(), 2);
    }

    #[test]
    fn a_device_that_has_gone_is_not_told_any_more() {
        let (sender, receiver, mut devices) = heard(2);
        devices.give_back(devices.untold.iter().cloned().collect());
        sender.absent(device(0).0, device(0).1).unwrap();
        devices.hear(&receiver.shared.queue);
        assert_eq!(devices.next_group(10).unwrap().len(), 1);
        devices.forget_told();
        assert_eq!(devices.next_group(10).unwrap().len(), 1);
    }

    #[test]
    fn a_full_queue_says_so() {
        let (sender, _receiver) = presence_channel(1);
        assert_eq!(sender.present(device(0).0, device(0).1), Ok(()));
        assert_eq!(sender.present(device(1).0, device(1).1), Err(PresenceFull));
    }
}
