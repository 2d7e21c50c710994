//! The store itself: opening the file, and reading single entities from it.

use crate::edition::Editions;
use crate::error::IdentityError;
use crate::feed::Rows;
use crate::limits::STORE_CACHE_BYTES;
use crate::memo::Memo;
use crate::tables::{
    self, ALIASES, ANCHORS, APPLICATIONS, AUTH_IDS, COMMANDS, CREDENTIALS, DEVICES, EntityRow,
    FORMAT, FORMAT_KEY, FORMAT_WITH_FEWER_INDEXES, FORMAT_WITHOUT_GROUPED, GATEWAYS, KEY_NAMES,
    MEMBERS, NUMBERS, NamedRow, SUBJECTS, TENANTS,
};
use fulcrum_contract::registry::{Application, Credential, Device, Tenant};
use fulcrum_contract::{ApplicationId, CommandId, DeviceId, TenantId};
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, StorageError, TableDefinition, WriteTransaction,
};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The replica and everything decided from it. A clone is another handle to the same store.
///
/// Calls block: on the disk, and in `authenticate` on bcrypt. They may run on any number of threads; writers take turns.
#[derive(Clone)]
pub struct Identity {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    database: Database,
    path: PathBuf,
    pub(crate) memo: Memo,
    pub(crate) editions: Arc<Editions>,
    /// Expired commands this process has handed out for reporting and not been told are done.
    pub(crate) expired_handed_out: Mutex<HashSet<(TenantId, DeviceId, CommandId)>>,
}

/// How many of each the store holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Tenants.
    pub tenants: u64,
    /// Devices.
    pub devices: u64,
    /// Names devices can log in with: user names, names of keys, subjects of certificates.
    pub credentials: u64,
    /// Applications.
    pub applications: u64,
    /// Commands that wait, expired ones included until they are reported.
    pub commands: u64,
}

impl Identity {
    /// Opens the store at `path`, or creates it, readable by its owner alone. Verifies the whole file first: a damaged
    /// one is refused with the remedy instead of failing later.
    pub fn open(path: &Path) -> Result<Identity, IdentityError> {
        let open = |source| IdentityError::Open { path: path.to_owned(), source };
        let file = open_private(path).map_err(open)?;
        let backend = FileBackend::new(file).map_err(|error| database_error(path, error))?;
        let database = Database::builder()
            .set_cache_size(STORE_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|error| database_error(path, error))?;
        let inner = Inner {
            database,
            path: path.to_owned(),
            memo: Memo::new(),
            editions: Arc::new(Editions::new()),
            expired_handed_out: Mutex::default(),
        };
        inner.prepare()?;
        Ok(Identity { inner: Arc::new(inner) })
    }

    /// A tenant's document.
    pub fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, IdentityError> {
        self.inner.read(|view| view.tenant(tenant.as_str()))
    }

    /// A device's document.
    pub fn device(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
    ) -> Result<Option<Device>, IdentityError> {
        self.inner.read(|view| view.device(tenant.as_str(), device.as_str()))
    }

    /// An application's document.
    pub fn application(
        &self,
        tenant: &TenantId,
        application: &ApplicationId,
    ) -> Result<Option<Application>, IdentityError> {
        self.inner.read(|view| view.application(tenant.as_str(), application.as_str()))
    }

    /// How many of each the store holds.
    pub fn counts(&self) -> Result<Counts, IdentityError> {
        self.inner.read(|view| {
            Ok(Counts {
                tenants: view.0.open_table(TENANTS)?.len()?,
                devices: view.0.open_table(DEVICES)?.len()?,
                credentials: view.0.open_table(AUTH_IDS)?.len()?
                    + view.0.open_table(KEY_NAMES)?.len()?
                    + view.0.open_table(SUBJECTS)?.len()?,
                applications: view.0.open_table(APPLICATIONS)?.len()?,
                commands: view.0.open_table(COMMANDS)?.len()?,
            })
        })
    }

    /// Verified passwords remembered, for metrics.
    pub fn remembered_passwords(&self) -> usize {
        self.inner.memo.len()
    }
}

