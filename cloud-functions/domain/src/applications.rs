//! Applications of a tenant: made with a password that is shown once.

use crate::registry::{Etag, IfMatch, Listed, Page, put};
use crate::rows::decode;
use crate::secrets::{new_secret, sha256_base64};
use crate::store::{Expect, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use fulcrum_contract::feed::Entity;
use fulcrum_contract::registry::{Application, ApplicationCreated};
use fulcrum_contract::{ApplicationId, TenantId};

impl Cloud {
    /// Makes an application; the answer is the only place its password ever is.
    pub async fn create_application(
        &self,
        tenant: &TenantId,
        id: &ApplicationId,
        document: Application,
    ) -> Result<(ApplicationCreated, Etag), Error> {
        if document.password_sha256.is_some() {
            return Err(Error::Invalid(
                "'password-sha256' cannot be given: the password is made here".to_owned(),
            ));
        }
        self.tenant_item(tenant).await?;
        let password = new_secret();
        let password_sha256 = Some(sha256_base64(password.as_bytes()));
        let document = Application { password_sha256, ..document };
        let writes = vec![
            put(keys::application(tenant, id), &document, Expect::Absent),
            self.publish_application(tenant, id, Some(document)),
        ];
        match self.store.write(writes).await {
            Ok(revision) => {
                let username = format!("{id}@{tenant}");
                let id = id.as_str().to_owned();
                Ok((ApplicationCreated { id, username, password }, revision.into()))
            }
            Err(StoreError::Conflict) => Err(Error::Exists(format!(
                "the application '{id}' exists already in '{tenant}': delete it first for a new password"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// An application without its password's hash.
    pub async fn application(
        &self,
        tenant: &TenantId,
        id: &ApplicationId,
    ) -> Result<(Application, Etag), Error> {
        let item = self.one(keys::application(tenant, id)).await?;
        let item = item.ok_or_else(|| missing(tenant, id))?;
        Ok((without_hash(decode(&item)?), item.revision.into()))
    }

    /// Removes an application: its password is void from now on, here and at the edges.
    pub async fn delete_application(
        &self,
        tenant: &TenantId,
        id: &ApplicationId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let key = keys::application(tenant, id);
            let item = self.one(key.clone()).await?.ok_or_else(|| missing(tenant, id))?;
            if_match.check(&item)?;
            let writes = vec![
                Write::Delete { key, expect: Expect::as_read(Some(&item)) },
                self.publish_application(tenant, id, None),
            ];
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::Busy)
    }

    /// Applications of a tenant in the order of their ids.
    pub async fn applications(
        &self,
        tenant: &TenantId,
        page: Page,
    ) -> Result<Listed<(String, Application)>, Error> {
        let listed = self.list(&keys::applications(tenant), page).await?;
        listed.try_map(|item| Ok((item.sort.clone(), without_hash(decode(&item)?))))
    }

    fn publish_application(
        &self,
        tenant: &TenantId,
        id: &ApplicationId,
        document: Option<Application>,
    ) -> Write {
        let (tenant, application) = (tenant.clone(), id.clone());
        let scope = keys::tenant_scope(&tenant);
        self.publish(scope, &Entity::Application { tenant, application, document })
    }
}

fn missing(tenant: &TenantId, id: &ApplicationId) -> Error {
    Error::NotFound(format!("there is no application '{id}' in tenant '{tenant}'"))
}

fn without_hash(document: Application) -> Application {
    Application { password_sha256: None, ..document }
}
