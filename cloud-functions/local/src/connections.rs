//! From the listener to requests: a bounded number of connections, each with a time limit on everything its peer must do.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for a request's head, counted from the end of the request before it: also how long a connection may idle.
const HEAD: Duration = Duration::from_secs(75);
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// HTTP/2 requests of one connection at once.
const STREAMS: u32 = 64;
/// How often an HTTP/2 peer is asked whether it lives, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
/// Time for requests in progress when the host ends.
const DRAIN: Duration = Duration::from_secs(3);
/// Pause after the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Returns when the host is to end.
pub(crate) async fn stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the handle on the host was dropped: it ends as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Serves until `stopped` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    connections_max: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    let (end, ended) = watch::channel(false);
    let (alive, mut all_gone) = mpsc::channel(1);
    let requests = Requests { ended, alive };
    loop {
        let accepting = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            _ = stop(&mut stopped) => break,
            accepted = accepting => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (tls, router, stopped) = (tls.clone(), router.clone(), stopped.clone());
                let requests = requests.clone();
                connections.spawn(async move {
                    connection(stream, tls, router, requests, stopped).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        connections.shutdown().await;
    }
    // What a request holds, the store above all, is free when this returns.
    end.send_replace(true);
    drop(requests);
    let _ = all_gone.recv().await;
}

/// Runs the requests of HTTP/2 connections, each a task of its own that the end of the host ends too.
#[derive(Clone)]
struct Requests {
    ended: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl<F> hyper::rt::Executor<F> for Requests
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, request: F) {
        let Requests { mut ended, alive } = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = request => {}
                () = stop(&mut ended) => {}
            }
            drop(alive);
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    requests: Requests,
    stopped: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it began");
        return;
    }
    let Some(tls) = tls else {
        return http1(stream, router, stopped).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2(stream, router, requests, stopped).await;
        }
        Ok(Ok(stream)) => http1(stream, router, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn http1<S>(stream: S, router: Router, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn http2<S>(stream: S, router: Router, requests: Requests, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http2::Builder::new(requests);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
