//! Commands to devices, on the shard that owns the device's command address.
//!
//! A device's commands go out in order, one in flight. They stay in the store until the device has taken them; the desk
//! holds a few in memory and says when to ask the store for more. A link that went away gives its command back: it is
//! delivered again, first, to the next link.
//!
//! Invariants
//! - What a device has taken, over whichever link, is reported once and not delivered again while the store has not
//!   forgotten it.
//! - The store is asked for one device once at a time, however often the device comes and goes.

use crate::LinkId;
use crate::limits::PENDING_COMMANDS_MAX;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer of the store that takes longer is given up: it is asked again when there is a reason to.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

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

/// What an answer of a link meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answered {
    /// The device has the command: tell the cloud, and have the store forget it.
    Taken(Dispatch),
    /// The command did not reach the device, which takes no more commands until it attaches again.
    Released(Arc<Command>),
    /// It changes nothing but perhaps what is next: the command was taken before, or the link is not the device's any more.
    Nothing(Dispatch),
}

/// The devices of this shard that take commands.
#[derive(Default)]
pub struct CommandDesk {
    devices: HashMap<Names, Desk>,
    /// Devices the store was asked about and has not answered yet.
    loading: HashMap<Names, Instant>,
    /// Commands that are over, by device, until the store has forgotten them.
    over: HashMap<Names, Vec<Over>>,
}

/// Tenant and device.
type Names = (Arc<str>, Arc<str>);

struct Desk {
    link: LinkId,
    pending: VecDeque<Arc<Command>>,
    in_flight: bool,
    /// The store may hold commands that are not in `pending`.
    more: bool,
}

/// A command that is over.
struct Over {
    id: String,
    /// The store was told. It may still have answered an earlier question with the command in it.
    told: bool,
}

impl CommandDesk {
    /// `link` takes the device's commands from now on; an older link of the same device no longer does. A link that does
    /// already goes on where it is.
    pub fn attach(
        &mut self,
        tenant: Arc<str>,
        device: Arc<str>,
        link: LinkId,
        now: Instant,
    ) -> Dispatch {
        let names = (tenant, device);
        if self.devices.get(&names).is_none_or(|desk| desk.link != link) {
            let desk = Desk { link, pending: VecDeque::new(), in_flight: false, more: true };
            self.devices.insert(names.clone(), desk);
        }
        self.next(&names, now)
    }

    /// `link` takes no more commands; whether it was the one that did.
    pub fn detach(&mut self, tenant: &Arc<str>, device: &Arc<str>, link: LinkId) -> bool {
        let names = (tenant.clone(), device.clone());
        let attached = self.devices.get(&names).is_some_and(|desk| desk.link == link);
        if attached {
            self.devices.remove(&names);
        }
        attached
    }

    /// The store has a new command for the device, or could not be asked before.
    pub fn arrived(&mut self, tenant: &Arc<str>, device: &Arc<str>, now: Instant) -> Dispatch {
        let names = (tenant.clone(), device.clone());
        if let Some(desk) = self.devices.get_mut(&names) {
            desk.more = true;
        }
        self.next(&names, now)
    }

    /// The store could not be asked; [`CommandDesk::arrived`] asks again.
    pub fn not_loaded(&mut self, tenant: &Arc<str>, device: &Arc<str>) {
        self.loading.remove(&(tenant.clone(), device.clone()));
    }

    /// The store's answer to [`Dispatch::Load`]: the device's oldest commands, at most [`PENDING_COMMANDS_MAX`].
    pub fn loaded(
        &mut self,
        tenant: &Arc<str>,
        device: &Arc<str>,
        commands: Vec<Command>,
        now: Instant,
    ) -> Dispatch {
        let names = (tenant.clone(), device.clone());
        self.loading.remove(&names);
        if let Some(desk) = self.devices.get_mut(&names) {
            desk.more |= commands.len() >= PENDING_COMMANDS_MAX;
            // What is in flight is still the store's oldest; it stays in front and is not taken twice.
            let kept = usize::from(desk.in_flight);
            desk.pending.truncate(kept);
            let in_flight = desk.pending.front().map(|command| command.id.clone());
            let over = self.over.get(&names);
            let is_new = |command: &Command| {
                Some(&command.id) != in_flight.as_ref() && !is_over(over, &command.id)
            };
            let new = commands.into_iter().filter(is_new).take(PENDING_COMMANDS_MAX);
            desk.pending.extend(new.map(Arc::new));
        }
        // Whatever the store is asked from now on, it answers without those it was told to forget.
        self.forget(&names, |over| over.told);
        self.next(&names, now)
    }

