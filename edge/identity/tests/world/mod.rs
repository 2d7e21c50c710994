//! A small world to log in to, and pages of the feed that make it.
#![allow(dead_code, reason = "each test program uses its part")]

use fulcrum_contract::commands::Command;
use fulcrum_contract::feed::{Change, ChangePage, Entity};
use fulcrum_contract::registry::{Application, Credential, CredentialType, Device, Secret, Tenant};
use fulcrum_contract::{ApplicationId, CommandId, DeviceId, TenantId};
use fulcrum_identity::{Adapter, Identity, Login, Peer, Principal, Proof, Refusal};
use tempfile::TempDir;

/// 2026-03-01T08:00:00Z.
pub const NOW_MS: u64 = 1_772_352_000_000;

/// "Fulcrum-1", made with libxcrypt.
pub const BCRYPT_OF_FULCRUM_1: &str =
    "$2a$04$abcdefghijklmnopqrstuuDHVNxtZdeGF/DqEjQPhRlkrhFtx78F.";
/// "hono-secret", made with Python's hashlib.
pub const SHA256_OF_HONO_SECRET: &str = "1kkUGFVe8TyUi+9KxFPkOXRFU0drt2mO5xLRRrBOkHY=";
/// "hono-secret", made with Python's hashlib.
pub const SHA512_OF_HONO_SECRET: &str =
    "jZxT1LMIku7OjiOWEJqRiWrUxSwDy444S8xz9GLKvz9hoaOsxCjhUGtCJD4+cowTjzzvz2piN424BZLsFoWkSA==";
/// "application-secret", made with Python's hashlib.
pub const SHA256_OF_APPLICATION_SECRET: &str = "yeBkBEYruoIFgTNefJuUD8jAPb41jmiuj1Ozaa6dDmo=";

/// A store in a folder of its own, fed page by page.
pub struct World {
    pub folder: TempDir,
    pub identity: Identity,
    pub feed: String,
    pub cursor: u64,
}

impl World {
    pub fn empty() -> World {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::open(&folder.path().join("identity.redb")).unwrap();
        World { folder, identity, feed: "feed-1".into(), cursor: 0 }
    }

    /// Tenant `t`, device `d` with user `sensor` and a bcrypt password, application `app`.
    pub fn ready() -> World {
        let mut world = World::empty();
        world.apply(vec![
            tenant("t", Some(Tenant::default())),
            device("t", "d", Some(Device::default())),
            credentials("t", "d", Some(vec![password("sensor", bcrypt_secret())])),
            application("t", "app", Some(application_document())),
        ]);
        world
    }

    pub fn page(&mut self, entities: Vec<Entity>) -> ChangePage {
        let changes = entities.into_iter().map(|entity| {
            self.cursor += 1;
            Change { version: self.cursor, entity }
        });
        let changes = changes.collect();
        ChangePage { feed: self.feed.clone(), changes, cursor: self.cursor, more: false }
    }

    pub fn apply(&mut self, entities: Vec<Entity>) -> fulcrum_identity::Applied {
        let page = self.page(entities);
        self.identity.apply(&page).unwrap()
    }

    /// Closes the store and opens its file again.
    pub fn reopen(self) -> World {
        let World { folder, identity, feed, cursor } = self;
        drop(identity);
        let identity = Identity::open(&folder.path().join("identity.redb")).unwrap();
        World { folder, identity, feed, cursor }
    }

    pub fn login(&self, username: &str, password: &str) -> Result<Principal, Refusal> {
        self.login_at(username, password, NOW_MS)
    }

    pub fn login_at(
        &self,
        username: &str,
        password: &str,
        now_ms: u64,
    ) -> Result<Principal, Refusal> {
        let proof = Proof::password(username, password.as_bytes());
        self.present(proof, now_ms)
    }

    /// Logs in over MQTT.
    pub fn present(&self, proof: Proof, now_ms: u64) -> Result<Principal, Refusal> {
        self.identity.authenticate(&Login { proof, adapter: Adapter::Mqtt, now_ms }).result
    }

    /// Whether the login is decided without computing bcrypt.
    pub fn is_quick(&self, username: &str, password: &str) -> bool {
        let proof = Proof::password(username, password.as_bytes());
        let login = Login { proof, adapter: Adapter::Http, now_ms: NOW_MS };
        self.identity.authenticate_quickly(&login).is_some()
    }
}

pub fn tenant_id(text: &str) -> TenantId {
    text.parse().unwrap()
}

pub fn device_id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

pub fn command_id(text: &str) -> CommandId {
    text.parse().unwrap()
}

pub fn application_id(text: &str) -> ApplicationId {
    text.parse().unwrap()
}

pub fn the_device() -> Principal {
    Principal {
        tenant: tenant_id("t"),
        peer: Peer::Device { device: device_id("d"), is_gateway: false },
        messaging: Default::default(),
        valid_until_ms: None,
        connections_max: None,
    }
}

pub fn tenant(id: &str, document: Option<Tenant>) -> Entity {
    Entity::Tenant { tenant: tenant_id(id), document }
}

pub fn device(tenant: &str, id: &str, document: Option<Device>) -> Entity {
    Entity::Device { tenant: tenant_id(tenant), device: device_id(id), document }
}

pub fn credentials(tenant: &str, device: &str, document: Option<Vec<Credential>>) -> Entity {
    Entity::Credentials { tenant: tenant_id(tenant), device: device_id(device), document }
}

pub fn application(tenant: &str, id: &str, document: Option<Application>) -> Entity {
    Entity::Application { tenant: tenant_id(tenant), application: application_id(id), document }
}

pub fn command(tenant: &str, device: &str, id: &str, document: Option<Command>) -> Entity {
    Entity::Command {
        tenant: tenant_id(tenant),
        device: device_id(device),
        command: command_id(id),
        document,
    }
}

/// A command that waits forever.
pub fn waiting(id: &str, sequence: u64) -> Option<Command> {
    Some(Command {
        id: command_id(id),
        sequence,
        subject: "blink".into(),
        response_required: false,
        content_type: None,
        payload: vec![1, 2, 3],
        created_ms: NOW_MS,
        deliver_by_ms: None,
    })
}

/// A command that expires.
pub fn expiring(id: &str, sequence: u64, deliver_by_ms: u64) -> Option<Command> {
    waiting(id, sequence).map(|command| Command { deliver_by_ms: Some(deliver_by_ms), ..command })
}

pub fn password(auth_id: &str, secret: Secret) -> Credential {
    Credential {
        credential_type: CredentialType::HashedPassword,
        auth_id: auth_id.into(),
        enabled: true,
        ext: Default::default(),
        secrets: vec![secret],
    }
}

pub fn bcrypt_secret() -> Secret {
    secret("bcrypt", BCRYPT_OF_FULCRUM_1)
}

pub fn sha_secret() -> Secret {
    secret("sha-256", SHA256_OF_HONO_SECRET)
}

pub fn secret(function: &str, hash: &str) -> Secret {
    Secret {
        hash_function: Some(function.into()),
        pwd_hash: Some(hash.into()),
        ..Secret::default()
    }
}

pub fn application_document() -> Application {
    Application {
        enabled: true,
        permissions: Application::all_permissions(),
        password_sha256: Some(SHA256_OF_APPLICATION_SECRET.into()),
    }
}
