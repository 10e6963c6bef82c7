//! What a process of this machine uses of memory and CPU, as the kernel counts
//! it. Not for starting or stopping one.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

/// Resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub rss_kib: u64,
    pub peak_rss_kib: u64,
}

/// None where there is no /proc, or no such process any more.
pub fn memory(process: u32) -> Option<Memory> {
    memory_in(&fs::read_to_string(folder(process).join("status")).ok()?)
}

/// The CPU time of all threads so far.
pub fn cpu_secs(process: u32) -> io::Result<f64> {
    let mut nanos = 0.0;
    // Of each thread: the process's own file is its first thread's.
    for thread in fs::read_dir(folder(process).join("task"))? {
        // A thread may have ended since.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let first = text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
        nanos += first.unwrap_or(0.0);
    }
    Ok(nanos / 1e9)
}

fn folder(process: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{process}"))
}

fn memory_in(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { rss_kib: kib("VmRSS")?, peak_rss_kib: kib("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t3\n";
        assert_eq!(memory_in(status), Some(Memory { rss_kib: 10240, peak_rss_kib: 20480 }));
        assert_eq!(memory_in("Name:\tzombie\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        assert!(memory(own).unwrap().rss_kib > 0);
        let before = cpu_secs(own).unwrap();
        // Counted when the scheduler comes round: this works until it has.
        assert!((0..1_000_000).any(|_| cpu_secs(own).unwrap() > before));
    }
}
