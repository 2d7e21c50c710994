//! Topic names and filters: what is valid, and what matches. Two texts with a line break between them.
//!
//! Held: no panic; the rules say the same as a second reading of the specification; a filter made of a topic
//! matches it.

use fulcrum_mqtt::topic::{matches, shared_subscription, validate_filter, validate_topic};

/// Takes one input.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (filter, topic) = text.split_once('\n').unwrap_or((text, "a/b"));
    assert_eq!(validate_filter(filter).is_ok(), is_filter(filter), "{filter:?} as a filter");
    assert_eq!(validate_topic(topic).is_ok(), is_topic(topic), "{topic:?} as a topic");
    check_share(filter);
    if !is_topic(topic) {
        return;
    }
    assert!(matches(topic, topic));
    assert_eq!(matches("#", topic), !topic.starts_with('$'));
    assert!(!matches(&format!("{topic}/+"), topic) && matches(&format!("{topic}/#"), topic));
    if is_filter(filter) {
        let (levels, pattern) = (levels(topic), levels(filter));
        let hidden = topic.starts_with('$') && filter.starts_with(['#', '+']);
        assert_eq!(
            matches(filter, topic),
            !hidden && fits(&pattern, &levels),
            "{filter:?} on {topic:?}"
        );
    }
}

fn check_share(filter: &str) {
    match shared_subscription(filter) {
        Ok(Some((group, inner))) => {
            assert_eq!(format!("$share/{group}/{inner}"), filter);
            assert!(!group.is_empty() && !group.contains(['/', '+', '#']) && !inner.is_empty());
        }
        Ok(None) => assert!(!filter.starts_with("$share/")),
        Err(error) => {
            assert!(filter.starts_with("$share/") && !error.to_string().is_empty());
        }
    }
}

fn is_text(text: &str) -> bool {
    (1..=65535).contains(&text.len()) && !text.contains('\0')
}

fn is_topic(text: &str) -> bool {
    is_text(text) && !text.contains(['+', '#'])
}

fn is_filter(text: &str) -> bool {
    let levels = levels(text);
    is_text(text)
        && levels.iter().enumerate().all(|(place, level)| match *level {
            "#" => place + 1 == levels.len(),
            "+" => true,
            level => !level.contains(['+', '#']),
        })
}

fn levels(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

/// Level by level, from the front.
fn fits(pattern: &[&str], levels: &[&str]) -> bool {
    match (pattern, levels) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", pattern @ ..], [_, levels @ ..]) => fits(pattern, levels),
        ([same, pattern @ ..], [level, levels @ ..]) => same == level && fits(pattern, levels),
        _ => false,
    }
}
