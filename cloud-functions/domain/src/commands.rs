//! Commands: kept until the device is there, in order per device, reported on until they are final.
//!
//! ```text
//!   send ─> Stored ──presence──> Queued ──edge reports──> Delivered ──device answers──> Succeeded | Failed
//!             └──────────── deadline ──────────────────> Expired
//! ```
//!
//! Invariants:
//! - A command waits in at most one edge's feed. It leaves the feed in the write that says it was delivered or is over.
//! - Commands of one device have a dense sequence; the edge delivers in its order.
//! - An edge's report is the truth: it also moves a command that the cloud side took for expired.

use crate::changes::left_ms;
use crate::registry::{Listed, Page, put};
use crate::rows::{CommandRow, NumberRow, decode};
use crate::secrets::{new_id, sha256_base64};
use crate::store::{Expect, Scan, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use fulcrum_contract::commands::{CommandRequest, CommandState, CommandView};
use fulcrum_contract::{CommandId, DeviceId, TenantId};

mod queue;
mod request;
mod transition;

use transition::is_waiting;
pub(crate) use transition::{Report, report};

/// Which command.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    pub tenant: &'a TenantId,
    pub device: &'a DeviceId,
    pub command: &'a CommandId,
}

impl Cloud {
    /// Takes a command for a device. The same request again, under the same id, changes nothing.
    pub async fn send_command(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        request: CommandRequest,
        now_ms: u64,
    ) -> Result<CommandView, Error> {
        request::check(&request)?;
        let request_sha256 = sha256_base64(&serde_json::to_vec(&request).map_err(Error::invalid)?);
        let id = request.id.clone().map_or_else(|| CommandId::parse(&new_id()), Ok);
        let id = id.map_err(Error::invalid)?;
        let address = Address { tenant, device, command: &id };
        for _ in 0..ATTEMPTS {
            let present = self.device_item(tenant, device).await?;
            if let Some(item) = self.one(keys::command(tenant, device, &id)).await? {
                let row: CommandRow = decode(&item)?;
                if row.request_sha256 != request_sha256 {
                    return Err(Error::Exists(format!(
                        "there is another command with the id '{id}': use a new id for a new command"
                    )));
                }
                return Ok(view(address, row));
            }
            self.check_place(tenant, device).await?;
            let sequence_key = keys::command_sequence(tenant, device);
            let last = self.one(sequence_key.clone()).await?;
            let sequence = last.as_ref().map(decode::<NumberRow>).transpose()?;
            let sequence = sequence.map_or(0, |row| row.value) + 1;
            let mut row = CommandRow {
                command: request::command(&request, &id, sequence, now_ms),
                state: CommandState::Stored,
                edge: None,
                incarnation: None,
                response: None,
                deadline_ms: None,
                request_sha256: request_sha256.clone(),
            };
            let mut writes = self.assign(tenant, device, &mut row).await?;
            // A deletion ends what waits; a command that passed it would wait for the next device of that name.
            let (key, expect) = (keys::device(tenant, device), Expect::as_read(Some(&present)));
            writes.push(Write::Check { key, expect });
            let number = NumberRow { value: sequence };
            writes.push(put(sequence_key, &number, Expect::as_read(last.as_ref())));
            writes.extend(self.transition(address, None, &mut row, now_ms));
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(|_| view(address, row))?),
            }
        }
        Err(Error::Busy)
    }

    /// What has become of a command; waits up to `wait_s` seconds for it to be final.
    pub async fn command(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        id: &CommandId,
        wait_s: u64,
        now_ms: u64,
    ) -> Result<CommandView, Error> {
        let address = Address { tenant, device, command: id };
        let until = self.wait_until(wait_s);
        let started = std::time::Instant::now();
        loop {
            let mut watch = self.store.watch(vec![keys::commands(tenant, device)]);
            let now_ms = now_ms + started.elapsed().as_millis() as u64;
            let row = self.command_now(address, now_ms).await?;
            let left_ms = left_ms(until);
            if row.state.is_final(row.command.response_required) || left_ms == 0 {
                return Ok(view(address, row));
            }
            let deadline_ms = row.deadline_ms.map(|at_ms| at_ms.saturating_sub(now_ms) + 1);
            watch.changed(left_ms.min(deadline_ms.unwrap_or(u64::MAX))).await;
        }
    }

    /// Commands of a device by id.
    pub async fn commands(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        page: Page,
    ) -> Result<Listed<CommandView>, Error> {
        let listed = self.list(&keys::commands(tenant, device), page).await?;
        listed.try_map(|item| {
            let row: CommandRow = decode(&item)?;
            let id = row.command.id.clone();
            Ok(view(Address { tenant, device, command: &id }, row))
        })
    }

    /// The command as of now: one past its deadline is expired on sight.
    async fn command_now(&self, address: Address<'_>, now_ms: u64) -> Result<CommandRow, Error> {
        let Address { tenant, device, command } = address;
        let missing = || Error::NotFound(format!("there is no command '{command}' for '{device}'"));
        for _ in 0..ATTEMPTS {
            let item = self.one(keys::command(tenant, device, command)).await?;
            let item = item.ok_or_else(missing)?;
            let row: CommandRow = decode(&item)?;
            if !is_waiting(&row) || row.deadline_ms.is_none_or(|at_ms| now_ms < at_ms) {
                return Ok(row);
            }
            self.try_move(address, &item, now_ms, |row| row.state = CommandState::Expired).await?;
        }
        Err(Error::Busy)
    }

    async fn check_place(&self, tenant: &TenantId, device: &DeviceId) -> Result<(), Error> {
        let limit = self.settings.waiting_commands_per_device;
        let waiting =
            self.store.scan(Scan::partition(keys::waiting(tenant, device), limit)).await?;
        if waiting.len() < limit {
            return Ok(());
        }
        Err(Error::Limit(format!(
            "{limit} commands wait for the device '{device}' already: try again when it was there"
        )))
    }
}

fn view(address: Address<'_>, row: CommandRow) -> CommandView {
    CommandView {
        id: row.command.id,
        tenant: address.tenant.clone(),
        device: address.device.clone(),
        subject: row.command.subject,
        response_required: row.command.response_required,
        state: row.state,
        created_ms: row.command.created_ms,
        response: row.response,
    }
}
