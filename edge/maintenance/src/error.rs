//! Why the maintenance thread cannot start.

use glommio::{GlommioError, ReactorErrorKind};

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

impl From<GlommioError<()>> for MaintenanceError {
    fn from(error: GlommioError<()>) -> MaintenanceError {
        match error {
            GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit, wanted)) => {
                MaintenanceError::MemoryLock { limit, wanted }
            }
            other => MaintenanceError::Ring(other.to_string()),
        }
    }
}
