//! Who is this?
//!
//! A password:
//! 1. The user name names a tenant and, in it, a device's credentials or an application: credentials first, since the
//!    two kinds of names may collide. Where no device has a password under that name, one that is a JSON Web Token is
//!    taken for what it says ([`crate::token`]).
//! 2. A *look* compares the password with everything that is quick: SHA-2, applications, and pairs of a slow secret
//!    and a password known from before ([`crate::memo`]).
//! 3. Where only bcrypt or a token's signature can tell, it is computed outside any transaction; then a second look, at
//!    the store as it is by then, decides.
//! 4. Only who has proved the credentials learns more than "bad credentials": that the tenant, adapter or device is
//!    disabled. Every bad attempt costs bcrypt once, known user or not.
//!
//! 5. A login that is good with a password of the registry is told how long it is: see [`crate::known`].
//!
//! A certificate: see [`crate::chain`]. It always counts as slow.

use crate::error::IdentityError;
use crate::known::Standing;
use crate::limits::SLOW_SECRETS_MAX;
use crate::login::{Adapter, Login, Password, Peer, Principal, Proof};
use crate::memo::{Fingerprint, Memo};
use crate::refusal::Refusal;
use crate::replica::{Identity, View};
use crate::rights::MessagingRights;
use crate::secrets::{self, Match};
use crate::token::{self, Token};
use fulcrum_contract::registry::{Credential, CredentialType, Permission, Secret, Tenant};
use fulcrum_contract::{ApplicationId, DeviceId, TenantId};

/// What was decided on a login.
#[derive(Debug)]
pub struct Verdict {
    /// Who it is, or why not.
    pub result: Result<Principal, Refusal>,
    /// How long the same may be taken for good, where that is known.
    pub standing: Option<Standing>,
}

impl From<Result<Principal, Refusal>> for Verdict {
    fn from(result: Result<Principal, Refusal>) -> Verdict {
        Verdict { result, standing: None }
    }
}

impl Identity {
    /// Decides on a login. Takes microseconds, or where bcrypt or a signature has to be computed as long as that.
    pub fn authenticate(&self, login: &Login) -> Verdict {
        let presented = match Presented::of(login) {
            Ok(presented) => presented,
            Err((chain, server_name)) => {
                return self.authenticate_certificate(login, chain, server_name).into();
            }
        };
        match self.look(&presented, None) {
            Ok(Look::Decided(verdict)) => verdict,
            Ok(Look::Slow(candidates)) => self.compute(&presented, &candidates),
            Err(refusal) => Err(refusal).into(),
        }
    }

    /// Decides on a login if nothing slow has to be computed for it. Refusing bad credentials counts as slow.
    pub fn authenticate_quickly(&self, login: &Login) -> Option<Verdict> {
        match self.look(&Presented::of(login).ok()?, None) {
            Ok(Look::Decided(verdict)) => Some(verdict),
            Ok(Look::Slow(_)) => None,
            Err(refusal) => Some(Err(refusal).into()),
        }
    }

    fn compute(&self, presented: &Presented<'_>, candidates: &[SlowSecret]) -> Verdict {
        let (memo, password) = (&self.inner.memo, presented.password);
        let mut spent: u64 = 0;
        for candidate in candidates {
            spent += candidate.bcrypt_rounds();
            if candidate.matches(password) {
                let proved = memo.fingerprint(candidate.text(), password);
                memo.learn(proved);
                return match self.look(presented, Some(&proved)) {
                    Ok(Look::Decided(verdict)) => verdict,
                    // The secret was changed or removed while it was computed.
                    Ok(Look::Slow(_)) => Err(Refusal::BadCredentials).into(),
                    Err(refusal) => Err(refusal).into(),
                };
            }
        }
        secrets::spend_the_cost_of_a_refusal(spent, password);
        Err(Refusal::BadCredentials).into()
    }

    fn look(
        &self,
        presented: &Presented<'_>,
        proved: Option<&Fingerprint>,
    ) -> Result<Look, Refusal> {
        let known = Known { memo: &self.inner.memo, password: presented.password, proved };
        // Before the store is read: a page that comes into force in between makes what follows void, not lasting.
        let edition = split(presented.username).map(|(_, tenant)| self.inner.editions.of(&tenant));
        let found = self.inner.read(|view| look(view, &known, presented));
        let found = found.map_err(|error| unavailable(&error))?;
        Ok(match found {
            Found::Decided { result, until_ms } => {
                let from_ms = presented.login.now_ms;
                let lasts = edition.zip(until_ms).filter(|_| result.is_ok());
                let standing =
                    lasts.map(|(edition, until_ms)| Standing { edition, from_ms, until_ms });
                Look::Decided(Verdict { result, standing })
            }
            Found::Slow(candidates) => Look::Slow(candidates),
        })
    }
}

