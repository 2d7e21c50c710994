//! Where commands wait: chosen when they are sent, changed when devices and edges come and go, ended by their deadline.

use super::Address;
use super::transition::{is_waiting, queue_at};
use crate::edges::Edge;
use crate::rows::{CommandRow, EdgeRow, Reference, decode};
use crate::store::{Expect, Item, Key, Scan, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use fulcrum_contract::commands::CommandState;
use fulcrum_contract::feed::Entity;
use fulcrum_contract::{CommandId, DeviceId, EdgeId, TenantId};

/// What becomes of a command that waits.
#[derive(Clone, Copy)]
enum Fate<'a> {
    Expired,
    QueuedAt(&'a Edge),
}

impl Fate<'_> {
    fn is_reached(self, row: &CommandRow) -> bool {
        match self {
            Fate::Expired => row.state == CommandState::Expired,
            Fate::QueuedAt(edge) => {
                row.edge.as_ref() == Some(&edge.id)
                    && row.incarnation.as_ref() == Some(&edge.incarnation)
            }
        }
    }

    fn apply(self, row: &mut CommandRow) {
        match self {
            Fate::Expired => row.state = CommandState::Expired,
            Fate::QueuedAt(edge) => queue_at(row, &edge.id, &edge.incarnation),
        }
    }
}

impl Cloud {
    /// Chooses the edge: where the device was last seen, else the only one that serves the tenant, else none for now. The steps
    /// returned make the write depend on what the choice was based on.
    pub(super) async fn assign(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        row: &mut CommandRow,
    ) -> Result<Vec<Write>, Error> {
        let home_key = keys::home(tenant, device);
        let home = self.one(home_key.clone()).await?;
        let mut checks =
            vec![Write::Check { key: home_key, expect: Expect::as_read(home.as_ref()) }];
        let serving = self.store.scan(Scan::partition(keys::edges_of(tenant), 2)).await?;
        let home = home.map(|home| decode::<Reference>(&home)).transpose()?.map(|home| home.id);
        let only = match &serving[..] {
            [only] => Some(only.sort.clone()),
            _ => None,
        };
        (row.state, row.edge, row.incarnation) = (CommandState::Stored, None, None);
        for candidate in [home, only].into_iter().flatten() {
            let Ok(edge) = EdgeId::parse(&candidate) else { continue };
            let Some(item) = self.one(keys::edge(&edge)).await? else { continue };
            let serves: EdgeRow = decode(&item)?;
            if serves.tenants.contains(tenant) {
                let (key, expect) = (keys::edge(&edge), Expect::as_read(Some(&item)));
                checks.push(Write::Check { key, expect });
                queue_at(row, &edge, &serves.incarnation);
                break;
            }
        }
        Ok(checks)
    }

