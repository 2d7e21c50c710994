//! Applying the cloud's change feed.
//!
//! A page is applied in one transaction together with the feed's identity and the cursor behind it. Rules:
//!
//! 1. A page of the known feed whose cursor lies behind the stored one is stale (a duplicate, or a late answer): it
//!    changes nothing. The newest page may be applied again; entities are sent whole, so that changes nothing either.
//! 2. A page of another feed starts a snapshot. The rows of the old feed are kept and used until the snapshot is
//!    complete (the first page with nothing behind it), because the link may fail halfway and devices must be able to
//!    log in all the same. Then every row the snapshot did not renew is swept.
//! 3. Markers of commands that are done survive a snapshot: it may contain a command whose delivery the cloud has not
//!    heard of yet.
//! 4. A deleted tenant takes its devices, credentials, applications and commands along; a deleted device its
//!    credentials and commands. A tenant that comes back must be sent anew with all it has.

use crate::error::IdentityError;
use crate::replica::Identity;
use crate::tables::{CURSOR_KEY, FEED_KEY, GENERATION_KEY, NUMBERS, SWEEP_KEY, TEXTS};
use fulcrum_contract::feed::{ChangePage, Entity};
use fulcrum_contract::{ApplicationId, DeviceId, TenantId};
use redb::{ReadableTable as _, WriteTransaction};
pub(crate) use rows::Rows;

mod rows;

/// Where the replica stands in the feed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FeedPosition {
    /// Identity of the feed; none before the first page.
    pub feed: Option<String>,
    /// Where the next request starts.
    pub cursor: u64,
}

/// What a page has changed, for the node to tell its shards. Lists are in order and without duplicates.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Applied {
    /// Tenants whose document changed or went.
    pub tenants_changed: Vec<TenantId>,
    /// Devices whose document or credentials changed or went. Not those that went with their tenant.
    pub devices_changed: Vec<(TenantId, DeviceId)>,
    /// Applications that changed or went.
    pub applications_changed: Vec<(TenantId, ApplicationId)>,
    /// Devices with new pending commands.
    pub commands: Vec<(TenantId, DeviceId)>,
    /// Anything may have changed: a snapshot has started, or a complete one has swept what it did not contain.
    pub all: bool,
    /// The page was older than the replica and changed nothing. More than now and then means that the cloud's feed went
    /// back without changing its identity.
    pub stale: bool,
}

impl Identity {
    /// Where to continue reading the feed.
    pub fn feed_position(&self) -> Result<FeedPosition, IdentityError> {
        self.inner.read(|view| {
            let feed = view.0.open_table(TEXTS)?.get(FEED_KEY)?;
            let cursor = view.0.open_table(NUMBERS)?.get(CURSOR_KEY)?;
            Ok(FeedPosition {
                feed: feed.map(|feed| feed.value().to_owned()),
                cursor: cursor.map_or(0, |cursor| cursor.value()),
            })
        })
    }

    /// Applies one page, durably: when this returns, the page's changes are in force and on disk.
    pub fn apply(&self, page: &ChangePage) -> Result<Applied, IdentityError> {
        if page.changes.is_empty() && self.is_at(page)? {
            return Ok(Applied::default());
        }
        let written = self.inner.write(|transaction| apply(transaction, page));
        let mut applied = written.inspect_err(|_| {
            // Whether it is in the file, nobody knows.
            self.inner.editions.raise_all();
        })?;
        applied.tidy();
        self.inner.editions.raise(&applied);
        Ok(applied)
    }

    /// Whether an empty page, the answer of a long poll in which nothing happened, leaves everything as it is.
    fn is_at(&self, page: &ChangePage) -> Result<bool, IdentityError> {
        let sweeping = self.inner.read(|view| {
            Ok(view.0.open_table(NUMBERS)?.get(SWEEP_KEY)?.is_some_and(|flag| flag.value() == 1))
        })?;
        let position = self.feed_position()?;
        let same_place = position.feed.as_deref() == Some(page.feed.as_str());
        Ok(!sweeping && same_place && position.cursor == page.cursor)
    }
}

