//! Reading a tenant's stream: consumer groups with a position per partition, pulled with a long poll.
//!
//! Reading changes no position: the same page comes again until the group commits, so records arrive at least once, and exactly
//! once where the application keeps positions with its own results. A position never moves back.

use crate::changes::left_ms;
use crate::chunk::Classes;
use crate::registry::put;
use crate::rows::{GroupRow, NumberRow, PartitionRow, decode};
use crate::store::{Expect, Item, Scan, StoreError, Write};
use crate::{ATTEMPTS, Cloud, Error, keys};
use fulcrum_contract::TenantId;
use fulcrum_contract::streams::{
    Commit, GroupPartition, GroupView, PartitionKey, Position, RecordPage,
};
use std::collections::BTreeMap;

mod page;

use page::PageBuilder;

pub use crate::chunk::Classes as RecordClasses;

/// Most records of one page.
pub const PAGE_RECORDS_MAX: usize = 1000;
/// Groups of one tenant: each has a position in each partition.
const GROUPS_PER_TENANT_MAX: usize = 1000;
/// Partitions looked at; far above what edges and epochs add up to.
const PARTITIONS_MAX: usize = 100_000;
/// Positions of one commit.
const POSITIONS_MAX: usize = 1000;

/// Where a new group starts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Start {
    /// With the oldest record there is.
    #[default]
    Earliest,
    /// With what comes after the group's first read.
    Latest,
}

/// What a reader asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// The group; made on its first read.
    pub group: String,
    /// Most records, 1 to [`PAGE_RECORDS_MAX`].
    pub max: usize,
    /// How long to wait for a record, in seconds.
    pub wait_s: u64,
    /// Only these classes. What is left out still moves the positions to commit.
    pub classes: Classes,
    /// Where the group starts if it is new.
    pub start: Start,
}

type Partitions = BTreeMap<String, PartitionRow>;

impl Cloud {
    /// Records behind the group's positions, waiting for the first one if there is none.
    pub async fn records(
        &self,
        tenant: &TenantId,
        request: &ReadRequest,
        now_ms: u64,
    ) -> Result<RecordPage, Error> {
        check_group(&request.group)?;
        self.tenant_item(tenant).await?;
        let until = self.wait_until(request.wait_s);
        let mut positions = None;
        loop {
            let mut watch = self.store.watch(vec![keys::partitions(tenant)]);
            let partitions = self.partitions(tenant).await?;
            let from = match positions.take() {
                Some(positions) => positions,
                None => self.join_group(tenant, request, &partitions, now_ms).await?,
            };
            let mut page = PageBuilder::new(request.max, request.classes, from);
            page.fill(self, tenant, &partitions).await?;
            let left_ms = left_ms(until);
            if page.is_worth_sending() || left_ms == 0 {
                return Ok(page.finish());
            }
            // Nothing of the wanted classes so far: what was passed over need not be read again.
            positions = Some(page.into_positions());
            watch.changed(left_ms).await;
        }
    }

