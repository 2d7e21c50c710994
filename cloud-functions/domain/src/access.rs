//! Who is asking, and what they may do.
//!
//! | who | proves it with | may |
//! |---|---|---|
//! | operator | bearer token | everything |
//! | application | Basic `{application}@{tenant}` and its password | its tenant's streams and commands, by permission |
//! | edge node | bearer ES256 token signed with its enrolled key | sync, for the tenants it serves |

use crate::edges::Edge;
use crate::rows::{EdgeRow, decode};
use crate::{Cloud, Error, keys, secrets};
use fulcrum_contract::enrolment::{AUDIENCE, CLOCK_SKEW_S, EdgeClaims, TOKEN_LIFE_S_MAX};
use fulcrum_contract::registry::{Application, Permission};
use fulcrum_contract::{ApplicationId, EdgeId, TenantId};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use p256::pkcs8::DecodePublicKey as _;

/// What a request presents.
pub enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// User name and password.
    Basic {
        /// `{application}@{tenant}`.
        username: &'a str,
        /// The password.
        password: &'a str,
    },
    /// A bearer token.
    Bearer(&'a str),
}

/// Who is asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// Runs the platform.
    Operator,
    /// An application of one tenant.
    Application {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        application: ApplicationId,
        /// What it may do.
        permissions: Vec<Permission>,
    },
}

impl Principal {
    /// Only an operator passes.
    pub fn require_operator(&self) -> Result<(), Error> {
        match self {
            Principal::Operator => Ok(()),
            Principal::Application { .. } => Err(Error::Forbidden(
                "an application may not do this: use an operator's token".to_owned(),
            )),
        }
    }

    /// An operator passes, and an application of `tenant` that holds `permission`.
    pub fn require(&self, tenant: &TenantId, permission: Permission) -> Result<(), Error> {
        let Principal::Application { tenant: own, permissions, .. } = self else {
            return Ok(());
        };
        if own != tenant {
            return Err(Error::Forbidden(format!(
                "this application belongs to another tenant than '{tenant}'"
            )));
        }
        if !permissions.contains(&permission) {
            return Err(Error::Forbidden(format!(
                "this application lacks the permission {permission:?}: create it anew with that permission"
            )));
        }
        Ok(())
    }
}

const WHO: Error = Error::Unauthorized(
    "not authenticated: send an operator's bearer token, or Basic {application}@{tenant} with its password",
);
const WHICH_EDGE: Error = Error::Unauthorized(
    "the edge's token is not valid: check the edge's clock, or enrol it with a new token",
);

impl Cloud {
    /// Finds out who presents this.
    pub async fn authenticate(&self, presented: Presented<'_>) -> Result<Principal, Error> {
        match presented {
            Presented::Bearer(token)
                if secrets::is_among(token, &self.settings.operator_token_sha256) =>
            {
                Ok(Principal::Operator)
            }
            Presented::Basic { username, password } => {
                self.authenticate_application(username, password).await
            }
            Presented::Bearer(_) | Presented::Nothing => Err(WHO),
        }
    }

    async fn authenticate_application(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Principal, Error> {
        let (application, tenant) = username.split_once('@').ok_or(WHO)?;
        let application = ApplicationId::parse(application).map_err(|_| WHO)?;
        let tenant = TenantId::parse(tenant).map_err(|_| WHO)?;
        let key = keys::application(&tenant, &application);
        let document: Option<Application> =
            self.one(key).await?.map(|item| decode(&item)).transpose()?;
        // An unknown application costs the same comparison as a wrong password.
        let stored = document.as_ref().and_then(|document| document.password_sha256.as_deref());
        let right = secrets::has_sha256(password, stored.unwrap_or_default());
        match document.filter(|document| right && document.enabled) {
            Some(Application { permissions, .. }) => {
                Ok(Principal::Application { tenant, application, permissions })
            }
            None => Err(WHO),
        }
    }

    /// Checks that `token` was signed by the key of `edge`, is meant for us and is fresh.
    pub async fn authenticate_edge(
        &self,
        edge: &EdgeId,
        token: &str,
        now_ms: u64,
    ) -> Result<Edge, Error> {
        let item = self.one(keys::edge(edge)).await?.ok_or(WHICH_EDGE)?;
        let row: EdgeRow = decode(&item)?;
        let pem = row.public_key.as_deref().ok_or(WHICH_EDGE)?;
        let key = p256::PublicKey::from_public_key_pem(pem).map_err(|_| WHICH_EDGE)?;
        let key = DecodingKey::from_ec_der(&key.to_sec1_bytes());
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["sub", "aud", "exp"]);
        // Our clock, not the library's.
        rules.validate_exp = false;
        let claims =
            jsonwebtoken::decode::<EdgeClaims>(token, &key, &rules).map_err(|_| WHICH_EDGE)?;
        if claims.claims.sub != edge.as_str() || !is_fresh(&claims.claims, now_ms / 1000) {
            return Err(WHICH_EDGE);
        }
        self.mark_seen(edge, now_ms).await?;
        Ok(Edge::of(edge.clone(), &row))
    }
}

fn is_fresh(claims: &EdgeClaims, now_s: u64) -> bool {
    let life_s = claims.exp.checked_sub(claims.iat);
    life_s.is_some_and(|life_s| life_s <= TOKEN_LIFE_S_MAX)
        && claims.iat <= now_s.saturating_add(CLOCK_SKEW_S)
        && claims.exp.saturating_add(CLOCK_SKEW_S) >= now_s
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(iat: u64, exp: u64) -> EdgeClaims {
        EdgeClaims { sub: "e".to_owned(), aud: AUDIENCE.to_owned(), iat, exp }
    }

    #[test]
    fn a_token_is_fresh_within_its_life_and_the_tolerated_clock_difference() {
        let now = 1_700_000_000;
        assert!(is_fresh(&claims(now, now + 600), now));
        assert!(is_fresh(&claims(now - 1100, now - 600), now));
        assert!(!is_fresh(&claims(now - 1200, now - 601), now));
        assert!(is_fresh(&claims(now + 600, now + 700), now));
        assert!(!is_fresh(&claims(now + 601, now + 700), now));
    }

    #[test]
    fn a_token_of_too_long_a_life_is_refused_whatever_the_time() {
        assert!(!is_fresh(&claims(1000, 1601), 1300));
        assert!(!is_fresh(&claims(1000, 999), 1000));
        assert!(!is_fresh(&claims(0, u64::MAX), 1000));
    }
}
