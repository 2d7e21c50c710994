//! From one state of a command to the next, with everything that goes with it.

use super::Address;
use crate::registry::put;
use crate::rows::{CommandRow, PRESENT, reference};
use crate::store::{Expect, Item, Key, Write};
use crate::{Cloud, keys};
use fulcrum_contract::EdgeId;
use fulcrum_contract::commands::{Command, CommandResponse, CommandState};
use fulcrum_contract::feed::Entity;

/// What an edge tells about a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    Delivered,
    Expired,
    Answered(CommandResponse),
}

impl Cloud {
    /// Every step from `before` to `after`: the row, the device's queue, the edges' feeds and the deadline.
    pub(crate) fn transition(
        &self,
        address: Address<'_>,
        before: Option<(&Item, &CommandRow)>,
        after: &mut CommandRow,
        now_ms: u64,
    ) -> Vec<Write> {
        let Address { tenant, device, command } = address;
        let old = before.map(|(_, row)| row);
        after.deadline_ms = self.deadline_of(old, after, now_ms);
        let expect = Expect::as_read(before.map(|(item, _)| item));
        let mut writes = vec![put(keys::command(tenant, device, command), after, expect)];
        let place = Key::new(keys::waiting(tenant, device), keys::number(after.command.sequence));
        match (old.is_some_and(is_waiting), is_waiting(after)) {
            (false, true) => {
                let (value, expect) = (reference(command), Expect::Anything);
                writes.push(Write::Put { key: place, value, expect });
            }
            (true, false) => writes.push(Write::Delete { key: place, expect: Expect::Anything }),
            _ => {}
        }
        let (left, entered) = (old.and_then(feed_of), feed_of(after));
        if left != entered {
            let entity = |document: Option<Command>| Entity::Command {
                tenant: tenant.clone(),
                device: device.clone(),
                command: command.clone(),
                document,
            };
            writes.extend(left.map(|scope| self.publish(scope, &entity(None))));
            let document = Some(after.command.clone());
            writes.extend(entered.map(|scope| self.publish(scope, &entity(document))));
        }
        let deadline = old.and_then(|row| row.deadline_ms);
        if deadline != after.deadline_ms {
            let key = |at_ms| keys::deadline(at_ms, tenant, device, command);
            let expect = Expect::Anything;
            writes.extend(deadline.map(|at_ms| Write::Delete { key: key(at_ms), expect }));
            let value = PRESENT;
            writes.extend(after.deadline_ms.map(|at_ms| Write::Put {
                key: key(at_ms),
                value,
                expect,
            }));
        }
        writes
    }

    /// When the command expires, or, once it waits no more, when it is removed.
    fn deadline_of(&self, old: Option<&CommandRow>, row: &CommandRow, now_ms: u64) -> Option<u64> {
        let deliver_by_ms = row.command.deliver_by_ms;
        match row.state {
            CommandState::Stored => deliver_by_ms,
            CommandState::Queued => {
                deliver_by_ms.map(|at_ms| at_ms.saturating_add(self.settings.expiry_grace_ms))
            }
            _ => match old {
                Some(old) if !is_waiting(old) => old.deadline_ms,
                _ => Some(now_ms.saturating_add(self.settings.finished_command_ms)),
            },
        }
    }
}

/// Applies an edge's report; false if it says nothing new.
pub(crate) fn report(row: &mut CommandRow, report: Report) -> bool {
    let open = is_waiting(row) || row.state == CommandState::Expired;
    match report {
        Report::Delivered if open => row.state = CommandState::Delivered,
        Report::Expired if is_waiting(row) => row.state = CommandState::Expired,
        Report::Answered(response) if row.response.is_none() => {
            let succeeded = (200..300).contains(&response.status);
            row.state = if succeeded { CommandState::Succeeded } else { CommandState::Failed };
            row.response = Some(response);
        }
        _ => return false,
    }
    true
}

pub(super) fn queue_at(row: &mut CommandRow, edge: &EdgeId, incarnation: &str) {
    row.state = CommandState::Queued;
    row.edge = Some(edge.clone());
    row.incarnation = Some(incarnation.to_owned());
}

pub(super) fn is_waiting(row: &CommandRow) -> bool {
    matches!(row.state, CommandState::Stored | CommandState::Queued)
}

/// The feed the command is in.
fn feed_of(row: &CommandRow) -> Option<String> {
    let (edge, incarnation) = (row.edge.as_ref()?, row.incarnation.as_ref()?);
    (row.state == CommandState::Queued).then(|| keys::edge_scope(edge, incarnation))
}
