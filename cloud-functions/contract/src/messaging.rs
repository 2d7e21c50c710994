//! A tenant's messaging addresses: which topics, beside those of the device API, its devices and applications may use
//! among themselves.
//!
//! ```json
//! {"addresses": [{"pattern": "site/#", "type": "multicast"},
//!                {"pattern": "own/{device}/+", "type": "multicast", "devices": "publish"}]}
//! ```
//!
//! A pattern is an MQTT topic filter relative to the tenant. The rules are here and not with the registry alone, because
//! an edge node that has no cloud is given its documents by hand. Deliberately not here: who may use an address
//! (`fulcrum-identity`), and matching (`fulcrum-router`).

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// Most addresses of one tenant: each is looked at when a client publishes to a topic for the first time.
pub const ADDRESSES_MAX: usize = 64;
/// Longest pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Most levels of a pattern.
pub const PATTERN_LEVELS_MAX: usize = 32;
/// The level that stands for the id of the device that uses the address.
pub const DEVICE_PLACEHOLDER: &str = "{device}";

/// First levels of topics that belong to the device API, and are never messaging.
pub const DEVICE_API_LEVELS: [&str; 10] =
    ["telemetry", "t", "event", "e", "command", "c", "command_response", "cr", "error", "control"];

/// The `messaging` member of a tenant's document.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Messaging {
    /// The tenant's addresses; topics under none of them are refused.
    #[serde(default)]
    pub addresses: Vec<MessagingAddress>,
}

/// One address: every topic its pattern matches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MessagingAddress {
    /// An MQTT topic filter; a level `{device}` stands for the id of the device that uses it.
    pub pattern: String,
    /// What becomes of a message sent there.
    #[serde(rename = "type")]
    pub address_type: AddressType,
    /// What the tenant's devices may do there. Applications may do what their permissions say.
    #[serde(default, skip_serializing_if = "DeviceAccess::is_default")]
    pub devices: DeviceAccess,
}

/// What becomes of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AddressType {
    /// Each subscriber gets a copy.
    Multicast,
    /// A type this version does not know. The registry refuses it; an edge node leaves the address out.
    Other(String),
}

const MULTICAST: &str = "multicast";

impl From<String> for AddressType {
    fn from(text: String) -> Self {
        if text == MULTICAST { AddressType::Multicast } else { AddressType::Other(text) }
    }
}

impl From<AddressType> for String {
    fn from(address_type: AddressType) -> String {
        match address_type {
            AddressType::Multicast => MULTICAST.to_owned(),
            AddressType::Other(text) => text,
        }
    }
}

/// What devices may do at an address.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceAccess {
    /// Publish and subscribe.
    #[default]
    Both,
    /// Publish only.
    Publish,
    /// Subscribe only.
    Subscribe,
    /// Neither: the address is for applications.
    None,
}

impl DeviceAccess {
    /// Whether devices may publish.
    pub fn may_publish(self) -> bool {
        matches!(self, DeviceAccess::Both | DeviceAccess::Publish)
    }

    /// Whether devices may subscribe.
    pub fn may_subscribe(self) -> bool {
        matches!(self, DeviceAccess::Both | DeviceAccess::Subscribe)
    }

    fn is_default(&self) -> bool {
        *self == DeviceAccess::default()
    }
}

/// Why addresses cannot be declared so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Too many of them.
    #[error(
        "a tenant has at most {ADDRESSES_MAX} messaging addresses, not {0}: use wildcards ('+', '#')"
    )]
    TooMany(usize),
    /// One pattern, two entries.
    #[error("the messaging address '{0}' is there twice: leave one out")]
    Twice(String),
    /// A type there is not.
    #[error(
        "the messaging address '{pattern}' has the type '{address_type}': only '{MULTICAST}' is there so far"
    )]
    Type {
        /// The address.
        pattern: String,
        /// Its type.
        address_type: String,
    },
    /// Not a usable pattern.
    #[error("the messaging address '{pattern}' is not valid: {reason}")]
    Pattern {
        /// The address, shortened.
        pattern: String,
        /// What to change.
        reason: PatternFault,
    },
}

