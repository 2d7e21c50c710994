//! Who is this?
//!
//! 1. The user name names a tenant and, in it, a device's credentials or an application: credentials first, since the
//!    two kinds of names may collide.
//! 2. A *look* compares the password with everything that is quick: SHA-2, applications, and bcrypt pairs known from
//!    before ([`crate::memo`]).
//! 3. Where only bcrypt can tell, it is computed outside any transaction; then a second look, at the store as it is by
//!    then, decides.
//! 4. Only who has proved the credentials learns more than "bad credentials": that the tenant, adapter or device is
//!    disabled. Every bad attempt costs bcrypt once, known user or not.

use crate::error::IdentityError;
use crate::limits::SLOW_HASHES_MAX;
use crate::login::{Adapter, Login, Peer, Principal};
use crate::memo::{Fingerprint, Memo};
use crate::refusal::Refusal;
use crate::replica::{Identity, View};
use crate::rights::MessagingRights;
use crate::secrets::{self, Match};
use fulcrum_contract::registry::{CredentialType, Tenant};
use fulcrum_contract::{ApplicationId, DeviceId, TenantId};

impl Identity {
    /// Decides on a login. Takes microseconds, or where bcrypt has to be computed as long as that.
    pub fn authenticate(&self, login: &Login<'_>) -> Result<Principal, Refusal> {
        match self.look(login, None)? {
            Look::Decided(answer) => answer,
            Look::Slow(hashes) => self.compute(login, &hashes),
        }
    }

    /// Decides on a login if no slow hash has to be computed for it. Refusing bad credentials counts as slow.
    pub fn authenticate_quickly(&self, login: &Login<'_>) -> Option<Result<Principal, Refusal>> {
        match self.look(login, None) {
            Ok(Look::Decided(answer)) => Some(answer),
            Ok(Look::Slow(_)) => None,
            Err(refusal) => Some(Err(refusal)),
        }
    }

    fn compute(&self, login: &Login<'_>, hashes: &[String]) -> Result<Principal, Refusal> {
        let memo = &self.inner.memo;
        let mut spent: u64 = 0;
        for hash in hashes {
            spent += secrets::bcrypt_cost(hash).map_or(0, |cost| 1 << cost);
            if secrets::bcrypt_matches(hash, login.password) {
                let proved = memo.fingerprint(hash, login.password);
                memo.learn(proved);
                return match self.look(login, Some(&proved))? {
                    Look::Decided(answer) => answer,
                    // The secret was changed or removed while its hash was computed.
                    Look::Slow(_) => Err(Refusal::BadCredentials),
                };
            }
        }
        secrets::spend_the_cost_of_a_refusal(spent, login.password);
        Err(Refusal::BadCredentials)
    }

    fn look(&self, login: &Login<'_>, proved: Option<&Fingerprint>) -> Result<Look, Refusal> {
        let memo = &self.inner.memo;
        self.inner.read(|view| look(view, memo, login, proved)).map_err(|error| unavailable(&error))
    }
}

/// The store failed: say so in the log, and to the client only that nobody can decide.
pub(crate) fn unavailable(error: &IdentityError) -> Refusal {
    tracing::error!(%error, "authentication is not available");
    Refusal::Unavailable
}

enum Look {
    Decided(Result<Principal, Refusal>),
    /// Not decided by anything quick; these hashes, if any, may still match.
    Slow(Vec<String>),
}

