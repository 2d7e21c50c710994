//! HTTP/1.1 to one origin: kept-alive connections, a deadline for each request, and nothing that outlives it.
//!
//! Every request of the uplink may be repeated, so one that met a connection the cloud had meanwhile closed is sent
//! again at once on a fresh one. A request that is not answered in time takes its connection with it: a half-open
//! connection is used once at most.
//!
//! Deliberately absent: redirects, proxies, cookies, HTTP/2. Retrying for other reasons is in [`crate::link`].

use crate::error::UplinkError;
use crate::tls;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HOST, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Idle connections kept; more than these are closed after their request.
const IDLE_MAX: usize = 16;
/// Age at which an idle connection is not trusted any more: below the 60 s after which load balancers close theirs.
const IDLE_AGE_MAX: Duration = Duration::from_secs(50);
/// Silence after which the kernel asks the other side whether it is there, and the pause between its questions.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(5);
/// Time for which sent bytes may stay unacknowledged before the kernel gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// A request to be sent, maybe more than once.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub path: String,
    pub content_type: &'static str,
    pub body: Bytes,
    pub timeout: Duration,
    /// Largest answer read, in bytes.
    pub answer_bytes_max: usize,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub date: Option<SystemTime>,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("the answer is longer than {0} bytes")]
    AnswerTooLong(usize),
    #[error("the answer cannot be read: {0}")]
    Body(String),
    #[error("the request cannot be written: {0}")]
    Request(http::Error),
}

/// A client of one origin.
pub(crate) struct Client {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connect_timeout: Duration,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection; dropping it closes it, whatever is under way.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client of `cloud`, trusting `ca_file` or the system.
    pub fn new(
        cloud: &Uri,
        ca_file: Option<&Path>,
        connect_timeout: Duration,
    ) -> Result<Client, UplinkError> {
        let refuse = |what| UplinkError::Address { address: cloud.to_string(), what };
        if !matches!(cloud.path(), "" | "/") || cloud.query().is_some() {
            return Err(refuse("it has a path"));
        }
        let authority = cloud.authority().ok_or(refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(UplinkError::Address {
                address: authority.host().to_owned(),
                what: "it holds a user name",
            });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match cloud.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| refuse("the host is no name or address"))?;
                Some((TlsConnector::from(tls::client_config(ca_file)?), name))
            }
            Some("http") => None,
            _ => return Err(refuse("it begins with neither https:// nor http://")),
        };
        Ok(Client {
            port: authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| refuse("the host is no name or address"))?,
            host,
            tls,
            connect_timeout,
            idle: RefCell::new(Vec::new()),
        })
    }

    /// Sends `call` and reads the answer.
    pub async fn exchange(
        &self,
        call: &Call,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, TransportError> {
        let within =
            tokio::time::timeout(call.timeout, self.exchange_unbounded(call, authorization));
        within.await.unwrap_or(Err(TransportError::Timeout(call.timeout)))
    }

    /// Closes all idle connections: they may be as dead as the one that has just failed.
    pub fn forget_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    async fn exchange_unbounded(
        &self,
        call: &Call,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, TransportError> {
        while let Some(connection) = self.take_idle() {
            match self.exchange_on(connection, call, authorization.clone()).await {
                Err(TransportError::Broken(error)) if was_closed(&error) => {}
                answer => return answer,
            }
        }
        self.exchange_on(self.connect().await?, call, authorization).await
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|kept| {
            kept.since.elapsed() < IDLE_AGE_MAX && !kept.connection.sender.is_closed()
        });
        idle.pop().map(|kept| kept.connection)
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        call: &Call,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, TransportError> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() =
            Uri::try_from(&call.path).map_err(|error| TransportError::Request(error.into()))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        if !call.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        }
        if let Some(authorization) = authorization {
            headers.insert(http::header::AUTHORIZATION, authorization);
        }
        connection.sender.ready().await.map_err(TransportError::Broken)?;
        let response =
            connection.sender.send_request(request).await.map_err(TransportError::Broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, call.answer_bytes_max).collect().await.map_err(|error| {
            match error.downcast_ref::<LengthLimitError>() {
                Some(_) => TransportError::AnswerTooLong(call.answer_bytes_max),
                None => TransportError::Body(error.to_string()),
            }
        })?;
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push(Idle { connection, since: Instant::now() });
        }
        Ok(Answer {
            status: head.status,
            retry_after: retry_after(&head.headers, SystemTime::now()),
            date: http_date(head.headers.get(DATE)),
            body: body.to_bytes(),
        })
    }

    async fn connect(&self) -> Result<Connection, TransportError> {
        let within = tokio::time::timeout(self.connect_timeout, async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            let keep_alive = TcpKeepalive::new()
                .with_time(KEEP_ALIVE_AFTER)
                .with_interval(KEEP_ALIVE_PAUSE)
                .with_retries(3);
            socket.set_tcp_keepalive(&keep_alive)?;
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            match &self.tls {
                None => drive(stream).await,
                Some((connector, name)) => {
                    drive(connector.connect(name.clone(), stream).await?).await
                }
            }
        });
        match within.await {
            Ok(connected) => connected.map_err(TransportError::Connect),
            Err(_) => Err(TransportError::ConnectTimeout(self.connect_timeout)),
        }
    }
}

/// Speaks HTTP/1.1 over `stream`, driven by a task of its own.
async fn drive<S>(stream: S) -> io::Result<Connection>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let driver = tokio::task::spawn_local(async move {
        // Its error reaches the request under way as well; without a request nobody needs it.
        let _ = connection.await;
    });
    Ok(Connection { sender, driver })
}

/// Whether the other side may have closed an idle connection before it saw the request.
fn was_closed(error: &hyper::Error) -> bool {
    use std::error::Error;
    let broken_pipe =
        error.source().and_then(|source| source.downcast_ref::<io::Error>()).is_some();
    broken_pipe || error.is_canceled() || error.is_closed() || error.is_incomplete_message()
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Ok(seconds) = value.to_str().ok()?.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(http_date(Some(value))?.duration_since(now).unwrap_or_default())
}

/// RFC 9110 section 5.6.7, its preferred form.
fn http_date(value: Option<&HeaderValue>) -> Option<SystemTime> {
    OffsetDateTime::parse(value?.to_str().ok()?, &Rfc2822).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn client(address: &'static str) -> Result<Client, UplinkError> {
        Client::new(&Uri::from_static(address), None, Duration::from_secs(1))
    }

    #[test]
    fn an_address_that_is_no_origin_is_refused() {
        for address in [
            "cloud.example",
            "ftp://cloud.example",
            "http://cloud.example/v1",
            "http://u:p@cloud.example",
        ] {
            let refusal = client(address).err().map(|error| error.to_string());
            assert!(
                refusal.as_ref().is_some_and(|text| !text.contains("u:p")),
                "{address}: {refusal:?}"
            );
        }
        let client = client("http://[::1]:8080").unwrap();
        assert_eq!((client.host.as_str(), client.port), ("::1", 8080));
    }

    #[test]
    fn dates_and_pauses_of_http_are_read() {
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        let known = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(http_date(Some(&date)), Some(known));
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers, known), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, date);
        let before = known - Duration::from_secs(3);
        assert_eq!(retry_after(&headers, before), Some(Duration::from_secs(3)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        assert_eq!(retry_after(&headers, known), None);
    }
}
