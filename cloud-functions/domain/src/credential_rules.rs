//! What makes a credential set valid, and what of the stored one a new one keeps.
//!
//! Plain passwords are hashed here and go no further.

use crate::Error;
use crate::secrets::new_id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::Version;
use fulcrum_contract::certificates::{CertificateFacts, PublicKey, der_of, normal_auth_id};
use fulcrum_contract::registry::{Credential, CredentialType, Secret};
use std::collections::HashSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Most secrets of one device: each plain password among them costs a slow hash.
const SECRETS_MAX: usize = 64;
/// Longest password in bytes: bcrypt looks at no more.
const PASSWORD_BYTES_MAX: usize = 72;
/// Longest subject DN in bytes.
const SUBJECT_BYTES_MAX: usize = 1024;

/// The type's name in the API.
pub(crate) fn kind(credential_type: CredentialType) -> &'static str {
    match credential_type {
        CredentialType::HashedPassword => "hashed-password",
        CredentialType::Psk => "psk",
        CredentialType::X509Cert => "x509-cert",
        CredentialType::Rpk => "rpk",
    }
}

fn bad(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

/// The set to store: `new`, with what it refers to in `stored`. Slow: hashes passwords.
pub(crate) fn merge(
    stored: &[Credential],
    new: Vec<Credential>,
    bcrypt_cost: u32,
) -> Result<Vec<Credential>, Error> {
    if new.iter().map(|credential| credential.secrets.len().max(1)).sum::<usize>() > SECRETS_MAX {
        return Err(bad(format!("a device has at most {SECRETS_MAX} secrets: remove old ones")));
    }
    let mut seen = HashSet::new();
    let mut merged = Vec::with_capacity(new.len());
    for mut credential in new {
        if credential.credential_type == CredentialType::X509Cert {
            credential.auth_id = normal_auth_id(&credential.auth_id);
        }
        let pair = (credential.credential_type, credential.auth_id.clone());
        let same = |other: &&Credential| other.credential_type == pair.0 && other.auth_id == pair.1;
        let before = stored.iter().find(same).map_or(&[][..], |before| &before.secrets);
        if !seen.insert(pair.clone()) {
            return Err(bad(format!("the auth-id '{}' is there twice with one type", pair.1)));
        }
        merged.push(merge_credential(before, credential, bcrypt_cost)?);
    }
    Ok(merged)
}

fn merge_credential(
    before: &[Secret],
    mut credential: Credential,
    bcrypt_cost: u32,
) -> Result<Credential, Error> {
    let x509 = credential.credential_type == CredentialType::X509Cert;
    if !x509 {
        credential.parsed_auth_id().map_err(Error::invalid)?;
    } else if credential.auth_id.is_empty() || credential.auth_id.len() > SUBJECT_BYTES_MAX {
        return Err(bad("the 'auth-id' of an x509-cert is the subject DN, 1 to 1024 bytes"));
    }
    match credential.secrets.len() {
        0 if !x509 => return Err(bad(format!("'{}' has no secrets", credential.auth_id))),
        2.. if x509 => return Err(bad("an x509-cert has at most one secret")),
        _ => {}
    }
    let mut ids = HashSet::new();
    for secret in &mut credential.secrets {
        if secret.id.as_ref().is_some_and(|id| !ids.insert(id.clone())) {
            return Err(bad("the same secret 'id' is there twice"));
        }
        *secret =
            merge_secret(before, std::mem::take(secret), credential.credential_type, bcrypt_cost)?;
    }
    Ok(credential)
}

fn merge_secret(
    before: &[Secret],
    mut secret: Secret,
    credential_type: CredentialType,
    bcrypt_cost: u32,
) -> Result<Secret, Error> {
    check_validity(&secret)?;
    check_members(&secret, credential_type)?;
    let old = match &secret.id {
        None => None,
        Some(id) => {
            Some(before.iter().find(|old| old.id.as_ref() == Some(id)).ok_or_else(|| {
                bad(format!("there is no secret with the id '{id}': leave the id out"))
            })?)
        }
    };
    let brings_private = secret.pwd_plain.is_some()
        || secret.pwd_hash.is_some()
        || secret.key.is_some()
        || secret.cert.is_some();
    match (old, brings_private) {
        (Some(old), false) => {
            secret.pwd_hash = old.pwd_hash.clone();
            secret.hash_function = old.hash_function.clone();
            secret.salt = old.salt.clone();
            secret.key = old.key.clone();
            secret.algorithm = old.algorithm.clone();
            secret.cert = old.cert.clone();
        }
        _ => complete(&mut secret, credential_type, bcrypt_cost)?,
    }
    secret.id.get_or_insert_with(new_id);
    Ok(secret)
}

/// Members that have no place in a credential of this type.
fn check_members(secret: &Secret, credential_type: CredentialType) -> Result<(), Error> {
    let password = secret.pwd_plain.is_some()
        || secret.pwd_hash.is_some()
        || secret.salt.is_some()
        || secret.hash_function.is_some();
    let (password_fits, key_fits, algorithm_fits, cert_fits) = match credential_type {
        CredentialType::HashedPassword => (true, false, false, false),
        CredentialType::Psk => (false, true, false, false),
        CredentialType::X509Cert => (false, false, false, false),
        CredentialType::Rpk => (false, true, true, true),
    };
    let fits = (password_fits || !password)
        && (key_fits || secret.key.is_none())
        && (algorithm_fits || secret.algorithm.is_none())
        && (cert_fits || secret.cert.is_none());
    if fits {
        return Ok(());
    }
    Err(bad(format!("a secret of type {} has members of another type", kind(credential_type))))
}

fn check_validity(secret: &Secret) -> Result<(), Error> {
    let parse = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => OffsetDateTime::parse(text, &Rfc3339).map(Some).map_err(|_| {
            bad(format!("'{name}' is not an ISO 8601 time such as 2026-01-31T12:00:00Z"))
        }),
    };
    let from = parse("not-before", &secret.not_before)?;
    let until = parse("not-after", &secret.not_after)?;
    match (from, until) {
        (Some(from), Some(until)) if from > until => Err(bad("'not-before' is after 'not-after'")),
        _ => Ok(()),
    }
}

