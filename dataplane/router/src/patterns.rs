//! Address patterns: MQTT filters that say where something is permitted.

/// Whether the pattern matches a topic. Both have been validated by the codec. Linear in the shorter one.
pub fn pattern_matches(pattern: &str, topic: &str) -> bool {
    if topic.starts_with('$') && starts_with_wildcard(pattern) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in pattern.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether the pattern matches every topic that `filter` can match, so that what is permitted at the pattern's topics
/// may be subscribed with the filter. Both have been validated by the codec. Linear in the shorter one.
///
/// `#` covers everything but filters that name a first level beginning with `$` [MQTT-4.7.2-1].
pub fn covers(pattern: &str, filter: &str) -> bool {
    if filter.starts_with('$') && starts_with_wildcard(pattern) {
        return false;
    }
    // Every topic has a first level, and one whose first level is empty has a second: no topic is empty [MQTT-4.7.3-1].
    let filter = match filter {
        "#" => "+/#",
        "/#" => "/+/#",
        other => other,
    };
    let mut wanted = pattern.split('/');
    let mut levels = filter.split('/');
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) | (None, _) | (_, None) => return false,
            (Some("+"), Some(_)) => {}
            (Some(name), Some(level)) if name == level => {}
            _ => return false,
        }
    }
}

fn starts_with_wildcard(filter: &str) -> bool {
    matches!(filter.split('/').next(), Some("+" | "#"))
}