fn apply(transaction: &WriteTransaction, page: &ChangePage) -> Result<Applied, redb::Error> {
    let mut applied = Applied::default();
    let mut numbers = transaction.open_table(NUMBERS)?;
    let number = |key: &str| -> Result<Option<u64>, redb::Error> {
        Ok(numbers.get(key)?.map(|number| number.value()))
    };
    let cursor = number(CURSOR_KEY)?.unwrap_or(0);
    let mut generation = number(GENERATION_KEY)?.unwrap_or(0);
    let mut sweeping = number(SWEEP_KEY)? == Some(1);

    let mut texts = transaction.open_table(TEXTS)?;
    let same_feed = texts.get(FEED_KEY)?.is_some_and(|feed| feed.value() == page.feed);
    if same_feed && page.cursor < cursor {
        return Ok(Applied { stale: true, ..Applied::default() });
    }
    if !same_feed {
        generation += 1;
        sweeping = true;
        applied.all = true;
        texts.insert(FEED_KEY, page.feed.as_str())?;
    }

    let mut rows = Rows::open(transaction, generation)?;
    for change in &page.changes {
        apply_change(&mut rows, change.version, &change.entity, &mut applied)?;
    }
    if sweeping && !page.more {
        applied.all |= rows.sweep()?;
        sweeping = false;
    }

    numbers.insert(CURSOR_KEY, page.cursor)?;
    numbers.insert(GENERATION_KEY, generation)?;
    numbers.insert(SWEEP_KEY, u64::from(sweeping))?;
    Ok(applied)
}

fn apply_change(
    rows: &mut Rows<'_>,
    version: u64,
    entity: &Entity,
    applied: &mut Applied,
) -> Result<(), redb::Error> {
    match entity {
        Entity::Tenant { tenant, document } => {
            applied.tenants_changed.push(tenant.clone());
            match document {
                Some(document) => rows.put_tenant(tenant.as_str(), version, document),
                None => rows.remove_tenant(tenant.as_str()),
            }
        }
        Entity::Device { tenant, device, document } => {
            applied.devices_changed.push((tenant.clone(), device.clone()));
            let (tenant, device) = (tenant.as_str(), device.as_str());
            match document {
                Some(document) => rows.put_device(tenant, device, version, document),
                None => rows.remove_device_and_its_rows(tenant, device),
            }
        }
        Entity::Credentials { tenant, device, document } => {
            applied.devices_changed.push((tenant.clone(), device.clone()));
            let (tenant, device) = (tenant.as_str(), device.as_str());
            match document {
                Some(document) => rows.put_credentials(tenant, device, version, document),
                None => rows.remove_credentials(tenant, device),
            }
        }
        Entity::Application { tenant, application, document } => {
            applied.applications_changed.push((tenant.clone(), application.clone()));
            let (tenant, application) = (tenant.as_str(), application.as_str());
            match document {
                Some(document) => rows.put_application(tenant, application, version, document),
                None => rows.remove_application(tenant, application),
            }
        }
        Entity::Command { tenant, device, command, document } => {
            let names = (tenant.as_str(), device.as_str(), command.as_str());
            match document {
                Some(document) => {
                    if rows.put_command(names, version, document)? {
                        applied.commands.push((tenant.clone(), device.clone()));
                    }
                    Ok(())
                }
                None => rows.remove_command(names),
            }
        }
    }
}

impl Applied {
    fn tidy(&mut self) {
        self.tenants_changed.sort();
        self.tenants_changed.dedup();
        self.devices_changed.sort();
        self.devices_changed.dedup();
        self.applications_changed.sort();
        self.applications_changed.dedup();
        self.commands.sort();
        self.commands.dedup();
    }
}