    /// Does what is due: expires commands nobody took in time, removes those finished long ago. True if more is due.
    pub(crate) async fn commands_due(&self, now_ms: u64) -> Result<bool, Error> {
        const AT_ONCE: usize = 500;
        let until = Some(keys::number(now_ms.saturating_add(1)));
        let due =
            self.store.scan(Scan { until, ..Scan::partition(keys::DEADLINES, AT_ONCE) }).await?;
        for entry in &due {
            let mut parts = entry.sort.split('/').skip(1);
            let parsed = (|| {
                let tenant = TenantId::parse(parts.next()?).ok()?;
                let device = DeviceId::parse(parts.next()?).ok()?;
                Some((tenant, device, CommandId::parse(parts.next()?).ok()?))
            })();
            let Some((tenant, device, command)) = parsed else { continue };
            let address = Address { tenant: &tenant, device: &device, command: &command };
            let key = keys::command(&tenant, &device, &command);
            let entry_key = Key::new(keys::DEADLINES, entry.sort.clone());
            let drop_entry = Write::Delete { key: entry_key, expect: Expect::Anything };
            let Some(item) = self.one(key.clone()).await? else {
                self.store.write(vec![drop_entry]).await?;
                continue;
            };
            let row: CommandRow = decode(&item)?;
            if row.deadline_ms.is_none_or(|at_ms| at_ms > now_ms) {
                // It has moved since the entry was read, and that move took the entry along.
                continue;
            }
            if is_waiting(&row) {
                self.try_move(address, &item, now_ms, |row| row.state = CommandState::Expired)
                    .await?;
                continue;
            }
            let delete = Write::Delete { key, expect: Expect::as_read(Some(&item)) };
            match self.store.write(vec![delete, drop_entry]).await {
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(due.len() == AT_ONCE)
    }

    /// Ends the waiting commands of a device that is gone.
    pub(crate) async fn abandon_commands(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.move_waiting(tenant, device, Fate::Expired, now_ms).await
    }

    /// Queues every waiting command of the device at `edge`.
    pub(crate) async fn attract_commands(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        edge: &Edge,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.move_waiting(tenant, device, Fate::QueuedAt(edge), now_ms).await
    }

    /// Takes back what waits in the edge's feed for tenants it no longer serves.
    pub(crate) async fn release_commands(&self, edge: &Edge, now_ms: u64) -> Result<(), Error> {
        let scope = [keys::edge_scope(&edge.id, &edge.incarnation)];
        let mut after = 0;
        loop {
            let page = self.store.feed(&scope, after, 500, 1024 * 1024).await?;
            for entry in &page.entries {
                after = entry.version;
                let entity = serde_json::from_slice::<Entity>(&entry.value);
                let Ok(Entity::Command { tenant, device, command, document: Some(_) }) = entity
                else {
                    continue;
                };
                if !edge.serves(&tenant) {
                    let address = Address { tenant: &tenant, device: &device, command: &command };
                    self.reassign(address, now_ms).await?;
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn reassign(&self, address: Address<'_>, now_ms: u64) -> Result<(), Error> {
        let Address { tenant, device, command } = address;
        for _ in 0..ATTEMPTS {
            let Some(item) = self.one(keys::command(tenant, device, command)).await? else {
                return Ok(());
            };
            let before: CommandRow = decode(&item)?;
            if !is_waiting(&before) {
                return Ok(());
            }
            let mut after = before.clone();
            let mut writes = self.assign(tenant, device, &mut after).await?;
            writes.extend(self.transition(address, Some((&item, &before)), &mut after, now_ms));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::Busy)
    }

    /// Moves the waiting commands of a device, in their order.
    async fn move_waiting(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        fate: Fate<'_>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let limit = self.settings.waiting_commands_per_device + 1;
        let places = self.store.scan(Scan::partition(keys::waiting(tenant, device), limit)).await?;
        for place in places {
            let command =
                CommandId::parse(&decode::<Reference>(&place)?.id).map_err(Error::invalid)?;
            self.move_one(Address { tenant, device, command: &command }, fate, now_ms).await?;
        }
        Ok(())
    }

    async fn move_one(
        &self,
        address: Address<'_>,
        fate: Fate<'_>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let Address { tenant, device, command } = address;
        for _ in 0..ATTEMPTS {
            let item = self.one(keys::command(tenant, device, command)).await?;
            let Some(item) = item else { return Ok(()) };
            let before: CommandRow = decode(&item)?;
            if !is_waiting(&before) || fate.is_reached(&before) {
                return Ok(());
            }
            let Some(mut writes) = self.checks(address, fate).await? else { return Ok(()) };
            let mut after = before.clone();
            fate.apply(&mut after);
            writes.extend(self.transition(address, Some((&item, &before)), &mut after, now_ms));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::Busy)
    }

    /// What a move depends on: a command is queued at an edge only while the device's home is there and the edge serves the
    /// tenant. None if that is not so any more.
    async fn checks(
        &self,
        address: Address<'_>,
        fate: Fate<'_>,
    ) -> Result<Option<Vec<Write>>, Error> {
        let Fate::QueuedAt(edge) = fate else { return Ok(Some(Vec::new())) };
        let keys = [keys::home(address.tenant, address.device), keys::edge(&edge.id)];
        let read = self.store.read(&keys).await?;
        let [Some(home), Some(row)] = &read[..] else { return Ok(None) };
        let serves: EdgeRow = decode(row)?;
        let is_home = decode::<Reference>(home)?.id == edge.id.as_str();
        let is_same = serves.incarnation == edge.incarnation;
        if !is_home || !is_same || !serves.tenants.contains(address.tenant) {
            return Ok(None);
        }
        let check = |(key, item)| Write::Check { key, expect: Expect::as_read(Some(item)) };
        Ok(Some(keys.into_iter().zip([home, row]).map(check).collect()))
    }

    /// Changes a command's row; false if somebody else was faster.
    pub(super) async fn try_move(
        &self,
        address: Address<'_>,
        item: &Item,
        now_ms: u64,
        change: impl FnOnce(&mut CommandRow),
    ) -> Result<bool, Error> {
        let before: CommandRow = decode(item)?;
        let mut after = before.clone();
        change(&mut after);
        let writes = self.transition(address, Some((item, &before)), &mut after, now_ms);
        match self.store.write(writes).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
