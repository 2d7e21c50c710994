//! Retained messages and a list that is searched agree, also while things change during a walk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use fulcrum_mqtt::topic::matches;
use fulcrum_router::{Put, Retained};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Step {
    topic: String,
    payload: Option<u8>,
    version: u64,
    expires_at_ms: Option<u64>,
}

#[derive(Clone)]
struct Known {
    payload: Option<u8>,
    version: u64,
    expires_at_ms: u64,
}

/// The newest that is known of each topic.
#[derive(Default, Clone)]
struct Model(BTreeMap<String, Known>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_found_is_what_a_list_finds(
        steps in prop::collection::vec(step(), 1..60),
        filters in prop::collection::vec(filter(), 1..12),
        now_ms in 100..200_u64,
        budget in 0..20_usize,
        limit in 1..8_usize,
    ) {
        let mut retained = Retained::default();
        let mut model = Model::default();
        for step in steps {
            model.take(&mut retained, step);
        }
        retained.expire(now_ms, budget);
        for filter in filters {
            let found = walk(&retained, &filter, now_ms, limit);
            prop_assert_eq!(found, model.found(&filter, now_ms), "{}", filter);
        }
        for topic in model.0.keys() {
            let message = retained.message("acme", topic, now_ms).map(|frame| frame[0]);
            prop_assert_eq!(message, model.found(topic, now_ms).first().map(|found| found.1));
        }
        while retained.expire(200, 3) {}
        let left = model.found_all(200);
        let bytes: usize = left.iter().map(|(topic, _)| topic.len() + 1).sum();
        prop_assert_eq!(retained.tenant_use("acme").messages, left.len());
        prop_assert_eq!(retained.tenant_use("acme").bytes, bytes);
        prop_assert_eq!(retained.total_use(), retained.tenant_use("acme"));
    }

    #[test]
    fn a_walk_finds_once_what_is_there_all_the_time(
        before in prop::collection::vec(step(), 1..60),
        during in prop::collection::vec(step(), 1..40),
        filter in filter(),
        limit in 1..4_usize,
    ) {
        let mut retained = Retained::default();
        let mut model = Model::default();
        for step in before {
            model.take(&mut retained, step);
        }
        let started = model.clone();
        let mut touched = Vec::new();
        let mut during = during.into_iter();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            after = retained.matches("acme", &filter, 0, after, limit, &mut found);
            if after.is_none() {
                break;
            }
            for step in during.by_ref().take(2) {
                touched.push(step.topic.clone());
                model.take(&mut retained, step);
            }
            retained.expire(150, 1);
        }
        let mut names: Vec<_> = found.iter().map(|(topic, _)| topic.clone()).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        prop_assert_eq!(names.len(), count, "nothing twice");
        // What the sweep may have taken away meanwhile is not expected.
        for (topic, _) in started.found(&filter, 150) {
            prop_assert!(touched.contains(&topic) || names.contains(&topic), "{}", topic);
        }
        prop_assert!(names.iter().all(|topic| matches(&filter, topic)));
    }
}

/// Walks to the end; what was found, sorted.
fn walk(retained: &Retained, filter: &str, now_ms: u64, limit: usize) -> Vec<(String, u8)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let before = found.len();
        after = retained.matches("acme", filter, now_ms, after, limit, &mut found);
        assert!(found.len() - before <= limit);
        if after.is_none() {
            break;
        }
    }
    let mut found: Vec<_> = found.into_iter().map(|(topic, frame)| (topic, frame[0])).collect();
    found.sort();
    found
}

impl Model {
    fn take(&mut self, retained: &mut Retained, step: Step) {
        let Step { topic, payload, version, expires_at_ms } = step;
        let frame = payload.map(|byte| Arc::from([byte].as_slice()));
        let put = retained.put("acme", &topic, frame, version, expires_at_ms);
        let expires_at_ms = expires_at_ms.unwrap_or(u64::MAX);
        if self.0.get(&topic).is_some_and(|known| known.version >= version) {
            assert_eq!(put, Put::Older);
        } else {
            assert_eq!(put, if payload.is_some() { Put::Stored } else { Put::Deleted });
            self.0.insert(topic, Known { payload, version, expires_at_ms });
        }
    }

    fn found(&self, filter: &str, now_ms: u64) -> Vec<(String, u8)> {
        let mut found = self.found_all(now_ms);
        found.retain(|(topic, _)| matches(filter, topic));
        found
    }

    fn found_all(&self, now_ms: u64) -> Vec<(String, u8)> {
        let known = self.0.iter().filter(|(_, known)| now_ms < known.expires_at_ms);
        known.filter_map(|(topic, known)| Some((topic.clone(), known.payload?))).collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop::option::weighted(0.8, any::<u8>());
    let expires_at_ms = prop::option::weighted(0.3, 50..200_u64);
    (topic(), payload, 1..30_u64, expires_at_ms).prop_map(
        |(topic, payload, version, expires_at_ms)| Step { topic, payload, version, expires_at_ms },
    )
}

/// Names that sort before and after the separator and each other's beginnings.
const NAMES: [&str; 8] = ["a", "ab", "a!", "b", "", "$s", "%", "\u{1}"];

fn topic() -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..5);
    levels.prop_map(|levels| levels.join("/")).prop_filter("no topic", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![prop::sample::select(NAMES.to_vec()), Just("+")];
    (prop::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("no filter", |filter| !filter.is_empty())
}
