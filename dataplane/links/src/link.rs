//! One link: credit, and the delivery that is on its way (part 2, 2.6).

use fulcrum_amqp::{Flow, Role};

use crate::serial;

/// Where a link is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The peer has attached it; this end has still to answer.
    Asked,
    /// This end has attached it; the peer has still to answer.
    Asking,
    /// Both have.
    Attached,
    /// This end has detached it; what comes until the peer does the same is ignored.
    Detaching,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub name: Box<str>,
    /// This end's.
    pub role: Role,
    pub stage: Stage,
    /// What the peer calls it, once it has said so.
    pub remote_handle: Option<u32>,
    /// Deliveries so far, counted by the sender (part 2, 2.6.7).
    pub delivery_count: u32,
    /// Deliveries that may still come or go.
    pub credit: u32,
    /// What a sender says it has beyond the credit.
    pub available: u32,
    /// The receiver wants the credit used up or given back.
    pub drain: bool,
    /// Bytes a message may have; 0 for any number. The receiver's word.
    pub message_bytes_max: u64,
    /// The delivery whose last transfer has not come or gone yet.
    pub under_way: Option<UnderWay>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct UnderWay {
    pub number: u32,
    pub bytes: u64,
    pub settled: bool,
}

impl Link {
    pub(crate) fn new(name: &str, role: Role, stage: Stage) -> Self {
        Self {
            name: name.into(),
            role,
            stage,
            remote_handle: None,
            delivery_count: 0,
            credit: 0,
            available: 0,
            drain: false,
            message_bytes_max: 0,
            under_way: None,
        }
    }

    /// What the other end says of the link's state (part 2, 2.6.7).
    pub(crate) fn heard(&mut self, flow: &Flow<'_>) {
        match self.role {
            Role::Sender => {
                // The receiver's credit counts from what it has seen; what it has not is on its way to it.
                let seen = flow.delivery_count.unwrap_or(0);
                let credit = flow.link_credit.unwrap_or(0);
                let on_its_way = serial::ahead(seen, self.delivery_count);
                self.credit = credit.saturating_sub(on_its_way);
                self.drain = flow.drain;
            }
            Role::Receiver => {
                if let Some(count) = flow.delivery_count {
                    // It has given back what it did not use.
                    self.credit =
                        self.credit.saturating_sub(serial::ahead(self.delivery_count, count));
                    if self.drain && self.credit == 0 {
                        self.drain = false;
                    }
                    if serial::is_before(self.delivery_count, count) {
                        self.delivery_count = count;
                    }
                }
                self.available = flow.available.unwrap_or(0);
            }
        }
    }

    /// One more delivery has come or gone.
    pub(crate) fn count_delivery(&mut self) {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit = self.credit.saturating_sub(1);
    }
}
