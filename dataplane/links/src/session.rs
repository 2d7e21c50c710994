//! One session: windows, handles, delivery numbers (part 2, 2.5).

use fulcrum_amqp::{
    Attach, Begin, Detach, Disposition, Error, Flow, Frame, Performative, Role, Transfer,
    condition, encode_frame,
};

use crate::event::{Arrival, Dispositions, Event, Known, LinkRef, Scope, SessionId, Violation};
use crate::limits::LINK_NAME_BYTES_MAX;
use crate::link::{Link, Stage, UnderWay};
use crate::serial;
use crate::settings::Settings;
use crate::unsettled::Unsettled;

/// What a session needs of its connection.
pub(crate) struct Surroundings<'c> {
    pub settings: &'c Settings,
    /// Largest frame the peer takes.
    pub frame_bytes_max: usize,
    /// Deliveries nobody will settle any more.
    pub leftovers: &'c mut Vec<Known>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    /// The channel the peer uses for it.
    pub remote: Option<u16>,
    /// This end has ended it; what comes until the peer does the same is ignored.
    pub is_ending: bool,
    next_incoming_id: u32,
    incoming_window: u32,
    pub next_outgoing_id: u32,
    pub remote_incoming_window: u32,
    links: Vec<Option<Link>>,
    /// The peer's handles and this end's, by the peer's.
    remote_handles: Vec<(u32, u32)>,
    remote_links_max: u32,
    pub sent: Unsettled,
    pub received: Unsettled,
    pub next_delivery: u32,
    last_received: Option<u32>,
    /// Answers that are not written yet: they may be joined by the next.
    pub gathered: Option<Gathered>,
}

/// Dispositions for deliveries that follow each other and have the same fate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathered {
    pub role: Role,
    pub first: u32,
    pub last: u32,
    pub settled: bool,
    pub fate: Fate,
}

/// The states that many deliveries share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// None is told.
    Silent,
    Accepted,
    Released,
}

/// What most ends write as their window: this end does not hold up its own transfers.
const OUTGOING_WINDOW: u32 = i32::MAX as u32;

impl Session {
    pub(crate) fn new(id: SessionId, settings: &Settings) -> Self {
        Self {
            id,
            remote: None,
            is_ending: false,
            next_incoming_id: 0,
            incoming_window: settings.incoming_window,
            next_outgoing_id: 0,
            remote_incoming_window: 0,
            links: Vec::new(),
            remote_handles: Vec::new(),
            remote_links_max: 0,
            sent: Unsettled::default(),
            received: Unsettled::default(),
            next_delivery: 0,
            last_received: None,
            gathered: None,
        }
    }

    /// The peer's begin.
    pub(crate) fn begun(&mut self, channel: u16, begin: &Begin<'_>) {
        self.remote = Some(channel);
        self.next_incoming_id = begin.next_outgoing_id;
        self.remote_incoming_window = begin.incoming_window;
        self.remote_links_max = begin.handle_max;
    }

    pub(crate) fn write_begin(
        &self,
        remote: Option<u16>,
        cx: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) {
        let begin = Begin {
            remote_channel: remote,
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: self.incoming_window,
            outgoing_window: OUTGOING_WINDOW,
            handle_max: cx.settings.links_max - 1,
            offered_capabilities: fulcrum_amqp::Symbols::NONE,
            desired_capabilities: fulcrum_amqp::Symbols::NONE,
            properties: None,
        };
        put(self.id.0, Performative::Begin(begin), cx, out);
    }

    pub(crate) fn link(&self, handle: u32) -> Option<&Link> {
        self.links.get(handle as usize)?.as_ref()
    }

    pub(crate) fn link_mut(&mut self, handle: u32) -> Option<&mut Link> {
        self.links.get_mut(handle as usize)?.as_mut()
    }

    /// Gives a link a handle; `None` if there are as many as there may be.
    pub(crate) fn settle_in(&mut self, link: Link, settings: &Settings) -> Option<LinkRef> {
        let free = self.links.iter().position(Option::is_none).unwrap_or(self.links.len());
        // This end's handles are bounded by what the peer takes, in an answer too (part 2, 2.7.2).
        if free >= settings.links_max as usize || free as u64 > u64::from(self.remote_links_max) {
            return None;
        }
        if free == self.links.len() {
            self.links.push(None);
        }
        self.links[free] = Some(link);
        Some(LinkRef { session: self.id, handle: free as u32 })
    }

