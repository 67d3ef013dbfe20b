//! CPU and memory of other processes, as /proc tells them.

use std::fs;

use serde::Serialize;

use super::clock::{SECOND, own_cpu};

/// CPU used so far, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// By this process.
    pub(super) own: u64,
    /// By the processes watched, user and system; in steps of the system's tick.
    pub(super) watched: u64,
}

/// Memory of the processes watched, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// Resident (VmRSS).
    pub(super) resident: u64,
    /// Of that, not backed by files (RssAnon).
    pub(super) anonymous: u64,
    /// The most that was ever resident (VmHWM).
    pub(super) peak: u64,
}

/// Processes to watch; one that is gone counts as nothing.
#[derive(Clone, Debug)]
pub(super) struct Processes(Vec<u32>);

impl Processes {
    /// Watches these.
    pub(super) fn new(pids: Vec<u32>) -> Self {
        Self(pids)
    }

    /// Whether there is anything to watch.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// CPU used so far.
    pub(super) fn cpu(&self) -> Cpu {
        let ticks: u64 = self
            .0
            .iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
            .filter_map(|stat| ticks(&stat))
            .sum();
        Cpu {
            own: own_cpu(),
            watched: ticks * (SECOND / rustix::param::clock_ticks_per_second().max(1)),
        }
    }

    /// Memory now.
    pub(super) fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for pid in &self.0 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let memory = memory(&status);
            sum.resident += memory.resident;
            sum.anonymous += memory.anonymous;
            sum.peak += memory.peak;
        }
        sum
    }
}

/// User and system time in a `stat`: the 14th and 15th field (proc(5)). The command's name, the second, may hold
/// anything, also spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

fn memory(status: &str) -> Memory {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    };
    Memory {
        resident: bytes("VmRSS:"),
        anonymous: bytes("RssAnon:"),
        peak: bytes("VmHWM:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_found_behind_any_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0 20 0 4 0";
        assert_eq!(ticks(stat), Some(345));
        assert_eq!(ticks("12 (short) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tbeam.smp\nVmHWM:\t   300 kB\nVmRSS:\t  200 kB\nRssAnon:\t 100 kB\n";
        let expected = Memory {
            resident: 200 << 10,
            anonymous: 100 << 10,
            peak: 300 << 10,
        };
        assert_eq!(memory(status), expected);
        assert_eq!(memory(""), Memory::default());
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let this = Processes::new(vec![std::process::id()]);
        assert!(this.memory().resident > 0);
        assert!(this.cpu().own > 0);
        let gone = Processes::new(vec![u32::MAX]);
        assert_eq!(gone.memory(), Memory::default());
    }
}
