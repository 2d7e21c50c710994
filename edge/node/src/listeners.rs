//! Where the node listens, what is spoken there and through which transport; the sockets of all shards.

use crate::config::Config;
use fulcrum_ring::{accept_on_input, bind_listener};
use fulcrum_shard::Speaks;
use fulcrum_transport::{
    CertificateFiles, ClientCertificates, Layers, ServerTls, TlsSettings, WebSocketSettings,
};
use serde::Deserialize;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections the kernel keeps for a shard that has not accepted them yet.
const BACKLOG: i32 = 4096;

/// How long an address may be in use by a node that has just ended.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// `[[listener]]`: one more address, with a transport if it has one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port; `[::]:8883` for IPv6.
    pub listen: SocketAddr,
    /// What is spoken there.
    #[serde(default)]
    pub speaks: Protocol,
    /// Whether connections are encrypted, with the certificates of `[tls]`.
    #[serde(default)]
    pub tls: bool,
    /// Path of MQTT over WebSocket, usually `/mqtt`. Without it MQTT comes as it is.
    pub websocket: Option<String>,
    /// Whether a proxy in front puts a PROXY protocol header (version 2 or 1) before each connection.
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// What is spoken at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Mqtt,
    Http,
    /// AMQP 1.0.
    Amqp,
}

/// `[tls]`: the node's certificates. They are read again on SIGHUP; connections that are open keep theirs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Chains and keys. The first serves clients that ask for no name, or for one no certificate is for.
    pub certificate: Vec<Certificate>,
    /// Whether clients are asked for a certificate.
    #[serde(default)]
    pub client_certificates: Asked,
}

/// `[[tls.certificate]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file: the server's certificate, then those that lead to its authority.
    pub chain: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// Whether clients are asked for a certificate. Which ones are trusted is in the tenants' trust anchors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// They are not.
    #[default]
    None,
    /// They may show one instead of a password.
    Optional,
    /// Without one nobody connects.
    Required,
}

impl Listener {
    /// A plain listener.
    pub fn plain(listen: SocketAddr, speaks: Protocol) -> Listener {
        Listener { listen, speaks, tls: false, websocket: None, proxy_protocol: false }
    }

    /// What is wrong with it.
    pub fn complaint(&self, has_tls: bool) -> Option<String> {
        let Listener { listen, .. } = self;
        if self.tls && !has_tls {
            return Some(format!(
                "listener {listen} has tls = true, but there is no [[tls.certificate]] with chain and key"
            ));
        }
        let path = self.websocket.as_deref()?;
        if self.speaks != Protocol::Mqtt {
            return Some(format!(
                "listener {listen} has a websocket path; only MQTT is spoken over WebSocket"
            ));
        }
        (!path.starts_with('/')).then(|| {
            format!("listener {listen}: websocket is '{path}'; expected a path like '/mqtt'")
        })
    }

    fn layers(&self, tls: Option<&Arc<ServerTls>>, message_bytes_max: usize) -> Layers {
        Layers {
            proxy: self.proxy_protocol,
            tls: tls.filter(|_| self.tls).cloned(),
            websocket: self.websocket.as_deref().map(|path| WebSocketSettings {
                path: Arc::from(path),
                // A message may hold several packets.
                message_bytes_max: 16 * message_bytes_max as u64,
            }),
        }
    }
}

impl Tls {
    /// Reads the files; the error names the one that cannot be used, and why.
    pub fn load(&self) -> Result<Arc<ServerTls>, String> {
        let files = self
            .certificate
            .iter()
            .map(|files| CertificateFiles { chain: files.chain.clone(), key: files.key.clone() });
        let client_certificates = match self.client_certificates {
            Asked::None => ClientCertificates::NotRequested,
            Asked::Optional => ClientCertificates::Optional,
            Asked::Required => ClientCertificates::Required,
        };
        ServerTls::load(TlsSettings { certificates: files.collect(), client_certificates })
            .map_err(|error| error.to_string())
    }
}

/// Listens where nobody else does. The kernel takes a moment to close the sockets of a ring that was killed, so an address
/// that is in use is tried again before it is somebody's.
fn listen_alone(address: SocketAddr) -> std::io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match bind_listener(address, false, 1) {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < RELEASE_TIME =>
            {
                std::thread::sleep(RELEASE_TIME / 40);
            }
            result => return result,
        }
    }
}

/// The listening sockets of all shards. Each shard has its own on the same address: the kernel spreads connections over
/// them.
pub struct Sockets {
    /// Every address in the order of the configuration, with the port that was given out if it named none.
    pub addresses: Vec<(Protocol, SocketAddr)>,
    /// The certificates, to be read again.
    pub tls: Option<Arc<ServerTls>>,
    /// The sockets of each shard.
    pub of_shards: Vec<Vec<(TcpListener, Speaks, Layers)>>,
}

impl Sockets {
    /// Listens on the addresses of `config`.
    pub fn open(config: &Config) -> Result<Sockets, String> {
        let of_shards = (0..config.shards()).map(|_| Vec::new()).collect();
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let mut sockets = Sockets { addresses: Vec::new(), tls, of_shards };
        for listener in config.listeners() {
            let layers = listener.layers(sockets.tls.as_ref(), config.limits.message_bytes);
            sockets.listen(&listener, &layers)?;
        }
        Ok(sockets)
    }

    /// The first address where this is spoken.
    pub fn first(&self, protocol: Protocol) -> Option<SocketAddr> {
        self.addresses.iter().find(|(spoken, _)| *spoken == protocol).map(|(_, address)| *address)
    }

    fn listen(&mut self, listener: &Listener, layers: &Layers) -> Result<(), String> {
        let address = listener.listen;
        let refused = |error| {
            format!(
                "cannot listen on {address}: {error}; is another server, or another node, running there?"
            )
        };
        // Sockets that share an address would share it with another node of the same user, too, and each would get half
        // of the devices: a socket that does not share shows whether somebody is there.
        let alone = listen_alone(address).map_err(refused)?;
        let found = alone.local_addr().map_err(refused)?;
        drop(alone);
        let speaks = match listener.speaks {
            Protocol::Mqtt => Speaks::Mqtt,
            Protocol::Http => Speaks::Http,
            Protocol::Amqp => Speaks::Amqp,
        };
        for shard in &mut self.of_shards {
            let socket = bind_listener(found, true, BACKLOG).map_err(refused)?;
            // In everything that is spoken here, transports included, the client speaks first.
            accept_on_input(&socket).map_err(refused)?;
            shard.push((socket, speaks, layers.clone()));
        }
        self.addresses.push((listener.speaks, found));
        Ok(())
    }
}