    /// Moves the group's positions forward; one that is already further stays.
    pub async fn commit(
        &self,
        tenant: &TenantId,
        group: &str,
        commit: &Commit,
    ) -> Result<(), Error> {
        check_group(group)?;
        if commit.positions.len() > POSITIONS_MAX {
            return Err(Error::Invalid(format!(
                "a commit has at most {POSITIONS_MAX} positions: split it"
            )));
        }
        let mut wanted = BTreeMap::new();
        for Position { partition, sequence } in &commit.positions {
            check_partition(partition)?;
            let highest = wanted.entry(partition).or_insert(*sequence);
            *highest = (*highest).max(*sequence);
        }
        for _ in 0..ATTEMPTS {
            let present = self.existing_group(tenant, group).await?;
            let mut writes = Vec::new();
            for (partition, sequence) in &wanted {
                writes.extend(self.advance(tenant, group, partition, *sequence).await?);
            }
            if writes.is_empty() {
                return Ok(());
            }
            let (key, expect) = (keys::group(tenant, group), Expect::as_read(Some(&present)));
            writes.push(Write::Check { key, expect });
            match self.store.write(writes).await {
                Err(StoreError::Conflict) => continue,
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::Busy)
    }

    /// Positions of a group and what lies before it.
    pub async fn group(&self, tenant: &TenantId, group: &str) -> Result<GroupView, Error> {
        check_group(group)?;
        self.existing_group(tenant, group).await?;
        let positions = self.positions(tenant, group).await?;
        let mut partitions = Vec::new();
        for (sort, row) in self.partitions(tenant).await? {
            let Some(partition) = keys::parse_partition_sort(&sort) else { continue };
            let position = positions.get(&sort).copied().unwrap_or(0);
            partitions.push(GroupPartition {
                partition,
                position,
                first: row.first,
                last: row.mark,
                lag: row.mark.saturating_sub(position.max(row.first - 1)),
                lost: (row.first - 1).saturating_sub(position),
            });
        }
        let lag = partitions.iter().map(|partition| partition.lag).sum();
        Ok(GroupView { group: group.to_owned(), lag, partitions })
    }

    /// Forgets a group and its positions.
    pub async fn delete_group(&self, tenant: &TenantId, group: &str) -> Result<(), Error> {
        check_group(group)?;
        for _ in 0..ATTEMPTS {
            let item = self.one(keys::group(tenant, group)).await?;
            let item = item.ok_or_else(|| no_group(tenant, group))?;
            let row = GroupRow { is_going: true, ..decode(&item)? };
            let going = put(keys::group(tenant, group), &row, Expect::as_read(Some(&item)));
            match self.store.write(vec![going]).await {
                Err(StoreError::Conflict) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => return self.remove_group(tenant, group).await,
            }
        }
        Err(Error::Busy)
    }

    /// Removes a group that is going: its positions first, so that a new group of its name has none of them.
    async fn remove_group(&self, tenant: &TenantId, group: &str) -> Result<(), Error> {
        let delete = |key| Write::Delete { key, expect: Expect::Anything };
        let partition = keys::positions(tenant, group);
        loop {
            let Some(item) = self.one(keys::group(tenant, group)).await? else { return Ok(()) };
            if !decode::<GroupRow>(&item)?.is_going {
                return Ok(());
            }
            let items = self.store.scan(Scan::partition(partition.clone(), 20)).await?;
            let key = keys::group(tenant, group);
            let expect = Expect::as_read(Some(&item));
            let mut writes = vec![match items.is_empty() {
                true => Write::Delete { key, expect },
                false => Write::Check { key, expect },
            }];
            let key = |sort| crate::store::Key::new(partition.clone(), sort);
            writes.extend(items.into_iter().map(|item| delete(key(item.sort))));
            match self.store.write(writes).await {
                // Somebody else removes it too.
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Every partition of the tenant's stream by its sort key.
    pub(crate) async fn partitions(&self, tenant: &TenantId) -> Result<Partitions, Error> {
        let scan = Scan::partition(keys::partitions(tenant), PARTITIONS_MAX);
        let items = self.store.scan(scan).await?;
        items.into_iter().map(|item| Ok((item.sort.clone(), decode(&item)?))).collect()
    }

    async fn positions(
        &self,
        tenant: &TenantId,
        group: &str,
    ) -> Result<BTreeMap<String, u64>, Error> {
        let scan = Scan::partition(keys::positions(tenant, group), PARTITIONS_MAX);
        let items = self.store.scan(scan).await?;
        items
            .into_iter()
            .map(|item| Ok((item.sort.clone(), decode::<NumberRow>(&item)?.value)))
            .collect()
    }

    /// The group's positions; makes the group if it is new.
    async fn join_group(
        &self,
        tenant: &TenantId,
        request: &ReadRequest,
        partitions: &Partitions,
        now_ms: u64,
    ) -> Result<BTreeMap<String, u64>, Error> {
        let key = keys::group(tenant, &request.group);
        if let Some(item) = self.one(key.clone()).await? {
            if !decode::<GroupRow>(&item)?.is_going {
                return self.positions(tenant, &request.group).await;
            }
            // A deletion was interrupted, or is not done yet.
            self.remove_group(tenant, &request.group).await?;
        }
        let groups = Scan::partition(keys::groups(tenant), GROUPS_PER_TENANT_MAX);
        if self.store.scan(groups).await?.len() >= GROUPS_PER_TENANT_MAX {
            return Err(Error::Limit(format!(
                "the tenant '{tenant}' has {GROUPS_PER_TENANT_MAX} groups: delete those not in use"
            )));
        }
        let mut writes =
            vec![put(key, &GroupRow { created_ms: now_ms, is_going: false }, Expect::Absent)];
        if request.start == Start::Latest {
            for (sort, row) in partitions {
                let key = crate::store::Key::new(keys::positions(tenant, &request.group), sort);
                writes.push(put(key, &NumberRow { value: row.mark }, Expect::Anything));
            }
        }
        match self.store.write(writes).await {
            Ok(_) | Err(StoreError::Conflict) => self.positions(tenant, &request.group).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn existing_group(&self, tenant: &TenantId, group: &str) -> Result<Item, Error> {
        let item = self.one(keys::group(tenant, group)).await?;
        match item {
            Some(item) if !decode::<GroupRow>(&item)?.is_going => Ok(item),
            _ => Err(no_group(tenant, group)),
        }
    }

    /// The step that moves one position, if it moves.
    async fn advance(
        &self,
        tenant: &TenantId,
        group: &str,
        partition: &PartitionKey,
        sequence: u64,
    ) -> Result<Option<Write>, Error> {
        // A partition that retention has dropped meanwhile has nothing left to read.
        let Some(item) = self.one(keys::partition(tenant, partition)).await? else {
            return Ok(None);
        };
        let mark = decode::<PartitionRow>(&item)?.mark;
        if sequence > mark {
            return Err(Error::Invalid(format!(
                "position {sequence} is behind the last record {mark} of {}/{}",
                partition.edge, partition.partition
            )));
        }
        let key =
            crate::store::Key::new(keys::positions(tenant, group), keys::partition_sort(partition));
        let present = self.one(key.clone()).await?;
        let position = present.as_ref().map(decode::<NumberRow>).transpose()?;
        if position.is_some_and(|position| position.value >= sequence) {
            return Ok(None);
        }
        Ok(Some(put(key, &NumberRow { value: sequence }, Expect::as_read(present.as_ref()))))
    }
}

fn no_group(tenant: &TenantId, group: &str) -> Error {
    Error::NotFound(format!(
        "there is no group '{group}' in tenant '{tenant}': it is made by its first read"
    ))
}

fn check_group(group: &str) -> Result<(), Error> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if group.is_empty() || group.len() > 128 || !group.bytes().all(valid) {
        return Err(Error::Invalid(
            "'group' must have 1 to 128 characters of letters, digits, '-', '_' and '.'".to_owned(),
        ));
    }
    Ok(())
}

/// A partition's name becomes part of a key.
fn check_partition(partition: &PartitionKey) -> Result<(), Error> {
    let name = &partition.partition;
    if name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::Invalid("'partition' is not one that a page of records has named".to_owned()))
}
