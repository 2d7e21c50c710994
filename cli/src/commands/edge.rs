//! `fulcrum edge`: making edge nodes known, and enrolling one from its own machine.

use crate::client::{Client, Identity};
use crate::commands::utc;
use crate::context::Context;
use crate::error::Failure;
use crate::output::{Output, table};
use clap::{Args, Subcommand};
use fulcrum_contract::enrolment::{EdgeCreated, EdgeRequest, EdgeView, EnrolRequest, Enrolled};
use fulcrum_contract::paths::{EDGES, ENROL};
use fulcrum_contract::{EdgeId, TenantId};
use p256::SecretKey;
use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub const EXAMPLES: &str = "\
Examples:
  fulcrum edge create edge-1 --tenant acme       prints a token that can be used once
  fulcrum edge token edge-1                      a new token, for a node that is set up anew
  fulcrum edge enrol --cloud https://cloud:8443 --ca ca.pem --edge edge-1 --token TOKEN --data-dir /var/lib/fulcrum
  fulcrum edge list";

/// Name of the key's file in a node's data directory.
pub const KEY_FILE: &str = "edge-key.pem";

/// What can be done with edge nodes.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Make an edge node known, and get the token to enrol it with.
    Create {
        /// The node's id.
        edge: EdgeId,
        /// A tenant the node serves. May be repeated.
        #[arg(long = "tenant", required = true)]
        tenants: Vec<TenantId>,
    },
    /// Get a new enrolment token for a known node; the one before is void.
    Token {
        /// The node's id.
        edge: EdgeId,
    },
    /// Enrol this machine's node: makes its key and gives the cloud the public half.
    Enrol(EnrolArguments),
    /// Show an edge node.
    Show {
        /// The node's id.
        edge: EdgeId,
    },
    /// List all edge nodes.
    List,
    /// Delete an edge node: it can no longer sync.
    Delete {
        /// The node's id.
        edge: EdgeId,
    },
}

/// Arguments of `enrol`. `--cloud` and `--ca` say where.
#[derive(Args)]
pub struct EnrolArguments {
    /// The node's id.
    #[arg(long)]
    edge: EdgeId,
    /// The one-time token; `-` reads it from standard input.
    #[arg(long, allow_hyphen_values = true)]
    token: String,
    /// The node's data directory; the key goes there.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

impl std::fmt::Debug for EnrolArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolArguments").field("edge", &self.edge).finish_non_exhaustive()
    }
}

/// Answer to listing edges.
#[derive(Debug, Serialize, Deserialize)]
struct EdgeList {
    total: u64,
    result: Vec<EdgeView>,
}

/// Carries out a `fulcrum edge` command, save for [`enrol`], which needs no operator.
pub async fn run(command: EdgeCommand, mut client: Client, output: &Output) -> Result<(), Failure> {
    match command {
        EdgeCommand::Create { edge, tenants } => {
            let created: EdgeCreated =
                client.post(&format!("{EDGES}/{edge}"), &EdgeRequest { tenants }).await?;
            show_token(&created, &client, output);
        }
        EdgeCommand::Token { edge } => {
            let created: EdgeCreated =
                client.post(&format!("{EDGES}/{edge}/token"), &json!({})).await?;
            show_token(&created, &client, output);
        }
        EdgeCommand::Enrol(options) => {
            return enrol_at(&mut client, &options.edge, &options.token, &options.data_dir)
                .await
                .map(drop);
        }
        EdgeCommand::Show { edge } => {
            let view: EdgeView = client.get(&format!("{EDGES}/{edge}")).await?;
            output.document(&view, |view| edge_table([view]));
        }
        EdgeCommand::List => {
            let list = match client.get(&format!("{EDGES}?pageSize=200")).await {
                Err(Failure::Refused { status: 404, .. }) => {
                    EdgeList { total: 0, result: Vec::new() }
                }
                list => list?,
            };
            output.document(&list, |list| edge_table(&list.result));
        }
        EdgeCommand::Delete { edge } => {
            client.delete(&format!("{EDGES}/{edge}")).await?;
            output.document(&json!({"id": edge}), |_| {
                format!("edge {edge} deleted; it can no longer sync")
            });
        }
    }
    Ok(())
}

