//! What the demo shows while it runs: steps as lines, and on a terminal one live table below them.

use super::device::Protocol;
use super::ledger::Ledger;
use crate::output::Output;
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Time between two status lines where nobody watches a table.
const PLAIN_EVERY: Duration = Duration::from_secs(3);

/// One device as the table shows it.
pub struct DeviceRow {
    /// Its id.
    pub device: String,
    /// How it connects.
    pub protocol: Protocol,
    /// What it knows.
    pub ledger: Ledger,
    /// Its events at the application.
    pub arrived: usize,
}

/// Everything the screen shows at one moment.
pub struct Snapshot {
    /// One row per device.
    pub devices: Vec<DeviceRow>,
    /// "up", "killed", ...
    pub node: &'static str,
    /// "up" or "cut".
    pub uplink: &'static str,
    /// Telemetry at the application.
    pub telemetry_arrived: u64,
}

/// Where steps and status go.
pub struct Screen {
    output: Output,
    quiet: bool,
    live: Option<ProgressBar>,
    begun: Instant,
    last_plain: Instant,
}

impl Screen {
    /// `quiet` shows neither steps nor status: for many runs in a row.
    pub fn new(output: Output, quiet: bool) -> Screen {
        let live = (output.is_live() && !quiet).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Screen { output, quiet, live, begun: now, last_plain: now }
    }

    /// One step of the story.
    pub fn step(&self, text: &str) {
        if self.quiet || self.output.is_json() {
            return;
        }
        let line = format!("[{:>5.1} s] {text}", self.begun.elapsed().as_secs_f64());
        match &self.live {
            Some(bar) => bar.suspend(|| self.output.line(&line)),
            None => self.output.line(&line),
        }
    }

    /// How things stand.
    pub fn status(&mut self, snapshot: &Snapshot) {
        if let Some(bar) = &self.live {
            bar.set_message(live_text(snapshot));
            bar.tick();
        } else if !self.quiet && self.last_plain.elapsed() >= PLAIN_EVERY {
            self.last_plain = Instant::now();
            self.step(&plain_text(snapshot));
        }
    }

    /// Takes the table away.
    pub fn finish(&mut self, snapshot: &Snapshot) {
        if let Some(bar) = self.live.take() {
            bar.finish_and_clear();
            self.output.line(device_table(snapshot).to_string());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = self.live.take() {
            bar.finish_and_clear();
        }
    }
}

struct Totals {
    connected: usize,
    telemetry: u64,
    refused: u64,
    sent: usize,
    acknowledged: usize,
    again: usize,
    arrived: usize,
}

fn totals(snapshot: &Snapshot) -> Totals {
    let devices = || snapshot.devices.iter();
    Totals {
        connected: devices().filter(|row| row.ledger.connected).count(),
        telemetry: devices().map(|row| row.ledger.telemetry.sent).sum(),
        refused: devices().map(|row| row.ledger.telemetry.refused).sum(),
        sent: devices().map(|row| row.ledger.entries().len()).sum(),
        acknowledged: devices().map(|row| row.ledger.acknowledged()).sum(),
        again: devices().map(|row| row.ledger.repeated()).sum(),
        arrived: devices().map(|row| row.arrived).sum(),
    }
}

fn plain_text(snapshot: &Snapshot) -> String {
    let totals = totals(snapshot);
    format!(
        "  node {}, uplink {}, {}/{} devices connected | events: {} acknowledged, {} sent again, {} at the application | \
         telemetry: {} sent, {} refused, {} at the application",
        snapshot.node,
        snapshot.uplink,
        totals.connected,
        snapshot.devices.len(),
        totals.acknowledged,
        totals.again,
        totals.arrived,
        totals.telemetry,
        totals.refused,
        snapshot.telemetry_arrived,
    )
}

fn live_text(snapshot: &Snapshot) -> String {
    format!(
        "{}\nnode {}   uplink {}   telemetry at the application {}",
        device_table(snapshot),
        snapshot.node,
        snapshot.uplink,
        snapshot.telemetry_arrived
    )
}

fn device_table(snapshot: &Snapshot) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    let header = [
        "device",
        "over",
        "",
        "telemetry",
        "refused",
        "events",
        "acknowledged",
        "sent again",
        "arrived",
    ];
    table.set_header(header);
    for row in &snapshot.devices {
        let ledger = &row.ledger;
        let state = if ledger.connected { "●" } else { "○" };
        table.add_row([
            Cell::new(&row.device),
            Cell::new(row.protocol.as_str()),
            Cell::new(state),
            number(ledger.telemetry.sent),
            number(ledger.telemetry.refused),
            number(ledger.entries().len()),
            number(ledger.acknowledged()),
            number(ledger.repeated()),
            number(row.arrived),
        ]);
    }
    let totals = totals(snapshot);
    table.add_row([
        Cell::new("all"),
        Cell::new(""),
        Cell::new(""),
        number(totals.telemetry),
        number(totals.refused),
        number(totals.sent),
        number(totals.acknowledged),
        number(totals.again),
        number(totals.arrived),
    ]);
    table
}

fn number(value: impl std::fmt::Display) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}
