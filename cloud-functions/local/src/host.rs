//! From an HTTP request to the function it belongs to, and back.

use crate::connections::stop;
use axum::Router;
use axum::body::{Body as AxumBody, HttpBody};
use axum::routing::get;
use fulcrum_contract::paths::HEALTH;
use fulcrum_contract::sync::BATCH_BODY_BYTES_MAX;
use fulcrum_domain::Cloud;
use fulcrum_functions::reply::error_body;
use fulcrum_functions::{State, commands, credentials, enrolment, registry, streams, sync};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use lambda_http::Body;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};

/// Largest body of anything but a batch, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Time for a request's body.
const BODY: Duration = Duration::from_secs(30);
/// KiB of bodies held at once; a request waits for its share as long as it may wait for its body.
const BODIES_KIB: usize = 256 * 1024;

#[derive(Clone)]
struct Host {
    state: State,
    bodies_kib: Arc<Semaphore>,
}

/// Every path of the API.
pub(crate) fn router(state: State) -> Router {
    let host = Host { state, bodies_kib: Arc::new(Semaphore::new(BODIES_KIB)) };
    let health_host = host.clone();
    Router::new().route(HEALTH, get(move || async move { health(health_host).await })).fallback(
        move |request| {
            let host = host.clone();
            async move { logged(host, request).await }
        },
    )
}

/// Runs background work until `stopped` says so.
pub(crate) async fn maintain(cloud: Cloud, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop(&mut stopped) => return,
            _ = timer.tick() => {}
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Err(error) = cloud.maintain(now.as_millis() as u64).await {
            tracing::error!(?error, "background work failed; it is tried again");
        }
    }
}

async fn health(host: Host) -> Response<AxumBody> {
    let response = match host.state.cloud.check().await {
        Ok(()) => Response::new(Body::from(r#"{"status":"up"}"#)),
        Err(error) => error_body(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    response.map(outgoing)
}

async fn logged(host: Host, request: Request<AxumBody>) -> Response<AxumBody> {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match incoming(&host, request).await {
        Ok((request, _share)) => dispatch(&host.state, request).await,
        Err(refusal) => refusal,
    };
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
    tracing::info!(%method, path, status, ms, "request");
    response.map(outgoing)
}

async fn dispatch(state: &State, request: lambda_http::Request) -> Response<Body> {
    let mut segments = request.uri().path().split('/').skip(1);
    let answer = match (segments.next(), segments.next()) {
        (Some("v1"), Some("tenants" | "devices" | "applications")) => {
            registry::handle(state, request).await
        }
        (Some("v1"), Some("credentials")) => credentials::handle(state, request).await,
        (Some("v1"), Some("edges" | "enrol")) => enrolment::handle(state, request).await,
        (Some("v1"), Some("sync")) => sync::handle(state, request).await,
        (Some("v1"), Some("streams")) => streams::handle(state, request).await,
        (Some("v1"), Some("commands")) => commands::handle(state, request).await,
        _ => Ok(error_body(StatusCode::NOT_FOUND, "there is nothing at this path")),
    };
    answer.unwrap_or_else(|never| match never {})
}

/// The request with its whole body, and the share of memory it holds until it is answered.
async fn incoming(
    host: &Host,
    request: Request<AxumBody>,
) -> Result<(lambda_http::Request, tokio::sync::OwnedSemaphorePermit), Response<Body>> {
    let batch = request.uri().path().ends_with("/batches");
    let limit = if batch { BATCH_BODY_BYTES_MAX } else { BODY_BYTES_MAX };
    let too_large = || {
        let text = format!("the body is above the limit of {limit} bytes: send less at once");
        error_body(StatusCode::PAYLOAD_TOO_LARGE, &text)
    };
    let (head, body) = request.into_parts();
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let most = match length {
        Some(length) if length > limit => return Err(too_large()),
        Some(length) => length,
        None if HttpBody::is_end_stream(&body) => 0,
        None => limit,
    };
    let reading = async {
        let kib = most.div_ceil(1024) as u32;
        let share = host.bodies_kib.clone().acquire_many_owned(kib).await;
        (share, Limited::new(body, limit).collect().await)
    };
    let (Ok(share), read) = tokio::time::timeout(BODY, reading).await.map_err(|_| {
        error_body(StatusCode::REQUEST_TIMEOUT, "the body did not come in time: send it again")
    })?
    else {
        return Err(error_body(StatusCode::SERVICE_UNAVAILABLE, "the host is ending"));
    };
    let body = match read {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(_) => return Err(error_body(StatusCode::BAD_REQUEST, "the body ended early")),
    };
    let body = if body.is_empty() { Body::Empty } else { Body::Binary(body.into()) };
    Ok((Request::from_parts(head, body), share))
}

fn outgoing(body: Body) -> AxumBody {
    match body {
        Body::Text(text) => AxumBody::from(text),
        Body::Binary(bytes) => AxumBody::from(bytes),
        _ => AxumBody::empty(),
    }
}