    /// The link's answer to [`Dispatch::Deliver`].
    pub fn answered(
        &mut self,
        tenant: &Arc<str>,
        device: &Arc<str>,
        link: LinkId,
        id: &str,
        outcome: Outcome,
        now: Instant,
    ) -> Answered {
        let names = (tenant.clone(), device.clone());
        let desk = self.devices.get_mut(&names);
        let in_flight = desk.filter(|desk| desk.link == link && desk.has_in_flight(id));
        match (outcome, in_flight) {
            (Outcome::Accepted, in_flight) => {
                // Also over a link that is not the device's any more: the device has the command all the same.
                if let Some(desk) = in_flight {
                    desk.pending.pop_front();
                    desk.in_flight = false;
                }
                let first = self.is_over_now(&names, id);
                let next = self.next(&names, now);
                if first { Answered::Taken(next) } else { Answered::Nothing(next) }
            }
            (Outcome::Released, Some(desk)) => {
                let command = desk.pending.pop_front();
                self.devices.remove(&names);
                command.map_or(Answered::Nothing(Dispatch::Idle), Answered::Released)
            }
            (Outcome::Released, None) => Answered::Nothing(Dispatch::Idle),
        }
    }

    /// A command's time is over; whether that is the end of it. It is not while the command is on its way to the device,
    /// whose answer decides, nor when the device had it before.
    pub fn expire(&mut self, tenant: &Arc<str>, device: &Arc<str>, id: &str) -> bool {
        let names = (tenant.clone(), device.clone());
        let in_flight = self.devices.get(&names).is_some_and(|desk| desk.has_in_flight(id));
        !in_flight && self.is_over_now(&names, id)
    }

    /// The store was told that a command is over.
    pub fn told(&mut self, tenant: &Arc<str>, device: &Arc<str>, id: &str) {
        let names = (tenant.clone(), device.clone());
        if self.loading.contains_key(&names) {
            let list = self.over.get_mut(&names).into_iter().flatten();
            list.filter(|over| over.id == id).for_each(|over| over.told = true);
        } else {
            self.forget(&names, |over| over.id == id);
        }
    }

    /// Devices that take commands.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Notes that a command is over; false if it was before.
    fn is_over_now(&mut self, names: &Names, id: &str) -> bool {
        let list = self.over.entry(names.clone()).or_default();
        let first = !list.iter().any(|over| over.id == id);
        if first {
            list.push(Over { id: id.to_owned(), told: false });
        }
        first
    }

    fn forget(&mut self, names: &Names, which: impl Fn(&Over) -> bool) {
        if let Some(list) = self.over.get_mut(names) {
            list.retain(|over| !which(over));
            if list.is_empty() {
                self.over.remove(names);
            }
        }
    }

    fn next(&mut self, names: &Names, now: Instant) -> Dispatch {
        let Some(desk) = self.devices.get_mut(names) else { return Dispatch::Idle };
        if desk.in_flight {
            return Dispatch::Idle;
        }
        let over = self.over.get(names);
        while desk.pending.front().is_some_and(|command| is_over(over, &command.id)) {
            desk.pending.pop_front();
        }
        if let Some(command) = desk.pending.front() {
            desk.in_flight = true;
            return Dispatch::Deliver(desk.link, command.clone());
        }
        let asked = self.loading.get(names).is_some_and(|since| now < *since + LOAD_TIMEOUT);
        if desk.more && !asked {
            desk.more = false;
            self.loading.insert(names.clone(), now);
            return Dispatch::Load;
        }
        Dispatch::Idle
    }
}

