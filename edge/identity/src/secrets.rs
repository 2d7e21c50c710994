//! Whether a password belongs to a stored secret.
//!
//! Forms, as Hono's Credentials API defines them for `hashed-password`: `sha-256` (the default) and `sha-512` store
//! Base64(hash(salt ‖ password)); `bcrypt` stores the text `$2a$…`, `$2b$…` or `$2y$…`. A secret that does not parse
//! matches nothing. Comparisons take the same time wherever the first difference is.

use crate::limits::{BCRYPT_COST_MAX, BCRYPT_COST_OF_REFUSAL};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fulcrum_contract::certificates::{CertificateFacts, der_of};
use fulcrum_contract::registry::Secret;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

/// What a quick look at a secret says about a password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Match {
    /// It is the password.
    Yes,
    /// It is not, or the secret cannot be used.
    No,
    /// Only computing this bcrypt hash can tell.
    Slow(String),
}

/// Compares with a secret, short of computing bcrypt.
pub(crate) fn look(secret: &Secret, password: &[u8]) -> Match {
    let Some(hash) = secret.pwd_hash.as_deref() else { return Match::No };
    let is_match = match secret.hash_function.as_deref() {
        None | Some("sha-256") => digest_matches::<Sha256>(secret, hash, password),
        Some("sha-512") => digest_matches::<Sha512>(secret, hash, password),
        Some("bcrypt") if bcrypt_cost(hash).is_some() => return Match::Slow(hash.to_owned()),
        Some(_) => false,
    };
    if is_match { Match::Yes } else { Match::No }
}

/// Whether the password is an application's: Base64 SHA-256, no salt (the password is 256 random bits).
pub(crate) fn is_application_password(password_sha256: &str, password: &[u8]) -> bool {
    let Ok(expected) = STANDARD.decode(password_sha256) else { return false };
    Sha256::digest(password)[..].ct_eq(&expected).into()
}

/// Computes bcrypt: tens of milliseconds.
pub(crate) fn bcrypt_matches(hash: &str, password: &[u8]) -> bool {
    bcrypt_cost(hash).is_some() && bcrypt::verify(password, hash).unwrap_or(false)
}

/// The cost of a usable bcrypt hash.
pub(crate) fn bcrypt_cost(hash: &str) -> Option<u32> {
    // `$2x$` marks hashes of a faulty implementation; the registry API does not take them.
    if !["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
        return None;
    }
    let parts: bcrypt::HashParts = hash.parse().ok()?;
    Some(parts.get_cost()).filter(|cost| *cost <= BCRYPT_COST_MAX)
}

/// Spends what checking a registry-made hash costs, so that a refusal does not tell by its haste that the user is not
/// known or has no slow hash. `spent` is the bcrypt work already done, in rounds (2^cost).
pub(crate) fn spend_the_cost_of_a_refusal(spent: u64, password: &[u8]) {
    if spent < 1 << BCRYPT_COST_OF_REFUSAL {
        // Computed for its duration alone; black_box keeps the compiler from noticing.
        let _ =
            std::hint::black_box(bcrypt::hash_with_salt(password, BCRYPT_COST_OF_REFUSAL, [0; 16]));
    }
}

/// Whether the secret is enabled and `now_ms` (since the Unix epoch) within its validity, both ends included. A date
/// that does not parse closes the window.
pub(crate) fn is_valid_at(secret: &Secret, now_ms: u64) -> bool {
    let (from, until) = (secret.not_before.as_deref(), secret.not_after.as_deref());
    secret.enabled.unwrap_or(true) && is_within(from, until, now_ms)
}

/// When [`is_valid_at`] says something else for the first time after `now_ms`; never for most secrets. A date that does
/// not parse keeps its window closed.
pub(crate) fn changes_at(secret: &Secret, now_ms: u64) -> u64 {
    const MS_NS: i128 = 1_000_000;
    // The first millisecond within the window, and the first one behind it.
    let begin = secret
        .not_before
        .as_deref()
        .and_then(instant)
        .map(|begin| begin.div_euclid(MS_NS) + i128::from(begin.rem_euclid(MS_NS) > 0));
    let end = secret.not_after.as_deref().and_then(instant).map(|end| end.div_euclid(MS_NS) + 1);
    let next = begin.into_iter().chain(end).filter(|at| *at > i128::from(now_ms)).min();
    next.and_then(|at| u64::try_from(at).ok()).unwrap_or(u64::MAX)
}

