//! HTTP/1.1 client for the cloud side: one kept connection, JSON both ways, every wait bounded.
//!
//! A request is repeated on a new connection only when the kept one closed before the request was taken, so nothing
//! is ever sent twice behind the caller's back.
//!
//! Deliberately absent: retries, redirects, proxies, a connection pool.

use crate::context::Context;
use crate::error::Failure;
use base64::Engine as _;
use bytes::Bytes;
use fulcrum_contract::ErrorBody;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer, on top of what a long poll asks the cloud side to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of records is the largest answer there is.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Where Linux distributions keep the system's certificate authorities.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Who asks.
pub enum Identity {
    /// The operator, with the whole API.
    Operator {
        /// Its token.
        token: String,
    },
    /// An application of one tenant.
    Application {
        /// `{application}@{tenant}`.
        username: String,
        /// Its password.
        password: String,
    },
    /// Nobody yet: enrolment.
    Nobody,
}

impl Identity {
    fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        let text = match self {
            Identity::Operator { token } => format!("Bearer {token}"),
            Identity::Application { username, password } => {
                let pair = format!("{username}:{password}");
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            Identity::Nobody => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Failure::Context(
                "the operator token's file holds something that is not a token".to_owned(),
            )
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A client of one cloud side.
pub struct Client {
    url: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client that acts as the operator.
    pub fn operator(context: &Context) -> Result<Client, Failure> {
        let cloud = context.cloud()?;
        let token = context.token()?;
        Client::new(cloud, context.ca_file.as_deref(), &Identity::Operator { token })
    }

    /// A client for the cloud side at `url`, trusting `ca_file` or else the system's authorities.
    pub fn new(url: &str, ca_file: Option<&Path>, identity: &Identity) -> Result<Client, Failure> {
        let url = url.trim_end_matches('/');
        let (tls, host, port) = parse_url(url)?;
        let tls = if tls { Some(connector(ca_file)?) } else { None };
        let authorization = identity.header()?;
        Ok(Client { url: url.to_owned(), host, port, tls, authorization, connection: None })
    }

    /// The cloud's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads a document.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let body = self.exchange(Method::GET, path, None, Duration::ZERO).await?;
        self.parse(&body)
    }

    /// Whether `path` is answered with success.
    pub async fn check(&mut self, path: &str) -> Result<(), Failure> {
        self.exchange(Method::GET, path, None, Duration::ZERO).await.map(drop)
    }

    /// Reads a document that the cloud side may hold back for `wait` until there is news.
    pub async fn poll<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wait: Duration,
    ) -> Result<T, Failure> {
        let body = self.exchange(Method::GET, path, None, wait).await?;
        self.parse(&body)
    }

    /// Creates something and reads the answer.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let answer = self.exchange(Method::POST, path, Some(json(body)?), Duration::ZERO).await?;
        self.parse(&answer)
    }

    /// Does something that has no answer.
    pub async fn post_quietly(&mut self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.exchange(Method::POST, path, Some(json(body)?), Duration::ZERO).await.map(drop)
    }

    /// Replaces a document.
    pub async fn put(&mut self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.exchange(Method::PUT, path, Some(json(body)?), Duration::ZERO).await.map(drop)
    }

