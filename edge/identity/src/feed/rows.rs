//! Writing rows and the indexes that follow them.

use crate::chain::subject_of;
use crate::tables::{
    self, ALIASES, ANCHORS, APPLICATIONS, AUTH_IDS, COMMAND_IDS, COMMANDS, CREDENTIALS, CommandRow,
    DEADLINES, DEVICES, DONE, DeadlineRow, EntityRow, GATEWAYS, GROUPED, KEY_NAMES, MEMBERS,
    NamedRow, SUBJECTS, Stamped, TENANTS, TenantRow,
};
use fulcrum_contract::certificates::normal_auth_id;
use fulcrum_contract::commands::Command;
use fulcrum_contract::registry::{Application, Credential, CredentialType, Device, Tenant};
use redb::{ReadableTable as _, Table, WriteTransaction};
use std::collections::BTreeSet;

/// The tables of a transaction that changes the replica.
pub(crate) struct Rows<'t> {
    generation: u64,
    tenants: Table<'t, TenantRow, Stamped>,
    devices: Table<'t, EntityRow, Stamped>,
    credentials: Table<'t, EntityRow, Stamped>,
    auth_ids: Table<'t, NamedRow, ()>,
    key_names: Table<'t, NamedRow, ()>,
    subjects: Table<'t, NamedRow, ()>,
    anchors: Table<'t, EntityRow, ()>,
    aliases: Table<'t, EntityRow, ()>,
    gateways: Table<'t, NamedRow, ()>,
    members: Table<'t, NamedRow, ()>,
    grouped: Table<'t, NamedRow, ()>,
    applications: Table<'t, EntityRow, Stamped>,
    commands: Table<'t, CommandRow, Stamped>,
    command_ids: Table<'t, NamedRow, u64>,
    deadlines: Table<'t, DeadlineRow, ()>,
    done: Table<'t, NamedRow, u64>,
}

impl<'t> Rows<'t> {
    /// Opens the tables; rows that are put get `generation`.
    pub(crate) fn open(
        transaction: &'t WriteTransaction,
        generation: u64,
    ) -> Result<Self, redb::Error> {
        Ok(Rows {
            generation,
            tenants: transaction.open_table(TENANTS)?,
            devices: transaction.open_table(DEVICES)?,
            credentials: transaction.open_table(CREDENTIALS)?,
            auth_ids: transaction.open_table(AUTH_IDS)?,
            key_names: transaction.open_table(KEY_NAMES)?,
            subjects: transaction.open_table(SUBJECTS)?,
            anchors: transaction.open_table(ANCHORS)?,
            aliases: transaction.open_table(ALIASES)?,
            gateways: transaction.open_table(GATEWAYS)?,
            members: transaction.open_table(MEMBERS)?,
            grouped: transaction.open_table(GROUPED)?,
            applications: transaction.open_table(APPLICATIONS)?,
            commands: transaction.open_table(COMMANDS)?,
            command_ids: transaction.open_table(COMMAND_IDS)?,
            deadlines: transaction.open_table(DEADLINES)?,
            done: transaction.open_table(DONE)?,
        })
    }

    pub(crate) fn put_tenant(
        &mut self,
        tenant: &str,
        version: u64,
        document: &Tenant,
    ) -> Result<(), redb::Error> {
        self.remove_tenant_row(tenant)?;
        let json = tables::encode(document);
        self.tenants.insert(tenant, (self.generation, version, json.as_slice()))?;
        self.index_tenant(tenant, document)
    }

    fn index_tenant(&mut self, tenant: &str, document: &Tenant) -> Result<(), redb::Error> {
        for subject in anchor_subjects(document) {
            self.anchors.insert((subject.as_str(), tenant), ())?;
        }
        if let Some(alias) = &document.alias {
            self.aliases.insert((alias.as_str(), tenant), ())?;
        }
        Ok(())
    }

