//! Topic names and topic filters (3.1.1 section 4.7): what is valid, and what matches.
//!
//! Levels are separated by `/` and may be empty. There is no normalisation of any kind
//! [MQTT-4.7.3-4]: names match when their bytes match.

use crate::clause;
use crate::error::{DecodeError, malformed};
use crate::limits::STRING_BYTES_MAX;

/// A topic name or filter that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid topic: {clause}")]
pub struct TopicError {
    /// One of [`crate::clause`].
    pub clause: &'static str,
}

impl From<TopicError> for DecodeError {
    fn from(error: TopicError) -> Self {
        malformed(error.clause)
    }
}

/// Whether a message published to `topic` goes to a subscription of `filter`. Both must be valid.
///
/// A filter that begins with a wildcard does not match a topic that begins with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in filter.split('/') {
        // "#" also stands for the level above it: "a/#" matches "a" (section 4.7.1.2).
        if pattern == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if pattern == "+" || pattern == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Checks a topic name: not empty, at most 65535 bytes, no wildcard, no U+0000.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    validate_text(topic)?;
    if topic.bytes().any(|byte| byte == b'+' || byte == b'#') {
        return Err(TopicError { clause: clause::TOPIC_WILDCARD });
    }
    Ok(())
}

/// Checks a topic filter: not empty, at most 65535 bytes, no U+0000, `#` alone in the last level
/// [MQTT-4.7.1-2], `+` alone in its level [MQTT-4.7.1-3].
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    validate_text(filter)?;
    let mut multi_level_seen = false;
    for level in filter.split('/') {
        if multi_level_seen || (level.len() > 1 && level.contains('#')) {
            return Err(TopicError { clause: clause::FILTER_MULTI_LEVEL });
        }
        if level.len() > 1 && level.contains('+') {
            return Err(TopicError { clause: clause::FILTER_SINGLE_LEVEL });
        }
        multi_level_seen = level == "#";
    }
    Ok(())
}

/// The parts of an MQTT 5 shared subscription `$share/{name}/{filter}` (MQTT 5 section 4.8.2), or
/// `None` when `filter` is an ordinary one. Checks the share name, not the filter inside.
pub fn shared_subscription(filter: &str) -> Result<Option<(&str, &str)>, TopicError> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Ok(None);
    };
    match shared.split_once('/') {
        Some((name, inner))
            if !name.is_empty() && !inner.is_empty() && !name.contains(['+', '#']) =>
        {
            Ok(Some((name, inner)))
        }
        _ => Err(TopicError { clause: clause::SHARE_NAME }),
    }
}

fn validate_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError { clause: clause::TOPIC_EMPTY });
    }
    if text.len() > STRING_BYTES_MAX {
        return Err(TopicError { clause: clause::TOPIC_TOO_LONG });
    }
    if text.bytes().any(|byte| byte == 0) {
        return Err(TopicError { clause: clause::UTF8_NUL });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_the_examples_of_the_specification() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "any/thing", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a//b", "a//b", true),
            ("a//b", "a/b", false),
            ("a/+/b", "a//b", true),
            ("A", "a", false),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn wildcards_stand_alone_in_their_level() {
        for filter in ["#", "+", "a/#", "+/a/#", "/", "//", "$SYS/#", "+/+", " ", "a b/ü"] {
            assert_eq!(validate_filter(filter), Ok(()), "{filter}");
        }
        let refused = [
            ("", clause::TOPIC_EMPTY),
            ("a#", clause::FILTER_MULTI_LEVEL),
            ("a/#/b", clause::FILTER_MULTI_LEVEL),
            ("#/", clause::FILTER_MULTI_LEVEL),
            ("##", clause::FILTER_MULTI_LEVEL),
            ("a+", clause::FILTER_SINGLE_LEVEL),
            ("a/+b/c", clause::FILTER_SINGLE_LEVEL),
            ("++", clause::FILTER_SINGLE_LEVEL),
            ("a\0", clause::UTF8_NUL),
        ];
        for (filter, clause) in refused {
            assert_eq!(validate_filter(filter), Err(TopicError { clause }), "{filter}");
        }
    }

    #[test]
    fn topic_names_have_no_wildcards_and_are_bounded() {
        assert_eq!(validate_topic(&"a".repeat(STRING_BYTES_MAX)), Ok(()));
        let too_long = validate_topic(&"a".repeat(STRING_BYTES_MAX + 1));
        assert_eq!(too_long, Err(TopicError { clause: clause::TOPIC_TOO_LONG }));
        for (topic, clause) in [
            ("", clause::TOPIC_EMPTY),
            ("a/+", clause::TOPIC_WILDCARD),
            ("a#", clause::TOPIC_WILDCARD),
            ("a\0b", clause::UTF8_NUL),
        ] {
            assert_eq!(validate_topic(topic), Err(TopicError { clause }), "{topic}");
        }
    }

    #[test]
    fn a_shared_subscription_names_a_group_and_a_filter() {
        assert_eq!(shared_subscription("$share/g/a/+"), Ok(Some(("g", "a/+"))));
        assert_eq!(shared_subscription("$sharex/g/a"), Ok(None));
        assert_eq!(shared_subscription("a/b"), Ok(None));
        for filter in ["$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/a#/a"]
        {
            let error = Err(TopicError { clause: clause::SHARE_NAME });
            assert_eq!(shared_subscription(filter), error, "{filter}");
        }
    }
}
