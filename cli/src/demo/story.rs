//! One run from the empty directory to the verdict.
//!
//! ```text
//!   healthy ──▶ uplink cut ──▶ node killed ──▶ node back, still cut ──▶ link healed ──▶ commands ──▶ devices drained ──▶ audit
//! ```

use super::application::Application;
use super::audit::{Verdict, audit};
use super::device::{Device, Phase, Protocol};
use super::ledger::SharedLedger;
use super::processes::{Process, tail};
use super::readings::{Series, recorded_series};
use super::screen::{DeviceRow, Screen, Snapshot};
use super::site::{Site, register_device, register_tenant};
use crate::client::Client;
use crate::commands::command::settle;
use crate::commands::credentials::HashFunction;
use crate::commands::readable;
use crate::error::Failure;
use base64::Engine as _;
use fulcrum_contract::commands::{CommandRequest, CommandState, CommandView};
use fulcrum_contract::paths::COMMANDS;
use fulcrum_contract::{DeviceId, EdgeId, TenantId};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time for all devices to connect, for what is pending to be acknowledged, for a command's answer, for the backlog.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// How long each part of the story lasts.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Everything works.
    pub healthy: Duration,
    /// From the cut to the kill.
    pub until_kill: Duration,
    /// The node is dead.
    pub dead: Duration,
    /// The node works without its uplink.
    pub offline: Duration,
    /// Everything works again.
    pub healed: Duration,
}

/// What one run gave.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// Milliseconds from the cut to the kill.
    pub killed_after_ms: u128,
    /// Milliseconds of the whole run.
    pub took_ms: u128,
    /// The proof.
    pub verdict: Verdict,
    /// Live readings, which are never stored on the way.
    pub telemetry: TelemetryReport,
    /// The commands that were sent.
    pub commands: Vec<CommandView>,
}

/// Counts of live readings.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TelemetryReport {
    /// Sent by the devices.
    pub sent: u64,
    /// Answered with a refusal while the uplink was down.
    pub refused: u64,
    /// Read by the application.
    pub arrived: u64,
}

impl RunReport {
    /// Whether the proof holds and each command was answered.
    pub fn holds(&self) -> bool {
        self.verdict.holds()
            && self.commands.iter().all(|command| command.state == CommandState::Succeeded)
    }
}

/// One run in `folder`.
pub async fn run(
    folder: &Path,
    node_binary: &Path,
    timing: Timing,
    interval: Duration,
    screen: &mut Screen,
) -> Result<RunReport, Failure> {
    let begun = Instant::now();
    let mut site = Site::new(folder, node_binary.to_owned())?;
    let logs = (site.cloud_log(), site.node_log());
    let outcome = Story::begin(&mut site, interval, screen).await;
    let outcome = match outcome {
        Ok(mut story) => story.tell(timing, screen).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(mut report) => {
            report.took_ms = begun.elapsed().as_millis();
            Ok(report)
        }
        Err(failure) => {
            let (cloud, node) = (tail(&logs.0, 15), tail(&logs.1, 30));
            Err(Failure::Demo(format!("{failure}\n{cloud}{node}")))
        }
    }
}

struct Story<'a> {
    site: &'a Site,
    tenant: TenantId,
    operator: Client,
    cloud: Option<Process>,
    node: Option<Process>,
    link: super::proxy::Proxy,
    application: Application,
    fleet: Vec<(Arc<Series>, Protocol, SharedLedger)>,
    phase: watch::Sender<Phase>,
    devices: JoinSet<()>,
    uplink: &'static str,
}

