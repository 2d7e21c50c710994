//! Tenants and devices (Hono's Device Registry Management API 1.13).
//!
//! What a rule here protects: ids are unique, a device always has a credential set, an `If-Match` that names an old version changes
//! nothing, and every change is in the tenant's feed in the same write.

use crate::keys::{self, TENANTS};
use crate::rows::{DeviceRow, EdgeRow, PRESENT, TenantRow, decode, encode, reference};
use crate::secrets::new_id;
use crate::store::{Expect, Item, Key, Revision, Scan, StoreError, Write};
use crate::trust_anchors::completed;
use crate::{ATTEMPTS, Cloud, Error};
use fulcrum_contract::feed::Entity;
use fulcrum_contract::registry::{Device, Extension, MAX_CONNECTIONS, Tenant};
use fulcrum_contract::{DeviceId, TenantId};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Version of a document, opaque to clients; changes with each write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Etag(Revision);

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:016x}\"", self.0.0)
    }
}

impl From<Revision> for Etag {
    fn from(revision: Revision) -> Self {
        Etag(revision)
    }
}

/// The versions a client accepts: the text of `If-Match`, with or without quotes as Hono's clients send it.
#[derive(Clone, Default, Debug)]
pub struct IfMatch(pub Option<String>);

impl IfMatch {
    pub(crate) fn check(&self, item: &Item) -> Result<(), Error> {
        let Some(accepted) = &self.0 else { return Ok(()) };
        let present = format!("{:016x}", item.revision.0);
        let matches = |tag: &str| tag == "*" || tag.trim_matches('"') == present;
        if accepted.split(',').any(|tag| matches(tag.trim())) { Ok(()) } else { Err(Error::Stale) }
    }
}

/// Part of a list.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed<T> {
    /// How many there are in all.
    pub total: usize,
    /// The asked for part.
    pub result: Vec<T>,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// 0 to 200.
    pub size: usize,
    /// How many to leave out.
    pub offset: usize,
}

