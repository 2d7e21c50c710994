//! What the owner of a connection does with its sessions, links and deliveries.

use fulcrum_amqp::{
    Attach, DeliveryState, DeliveryTag, EncodeError, Error, Frame, Outcome, Performative,
    ReceiverSettleMode, Role, SenderSettleMode, Source, Symbols, Target, Transfer, encode_frame,
    encode_transfer,
};

use crate::connection::Connection;
use crate::event::{Dispositions, Known, LinkRef, SessionId};
use crate::limits::TRANSFER_HEAD_BYTES;
use crate::link::{Link, Stage, UnderWay};
use crate::session::{Fate, Gathered, Session};

/// What this end says of a link it attaches, or whose attach it answers.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    /// Where messages come from.
    pub source: Option<Source<'a>>,
    /// Where they go to.
    pub target: Option<Target<'a>>,
    /// When the sender settles.
    pub sender_settles: SenderSettleMode,
    /// When the receiver settles.
    pub receiver_settles: ReceiverSettleMode,
    /// Bytes of the largest message a receiver takes; 0 for any.
    pub message_bytes_max: u64,
    /// Extensions this end has.
    pub offered_capabilities: Symbols<'a>,
    /// Extensions it would use.
    pub desired_capabilities: Symbols<'a>,
}

/// A delivery that begins.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Its name on the link.
    pub tag: DeliveryTag<'a>,
    /// What the caller knows it by, given back when its fate is told.
    pub token: u64,
    /// Whether it is settled by being sent.
    pub settled: bool,
}

/// What of a message went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The delivery's number in its session.
    pub delivery: u32,
    /// Bytes of the payload. Fewer than were given: the session's window is full; the rest is to be sent when
    /// [`Event::Flow`](crate::Event::Flow) says so.
    pub bytes: usize,
}

/// Why nothing went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The link is not there, not attached by both ends, or does not send.
    NotAttached,
    /// The receiver takes no more deliveries now.
    NoCredit,
    /// The session takes no more transfers now.
    Window,
    /// As many deliveries as may be wait for settlement.
    Unsettled,
    /// Another delivery is on its way on the link, or none is that could go on.
    Order,
    /// The message is larger than the receiver takes.
    TooLarge,
}

impl Connection {
    /// Begins a session; `None` if there are as many as the ends allow, or the connection is not open.
    pub fn begin(&mut self, out: &mut Vec<u8>) -> Option<SessionId> {
        if !self.can_write() {
            return None;
        }
        let id = SessionId(self.free_channel()?);
        let session = Session::new(id, &self.settings);
        self.sessions[usize::from(id.0)] = Some(session);
        let (session, cx) = self.parts(id);
        session?.write_begin(None, &cx, out);
        self.wrote();
        Some(id)
    }

    /// Ends a session. What comes of it until the peer ends it too is ignored.
    pub fn end(&mut self, session: SessionId, error: Option<Error<'_>>, out: &mut Vec<u8>) {
        let (found, cx) = self.parts(session);
        let Some(found) = found.filter(|found| !found.is_ending) else { return };
        found.write_gathered(&cx, out);
        found.abandon(cx.leftovers);
        found.is_ending = true;
        self.put_end(session.0, error, out);
    }