/// The store failed: say so in the log, and to the client only that nobody can decide.
pub(crate) fn unavailable(error: &IdentityError) -> Refusal {
    tracing::error!(%error, "authentication is not available");
    Refusal::Unavailable
}

/// A login with a password.
pub(crate) struct Presented<'a> {
    username: &'a str,
    password: &'a [u8],
    pub(crate) client_id: &'a str,
    login: &'a Login,
}

impl<'a> Presented<'a> {
    /// The login, unless it is by certificate.
    fn of(login: &'a Login) -> Result<Presented<'a>, (&'a [Vec<u8>], Option<&'a str>)> {
        match &login.proof {
            Proof::Password { username, password, client_id } => {
                Ok(Presented { username, password: Password::as_bytes(password), client_id, login })
            }
            Proof::Certificate { chain, server_name } => Err((chain, server_name.as_deref())),
        }
    }
}

enum Look {
    Decided(Verdict),
    /// Not decided by anything quick; these secrets, if any, may still match.
    Slow(Vec<SlowSecret>),
}

/// A look at one state of the store.
enum Found {
    Decided {
        result: Result<Principal, Refusal>,
        /// Until when this state decides so for anybody who shows the same; `None` where that is not looked into.
        until_ms: Option<u64>,
    },
    Slow(Vec<SlowSecret>),
}

/// A secret that takes long to compare with.
enum SlowSecret {
    /// A bcrypt hash.
    Hash(String),
    /// The Base64 key that may have signed the token.
    Key(String),
}

impl SlowSecret {
    fn text(&self) -> &str {
        match self {
            SlowSecret::Hash(text) | SlowSecret::Key(text) => text,
        }
    }

    fn bcrypt_rounds(&self) -> u64 {
        match self {
            SlowSecret::Hash(hash) => secrets::bcrypt_cost(hash).map_or(0, |cost| 1 << cost),
            SlowSecret::Key(_) => 0,
        }
    }

    fn matches(&self, password: &[u8]) -> bool {
        match self {
            SlowSecret::Hash(hash) => secrets::bcrypt_matches(hash, password),
            SlowSecret::Key(key) => token::is_signed_with(password, key),
        }
    }
}

/// Pairs of a slow secret and this password that need not be computed.
struct Known<'a> {
    memo: &'a Memo,
    password: &'a [u8],
    proved: Option<&'a Fingerprint>,
}

impl Known<'_> {
    /// Whether the secret is known to match; if not, it is kept for being computed, up to a number.
    fn matches(&self, secret: SlowSecret, unknown: &mut Vec<SlowSecret>) -> bool {
        let fingerprint = self.memo.fingerprint(secret.text(), self.password);
        let known = self.proved == Some(&fingerprint) || self.memo.knows(&fingerprint);
        if !known && unknown.len() < SLOW_SECRETS_MAX {
            unknown.push(secret);
        }
        known
    }
}

fn look(view: &View, known: &Known<'_>, presented: &Presented<'_>) -> Result<Found, redb::Error> {
    let login = presented.login;
    if let Some((name, tenant_id)) = split(presented.username)
        && let Some(tenant) = view.tenant(tenant_id.as_str())?
    {
        let mut slow = Vec::new();
        let mut has_password = false;
        let mut until_ms = u64::MAX;
        if let Some((device, credentials)) = view.password_credentials(tenant_id.as_str(), name)? {
            until_ms = passwords_change_at(&credentials, name, login.now_ms);
            for secret in usable(&credentials, CredentialType::HashedPassword, name, login.now_ms) {
                has_password = true;
                let matches = match secrets::look(secret, presented.password) {
                    Match::Yes => true,
                    Match::No => false,
                    Match::Slow(hash) => known.matches(SlowSecret::Hash(hash), &mut slow),
                };
                if matches {
                    let result = admit_device(view, login, tenant_id, &tenant, &device)?;
                    return Ok(Found::Decided { result, until_ms: Some(until_ms) });
                }
            }
        }
        if let Some(application) = view.application(tenant_id.as_str(), name)? {
            let stored = application.password_sha256.as_deref().unwrap_or_default();
            let matches = secrets::is_application_password(stored, presented.password);
            if application.enabled && matches {
                let permissions = application.permissions;
                let result = admit_application(login, tenant_id, &tenant, name, permissions);
                return Ok(Found::Decided { result, until_ms: Some(until_ms) });
            }
        }
        if has_password {
            return Ok(Found::Slow(slow));
        }
    }
    match Token::read(presented.password) {
        Some(token) => look_at_token(view, known, presented, &token),
        None => Ok(Found::Slow(Vec::new())),
    }
}