/// Checks what the secret brings, and hashes a plain password.
fn complete(
    secret: &mut Secret,
    credential_type: CredentialType,
    bcrypt_cost: u32,
) -> Result<(), Error> {
    match credential_type {
        CredentialType::HashedPassword => complete_password(secret, bcrypt_cost),
        CredentialType::Psk => match &secret.key {
            Some(key) => base64_of("key", key).map(drop),
            None => Err(bad("a psk secret needs a 'key' (Base64)")),
        },
        CredentialType::X509Cert => Ok(()),
        CredentialType::Rpk => complete_key(secret),
    }
}

/// Leaves `key` and `algorithm`, whichever form came.
fn complete_key(secret: &mut Secret) -> Result<(), Error> {
    let unusable = |name: &str| {
        let name = name.to_owned();
        move |error| bad(format!("'{name}' cannot be used: {error}"))
    };
    if let (None, None, Some(cert)) = (&secret.key, &secret.algorithm, &secret.cert) {
        let der = der_of(cert).map_err(unusable("cert"))?;
        let facts = CertificateFacts::from_der(&der).map_err(unusable("cert"))?;
        let key = PublicKey::from_der(&facts.public_key).map_err(unusable("cert"))?;
        secret.algorithm = Some(key.algorithm.name().to_owned());
        secret.key = Some(STANDARD.encode(&facts.public_key));
        secret.cert = None;
        return Ok(());
    }
    let (Some(key), Some(algorithm), None) = (&secret.key, &secret.algorithm, &secret.cert) else {
        return Err(bad("an rpk secret needs 'key' and 'algorithm' (EC or RSA), or 'cert'"));
    };
    let der = der_of(key).map_err(unusable("key"))?;
    let known = PublicKey::from_der(&der).map_err(unusable("key"))?.algorithm.name();
    if algorithm != known {
        return Err(bad(format!("'algorithm' is {known} for this key, not {algorithm}")));
    }
    Ok(())
}

fn complete_password(secret: &mut Secret, bcrypt_cost: u32) -> Result<(), Error> {
    match (secret.pwd_plain.take(), &secret.pwd_hash) {
        (Some(_), Some(_)) => Err(bad("give 'pwd-plain' or 'pwd-hash', not both")),
        (None, None) => Err(bad("a hashed-password secret needs 'pwd-plain' or 'pwd-hash'")),
        (Some(plain), None) => {
            if plain.is_empty() || plain.len() > PASSWORD_BYTES_MAX {
                return Err(bad(format!("'pwd-plain' must have 1 to {PASSWORD_BYTES_MAX} bytes")));
            }
            let hashed = bcrypt::hash_with_result(plain, bcrypt_cost)
                .map_err(|error| Error::Unavailable(format!("bcrypt: {error}")))?;
            secret.pwd_hash = Some(hashed.format_for_version(Version::TwoA));
            secret.hash_function = Some("bcrypt".to_owned());
            secret.salt = None;
            Ok(())
        }
        (None, Some(hash)) => {
            let function = secret.hash_function.get_or_insert_with(|| "sha-256".to_owned());
            check_hash(function, hash, bcrypt_cost)?;
            secret.salt.as_ref().map_or(Ok(()), |salt| base64_of("salt", salt).map(drop))
        }
    }
}

fn check_hash(function: &str, hash: &str, bcrypt_cost_max: u32) -> Result<(), Error> {
    let bytes = match function {
        "bcrypt" => return check_bcrypt(hash, bcrypt_cost_max),
        "sha-256" => 32,
        "sha-512" => 64,
        _ => return Err(bad("'hash-function' must be bcrypt, sha-256 or sha-512")),
    };
    if base64_of("pwd-hash", hash)?.len() == bytes {
        return Ok(());
    }
    Err(bad(format!("'pwd-hash' is not {bytes} bytes long, as {function} makes it")))
}

/// `$2a$NN$` and 53 characters; `$2b$` and `$2y$` mean the same.
fn check_bcrypt(hash: &str, cost_max: u32) -> Result<(), Error> {
    let body = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| hash.strip_prefix(prefix));
    let (cost, rest) = body.and_then(|body| body.split_once('$')).unwrap_or_default();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    let two_digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost = Some(cost).filter(|_| two_digits).and_then(|cost| cost.parse::<u32>().ok());
    match cost {
        Some(4..) if rest.len() == 53 && rest.bytes().all(alphabet) => {}
        _ => return Err(bad("'pwd-hash' is not a bcrypt hash ($2a$, $2b$ or $2y$)")),
    }
    if cost > Some(cost_max) {
        return Err(bad(format!(
            "the bcrypt hash has a cost above {cost_max}: edges could not keep up"
        )));
    }
    Ok(())
}

fn base64_of(name: &str, text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| bad(format!("'{name}' is not Base64")))
}

#[cfg(test)]
mod tests;
