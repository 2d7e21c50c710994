//! The shards' way to the registry's replica: questions go to threads that may block, answers come back as messages.

use fulcrum_contract::registry::Permission;
use fulcrum_contract::{ApplicationId, CommandId, DeviceId, TenantId};
use fulcrum_identity::{Identity, KnownLogins, Lesson, Proof, Verdict, Verifier};
use fulcrum_shard::{
    Adapter, Busy, Command, Login, Message, PENDING_COMMANDS_MAX, Principal, Refusal, Registry,
    Role, ShardHandle, Ticket,
};
use presence::Presences;
use principal::{has_its_rights, shard_principal};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub mod presence;
mod principal;

/// How long an answer is offered to a shard whose control queue is full before it is given up.
const OFFER_TRIES: u32 = 50;
/// The same where the shard waits for that answer alone: a minute.
const PATIENT_TRIES: u32 = 30_000;
const OFFER_PAUSE: Duration = Duration::from_millis(2);

/// The registry as one shard sees it.
pub struct ShardRegistry {
    /// Connections of each tenant that has a limit.
    pub connections: Arc<TenantConnections>,
    pub verifier: Arc<Verifier>,
    /// Logins the shard need not ask about.
    pub known: KnownLogins<Principal>,
    /// The shard's number.
    pub index: u16,
    pub shard: ShardHandle,
    /// All shards, by number.
    pub shards: Arc<[ShardHandle]>,
    pub presences: Arc<Presences>,
}

/// Connections of tenants with a limit, over all shards.
#[derive(Default)]
pub struct TenantConnections(Mutex<HashMap<Arc<str>, Arc<AtomicU64>>>);

impl TenantConnections {
    fn of(&self, tenant: &Arc<str>) -> Arc<AtomicU64> {
        // Held for a look-up; a poisoned map is as good as any other.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(tenant.clone()).or_default().clone()
    }
}

impl Registry for ShardRegistry {
    fn connections_of(&mut self, tenant: &Arc<str>) -> Arc<AtomicU64> {
        self.connections.of(tenant)
    }

    fn authenticate(
        &mut self,
        ticket: Ticket,
        adapter: Adapter,
        login: Login,
    ) -> Result<Option<Principal>, Busy> {
        let (adapter, now_ms) = (identity_adapter(adapter), unix_ms());
        let shown = match &login {
            Login::Password { username, password, .. } => {
                self.known.shown(adapter, username, password.expose())
            }
            Login::Certificate { .. } => None,
        };
        if let Some(principal) = shown.and_then(|shown| self.known.find(&shown, now_ms)) {
            return Ok(Some(principal));
        }
        let lesson = shown.map(|shown| self.known.lesson(shown));
        let shard = self.shard.clone();
        let answer = Box::new(move |verdict| {
            let result = answer_of(verdict, lesson);
            offer(&shard, Message::Authenticated { ticket, result });
        });
        let login = fulcrum_identity::Login { proof: identity_proof(login), adapter, now_ms };
        self.verifier.submit(login, answer).map_err(|_| Busy)?;
        Ok(None)
    }

    fn authorise(
        &mut self,
        ticket: Ticket,
        adapter: Adapter,
        tenant: &Arc<str>,
        gateway: &Arc<str>,
        device: &str,
    ) -> Result<(), Busy> {
        let shard = self.shard.clone();
        let (tenant, gateway, device) = (tenant.clone(), gateway.clone(), device.to_owned());
        self.store(move |identity| {
            let result = authorise(identity, adapter, &tenant, &gateway, &device);
            offer(&shard, Message::Authorised { ticket, device, result });
        })
    }

    fn recheck(&mut self, adapter: Adapter, principal: &Principal) -> Result<(), Busy> {
        let (shard, principal) = (self.shard.clone(), principal.clone());
        self.store(move |identity| {
            let Principal { tenant, name, role, .. } = &principal;
            let may_stay = match role {
                Role::Device => may_be_connected(identity, Some(adapter), tenant, name),
                Role::Application { may_consume } => {
                    application_may_be_connected(identity, tenant, name, *may_consume)
                }
            };
            // HTTP knows no messaging addresses, and each of its requests authenticates.
            let is_as_it_was = adapter != Adapter::Mqtt || has_its_rights(identity, &principal);
            if !may_stay || !is_as_it_was {
                let Principal { tenant, name, .. } = principal;
                offer(&shard, Message::Evict { tenant, device: Some(name) });
            }
        })
    }