impl Inner {
    /// Runs `question` on one consistent state of the store.
    pub(crate) fn read<T>(
        &self,
        question: impl FnOnce(&View) -> Result<T, redb::Error>,
    ) -> Result<T, IdentityError> {
        let answer = || question(&View(self.database.begin_read()?));
        answer().map_err(|error| self.store_error(error))
    }

    /// Runs `change` and makes it durable, wholly or not at all.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, IdentityError> {
        let answer = || {
            let transaction = self.database.begin_write()?;
            let answer = change(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        answer().map_err(|error| self.store_error(error))
    }

    fn prepare(&self) -> Result<(), IdentityError> {
        let found = self.write(|transaction| {
            let mut numbers = transaction.open_table(NUMBERS)?;
            let found = numbers.get(FORMAT_KEY)?.map(|format| format.value());
            if found.is_none() {
                numbers.insert(FORMAT_KEY, FORMAT)?;
            }
            Ok(found.unwrap_or(FORMAT))
        })?;
        match found {
            FORMAT => self.write(tables::create_all),
            FORMAT_WITH_FEWER_INDEXES | FORMAT_WITHOUT_GROUPED => self.write(|transaction| {
                tables::create_all(transaction)?;
                Rows::index_anew(transaction)?;
                transaction.open_table(NUMBERS)?.insert(FORMAT_KEY, FORMAT)?;
                Ok(())
            }),
            found => {
                let path = self.path.clone();
                Err(IdentityError::Format { path, found, expected: FORMAT })
            }
        }
    }

    fn store_error(&self, source: redb::Error) -> IdentityError {
        let path = self.path.clone();
        match source {
            redb::Error::Corrupted(detail) => IdentityError::Corrupt { path, detail },
            source => IdentityError::Store { path, source },
        }
    }
}

/// One consistent state of the store.
pub(crate) struct View(pub(crate) ReadTransaction);

impl View {
    pub(crate) fn tenant(&self, tenant: &str) -> Result<Option<Tenant>, redb::Error> {
        let row = self.0.open_table(TENANTS)?.get(tenant)?;
        row.map(|row| tables::decode("tenant", row.value().2)).transpose()
    }

    pub(crate) fn device(&self, tenant: &str, device: &str) -> Result<Option<Device>, redb::Error> {
        let row = self.0.open_table(DEVICES)?.get((tenant, device))?;
        row.map(|row| tables::decode("device", row.value().2)).transpose()
    }

    pub(crate) fn application(
        &self,
        tenant: &str,
        application: &str,
    ) -> Result<Option<Application>, redb::Error> {
        let row = self.0.open_table(APPLICATIONS)?.get((tenant, application))?;
        row.map(|row| tables::decode("application", row.value().2)).transpose()
    }

    /// The device that has `auth_id` for a hashed password, and its credentials.
    pub(crate) fn password_credentials(
        &self,
        tenant: &str,
        auth_id: &str,
    ) -> Result<Option<(String, Vec<Credential>)>, redb::Error> {
        self.credentials(AUTH_IDS, tenant, auth_id)
    }

    /// The device that has `auth_id` for a public key, and its credentials.
    pub(crate) fn key_credentials(
        &self,
        tenant: &str,
        auth_id: &str,
    ) -> Result<Option<(String, Vec<Credential>)>, redb::Error> {
        self.credentials(KEY_NAMES, tenant, auth_id)
    }

    /// The device that has `auth_id`, in its one spelling, for a certificate, and its credentials.
    pub(crate) fn certificate_credentials(
        &self,
        tenant: &str,
        auth_id: &str,
    ) -> Result<Option<(String, Vec<Credential>)>, redb::Error> {
        self.credentials(SUBJECTS, tenant, auth_id)
    }