/// What is wrong with a pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PatternFault {
    /// Nothing in it.
    Empty,
    /// Over [`PATTERN_BYTES_MAX`] or [`PATTERN_LEVELS_MAX`].
    TooLong,
    /// Not an MQTT topic filter ([MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-2]).
    NotAFilter,
    /// `$SYS`, `$share` and their like.
    Reserved,
    /// The first level is one of [`DEVICE_API_LEVELS`].
    DeviceApi(String),
    /// Braces around something else than `device`, or `{device}` as part of a level or more than once.
    Placeholder,
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternFault::Empty => f.write_str("it is empty"),
            PatternFault::TooLong => write!(
                f,
                "it may have at most {PATTERN_BYTES_MAX} bytes and {PATTERN_LEVELS_MAX} levels"
            ),
            PatternFault::NotAFilter => f.write_str(
                "it is not an MQTT topic filter: '+' and '#' stand alone in a level, '#' in the last one, \
                 and control characters are not allowed",
            ),
            PatternFault::Reserved => {
                f.write_str("topics that begin with '$' are the node's own: begin with another name")
            }
            PatternFault::DeviceApi(level) => write!(
                f,
                "'{level}' belongs to the device API: begin with another name, for example 'site/{level}'"
            ),
            PatternFault::Placeholder => write!(
                f,
                "the only placeholder is {DEVICE_PLACEHOLDER}, once, and as a whole level"
            ),
        }
    }
}

impl Messaging {
    /// Whether the addresses can be declared so, all of them.
    pub fn check(&self) -> Result<(), AddressError> {
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(AddressError::TooMany(self.addresses.len()));
        }
        let mut seen = HashSet::new();
        for address in &self.addresses {
            address.check()?;
            if !seen.insert(&address.pattern) {
                return Err(AddressError::Twice(address.pattern.clone()));
            }
        }
        Ok(())
    }
}

impl MessagingAddress {
    /// A multicast address for applications and devices.
    pub fn multicast(pattern: &str) -> Self {
        MessagingAddress {
            pattern: pattern.to_owned(),
            address_type: AddressType::Multicast,
            devices: DeviceAccess::Both,
        }
    }

    /// Whether the address can be declared so.
    pub fn check(&self) -> Result<(), AddressError> {
        // For the message; a pattern may be as long as a request.
        let shortened = || self.pattern.chars().take(64).collect::<String>();
        check_pattern(&self.pattern)
            .map_err(|reason| AddressError::Pattern { pattern: shortened(), reason })?;
        match &self.address_type {
            AddressType::Multicast => Ok(()),
            AddressType::Other(text) => Err(AddressError::Type {
                pattern: shortened(),
                address_type: text.chars().take(64).collect(),
            }),
        }
    }

    /// The pattern with `level` in place of the placeholder.
    pub fn pattern_for(&self, level: &str) -> String {
        let with = |part| if part == DEVICE_PLACEHOLDER { level } else { part };
        self.pattern.split('/').map(with).collect::<Vec<_>>().join("/")
    }
}