    /// Deletes something.
    pub async fn delete(&mut self, path: &str) -> Result<(), Failure> {
        self.exchange(Method::DELETE, path, None, Duration::ZERO).await.map(drop)
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body)
            .map_err(|error| Failure::Answer { url: self.url.clone(), reason: error.to_string() })
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        wait: Duration,
    ) -> Result<Bytes, Failure> {
        let request = self.request(method, path, body)?;
        let limit = ANSWER_TIMEOUT + wait;
        match timeout(limit, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.connection = None;
                Err(self.unreachable(format!("no answer within {} s", limit.as_secs())))
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Failure::Usage(format!("'{path}' cannot be asked for: {error}")))
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Bytes, Failure> {
        let mut connection = self.ready_connection().await?;
        let answer = match connection.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut error) => match error.take_message() {
                // The kept connection ended before it took the request.
                Some(request) => {
                    connection = self.connect().await?;
                    let answer = connection.send_request(request).await;
                    answer.map_err(|error| self.unreachable(chain(&error)))?
                }
                None => return Err(self.unreachable(chain(&error.into_error()))),
            },
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.unreachable(error.to_string()))?
            .to_bytes();
        self.connection = Some(connection);
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    async fn ready_connection(&mut self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let address = (self.host.as_str(), self.port);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| {
                self.unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))
            })?
            .map_err(|error| self.unreachable(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.handshake(stream).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| {
            Failure::Usage(format!("'{}' is not a host name a certificate can have", self.host))
        })?;
        let stream = timeout(CONNECT_TIMEOUT, tls.connect(name, stream))
            .await
            .map_err(|_| {
                self.unreachable("no TLS handshake in time; is it an http:// cloud?".to_owned())
            })?
            .map_err(|error| Failure::Untrusted {
                url: self.url.clone(),
                reason: error.to_string(),
            })?;
        self.handshake(stream).await
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(chain(&error)))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn unreachable(&self, reason: String) -> Failure {
        Failure::Unreachable { url: self.url.clone(), reason }
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Failure::Usage(format!("the request cannot be written as JSON: {error}")))
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => format!("the cloud answered {status}"),
    };
    Failure::Refused { status: status.as_u16(), text }
}

/// hyper's errors say little; the cause behind them says the rest.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn parse_url(url: &str) -> Result<(bool, String, u16), Failure> {
    let wrong = |why: &str| {
        Failure::Usage(format!(
            "'{url}' is not a cloud's URL: {why}. It looks like https://host:8443"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| wrong("it cannot be parsed"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong("it must begin with https:// (or http://)")),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("it must end after the port"));
    }
    let host = uri.host().ok_or_else(|| wrong("the host is missing"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok((tls, host, port))
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Failure> {
    let path: PathBuf = match ca_file {
        Some(path) => path.to_owned(),
        None => system_authorities()?,
    };
    let mut roots = rustls::RootCertStore::empty();
    let unusable = |reason: String| {
        Failure::Context(format!(
            "no certificate authority can be read from {}: {reason}",
            path.display()
        ))
    };
    let certificates =
        CertificateDer::pem_file_iter(&path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        // A system bundle may hold authorities rustls does not take; the others still serve.
        let added = roots.add(certificate);
        if let (Err(error), Some(_)) = (added, ca_file) {
            return Err(unusable(error.to_string()));
        }
    }
    if roots.is_empty() {
        return Err(unusable("it has no certificate".to_owned()));
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(|error| unusable(error.to_string()))?
    .with_root_certificates(roots)
    .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn system_authorities() -> Result<PathBuf, Failure> {
    SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        Failure::Context(
            "this machine has no list of certificate authorities\n  Install the package `ca-certificates`, or name \
             the cloud's own authority with --ca FILE."
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        assert_eq!(
            parse_url("https://127.0.0.1:8443").unwrap(),
            (true, "127.0.0.1".to_owned(), 8443)
        );
        assert_eq!(
            parse_url("http://cloud.example/").unwrap(),
            (false, "cloud.example".to_owned(), 80)
        );
        assert_eq!(parse_url("https://[::1]:9").unwrap(), (true, "::1".to_owned(), 9));
    }

    #[test]
    fn a_wrong_url_is_refused_with_an_example() {
        for url in ["localhost:8443", "ftp://x", "https://x/v1", "", "https://"] {
            let text = parse_url(url).unwrap_err().to_string();
            assert!(text.contains("https://host:8443"), "{url}: {text}");
        }
    }

    #[tokio::test]
    async fn a_cloud_that_is_not_there_is_told_with_the_remedy() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let mut client = Client::new(&url, None, &Identity::Nobody).unwrap();
        let failure = client.get::<serde_json::Value>("/healthz").await.unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        assert!(failure.to_string().contains("fulcrum cloud"));
    }

    #[tokio::test]
    async fn a_connection_the_cloud_closed_is_replaced_by_a_new_one() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            for number in 1..=2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await.unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut client = Client::new(&url, None, &Identity::Nobody).unwrap();
        assert_eq!(client.get::<u32>("/").await.unwrap(), 1);
        assert_eq!(client.get::<u32>("/").await.unwrap(), 2);
        server.await.unwrap();
    }
}
