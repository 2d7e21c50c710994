//! Which devices can take commands here, be it on a connection of their own or through a gateway that takes those of all
//! its devices, as told to the uplink.
//!
//! Invariants
//! - A device is absent only when neither its desk nor any gateway has it any more.
//! - What the uplink was told last about a device is what is noted here.
//! - A shard holds the lock for one device; the store thread lets go of it between two.
//!
//! Deliberately not here: following a registry that changes while a gateway is connected. Its devices are those of the
//! moment it subscribed; a command for a new one still finds its way, and a revoked one is refused when it is sent.

use super::{OFFER_PAUSE, OFFER_TRIES, offer_for, parsed};
use fulcrum_identity::Identity;
use fulcrum_shard::{Message, ShardHandle, owner};
use fulcrum_uplink::PresenceSender;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Tenant and device.
pub type Names = (Arc<str>, Arc<str>);

/// By then the shards have told each other of a gateway: an earlier word of a command would find them not knowing it.
const KNOWN_AFTER: Duration = Duration::from_millis(10);

/// Presence as all shards of a node have it together.
pub struct Presences {
    uplink: Option<PresenceSender>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: HashMap<Names, Holders>,
    gateways: HashMap<Names, Gateway>,
    /// Gateways that came or went and whose devices have not been looked at since, with the time.
    unsettled: BTreeMap<Names, Instant>,
}

/// Through whom a device is present.
#[derive(Default)]
struct Holders {
    desk: bool,
    gateways: u32,
}

/// A gateway that takes the commands of all its devices.
#[derive(Default)]
struct Gateway {
    shards: BTreeSet<u16>,
    devices: BTreeSet<Arc<str>>,
}

impl Presences {
    /// Nobody is here yet.
    pub fn new(uplink: Option<PresenceSender>) -> Presences {
        Presences { uplink, state: Mutex::default() }
    }

    /// The device's desk has a connection for its commands, or no longer has. Does not wait.
    pub fn desk(&self, names: Names, present: bool) {
        if self.uplink.is_none() {
            return;
        }
        let mut state = self.state();
        if state.hold(names.clone(), |holders| holders.desk = present) && !self.tell(&state, &names)
        {
            warn_of_full_queue();
        }
    }

    /// A gateway takes the commands of all its devices on a shard, or no longer does. Then [`Presences::settle`] is due, on
    /// a thread that may wait.
    pub fn gateway(&self, names: Names, shard: u16, present: bool) {
        let mut state = self.state();
        let gateway = state.gateways.entry(names.clone()).or_default();
        if present {
            gateway.shards.insert(shard);
        } else {
            gateway.shards.remove(&shard);
        }
        state.unsettled.insert(names, Instant::now());
    }

    /// Looks at the devices of the gateways that came or went: tells which are present now, and the shards which of them
    /// have commands in the store.
    pub fn settle(&self, identity: &Identity, shards: &[ShardHandle]) {
        while let Some((gateway, since)) = self.next_unsettled() {
            let waiting = self.settle_one(identity, &gateway);
            if waiting.is_empty() {
                continue;
            }
            std::thread::sleep(KNOWN_AFTER.saturating_sub(since.elapsed()));
            for device in waiting {
                let tenant = gateway.0.clone();
                let shard = owner(&[&tenant, &device], shards.len() as u16);
                let message = Message::CommandArrived { tenant, device };
                if !offer_for(OFFER_TRIES, &shards[usize::from(shard.0)], message) {
                    break;
                }
            }
        }
    }

    fn next_unsettled(&self) -> Option<(Names, Instant)> {
        self.state().unsettled.pop_first()
    }

