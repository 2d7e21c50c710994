//! Reading the host: kernel release, process status, limits, capabilities.

use std::io;

/// CAP_IPC_LOCK.
pub(super) const CAP_IPC_LOCK: u32 = 14;

/// A resource limit.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    OpenFiles,
    LockedMemory,
}

impl Limit {
    fn resource(self) -> libc::__rlimit_resource_t {
        match self {
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }
}

/// The soft and the hard limit.
pub(super) fn limit(limit: Limit) -> io::Result<(u64, u64)> {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: needed because std has no limits. Sound because the kernel writes one struct that lives here.
    let result = unsafe { libc::getrlimit(limit.resource(), &mut value) };
    if result == 0 { Ok((value.rlim_cur, value.rlim_max)) } else { Err(io::Error::last_os_error()) }
}

/// Sets the soft limit to the hard one.
pub(super) fn raise_limit(which: Limit) -> io::Result<u64> {
    let (soft, hard) = limit(which)?;
    if soft == hard {
        return Ok(hard);
    }
    let value = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: needed because std has no limits. Sound because the kernel only reads the struct.
    let result = unsafe { libc::setrlimit(which.resource(), &value) };
    if result == 0 { Ok(hard) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|error| format!("unknown ({error})"), |text| text.trim().to_owned())
}

/// Major and minor number of a release such as `6.1.0-13-amd64`.
pub(super) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A field of this process's status.
pub(super) fn status_field(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Whether an effective capability is held.
pub(super) fn has_capability(capability: u32) -> bool {
    status_field("CapEff")
        .and_then(|bits| u64::from_str_radix(&bits, 16).ok())
        .is_some_and(|bits| bits >> capability & 1 == 1)
}

/// A byte count for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        u64::MAX => "unlimited".to_owned(),
        count if count >= 1 << 20 => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
        count => format!("{} KiB", count.div_ceil(1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.12-rc3"), Some((6, 12)));
        assert_eq!(kernel_version("5.15.0-1051-aws"), Some((5, 15)));
        assert_eq!(kernel_version("unknown"), None);
        assert_eq!(kernel_version(""), None);
    }
}
