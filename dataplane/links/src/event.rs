//! What a connection tells its owner, and what the peer did wrong.

use std::fmt;

use fulcrum_amqp::{
    Attach, DecodeError, DeliveryState, DeliveryTag, Disposition, Error, Open, Role, SaslChallenge,
    SaslInit, SaslMechanisms, SaslOutcome, SaslResponse, Symbol,
};

/// A session of a connection: its channel as this end calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u16);

/// A link of a connection: its session, and its handle as this end calls it. Both are given out again when the link is no
/// more, which [`Event`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkRef {
    /// Its session.
    pub session: SessionId,
    /// Its handle.
    pub handle: u32,
}

/// What came. Whatever has to be answered in one way alone is answered already.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// The client has chosen a mechanism. Nothing more is read until [`Connection::challenge`](crate::Connection::challenge)
    /// or [`Connection::outcome`](crate::Connection::outcome).
    SaslInit(SaslInit<'i>),
    /// The client's answer to a challenge; as above.
    SaslResponse(SaslResponse<'i>),
    /// To a client: what the server offers. Answer with [`Connection::choose`](crate::Connection::choose).
    SaslMechanisms(SaslMechanisms<'i>),
    /// To a client: answer with [`Connection::respond`](crate::Connection::respond).
    SaslChallenge(SaslChallenge<'i>),
    /// To a client: the verdict. After [`fulcrum_amqp::SaslCode::Ok`] the connection goes on by itself.
    SaslOutcome(SaslOutcome<'i>),
    /// The peer has opened the connection. Answer with [`Connection::open`](crate::Connection::open), if that was not called
    /// before, or with [`Connection::close`](crate::Connection::close).
    Opened(Box<Open<'i>>),
    /// A session is there: the peer began it, or answered this end's begin.
    SessionBegun(SessionId),
    /// A session is no more, and its links neither. See [`Connection::leftovers`](crate::Connection::leftovers).
    SessionEnded {
        /// The session.
        session: SessionId,
        /// What the peer says was wrong.
        error: Option<Error<'i>>,
    },
    /// The peer wants a link. Answer with [`Connection::accept`](crate::Connection::accept) or
    /// [`Connection::refuse`](crate::Connection::refuse).
    LinkAsked {
        /// The link.
        link: LinkRef,
        /// What the peer says of it.
        attach: Box<Attach<'i>>,
        /// An older link of the same name that had to make way (part 2, 2.6.1).
        stolen: Option<LinkRef>,
    },
    /// The peer has answered this end's attach. A null terminus means that it will detach at once (part 2, 2.6.3).
    LinkAttached {
        /// The link.
        link: LinkRef,
        /// What the peer says of it.
        attach: Box<Attach<'i>>,
    },
    /// A link is no more. See [`Connection::leftovers`](crate::Connection::leftovers).
    LinkDetached {
        /// The link.
        link: LinkRef,
        /// Whether it ended; otherwise the peer may attach it again and go on.
        closed: bool,
        /// What the peer says was wrong.
        error: Option<Error<'i>>,
    },
    /// Windows or credit have changed: what was held up may go on. Without a link it is about the session alone.
    Flow {
        /// The session.
        session: SessionId,
        /// The link.
        link: Option<LinkRef>,
    },
    /// A message, or a piece of one.
    Transfer(Arrival<'i>),
    /// The peer gave up a delivery that had begun.
    Aborted {
        /// The link.
        link: LinkRef,
        /// The delivery's number in its session.
        delivery: u32,
    },
    /// What became of deliveries: see [`Connection::resolve`](crate::Connection::resolve).
    Disposition(Dispositions<'i>),
    /// The peer has closed the connection, which is over when the output is sent.
    Closed {
        /// What it says was wrong.
        error: Option<Error<'i>>,
    },
    /// The peer broke a rule, and was told.
    Broken(Violation),
}

/// A piece of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'i> {
    /// The link.
    pub link: LinkRef,
    /// The delivery's number in its session, for [`Connection::dispose`](crate::Connection::dispose).
    pub delivery: u32,
    /// What the sender calls the delivery; in its first transfer.
    pub tag: Option<DeliveryTag<'i>>,
    /// Whether this is its first transfer.
    pub is_first: bool,
    /// Whether more follow.
    pub more: bool,
    /// Whether the sender has settled it: nothing is to be answered.
    pub settled: bool,
    /// How to read it; 0 is AMQP's own format.
    pub message_format: u32,
    /// What the sender knows of its state.
    pub state: Option<DeliveryState<'i>>,
    /// Whether it goes on from an earlier life of the link.
    pub resume: bool,
    /// The bytes.
    pub payload: &'i [u8],
}

/// A disposition that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispositions<'i> {
    pub(crate) session: SessionId,
    pub(crate) disposition: Disposition<'i>,
}

impl<'i> Dispositions<'i> {
    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The state of all of the deliveries, where the peer tells one.
    pub fn state(&self) -> Option<DeliveryState<'i>> {
        self.disposition.state
    }

    /// Whether the peer has settled them: they are forgotten at both ends then.
    pub fn settled(&self) -> bool {
        self.disposition.settled
    }

    /// Whether they are deliveries this end sent.
    pub fn is_of_sent(&self) -> bool {
        self.disposition.role == Role::Receiver
    }
}

/// A delivery a disposition is about, or one that nobody will settle any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its link.
    pub link: LinkRef,
    /// Its number in the session.
    pub delivery: u32,
    /// What it was sent with; 0 for one that came.
    pub token: u64,
}

/// What of a connection ends because of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Connection,
    /// A session and its links.
    Session(SessionId),
    /// A link.
    Link(LinkRef),
}

/// A rule the peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// What ended because of it.
    pub scope: Scope,
    /// What the peer was told (part 2, 2.8.15 to 2.8.18).
    pub condition: Symbol<'static>,
    /// For people; as the peer was told.
    pub description: &'static str,
}

impl Violation {
    pub(crate) fn of_connection(condition: Symbol<'static>, description: &'static str) -> Self {
        Self { scope: Scope::Connection, condition, description }
    }

    pub(crate) fn of_bytes(error: &DecodeError) -> Self {
        let description = error.clause().unwrap_or("the frame is larger than this end takes");
        Self::of_connection(error.condition(), description)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.condition, self.description)
    }
}
