//! Between the uplink and the shards: outcomes and registry changes one way, live telemetry the other.

use crate::registry::{application_may_be_connected, may_be_connected, offer};
use fulcrum_contract::{DeviceId, TenantId};
use fulcrum_identity::{Applied, Identity, Verifier};
use fulcrum_shard::{Busy, LiveConsumer, Message, ShardHandle, owner, shard_of_ticket};
use fulcrum_uplink::{LinkState, LiveSender, UplinkEvents};
use std::sync::Arc;

/// The uplink as the shards' consumer of live telemetry.
pub struct ShardLive(pub LiveSender);

impl LiveConsumer for ShardLive {
    fn has_credit(&self) -> bool {
        self.0.has_credit()
    }

    fn try_send(&self, frame: Vec<u8>, ticket: Option<u64>) -> Result<(), Busy> {
        self.0.try_send(frame, ticket).map_err(|_| Busy)
    }
}

/// What the uplink tells the node.
pub struct Events {
    pub verifier: Arc<Verifier>,
    pub shards: Vec<ShardHandle>,
}

impl UplinkEvents for Events {
    fn applied(&self, applied: &Applied) {
        let refused = announce_commands(applied, &self.shards);
        let (applied, shards) = (applied.clone(), self.shards.clone());
        let work = Box::new(move |identity: &Identity| {
            refused.into_iter().for_each(|(shard, message)| offer(&shards[shard], message));
            tell_shards(&applied, identity, &shards);
        });
        if self.verifier.submit_store(work).is_err() {
            // Rare: the store is behind by a whole queue. Everything is asked for again instead.
            for shard in &self.shards {
                offer(shard, Message::IdentityChanged { recheck: true });
            }
        }
    }

    fn live_outcome(&self, ticket: u64, accepted: bool) {
        if let Some(shard) = self.shards.get(usize::from(shard_of_ticket(ticket))) {
            // A shard that cannot take it releases the message when its time is over.
            let _ = shard.send(Message::LiveOutcome { ticket, accepted });
        }
    }

    fn link(&self, state: LinkState) {
        match state {
            LinkState::Connecting => tracing::info!("connecting to the cloud"),
            LinkState::Up => tracing::info!("the cloud answers"),
            LinkState::Down => {
                tracing::warn!("the cloud is out of reach; the node goes on without")
            }
        }
    }
}

/// On the store thread: what changed in the replica, as far as it concerns connections.
fn tell_shards(applied: &Applied, identity: &Identity, shards: &[ShardHandle]) {
    let registry_changed = applied.all
        || !applied.tenants_changed.is_empty()
        || !applied.devices_changed.is_empty()
        || !applied.applications_changed.is_empty();
    if registry_changed {
        let recheck = applied.all
            || !applied.tenants_changed.is_empty()
            || !applied.applications_changed.is_empty();
        for shard in shards {
            offer(shard, Message::IdentityChanged { recheck });
        }
    }
    for tenant in &applied.tenants_changed {
        if matches!(identity.tenant(tenant), Ok(None)) {
            forget(shards, tenant.as_str(), None);
        }
    }
    for (tenant, device) in &applied.devices_changed {
        if matches!(identity.device(tenant, device), Ok(None)) {
            forget(shards, tenant.as_str(), Some(device.as_str()));
        }
        if !may_be_connected(identity, None, tenant.as_str(), device.as_str()) {
            evict(shards, tenant.as_str(), device.as_str());
        }
    }
    for (tenant, application) in &applied.applications_changed {
        if matches!(identity.application(tenant, application), Ok(None)) {
            forget(shards, tenant.as_str(), Some(&format!("application/{application}")));
        }
        let (tenant, application) = (tenant.as_str(), application.as_str());
        // What it may do is looked at with its recheck.
        if !application_may_be_connected(identity, tenant, application, false) {
            evict(shards, tenant, application);
        }
    }
}

/// New commands are in the store: the shards that own the devices ask for them. This thread does not wait; what a shard
/// had no room for comes back with the shard's number.
fn announce_commands(applied: &Applied, shards: &[ShardHandle]) -> Vec<(usize, Message)> {
    let announce = |(tenant, device): &(TenantId, DeviceId)| {
        let owner = owner(&[tenant.as_str(), device.as_str()], shards.len() as u16);
        let message = Message::CommandArrived {
            tenant: tenant.as_str().into(),
            device: device.as_str().into(),
        };
        let shard = usize::from(owner.0);
        shards[shard].send(message).err().map(|message| (shard, message))
    };
    applied.commands.iter().filter_map(announce).collect()
}

fn forget(shards: &[ShardHandle], tenant: &str, login: Option<&str>) {
    for shard in shards {
        let login = login.map(Into::into);
        offer(shard, Message::Forget { tenant: tenant.into(), login });
    }
}

fn evict(shards: &[ShardHandle], tenant: &str, name: &str) {
    for shard in shards {
        offer(shard, Message::Evict { tenant: tenant.into(), device: Some(name.into()) });
    }
}

/// Commands whose time is over while their device is away: the shard that owns the device reports them.
pub fn expire_commands(identity: &Identity, shards: &[ShardHandle], now_ms: u64) {
    let expired = match identity.expire_commands(now_ms) {
        Ok(expired) => expired,
        Err(error) => return tracing::error!(%error, "cannot look for expired commands"),
    };
    for (tenant, device, command) in expired {
        let shard = owner(&[tenant.as_str(), device.as_str()], shards.len() as u16);
        let message = Message::CommandExpired {
            tenant: tenant.as_str().into(),
            device: device.as_str().into(),
            id: command.id.into(),
        };
        offer(&shards[usize::from(shard.0)], message);
    }
}