/// Whether `now_ms` lies within two dates, either of which may be missing.
pub(crate) fn is_within(from: Option<&str>, until: Option<&str>, now_ms: u64) -> bool {
    let now = i128::from(now_ms) * 1_000_000;
    let begun = from.is_none_or(|text| instant(text).is_some_and(|from| now >= from));
    let not_over = until.is_none_or(|text| instant(text).is_some_and(|until| now <= until));
    begun && not_over
}

/// The key of an `rpk` secret, Base64 DER SubjectPublicKeyInfo. A secret with a certificate instead did not come through
/// the registry.
pub(crate) fn public_key(secret: &Secret) -> Option<String> {
    match (&secret.key, &secret.cert) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(cert)) => {
            let facts = CertificateFacts::from_der(&der_of(cert).ok()?).ok()?;
            Some(STANDARD.encode(facts.public_key))
        }
        (None, None) => None,
    }
}

/// Nanoseconds since the Unix epoch of an ISO 8601 date and time with an offset.
fn instant(text: &str) -> Option<i128> {
    let parsed = OffsetDateTime::parse(text, &Iso8601::PARSING)
        .or_else(|_| OffsetDateTime::parse(text, &Rfc3339));
    match parsed {
        Ok(instant) => Some(instant.unix_timestamp_nanos()),
        Err(error) => {
            tracing::debug!(%error, "a secret's validity does not parse; the secret is not used");
            None
        }
    }
}

