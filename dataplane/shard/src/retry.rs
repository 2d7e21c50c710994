//! What the store or the journal had no room for: done again every [`RETRY`] until it is taken.
//!
//! Bounds: loads and rechecks are one per device or connection of this shard; reports and forgetting are one per command
//! this node has delivered, and commands stop coming while the store cannot be asked for more.

use crate::connections::{Key, Protocol};
use crate::gateways::Unasked;
use crate::identity::Adapter;
use crate::limits::{RECHECKS_AT_ONCE, REPORTS_WAITING_MAX};
use crate::plane::Plane;
use fulcrum_ring::Io;
use fulcrum_router::LinkId;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How soon what was refused is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// A command, by tenant, device and id.
pub(crate) struct Named {
    pub tenant: Arc<str>,
    pub device: Arc<str>,
    pub id: String,
}

#[derive(Default)]
pub(crate) struct Retry {
    /// Devices whose commands could not be asked for.
    pub loads: HashSet<(Arc<str>, Arc<str>)>,
    /// What became of commands, not in the journal yet.
    reports: VecDeque<(Named, u16)>,
    /// Commands the store has not been told to forget.
    forgets: VecDeque<Named>,
    /// Devices without a consumer that may have a gateway.
    pub unclaimed: HashSet<(Arc<str>, Arc<str>)>,
    /// Commands for a gateway the registry could not be asked about.
    pub unasked: Vec<Unasked>,
    /// Devices whose connection, of this shard, could not take a command when it came.
    pub blocked: HashSet<(Arc<str>, Arc<str>, LinkId)>,
    /// Connections whose peer may not be allowed any more.
    rechecks: VecDeque<Key>,
}

impl Retry {
    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty()
            && self.reports.is_empty()
            && self.forgets.is_empty()
            && self.rechecks.is_empty()
            && self.unclaimed.is_empty()
            && self.unasked.is_empty()
            && self.blocked.is_empty()
    }
}

impl Plane {
    /// Tries everything again once.
    pub(crate) fn retry(&mut self, io: &mut Io<'_>) {
        for _ in 0..self.retry.forgets.len() {
            let Some(command) = self.retry.forgets.pop_front() else { break };
            self.forget_command(command);
        }
        for _ in 0..self.retry.reports.len() {
            let before = self.retry.reports.len();
            let Some((command, status)) = self.retry.reports.pop_front() else { break };
            self.report(command, status);
            if self.retry.reports.len() == before {
                // It is the last now. What the others want, the next time shows.
                break;
            }
        }
        for (tenant, device) in std::mem::take(&mut self.retry.loads) {
            let next = self.commands.arrived(&tenant, &device, self.now);
            self.dispatch(io, tenant, device, next);
        }
        self.retry_gateways(io);
        self.recheck_some();
    }

    /// Keeps a report the journal has no room for now; gives it back if too many wait.
    pub(crate) fn report_later(&mut self, command: Named, status: u16) -> Result<(), Named> {
        if self.retry.reports.len() >= REPORTS_WAITING_MAX {
            return Err(command);
        }
        self.retry.reports.push_back((command, status));
        Ok(())
    }

    /// Has the store forget a command that is over.
    pub(crate) fn forget_command(&mut self, command: Named) {
        let Named { tenant, device, id } = &command;
        match self.registry.command_done(tenant, device, id) {
            Ok(()) => self.commands.told(tenant, device, id),
            Err(_) => self.retry.forgets.push_back(command),
        }
    }

    /// Asks for every connection that stays open whether its peer still may be connected; HTTP sessions ask by
    /// themselves with their next request.
    pub(crate) fn recheck_all(&mut self) {
        let stays = |protocol: &Protocol| !matches!(protocol, Protocol::Http(_));
        let keys = self.connections.keys(|connection| stays(&connection.protocol));
        self.retry.rechecks = keys.into();
        self.recheck_some();
    }

    /// Asks for one connection.
    pub(crate) fn recheck(&mut self, key: Key) {
        self.retry.rechecks.push_back(key);
    }

    /// The store is everybody's: it is asked for a few at a time.
    fn recheck_some(&mut self) {
        for _ in 0..RECHECKS_AT_ONCE {
            let Some(key) = self.retry.rechecks.pop_front() else { return };
            let Some(connection) = self.connections.by_key(key) else { continue };
            let (adapter, principal) = match &connection.protocol {
                Protocol::Mqtt(session) => (Adapter::Mqtt, session.principal()),
                Protocol::Amqp(session) => (Adapter::Amqp, session.principal()),
                Protocol::Http(_) => continue,
            };
            let Some(principal) = principal else { continue };
            if self.registry.recheck(adapter, principal).is_err() {
                return self.retry.rechecks.push_front(key);
            }
        }
    }
}