impl Desk {
    fn has_in_flight(&self, id: &str) -> bool {
        self.in_flight && self.pending.front().is_some_and(|command| command.id == id)
    }
}

fn is_over(list: Option<&Vec<Over>>, id: &str) -> bool {
    list.is_some_and(|list| list.iter().any(|over| over.id == id))
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

    /// A desk and one device of it.
    struct One {
        desk: CommandDesk,
        tenant: Arc<str>,
        device: Arc<str>,
        now: Instant,
    }

    impl One {
        fn new() -> One {
            let (tenant, device) = ("acme".into(), "pump-7".into());
            One { desk: CommandDesk::default(), tenant, device, now: Instant::now() }
        }

        fn attach(&mut self, key: u64) -> Dispatch {
            self.desk.attach(self.tenant.clone(), self.device.clone(), link(key), self.now)
        }

        fn detach(&mut self, key: u64) -> bool {
            self.desk.detach(&self.tenant, &self.device, link(key))
        }

        fn arrived(&mut self) -> Dispatch {
            self.desk.arrived(&self.tenant, &self.device, self.now)
        }

        fn loaded(&mut self, ids: &[&str]) -> Dispatch {
            let commands = ids.iter().map(|id| command(id)).collect();
            self.desk.loaded(&self.tenant, &self.device, commands, self.now)
        }

        fn answered(&mut self, key: u64, id: &str, outcome: Outcome) -> Answered {
            self.desk.answered(&self.tenant, &self.device, link(key), id, outcome, self.now)
        }

        fn told(&mut self, id: &str) {
            self.desk.told(&self.tenant, &self.device, id);
        }

        #[track_caller]
        fn taken(&mut self, key: u64, id: &str) -> Dispatch {
            match self.answered(key, id, Outcome::Accepted) {
                Answered::Taken(next) => next,
                other => panic!("expected the command to be taken, got {other:?}"),
            }
        }
    }

    #[track_caller]
    fn delivered(dispatch: Dispatch) -> (u64, String) {
        match dispatch {
            Dispatch::Deliver(link, command) => (link.key, command.id.clone()),
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    #[test]
    fn commands_go_out_in_order_one_in_flight() {
        let mut one = One::new();
        assert_eq!(one.arrived(), Dispatch::Idle, "nobody there: it stays in the store");
        assert_eq!(one.attach(1), Dispatch::Load);
        assert_eq!(delivered(one.loaded(&["a", "b"])), (1, "a".to_owned()));
        assert_eq!(one.arrived(), Dispatch::Idle, "one in flight");
        assert_eq!(delivered(one.taken(1, "a")), (1, "b".to_owned()));
        assert_eq!(one.taken(1, "b"), Dispatch::Load, "one arrived meanwhile");
        assert_eq!(one.loaded(&[]), Dispatch::Idle);
    }

    #[test]
    fn a_new_link_takes_over_and_a_late_detach_of_the_old_one_changes_nothing() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a"]);
        assert_eq!(one.attach(2), Dispatch::Load);
        assert_eq!(one.answered(1, "a", Outcome::Released), Answered::Nothing(Dispatch::Idle));
        assert!(!one.detach(1));
        assert_eq!(one.desk.devices(), 1);
        assert_eq!(delivered(one.loaded(&["a"])), (2, "a".to_owned()));
    }

    #[test]
    fn a_released_command_waits_for_the_next_link() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a"]);
        assert!(matches!(one.answered(1, "a", Outcome::Released), Answered::Released(_)));
        assert_eq!(one.desk.devices(), 0);
        assert_eq!(one.attach(1), Dispatch::Load);
        assert_eq!(delivered(one.loaded(&["a"])), (1, "a".to_owned()));
    }

    #[test]
    fn a_command_the_store_has_not_forgotten_yet_is_not_delivered_again() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a"]);
        one.taken(1, "a");
        one.detach(1);
        one.attach(2);
        assert_eq!(delivered(one.loaded(&["a", "b"])), (2, "b".to_owned()));
        one.told("a");
        assert!(one.desk.over.is_empty(), "what the store was told is not remembered for ever");
    }

    #[test]
    fn an_answer_older_than_what_the_store_was_told_brings_nothing_back() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a"]);
        one.arrived();
        assert_eq!(one.taken(1, "a"), Dispatch::Load);
        one.told("a");
        assert_eq!(one.loaded(&["a"]), Dispatch::Idle, "asked before it was told");
        assert!(one.desk.over.is_empty());
    }

    #[test]
    fn subscribing_again_repeats_nothing() {
        let mut one = One::new();
        one.attach(1);
        assert_eq!(delivered(one.loaded(&["a", "b"])), (1, "a".to_owned()));
        assert_eq!(one.attach(1), Dispatch::Idle, "one in flight");
        assert_eq!(delivered(one.taken(1, "a")), (1, "b".to_owned()));
    }

    #[test]
    fn an_acknowledgement_after_the_subscription_ended_counts() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a"]);
        one.detach(1);
        assert_eq!(one.taken(1, "a"), Dispatch::Idle);
        assert_eq!(one.attach(1), Dispatch::Load);
        assert_eq!(one.loaded(&["a"]), Dispatch::Idle);
    }

    #[test]
    fn a_command_taken_over_two_links_is_reported_once() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a", "b"]);
        one.attach(2);
        assert_eq!(delivered(one.loaded(&["a", "b"])), (2, "a".to_owned()));
        assert_eq!(one.taken(1, "a"), Dispatch::Idle, "the new link has it in flight");
        match one.answered(2, "a", Outcome::Accepted) {
            Answered::Nothing(next) => assert_eq!(delivered(next), (2, "b".to_owned())),
            other => panic!("reported twice: {other:?}"),
        }
    }

    #[test]
    fn the_store_is_asked_for_a_device_once_at_a_time() {
        let mut one = One::new();
        assert_eq!(one.attach(1), Dispatch::Load);
        for _ in 0..10 {
            one.detach(1);
            assert_eq!(one.attach(1), Dispatch::Idle);
        }
        assert_eq!(delivered(one.loaded(&["a"])), (1, "a".to_owned()), "the answer is as good");
        assert_eq!(one.taken(1, "a"), Dispatch::Load, "something may have come since");
    }

    #[test]
    fn a_store_that_could_not_be_asked_or_does_not_answer_is_asked_again() {
        let mut one = One::new();
        assert_eq!(one.attach(1), Dispatch::Load);
        one.desk.not_loaded(&one.tenant, &one.device);
        assert_eq!(one.arrived(), Dispatch::Load);
        assert_eq!(one.arrived(), Dispatch::Idle);
        one.now += LOAD_TIMEOUT;
        assert_eq!(one.arrived(), Dispatch::Load);
    }

    #[test]
    fn a_command_expires_once_and_not_while_it_is_on_its_way() {
        let mut one = One::new();
        one.attach(1);
        one.loaded(&["a", "b"]);
        let expire = |one: &mut One, id| one.desk.expire(&one.tenant, &one.device, id);
        assert!(!expire(&mut one, "a"), "in flight");
        assert!(expire(&mut one, "b"));
        assert!(!expire(&mut one, "b"));
        assert_eq!(one.taken(1, "a"), Dispatch::Idle, "what expired is not delivered");
        assert!(!expire(&mut one, "a"), "taken");
    }

    #[test]
    fn a_full_page_means_there_may_be_more() {
        let mut one = One::new();
        one.attach(1);
        let ids: Vec<_> = (0..PENDING_COMMANDS_MAX).map(|n| n.to_string()).collect();
        let page: Vec<_> = ids.iter().map(String::as_str).collect();
        let mut dispatch = one.loaded(&page);
        for _ in 0..PENDING_COMMANDS_MAX {
            let (_, id) = delivered(dispatch);
            dispatch = one.taken(1, &id);
        }
        assert_eq!(dispatch, Dispatch::Load);
    }
}
