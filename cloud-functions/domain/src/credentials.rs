//! A device's credential set: read without secrets, replaced as a whole, unique by (type, auth-id) in the tenant.

use crate::credential_rules::{kind, merge};
use crate::registry::{Etag, IfMatch, put};
use crate::rows::{CredentialsRow, Reference, decode, reference};
use crate::store::{Expect, Item, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use fulcrum_contract::feed::Entity;
use fulcrum_contract::registry::{Credential, Secret};
use fulcrum_contract::{DeviceId, TenantId};
use std::collections::BTreeSet;

impl Cloud {
    /// The device's credentials without any private member.
    pub async fn credentials(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
    ) -> Result<(Vec<Credential>, Etag), Error> {
        let item = self.credentials_item(tenant, device).await?;
        let row: CredentialsRow = decode(&item)?;
        let redacted = |credential: Credential| {
            let secrets = credential.secrets.iter().map(Secret::redacted).collect();
            Credential { secrets, ..credential }
        };
        Ok((row.credentials.into_iter().map(redacted).collect(), item.revision.into()))
    }

    /// Replaces the set. A secret that names a stored one and brings nothing new keeps what is stored.
    pub async fn update_credentials(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        credentials: Vec<Credential>,
        if_match: &IfMatch,
    ) -> Result<Etag, Error> {
        for _ in 0..ATTEMPTS {
            let item = self.credentials_item(tenant, device).await?;
            if_match.check(&item)?;
            let stored = decode::<CredentialsRow>(&item)?.credentials;
            let merged = self.merged(stored.clone(), credentials.clone()).await?;
            let mut writes = self.claim_auth_ids(tenant, device, &stored, &merged).await?;
            writes.push(self.put_credentials(
                tenant,
                device,
                merged.clone(),
                Expect::as_read(Some(&item)),
            ));
            writes.push(self.publish_credentials(tenant, device, Some(merged)));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other?.into()),
            }
        }
        Err(Error::Busy)
    }

    async fn credentials_item(&self, tenant: &TenantId, device: &DeviceId) -> Result<Item, Error> {
        let missing =
            || Error::NotFound(format!("there is no device '{device}' in tenant '{tenant}'"));
        self.one(keys::credentials(tenant, device)).await?.ok_or_else(missing)
    }

    /// Merging hashes passwords, which takes long by design: not on a thread that serves others.
    async fn merged(
        &self,
        stored: Vec<Credential>,
        new: Vec<Credential>,
    ) -> Result<Vec<Credential>, Error> {
        let cost = self.settings.bcrypt_cost;
        tokio::task::spawn_blocking(move || merge(&stored, new, cost))
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?
    }

    async fn claim_auth_ids(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        stored: &[Credential],
        merged: &[Credential],
    ) -> Result<Vec<Write>, Error> {
        let pairs = |set: &[Credential]| -> BTreeSet<(&'static str, String)> {
            set.iter().map(|one| (kind(one.credential_type), one.auth_id.clone())).collect()
        };
        let (before, after) = (pairs(stored), pairs(merged));
        let mut writes = Vec::new();
        for (kind, auth_id) in after.difference(&before) {
            let key = keys::auth_id(tenant, kind, auth_id);
            let owner = self.one(key.clone()).await?;
            if let Some(owner) = &owner
                && decode::<Reference>(owner)?.id != device.as_str()
            {
                return Err(Error::Exists(format!(
                    "the auth-id '{auth_id}' of type {kind} belongs to another device of '{tenant}'"
                )));
            }
            let expect = Expect::as_read(owner.as_ref());
            writes.push(Write::Put { key, value: reference(device), expect });
        }
        for (kind, auth_id) in before.difference(&after) {
            let key = keys::auth_id(tenant, kind, auth_id);
            writes.push(Write::Delete { key, expect: Expect::Anything });
        }
        Ok(writes)
    }

    /// Steps that remove a device's whole set and its claims.
    pub(crate) async fn drop_credentials(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
    ) -> Result<Vec<Write>, Error> {
        let key = keys::credentials(tenant, device);
        let Some(item) = self.one(key.clone()).await? else { return Ok(Vec::new()) };
        let stored = decode::<CredentialsRow>(&item)?.credentials;
        let mut writes = self.claim_auth_ids(tenant, device, &stored, &[]).await?;
        writes.push(Write::Delete { key, expect: Expect::as_read(Some(&item)) });
        Ok(writes)
    }

    pub(crate) fn put_credentials(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        credentials: Vec<Credential>,
        expect: Expect,
    ) -> Write {
        put(keys::credentials(tenant, device), &CredentialsRow { credentials }, expect)
    }

    pub(crate) fn publish_credentials(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        document: Option<Vec<Credential>>,
    ) -> Write {
        let (tenant, device) = (tenant.clone(), device.clone());
        let scope = keys::tenant_scope(&tenant);
        self.publish(scope, &Entity::Credentials { tenant, device, document })
    }
}
