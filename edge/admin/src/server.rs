//! The listener and its connections.
//!
//! A connection ends when its client is done, when a head takes longer than [`HEAD_TIMEOUT`] (idle time between two
//! requests counts), or after [`CONNECTION_LIFETIME`] whatever happens. While [`CONNECTIONS_MAX`] are open, further ones
//! wait in the kernel's queue; as each open one ends in bounded time, so does the wait.

use crate::health::Health;
use crate::metrics::MetricsSource;
use crate::routes::Routes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

/// Connections open at a time: a handful of probes and scrapers, with room.
pub const CONNECTIONS_MAX: usize = 32;
/// Time for a request's head to arrive.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Age at which a connection is asked to end.
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// Time to finish an answer once asked to end; then it is cut off.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after the listener failed to accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What to serve, and where.
pub struct AdminConfig {
    /// Bound by the node, to loopback unless it is told otherwise.
    pub listener: std::net::TcpListener,
    /// The node's components.
    pub health: Arc<Health>,
    /// Asked for metrics in this order.
    pub sources: Vec<Arc<dyn MetricsSource>>,
    /// Makes the JSON of `/status`; called on the endpoint's thread, so it must not block.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
}

/// Why the endpoint could not be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The listener cannot be used.
    #[error(
        "the admin endpoint's listener cannot be used: {0}; check its address in the configuration"
    )]
    Listener(#[from] std::io::Error),
}

/// The bounds above, smaller in tests.
#[derive(Clone, Copy)]
struct Limits {
    connections_max: usize,
    head_timeout: Duration,
    connection_lifetime: Duration,
    drain_timeout: Duration,
}

const LIMITS: Limits = Limits {
    connections_max: CONNECTIONS_MAX,
    head_timeout: HEAD_TIMEOUT,
    connection_lifetime: CONNECTION_LIFETIME,
    drain_timeout: DRAIN_TIMEOUT,
};

/// Serves until `shutdown` completes and the open connections have ended.
///
/// The future is not `Send`: it runs on the thread that polls it, in any tokio runtime with I/O and time (so also by
/// `spawn_local` on tokio-uring).
pub async fn serve(
    config: AdminConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AdminError> {
    serve_within(LIMITS, config, shutdown).await
}

async fn serve_within(
    limits: Limits,
    config: AdminConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AdminError> {
    config.listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(config.listener)?;
    let routes =
        Rc::new(Routes { health: config.health, sources: config.sources, status: config.status });
    // A set of its own, so that it needs none around it.
    let tasks = LocalSet::new();
    tasks.run_until(accept_until(limits, listener, routes, shutdown)).await;
    Ok(())
}

async fn accept_until(
    limits: Limits,
    listener: TcpListener,
    routes: Rc<Routes>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < limits.connections_max;
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection of the admin endpoint ended badly");
                }
            }
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let connection = serve_connection(limits, stream, routes.clone(), stopped.clone());
                    connections.spawn_local(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin endpoint cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    // Each connection ends within the drain time; the rest of this one is slack for a busy thread.
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain_timeout * 2, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve_connection(
    limits: Limits,
    stream: TcpStream,
    routes: Rc<Routes>,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request| {
        let answer = answer(&routes, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return note(ended),
        // The sender says nothing; it is dropped.
        _ = stopped.changed() => {}
        () = sleep(limits.connection_lifetime) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = timeout(limits.drain_timeout, connection).await {
        note(ended);
    }
}

fn answer(
    routes: &Routes,
    request: &http::Request<hyper::body::Incoming>,
) -> crate::routes::Answer {
    routes.answer(request.method(), request.uri().path())
}

/// A client's misbehaviour is its own affair.
fn note(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin endpoint broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::SocketAddr;
    use std::time::Instant;

    const SMALL: Limits = Limits {
        connections_max: 2,
        head_timeout: Duration::from_millis(300),
        connection_lifetime: Duration::from_millis(600),
        drain_timeout: Duration::from_millis(300),
    };

    fn serve_small(status: Value) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let config = AdminConfig {
                listener,
                health: Arc::default(),
                sources: Vec::new(),
                status: Arc::new(move || status.clone()),
            };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_within(SMALL, config, std::future::pending())).unwrap();
        });
        address
    }

    fn connect(address: SocketAddr) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    #[test]
    fn clients_that_say_nothing_or_never_finish_cannot_keep_others_out() {
        let address = serve_small(Value::Null);
        let _silent = connect(address);
        let mut endless = connect(address);
        endless.write_all(b"GET /status HTTP/1.1\r\nx: ").unwrap();
        let mut late = connect(address);
        late.write_all(b"GET /liveness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[test]
    fn a_client_that_does_not_read_its_answer_is_cut_off() {
        // More than the sockets' buffers hold.
        let address = serve_small(Value::String("x".repeat(32 << 20)));
        let mut deaf = connect(address);
        deaf.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let begin = Instant::now();
        std::thread::sleep(SMALL.connection_lifetime + SMALL.drain_timeout * 2);
        let mut received = 0;
        let mut buffer = vec![0; 1 << 20];
        while let Ok(bytes) = deaf.read(&mut buffer) {
            received += bytes;
            if bytes == 0 {
                break;
            }
        }
        assert!(received < 32 << 20, "{received} bytes after {:?}", begin.elapsed());
    }

    #[test]
    fn a_connection_in_use_ends_at_its_age_between_two_answers() {
        let address = serve_small(Value::Null);
        let mut stream = connect(address);
        let begin = Instant::now();
        let mut answers = 0;
        let mut buffer = [0; 4_096];
        while begin.elapsed() < Duration::from_secs(20) {
            if stream.write_all(b"GET /liveness HTTP/1.1\r\nhost: x\r\n\r\n").is_err() {
                break;
            }
            match stream.read(&mut buffer) {
                Ok(bytes) if bytes > 0 => answers += 1,
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(answers > 1, "kept alive in between");
        assert!(begin.elapsed() < Duration::from_secs(20), "and ended at last");
    }
}
