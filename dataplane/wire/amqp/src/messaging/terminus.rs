//! Sources and targets: the two ends of a link (part 3, 3.5), and the coordinator of transactions
//! (part 4, 4.5.1), which can stand where a target does.

use crate::clause;
use crate::composite::{Composite, Field, composite, from_described};
use crate::definitions::{Address, Fields, choices};
use crate::descriptor;
use crate::error::{DecodeError, EncodeError, invalid_field, malformed, not_implemented};
use crate::messaging::state::Outcome;
use crate::value::compound::Map;
use crate::value::symbol::{Symbol, Symbols};
use crate::value::{Value, write};

composite! {
    /// Where messages come from (3.5.3).
    Source<'a> as "source" = descriptor::SOURCE;
    /// Its address.
    optional address: Address<'a>,
    /// What of it survives.
    default(TerminusDurability::None) durable: TerminusDurability,
    /// When its time begins to run out.
    default(ExpiryPolicy::SessionEnd) expiry_policy: ExpiryPolicy,
    /// Seconds until it is forgotten then.
    default(0) timeout: u32,
    /// Whether the other end shall make a node, and tell its address.
    default(false) dynamic: bool,
    /// What the node shall be like.
    optional dynamic_node_properties: NodeProperties<'a>,
    /// Whether messages are moved or copied to the link.
    optional distribution_mode: DistributionMode<'a>,
    /// Which messages are wanted.
    optional filter: FilterSet<'a>,
    /// What becomes of a message that is settled without an outcome.
    optional default_outcome: Outcome<'a>,
    /// Descriptors of the outcomes the link may use.
    default(Symbols::NONE) outcomes: Symbols<'a>,
    /// Extensions of it.
    default(Symbols::NONE) capabilities: Symbols<'a>,
}

composite! {
    /// Where messages go to, if it is a node (3.5.4).
    TargetNode<'a> as "target" = descriptor::TARGET;
    /// Its address. Null is the anonymous terminus: each message says in `to` where it goes.
    optional address: Address<'a>,
    /// What of it survives.
    default(TerminusDurability::None) durable: TerminusDurability,
    /// When its time begins to run out.
    default(ExpiryPolicy::SessionEnd) expiry_policy: ExpiryPolicy,
    /// Seconds until it is forgotten then.
    default(0) timeout: u32,
    /// Whether the other end shall make a node, and tell its address.
    default(false) dynamic: bool,
    /// What the node shall be like.
    optional dynamic_node_properties: NodeProperties<'a>,
    /// Extensions of it.
    default(Symbols::NONE) capabilities: Symbols<'a>,
}

composite! {
    /// What takes the messages that declare and discharge transactions (part 4, 4.5.1).
    Coordinator<'a> as "coordinator" = descriptor::COORDINATOR;
    /// What its transactions can do.
    default(Symbols::NONE) capabilities: Symbols<'a>,
}

/// Where messages go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A node.
    Node(TargetNode<'a>),
    /// A coordinator of transactions.
    Coordinator(Coordinator<'a>),
}

impl<'a> Field<'a> for Target<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        let Value::Described(described) = value else {
            return Err(malformed(clause::COMPOSITE_NOT_DESCRIBED));
        };
        match described.code() {
            Some(descriptor::TARGET) => from_described(&described).map(Self::Node),
            Some(descriptor::COORDINATOR) => from_described(&described).map(Self::Coordinator),
            // The specification leaves room for targets of other kinds.
            _ => Err(not_implemented(clause::COMPOSITE_UNKNOWN)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Node(target) => target.write_composite(out),
            Self::Coordinator(coordinator) => coordinator.write_composite(out),
        }
    }
}

choices! {
    /// What of a terminus survives a crash (3.5.5).
    TerminusDurability: u32;
    /// Nothing.
    None = 0,
    /// That it is there, and how.
    Configuration = 1,
    /// That, and its deliveries that are not settled.
    UnsettledState = 2,
}

/// When the time of a terminus begins to run out (3.5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryPolicy {
    /// When its link is detached.
    LinkDetach,
    /// When its session ends.
    SessionEnd,
    /// When its connection is closed.
    ConnectionClose,
    /// Never.
    Never,
}

impl ExpiryPolicy {
    /// All of them, for tables and tests.
    pub const ALL: &[Self] =
        &[Self::LinkDetach, Self::SessionEnd, Self::ConnectionClose, Self::Never];

    /// The symbol on the wire.
    pub fn symbol(self) -> Symbol<'static> {
        match self {
            Self::LinkDetach => const { Symbol::literal("link-detach") },
            Self::SessionEnd => const { Symbol::literal("session-end") },
            Self::ConnectionClose => const { Symbol::literal("connection-close") },
            Self::Never => const { Symbol::literal("never") },
        }
    }
}