    /// Attaches a link; `None` if the session is not there or full.
    ///
    /// # Errors
    /// What is said of it does not fit the peer's frames.
    pub fn attach(
        &mut self,
        session: SessionId,
        name: &str,
        role: Role,
        terms: &Terms<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<LinkRef>, EncodeError> {
        let settings = std::sync::Arc::clone(&self.settings);
        let frame_bytes_max = self.peer.frame_bytes_max;
        let (found, _) = self.parts(session);
        let Some(found) = found.filter(|found| found.remote.is_some() && !found.is_ending) else {
            return Ok(None);
        };
        let mut link = Link::new(name, role, Stage::Asking);
        link.message_bytes_max = if role == Role::Receiver { terms.message_bytes_max } else { 0 };
        let Some(link) = found.settle_in(link, &settings) else { return Ok(None) };
        write_attach(link, name, role, terms, frame_bytes_max, out)?;
        self.wrote();
        Ok(Some(link))
    }

    /// Answers an attach of the peer: the link is there.
    ///
    /// # Errors
    /// What is said of it does not fit the peer's frames; [`Connection::refuse`] it then.
    pub fn accept(
        &mut self,
        link: LinkRef,
        terms: &Terms<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let frame_bytes_max = self.peer.frame_bytes_max;
        let Some(found) = self.link_mut(link).filter(|found| found.stage == Stage::Asked) else {
            return Ok(());
        };
        let (name, role) = (found.name.clone(), found.role);
        write_attach(link, &name, role, terms, frame_bytes_max, out)?;
        if let Some(found) = self.link_mut(link) {
            found.stage = Stage::Attached;
            if role == Role::Receiver {
                found.message_bytes_max = terms.message_bytes_max;
            }
        }
        self.wrote();
        Ok(())
    }

    /// Answers an attach of the peer: there is no such link, because of `error` (part 2, 2.6.3).
    pub fn refuse(&mut self, link: LinkRef, error: Error<'_>, out: &mut Vec<u8>) {
        self.detach(link, true, Some(error), out);
    }

    /// Detaches a link; `closed` ends it. Its deliveries become [leftovers](Connection::leftovers), and what comes of it
    /// until the peer detaches it too is ignored.
    pub fn detach(
        &mut self,
        link: LinkRef,
        closed: bool,
        error: Option<Error<'_>>,
        out: &mut Vec<u8>,
    ) {
        let (session, mut cx) = self.parts(link.session);
        if let Some(session) = session {
            session.detach(link.handle, closed, error, &mut cx, out);
        }
        self.wrote();
    }

    /// Receiver: how many more deliveries the link takes, from now on. With `drain`, the sender shall send what it has up
    /// to that, and give the rest back.
    pub fn set_credit(&mut self, link: LinkRef, credit: u32, drain: bool, out: &mut Vec<u8>) {
        let Some(found) = self.link_mut(link) else { return };
        if found.role != Role::Receiver || found.stage != Stage::Attached {
            return;
        }
        (found.credit, found.drain) = (credit, drain);
        self.write_link_flow(link, out);
    }

    /// Sender: gives back the credit a draining receiver asked to be used, having nothing more to send. Tells how much
    /// there is, if there is no credit for it.
    pub fn give_back(&mut self, link: LinkRef, out: &mut Vec<u8>) {
        let Some(found) = self.link_mut(link) else { return };
        if found.role != Role::Sender || found.stage != Stage::Attached || !found.drain {
            return;
        }
        found.delivery_count = found.delivery_count.wrapping_add(found.credit);
        found.credit = 0;
        self.write_link_flow(link, out);
    }

    /// How many more deliveries a link takes; 0 if it is not there.
    #[must_use]
    pub fn credit(&self, link: LinkRef) -> u32 {
        self.link(link).map_or(0, |found| found.credit)
    }

    /// Whether the receiver wants the sender's credit used up or given back.
    #[must_use]
    pub fn is_draining(&self, link: LinkRef) -> bool {
        self.link(link).is_some_and(|found| found.drain)
    }

    /// Whether a delivery could begin now, and if not, why.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn check_room(&self, link: LinkRef) -> Result<(), Blocked> {
        let session = self.session(link.session).ok_or(Blocked::NotAttached)?;
        let found = session.link(link.handle).ok_or(Blocked::NotAttached)?;
        if found.stage != Stage::Attached || found.role != Role::Sender || session.is_ending {
            return Err(Blocked::NotAttached);
        }
        if found.under_way.is_some() {
            return Err(Blocked::Order);
        }
        if found.credit == 0 {
            return Err(Blocked::NoCredit);
        }
        if session.remote_incoming_window == 0 {
            return Err(Blocked::Window);
        }
        if session.sent.len() >= self.settings.unsettled_max {
            return Err(Blocked::Unsettled);
        }
        Ok(())
    }

