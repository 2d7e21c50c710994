//! Who is it that holds the key of this certificate?
//!
//! 1. The tenant: the one that has a trust anchor whose subject is the issuer of the client's certificate. If none has,
//!    or several (a trust anchor group), the one whose id or alias is the first label of the host name asked for.
//! 2. The chain leads to an anchor of that tenant that is enabled and within its validity: signatures, dates and
//!    purpose are verified by rustls-webpki. A certificate's `extendedKeyUsage`, if it has one, includes client
//!    authentication.
//! 3. The auth-id is the subject's distinguished name, or what the anchor's template makes of it; a device of the tenant
//!    has it as an `x509-cert` credential that is enabled and valid.
//!
//! Deliberately not here: possession of the private key, which TLS proves before; revocation lists and OCSP (the
//! registry refuses to be asked for it: disable the credential instead); making devices known that are not.

use crate::authentication::{admit_device, unavailable};
use crate::limits::CHAIN_CERTIFICATES_MAX;
use crate::login::{Login, Principal};
use crate::refusal::Refusal;
use crate::replica::{Identity, View};
use crate::secrets;
use fulcrum_contract::TenantId;
use fulcrum_contract::certificates::{
    CertificateFacts, TrustAnchor as Anchor, auth_id_of, der_of, normal_auth_id,
};
use fulcrum_contract::registry::{Credential, CredentialType, Tenant};
use rustls_pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

impl Identity {
    pub(crate) fn authenticate_certificate(
        &self,
        login: &Login,
        chain: &[Vec<u8>],
        server_name: Option<&str>,
    ) -> Result<Principal, Refusal> {
        let chain = Chain::read(chain).ok_or(Refusal::BadCredentials)?;
        let decide = |view: &View| decide(view, login, &chain, server_name);
        self.inner.read(decide).map_err(|error| unavailable(&error))?
    }
}

/// The certificates a client sent, its own first.
struct Chain<'a> {
    certificates: Vec<CertificateDer<'a>>,
    facts: Vec<CertificateFacts>,
}

impl<'a> Chain<'a> {
    fn read(chain: &'a [Vec<u8>]) -> Option<Chain<'a>> {
        if chain.is_empty() || chain.len() > CHAIN_CERTIFICATES_MAX {
            return None;
        }
        let facts = chain.iter().map(|der| CertificateFacts::from_der(der).ok());
        let facts = facts.collect::<Option<Vec<_>>>()?;
        let certificates = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        Some(Chain { certificates, facts })
    }

    fn leaf(&self) -> &CertificateFacts {
        &self.facts[0]
    }

    /// The anchor of `anchors` to which the chain leads.
    fn anchor<'t>(&self, anchors: &'t [Anchor], now_ms: u64) -> Option<&'t Anchor> {
        let (documents, trusted): (Vec<_>, Vec<_>) =
            self.candidates(anchors, now_ms).into_iter().unzip();
        let leaf = EndEntityCert::try_from(&self.certificates[0]).ok()?;
        let path = leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &trusted,
            &self.certificates[1..],
            UnixTime::since_unix_epoch(Duration::from_millis(now_ms)),
            KeyUsage::client_auth(),
            None,
            None,
        );
        let path =
            path.inspect_err(|error| tracing::debug!(%error, "a client certificate")).ok()?;
        let at = trusted.iter().position(|trusted| trusted == path.anchor())?;
        documents.get(at).copied()
    }

    /// Usable anchors whose subject is the issuer of any certificate of the chain. Names in documents are text, and what
    /// is verified is DER: the subject is taken as the certificate spells its issuer.
    fn candidates<'t>(
        &self,
        anchors: &'t [Anchor],
        now_ms: u64,
    ) -> Vec<(&'t Anchor, TrustAnchor<'static>)> {
        let mut candidates = Vec::new();
        for anchor in anchors.iter().filter(|anchor| is_usable(anchor, now_ms)) {
            let Some((subject, key)) = subject_of(anchor).zip(key_of(anchor)) else { continue };
            let issued = |facts: &CertificateFacts| facts.issuer.to_string() == subject;
            let certificate = self.facts.iter().position(issued);
            let Some(certificate) = certificate.map(|at| &self.certificates[at]) else { continue };
            let Ok(certificate) = EndEntityCert::try_from(certificate) else { continue };
            let trusted = TrustAnchor {
                subject: Der::from(certificate.issuer().to_vec()),
                subject_public_key_info: Der::from(key),
                name_constraints: None,
            };
            candidates.push((anchor, trusted));
        }
        candidates
    }
}

