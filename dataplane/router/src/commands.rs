//! Commands to devices, on the shard that owns the device's command address.
//!
//! A device's commands go out in order, one in flight. They stay in the store until the device has taken them; the desk
//! holds a few in memory and says when to ask the store for more. A link that went away gives its command back: it is
//! delivered again, first, to the next link.

use crate::LinkId;
use crate::limits::PENDING_COMMANDS_MAX;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A command as the data plane carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Its id; the correlation id of the response.
    pub id: String,
    /// Its name.
    pub subject: String,
    /// Whether the device is to answer.
    pub response_required: bool,
    /// Payload.
    pub payload: Vec<u8>,
    /// Milliseconds since the Unix epoch after which it is not delivered any more.
    pub deliver_by_ms: Option<u64>,
}

/// What became of a command that was handed to a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The device has taken it.
    Accepted,
    /// It did not reach the device; it is kept.
    Released,
}

/// What the shard is to do next for a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dispatch {
    /// Hand this command to the link.
    Deliver(LinkId, Arc<Command>),
    /// Ask the store for the device's commands.
    Load,
    /// Nothing now.
    Idle,
}

/// The devices of this shard that take commands.
#[derive(Default)]
pub struct CommandDesk {
    devices: HashMap<(Arc<str>, Arc<str>), Desk>,
}

struct Desk {
    link: LinkId,
    pending: VecDeque<Arc<Command>>,
    in_flight: bool,
    /// The store may hold commands that are not in `pending`.
    more: bool,
    loading: bool,
    /// Ids taken by the device lately: the store may not have forgotten them when it is asked again.
    taken: VecDeque<String>,
}

/// Ids remembered in [`Desk::taken`].
const TAKEN_MAX: usize = 2 * PENDING_COMMANDS_MAX;

impl CommandDesk {
    /// `link` takes the device's commands from now on; an older link of the same device no longer does.
    pub fn attach(&mut self, tenant: Arc<str>, device: Arc<str>, link: LinkId) -> Dispatch {
        let key = (tenant, device);
        let taken = self.devices.remove(&key).map(|old| old.taken).unwrap_or_default();
        let pending = VecDeque::new();
        let desk = Desk { link, pending, in_flight: false, more: true, loading: false, taken };
        self.devices.insert(key.clone(), desk);
        self.next(&key)
    }

    /// `link` takes no more commands; whether it was the one that did.
    pub fn detach(&mut self, tenant: &Arc<str>, device: &Arc<str>, link: LinkId) -> bool {
        let key = (tenant.clone(), device.clone());
        let attached = self.devices.get(&key).is_some_and(|desk| desk.link == link);
        if attached {
            self.devices.remove(&key);
        }
        attached
    }

    /// The store has a new command for the device.
    pub fn arrived(&mut self, tenant: &Arc<str>, device: &Arc<str>) -> Dispatch {
        let key = (tenant.clone(), device.clone());
        if let Some(desk) = self.devices.get_mut(&key) {
            desk.more = true;
        }
        self.next(&key)
    }

    /// The store's answer to [`Dispatch::Load`]: the device's oldest commands, at most [`PENDING_COMMANDS_MAX`].
    pub fn loaded(
        &mut self,
        tenant: &Arc<str>,
        device: &Arc<str>,
        commands: Vec<Command>,
    ) -> Dispatch {
        let key = (tenant.clone(), device.clone());
        if let Some(desk) = self.devices.get_mut(&key).filter(|desk| desk.loading) {
            desk.loading = false;
            desk.more |= commands.len() >= PENDING_COMMANDS_MAX;
            // What is in flight is still the store's oldest; it stays in front and is not taken twice.
            let kept = usize::from(desk.in_flight);
            desk.pending.truncate(kept);
            let in_flight = desk.pending.front().map(|command| command.id.clone());
            let is_new = |command: &Command| {
                Some(&command.id) != in_flight.as_ref() && !desk.taken.contains(&command.id)
            };
            let new = commands.into_iter().filter(is_new).take(PENDING_COMMANDS_MAX);
            desk.pending.extend(new.map(Arc::new));
        }
        self.next(&key)
    }

    /// The link's answer to [`Dispatch::Deliver`]: the command it was about, and what to do next. `None` for an answer
    /// of a link or about a command that is not the one in flight.
    pub fn answered(
        &mut self,
        tenant: &Arc<str>,
        device: &Arc<str>,
        link: LinkId,
        id: &str,
        outcome: Outcome,
    ) -> Option<(Arc<Command>, Dispatch)> {
        let key = (tenant.clone(), device.clone());
        let desk = self.devices.get_mut(&key).filter(|desk| desk.link == link && desk.in_flight)?;
        let command = desk.pending.front().filter(|command| command.id == id)?.clone();
        desk.in_flight = false;
        match outcome {
            Outcome::Accepted => {
                desk.pending.pop_front();
                desk.taken.push_back(command.id.clone());
                if desk.taken.len() > TAKEN_MAX {
                    desk.taken.pop_front();
                }
                Some((command, self.next(&key)))
            }
            // The link could not take it: keep the command and wait for the device to subscribe again.
            Outcome::Released => {
                self.devices.remove(&key);
                Some((command, Dispatch::Idle))
            }
        }
    }

