//! What a process costs, from /proc.
//!
//! CPU time is the first field of each `/proc/PID/task/TID/schedstat`: nanoseconds on a core,
//! including the soft interrupts that ran in the thread's context (loopback delivery does). The
//! kernel's io-wq workers of a ring are threads of the process, so they are in the sum. `utime +
//! stime` of `/proc/PID/stat` is kept beside it: coarse (10 ms), but it includes threads that ended.

use crate::error::LoadError;
use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Nanoseconds of one tick of `/proc/PID/stat`: USER_HZ is 100 on every architecture served.
const TICK_NS: u64 = 10_000_000;

/// CPU time a process has used so far.
#[derive(Debug, Clone)]
pub struct CpuTime {
    run_ns_by_thread: BTreeMap<u32, u64>,
    ticks: u64,
}

/// CPU time used between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSpent {
    /// From schedstat, all threads that were there at the end.
    pub run_ns: u64,
    /// From utime + stime.
    pub ticks_ns: u64,
    /// Threads that ended in between; their last slice is in `ticks_ns` only.
    pub threads_ended: usize,
}

impl CpuTime {
    /// Reads the present value.
    ///
    /// # Errors
    /// No such process, or it may not be read.
    pub fn of(pid: u32) -> Result<Self, LoadError> {
        let of_process = |source| LoadError::Process { pid, source };
        let mut run_ns_by_thread = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(of_process)? {
            let task = task.map_err(of_process)?;
            let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread may end between listing and reading; it then is one of those ended.
            if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
                let run_ns = run_ns(&text).ok_or_else(|| of_process(malformed("schedstat")))?;
                run_ns_by_thread.insert(thread, run_ns);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(of_process)?;
        let ticks = ticks(&stat).ok_or_else(|| of_process(malformed("stat")))?;
        Ok(Self { run_ns_by_thread, ticks })
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> CpuSpent {
        let before = |thread: &u32| earlier.run_ns_by_thread.get(thread).copied().unwrap_or(0);
        let run_ns = self
            .run_ns_by_thread
            .iter()
            .map(|(thread, run_ns)| run_ns.saturating_sub(before(thread)))
            .sum();
        let threads_ended = earlier
            .run_ns_by_thread
            .keys()
            .filter(|thread| !self.run_ns_by_thread.contains_key(thread))
            .count();
        let ticks_ns = self.ticks.saturating_sub(earlier.ticks) * TICK_NS;
        CpuSpent { run_ns, ticks_ns, threads_ended }
    }
}

/// Resident memory in KiB (VmRSS).
///
/// # Errors
/// No such process, or it may not be read.
pub fn resident_kib(pid: u32) -> Result<u64, LoadError> {
    let of_process = |source| LoadError::Process { pid, source };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(of_process)?;
    vm_rss_kib(&status).ok_or_else(|| of_process(malformed("status")))
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected content of /proc/PID/{file}"))
}

/// proc(5) and Documentation/scheduler/sched-stats: run time, wait time, slices.
fn run_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// proc(5): utime and stime are fields 14 and 15; the second field, the name in parentheses, may
/// contain blanks and parentheses itself.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

fn vm_rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_gives_the_run_time_and_not_the_wait_time() {
        assert_eq!(run_ns("58606 12 1\n"), Some(58_606));
        assert_eq!(run_ns(""), None);
        assert_eq!(run_ns("x 1 2"), None);
    }

    #[test]
    fn a_process_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a (b) 7 c) S 1 42 42 0 -1 4194560 5 6 7 8 1200 34 0 0 20 0 3 0 99 1 2";
        assert_eq!(ticks(stat), Some(1_234));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(vm_rss_kib("VmHWM:\t  99 kB\nVmRSS:\t   2048 kB\n"), Some(2_048));
        assert_eq!(vm_rss_kib("Name:\tkthread\n"), None);
    }

    #[test]
    fn threads_that_start_count_from_zero_and_threads_that_end_are_named() {
        let at = |threads: &[(u32, u64)], ticks| CpuTime {
            run_ns_by_thread: threads.iter().copied().collect(),
            ticks,
        };
        let spent = at(&[(1, 150), (3, 7)], 12).since(&at(&[(1, 100), (2, 1_000)], 10));
        assert_eq!(spent, CpuSpent { run_ns: 57, ticks_ns: 20_000_000, threads_ended: 1 });
    }

    #[test]
    fn our_own_process_can_be_read_and_uses_time() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        let mut sum = 0_u64;
        for value in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(value));
        }
        // The kernel brings a running thread's schedstat up to date at its next tick or switch.
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(CpuTime::of(pid).unwrap().since(&before).run_ns > 0);
        assert!(resident_kib(pid).unwrap() > 100);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(matches!(CpuTime::of(u32::MAX), Err(LoadError::Process { .. })));
    }
}
