//! Why the maintenance thread cannot start.

/// Why the maintenance thread cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The limit on locked memory is too low for its rings.
    #[error(
        "the maintenance thread may lock {limit} bytes of memory and needs {wanted}; raise the limit: \
         LimitMEMLOCK=8M in the systemd unit, `ulimit -l 8192` in a shell, --ulimit memlock=8388608 for a container"
    )]
    MemoryLock {
        /// Bytes allowed (RLIMIT_MEMLOCK).
        limit: u64,
        /// Bytes needed.
        wanted: u64,
    },
    /// The executor could not be made, for another reason.
    #[error(
        "the maintenance thread cannot set up io_uring: {0}; check that kernel.io_uring_disabled is 0, that the \
         seccomp profile allows io_uring_setup, and that RLIMIT_MEMLOCK and RLIMIT_NOFILE leave room"
    )]
    Ring(String),
    /// The system refused a thread.
    #[error(
        "cannot start the maintenance thread: {0}; check the limit on processes (ulimit -u, TasksMax)"
    )]
    Thread(std::io::Error),
}

/// What glommio asks for before it makes its rings.
const MEMORY_LOCK_MIN_BYTES: u64 = 512 * 1024;

/// Checks the limit on locked memory. glommio does so too, but its answer tells no remedy.
pub(crate) fn check_memory_lock() -> Result<(), MaintenanceError> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match memory_lock_limit(&limits) {
        Some(limit) if limit < MEMORY_LOCK_MIN_BYTES => {
            Err(MaintenanceError::MemoryLock { limit, wanted: MEMORY_LOCK_MIN_BYTES })
        }
        _ => Ok(()),
    }
}

/// The soft limit in bytes; `None` if it is unlimited or not told.
fn memory_lock_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_locked_memory_is_read_and_its_error_names_the_remedy() {
        let limits =
            "Max processes  95  95  processes\nMax locked memory   262144   524288   bytes\n";
        assert_eq!(memory_lock_limit(limits), Some(262_144));
        assert_eq!(memory_lock_limit("Max locked memory  unlimited  unlimited  bytes"), None);
        let error = MaintenanceError::MemoryLock { limit: 262_144, wanted: 524_288 };
        assert!(error.to_string().contains("LimitMEMLOCK="), "{error}");
    }
}
