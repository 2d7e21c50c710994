//! What the node's components say of themselves, and what probes make of it.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A component's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// On its way up.
    Starting,
    /// Does its work.
    Ok,
    /// Does its work, with something amiss (the cloud out of reach, say).
    Degraded {
        /// What, and what to do about it.
        reason: String,
    },
    /// Does not do its work and will not by itself.
    Failed {
        /// What, and what to do about it.
        reason: String,
    },
}

impl State {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ok => "ok",
            State::Degraded { .. } => "degraded",
            State::Failed { .. } => "failed",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            State::Starting | State::Ok => None,
            State::Degraded { reason } | State::Failed { reason } => Some(reason),
        }
    }
}

/// The components of a node by name, such as `shard-0`, `journal-p0`, `uplink`, `identity`. Shared: any thread may report.
#[derive(Default)]
pub struct Health {
    components: Mutex<BTreeMap<String, Component>>,
}

struct Component {
    state: State,
    since: Instant,
    has_been_up: bool,
}

/// What a probe asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    Started,
    Readiness,
    Liveness,
}

/// The answer to a probe.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) is_good: bool,
    pub(crate) body: Value,
}

impl Health {
    /// No components yet; until the first, the node counts as not started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a component's state; a new name registers it.
    pub fn set(&self, component: &str, state: State) {
        let mut components = self.components();
        let is_up = matches!(state, State::Ok | State::Degraded { .. });
        match components.get_mut(component) {
            Some(known) => {
                if known.state.name() != state.name() {
                    known.since = Instant::now();
                }
                known.state = state;
                known.has_been_up |= is_up;
            }
            None => {
                let new = Component { state, since: Instant::now(), has_been_up: is_up };
                components.insert(component.to_owned(), new);
            }
        }
    }

    /// The component's state, if it is registered.
    pub fn state(&self, component: &str) -> Option<State> {
        self.components().get(component).map(|component| component.state.clone())
    }

    /// Every component's name and state.
    pub fn states(&self) -> Vec<(String, State)> {
        let components = self.components();
        components.iter().map(|(name, component)| (name.clone(), component.state.clone())).collect()
    }

    pub(crate) fn report(&self, probe: Probe) -> Report {
        let components = self.components();
        let mut failing = Vec::new();
        let mut degraded = Vec::new();
        for (name, component) in components.iter() {
            if component.fails(probe) {
                failing.push(component.describe(name));
            } else if matches!(component.state, State::Degraded { .. }) {
                degraded.push(component.describe(name));
            }
        }
        if components.is_empty() && probe != Probe::Liveness {
            let reason = "no component has registered yet";
            failing.push(json!({"component": "node", "state": "starting", "reason": reason}));
        }
        let is_good = failing.is_empty();
        let status = if is_good { "up" } else { "down" };
        Report {
            is_good,
            body: json!({"status": status, "failing": failing, "degraded": degraded}),
        }
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<String, Component>> {
        // Whole at every point where a panic could leave it.
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component {
    fn fails(&self, probe: Probe) -> bool {
        match probe {
            Probe::Started => !self.has_been_up,
            Probe::Readiness => matches!(self.state, State::Starting | State::Failed { .. }),
            Probe::Liveness => matches!(self.state, State::Failed { .. }),
        }
    }

    fn describe(&self, name: &str) -> Value {
        json!({
            "component": name,
            "state": self.state.name(),
            "reason": self.state.reason(),
            "forSeconds": self.since.elapsed().as_secs(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(health: &Health) -> [bool; 3] {
        [Probe::Started, Probe::Readiness, Probe::Liveness]
            .map(|probe| health.report(probe).is_good)
    }

    #[test]
    fn each_probe_answers_its_own_question() {
        let health = Health::new();
        assert_eq!(good(&health), [false, false, true], "nothing is registered");
        health.set("shard-0", State::Starting);
        assert_eq!(good(&health), [false, false, true]);
        health.set("shard-0", State::Ok);
        assert_eq!(good(&health), [true, true, true]);
        health.set("shard-0", State::Degraded { reason: "no cloud".into() });
        assert_eq!(good(&health), [true, true, true]);
        health.set("shard-0", State::Starting);
        assert_eq!(good(&health), [true, false, true], "started is for ever");
        health.set("shard-0", State::Failed { reason: "fsync".into() });
        assert_eq!(good(&health), [true, false, false]);
    }

    #[test]
    fn one_bad_component_spoils_the_answer_and_is_named() {
        let health = Health::new();
        health.set("shard-0", State::Ok);
        health.set("uplink", State::Degraded { reason: "the cloud does not answer".into() });
        health.set("journal-p0", State::Failed { reason: "fdatasync: No space left".into() });
        let report = health.report(Probe::Readiness);
        assert!(!report.is_good);
        assert_eq!(report.body["status"], "down");
        assert_eq!(report.body["failing"].as_array().map(Vec::len), Some(1));
        assert_eq!(report.body["failing"][0]["component"], "journal-p0");
        assert_eq!(report.body["failing"][0]["reason"], "fdatasync: No space left");
        assert_eq!(report.body["degraded"][0]["component"], "uplink");
    }

    #[test]
    fn a_component_that_failed_before_it_was_up_has_not_started() {
        let health = Health::new();
        health.set("identity", State::Failed { reason: "damaged file".into() });
        assert_eq!(good(&health), [false, false, false]);
        assert_eq!(health.state("identity").map(|state| state.name()), Some("failed"));
        assert_eq!(health.state("other"), None);
    }
}