    fn load_commands(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Result<(), Busy> {
        let shard = self.shard.clone();
        let (tenant, device) = (tenant.clone(), device.clone());
        self.store(move |identity| {
            let commands = pending(identity, &tenant, &device);
            offer(&shard, Message::Commands { tenant, device, commands });
        })
    }

    fn command_done(&mut self, tenant: &Arc<str>, device: &Arc<str>, id: &str) -> Result<(), Busy> {
        let Some((tenant, device)) = parsed(tenant, device) else { return Ok(()) };
        let Ok(command) = CommandId::parse(id) else { return Ok(()) };
        self.store(move |identity| {
            if let Err(error) = identity.command_done(&tenant, &device, &command) {
                tracing::error!(%error, "cannot forget a delivered command; the device may see it again");
            }
        })
    }

    fn present(&mut self, tenant: &Arc<str>, device: &Arc<str>) {
        self.presences.desk((tenant.clone(), device.clone()), true);
    }

    fn absent(&mut self, tenant: &Arc<str>, device: &Arc<str>) {
        self.presences.desk((tenant.clone(), device.clone()), false);
    }

    fn gateways_of(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Result<(), Busy> {
        let shard = self.shard.clone();
        let (tenant, device) = (tenant.clone(), device.clone());
        self.store(move |identity| {
            let gateways = gateways_of(identity, &tenant, &device);
            offer(&shard, Message::Gateways { tenant, device, gateways });
        })
    }

    fn gateway_present(&mut self, tenant: &Arc<str>, gateway: &Arc<str>) {
        self.presences.gateway((tenant.clone(), gateway.clone()), self.index, true);
        self.settle_gateways();
    }

    fn gateway_absent(&mut self, tenant: &Arc<str>, gateway: &Arc<str>) {
        self.presences.gateway((tenant.clone(), gateway.clone()), self.index, false);
        self.settle_gateways();
    }
}

impl ShardRegistry {
    fn store(&self, work: impl FnOnce(&Identity) + Send + 'static) -> Result<(), Busy> {
        self.verifier.submit_store(Box::new(work)).map_err(|_| Busy)
    }

    fn settle_gateways(&self) {
        let (presences, shards) = (self.presences.clone(), self.shards.clone());
        if self.store(move |identity| presences.settle(identity, &shards)).is_err() {
            tracing::warn!(
                "the store has too much to do: a gateway's devices are looked at when the next gateway comes or goes"
            );
        }
    }
}

/// Gives a shard a message, from a thread that may wait a little: the shard empties its queue every turn.
pub fn offer(shard: &ShardHandle, message: Message) {
    offer_for(OFFER_TRIES, shard, message);
}

/// Gives a shard a message it cannot go on without, from a thread that has time.
pub fn offer_patiently(shard: &ShardHandle, message: Message) {
    offer_for(PATIENT_TRIES, shard, message);
}

/// False if the shard had no room all the time.
fn offer_for(tries: u32, shard: &ShardHandle, message: Message) -> bool {
    let mut message = message;
    for _ in 0..tries {
        match shard.send(message) {
            Ok(()) => return true,
            Err(back) => message = back,
        }
        std::thread::sleep(OFFER_PAUSE);
    }
    tracing::error!("a shard does not empty its control queue; an answer is lost");
    false
}

/// What the shard is told; it remembers what it may.
fn answer_of(verdict: Verdict, lesson: Option<Lesson<Principal>>) -> Result<Principal, Refusal> {
    let principal = shard_principal(verdict.result.map_err(shard_refusal)?);
    if let (Some(lesson), Some(standing)) = (lesson, verdict.standing) {
        lesson.learn(standing, principal.clone());
    }
    Ok(principal)
}

fn authorise(
    identity: &Identity,
    adapter: Adapter,
    tenant: &Arc<str>,
    gateway: &Arc<str>,
    device: &str,
) -> Result<(), Refusal> {
    let (tenant, gateway) = parsed(tenant, gateway).ok_or(Refusal::NotFound)?;
    let device = DeviceId::parse(device).map_err(|_| Refusal::NotFound)?;
    let adapter = identity_adapter(adapter);
    identity.authorise(&tenant, &gateway, &device, adapter).map_err(shard_refusal)
}

/// Whether a device is registered and enabled in a tenant that is too. An unreadable store evicts nobody.
pub fn may_be_connected(
    identity: &Identity,
    adapter: Option<Adapter>,
    tenant: &str,
    device: &str,
) -> bool {
    let Some((tenant, device)) = parsed(tenant, device) else { return false };
    match identity.device_state(&tenant, &device) {
        Ok(state) => match adapter {
            Some(adapter) => state.check(identity_adapter(adapter)).is_ok(),
            None => state.tenant_enabled == Some(true) && state.device_enabled == Some(true),
        },
        Err(_) => true,
    }
}

/// Whether an application is enabled in a tenant that is too, and still has the permission it came with.
pub fn application_may_be_connected(
    identity: &Identity,
    tenant: &str,
    application: &str,
    may_consume: bool,
) -> bool {
    let (Ok(tenant), Ok(application)) =
        (TenantId::parse(tenant), ApplicationId::parse(application))
    else {
        return false;
    };
    match (identity.tenant(&tenant), identity.application(&tenant, &application)) {
        (Ok(tenant), Ok(document)) => {
            tenant.is_some_and(|tenant| tenant.enabled)
                && document.is_some_and(|document| {
                    document.enabled
                        && (!may_consume || document.permissions.contains(&Permission::Consume))
                })
        }
        _ => true,
    }
}

fn pending(identity: &Identity, tenant: &Arc<str>, device: &Arc<str>) -> Vec<Command> {
    let Some((tenant, device)) = parsed(tenant, device) else { return Vec::new() };
    match identity.pending_commands(&tenant, &device, PENDING_COMMANDS_MAX) {
        Ok(commands) => commands.into_iter().map(shard_command).collect(),
        Err(error) => {
            tracing::error!(%error, "cannot read a device's commands; they wait");
            Vec::new()
        }
    }
}

/// An unreadable store knows of none: the device is looked for again with its next command.
fn gateways_of(identity: &Identity, tenant: &Arc<str>, device: &Arc<str>) -> Vec<String> {
    let Some((tenant, device)) = parsed(tenant, device) else { return Vec::new() };
    match identity.gateways_of(&tenant, &device) {
        Ok(gateways) => gateways.into_iter().map(String::from).collect(),
        Err(error) => {
            tracing::error!(%error, "cannot read a device's gateways; its commands wait");
            Vec::new()
        }
    }
}

fn parsed(tenant: &str, device: &str) -> Option<(TenantId, DeviceId)> {
    Some((TenantId::parse(tenant).ok()?, DeviceId::parse(device).ok()?))
}

fn shard_command(command: fulcrum_contract::commands::Command) -> Command {
    Command {
        id: command.id.into(),
        subject: command.subject,
        response_required: command.response_required,
        payload: command.payload,
        deliver_by_ms: command.deliver_by_ms,
    }
}

fn shard_refusal(refusal: fulcrum_identity::Refusal) -> Refusal {
    use fulcrum_identity::Refusal as Cause;
    match refusal {
        Cause::BadCredentials => Refusal::BadCredentials,
        Cause::TenantDisabled | Cause::AdapterDisabled | Cause::GatewayNotAuthorised => {
            Refusal::Forbidden
        }
        Cause::TenantUnknown | Cause::DeviceUnknown | Cause::DeviceDisabled => Refusal::NotFound,
        Cause::Unavailable => Refusal::Unavailable,
    }
}

fn identity_proof(login: Login) -> Proof {
    match login {
        Login::Password { username, password, client_id } => {
            let password = fulcrum_identity::Password::new(password.expose());
            Proof::Password { username, password, client_id }
        }
        Login::Certificate { chain, server_name } => Proof::Certificate { chain, server_name },
    }
}

fn identity_adapter(adapter: Adapter) -> fulcrum_identity::Adapter {
    match adapter {
        Adapter::Mqtt => fulcrum_identity::Adapter::Mqtt,
        Adapter::Http => fulcrum_identity::Adapter::Http,
        Adapter::Amqp => fulcrum_identity::Adapter::Amqp,
    }
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