    /// Removes a tenant's document and what is indexed by it, and nothing else of the tenant.
    fn remove_tenant_row(&mut self, tenant: &str) -> Result<(), redb::Error> {
        let document: Tenant = match self.tenants.remove(tenant)? {
            Some(row) => tables::decode("tenant", row.value().2)?,
            None => return Ok(()),
        };
        for subject in anchor_subjects(&document) {
            self.anchors.remove((subject.as_str(), tenant))?;
        }
        if let Some(alias) = &document.alias {
            self.aliases.remove((alias.as_str(), tenant))?;
        }
        Ok(())
    }

    /// Removes a tenant with all it has.
    pub(crate) fn remove_tenant(&mut self, tenant: &str) -> Result<(), redb::Error> {
        self.remove_tenant_row(tenant)?;
        for device in second_names(&self.devices, tenant)? {
            self.remove_device(tenant, &device)?;
        }
        for device in second_names(&self.credentials, tenant)? {
            self.remove_credentials(tenant, &device)?;
        }
        for application in second_names(&self.applications, tenant)? {
            self.remove_application(tenant, &application)?;
        }
        let mut commands = Vec::new();
        for entry in self.command_ids.range((tenant, "", "")..)? {
            let (key, _) = entry?;
            let (row_tenant, device, command) = key.value();
            if row_tenant != tenant {
                break;
            }
            commands.push((device.to_owned(), command.to_owned()));
        }
        for (device, command) in commands {
            self.remove_command((tenant, &device, &command))?;
        }
        Ok(())
    }

    pub(crate) fn put_device(
        &mut self,
        tenant: &str,
        device: &str,
        version: u64,
        document: &Device,
    ) -> Result<(), redb::Error> {
        self.remove_device(tenant, device)?;
        let json = tables::encode(document);
        self.devices.insert((tenant, device), (self.generation, version, json.as_slice()))?;
        for gateway in &document.via {
            self.gateways.insert((tenant, gateway.as_str(), device), ())?;
        }
        self.index_groups(tenant, device, document)
    }

    fn index_groups(
        &mut self,
        tenant: &str,
        device: &str,
        document: &Device,
    ) -> Result<(), redb::Error> {
        for group in &document.member_of {
            self.members.insert((tenant, group.as_str(), device), ())?;
        }
        for group in &document.via_groups {
            self.grouped.insert((tenant, group.as_str(), device), ())?;
        }
        Ok(())
    }

    /// Removes a device with its credentials and commands.
    pub(crate) fn remove_device_and_its_rows(
        &mut self,
        tenant: &str,
        device: &str,
    ) -> Result<(), redb::Error> {
        self.remove_device(tenant, device)?;
        self.remove_credentials(tenant, device)?;
        let mut commands = Vec::new();
        for entry in self.command_ids.range((tenant, device, "")..)? {
            let (key, _) = entry?;
            let (row_tenant, row_device, command) = key.value();
            if (row_tenant, row_device) != (tenant, device) {
                break;
            }
            commands.push(command.to_owned());
        }
        for command in commands {
            self.remove_command((tenant, device, &command))?;
        }
        Ok(())
    }

    fn remove_device(&mut self, tenant: &str, device: &str) -> Result<(), redb::Error> {
        let document: Device = match self.devices.remove((tenant, device))? {
            Some(row) => tables::decode("device", row.value().2)?,
            None => return Ok(()),
        };
        for gateway in &document.via {
            self.gateways.remove((tenant, gateway.as_str(), device))?;
        }
        for group in &document.member_of {
            self.members.remove((tenant, group.as_str(), device))?;
        }
        for group in &document.via_groups {
            self.grouped.remove((tenant, group.as_str(), device))?;
        }
        Ok(())
    }

