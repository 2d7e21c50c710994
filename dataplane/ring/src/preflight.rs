//! Whether this host lets the loop run, and if not, what is in the way and how to mend it.
//!
//! Each check tries the thing itself where it can (asks the kernel for its operations, makes a ring with its receive buffers) and
//! reads settings only to explain a refusal. Nothing is changed, except by [`raise_file_limit`], which says so in its name.

mod host;
mod remedies;

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::config::RingConfig;
use crate::ring::Ring;
use remedies as mend;

/// The oldest kernel supported: the first long-term kernel with deferred task work and ring messages.
pub const KERNEL_FLOOR: (u32, u32) = (6, 1);

/// Descriptors a node needs beside its connections: files, rings, listeners, its other threads.
const SPARE_FILES: u64 = 512;

/// What the node is going to need.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// Connections of the whole process.
    pub connections: u32,
    /// Rings of the process.
    pub shards: u32,
    /// The settings of each ring.
    pub ring: RingConfig,
}

impl Default for Requirements {
    fn default() -> Self {
        Self { connections: 10_000, shards: 1, ring: RingConfig::default() }
    }
}

/// How to mend a failed check, in the three places a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// Commands in a shell.
    pub shell: String,
    /// Lines of a systemd unit.
    pub systemd: String,
    /// Options of a container.
    pub container: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// It is as wanted.
    pub ok: bool,
    /// The node cannot run without; otherwise it runs with more cost.
    pub required: bool,
    /// What is there.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// How to mend it.
    pub remedy: Remedy,
}

/// Looks at everything the loop needs. The node may start if all required checks are ok; see [`is_fit`].
pub fn check(requirements: &Requirements) -> Vec<Check> {
    vec![
        kernel(),
        sysctl(),
        seccomp(),
        operations(),
        memlock(requirements),
        file_limit(requirements),
        trial(requirements),
        minimum_wait(),
    ]
}

/// Whether every required check is ok.
pub fn is_fit(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.ok || !check.required)
}

/// Raises the soft limit of open files to the hard limit. Returns the limit now in force.
///
/// # Errors
/// What the kernel says to getrlimit or setrlimit.
pub fn raise_file_limit() -> io::Result<u64> {
    host::raise_limit(host::Limit::OpenFiles)
}

fn kernel() -> Check {
    let release = host::kernel_release();
    let ok = host::kernel_version(&release).is_some_and(|version| version >= KERNEL_FLOOR);
    let (major, minor) = KERNEL_FLOOR;
    Check {
        name: "kernel version",
        ok,
        required: true,
        found: release,
        wanted: format!("{major}.{minor} or newer"),
        remedy: mend::kernel(),
    }
}

fn sysctl() -> Check {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let (ok, found) = match text.as_deref().map(str::trim) {
        // The switch came with 6.6; before it io_uring is on.
        Err(_) => (true, "no such switch in this kernel".to_owned()),
        Ok("0") => (true, "0 (everyone may use io_uring)".to_owned()),
        Ok("1") => group_may(),
        Ok(other) => (false, format!("{other} (nobody may use io_uring)")),
    };
    Check {
        name: "kernel.io_uring_disabled",
        ok,
        required: true,
        found,
        wanted: "0, or 1 with this process in kernel.io_uring_group".to_owned(),
        remedy: mend::sysctl(),
    }
}

/// Setting 1: members of one group and holders of CAP_SYS_ADMIN may. Making a ring is the test.
fn group_may() -> (bool, String) {
    let group = std::fs::read_to_string("/proc/sys/kernel/io_uring_group").unwrap_or_default();
    let group = group.trim();
    match try_ring() {
        Ok(()) => (true, format!("1 (group {group} may, and this process may)")),
        Err(_) => (false, format!("1 (only group {group} may, and this process is not in it)")),
    }
}

fn seccomp() -> Check {
    let mode = host::status_field("Seccomp");
    let refused = matches!(try_ring(), Err(error) if is_refusal(&error));
    let switched_off = !sysctl().ok;
    let filtered = mode.as_deref() == Some("2");
    let (ok, found) = match (refused, switched_off, filtered) {
        (false, _, true) => (true, "a filter is active and lets io_uring pass".to_owned()),
        (false, _, false) => (true, "no filter in the way".to_owned()),
        (true, true, _) => (true, "not reached: the sysctl refuses first".to_owned()),
        (true, false, true) => (false, "the seccomp filter of this process refuses io_uring_setup".to_owned()),
        (true, false, false) => (
            false,
            "io_uring_setup is refused although the sysctl allows it (a security module or an outer sandbox)".to_owned(),
        ),
    };
    Check {
        name: "seccomp",
        ok,
        required: true,
        found,
        wanted: "io_uring_setup, io_uring_enter and io_uring_register allowed".to_owned(),
        remedy: mend::seccomp(),
    }
}

/// Filters answer EPERM by custom, some ENOSYS.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS))
}

