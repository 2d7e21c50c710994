//! Pinning a thread to a processor.

use std::io;

/// Pins the calling thread. Threads it starts later, the kernel's workers included, inherit the pin.
///
/// # Errors
/// The processor does not exist or is outside the process's cpuset.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: needed because std has no affinity. Sound because the set is plain bits for which zero is valid, the index was checked,
    // and the kernel only reads it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