    pub(crate) fn put_credentials(
        &mut self,
        tenant: &str,
        device: &str,
        version: u64,
        document: &[Credential],
    ) -> Result<(), redb::Error> {
        self.remove_credentials(tenant, device)?;
        let json = tables::encode(&document);
        self.credentials.insert((tenant, device), (self.generation, version, json.as_slice()))?;
        self.index_credentials(tenant, device, document)
    }

    fn index_credentials(
        &mut self,
        tenant: &str,
        device: &str,
        document: &[Credential],
    ) -> Result<(), redb::Error> {
        for credential in document {
            if let Some((table, name)) = self.names_of(credential) {
                table.insert((tenant, name.as_str(), device), ())?;
            }
        }
        Ok(())
    }

    /// Where a login finds the credential, and under which name.
    fn names_of(
        &mut self,
        credential: &Credential,
    ) -> Option<(&mut Table<'t, NamedRow, ()>, String)> {
        let auth_id = &credential.auth_id;
        match credential.credential_type {
            CredentialType::HashedPassword => Some((&mut self.auth_ids, auth_id.clone())),
            CredentialType::Rpk => Some((&mut self.key_names, auth_id.clone())),
            CredentialType::X509Cert => Some((&mut self.subjects, normal_auth_id(auth_id))),
            CredentialType::Psk => None,
        }
    }

    pub(crate) fn remove_credentials(
        &mut self,
        tenant: &str,
        device: &str,
    ) -> Result<(), redb::Error> {
        let document: Vec<Credential> = match self.credentials.remove((tenant, device))? {
            Some(row) => tables::decode("credential set", row.value().2)?,
            None => return Ok(()),
        };
        for credential in &document {
            if let Some((table, name)) = self.names_of(credential) {
                table.remove((tenant, name.as_str(), device))?;
            }
        }
        Ok(())
    }

    pub(crate) fn put_application(
        &mut self,
        tenant: &str,
        application: &str,
        version: u64,
        document: &Application,
    ) -> Result<(), redb::Error> {
        let json = tables::encode(document);
        let row = (self.generation, version, json.as_slice());
        self.applications.insert((tenant, application), row)?;
        Ok(())
    }

    pub(crate) fn remove_application(
        &mut self,
        tenant: &str,
        application: &str,
    ) -> Result<(), redb::Error> {
        self.applications.remove((tenant, application))?;
        Ok(())
    }

    /// Whether the command is new: neither pending nor done.
    pub(crate) fn put_command(
        &mut self,
        names: (&str, &str, &str),
        version: u64,
        document: &Command,
    ) -> Result<bool, redb::Error> {
        if self.done.get(names)?.is_some() {
            return Ok(false);
        }
        let is_new = self.command_ids.get(names)?.is_none();
        self.remove_command(names)?;
        let (tenant, device, command) = names;
        let json = tables::encode(document);
        self.commands.insert(
            (tenant, device, document.sequence, command),
            (self.generation, version, json.as_slice()),
        )?;
        self.command_ids.insert(names, document.sequence)?;
        if let Some(deadline_ms) = document.deliver_by_ms {
            self.deadlines.insert((deadline_ms, tenant, device, command), ())?;
        }
        Ok(is_new)
    }

    /// Removes a command that may or may not be there; markers of done commands stay.
    pub(crate) fn remove_command(&mut self, names: (&str, &str, &str)) -> Result<(), redb::Error> {
        let (tenant, device, command) = names;
        let sequence = match self.command_ids.remove(names)? {
            Some(row) => row.value(),
            None => return Ok(()),
        };
        let document: Command = match self.commands.remove((tenant, device, sequence, command))? {
            Some(row) => tables::decode("command", row.value().2)?,
            None => return Ok(()),
        };
        if let Some(deadline_ms) = document.deliver_by_ms {
            self.deadlines.remove((deadline_ms, tenant, device, command))?;
        }
        Ok(())
    }

