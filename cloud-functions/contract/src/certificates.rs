//! Certificates and public keys: what the registry and the edge nodes read out of them, and tenants' trust anchors.
//!
//! Nothing here verifies a signature; that is the edge's work at a login.

use crate::names::{DistinguishedName, NameError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey as ParsedKey;

/// Longest certificate or key in bytes of DER.
pub const DER_BYTES_MAX: usize = 16 * 1024;
/// Shortest RSA key whose signatures are believed, in bits.
pub const RSA_BITS_MIN: usize = 2048;
/// Longest RSA key, in bits: verifying takes the longer the longer the key.
pub const RSA_BITS_MAX: usize = 4096;

/// An entry of a tenant's `trusted-ca`: an authority that signs certificates of the tenant's devices.
///
/// A client gives `cert`, or `subject-dn` and `public-key`; stored and replicated is the second form.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrustAnchor {
    /// Given by the registry if the client gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether certificates it signed are accepted. Default true.
    #[serde(default = "crate::registry::yes", skip_serializing_if = "crate::registry::is_true")]
    pub enabled: bool,
    /// Base64 DER certificate the other members are taken from; only ever on its way in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// Its subject (RFC 2253).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_dn: Option<String>,
    /// Its key: Base64 DER SubjectPublicKeyInfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// `RSA` or `EC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// How a device's auth-id is made of its certificate's subject; its subject DN if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_id_template: Option<String>,
    /// Not supported: only false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_provisioning_enabled: Option<bool>,
    /// Kept, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_provision_as_gateway: Option<bool>,
    /// Kept, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_provisioning_device_id_template: Option<String>,
    /// Not supported: only false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_revocation_enabled: Option<bool>,
    /// Kept, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_responder_uri: Option<String>,
    /// Kept, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_responder_cert: Option<String>,
    /// Kept, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_nonce_enabled: Option<bool>,
}

/// What of a certificate matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFacts {
    /// Whom it is about.
    pub subject: DistinguishedName,
    /// Who signed it.
    pub issuer: DistinguishedName,
    /// DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// Beginning of its validity, in seconds since the Unix epoch.
    pub not_before_s: i64,
    /// End of its validity, in seconds since the Unix epoch.
    pub not_after_s: i64,
}

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// An elliptic curve, P-256 or P-384.
    Ec,
}

impl KeyAlgorithm {
    /// Its name in the registry API.
    pub fn name(self) -> &'static str {
        match self {
            KeyAlgorithm::Rsa => "RSA",
            KeyAlgorithm::Ec => "EC",
        }
    }
}

/// A public key that can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// PKCS#1 RSAPublicKey in DER, or the uncompressed point of the curve.
    pub bytes: Vec<u8>,
}

/// Why a certificate or key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not Base64, or not DER of the expected kind.
    #[error("it is not Base64 of a DER certificate or key of at most {DER_BYTES_MAX} bytes")]
    Malformed,
    /// A subject or issuer is empty or too long.
    #[error("it has a subject or issuer that is empty or too long")]
    Name(#[from] NameError),
    /// A kind or size of key that is not accepted.
    #[error(
        "its key is neither RSA with {RSA_BITS_MIN} to {RSA_BITS_MAX} bits nor of the curves P-256 and P-384"
    )]
    Key,
}

/// Base64 DER as it stands in documents.
pub fn der_of(base64: &str) -> Result<Vec<u8>, CertificateError> {
    if base64.len() > DER_BYTES_MAX * 4 / 3 + 4 {
        return Err(CertificateError::Malformed);
    }
    STANDARD.decode(base64).map_err(|_| CertificateError::Malformed)
}

impl CertificateFacts {
    /// Reads a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() || der.len() > DER_BYTES_MAX {
            return Err(CertificateError::Malformed);
        }
        let validity = certificate.validity();
        Ok(CertificateFacts {
            subject: DistinguishedName::from_x509(certificate.subject())?,
            issuer: DistinguishedName::from_x509(certificate.issuer())?,
            public_key: certificate.public_key().raw.to_vec(),
            not_before_s: validity.not_before.timestamp(),
            not_after_s: validity.not_after.timestamp(),
        })
    }
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(der) else {
            return Err(CertificateError::Malformed);
        };
        let algorithm = match info.parsed().map_err(|_| CertificateError::Malformed)? {
            ParsedKey::RSA(key) if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&key.key_size()) => {
                KeyAlgorithm::Rsa
            }
            // 0x04 and two coordinates.
            ParsedKey::EC(point) if matches!(point.data(), [4, rest @ ..] if matches!(rest.len(), 64 | 96)) => {
                KeyAlgorithm::Ec
            }
            _ => return Err(CertificateError::Key),
        };
        Ok(PublicKey { algorithm, bytes: info.subject_public_key.data.to_vec() })
    }
}