fn operations() -> Check {
    let wanted = [
        ("accept", opcode::AcceptMulti::CODE),
        ("recv", opcode::RecvMulti::CODE),
        ("send", opcode::Send::CODE),
        ("async_cancel", opcode::AsyncCancel2::CODE),
        ("close", opcode::Close::CODE),
        ("write", opcode::Write::CODE),
        ("fsync", opcode::Fsync::CODE),
        ("poll_add", opcode::PollAdd::CODE),
        ("msg_ring", opcode::MsgRingData::CODE),
    ];
    let mut probe = Probe::new();
    let probed = IoUring::new(8).and_then(|ring| ring.submitter().register_probe(&mut probe));
    let (ok, found) = match probed {
        Ok(()) => {
            let missing: Vec<_> = wanted
                .iter()
                .filter(|(_, code)| !probe.is_supported(*code))
                .map(|(name, _)| *name)
                .collect();
            match missing.is_empty() {
                true => (true, "all".to_owned()),
                false => (false, format!("missing: {}", missing.join(", "))),
            }
        }
        Err(error) => (false, format!("the kernel could not be asked: {error}")),
    };
    Check {
        name: "io_uring operations",
        ok,
        required: true,
        found,
        wanted: wanted.map(|(name, _)| name).join(", "),
        remedy: mend::kernel(),
    }
}

/// Locked memory is charged for the queues and the buffer ring, not for the buffers themselves; holders of CAP_IPC_LOCK are exempt.
fn memlock(requirements: &Requirements) -> Check {
    let need = locked_bytes(&requirements.ring) * u64::from(requirements.shards.max(1));
    let exempt = host::has_capability(host::CAP_IPC_LOCK);
    let (soft, hard) = host::limit(host::Limit::LockedMemory).unwrap_or((0, 0));
    let ok = exempt || soft >= need;
    let found = match exempt {
        true => format!("exempt by CAP_IPC_LOCK (limit {})", host::bytes(soft)),
        false => format!("soft {}, hard {}", host::bytes(soft), host::bytes(hard)),
    };
    Check {
        name: "locked memory (RLIMIT_MEMLOCK)",
        ok,
        required: true,
        found,
        wanted: format!("{} for {} rings", host::bytes(need), requirements.shards.max(1)),
        remedy: mend::memlock(need),
    }
}

/// What one ring is charged: submission entries of 64 bytes and their index, completion entries of 16 bytes, the buffer ring's 16,
/// each in whole pages.
fn locked_bytes(ring: &RingConfig) -> u64 {
    let pages = |bytes: u64| bytes.div_ceil(4096) * 4096;
    let entries = u64::from(ring.entries);
    pages(entries * 64)
        + pages(u64::from(ring.completion_entries) * 16 + entries * 4 + 256)
        + pages(u64::from(ring.receive_buffers) * 16)
}

fn file_limit(requirements: &Requirements) -> Check {
    let need = u64::from(requirements.connections) + SPARE_FILES;
    let (soft, hard) = host::limit(host::Limit::OpenFiles).unwrap_or((0, 0));
    Check {
        name: "open files (RLIMIT_NOFILE)",
        // The soft limit is raised at start.
        ok: hard >= need,
        required: true,
        found: format!("soft {soft}, hard {hard}"),
        wanted: format!("{need} for {} connections", requirements.connections),
        remedy: mend::open_files(need),
    }
}

/// The proof: a ring as the shards will make it. A pin is left out, because it would stay on this thread.
fn trial(requirements: &Requirements) -> Check {
    let config = RingConfig { cpu: None, ..requirements.ring.clone() };
    let (ok, found) = match Ring::new(config) {
        Ok(_) => (true, "made and dropped".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Check {
        name: "a ring with its receive buffers",
        ok,
        required: true,
        found,
        wanted: "can be made".to_owned(),
        remedy: mend::trial(locked_bytes(&requirements.ring)),
    }
}

fn minimum_wait() -> Check {
    let ok = IoUring::new(8).is_ok_and(|ring| ring.params().is_feature_min_timeout());
    Check {
        name: "minimum-wait time-out (optional)",
        ok,
        required: false,
        found: if ok { "there" } else { "not there: the loop wakes for each event under load" }
            .to_owned(),
        wanted: "kernel 6.12 or newer".to_owned(),
        remedy: mend::newer_kernel(),
    }
}

fn try_ring() -> io::Result<()> {
    IoUring::new(8).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_fit_and_every_check_names_a_remedy() {
        let requirements = Requirements { connections: 1000, ..Requirements::default() };
        let checks = check(&requirements);
        for check in &checks {
            assert!(check.ok || !check.required, "{check:?}");
            for text in [
                &check.found,
                &check.wanted,
                &check.remedy.shell,
                &check.remedy.systemd,
                &check.remedy.container,
            ] {
                assert!(!text.is_empty(), "{check:?}");
            }
        }
        assert!(is_fit(&checks));
    }

    #[test]
    fn a_need_beyond_the_limits_is_refused_with_the_number_in_the_remedy() {
        let requirements = Requirements { connections: u32::MAX, ..Requirements::default() };
        let checks = check(&requirements);
        let files = checks.iter().find(|check| check.name.starts_with("open files")).unwrap();
        if files.found.contains(&u64::MAX.to_string()) {
            return; // no limit on this host
        }
        assert!(!files.ok && !is_fit(&checks));
        assert!(files.remedy.systemd.contains(&(u64::from(u32::MAX) + SPARE_FILES).to_string()));
    }

    #[test]
    fn one_default_ring_is_charged_less_than_a_megabyte() {
        assert!((100_000..1_000_000).contains(&locked_bytes(&RingConfig::default())));
    }

    #[test]
    fn raising_the_file_limit_reaches_the_hard_limit() {
        let raised = raise_file_limit().unwrap();
        assert_eq!(host::limit(host::Limit::OpenFiles).unwrap(), (raised, raised));
    }
}