    /// Handles a frame other than begin and end.
    pub(crate) fn take<'i>(
        &mut self,
        performative: Performative<'i>,
        payload: &'i [u8],
        cx: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        match performative {
            Performative::Attach(attach) => self.take_attach(attach, cx, out),
            Performative::Flow(flow) => self.take_flow(&flow, cx, out),
            Performative::Transfer(transfer) => self.take_transfer(&transfer, payload, cx, out),
            Performative::Disposition(disposition) => {
                Ok(Some(Event::Disposition(Dispositions { session: self.id, disposition })))
            }
            Performative::Detach(detach) => self.take_detach(&detach, cx, out),
            Performative::Open(_)
            | Performative::Close(_)
            | Performative::Begin(_)
            | Performative::End(_) => Ok(None),
        }
    }

    fn take_attach<'i>(
        &mut self,
        attach: Box<Attach<'i>>,
        cx: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        if attach.handle >= cx.settings.links_max {
            // Part 2, 2.7.2: a handle outside of the range that was agreed on closes the connection.
            let description = "the handle is larger than this end takes";
            return Err(Violation::of_connection(condition::CONNECTION_FRAMING_ERROR, description));
        }
        if attach.name.len() > LINK_NAME_BYTES_MAX {
            return Err(self.violation(condition::INVALID_FIELD, "the link's name is too long"));
        }
        let Err(place) = self.remote_place(attach.handle) else {
            let description = "the handle is in use";
            return Err(self.violation(condition::SESSION_HANDLE_IN_USE, description));
        };
        let role = match attach.role {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        };
        let found = self.links.iter().position(|link| {
            link.as_ref().is_some_and(|link| link.role == role && *link.name == *attach.name)
        });
        let mut stolen = None;
        if let Some(handle) = found.map(|handle| handle as u32)
            && let Some(link) = self.link_mut(handle)
        {
            if link.stage == Stage::Asking {
                link.stage = Stage::Attached;
                link.remote_handle = Some(attach.handle);
                hear_attach(link, &attach);
                self.remote_handles.insert(place, (attach.handle, handle));
                let link = LinkRef { session: self.id, handle };
                return Ok(Some(Event::LinkAttached { link, attach }));
            }
            if link.stage != Stage::Detaching {
                let text = "the link was attached again";
                let error = Error::new(condition::LINK_STOLEN, text);
                self.detach(handle, false, Some(error), cx, out);
                stolen = Some(LinkRef { session: self.id, handle });
            }
        }
        let mut link = Link::new(attach.name, role, Stage::Asked);
        link.remote_handle = Some(attach.handle);
        hear_attach(&mut link, &attach);
        let Some(link) = self.settle_in(link, cx.settings) else {
            let description = "there are too many links";
            return Err(self.violation(condition::RESOURCE_LIMIT_EXCEEDED, description));
        };
        self.remote_handles.insert(place, (attach.handle, link.handle));
        Ok(Some(Event::LinkAsked { link, attach, stolen }))
    }

    fn take_flow<'i>(
        &mut self,
        flow: &Flow<'i>,
        cx: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        // Part 2, 2.5.6. Before it has seen the begin it knows no number: then it counts from the first.
        let seen = flow.next_incoming_id.unwrap_or(0);
        let on_its_way = serial::ahead(seen, self.next_outgoing_id);
        self.remote_incoming_window = flow.incoming_window.saturating_sub(on_its_way);
        self.next_incoming_id = flow.next_outgoing_id;
        let session = self.id;
        let Some(remote) = flow.handle else {
            if flow.echo {
                self.write_flow(None, false, cx, out);
            }
            return Ok(Some(Event::Flow { session, link: None }));
        };
        let handle = self.attached(remote)?;
        let Some(link) = self.link_mut(handle) else { return Ok(None) };
        if link.stage == Stage::Detaching {
            return Ok(None);
        }
        link.heard(flow);
        let is_open = link.stage == Stage::Attached;
        if flow.echo && is_open {
            self.write_flow(Some(handle), false, cx, out);
        }
        Ok(Some(Event::Flow { session, link: Some(LinkRef { session, handle }) }))
    }

    fn take_transfer<'i>(
        &mut self,
        transfer: &Transfer<'i>,
        payload: &'i [u8],
        cx: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        if self.incoming_window == 0 {
            let description = "more transfers than the session's window";
            return Err(self.violation(condition::SESSION_WINDOW_VIOLATION, description));
        }
        self.incoming_window -= 1;
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        if self.incoming_window <= cx.settings.incoming_window / 2 {
            // What came is dealt with: it is credit that holds senders up, not the window.
            self.incoming_window = cx.settings.incoming_window;
            self.write_flow(None, false, cx, out);
        }
        let handle = self.attached(transfer.handle)?;
        let session = self.id;
        let link = LinkRef { session, handle };
        let Some(found) = self.link_mut(handle) else { return Ok(None) };
        if found.stage == Stage::Detaching {
            return Ok(None);
        }
        if found.role == Role::Sender {
            return Err(of_link(link, condition::NOT_ALLOWED, "a receiver sends no transfers"));
        }
        let is_first = found.under_way.is_none();
        let mut under_way = match found.under_way {
            None => self.first_transfer(link, transfer, cx.settings.unsettled_max)?,
            Some(under_way) => {
                if transfer.delivery_id.is_some_and(|number| number != under_way.number) {
                    let description = "a delivery began before the one before it was whole";
                    return Err(of_link(link, condition::NOT_ALLOWED, description));
                }
                under_way
            }
        };
        under_way.bytes += payload.len() as u64;
        under_way.settled |= transfer.settled.unwrap_or(false);
        let UnderWay { number: delivery, bytes, settled } = under_way;
        if settled || transfer.aborted {
            // Part 2, 2.7.5: it is settled if one of its transfers says so.
            self.received.remove(delivery);
        }
        let Some(found) = self.link_mut(handle) else { return Ok(None) };
        let max = found.message_bytes_max;
        if max > 0 && bytes > max {
            let description = "the message is larger than the link takes";
            return Err(of_link(link, condition::LINK_MESSAGE_SIZE_EXCEEDED, description));
        }
        let goes_on = transfer.more && !transfer.aborted;
        found.under_way = goes_on.then_some(under_way);
        if transfer.aborted {
            return Ok((!is_first).then_some(Event::Aborted { link, delivery }));
        }
        Ok(Some(Event::Transfer(Arrival {
            link,
            delivery,
            tag: transfer.delivery_tag,
            is_first,
            more: transfer.more,
            settled,
            message_format: transfer.message_format.unwrap_or(0),
            state: transfer.state,
            resume: transfer.resume,
            payload,
        })))
    }

    /// The beginning of a delivery (part 2, 2.7.5).
    fn first_transfer(
        &mut self,
        link: LinkRef,
        transfer: &Transfer<'_>,
        unsettled_max: usize,
    ) -> Result<UnderWay, Violation> {
        let (Some(number), Some(_)) = (transfer.delivery_id, transfer.delivery_tag) else {
            let description = "a delivery begins without its number or its tag";
            return Err(of_link(link, condition::INVALID_FIELD, description));
        };
        if self.last_received.is_some_and(|last| !serial::is_before(last, number)) {
            let description = "a delivery's number is not behind the one before it";
            return Err(self.violation(condition::INVALID_FIELD, description));
        }
        if self.received.len() >= unsettled_max {
            let description = "more unsettled deliveries than this end keeps";
            return Err(self.violation(condition::RESOURCE_LIMIT_EXCEEDED, description));
        }
        let found = self.link_mut(link.handle).filter(|found| found.credit > 0);
        let Some(found) = found else {
            let description = "more deliveries than the link's credit";
            return Err(of_link(link, condition::LINK_TRANSFER_LIMIT_EXCEEDED, description));
        };
        found.count_delivery();
        self.last_received = Some(number);
        self.received.push(number, link.handle, 0);
        Ok(UnderWay { number, bytes: 0, settled: false })
    }

    fn take_detach<'i>(
        &mut self,
        detach: &Detach<'i>,
        cx: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'i>>, Violation> {
        let handle = self.attached(detach.handle)?;
        let link = LinkRef { session: self.id, handle };
        let was_ours = self.link(handle).is_some_and(|link| link.stage == Stage::Detaching);
        if !was_ours {
            self.detach(handle, detach.closed, None, cx, out);
        }
        self.remove(handle);
        if was_ours {
            // Told when this end detached it.
            return Ok(None);
        }
        Ok(Some(Event::LinkDetached { link, closed: detach.closed, error: detach.error }))
    }

    /// Detaches a link. It stays until the peer has done the same; its deliveries are over.
    pub(crate) fn detach(
        &mut self,
        handle: u32,
        closed: bool,
        error: Option<Error<'_>>,
        cx: &mut Surroundings<'_>,
        out: &mut Vec<u8>,
    ) {
        let Some(link) = self.link_mut(handle) else { return };
        if link.stage == Stage::Detaching {
            return;
        }
        if link.stage == Stage::Asked {
            // An attach that was never answered has no handle the peer could know.
            let (name, role) = (link.name.clone(), link.role);
            write_refusal(self.id.0, handle, &name, role, cx, out);
        }
        if let Some(link) = self.link_mut(handle) {
            link.stage = Stage::Detaching;
            link.under_way = None;
        }
        self.write_gathered(cx, out);
        let session = self.id;
        let leftovers = &mut *cx.leftovers;
        self.sent.remove_link(handle, |entry| {
            let link = LinkRef { session, handle };
            leftovers.push(Known { link, delivery: entry.number, token: entry.token });
        });
        self.received.remove_link(handle, |_| {});
        put(self.id.0, Performative::Detach(Detach { handle, closed, error }), cx, out);
    }

    fn remove(&mut self, handle: u32) {
        if let Some(place) = self.links.get_mut(handle as usize) {
            *place = None;
        }
        self.remote_handles.retain(|(_, local)| *local != handle);
        while self.links.last().is_some_and(Option::is_none) {
            self.links.pop();
        }
    }

    /// The session is no more: nobody settles its deliveries.
    pub(crate) fn abandon(&mut self, leftovers: &mut Vec<Known>) {
        let session = self.id;
        leftovers.extend(self.sent.drain().map(|entry| {
            let link = LinkRef { session, handle: entry.handle };
            Known { link, delivery: entry.number, token: entry.token }
        }));
        self.received = Unsettled::default();
        self.links.clear();
        self.remote_handles.clear();
        self.gathered = None;
    }

    /// Writes the session's state, and a link's.
    pub(crate) fn write_flow(
        &self,
        handle: Option<u32>,
        echo: bool,
        cx: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) {
        let link = handle.and_then(|handle| self.link(handle));
        let flow = Flow {
            next_incoming_id: self.remote.map(|_| self.next_incoming_id),
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
            handle,
            delivery_count: link.map(|link| link.delivery_count),
            link_credit: link.map(|link| link.credit),
            available: link.filter(|link| link.role == Role::Sender).map(|link| link.available),
            drain: link.is_some_and(|link| link.drain),
            echo,
            properties: None,
        };
        put(self.id.0, Performative::Flow(flow), cx, out);
    }

    /// Writes the answers that were gathered.
    pub(crate) fn write_gathered(&mut self, cx: &Surroundings<'_>, out: &mut Vec<u8>) {
        use fulcrum_amqp::{DeliveryState, Outcome};
        let Some(gathered) = self.gathered.take() else { return };
        let state = match gathered.fate {
            Fate::Silent => None,
            Fate::Accepted => Some(DeliveryState::Outcome(Outcome::Accepted)),
            Fate::Released => Some(DeliveryState::Outcome(Outcome::Released)),
        };
        let disposition = Disposition {
            role: gathered.role,
            first: gathered.first,
            last: (gathered.last != gathered.first).then_some(gathered.last),
            settled: gathered.settled,
            state,
            batchable: false,
        };
        put(self.id.0, Performative::Disposition(disposition), cx, out);
    }

    /// This end's handle of a link the peer names.
    fn attached(&self, remote: u32) -> Result<u32, Violation> {
        match self.remote_place(remote) {
            Ok(place) => Ok(self.remote_handles[place].1),
            Err(_) => {
                let description = "no link is attached to the handle";
                Err(self.violation(condition::SESSION_UNATTACHED_HANDLE, description))
            }
        }
    }

    fn remote_place(&self, remote: u32) -> Result<usize, usize> {
        self.remote_handles.binary_search_by_key(&remote, |(remote, _)| *remote)
    }

    fn violation(
        &self,
        condition: fulcrum_amqp::Symbol<'static>,
        description: &'static str,
    ) -> Violation {
        Violation { scope: Scope::Session(self.id), condition, description }
    }
}

