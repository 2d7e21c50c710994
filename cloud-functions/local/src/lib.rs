//! The cloud side on one machine: the Lambda handlers behind one listener, over a redb file.
//!
//! ```text
//!   TCP ─> TLS ─> hyper ─> axum ─> size and time limits ─> the function the path belongs to ─> redb
//! ```
//!
//! Files in the data directory: `cloud.redb` (everything), `operator.token`, and with the development CA `ca.pem`, `ca.key`,
//! `server.pem`, `server.key`, `server.names`. All but `ca.pem` are readable by the owner alone.
//!
//! Invariants:
//! - What a client can make this process hold is bounded: connections, bytes of bodies, time for a handshake, a head and a body.
//! - A log line has the method, the path, the status and the time taken, never a header or a body.
//!
//! Deliberately absent: any rule or route of the API itself; a request is handed over as it came.

mod certificates;
mod connections;
mod files;
mod host;

pub use certificates::CertificateError;

use fulcrum_domain::{Cloud, Settings, secrets};
use fulcrum_functions::State;
use fulcrum_stores::RedbStore;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the listener speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tls {
    /// TLS with a certificate of a development CA that is made in the data directory. Clients trust `ca.pem`.
    Development,
    /// TLS with these PEM files.
    Files {
        /// Certificate chain, the server's own first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Plain HTTP: passwords and tokens can be read on the way. For a proxy on the same machine.
    Off,
}

/// What a local host is to be.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Where everything is kept; made if it is not there.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to speak.
    pub tls: Tls,
    /// Names and addresses in the development certificate besides `localhost`, 127.0.0.1, ::1 and the listening address.
    pub host_names: Vec<String>,
    /// Connections served at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Limits of the rules. Operator tokens given here are accepted besides the one in the data directory.
    pub settings: Settings,
    /// How often background work (retention, expiry) runs.
    pub maintain_every: Duration,
}

impl LocalConfig {
    /// Development TLS on `listen`, everything in `data_dir`, default limits.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> LocalConfig {
        LocalConfig {
            data_dir: data_dir.into(),
            listen,
            tls: Tls::Development,
            host_names: Vec::new(),
            connections_max: 1024,
            settings: Settings::default(),
            maintain_every: Duration::from_secs(10),
        }
    }
}

/// Why the host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file of the data directory cannot be read or written.
    #[error("{path}: {cause}; may this user read and write there?")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// A secret in the data directory is empty or damaged.
    #[error("{0} is damaged: remove it and start again for a new one")]
    Damaged(PathBuf),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] fulcrum_stores::OpenError),
    /// The certificate cannot be made or used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; is another process using the port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
    },
}

/// A host that serves. Dropping it ends it at once; [`Running::shutdown`] ends it in order.
pub struct Running {
    address: SocketAddr,
    operator_token_path: PathBuf,
    ca_path: Option<PathBuf>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that holds the operator's token.
    pub fn operator_token_path(&self) -> &Path {
        &self.operator_token_path
    }

    /// The certificate that clients must trust, where the host made its own.
    pub fn ca_path(&self) -> Option<&Path> {
        self.ca_path.as_deref()
    }

    /// Takes no more connections, lets requests in progress end for a few seconds, closes the store.
    pub async fn shutdown(mut self) {
        // Every receiver gone means every task has ended already.
        let _ = self.stop.send(true);
        for task in std::mem::take(&mut self.tasks) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the local host did not end in order");
            }
        }
    }
}

/// Opens or makes everything in the data directory and begins to serve. The address is bound when this returns.
pub async fn start(config: LocalConfig) -> Result<Running, LocalError> {
    files::prepare_dir(&config.data_dir)?;
    let operator_token_path = config.data_dir.join("operator.token");
    let token = files::operator_token(&operator_token_path)?;
    let mut settings = config.settings.clone();
    settings.operator_token_sha256.push(secrets::sha256(token.as_bytes()));

    let listen_error = |cause| LocalError::Listen { address: config.listen, cause };
    let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let (tls, ca_path) = certificates::acceptor(&config, address.ip())?;

    let store_path = config.data_dir.join("cloud.redb");
    let store = RedbStore::open(&store_path, &secrets::new_id())?;
    files::make_private(&store_path)?;
    let cloud = Cloud::new(Arc::new(store), settings);

    let (stop, stopped) = watch::channel(false);
    let router = host::router(State::new(cloud.clone()));
    let serving =
        connections::serve(listener, tls, router, config.connections_max, stopped.clone());
    let maintaining = host::maintain(cloud, config.maintain_every, stopped);
    let tasks = vec![tokio::spawn(serving), tokio::spawn(maintaining)];
    tracing::info!(%address, data = %config.data_dir.display(), "the cloud side is up");
    Ok(Running { address, operator_token_path, ca_path, stop, tasks })
}
