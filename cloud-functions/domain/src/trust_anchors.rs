//! A tenant's trust anchors: what they must say, and to whom a subject DN belongs.
//!
//! An edge node finds the tenant of a client certificate by its issuer. So one subject DN belongs to one tenant, or to the
//! tenants of one `trust-anchor-group`, whose devices must then say by TLS server name which tenant they mean.

use crate::rows::{AnchorRow, decode};
use crate::secrets::new_id;
use crate::store::{Expect, Write};
use crate::{Cloud, Error, keys, registry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fulcrum_contract::TenantId;
use fulcrum_contract::certificates::{
    CertificateFacts, PublicKey, TrustAnchor, der_of, is_auth_id_template,
};
use fulcrum_contract::names::DistinguishedName;
use fulcrum_contract::registry::Tenant;
use std::collections::{BTreeSet, HashSet};
use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

/// Most anchors of one tenant: those of one subject are tried in turn at a login.
const ANCHORS_MAX: usize = 32;

/// The document with every anchor checked and in its stored form.
pub(crate) fn completed(document: Tenant) -> Result<Tenant, Error> {
    let Some(anchors) = document.trusted_ca else { return Ok(document) };
    if anchors.is_empty() {
        return Err(bad("'trusted-ca' must not be empty: leave it out"));
    }
    if anchors.len() > ANCHORS_MAX {
        return Err(bad(format!("'trusted-ca' has at most {ANCHORS_MAX} entries")));
    }
    let anchors = anchors.into_iter().map(complete).collect::<Result<Vec<_>, _>>()?;
    let mut ids = HashSet::new();
    if !anchors.iter().all(|anchor| ids.insert(anchor.id.clone())) {
        return Err(bad("the same 'id' is there twice in 'trusted-ca'"));
    }
    Ok(Tenant { trusted_ca: Some(anchors), ..document })
}

fn bad(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

fn complete(mut anchor: TrustAnchor) -> Result<TrustAnchor, Error> {
    if let Some(cert) = anchor.cert.take() {
        take_from_certificate(&mut anchor, &cert)?;
    }
    let (Some(subject), Some(key)) = (&anchor.subject_dn, &anchor.public_key) else {
        return Err(bad("a trust anchor needs 'cert', or 'subject-dn' and 'public-key'"));
    };
    let subject = DistinguishedName::parse(subject)
        .map_err(|error| bad(format!("'subject-dn' is {error}")))?;
    let key = der_of(key)
        .and_then(|der| PublicKey::from_der(&der))
        .map_err(|error| bad(format!("'public-key' cannot be used: {error}")))?;
    if anchor.algorithm.as_deref().is_some_and(|name| name != key.algorithm.name()) {
        return Err(bad(format!("'algorithm' is {} for this key", key.algorithm.name())));
    }
    anchor.subject_dn = Some(subject.to_string());
    anchor.algorithm = Some(key.algorithm.name().to_owned());
    check_window(&anchor)?;
    check_options(&anchor)?;
    anchor.id.get_or_insert_with(new_id);
    Ok(anchor)
}

fn take_from_certificate(anchor: &mut TrustAnchor, cert: &str) -> Result<(), Error> {
    let given = [&anchor.subject_dn, &anchor.public_key, &anchor.not_before, &anchor.not_after];
    if given.into_iter().any(Option::is_some) {
        return Err(bad(
            "give 'cert', or 'subject-dn', 'public-key' and dates, not both in one trust anchor",
        ));
    }
    let facts = der_of(cert)
        .and_then(|der| CertificateFacts::from_der(&der))
        .map_err(|error| bad(format!("'cert' cannot be used: {error}")))?;
    anchor.subject_dn = Some(facts.subject.to_string());
    anchor.public_key = Some(STANDARD.encode(&facts.public_key));
    anchor.not_before = iso8601(facts.not_before_s);
    anchor.not_after = iso8601(facts.not_after_s);
    Ok(())
}

fn iso8601(at_s: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(at_s).ok()?.format(&Rfc3339).ok()
}

fn check_window(anchor: &TrustAnchor) -> Result<(), Error> {
    let parse = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => OffsetDateTime::parse(text, &Iso8601::PARSING)
            .map(Some)
            .map_err(|_| bad("a trust anchor's date is not ISO 8601, as 2026-01-31T12:00:00Z")),
    };
    match (parse(&anchor.not_before)?, parse(&anchor.not_after)?) {
        (Some(from), Some(until)) if from > until => {
            Err(bad("a trust anchor's 'not-before' is after its 'not-after'"))
        }
        _ => Ok(()),
    }
}

/// What an edge node would not do is refused here rather than left undone.
fn check_options(anchor: &TrustAnchor) -> Result<(), Error> {
    if anchor.auth_id_template.as_deref().is_some_and(|template| !is_auth_id_template(template)) {
        return Err(bad(
            "'auth-id-template' needs one of {{subject-dn}}, {{subject-cn}}, {{subject-ou}} and {{subject-o}}",
        ));
    }
    if anchor.auto_provisioning_enabled == Some(true) {
        return Err(bad(
            "'auto-provisioning-enabled' is not supported: register the devices, and leave it out",
        ));
    }
    if anchor.ocsp_revocation_enabled == Some(true) {
        return Err(bad(
            "'ocsp-revocation-enabled' is not supported: disable a device's credentials instead, and leave it out",
        ));
    }
    Ok(())
}

fn subjects(document: Option<&Tenant>) -> BTreeSet<&str> {
    let anchors = document.and_then(|document| document.trusted_ca.as_ref());
    anchors.into_iter().flatten().filter_map(|anchor| anchor.subject_dn.as_deref()).collect()
}

impl Cloud {
    /// Moves the tenant's claims on subject DNs from its old document's to the new one's.
    pub(crate) async fn claim_anchors(
        &self,
        id: &TenantId,
        new: Option<&Tenant>,
        old: Option<&Tenant>,
    ) -> Result<Vec<Write>, Error> {
        let group = |document: Option<&Tenant>| document?.trust_anchor_group.clone();
        let (wanted, held) = (subjects(new), subjects(old));
        let mut writes = Vec::new();
        for subject in wanted.union(&held) {
            if wanted.contains(subject) == held.contains(subject) && group(new) == group(old) {
                continue;
            }
            let key = keys::trust_anchor(subject);
            let item = self.one(key.clone()).await?;
            let row = item.as_ref().map(decode::<AnchorRow>).transpose()?;
            let mut tenants = row.as_ref().map(|row| row.tenants.clone()).unwrap_or_default();
            tenants.remove(id.as_str());
            let others = row.and_then(|row| row.group);
            let expect = Expect::as_read(item.as_ref());
            if !wanted.contains(subject) {
                writes.push(match tenants.is_empty() {
                    true => Write::Delete { key, expect },
                    false => registry::put(key, &AnchorRow { group: others, tenants }, expect),
                });
                continue;
            }
            let group = group(new);
            if !tenants.is_empty() && (group.is_none() || group != others) {
                return Err(Error::Exists(format!(
                    "a trust anchor of another tenant has the subject '{subject}': tenants that share one name the same \
                     'trust-anchor-group'"
                )));
            }
            tenants.insert(id.as_str().to_owned());
            writes.push(registry::put(key, &AnchorRow { group, tenants }, expect));
        }
        Ok(writes)
    }
}

#[cfg(test)]
mod tests;