type FromSubject = fn(&DistinguishedName) -> Option<String>;

/// The placeholders of `auth-id-template`, and what each takes from a subject.
const PLACEHOLDERS: [(&str, FromSubject); 4] = [
    ("{{subject-dn}}", |subject| Some(subject.to_string())),
    ("{{subject-cn}}", |subject| subject.common_name().map(str::to_owned)),
    ("{{subject-ou}}", |subject| subject.organizational_unit().map(str::to_owned)),
    ("{{subject-o}}", |subject| subject.organization().map(str::to_owned)),
];

/// Whether a template has a placeholder, and none that is not known.
pub fn is_auth_id_template(template: &str) -> bool {
    let mut rest = template.to_owned();
    for (placeholder, _) in PLACEHOLDERS {
        rest = rest.replace(placeholder, "");
    }
    rest.len() < template.len() && !rest.contains("{{") && !rest.contains("}}")
}

/// The auth-id of a device whose certificate has this subject; none if the subject lacks what the template asks for.
pub fn auth_id_of(subject: &DistinguishedName, template: Option<&str>) -> Option<String> {
    let Some(mut rest) = template else { return Some(subject.to_string()) };
    let mut auth_id = String::new();
    // From left to right: what a subject holds is not read as a template again.
    loop {
        let found = PLACEHOLDERS
            .iter()
            .filter_map(|(placeholder, value)| Some((rest.find(placeholder)?, *placeholder, value)))
            .min_by_key(|(at, ..)| *at);
        let Some((at, placeholder, value)) = found else {
            auth_id.push_str(rest);
            return Some(normal_auth_id(&auth_id));
        };
        auth_id.push_str(&rest[..at]);
        auth_id.push_str(&value(subject)?);
        rest = &rest[at + placeholder.len()..];
    }
}

/// The auth-id of an `x509-cert` credential as it is compared: a distinguished name in its one spelling, any other text
/// as it is.
pub fn normal_auth_id(auth_id: &str) -> String {
    DistinguishedName::parse(auth_id).map_or_else(|_| auth_id.to_owned(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auth_id_is_made_as_its_template_says() {
        let subject = DistinguishedName::parse("CN=d1,OU=pumps,O=ACME").unwrap();
        for (template, expected) in [
            (None, Some("CN=d1,OU=pumps,O=ACME")),
            (Some("{{subject-dn}}"), Some("CN=d1,OU=pumps,O=ACME")),
            (Some("{{subject-cn}}"), Some("d1")),
            (Some("{{subject-o}}-{{subject-ou}}.{{subject-cn}}"), Some("ACME-pumps.d1")),
        ] {
            assert_eq!(auth_id_of(&subject, template).as_deref(), expected, "{template:?}");
        }
        let bare = DistinguishedName::parse("CN={{subject-o}}").unwrap();
        assert_eq!(auth_id_of(&bare, Some("{{subject-ou}}")), None);
        assert_eq!(auth_id_of(&bare, Some("{{subject-cn}}")).as_deref(), Some("{{subject-o}}"));
    }

    #[test]
    fn a_template_needs_known_placeholders() {
        assert!(is_auth_id_template("x-{{subject-cn}}"));
        for template in ["", "x", "{{subject-c}}", "{{subject-cn}}{{x}}", "{{subject-cn}} }}"] {
            assert!(!is_auth_id_template(template), "{template}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(der_of("%"), Err(CertificateError::Malformed));
        assert_eq!(PublicKey::from_der(&[]), Err(CertificateError::Malformed));
        assert_eq!(CertificateFacts::from_der(&[0x30, 0]), Err(CertificateError::Malformed));
        // An Ed25519 key.
        let mut ed25519 = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];
        ed25519.extend([7; 32]);
        assert_eq!(PublicKey::from_der(&ed25519), Err(CertificateError::Key));
    }
}
