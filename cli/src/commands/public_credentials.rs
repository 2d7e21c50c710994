//! What devices prove themselves with and operators may see: certificates and public keys, read from PEM files.

use crate::client::Client;
use crate::error::Failure;
use crate::output::Output;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use fulcrum_contract::certificates::{CertificateFacts, PublicKey, TrustAnchor};
use fulcrum_contract::names::DistinguishedName;
use fulcrum_contract::paths::CREDENTIALS;
use fulcrum_contract::registry::{Credential, CredentialType, Secret};
use fulcrum_contract::{AuthId, DeviceId, TenantId};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::json;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Arguments of `set-certificate`.
#[derive(Debug, Args)]
pub struct SetCertificate {
    /// The device's tenant.
    tenant: TenantId,
    /// The device.
    device: DeviceId,
    /// The device's certificate (PEM): its subject is what the device authenticates as.
    #[arg(long, value_name = "FILE", required_unless_present = "subject")]
    cert: Option<PathBuf>,
    /// The subject itself, as CN=sensor-1,O=ACME, or what the tenant's auth-id-template makes of it.
    #[arg(long, value_name = "NAME", conflicts_with = "cert")]
    subject: Option<String>,
}

/// Arguments of `set-key`.
#[derive(Debug, Args)]
pub struct SetKey {
    /// The device's tenant.
    tenant: TenantId,
    /// The device.
    device: DeviceId,
    /// The name the device authenticates with.
    #[arg(long)]
    auth_id: AuthId,
    /// The public key (PEM) that verifies the device's tokens; or a certificate that has it.
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
}

/// Carries out `set-certificate`.
pub async fn set_certificate(
    options: SetCertificate,
    client: &mut Client,
    output: &Output,
) -> Result<(), Failure> {
    let auth_id = match (options.cert, options.subject) {
        (Some(path), _) => facts_of(&path)?.subject.to_string(),
        (None, Some(subject)) => {
            DistinguishedName::parse(&subject).map_or(subject, |name| name.to_string())
        }
        (None, None) => return Err(Failure::Usage("give --cert or --subject".to_owned())),
    };
    let credential = credential(CredentialType::X509Cert, &auth_id, Secret::default());
    replace(&options.tenant, &options.device, credential, client).await?;
    output.document(&json!({"device": options.device, "subject": auth_id}), |_| {
        format!("device {} authenticates with a certificate of {auth_id}", options.device)
    });
    output.remark(format!(
        "its signer must be in the tenant's trust anchors: fulcrum tenant update {} --trusted-ca FILE",
        options.tenant
    ));
    Ok(())
}

/// Carries out `set-key`.
pub async fn set_key(options: SetKey, client: &mut Client, output: &Output) -> Result<(), Failure> {
    let SetKey { tenant, device, auth_id, public_key } = options;
    let der = match SubjectPublicKeyInfoDer::from_pem_file(&public_key) {
        Ok(key) => key.to_vec(),
        Err(_) => facts_of(&public_key)?.public_key,
    };
    let key = PublicKey::from_der(&der).map_err(|error| unusable(&public_key, error))?;
    let secret = Secret {
        key: Some(STANDARD.encode(&der)),
        algorithm: Some(key.algorithm.name().to_owned()),
        ..Secret::default()
    };
    let credential = credential(CredentialType::Rpk, auth_id.as_str(), secret);
    replace(&tenant, &device, credential, client).await?;
    output.document(&json!({"device": device, "authId": auth_id}), |_| {
        format!("device {device} authenticates as {auth_id} with tokens its key has signed")
    });
    Ok(())
}

/// The trust anchor a certificate makes.
pub fn trust_anchor(path: &Path) -> Result<TrustAnchor, Failure> {
    let der = certificate(path)?;
    serde_json::from_value(json!({ "cert": STANDARD.encode(&der) }))
        .map_err(|error| unusable(path, error))
}

/// Puts a credential in the place of the one of its type and name.
async fn replace(
    tenant: &TenantId,
    device: &DeviceId,
    credential: Credential,
    client: &mut Client,
) -> Result<(), Failure> {
    let path = format!("{CREDENTIALS}/{tenant}/{device}");
    let mut stored: Vec<Credential> = client.get(&path).await?;
    stored.retain(|other| {
        other.credential_type != credential.credential_type || other.auth_id != credential.auth_id
    });
    stored.push(credential);
    client.put(&path, &stored).await
}

fn credential(credential_type: CredentialType, auth_id: &str, secret: Secret) -> Credential {
    Credential {
        credential_type,
        auth_id: auth_id.to_owned(),
        enabled: true,
        ext: Default::default(),
        secrets: vec![secret],
    }
}

fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let certificate = CertificateDer::from_pem_file(path).map_err(|error| unusable(path, error))?;
    Ok(certificate.to_vec())
}

fn facts_of(path: &Path) -> Result<CertificateFacts, Failure> {
    CertificateFacts::from_der(&certificate(path)?).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: impl Display) -> Failure {
    Failure::Usage(format!("{} cannot be used: {error}", path.display()))
}
