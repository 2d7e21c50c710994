//! `fulcrum application`.

use crate::client::Client;
use crate::commands::{search, text_of};
use crate::error::Failure;
use crate::output::{Output, pretty, table};
use clap::{Subcommand, ValueEnum};
use fulcrum_contract::paths::APPLICATIONS;
use fulcrum_contract::registry::{Application, ApplicationCreated, Permission};
use fulcrum_contract::{ApplicationId, TenantId};
use serde_json::{Value, json};

pub const EXAMPLES: &str = "\
Examples:
  fulcrum application create acme dashboard                     prints its password, once
  fulcrum application create acme meter --permission consume    may read, may not command
  mosquitto_sub -h EDGE -u dashboard@acme -P PASSWORD -t 'telemetry/acme/#'";

/// What can be done with applications.
#[derive(Debug, Subcommand)]
pub enum ApplicationCommand {
    /// Create an application. Its password is shown this one time.
    Create {
        /// Its tenant.
        tenant: TenantId,
        /// The application's id.
        application: ApplicationId,
        /// What it may do; all, unless given. May be repeated.
        #[arg(long, value_enum)]
        permission: Vec<PermissionName>,
    },
    /// Show an application's document.
    Show {
        /// Its tenant.
        tenant: TenantId,
        /// The application.
        application: ApplicationId,
    },
    /// List a tenant's applications.
    List {
        /// The tenant.
        tenant: TenantId,
    },
    /// Delete an application; its connections end.
    Delete {
        /// Its tenant.
        tenant: TenantId,
        /// The application.
        application: ApplicationId,
    },
}

/// What an application may be permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PermissionName {
    /// Read telemetry and events, subscribe to messaging addresses.
    Consume,
    /// Publish to messaging addresses.
    Publish,
    /// Send commands and read their responses.
    Command,
}

impl From<PermissionName> for Permission {
    fn from(name: PermissionName) -> Permission {
        match name {
            PermissionName::Consume => Permission::Consume,
            PermissionName::Publish => Permission::Publish,
            PermissionName::Command => Permission::Command,
        }
    }
}

/// Carries out a `fulcrum application` command.
pub async fn run(
    command: ApplicationCommand,
    mut client: Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        ApplicationCommand::Create { tenant, application, permission } => {
            let permissions = if permission.is_empty() {
                Application::all_permissions()
            } else {
                permission.into_iter().map(Permission::from).collect()
            };
            let document = Application { enabled: true, permissions, password_sha256: None };
            let path = format!("{APPLICATIONS}/{tenant}/{application}");
            let created: ApplicationCreated = client.post(&path, &document).await?;
            output.document(&created, |created| {
                format!("user name  {}\npassword   {}", created.username, created.password)
            });
            output
                .remark("The password is not shown again; keep it where the application finds it.");
        }
        ApplicationCommand::Show { tenant, application } => {
            let document: Value =
                client.get(&format!("{APPLICATIONS}/{tenant}/{application}")).await?;
            output.document(&document, pretty);
        }
        ApplicationCommand::List { tenant } => {
            let page = search(&mut client, &format!("{APPLICATIONS}/{tenant}")).await?;
            output.document(&page, |page| {
                let rows = page.result.iter().map(|application| {
                    let member = |name| text_of(application, name);
                    [member("id"), member("enabled"), member("permissions")]
                });
                table(["APPLICATION", "ENABLED", "PERMISSIONS"], rows)
            });
        }
        ApplicationCommand::Delete { tenant, application } => {
            client.delete(&format!("{APPLICATIONS}/{tenant}/{application}")).await?;
            output.document(&json!({"id": application}), |_| {
                format!("application {application} deleted")
            });
        }
    }
    Ok(())
}
