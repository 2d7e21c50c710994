//! The bearer token of each request: made when needed, kept until shortly before its end.
//!
//! The cloud judges a token by its own clock. A node's clock may be wrong by years until its time service has run, so
//! on a 401 the `Date` of the answer decides: where it differs from ours, tokens are dated by the cloud's clock.

use crate::error::UplinkError;
use crate::key::Signer;
use http::HeaderValue;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Life of a token, in seconds.
const LIFE_S: u64 = 300;
/// A token is replaced when less than this is left of its life, in seconds.
const RENEW_BEFORE_S: u64 = 60;
/// Clock differences below this, in seconds, are not a reason for a 401.
const SKEW_MIN_S: i64 = 5;
const _: () = assert!(LIFE_S <= fulcrum_contract::enrolment::TOKEN_LIFE_S_MAX);
const _: () = assert!(RENEW_BEFORE_S < LIFE_S);

/// Makes and keeps tokens.
pub(crate) struct Tokens {
    signer: Signer,
    /// Cloud's clock minus ours, in seconds, as far as known.
    skew_s: Cell<i64>,
    kept: RefCell<Option<Kept>>,
}

struct Kept {
    header: HeaderValue,
    renew_at: Instant,
}

impl Tokens {
    pub fn new(signer: Signer) -> Tokens {
        Tokens { signer, skew_s: Cell::new(0), kept: RefCell::new(None) }
    }

    /// The value of the `authorization` header field.
    pub fn authorization(&self) -> Result<HeaderValue, UplinkError> {
        let now = Instant::now();
        if let Some(kept) = self.kept.borrow().as_ref().filter(|kept| now < kept.renew_at) {
            return Ok(kept.header.clone());
        }
        let issued_s = unix_s(SystemTime::now()).saturating_add(self.skew_s.get()).max(0) as u64;
        let token = self.signer.token(issued_s, LIFE_S)?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|error| UplinkError::KeyUnusable(error.to_string()))?;
        header.set_sensitive(true);
        let renew_at = now + Duration::from_secs(LIFE_S - RENEW_BEFORE_S);
        *self.kept.borrow_mut() = Some(Kept { header: header.clone(), renew_at });
        Ok(header)
    }

    /// The cloud has answered 401 with this `Date`. Drops the token; whether the next one will differ in more than
    /// its age, so that trying again at once has a point.
    pub fn refused(&self, cloud_date: Option<SystemTime>) -> bool {
        *self.kept.borrow_mut() = None;
        let Some(cloud_date) = cloud_date else { return false };
        let skew_s = unix_s(cloud_date).saturating_sub(unix_s(SystemTime::now()));
        let changed = skew_s.abs_diff(self.skew_s.get()) >= SKEW_MIN_S.unsigned_abs();
        if changed {
            tracing::warn!(
                skew_s,
                "this node's clock differs from the cloud's; tokens are dated by the cloud's"
            );
            self.skew_s.set(skew_s);
        }
        changed
    }
}

fn unix_s(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use fulcrum_contract::EdgeId;

    fn tokens() -> Tokens {
        Tokens::new(Key::generate().unwrap().signer(&EdgeId::parse("e1").unwrap()).unwrap())
    }

    #[test]
    fn a_token_is_kept_and_never_printed() {
        let tokens = tokens();
        let first = tokens.authorization().unwrap();
        assert_eq!(first, tokens.authorization().unwrap());
        assert_eq!(format!("{first:?}"), "Sensitive");
    }

    #[test]
    fn the_clouds_date_moves_the_next_token() {
        let tokens = tokens();
        let before = tokens.authorization().unwrap();
        let ahead = SystemTime::now() + Duration::from_secs(86_400);
        assert!(tokens.refused(Some(ahead)), "a day's difference is worth another attempt");
        assert_ne!(before, tokens.authorization().unwrap());
        assert!(!tokens.refused(Some(ahead)), "the same difference again is not");
        assert!(!tokens.refused(None));
    }
}
