//! JSON Web Tokens in the place of a password, as Hono's device adapters take them.
//!
//! A token is `header.claims.signature`, each part Base64url. Rules: `typ` is `JWT`; `alg` is RS, PS or ES (ES512 is not
//! supported); `iat` and `exp` are there, at most a day apart; clocks may differ by ten minutes. Tenant and auth-id are
//! the claims `tid` and `sub` where `aud` contains `hono-adapter`, else they are in the MQTT client id
//! `…/{tenant}/{anything}/{auth-id}`, else in the user name.
//!
//! Reading a token proves nothing: the key of a device's `rpk` credential has to verify it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fulcrum_contract::TenantId;
use fulcrum_contract::certificates::{KeyAlgorithm, PublicKey};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Longest token in bytes; with RSA of 4096 bits a signature has 683.
const TOKEN_BYTES_MAX: usize = 4096;
/// By how much the clocks of a device and a node may differ, in seconds.
const SKEW_S: u64 = 600;
/// Longest life of a token, in seconds.
const LIFE_S_MAX: u64 = 24 * 3600;
/// In `aud` of a token that names tenant and auth-id itself.
const AUDIENCE: &str = "hono-adapter";

/// What a token says, not yet believed.
pub(crate) struct Token {
    claims: Claims,
}

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: String,
}

/// Times in seconds since the Unix epoch (NumericDate, RFC 7519), which may have fractions.
#[derive(Deserialize)]
struct Claims {
    iat: f64,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    aud: Value,
    #[serde(default)]
    tid: Option<String>,
    #[serde(default)]
    sub: Option<String>,
}

impl Token {
    /// The token, if the password has the shape of one this node could believe.
    pub(crate) fn read(password: &[u8]) -> Option<Token> {
        let parts = Parts::of(password)?;
        parts.algorithm()?;
        let claims: Claims = serde_json::from_slice(&decoded(parts.claims)?).ok()?;
        Some(Token { claims })
    }

    /// Whether its times allow its use now.
    pub(crate) fn is_valid_at(&self, now_ms: u64) -> bool {
        let Claims { iat, exp, nbf, .. } = self.claims;
        let (now, skew) = (now_ms as f64 / 1000.0, SKEW_S as f64);
        let begun = |at: f64| at <= now + skew;
        // Comparisons with what is not a number are false.
        begun(iat)
            && nbf.is_none_or(begun)
            && exp > iat
            && exp - iat <= LIFE_S_MAX as f64
            && now < exp + skew
    }

    /// When it is void, clocks' difference included, in milliseconds since the Unix epoch.
    pub(crate) fn valid_until_ms(&self) -> u64 {
        // Saturates; `is_valid_at` has excluded what is far from now.
        ((self.claims.exp + SKEW_S as f64) * 1000.0) as u64
    }

    /// Auth-id and tenant.
    pub(crate) fn named(
        &self,
        client_id: &str,
        username: Option<(&str, TenantId)>,
    ) -> Option<(String, TenantId)> {
        if self.is_for_the_adapter() {
            let tenant = TenantId::parse(self.claims.tid.as_deref()?).ok()?;
            return Some((self.claims.sub.clone()?, tenant));
        }
        let mut segments = client_id.rsplit('/');
        let in_client_id = match (segments.next(), segments.next(), segments.next()) {
            (Some(auth_id), Some(_), Some(tenant)) if !auth_id.is_empty() => {
                TenantId::parse(tenant).ok().map(|tenant| (auth_id.to_owned(), tenant))
            }
            _ => None,
        };
        in_client_id.or_else(|| username.map(|(name, tenant)| (name.to_owned(), tenant)))
    }

    fn is_for_the_adapter(&self) -> bool {
        match &self.claims.aud {
            Value::String(one) => one == AUDIENCE,
            Value::Array(all) => all.iter().any(|one| one == AUDIENCE),
            _ => false,
        }
    }
}

/// Whether the key (Base64 DER SubjectPublicKeyInfo) verifies the token's signature. Takes up to a millisecond.
pub(crate) fn is_signed_with(token: &[u8], key: &str) -> bool {
    let verified = || {
        let parts = Parts::of(token)?;
        let algorithm = parts.algorithm()?;
        let key = PublicKey::from_der(&STANDARD.decode(key).ok()?).ok()?;
        let is_ec = matches!(algorithm, Algorithm::ES256 | Algorithm::ES384);
        let key = match key.algorithm {
            KeyAlgorithm::Ec if is_ec => DecodingKey::from_ec_der(&key.bytes),
            KeyAlgorithm::Rsa if !is_ec => DecodingKey::from_rsa_der(&key.bytes),
            _ => return None,
        };
        let signed = parts.signed.as_bytes();
        jsonwebtoken::crypto::verify(parts.signature, signed, &key, algorithm).ok()
    };
    verified().unwrap_or(false)
}

