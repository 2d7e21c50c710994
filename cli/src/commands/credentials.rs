//! `fulcrum credentials`.
//!
//! A password leaves this process inside one TLS request only; with `--hash-function` other than bcrypt not even that:
//! it is hashed here.

use crate::client::Client;
use crate::commands::public_credentials::{SetCertificate, SetKey, set_certificate, set_key};
use crate::error::Failure;
use crate::output::{Output, table};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use fulcrum_contract::paths::CREDENTIALS;
use fulcrum_contract::registry::{Credential, CredentialType, Secret};
use fulcrum_contract::{AuthId, DeviceId, TenantId};
use serde_json::json;
use sha2::Digest as _;
use std::fmt;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

pub const EXAMPLES: &str = "\
Examples:
  fulcrum credentials set-password acme sensor-1 --auth-id sensor-1                    asks for the password
  openssl rand -base64 24 | tee pw | fulcrum credentials set-password acme sensor-1 --auth-id sensor-1 --password-stdin
  fulcrum credentials set-password acme sensor-1 --auth-id sensor-1 --hash-function sha-256 --password-stdin < pw
  fulcrum credentials set-certificate acme sensor-1 --cert sensor-1.pem
  fulcrum credentials set-key acme sensor-1 --auth-id sensor-1 --public-key sensor-1.pub.pem
  fulcrum credentials show acme sensor-1";

/// What can be done with credentials.
#[derive(Debug, Subcommand)]
pub enum CredentialsCommand {
    /// Give a device a user name and password, in place of the password it had for that user name.
    SetPassword(SetPassword),
    /// Let a device in with a client certificate.
    SetCertificate(SetCertificate),
    /// Let a device in with tokens (JWT) that its key has signed, in place of the key it had under that name.
    SetKey(SetKey),
    /// Show a device's credentials, without anything secret.
    Show {
        /// Its tenant.
        tenant: TenantId,
        /// The device.
        device: DeviceId,
    },
}

/// Arguments of `set-password`.
#[derive(Args)]
pub struct SetPassword {
    /// The device's tenant.
    tenant: TenantId,
    /// The device.
    device: DeviceId,
    /// The name the device authenticates with; on the wire it says AUTH-ID@TENANT.
    #[arg(long)]
    auth_id: AuthId,
    /// Read the password from standard input (its first line).
    #[arg(long)]
    password_stdin: bool,
    /// The password itself. Every user of this machine can see it in the process list while the command runs.
    #[arg(long, conflicts_with = "password_stdin", allow_hyphen_values = true)]
    password: Option<String>,
    /// How the password is kept. bcrypt resists guessing; sha-256 and sha-512 are for long random passwords and cost
    /// an edge node thousands of times less.
    #[arg(long, value_enum, default_value_t = HashFunction::Bcrypt)]
    hash_function: HashFunction,
}

impl fmt::Debug for SetPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetPassword")
            .field("tenant", &self.tenant)
            .field("device", &self.device)
            .field("auth_id", &self.auth_id)
            .finish_non_exhaustive()
    }
}

/// Hash functions the registry knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HashFunction {
    /// Slow on purpose; hashed by the registry.
    Bcrypt,
    /// Salted, one round.
    #[value(name = "sha-256")]
    Sha256,
    /// Salted, one round.
    #[value(name = "sha-512")]
    Sha512,
}

impl HashFunction {
    /// The secret to send for `password`.
    pub fn secret(self, password: &str) -> Secret {
        let salt: [u8; 16] = rand::random();
        let salted = |hash: Vec<u8>, name: &str| Secret {
            hash_function: Some(name.to_owned()),
            pwd_hash: Some(STANDARD.encode(hash)),
            salt: Some(STANDARD.encode(salt)),
            ..Secret::default()
        };
        let input = [salt.as_slice(), password.as_bytes()].concat();
        match self {
            HashFunction::Bcrypt => {
                Secret { pwd_plain: Some(password.to_owned()), ..Secret::default() }
            }
            HashFunction::Sha256 => salted(sha2::Sha256::digest(&input).to_vec(), "sha-256"),
            HashFunction::Sha512 => salted(sha2::Sha512::digest(&input).to_vec(), "sha-512"),
        }
    }
}

/// A password credential with one secret.
pub fn password_credential(auth_id: &str, secret: Secret) -> Credential {
    Credential {
        credential_type: CredentialType::HashedPassword,
        auth_id: auth_id.to_owned(),
        enabled: true,
        ext: Default::default(),
        secrets: vec![secret],
    }
}