    /// Sends a message, given in pieces, or with `more` its beginning.
    ///
    /// # Errors
    /// Nothing went out; see [`Blocked`].
    pub fn send(
        &mut self,
        link: LinkRef,
        delivery: Delivery<'_>,
        payload: &[&[u8]],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Result<Sent, Blocked> {
        self.check_room(link)?;
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        let frame_bytes_max = self.peer.frame_bytes_max;
        let (Some(session), _) = self.parts(link.session) else { return Err(Blocked::NotAttached) };
        let number = session.next_delivery;
        let Some(found) = session.link_mut(link.handle) else { return Err(Blocked::NotAttached) };
        if found.message_bytes_max > 0 && bytes as u64 > found.message_bytes_max {
            return Err(Blocked::TooLarge);
        }
        found.count_delivery();
        found.under_way = Some(UnderWay { number, bytes: 0, settled: delivery.settled });
        session.next_delivery = number.wrapping_add(1);
        if !delivery.settled {
            session.sent.push(number, link.handle, delivery.token);
        }
        let bytes = transfers(session, link, Some(delivery), payload, more, frame_bytes_max, out);
        self.wrote();
        Ok(Sent { delivery: number, bytes })
    }

    /// Goes on with a message whose beginning went out.
    ///
    /// # Errors
    /// Nothing went out; see [`Blocked`].
    pub fn send_more(
        &mut self,
        link: LinkRef,
        payload: &[&[u8]],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Result<Sent, Blocked> {
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        let frame_bytes_max = self.peer.frame_bytes_max;
        let (Some(session), _) = self.parts(link.session) else { return Err(Blocked::NotAttached) };
        let window = session.remote_incoming_window;
        let Some(found) = session.link(link.handle) else { return Err(Blocked::NotAttached) };
        if found.stage != Stage::Attached || found.role != Role::Sender {
            return Err(Blocked::NotAttached);
        }
        let Some(under_way) = found.under_way else { return Err(Blocked::Order) };
        if window == 0 {
            return Err(Blocked::Window);
        }
        if found.message_bytes_max > 0 && under_way.bytes + bytes as u64 > found.message_bytes_max {
            return Err(Blocked::TooLarge);
        }
        let bytes = transfers(session, link, None, payload, more, frame_bytes_max, out);
        self.wrote();
        Ok(Sent { delivery: under_way.number, bytes })
    }

    /// Gives up a message whose beginning went out (part 2, 2.7.5). It counts as settled. A window that is full does not
    /// keep it: the peer that counts it is owed the end of what it was sent.
    pub fn abort(&mut self, link: LinkRef, out: &mut Vec<u8>) {
        let frame_bytes_max = self.peer.frame_bytes_max;
        let (Some(session), _) = self.parts(link.session) else { return };
        let channel = session.id.0;
        let Some(found) = session.link_mut(link.handle) else { return };
        if found.role != Role::Sender {
            return;
        }
        let Some(under_way) = found.under_way.take() else { return };
        session.sent.remove(under_way.number);
        let transfer = Transfer { aborted: true, ..transfer_of(link.handle) };
        let written = encode_transfer(channel, &transfer, &[], frame_bytes_max, out);
        debug_assert!(written.is_ok(), "{written:?}");
        session.next_outgoing_id = session.next_outgoing_id.wrapping_add(1);
        session.remote_incoming_window = session.remote_incoming_window.saturating_sub(1);
        self.wrote();
    }

    /// Looks up the deliveries a disposition is about, oldest first. Those the peer has settled are forgotten; for the
    /// others, [`Connection::settle`] is still to be called when their fate is known.
    pub fn resolve(&mut self, dispositions: &Dispositions<'_>, mut each: impl FnMut(Known)) {
        let session = dispositions.session;
        let disposition = &dispositions.disposition;
        let (Some(found), _) = self.parts(session) else { return };
        let table = match disposition.role {
            Role::Receiver => &mut found.sent,
            Role::Sender => &mut found.received,
        };
        let last = disposition.last.unwrap_or(disposition.first);
        table.range(disposition.first, last, disposition.settled, |entry| {
            let link = LinkRef { session, handle: entry.handle };
            each(Known { link, delivery: entry.number, token: entry.token });
        });
    }

    /// Receiver: tells the state of a delivery that came, and whether it is settled. States that follow each other and
    /// are the same are gathered until [`Connection::flush`].
    pub fn dispose(
        &mut self,
        session: SessionId,
        delivery: u32,
        state: Option<DeliveryState<'_>>,
        settled: bool,
        out: &mut Vec<u8>,
    ) {
        self.tell(session, Role::Receiver, delivery, state, settled, out);
    }

    /// Sender: settles a delivery whose outcome the receiver has told without settling it (receiver settles second).
    pub fn settle(&mut self, session: SessionId, delivery: u32, out: &mut Vec<u8>) {
        self.tell(session, Role::Sender, delivery, None, true, out);
    }

    /// Writes what was gathered. To be called when the input is worked through.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let before = out.len();
        for channel in 0..self.sessions.len() {
            let (session, cx) = self.parts(SessionId(channel as u16));
            if let Some(session) = session {
                session.write_gathered(&cx, out);
            }
        }
        if out.len() > before {
            self.wrote();
        }
    }

    /// Deliveries of a session, sent and received, that are not settled.
    #[must_use]
    pub fn unsettled(&self, session: SessionId) -> (usize, usize) {
        self.session(session).map_or((0, 0), |found| (found.sent.len(), found.received.len()))
    }

    fn tell(
        &mut self,
        session: SessionId,
        role: Role,
        delivery: u32,
        state: Option<DeliveryState<'_>>,
        settled: bool,
        out: &mut Vec<u8>,
    ) {
        let frame_bytes_max = self.peer.frame_bytes_max;
        let (Some(found), cx) = self.parts(session) else { return };
        let table = match role {
            Role::Receiver => &mut found.received,
            Role::Sender => &mut found.sent,
        };
        let known = match settled {
            true => table.remove(delivery),
            false => table.find(delivery),
        };
        if known.is_none() {
            // The sender has settled it, or its link is no more: nobody waits for this.
            return;
        }
        let fate = match state {
            None => Some(Fate::Silent),
            Some(DeliveryState::Outcome(Outcome::Accepted)) => Some(Fate::Accepted),
            Some(DeliveryState::Outcome(Outcome::Released)) => Some(Fate::Released),
            Some(_) => None,
        };
        let Some(fate) = fate else {
            found.write_gathered(&cx, out);
            let disposition = fulcrum_amqp::Disposition {
                role,
                first: delivery,
                last: None,
                settled,
                state,
                batchable: false,
            };
            let performative = Performative::Disposition(disposition);
            let frame = Frame::Amqp { channel: session.0, performative, payload: &[] };
            if encode_frame(&frame, frame_bytes_max, out).is_err() {
                // A reason that does not fit the peer's frames is left out.
                let state = state.map(without_reason);
                let disposition = fulcrum_amqp::Disposition { state, ..disposition };
                let performative = Performative::Disposition(disposition);
                let frame = Frame::Amqp { channel: session.0, performative, payload: &[] };
                let written = encode_frame(&frame, frame_bytes_max, out);
                debug_assert!(written.is_ok(), "{written:?}");
            }
            self.wrote();
            return;
        };
        let joins = found.gathered.as_mut().filter(|gathered| {
            gathered.role == role
                && gathered.settled == settled
                && gathered.fate == fate
                && gathered.last.wrapping_add(1) == delivery
        });
        if let Some(gathered) = joins {
            gathered.last = delivery;
            return;
        }
        found.write_gathered(&cx, out);
        found.gathered = Some(Gathered { role, first: delivery, last: delivery, settled, fate });
    }

    fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(usize::from(session.0))?.as_ref()
    }