impl Story<'_> {
    async fn begin<'a>(
        site: &'a mut Site,
        interval: Duration,
        screen: &Screen,
    ) -> Result<Story<'a>, Failure> {
        let tenant: TenantId = parse("weather")?;
        let edge: EdgeId = parse("edge-1")?;
        screen.step("starting the cloud side (fulcrum cloud) ...");
        let cloud = site.start_cloud().await?;
        let site: &'a Site = site;
        let mut operator = site.operator()?;
        let created = register_tenant(&mut operator, &tenant).await?;
        let (phase, told) = watch::channel(Phase::Run);
        let mut fleet = Vec::new();
        let mut devices = Vec::new();
        for (index, series) in recorded_series().into_iter().enumerate() {
            let device =
                register(site, &mut operator, &tenant, index, series, interval, told.clone())
                    .await?;
            fleet.push((device.series.clone(), device.protocol, device.ledger.clone()));
            devices.push(device);
        }
        screen.step(&format!(
            "tenant {tenant}, {} devices and one application registered",
            fleet.len()
        ));
        site.set_up_node(&edge, &tenant).await?;
        let link = site.start_link().await?;
        let node = site.start_node().await?;
        screen.step(&format!(
            "{edge} enrolled and ready; its uplink goes through a link that can be cut"
        ));
        let application = Application::start(site.application(&created)?, &tenant);
        let mut tasks = JoinSet::new();
        for device in devices {
            tasks.spawn(device.run());
        }
        Ok(Story {
            site,
            tenant,
            operator,
            cloud: Some(cloud),
            node: Some(node),
            link,
            application,
            fleet,
            phase,
            devices: tasks,
            uplink: "up",
        })
    }

    async fn tell(&mut self, timing: Timing, screen: &mut Screen) -> Result<RunReport, Failure> {
        self.wait_for_devices(screen).await?;
        screen
            .step("all devices connected; they replay recorded weather as telemetry and as events");
        self.watch(timing.healthy, screen).await?;

        self.link.cut();
        self.uplink = "cut";
        screen.step("UPLINK CUT: telemetry has no consumer now and is refused; events are stored and acknowledged");
        let waiting = self.send_command(0, "calibrate", r#"{"offset":0.3}"#).await?;
        screen.step(&format!(
            "command '{}' sent to {}; it waits for the link",
            waiting.subject, waiting.device
        ));
        self.watch(timing.until_kill, screen).await?;

        self.kill_node().await?;
        screen.step(
            "NODE KILLED (SIGKILL): every connection is gone; devices knock until it is back",
        );
        self.watch(timing.dead, screen).await?;
        self.node = Some(self.site.start_node().await?);
        screen.step("node started again, still without its uplink: it authenticates devices from its own store");
        self.wait_for_devices(screen).await?;
        screen.step("all devices connected again; what was not acknowledged is sent again");
        self.watch(timing.offline, screen).await?;

        self.link.heal();
        self.uplink = "up";
        screen.step("LINK HEALED: the backlog drains");
        let prompt = self.send_command(1, "identify", "{}").await?;
        let commands = self.settle_commands(vec![waiting, prompt], screen).await?;
        self.watch(timing.healed, screen).await?;

        self.phase.send_replace(Phase::Drain);
        self.wait_for_drain(screen).await?;
        screen.step("devices stopped sending; every event they hold is acknowledged");
        self.wait_for_arrivals(screen).await?;
        // Copies that must not be there would come now.
        self.watch(Duration::from_millis(1500), screen).await?;
        let report = self.report(timing, commands);
        screen.finish(&self.snapshot());
        self.end().await?;
        Ok(report)
    }

    /// Lets time pass, with everyone looked after.
    async fn watch(&mut self, duration: Duration, screen: &mut Screen) -> Result<(), Failure> {
        let until = Instant::now() + duration;
        loop {
            self.look(screen).await?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LOOK_EVERY)).await;
        }
    }

    async fn look(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        for process in [&mut self.cloud, &mut self.node].into_iter().flatten() {
            process.check_running()?;
        }
        self.application.check_running().await?;
        screen.status(&self.snapshot());
        Ok(())
    }

    async fn wait_for_devices(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let connected =
            |story: &Self| story.fleet.iter().all(|(.., ledger)| ledger.lock().connected);
        let until = Instant::now() + CONNECT_LIMIT;
        while !connected(self) {
            self.look(screen).await?;
            if Instant::now() > until {
                return Err(self.stuck("did not connect", |ledger| !ledger.connected));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn wait_for_drain(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let pending =
            |ledger: &super::ledger::Ledger| ledger.acknowledged() < ledger.entries().len();
        let until = Instant::now() + DRAIN_LIMIT;
        while self.fleet.iter().any(|(.., ledger)| pending(&ledger.lock())) {
            self.look(screen).await?;
            if Instant::now() > until {
                return Err(self.stuck("wait for acknowledgements", pending));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until the application has everything that was acknowledged; what is missing then, the audit will say.
    async fn wait_for_arrivals(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let until = Instant::now() + ARRIVAL_LIMIT;
        let complete = |story: &Self| {
            let arrivals = story.application.arrivals();
            story.fleet.iter().all(|(series, _, ledger)| {
                arrivals.has_all_of(series.device.as_str(), &ledger.lock())
            })
        };
        while !complete(self) && Instant::now() < until {
            self.look(screen).await?;
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn stuck(&self, what: &str, is_stuck: impl Fn(&super::ledger::Ledger) -> bool) -> Failure {
        let devices: Vec<String> = self
            .fleet
            .iter()
            .filter(|(.., ledger)| is_stuck(&ledger.lock()))
            .map(|(series, _, ledger)| {
                let trouble = ledger.lock().trouble.clone();
                format!("  {}: {}", series.device, trouble.as_deref().unwrap_or("no reason known"))
            })
            .collect();
        Failure::Demo(format!("{} devices {what}\n{}", devices.len(), devices.join("\n")))
    }

    async fn kill_node(&mut self) -> Result<(), Failure> {
        match self.node.take() {
            Some(mut node) => node.kill().await,
            None => Ok(()),
        }
    }

    /// Sends a command to the `index`th MQTT device.
    async fn send_command(
        &mut self,
        index: usize,
        subject: &str,
        payload: &str,
    ) -> Result<CommandView, Failure> {
        let device = self
            .fleet
            .iter()
            .filter(|(_, protocol, _)| *protocol == Protocol::Mqtt)
            .map(|(series, ..)| series.device.clone())
            .nth(index)
            .ok_or_else(|| Failure::Demo("there is no MQTT device to command".to_owned()))?;
        let request = CommandRequest {
            subject: subject.to_owned(),
            response_required: true,
            content_type: Some("application/json".to_owned()),
            payload: payload.as_bytes().to_vec(),
            deliver_within_s: None,
            id: None,
        };
        self.operator.post(&format!("{COMMANDS}/{}/{device}", self.tenant), &request).await
    }

    async fn settle_commands(
        &mut self,
        commands: Vec<CommandView>,
        screen: &mut Screen,
    ) -> Result<Vec<CommandView>, Failure> {
        let mut settled = Vec::new();
        for command in commands {
            let until = Instant::now() + COMMAND_LIMIT;
            let mut view = command;
            while !view.state.is_final(view.response_required) && Instant::now() < until {
                view = settle(&mut self.operator, view, Duration::from_secs(1)).await?;
                self.look(screen).await?;
            }
            let answer = view.response.as_ref().map_or_else(
                || format!("no answer ({:?})", view.state),
                |response| format!("{} {}", response.status, readable(&response.payload)),
            );
            screen.step(&format!("command '{}' to {}: {answer}", view.subject, view.device));
            settled.push(view);
        }
        Ok(settled)
    }

    fn snapshot(&self) -> Snapshot {
        let arrivals = self.application.arrivals();
        let devices = self.fleet.iter().map(|(series, protocol, ledger)| DeviceRow {
            device: series.device.to_string(),
            protocol: *protocol,
            ledger: ledger.lock().clone(),
            arrived: arrivals.events_of(series.device.as_str()),
        });
        Snapshot {
            devices: devices.collect(),
            node: if self.node.is_some() { "up" } else { "killed" },
            uplink: self.uplink,
            telemetry_arrived: arrivals.telemetry,
        }
    }

    fn report(&self, timing: Timing, commands: Vec<CommandView>) -> RunReport {
        let arrivals = self.application.arrivals();
        let ledgers: Vec<_> =
            self.fleet.iter().map(|(series, _, ledger)| (series, ledger.lock().clone())).collect();
        let verdict =
            audit(ledgers.iter().map(|(series, ledger)| (series.as_ref(), ledger)), &arrivals);
        let telemetry = TelemetryReport {
            sent: ledgers.iter().map(|(_, ledger)| ledger.telemetry.sent).sum(),
            refused: ledgers.iter().map(|(_, ledger)| ledger.telemetry.refused).sum(),
            arrived: arrivals.telemetry,
        };
        RunReport {
            killed_after_ms: timing.until_kill.as_millis(),
            took_ms: 0,
            verdict,
            telemetry,
            commands,
        }
    }

    async fn end(&mut self) -> Result<(), Failure> {
        self.phase.send_replace(Phase::Stop);
        while self.devices.join_next().await.is_some() {}
        for process in [self.node.take(), self.cloud.take()].into_iter().flatten() {
            process.terminate().await?;
        }
        Ok(())
    }
}

fn parse<T: std::str::FromStr<Err = fulcrum_contract::IdError>>(id: &str) -> Result<T, Failure> {
    id.parse().map_err(|error: fulcrum_contract::IdError| Failure::Usage(error.to_string()))
}

/// Registers the `index`th device. Every third speaks HTTP; every third keeps its password as bcrypt.
async fn register(
    site: &Site,
    operator: &mut Client,
    tenant: &TenantId,
    index: usize,
    series: Series,
    interval: Duration,
    phase: watch::Receiver<Phase>,
) -> Result<Device, Failure> {
    let (protocol, node) =
        if index % 3 == 2 { (Protocol::Http, site.http) } else { (Protocol::Mqtt, site.mqtt) };
    let hash_function = if index % 3 == 1 { HashFunction::Bcrypt } else { HashFunction::Sha256 };
    let password =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>());
    let id: &DeviceId = &series.device;
    register_device(operator, tenant, id, hash_function, &password).await?;
    Ok(Device {
        username: format!("{id}@{tenant}"),
        series: Arc::new(series),
        protocol,
        node,
        password,
        interval,
        ledger: SharedLedger::default(),
        phase,
        telemetry: 0,
        unasked_until: None,
        pending: Default::default(),
    })
}