/// Carries out a `fulcrum credentials` command.
pub async fn run(
    command: CredentialsCommand,
    mut client: Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        CredentialsCommand::SetPassword(options) => {
            set_password(options, &mut client, output).await
        }
        CredentialsCommand::SetCertificate(options) => {
            set_certificate(options, &mut client, output).await
        }
        CredentialsCommand::SetKey(options) => set_key(options, &mut client, output).await,
        CredentialsCommand::Show { tenant, device } => {
            show(&tenant, &device, &mut client, output).await
        }
    }
}

async fn set_password(
    options: SetPassword,
    client: &mut Client,
    output: &Output,
) -> Result<(), Failure> {
    let SetPassword { tenant, device, auth_id, .. } = &options;
    let path = format!("{CREDENTIALS}/{tenant}/{device}");
    let mut stored: Vec<Credential> = client.get(&path).await?;
    let password = read_password(&options, output)?;
    let secret = options.hash_function.secret(&password);
    // Secrets that stay are named by their id; the registry keeps what is secret in them.
    stored.retain(|credential| {
        credential.credential_type != CredentialType::HashedPassword
            || credential.auth_id != auth_id.as_str()
    });
    stored.push(password_credential(auth_id.as_str(), secret));
    client.put(&path, &stored).await?;
    let username = format!("{auth_id}@{tenant}");
    output.document(&json!({"device": device, "username": username}), |_| {
        format!("password of device {device} set; it authenticates as {username}")
    });
    Ok(())
}

async fn show(
    tenant: &TenantId,
    device: &DeviceId,
    client: &mut Client,
    output: &Output,
) -> Result<(), Failure> {
    let stored: Vec<Credential> = client.get(&format!("{CREDENTIALS}/{tenant}/{device}")).await?;
    let stored: Vec<Credential> = stored
        .into_iter()
        .map(|mut credential| {
            credential.secrets = credential.secrets.iter().map(Secret::redacted).collect();
            credential
        })
        .collect();
    output.document(&stored, |stored| {
        let rows = stored.iter().map(|credential| {
            let kind = serde_json::to_value(credential.credential_type).ok();
            let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("-").to_owned();
            let secrets = credential.secrets.len().to_string();
            [credential.auth_id.clone(), kind, credential.enabled.to_string(), secrets]
        });
        table(["AUTH-ID", "TYPE", "ENABLED", "SECRETS"], rows)
    });
    Ok(())
}

fn read_password(options: &SetPassword, output: &Output) -> Result<String, Failure> {
    let password = match &options.password {
        Some(password) => {
            output.remark("note: a password given as an argument is visible in the process list; prefer --password-stdin");
            password.clone()
        }
        None if options.password_stdin || !io::stdin().is_terminal() => read_line()?,
        None => prompt(&format!("password for {}@{}: ", options.auth_id, options.tenant))?,
    };
    if password.is_empty() {
        return Err(Failure::Usage("the password is empty; nothing was changed".to_owned()));
    }
    Ok(password)
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|source| Failure::Host {
        what: "read the password from standard input",
        source,
    })?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn prompt(question: &str) -> Result<String, Failure> {
    let _ = write!(io::stderr(), "{question}");
    let _ = io::stderr().flush();
    let quiet = stty("-echo");
    let line = read_line();
    if quiet {
        stty("echo");
        let _ = writeln!(io::stderr());
    }
    line
}

/// Whether `stty` took the setting; without it the password is echoed, which the person at the terminal can see.
fn stty(setting: &str) -> bool {
    let status =
        Command::new("stty").arg(setting).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sha_256_secret_is_the_hash_of_salt_and_password() {
        let secret = HashFunction::Sha256.secret("hush");
        let mut input = STANDARD.decode(secret.salt.unwrap()).unwrap();
        input.extend_from_slice(b"hush");
        assert_eq!(
            STANDARD.decode(secret.pwd_hash.unwrap()).unwrap(),
            sha2::Sha256::digest(input).to_vec()
        );
        assert_eq!(secret.pwd_plain, None);
    }

    #[test]
    fn a_password_argument_is_not_shown_by_debug() {
        let options = SetPassword {
            tenant: "t".parse().unwrap(),
            device: "d".parse().unwrap(),
            auth_id: "a".parse().unwrap(),
            password_stdin: false,
            password: Some("hush".to_owned()),
            hash_function: HashFunction::Bcrypt,
        };
        assert!(!format!("{options:?}").contains("hush"));
    }
}
