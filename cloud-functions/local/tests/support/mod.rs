//! A host of its own for each test, asked by curl over TLS; and an edge node that signs and ships.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

use fulcrum_contract::enrolment::{AUDIENCE, EdgeClaims, EdgeCreated};
use fulcrum_contract::sync::{BATCH_CONTENT_TYPE, BatchHeader, encode_batch, push_frame};
use fulcrum_contract::{EdgeId, TenantId};
use fulcrum_frame::{Class, FrameBuilder, Tag};
use fulcrum_local::{LocalConfig, Running, start};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Host {
    pub running: Running,
    pub dir: tempfile::TempDir,
    token: String,
}

/// How a request says who is asking.
pub enum Auth<'a> {
    Operator,
    Nobody,
    Basic(&'a str, &'a str),
    Bearer(String),
}

pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn value(&self) -> Value {
        self.json()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| {
            line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, v)| v.trim())
    }
}

impl Host {
    pub async fn start() -> Host {
        Host::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut LocalConfig)) -> Host {
        Host::start_in(tempfile::tempdir().unwrap(), change).await
    }

    pub async fn start_in(dir: tempfile::TempDir, change: impl FnOnce(&mut LocalConfig)) -> Host {
        let mut config = LocalConfig::new(dir.path(), "127.0.0.1:0".parse().unwrap());
        config.settings.bcrypt_cost = 4;
        change(&mut config);
        let running = start(config).await.unwrap();
        let token = std::fs::read_to_string(running.operator_token_path()).unwrap();
        Host { running, dir, token: token.trim().to_owned() }
    }

    /// Ends the host in order and gives its data directory back.
    pub async fn stop(self) -> tempfile::TempDir {
        self.running.shutdown().await;
        self.dir
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &Auth::Operator, &[], None)
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, &Auth::Operator, JSON, Some(body.as_bytes()))
    }

    pub fn put(&self, path: &str, body: &str) -> Reply {
        self.ask("PUT", path, &Auth::Operator, JSON, Some(body.as_bytes()))
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path, &Auth::Operator, &[], None)
    }

    pub fn ask(
        &self,
        method: &str,
        path: &str,
        auth: &Auth<'_>,
        headers: &[&str],
        body: Option<&[u8]>,
    ) -> Reply {
        let address = self.running.address();
        let mut curl = Command::new("curl");
        curl.args(["-s", "-i", "--http1.1", "--max-time", "60", "-X", method, "-H", "Expect:"]);
        let scheme = match self.running.ca_path() {
            Some(ca) => {
                curl.arg("--cacert").arg(ca);
                "https"
            }
            None => "http",
        };
        match auth {
            Auth::Operator => {
                _ = curl.args(["-H", &format!("Authorization: Bearer {}", self.token)])
            }
            Auth::Bearer(token) => _ = curl.args(["-H", &format!("Authorization: Bearer {token}")]),
            Auth::Basic(user, password) => _ = curl.args(["-u", &format!("{user}:{password}")]),
            Auth::Nobody => {}
        }
        for header in headers {
            curl.args(["-H", header]);
        }
        if body.is_some() {
            curl.args(["--data-binary", "@-"]);
        }
        curl.arg(format!("{scheme}://localhost:{}{path}", address.port()));
        let output = run(curl, body.unwrap_or_default());
        let at = output.windows(4).position(|four| four == b"\r\n\r\n");
        let at = at.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&output)));
        let head = String::from_utf8(output[..at].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: output[at + 4..].to_vec() }
    }
}

const JSON: &[&str] = &["Content-Type: application/json"];

fn run(mut command: Command, input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("curl is installed");
    // The peer may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().stdout
}

/// An edge node as the cloud side sees it.
pub struct EdgeNode {
    pub id: String,
    key: p256::SecretKey,
}