    /// The gateway's devices that have commands in the store, if it is here.
    fn settle_one(&self, identity: &Identity, gateway: &Names) -> Vec<Arc<str>> {
        let is_here =
            self.state().gateways.get(gateway).is_some_and(|known| !known.shards.is_empty());
        let mut devices = BTreeSet::new();
        let mut waiting = Vec::new();
        if let (true, Some((tenant, id))) = (is_here, parsed(&gateway.0, &gateway.1)) {
            let behind = match identity.devices_behind(&tenant, &id) {
                Ok(behind) => behind,
                Err(error) => {
                    tracing::error!(%error, gateway = %id, "cannot read a gateway's devices; their commands wait");
                    return Vec::new();
                }
            };
            if behind.is_cut {
                tracing::warn!(
                    %tenant, gateway = %id, devices = behind.devices.len(),
                    "a gateway has more devices than are looked at: of the others those get commands that it acts \
                     for, or whose commands come while it is connected"
                );
            }
            for (device, has_commands) in behind.devices {
                let device = Arc::<str>::from(device.as_str());
                if has_commands {
                    waiting.push(device.clone());
                }
                devices.insert(device);
            }
        }
        self.replace_devices(gateway, devices);
        waiting
    }

    /// The gateway has these devices now, and those it had before no more.
    fn replace_devices(&self, gateway: &Names, devices: BTreeSet<Arc<str>>) {
        if self.uplink.is_none() {
            self.state().forget_if_gone(gateway);
            return;
        }
        let before = match self.state().gateways.get_mut(gateway) {
            Some(known) => std::mem::replace(&mut known.devices, devices.clone()),
            None => return,
        };
        let mut all_told = true;
        for device in devices.difference(&before) {
            let names = (gateway.0.clone(), device.clone());
            all_told &= self.hold_patiently(names, all_told, |holders| holders.gateways += 1);
        }
        for device in before.difference(&devices) {
            let names = (gateway.0.clone(), device.clone());
            let release = |holders: &mut Holders| {
                holders.gateways = holders.gateways.saturating_sub(1);
            };
            all_told &= self.hold_patiently(names, all_told, release);
        }
        self.state().forget_if_gone(gateway);
        if !all_told {
            warn_of_full_queue();
        }
    }

    /// False if the uplink could not be told. Once it could not it is not waited for again.
    fn hold_patiently(&self, names: Names, wait: bool, change: impl FnOnce(&mut Holders)) -> bool {
        if !self.state().hold(names.clone(), change) {
            return true;
        }
        for _ in 0..if wait { OFFER_TRIES } else { 1 } {
            if self.tell(&self.state(), &names) {
                return true;
            }
            std::thread::sleep(if wait { OFFER_PAUSE } else { Duration::ZERO });
        }
        false
    }

    /// Tells the uplink where a device is by now; false if it has no room.
    fn tell(&self, state: &State, names: &Names) -> bool {
        let (Some(uplink), Some((tenant, device))) = (&self.uplink, parsed(&names.0, &names.1))
        else {
            return true;
        };
        if state.devices.contains_key(names) {
            uplink.present(tenant, device).is_ok()
        } else {
            uplink.absent(tenant, device).is_ok()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole at every point where a panic could leave it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the device came or went with the change.
    fn hold(&mut self, names: Names, change: impl FnOnce(&mut Holders)) -> bool {
        match self.devices.entry(names) {
            Entry::Occupied(mut known) => {
                change(known.get_mut());
                let is_gone = known.get().is_gone();
                if is_gone {
                    known.remove();
                }
                is_gone
            }
            Entry::Vacant(place) => {
                let mut holders = Holders::default();
                change(&mut holders);
                let came = !holders.is_gone();
                if came {
                    place.insert(holders);
                }
                came
            }
        }
    }

    /// A gateway that came back meanwhile is settled again and stays.
    fn forget_if_gone(&mut self, gateway: &Names) {
        if self
            .gateways
            .get(gateway)
            .is_some_and(|known| known.shards.is_empty() && known.devices.is_empty())
        {
            self.gateways.remove(gateway);
        }
    }
}

impl Holders {
    fn is_gone(&self) -> bool {
        !self.desk && self.gateways == 0
    }
}

fn warn_of_full_queue() {
    tracing::warn!("too many devices come and go: the cloud may hear late where a device is");
}

#[cfg(test)]
mod tests;
