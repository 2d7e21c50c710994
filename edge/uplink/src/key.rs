//! The node's own P-256 key: made here, never leaves the node.
//!
//! Invariant: a key file is written whole or not at all, with mode 0600 from its first byte, and an existing one is
//! never overwritten: replacing the key of an enrolled node locks it out.

use crate::error::UplinkError;
use fulcrum_contract::EdgeId;
use fulcrum_contract::enrolment::{AUDIENCE, EdgeClaims};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::SecretKey;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rand::TryRngCore;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of a P-256 scalar.
const SCALAR_BYTES: usize = 32;
/// Permission bits that would let others than the owner read the key.
const OTHERS_MODE: u32 = 0o077;

/// A P-256 private key.
#[derive(Clone)]
pub struct Key {
    secret: SecretKey,
}

impl Key {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// [`UplinkError::KeyUnusable`] when the system gives no randomness.
    pub fn generate() -> Result<Key, UplinkError> {
        let unusable = |error: &dyn fmt::Display| UplinkError::KeyUnusable(error.to_string());
        // A random 256-bit number is out of the curve's range once in 2^32 times.
        for _ in 0..8 {
            let mut scalar = [0; SCALAR_BYTES];
            rand::rngs::OsRng.try_fill_bytes(&mut scalar).map_err(|error| unusable(&error))?;
            let secret = SecretKey::from_slice(&scalar);
            scalar.fill(0);
            if let Ok(secret) = secret {
                return Ok(Key { secret });
            }
        }
        Err(unusable(&"the system's randomness is not random"))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// Missing, readable by others, or no P-256 key in PKCS#8 PEM.
    pub fn load(path: &Path) -> Result<Key, UplinkError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => UplinkError::KeyMissing { path: path.to_path_buf() },
            _ => UplinkError::io("read", path)(source),
        })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & OTHERS_MODE != 0 {
            return Err(UplinkError::KeyMode { path: path.to_path_buf(), mode });
        }
        let pem = fs::read_to_string(path).map_err(UplinkError::io("read", path))?;
        SecretKey::from_pkcs8_pem(&pem)
            .map(|secret| Key { secret })
            .map_err(|_| UplinkError::KeyInvalid { path: path.to_path_buf() })
    }

    /// Writes the key to a file that must not exist yet.
    ///
    /// # Errors
    /// [`UplinkError::Io`] when the file exists or cannot be written.
    pub fn store(&self, path: &Path) -> Result<(), UplinkError> {
        let pem = self
            .secret
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| UplinkError::KeyUnusable(error.to_string()))?;
        let beside = path.with_extension("new");
        let write = || {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()?;
            // A hard link, unlike a rename, fails where a key is already.
            fs::hard_link(&beside, path)?;
            fs::remove_file(&beside)?;
            match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => fs::File::open(parent)?.sync_all(),
                None => fs::File::open(".")?.sync_all(),
            }
        };
        write().map_err(UplinkError::io("write the key file", path))
    }

    /// Reads the key file, or makes a key and writes it where there is none.
    ///
    /// # Errors
    /// As [`Key::load`] and [`Key::store`].
    pub fn load_or_create(path: &Path) -> Result<Key, UplinkError> {
        match Key::load(path) {
            Err(UplinkError::KeyMissing { .. }) => {
                let key = Key::generate()?;
                key.store(path)?;
                Ok(key)
            }
            found => found,
        }
    }

    /// The public half as SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// [`UplinkError::KeyUnusable`]; not seen with a key from this type.
    pub fn public_pem(&self) -> Result<String, UplinkError> {
        self.secret
            .public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| UplinkError::KeyUnusable(error.to_string()))
    }

    /// A signer of this node's tokens.
    ///
    /// # Errors
    /// [`UplinkError::KeyUnusable`]; not seen with a key from this type.
    pub fn signer(&self, edge: &EdgeId) -> Result<Signer, UplinkError> {
        let der = self
            .secret
            .to_pkcs8_der()
            .map_err(|error| UplinkError::KeyUnusable(error.to_string()))?;
        Ok(Signer { key: EncodingKey::from_ec_der(der.as_bytes()), edge: edge.clone() })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// Signs the tokens of one node.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    edge: EdgeId,
}

impl Signer {
    /// A compact ES256 token, valid from `issued_s` (seconds since the Unix epoch) for `life_s` seconds.
    ///
    /// # Errors
    /// [`UplinkError::KeyUnusable`] when signing fails.
    pub fn token(&self, issued_s: u64, life_s: u64) -> Result<String, UplinkError> {
        let claims = EdgeClaims {
            sub: self.edge.as_str().to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: issued_s,
            exp: issued_s.saturating_add(life_s),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)
            .map_err(|error| UplinkError::KeyUnusable(error.to_string()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("edge", &self.edge).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_read_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.key");
        let made = Key::load_or_create(&path).unwrap();
        let read = Key::load_or_create(&path).unwrap();
        assert_eq!(made.public_pem().unwrap(), read.public_pem().unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_existing_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.key");
        let first = Key::load_or_create(&path).unwrap();
        assert!(Key::generate().unwrap().store(&path).is_err());
        assert_eq!(Key::load(&path).unwrap().public_pem().unwrap(), first.public_pem().unwrap());
    }

    #[test]
    fn a_key_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.key");
        Key::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Key::load(&path), Err(UplinkError::KeyMode { mode: 0o640, .. })));
    }

    #[test]
    fn a_token_verifies_with_the_public_half_and_names_the_edge() {
        use jsonwebtoken::{DecodingKey, Validation, decode};
        use p256::elliptic_curve::sec1::ToEncodedPoint;
        let key = Key::generate().unwrap();
        let edge = EdgeId::parse("e1").unwrap();
        let token = key.signer(&edge).unwrap().token(4_000_000_000, 300).unwrap();
        let point = key.secret.public_key().to_encoded_point(false);
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        let claims =
            decode::<EdgeClaims>(&token, &DecodingKey::from_ec_der(point.as_bytes()), &validation);
        assert_eq!(claims.unwrap().claims.sub, "e1");
    }

    #[test]
    fn nothing_secret_is_shown_by_debug() {
        let key = Key::generate().unwrap();
        assert_eq!(format!("{key:?}"), "Key(secret)");
        let signer = key.signer(&EdgeId::parse("e1").unwrap()).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer { edge: \"e1\", .. }");
    }
}
