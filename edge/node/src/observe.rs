//! What the node says about itself: metrics, health, status.

use fulcrum_admin::{Health, MetricsSource, MetricsText, State};
use fulcrum_identity::{Identity, Verifier};
use fulcrum_shard::{MetricKind, ShardMetrics};
use fulcrum_uplink::{LinkSnapshot, LinkState, LinkStatus};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Everything there is to look at.
pub struct Observed {
    pub shards: Vec<Arc<ShardMetrics>>,
    pub identity: Identity,
    pub verifier: Arc<Verifier>,
    pub link: Option<Arc<LinkStatus>>,
    pub health: Arc<Health>,
    pub started: Instant,
}

impl Observed {
    /// Brings the health of journals and uplink up to date. Called once a second.
    pub fn refresh_health(&self) {
        for (index, metrics) in self.shards.iter().enumerate() {
            let state = match metrics.journal_state.value() {
                0 => State::Ok,
                1 => State::Degraded {
                    reason: "the journal is full: events are refused; let the uplink drain it or raise journal.bytes_max"
                        .to_owned(),
                },
                _ => State::Failed {
                    reason: "a journal write failed: nothing is acknowledged; check the disk, then restart the node"
                        .to_owned(),
                },
            };
            self.health.set(&format!("journal-p{index}"), state);
            let state = match metrics.session_journal_state.value() {
                0 => State::Ok,
                1 => State::Degraded {
                    reason: "the session journal is full: messages that would have to be stored are refused; have clients \
                             take what is queued for them, or raise sessions.bytes_max"
                        .to_owned(),
                },
                _ => State::Failed {
                    reason: "a session journal write failed: nothing is acknowledged; check the disk, then restart the node"
                        .to_owned(),
                },
            };
            self.health.set(&format!("sessions-p{index}"), state);
        }
        if let Some(link) = &self.link {
            let state = match link.state() {
                LinkState::Up => State::Ok,
                LinkState::Connecting => State::Starting,
                LinkState::Down => {
                    let error = link.snapshot().last_error;
                    let text = error.map_or_else(String::new, |error| error.text);
                    State::Degraded { reason: format!("the cloud is out of reach: {text}") }
                }
            };
            self.health.set("uplink", state);
        }
    }

    /// The JSON of `/status`.
    pub fn status(&self) -> Value {
        let counts = self.identity.counts().map(|counts| {
            json!({
                "tenants": counts.tenants,
                "devices": counts.devices,
                "credentials": counts.credentials,
                "applications": counts.applications,
                "pendingCommands": counts.commands,
            })
        });
        let shards: Vec<_> = self.shards.iter().map(|metrics| shard_status(metrics)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeSeconds": self.started.elapsed().as_secs(),
            "shards": shards,
            "identity": counts.unwrap_or(Value::Null),
            "uplink": self.link.as_ref().map(|link| link.snapshot()),
        })
    }
}

fn shard_status(metrics: &ShardMetrics) -> Value {
    let mut object = serde_json::Map::new();
    metrics.each(|name, _, _, value| {
        object.insert(name.to_owned(), value.into());
    });
    Value::Object(object)
}

impl MetricsSource for Observed {
    fn collect(&self, out: &mut MetricsText) {
        for (index, metrics) in self.shards.iter().enumerate() {
            let shard = index.to_string();
            let labels = [("shard", shard.as_str())];
            metrics.each(|name, kind, help, value| match kind {
                MetricKind::Counter => {
                    out.counter(&format!("fulcrum_{name}_total"), help, &labels, value)
                }
                MetricKind::Gauge => {
                    out.gauge(&format!("fulcrum_{name}"), help, &labels, value as f64)
                }
            });
        }
        let verifier = self.verifier.stats();
        let waiting = "Work waiting for the identity threads.";
        for (lane, depth) in [
            ("quick", verifier.quick_waiting),
            ("slow", verifier.slow_waiting),
            ("store", verifier.store_waiting),
        ] {
            out.gauge("fulcrum_identity_waiting", waiting, &[("lane", lane)], depth as f64);
        }
        out.counter(
            "fulcrum_identity_busy_total",
            "Logins and work refused because a queue was full.",
            &[],
            verifier.busy,
        );
        if let Some(link) = &self.link {
            collect_link(&link.snapshot(), out);
        }
        out.gauge(
            "fulcrum_uptime_seconds",
            "Time since the start.",
            &[],
            self.started.elapsed().as_secs_f64(),
        );
    }
}

fn collect_link(link: &LinkSnapshot, out: &mut MetricsText) {
    let up = u8::from(link.state == LinkState::Up);
    out.gauge("fulcrum_uplink_up", "Whether the cloud answers.", &[], up.into());
    let age = link.oldest_unacknowledged_ms as f64 / 1000.0;
    out.gauge(
        "fulcrum_uplink_oldest_unacknowledged_seconds",
        "Age of the oldest stored record the cloud has not acknowledged.",
        &[],
        age,
    );
    for partition in &link.partitions {
        let number = partition.partition.to_string();
        let labels = [("partition", number.as_str())];
        let backlog = partition.backlog_bytes as f64;
        out.gauge(
            "fulcrum_uplink_backlog_bytes",
            "Journal bytes behind the last acknowledged record.",
            &labels,
            backlog,
        );
    }
    for (reason, count) in link.dropped {
        let help = "Records that did not reach the cloud as they were.";
        out.counter("fulcrum_uplink_dropped_total", help, &[("reason", reason)], count);
    }
    let counters = [
        ("requests", "Requests sent, repetitions included.", link.requests),
        ("retries", "Requests that had to be repeated.", link.retries),
        ("batches", "Stored batches the cloud has acknowledged.", link.batches),
        ("records", "Stored records the cloud has acknowledged.", link.records),
        ("raw_bytes", "Bytes of acknowledged batches before packing.", link.bytes_raw),
        ("packed_bytes", "Bytes of acknowledged batches as sent.", link.bytes_packed),
        ("live_records", "Live telemetry records the cloud has acknowledged.", link.live_records),
        ("live_released", "Live telemetry records answered as not taken.", link.live_released),
        ("feed_changes", "Changes of the registry applied.", link.feed_changes),
    ];
    for (name, help, value) in counters {
        out.counter(&format!("fulcrum_uplink_{name}_total"), help, &[], value);
    }
}