    fn link(&self, link: LinkRef) -> Option<&Link> {
        self.session(link.session)?.link(link.handle)
    }

    fn link_mut(&mut self, link: LinkRef) -> Option<&mut Link> {
        let session = self.sessions.get_mut(usize::from(link.session.0))?.as_mut()?;
        session.link_mut(link.handle)
    }

    fn write_link_flow(&mut self, link: LinkRef, out: &mut Vec<u8>) {
        let (session, cx) = self.parts(link.session);
        if let Some(session) = session {
            session.write_flow(Some(link.handle), false, &cx, out);
        }
        self.wrote();
    }
}

/// The same state without what is only for people or programs to look at.
fn without_reason(state: DeliveryState<'_>) -> DeliveryState<'_> {
    match state {
        DeliveryState::Outcome(Outcome::Rejected(rejected)) => {
            let error =
                rejected.error.map(|error| Error { description: None, info: None, ..error });
            DeliveryState::Outcome(Outcome::Rejected(fulcrum_amqp::Rejected { error }))
        }
        DeliveryState::Outcome(Outcome::Modified(modified)) => {
            let modified = fulcrum_amqp::Modified { message_annotations: None, ..modified };
            DeliveryState::Outcome(Outcome::Modified(modified))
        }
        state => state,
    }
}

fn write_attach(
    link: LinkRef,
    name: &str,
    role: Role,
    terms: &Terms<'_>,
    frame_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let max =
        (role == Role::Receiver && terms.message_bytes_max > 0).then_some(terms.message_bytes_max);
    let attach = Attach {
        name,
        handle: link.handle,
        role,
        snd_settle_mode: terms.sender_settles,
        rcv_settle_mode: terms.receiver_settles,
        source: terms.source,
        target: terms.target,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: max,
        offered_capabilities: terms.offered_capabilities,
        desired_capabilities: terms.desired_capabilities,
        properties: None,
    };
    let performative = Performative::Attach(Box::new(attach));
    let frame = Frame::Amqp { channel: link.session.0, performative, payload: &[] };
    encode_frame(&frame, frame_bytes_max, out)
}

fn transfer_of(handle: u32) -> Transfer<'static> {
    Transfer {
        handle,
        delivery_id: None,
        delivery_tag: None,
        message_format: None,
        settled: None,
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

/// Writes as many transfers as the session's window takes, and says how many bytes were in them.
fn transfers(
    session: &mut Session,
    link: LinkRef,
    delivery: Option<Delivery<'_>>,
    payload: &[&[u8]],
    more: bool,
    frame_bytes_max: usize,
    out: &mut Vec<u8>,
) -> usize {
    let channel = session.id.0;
    let number = session.next_delivery.wrapping_sub(1);
    let total: usize = payload.iter().map(|piece| piece.len()).sum();
    let room = frame_bytes_max.saturating_sub(TRANSFER_HEAD_BYTES).max(1);
    let mut begins = delivery;
    let mut done = 0;
    while session.remote_incoming_window > 0 && (done < total || begins.is_some() || total == 0) {
        let bytes = (total - done).min(room);
        let goes_on = more || done + bytes < total;
        let begun = begins.take();
        let transfer = Transfer {
            delivery_id: begun.map(|_| number),
            delivery_tag: begun.map(|begun| begun.tag),
            message_format: begun.map(|_| 0),
            settled: begun.map(|begun| begun.settled),
            more: goes_on,
            ..transfer_of(link.handle)
        };
        let written = match bytes == total {
            true => encode_transfer(channel, &transfer, payload, frame_bytes_max, out),
            false => {
                let pieces = cut(payload, done, bytes);
                encode_transfer(channel, &transfer, &pieces, frame_bytes_max, out)
            }
        };
        debug_assert!(written.is_ok(), "{written:?}");
        session.next_outgoing_id = session.next_outgoing_id.wrapping_add(1);
        session.remote_incoming_window -= 1;
        done += bytes;
        if let Some(found) = session.link_mut(link.handle)
            && let Some(under_way) = &mut found.under_way
        {
            under_way.bytes += bytes as u64;
            if !goes_on {
                found.under_way = None;
            }
        }
        if done == total {
            break;
        }
    }
    done
}

/// The pieces that hold `bytes` bytes from `from` on.
fn cut<'p>(payload: &[&'p [u8]], from: usize, bytes: usize) -> Vec<&'p [u8]> {
    let (mut skip, mut left) = (from, bytes);
    let mut pieces = Vec::new();
    for piece in payload {
        let begin = skip.min(piece.len());
        skip -= begin;
        let end = piece.len().min(begin + left);
        left -= end - begin;
        pieces.push(&piece[begin..end]);
    }
    pieces
}
