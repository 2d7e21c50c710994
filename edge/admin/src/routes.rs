//! Which path answers what.

use crate::health::{Health, Probe, Report};
use crate::metrics::{MetricsSource, MetricsText};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use std::sync::Arc;

const PATHS: [&str; 5] = ["/started", "/readiness", "/liveness", "/metrics", "/status"];

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// What the answers are made from.
pub(crate) struct Routes {
    pub(crate) health: Arc<Health>,
    pub(crate) sources: Vec<Arc<dyn MetricsSource>>,
    pub(crate) status: Arc<dyn Fn() -> Value + Send + Sync>,
}

pub(crate) type Answer = Response<Full<Bytes>>;

impl Routes {
    /// Answers a request; its body, if it has one, is not looked at.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Answer {
        if !PATHS.contains(&path) {
            let error = "no such path";
            return json_answer(StatusCode::NOT_FOUND, &json!({"error": error, "paths": PATHS}));
        }
        if method != Method::GET && method != Method::HEAD {
            let error = json!({"error": "this endpoint only answers GET and HEAD"});
            let mut answer = json_answer(StatusCode::METHOD_NOT_ALLOWED, &error);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/started" => probe_answer(&self.health.report(Probe::Started)),
            "/readiness" => probe_answer(&self.health.report(Probe::Readiness)),
            "/liveness" => probe_answer(&self.health.report(Probe::Liveness)),
            "/metrics" => answer(StatusCode::OK, PROMETHEUS, self.metrics().render()),
            _ => json_answer(StatusCode::OK, &(self.status)()),
        }
    }

    fn metrics(&self) -> MetricsText {
        let mut text = MetricsText::new();
        for (component, state) in self.health.states() {
            text.gauge(
                "fulcrum_component_state",
                "1 for the state a component of the node is in.",
                &[("component", &component), ("state", state.name())],
                1.0,
            );
        }
        for source in &self.sources {
            source.collect(&mut text);
        }
        text
    }
}

fn probe_answer(report: &Report) -> Answer {
    let status = if report.is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &report.body)
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    answer(status, JSON, format!("{body}\n"))
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
