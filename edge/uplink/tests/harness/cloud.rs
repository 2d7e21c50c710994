//! A cloud to test against: keeps marks as the real one does, and fails in the ways a test asks for.

use bytes::Bytes;
use fulcrum_contract::enrolment::EdgeClaims;
use fulcrum_contract::feed::{Change, ChangePage};
use fulcrum_contract::sync::{
    BatchAnswer, BatchHeader, DevicePresence, Mark, Marks, Presence, decode_batch, split_frames,
};
use fulcrum_frame::Frame;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use time::format_description::well_known::Rfc2822;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// Largest difference between a token and the cloud's clock, in seconds.
const SKEW_S_MAX: u64 = 600;

/// What happens to the next batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Stored, but the connection ends before the answer.
    LoseAnswer,
    /// The connection ends before anything is stored.
    LoseRequest,
    /// 503 with Retry-After in seconds.
    Busy(u64),
    /// Stored after a while.
    Slow(Duration),
    /// Only the first record is stored.
    StoreFirst,
    /// 404 from something that is not the cloud's functions.
    Misrouted,
    /// 200 from something that is not the cloud's functions; nothing is stored.
    Welcomed,
}

/// A stream: tenant, partition, epoch.
pub type StreamName = (String, String, u64);

#[derive(Default)]
pub struct State {
    /// Payloads by stream, in order of their sequences.
    pub records: BTreeMap<StreamName, Vec<Vec<u8>>>,
    pub faults: VecDeque<Fault>,
    /// Tenants that are refused.
    pub refused: BTreeSet<String>,
    /// Tenants whose batches are answered with 503.
    pub busy: BTreeSet<String>,
    /// Records with this payload are refused.
    pub poison: Option<Vec<u8>>,
    /// Headers of all batches, in the order they came.
    pub batches: Vec<BatchHeader>,
    pub feed: String,
    pub changes: Vec<Change>,
    pub polls: u64,
    pub presence: Vec<Vec<DevicePresence>>,
    /// The cloud's clock against the machine's, in seconds.
    pub clock_ahead_s: u64,
    pub unauthorized: u64,
    pub requests: u64,
}

pub struct Cloud {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// Increased to break all connections; odd means cut.
    link: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cloud {
    pub fn start() -> Cloud {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(Mutex::new(State { feed: "feed-1".into(), ..State::default() }));
        let changed = Arc::new(Notify::new());
        let (link, stop) = (watch::Sender::new(0), watch::Sender::new(false));
        let service = Service { state: state.clone(), changed: changed.clone() };
        let (links, mut stopped) = (link.subscribe(), stop.subscribe());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let serving = serve(listener, service, links);
                tokio::select! { () = serving => {}, _ = stopped.changed() => {} }
            });
        });
        Cloud { address, state, changed, link, stop, thread: Some(thread) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Breaks all connections and answers none until [`Cloud::heal`].
    pub fn cut(&self) {
        self.link.send_modify(|generation| *generation |= 1);
    }

    pub fn heal(&self) {
        self.link.send_modify(|generation| *generation += *generation & 1);
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    /// Payloads of all stored records of a tenant, live ones apart.
    pub fn payloads(&self, tenant: &str, partition: &str) -> Vec<Vec<u8>> {
        let state = self.state();
        let streams = state.records.iter();
        let of_tenant = streams.filter(|((name, part, _), _)| name == tenant && part == partition);
        of_tenant.flat_map(|(_, payloads)| payloads.clone()).collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until `condition` holds, at most ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn serve(listener: std::net::TcpListener, service: Service, link: watch::Receiver<u64>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut link = link.clone();
        if *link.borrow_and_update() % 2 == 1 {
            continue;
        }
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| service.answer(request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! { _ = connection => {}, _ = link.changed() => {} }
        });
    }
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hangup")
    }
}

impl std::error::Error for Hangup {}