    /// Should two devices have the name, because the feed is between taking it from one and giving it to the other, the one
    /// that changed last.
    fn credentials(
        &self,
        names: TableDefinition<'static, NamedRow, ()>,
        tenant: &str,
        auth_id: &str,
    ) -> Result<Option<(String, Vec<Credential>)>, redb::Error> {
        let names = self.0.open_table(names)?;
        let credentials = self.0.open_table(CREDENTIALS)?;
        let mut newest: Option<((u64, u64), String, Vec<u8>)> = None;
        for entry in names.range((tenant, auth_id, "")..)? {
            let (key, _) = entry?;
            let (row_tenant, row_auth_id, device) = key.value();
            if (row_tenant, row_auth_id) != (tenant, auth_id) {
                break;
            }
            if let Some(row) = credentials.get((tenant, device))? {
                let (generation, version, json) = row.value();
                let stamp = (generation, version);
                if newest.as_ref().is_none_or(|(other, ..)| stamp > *other) {
                    newest = Some((stamp, device.to_owned(), json.to_owned()));
                }
            }
        }
        newest
            .map(|(_, device, json)| Ok((device, tables::decode("credential set", &json)?)))
            .transpose()
    }

    /// Members of a gateway group, in the order of their ids, up to `max` of them.
    pub(crate) fn members(
        &self,
        tenant: &str,
        group: &str,
        max: usize,
    ) -> Result<Vec<String>, redb::Error> {
        let mut members = Vec::new();
        for entry in self.0.open_table(MEMBERS)?.range((tenant, group, "")..)?.take(max) {
            let (key, _) = entry?;
            let (row_tenant, row_group, gateway) = key.value();
            if (row_tenant, row_group) != (tenant, group) {
                break;
            }
            members.push(gateway.to_owned());
        }
        Ok(members)
    }

    /// Tenants that have a trust anchor of this subject.
    pub(crate) fn tenants_of_anchor(&self, subject: &str) -> Result<Vec<String>, redb::Error> {
        self.tenants_in(ANCHORS, subject)
    }

    /// The tenant whose id or else whose alias `name` is.
    pub(crate) fn tenant_named(&self, name: &str) -> Result<Option<String>, redb::Error> {
        if self.0.open_table(TENANTS)?.get(name)?.is_some() {
            return Ok(Some(name.to_owned()));
        }
        // Two have it only while it moves from one to the other: nobody's until then.
        let tenants = self.tenants_in(ALIASES, name)?;
        Ok(if tenants.len() == 1 { tenants.into_iter().next() } else { None })
    }

    fn tenants_in(
        &self,
        index: TableDefinition<'static, EntityRow, ()>,
        name: &str,
    ) -> Result<Vec<String>, redb::Error> {
        let mut tenants = Vec::new();
        for entry in self.0.open_table(index)?.range((name, "")..)? {
            let (key, _) = entry?;
            let (row_name, tenant) = key.value();
            if row_name != name {
                break;
            }
            tenants.push(tenant.to_owned());
        }
        Ok(tenants)
    }

    /// Whether `device` can be a gateway for any other.
    pub(crate) fn is_gateway(
        &self,
        tenant: &str,
        device: &str,
        document: &Device,
    ) -> Result<bool, redb::Error> {
        if !document.member_of.is_empty() {
            return Ok(true);
        }
        let gateways = self.0.open_table(GATEWAYS)?;
        let Some(entry) = gateways.range((tenant, device, "")..)?.next() else {
            return Ok(false);
        };
        let (key, _) = entry?;
        let (row_tenant, gateway, _) = key.value();
        Ok((row_tenant, gateway) == (tenant, device))
    }
}

/// Opens or creates the file with mode 0600, for it holds password hashes; a new file's name is made durable too.
fn open_private(path: &Path) -> Result<File, IoError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = options.create_new(true).open(path)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(file)
        }
        opened => opened,
    }
}

fn database_error(path: &Path, error: DatabaseError) -> IdentityError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => IdentityError::InUse { path },
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                IdentityError::Corrupt { path, detail: error.to_string() }
            }
            _ => IdentityError::Open { path, source: error },
        },
        DatabaseError::Storage(StorageError::Corrupted(detail)) => {
            IdentityError::Corrupt { path, detail }
        }
        DatabaseError::UpgradeRequired(version) => {
            IdentityError::Corrupt { path, detail: format!("redb file format {version}") }
        }
        error => IdentityError::Store { path, source: error.into() },
    }
}

#[cfg(test)]
mod tests;
