//! One edge node, one local cloud and the link between them, as separate processes in one temporary directory.

use super::processes::{Process, free_address, own_binary};
use super::proxy::Proxy;
use crate::client::{Client, Identity};
use crate::commands::credentials::{HashFunction, password_credential};
use crate::commands::edge::{KEY_FILE, enrol_at};
use crate::context::Context;
use crate::error::Failure;
use fulcrum_contract::enrolment::{EdgeCreated, EdgeRequest};
use fulcrum_contract::paths::{APPLICATIONS, CREDENTIALS, DEVICES, EDGES, HEALTH, TENANTS};
use fulcrum_contract::registry::{Application, ApplicationCreated, Created, Device, Tenant};
use fulcrum_contract::{DeviceId, EdgeId, TenantId};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where everything of a run is.
pub struct Site {
    folder: PathBuf,
    node_binary: PathBuf,
    context: Context,
    cloud_address: SocketAddr,
    /// Where the node takes MQTT.
    pub mqtt: SocketAddr,
    /// Where the node takes HTTP.
    pub http: SocketAddr,
    admin: SocketAddr,
    uplink: SocketAddr,
}

impl Site {
    /// Chooses addresses; nothing runs yet.
    pub fn new(folder: &Path, node_binary: PathBuf) -> Result<Site, Failure> {
        Ok(Site {
            folder: folder.to_owned(),
            node_binary,
            context: Context::default(),
            cloud_address: free_address()?,
            mqtt: free_address()?,
            http: free_address()?,
            admin: free_address()?,
            uplink: free_address()?,
        })
    }

    /// Starts the cloud side and waits until it answers.
    pub async fn start_cloud(&mut self) -> Result<Process, Failure> {
        let data_dir = self.folder.join("cloud");
        let listen = self.cloud_address.to_string();
        let arguments = [
            "cloud".as_ref(),
            "--data-dir".as_ref(),
            data_dir.as_os_str(),
            "--listen".as_ref(),
            listen.as_ref(),
        ];
        let mut cloud = Process::start("cloud", &own_binary()?, arguments, &self.cloud_log())?;
        let context_file = self.folder.join("context.json");
        let until = Instant::now() + START_TIMEOUT;
        loop {
            cloud.check_running()?;
            if let Ok(text) = fs::read_to_string(&context_file)
                && let Ok(context) = serde_json::from_str(&text)
            {
                self.context = context;
                let mut client = self.anonymous()?;
                if client.check(HEALTH).await.is_ok() {
                    return Ok(cloud);
                }
            }
            if Instant::now() > until {
                return Err(late("cloud", "answer"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Starts the link between node and cloud.
    pub async fn start_link(&self) -> Result<Proxy, Failure> {
        Proxy::start(self.uplink, self.cloud_address).await
    }

    /// A client that acts as the operator.
    pub fn operator(&self) -> Result<Client, Failure> {
        Client::operator(&self.context)
    }

    /// A client that acts as an application.
    pub fn application(&self, created: &ApplicationCreated) -> Result<Client, Failure> {
        let username = created.username.clone();
        let password = created.password.clone();
        let identity = Identity::Application { username, password };
        Client::new(self.context.cloud()?, self.context.ca_file.as_deref(), &identity)
    }

    fn anonymous(&self) -> Result<Client, Failure> {
        Client::new(self.context.cloud()?, self.context.ca_file.as_deref(), &Identity::Nobody)
    }

    /// Makes the edge known, enrols it, and writes the node's configuration.
    pub async fn set_up_node(&self, edge: &EdgeId, tenant: &TenantId) -> Result<(), Failure> {
        let request = EdgeRequest { tenants: vec![tenant.clone()] };
        let created: EdgeCreated =
            self.operator()?.post(&format!("{EDGES}/{edge}"), &request).await?;
        let data_dir = self.folder.join("edge");
        enrol_at(&mut self.anonymous()?, edge, &created.token, &data_dir).await?;
        let path = self.node_config();
        fs::write(&path, self.configuration(edge, &data_dir)?)
            .map_err(Failure::file("write", &path))
    }

    fn configuration(&self, edge: &EdgeId, data_dir: &Path) -> Result<String, Failure> {
        let listen = |address: SocketAddr| {
            toml::Table::from_iter([("listen".to_owned(), address.to_string().into())])
        };
        let text = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned());
        let mut node = toml::Table::new();
        node.insert("data_dir".to_owned(), text(data_dir));
        node.insert("shards".to_owned(), 2.into());
        let mut uplink = toml::Table::new();
        uplink.insert("cloud".to_owned(), format!("https://{}", self.uplink).into());
        if let Some(ca_file) = &self.context.ca_file {
            uplink.insert("ca_file".to_owned(), text(ca_file));
        }
        uplink.insert("edge".to_owned(), edge.as_str().into());
        uplink.insert("key_file".to_owned(), text(&data_dir.join(KEY_FILE)));
        let sections = [
            ("node", node),
            ("mqtt", listen(self.mqtt)),
            ("http", listen(self.http)),
            ("admin", listen(self.admin)),
            ("uplink", uplink),
        ];
        let whole =
            toml::Table::from_iter(sections.map(|(name, table)| (name.to_owned(), table.into())));
        toml::to_string(&whole)
            .map_err(|error| Failure::Demo(format!("the node's configuration: {error}")))
    }

    /// Starts the node and waits until it is ready.
    pub async fn start_node(&self) -> Result<Process, Failure> {
        let config = self.node_config();
        let arguments = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let mut node = Process::start("edge node", &self.node_binary, arguments, &self.node_log())?;
        let mut admin = self.admin()?;
        let until = Instant::now() + START_TIMEOUT;
        while admin.check("/readiness").await.is_err() {
            node.check_running()?;
            if Instant::now() > until {
                return Err(late("edge node", "become ready"));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(node)
    }

    /// A client of the node's own endpoint for health and metrics.
    pub fn admin(&self) -> Result<Client, Failure> {
        Client::new(&format!("http://{}", self.admin), None, &Identity::Nobody)
    }

    /// The node's log.
    pub fn node_log(&self) -> PathBuf {
        self.folder.join("edge.log")
    }

    /// The cloud's log.
    pub fn cloud_log(&self) -> PathBuf {
        self.folder.join("cloud.log")
    }

    fn node_config(&self) -> PathBuf {
        self.folder.join("edge.toml")
    }
}

fn late(who: &str, what: &str) -> Failure {
    Failure::Demo(format!("the {who} did not {what} within {} s", START_TIMEOUT.as_secs()))
}

/// Creates the tenant and the application that reads its stream.
pub async fn register_tenant(
    client: &mut Client,
    tenant: &TenantId,
) -> Result<ApplicationCreated, Failure> {
    let _: Created = client.post(&format!("{TENANTS}/{tenant}"), &Tenant::default()).await?;
    let application = Application {
        enabled: true,
        permissions: Application::all_permissions(),
        password_sha256: None,
    };
    client.post(&format!("{APPLICATIONS}/{tenant}/auditor"), &application).await
}

/// Creates a device with a password.
pub async fn register_device(
    client: &mut Client,
    tenant: &TenantId,
    device: &DeviceId,
    hash_function: HashFunction,
    password: &str,
) -> Result<(), Failure> {
    let _: Created =
        client.post(&format!("{DEVICES}/{tenant}/{device}"), &Device::default()).await?;
    let credentials = [password_credential(device.as_str(), hash_function.secret(password))];
    client.put(&format!("{CREDENTIALS}/{tenant}/{device}"), &credentials).await
}