fn show_token(created: &EdgeCreated, client: &Client, output: &Output) {
    output.document(created, |created| {
        format!(
            "edge     {}\ntoken    {}\nexpires  {} UTC",
            created.id,
            created.token,
            utc(created.expires_ms)
        )
    });
    output.remark(format!(
        "The token works once. On the node's machine:\n  fulcrum edge enrol --cloud {} --ca ca.pem --edge {} --token TOKEN \
         --data-dir DIR",
        client.url(),
        created.id
    ));
}

fn edge_table<'a>(edges: impl IntoIterator<Item = &'a EdgeView>) -> String {
    let rows = edges.into_iter().map(|edge| {
        let tenants: Vec<&str> = edge.tenants.iter().map(TenantId::as_str).collect();
        let seen = edge.last_seen_ms.map_or_else(|| "never".to_owned(), utc);
        [edge.id.to_string(), tenants.join(","), edge.enrolled.to_string(), seen]
    });
    table(["EDGE", "TENANTS", "ENROLLED", "LAST SEEN (UTC)"], rows)
}

/// `fulcrum edge enrol`.
pub async fn enrol(
    options: EnrolArguments,
    context: &Context,
    output: &Output,
) -> Result<(), Failure> {
    let mut client = Client::new(context.cloud()?, context.ca_file.as_deref(), &Identity::Nobody)?;
    let token = match options.token.as_str() {
        "-" => read_token()?,
        token => token.to_owned(),
    };
    let enrolled = enrol_at(&mut client, &options.edge, &token, &options.data_dir).await?;
    let key = options.data_dir.join(KEY_FILE);
    output.document(
        &json!({"edge": enrolled.edge, "tenants": enrolled.tenants, "keyFile": key}),
        |_| {
            let tenants: Vec<&str> = enrolled.tenants.iter().map(TenantId::as_str).collect();
            format!(
                "edge {} enrolled for {}; its key is {}",
                enrolled.edge,
                tenants.join(", "),
                key.display()
            )
        },
    );
    Ok(())
}

/// Enrols the node whose data directory is `data_dir`, with the key that is there or a new one.
pub async fn enrol_at(
    client: &mut Client,
    edge: &EdgeId,
    token: &str,
    data_dir: &Path,
) -> Result<Enrolled, Failure> {
    // It will hold the node's key and its devices' credentials.
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(data_dir).map_err(Failure::file("make the data directory", data_dir))?;
    let key = load_or_make_key(&data_dir.join(KEY_FILE))?;
    let public_key = key
        .public_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|error| Failure::Usage(format!("the key cannot be written as PEM: {error}")))?;
    let request = EnrolRequest { edge: edge.clone(), token: token.to_owned(), public_key };
    client.post(ENROL, &request).await.map_err(|failure| match failure {
        Failure::Refused { status: 401, .. } => Failure::Usage(format!(
            "the enrolment token of edge {edge} is wrong, used or expired\n  Get a new one with `fulcrum edge token {edge}`."
        )),
        other => other,
    })
}

/// A key that is there stays: a repeated enrolment must not lock out a node that runs.
fn load_or_make_key(path: &Path) -> Result<SecretKey, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => SecretKey::from_pkcs8_pem(&text).map_err(|_| {
            Failure::Usage(format!(
                "{} is not a P-256 key in PKCS#8 PEM; move it away, and enrol again",
                path.display()
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(path),
        Err(source) => Err(Failure::File { what: "read the key", path: path.into(), source }),
    }
}

fn make_key(path: &Path) -> Result<SecretKey, Failure> {
    let key = SecretKey::random(&mut OsRng);
    let text = key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| Failure::Usage(format!("the key cannot be written as PEM: {error}")))?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Failure::file("write the key", path))?;
    Ok(key)
}

fn read_token() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|source| Failure::Host { what: "read the token from standard input", source })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_readable_by_its_owner_alone_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let made = load_or_make_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make_key(&path).unwrap(), made);
    }

    #[test]
    fn a_file_that_is_no_key_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, "precious").unwrap();
        assert!(load_or_make_key(&path).unwrap_err().to_string().contains("move it away"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
