//! Performatives: what the frames of a connection say (part 2, 2.7). Each has its fields, with the
//! defaults of the specification, in its order.
//!
//! Deliberately not here: whether a performative is permitted now. That needs the states of
//! connection, session and link.

use crate::clause;
use crate::composite::{Composite, composite, head};
use crate::definitions::{
    DeliveryTag, Error, Fields, ReceiverSettleMode, Role, SenderSettleMode, require,
};
use crate::descriptor;
use crate::error::{
    DecodeError, EncodeError, FieldName, invalid_field, malformed, not_implemented,
};
use crate::limits::FRAME_BYTES_MIN_MAX;
use crate::messaging::state::DeliveryState;
use crate::messaging::terminus::{Source, Target};
use crate::value::compound::Map;
use crate::value::read::Reader;
use crate::value::symbol::Symbols;

composite! {
    /// Opens a connection, and says what this end takes (2.7.1).
    Open<'a> as "open" = descriptor::OPEN;
    /// Name of the container that speaks.
    mandatory container_id: &'a str,
    /// The host the connection is for, as a name server or TLS would say it.
    optional hostname: &'a str,
    /// Largest frame this end takes; 512 at least.
    default(u32::MAX) max_frame_size: u32,
    /// Highest channel this end takes.
    default(u16::MAX) channel_max: u16,
    /// Milliseconds without a frame after which this end gives the connection up.
    optional idle_time_out: u32,
    /// Languages this end can send texts in.
    default(Symbols::NONE) outgoing_locales: Symbols<'a>,
    /// Languages this end wants texts in, the best first.
    default(Symbols::NONE) incoming_locales: Symbols<'a>,
    /// Extensions this end has.
    default(Symbols::NONE) offered_capabilities: Symbols<'a>,
    /// Extensions this end would use.
    default(Symbols::NONE) desired_capabilities: Symbols<'a>,
    /// Anything else about the connection.
    optional properties: Fields<'a>,
}

composite! {
    /// Begins a session on a channel (2.7.2).
    Begin<'a> as "begin" = descriptor::BEGIN;
    /// In an answer: the channel of the begin it answers.
    optional remote_channel: u16,
    /// Transfer number of the first transfer that will be sent.
    mandatory next_outgoing_id: u32,
    /// How many transfers this end has room for.
    mandatory incoming_window: u32,
    /// How many transfers this end may send before it waits.
    mandatory outgoing_window: u32,
    /// Highest handle this end takes.
    default(u32::MAX) handle_max: u32,
    /// Extensions this end has.
    default(Symbols::NONE) offered_capabilities: Symbols<'a>,
    /// Extensions this end would use.
    default(Symbols::NONE) desired_capabilities: Symbols<'a>,
    /// Anything else about the session.
    optional properties: Fields<'a>,
}

composite! {
    /// Attaches a link to a session (2.7.3).
    Attach<'a> as "attach" = descriptor::ATTACH;
    /// Name of the link, the same at both ends.
    mandatory name: &'a str,
    /// The number this end will call it by.
    mandatory handle: u32,
    /// Which end of the link speaks.
    mandatory role: Role,
    /// When the sender settles.
    default(SenderSettleMode::Mixed) snd_settle_mode: SenderSettleMode,
    /// When the receiver settles.
    default(ReceiverSettleMode::First) rcv_settle_mode: ReceiverSettleMode,
    /// Where messages come from; null in an answer refuses the link.
    optional source: Source<'a>,
    /// Where messages go to; null in an answer refuses the link.
    optional target: Target<'a>,
    /// Deliveries of an earlier life of the link that are not settled: tags and their states.
    optional unsettled: Map<'a>,
    /// Whether there are more of those than the frame had room for.
    default(false) incomplete_unsettled: bool,
    /// Where a sender begins to count deliveries.
    optional initial_delivery_count: u32,
    /// Largest message this end takes; 0 is no limit.
    optional max_message_size: u64,
    /// Extensions this end has.
    default(Symbols::NONE) offered_capabilities: Symbols<'a>,
    /// Extensions this end would use.
    default(Symbols::NONE) desired_capabilities: Symbols<'a>,
    /// Anything else about the link.
    optional properties: Fields<'a>,
}

