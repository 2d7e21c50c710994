//! The server's counters at the turning points of a run, and the driver's own.

use crate::error::LoadError;
use crate::process::{self, CpuTime};

/// Reads, and keeps what was read.
pub struct Probe {
    server_pid: Option<u32>,
    /// Time the first thread spent waiting, so far.
    pub idle_ns: u64,
    pub readings: Vec<Reading>,
}

/// At one moment.
pub struct Reading {
    pub at_ns: u64,
    pub idle_ns: u64,
    pub server: Option<ServerReading>,
}

/// Of the measured process.
pub struct ServerReading {
    pub cpu: CpuTime,
    pub resident_kib: u64,
}

impl Probe {
    /// Nothing read.
    pub fn new(server_pid: Option<u32>) -> Self {
        Self { server_pid, idle_ns: 0, readings: Vec::new() }
    }

    /// Reads now.
    ///
    /// # Errors
    /// The measured process is not there.
    pub fn read(&mut self, at_ns: u64) -> Result<(), LoadError> {
        let server = match self.server_pid {
            None => None,
            Some(pid) => Some(ServerReading {
                cpu: CpuTime::of(pid)?,
                resident_kib: process::resident_kib(pid)?,
            }),
        };
        self.readings.push(Reading { at_ns, idle_ns: self.idle_ns, server });
        Ok(())
    }
}