impl EdgeNode {
    /// Made by the operator and enrolled.
    pub fn enrol(host: &Host, id: &str, tenants: &[&str]) -> EdgeNode {
        let body = serde_json::json!({ "tenants": tenants }).to_string();
        let created = host.post(&format!("/v1/edges/{id}"), &body);
        assert_eq!(created.status, 201);
        let token = created.json::<EdgeCreated>().token;
        let node = EdgeNode::with_new_key(id);
        assert_eq!(node.present(host, &token).status, 200);
        node
    }

    pub fn with_new_key(id: &str) -> EdgeNode {
        let bytes: [u8; 32] = rand::random();
        // All but a vanishing part of 256-bit numbers are keys.
        EdgeNode { id: id.to_owned(), key: p256::SecretKey::from_slice(&bytes).unwrap() }
    }

    pub fn present(&self, host: &Host, token: &str) -> Reply {
        let public_key = self.key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
        let body = serde_json::json!({ "edge": self.id, "token": token, "publicKey": public_key });
        let body = body.to_string();
        host.ask("POST", "/v1/enrol", &Auth::Nobody, JSON, Some(body.as_bytes()))
    }

    pub fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.token_of(&self.id, AUDIENCE, now, now + 300)
    }

    pub fn token_of(&self, sub: &str, aud: &str, iat: u64, exp: u64) -> String {
        let claims = EdgeClaims { sub: sub.to_owned(), aud: aud.to_owned(), iat, exp };
        let der = self.key.to_pkcs8_der().unwrap();
        let key = EncodingKey::from_ec_der(der.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    }

    pub fn get(&self, host: &Host, what: &str) -> Reply {
        let path = format!("/v1/sync/{}/{what}", self.id);
        host.ask("GET", &path, &Auth::Bearer(self.token()), &[], None)
    }

    pub fn post(&self, host: &Host, what: &str, body: &str) -> Reply {
        let path = format!("/v1/sync/{}/{what}", self.id);
        host.ask("POST", &path, &Auth::Bearer(self.token()), JSON, Some(body.as_bytes()))
    }

    pub fn ship(&self, host: &Host, partition: &str, first: u64, frames: &[Vec<u8>]) -> Reply {
        self.ship_body(host, &batch("acme", partition, 7, first, frames))
    }

    pub fn ship_body(&self, host: &Host, body: &[u8]) -> Reply {
        let path = format!("/v1/sync/{}/batches", self.id);
        let media_type = format!("Content-Type: {BATCH_CONTENT_TYPE}");
        host.ask("POST", &path, &Auth::Bearer(self.token()), &[&media_type], Some(body))
    }
}

pub fn batch(tenant: &str, partition: &str, epoch: u64, first: u64, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    for frame in frames {
        push_frame(&mut unpacked, frame);
    }
    let header = BatchHeader {
        tenant: TenantId::parse(tenant).unwrap(),
        partition: partition.to_owned(),
        epoch,
        first_sequence: first,
        count: frames.len() as u32,
    };
    encode_batch(&header, &zstd::bulk::compress(&unpacked, 3).unwrap())
}

pub fn frame(class: Class, device: &str, payload: &[u8]) -> Vec<u8> {
    command_frame(class, device, None, payload)
}

/// A frame that says something about a command: its id and a status.
pub fn command_frame(
    class: Class,
    device: &str,
    about: Option<(&str, u16)>,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = FrameBuilder::new(&mut bytes, class, 1, 1_700_000_000_000);
    frame.text(Tag::Tenant, "acme").text(Tag::Device, device);
    frame.text(Tag::ContentType, "text/plain").property("key", "value");
    if let Some((command, status)) = about {
        frame.text(Tag::Correlation, command).status(status);
    }
    frame.finish(payload).unwrap();
    bytes
}

pub fn events(payloads: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    payloads.into_iter().map(|n| frame(Class::Event, "pump", n.to_string().as_bytes())).collect()
}

/// The tenant `acme` with the device `pump`.
pub fn with_pump(host: &Host) {
    assert_eq!(host.post("/v1/tenants/acme", "").status, 201);
    assert_eq!(host.post("/v1/devices/acme/pump", "").status, 201);
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub fn edge_id(id: &str) -> EdgeId {
    EdgeId::parse(id).unwrap()
}