composite! {
    /// Tells the state of a session, and of a link if it names one (2.7.4).
    Flow<'a> as "flow" = descriptor::FLOW;
    /// Transfer number this end expects next; null before it has seen a begin.
    optional next_incoming_id: u32,
    /// How many transfers this end has room for.
    mandatory incoming_window: u32,
    /// Transfer number of the next transfer that will be sent.
    mandatory next_outgoing_id: u32,
    /// How many transfers this end may send before it waits.
    mandatory outgoing_window: u32,
    /// The link it is about; null if about the session alone.
    optional handle: u32,
    /// How many deliveries the link has had.
    optional delivery_count: u32,
    /// How many more the receiver takes.
    optional link_credit: u32,
    /// How many more the sender has.
    optional available: u32,
    /// Whether the sender shall use the credit up, or give it back.
    default(false) drain: bool,
    /// Whether the other end shall answer with its state.
    default(false) echo: bool,
    /// Anything else about the state.
    optional properties: Fields<'a>,
}

composite! {
    /// Carries a message, or a piece of one, which is the payload of its frame (2.7.5).
    Transfer<'a> as "transfer" = descriptor::TRANSFER;
    /// The link it is sent on.
    mandatory handle: u32,
    /// Number of the delivery in the session; in the first transfer of it at least.
    optional delivery_id: u32,
    /// What names the delivery on its link; in the first transfer of it at least.
    optional delivery_tag: DeliveryTag<'a>,
    /// How to read the message: 0 is the format of part 3.
    optional message_format: u32,
    /// Whether the sender has settled it.
    optional settled: bool,
    /// Whether more transfers of this delivery follow.
    default(false) more: bool,
    /// When the receiver settles, where that differs from the link.
    optional rcv_settle_mode: ReceiverSettleMode,
    /// What the sender knows of the delivery's state.
    optional state: DeliveryState<'a>,
    /// Whether a delivery of an earlier life of the link goes on.
    default(false) resume: bool,
    /// Whether the delivery is given up: the receiver forgets it.
    default(false) aborted: bool,
    /// Whether the receiver may take its time to tell the state.
    default(false) batchable: bool,
}

composite! {
    /// Tells what became of deliveries (2.7.6).
    Disposition<'a> as "disposition" = descriptor::DISPOSITION;
    /// Which end of the link speaks.
    mandatory role: Role,
    /// Number of the first delivery it is about.
    mandatory first: u32,
    /// Number of the last one; null if about one alone.
    optional last: u32,
    /// Whether this end has settled them.
    default(false) settled: bool,
    /// Their state.
    optional state: DeliveryState<'a>,
    /// Whether the other end may take its time with an answer.
    default(false) batchable: bool,
}

composite! {
    /// Detaches a link from its session (2.7.7).
    Detach<'a> as "detach" = descriptor::DETACH;
    /// The link.
    mandatory handle: u32,
    /// Whether it ends, and does not only lose its session.
    default(false) closed: bool,
    /// Why, if something was wrong.
    optional error: Error<'a>,
}

composite! {
    /// Ends a session (2.7.8).
    End<'a> as "end" = descriptor::END;
    /// Why, if something was wrong.
    optional error: Error<'a>,
}

composite! {
    /// Closes a connection (2.7.9).
    Close<'a> as "close" = descriptor::CLOSE;
    /// Why, if something was wrong.
    optional error: Error<'a>,
}

