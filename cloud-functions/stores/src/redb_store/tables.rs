//! The tables of the file.

use redb::{Database, ReadableDatabase, TableDefinition};

/// (partition, sort) -> revision (8 bytes, little-endian) and value.
pub(crate) const ITEMS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("items");
/// (scope, version) -> (subject, value).
pub(crate) const FEED: TableDefinition<(&str, u64), (&str, &[u8])> = TableDefinition::new("feed");
/// (scope, subject) -> version of its entry.
pub(crate) const FEED_OF: TableDefinition<(&str, &str), u64> = TableDefinition::new("feed-of");
/// Counters by name.
pub(crate) const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// The store's own properties by name.
const PROPERTIES: TableDefinition<&str, &str> = TableDefinition::new("properties");

/// Last revision given to a write.
pub(crate) const REVISION: &str = "revision";
/// Last version given to a feed entry.
pub(crate) const VERSION: &str = "version";

/// Makes the tables where they are missing; returns the store's identity.
pub(crate) fn prepare(database: &Database, new_identity: &str) -> Result<String, redb::Error> {
    if let Some(identity) = identity(database)? {
        return Ok(identity);
    }
    let transaction = database.begin_write()?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(FEED)?;
    transaction.open_table(FEED_OF)?;
    transaction.open_table(COUNTERS)?;
    transaction.open_table(PROPERTIES)?.insert("identity", new_identity)?;
    transaction.commit()?;
    Ok(new_identity.to_owned())
}

fn identity(database: &Database) -> Result<Option<String>, redb::Error> {
    let table = match database.begin_read()?.open_table(PROPERTIES) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    Ok(table.get("identity")?.map(|identity| identity.value().to_owned()))
}