    /// Removes every row of an older generation; whether there was any.
    pub(crate) fn sweep(&mut self) -> Result<bool, redb::Error> {
        let mut swept = false;
        let mut old_tenants = Vec::new();
        for entry in self.tenants.iter()? {
            let (key, row) = entry?;
            if row.value().0 < self.generation {
                old_tenants.push(key.value().to_owned());
            }
        }
        for tenant in &old_tenants {
            swept = true;
            self.remove_tenant_row(tenant)?;
        }
        for (tenant, device) in older(&self.devices, self.generation)? {
            swept = true;
            self.remove_device(&tenant, &device)?;
        }
        for (tenant, device) in older(&self.credentials, self.generation)? {
            swept = true;
            self.remove_credentials(&tenant, &device)?;
        }
        for (tenant, application) in older(&self.applications, self.generation)? {
            swept = true;
            self.remove_application(&tenant, &application)?;
        }
        for (tenant, device, command) in self.older_commands()? {
            swept = true;
            self.remove_command((&tenant, &device, &command))?;
        }
        Ok(swept)
    }

    /// Fills the indexes a store of an older layout lacks.
    pub(crate) fn index_anew(transaction: &'t WriteTransaction) -> Result<(), redb::Error> {
        let mut rows = Rows::open(transaction, 0)?;
        let mut tenants = Vec::new();
        for entry in rows.tenants.iter()? {
            let (key, row) = entry?;
            tenants.push((key.value().to_owned(), tables::decode("tenant", row.value().2)?));
        }
        for (tenant, document) in tenants {
            rows.index_tenant(&tenant, &document)?;
        }
        let mut devices: Vec<(String, String, Device)> = Vec::new();
        for entry in rows.devices.iter()? {
            let (key, row) = entry?;
            let (tenant, device) = key.value();
            let document = tables::decode("device", row.value().2)?;
            devices.push((tenant.to_owned(), device.to_owned(), document));
        }
        for (tenant, device, document) in devices {
            rows.index_groups(&tenant, &device, &document)?;
        }
        let mut sets: Vec<(String, String, Vec<Credential>)> = Vec::new();
        for entry in rows.credentials.iter()? {
            let (key, row) = entry?;
            let (tenant, device) = key.value();
            let set = tables::decode("credential set", row.value().2)?;
            sets.push((tenant.to_owned(), device.to_owned(), set));
        }
        for (tenant, device, set) in sets {
            rows.index_credentials(&tenant, &device, &set)?;
        }
        Ok(())
    }

    fn older_commands(&self) -> Result<Vec<(String, String, String)>, redb::Error> {
        let mut names = Vec::new();
        for entry in self.commands.iter()? {
            let (key, row) = entry?;
            if row.value().0 < self.generation {
                let (tenant, device, _, command) = key.value();
                names.push((tenant.to_owned(), device.to_owned(), command.to_owned()));
            }
        }
        Ok(names)
    }
}

/// Subjects of a tenant's trust anchors, in their one spelling.
fn anchor_subjects(document: &Tenant) -> BTreeSet<String> {
    document.trusted_ca.iter().flatten().filter_map(subject_of).collect()
}

/// The second names of a tenant's rows.
fn second_names(
    table: &Table<'_, EntityRow, Stamped>,
    tenant: &str,
) -> Result<Vec<String>, redb::Error> {
    let mut names = Vec::new();
    for entry in table.range((tenant, "")..)? {
        let (key, _) = entry?;
        let (row_tenant, name) = key.value();
        if row_tenant != tenant {
            break;
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Keys of rows of an older generation.
fn older(
    table: &Table<'_, EntityRow, Stamped>,
    generation: u64,
) -> Result<Vec<(String, String)>, redb::Error> {
    let mut keys = Vec::new();
    for entry in table.iter()? {
        let (key, row) = entry?;
        if row.value().0 < generation {
            let (tenant, name) = key.value();
            keys.push((tenant.to_owned(), name.to_owned()));
        }
    }
    Ok(keys)
}
