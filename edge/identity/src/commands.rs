//! Pending commands: what waits for a device, and what no longer does.
//!
//! Life of a command: `apply` puts it; the node delivers it, or `expire_commands` hands it out as expired; the node
//! journals that outcome for the cloud, and only then calls `command_done`. A crash between the two repeats the outcome,
//! which the cloud takes once by the command's id; the other order would lose it.

use crate::error::IdentityError;
use crate::feed::Rows;
use crate::limits::{DONE_MARKERS_MAX, EXPIRE_BATCH_MAX};
use crate::replica::{Identity, View};
use crate::tables::{
    self, COMMAND_IDS, COMMANDS, DEADLINES, DONE, DONE_NEXT_KEY, DONE_ORDER, NUMBERS,
};
use fulcrum_contract::commands::Command;
use fulcrum_contract::{CommandId, DeviceId, TenantId};
use redb::{ReadableTable as _, WriteTransaction};
use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

type CommandNames = (TenantId, DeviceId, CommandId);

impl Identity {
    /// Commands that wait for the device, oldest first, at most `limit`. Those past their time by the system's clock are
    /// left out.
    pub fn pending_commands(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        limit: usize,
    ) -> Result<Vec<Command>, IdentityError> {
        // A clock before 1970 expires nothing, rather than everything.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.pending_commands_at(tenant, device, limit, since_epoch.as_millis() as u64)
    }

    /// The same at a given time, in milliseconds since the Unix epoch.
    pub fn pending_commands_at(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        limit: usize,
        now_ms: u64,
    ) -> Result<Vec<Command>, IdentityError> {
        let (tenant, device) = (tenant.as_str(), device.as_str());
        self.inner.read(|view| {
            let mut commands = Vec::new();
            for entry in view.0.open_table(COMMANDS)?.range((tenant, device, 0, "")..)? {
                let (key, row) = entry?;
                let (row_tenant, row_device, ..) = key.value();
                if (row_tenant, row_device) != (tenant, device) || commands.len() >= limit {
                    break;
                }
                let command: Command = tables::decode("command", row.value().2)?;
                if command.deliver_by_ms.is_none_or(|deadline_ms| deadline_ms >= now_ms) {
                    commands.push(command);
                }
            }
            Ok(commands)
        })
    }

    /// Forgets a command whose outcome is safe in the journal, and remembers its id so that a replay of the feed does not
    /// bring it back. A command that is not there any more (cancelled meanwhile) is marked all the same.
    pub fn command_done(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        command: &CommandId,
    ) -> Result<(), IdentityError> {
        self.commands_done(&[(tenant.clone(), device.clone(), command.clone())])
    }

    /// The same for several, at the price of one write to disk.
    pub fn commands_done(
        &self,
        commands: &[(TenantId, DeviceId, CommandId)],
    ) -> Result<(), IdentityError> {
        if commands.is_empty() {
            return Ok(());
        }
        self.inner.write(|transaction| mark_done(transaction, commands))?;
        let mut handed_out = self.expired_handed_out();
        for names in commands {
            handed_out.remove(names);
        }
        Ok(())
    }

    /// Commands whose time was over before `now_ms` (milliseconds since the Unix epoch), each once as long as this
    /// process runs, at most [`EXPIRE_BATCH_MAX`] in one call. Each stays in the store, not to be delivered, until
    /// `command_done`: journal its expiry, then call that.
    pub fn expire_commands(
        &self,
        now_ms: u64,
    ) -> Result<Vec<(TenantId, DeviceId, Command)>, IdentityError> {
        let mut handed_out = self.expired_handed_out();
        let found = self.inner.read(|view| expired(view, now_ms, &handed_out))?;
        // Only what is still there needs remembering; the rest was done or cancelled.
        *handed_out = found.still_there;
        handed_out.extend(
            found.fresh.iter().map(|(tenant, device, command)| {
                (tenant.clone(), device.clone(), command.id.clone())
            }),
        );
        Ok(found.fresh)
    }

    fn expired_handed_out(&self) -> MutexGuard<'_, HashSet<CommandNames>> {
        // A set of ids is whole at every point where a panic could leave it.
        self.inner.expired_handed_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mark_done(transaction: &WriteTransaction, commands: &[CommandNames]) -> Result<(), redb::Error> {
    // The generation does not matter: nothing is put.
    let mut rows = Rows::open(transaction, 0)?;
    for (tenant, device, command) in commands {
        rows.remove_command((tenant.as_str(), device.as_str(), command.as_str()))?;
    }
    drop(rows);

    let mut numbers = transaction.open_table(NUMBERS)?;
    let mut done = transaction.open_table(DONE)?;
    let mut order = transaction.open_table(DONE_ORDER)?;
    let mut next = numbers.get(DONE_NEXT_KEY)?.map_or(0, |next| next.value());
    for (tenant, device, command) in commands {
        let names = (tenant.as_str(), device.as_str(), command.as_str());
        let previous = done.insert(names, next)?.map(|place| place.value());
        if let Some(place) = previous {
            order.remove(place)?;
        }
        order.insert(next, names)?;
        next += 1;
    }
    let forget_below = next.saturating_sub(DONE_MARKERS_MAX);
    let mut forgotten = Vec::new();
    for entry in order.range(..forget_below)? {
        forgotten.push(entry?.0.value());
    }
    for place in forgotten {
        if let Some(names) = order.remove(place)? {
            done.remove(names.value())?;
        }
    }
    numbers.insert(DONE_NEXT_KEY, next)?;
    Ok(())
}

#[derive(Default)]
struct Expired {
    /// Not handed out before.
    fresh: Vec<(TenantId, DeviceId, Command)>,
    /// Handed out before and not done.
    still_there: HashSet<CommandNames>,
}

fn expired(
    view: &View,
    now_ms: u64,
    handed_out: &HashSet<CommandNames>,
) -> Result<Expired, redb::Error> {
    let ids = view.0.open_table(COMMAND_IDS)?;
    let commands = view.0.open_table(COMMANDS)?;
    let mut expired = Expired::default();
    for entry in view.0.open_table(DEADLINES)?.range(..(now_ms, "", "", ""))? {
        let (key, _) = entry?;
        let (_, tenant, device, command) = key.value();
        let names = (parse(tenant)?, parse(device)?, parse(command)?);
        if handed_out.contains(&names) {
            expired.still_there.insert(names);
            continue;
        }
        if expired.fresh.len() >= EXPIRE_BATCH_MAX {
            continue;
        }
        let Some(sequence) = ids.get((tenant, device, command))? else { continue };
        let Some(row) = commands.get((tenant, device, sequence.value(), command))? else {
            continue;
        };
        expired.fresh.push((names.0, names.1, tables::decode("command", row.value().2)?));
    }
    Ok(expired)
}

/// A stored identifier; one that does not parse is damage.
fn parse<T: std::str::FromStr<Err = fulcrum_contract::IdError>>(
    text: &str,
) -> Result<T, redb::Error> {
    text.parse().map_err(|error| redb::Error::Corrupted(format!("a command's key: {error}")))
}