fn look(
    view: &View,
    memo: &Memo,
    login: &Login<'_>,
    proved: Option<&Fingerprint>,
) -> Result<Look, redb::Error> {
    let nobody = Look::Slow(Vec::new());
    let Some((name, tenant_id)) = split(login.username) else { return Ok(nobody) };
    let Some(tenant) = view.tenant(tenant_id.as_str())? else { return Ok(nobody) };

    let mut slow = Vec::new();
    if let Some((device, credentials)) = view.credentials(tenant_id.as_str(), name)? {
        let secrets = credentials
            .iter()
            .filter(|credential| {
                credential.enabled
                    && credential.credential_type == CredentialType::HashedPassword
                    && credential.auth_id == name
            })
            .flat_map(|credential| &credential.secrets)
            .filter(|secret| secrets::is_valid_at(secret, login.now_ms));
        for secret in secrets {
            let matches = match secrets::look(secret, login.password) {
                Match::Yes => true,
                Match::No => false,
                Match::Slow(hash) => {
                    let fingerprint = memo.fingerprint(&hash, login.password);
                    let known = proved == Some(&fingerprint) || memo.knows(&fingerprint);
                    if !known && slow.len() < SLOW_HASHES_MAX {
                        slow.push(hash);
                    }
                    known
                }
            };
            if matches {
                return Ok(Look::Decided(admit_device(view, login, tenant_id, &tenant, &device)?));
            }
        }
    }

    if let Some(application) = view.application(tenant_id.as_str(), name)? {
        let stored = application.password_sha256.as_deref().unwrap_or_default();
        let matches = secrets::is_application_password(stored, login.password);
        if application.enabled && matches {
            let permissions = application.permissions;
            return Ok(Look::Decided(admit_application(
                login,
                tenant_id,
                &tenant,
                name,
                permissions,
            )));
        }
    }
    Ok(Look::Slow(slow))
}

/// `{name}@{tenant}`, split at the first `@`. What cannot be a tenant is nobody's.
fn split(username: &str) -> Option<(&str, TenantId)> {
    let (name, tenant) = username.split_once('@')?;
    if name.is_empty() {
        return None;
    }
    Some((name, TenantId::parse(tenant).ok()?))
}

fn admit_device(
    view: &View,
    login: &Login<'_>,
    tenant: TenantId,
    tenant_document: &Tenant,
    device: &str,
) -> Result<Result<Principal, Refusal>, redb::Error> {
    if !tenant_document.enabled {
        return Ok(Err(Refusal::TenantDisabled));
    }
    if !tenant_document.adapter_enabled(login.adapter.type_name()) {
        return Ok(Err(Refusal::AdapterDisabled));
    }
    let Some(document) = view.device(tenant.as_str(), device)? else {
        return Ok(Err(Refusal::DeviceUnknown));
    };
    if !document.enabled {
        return Ok(Err(Refusal::DeviceDisabled));
    }
    let Ok(id) = DeviceId::parse(device) else { return Ok(Err(Refusal::DeviceUnknown)) };
    let is_gateway = view.is_gateway(tenant.as_str(), device, &document)?;
    let messaging = match login.adapter {
        Adapter::Mqtt => MessagingRights::of_device(tenant_document, &id),
        Adapter::Http => MessagingRights::default(),
    };
    let peer = Peer::Device { device: id, is_gateway };
    Ok(Ok(admitted(tenant, tenant_document, peer, messaging)))
}

/// Adapters are not asked: they govern how a tenant's devices may come, not its applications.
fn admit_application(
    login: &Login<'_>,
    tenant: TenantId,
    tenant_document: &Tenant,
    name: &str,
    permissions: Vec<fulcrum_contract::registry::Permission>,
) -> Result<Principal, Refusal> {
    if !tenant_document.enabled {
        return Err(Refusal::TenantDisabled);
    }
    let application = ApplicationId::parse(name).map_err(|_| Refusal::BadCredentials)?;
    let messaging = match login.adapter {
        Adapter::Mqtt => MessagingRights::of_application(tenant_document, &permissions),
        Adapter::Http => MessagingRights::default(),
    };
    let peer = Peer::Application { application, permissions };
    Ok(admitted(tenant, tenant_document, peer, messaging))
}

fn admitted(
    tenant: TenantId,
    tenant_document: &Tenant,
    peer: Peer,
    messaging: MessagingRights,
) -> Principal {
    let connections_max = tenant_document.connections_max();
    Principal { tenant, peer, messaging, valid_until_ms: None, connections_max }
}
