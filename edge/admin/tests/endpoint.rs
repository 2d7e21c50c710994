//! The endpoint as curl, a scraper and a nuisance see it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use fulcrum_admin::{AdminConfig, Health, MetricsSource, MetricsText, State, serve};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// An endpoint on a thread of tokio-uring, as in a node.
struct Endpoint {
    address: SocketAddr,
    health: Arc<Health>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shards(usize);

impl MetricsSource for Shards {
    fn collect(&self, out: &mut MetricsText) {
        for shard in 0..self.0 {
            let labels = [("shard", &*shard.to_string()), ("tenant", "a\"b")];
            out.counter("fulcrum_messages_total", "Messages taken.", &labels, 5);
        }
    }
}

impl Endpoint {
    fn start(shards: usize) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let config = AdminConfig {
            listener,
            health: health.clone(),
            sources: vec![Arc::new(Shards(shards)), Arc::new(Shards(1))],
            status: Arc::new(|| json!({"node": "edge-1", "uptimeSeconds": 3})),
        };
        let thread = std::thread::spawn(move || {
            tokio_uring::start(async move {
                let shutdown = async {
                    let _ = stopped.await;
                };
                let task = tokio::task::spawn_local(serve(config, shutdown));
                task.await.unwrap().unwrap();
            });
        });
        Endpoint { address, health, stop: Some(stop), thread: Some(thread) }
    }

    fn curl(&self, path: &str, options: &[&str]) -> String {
        let url = format!("http://{}{path}", self.address);
        let output = Command::new("curl")
            .args(["--silent", "--include", "--path-as-is", "--max-time", "20"])
            .args(options)
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, path: &str) -> (u16, Value) {
        let answer = self.curl(path, &[]);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The other side may close before it has read everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

#[test]
fn probes_follow_the_components() {
    let endpoint = Endpoint::start(1);
    let statuses = || ["/started", "/readiness", "/liveness"].map(|path| endpoint.json(path).0);
    assert_eq!(statuses(), [503, 503, 200]);
    endpoint.health.set("identity", State::Ok);
    endpoint.health.set("uplink", State::Degraded { reason: "cloud out of reach".into() });
    assert_eq!(statuses(), [200, 200, 200]);
    endpoint.health.set("journal-p0", State::Failed { reason: "fdatasync failed".into() });
    assert_eq!(statuses(), [503, 503, 503]);
    let (_, body) = endpoint.json("/readiness");
    assert_eq!(body["failing"][0]["component"], "journal-p0");
    assert_eq!(body["failing"][0]["reason"], "fdatasync failed");
    assert_eq!(body["degraded"][0]["component"], "uplink");
}

#[test]
fn metrics_of_all_sources_come_as_one_text() {
    let endpoint = Endpoint::start(2);
    endpoint.health.set("identity", State::Ok);
    let answer = endpoint.curl("/metrics?ignored=yes", &[]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"), "{answer}");
    assert_eq!(answer.matches("# TYPE fulcrum_messages_total counter\n").count(), 1);
    assert!(answer.contains("fulcrum_messages_total{shard=\"1\",tenant=\"a\\\"b\"} 5\n"));
    assert!(answer.contains("fulcrum_component_state{component=\"identity\",state=\"ok\"} 1\n"));
}

#[test]
fn a_text_larger_than_any_buffer_arrives_whole() {
    let endpoint = Endpoint::start(50_000);
    let answer = endpoint.curl("/metrics", &[]);
    assert_eq!(answer.matches("\nfulcrum_messages_total{").count(), 50_001);
}

#[test]
fn the_status_is_the_nodes_own() {
    let endpoint = Endpoint::start(1);
    assert_eq!(endpoint.json("/status"), (200, json!({"node": "edge-1", "uptimeSeconds": 3})));
}

#[test]
fn an_unknown_path_names_the_known_ones() {
    let endpoint = Endpoint::start(1);
    for path in ["/", "/metric", "/metrics/", "/../status", "/%2fstatus"] {
        let (status, body) = endpoint.json(path);
        assert_eq!(status, 404, "{path}");
        assert_eq!(body["paths"].as_array().unwrap().len(), 5, "{path}");
    }
}

#[test]
fn only_reading_is_possible() {
    let endpoint = Endpoint::start(1);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = endpoint.curl("/status", &["--request", method, "--data", "x=1"]);
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{method}: {answer}");
    }
    let answer = endpoint.curl("/status", &["--head"]);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn garbage_is_answered_or_dropped_and_the_endpoint_lives_on() {
    let endpoint = Endpoint::start(1);
    let mut seed = 0x9e37_79b9_u32;
    for length in [0, 1, 7, 100, 5_000, 100_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let answer = endpoint.raw(&bytes);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{length}");
    }
    let huge = format!("GET /status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let answer = endpoint.raw(huge.as_bytes());
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "));
    let many = format!("GET /status HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let answer = endpoint.raw(many.as_bytes());
    assert!(answer.starts_with(b"HTTP/1.1 431 "));
    assert_eq!(endpoint.json("/liveness").0, 200);
}

#[test]
fn stopping_ends_idle_connections_and_the_future() {
    let mut endpoint = Endpoint::start(1);
    let mut idle = TcpStream::connect(endpoint.address).unwrap();
    idle.write_all(b"GET /liveness HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut buffer = [0; 4_096];
    assert!(idle.read(&mut buffer).unwrap() > 0);
    drop(endpoint.stop.take());
    endpoint.thread.take().unwrap().join().unwrap();
    assert_eq!(idle.read(&mut buffer).unwrap(), 0, "closed");
    assert!(TcpStream::connect(endpoint.address).is_err(), "and not listening");
}