fn is_usable(anchor: &Anchor, now_ms: u64) -> bool {
    let (from, until) = (anchor.not_before.as_deref(), anchor.not_after.as_deref());
    anchor.enabled && secrets::is_within(from, until, now_ms)
}

/// The anchor's subject in its one spelling. One that has only a certificate did not come through the registry.
pub(crate) fn subject_of(anchor: &Anchor) -> Option<String> {
    match (&anchor.subject_dn, &anchor.cert) {
        (Some(subject), _) => Some(normal_auth_id(subject)),
        (None, Some(cert)) => {
            let facts = CertificateFacts::from_der(&der_of(cert).ok()?).ok()?;
            Some(facts.subject.to_string())
        }
        (None, None) => None,
    }
}

/// The content of the anchor's SubjectPublicKeyInfo, which is how rustls-webpki wants it.
fn key_of(anchor: &Anchor) -> Option<Vec<u8>> {
    let info = match (&anchor.public_key, &anchor.cert) {
        (Some(key), _) => der_of(key).ok()?,
        (None, Some(cert)) => CertificateFacts::from_der(&der_of(cert).ok()?).ok()?.public_key,
        (None, None) => return None,
    };
    let (head, length) = match info.get(1)? {
        length @ 0..=0x7f => (2, usize::from(*length)),
        0x81 => (3, usize::from(*info.get(2)?)),
        0x82 => (4, usize::from(*info.get(2)?) << 8 | usize::from(*info.get(3)?)),
        _ => return None,
    };
    let content = info.get(head..)?;
    (info[0] == 0x30 && content.len() == length).then(|| content.to_vec())
}

fn decide(
    view: &View,
    login: &Login,
    chain: &Chain<'_>,
    server_name: Option<&str>,
) -> Result<Result<Principal, Refusal>, redb::Error> {
    let unknown = Ok(Err(Refusal::BadCredentials));
    let issuer = chain.leaf().issuer.to_string();
    let Some((tenant_id, tenant)) = tenant_of(view, &issuer, server_name)? else { return unknown };
    let anchors = tenant.trusted_ca.as_deref().unwrap_or_default();
    let Some(anchor) = chain.anchor(anchors, login.now_ms) else { return unknown };
    let template = anchor.auth_id_template.as_deref();
    let Some(auth_id) = auth_id_of(&chain.leaf().subject, template) else { return unknown };
    match view.certificate_credentials(tenant_id.as_str(), &auth_id)? {
        Some((device, credentials)) if is_credential(&credentials, &auth_id, login.now_ms) => {
            admit_device(view, login, tenant_id, &tenant, &device)
        }
        _ => unknown,
    }
}

fn tenant_of(
    view: &View,
    issuer: &str,
    server_name: Option<&str>,
) -> Result<Option<(TenantId, Tenant)>, redb::Error> {
    let of_issuer = view.tenants_of_anchor(issuer)?;
    let name = match &of_issuer[..] {
        [one] => Some(one.clone()),
        _ => {
            let label = server_name.and_then(|host| host.split('.').next()).unwrap_or_default();
            let named = view.tenant_named(label)?;
            named.filter(|tenant| of_issuer.is_empty() || of_issuer.contains(tenant))
        }
    };
    let Some(name) = name else { return Ok(None) };
    let document = view.tenant(&name)?;
    Ok(TenantId::parse(&name).ok().zip(document))
}

/// Whether the auth-id is a credential that may be used now. A secret only narrows its validity.
fn is_credential(credentials: &[Credential], auth_id: &str, now_ms: u64) -> bool {
    credentials.iter().any(|credential| {
        credential.enabled
            && credential.credential_type == CredentialType::X509Cert
            && normal_auth_id(&credential.auth_id) == auth_id
            && (credential.secrets.is_empty()
                || credential.secrets.iter().any(|secret| secrets::is_valid_at(secret, now_ms)))
    })
}