fn look_at_token(
    view: &View,
    known: &Known<'_>,
    presented: &Presented<'_>,
    token: &Token,
) -> Result<Found, redb::Error> {
    let login = presented.login;
    let nobody = Found::Slow(Vec::new());
    if !token.is_valid_at(login.now_ms) {
        return Ok(nobody);
    }
    let Some((name, tenant_id)) = token.named(presented.client_id, split(presented.username))
    else {
        return Ok(nobody);
    };
    let Some(tenant) = view.tenant(tenant_id.as_str())? else { return Ok(nobody) };
    let Some((device, credentials)) = view.key_credentials(tenant_id.as_str(), &name)? else {
        return Ok(nobody);
    };
    let mut slow = Vec::new();
    for secret in usable(&credentials, CredentialType::Rpk, &name, login.now_ms) {
        let Some(key) = secrets::public_key(secret) else { continue };
        if known.matches(SlowSecret::Key(key), &mut slow) {
            let admitted = admit_device(view, login, tenant_id, &tenant, &device)?;
            let valid_until_ms = Some(token.valid_until_ms());
            let result = admitted.map(|principal| Principal { valid_until_ms, ..principal });
            // The token is void at a time of its own, and may be another's with the same user name.
            return Ok(Found::Decided { result, until_ms: None });
        }
    }
    Ok(Found::Slow(slow))
}

/// When the secrets among which a password is looked for are others next.
fn passwords_change_at(credentials: &[Credential], name: &str, now_ms: u64) -> u64 {
    credentials
        .iter()
        .filter(|credential| {
            credential.credential_type == CredentialType::HashedPassword
                && credential.auth_id == name
        })
        .flat_map(|credential| &credential.secrets)
        .map(|secret| secrets::changes_at(secret, now_ms))
        .min()
        .unwrap_or(u64::MAX)
}

/// Secrets of a name and kind that may be used now.
fn usable<'a>(
    credentials: &'a [Credential],
    credential_type: CredentialType,
    name: &'a str,
    now_ms: u64,
) -> impl Iterator<Item = &'a Secret> {
    credentials
        .iter()
        .filter(move |credential| {
            credential.enabled
                && credential.credential_type == credential_type
                && credential.auth_id == name
        })
        .flat_map(|credential| &credential.secrets)
        .filter(move |secret| secrets::is_valid_at(secret, now_ms))
}

/// `{name}@{tenant}`, split at the first `@`. What cannot be a tenant is nobody's.
fn split(username: &str) -> Option<(&str, TenantId)> {
    let (name, tenant) = username.split_once('@')?;
    if name.is_empty() {
        return None;
    }
    Some((name, TenantId::parse(tenant).ok()?))
}

/// Who has proved to be this device gets in if everything above and about it is enabled.
pub(crate) fn admit_device(
    view: &View,
    login: &Login,
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
        Adapter::Http | Adapter::Amqp => MessagingRights::default(),
    };
    let peer = Peer::Device { device: id, is_gateway };
    Ok(Ok(admitted(tenant, tenant_document, peer, messaging)))
}

/// Adapters are not asked: they govern how a tenant's devices may come, not its applications.
fn admit_application(
    login: &Login,
    tenant: TenantId,
    tenant_document: &Tenant,
    name: &str,
    permissions: Vec<Permission>,
) -> Result<Principal, Refusal> {
    if !tenant_document.enabled {
        return Err(Refusal::TenantDisabled);
    }
    let application = ApplicationId::parse(name).map_err(|_| Refusal::BadCredentials)?;
    let messaging = match login.adapter {
        Adapter::Mqtt => MessagingRights::of_application(tenant_document, &permissions),
        Adapter::Http | Adapter::Amqp => MessagingRights::default(),
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