fn digest_matches<D: sha2::Digest>(secret: &Secret, hash: &str, password: &[u8]) -> bool {
    let salt = STANDARD.decode(secret.salt.as_deref().unwrap_or_default());
    let (Ok(salt), Ok(expected)) = (salt, STANDARD.decode(hash)) else { return false };
    let digest = D::new().chain_update(&salt).chain_update(password).finalize();
    digest[..].ct_eq(&expected).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with Python's hashlib: base64(sha(b"\x01\x02\x03salty" + "pässword".encode())), and without salt.
    const SALT: &str = "AQIDc2FsdHk=";
    const SALTED_256: &str = "niwBQWNsMt7nyoDrobcGLPGWOZWggpUEwXFMJ8+w/x8=";
    const SALTED_512: &str =
        "y1JjCHzXDqjpiysFC1FsprVTbOO+70itUy5E3smUeWfZYfvOhjPHrPS+2yEpsLZReXK8bhP+cnym6VrfaVgCVw==";
    const BARE_256: &str = "1kkUGFVe8TyUi+9KxFPkOXRFU0drt2mO5xLRRrBOkHY=";
    // Made with libxcrypt's crypt("Fulcrum-1", "$2a$04$abcdefghijklmnopqrstuu").
    const BCRYPT_2A: &str = "$2a$04$abcdefghijklmnopqrstuuDHVNxtZdeGF/DqEjQPhRlkrhFtx78F.";

    fn secret(function: Option<&str>, hash: &str, salt: Option<&str>) -> Secret {
        Secret {
            hash_function: function.map(str::to_owned),
            pwd_hash: Some(hash.to_owned()),
            salt: salt.map(str::to_owned),
            ..Secret::default()
        }
    }

    #[test]
    fn sha_hashes_of_another_implementation_match() {
        let password = "pässword".as_bytes();
        assert_eq!(look(&secret(Some("sha-256"), SALTED_256, Some(SALT)), password), Match::Yes);
        assert_eq!(look(&secret(None, SALTED_256, Some(SALT)), password), Match::Yes);
        assert_eq!(look(&secret(Some("sha-512"), SALTED_512, Some(SALT)), password), Match::Yes);
        assert_eq!(look(&secret(None, BARE_256, None), b"hono-secret"), Match::Yes);
    }

    #[test]
    fn sha_hashes_match_nothing_else() {
        let password = "pässword".as_bytes();
        assert_eq!(look(&secret(None, SALTED_256, Some(SALT)), b"password"), Match::No);
        assert_eq!(look(&secret(None, SALTED_256, None), password), Match::No);
        assert_eq!(look(&secret(Some("sha-512"), SALTED_256, Some(SALT)), password), Match::No);
        assert_eq!(look(&secret(Some("md5"), SALTED_256, Some(SALT)), password), Match::No);
    }

    #[test]
    fn malformed_secrets_match_nothing() {
        for broken in [
            secret(None, "not base64!", None),
            secret(None, "", None),
            secret(None, SALTED_256, Some("%")),
            secret(Some("bcrypt"), "$2a$04$short", None),
            secret(Some("bcrypt"), SALTED_256, None),
            secret(Some("bcrypt"), &BCRYPT_2A.replace("$2a$", "$2x$"), None),
            secret(Some("bcrypt"), &BCRYPT_2A.replace("$04$", "$31$"), None),
            secret(Some("bcrypt"), &"é".repeat(30), None),
            Secret::default(),
        ] {
            assert_eq!(look(&broken, b"Fulcrum-1"), Match::No, "{broken:?}");
        }
    }

    #[test]
    fn bcrypt_hashes_of_another_implementation_match_under_all_three_names() {
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = BCRYPT_2A.replace("$2a$", prefix);
            let slow = look(&secret(Some("bcrypt"), &hash, None), b"Fulcrum-1");
            assert_eq!(slow, Match::Slow(hash.clone()));
            assert!(bcrypt_matches(&hash, b"Fulcrum-1"));
            assert!(!bcrypt_matches(&hash, b"Fulcrum-2"));
        }
        assert!(!bcrypt_matches(&BCRYPT_2A.replace("$2a$", "$2x$"), b"Fulcrum-1"));
    }

    #[test]
    fn application_passwords_are_one_round_of_sha_256() {
        let stored = "yeBkBEYruoIFgTNefJuUD8jAPb41jmiuj1Ozaa6dDmo=";
        assert!(is_application_password(stored, b"application-secret"));
        assert!(!is_application_password(stored, b"application-secreT"));
        assert!(!is_application_password("", b""));
    }

    #[test]
    fn a_window_includes_both_its_ends_and_nothing_beyond() {
        let window = Secret {
            not_before: Some("2026-03-01T10:00:00+02:00".into()),
            not_after: Some("2026-03-01T09:00:00Z".into()),
            ..Secret::default()
        };
        let begin_ms = 1_772_352_000_000; // 2026-03-01T08:00:00Z
        let end_ms = begin_ms + 3_600_000;
        for (now_ms, valid) in
            [(begin_ms - 1, false), (begin_ms, true), (end_ms, true), (end_ms + 1, false)]
        {
            assert_eq!(is_valid_at(&window, now_ms), valid, "{now_ms}");
        }
    }

    #[test]
    fn a_secret_changes_where_its_window_begins_and_ends() {
        let begin_ms = 1_772_352_000_000; // 2026-03-01T08:00:00Z
        let end_ms = begin_ms + 3_600_000;
        for (from, until) in [
            ("2026-03-01T08:00:00Z", "2026-03-01T09:00:00Z"),
            ("2026-03-01T07:59:59.9990001Z", "2026-03-01T09:00:00.0009Z"),
        ] {
            let window = Secret {
                not_before: Some(from.into()),
                not_after: Some(until.into()),
                ..Secret::default()
            };
            let at = |now_ms| changes_at(&window, now_ms);
            assert_eq!((at(0), at(begin_ms - 1)), (begin_ms, begin_ms));
            assert_eq!((at(begin_ms), at(end_ms)), (end_ms + 1, end_ms + 1));
            assert_eq!(at(end_ms + 1), u64::MAX);
            for now_ms in [begin_ms - 1, begin_ms, end_ms] {
                let next = at(now_ms);
                assert_eq!(is_valid_at(&window, next - 1), is_valid_at(&window, now_ms));
                assert_ne!(is_valid_at(&window, next), is_valid_at(&window, now_ms));
            }
        }
        assert_eq!(changes_at(&Secret::default(), 0), u64::MAX);
    }

    #[test]
    fn dates_are_read_as_java_writes_them() {
        let second = 1_772_352_000_000_000_000;
        for (text, expected) in [
            ("2026-03-01T08:00:00Z", Some(second)),
            ("2026-03-01T08:00Z", Some(second)),
            ("2026-03-01T08:00:00.000Z", Some(second)),
            ("2026-03-01T13:30:00+05:30", Some(second)),
            ("2026-03-01T08:00:00", None),
            ("2026-13-01T08:00:00Z", None),
            ("tomorrow", None),
        ] {
            assert_eq!(instant(text), expected, "{text}");
        }
    }

    #[test]
    fn a_date_that_does_not_parse_closes_the_window() {
        for broken in [
            Secret { not_before: Some("soon".into()), ..Secret::default() },
            Secret { not_after: Some("later".into()), ..Secret::default() },
            Secret { enabled: Some(false), ..Secret::default() },
        ] {
            assert!(!is_valid_at(&broken, 1_772_352_000_000));
        }
        assert!(is_valid_at(&Secret::default(), 0));
    }
}