    /// Devices that take commands.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    fn next(&mut self, key: &(Arc<str>, Arc<str>)) -> Dispatch {
        let Some(desk) = self.devices.get_mut(key) else { return Dispatch::Idle };
        if desk.in_flight {
            return Dispatch::Idle;
        }
        if let Some(command) = desk.pending.front() {
            desk.in_flight = true;
            return Dispatch::Deliver(desk.link, command.clone());
        }
        if desk.more && !desk.loading {
            desk.more = false;
            desk.loading = true;
            return Dispatch::Load;
        }
        Dispatch::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardIndex;

    fn command(id: &str) -> Command {
        Command {
            id: id.to_owned(),
            subject: "set".to_owned(),
            response_required: true,
            payload: Vec::new(),
            deliver_by_ms: None,
        }
    }

    fn link(key: u64) -> LinkId {
        LinkId { shard: ShardIndex(0), key }
    }

    fn names() -> (Arc<str>, Arc<str>) {
        ("acme".into(), "pump-7".into())
    }

    #[track_caller]
    fn delivered(dispatch: Dispatch) -> (LinkId, String) {
        match dispatch {
            Dispatch::Deliver(link, command) => (link, command.id.clone()),
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    #[test]
    fn commands_go_out_in_order_one_in_flight() {
        let (tenant, device) = names();
        let mut desk = CommandDesk::default();
        assert_eq!(
            desk.arrived(&tenant, &device),
            Dispatch::Idle,
            "nobody there: it stays in the store"
        );
        assert_eq!(desk.attach(tenant.clone(), device.clone(), link(1)), Dispatch::Load);
        let first = desk.loaded(&tenant, &device, vec![command("a"), command("b")]);
        assert_eq!(delivered(first), (link(1), "a".to_owned()));
        assert_eq!(desk.arrived(&tenant, &device), Dispatch::Idle, "one in flight");
        let (done, next) =
            desk.answered(&tenant, &device, link(1), "a", Outcome::Accepted).unwrap();
        assert_eq!(done.id, "a");
        assert_eq!(delivered(next), (link(1), "b".to_owned()));
        let (_, next) = desk.answered(&tenant, &device, link(1), "b", Outcome::Accepted).unwrap();
        assert_eq!(next, Dispatch::Load, "one arrived meanwhile");
        assert_eq!(desk.loaded(&tenant, &device, Vec::new()), Dispatch::Idle);
    }

    #[test]
    fn a_new_link_takes_over_and_the_old_ones_answers_count_no_more() {
        let (tenant, device) = names();
        let mut desk = CommandDesk::default();
        desk.attach(tenant.clone(), device.clone(), link(1));
        desk.loaded(&tenant, &device, vec![command("a")]);
        assert_eq!(desk.attach(tenant.clone(), device.clone(), link(2)), Dispatch::Load);
        assert_eq!(desk.answered(&tenant, &device, link(1), "a", Outcome::Accepted), None);
        desk.detach(&tenant, &device, link(1));
        assert_eq!(desk.devices(), 1);
        let again = desk.loaded(&tenant, &device, vec![command("a")]);
        assert_eq!(delivered(again), (link(2), "a".to_owned()));
    }

    #[test]
    fn a_released_command_waits_for_the_next_link() {
        let (tenant, device) = names();
        let mut desk = CommandDesk::default();
        desk.attach(tenant.clone(), device.clone(), link(1));
        desk.loaded(&tenant, &device, vec![command("a")]);
        let (_, next) = desk.answered(&tenant, &device, link(1), "a", Outcome::Released).unwrap();
        assert_eq!((next, desk.devices()), (Dispatch::Idle, 0));
    }

    #[test]
    fn a_command_the_store_has_not_forgotten_yet_is_not_delivered_again() {
        let (tenant, device) = names();
        let mut desk = CommandDesk::default();
        desk.attach(tenant.clone(), device.clone(), link(1));
        desk.loaded(&tenant, &device, vec![command("a")]);
        desk.answered(&tenant, &device, link(1), "a", Outcome::Accepted).unwrap();
        desk.attach(tenant.clone(), device.clone(), link(2));
        let next = desk.loaded(&tenant, &device, vec![command("a"), command("b")]);
        assert_eq!(delivered(next), (link(2), "b".to_owned()));
    }

    #[test]
    fn a_full_page_means_there_may_be_more() {
        let (tenant, device) = names();
        let mut desk = CommandDesk::default();
        desk.attach(tenant.clone(), device.clone(), link(1));
        let page: Vec<_> = (0..PENDING_COMMANDS_MAX).map(|n| command(&n.to_string())).collect();
        let mut dispatch = desk.loaded(&tenant, &device, page);
        for _ in 0..PENDING_COMMANDS_MAX {
            let (_, id) = delivered(dispatch);
            dispatch = desk.answered(&tenant, &device, link(1), &id, Outcome::Accepted).unwrap().1;
        }
        assert_eq!(dispatch, Dispatch::Load);
    }
}