type Reply = Result<Response<Full<Bytes>>, Hangup>;

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).unwrap();
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn refusal(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    json(status, &fulcrum_contract::ErrorBody { error: error.to_owned() })
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let ahead_s = self.state().clock_ahead_s;
        let now = SystemTime::now() + Duration::from_secs(ahead_s);
        self.state().requests += 1;
        let mut response = if is_fresh(&request, now) {
            self.route(request).await?
        } else {
            self.state().unauthorized += 1;
            refusal(StatusCode::UNAUTHORIZED, "check the edge's clock")
        };
        let date =
            time::OffsetDateTime::from(now).format(&Rfc2822).unwrap().replace("+0000", "GMT");
        response.headers_mut().insert("date", date.parse().unwrap());
        Ok(response)
    }

    async fn route(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Hangup)?.to_bytes();
        match (head.method, head.uri.path()) {
            (Method::GET, "/v1/sync/e1/marks") => Ok(self.marks()),
            (Method::GET, "/v1/sync/e1/changes") => {
                Ok(self.changes(head.uri.query().unwrap_or_default()).await)
            }
            (Method::POST, "/v1/sync/e1/batches") => self.batch(&body).await,
            (Method::POST, "/v1/sync/e1/presence") => {
                let presence: Presence = serde_json::from_slice(&body).unwrap();
                self.state().presence.push(presence.devices);
                Ok(json(StatusCode::OK, &()))
            }
            (method, path) => panic!("no route for {method} {path}"),
        }
    }

    fn marks(&self) -> Response<Full<Bytes>> {
        let state = self.state();
        let marks =
            state.records.iter().filter(|((_, partition, _), _)| partition.starts_with('p'));
        let marks = marks.map(|((tenant, partition, epoch), payloads)| Mark {
            tenant: tenant.parse().unwrap(),
            partition: partition.clone(),
            epoch: *epoch,
            sequence: payloads.len() as u64,
        });
        json(StatusCode::OK, &Marks { marks: marks.collect() })
    }

    async fn changes(&self, query: &str) -> Response<Full<Bytes>> {
        let value = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name)
        };
        let number = |name| value(name).map_or(0, |(_, text)| text.parse::<u64>().unwrap());
        let (after, wait_s) = (number("after"), number("wait"));
        let feed = value("feed").map(|(_, feed)| feed.to_owned());
        self.state().polls += 1;
        let end = tokio::time::Instant::now() + Duration::from_secs(wait_s);
        loop {
            let news = self.changed.notified();
            let page = self.page(feed.as_deref(), after);
            let is_new = !page.changes.is_empty() || feed.as_deref() != Some(&page.feed);
            if is_new || tokio::time::timeout_at(end, news).await.is_err() {
                return json(StatusCode::OK, &page);
            }
        }
    }

    fn page(&self, feed: Option<&str>, after: u64) -> ChangePage {
        let state = self.state();
        let after = if feed == Some(&state.feed) { after } else { 0 };
        let changes: Vec<_> =
            state.changes.iter().filter(|change| change.version > after).cloned().collect();
        let cursor = changes.last().map_or(after, |change| change.version);
        ChangePage { feed: state.feed.clone(), changes, cursor, more: false }
    }

    async fn batch(&self, body: &[u8]) -> Reply {
        let (header, packed) = decode_batch(body).unwrap();
        let unpacked = zstd::decode_all(packed).unwrap();
        let fault = {
            let mut state = self.state();
            state.batches.push(header.clone());
            if state.busy.contains(header.tenant.as_str()) {
                return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "busy"));
            }
            state.faults.pop_front()
        };
        match fault {
            Some(Fault::LoseRequest) => Err(Hangup),
            Some(Fault::LoseAnswer) => {
                self.store(&header, &unpacked, usize::MAX);
                Err(Hangup)
            }
            Some(Fault::Busy(seconds)) => {
                let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, "busy");
                response.headers_mut().insert("retry-after", seconds.into());
                Ok(response)
            }
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                Ok(self.store(&header, &unpacked, usize::MAX))
            }
            Some(Fault::StoreFirst) => Ok(self.store(&header, &unpacked, 1)),
            Some(Fault::Misrouted) => {
                Ok(json(StatusCode::NOT_FOUND, &serde_json::json!({"message": "Not Found"})))
            }
            Some(Fault::Welcomed) => {
                Ok(json(StatusCode::OK, &serde_json::json!({"message": "Welcome"})))
            }
            None => Ok(self.store(&header, &unpacked, usize::MAX)),
        }
    }

    /// Stores what is new, as the contract says.
    fn store(
        &self,
        header: &BatchHeader,
        unpacked: &[u8],
        records_max: usize,
    ) -> Response<Full<Bytes>> {
        let state = &mut *self.state();
        if state.refused.contains(header.tenant.as_str()) {
            return refusal(StatusCode::FORBIDDEN, "the edge does not serve this tenant");
        }
        let frames = split_frames(unpacked, header.count).unwrap();
        let frames: Vec<_> = frames.into_iter().map(|frame| Frame::parse(frame).unwrap()).collect();
        if let Some(poison) = &state.poison
            && frames.iter().any(|frame| frame.payload() == poison)
        {
            return refusal(StatusCode::BAD_REQUEST, "a record is not acceptable");
        }
        let name = (header.tenant.to_string(), header.partition.clone(), header.epoch);
        let mark = state.records.get(&name).map_or(0, Vec::len) as u64;
        if header.first_sequence > mark + 1 {
            return json(StatusCode::CONFLICT, &BatchAnswer { high_water_mark: mark });
        }
        let stream = state.records.entry(name).or_default();
        let known = (mark + 1 - header.first_sequence) as usize;
        for frame in frames.iter().skip(known).take(records_max) {
            assert_eq!(frame.tenant(), Some(header.tenant.as_str()), "a frame of another tenant");
            // A record that stands for one that is gone has its reason for a payload here.
            let gap = frame.properties().find(|(key, _)| *key == "fulcrum-gap");
            stream.push(
                gap.map_or(frame.payload().to_vec(), |(_, reason)| reason.as_bytes().to_vec()),
            );
        }
        json(StatusCode::OK, &BatchAnswer { high_water_mark: stream.len() as u64 })
    }
}

/// Whether the request carries a token that is fresh by the clock `now`. Its signature is another test's business.
fn is_fresh(request: &Request<Incoming>, now: SystemTime) -> bool {
    let token =
        request.headers()["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let claims = jsonwebtoken::dangerous::insecure_decode::<EdgeClaims>(token).unwrap().claims;
    assert_eq!(claims.sub, "e1");
    now.duration_since(UNIX_EPOCH).unwrap().as_secs().abs_diff(claims.iat) <= SKEW_S_MAX
}