fn of_link(
    link: LinkRef,
    condition: fulcrum_amqp::Symbol<'static>,
    description: &'static str,
) -> Violation {
    Violation { scope: Scope::Link(link), condition, description }
}

/// What of the peer's attach a link goes by.
fn hear_attach(link: &mut Link, attach: &Attach<'_>) {
    match link.role {
        Role::Receiver => link.delivery_count = attach.initial_delivery_count.unwrap_or(0),
        Role::Sender => link.message_bytes_max = attach.max_message_size.unwrap_or(0),
    }
}

/// Answers an attach that is refused: without the terminus that is this end's to give (part 2, 2.6.3).
pub(crate) fn write_refusal(
    channel: u16,
    handle: u32,
    name: &str,
    role: Role,
    cx: &Surroundings<'_>,
    out: &mut Vec<u8>,
) {
    let attach = Attach {
        name,
        handle,
        role,
        snd_settle_mode: fulcrum_amqp::SenderSettleMode::Mixed,
        rcv_settle_mode: fulcrum_amqp::ReceiverSettleMode::First,
        source: None,
        target: None,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: None,
        offered_capabilities: fulcrum_amqp::Symbols::NONE,
        desired_capabilities: fulcrum_amqp::Symbols::NONE,
        properties: None,
    };
    put(channel, Performative::Attach(Box::new(attach)), cx, out);
}

/// Writes a frame that is this end's own and small enough for any peer, but for a link's name: who has named it so takes
/// it so.
pub(crate) fn put(
    channel: u16,
    performative: Performative<'_>,
    cx: &Surroundings<'_>,
    out: &mut Vec<u8>,
) {
    let frame = Frame::Amqp { channel, performative, payload: &[] };
    let written = encode_frame(&frame, cx.frame_bytes_max, out);
    debug_assert!(written.is_ok(), "{written:?}");
}