/// The three parts, as they stand.
struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a [u8]) -> Option<Parts<'a>> {
        let text = std::str::from_utf8(token).ok().filter(|text| text.len() <= TOKEN_BYTES_MAX)?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let is_three = !claims.contains('.') && !signature.is_empty();
        is_three.then_some(Parts { signed, header, claims, signature })
    }

    /// Its algorithm, if the header is a JWT's and the algorithm is one of a public key.
    fn algorithm(&self) -> Option<Algorithm> {
        let header: Header = serde_json::from_slice(&decoded(self.header)?).ok()?;
        if !header.typ?.eq_ignore_ascii_case("JWT") {
            return None;
        }
        match header.alg.as_str() {
            "RS256" => Some(Algorithm::RS256),
            "RS384" => Some(Algorithm::RS384),
            "RS512" => Some(Algorithm::RS512),
            "PS256" => Some(Algorithm::PS256),
            "PS384" => Some(Algorithm::PS384),
            "PS512" => Some(Algorithm::PS512),
            "ES256" => Some(Algorithm::ES256),
            "ES384" => Some(Algorithm::ES384),
            // Not HS: a shared secret signs nothing here, and a public key must never be taken for one. Not none.
            _ => None,
        }
    }
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> Option<Token> {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        Token::read(format!("{}.{}.c2ln", part(header), part(claims)).as_bytes())
    }

    fn with_claims(claims: &str) -> Token {
        token(r#"{"typ":"JWT","alg":"ES256"}"#, claims).unwrap()
    }

    const NOW_S: u64 = 1_772_352_000;

    fn valid(iat: i64, exp: i64) -> bool {
        let (iat, exp) = (NOW_S as i64 + iat, NOW_S as i64 + exp);
        with_claims(&format!(r#"{{"iat":{iat},"exp":{exp}}}"#)).is_valid_at(NOW_S * 1000)
    }

    #[test]
    fn only_a_jwt_with_a_public_keys_algorithm_is_a_token() {
        let claims = r#"{"iat":1,"exp":2}"#;
        for alg in ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384"] {
            assert!(token(&format!(r#"{{"typ":"JWT","alg":"{alg}"}}"#), claims).is_some(), "{alg}");
        }
        for header in [
            r#"{"typ":"JWT","alg":"none"}"#,
            r#"{"typ":"JWT","alg":"HS256"}"#,
            r#"{"typ":"JOSE","alg":"ES256"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"typ":"JWT"}"#,
            "no json",
        ] {
            assert!(token(header, claims).is_none(), "{header}");
        }
        let header = r#"{"typ":"JWT","alg":"ES256"}"#;
        for claims in [r#"{"iat":1}"#, r#"{"exp":2}"#, r#"{"iat":"1","exp":2}"#, "[]"] {
            assert!(token(header, claims).is_none(), "{claims}");
        }
        for password in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "ü.ü.ü"] {
            assert!(Token::read(password.as_bytes()).is_none(), "{password}");
        }
        assert!(Token::read(&[0xff; 40]).is_none());
    }

    #[test]
    fn times_are_held_against_the_clock_with_ten_minutes_to_spare() {
        let day = LIFE_S_MAX as i64;
        for (iat, exp, expected) in [
            (-10, 10, true),
            (0, day, true),
            (0, day + 1, false),
            (600, 601, true),
            (601, 700, false),
            (-1000, -599, true),
            (-1000, -600, false),
            (10, 10, false),
            (10, 5, false),
        ] {
            assert_eq!(valid(iat, exp), expected, "{iat} {exp}");
        }
        let late = format!(r#"{{"iat":{NOW_S},"exp":{},"nbf":{}}}"#, NOW_S + 900, NOW_S + 700);
        assert!(!with_claims(&late).is_valid_at(NOW_S * 1000));
        let huge = with_claims(r#"{"iat":1e300,"exp":1e300}"#);
        assert!(!huge.is_valid_at(NOW_S * 1000));
    }

    #[test]
    fn a_token_is_void_when_the_spared_minutes_are_over() {
        let claims = format!(r#"{{"iat":{NOW_S},"exp":{}}}"#, NOW_S + 60);
        assert_eq!(with_claims(&claims).valid_until_ms(), (NOW_S + 660) * 1000);
    }

    #[test]
    fn names_come_from_the_claims_or_the_client_id_or_the_user_name() {
        let tenant = |text: &str| TenantId::parse(text).unwrap();
        let user = || Some(("user", tenant("u")));
        let named = |claims: &str, client_id: &str| {
            with_claims(&format!(r#"{{"iat":1,"exp":2{claims}}}"#)).named(client_id, user())
        };
        let claims = r#","aud":["x","hono-adapter"],"tid":"t","sub":"s""#;
        assert_eq!(named(claims, "a/c/x/d"), Some(("s".to_owned(), tenant("t"))));
        let one = r#","aud":"hono-adapter","tid":"t","sub":"s""#;
        assert_eq!(named(one, ""), Some(("s".to_owned(), tenant("t"))));
        assert_eq!(named(r#","aud":"hono-adapter","sub":"s""#, "a/c/x/d"), None, "no tenant");
        let other = r#","aud":"other","tid":"t","sub":"s""#;
        assert_eq!(named(other, "tenants/c/devices/d"), Some(("d".to_owned(), tenant("c"))));
        assert_eq!(named(other, "c/devices/d"), Some(("d".to_owned(), tenant("c"))));
        for client_id in ["", "d", "devices/d", "c/devices/", "c@/x/d"] {
            assert_eq!(named("", client_id), Some(("user".to_owned(), tenant("u"))), "{client_id}");
        }
    }
}
