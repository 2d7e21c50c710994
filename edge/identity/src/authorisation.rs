//! May this device, or this gateway for that device, go on?

use crate::authentication::unavailable;
use crate::error::IdentityError;
use crate::limits::{DEVICES_OF_GATEWAY_MAX, GATEWAYS_OF_DEVICE_MAX};
use crate::login::Adapter;
use crate::refusal::Refusal;
use crate::replica::{Identity, View};
use crate::tables::{COMMAND_IDS, GATEWAYS, GROUPED};
use fulcrum_contract::registry::Device;
use fulcrum_contract::{DeviceId, TenantId};
use std::collections::BTreeSet;

/// The devices a gateway may act for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DevicesBehind {
    /// In the order of their ids, each with whether commands for it are in the store.
    pub devices: Vec<(DeviceId, bool)>,
    /// There are more than were looked at.
    pub is_cut: bool,
}

/// What decides whether a device that is connected may stay: for shards that were told of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceState {
    /// Whether the tenant is enabled; none if it is gone.
    pub tenant_enabled: Option<bool>,
    /// Whether the tenant allows MQTT.
    pub mqtt_enabled: bool,
    /// Whether the tenant allows HTTP.
    pub http_enabled: bool,
    /// Whether the tenant allows AMQP.
    pub amqp_enabled: bool,
    /// Whether the device is enabled; none if it is not registered.
    pub device_enabled: Option<bool>,
    /// Whether it can be a gateway for any other device.
    pub is_gateway: bool,
}

impl DeviceState {
    /// Whether the device may use the adapter, or why not.
    pub fn check(&self, adapter: Adapter) -> Result<(), Refusal> {
        let adapter_enabled = match adapter {
            Adapter::Mqtt => self.mqtt_enabled,
            Adapter::Http => self.http_enabled,
            Adapter::Amqp => self.amqp_enabled,
        };
        match (self.tenant_enabled, self.device_enabled) {
            (None, _) => Err(Refusal::TenantUnknown),
            (Some(false), _) => Err(Refusal::TenantDisabled),
            _ if !adapter_enabled => Err(Refusal::AdapterDisabled),
            (_, None) => Err(Refusal::DeviceUnknown),
            (_, Some(false)) => Err(Refusal::DeviceDisabled),
            _ => Ok(()),
        }
    }
}

impl Identity {
    /// Whether `principal`, authenticated, may act for `target`: for itself always, for another device as a gateway that
    /// the device names in `via` or that is a member of one of its `viaGroups`. All three documents are read as they are
    /// now.
    pub fn authorise(
        &self,
        tenant: &TenantId,
        principal: &DeviceId,
        target: &DeviceId,
        adapter: Adapter,
    ) -> Result<(), Refusal> {
        let decide = |view: &View| authorise(view, tenant, principal, target, adapter);
        self.inner.read(decide).map_err(|error| unavailable(&error))?
    }

    /// The gateways that may act for a device as things are, in the order of their ids: those in its `via`, and the
    /// members of its `viaGroups`, as far as they are enabled. A device that is not registered or disabled has none. No more
    /// than [`GATEWAYS_OF_DEVICE_MAX`].
    pub fn gateways_of(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
    ) -> Result<Vec<DeviceId>, IdentityError> {
        self.inner.read(|view| gateways_of(view, tenant, device))
    }

    /// The devices a gateway may act for as things are: those that name it in `via`, or one of its groups in `viaGroups`, as
    /// far as they are enabled. A gateway that is not registered or disabled has none. Looks at no more devices than
    /// [`DEVICES_OF_GATEWAY_MAX`].
    pub fn devices_behind(
        &self,
        tenant: &TenantId,
        gateway: &DeviceId,
    ) -> Result<DevicesBehind, IdentityError> {
        self.inner.read(|view| devices_behind(view, tenant.as_str(), gateway.as_str()))
    }

    /// The present state of a device and its tenant.
    pub fn device_state(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
    ) -> Result<DeviceState, IdentityError> {
        self.inner.read(|view| Ok(state(view, tenant, device)?.0))
    }
}

