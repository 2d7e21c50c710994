//! Credentials in the Authorization field.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Base64 that takes padded and unpadded text: small clients forget the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// User name and password of the Basic scheme. The password is overwritten when this is dropped,
/// and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    /// The user-id of RFC 7617; for devices `{auth-id}@{tenant}`.
    pub username: String,
    password: Zeroizing<String>,
}

impl BasicCredentials {
    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicCredentials")
            .field("username", &self.username)
            .field("password", &"(hidden)")
            .finish()
    }
}

/// Reads the value of an Authorization field of the Basic scheme (RFC 7617): Base64 of UTF-8 text,
/// split at the first colon, without control characters. `None` for anything else.
pub fn basic_credentials(header: &str) -> Option<BasicCredentials> {
    let encoded = scheme_parameter(header, "Basic")?;
    let bytes = Zeroizing::new(BASE64.decode(encoded).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    if text.chars().any(char::is_control) {
        return None;
    }
    let (username, password) = text.split_once(':')?;
    Some(BasicCredentials {
        username: username.to_owned(),
        password: Zeroizing::new(password.to_owned()),
    })
}

/// The token of an Authorization field of the Bearer scheme (RFC 6750 section 2.1), not checked in
/// any way. `None` when the field is of another scheme.
pub fn bearer_token(header: &str) -> Option<&str> {
    scheme_parameter(header, "Bearer")
}

/// What follows the scheme's name, which is compared without regard to case (RFC 9110 section 11.1).
fn scheme_parameter<'a>(header: &'a str, scheme: &str) -> Option<&'a str> {
    let (name, parameter) = header.split_once(' ')?;
    let parameter = parameter.trim_matches(' ');
    (name.eq_ignore_ascii_case(scheme) && !parameter.is_empty()).then_some(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    #[test]
    fn basic_credentials_split_at_the_first_colon() {
        let credentials = basic_credentials(&basic("sensor1@acme:se:cret")).expect("valid");
        assert_eq!(credentials.username, "sensor1@acme");
        assert_eq!(credentials.password(), "se:cret");
        let utf8 = basic_credentials(&basic("ü@t:pä")).expect("valid");
        assert_eq!((utf8.username.as_str(), utf8.password()), ("ü@t", "pä"));
        let empty = basic_credentials(&basic(":")).expect("valid");
        assert_eq!((empty.username.as_str(), empty.password()), ("", ""));
    }

    #[test]
    fn the_scheme_has_no_case_and_padding_may_be_missing() {
        // "a:bc" is YTpiYw==
        for header in ["basic YTpiYw==", "BASIC YTpiYw", "Basic  YTpiYw== "] {
            let credentials = basic_credentials(header).expect(header);
            assert_eq!((credentials.username.as_str(), credentials.password()), ("a", "bc"));
        }
    }

    #[test]
    fn what_is_not_basic_gives_no_credentials() {
        let control = basic("a\u{7f}:b");
        let no_colon = basic("ab");
        for header in [
            "",
            "Basic",
            "Basic ",
            "Bearer YTpiYw==",
            "Basic !!!",
            "Basic /w==",
            &control,
            &no_colon,
        ] {
            assert_eq!(basic_credentials(header), None, "{header}");
        }
        assert_eq!(bearer_token("bearer abc"), Some("abc"));
        assert_eq!(bearer_token("Basic abc"), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        let credentials = basic_credentials(&basic("user:hunter2")).expect("valid");
        let shown = format!("{credentials:?}");
        assert!(shown.contains("user") && !shown.contains("hunter2"), "{shown}");
    }
}