/// One of the nine. The two largest, which come once in a connection's and a link's life, are the
/// only ones on the heap: so the others, which come with every message, stay small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Performative<'a> {
    /// 2.7.1.
    Open(Box<Open<'a>>),
    /// 2.7.2.
    Begin(Begin<'a>),
    /// 2.7.3.
    Attach(Box<Attach<'a>>),
    /// 2.7.4.
    Flow(Flow<'a>),
    /// 2.7.5.
    Transfer(Transfer<'a>),
    /// 2.7.6.
    Disposition(Disposition<'a>),
    /// 2.7.7.
    Detach(Detach<'a>),
    /// 2.7.8.
    End(End<'a>),
    /// 2.7.9.
    Close(Close<'a>),
}

impl<'a> Performative<'a> {
    /// From the front of a frame's body. The reader is behind it then.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (code, list, walk) = head(reader)?;
        Ok(match code {
            Some(descriptor::OPEN) => Self::Open(Box::new(Open::read(list, walk)?.checked()?)),
            Some(descriptor::BEGIN) => Self::Begin(Begin::read(list, walk)?),
            Some(descriptor::ATTACH) => {
                Self::Attach(Box::new(Attach::read(list, walk)?.checked()?))
            }
            Some(descriptor::FLOW) => Self::Flow(Flow::read(list, walk)?.checked()?),
            Some(descriptor::TRANSFER) => Self::Transfer(Transfer::read(list, walk)?),
            Some(descriptor::DISPOSITION) => Self::Disposition(Disposition::read(list, walk)?),
            Some(descriptor::DETACH) => Self::Detach(Detach::read(list, walk)?),
            Some(descriptor::END) => Self::End(End::read(list, walk)?),
            Some(descriptor::CLOSE) => Self::Close(Close::read(list, walk)?),
            _ => return Err(not_implemented(clause::PERFORMATIVE_UNKNOWN)),
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Open(open) => {
                require(open.is_frame_size_permitted(), clause::OPEN_FRAME_SIZE)?;
                open.write_composite(out)
            }
            Self::Begin(begin) => begin.write_composite(out),
            Self::Attach(attach) => {
                require(attach.has_delivery_count(), clause::ATTACH_DELIVERY_COUNT)?;
                attach.write_composite(out)
            }
            Self::Flow(flow) => {
                require(flow.has_handle_if_needed(), clause::FLOW_HANDLE)?;
                flow.write_composite(out)
            }
            Self::Transfer(transfer) => transfer.write_composite(out),
            Self::Disposition(disposition) => disposition.write_composite(out),
            Self::Detach(detach) => detach.write_composite(out),
            Self::End(end) => end.write_composite(out),
            Self::Close(close) => close.write_composite(out),
        }
    }
}

impl Open<'_> {
    fn is_frame_size_permitted(&self) -> bool {
        self.max_frame_size as usize >= FRAME_BYTES_MIN_MAX
    }

    fn checked(self) -> Result<Self, DecodeError> {
        let is_held = self.is_frame_size_permitted();
        held(self, is_held, "open", "max_frame_size", clause::OPEN_FRAME_SIZE)
    }
}

impl Attach<'_> {
    /// A sender says where it begins to count; what a receiver says there is ignored (2.7.3).
    fn has_delivery_count(&self) -> bool {
        self.role == Role::Receiver || self.initial_delivery_count.is_some()
    }

    fn checked(self) -> Result<Self, DecodeError> {
        let is_held = self.has_delivery_count();
        held(self, is_held, "attach", "initial_delivery_count", clause::ATTACH_DELIVERY_COUNT)
    }
}

impl Flow<'_> {
    /// Fields about a link need a link (2.7.4).
    fn has_handle_if_needed(&self) -> bool {
        let is_about_link =
            self.delivery_count.is_some() || self.link_credit.is_some() || self.available.is_some();
        self.handle.is_some() || !is_about_link
    }

    fn checked(self) -> Result<Self, DecodeError> {
        let is_held = self.has_handle_if_needed();
        held(self, is_held, "flow", "handle", clause::FLOW_HANDLE)
    }
}

/// A performative, if a rule holds that its fields have to keep together.
fn held<T>(
    performative: T,
    is_held: bool,
    composite: &'static str,
    field: &'static str,
    clause: &'static str,
) -> Result<T, DecodeError> {
    match is_held {
        true => Ok(performative),
        false => Err(invalid_field(clause).within(FieldName { composite, field })),
    }
}

/// A frame's body that ends where its performative does.
pub(crate) fn without_payload(reader: &Reader<'_>) -> Result<(), DecodeError> {
    if reader.is_empty() { Ok(()) } else { Err(malformed(clause::PAYLOAD_MISPLACED)) }
}
