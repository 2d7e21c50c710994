//! Patterns against every topic of a small alphabet.

use fulcrum_mqtt::topic::{matches, validate_filter};
use fulcrum_router::{covers, pattern_matches};

/// Every name of up to `depth` levels out of `alphabet`.
fn names(alphabet: &[&str], depth: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut last = vec![String::new()];
    for level in 0..depth {
        let longer = |name: &String| {
            let name = name.clone();
            let join = move |next: &&str| match level {
                0 => (*next).to_owned(),
                _ => format!("{name}/{next}"),
            };
            alphabet.iter().map(join).collect::<Vec<_>>()
        };
        last = last.iter().flat_map(longer).collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|name| !name.is_empty());
    all
}

fn filters(depth: usize) -> Vec<String> {
    let mut filters = names(&["a", "$a", "", "+", "#"], depth);
    filters.retain(|filter| validate_filter(filter).is_ok());
    filters
}

#[test]
fn a_pattern_matches_what_a_filter_matches() {
    let topics = names(&["a", "b", "$a", ""], 4);
    for pattern in filters(4) {
        for topic in &topics {
            let expected = matches(&pattern, topic);
            assert_eq!(pattern_matches(&pattern, topic), expected, "{pattern} {topic}");
        }
    }
}

#[test]
fn a_pattern_covers_a_filter_exactly_when_it_matches_every_topic_of_it() {
    // One name that no filter has and one level more than any filter stand for all other topics.
    let topics = names(&["a", "b", "$a", "$b", ""], 4);
    let filters = filters(3);
    let matched: Vec<Vec<bool>> = filters
        .iter()
        .map(|filter| topics.iter().map(|topic| matches(filter, topic)).collect())
        .collect();
    for (pattern, by_pattern) in filters.iter().zip(&matched) {
        for (filter, by_filter) in filters.iter().zip(&matched) {
            let expected =
                by_filter.iter().zip(by_pattern).all(|(filter, pattern)| !filter | pattern);
            assert_eq!(covers(pattern, filter), expected, "{pattern} over {filter}");
        }
    }
}