impl<'a> Field<'a> for ExpiryPolicy {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        let symbol = Symbol::from_value(value)?;
        let known = Self::ALL.iter().find(|policy| policy.symbol() == symbol);
        known.copied().ok_or(invalid_field(clause::FIELD_CHOICE))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::symbol(self.symbol(), out)
    }
}

/// Whether a message that goes to one link is there for others (3.5.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistributionMode<'a> {
    /// It is not: a queue.
    Move,
    /// It is: a topic, or a look into a queue.
    Copy,
    /// A mode of somebody's own.
    Other(Symbol<'a>),
}

impl<'a> DistributionMode<'a> {
    /// The mode a symbol stands for.
    pub fn from_symbol(symbol: Symbol<'a>) -> Self {
        match symbol.as_str() {
            "move" => Self::Move,
            "copy" => Self::Copy,
            _ => Self::Other(symbol),
        }
    }

    /// The symbol on the wire.
    pub fn symbol(self) -> Symbol<'a> {
        match self {
            Self::Move => const { Symbol::literal("move") },
            Self::Copy => const { Symbol::literal("copy") },
            Self::Other(symbol) => symbol,
        }
    }
}

impl<'a> Field<'a> for DistributionMode<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        Symbol::from_value(value).map(Self::from_symbol)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::symbol(self.symbol(), out)
    }
}

/// Filters by name: each null or a described value (3.5.8), as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterSet<'a>(Map<'a>);

impl<'a> FilterSet<'a> {
    /// A map, or `None` if a key is no symbol or a value neither null nor described.
    pub fn new(map: Map<'a>) -> Option<Self> {
        let is_filter = |(key, value): (Value<'_>, Value<'_>)| {
            key.as_symbol().is_some() && matches!(value, Value::Null | Value::Described(_))
        };
        map.iter().all(is_filter).then_some(Self(map))
    }

    /// The map.
    pub fn as_map(&self) -> Map<'a> {
        self.0
    }
}

impl<'a> Field<'a> for FilterSet<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        Self::new(Map::from_value(value)?).ok_or(malformed(clause::FILTER_SET))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.write(out)
    }
}

/// What a node that is made for a link shall be like (3.5.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeProperties<'a>(pub Fields<'a>);

impl<'a> NodeProperties<'a> {
    const LIFETIME_POLICY: Symbol<'static> = Symbol::literal("lifetime-policy");
    const DISTRIBUTION_MODES: Symbol<'static> = Symbol::literal("supported-dist-modes");

    /// When the node goes, if that is said with one of the specification's policies.
    pub fn lifetime_policy(&self) -> Option<LifetimePolicy> {
        let Value::Described(policy) = self.0.find(Self::LIFETIME_POLICY)? else { return None };
        let is_known = |one: &&LifetimePolicy| Some(one.descriptor()) == policy.code();
        LifetimePolicy::ALL.iter().find(is_known).copied()
    }

    /// The distribution modes it shall have.
    pub fn supported_distribution_modes(&self) -> impl Iterator<Item = DistributionMode<'a>> {
        let modes = self.0.find(Self::DISTRIBUTION_MODES).unwrap_or(Value::Null);
        let symbols = Symbols::from_value(modes).unwrap_or(Symbols::NONE);
        symbols.iter().map(DistributionMode::from_symbol)
    }
}

impl<'a> Field<'a> for NodeProperties<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        Fields::from_value(value).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.write(out)
    }
}

/// When a node that was made for a link goes (3.5.10 to 3.5.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimePolicy {
    /// With the link.
    DeleteOnClose,
    /// When no link uses it.
    DeleteOnNoLinks,
    /// When it has no messages.
    DeleteOnNoMessages,
    /// When it has neither.
    DeleteOnNoLinksOrMessages,
}

impl LifetimePolicy {
    /// All of them, for tables and tests.
    pub const ALL: &[Self] = &[
        Self::DeleteOnClose,
        Self::DeleteOnNoLinks,
        Self::DeleteOnNoMessages,
        Self::DeleteOnNoLinksOrMessages,
    ];

    /// The descriptor of the list without fields it is on the wire.
    pub fn descriptor(self) -> u64 {
        match self {
            Self::DeleteOnClose => descriptor::DELETE_ON_CLOSE,
            Self::DeleteOnNoLinks => descriptor::DELETE_ON_NO_LINKS,
            Self::DeleteOnNoMessages => descriptor::DELETE_ON_NO_MESSAGES,
            Self::DeleteOnNoLinksOrMessages => descriptor::DELETE_ON_NO_LINKS_OR_MESSAGES,
        }
    }
}