fn authorise(
    view: &View,
    tenant: &TenantId,
    principal: &DeviceId,
    target: &DeviceId,
    adapter: Adapter,
) -> Result<Result<(), Refusal>, redb::Error> {
    let (target_state, target_document) = state(view, tenant, target)?;
    if principal == target {
        return Ok(target_state.check(adapter));
    }
    // The tenant and adapter first, then the gateway: one that may not act for a device must not learn of its state.
    match target_state.check(adapter) {
        Ok(()) | Err(Refusal::DeviceUnknown | Refusal::DeviceDisabled) => {}
        refused => return Ok(refused),
    }
    let gateway = view.device(tenant.as_str(), principal.as_str())?;
    let Some(gateway) = gateway.filter(|gateway| gateway.enabled) else {
        return Ok(Err(Refusal::GatewayNotAuthorised));
    };
    let Some(target_document) = target_document else { return Ok(Err(Refusal::DeviceUnknown)) };
    if !may_act_for(principal, &gateway, &target_document) {
        return Ok(Err(Refusal::GatewayNotAuthorised));
    }
    Ok(target_state.check(adapter))
}

fn may_act_for(gateway_id: &DeviceId, gateway: &Device, target: &Device) -> bool {
    target.via.contains(gateway_id)
        || target.via_groups.iter().any(|group| gateway.member_of.contains(group))
}

fn gateways_of(
    view: &View,
    tenant: &TenantId,
    device: &DeviceId,
) -> Result<Vec<DeviceId>, redb::Error> {
    let document = view.device(tenant.as_str(), device.as_str())?;
    let Some(document) = document.filter(|document| document.enabled) else {
        return Ok(Vec::new());
    };
    let mut named: BTreeSet<DeviceId> = document.via.iter().cloned().collect();
    for group in &document.via_groups {
        let members = view.members(tenant.as_str(), group, GATEWAYS_OF_DEVICE_MAX)?;
        named.extend(members.iter().filter_map(|member| DeviceId::parse(member).ok()));
    }
    named.remove(device);
    let mut gateways = Vec::new();
    for gateway in named.into_iter().take(GATEWAYS_OF_DEVICE_MAX) {
        let document = view.device(tenant.as_str(), gateway.as_str())?;
        if document.is_some_and(|document| document.enabled) {
            gateways.push(gateway);
        }
    }
    Ok(gateways)
}

fn devices_behind(view: &View, tenant: &str, gateway: &str) -> Result<DevicesBehind, redb::Error> {
    let document = view.device(tenant, gateway)?;
    let Some(document) = document.filter(|document| document.enabled) else {
        return Ok(DevicesBehind::default());
    };
    let (gateways, grouped) = (view.0.open_table(GATEWAYS)?, view.0.open_table(GROUPED)?);
    let groups = document.member_of.iter().map(|group| (&grouped, group.as_str()));
    let mut named = BTreeSet::new();
    let mut looked_at = 0;
    let mut is_cut = false;
    for (index, name) in std::iter::once((&gateways, gateway)).chain(groups) {
        for entry in index.range((tenant, name, "")..)? {
            let (key, _) = entry?;
            let (row_tenant, row_name, device) = key.value();
            if (row_tenant, row_name) != (tenant, name) {
                break;
            }
            if looked_at == DEVICES_OF_GATEWAY_MAX {
                is_cut = true;
                break;
            }
            looked_at += 1;
            named.insert(device.to_owned());
        }
    }
    named.remove(gateway);
    let commands = view.0.open_table(COMMAND_IDS)?;
    let mut devices = Vec::new();
    for device in named {
        if !view.device(tenant, &device)?.is_some_and(|document| document.enabled) {
            continue;
        }
        let has_commands = match commands.range((tenant, device.as_str(), "")..)?.next() {
            Some(entry) => {
                let (key, _) = entry?;
                let (row_tenant, row_device, _) = key.value();
                (row_tenant, row_device) == (tenant, device.as_str())
            }
            None => false,
        };
        if let Ok(device) = DeviceId::parse(&device) {
            devices.push((device, has_commands));
        }
    }
    Ok(DevicesBehind { devices, is_cut })
}

fn state(
    view: &View,
    tenant: &TenantId,
    device: &DeviceId,
) -> Result<(DeviceState, Option<Device>), redb::Error> {
    let tenant_document = view.tenant(tenant.as_str())?;
    let device_document = view.device(tenant.as_str(), device.as_str())?;
    let enabled = |adapter: Adapter| {
        tenant_document.as_ref().is_some_and(|tenant| tenant.adapter_enabled(adapter.type_name()))
    };
    let is_gateway = match &device_document {
        Some(document) => view.is_gateway(tenant.as_str(), device.as_str(), document)?,
        None => false,
    };
    let state = DeviceState {
        tenant_enabled: tenant_document.as_ref().map(|tenant| tenant.enabled),
        mqtt_enabled: enabled(Adapter::Mqtt),
        http_enabled: enabled(Adapter::Http),
        amqp_enabled: enabled(Adapter::Amqp),
        device_enabled: device_document.as_ref().map(|device| device.enabled),
        is_gateway,
    };
    Ok((state, device_document))
}