fn check_pattern(pattern: &str) -> Result<(), PatternFault> {
    if pattern.is_empty() {
        return Err(PatternFault::Empty);
    }
    if pattern.len() > PATTERN_BYTES_MAX || pattern.split('/').count() > PATTERN_LEVELS_MAX {
        return Err(PatternFault::TooLong);
    }
    let first = pattern.split('/').next().unwrap_or_default();
    if first.starts_with('$') {
        return Err(PatternFault::Reserved);
    }
    if DEVICE_API_LEVELS.contains(&first) {
        return Err(PatternFault::DeviceApi(first.to_owned()));
    }
    let mut placeholders = 0;
    let mut levels = pattern.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let misplaced = match level {
            "+" => false,
            "#" => !is_last,
            _ => level.contains(['+', '#']) || level.contains(char::is_control),
        };
        if misplaced {
            return Err(PatternFault::NotAFilter);
        }
        let in_braces = level.starts_with('{') && level.ends_with('}');
        if level == DEVICE_PLACEHOLDER {
            placeholders += 1;
        } else if in_braces || level.contains(DEVICE_PLACEHOLDER) {
            return Err(PatternFault::Placeholder);
        }
    }
    if placeholders > 1 { Err(PatternFault::Placeholder) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(pattern: &str) -> Option<PatternFault> {
        check_pattern(pattern).err()
    }

    #[test]
    fn topic_filters_outside_the_device_api_are_patterns() {
        for pattern in [
            "site/#",
            "#",
            "+/state",
            "+",
            "/",
            "a//b",
            "Telemetry/x",
            "telemetry2/#",
            "own/{device}/#",
            "{device}/state",
            "größe/°C",
            "a b/c",
            "{}x/{",
        ] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn what_no_filter_can_be_is_no_pattern() {
        for pattern in ["a/#/b", "#/a", "a#", "a/b+", "+a/b", "a\0b", "a/\u{7}", "a\u{85}/b"] {
            assert_eq!(fault(pattern), Some(PatternFault::NotAFilter), "{pattern:?}");
        }
        assert_eq!(fault(""), Some(PatternFault::Empty));
    }

    #[test]
    fn the_first_level_is_neither_reserved_nor_the_device_apis() {
        for pattern in ["$SYS/#", "$share/g/a", "$", "$x"] {
            assert_eq!(fault(pattern), Some(PatternFault::Reserved), "{pattern}");
        }
        for level in DEVICE_API_LEVELS {
            let refused = Some(PatternFault::DeviceApi(level.to_owned()));
            assert_eq!(fault(level), refused);
            assert_eq!(fault(&format!("{level}/a/#")), refused);
            assert_eq!(fault(&format!("x/{level}")), None);
        }
    }

    #[test]
    fn the_device_placeholder_is_a_whole_level_and_the_only_one() {
        for pattern in ["a/x{device}", "a/{device}/{device}", "a/{tenant}", "{}", "a/{device}s"] {
            assert_eq!(fault(pattern), Some(PatternFault::Placeholder), "{pattern}");
        }
        let address = MessagingAddress::multicast("own/{device}/state");
        assert_eq!(address.pattern_for("d1"), "own/d1/state");
        assert_eq!(address.pattern_for("+"), "own/+/state");
    }

    #[test]
    fn bytes_levels_and_addresses_are_limited_exactly() {
        assert_eq!(fault(&"x".repeat(PATTERN_BYTES_MAX)), None);
        assert_eq!(fault(&"x".repeat(PATTERN_BYTES_MAX + 1)), Some(PatternFault::TooLong));
        let levels = |count| vec!["x"; count].join("/");
        assert_eq!(fault(&levels(PATTERN_LEVELS_MAX)), None);
        assert_eq!(fault(&levels(PATTERN_LEVELS_MAX + 1)), Some(PatternFault::TooLong));
        let addresses = |count| Messaging {
            addresses: (0..count).map(|n| MessagingAddress::multicast(&format!("a/{n}"))).collect(),
        };
        assert_eq!(addresses(ADDRESSES_MAX).check(), Ok(()));
        assert_eq!(
            addresses(ADDRESSES_MAX + 1).check(),
            Err(AddressError::TooMany(ADDRESSES_MAX + 1))
        );
    }

    #[test]
    fn a_refusal_names_the_address_and_the_reason() {
        let refusal = |json: &str| {
            let messaging: Messaging = serde_json::from_str(json).unwrap();
            messaging.check().unwrap_err().to_string()
        };
        let text = refusal(r#"{"addresses":[{"pattern":"telemetry/#","type":"multicast"}]}"#);
        assert!(text.contains("'telemetry/#'") && text.contains("belongs to the device API"));
        let text = refusal(r#"{"addresses":[{"pattern":"q","type":"queue"}]}"#);
        assert!(text.contains("'queue'") && text.contains("only 'multicast'"), "{text}");
        let twice = r#"{"addresses":[{"pattern":"a","type":"multicast"},{"pattern":"a","type":"multicast","devices":"none"}]}"#;
        assert!(refusal(twice).contains("twice"));
    }

    #[test]
    fn documents_are_strict_and_defaults_are_not_written() {
        let parse = |json: &str| serde_json::from_str::<Messaging>(json);
        assert!(parse(r#"{"addresses":[],"more":1}"#).is_err());
        assert!(parse(r#"{"addresses":[{"pattern":"a","type":"multicast","x":1}]}"#).is_err());
        assert!(parse(r#"{"addresses":[{"pattern":"a"}]}"#).is_err());
        assert!(
            parse(r#"{"addresses":[{"pattern":"a","type":"multicast","devices":"all"}]}"#).is_err()
        );
        let json = r#"{"addresses":[{"pattern":"a","type":"multicast"},{"pattern":"b","type":"multicast","devices":"subscribe"}]}"#;
        assert_eq!(serde_json::to_string(&parse(json).unwrap()).unwrap(), json);
    }
}