impl Cloud {
    /// Makes a tenant, with a new id if none is given.
    pub async fn create_tenant(
        &self,
        id: Option<TenantId>,
        document: Tenant,
    ) -> Result<(TenantId, Etag), Error> {
        let document = checked_tenant(document)?;
        let id = id.map_or_else(|| TenantId::parse(&new_id()), Ok).map_err(Error::invalid)?;
        let exists = || Error::Exists(format!("the tenant '{id}' exists already"));
        for _ in 0..ATTEMPTS {
            if self.one(keys::tenant(&id)).await?.is_some() {
                return Err(exists());
            }
            let mut writes = vec![
                put(keys::tenant(&id), &TenantRow { document: document.clone() }, Expect::Absent),
                self.publish_tenant(&id, Some(document.clone())),
            ];
            writes.extend(self.claim_alias(&id, document.alias.as_deref(), None).await?);
            writes.extend(self.claim_anchors(&id, Some(&document), None).await?);
            writes.extend(self.restart_feeds_of(&id).await?);
            let key = Key::new(keys::GONE_TENANTS, id.as_str());
            writes.push(Write::Delete { key, expect: Expect::Anything });
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok((id, other?.into())),
            }
        }
        Err(Error::Busy)
    }

    /// A tenant's document.
    pub async fn tenant(&self, id: &TenantId) -> Result<(Tenant, Etag), Error> {
        let item = self.tenant_item(id).await?;
        Ok((decode::<TenantRow>(&item)?.document, item.revision.into()))
    }

    /// Replaces a tenant's document.
    pub async fn update_tenant(
        &self,
        id: &TenantId,
        document: Tenant,
        if_match: &IfMatch,
    ) -> Result<Etag, Error> {
        let document = checked_tenant(document)?;
        for _ in 0..ATTEMPTS {
            let item = self.tenant_item(id).await?;
            if_match.check(&item)?;
            let before: TenantRow = decode(&item)?;
            let row = TenantRow { document: document.clone() };
            let mut writes = vec![
                put(keys::tenant(id), &row, Expect::as_read(Some(&item))),
                self.publish_tenant(id, Some(document.clone())),
            ];
            let (alias, old) = (document.alias.as_deref(), before.document.alias.as_deref());
            writes.extend(self.claim_alias(id, alias, old).await?);
            writes.extend(self.claim_anchors(id, Some(&document), Some(&before.document)).await?);
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other?.into()),
            }
        }
        Err(Error::Busy)
    }

    /// Removes a tenant; its devices stay, as in Hono, and its records for as long as any.
    pub async fn delete_tenant(&self, id: &TenantId, if_match: &IfMatch) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let item = self.tenant_item(id).await?;
            if_match.check(&item)?;
            let before: TenantRow = decode(&item)?;
            let mut writes = vec![
                Write::Delete { key: keys::tenant(id), expect: Expect::as_read(Some(&item)) },
                self.publish_tenant(id, None),
                Write::Put {
                    key: Key::new(keys::GONE_TENANTS, id.as_str()),
                    value: PRESENT,
                    expect: Expect::Anything,
                },
            ];
            writes.extend(self.claim_alias(id, None, before.document.alias.as_deref()).await?);
            writes.extend(self.claim_anchors(id, None, Some(&before.document)).await?);
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::Busy)
    }

    /// Tenants in the order of their ids.
    pub async fn tenants(&self, page: Page) -> Result<Listed<(String, Tenant)>, Error> {
        let listed = self.list(TENANTS, page).await?;
        listed.try_map(|item| Ok((item.sort.clone(), decode::<TenantRow>(&item)?.document)))
    }

    /// Makes a device with an empty credential set, with a new id if none is given.
    pub async fn create_device(
        &self,
        tenant: &TenantId,
        id: Option<DeviceId>,
        document: Device,
        now_ms: u64,
    ) -> Result<(DeviceId, Etag), Error> {
        check_device(&document)?;
        self.tenant_item(tenant).await?;
        let id = id.map_or_else(|| DeviceId::parse(&new_id()), Ok).map_err(Error::invalid)?;
        let document = Device { status: None, ..document };
        let row = DeviceRow { document: document.clone(), created_ms: now_ms, updated_ms: None };
        let writes = vec![
            put(keys::device(tenant, &id), &row, Expect::Absent),
            self.put_credentials(tenant, &id, Vec::new(), Expect::Anything),
            self.publish_device(tenant, &id, Some(document)),
            self.publish_credentials(tenant, &id, Some(Vec::new())),
        ];
        match self.store.write(writes).await {
            Ok(revision) => Ok((id, revision.into())),
            Err(StoreError::Conflict) => {
                Err(Error::Exists(format!("the device '{id}' exists already in '{tenant}'")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A device's document with its status.
    pub async fn device(&self, tenant: &TenantId, id: &DeviceId) -> Result<(Device, Etag), Error> {
        let item = self.device_item(tenant, id).await?;
        Ok((shown(decode(&item)?), item.revision.into()))
    }

    /// Replaces a device's document.
    pub async fn update_device(
        &self,
        tenant: &TenantId,
        id: &DeviceId,
        document: Device,
        if_match: &IfMatch,
        now_ms: u64,
    ) -> Result<Etag, Error> {
        check_device(&document)?;
        let document = Device { status: None, ..document };
        for _ in 0..ATTEMPTS {
            let item = self.device_item(tenant, id).await?;
            if_match.check(&item)?;
            let created_ms = decode::<DeviceRow>(&item)?.created_ms;
            let row =
                DeviceRow { document: document.clone(), created_ms, updated_ms: Some(now_ms) };
            let writes = vec![
                put(keys::device(tenant, id), &row, Expect::as_read(Some(&item))),
                self.publish_device(tenant, id, Some(document.clone())),
            ];
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other?.into()),
            }
        }
        Err(Error::Busy)
    }

    /// Removes a device with its credentials and its waiting commands. Where an earlier call got no further than the device,
    /// repeating it ends the commands, though it answers that there is no such device.
    pub async fn delete_device(
        &self,
        tenant: &TenantId,
        id: &DeviceId,
        if_match: &IfMatch,
        now_ms: u64,
    ) -> Result<(), Error> {
        let removed = self.remove_device(tenant, id, if_match).await;
        if matches!(removed, Ok(()) | Err(Error::NotFound(_))) {
            self.abandon_commands(tenant, id, now_ms).await?;
        }
        removed
    }

    async fn remove_device(
        &self,
        tenant: &TenantId,
        id: &DeviceId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let item = self.device_item(tenant, id).await?;
            if_match.check(&item)?;
            let mut writes = vec![
                Write::Delete {
                    key: keys::device(tenant, id),
                    expect: Expect::as_read(Some(&item)),
                },
                Write::Delete { key: keys::home(tenant, id), expect: Expect::Anything },
                self.publish_device(tenant, id, None),
                self.publish_credentials(tenant, id, None),
            ];
            writes.extend(self.drop_credentials(tenant, id).await?);
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::Busy)
    }

    /// Devices of a tenant in the order of their ids.
    pub async fn devices(
        &self,
        tenant: &TenantId,
        page: Page,
    ) -> Result<Listed<(String, Device)>, Error> {
        let listed = self.list(&keys::devices(tenant), page).await?;
        listed.try_map(|item| Ok((item.sort.clone(), shown(decode(&item)?))))
    }

    pub(crate) async fn tenant_item(&self, id: &TenantId) -> Result<Item, Error> {
        let missing = || Error::NotFound(format!("there is no tenant '{id}': create it first"));
        self.one(keys::tenant(id)).await?.ok_or_else(missing)
    }

    pub(crate) async fn device_item(
        &self,
        tenant: &TenantId,
        id: &DeviceId,
    ) -> Result<Item, Error> {
        let missing = || Error::NotFound(format!("there is no device '{id}' in tenant '{tenant}'"));
        self.one(keys::device(tenant, id)).await?.ok_or_else(missing)
    }

    pub(crate) async fn one(&self, key: Key) -> Result<Option<Item>, Error> {
        Ok(self.store.read(&[key]).await?.into_iter().next().flatten())
    }

    /// A part of a whole partition. Counting reads all of it: fine up to some 10 000 items.
    pub(crate) async fn list(&self, partition: &str, page: Page) -> Result<Listed<Item>, Error> {
        let mut listed = Listed { total: 0, result: Vec::new() };
        let mut scan = Scan::partition(partition, 1000);
        loop {
            let items = self.store.scan(scan.clone()).await?;
            let Some(last) = items.last() else { return Ok(listed) };
            // The next sort key in order after `last`.
            scan.from = format!("{}\0", last.sort);
            for item in items {
                if listed.total >= page.offset && listed.result.len() < page.size {
                    listed.result.push(item);
                }
                listed.total += 1;
            }
        }
    }

    /// Moves the tenant's claim from its old alias to the new one.
    async fn claim_alias(
        &self,
        id: &TenantId,
        new: Option<&str>,
        old: Option<&str>,
    ) -> Result<Vec<Write>, Error> {
        let mut writes = Vec::new();
        if new == old {
            return Ok(writes);
        }
        if let Some(alias) = new {
            if self.one(keys::alias(alias)).await?.is_some() {
                return Err(Error::Exists(format!(
                    "the alias '{alias}' is in use by another tenant"
                )));
            }
            let key = keys::alias(alias);
            writes.push(Write::Put { key, value: reference(id), expect: Expect::Absent });
        }
        if let Some(alias) = old {
            writes.push(Write::Delete { key: keys::alias(alias), expect: Expect::Anything });
        }
        Ok(writes)
    }

    /// Edges that serve a tenant of this id, which there was before, have dropped all it had, while here its devices stayed:
    /// they take a new snapshot.
    async fn restart_feeds_of(&self, id: &TenantId) -> Result<Vec<Write>, Error> {
        let serving = Scan::partition(keys::edges_of(id), usize::MAX);
        let mut writes = Vec::new();
        for entry in self.store.scan(serving).await? {
            let key = Key::new(keys::EDGES, entry.sort);
            if let Some(item) = self.one(key.clone()).await? {
                let row = EdgeRow { feed: new_id(), ..decode(&item)? };
                writes.push(put(key, &row, Expect::as_read(Some(&item))));
            }
        }
        Ok(writes)
    }

    fn publish_tenant(&self, id: &TenantId, document: Option<Tenant>) -> Write {
        self.publish(keys::tenant_scope(id), &Entity::Tenant { tenant: id.clone(), document })
    }

    fn publish_device(&self, tenant: &TenantId, id: &DeviceId, document: Option<Device>) -> Write {
        let entity = Entity::Device { tenant: tenant.clone(), device: id.clone(), document };
        self.publish(keys::tenant_scope(tenant), &entity)
    }
}

impl<T> Listed<T> {
    pub(crate) fn try_map<U>(
        self,
        map: impl Fn(T) -> Result<U, Error>,
    ) -> Result<Listed<U>, Error> {
        let result = self.result.into_iter().map(map).collect::<Result<_, _>>()?;
        Ok(Listed { total: self.total, result })
    }
}

pub(crate) fn put<T: serde::Serialize>(key: Key, row: &T, expect: Expect) -> Write {
    Write::Put { key, value: encode(row), expect }
}

fn shown(row: DeviceRow) -> Device {
    let mut status = Extension::new();
    status.insert("created".to_owned(), Value::String(iso8601(row.created_ms)));
    if let Some(updated_ms) = row.updated_ms {
        status.insert("updated".to_owned(), Value::String(iso8601(updated_ms)));
    }
    Device { status: Some(status), ..row.document }
}

fn iso8601(at_ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp((at_ms / 1000) as i64).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The document as it is stored, if it may be.
fn checked_tenant(document: Tenant) -> Result<Tenant, Error> {
    if let Some(alias) = &document.alias {
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edges = alias.starts_with('-') || alias.ends_with('-');
        if alias.is_empty() || alias.len() > 63 || edges || !alias.bytes().all(label) {
            return Err(Error::Invalid(format!(
                "the alias '{alias}' is not a DNS label: use 1 to 63 of a-z, 0-9 and '-'"
            )));
        }
    }
    if let Some(adapters) = &document.adapters {
        let types: HashSet<_> = adapters.iter().map(|adapter| &adapter.adapter_type).collect();
        if adapters.is_empty() || types.len() != adapters.len() {
            return Err(Error::Invalid(
                "'adapters' must have at least one entry and each type once: leave it out for all adapters".to_owned(),
            ));
        }
    }
    if let Some(limit) = document.resource_limits.as_ref().and_then(|all| all.get(MAX_CONNECTIONS))
        && limit.as_u64().is_none()
        && limit.as_i64() != Some(-1)
    {
        return Err(Error::Invalid(format!(
            "'{MAX_CONNECTIONS}' is a whole number, or -1 for no limit, not {limit}"
        )));
    }
    if let Some(messaging) = &document.messaging {
        messaging.check().map_err(Error::invalid)?;
    }
    completed(document)
}

fn check_device(document: &Device) -> Result<(), Error> {
    let is_gateway = !document.member_of.is_empty();
    if is_gateway && !(document.via.is_empty() && document.via_groups.is_empty()) {
        return Err(Error::Invalid(
            "'memberOf' makes a gateway, which cannot have 'via' or 'viaGroups': give one or the other".to_owned(),
        ));
    }
    Ok(())
}
