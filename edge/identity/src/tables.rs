//! The tables of the identity store.
//!
//! Keys are identifiers as redb orders tuples: element by element, so all rows of a tenant (or of a tenant's device)
//! are one range. Indexes ([`AUTH_IDS`], [`KEY_NAMES`], [`SUBJECTS`], [`ANCHORS`], [`ALIASES`], [`GATEWAYS`],
//! [`MEMBERS`], [`GROUPED`], [`COMMAND_IDS`], [`DEADLINES`]) are pure functions of the rows they index and change in the same
//! transaction.

use redb::{TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of this layout.
pub(crate) const FORMAT: u64 = 3;
/// The layout before: the same without [`GROUPED`].
pub(crate) const FORMAT_WITHOUT_GROUPED: u64 = 2;
/// The layout before that: also without [`KEY_NAMES`], [`SUBJECTS`], [`ANCHORS`], [`ALIASES`] and [`MEMBERS`].
pub(crate) const FORMAT_WITH_FEWER_INDEXES: u64 = 1;

/// Generation, version in the feed, and the document as JSON. The generation counts snapshots: rows that a complete
/// snapshot has not renewed are of an older generation, and are swept.
pub(crate) type Stamped = (u64, u64, &'static [u8]);

pub(crate) type TenantRow = &'static str;
pub(crate) type EntityRow = (&'static str, &'static str);
pub(crate) type NamedRow = (&'static str, &'static str, &'static str);
pub(crate) type CommandRow = (&'static str, &'static str, u64, &'static str);
pub(crate) type DeadlineRow = (u64, &'static str, &'static str, &'static str);

/// [`FORMAT_KEY`], [`CURSOR_KEY`], [`GENERATION_KEY`], [`SWEEP_KEY`], [`DONE_NEXT_KEY`].
pub(crate) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// [`FEED_KEY`].
pub(crate) const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("texts");
/// Tenant → document.
pub(crate) const TENANTS: TableDefinition<TenantRow, Stamped> = TableDefinition::new("tenants");
/// Tenant, device → document.
pub(crate) const DEVICES: TableDefinition<EntityRow, Stamped> = TableDefinition::new("devices");
/// Tenant, device → all its credentials.
pub(crate) const CREDENTIALS: TableDefinition<EntityRow, Stamped> =
    TableDefinition::new("credentials");
/// Tenant, auth-id of a hashed password, device. While a name moves between devices it may briefly have two.
pub(crate) const AUTH_IDS: TableDefinition<NamedRow, ()> = TableDefinition::new("auth-ids");
/// Tenant, auth-id of a public key, device.
pub(crate) const KEY_NAMES: TableDefinition<NamedRow, ()> = TableDefinition::new("key-names");
/// Tenant, auth-id of a certificate in its one spelling, device.
pub(crate) const SUBJECTS: TableDefinition<NamedRow, ()> = TableDefinition::new("subjects");
/// Subject of a trust anchor in its one spelling, tenant.
pub(crate) const ANCHORS: TableDefinition<EntityRow, ()> = TableDefinition::new("trust-anchors");
/// Alias, tenant. While an alias moves between tenants it may briefly have two.
pub(crate) const ALIASES: TableDefinition<EntityRow, ()> = TableDefinition::new("aliases");
/// Tenant, gateway, device that names the gateway in `via`.
pub(crate) const GATEWAYS: TableDefinition<NamedRow, ()> = TableDefinition::new("gateways");
/// Tenant, group, gateway that is a member of it.
pub(crate) const MEMBERS: TableDefinition<NamedRow, ()> = TableDefinition::new("members");
/// Tenant, group, device that names the group in `viaGroups`.
pub(crate) const GROUPED: TableDefinition<NamedRow, ()> = TableDefinition::new("grouped");
/// Tenant, application → document.
pub(crate) const APPLICATIONS: TableDefinition<EntityRow, Stamped> =
    TableDefinition::new("applications");
/// Tenant, device, sequence, command → document.
pub(crate) const COMMANDS: TableDefinition<CommandRow, Stamped> = TableDefinition::new("commands");
/// Tenant, device, command → sequence.
pub(crate) const COMMAND_IDS: TableDefinition<NamedRow, u64> = TableDefinition::new("command-ids");
/// Deadline in milliseconds since the Unix epoch, tenant, device, command.
pub(crate) const DEADLINES: TableDefinition<DeadlineRow, ()> = TableDefinition::new("deadlines");
/// Tenant, device, command that is done → its place in [`DONE_ORDER`].
pub(crate) const DONE: TableDefinition<NamedRow, u64> = TableDefinition::new("done");
/// Place → tenant, device, command; the lowest is forgotten first.
pub(crate) const DONE_ORDER: TableDefinition<u64, NamedRow> = TableDefinition::new("done-order");

pub(crate) const FORMAT_KEY: &str = "format";
/// Where the next request to the feed starts.
pub(crate) const CURSOR_KEY: &str = "cursor";
/// Present generation of rows.
pub(crate) const GENERATION_KEY: &str = "generation";
/// 1 while a snapshot is on its way and older generations are yet to be swept.
pub(crate) const SWEEP_KEY: &str = "sweep";
/// Next place in [`DONE_ORDER`].
pub(crate) const DONE_NEXT_KEY: &str = "done-next";
/// Identity of the feed.
pub(crate) const FEED_KEY: &str = "feed";

/// Creates what is missing, so that a reader always finds every table.
pub(crate) fn create_all(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(NUMBERS)?;
    transaction.open_table(TEXTS)?;
    transaction.open_table(TENANTS)?;
    transaction.open_table(DEVICES)?;
    transaction.open_table(CREDENTIALS)?;
    transaction.open_table(AUTH_IDS)?;
    transaction.open_table(KEY_NAMES)?;
    transaction.open_table(SUBJECTS)?;
    transaction.open_table(ANCHORS)?;
    transaction.open_table(ALIASES)?;
    transaction.open_table(GATEWAYS)?;
    transaction.open_table(MEMBERS)?;
    transaction.open_table(GROUPED)?;
    transaction.open_table(APPLICATIONS)?;
    transaction.open_table(COMMANDS)?;
    transaction.open_table(COMMAND_IDS)?;
    transaction.open_table(DEADLINES)?;
    transaction.open_table(DONE)?;
    transaction.open_table(DONE_ORDER)?;
    Ok(())
}

/// A document as it is stored.
pub(crate) fn encode<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have text keys and no failing serialisers")
}

/// A stored document. One that does not read is damage, and reported as such.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(json)
        .map_err(|error| redb::Error::Corrupted(format!("a {what} does not read: {error}")))
}
